use std::time::Duration;

use super::*;
use crate::auth::{pkix::Fingerprint, proof};

fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn certificate() -> CertificateDer<'static> {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap();
    params.self_signed(&key).unwrap().into()
}

fn strong(by: Prooftype) -> Proof {
    let evidence = proof::Evidence { dnssec: false, expires: at(u64::MAX) };
    Proof::assertion(domain("a.test"), by, Fingerprint::of(&[][..].into()), evidence)
}

fn weak() -> Proof {
    Proof::dialback(domain("a.test"), None)
}

fn trusted(leaf: Option<&CertificateDer<'_>>, now: u64) -> Shown {
    Shown::new(Some(TlsVersion::V1_3), Some(&strong(Prooftype::Pkix)), leaf, at(now))
}

fn encrypted(leaf: Option<&CertificateDer<'_>>, now: u64) -> Shown {
    Shown::new(Some(TlsVersion::V1_3), Some(&weak()), leaf, at(now))
}

fn clear(now: u64) -> Shown {
    Shown::new(None, Some(&weak()), None, at(now))
}

const IN: Direction = Direction::Inbound;
const OUT: Direction = Direction::Outbound;

#[test]
fn a_lower_level_is_weaker_and_leaves_the_best() {
    let (a, mut memory) = (domain("a.test"), Memory::default());
    assert_eq!(memory.compare(&a, IN, &clear(1)), None);
    assert!(memory.saw(&a, IN, &clear(1), false).is_news);
    assert!(memory.saw(&a, IN, &encrypted(None, 2), false).is_news);
    assert!(memory.saw(&a, IN, &trusted(None, 3), false).is_news);
    let best = trusted(None, 3).reached;
    for shown in [encrypted(None, 4), clear(4)] {
        assert_eq!(memory.compare(&a, IN, &shown), Some(Change::Weaker(best)));
        memory.saw(&a, IN, &shown, false);
        let record = memory.get(&a, IN).unwrap();
        assert_eq!((record.best, record.last), (best, shown.reached));
    }
    assert_eq!(memory.compare(&a, IN, &trusted(None, 5)), None);
    // neither the other direction nor another domain
    assert_eq!(memory.compare(&a, OUT, &clear(5)), None);
    assert_eq!(memory.compare(&domain("b.test"), IN, &clear(5)), None);
}

#[test]
fn whoever_follows_expects_from_then_on_what_came_last() {
    let (a, mut memory) = (domain("a.test"), Memory::default());
    memory.saw(&a, IN, &trusted(None, 1), true);
    assert!(memory.saw(&a, IN, &encrypted(None, 2), true).is_news);
    assert_eq!(memory.get(&a, IN).unwrap().best, encrypted(None, 2).reached);
    assert_eq!(memory.compare(&a, IN, &encrypted(None, 3)), None);
}

#[test]
fn only_keys_that_nothing_vouches_for_are_expected_again() {
    let (a, [one, two]) = (domain("a.test"), [certificate(), certificate()]);
    let mut memory = Memory::default();
    memory.saw(&a, OUT, &encrypted(Some(&one), 1), false);
    let best = encrypted(Some(&one), 1).reached;
    assert_eq!(memory.compare(&a, OUT, &encrypted(Some(&one), 2)), None);
    for other in [Some(&two), None] {
        let change = memory.compare(&a, OUT, &encrypted(other, 2));
        assert_eq!(change, Some(Change::OtherKey(best)));
    }
    // once let in it is known, beside the first
    assert!(memory.saw(&a, OUT, &encrypted(Some(&two), 2), false).is_news);
    for known in [&one, &two] {
        assert_eq!(memory.compare(&a, OUT, &encrypted(Some(known), 3)), None);
    }
    assert_eq!(memory.get(&a, OUT).unwrap().keys().count(), 2);
    // a proof is more than a key
    assert_eq!(memory.compare(&a, OUT, &trusted(Some(&certificate()), 4)), None);
    memory.saw(&a, OUT, &trusted(Some(&one), 4), false);
    let renewed = trusted(Some(&two), 5);
    assert_eq!(memory.compare(&a, OUT, &renewed), Some(Change::Renewed));
}

#[test]
fn keys_of_a_domain_are_bounded() {
    let (a, mut memory) = (domain("a.test"), Memory::default());
    for _ in 0..KEYS_MAX + 2 {
        memory.saw(&a, OUT, &encrypted(Some(&certificate()), 1), false);
    }
    assert_eq!(memory.get(&a, OUT).unwrap().keys().count(), KEYS_MAX);
}

#[test]
fn the_time_alone_is_news_after_an_hour() {
    let (a, mut memory) = (domain("a.test"), Memory::default());
    assert!(memory.saw(&a, IN, &trusted(None, 10), false).is_news);
    assert!(!memory.saw(&a, IN, &trusted(None, 20), false).is_news);
    assert!(memory.saw(&a, IN, &trusted(None, 20 + STALE), false).is_news);
    assert_eq!(memory.get(&a, IN).unwrap().last.at, 20 + STALE);
    assert!(memory.was_refused(&domain("b.test"), IN, at(1)));
    assert!(!memory.was_refused(&domain("b.test"), IN, at(2)));
    assert!(!memory.was_refused(&a, IN, at(2)), "more is known of it");
}

#[test]
fn the_weakest_are_forgotten_first_and_then_the_oldest() {
    let mut memory = Memory::default();
    let name = |kind: &str, n: usize| domain(&format!("{kind}{n}.test"));
    for n in 0..100 {
        memory.saw(&name("strong", n), IN, &trusted(None, 1), false);
    }
    for n in 0..RECORDS_MAX {
        memory.saw(&name("weak", n), IN, &encrypted(None, 2 + n as u64), false);
    }
    assert!(memory.records.len() <= RECORDS_MAX);
    assert!((0..100).all(|n| memory.get(&name("strong", n), IN).is_some()));
    assert!(memory.get(&name("weak", 0), IN).is_none());
    assert!(memory.get(&name("weak", RECORDS_MAX - 1), IN).is_some());
    for n in 0..=REFUSED_MAX {
        memory.was_refused(&name("refused", n), IN, at(n as u64));
    }
    assert!(memory.refused.len() <= REFUSED_MAX);
    assert!(memory.refused.contains_key(&(name("refused", REFUSED_MAX), IN)));
}

#[test]
fn a_certificate_for_all_names_of_a_domain_drives_out_only_these() {
    let mut memory = Memory::default();
    let name = |kind: &str, n: usize, of: &str| domain(&format!("{kind}{n}.{of}"));
    for n in 0..100 {
        memory.saw(&name("key", n, "test"), IN, &encrypted(None, 1), false);
        memory.saw(&name("bank", n, "test"), IN, &trusted(None, 1), false);
        memory.saw(&name("bank", n, "co.test"), IN, &trusted(None, 1), false);
    }
    let count = RECORDS_MAX + 2 * step(RECORDS_MAX);
    let mut forgotten = Vec::new();
    for (n, below) in (0..count).zip(["evil.test", "a.evil.test", "evil.co.test"].iter().cycle()) {
        let newest = name("n", n, below);
        let seen = memory.saw(&newest, IN, &trusted(None, 2 + n as u64), false);
        forgotten.extend(seen.forgotten);
        assert!(memory.records.len() <= RECORDS_MAX && memory.get(&newest, IN).is_some());
    }
    for n in 0..100 {
        for (kind, of) in [("key", "test"), ("bank", "test"), ("bank", "co.test")] {
            assert!(memory.get(&name(kind, n, of), IN).is_some(), "{kind}{n}.{of}");
        }
    }
    let Forgotten { records, trusted, crowd, of_crowd } = &forgotten[0];
    assert_eq!((*records, *trusted, crowd.as_str()), (step(RECORDS_MAX), *records, "evil.test"));
    assert!(*of_crowd > RECORDS_MAX / 2);
}

#[test]
fn one_domain_may_have_more_records_while_there_is_room() {
    let mut memory = Memory::default();
    for n in 0..2 * CROWD_MAX {
        let seen = memory.saw(&domain(&format!("n{n}.a.test")), IN, &trusted(None, 1), false);
        assert_eq!(seen.forgotten, None);
    }
}

#[test]
fn names_end_in_these_labels() {
    for (name, two, three) in [
        ("a.test", "a.test", "a.test"),
        ("b.a.test", "a.test", "b.a.test"),
        ("d.c.b.a.test", "a.test", "b.a.test"),
    ] {
        assert_eq!((last_labels(name, 2), last_labels(name, 3)), (two, three));
    }
}

#[test]
fn what_is_written_is_read_again() {
    let mut memory = Memory::default();
    let leaf = certificate();
    memory.saw(&domain("a.test"), IN, &trusted(Some(&leaf), 7), false);
    memory.saw(&domain("a.test"), IN, &clear(8), false);
    memory.saw(&domain("b.test"), OUT, &encrypted(Some(&leaf), 9), false);
    memory.saw(&domain("c.test"), OUT, &Shown::new(None, None, None, at(9)), false);
    memory.was_refused(&domain("münchen.test"), IN, at(10));
    let text = memory.to_lines();
    assert_eq!(text.lines().count(), 5);
    assert_eq!(Memory::of_lines(&text).unwrap(), memory);
    assert_eq!(Memory::of_lines(&Memory::default().to_lines()).unwrap(), Memory::default());
}

#[test]
fn what_is_broken_is_not_read() {
    let head = r#"{"format":"fedgate memory","version":1}"#;
    let sight = r#"{"level":"verified","at":1}"#;
    let line =
        |more: &str| format!("{head}\n{{\"domain\":\"a.test\",\"direction\":\"inbound\"{more}}}");
    let good = line(&format!(r#","best":{sight},"last":{sight}"#));
    assert!(Memory::of_lines(&good).is_ok());
    for (text, at) in [
        (String::new(), 1),
        ("{}".to_owned(), 1),
        (head.replace('1', "2"), 1),
        (good[..good.len() - 4].to_owned(), 2),
        (good.replace("inbound", "sideways"), 2),
        (good.replace("a.test", "a b"), 2),
        (good.replace("verified", "trusted"), 2),
        (line(""), 2),
        (line(r#","refused":1,"more":2"#), 2),
        (line(&format!(r#","best":{sight},"last":{sight},"keys":["sha256/AA"]"#)), 2),
    ] {
        let error = Memory::of_lines(&text).unwrap_err();
        assert_eq!(error.line, at, "{text}: {error}");
    }
}
