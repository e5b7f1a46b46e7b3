//! What `fedgate check` says of peers, good and bad, and that it says nothing to them that it need
//! not.

use std::{
    collections::BTreeSet,
    process::{Command, Output},
    time::Duration,
};

use fedgate::{
    auth::posh,
    diagnose::{
        Status,
        check::{self, CheckError, Family, Options, report::ProofResult},
    },
    net::targets::TargetTls,
};
use hickory_proto::rr::RecordType;
use serde_json::Value;

use crate::world::{Authority, Host, Identity, Manner, Plan, Service, World, soon};

fn options(domain: &str) -> Options {
    let domain = domain.parse().unwrap();
    Options { domain, from: None, family: None, tls: None, dialback: false }
}

impl World {
    async fn check(&self, options: &Options) -> check::Report {
        soon("a report", check::check(self.config(), options)).await.unwrap()
    }

    /// The report as the command prints it, in JSON.
    async fn checked(&self, domain: &str) -> (Value, String) {
        let report = self.check(&options(domain)).await;
        (serde_json::to_value(&report).unwrap(), report.to_text(false))
    }
}

const README: &str = include_str!("../../README.md");

/// The names of all members, at any depth.
fn collect_members(value: &Value, members: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => object.iter().for_each(|(name, value)| {
            members.insert(name.clone());
            collect_members(value, members);
        }),
        Value::Array(array) => array.iter().for_each(|value| collect_members(value, members)),
        _ => {}
    }
}

/// A peer that says what it offers inside TLS, and nothing after that.
async fn offers(host: &Host, features: &str) -> String {
    let mut conn = host.accept_secured().await;
    let header = host.greet(&mut conn).await;
    conn.say(features).await;
    header + &conn.rest().await
}

const DIALBACK: &str = "<stream:features><dialback xmlns='urn:xmpp:features:dialback'/>\
    </stream:features>";

#[tokio::test]
async fn a_good_peer_is_shown_step_by_step() {
    let mut world = World::start().await;
    let (report, text) = world.checked("good.test").await;
    assert_eq!(report["version"], 1);
    assert_eq!((&report["domain"], &report["from"]), (&"good.test".into(), &"old.test".into()));
    assert_eq!(report["status"], "ok", "{text}");
    assert_eq!(report["outcome"]["outbound"], true);
    assert_eq!(report["outcome"]["level"], "trusted");
    assert_eq!(report["outcome"]["proven_by"], "pkix");
    assert_eq!(report["policy"]["outbound"]["level"], "encrypted");
    assert_eq!(report["dns"]["services"][0]["name"], "_xmpps-server._tcp.good.test");
    assert_eq!(report["dns"]["services"][0]["records"], Value::Array(vec![]));
    assert_eq!(report["dns"]["services"][1]["records"][0]["target"], "host1.good.test");
    assert_eq!(report["dns"]["services"][1]["dnssec"], "unchecked");
    let target = &report["targets"][0];
    assert_eq!((&target["host"], &target["tls"]), (&"host1.good.test".into(), &"starttls".into()));
    let connection = &target["connections"][0];
    assert_eq!(connection["address"], world.good.address.to_string());
    assert_eq!(connection["stream"]["version"], "1.0");
    assert_eq!(connection["stream"]["features"]["starttls"], "required");
    assert_eq!(connection["tls"]["version"], "TLSv1.3");
    assert_eq!(connection["tls"]["sni"], "good.test");
    assert_eq!(connection["certificates"][0]["names"], "good.test");
    assert_eq!(connection["certificates"][0]["names_domain"], true);
    let proof = |name: &str| {
        let proofs = connection["proofs"].as_array().unwrap();
        proofs.iter().find(|proof| proof["prooftype"] == name).unwrap()["result"].clone()
    };
    assert_eq!((proof("dane"), proof("pkix")), ("untried".into(), "holds".into()));
    assert_eq!(proof("dialback"), "absent");
    assert_eq!(connection["secured"]["features"]["sasl"][0], "EXTERNAL");
    assert_eq!(connection["error"], Value::Null);
    let lines: Vec<_> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
    let labels: Vec<_> = lines.into_iter().filter(|label| !label.is_empty()).collect();
    assert_eq!(
        labels[..9],
        ["policy", "dns", "target", "tcp", "stream", "tls", "cert", "features", "proof"],
        "{text}"
    );
    assert_eq!(labels[9], "result", "{text}");
    let mut members = BTreeSet::new();
    collect_members(&report, &mut members);
    for member in members {
        assert!(README.contains(&format!("`{member}")), "{member} is not documented");
    }
    // headers for two layers, and nothing was asked for
    assert_eq!(world.good.headers().len(), 2);
    world.is_alive().await;
}

#[tokio::test]
async fn nothing_is_asserted_unless_it_is_asked_for() {
    let mut world = World::start().await;
    let mut host = world.host("evil.test").await;
    host.identity = Identity::self_signed("evil.test");
    let wanted = options("evil.test");
    let (report, said) = tokio::join!(world.check(&wanted), offers(&host, DIALBACK));
    assert_eq!(report.status, Status::Warning, "{}", report.to_text(false));
    assert_eq!(report.outcome.outbound, Some(true));
    assert_eq!(report.outcome.level, Some("encrypted"));
    assert!(said.contains("from='old.test'"), "{said}");
    assert!(!said.contains("<db:") && !said.contains("<auth"), "{said}");
    assert!(said.ends_with("</stream:stream>"), "{said}");
    // with the key of the running gate, which answers for it
    let dialback = Options { dialback: true, ..options("good.test") };
    let report = world.check(&dialback).await;
    let text = report.to_text(false);
    assert_eq!(report.targets[0].connections[0].dialback, Some(true), "{text}");
    assert!(text.contains("dialback holds"), "{text}");
    assert_eq!(report.status, Status::Ok, "{text}");
    world.good.behave(Manner::Invalid);
    let report = world.check(&dialback).await;
    assert_eq!(report.targets[0].connections[0].dialback, Some(false));
    assert_eq!(report.status, Status::Critical);
    world.good.behave(Manner::Honest);
    world.is_alive().await;
}

#[tokio::test]
async fn a_rule_that_denies_ends_it_before_dns() {
    let config = "rules:
  - { match: '*.spam.test', allow: none, reason: unsolicited }
  - { match: good.test, allow: outbound }";
    let world = World::with(Plan { config, ..Plan::DEFAULT }).await;
    let (report, text) = world.checked("a.spam.test").await;
    assert_eq!(report["status"], "critical");
    assert_eq!(report["dns"], Value::Null);
    assert_eq!(report["policy"]["inbound"]["allowed"], false);
    let place = report["policy"]["outbound"]["denied_by"].as_str().unwrap();
    assert!(place.starts_with("conf.d/10.yaml:"), "{place}");
    assert!(text.contains(&format!("denied ({place}, \"unsolicited\")")), "{text}");
    assert!(!world.dns.was_asked("spam.test"));
    // one direction alone is worth the way
    let (report, text) = world.checked("good.test").await;
    assert_eq!(report["outcome"]["outbound"], true);
    assert_eq!(report["outcome"]["inbound"], false);
    assert_eq!(report["summary"], "would federate outbound only: level trusted, proven by pkix");
    assert_eq!(report["status"], "critical", "{text}");
}

#[tokio::test]
async fn what_a_certificate_lacks_is_said_and_what_that_means() {
    let config = "limits: { connect: 3s, tcp_connect: 1s }
rules: [{ match: bank.test, level: trusted }]";
    let mut world = World::with(Plan { config, ..Plan::DEFAULT }).await;
    let authority = &world.authority;
    for (domain, identity, status, reason, hint) in [
        (
            "a.test",
            authority.issue(&["b.test"]),
            Status::Warning,
            "name-mismatch",
            "also names a.test",
        ),
        (
            "bank.test",
            authority.issue(&["b.test"]),
            Status::Critical,
            "name-mismatch",
            "level: encrypted",
        ),
        ("c.test", Identity::self_signed("c.test"), Status::Warning, "self-signed", "POSH"),
    ] {
        let mut host = world.host(domain).await;
        host.identity = identity;
        let wanted = options(domain);
        let (report, said) = tokio::join!(world.check(&wanted), offers(&host, DIALBACK));
        let text = report.to_text(false);
        assert_eq!(report.status, status, "{text}");
        let connection = &report.targets[0].connections[0];
        let pkix = connection.proofs.iter().find(|proof| proof.prooftype == "pkix").unwrap();
        assert_eq!((pkix.result, pkix.reason), (ProofResult::Fails, Some(reason)), "{text}");
        assert!(connection.secured.is_some(), "the features are worth seeing: {text}");
        assert!(report.hints.iter().any(|found| found.contains(hint)), "{text}");
        assert!(!said.contains("<db:"), "{said}");
    }
    world.is_alive().await;
}

#[tokio::test]
async fn the_trust_roots_of_a_rule_are_asked_in_place_of_those_for_all() {
    let world = World::start().await;
    let partner = Authority::new();
    partner.write(&world.path().with_file_name("partner.pem"));
    world.configure("rules: [{ match: evil.test, tls: { roots: ../partner.pem } }]");
    let mut host = world.host("evil.test").await;
    for (identity, result) in [
        (world.authority.issue(&["evil.test"]), ProofResult::Fails),
        (partner.issue(&["evil.test"]), ProofResult::Holds),
    ] {
        host.identity = identity;
        let wanted = options("evil.test");
        let (report, _) = tokio::join!(world.check(&wanted), offers(&host, DIALBACK));
        let text = report.to_text(false);
        assert!(proofs(&report).contains(&("pkix", result)), "{text}");
        assert_eq!(
            report.outcome.proven_by == Some("pkix"),
            result == ProofResult::Holds,
            "{text}"
        );
    }
}

/// The result of each prooftype on the only connection.
fn proofs(report: &check::Report) -> Vec<(&str, ProofResult)> {
    let connection = &report.targets[0].connections[0];
    connection.proofs.iter().map(|proof| (proof.prooftype, proof.result)).collect()
}

#[tokio::test]
async fn tlsa_records_prove_and_nothing_passes_over_wrong_ones() {
    let mut world = World::start().await;
    world.configure("resolver: { dnssec: trust-ad }");
    world.dns.vouch();
    for (domain, wrong) in [("a.test", false), ("b.test", true)] {
        let mut host = world.host(domain).await;
        // a chain that PKIX is content with, where DANE is not
        host.identity = match wrong {
            true => world.authority.issue(&[domain]),
            false => Identity::self_signed(domain),
        };
        let tlsa = match wrong {
            true => format!("3 1 1 {:064x}", 1),
            false => format!("3 0 1 {}", host.identity.sha256()),
        };
        let name = format!("_{}._tcp.host1.{domain}", host.address.port());
        world.dns.record(&name, RecordType::TLSA, &tlsa);
        let wanted = options(domain);
        let peer = async {
            match wrong {
                true => {
                    host.accept_secured().await.ends_silently().await;
                }
                false => {
                    offers(&host, DIALBACK).await;
                }
            }
        };
        let (report, ()) = tokio::join!(world.check(&wanted), peer);
        let text = report.to_text(false);
        assert_eq!(report.targets[0].tlsa.as_ref().unwrap().records, [tlsa], "{text}");
        assert_eq!(report.dns.as_ref().unwrap().services[1].dnssec, Some("secure"));
        use ProofResult as R;
        if wrong {
            assert_eq!(proofs(&report)[..2], [("dane", R::Fails), ("pkix", R::Holds)], "{text}");
            assert_eq!((report.status, report.outcome.outbound), (Status::Critical, Some(false)));
        } else {
            assert_eq!(proofs(&report)[..2], [("dane", R::Holds), ("pkix", R::Fails)], "{text}");
            assert_eq!(report.outcome.proven_by, Some("dane"));
            assert_eq!(report.status, Status::Ok, "{text}");
        }
    }
    world.is_alive().await;
}

#[tokio::test]
async fn a_posh_document_proves_and_nothing_passes_over_another() {
    let mut world = World::start().await;
    let web = Host::bind("web", world.authority.issue(&["a.test", "b.test"]));
    world.configure(&format!("posh: {{ port: {} }}", web.address.port()));
    for (domain, listed) in [("a.test", true), ("b.test", false)] {
        world.dns.record(domain, RecordType::A, "127.0.0.1");
        let mut host = world.host(domain).await;
        host.identity = Identity::self_signed(domain);
        let other = Identity::self_signed(domain);
        let document = match listed {
            true => posh::write(&host.identity.chain(), Duration::from_secs(60)),
            false => posh::write(&other.chain(), Duration::from_secs(60)),
        };
        let serve = async {
            let mut conn = web.accept().await;
            conn.accept_tls(web.identity.server()).await.unwrap();
            let request = conn.until("\r\n\r\n").await;
            assert!(request.starts_with("GET /.well-known/posh/xmpp-server.json "), "{request}");
            let length = document.len();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            conn.say(head + &document).await;
        };
        let peer = async {
            match listed {
                true => drop(offers(&host, DIALBACK).await),
                false => host.accept_secured().await.ends_silently().await,
            }
        };
        let wanted = options(domain);
        let (report, (), ()) = tokio::join!(world.check(&wanted), serve, peer);
        let text = report.to_text(false);
        let result = if listed { ProofResult::Holds } else { ProofResult::Fails };
        assert_eq!(proofs(&report)[2], ("posh", result), "{text}");
        let (status, proof) = match listed {
            true => (Status::Ok, Some("posh")),
            false => (Status::Critical, None),
        };
        assert_eq!((report.status, report.outcome.proven_by), (status, proof), "{text}");
    }
    world.is_alive().await;
}

#[tokio::test]
async fn pins_and_the_prooftypes_that_count_are_those_of_the_rules() {
    let world = World::start().await;
    let digest = "00".repeat(32);
    for (rule, proof, hint) in [
        (format!("pins: ['{digest}']"), ("pin", ProofResult::Fails), "change the pin"),
        ("proofs: [dane]".to_owned(), ("dane", ProofResult::Untried), "do not count it"),
    ] {
        world.configure(&format!("rules: [{{ match: good.test, {rule} }}]"));
        let report = world.check(&options("good.test")).await;
        let text = report.to_text(false);
        assert_eq!(proofs(&report)[0], proof, "{text}");
        assert_eq!((report.status, report.outcome.outbound), (Status::Critical, Some(false)));
        assert!(report.hints.iter().any(|found| found.contains(hint)), "{text}");
    }
    // the same, were it enforced
    world.configure("mode: report\nrules: [{ match: good.test, allow: none }]");
    let report = world.check(&options("good.test")).await;
    let reported = report.policy.outbound.reported.as_deref();
    assert_eq!(reported, Some("conf.d/20.yaml:3"), "{}", report.to_text(false));
    assert_eq!((report.status, report.outcome.outbound), (Status::Warning, Some(true)));
}

#[tokio::test]
async fn a_peer_without_tls_is_shown_as_the_rules_take_it() {
    let world = World::start().await;
    let host = world.host("clear.test").await;
    let port = host.address.port();
    let starttls = "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>\
        </stream:features>";
    let refusal = "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>";
    for (rule, fails, level, status) in [
        ("level: verified", false, Some("verified"), Status::Warning),
        ("level: permissive", true, Some("verified"), Status::Warning),
        ("level: encrypted", true, None, Status::Critical),
    ] {
        // DNS is not asked where a rule says the way
        world.configure(&format!(
            "rules: [{{ match: other.test, {rule}, connect: {{ address: '127.0.0.1:{port}' }} }}]"
        ));
        let peer = async {
            if fails {
                let mut conn = host.accept().await;
                host.greet(&mut conn).await;
                conn.say(starttls).await;
                conn.until("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
                conn.say(refusal).await;
                conn.rest().await;
            }
            if level.is_some() {
                let mut conn = host.accept().await;
                host.greet(&mut conn).await;
                conn.say(DIALBACK).await;
                assert_eq!(conn.rest().await, "</stream:stream>");
            }
        };
        let wanted = options("other.test");
        let (report, ()) = tokio::join!(world.check(&wanted), peer);
        let text = report.to_text(false);
        assert_eq!((report.status, report.outcome.level), (status, level), "{rule}: {text}");
        assert!(report.dns.is_none(), "{text}");
        let connection = &report.targets[0].connections[0];
        assert_eq!(connection.tls_failed.is_some(), fails && level.is_some(), "{text}");
    }
    assert!(!world.dns.was_asked("_xmpp-server._tcp.other.test"));
}

#[tokio::test]
async fn a_server_whose_tlsa_records_ask_for_tls_is_not_shown_without() {
    let world = World::start().await;
    world.dns.vouch();
    let host = world.host("clear.test").await;
    let name = format!("_{}._tcp.host1.clear.test", host.address.port());
    world.dns.record(&name, RecordType::TLSA, &format!("3 1 1 {:064x}", 1));
    for level in ["verified", "permissive"] {
        world.configure(&format!(
            "resolver: {{ dnssec: trust-ad }}\nrules: [{{ match: clear.test, level: {level} }}]"
        ));
        let peer = async {
            let mut conn = host.accept().await;
            host.greet(&mut conn).await;
            conn.say(DIALBACK).await;
            conn.until("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
            conn.say("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>").await;
            conn.rest().await;
        };
        let wanted = options("clear.test");
        let (report, ()) = tokio::join!(world.check(&wanted), peer);
        let text = report.to_text(false);
        assert_eq!((report.status, report.outcome.level), (Status::Critical, None), "{text}");
        assert!(text.contains("the TLSA records of host1.clear.test ask for TLS"), "{text}");
        host.nobody_waits().await;
    }
}

#[tokio::test]
async fn where_the_way_ends_is_said() {
    let config = "limits: { connect: 3s, tcp_connect: 1s }";
    let mut world = World::with(Plan { config, ..Plan::DEFAULT }).await;
    let (report, text) = world.checked("nowhere.test").await;
    assert_eq!(report["status"], "critical", "{text}");
    assert_eq!(report["dns"]["fallback"], true);
    assert_eq!(report["targets"][0]["error"]["reason"], "not-found");
    assert!(text.contains("neither SRV records nor an address"), "{text}");
    assert!(text.contains("would not federate: A nowhere.test: no such host"), "{text}");

    world.dns.silence("silent.test");
    let (report, text) = world.checked("silent.test").await;
    assert_eq!(report["status"], "unknown", "{text}");
    assert_eq!(report["outcome"]["outbound"], Value::Null);

    let shut = Host::bind("shut.test", world.authority.issue(&["shut.test"]));
    world.dns.publish("shut.test", Service::StartTls, &[shut.address]);
    drop(shut);
    let (report, text) = world.checked("shut.test").await;
    assert_eq!(report["status"], "critical", "{text}");
    assert_eq!(report["targets"][0]["connections"][0]["error"]["reason"], "unreachable");
    assert!(text.contains("Connection refused"), "{text}");

    // the next target is good
    let identity = world.authority.issue(&["two.test"]);
    let (bad, good) = (Host::bind("two.test", identity.clone()), Host::bind("two.test", identity));
    world.dns.publish("two.test", Service::StartTls, &[bad.address, good.address]);
    let spoils = async {
        let mut conn = bad.accept().await;
        conn.say("</stream:stream>").await;
        conn.rest_bytes().await;
        offers(&good, DIALBACK).await
    };
    let wanted = options("two.test");
    let (report, _) = tokio::join!(world.check(&wanted), spoils);
    assert_eq!(report.targets.len(), 2);
    assert_eq!(report.targets[0].connections[0].error.as_ref().unwrap().reason, "stream");
    assert_eq!(report.outcome.outbound, Some(true));
    world.is_alive().await;
}

#[tokio::test]
async fn direct_tls_has_no_stream_in_the_clear() {
    let mut world = World::start().await;
    let host = Host::bind("direct.test", world.authority.issue(&["direct.test"]));
    world.dns.publish("direct.test", Service::Direct, &[host.address]);
    let peer = async {
        let mut conn = host.accept().await;
        conn.accept_tls(host.identity.server()).await.unwrap();
        host.greet(&mut conn).await;
        conn.say(DIALBACK).await;
        conn.rest().await
    };
    let wanted = Options { tls: Some(TargetTls::Direct), ..options("direct.test") };
    let (report, _) = tokio::join!(world.check(&wanted), peer);
    let connection = &report.targets[0].connections[0];
    assert_eq!((connection.stream.is_none(), connection.level), (true, Some("trusted")));
    // the peer has no use for our certificate
    assert!(report.hints.iter().any(|hint| hint.contains("dialback decides")), "{report:?}");
    for wanted in [
        Options { tls: Some(TargetTls::StartTls), ..options("direct.test") },
        Options { family: Some(Family::V6), ..options("direct.test") },
    ] {
        let report = world.check(&wanted).await;
        assert_eq!(report.status, Status::Critical);
        assert!(!report.summary.contains("rule"), "{}", report.summary);
    }
    world.is_alive().await;
}

#[tokio::test]
async fn the_own_domains_are_not_checked() {
    let world = World::start().await;
    let error = check::check(world.config(), &options("rooms.old.test")).await.unwrap_err();
    assert!(matches!(error, CheckError::Local(_)), "{error}");
    let foreign = Options { from: Some("good.test".parse().unwrap()), ..options("a.test") };
    let error = check::check(world.config(), &foreign).await.unwrap_err();
    assert!(matches!(error, CheckError::NotLocal(_)), "{error}");
}

#[tokio::test]
async fn the_exit_status_is_that_of_the_report() {
    let world = World::start().await;
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fedgate"));
        command.args(arguments).env("FEDGATE_CONFIG", world.path());
        let ran = tokio::task::spawn_blocking(move || command.output().unwrap());
        async { ran.await.unwrap() }
    };
    let code = |output: &Output| output.status.code().unwrap();
    let good = run(&["check", "good.test", "--json"]).await;
    assert_eq!(code(&good), 0, "{good:?}");
    let report: Value = serde_json::from_slice(&good.stdout).unwrap();
    assert_eq!(report["status"], "ok");
    let bad = run(&["check", "nowhere.test"]).await;
    assert_eq!(code(&bad), 2, "{bad:?}");
    assert!(!bad.stdout.contains(&b'\x1b'), "colours in a pipe");
    assert_eq!(code(&run(&["check", "old.test"]).await), 64);
    assert_eq!(code(&run(&["check", "good.test", "-4", "-6"]).await), 64);
    assert_eq!(code(&run(&["check", "--help"]).await), 0);
    // nothing is published of the local domains
    let records = run(&["records", "--all", "--zone", "--target", "gate.old.test"]).await;
    assert_eq!(code(&records), 2, "{records:?}");
    let zone = String::from_utf8(records.stdout).unwrap();
    let [old, rooms] = ["old.test", "rooms.old.test"].map(|domain| {
        let start = format!("_xmpp-server._tcp.{domain}. IN SRV 0 0 ");
        zone.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("{zone}"))
    });
    assert!(old.ends_with(" gate.old.test.") && rooms.ends_with(" gate.old.test."), "{zone}");
    let json = run(&["records", "old.test", "--json"]).await;
    let mut members = BTreeSet::new();
    collect_members(&serde_json::from_slice(&json.stdout).unwrap(), &mut members);
    for member in members {
        assert!(README.contains(&format!("`{member}")), "{member} is not documented");
    }
    assert_eq!(code(&run(&["records", "good.test"]).await), 64);
    assert_eq!(code(&run(&["records"]).await), 64);
}
