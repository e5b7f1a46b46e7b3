//! A small tree of one element that fedgate itself has to understand: features, errors, dialback
//! and SASL elements.
//!
//! Only complete elements that the framer let pass come here; what they may hold is bounded by
//! its limits and, as a tree takes more memory than text, by a number of nodes.

use quick_xml::{
    NsReader,
    events::{BytesStart, Event},
    name::{Namespace, PrefixDeclaration, ResolveResult},
};

use super::{
    scan::reference,
    token::{DefaultNamespace, Header},
    writer,
};
use crate::xmpp::ns;

/// An element with its content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Element {
    /// The namespace; empty if it is in none.
    pub namespace: String,
    /// The name without prefix.
    pub name: String,
    attributes: Vec<Attribute>,
    children: Vec<Element>,
    text: String,
}

/// An attribute; namespace declarations are not among them.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Attribute {
    namespace: String,
    name: String,
    value: String,
}

/// Why an element cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ElementError {
    /// Not one complete element, or not well-formed; the framer lets none such pass.
    #[error("not one well-formed element")]
    Malformed,
    /// More elements and attributes than anything that is read here has.
    #[error("an element with too many parts")]
    TooLarge,
}

impl Element {
    /// Reads the element that `bytes` consists of, on a stream with this header.
    ///
    /// # Errors
    /// [`ElementError::TooLarge`] if it has more than 512 elements and attributes,
    /// [`ElementError::Malformed`] if it never went through the framer.
    pub fn parse(bytes: &[u8], header: &Header) -> Result<Self, ElementError> {
        let text = std::str::from_utf8(bytes).map_err(malformed)?;
        let mut reader = NsReader::from_str(text);
        declare(&mut reader, header)?;
        let mut open: Vec<Self> = Vec::new();
        let mut root = None;
        let mut parts = 0;
        loop {
            let event = reader.read_event().map_err(malformed)?;
            let at_end = matches!(event, Event::Eof);
            if root.is_some() != at_end {
                return Err(ElementError::Malformed);
            }
            let done = match event {
                Event::Start(start) => {
                    open.push(begin(&reader, &start, &mut parts)?);
                    continue;
                }
                Event::Empty(start) => begin(&reader, &start, &mut parts)?,
                Event::End(_) => open.pop().ok_or(ElementError::Malformed)?,
                Event::Eof => return root.ok_or(ElementError::Malformed),
                Event::Text(text) => {
                    current(&mut open)?.text.push_str(&text.xml10_content());
                    continue;
                }
                Event::CData(text) => {
                    current(&mut open)?.text.push_str(&text.xml10_content());
                    continue;
                }
                Event::GeneralRef(body) => {
                    let c = reference::expand(body.into_inner().as_bytes());
                    current(&mut open)?.text.push(c.ok_or(ElementError::Malformed)?);
                    continue;
                }
                Event::Comment(_) | Event::Decl(_) | Event::DocType(_) | Event::PI(_) => {
                    return Err(ElementError::Malformed);
                }
            };
            match open.last_mut() {
                Some(parent) => parent.children.push(done),
                None => root = Some(done),
            }
        }
    }

    /// Whether it has this namespace and name.
    #[must_use]
    pub fn is(&self, namespace: &str, name: &str) -> bool {
        self.namespace == namespace && self.name == name
    }

    /// The value of an attribute without prefix.
    #[must_use]
    pub fn attr(&self, name: &str) -> Option<&str> {
        self.attr_ns("", name)
    }

    /// The value of an attribute of a namespace.
    #[must_use]
    pub fn attr_ns(&self, namespace: &str, name: &str) -> Option<&str> {
        let mut attributes = self.attributes.iter();
        let found = attributes.find(|a| a.namespace == namespace && a.name == name);
        found.map(|attribute| attribute.value.as_str())
    }

    /// The first child of this namespace and name.
    #[must_use]
    pub fn child(&self, namespace: &str, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.is(namespace, name))
    }

    /// All child elements, in order.
    #[must_use]
    pub fn children(&self) -> &[Self] {
        &self.children
    }

    /// All text directly inside the element, without that of its children.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Puts the header's declarations in scope.
pub(super) fn declare(reader: &mut NsReader<&[u8]>, header: &Header) -> Result<(), ElementError> {
    let default = match header.default_namespace {
        DefaultNamespace::None => "",
        DefaultNamespace::Server => ns::SERVER,
        DefaultNamespace::Stream => ns::STREAM,
    };
    let resolver = reader.resolver_mut();
    resolver.add(PrefixDeclaration::Default, Namespace(default)).map_err(malformed)?;
    for (prefix, uri) in &header.prefixes {
        // as written, like those that the reader finds by itself
        let mut written = Vec::new();
        writer::escape(&mut written, uri);
        let written = String::from_utf8(written).map_err(malformed)?;
        resolver.add(PrefixDeclaration::Named(prefix), Namespace(&written)).map_err(malformed)?;
    }
    Ok(())
}

fn begin(
    reader: &NsReader<&[u8]>,
    start: &BytesStart<'_>,
    parts: &mut usize,
) -> Result<Element, ElementError> {
    let count = |parts: &mut usize| {
        *parts += 1;
        if *parts > MAX_PARTS { Err(ElementError::TooLarge) } else { Ok(()) }
    };
    count(parts)?;
    let resolver = reader.resolver();
    let (namespace, name) = resolver.resolve_element(start.name());
    let mut element = Element {
        namespace: resolved(namespace)?,
        name: name.into_inner().to_owned(),
        attributes: Vec::new(),
        children: Vec::new(),
        text: String::new(),
    };
    for attribute in start.attributes() {
        let attribute = attribute.map_err(malformed)?;
        count(parts)?;
        if attribute.key.as_namespace_binding().is_some() {
            continue;
        }
        let (namespace, name) = resolver.resolve_attribute(attribute.key);
        element.attributes.push(Attribute {
            namespace: resolved(namespace)?,
            name: name.into_inner().to_owned(),
            value: reference::normalise_value(&attribute.value).into_owned(),
        });
    }
    Ok(element)
}

fn resolved(namespace: ResolveResult<'_>) -> Result<String, ElementError> {
    match namespace {
        ResolveResult::Bound(Namespace(uri)) => Ok(reference::normalise_value(uri).into_owned()),
        ResolveResult::Unbound => Ok(String::new()),
        ResolveResult::Unknown(_) => Err(ElementError::Malformed),
    }
}

fn current(open: &mut [Element]) -> Result<&mut Element, ElementError> {
    open.last_mut().ok_or(ElementError::Malformed)
}

fn malformed<E>(_: E) -> ElementError {
    ElementError::Malformed
}

/// Elements and attributes, namespace declarations included. Features and errors have a dozen.
const MAX_PARTS: usize = 512;

#[cfg(test)]
mod tests;
