use base64::prelude::BASE64_URL_SAFE;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose as Eku, IsCa, KeyPair,
    KeyUsagePurpose,
};
use x509_parser::time::ASN1Time;

use super::*;
use crate::auth::pkix::testing::{Ca, Issued, San, self_signed};

const DAY: u64 = 24 * 3600;

fn domain() -> Domain {
    Domain::parse("hosted.example").unwrap()
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// In the life of the certificates of these tests.
fn now() -> UnixTime {
    at(1_767_225_600)
}

/// That many seconds later.
fn later(seconds: u64) -> UnixTime {
    at(now().as_secs() + seconds)
}

/// A certificate that nobody vouches for, and not for the domain.
fn unproven() -> Issued {
    self_signed(&[San::Dns("hoster.example")], |_| {})
}

fn fingerprints(body: &str) -> Result<Fingerprints, PoshError> {
    match Document::parse(body.as_bytes())? {
        Document::Fingerprints(list) => Ok(list),
        Document::Reference(_) => panic!("a reference"),
    }
}

fn reference(body: &str) -> Reference {
    match Document::parse(body.as_bytes()).unwrap() {
        Document::Reference(reference) => reference,
        Document::Fingerprints(_) => panic!("fingerprints"),
    }
}

/// A document with these descriptors.
fn listing(descriptors: &[String]) -> Material {
    let body = format!("{{\"fingerprints\":[{}],\"expires\":60}}", descriptors.join(","));
    fingerprints(&body).unwrap().material(None, now())
}

fn hash(name: &str, certificate: &CertificateDer<'_>) -> String {
    let digest = Hash::named(name).unwrap().digest(certificate);
    format!("\"{name}\":\"{}\"", BASE64_STANDARD.encode(digest))
}

fn judge(certificate: &CertificateDer<'_>, material: &Material) -> Outcome {
    verify(std::slice::from_ref(certificate), material, &domain(), now())
}

fn is_match(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Match(_))
}

#[test]
fn a_listed_certificate_proves_the_domain_whatever_it_names() {
    let leaf = unproven().certificate;
    for name in ["sha-256", "sha-384", "sha-512"] {
        let material = listing(&[format!("{{{}}}", hash(name, &leaf))]);
        let Outcome::Match(proof) = judge(&leaf, &material) else { panic!("{name}") };
        assert_eq!((proof.domain(), proof.prooftype()), (&domain(), Prooftype::Posh));
        assert_eq!(proof.fingerprint(), Some(Fingerprint::of(&leaf)));
        assert_eq!(proof.expires(), Some(later(60)));
        assert!(proof.is_strong() && !proof.rests_on_dnssec());
    }
}

#[test]
fn any_descriptor_will_do_and_within_one_the_strongest_hash_decides() {
    let (leaf, other) = (unproven().certificate, unproven().certificate);
    let of = |hashes: &[String]| format!("{{{}}}", hashes.join(","));
    let good = of(&[hash("sha-256", &leaf), hash("sha-512", &leaf)]);
    let bad = of(&[hash("sha-256", &other)]);
    assert!(is_match(&judge(&leaf, &listing(&[bad.clone(), good.clone()]))));
    assert!(is_match(&judge(&leaf, &listing(&[good, bad.clone()]))));
    let not_listed = |count| Outcome::Mismatch(Mismatch::NotListed(count));
    assert_eq!(judge(&leaf, &listing(&[bad.clone(), bad])), not_listed(2));
    // PO-5, in either order
    let weak_only = [hash("sha-256", &leaf), hash("sha-512", &other)];
    assert_eq!(judge(&leaf, &listing(&[of(&weak_only)])), not_listed(1));
    let [weak, strong] = weak_only;
    assert_eq!(judge(&leaf, &listing(&[of(&[strong, weak])])), not_listed(1));
    // names that are not known do not weaken it
    let known = hash("sha-256", &leaf);
    let agile = of(&["\"sha3-512\":7".into(), known, "\"md5\":\"AA==\"".into()]);
    assert!(is_match(&judge(&leaf, &listing(&[agile]))));
}

#[test]
fn hashes_that_prove_nothing_are_as_if_there_were_none() {
    // A-66
    let leaf = unproven().certificate;
    let weak = r#"{"md5":"1B2M2Y8AsgTpgAmY7PhCfg==","sha-1":"2jmj7l5rSw0yVb/vlWAYkK/YBwk="}"#;
    assert_eq!(judge(&leaf, &listing(&[weak.into(), "{}".into()])), Outcome::NoUsableMaterial);
    // beside one that can be used they are just not a match
    let other = format!("{{{}}}", hash("sha-256", &unproven().certificate));
    let outcome = judge(&leaf, &listing(&[weak.into(), other]));
    assert_eq!(outcome, Outcome::Mismatch(Mismatch::NotListed(2)));
}

#[test]
fn only_the_leaf_counts_and_only_whole() {
    // A-66: an issuer's fingerprint, that of the key alone, hexadecimal
    let ca = Ca::new("root");
    let leaf = ca.server(&["hosted.example"]).certificate;
    let issuer = format!("{{{}}}", hash("sha-256", &ca.certificate));
    let chain = [leaf.clone(), ca.certificate.clone()];
    let outcome = verify(&chain, &listing(&[issuer]), &domain(), now());
    assert_eq!(outcome, Outcome::Mismatch(Mismatch::NotListed(1)));
    let key = pkix::parse(&leaf).unwrap().tbs_certificate.subject_pki.raw.to_vec();
    let key = format!("{{{}}}", hash("sha-256", &key.into()));
    assert!(!is_match(&judge(&leaf, &listing(&[key]))));
    let outcome =
        verify(&[], &listing(&[format!("{{{}}}", hash("sha-256", &leaf))]), &domain(), now());
    assert_eq!(outcome, Outcome::Mismatch(Mismatch::NoCertificate));
}

#[test]
fn dates_and_key_still_count_and_the_rest_does_not() {
    // PO-6
    let judge = |change: &dyn Fn(&mut CertificateParams)| {
        let leaf = self_signed(&[San::Dns("x.example")], |params| change(params)).certificate;
        judge(&leaf, &listing(&[format!("{{{}}}", hash("sha-256", &leaf))]))
    };
    let ends = |time: UnixTime| {
        let time = ASN1Time::from_timestamp(time.as_secs().try_into().unwrap()).unwrap();
        move |params: &mut CertificateParams| params.not_after = time.to_datetime()
    };
    let begins = |params: &mut CertificateParams| {
        params.not_before = ASN1Time::from_timestamp(4_000_000_000).unwrap().to_datetime();
    };
    let bad = |outcome| match outcome {
        Outcome::Mismatch(Mismatch::Certificate(error)) => error.reason(),
        other => panic!("{other:?}"),
    };
    assert_eq!(bad(judge(&ends(at(now().as_secs() - 1)))), "expired");
    assert_eq!(bad(judge(&begins)), "not-yet-valid");
    assert_eq!(bad(judge(&|p| p.key_usages = vec![KeyUsagePurpose::CrlSign])), "key-usage");
    // the first of both to end
    let Outcome::Match(proof) = judge(&ends(later(30))) else { panic!() };
    assert_eq!(proof.expires(), Some(later(30)));
    // as self-made certificates are
    assert!(is_match(&judge(&|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))));
    assert!(is_match(&judge(&|p| p.extended_key_usages = vec![Eku::ClientAuth])));
}

#[test]
fn a_certificate_with_a_signature_of_old_is_refused() {
    // A-45: sha256WithRSAEncryption is 1.2.840.113549.1.1.11; 5 is SHA-1, 4 is MD5
    let rsa = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let leaf = Ca::root("Root", rsa, |_| {}).server(&["x.example"]).certificate;
    let listed = |leaf: &CertificateDer<'_>| {
        judge(leaf, &listing(&[format!("{{{}}}", hash("sha-256", leaf))]))
    };
    assert!(is_match(&listed(&leaf)));
    let sha256 = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
    for old in [0x04, 0x05] {
        let mut der = leaf.to_vec();
        let places: Vec<_> = (0..der.len()).filter(|i| der[*i..].starts_with(&sha256)).collect();
        assert_eq!(places.len(), 2);
        for place in places {
            der[place + 8] = old;
        }
        let outcome = listed(&der.into());
        let Outcome::Mismatch(Mismatch::Certificate(error)) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(error.reason(), "weak-signature");
    }
}

#[test]
fn material_holds_for_the_shorter_time_and_never_more_than_a_day() {
    let list = |expires: u64| {
        let leaf = unproven().certificate;
        let descriptor = hash("sha-256", &leaf);
        let body = format!("{{\"expires\":{expires},\"fingerprints\":[{{{descriptor}}}]}}");
        (leaf, fingerprints(&body).unwrap())
    };
    let refer = |expires: u64| {
        reference(&format!(r#"{{"url":"https://hoster.example/posh","expires":{expires}}}"#))
    };
    for (own, referred, seconds) in [
        (60, None, 60),
        (604_800, None, DAY),
        (u64::MAX, None, DAY),
        (60, Some(30), 30),
        (30, Some(60), 30),
        (u64::MAX, Some(u64::MAX), DAY),
    ] {
        let (leaf, list) = list(own);
        let reference = referred.map(refer);
        let material = list.material(reference.as_ref(), now());
        assert_eq!(material.expires(), later(seconds), "{own} {referred:?}");
        let chain = [leaf];
        assert!(is_match(&verify(&chain, &material, &domain(), later(seconds - 1))));
        // A-68
        let stale = verify(&chain, &material, &domain(), later(seconds));
        assert_eq!(stale, Outcome::NoUsableMaterial);
    }
}

#[test]
fn the_documents_of_the_rfc_are_read() {
    // RFC 7711 §3.1 and §3.2, without the line breaks inside of texts; one has no padding
    let first = r#"{
        "fingerprints": [
          { "sha-256": "4/mggdlVx8A3pvHAWW5sD+qJyMtUHgiRuPjVC48N0XQ",
            "sha-512": "25N+1hB2Vo42l9lSGqw+n3BKFhDHsyork8ou+D9B43TXeJ1J81mdQEDqm39oR/EHkPBDDG1y5+AG94Kec0xVqA==" },
          { "sha-256": "otyLADSKjRDjVpj8X7/hmCAD5C7Qe+PedcmYV7cUncE=",
            "sha-512": "MbBD+ausTGJisEXKSynROWrMfHP2xvBnmI79Pr/KXnDyLN+13Jof8/Uq9fj5HZG8Rk1E2fclcivpGdijUsvHRg==" }
        ],
        "expires": 806400
      }"#;
    let material = fingerprints(first).unwrap().material(None, now());
    assert_eq!((material.len(), material.expires()), (2, later(DAY)));
    let second =
        r#"{"url":"https://hosting.example.net/.well-known/posh/spice.json","expires":86400}"#;
    let read = reference(second);
    assert_eq!(read.url.as_str(), "https://hosting.example.net/.well-known/posh/spice.json");
    assert_eq!(read.lifetime, Duration::from_secs(86_400));
}

#[test]
fn documents_that_are_not_as_they_should_be_say_nothing() {
    // A-64, PO-3, PO-4, PO-9
    let good = hash("sha-256", &unproven().certificate);
    let list = |expires: &str| format!("{{\"fingerprints\":[{{{good}}}]{expires}}}");
    assert!(fingerprints(&list(",\"expires\":1")).is_ok());
    for (body, why) in [
        (list(""), PoshError::Expires),
        (list(",\"expires\":0"), PoshError::Expired),
        (list(",\"expires\":-1"), PoshError::Expires),
        (list(",\"expires\":1.5"), PoshError::Expires),
        (list(",\"expires\":1e3"), PoshError::Expires),
        (list(",\"expires\":1e99"), PoshError::Expires),
        (list(",\"expires\":\"60\""), PoshError::Expires),
        (list(",\"expires\":null"), PoshError::Expires),
        (list(",\"expires\":1,\"url\":\"https://x.example/\""), PoshError::Both),
        (r#"{"expires":1}"#.into(), PoshError::Neither),
        ("[]".into(), PoshError::Neither),
        ("\"x\"".into(), PoshError::Neither),
        (r#"{"fingerprints":[],"expires":1}"#.into(), PoshError::Fingerprints),
        (r#"{"fingerprints":{},"expires":1}"#.into(), PoshError::Fingerprints),
        (r#"{"fingerprints":["x"],"expires":1}"#.into(), PoshError::Fingerprints),
        (
            format!("{{\"fingerprints\":[{}],\"expires\":1}}", vec!["{}"; 101].join(",")),
            PoshError::Fingerprints,
        ),
        (r#"{"url":"http://x.example/","expires":1}"#.into(), PoshError::Url),
        (r#"{"url":"/x","expires":1}"#.into(), PoshError::Url),
        (r#"{"url":7,"expires":1}"#.into(), PoshError::Url),
        (r#"{"url":"https://x.example/","expires":0}"#.into(), PoshError::Expired),
    ] {
        assert_eq!(Document::parse(body.as_bytes()), Err(why), "{body}");
    }
    for text in [
        "",
        "AAAA",
        "4/mggdlVx8A3pvHAWW5sD-qJyMtUHgiRuPjVC48N0XQ=",
        "4/mggdlVx8A3pvHAWW5sD+qJyMtUHgiRuPjVC48N0XR=",
        "4/mggdlVx8A3pvHAWW5sD+qJyMtUHgi RuPjVC48N0XQ=",
        "e3f9a081d955c7c037a6f1c0596e6c0feA89c8cb541e0891b8f8d50b8f0dd174",
    ] {
        let body = format!(r#"{{"fingerprints":[{{}},{{"sha-256":"{text}"}}],"expires":1}}"#);
        let why = PoshError::Fingerprint { number: 2, hash: "sha-256" };
        assert_eq!(Document::parse(body.as_bytes()), Err(why), "{text}");
    }
}

#[test]
fn json_is_read_strictly() {
    // PO-9: duplicates at any depth, depth, size, trailing data, a byte order mark
    let good = format!(
        "{{\"fingerprints\":[{{{}}}],\"expires\":1}}",
        hash("sha-256", &unproven().certificate)
    );
    let with = |more: &str| good.replace("\"expires\"", &format!("{more},\"expires\""));
    assert!(fingerprints(&with("\"more\":[[[[[[[1]]]]]]]")).is_ok());
    for (body, part) in [
        (with("\"expires\":2"), "twice"),
        (with("\"\\u0065xpires\":2"), "twice"),
        (with("\"more\":{\"a\":1,\"a\":1}"), "twice"),
        (with("\"more\":[[[[[[[[1]]]]]]]]"), "nested too deep"),
        (format!("{good}x"), "trailing characters"),
        (format!("\u{feff}{good}"), "expected value"),
        (with("\"more\":NaN"), "expected value"),
        (good.replace('}', ""), "expected"),
        ("[".repeat(60_000), "nested too deep"),
        (String::new(), "EOF"),
    ] {
        match Document::parse(body.as_bytes()) {
            Err(PoshError::Json(why)) => assert!(why.contains(part), "{why}"),
            other => panic!("{part}: {other:?}"),
        }
    }
    assert!(matches!(Document::parse(b"{\"\xff\":1}"), Err(PoshError::Json(_))));
    let large = format!("{good}{}", " ".repeat(MAX_SIZE - good.len()));
    assert!(Document::parse(large.as_bytes()).is_ok());
    let larger = format!("{large} ");
    assert_eq!(Document::parse(larger.as_bytes()), Err(PoshError::TooLarge(MAX_SIZE + 1)));
}

#[test]
fn what_is_written_is_what_is_read() {
    // PO-11
    let (first, second) = (unproven().certificate, unproven().certificate);
    let text = write(&[first.clone(), second.clone()], Duration::from_secs(7200));
    let material = fingerprints(&text).unwrap().material(None, now());
    assert_eq!((material.len(), material.expires()), (2, later(7200)));
    for leaf in [&first, &second] {
        assert!(is_match(&judge(leaf, &material)));
    }
    assert_eq!(text.matches("sha-512").count(), 2);
    assert!(text.starts_with("{\n  \"fingerprints\": [\n    {\n      \"sha-256\": \""), "{text}");
    assert!(text.ends_with("    }\n  ],\n  \"expires\": 7200\n}\n"), "{text}");
}

/// What a document of an older form says of the certificate.
fn older(
    document: Result<Document, PoshError>,
    leaf: &CertificateDer<'_>,
) -> Result<bool, PoshError> {
    match document? {
        Document::Fingerprints(list) => {
            let material = list.material(None, now());
            assert_eq!(material.expires(), later(3600));
            Ok(is_match(&judge(leaf, &material)))
        }
        Document::Reference(_) => panic!("a reference"),
    }
}

#[test]
fn the_older_forms_are_whole_certificates_and_hold_for_an_hour() {
    // PO-12
    let (one, other) = (unproven(), unproven());
    let leaf = &one.certificate;
    assert_eq!(older(Document::parse_certificate(one.pem.as_bytes()), leaf), Ok(true));
    assert_eq!(older(Document::parse_certificate(leaf), leaf), Ok(true));
    assert_eq!(older(Document::parse_certificate(other.pem.as_bytes()), leaf), Ok(false));
    for body in [&b""[..], b"x", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
    {
        assert_eq!(Document::parse_certificate(body), Err(PoshError::Certificate));
    }
    let huge = vec![0; MAX_SIZE + 1];
    assert_eq!(Document::parse_certificate(&huge), Err(PoshError::TooLarge(MAX_SIZE + 1)));

    let key = |text: &str| format!(r#"{{"kty":"PKIX","x5c":["{text}","ignored"]}}"#);
    let keys = |keys: &[String]| format!(r#"{{"keys":[{}]}}"#, keys.join(","));
    let url = key(&BASE64_URL_SAFE.encode(leaf));
    let plain = key(&BASE64_STANDARD.encode(leaf));
    let second = key(&BASE64_STANDARD.encode(&other.certificate));
    let thumb = r#"{"kty":"PKIX","x5t":"2jmj7l5rSw0yVb_vlWAYkK_YBwk"}"#.to_owned();
    for (body, found) in [
        (keys(&[url]), Ok(true)),
        (keys(&[second.clone(), plain]), Ok(true)),
        (keys(&[second]), Ok(false)),
        // SHA-1
        (keys(&[thumb]), Err(PoshError::Certificate)),
        (keys(&[key("AAAA")]), Err(PoshError::Certificate)),
        (keys(&[r#"{"x5c":[]}"#.into()]), Err(PoshError::Certificate)),
        (r#"{"keys":7}"#.into(), Err(PoshError::Certificate)),
        (write(std::slice::from_ref(leaf), Duration::from_secs(86_400)), Ok(true)),
        ("{}".into(), Err(PoshError::Neither)),
    ] {
        assert_eq!(older(Document::parse_older(body.as_bytes()), leaf), found, "{body}");
        if body.contains("keys") {
            assert_eq!(Document::parse(body.as_bytes()), Err(PoshError::Neither));
        }
    }
}
