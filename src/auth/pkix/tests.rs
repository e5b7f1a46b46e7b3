//! Chains and names that prove a domain, and many that do not.

use std::time::Duration;

use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose as Eku, GeneralSubtree, IsCa, KeyPair,
    KeyUsagePurpose, NameConstraints, PublicKeyData, SignatureAlgorithm,
};
use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::time::ASN1Time;

use super::{
    testing::{Ca, San, self_signed},
    *,
};

/// 2025-06-15.
const NOW: u64 = 1_750_000_000;
const DAY: u64 = 86_400;

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

fn judge(
    chain: &[&CertificateDer<'static>],
    roots: &TrustRoots,
    name: &str,
) -> Result<Proof, PkixError> {
    let chain: Vec<_> = chain.iter().map(|certificate| (*certificate).clone()).collect();
    verify(&chain, roots, ReferenceIds::of(&domain(name)), at(NOW))
}

fn reason(result: &Result<Proof, PkixError>) -> &'static str {
    result.as_ref().map_or_else(PkixError::reason, |_| "proven")
}

fn dates(params: &mut CertificateParams, from: u64, to: u64) {
    params.not_before = ASN1Time::from_timestamp(from as i64).unwrap().to_datetime();
    params.not_after = ASN1Time::from_timestamp(to as i64).unwrap().to_datetime();
}

#[test]
fn a_good_chain_proves_the_domain_that_was_asked_and_until_its_first_expiry() {
    let root = Ca::new("Root");
    let middle = root.intermediate("Middle", |p| dates(p, NOW - DAY, NOW + 5 * DAY));
    let leaf = middle.issue(&[San::Dns("*.Example.COM")], |p| dates(p, NOW - DAY, NOW + 90 * DAY));
    let proof =
        judge(&[&leaf.certificate, &middle.certificate], &root.roots(), "a.example.com").unwrap();
    assert_eq!(proof.domain(), &domain("a.example.com"));
    assert_eq!(proof.prooftype(), Prooftype::Pkix);
    assert_eq!(proof.fingerprint(), Some(Fingerprint::of(&leaf.certificate)));
    assert_eq!(proof.expires(), Some(at(NOW + 5 * DAY)));
}

#[test]
fn the_purpose_must_be_servers_in_either_direction() {
    let ca = Ca::new("Root");
    let roots = ca.roots();
    for (purposes, expected) in [
        (vec![], "proven"),
        (vec![Eku::ServerAuth], "proven"),
        (vec![Eku::ClientAuth, Eku::ServerAuth], "proven"),
        (vec![Eku::Any], "proven"),
        (vec![Eku::ClientAuth], "wrong-purpose"),
        (vec![Eku::CodeSigning], "wrong-purpose"),
        (vec![Eku::EmailProtection, Eku::Other(vec![1, 2, 3])], "wrong-purpose"),
    ] {
        let leaf =
            ca.issue(&[San::Dns("a.example")], |p| p.extended_key_usages.clone_from(&purposes));
        let result = judge(&[&leaf.certificate], &roots, "a.example");
        assert_eq!(reason(&result), expected, "{purposes:?}");
        if let Err(error) = result {
            assert!(error.to_string().starts_with("certificate is not for servers, only for "));
        }
    }
}

#[test]
fn each_fault_of_a_leaf_has_its_words() {
    let ca = Ca::new("Root");
    let other = Ca::new("Somebody Else");
    let impostor = Ca::new("Root");
    let roots = ca.roots();
    let names = [San::Dns("a.example")];
    let cases = [
        (
            ca.issue(&names, |p| dates(p, NOW - 9 * DAY, NOW - DAY)),
            "expired",
            "certificate expired on 2025-06-14 15:06:40 UTC",
        ),
        (
            ca.issue(&names, |p| dates(p, NOW + DAY, NOW + 9 * DAY)),
            "not-yet-valid",
            "certificate is not valid before 2025-06-16 15:06:40 UTC",
        ),
        (
            ca.issue(&names, |p| p.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained)),
            "ca-as-leaf",
            "certificate is a CA's own, not that of a server",
        ),
        (
            ca.issue(&names, |p| p.key_usages = vec![KeyUsagePurpose::KeyEncipherment]),
            "key-usage",
            "certificate's key usage does not allow signatures",
        ),
        (self_signed(&names, |_| {}), "self-signed", "certificate is self-signed"),
        (
            other.server(&["a.example"]),
            "unknown-issuer",
            "certificate's issuer is unknown: CN=Somebody Else (0 intermediate certificates sent)",
        ),
        (impostor.server(&["a.example"]), "bad-signature", "certificate has a wrong signature"),
        (
            ca.server(&["b.example", "c.example"]),
            "name-mismatch",
            "certificate is not for a.example but for b.example, c.example",
        ),
        (
            ca.issue(&[], |_| {}),
            "name-mismatch",
            "certificate is not for a.example but for no usable name",
        ),
    ];
    for (leaf, label, words) in cases {
        let result = judge(&[&leaf.certificate], &roots, "a.example");
        assert_eq!(reason(&result), label);
        assert_eq!(result.unwrap_err().to_string(), words);
    }
    assert_eq!(judge(&[], &roots, "a.example"), Err(PkixError::NoCertificate));
}

#[test]
fn each_fault_of_an_issuer_has_its_words() {
    let root = Ca::new("Root");
    let roots = root.roots();
    let lone = Ca::new("Lonely Root").intermediate("Issuing CA", |_| {});
    let expired = root.intermediate("Old", |p| dates(p, NOW - 9 * DAY, NOW - DAY));
    let mail = root.intermediate("Mail", |p| p.extended_key_usages = vec![Eku::EmailProtection]);
    let mute = root.intermediate("Mute", |p| p.key_usages = vec![KeyUsagePurpose::CrlSign]);
    let server = root.intermediate("Server", |p| p.is_ca = IsCa::ExplicitNoCa);
    for (issuer, words) in [
        (
            &lone,
            "certificate's issuer is unknown: CN=Lonely Root (1 intermediate certificates sent)",
        ),
        (&expired, "a CA certificate in the chain expired on 2025-06-14 15:06:40 UTC"),
        (&mail, "a CA certificate in the chain is not for servers, only for emailProtection"),
        (&mute, "certificate was issued by one that is not a CA's"),
        (&server, "certificate was issued by one that is not a CA's"),
    ] {
        let leaf = issuer.server(&["a.example"]);
        let result = judge(&[&leaf.certificate, &issuer.certificate], &roots, "a.example");
        assert_eq!(result.unwrap_err().to_string(), words);
    }
    let leaf = expired.server(&["a.example"]);
    assert_eq!(
        judge(&[&leaf.certificate], &roots, "a.example").unwrap_err().to_string(),
        "certificate's issuer is unknown: CN=Old (0 intermediate certificates sent)"
    );
}

#[test]
fn a_self_signed_certificate_is_trusted_if_it_is_itself_a_root() {
    let pinned = self_signed(&[San::Dns("a.example")], |_| {});
    let mut roots = TrustRoots::new();
    roots.add(&pinned.certificate).unwrap();
    assert_eq!(reason(&judge(&[&pinned.certificate], &roots, "a.example")), "proven");
    assert_eq!(reason(&judge(&[&pinned.certificate], &roots, "b.example")), "name-mismatch");
}

#[test]
fn identifiers_are_matched_whole_and_odd_ones_are_left_out() {
    use San::{Dns, Other, Srv, Xmpp};

    let ca = Ca::new("Root");
    let roots = ca.roots();
    let long = format!("{}.example", "a".repeat(64));
    let srv_oid = identifiers::SRV_NAME;
    let xmpp_oid = identifiers::XMPP_ADDR;
    let cases: &[(San<'_>, &str, bool)] = &[
        (Dns("good.example"), "good.example", true),
        (Dns("GOOD.example"), "good.example", true),
        (Dns("xn--bcher-kva.example"), "bücher.example", true),
        (Dns("bücher.example"), "bücher.example", false),
        (Dns("good.example"), "sub.good.example", false),
        (Dns("sub.good.example"), "good.example", false),
        (Dns("good.example\0.evil.example"), "good.example", false),
        (Dns("good.example\0"), "good.example", false),
        (Dns("good.example "), "good.example", false),
        (Dns(" good.example"), "good.example", false),
        (Dns("good.example."), "good.example", false),
        (Dns(".good.example"), "good.example", false),
        (Dns("good..example"), "good.example", false),
        (Dns("g\u{200b}ood.example"), "good.example", false),
        (Dns(""), "good.example", false),
        (Dns(&long), "good.example", false),
        // wildcards
        (Dns("*.good.example"), "a.good.example", true),
        (Dns("*.good.example"), "xn--bcher-kva.good.example", true),
        (Dns("*.good.example"), "good.example", false),
        (Dns("*.good.example"), "a.b.good.example", false),
        (Dns("*"), "good.example", false),
        (Dns("*."), "good.example", false),
        (Dns("*.example"), "good.example", false),
        (Dns("*.*.example"), "a.good.example", false),
        (Dns("*.*.good.example"), "a.b.good.example", false),
        (Dns("a.*.example"), "a.good.example", false),
        (Dns("g*.good.example"), "good.good.example", false),
        (Dns("*d.good.example"), "good.good.example", false),
        (Dns("**.good.example"), "a.good.example", false),
        (Dns("xn--*.good.example"), "xn--bcher-kva.good.example", false),
        // SRV-ID
        (Srv("_xmpp-server.good.example"), "good.example", true),
        (Srv("_XMPP-Server.GOOD.example"), "good.example", true),
        (Srv("_xmpp-server.*.good.example"), "a.good.example", true),
        (Srv("_xmpp-server.*.good.example"), "good.example", false),
        (Srv("*.good.example"), "_xmpp-server.good.example".trim_start_matches('_'), false),
        (Srv("_xmpp-server.*.example"), "good.example", false),
        (Srv("_xmpp-client.good.example"), "good.example", false),
        (Srv("_xmpps-server.good.example"), "good.example", false),
        (Srv("_https.good.example"), "good.example", false),
        (Srv("_xmpp-server._tcp.good.example"), "good.example", false),
        (Srv("good.example"), "good.example", false),
        (Srv("_xmpp-server."), "good.example", false),
        (Srv("_xmpp-server.good.example\0"), "good.example", false),
        (Other(srv_oid, 0x0c, "_xmpp-server.good.example"), "good.example", false),
        // XmppAddr
        (Xmpp("good.example"), "good.example", true),
        (Xmpp("Bücher.example"), "xn--bcher-kva.example", true),
        (Xmpp("xn--bcher-kva.example"), "bücher.example", true),
        (Xmpp("good.example."), "good.example", false),
        (Xmpp("user@good.example"), "good.example", false),
        (Xmpp("good.example/resource"), "good.example", false),
        (Xmpp("good.example\0"), "good.example", false),
        (Xmpp("*.good.example"), "a.good.example", false),
        (Other(xmpp_oid, 0x16, "good.example"), "good.example", false),
        (Other(&[0x2b, 1], 0x0c, "good.example"), "good.example", false),
    ];
    for (name, wanted, proven) in cases {
        let name = match name {
            Dns(n) => Dns(n),
            Srv(n) => Srv(n),
            Xmpp(n) => Xmpp(n),
            Other(oid, tag, n) => Other(oid, *tag, n),
        };
        let shown = match name {
            Dns(n) | Srv(n) | Xmpp(n) | Other(_, _, n) => n,
        };
        // what is odd does not spoil its neighbour
        let leaf = ca.issue(&[name, Dns("other.example")], |_| {});
        let result = judge(&[&leaf.certificate], &roots, wanted);
        assert_eq!(
            reason(&result),
            if *proven { "proven" } else { "name-mismatch" },
            "{shown:?} for {wanted}"
        );
        assert_eq!(reason(&judge(&[&leaf.certificate], &roots, "other.example")), "proven");
    }
}

#[test]
fn the_common_name_is_no_identifier() {
    let ca = Ca::new("Root");
    let leaf = ca.issue(&[San::Dns("other.example")], |p| {
        p.distinguished_name.push(rcgen::DnType::CommonName, "good.example");
    });
    assert_eq!(reason(&judge(&[&leaf.certificate], &ca.roots(), "good.example")), "name-mismatch");
}

#[test]
fn an_srv_id_proves_its_name_and_a_dns_id_another() {
    let ca = Ca::new("Root");
    let leaf = ca.issue(&[San::Srv("_xmpp-server.a.example"), San::Dns("b.example")], |_| {});
    for (name, expected) in
        [("a.example", "proven"), ("b.example", "proven"), ("c.example", "name-mismatch")]
    {
        assert_eq!(reason(&judge(&[&leaf.certificate], &ca.roots(), name)), expected);
    }
}

#[test]
fn name_constraints_bind_every_kind_of_identifier() {
    use San::{Dns, Srv, Xmpp};

    let root = Ca::new("Root");
    let dns = |name: &str| GeneralSubtree::DnsName(name.to_owned());
    let limits = NameConstraints {
        permitted_subtrees: vec![dns("good.example")],
        excluded_subtrees: vec![dns("not.good.example")],
    };
    let middle = root.intermediate("Limited", |p| p.name_constraints = Some(limits.clone()));
    let limited_root = Ca::root("Limited Root", KeyPair::generate().unwrap(), |p| {
        p.name_constraints = Some(limits.clone());
    });
    for (name, wanted, expected) in [
        (Dns("good.example"), "good.example", "proven"),
        (Dns("a.good.example"), "a.good.example", "proven"),
        // it reaches into the excluded names
        (Dns("*.good.example"), "a.good.example", "name-constraint"),
        (Srv("_xmpp-server.a.good.example"), "a.good.example", "proven"),
        (Xmpp("a.good.example"), "a.good.example", "proven"),
        (Dns("evil.example"), "evil.example", "name-constraint"),
        (Dns("evilgood.example"), "evilgood.example", "name-constraint"),
        (Srv("_xmpp-server.evil.example"), "evil.example", "name-constraint"),
        (Srv("_xmpp-server.evilgood.example"), "evilgood.example", "name-constraint"),
        (Srv("_xmpp-server.a.not.good.example"), "a.not.good.example", "name-constraint"),
        (Srv("_xmpp-server.*.good.example"), "not.good.example", "name-constraint"),
        (Xmpp("evil.example"), "evil.example", "name-constraint"),
        (Xmpp("not.good.example"), "not.good.example", "name-constraint"),
    ] {
        let names = [name];
        let leaf = middle.issue(&names, |_| {});
        let result = judge(&[&leaf.certificate, &middle.certificate], &root.roots(), wanted);
        assert_eq!(reason(&result), expected, "{wanted} under an intermediate");
        let leaf = limited_root.issue(&names, |_| {});
        let result = judge(&[&leaf.certificate], &limited_root.roots(), wanted);
        assert_eq!(reason(&result), expected, "{wanted} under a root");
    }
}

#[test]
fn old_signatures_and_small_keys_are_refused() {
    let rsa = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let ca = Ca::root("Root", rsa, |_| {});
    let roots = ca.roots();
    let leaf = ca.server(&["a.example"]).certificate;
    assert_eq!(reason(&judge(&[&leaf], &roots, "a.example")), "proven");

    // sha256WithRSAEncryption is 1.2.840.113549.1.1.11; 5 is SHA-1, 4 is MD5
    let sha256 = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
    for old in [0x04, 0x05] {
        let mut der = leaf.to_vec();
        let places: Vec<_> = (0..der.len()).filter(|i| der[*i..].starts_with(&sha256)).collect();
        assert_eq!(places.len(), 2);
        for place in places {
            der[place + 8] = old;
        }
        let result = judge(&[&der.into()], &roots, "a.example");
        assert_eq!(result, Err(PkixError::SignatureAlgorithm(Link::Leaf)));
    }

    for (bits, expected) in [(1024, Err(PkixError::WeakKey(1024))), (2048, Ok("proven"))] {
        let leaf = ca.certify(&[San::Dns("a.example")], &RsaKey::of(bits));
        let result = judge(&[&leaf], &roots, "a.example");
        assert_eq!(result.map(|_| "proven"), expected);
    }
}

/// A public key of no private one.
struct RsaKey(Vec<u8>);

impl RsaKey {
    fn of(bits: u16) -> Self {
        let modulus = usize::from(bits / 8) + 1;
        let mut der = vec![0x30, 0x82, 0, 0, 0x02, 0x82];
        der.extend(u16::try_from(modulus).unwrap().to_be_bytes());
        der.push(0);
        der.extend(vec![0xff; modulus - 1]);
        der.extend([0x02, 0x03, 0x01, 0x00, 0x01]);
        let length = u16::try_from(der.len() - 4).unwrap().to_be_bytes();
        der[2..4].copy_from_slice(&length);
        Self(der)
    }
}

impl PublicKeyData for RsaKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_RSA_SHA256
    }
}

#[test]
fn what_a_peer_sends_is_bounded() {
    let root = Ca::new("Root");
    let roots = root.roots();
    let leaf = root.server(&["a.example"]).certificate;
    let padding = root.intermediate("Padding", |_| {}).certificate;

    let mut chain = vec![&leaf];
    chain.extend(vec![&padding; 10]);
    assert_eq!(judge(&chain, &roots, "a.example"), Err(PkixError::TooManyCertificates(11)));

    let names: Vec<_> = (0..3_000).map(|i| format!("{i}.a-long-name.example")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let huge = root.issue(&[], |p| {
        p.subject_alt_names =
            names.iter().map(|n| rcgen::SanType::DnsName((*n).try_into().unwrap())).collect();
    });
    assert!(matches!(
        judge(&[&huge.certificate], &roots, "a.example"),
        Err(PkixError::TooLarge(70_000..))
    ));

    let many = root.server(&names[..20]);
    let words = judge(&[&many.certificate], &roots, "a.example").unwrap_err().to_string();
    assert!(words.ends_with("7.a-long-name.example and 12 more"), "{words}");

    let escaped = Ca::new("Evil\n\u{1b}[31m").server(&["a.example"]);
    let words = judge(&[&escaped.certificate], &roots, "a.example").unwrap_err().to_string();
    assert!(words.contains("Evil\\n\\u{1b}[31m"), "{words}");
}

#[test]
fn path_building_cannot_be_made_to_run_away() {
    let roots = Ca::new("Root").roots();
    let twins: Vec<_> = (0..9).map(|_| Ca::new("Twin")).collect();
    let leaf = twins[0].server(&["a.example"]).certificate;
    let mut chain = vec![&leaf];
    chain.extend(twins.iter().map(|twin| &twin.certificate));
    assert_eq!(judge(&chain, &roots, "a.example"), Err(PkixError::TooComplex));

    // three names, each three times, certifying each other in a ring
    let ring = ["A", "B", "C"].map(|name| {
        let above = Ca::new(match name {
            "A" => "B",
            "B" => "C",
            _ => "A",
        });
        [(); 3].map(|()| above.intermediate(name, |_| {}))
    });
    let leaf = ring[0][0].server(&["a.example"]).certificate;
    let mut chain = vec![&leaf];
    chain.extend(ring.iter().flatten().map(|ca| &ca.certificate));
    assert_eq!(judge(&chain, &roots, "a.example"), Err(PkixError::TooComplex));
}

#[test]
fn no_damaged_certificate_proves_anything_or_panics() {
    let ca = Ca::new("Root");
    let roots = ca.roots();
    let leaf = ca.issue(
        &[San::Dns("a.example"), San::Srv("_xmpp-server.a.example"), San::Xmpp("a.example")],
        |_| {},
    );
    let good = leaf.certificate.to_vec();
    for i in 0..good.len() {
        for bits in [0x01, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[i] ^= bits;
            let bad = CertificateDer::from(bad);
            let _ = CertificateInfo::of(&bad);
            // the key that signs the handshake is the one that CAs vouch for
            let outline = Outline::of(&bad);
            if let Ok(whole) = EndEntityCert::try_from(&bad) {
                let outline = outline.unwrap();
                assert_eq!(outline.public_key, &*whole.subject_public_key_info());
                assert_eq!(&outline.subject[2..], whole.subject());
                assert_eq!(&outline.issuer[2..], whole.issuer());
            }
            if let (Some(outline), Ok(whole)) = (outline, parse(&bad)) {
                assert_eq!(outline.public_key, whole.public_key().raw);
            }
            assert!(judge(&[&bad], &roots, "a.example").is_err(), "byte {i} xor {bits:#x}");
        }
        let cut = CertificateDer::from(good[..i].to_vec());
        assert!(CertificateInfo::of(&cut).is_err() && Outline::of(&cut).is_none());
        assert!(judge(&[&cut], &roots, "a.example").is_err());
        assert!(judge(&[&leaf.certificate, &cut], &roots, "a.example").is_err());
    }
}

#[test]
fn a_summary_says_what_an_operator_asks() {
    let ca = Ca::new("Root");
    let leaf = ca.issue(
        &[San::Dns("a.example"), San::Srv("_xmpp-server.a.example"), San::Xmpp("a.example")],
        |p| dates(p, NOW, NOW + DAY),
    );
    let info = CertificateInfo::of(&leaf.certificate).unwrap();
    assert_eq!(info.names, "a.example, _xmpp-server.a.example, xmpp:a.example");
    assert_eq!(info.issuer, "CN=Root");
    assert_eq!((info.not_before, info.not_after), (at(NOW), at(NOW + DAY)));
    assert_eq!(info.fingerprint.to_string().len(), 64);
    let own = self_signed(&[], |_| {});
    assert_eq!(CertificateInfo::of(&own.certificate).unwrap().issuer, "self-signed");
}
