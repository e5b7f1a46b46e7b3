//! Which servers of XEP-0238 §2 reach which, as the rules judge what both ends then have: fedgate
//! takes TLS and proofs where they are to be had, whatever the level asks for.

use super::*;

/// A server type of XEP-0238 §2.
struct Kind {
    level: &'static str,
    /// XMPP 1.0, which is STARTTLS.
    tls: bool,
    /// Its certificate is of a CA that all trust.
    issued: bool,
    dialback: bool,
}

const KINDS: [Kind; 6] = [
    Kind { level: "verified", tls: false, issued: false, dialback: true },
    Kind { level: "verified", tls: true, issued: false, dialback: true },
    Kind { level: "verified", tls: true, issued: true, dialback: true },
    Kind { level: "encrypted", tls: true, issued: false, dialback: true },
    Kind { level: "encrypted", tls: true, issued: true, dialback: true },
    Kind { level: "trusted", tls: true, issued: true, dialback: false },
];

/// The table of XEP-0238 §3: a row for each initiating type, a column for each receiving one.
const PUBLISHED: [&str; 6] = ["VVVUUU", "VVEEUU", "VVEEET", "UEEEEU", "UETETT", "UUTUTT"];

/// Where fedgate comes to something else: initiating and receiving type, its outcome, and why.
const DIFFERENT: [(usize, usize, char, &str); 5] = [
    (2, 2, 'E', "§5.2 assumes that TLS is not tried; fedgate takes it where it is offered"),
    (2, 5, 'E', "the table contradicts §5.5, where dialback succeeds after TLS"),
    (3, 2, 'E', "§6.2 assumes that TLS is not tried; fedgate takes it where it is offered"),
    (3, 3, 'T', "certificates that prove both ends count, whether or not they are needed"),
    (3, 5, 'T', "the table contradicts §6.5, where SASL EXTERNAL succeeds"),
];

/// What the weaker of both ends has of the other, if it is enough for both.
fn outcome(initiating: &Kind, receiving: &Kind) -> char {
    let tls = (initiating.tls && receiving.tls).then_some(TlsVersion::V1_2);
    let strong = |kind: &Kind| (tls.is_some() && kind.issued).then_some(Prooftype::Pkix);
    let dialback = initiating.dialback && receiving.dialback;
    let Some(proof) = strong(initiating).or(dialback.then_some(Prooftype::Dialback)) else {
        return 'U';
    };
    let enough = |judge: &Kind, direction, prooftype, strong| {
        let policy = policy(&format!("rules: [{{ match: peer.test, level: {} }}]", judge.level));
        let (local, remote) = (domain("legacy.test"), domain("peer.test"));
        let query = Query { local: Some(&local), remote: &remote, direction, address: None };
        policy.decide(&query).enough(tls, prooftype, strong).is_ok()
    };
    // who opens a stream needs no proof but what the level wants
    let there = strong(receiving);
    if !enough(receiving, Inbound, Some(proof), strong(initiating))
        || !enough(initiating, Outbound, there, there)
    {
        return 'U';
    }
    let reached =
        [initiating, receiving].map(|kind| Level::of(tls.is_some(), strong(kind).is_some()));
    match reached.into_iter().min() {
        Some(Level::Trusted) => 'T',
        Some(Level::Encrypted) => 'E',
        Some(Level::Verified | Level::Permissive) | None => 'V',
    }
}

#[test]
fn the_outcomes_are_those_of_xep_0238_but_for_some_that_are_stronger() {
    for (from, (initiating, row)) in KINDS.iter().zip(PUBLISHED).enumerate() {
        for (to, (receiving, published)) in KINDS.iter().zip(row.chars()).enumerate() {
            let (from, to) = (from + 1, to + 1);
            let different = DIFFERENT.iter().find(|row| (row.0, row.1) == (from, to));
            let (expected, why) =
                different.map_or((published, "as published"), |row| (row.2, row.3));
            assert_eq!(outcome(initiating, receiving), expected, "{from} to {to}: {why}");
            assert!(
                different.is_none() || expected != published,
                "{from} to {to} is no difference"
            );
        }
    }
}
