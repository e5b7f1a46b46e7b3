//! What is said of local domains in zones that are signed, not signed, wrong or silent.

use std::{fs, path::PathBuf};

use base64::{Engine, prelude::BASE64_STANDARD};
use hickory_resolver::proto::rr::RecordType;
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

use super::*;
use crate::{
    auth::{
        dane::TlsaRecord,
        pkix::testing::{Ca, Issued, San, self_signed},
    },
    config,
    net::{
        fake_dns::{FakeDns, Reply, Zone, cname},
        fake_https::{self, FakeHttps},
        resolver::signed_zones::{SignedZone, World},
    },
};

/// A fedgate's configuration with `im.test` and `rooms.im.test`, and DNS.
struct Bench {
    directory: TempDir,
    current: Issued,
    dns: FakeDns,
    /// The web server of `im.test`, where DNS leads to it.
    https: FakeHttps,
}

const BOTH: &str = "{ public: ['127.0.0.1:5269'], direct_tls: ['127.0.0.1:5270'] }";
const STARTTLS: &str = "{ public: ['127.0.0.1:5269'] }";

impl Bench {
    /// With a signed zone `im.test`, made for the `3 1 1` record of the current key.
    async fn signed(zone: impl FnOnce(SignedZone, &str) -> SignedZone) -> Self {
        let current = self_signed(&[San::Dns("im.test"), San::Dns("*.im.test")], |_| {});
        let key = key(&current).to_string();
        let zone = zone(SignedZone::new("im.test"), &key);
        let world = World::new(vec![SignedZone::new("."), SignedZone::new("test"), zone]);
        let world = Arc::new(world);
        let anchors = world.zone(".").anchors()[0].clone();
        let dns = Zone::before(world.source()).serve().await;
        Self::new(current, dns, &anchors).await
    }

    /// With this table, of which nothing is signed.
    async fn unsigned(zone: Zone) -> Self {
        let current = self_signed(&[San::Dns("im.test"), San::Dns("*.im.test")], |_| {});
        Self::new(current, zone.serve().await, "").await
    }

    async fn new(current: Issued, dns: FakeDns, anchors: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let ca = Ca::new("CA of the web");
        let https = FakeHttps::start(&ca.server(&["im.test"])).await;
        let bench = Self { directory, current, dns, https };
        bench.file("roots.pem", &pem(&ca.certificate));
        bench.file("im.crt", &bench.current.pem);
        bench.file("im.key", &bench.current.key.serialize_pem());
        bench.file("anchors", anchors);
        bench
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn config(&self, listen: &str) -> Config {
        let conf = self.directory.path().join("conf.d");
        fs::create_dir_all(&conf).unwrap();
        let home = self.directory.path().display();
        let dns = self.dns.address;
        let is_unsigned = fs::read(self.directory.path().join("anchors")).unwrap().is_empty();
        let dnssec = match is_unsigned {
            true => String::new(),
            false => format!(", dnssec: validate, trust_anchor: {home}/anchors"),
        };
        let text = format!(
            "version: 1
listen: {listen}
legacy: {{ old: {{ address: '127.0.0.1:15269', domains: [im.test, rooms.im.test] }} }}
certificates: [{{ cert: {home}/im.crt, key: {home}/im.key }}]
resolver: {{ servers: ['{dns}'], timeout: 1s{dnssec} }}
tls: {{ roots: [{home}/roots.pem] }}
networks: {{ deny_out: [] }}
posh: {{ port: {} }}
",
            self.https.port
        );
        fs::write(conf.join("10.yaml"), text).unwrap();
        config::load(&conf).unwrap_or_else(|problems| panic!("{problems}")).config
    }

    async fn report(&self, listen: &str, options: Options) -> Report {
        records(self.config(listen), &options).await.unwrap()
    }

    /// What is said of `im.test`, and the first line of each item.
    async fn im(&self, listen: &str, options: Options) -> (DomainReport, Vec<String>) {
        let options = Options { domains: vec![domain("im.test")], ..options };
        let report = self.report(listen, options).await.domains.remove(0);
        let lines = report.items.iter().filter(|item| item.kind != Kind::Posh).map(|item| {
            let Item { kind, name, value, key, state, .. } = item;
            let value = value.as_deref().unwrap_or("-");
            format!("{} {name} {value} {} {}", kind.as_str(), key.unwrap_or("-"), state.as_str())
        });
        let lines = lines.collect();
        (report, lines)
    }
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    let text = BASE64_STANDARD.encode(certificate);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

fn document_of(issued: &Issued) -> String {
    let certificates = std::slice::from_ref(&issued.certificate);
    crate::auth::posh::write(certificates, std::time::Duration::from_secs(60))
}

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

fn key(issued: &Issued) -> TlsaRecord {
    let key = PublishedKey::of(&issued.certificate, std::path::Path::new("test")).unwrap();
    TlsaRecord::of_key(&key.key)
}

/// All that is needed, in the zone `im.test`.
fn complete(zone: SignedZone, key: &str) -> SignedZone {
    zone.record("_xmpp-server._tcp", RecordType::SRV, "5 1 5269 gate.im.test.")
        .record("_xmpps-server._tcp", RecordType::SRV, "5 1 5270 gate.im.test.")
        .record("gate", RecordType::A, "192.0.2.1")
        .record("_5269._tcp.gate", RecordType::TLSA, key)
        .record("_5270._tcp.gate", RecordType::TLSA, key)
}

#[tokio::test]
async fn a_complete_zone_is_found_so() {
    let bench = Bench::signed(complete).await;
    let (report, lines) = bench.im(BOTH, Options::default()).await;
    let key = key(&bench.current);
    assert_eq!(
        lines,
        [
            "srv _xmpp-server._tcp.im.test 5 1 5269 gate.im.test. - present".to_owned(),
            "srv _xmpps-server._tcp.im.test 5 1 5270 gate.im.test. - present".to_owned(),
            "host gate.im.test - - present".to_owned(),
            format!("tlsa _5269._tcp.gate.im.test {key} current present"),
            format!("tlsa _5270._tcp.gate.im.test {key} current present"),
        ]
    );
    // but for the rooms, which are local too
    assert!(report.notes.iter().any(|note| note.starts_with("rooms.im.test ")), "{report:?}");
    // and with `--all` they are looked at themselves
    let all = bench.report(BOTH, Options::default()).await;
    let names: Vec<_> = all.domains.iter().map(|domain| &*domain.domain).collect();
    assert_eq!(names, ["im.test", "rooms.im.test"]);
    assert!(
        all.domains.iter().all(|domain| !domain.notes.iter().any(|n| n.contains("is local too")))
    );
}

#[tokio::test]
async fn the_next_key_is_to_be_published_before_it_is_used() {
    let bench = Bench::signed(complete).await;
    let next = self_signed(&[San::Dns("im.test")], |_| {});
    for file in
        [bench.file("next.crt", &next.pem), bench.file("next.key", &next.key.serialize_pem())]
    {
        let options = Options { next: vec![file], ..Options::default() };
        let (report, lines) = bench.im(STARTTLS, options.clone()).await;
        let wanted = format!("tlsa _5269._tcp.gate.im.test {} next missing", key(&next));
        assert!(lines.contains(&wanted), "{lines:?}");
        // the record of the other service leads to where nobody listens
        let other = "srv _xmpps-server._tcp.im.test - - differs".to_owned();
        assert!(lines.contains(&other), "{lines:?}");
        assert_eq!(report.status, Status::Warning);
        let options = Options { domains: vec![domain("im.test")], ..options };
        let zone = bench.report(STARTTLS, options).await.to_zone();
        let [old, new] = [key(&bench.current), key(&next)];
        let srv = "_xmpp-server._tcp.im.test. IN SRV 5 1 5269 gate.im.test.\n";
        assert!(zone.starts_with(srv), "{zone}");
        for key in [old, new] {
            let line = format!("_5269._tcp.gate.im.test. IN TLSA {key}\n");
            assert_eq!(zone.matches(&line).count(), 1, "{zone}");
        }
    }
}

#[tokio::test]
async fn records_of_another_key_keep_peers_away() {
    let other = key(&self_signed(&[San::Dns("im.test")], |_| {})).to_string();
    let bench = Bench::signed(|zone, _| complete(zone, &other)).await;
    let (report, lines) = bench.im(STARTTLS, Options::default()).await;
    assert_eq!(report.status, Status::Critical);
    assert!(lines.iter().any(|line| line.ends_with("current WRONG")), "{lines:?}");
    // beside the right one it may be that of another server
    let bench = Bench::signed(|zone, key| {
        complete(zone, key).record("_5269._tcp.gate", RecordType::TLSA, &other)
    })
    .await;
    let (report, lines) = bench.im(BOTH, Options::default()).await;
    assert!(lines.iter().all(|line| line.ends_with("present")), "{lines:?}");
    assert!(report.notes.iter().any(|note| note.contains(&other)), "{report:?}");
}

#[tokio::test]
async fn nothing_there_is_missing_and_the_zone_says_what_to_add() {
    let bench = Bench::signed(|zone, _| zone.record("gate", RecordType::A, "192.0.2.1")).await;
    let options = Options { target: Some(domain("gate.im.test")), ..Options::default() };
    let (report, lines) = bench.im(BOTH, options).await;
    assert_eq!(report.status, Status::Warning);
    let key = key(&bench.current);
    assert_eq!(
        lines,
        [
            "srv _xmpp-server._tcp.im.test 0 0 5269 gate.im.test. - missing".to_owned(),
            "srv _xmpps-server._tcp.im.test 0 0 5270 gate.im.test. - missing".to_owned(),
            "host gate.im.test - - present".to_owned(),
            format!("tlsa _5269._tcp.gate.im.test {key} current missing"),
            format!("tlsa _5270._tcp.gate.im.test {key} current missing"),
        ]
    );
}

#[tokio::test]
async fn each_service_may_name_hosts_of_its_own() {
    let zone = Zone::default()
        .srv("_xmpp-server._tcp.im.test", &[(0, 0, 5269, "a.test")])
        .srv("_xmpps-server._tcp.im.test", &[(0, 0, 5270, "b.test")])
        .addresses("a.test", &["192.0.2.1"])
        .addresses("b.test", &["192.0.2.1"]);
    let bench = Bench::unsigned(zone).await;
    // two sockets for one port
    let listen = "{ public: ['127.0.0.1:5269', '127.0.0.2:5269'], direct_tls: ['127.0.0.1:5270'] }";
    let (_, lines) = bench.im(listen, Options::default()).await;
    assert_eq!(
        lines[..4],
        [
            "srv _xmpp-server._tcp.im.test 0 0 5269 a.test. - present",
            "srv _xmpps-server._tcp.im.test 0 0 5270 b.test. - present",
            "host a.test - - present",
            "host b.test - - present",
        ]
    );
    let options = Options { target: Some(domain("a.test")), ..Options::default() };
    let (_, lines) = bench.im(listen, options).await;
    let differs = "srv _xmpps-server._tcp.im.test 0 0 5270 a.test. - differs".to_owned();
    assert!(lines.contains(&differs), "{lines:?}");
}

#[tokio::test]
async fn without_dnssec_tlsa_records_are_useless() {
    let world = World::new(vec![
        SignedZone::new("."),
        SignedZone::new("test"),
        complete(SignedZone::unsigned("im.test"), &key(&self_signed(&[], |_| {})).to_string()),
    ]);
    let world = Arc::new(world);
    let anchors = world.zone(".").anchors()[0].clone();
    let dns = Zone::before(world.source()).serve().await;
    let current = self_signed(&[San::Dns("im.test")], |_| {});
    let bench = Bench::new(current, dns, &anchors).await;
    let (report, lines) = bench.im(BOTH, Options::default()).await;
    let useless = lines.iter().filter(|line| line.ends_with("current useless"));
    assert_eq!(useless.count(), 2, "{lines:?}");
    assert!(
        report.notes.iter().any(|note| note.contains("not signed with DNSSEC: ")),
        "{report:?}"
    );
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let srv = "_xmpp-server._tcp.im.test";
    let zone = Zone::default().addresses("real.test", &["192.0.2.1"]);
    for (zone, options, expected) in [
        (
            zone.clone().srv(srv, &[(0, 0, 0, ".")]),
            Options { target: Some(domain("real.test")), ..Options::default() },
            "srv _xmpp-server._tcp.im.test 0 0 5269 real.test. - WRONG",
        ),
        (
            zone.clone().srv(srv, &[(0, 0, 443, "real.test")]),
            Options::default(),
            "srv _xmpp-server._tcp.im.test 0 0 5269 real.test. - differs",
        ),
        (
            zone.clone().srv(srv, &[(0, 0, 5269, "gone.test")]),
            Options::default(),
            "host gone.test - - WRONG",
        ),
        (
            zone.clone().srv(srv, &[(0, 0, 5269, "alias.test")]).reply(
                "alias.test",
                RecordType::A,
                Reply::Answers(vec![cname("alias.test", "real.test")]),
            ),
            Options::default(),
            "host alias.test - - differs",
        ),
        (
            zone.clone().reply(srv, RecordType::SRV, Reply::Silence),
            Options::default(),
            "srv _xmpp-server._tcp.im.test - - unknown",
        ),
    ] {
        let bench = Bench::unsigned(zone).await;
        let (_, lines) = bench.im(STARTTLS, options).await;
        assert!(lines.iter().any(|line| line == expected), "{expected}: {lines:?}");
    }
}

#[tokio::test]
async fn a_domain_of_others_is_none_of_ours() {
    let bench = Bench::unsigned(Zone::default()).await;
    let options = Options { domains: vec![domain("a.test")], ..Options::default() };
    let error = records(bench.config(BOTH), &options).await.unwrap_err();
    assert!(matches!(error, RecordsError::NotLocal(_)), "{error}");
}

#[tokio::test]
async fn the_posh_document_is_written_and_what_is_there_is_judged() {
    let bench = Bench::unsigned(Zone::default().addresses("im.test", &["127.0.0.1"])).await;
    let next = self_signed(&[San::Dns("im.test")], |_| {});
    let posh_dir = bench.directory.path().join("www");
    let options = Options {
        next: vec![bench.file("next.crt", &next.pem)],
        posh_dir: Some(posh_dir.clone()),
        ..Options::default()
    };
    let posh = |report: DomainReport| {
        report.items.into_iter().find(|item| item.kind == Kind::Posh).unwrap()
    };
    // nothing there yet
    let item = posh(bench.im(STARTTLS, options.clone()).await.0);
    assert_eq!(item.state, State::Missing, "{item:?}");
    assert_eq!(item.name, "https://im.test/.well-known/posh/xmpp-server.json");
    let file = posh_dir.join("im.test/.well-known/posh/xmpp-server.json");
    let document = fs::read_to_string(file).unwrap();
    assert_eq!(Some(&document), item.value.as_ref());
    let there = |document: &str| {
        let reply = fake_https::Reply::body(document);
        bench.https.answer("im.test/.well-known/posh/xmpp-server.json", reply);
    };
    there(&document);
    let item = posh(bench.im(STARTTLS, options.clone()).await.0);
    assert_eq!(item.state, State::Present, "{item:?}");
    // the current one alone, and then the next alone
    there(&document_of(&bench.current));
    let item = posh(bench.im(STARTTLS, options.clone()).await.0);
    assert_eq!(item.state, State::Missing, "{item:?}");
    assert!(item.why.unwrap().contains("next"));
    there(&document_of(&next));
    let (report, _) = bench.im(STARTTLS, options).await;
    assert_eq!(report.status, Status::Critical);
    assert_eq!(posh(report).state, State::Wrong);
}
