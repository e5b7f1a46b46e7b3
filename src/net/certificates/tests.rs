//! Files good and bad, and who is shown which certificate.

use std::{fs, os::unix::fs::PermissionsExt};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose};
use tempfile::TempDir;

use super::*;
use crate::auth::pkix::{
    Fingerprint,
    testing::{Ca, Issued, San},
};

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn pair(&self, name: &str, issued: &Issued) -> CertificateFiles {
        let files = CertificateFiles {
            cert: self.path(&format!("{name}.crt")),
            key: self.path(&format!("{name}.key")),
        };
        fs::write(&files.cert, &issued.pem).unwrap();
        fs::write(&files.key, issued.key.serialize_pem()).unwrap();
        files
    }

    fn load(
        &self,
        pairs: &[CertificateFiles],
        domains: &[&str],
    ) -> Result<(CertificateStore, Vec<CertificateWarning>), CertificateError> {
        let domains: Vec<_> = domains.iter().map(|name| domain(name)).collect();
        CertificateStore::load(pairs, &domains, self.0.path())
    }
}

fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

fn is(key: &CertifiedKey, issued: &Issued) -> bool {
    key.cert[0] == issued.certificate
}

fn lasting(from: i64, to: i64) -> impl FnOnce(&mut CertificateParams) {
    let day = |day: i64| {
        let seconds = i64::try_from(UnixTime::now().as_secs()).unwrap() + day * 86_400;
        x509_parser::time::ASN1Time::from_timestamp(seconds).unwrap().to_datetime()
    };
    move |params| (params.not_before, params.not_after) = (day(from), day(to))
}

#[test]
fn the_certificate_follows_sni_then_to_then_the_first() {
    let files = Files::new();
    let ca = Ca::new("Root");
    let a = ca.server(&["a.example"]);
    let wild = ca.server(&["*.b.example"]);
    let exact = ca.server(&["x.b.example"]);
    let srv = ca.issue(&[San::Srv("_xmpp-server.s.example")], |_| {});
    let xmpp = ca.issue(&[San::Xmpp("bücher.example")], |_| {});
    let pairs = [
        files.pair("a", &a),
        files.pair("wild", &wild),
        files.pair("exact", &exact),
        files.pair("srv", &srv),
        files.pair("xmpp", &xmpp),
    ];
    let (store, warnings) = files.load(&pairs, &["a.example", "lost.example"]).unwrap();
    assert_eq!(warnings, [CertificateWarning::Uncovered { domains: vec![domain("lost.example")] }]);
    assert_eq!(store.files().len(), 10);

    for (sni, to, expected) in [
        (Some("a.example"), Some("y.b.example"), &a),
        (Some("A.Example"), None, &a),
        (Some("y.b.example"), Some("a.example"), &wild),
        (Some("x.b.example"), None, &exact),
        (Some("s.example"), None, &srv),
        (Some("xn--bcher-kva.example"), None, &xmpp),
        // unknown, or known and without a certificate: `to` decides
        (Some("unknown.example"), Some("s.example"), &srv),
        (Some("lost.example"), Some("s.example"), &srv),
        (Some("not a name"), Some("s.example"), &srv),
        (None, Some("x.b.example"), &exact),
        (None, Some("unknown.example"), &a),
        (Some("unknown.example"), None, &a),
        (None, None, &a),
    ] {
        let chosen = store.select(sni, to.map(domain).as_ref());
        assert!(is(&chosen, expected), "sni {sni:?}, to {to:?}");
    }
    for (name, hosted) in [
        ("a.example", true),
        ("lost.example", true),
        ("y.b.example", true),
        ("unknown.example", false),
        ("localhost", false),
    ] {
        assert_eq!(store.hosts(name), hosted, "{name}");
    }
    assert!(is(&store.for_domain(&domain("y.b.example")), &wild));
    assert!(is(&store.for_domain(&domain("lost.example")), &a));
}

#[test]
fn a_warning_names_a_few_of_many_domains() {
    let of = |count: usize| {
        let domains = (0..count).map(|n| domain(&format!("d{n}.example"))).collect();
        CertificateWarning::Uncovered { domains }.to_string()
    };
    assert_eq!(of(1), "no certificate for the local domain d0.example");
    assert_eq!(of(2), "no certificate for the local domains d0.example, d1.example");
    assert!(of(8).ends_with(", d7.example"), "{}", of(8));
    assert!(of(1000).ends_with(", d7.example and 992 more"), "{}", of(1000));
}

#[test]
fn a_certificate_in_date_goes_before_an_expired_one() {
    let files = Files::new();
    let ca = Ca::new("Root");
    let old = ca.issue(&[San::Dns("a.example")], lasting(-90, -1));
    let wild = ca.server(&["*.example", "*.a.example"]);
    let new = ca.server(&["a.example"]);
    let pairs = [files.pair("old", &old), files.pair("wild", &wild), files.pair("new", &new)];
    let (store, _) = files.load(&pairs, &[]).unwrap();
    assert!(is(&store.select(Some("a.example"), None), &new));
    assert!(is(&store.select(None, None), &wild));
}

#[test]
fn a_certificate_is_in_date_or_not_by_the_time_at_which_it_is_shown() {
    let files = Files::new();
    let ca = Ca::new("Root");
    let names = [San::Dns("a.example")];
    let [one, two, three] =
        [(-90, 1), (-1, 3), (2, 90)].map(|(from, to)| ca.issue(&names, lasting(from, to)));
    let pairs = [("three", &three), ("one", &one), ("two", &two)];
    let pairs = pairs.map(|(name, issued)| files.pair(name, issued));
    let (store, _) = files.load(&pairs, &["a.example"]).unwrap();
    let a = domain("a.example");
    for (days, expected) in [(0, &one), (1, &two), (2, &three), (4, &three), (100, &three)] {
        // an hour away from where dates begin and end
        let seconds = UnixTime::now().as_secs() + days * 86_400 + 3600;
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let shown = [(Some("a.example"), None), (None, Some(&a)), (None, None)]
            .map(|(sni, to)| store.select_at(now, sni, to));
        for index in shown.into_iter().chain(store.find_at(now, &a)) {
            assert!(is(&store.entries[index].key, expected), "after {days} days");
        }
    }
}

#[test]
fn what_needs_care_is_a_warning() {
    let files = Files::new();
    let ca = Ca::new("Root");
    let names = [San::Dns("a.example")];
    for (issued, expected) in [
        (ca.issue(&names, lasting(-90, -1)), "a.crt: certificate expired on "),
        (ca.issue(&names, lasting(1, 90)), "a.crt: certificate is not valid before "),
        (ca.issue(&names, lasting(-80, 10)), "a.crt: certificate expires on "),
        (ca.issue(&names, lasting(-70, 20)), ""),
        (ca.issue(&names, lasting(-4, 2)), ""),
        (ca.issue(&names, lasting(-6, 1)), "a.crt: certificate expires on "),
        (
            ca.issue(&names, |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
            "a.crt: certificate is not for servers, only for clientAuth",
        ),
    ] {
        let (_, warnings) = files.load(&[files.pair("a", &issued)], &["a.example"]).unwrap();
        let words: Vec<_> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(words.is_empty(), expected.is_empty(), "{words:?}");
        assert!(words.iter().all(|w| w.contains(expected)), "{words:?}");
    }
}

#[test]
fn a_pair_that_cannot_be_used_is_named() {
    let files = Files::new();
    let ca = Ca::new("Root");
    let pair = files.pair("a", &ca.server(&["a.example"]));
    let other = files.pair("b", &ca.server(&["b.example"]));
    let fails = |pair: &CertificateFiles| {
        files.load(std::slice::from_ref(pair), &[]).unwrap_err().to_string()
    };
    let at = |name: &str| files.path(name).display().to_string();

    let crossed = CertificateFiles { cert: pair.cert.clone(), key: other.key.clone() };
    assert_eq!(
        fails(&crossed),
        format!(
            "the private key in {} is not that of the first certificate in {}",
            at("b.key"),
            at("a.crt")
        )
    );
    let swapped = CertificateFiles { cert: pair.key.clone(), key: pair.cert.clone() };
    assert_eq!(fails(&swapped), format!("{}: no certificate in PEM format", at("a.key")));
    let keyless = CertificateFiles { cert: pair.cert.clone(), key: other.cert.clone() };
    assert_eq!(
        fails(&keyless),
        format!("{}: no unencrypted private key in PEM format", at("b.crt"))
    );
    let missing = CertificateFiles { cert: files.path("none"), ..pair.clone() };
    assert_eq!(fails(&missing), format!("read {}", at("none")));

    let wrap = |label: &str| format!("-----BEGIN {label}-----\nMAA=\n-----END {label}-----\n");
    fs::write(&pair.cert, wrap("CERTIFICATE")).unwrap();
    assert_eq!(fails(&pair), format!("{}: certificate cannot be read", at("a.crt")));
    fs::write(&other.key, wrap("PRIVATE KEY")).unwrap();
    assert_eq!(fails(&other), format!("{}: private key of an unknown kind", at("b.key")));
    fs::write(&other.key, vec![b'#'; 5 << 20]).unwrap();
    assert_eq!(fails(&other), format!("read {}", at("b.key")));
}

#[test]
fn without_files_a_self_signed_certificate_is_made_and_kept() {
    let files = Files::new();
    let fingerprint = |domains: &[&str]| {
        let (mut store, warnings) = files.load(&[], domains).unwrap();
        if let Some(unsaved) = store.take_unsaved() {
            unsaved.save().unwrap();
        }
        assert_eq!(warnings, []);
        assert!(store.files().is_empty());
        for name in domains {
            assert!(store.find(&domain(name)).is_some(), "{name}");
        }
        Fingerprint::of(&store.select(None, None).cert[0])
    };
    let first = fingerprint(&["a.example", "bücher.example"]);
    let mode = |name: &str| fs::metadata(files.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("self-signed.key"), mode("self-signed.crt")), (0o600, 0o644));
    let info = CertificateInfo::of(
        &CertificateDer::from_pem_slice(&fs::read(files.path("self-signed.crt")).unwrap()).unwrap(),
    )
    .unwrap();
    assert_eq!(info.names, "a.example, xn--bcher-kva.example");
    assert_eq!(info.not_after.as_secs() - info.not_before.as_secs(), 3651 * 86_400);

    assert_eq!(fingerprint(&["a.example", "bücher.example"]), first, "kept");
    assert_eq!(fingerprint(&["a.example"]), first, "kept while it names all");
    let second = fingerprint(&["a.example", "c.example"]);
    assert_ne!(second, first, "made anew for another domain");
    fs::write(files.path("self-signed.key"), "damaged").unwrap();
    fs::write(files.path("self-signed.key.new"), "left by a crash").unwrap();
    assert_ne!(fingerprint(&["a.example", "c.example"]), second, "made anew when damaged");
    assert_eq!(mode("self-signed.key"), 0o600);
    assert_eq!(fs::read_dir(files.0.path()).unwrap().count(), 2);
}

#[test]
fn a_self_signed_certificate_for_further_domains_has_the_same_key() {
    let files = Files::new();
    let load = |domains: &[&str]| files.load(&[], domains).unwrap().0;
    let saved = || ["key", "crt"].map(|kind| fs::read(files.path(&format!("self-signed.{kind}"))));
    let mut store = load(&["a.example"]);
    assert!(saved().iter().all(Result::is_err), "nothing is written before it is in use");
    let unsaved = store.take_unsaved().unwrap();
    assert!(unsaved.has_new_key());
    unsaved.save().unwrap();
    let [key, certificate] = saved().map(Result::unwrap);

    let mut more = load(&["a.example", "b.example"]);
    assert!(more.find(&domain("b.example")).is_some());
    let public = |store: &CertificateStore| {
        store.select(None, None).key.public_key().unwrap().as_ref().to_vec()
    };
    assert_eq!(public(&more), public(&store));
    assert_eq!(saved().map(Result::unwrap), [key.clone(), certificate.clone()]);
    let unsaved = more.take_unsaved().unwrap();
    assert!(!unsaved.has_new_key());
    unsaved.save().unwrap();
    let [same, other] = saved().map(Result::unwrap);
    assert_eq!(same, key);
    assert_ne!(other, certificate);
    assert!(load(&["a.example", "b.example"]).take_unsaved().is_none());
}

#[test]
fn a_self_signed_certificate_that_cannot_be_read_is_not_made_anew() {
    let files = Files::new();
    let load = || files.load(&[], &["a.example"]);
    load().unwrap().0.take_unsaved().unwrap().save().unwrap();
    let fails = |file: &str| {
        let (path, aside) = (files.path(file), files.path("aside"));
        fs::rename(&path, &aside).unwrap();
        // neither a file nor missing
        fs::create_dir(&path).unwrap();
        let error = load().unwrap_err();
        let is_named = matches!(&error, CertificateError::Read { path: of, .. } if *of == path);
        assert!(is_named, "{file}: {error}");
        fs::remove_dir(&path).unwrap();
        fs::rename(&aside, &path).unwrap();
    };
    fails("self-signed.crt");
    fails("self-signed.key");
    assert!(load().unwrap().0.take_unsaved().is_none());
    fs::remove_file(files.path("self-signed.crt")).unwrap();
    fails("self-signed.key");
    let made = load().unwrap().0.take_unsaved().unwrap();
    assert!(!made.has_new_key());
}

#[test]
fn a_state_directory_that_cannot_be_written_is_an_error() {
    let files = Files::new();
    let directory = files.path("not-yet/state");
    let (mut store, _) = CertificateStore::load(&[], &[], &directory).unwrap();
    let unsaved = store.take_unsaved().unwrap();
    fs::write(files.path("not-yet"), "").unwrap();
    assert!(matches!(unsaved.save(), Err(CertificateError::Write { .. })));
    fs::remove_file(files.path("not-yet")).unwrap();
    // nothing can take the place of a directory
    fs::create_dir_all(directory.join("self-signed.crt")).unwrap();
    assert!(matches!(unsaved.save(), Err(CertificateError::Write { .. })));
    let half = directory.read_dir().unwrap().map(|entry| entry.unwrap().file_name());
    assert!(half.into_iter().all(|name| !name.as_encoded_bytes().ends_with(b".new")));
}

#[test]
fn a_state_directory_that_is_missing_is_made() {
    let files = Files::new();
    let directory = files.path("not-yet/state");
    let load = || CertificateStore::load(&[], &[domain("a.example")], &directory).unwrap().0;
    load().take_unsaved().unwrap().save().unwrap();
    assert!(load().take_unsaved().is_none());
}

#[test]
fn no_private_key_is_shown() {
    let files = Files::new();
    let issued = Ca::new("Root").server(&["a.example"]);
    let (store, _) = files.load(&[files.pair("a", &issued)], &["a.example"]).unwrap();
    let key = issued.key.serialize_der();
    // the key proper is in the middle of it
    let (from, to) = (key.len() / 3, key.len() / 3 + 8);
    let shown = format!("{store:?}");
    let listed = format!("{:?}", &key[from..to]);
    let hex: String = key[from..to].iter().map(|byte| format!("{byte:02x}")).collect();
    for secret in [&listed[1..listed.len() - 1], &hex] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(shown.contains("CertifiedKey"), "{shown}");
}
