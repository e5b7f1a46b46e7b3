//! Batches of stanzas, taken apart again: what is left after a break, and the errors that go back
//! to the senders.

use bytes::{Bytes, BytesMut};

use crate::{
    auth::ledger::Routable,
    stream::Failure,
    xml::{self, Framer, Tag, TokenKind, bounce, writer},
};

/// The stanzas of `batch` that are not wholly among its first `sent` bytes. `None` if all are.
pub(super) fn after(batch: &Routable, sent: usize) -> Option<Routable> {
    let mut left = 0;
    let mut from = None;
    each(batch.bytes(), |start, stanza, _| {
        if start + stanza.len() > sent {
            left += 1;
            from.get_or_insert(start);
        }
    });
    let from = from?;
    Some(batch.part(batch.bytes().slice(from..), left))
}

/// The error stanzas for the senders of `batch`, and how many stanzas get none.
pub(super) fn bounces(batch: &Routable, failure: &Failure) -> (Option<Routable>, u32) {
    let mut replies = BytesMut::new();
    let mut count = 0;
    each(batch.bytes(), |_, stanza, tag| {
        if let Some(reply) =
            bounce::error_reply(stanza, tag, failure.condition(), Some(failure.text()))
        {
            replies.extend_from_slice(&reply);
            count += 1;
        }
    });
    let none = batch.stanzas() - count.min(batch.stanzas());
    ((count > 0).then(|| batch.reply(replies.freeze(), count)), none)
}

/// Calls `visit` with the place, the bytes and the tag of each stanza.
fn each(bytes: &Bytes, mut visit: impl FnMut(usize, &[u8], &Tag)) {
    // They were checked when they came in; here only their borders are looked for.
    let limits = xml::Limits {
        header: usize::MAX,
        element: usize::MAX,
        depth: usize::MAX,
        attributes: usize::MAX,
    };
    let mut framer = Framer::new(limits);
    let mut header = Vec::new();
    writer::StreamHeader::default().write(&mut header);
    let mut rest = header.as_slice();
    while let Ok(Some(token)) = framer.next(rest) {
        rest = rest.get(token.len..).unwrap_or_default();
        if rest.is_empty() {
            break;
        }
    }
    let mut start = 0;
    while let Some(rest) = bytes.get(start..)
        && let Ok(Some(token)) = framer.next(rest)
    {
        if let TokenKind::Element(tag) = &token.kind
            && let Some(stanza) = rest.get(..token.len)
        {
            visit(start, stanza, tag);
        }
        start += token.len;
    }
}
