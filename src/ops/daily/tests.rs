use super::*;
use crate::{
    auth::{dane::DaneError, pkix::PkixError},
    xmpp::Domain,
};

/// 2026-11-22, at noon.
const NOON: u64 = 1_795_305_600 + DAY / 2;

fn fact<'a>(remote: &'a str, reason: &'a str, detail: &'a str) -> Fact<'a> {
    Fact { direction: "outbound", remote, reason, detail }
}

#[test]
fn failures_have_the_types_of_the_rfc() {
    let domain = || Domain::parse("a.example").unwrap();
    let name = PkixError::Name { wanted: domain(), presented: "b.example".into() };
    let issuer = PkixError::UnknownIssuer { issuer: "CN=x".into(), sent: 0 };
    let no_match = DaneError::NoMatch { base: "a.example".into(), usable: 1 };
    let trust = DaneError::TrustAnchor { base: "a.example".into(), source: PkixError::SelfSigned };
    for (reason, detail, expected) in [
        ("tls", "the peer refused STARTTLS".to_owned(), "starttls-not-supported"),
        ("tls", "peer does not speak TLS".to_owned(), "validation-failure"),
        ("not-proven", name.to_string(), "certificate-host-mismatch"),
        ("not-proven", issuer.to_string(), "certificate-not-trusted"),
        ("not-proven", PkixError::SelfSigned.to_string(), "certificate-not-trusted"),
        ("not-proven", no_match.to_string(), "tlsa-invalid"),
        ("not-proven", trust.to_string(), "tlsa-invalid"),
        ("not-proven", "certificate expired on 2026-01-01".to_owned(), "certificate-expired"),
        ("resolution", "SRV x: dnssec validation failed".to_owned(), "dnssec-invalid"),
        ("resolution", "SRV x: timeout".to_owned(), "validation-failure"),
        // strangers' words say nothing
        ("stream", "stream error (STARTTLS expired on)".to_owned(), "validation-failure"),
    ] {
        assert_eq!(result_type(reason, &detail), expected, "{reason} {detail}");
    }
}

#[test]
fn a_day_is_counted_told_and_counted_on() {
    let mut day = Day::of(NOON);
    for _ in 0..3 {
        day.failed(fact("a.example", "unreachable", "refused"));
    }
    day.failed(fact("a.example", "tls", "no TLS"));
    day.succeeded("a.example");
    day.succeeded("b.example");
    let report = day.report("l.example");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["organization-name"], "l.example");
    assert_eq!(json["date-range"]["start-datetime"], "2026-11-22T00:00:00Z");
    assert_eq!(json["date-range"]["end-datetime"], "2026-11-22T23:59:59Z");
    let a = &json["policies"][0];
    assert_eq!(a["policy"]["policy-domain"], "a.example");
    assert_eq!(a["summary"]["total-successful-session-count"], 1);
    assert_eq!(a["summary"]["total-failure-session-count"], 4);
    assert_eq!(a["failure-details"][0]["failed-session-count"], 3);
    assert_eq!(a["failure-details"][0]["failure-reason-code"], "unreachable");
    assert_eq!(a["failure-details"][1]["result-type"], "starttls-not-supported");
    assert_eq!(json["policies"][1]["failure-details"], serde_json::json!([]));
    assert_eq!(day.file_name(), "2026-11-22.json");
    let mut again = Day::of(NOON).after(serde_json::from_value(json).unwrap());
    assert_eq!(again, day);
    again.failed(fact("a.example", "unreachable", "refused"));
    let total = again.report("l.example").policies[0].summary.total_failure_session_count;
    assert_eq!(total, 5);
    assert!(!day.is_over(NOON + DAY / 2 - 1));
    assert!(day.is_over(NOON + DAY / 2));
}

#[test]
fn strangers_cannot_make_it_grow() {
    let mut day = Day::of(NOON);
    for n in 0..DOMAINS + 500 {
        day.failed(fact(&format!("d{n}.example"), "stream", "x"));
    }
    for n in 0..3 * KINDS {
        day.failed(fact("d1.example", &format!("r{n}"), &"ä".repeat(1000)));
    }
    let report = day.report("l.example");
    assert_eq!(report.policies.len(), DOMAINS + 1);
    let of = |domain: &str| {
        let mut all = report.policies.iter();
        all.find(|policy| policy.policy.policy_domain == domain).unwrap()
    };
    assert_eq!(of(OTHERS).summary.total_failure_session_count, 500);
    let many = of("d1.example");
    assert_eq!(many.summary.total_failure_session_count, 1 + 3 * KINDS as u64);
    assert!(many.failure_details.len() <= KINDS + 1);
    assert!(many.failure_details.iter().all(|d| d.additional_information.chars().count() <= 200));
}

#[test]
fn only_old_reports_go() {
    for (name, goes) in [
        ("2026-11-22.json", false),
        ("2026-11-15.json", false),
        ("2026-11-14.json", true),
        ("2025-12-31.json", true),
        ("2026-11-14.json.bak", false),
        ("20261-1-14.json", false),
        ("notes.json", false),
        ("0000.json", false),
    ] {
        assert_eq!(is_outdated(name, NOON, 7), goes, "{name}");
    }
}
