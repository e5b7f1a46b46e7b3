//! Certificates against TLSA records, good and bad.

use std::time::Duration;

use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, GeneralSubtree, IsCa, NameConstraints};
use sha2::{Digest, Sha256, Sha512};
use x509_parser::time::ASN1Time;

use super::*;
use crate::auth::pkix::testing::{Ca, Issued, San, self_signed};

/// 2025-06-15.
const NOW: u64 = 1_750_000_000;
const DAY: u64 = 86_400;
const TTL: u64 = 3600;
const HOST: &str = "xmpp.hoster.example";

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn domain() -> Domain {
    Domain::parse("a.example").unwrap()
}

fn dates(params: &mut CertificateParams, from: u64, to: u64) {
    params.not_before = ASN1Time::from_timestamp(from as i64).unwrap().to_datetime();
    params.not_after = ASN1Time::from_timestamp(to as i64).unwrap().to_datetime();
}

/// The record that means this certificate.
fn record((usage, selector, matching): (u8, u8, u8), of: &CertificateDer<'_>) -> TlsaRecord {
    let selected = match selector {
        0 => of.to_vec(),
        _ => pkix::parse(of).unwrap().public_key().raw.to_vec(),
    };
    let data = match matching {
        0 => selected,
        1 => Sha256::digest(&selected).to_vec(),
        _ => Sha512::digest(&selected).to_vec(),
    };
    TlsaRecord { usage, selector, matching, data: data.into() }
}

fn set(records: Vec<TlsaRecord>) -> TlsaSet {
    TlsaSet { base: "tlsa.hoster.example".into(), records, expires: at(NOW + TTL) }
}

fn chain(of: &[&CertificateDer<'static>]) -> Vec<CertificateDer<'static>> {
    of.iter().map(|certificate| (*certificate).clone()).collect()
}

fn judge(
    chain: &[CertificateDer<'_>],
    records: Vec<TlsaRecord>,
    roots: &TrustRoots,
) -> Result<Proof, Unproven> {
    let plan = DanePlan::Match(set(records));
    plan.judge(chain, &domain(), HOST, Some(at(NOW + 2 * TTL)), roots, at(NOW))
}

fn words(result: Result<Proof, Unproven>) -> String {
    result.map_or_else(|error| error.to_string(), |proof| proof.prooftype().to_string())
}

const ALL: [(u8, u8); 6] = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)];

#[test]
fn usage_3_means_the_leaf_whatever_its_names_dates_and_issuer() {
    let wrong_in_all_else = self_signed(&[San::Dns("other.example")], |p| {
        dates(p, NOW - 9 * DAY, NOW - DAY);
        p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        p.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    });
    let leaf = chain(&[&wrong_in_all_else.certificate]);
    for (selector, matching) in ALL {
        let record = record((3, selector, matching), &leaf[0]);
        let proof = judge(&leaf, vec![record], &TrustRoots::new()).unwrap();
        assert_eq!(proof.domain(), &domain());
        assert_eq!(proof.prooftype(), Prooftype::Dane);
        assert_eq!(proof.fingerprint(), Some(Fingerprint::of(&leaf[0])));
        assert_eq!(proof.expires(), Some(at(NOW + TTL)));
        assert!(proof.is_strong() && proof.rests_on_dnssec());
    }
}

#[test]
fn a_key_is_found_in_a_certificate_of_which_nothing_else_can_be_read() {
    let mut damaged = self_signed(&[], |p| dates(p, NOW - DAY, NOW)).certificate.to_vec();
    let leaf = CertificateDer::from(damaged.clone());
    let date = damaged.windows(2).position(|tag| tag == [0x17, 13]).unwrap();
    damaged[date + 4] = b'x';
    let sent = [CertificateDer::from(damaged)];
    assert!(pkix::parse(&sent[0]).is_err());
    for matching in 0..=2 {
        let records = vec![record((3, 1, matching), &leaf)];
        assert_eq!(words(judge(&sent, records.clone(), &TrustRoots::new())), "dane");
        let client = verify_client(&sent, &[set(records)], &domain(), at(NOW));
        assert!(matches!(client, Outcome::Match(_)), "{client:?}");
    }
}

#[test]
fn usage_3_does_not_mean_another_leaf_even_if_pkix_would_take_it() {
    let ca = Ca::new("Root");
    let (good, other) = (ca.server(&["a.example"]), ca.server(&["a.example"]));
    let sent = chain(&[&good.certificate, &ca.certificate]);
    for (selector, matching) in ALL {
        // of another leaf, and of the right CA with the wrong usage
        for of in [&other.certificate, &ca.certificate] {
            let result = judge(&sent, vec![record((3, selector, matching), of)], &ca.roots());
            assert_eq!(
                words(result),
                "certificate matches no TLSA record of tlsa.hoster.example (1 usable)"
            );
        }
    }
}

#[test]
fn usage_2_is_a_trust_anchor_and_names_and_dates_count() {
    let ca = Ca::new("Own");
    let middle = ca.intermediate("Middle", |_| {});
    let issue = |names: &[San<'_>], from, to| middle.issue(names, |p| dates(p, from, to));
    let good = issue(&[San::Dns("a.example")], NOW - DAY, NOW + DAY);
    let by_host = issue(&[San::Dns(HOST)], NOW - DAY, NOW + DAY);
    let by_base = issue(&[San::Dns("tlsa.hoster.example")], NOW - DAY, NOW + DAY);
    let wrong_name = issue(
        &[San::Dns("b.example"), San::Srv("_xmpp-server.xmpp.hoster.example")],
        NOW - DAY,
        NOW + DAY,
    );
    let expired = issue(&[San::Dns("a.example")], NOW - 9 * DAY, NOW - DAY);
    let sent = |leaf: &Issued| chain(&[&leaf.certificate, &middle.certificate, &ca.certificate]);
    for (selector, matching) in ALL {
        for of in [&ca.certificate, &middle.certificate] {
            let ask = |leaf| {
                judge(&sent(leaf), vec![record((2, selector, matching), of)], &TrustRoots::new())
            };
            for leaf in [&good, &by_host, &by_base] {
                let proof = ask(leaf).unwrap();
                assert_eq!(proof.prooftype(), Prooftype::Dane);
                assert_eq!(proof.expires(), Some(at(NOW + TTL)));
            }
            assert_eq!(
                words(ask(&wrong_name)),
                "certificate does not follow from the CA in the TLSA records of \
                 tlsa.hoster.example: certificate is not for a.example but for b.example, \
                 _xmpp-server.xmpp.hoster.example"
            );
            assert!(
                words(ask(&expired)).ends_with(": certificate expired on 2025-06-14 15:06:40 UTC")
            );
        }
    }
}

#[test]
fn usage_2_needs_the_ca_to_be_sent_unless_the_record_is_the_ca() {
    let ca = Ca::new("Own");
    let middle = ca.intermediate("Middle", |_| {});
    let leaf = middle.server(&["a.example"]);
    let without_root = chain(&[&leaf.certificate, &middle.certificate]);
    let leaf_alone = chain(&[&leaf.certificate]);
    for ((selector, matching), proven) in
        ALL.into_iter().zip([true, false, false, true, false, false])
    {
        for (sent, of) in [(&without_root, &ca.certificate), (&leaf_alone, &middle.certificate)] {
            let result = judge(sent, vec![record((2, selector, matching), of)], &TrustRoots::new());
            assert_eq!(result.is_ok(), proven, "2 {selector} {matching}: {result:?}");
        }
    }
    // the key of somebody else, under whatever name
    let stranger = Ca::new("Own");
    for selector in [0, 1] {
        let result = judge(
            &without_root,
            vec![record((2, selector, 0), &stranger.certificate)],
            &TrustRoots::new(),
        );
        assert!(words(result).ends_with("certificate has a wrong signature"));
    }
}

#[test]
fn usage_2_holds_the_ca_to_its_own_limits() {
    let expired = Ca::root("Old", rcgen::KeyPair::generate().unwrap(), |p| {
        dates(p, NOW - 9 * DAY, NOW - DAY)
    });
    let leaf = expired.server(&["a.example"]);
    let sent = chain(&[&leaf.certificate, &expired.certificate]);
    let result = judge(&sent, vec![record((2, 0, 1), &expired.certificate)], &TrustRoots::new());
    assert!(
        words(result).ends_with("a CA certificate in the chain expired on 2025-06-14 15:06:40 UTC")
    );

    let flat = Ca::root("Flat", rcgen::KeyPair::generate().unwrap(), |p| {
        p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    });
    let below = flat.intermediate("Below", |_| {});
    let leaf = below.server(&["a.example"]);
    let sent = chain(&[&leaf.certificate, &below.certificate, &flat.certificate]);
    let result = judge(&sent, vec![record((2, 1, 1), &flat.certificate)], &TrustRoots::new());
    assert!(words(result).contains("PathLenConstraintViolated"));

    let narrow = Ca::root("Narrow", rcgen::KeyPair::generate().unwrap(), |p| {
        p.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("hoster.example".into())],
            excluded_subtrees: vec![],
        });
    });
    let record = || vec![record((2, 0, 1), &narrow.certificate)];
    let by_host = narrow.server(&[HOST]);
    let by_srv = narrow.issue(&[San::Srv("_xmpp-server.a.example")], |_| {});
    let sent = |leaf: &Issued| chain(&[&leaf.certificate, &narrow.certificate]);
    assert!(judge(&sent(&by_host), record(), &TrustRoots::new()).is_ok());
    assert!(judge(&sent(&by_srv), record(), &TrustRoots::new()).is_err());
}

#[test]
fn usage_1_wants_the_leaf_and_pkix() {
    let ca = Ca::new("Root");
    let leaf = ca.server(&["a.example"]);
    let sent = chain(&[&leaf.certificate]);
    let records = || vec![record((1, 1, 1), &leaf.certificate)];
    let proof = judge(&sent, records(), &ca.roots()).unwrap();
    assert_eq!(proof.prooftype(), Prooftype::Dane);
    let result = judge(&sent, records(), &TrustRoots::new());
    assert!(words(result).starts_with(
        "the TLSA records of tlsa.hoster.example ask for a valid certificate chain too: \
         certificate's issuer is unknown"
    ));
    let alone = self_signed(&[San::Dns("a.example")], |_| {});
    let sent = chain(&[&alone.certificate]);
    let result = judge(&sent, vec![record((1, 0, 2), &alone.certificate)], &ca.roots());
    assert!(words(result).ends_with("certificate is self-signed"));
    let other = ca.server(&["a.example"]);
    let result = judge(&chain(&[&other.certificate]), records(), &ca.roots());
    assert!(words(result).starts_with("certificate matches no TLSA record"));
}

#[test]
fn usage_0_wants_a_ca_of_the_path_and_pkix() {
    let root = Ca::new("Root");
    let middle = root.intermediate("Middle", |_| {});
    let leaf = middle.server(&["a.example"]);
    let stranger = Ca::new("Stranger");
    let sent = chain(&[&leaf.certificate, &middle.certificate]);
    let with_stranger = chain(&[&leaf.certificate, &middle.certificate, &stranger.certificate]);
    let mut both = root.roots();
    both.add(&middle.certificate).unwrap();
    for (selector, matching) in ALL {
        // the root itself is not sent; and where the CA under it is trusted too, the longer path counts
        for (of, roots) in [
            (&root.certificate, &root.roots()),
            (&middle.certificate, &root.roots()),
            (&root.certificate, &both),
            (&middle.certificate, &both),
        ] {
            let result = judge(&sent, vec![record((0, selector, matching), of)], roots);
            assert_eq!(words(result), "dane", "0 {selector} {matching}");
        }
        let record = || vec![record((0, selector, matching), &stranger.certificate)];
        assert_eq!(
            words(judge(&with_stranger, record(), &root.roots())),
            "none of the CAs above the certificate is one that the TLSA records of \
             tlsa.hoster.example ask for"
        );
        let result = judge(&with_stranger, record(), &TrustRoots::new());
        assert!(words(result).contains("ask for a valid certificate chain too"));
    }
}

#[test]
fn any_record_that_matches_will_do() {
    let ca = Ca::new("Root");
    let leaf = ca.server(&["a.example"]);
    let other = ca.server(&["a.example"]);
    let sent = chain(&[&leaf.certificate]);
    let records = vec![
        record((0, 0, 1), &other.certificate),
        record((1, 1, 1), &other.certificate),
        record((2, 0, 1), &other.certificate),
        record((3, 1, 1), &other.certificate),
        record((3, 1, 1), &leaf.certificate),
    ];
    assert!(judge(&sent, records, &TrustRoots::new()).is_ok());
}

#[test]
fn records_that_cannot_be_used_are_none() {
    let leaf = self_signed(&[San::Dns("a.example")], |_| {});
    let bad = |usage, selector, matching, data: &[u8]| TlsaRecord {
        usage,
        selector,
        matching,
        data: data.into(),
    };
    let digest = Sha256::digest(&leaf.certificate);
    let whole = [leaf.certificate.as_ref(), &[0]].concat();
    let unusable = [
        bad(4, 0, 1, &digest),
        bad(255, 0, 1, &digest),
        bad(3, 2, 1, &digest),
        bad(3, 0, 3, &digest),
        bad(3, 0, 255, &digest),
        bad(3, 0, 1, &digest[1..]),
        bad(3, 0, 2, &digest),
        bad(3, 0, 1, &[]),
        bad(3, 0, 0, &[]),
        bad(3, 0, 0, &digest),
        bad(3, 0, 0, &whole),
        bad(3, 1, 0, leaf.certificate.as_ref()),
    ];
    for record in &unusable {
        assert!(!set(vec![record.clone()]).has_usable(), "{record}");
    }
    let sent = chain(&[&leaf.certificate]);
    let all = set(unusable.to_vec());
    let reference = domain();
    let outcome = verify(&sent, &all, &TrustRoots::new(), ReferenceIds::of(&reference), at(NOW));
    assert_eq!(outcome, Outcome::NoUsableRecords);
    // one good one among them counts
    let mut records = unusable.to_vec();
    records.push(record((3, 0, 1), &leaf.certificate));
    assert!(judge(&sent, records, &TrustRoots::new()).is_ok());
}

#[test]
fn only_the_strongest_digest_of_a_usage_and_selector_counts() {
    let leaf = self_signed(&[San::Dns("a.example")], |_| {});
    let other = self_signed(&[San::Dns("a.example")], |_| {});
    let sent = chain(&[&leaf.certificate]);
    let of = |kind, issued: &Issued| record(kind, &issued.certificate);
    for (records, proven) in [
        (vec![of((3, 1, 1), &leaf), of((3, 1, 2), &other)], false),
        (vec![of((3, 1, 1), &other), of((3, 1, 2), &leaf)], true),
        (vec![of((3, 1, 1), &leaf), of((3, 1, 2), &leaf)], true),
        (vec![of((3, 1, 0), &leaf), of((3, 1, 2), &other)], true),
        (vec![of((3, 1, 1), &leaf), of((3, 1, 0), &other)], true),
        (vec![of((3, 0, 1), &leaf), of((3, 1, 2), &other)], true),
        (vec![of((3, 1, 1), &leaf), of((2, 1, 2), &other)], true),
    ] {
        let shown: Vec<_> = records.iter().map(|r| r.to_string()[..6].to_owned()).collect();
        let result = judge(&sent, records, &TrustRoots::new());
        assert_eq!(result.is_ok(), proven, "{shown:?} {result:?}");
    }
}

#[test]
fn a_name_that_only_dns_ties_to_the_domain_counts_if_dnssec_says_so_and_as_long() {
    let ca = Ca::new("Root");
    let leaf = ca.issue(&[San::Dns(HOST)], |p| dates(p, NOW - DAY, NOW + DAY));
    let sent = chain(&[&leaf.certificate]);
    let ask = |plan: &DanePlan| {
        plan.judge(&sent, &domain(), HOST, Some(at(NOW + TTL)), &ca.roots(), at(NOW))
    };
    let proof = ask(&DanePlan::PkixWithTarget).unwrap();
    assert_eq!((proof.prooftype(), proof.domain()), (Prooftype::Pkix, &domain()));
    assert_eq!(proof.expires(), Some(at(NOW + TTL)));
    assert!(proof.rests_on_dnssec());
    assert_eq!(
        words(ask(&DanePlan::NotApplicable)),
        "certificate is not for a.example but for xmpp.hoster.example"
    );
    for plan in [DanePlan::Abort, DanePlan::SkipEndpoint] {
        assert_eq!(words(ask(&plan)), "dns forbids to use the endpoint");
    }
    // its own name lasts as long as the certificate
    let leaf =
        ca.issue(&[San::Dns(HOST), San::Dns("a.example")], |p| dates(p, NOW - DAY, NOW + DAY));
    let proof = DanePlan::PkixWithTarget
        .judge(
            &chain(&[&leaf.certificate]),
            &domain(),
            HOST,
            Some(at(NOW + TTL)),
            &ca.roots(),
            at(NOW),
        )
        .unwrap();
    assert_eq!(proof.expires(), Some(at(NOW + DAY)));
    assert!(!proof.rests_on_dnssec());
}

#[test]
fn a_client_is_held_against_the_records_of_all_endpoints() {
    let ca = Ca::new("Own");
    let leaf = ca.server(&["a.example"]);
    let by_host = ca.server(&[HOST]);
    let stranger = self_signed(&[San::Dns("a.example")], |_| {});
    let ask = |leaf: &Issued, sets: &[TlsaSet]| {
        let sent = chain(&[&leaf.certificate, &ca.certificate]);
        match verify_client(&sent, sets, &domain(), at(NOW)) {
            Outcome::Match(_) => "match",
            Outcome::Mismatch(_) => "mismatch",
            Outcome::NoUsableRecords => "none",
        }
    };
    let of = |kind, issued: &Issued| set(vec![record(kind, &issued.certificate)]);
    let ca_set = || set(vec![record((2, 0, 1), &ca.certificate)]);
    assert_eq!(ask(&leaf, &[]), "none");
    // agility is a matter of each set
    assert_eq!(ask(&leaf, &[of((3, 1, 1), &leaf), of((3, 1, 2), &stranger)]), "match");
    assert_eq!(ask(&leaf, &[of((3, 1, 2), &stranger), of((3, 1, 1), &leaf)]), "match");
    assert_eq!(ask(&leaf, &[of((3, 1, 2), &stranger)]), "mismatch");
    assert_eq!(ask(&leaf, &[ca_set()]), "match");
    assert_eq!(ask(&by_host, &[ca_set()]), "mismatch");
    assert_eq!(ask(&by_host, &[of((3, 0, 1), &by_host)]), "match");
    assert_eq!(
        ask(&leaf, &[of((1, 1, 1), &leaf), set(vec![record((0, 0, 1), &ca.certificate)])]),
        "none"
    );
}

#[test]
fn without_a_certificate_nothing_is_proven() {
    let leaf = self_signed(&[], |_| {});
    let result = judge(&[], vec![record((3, 1, 1), &leaf.certificate)], &TrustRoots::new());
    assert_eq!(words(result), "peer presented no certificate");
}

#[test]
fn a_record_is_shown_as_operators_write_it() {
    let record = TlsaRecord { usage: 3, selector: 1, matching: 9, data: [0xab; 65].into() };
    assert_eq!(record.to_string(), format!("3 1 9 {}…", "ab".repeat(64)));
}

/// Bytes that are sometimes nearly a certificate.
fn der() -> impl Strategy<Value = Vec<u8>> {
    let certificate = self_signed(&[San::Dns("a.example")], |_| {}).certificate.to_vec();
    let length = certificate.len();
    let bent = (0..length, any::<u8>(), 0..=length).prop_map(move |(at, byte, end)| {
        let mut bent = certificate.clone();
        bent[at] = byte;
        bent.truncate(end.max(length - 3));
        bent
    });
    prop_oneof![proptest::collection::vec(any::<u8>(), 0..80), bent]
}

proptest! {
    #[test]
    fn no_record_and_no_certificate_makes_it_panic(
        records in proptest::collection::vec((0..6u8, 0..4u8, 0..5u8, der()), 0..40),
        sent in proptest::collection::vec(der(), 0..12),
    ) {
        let records = records.into_iter().map(|(usage, selector, matching, data)| {
            TlsaRecord { usage, selector, matching, data: data.into() }
        });
        let set = set(records.collect());
        let sent: Vec<_> = sent.iter().map(|der| CertificateDer::from(&der[..])).collect();
        let (domain, roots) = (domain(), TrustRoots::new());
        let reference = ReferenceIds::of(&domain).delegated([Some(HOST), None], at(NOW));
        let _ = verify(&sent, &set, &roots, reference, at(NOW));
        let _ = verify_client(&sent, &[set], &domain, at(NOW));
    }
}
