//! Messages of an exact size, as clients of today write them, and the proof that they arrive: each
//! receiver knows every byte that has to come.

use anyhow::bail;
use bytes::{Buf, BytesMut};

use super::names;

/// The messages of one peer and direction, all alike but for their ids, which rise by one.
pub(crate) struct Sequence {
    /// The next one.
    message: Vec<u8>,
    /// Where its id stands, twice.
    ids: [usize; 2],
}

/// What messages look like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Form {
    pub(crate) shape: Shape,
    /// Bytes of one.
    pub(crate) size: usize,
}

/// What they carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    /// Text.
    Text,
    /// What OMEMO makes of text (XEP-0384): a key for each device of the recipients.
    Encrypted,
    /// A picture in base64, as in XEP-0084.
    Picture,
    /// Many small elements with attributes, as publish-subscribe and service discovery have them.
    Items,
}

/// Which way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    /// From a peer to the legacy server.
    In,
    /// From the legacy server to a peer.
    Out,
}

/// Digits of an id.
const DIGITS: usize = 12;
/// `from` and `to` of all have this many bytes in all, so that ids always stand at the same place.
const MARK: &str = "000000000000";

impl Sequence {
    /// Messages of this form between a peer and the legacy server.
    pub(crate) fn new(direction: Direction, peer: usize, form: Form) -> Self {
        let (peer, legacy) =
            (format!("juliet@{}/balcony", names::peer(peer)), "romeo@legacy.test/x1");
        let (from, to) = match direction {
            Direction::In => (&*peer, legacy),
            Direction::Out => (legacy, &*peer),
        };
        let head = format!("<message from='{from}' to='{to}' id='{MARK}' type='chat'>");
        let end = format!(
            "<request xmlns='urn:xmpp:receipts'/>\
             <origin-id xmlns='urn:xmpp:sid:0' id='{MARK}'/></message>"
        );
        let content = form.shape.content(form.size.saturating_sub(head.len() + end.len()));
        let message = [head, content, end].concat();
        let first = message.find(MARK).unwrap_or_default();
        let second = message.rfind(MARK).unwrap_or_default();
        Self { message: message.into_bytes(), ids: [first, second] }
    }

    /// Puts the next one behind `out`.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.message);
        self.advance();
    }

    /// Takes whole messages off the input, each of which has to be the one that comes next.
    ///
    /// # Errors
    /// What came instead.
    pub(crate) fn check(&mut self, input: &mut BytesMut) -> anyhow::Result<usize> {
        let mut count = 0;
        while let Some(came) = input.get(..self.message.len()) {
            if came != self.message {
                let (came, due) = (String::from_utf8_lossy(came), &self.message);
                bail!("{came}\ncame instead of\n{}", String::from_utf8_lossy(due));
            }
            input.advance(self.message.len());
            self.advance();
            count += 1;
        }
        Ok(count)
    }

    fn advance(&mut self) {
        for at in self.ids {
            let digits = self.message.iter_mut().skip(at).take(DIGITS);
            for digit in digits.rev() {
                if *digit < b'9' {
                    *digit += 1;
                    break;
                }
                *digit = b'0';
            }
        }
    }
}

/// The peer of a message.
pub(crate) fn peer_of(message: &[u8]) -> Option<usize> {
    let start = memchr::memmem::find(message, b"juliet@")? + "juliet@".len();
    let end = start + names::peer(0).len();
    names::number(std::str::from_utf8(message.get(start..end)?).ok()?)
}

impl Form {
    /// A line of a chat.
    pub(crate) const TEXT: Self = Self { shape: Shape::Text, size: 300 };
    /// The same, encrypted.
    pub(crate) const ENCRYPTED: Self = Self { shape: Shape::Encrypted, size: 4_000 };
    /// A picture.
    pub(crate) const PICTURE: Self = Self { shape: Shape::Picture, size: 64_000 };
    /// As much, and hard to read.
    pub(crate) const ITEMS: Self = Self { shape: Shape::Items, size: 64_000 };
    /// A larger picture.
    pub(crate) const BURST: Self = Self { shape: Shape::Picture, size: 100_000 };
}

impl Shape {
    /// Elements of so many bytes.
    fn content(self, bytes: usize) -> String {
        match self {
            Self::Text => filled("<body>", text, "</body>", bytes),
            Self::Encrypted => {
                let end = "</payload></encrypted><store xmlns='urn:xmpp:hints'/>";
                filled(&keys(bytes * 4 / 5), base64, end, bytes)
            }
            Self::Picture => {
                let head = "<event xmlns='http://jabber.org/protocol/pubsub#event'>\
                    <items node='urn:xmpp:avatar:data'>\
                    <item id='111f4b3c50d7b0df729d299bc6f8e9ef9066971f'>\
                    <data xmlns='urn:xmpp:avatar:data'>";
                filled(head, base64, "</data></item></items></event>", bytes)
            }
            Self::Items => filled(&items(bytes - bytes / 100), text, "</body>", bytes),
        }
    }
}

/// `head`, so much that it becomes `bytes` in all, and `end`.
fn filled(head: &str, with: fn(usize) -> String, end: &str, bytes: usize) -> String {
    let middle = with(bytes.saturating_sub(head.len() + end.len()));
    [head, &middle, end].concat()
}

/// Running text of so many bytes, with what text has: entities, letters beyond ASCII, line ends.
fn text(bytes: usize) -> String {
    const TEXT: &str = "Good night, good night! Parting is such sweet sorrow, &quot;that I shall \
        say good night&quot; till it be morrow \u{2013} d\u{e9}j\u{e0} vu &amp; all that.\n";
    let mut text = String::new();
    loop {
        for piece in TEXT.split_inclusive(' ') {
            if text.len() + piece.len() > bytes {
                text.extend(std::iter::repeat_n('.', bytes - text.len()));
                return text;
            }
            text.push_str(piece);
        }
    }
}

/// So many letters that could be base64.
fn base64(bytes: usize) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    (0..bytes).map(|at| char::from(LETTERS[at * 23 % 64])).collect()
}

/// The beginning of an encrypted message up to its payload, with keys of about so many bytes.
fn keys(bytes: usize) -> String {
    let mut keys = String::from(
        "<body>This message is encrypted with OMEMO.</body>\
         <encryption xmlns='urn:xmpp:eme:0' namespace='eu.siacs.conversations.axolotl'/>\
         <encrypted xmlns='eu.siacs.conversations.axolotl'><header sid='1042913571'>",
    );
    for number in 0..bytes / 180 {
        keys += &format!("<key rid='{}'>{}</key>", 1_217_000_000 + number * 7919, base64(148));
    }
    keys + "<iv>c2l4dGVlbiBieXRlcyE=</iv></header><payload>"
}

/// What a publish-subscribe service sends about a blog, of at most so many bytes, and the beginning
/// of a text.
fn items(bytes: usize) -> String {
    let mut items = String::from(
        "<event xmlns='http://jabber.org/protocol/pubsub#event'>\
         <items node='urn:xmpp:microblog:0'>",
    );
    let end = "</items></event><body>";
    for number in 0.. {
        let item = format!(
            "<item id='{number:08}' publisher='juliet@capulet.example'>\
             <entry xmlns='http://www.w3.org/2005/Atom'><title type='text'>Balcony {number}</title>\
             <published>2026-01-01T00:00:00Z</published>\
             <link rel='alternate' href='http://capulet.example/?a={number}&amp;b=1'/>\
             </entry></item>"
        );
        if items.len() + item.len() + end.len() > bytes {
            break;
        }
        items += &item;
    }
    items + end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_exact_and_ids_rise() {
        for direction in [Direction::In, Direction::Out] {
            for form in [Form::TEXT, Form::ENCRYPTED, Form::PICTURE, Form::ITEMS, Form::BURST] {
                let mut sequence = Sequence::new(direction, 42, form);
                let mut out = Vec::new();
                for _ in 0..11 {
                    sequence.write(&mut out);
                }
                assert_eq!(out.len(), 11 * form.size);
                assert_eq!(peer_of(&out), Some(42));
                assert_eq!(out.windows(DIGITS).filter(|w| *w == b"000000000010").count(), 2);
                let mut receiver = Sequence::new(direction, 42, form);
                let mut input = BytesMut::from(&*out);
                assert_eq!(receiver.check(&mut input).unwrap(), 11);
                assert!(receiver.check(&mut BytesMut::from(&*out)).is_err());
            }
        }
    }
}
