//! A stream as an honest server reads it: piece by piece, with the gate's own framer, which has
//! tests of its own.

use std::sync::Arc;

use bytes::BytesMut;
use fedgate::xml::{Element, ElementName, Framer, Header, Limits, TokenKind};

use super::conn::Conn;

/// A stream as an honest server sees it.
pub(crate) struct Stream {
    conn: Conn,
    input: BytesMut,
    framer: Framer,
}

/// A piece of it.
pub(super) enum Item {
    Header(Arc<Header>),
    Element(ElementName, Element),
    Stanza(String),
    Footer,
}

impl Stream {
    pub(super) fn new(conn: Conn) -> Self {
        Self { conn, input: BytesMut::new(), framer: framer() }
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.conn.say(text).await;
    }

    /// Sends what need not be text.
    pub(crate) async fn say_bytes(&mut self, bytes: &[u8]) {
        self.conn.say(bytes).await;
    }

    /// All that the gate says to the end.
    pub(crate) async fn rest(&mut self) -> String {
        let first = String::from_utf8(self.input.split().to_vec()).unwrap();
        first + &self.conn.rest().await
    }

    /// A new stream begins on the connection.
    pub(super) fn restart(&mut self) -> &mut Conn {
        self.framer = framer();
        &mut self.conn
    }

    /// What comes next, whatever it is.
    pub(super) async fn chunk(&mut self) -> Option<Vec<u8>> {
        self.conn.chunk().await
    }

    /// Closes this end's sending direction.
    pub(super) async fn finish(&mut self) {
        self.conn.finish().await;
    }

    /// Sends a header, takes the answer and, if there are to be any, the features.
    pub(super) async fn begin(&mut self, header: &str, features: bool) -> Option<String> {
        self.say(header).await;
        let Item::Header(header) = self.next().await? else { return None };
        if features {
            let Item::Element(ElementName::StreamFeatures, _) = self.next().await? else {
                return None;
            };
        }
        header.id.clone()
    }

    /// The next piece; none at the end, also of an XML that is not well-formed.
    pub(super) async fn next(&mut self) -> Option<Item> {
        loop {
            let Some(token) = self.framer.next(&self.input).ok()? else {
                self.input.extend_from_slice(&self.conn.chunk().await?);
                continue;
            };
            let bytes = self.input.split_to(token.len);
            match token.kind {
                TokenKind::Declaration | TokenKind::Space => {}
                TokenKind::Header(header) => return Some(Item::Header(header)),
                TokenKind::Footer => return Some(Item::Footer),
                TokenKind::Element(tag) if tag.name.is_stanza() => {
                    return Some(Item::Stanza(String::from_utf8(bytes.to_vec()).unwrap()));
                }
                TokenKind::Element(tag) => {
                    let header = self.framer.header()?;
                    return Some(Item::Element(tag.name, Element::parse(&bytes, header).ok()?));
                }
            }
        }
    }
}

fn framer() -> Framer {
    Framer::new(Limits {
        header: 1 << 16,
        element: 1 << 24,
        depth: 1000,
        attributes: 1000,
        grace: 1,
    })
}
