//! The elements inside a stanza, one by one: for those who judge what it carries and need no tree.
//!
//! What is looked at came through the framer, which bounds its size and depth; no memory is taken
//! for what is only passed by.

use std::{borrow::Cow, ops::ControlFlow};

use quick_xml::{
    NsReader,
    events::{BytesStart, Event},
    name::{Namespace, PrefixDeclaration, QName, ResolveResult},
};

use super::{
    element::ElementError,
    scan::reference,
    token::{DefaultNamespace, Header},
    writer,
};
use crate::xmpp::ns;

/// An element inside a first-level one.
#[derive(Clone, Debug)]
pub struct Inner<'a> {
    /// 1 for a child of the first-level element, 2 for a child of that, and so on.
    pub depth: usize,
    /// The namespace; empty if it is in none.
    pub namespace: Cow<'a, str>,
    start: &'a BytesStart<'a>,
}

impl Inner<'_> {
    /// The name without prefix.
    #[must_use]
    pub fn name(&self) -> &str {
        self.start.local_name().into_inner()
    }

    /// The value of an attribute without prefix.
    #[must_use]
    pub fn attr(&self, name: &str) -> Option<String> {
        let mut attributes = self.start.attributes().flatten();
        let found = attributes.find(|attribute| attribute.key == QName(name))?;
        Some(reference::normalise_value(&found.value).into_owned())
    }
}

/// Calls `visit` with each element inside the one that `bytes` consists of, in the order of their
/// start tags, until it breaks.
///
/// # Errors
/// [`ElementError::Malformed`] if the element never went through the framer.
pub fn elements(
    bytes: &[u8],
    header: &Header,
    mut visit: impl FnMut(&Inner<'_>) -> ControlFlow<()>,
) -> Result<(), ElementError> {
    let text = std::str::from_utf8(bytes).map_err(malformed)?;
    let mut reader = NsReader::from_str(text);
    declare(&mut reader, header)?;
    let mut depth = 0_usize;
    loop {
        let event = reader.read_event().map_err(malformed)?;
        let (start, is_empty) = match &event {
            Event::Start(start) => (start, false),
            Event::Empty(start) => (start, true),
            Event::End(_) => {
                depth = depth.checked_sub(1).ok_or(ElementError::Malformed)?;
                continue;
            }
            Event::Eof => return Ok(()),
            Event::Text(_) | Event::CData(_) | Event::GeneralRef(_) => continue,
            Event::Comment(_) | Event::Decl(_) | Event::DocType(_) | Event::PI(_) => {
                return Err(ElementError::Malformed);
            }
        };
        if depth > 0 {
            let namespace = match reader.resolver().resolve_element(start.name()).0 {
                ResolveResult::Bound(Namespace(uri)) => reference::normalise_value(uri),
                ResolveResult::Unbound => Cow::Borrowed(""),
                ResolveResult::Unknown(_) => return Err(ElementError::Malformed),
            };
            if visit(&Inner { depth, namespace, start }).is_break() {
                return Ok(());
            }
        }
        if !is_empty {
            depth += 1;
        }
    }
}

/// Puts the header's declarations in scope.
fn declare(reader: &mut NsReader<&[u8]>, header: &Header) -> Result<(), ElementError> {
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

fn malformed<E>(_: E) -> ElementError {
    ElementError::Malformed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::{Framer, Limits, TokenKind};

    /// The elements of a stanza on a stream whose header has these declarations.
    fn inside(declarations: &str, stanza: &str) -> Vec<(usize, String, String)> {
        let limits =
            Limits { header: 1 << 12, element: 1 << 20, depth: 1000, attributes: 64, grace: 1 };
        let mut framer = Framer::new(limits);
        let header = format!(
            "<stream:stream xmlns='jabber:server' \
             xmlns:stream='http://etherx.jabber.org/streams'{declarations}>"
        );
        let token = framer.next(header.as_bytes()).unwrap().unwrap();
        let TokenKind::Header(header) = token.kind else { panic!("{token:?}") };
        let token = framer.next(stanza.as_bytes()).unwrap().unwrap();
        assert_eq!(token.len, stanza.len());
        let mut found = Vec::new();
        let outcome = elements(stanza.as_bytes(), &header, |inner| {
            let name = inner.name().to_owned();
            found.push((inner.depth, inner.namespace.clone().into_owned(), name));
            ControlFlow::Continue(())
        });
        outcome.unwrap();
        found
    }

    fn flat(found: &[(usize, String, String)]) -> Vec<(usize, &str, &str)> {
        found.iter().map(|(depth, ns, name)| (*depth, &**ns, &**name)).collect()
    }

    #[test]
    fn elements_come_in_order_with_their_namespaces_however_declared() {
        let found = inside(
            " xmlns:h='urn:header&amp;'",
            "<message><body>a<![CDATA[<x/>]]>&lt;y/></body><h:a><b xmlns='urn:b'><c/></b></h:a>\
             <h:a xmlns:h='urn:&#x6F;wn'/><n xmlns=''/></message>",
        );
        assert_eq!(
            flat(&found),
            [
                (1, "jabber:server", "body"),
                (1, "urn:header&", "a"),
                (2, "urn:b", "b"),
                (3, "urn:b", "c"),
                (1, "urn:own", "a"),
                (1, "", "n"),
            ]
        );
        assert_eq!(inside("", "<presence/>"), []);
    }

    #[test]
    fn there_is_no_number_of_elements_behind_which_nobody_looks() {
        let stanza = format!("<iq>{}<last xmlns='urn:last'/></iq>", "<a/>".repeat(20_000));
        let found = inside("", &stanza);
        assert_eq!(found.len(), 20_001);
        assert_eq!(flat(&found).last(), Some(&(1, "urn:last", "last")));
    }

    #[test]
    fn attributes_are_read_as_values_and_breaking_ends_the_walk() {
        let stanza = b"<iq><a x:b='1' xmlns:x='u' b='&#x6F;k'/><c/></iq>";
        let header = {
            let limits =
                Limits { header: 1 << 12, element: 1 << 12, depth: 8, attributes: 8, grace: 1 };
            let mut framer = Framer::new(limits);
            let text =
                b"<s:stream xmlns='jabber:server' xmlns:s='http://etherx.jabber.org/streams'>";
            framer.next(text).unwrap().unwrap();
            framer.header().unwrap().clone()
        };
        let mut seen = Vec::new();
        let outcome = elements(stanza, &header, |inner| {
            seen.push((inner.attr("b"), inner.attr("x:c")));
            ControlFlow::Break(())
        });
        outcome.unwrap();
        assert_eq!(seen, [(Some("ok".to_owned()), None)]);
        assert!(elements(b"<iq><a></iq>", &header, |_| ControlFlow::Continue(())).is_err());
        assert!(elements(b"<iq><q:a/></iq>", &header, |_| ControlFlow::Continue(())).is_err());
    }
}
