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
    /// Messages of `size` bytes between a peer and the legacy server.
    pub(crate) fn new(direction: Direction, peer: usize, size: usize) -> Self {
        let (peer, legacy) = (format!("juliet@{}/balcony", names::peer(peer)), "romeo@legacy.test/x1");
        let (from, to) = match direction {
            Direction::In => (&*peer, legacy),
            Direction::Out => (legacy, &*peer),
        };
        let head = format!("<message from='{from}' to='{to}' id='{MARK}' type='chat'><body>");
        let middle = "</body><request xmlns='urn:xmpp:receipts'/><origin-id xmlns='urn:xmpp:sid:0'";
        let middle = format!("{middle} id='{MARK}'/>");
        let end = "</message>";
        let room = size.saturating_sub(head.len() + middle.len() + end.len());
        // Half of what is long is text, and half is small elements with attributes.
        let entries = entries(if room > 1000 { room / 2 } else { 0 });
        let message = [&*head, &text(room.saturating_sub(entries.len())), &middle, &entries, end];
        let message = message.concat();
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

/// What a publish-subscribe service sends about a blog, of at most so many bytes.
fn entries(bytes: usize) -> String {
    let head = "<event xmlns='http://jabber.org/protocol/pubsub#event'>\
        <items node='urn:xmpp:microblog:0'>";
    let end = "</items></event>";
    let item = |number: usize| {
        format!(
            "<item id='{number:08}' publisher='juliet@capulet.example'>\
             <entry xmlns='http://www.w3.org/2005/Atom'><title type='text'>Balcony {number}</title>\
             <published>2026-01-01T00:00:00Z</published>\
             <link rel='alternate' href='http://capulet.example/?a={number}&amp;b=1'/></entry></item>"
        )
    };
    let mut entries = String::from(head);
    for number in 0.. {
        let item = item(number);
        if entries.len() + item.len() + end.len() > bytes {
            break;
        }
        entries += &item;
    }
    if entries.len() == head.len() { String::new() } else { entries + end }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_exact_and_ids_rise() {
        for direction in [Direction::In, Direction::Out] {
            for size in [300, 4_000, 64_000, 100_000] {
                let mut sequence = Sequence::new(direction, 42, size);
                let mut out = Vec::new();
                for _ in 0..11 {
                    sequence.write(&mut out);
                }
                assert_eq!(out.len(), 11 * size);
                assert_eq!(peer_of(&out), Some(42));
                assert_eq!(out.windows(DIGITS).filter(|w| *w == b"000000000010").count(), 2);
                let mut receiver = Sequence::new(direction, 42, size);
                let mut input = BytesMut::from(&*out);
                assert_eq!(receiver.check(&mut input).unwrap(), 11);
                assert!(receiver.check(&mut BytesMut::from(&*out)).is_err());
            }
        }
    }
}
