use std::fs;

use super::*;
use crate::{
    auth::{Proof, memory::Shown},
    config::{self, model::TlsVersion},
    xmpp::Direction,
};

fn policy(rules: &str) -> Policy {
    let dir = tempfile::tempdir().unwrap();
    let legacy = "legacy: { old: { address: '127.0.0.1:1', domains: [old.test, hr.test] } }";
    fs::write(dir.path().join("a.yaml"), format!("version: 1\n{legacy}\n{rules}\n")).unwrap();
    config::load(dir.path()).unwrap_or_else(|problems| panic!("{problems}")).config.policy
}

/// `a.test` once reached more than the last time, `clear.test` never had TLS, `no.test` was refused,
/// and `past.test` is long gone.
fn memory() -> Memory {
    let mut memory = Memory::default();
    let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let domain = |name: &str| Domain::parse(name).unwrap();
    let mut saw = |name: &str, tls, when| {
        let proof = Proof::dialback(domain(name), None);
        let shown = Shown::new(tls, Some(&proof), None, at(when));
        memory.saw(&domain(name), Direction::Inbound, &shown, false);
    };
    saw("a.test", Some(TlsVersion::V1_3), 100);
    saw("a.test", None, 101);
    saw("clear.test", None, 100);
    saw("past.test", None, 1);
    memory.was_refused(&domain("no.test"), Direction::Outbound, at(100));
    memory
}

fn compare(now: &str, new: &str) -> Report {
    simulate(&memory(), &policy(now), &policy(new), 50)
}

fn said(changes: &[Change]) -> Vec<String> {
    let said = changes.iter().map(|c| {
        let rule = c.rule.as_deref().unwrap_or_default().rsplit_once("/a.yaml").map_or("", |r| r.1);
        format!("{} {} {:?} {rule}", c.domain, c.direction, c.local)
    });
    said.collect()
}

const NOW: &str = "defaults: { level: verified }\nrules: [{ match: no.test, allow: none }]";

#[test]
fn the_same_policy_changes_nothing() {
    let report = compare(NOW, NOW);
    assert_eq!((report.seen, report.refused, report.admitted), (3, vec![], vec![]));
}

#[test]
fn whoever_would_be_refused_is_named_with_the_rule() {
    let report = compare(NOW, &format!("{NOW}\n").replace("verified", "encrypted"));
    let expected = ["a.test inbound [] :3", "clear.test inbound [] :3"];
    assert_eq!(said(&report.refused), expected);
    assert_eq!(report.refused[0].level, Some("verified"));
    assert_eq!(report.refused[0].proof, Some("dialback-weak"));
    assert!(report.refused[0].why.starts_with("no TLS"));
    let text = report.to_text(30);
    assert!(
        text.contains("clear.test  inbound  verified, dialback-weak, last seen 1970-"),
        "{text}"
    );
    assert!(text.ends_with("3 seen in 30 days, counted by direction: 2 refused, 0 admitted\n"));

    let report = compare(NOW, &NOW.replace("verified }", "verified, downgrade: refuse }"));
    assert_eq!(said(&report.refused), ["a.test inbound [] :3"]);
    assert_eq!(report.refused[0].why, "it was encrypted before");
}

#[test]
fn whoever_was_refused_and_would_be_let_in_is_named_too() {
    let report = compare(NOW, "defaults: { level: verified }");
    assert_eq!(report.refused, []);
    assert_eq!(said(&report.admitted), ["no.test outbound [] :4"]);
    assert_eq!((report.admitted[0].level, report.admitted[0].proof), (None, None));
    assert!(report.to_text(7).contains("    was refused: denied (rule at "));
}

#[test]
fn local_domains_are_named_where_it_is_not_so_for_all() {
    let deny = |local: &str| {
        NOW.replace("[{", &format!("[{{ match: clear.test, {local} allow: none }}, {{"))
    };
    let report = compare(NOW, &deny("local: hr.test,"));
    assert_eq!(said(&report.refused), ["clear.test inbound [\"hr.test\"] :4"]);
    let both = compare(&NOW.replace("no.test,", "no.test, local: hr.test,"), &deny(""));
    assert_eq!(said(&both.refused)[0], "clear.test inbound [] :4");
    assert_eq!(both.refused.len(), 2, "and no.test for all others");
}

#[test]
fn in_mode_report_nobody_is_refused_by_rule() {
    let report = compare(NOW, "mode: report\ndefaults: { allow: none, level: verified }");
    assert_eq!(report.refused, []);
    assert_eq!(said(&report.admitted), ["no.test outbound [] :4"]);
}
