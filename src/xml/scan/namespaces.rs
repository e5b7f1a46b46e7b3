//! Namespaces of start tags (Namespaces in XML 1.0; RFC 6120 §4.8; protocol rules XML-4, XML-8,
//! XML-9): only tags that declare one or have a colon in a name come here, and the stream's own.

use std::borrow::Cow;

use super::{
    super::token::{DefaultNamespace, ElementName, Header, Span, Version},
    Context, Fault, Place, Scanner,
    name::{Kind, Name},
    reference::same_value,
};
use crate::xmpp::ns;

/// A declaration in the buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Declaration {
    /// The attribute's name; its local part is the prefix unless it has no colon.
    name: Name,
    uri: Span,
    /// The [`Binding::index`] of the first that has the same namespace, or [`UNKNOWN`]: few are asked.
    same: u16,
}

/// What a prefix is bound to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Binding {
    /// By XML itself.
    Xml,
    /// By the element or one around it, at this index of the declarations.
    Element(usize),
    /// By the stream's header, at this index of its prefixes.
    Header(usize),
}

impl Binding {
    /// One number for all in scope: the header has at most [`MAX_DECLARATIONS`].
    fn index(self) -> u16 {
        let index = match self {
            Self::Xml => return XML,
            Self::Header(index) => index,
            Self::Element(index) => MAX_DECLARATIONS + index,
        };
        u16::try_from(index).unwrap_or(UNKNOWN)
    }

    fn from_index(index: u16) -> Self {
        let index = usize::from(index);
        match index.checked_sub(MAX_DECLARATIONS) {
            _ if index == usize::from(XML) => Self::Xml,
            Some(index) => Self::Element(index),
            None => Self::Header(index),
        }
    }
}

impl Declaration {
    /// An attribute that is one.
    pub(super) fn new(name: Name, uri: Span) -> Self {
        Self { name, uri, same: UNKNOWN }
    }

    /// The prefix it declares; empty for the default namespace.
    fn prefix(self, buf: &[u8]) -> &[u8] {
        if self.name.prefix(buf).is_some() { self.name.local(buf) } else { b"" }
    }
}

impl Scanner {
    /// Takes in the tag's declarations and resolves its prefixes.
    pub(super) fn check_namespaces(
        &mut self,
        buf: &[u8],
        context: Context<'_>,
    ) -> Result<(), Fault> {
        let header = match context.place {
            Place::Open(header) => Some(header),
            Place::Start | Place::BeforeHeader | Place::Closed => None,
        };
        let inherited = inherited(header);
        for i in 0..self.attributes.len() {
            let Some(&attribute) = self.attributes.get(i) else { break };
            if attribute.kind == Kind::Declaration {
                let declaration = Declaration::new(attribute.name, attribute.span());
                match check_declaration(buf, declaration) {
                    Err(fault @ Fault::NamespaceName) => self.excuse(1, context, fault)?,
                    outcome => outcome?,
                }
                let count = inherited + self.declarations.len();
                self.bear(count, MAX_DECLARATIONS, context, Fault::TooManyNamespaces)?;
                self.declarations.push(declaration);
                if self.open.is_empty() {
                    let index = header.and_then(|h| h.prefix(declaration.prefix(buf)));
                    self.first.own |= index.map_or(0, bit);
                }
            }
        }
        if let Some(prefix) = self.name.prefix(buf) {
            self.resolve(buf, header, prefix)?;
        }
        self.check_attribute_prefixes(buf, header)
    }

    /// Whether one more declaration, of a default namespace, is no fault. `plain`: its name has no
    /// character that is one.
    #[inline]
    pub(super) fn may_declare(
        &self,
        buf: &[u8],
        context: Context<'_>,
        declaration: Declaration,
        plain: bool,
    ) -> bool {
        let Place::Open(header) = context.place else { return false };
        let is_reserved = || {
            let len = declaration.uri.value(buf).len();
            (len == ns::XML.len() || len == ns::XMLNS.len()) && !is_good(buf, declaration)
        };
        inherited(Some(header)) + self.declarations.len() < MAX_DECLARATIONS
            && if plain { !is_reserved() } else { is_good(buf, declaration) }
    }

    /// Resolves each prefix once, for there may be as many declarations as attributes, and as many
    /// attributes with one local name.
    fn check_attribute_prefixes(
        &mut self,
        buf: &[u8],
        header: Option<&Header>,
    ) -> Result<(), Fault> {
        for i in 0..self.attributes.len() {
            let Some((prefix, local)) = self.prefixed(buf, i) else { continue };
            let binding = self.resolve(buf, header, prefix)?;
            if let Some(attribute) = self.attributes.get_mut(i) {
                attribute.binding = binding.index();
            }
            for k in 0..i {
                if self.prefixed(buf, k).is_some_and(|other| other.1 == local) {
                    let other = self.attributes.get(k).map_or(UNKNOWN, |a| a.binding);
                    let other = Binding::from_index(other);
                    if self.same(buf, header, binding) == self.same(buf, header, other) {
                        return Err(Fault::DuplicateAttribute);
                    }
                }
            }
        }
        Ok(())
    }

    /// The index of the first declaration in scope with the same namespace. Kept, for the namespaces
    /// may be long, and asked about by every tag.
    #[cold]
    fn same(&mut self, buf: &[u8], header: Option<&Header>, binding: Binding) -> u16 {
        let index = match binding {
            Binding::Xml => return XML,
            Binding::Header(index) => {
                return header.and_then(|h| h.same.get(index)).copied().unwrap_or(UNKNOWN);
            }
            Binding::Element(index) => index,
        };
        let Some(declaration) = self.declarations.get(index) else { return UNKNOWN };
        if declaration.same != UNKNOWN {
            return declaration.same;
        }
        let own = declaration.uri.written(buf);
        let prefixes = header.map_or(&[][..], |header| &header.prefixes);
        let in_header = |(_, uri): &(Box<str>, Box<str>)| same_value(own, (uri.as_bytes(), false));
        let around = |other: &Declaration| same_value(own, other.uri.written(buf));
        let first = prefixes.iter().position(in_header).map(Binding::Header).or_else(|| {
            self.declarations.iter().take(index).position(around).map(Binding::Element)
        });
        let same = first.unwrap_or(binding).index();
        if let Some(declaration) = self.declarations.get_mut(index) {
            declaration.same = same;
        }
        same
    }

    /// Prefix and local name of an attribute, if it has a prefix to be resolved.
    fn prefixed<'a>(&self, buf: &'a [u8], index: usize) -> Option<(&'a [u8], &'a [u8])> {
        let attribute = self.attributes.get(index).filter(|a| a.kind == Kind::Prefixed)?;
        Some((attribute.name.prefix(buf)?, attribute.name.local(buf)))
    }

    /// Finds what binds a prefix, and notes it if that is the header.
    fn resolve(
        &mut self,
        buf: &[u8],
        header: Option<&Header>,
        prefix: &[u8],
    ) -> Result<Binding, Fault> {
        if prefix == b"xml" {
            return Ok(Binding::Xml);
        }
        if prefix == b"xmlns" {
            return Err(Fault::ReservedPrefix);
        }
        if let Some(index) = self.declarations.iter().rposition(|d| d.prefix(buf) == prefix) {
            return Ok(Binding::Element(index));
        }
        let index = header.and_then(|h| h.prefix(prefix)).ok_or(Fault::UndeclaredPrefix)?;
        self.first.used |= bit(index);
        Ok(Binding::Header(index))
    }

    /// Says what the first-level element is whose start tag has just been read.
    pub(super) fn classify(&mut self, buf: &[u8], header: &Header) -> Result<ElementName, Fault> {
        let local = self.name.local(buf);
        let prefix = self.name.prefix(buf);
        let namespace = if let Some(prefix) = prefix {
            let binding = self.resolve(buf, Some(header), prefix)?;
            self.uri(buf, Some(header), binding)
        } else if let Some(own) = self.declarations.iter().find(|d| d.prefix(buf).is_empty()) {
            own.uri.text(buf)
        } else {
            match header.default_namespace {
                DefaultNamespace::None => Cow::Borrowed(""),
                DefaultNamespace::Server => return Ok(ElementName::content(local)),
                DefaultNamespace::Stream => Cow::Borrowed(ns::STREAM),
            }
        };
        match &*namespace {
            "" | ns::CLIENT => Err(Fault::ContentNamespace),
            ns::SERVER if prefix.is_some() => Err(Fault::PrefixedStanza),
            ns::SERVER => Ok(ElementName::content(local)),
            // it would be an element that never ends
            ns::STREAM if local == b"stream" => Err(Fault::SecondHeader),
            other => Ok(ElementName::extension(other, local)),
        }
    }

    /// The namespace that a prefix is bound to.
    fn uri<'a>(&self, buf: &'a [u8], header: Option<&'a Header>, binding: Binding) -> Cow<'a, str> {
        match binding {
            Binding::Xml => Cow::Borrowed(ns::XML),
            Binding::Element(index) => {
                self.declarations.get(index).map(|d| d.uri.text(buf)).unwrap_or_default()
            }
            Binding::Header(index) => {
                let prefix = header.and_then(|header| header.prefixes.get(index));
                Cow::Borrowed(prefix.map_or("", |(_, uri)| uri))
            }
        }
    }

    /// Makes the header of the start tag that was found last, and forgets the tag.
    pub(in crate::xml) fn take_header(&mut self, buf: &[u8]) -> Result<Header, Fault> {
        let root = match self.name.prefix(buf) {
            None => self.declared(buf, b""),
            Some(prefix) => self.declared(buf, prefix),
        };
        if root.as_deref() != Some(ns::STREAM) {
            return Err(Fault::RootNamespace);
        }
        if self.name.local(buf) != b"stream" {
            return Err(Fault::RootName);
        }
        let default_namespace = match self.declared(buf, b"").as_deref() {
            None | Some("") => DefaultNamespace::None,
            Some(ns::SERVER) => DefaultNamespace::Server,
            Some(ns::STREAM) => DefaultNamespace::Stream,
            Some(_) => return Err(Fault::ContentNamespace),
        };
        let owned = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let prefixes: Vec<(Box<str>, Box<str>)> = self
            .declarations
            .iter()
            .map(|d| (owned(d.prefix(buf)).into(), d.uri.text(buf).into()))
            .filter(|(prefix, _): &(Box<str>, _)| !prefix.is_empty() && &**prefix != "xml")
            .collect();
        let foreign = prefixes.iter().enumerate().filter(|(_, (prefix, uri))| {
            !matches!((&**prefix, &**uri), ("stream", ns::STREAM) | ("db", ns::DIALBACK))
        });
        let foreign = foreign.fold(0, |bits, (index, _)| bits | bit(index));
        let same = prefixes.iter().map(|(_, uri)| {
            let first = prefixes.iter().position(|(_, other)| other == uri);
            first.map_or(UNKNOWN, |first| Binding::Header(first).index())
        });
        let same = same.collect();
        let value = |name: &[u8]| {
            let attribute = self.attributes.iter().find(|a| a.name.bytes(buf) == name)?;
            Some(attribute.span().text(buf).into_owned())
        };
        let header = Header {
            to: value(b"to"),
            from: value(b"from"),
            id: value(b"id"),
            lang: value(b"xml:lang"),
            version: value(b"version").and_then(|text| Version::parse(&text)),
            default_namespace,
            prefixes,
            name: owned(self.name.bytes(buf)).into(),
            foreign,
            same,
        };
        self.declarations.clear();
        Ok(header)
    }

    /// The namespace that the stream's own tag declares for a prefix.
    fn declared<'a>(&self, buf: &'a [u8], prefix: &[u8]) -> Option<Cow<'a, str>> {
        let declaration = self.declarations.iter().find(|d| d.prefix(buf) == prefix)?;
        Some(declaration.uri.text(buf))
    }
}

/// How many declarations the header has at most.
fn inherited(header: Option<&Header>) -> usize {
    header.map_or(0, |header| header.prefixes.len() + 1)
}

#[cold]
fn is_good(buf: &[u8], declaration: Declaration) -> bool {
    check_declaration(buf, declaration).is_ok()
}

/// Checks a declaration by itself (Namespaces in XML 1.0 §2.2, §3).
fn check_declaration(buf: &[u8], declaration: Declaration) -> Result<(), Fault> {
    let uri = declaration.uri.value(buf);
    let reserved = [ns::XML, ns::XMLNS].map(|name| *uri == *name.as_bytes());
    match declaration.prefix(buf) {
        b"xml" if reserved[0] => return Ok(()),
        b"xml" | b"xmlns" => return Err(Fault::ReservedPrefix),
        b"" => {}
        _ if uri.is_empty() => return Err(Fault::EmptyNamespace),
        _ => {}
    }
    if reserved.contains(&true) {
        return Err(Fault::ReservedPrefix);
    }
    // expat hands its user namespace and local name as one string; a server that splits it at one
    // of these could be made to see a name that is not there
    if uri.iter().fold(false, |found, &b| found | (b <= b' ') | (b == b'|') | (b == 0x7f)) {
        return Err(Fault::NamespaceName);
    }
    Ok(())
}

/// The bit of a prefix of the header; there are at most 64.
fn bit(index: usize) -> u64 {
    u32::try_from(index).ok().and_then(|index| 1_u64.checked_shl(index)).unwrap_or_default()
}

/// Namespace declarations in scope at once, those of the header included (protocol rule XML-5).
const MAX_DECLARATIONS: usize = 64;
/// Of [`Binding::Xml`].
const XML: u16 = u16::MAX - 1;
/// No index at all.
const UNKNOWN: u16 = u16::MAX;
