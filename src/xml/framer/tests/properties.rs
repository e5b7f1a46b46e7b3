//! What holds for any bytes: cuts make no difference, and `rxml` agrees.

use std::cell::Cell;

use super::*;
use crate::xml::oracle;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

/// Tokens in comparable form; white space is left out, as it may come in any number of pieces.
fn comparable(tokens: &[(TokenKind, Vec<u8>)]) -> Vec<String> {
    let mut shown = Vec::new();
    for (kind, bytes) in tokens {
        if !matches!(kind, TokenKind::Space) {
            shown.push(format!("{kind:?} {bytes:x?}"));
        }
    }
    shown
}

#[test]
fn cuts_make_no_difference() {
    let faults = Cell::new(0);
    let limits = prop_oneof![
        3 => Just(LIMITS),
        1 => (100_usize..600, 40_usize..200, 2_usize..4, 2_usize..6, 1_usize..4).prop_map(
            |(header, element, depth, attributes, grace)| Limits { header, element, depth, attributes, grace },
        ),
    ];
    let cuts = prop::collection::vec(any::<prop::sample::Index>(), 0..8);
    let strategy = (oracle::damaged_streams(), limits, cuts);
    let result = runner(1500).run(&strategy, |(bytes, limits, cuts)| {
        let (tokens, fault) = run(limits, &bytes, []);
        faults.set(faults.get() + u32::from(fault.is_some()));
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        for cuts in [cuts, (0..bytes.len()).collect()] {
            let (pieces, same) = run(limits, &bytes, cuts);
            prop_assert_eq!(same, fault);
            prop_assert_eq!(comparable(&pieces), comparable(&tokens));
        }
        Ok(())
    });
    result.unwrap();
    assert!((150..1350).contains(&faults.get()), "{}", faults.get());
}

#[test]
fn a_strict_parser_agrees() {
    let (accepted, refused) = (Cell::new(0), Cell::new(0));
    let result = runner(3000).run(&oracle::damaged_streams(), |bytes| {
        let (tokens, fault) = run(LIMITS, &bytes, []);
        let theirs = oracle::read(&bytes);
        if theirs.stumbled() {
            return Ok(());
        }
        let mut end = 0;
        let mut ours = Vec::new();
        for (kind, bytes) in &tokens {
            end += bytes.len();
            if let TokenKind::Element(tag) = kind {
                ours.push((end, tag.from.map(|span| span.text(bytes).into_owned())));
            }
        }
        let theirs_seen: Vec<_> = theirs
            .elements
            .iter()
            .map(|element| (element.end, element.attribute("from").map(str::to_owned)))
            .collect();
        let rest = String::from_utf8_lossy(&bytes[tokens.iter().map(|(_, b)| b.len()).sum()..]);
        // rxml lets the last of two declarations of the default namespace win
        let twice = fault == Some(Fault::DuplicateAttribute)
            && rest.split('<').any(|tag| tag.matches("xmlns").count() > 1);
        if twice || fault.is_some_and(is_stricter) {
            prop_assert!(theirs_seen.starts_with(&ours), "{:?} {:?}", ours, theirs);
            return Ok(());
        }
        let complete =
            fault.is_none() && tokens.iter().any(|(k, _)| matches!(k, TokenKind::Footer));
        let count = if complete { &accepted } else { &refused };
        count.set(count.get() + 1);
        prop_assert_eq!(&ours, &theirs_seen, "{:?} {:?}", fault, theirs);
        prop_assert_eq!(complete, theirs.complete, "{:?} {:?}", fault, theirs);
        if !complete && fault.is_none() {
            let at_end = matches!(theirs.error, Some(rxml::Error::InvalidEof(_)));
            prop_assert!(at_end, "{:?}", theirs);
        }
        Ok(())
    });
    result.unwrap();
    let counts = (accepted.get(), refused.get());
    assert!(counts.0 > 300 && counts.1 > 300, "{counts:?}");
}

/// Where the framer refuses what `rxml` accepts: rules of XMPP beyond those of XML, namespace
/// names that expat stumbles over, and limits.
fn is_stricter(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::ContentNamespace
            | Fault::EmptyStream
            | Fault::ForeignName
            | Fault::NamespaceName
            | Fault::PrefixedStanza
            | Fault::RootName
            | Fault::RootNamespace
            | Fault::SecondHeader
            | Fault::StreamText
    )
}
