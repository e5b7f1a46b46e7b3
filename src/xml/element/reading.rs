//! From text to tree, in one pass. The framer has checked what it lets pass more strictly; here
//! nothing is taken for what it is not, though other text is no element.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use super::{Attribute, Element, ElementError};
use crate::{
    xml::{
        scan::reference,
        token::{DefaultNamespace, Header},
    },
    xmpp::ns,
};

/// Elements and attributes, namespace declarations included. Features and errors have a dozen.
const MAX_PARTS: usize = 512;

/// What is left of the text, and the names that are known there.
pub(super) struct Reader<'a> {
    rest: &'a str,
    header: &'a Header,
    /// Declarations in force, the innermost last: the prefix, empty for the default namespace, and
    /// the namespace.
    scopes: Vec<(&'a str, Cow<'a, str>)>,
    parts: usize,
}

/// An element whose end tag has not come.
struct Open<'a> {
    element: Element,
    /// As written, prefix included.
    name: &'a str,
    /// How many declarations there are outside of it.
    scopes: usize,
}

impl<'a> Reader<'a> {
    /// At the beginning of an element, on a stream with this header.
    pub(super) fn new(text: &'a str, header: &'a Header) -> Self {
        Self { rest: text, header, scopes: Vec::new(), parts: 0 }
    }

    /// The element that all of the text is.
    pub(super) fn document(mut self) -> Result<Element, ElementError> {
        let mut open: Vec<Open<'a>> = Vec::new();
        loop {
            if let Some(parent) = open.last_mut() {
                self.text(&mut parent.element.text)?;
            }
            self.expect("<")?;
            let done = if self.take("/") {
                let Some(Open { element, name, scopes }) = open.pop() else {
                    return Err(ElementError::Malformed);
                };
                self.expect(name)?;
                self.space();
                self.expect(">")?;
                self.scopes.truncate(scopes);
                element
            } else if self.take("![CDATA[") {
                let parent = open.last_mut().ok_or(ElementError::Malformed)?;
                let (data, rest) = self.rest.split_once("]]>").ok_or(ElementError::Malformed)?;
                push_lines(&mut parent.element.text, data);
                self.rest = rest;
                continue;
            } else {
                let (begun, is_empty) = self.start_tag()?;
                if !is_empty {
                    open.push(begun);
                    continue;
                }
                self.scopes.truncate(begun.scopes);
                begun.element
            };
            match open.last_mut() {
                Some(parent) => parent.element.children.push(done),
                None if self.rest.is_empty() => return Ok(done),
                None => return Err(ElementError::Malformed),
            }
        }
    }

    /// A start tag behind its `<`; whether it is an empty-element tag.
    fn start_tag(&mut self) -> Result<(Open<'a>, bool), ElementError> {
        self.count()?;
        let scopes = self.scopes.len();
        let name = self.name()?;
        let mut attributes: Vec<(&str, &str)> = Vec::new();
        let is_empty = loop {
            let is_apart = self.space();
            if self.take(">") {
                break false;
            }
            if self.take("/>") {
                break true;
            }
            if !is_apart {
                return Err(ElementError::Malformed);
            }
            let (name, value) = self.attribute()?;
            if attributes.iter().any(|(other, _)| *other == name) {
                return Err(ElementError::Malformed);
            }
            attributes.push((name, value));
        };
        attributes.retain(|(name, value)| {
            let prefix = if *name == "xmlns" { Some("") } else { name.strip_prefix("xmlns:") };
            if let Some(prefix) = prefix {
                self.scopes.push((prefix, reference::normalise_value(value)));
            }
            prefix.is_none()
        });
        let (prefix, local) = split(name);
        let mut element = Element {
            namespace: self.namespace(prefix)?.to_owned(),
            name: local.to_owned(),
            attributes: Vec::with_capacity(attributes.len()),
            children: Vec::new(),
            text: String::new(),
        };
        for (name, value) in attributes {
            let (prefix, local) = split(name);
            // the default namespace is none of theirs
            let namespace = if prefix.is_empty() { "" } else { self.namespace(prefix)? };
            element.attributes.push(Attribute {
                namespace: namespace.to_owned(),
                name: local.to_owned(),
                value: reference::normalise_value(value).into_owned(),
            });
        }
        Ok((Open { element, name, scopes }, is_empty))
    }

    /// The namespace that a prefix stands for, or none the default one.
    fn namespace(&self, prefix: &str) -> Result<&str, ElementError> {
        if prefix == "xml" {
            return Ok(ns::XML);
        }
        let own = self.scopes.iter().rev().find(|(known, _)| *known == prefix);
        if let Some((_, namespace)) = own {
            return Ok(namespace);
        }
        if prefix.is_empty() {
            return Ok(match self.header.default_namespace {
                DefaultNamespace::None => "",
                DefaultNamespace::Server => ns::SERVER,
                DefaultNamespace::Stream => ns::STREAM,
            });
        }
        let declared = self.header.prefixes.iter().find(|(known, _)| **known == *prefix);
        declared.map(|(_, namespace)| &**namespace).ok_or(ElementError::Malformed)
    }

    /// Text up to the next tag.
    fn text(&mut self, text: &mut String) -> Result<(), ElementError> {
        loop {
            let at = memchr2(b'<', b'&', self.rest.as_bytes()).ok_or(ElementError::Malformed)?;
            let (plain, rest) = self.rest.split_at(at);
            push_lines(text, plain);
            let Some(reference) = rest.strip_prefix('&') else {
                self.rest = rest;
                return Ok(());
            };
            let (body, rest) = reference.split_once(';').ok_or(ElementError::Malformed)?;
            text.push(reference::expand(body.as_bytes()).ok_or(ElementError::Malformed)?);
            self.rest = rest;
        }
    }

    /// An attribute as written: its name and what is between its quotes.
    fn attribute(&mut self) -> Result<(&'a str, &'a str), ElementError> {
        self.count()?;
        let name = self.name()?;
        self.space();
        self.expect("=")?;
        self.space();
        let quote = if self.take("'") {
            b'\''
        } else {
            self.expect("\"")?;
            b'"'
        };
        match memchr2(quote, b'<', self.rest.as_bytes()) {
            Some(end) => {
                let (value, rest) = self.rest.split_at(end);
                // a `<` is none
                let Some(rest) = rest.strip_prefix(char::from(quote)) else {
                    return Err(ElementError::Malformed);
                };
                self.rest = rest;
                Ok((name, value))
            }
            None => Err(ElementError::Malformed),
        }
    }

    /// A name as written, prefix included.
    fn name(&mut self) -> Result<&'a str, ElementError> {
        let end = self.rest.bytes().position(ends_name).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        if name.is_empty() || name.starts_with(':') || name.ends_with(':') {
            return Err(ElementError::Malformed);
        }
        self.rest = rest;
        Ok(name)
    }

    fn take(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, text: &str) -> Result<(), ElementError> {
        if self.take(text) { Ok(()) } else { Err(ElementError::Malformed) }
    }

    /// Leaves white space out; whether there was any.
    fn space(&mut self) -> bool {
        let rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let skipped = rest.len() < self.rest.len();
        self.rest = rest;
        skipped
    }

    fn count(&mut self) -> Result<(), ElementError> {
        self.parts += 1;
        if self.parts > MAX_PARTS { Err(ElementError::TooLarge) } else { Ok(()) }
    }
}

/// What is no part of a name: comments and the like do not begin with one.
fn ends_name(byte: u8) -> bool {
    matches!(
        byte,
        b' ' | b'\t'
            | b'\r'
            | b'\n'
            | b'<'
            | b'>'
            | b'/'
            | b'='
            | b'\''
            | b'"'
            | b'!'
            | b'?'
            | b'&'
    )
}

/// The prefix of a name, which may be empty, and the rest.
fn split(name: &str) -> (&str, &str) {
    match name.bytes().position(|byte| byte == b':').map(|at| name.split_at(at)) {
        Some((prefix, local)) => (prefix, local.get(1..).unwrap_or_default()),
        None => ("", name),
    }
}

/// Puts text behind `text` with its line ends as XML has them (XML 1.0 §2.11).
fn push_lines(text: &mut String, raw: &str) {
    let mut rest = raw;
    while let Some(at) = memchr(b'\r', rest.as_bytes()) {
        let (line, after) = rest.split_at(at);
        let after = after.get(1..).unwrap_or_default();
        text.push_str(line);
        text.push('\n');
        rest = after.strip_prefix('\n').unwrap_or(after);
    }
    text.push_str(rest);
}
