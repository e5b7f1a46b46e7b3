//! What comes over a plain stream, element by element: parsed strictly by `rxml`, and as the bytes
//! that were on the wire.

use std::collections::BTreeMap;

use rxml::{
    Event, Parse, Parser,
    error::{EndOrError, Error},
};

/// The namespace of stream headers, features and errors.
pub(crate) const STREAMS: &str = "http://etherx.jabber.org/streams";
/// The namespace of stanzas between servers.
pub(crate) const SERVER: &str = "jabber:server";
/// The namespace of server dialback (XEP-0220).
pub(crate) const DIALBACK: &str = "jabber:server:dialback";

/// One thing on a stream.
#[derive(Clone, Debug)]
pub(crate) enum Frame {
    /// The stream begins.
    Header(Element),
    /// A child of the stream.
    Element(Element),
    /// The stream ends.
    Footer,
}

/// An XML element.
#[derive(Clone, Default, Debug)]
pub(crate) struct Element {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Those without a prefix.
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) children: Vec<Element>,
    pub(crate) text: String,
    /// Its bytes, if it is a child of the stream or the stream's header.
    pub(crate) raw: String,
}

impl Element {
    /// Whether it has this name in this namespace.
    pub(crate) fn is(&self, namespace: &str, name: &str) -> bool {
        self.namespace == namespace && self.name == name
    }

    /// Whether it is a message, a presence or an IQ.
    pub(crate) fn is_stanza(&self) -> bool {
        self.namespace == SERVER && matches!(&*self.name, "iq" | "message" | "presence")
    }

    /// The attribute's value.
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }

    /// The first child of this name.
    pub(crate) fn child(&self, namespace: &str, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.is(namespace, name))
    }
}

/// Cuts one direction of a stream into frames.
#[derive(Default)]
pub(crate) struct Reader {
    parser: Parser,
    header_seen: bool,
    /// Elements that are not closed yet, without the stream itself.
    open: Vec<Element>,
    raw: Vec<u8>,
}

impl Reader {
    /// Takes bytes as they come and adds what is complete to `frames`.
    ///
    /// # Errors
    /// What is wrong with the XML; what stood before it is in `frames`.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], frames: &mut Vec<Frame>) -> Result<(), Error> {
        loop {
            let before = bytes;
            let event = self.parser.parse(&mut bytes, false);
            let consumed = before.len() - bytes.len();
            self.raw.extend(before.iter().take(consumed));
            match event {
                Ok(Some(event)) => frames.extend(self.take(event)),
                Ok(None) | Err(EndOrError::NeedMoreData) => return Ok(()),
                Err(EndOrError::Error(error)) => return Err(error),
            }
        }
    }

    fn take(&mut self, event: Event) -> Option<Frame> {
        match event {
            Event::XmlDeclaration(..) => None,
            Event::StartElement(_, (namespace, name), attributes) => {
                let plain = |((namespace, name), value): ((rxml::Namespace<'_>, _), _)| {
                    namespace.is_none().then(|| (String::from(name), value))
                };
                let element = Element {
                    namespace: namespace.to_string(),
                    name: name.to_string(),
                    attributes: attributes.into_iter().filter_map(plain).collect(),
                    ..Element::default()
                };
                if self.header_seen {
                    self.open.push(element);
                    return None;
                }
                self.header_seen = true;
                Some(Frame::Header(Element { raw: self.cut(), ..element }))
            }
            Event::Text(_, text) => {
                if let Some(element) = self.open.last_mut() {
                    element.text.push_str(&text);
                }
                None
            }
            Event::EndElement(_) => {
                let Some(element) = self.open.pop() else { return Some(Frame::Footer) };
                if let Some(parent) = self.open.last_mut() {
                    parent.children.push(element);
                    return None;
                }
                Some(Frame::Element(Element { raw: self.cut(), ..element }))
            }
        }
    }

    fn cut(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.raw)).trim().to_owned()
    }
}

/// Text that may stand in an attribute's value or in an element.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&apos;")
}
