//! Counters at their edges, and what elements say (attack row A-24).

use super::*;
use crate::stream::wire::{Piece, piece};

fn said(xml: &str) -> Option<Said> {
    let Piece::Element(name, element) = piece(xml) else { panic!("{xml}") };
    Said::parse(name, &element)
}

#[test]
fn what_is_sent_is_acknowledged_bit_by_bit() {
    let mut sent = Sent::default();
    assert_eq!(sent.acknowledge(0), Ok(0));
    sent.put(5);
    assert_eq!((sent.acknowledge(2), sent.outstanding()), (Ok(2), 3));
    assert_eq!((sent.acknowledge(2), sent.outstanding()), (Ok(0), 3));
    sent.put(1);
    assert_eq!((sent.acknowledge(6), sent.outstanding()), (Ok(4), 0));
}

#[test]
fn nothing_is_acknowledged_that_was_not_sent() {
    // SM-4
    let mut sent = Sent::default();
    assert_eq!(sent.acknowledge(1), Err(TooHigh { h: 1, sent: 0 }));
    sent.put(3);
    assert_eq!(sent.acknowledge(4), Err(TooHigh { h: 4, sent: 3 }));
    assert_eq!(sent.acknowledge(u32::MAX), Err(TooHigh { h: u32::MAX, sent: 3 }));
    assert_eq!(sent.acknowledge(2), Ok(2));
    // less than before is more by nearly 2^32
    assert_eq!(sent.acknowledge(1), Err(TooHigh { h: 1, sent: 3 }));
    // a fault changes nothing
    assert_eq!((sent.acknowledge(3), sent.outstanding()), (Ok(1), 0));
}

#[test]
fn counters_go_round_at_two_to_the_thirty_two() {
    // SM-3
    let mut sent = Sent::resumed(u32::MAX - 1);
    sent.put(4);
    assert_eq!(sent.outstanding(), 4);
    assert_eq!((sent.acknowledge(u32::MAX), sent.outstanding()), (Ok(1), 3));
    assert_eq!(sent.acknowledge(3), Err(TooHigh { h: 3, sent: 2 }));
    assert_eq!((sent.acknowledge(0), sent.outstanding()), (Ok(1), 2));
    assert_eq!((sent.acknowledge(2), sent.outstanding()), (Ok(2), 0));
}

#[test]
fn what_was_never_sent_does_not_count() {
    let mut sent = Sent::default();
    sent.put(5);
    sent.take_back(2);
    assert_eq!(sent.acknowledge(4), Err(TooHigh { h: 4, sent: 3 }));
    assert_eq!((sent.acknowledge(3), sent.outstanding()), (Ok(3), 0));
}

#[test]
fn numbers_are_unsigned_and_have_thirty_two_bits() {
    for (text, expected) in [
        ("0", Some(0)),
        ("4294967295", Some(u32::MAX)),
        ("007", Some(7)),
        (" 7\n", Some(7)),
        ("+7", Some(7)),
        ("4294967296", None),
        ("-1", None),
        ("-0", None),
        ("++7", None),
        ("1e3", None),
        ("0x7", None),
        ("７", None),
        ("7 7", None),
        ("+", None),
        ("", None),
    ] {
        assert_eq!(count(text), expected, "{text:?}");
        let text: &str = &text.replace('\n', "&#10;");
        let answer = said(&format!("<a xmlns='urn:xmpp:sm:3' h='{text}'/>"));
        assert_eq!(answer, expected.map(Said::Answer), "{text:?}");
    }
}

#[test]
fn elements_say_what_they_have_to() {
    let resumption = |id: &str, max: Option<u64>| {
        Some(Resumption { id: id.into(), max: max.map(Duration::from_secs) })
    };
    let former = |id: &str, h| Former { id: id.into(), h };
    let long = "x".repeat(4001);
    for (xml, expected) in [
        ("<r {}/>".to_owned(), Some(Said::Request)),
        ("<a {}/>".to_owned(), None),
        ("<enable {}/>".to_owned(), Some(Said::Enable { resume: false })),
        ("<enable {} resume='1' max='600'/>".to_owned(), Some(Said::Enable { resume: true })),
        ("<enable {} resume='yes'/>".to_owned(), Some(Said::Enable { resume: false })),
        ("<enabled {}/>".to_owned(), Some(Said::Enabled(None))),
        ("<enabled {} id='a'/>".to_owned(), Some(Said::Enabled(None))),
        ("<enabled {} resume='true'/>".to_owned(), Some(Said::Enabled(None))),
        (
            "<enabled {} id='a&amp;b' resume='true' max='5'/>".to_owned(),
            Some(Said::Enabled(resumption("a&b", Some(5)))),
        ),
        (
            "<enabled {} id='a' resume='true' max='-5'/>".to_owned(),
            Some(Said::Enabled(resumption("a", None))),
        ),
        (format!("<enabled {{}} id='{long}' resume='true'/>"), Some(Said::Enabled(None))),
        ("<failed {}/>".to_owned(), Some(Said::Failed(None))),
        ("<failed {} h='4'/>".to_owned(), Some(Said::Failed(Some(4)))),
        ("<resume {} previd='a' h='4'/>".to_owned(), Some(Said::Resume(former("a", 4)))),
        ("<resumed {} previd='a' h='4'/>".to_owned(), Some(Said::Resumed(former("a", 4)))),
        ("<resume {} previd='a'/>".to_owned(), None),
        ("<resume {} h='4'/>".to_owned(), None),
        ("<resume {} previd='' h='4'/>".to_owned(), None),
        (format!("<resume {{}} previd='{long}' h='4'/>"), None),
        ("<resumed {} previd='a' h='-4'/>".to_owned(), None),
    ] {
        let xml = xml.replace("{}", "xmlns='urn:xmpp:sm:3'");
        assert_eq!(said(&xml), expected, "{xml}");
    }
}
