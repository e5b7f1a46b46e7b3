//! What stands in a connection's input, piece by piece: stream headers, whole elements, footers.

use std::sync::Arc;

use bytes::{Buf, BytesMut};

use crate::{
    config::model::Limits,
    stream::Fault,
    xml::{self, Element, ElementName, Framer, Header, TokenKind},
    xmpp::StreamCondition,
};

/// How many times as much as others may the legacy server may send in one stanza. It sends back what
/// it got with an error in it, and its users' stanzas as it writes them, perhaps a quote in six bytes.
pub(super) const GRACE: usize = 8;

/// A framer with the limits of the configuration.
#[derive(Debug)]
pub(crate) struct Frames {
    framer: Framer,
}

/// One piece of a stream.
#[derive(Debug)]
pub(crate) enum Frame {
    /// The stream header.
    Header(Arc<Header>),
    /// An element that is no stanza.
    Element(ElementName, Element),
    /// A stanza, which is consumed.
    Stanza,
    /// The end of the stream.
    Footer,
}

impl Frames {
    /// At the start of a stream; nobody is authenticated yet.
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { framer: Framer::new(before_auth(limits)) }
    }

    /// The framer itself, for those who take stanzas as bytes.
    pub(super) fn framer(&mut self) -> &mut Framer {
        &mut self.framer
    }

    /// The other end is authenticated: stanzas may have so many bytes from now on.
    pub(crate) fn authenticated(&mut self, limits: &Limits, stanza: usize) {
        self.framer.set_limits(xml::Limits { element: stanza, ..before_auth(limits) });
    }

    /// It is the legacy server, which is authenticated: what is beyond the limits is one stanza's
    /// fault, and not the stream's.
    pub(crate) fn of_legacy(&mut self, limits: &Limits) {
        let element = limits.stanza;
        self.framer.set_limits(xml::Limits { element, grace: GRACE, ..before_auth(limits) });
    }

    /// The next piece, if it is there as a whole.
    pub(crate) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, Fault> {
        while let Some(token) = self.framer.next(input).map_err(Fault::xml)? {
            let frame = match token.kind {
                TokenKind::Declaration | TokenKind::Space => None,
                TokenKind::Header(header) => Some(Frame::Header(header)),
                TokenKind::Footer => Some(Frame::Footer),
                TokenKind::Element(tag) if tag.name.is_stanza() => Some(Frame::Stanza),
                TokenKind::Element(tag) => {
                    let bytes = input.get(..token.len).unwrap_or_default();
                    Some(Frame::Element(tag.name, self.parse(bytes)?))
                }
            };
            input.advance(token.len);
            if frame.is_some() {
                return Ok(frame);
            }
        }
        Ok(None)
    }

    /// The tree of an element that was framed on this stream.
    pub(super) fn parse(&self, bytes: &[u8]) -> Result<Element, Fault> {
        let Some(header) = self.framer.header() else {
            return Err(Fault::remote(StreamCondition::BadFormat, "element before the header"));
        };
        Element::parse(bytes, header)
            .map_err(|_| Fault::remote(StreamCondition::PolicyViolation, "element too complex"))
    }
}

fn before_auth(limits: &Limits) -> xml::Limits {
    xml::Limits {
        header: limits.element_before_auth,
        element: limits.element_before_auth,
        depth: limits.depth,
        attributes: limits.attributes,
        grace: 1,
    }
}
