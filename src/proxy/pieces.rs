//! Batches of stanzas, taken apart again: what is left after a break, and the errors that go back
//! to the senders.

use bytes::{Bytes, BytesMut};

use super::frames::GRACE;
use crate::{
    auth::ledger::Routable,
    stream::{Failure, printable},
    xml::{self, Element, Framer, Tag, TokenKind, bounce, writer},
    xmpp::ns,
};

/// The stanzas of `batch` behind the first `known`: those that are wholly among its first `sent`
/// bytes, and those that are not.
pub(super) fn divided(
    batch: &Routable,
    known: u32,
    sent: usize,
) -> (Option<Routable>, Option<Routable>) {
    let (mut at, mut whole, mut rest) = (0, 0, 0);
    let (mut begin, mut cut) = (None, None);
    each(batch.bytes(), |start, stanza, _| {
        at += 1;
        if at <= known {
            return;
        }
        begin.get_or_insert(start);
        if start + stanza.len() <= sent {
            whole += 1;
        } else {
            rest += 1;
            cut.get_or_insert(start);
        }
    });
    let end = batch.bytes().len();
    let begin = begin.unwrap_or(end);
    let cut = cut.unwrap_or(end).max(begin);
    let part = |count, range| (count > 0).then(|| batch.part(batch.bytes().slice(range), count));
    (part(whole, begin..cut), part(rest, cut..end))
}

/// The stanzas of `batch` that have `largest` bytes at most, and those that have more; each in
/// their order.
pub(super) fn sorted(batch: &Routable, largest: usize) -> (Option<Routable>, Option<Routable>) {
    let mut small = (BytesMut::new(), 0);
    let mut large = (BytesMut::new(), 0);
    each(batch.bytes(), |_, stanza, _| {
        let (bytes, count) = if stanza.len() > largest { &mut large } else { &mut small };
        bytes.extend_from_slice(stanza);
        *count += 1;
    });
    let [small, large] =
        [small, large].map(|(bytes, count)| (count > 0).then(|| batch.part(bytes.freeze(), count)));
    (small, large)
}

/// What is left of `batch` when the stanzas are gone that `is_taken` takes; `None` if that is nothing.
pub(super) fn without(
    batch: Routable,
    mut is_taken: impl FnMut(&[u8], &Tag) -> bool,
) -> Option<Routable> {
    let mut taken = Vec::new();
    each(batch.bytes(), |start, stanza, tag| {
        if is_taken(stanza, tag) {
            taken.push(start..start + stanza.len());
        }
    });
    let gone = u32::try_from(taken.len()).unwrap_or(u32::MAX);
    if gone == 0 {
        return Some(batch);
    }
    let mut left = BytesMut::new();
    let mut at = 0;
    for place in taken {
        left.extend_from_slice(batch.bytes().get(at..place.start).unwrap_or_default());
        at = place.end;
    }
    left.extend_from_slice(batch.bytes().get(at..).unwrap_or_default());
    let stanzas = batch.stanzas().saturating_sub(gone);
    (stanzas > 0).then(|| batch.part(left.freeze(), stanzas))
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

/// The condition of an error stanza (RFC 6120 §8.3); empty if it has none.
pub(super) fn condition(stanza: &[u8]) -> String {
    let framer = in_stream();
    let element = framer.header().and_then(|header| Element::parse(stanza, header).ok());
    let error = element
        .as_ref()
        .and_then(|element| element.children().iter().find(|child| child.name == "error"));
    let condition = error.and_then(|error| {
        let conditions = error.children().iter();
        conditions.filter(|child| child.namespace == ns::STANZA_ERRORS).find(|c| c.name != "text")
    });
    condition.map(|condition| printable(&condition.name)).unwrap_or_default()
}

/// A framer inside a stream whose header declares what every stream's does.
fn in_stream() -> Framer {
    // They were checked when they came in; here only their borders are looked for.
    let limits = xml::Limits {
        header: usize::MAX,
        element: usize::MAX,
        depth: usize::MAX,
        attributes: usize::MAX,
        // declarations of the header that they came under are among their own
        grace: GRACE,
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
    framer
}

/// Calls `visit` with the place, the bytes and the tag of each stanza.
fn each(bytes: &Bytes, mut visit: impl FnMut(usize, &[u8], &Tag)) {
    let mut framer = in_stream();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        auth::{
            Proof,
            ledger::{AuthorizedPair, Ledger},
        },
        stream::FailureKind,
        xmpp::{Domain, DomainPair},
    };

    const MESSAGE: &str =
        "<message from='u@a.example/r' to='v@l.example' id='1'><body>x</body></message>";
    const IQ: &str =
        "<iq from='u@a.example' to='v@l.example' id='2' type='get'><q xmlns='x:y'/></iq>";
    const RESULT: &str = "<iq from='a.example' to='v@l.example' id='3' type='result'/>";
    const PRESENCE: &str = "<presence from='u@a.example' to='v@l.example'/>";
    const ERROR: &str = "<message type=\"error\" to='v@l.example' from='a.example'>&lt;</message>";

    fn grant() -> AuthorizedPair {
        let [a, l] = ["a.example", "l.example"].map(|name| Domain::parse(name).unwrap());
        let proof = Proof::dialback(a.clone(), None);
        Ledger::default().authorize(DomainPair::new(a, l), proof).unwrap()
    }

    fn batch(stanzas: &[&str]) -> Routable {
        Routable::new(&grant(), stanzas.concat().into(), u32::try_from(stanzas.len()).unwrap())
    }

    fn text(batch: &Routable) -> (&str, u32) {
        (std::str::from_utf8(batch.bytes()).unwrap(), batch.stanzas())
    }

    #[test]
    fn a_stanza_that_went_out_in_part_is_left() {
        let stanzas = [MESSAGE, IQ, "<presence from='a.example' to='l.example' type='probe'/>"];
        let whole = batch(&stanzas);
        let all = stanzas.concat();
        let ends = [MESSAGE.len(), MESSAGE.len() + IQ.len(), all.len()];
        for sent in 0..=all.len() + 1 {
            let gone = ends.iter().filter(|end| **end <= sent).count();
            let from = if gone == 0 { 0 } else { ends[gone - 1] };
            let (done, left) = divided(&whole, 0, sent);
            assert_eq!(done.map_or("".into(), |done| text(&done).0.to_owned()), all[..from]);
            match left {
                None => assert_eq!(gone, stanzas.len(), "{sent}"),
                Some(left) => {
                    assert_eq!(text(&left), (&all[from..], 3 - u32::try_from(gone).unwrap()));
                    assert_eq!(left.pair(), whole.pair());
                }
            }
        }
    }

    #[test]
    fn what_is_acknowledged_is_neither_in_doubt_nor_left() {
        let whole = batch(&[MESSAGE, IQ, RESULT, PRESENCE]);
        let lens = [MESSAGE, IQ, RESULT, PRESENCE].map(str::len);
        let sent = lens[..3].iter().sum::<usize>() + 1;
        for known in 0..=5u32 {
            let (doubtful, left) = divided(&whole, known, sent);
            let count = |part: Option<Routable>| part.map_or(0, |part| part.stanzas());
            assert_eq!(count(doubtful.clone()), 3u32.saturating_sub(known), "{known}");
            assert_eq!(count(left.clone()), u32::from(known < 4), "{known}");
            if let Some(doubtful) = &doubtful {
                let first = [MESSAGE, IQ, RESULT][known as usize];
                assert!(text(doubtful).0.starts_with(first) && text(doubtful).0.ends_with(RESULT));
            }
            if let Some(left) = &left {
                assert_eq!(text(left).0, PRESENCE);
            }
        }
    }

    #[test]
    fn stanzas_are_sorted_by_size_and_keep_their_order() {
        let whole = batch(&[PRESENCE, MESSAGE, RESULT, MESSAGE, PRESENCE]);
        let largest = MESSAGE.len() - 1;
        let (small, large) = sorted(&whole, largest);
        assert_eq!(text(&small.unwrap()), (&*[PRESENCE, RESULT, PRESENCE].concat(), 3));
        assert_eq!(text(&large.unwrap()), (&*[MESSAGE, MESSAGE].concat(), 2));
        let (small, large) = sorted(&whole, MESSAGE.len());
        assert_eq!(small.unwrap().bytes(), whole.bytes());
        assert!(large.is_none());
        let (small, large) = sorted(&whole, 10);
        assert_eq!((small.is_none(), large.unwrap().stanzas()), (true, 5));
    }

    #[test]
    fn errors_go_back_the_other_way_for_what_may_be_answered() {
        let failure = Failure::new(FailureKind::Unreachable, "detail for the log");
        let whole = batch(&[MESSAGE, RESULT, IQ, ERROR, PRESENCE]);
        let (replies, none) = bounces(&whole, &failure);
        let replies = replies.unwrap();
        assert_eq!(replies.pair(), &whole.pair().reversed());
        assert_eq!(replies.stanzas() + none, whole.stanzas());
        let mut found = Vec::new();
        each(replies.bytes(), |_, stanza, tag| {
            let value = |span: Option<xml::Span>| span.unwrap().text(stanza).into_owned();
            found.push((value(tag.from), value(tag.to), value(tag.id), value(tag.type_)));
        });
        let from = || "v@l.example".to_owned();
        let error = || "error".to_owned();
        assert_eq!(found.len() as u32, replies.stanzas());
        assert_eq!(
            found[..2],
            [
                (from(), "u@a.example/r".to_owned(), "1".to_owned(), error()),
                (from(), "u@a.example".to_owned(), "2".to_owned(), error()),
            ]
        );
        let text = text(&replies).0;
        assert_eq!(text.matches("<remote-server-timeout ").count(), found.len());
        assert!(text.contains(failure.text()) && !text.contains("detail"), "{text}");
    }

    #[test]
    fn what_may_not_be_answered_gets_no_error() {
        let failure = Failure::new(FailureKind::Denied, "");
        let (replies, none) = bounces(&batch(&[RESULT, ERROR]), &failure);
        assert!(replies.is_none(), "{replies:?}");
        assert_eq!(none, 2);
    }

    #[test]
    fn stanzas_are_found_whatever_stands_in_them() {
        let odd = [
            "<message to='l.example' from='a.example'><a xmlns='x:y' b='>'/><![CDATA[<presence/>]]></message>",
            "<p:x xmlns:p='p:q'/>",
            "<presence from=\"a.example\" to=\"l.example\"><s xmlns='x:y'>&#x20AC;€</s></presence>",
        ];
        let whole = batch(&odd);
        let mut found = Vec::new();
        each(whole.bytes(), |start, stanza, _| {
            found.push((start, std::str::from_utf8(stanza).unwrap().to_owned()));
        });
        let starts = [0, odd[0].len(), odd[0].len() + odd[1].len()];
        let expected: Vec<_> = starts.into_iter().zip(odd.map(str::to_owned)).collect();
        assert_eq!(found, expected);
    }
}
