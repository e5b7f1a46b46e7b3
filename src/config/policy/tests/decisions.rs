//! Rules by local domain, direction, list and address; key by key, and what no order changes.

use super::*;

fn decide<'p>(policy: &'p Policy, local: &str, remote: &str, direction: Direction) -> Decision<'p> {
    let (local, remote) = (domain(local), domain(remote));
    let query = Query { local: Some(&local), remote: &remote, direction, address: None };
    policy.decide(&query)
}

/// Who is refused, of what a table of rules has: `LOCAL REMOTE in|out`, and the reason.
#[track_caller]
fn table(text: &str, rows: &[(&str, Option<&str>)]) {
    let policy = policy(text);
    for (pair, expected) in rows {
        let [local, remote, direction] = pair.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{pair}");
        };
        let direction = if direction == "in" { Inbound } else { Outbound };
        let denied = decide(&policy, local, remote, direction).denied();
        let reason = denied.map(|denied| denied.reason.unwrap_or_default());
        assert_eq!(reason.as_deref(), *expected, "{pair}");
    }
}

#[test]
fn a_rule_for_a_local_domain_or_a_direction_beats_one_without() {
    table(
        "rules:\n\
         - { match: a.test, allow: none, reason: all }\n\
         - { match: a.test, local: hr.test, allow: both }\n\
         - { match: b.test, local: [hr.test, Legacy.test], allow: none, reason: locals }\n\
         - { match: b.test, local: hr.test, direction: inbound, allow: both }\n\
         - { match: c.test, direction: outbound, allow: inbound, reason: way }\n\
         - { match: '*', local: hr.test, allow: none, reason: hr }\n\
         - { match: '*.d.test', allow: both }\n",
        &[
            ("legacy.test a.test in", Some("all")),
            ("hr.test a.test in", None),
            ("hr.test a.test out", None),
            ("legacy.test b.test in", Some("locals")),
            ("hr.test b.test in", None),
            ("hr.test b.test out", Some("locals")),
            ("other.test b.test out", None),
            // what a rule for one direction says of the other is not meant
            ("legacy.test c.test in", None),
            ("legacy.test c.test out", Some("way")),
            // the remote domain comes first
            ("hr.test x.d.test in", None),
            ("hr.test x.test in", Some("hr")),
            ("hr.test c.test in", Some("hr")),
        ],
    );
}

#[test]
fn an_exact_allow_overrides_a_list_and_no_exact_deny() {
    table(
        "lists:\n  bad: { domains: [evil.test, '*.evil.test', ok.test, both.test, 203.0.113.0/24] }\n\
         rules:\n\
         - { match: list(bad), allow: none, reason: list }\n\
         - { match: [ok.test, '*.good.evil.test'], allow: both }\n\
         - { match: both.test, allow: both }\n\
         - { match: both.test, allow: none, reason: exact }\n\
         - { match: '*', allow: both }\n",
        &[
            ("legacy.test evil.test in", Some("list")),
            ("legacy.test x.evil.test out", Some("list")),
            ("legacy.test EVIL.test. in", Some("list")),
            ("legacy.test notevil.test in", None),
            ("legacy.test evil.test.example in", None),
            ("legacy.test ok.test in", None),
            ("legacy.test x.good.evil.test in", None),
            ("legacy.test good.evil.test in", Some("list")),
            ("legacy.test both.test in", Some("exact")),
        ],
    );
}

#[test]
fn between_lists_the_stricter_wins_and_else_the_first_by_name() {
    let policy = policy(
        "lists:\n  b: { domains: [x.test] }\n  a: { domains: [x.test, y.test] }\n  c: { domains: [x.test] }\n\
         rules:\n\
         - { match: list(b), allow: inbound, level: trusted, error: not-allowed }\n\
         - { match: list(a), allow: both, level: verified, error: forbidden, tls: { min: '1.2' } }\n\
         - { match: list(c), tls: { min: '1.3' } }\n",
    );
    let x = decide(&policy, "legacy.test", "x.test", Outbound);
    assert!(x.denied().is_some());
    assert_eq!(x.level(), Level::Trusted);
    assert_eq!(x.tls_min(), Some(TlsVersion::V1_3));
    assert_eq!(x.error(), Some(StanzaCondition::Forbidden));
    let y = decide(&policy, "legacy.test", "y.test", Outbound);
    assert!(y.denied().is_none());
    assert_eq!((y.level_wanted(), y.level()), (Level::Verified, Level::Encrypted));
}

#[test]
fn networks_of_a_list_refuse_unless_what_is_written_is_as_specific() {
    let policy = policy(
        "lists:\n  bad: { domains: [203.0.113.0/24, 198.51.100.7, '2001:db8::/32', '::ffff:192.0.2.1'] }\n\
         rules:\n\
         - { match: list(bad), allow: outbound, reason: list }\n\
         - { address: [203.0.113.0/24, 198.51.100.0/24, '2001:db8:1::/48'], allow: both }\n",
    );
    let reason = |address: &str, direction| {
        policy.address(ip(address), direction).map(|denied| denied.reason.unwrap().to_string())
    };
    assert_eq!(reason("203.0.113.1", Inbound), None, "as specific");
    assert_eq!(reason("198.51.100.7", Inbound).as_deref(), Some("list"));
    assert_eq!(reason("198.51.100.8", Inbound), None);
    assert_eq!(reason("2001:db8::1", Inbound).as_deref(), Some("list"));
    assert_eq!(reason("2001:db8:1::1", Inbound), None);
    assert_eq!(reason("::ffff:192.0.2.1", Inbound).as_deref(), Some("list"));
    assert_eq!(reason("192.0.2.1", Outbound), None);
    let refused: Vec<_> = policy
        .refused(Inbound)
        .iter()
        .map(|range| format!("{}-{}", range.start(), range.end()))
        .collect();
    assert_eq!(
        refused,
        [
            "192.0.2.1-192.0.2.1",
            "198.51.100.7-198.51.100.7",
            "2001:db8::-2001:db8:0:ffff:ffff:ffff:ffff:ffff",
            "2001:db8:2::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"
        ]
    );
}

#[test]
fn a_peer_has_to_come_from_where_its_rule_says() {
    let policy = policy(
        "rules:\n\
         - { match: eu.test, from_ip: [192.0.2.0/24, '2001:db8::/32'] }\n\
         - { match: eu.test, local: hr.test, from_ip: 198.51.100.1 }\n",
    );
    let denied = |local: &str, address: &str, direction| {
        let (local, remote) = (domain(local), domain("eu.test"));
        let address = Some(ip(address));
        let query = Query { local: Some(&local), remote: &remote, direction, address };
        policy.decide(&query).denied().is_some()
    };
    assert!(!denied("legacy.test", "192.0.2.9", Inbound));
    assert!(!denied("legacy.test", "::ffff:192.0.2.9", Inbound));
    assert!(denied("legacy.test", "198.51.100.1", Inbound));
    assert!(!denied("hr.test", "198.51.100.1", Inbound));
    assert!(denied("hr.test", "192.0.2.9", Inbound));
    assert!(!denied("hr.test", "192.0.2.9", Outbound), "where we connect DNS says");
}

#[test]
fn a_rule_that_has_expired_says_nothing() {
    let text = |date: &str| {
        format!(
            "rules:\n- {{ match: a.test, allow: none, expires: {date} }}\n- {{ address: 192.0.2.1, allow: none, expires: {date} }}\n"
        )
    };
    for (date, holds) in [
        ("2026-12-30", false),
        ("2027-01-01", false),
        ("2027-01-01T23:59:59Z", false),
        ("2027-01-02", true),
        ("2027-03-01T00:00:01Z", true),
    ] {
        let policy = policy(&text(date));
        assert_eq!(policy.domain(&domain("a.test"), Inbound).denied.is_some(), holds, "{date}");
        assert_eq!(policy.address(ip("192.0.2.1"), Inbound).is_some(), holds, "{date}");
    }
    // the clock of these tests stands at the end of 2027-01-01
    let next = |date: &str| policy(&text(date)).next_expiry(now()).map(|time| time.as_secs());
    assert_eq!(next("2027-01-02"), Some(86_400));
    assert_eq!(next("2027-01-20"), Some(5 * 86_400), "to warn");
    assert_eq!(next("2026-01-20"), None);
}

#[test]
fn in_mode_report_nothing_is_refused_that_the_defaults_would_let_through() {
    let policy = policy(
        "mode: report\ndefaults: { allow: none }\n\
         rules:\n\
         - { match: bank.test, allow: both, level: trusted, tls: { min: '1.3' } }\n\
         - { match: old.test, level: verified }\n\
         - { address: 192.0.2.0/24, allow: none }\n",
    );
    let bank = decide(&policy, "legacy.test", "bank.test", Inbound);
    assert_eq!((bank.level(), bank.level_wanted()), (Level::Encrypted, Level::Trusted));
    assert!(bank.suffices(Some(TlsVersion::V1_2), None).is_ok());
    assert!(bank.would_suffice(Some(TlsVersion::V1_3), None).is_err());
    assert!(bank.suffices(None, None).is_err(), "the defaults want TLS");
    let other = decide(&policy, "legacy.test", "other.test", Inbound);
    assert!(other.denied().is_none() && other.reported().is_some());
    assert!(bank.reported().is_none());
    assert_eq!(decide(&policy, "legacy.test", "old.test", Inbound).level(), Level::Verified);
    assert_eq!(policy.address(ip("192.0.2.1"), Inbound), None);
    assert!(policy.reported_address(ip("192.0.2.1"), Inbound).is_some());
    assert!(policy.address(ip("127.0.0.1"), Outbound).is_some(), "networks stay shut");
    assert!(policy.refused(Inbound).is_empty());
}

#[test]
fn in_mode_report_no_rule_has_a_limit_that_refuses_more_than_that_of_all() {
    let text = "rules:\n\
         - { match: low.test, limits: { stanza: 64KiB, queue: 64KiB, connect: 1s, connections_per_domain: 4 } }\n\
         - { match: high.test, limits: { stanza: 1MiB, queue: 8MiB, connect: 40s, connections_per_domain: 80 } }\n\
         - { match: slow.test, limits: { rate: 1KiB/s, stanza_rate: 1/s, idle: 15m } }\n";
    let all = Limits::default();
    let limits = |policy: &Policy, remote: &str| {
        let decision = decide(policy, "legacy.test", remote, Inbound);
        let stanza = decision.stanza_limit(&all);
        // what goes out is bounded by a rule alone
        let of_rule = Some(stanza).filter(|bytes| *bytes != all.stanza);
        assert_eq!(decision.stanza_rule(&all), of_rule, "{remote}");
        let (queue, connect) = (decision.queue_limit(&all), decision.connect_limit(&all));
        (stanza, queue, connect.as_secs(), decision.connections_limit(&all))
    };
    let (enforced, reported) = (policy(text), policy(&format!("mode: report\n{text}")));
    let of_all = (all.stanza, all.queue, all.connect.as_secs(), all.connections_per_domain);
    assert_eq!(limits(&enforced, "low.test"), (64 << 10, 64 << 10, 1, 4));
    assert_eq!(limits(&reported, "low.test"), of_all);
    for policy in [&enforced, &reported] {
        assert_eq!(limits(policy, "high.test"), (1 << 20, 8 << 20, 40, 80));
        // these refuse nothing
        let slow = decide(policy, "legacy.test", "slow.test", Inbound);
        let rates = (Rate::PerSecond(1 << 10), Rate::PerSecond(1));
        assert_eq!(slow.rate_limits(&all), rates);
        assert_eq!(slow.idle_limit(&all).as_secs(), 15 * 60);
        assert_eq!(limits(policy, "slow.test"), of_all);
    }
}

#[test]
fn in_mode_report_a_rule_that_denies_does_not_open_what_is_shut() {
    let text = "lists: { bad: { domains: [127.0.0.1, 169.254.169.254, 192.0.2.1] }, \
         partners: { domains: [10.6.0.0/16] } }\n\
         rules:\n\
         - { match: 'list(bad)', allow: none }\n\
         - { match: 'list(partners)', allow: both }\n\
         - { address: [10.6.2.0/24, 10.5.0.0/16], allow: none }\n\
         - { address: 10.5.0.0/16, allow: both }\n\
         - { address: [10.1.0.0/16, 192.168.0.0/16, 198.51.100.0/24], allow: none }\n\
         - { address: [172.16.0.0/24], allow: both }\n\
         - { address: [172.16.0.7], allow: none }\n";
    let (enforced, reported) = (policy(text), policy(&format!("mode: report\n{text}")));
    for shut in ["10.1.2.3", "192.168.1.1", "127.0.0.1", "169.254.169.254", "64:ff9b::10.1.2.3"] {
        assert!(enforced.address(ip(shut), Outbound).is_some(), "{shut}");
        let denied = reported.address(ip(shut), Outbound).unwrap_or_else(|| panic!("{shut}"));
        assert!(denied.reason.is_some(), "{shut}: {denied:?}");
        assert_eq!(reported.reported_address(ip(shut), Outbound), None, "{shut}");
        assert_eq!(reported.address(ip(shut), Inbound), None, "{shut}");
    }
    for open in ["192.0.2.1", "198.51.100.1", "172.16.0.7", "10.6.2.3", "10.5.2.3"] {
        assert!(enforced.address(ip(open), Outbound).is_some(), "{open}");
        assert_eq!(reported.address(ip(open), Outbound), None, "{open}");
        assert!(reported.reported_address(ip(open), Outbound).is_some(), "{open}");
    }
}

#[test]
fn a_level_lets_in_just_what_it_says() {
    use Prooftype as P;
    // TLS, what proves the certificate of the other end, and the levels that this is enough for
    let reached: [(Option<TlsVersion>, Option<P>, &[Level]); 7] = {
        use Level as L;
        const ALL: &[Level] = &[L::Permissive, L::Verified, L::Encrypted, L::Trusted];
        const V1_3: Option<TlsVersion> = Some(TlsVersion::V1_3);
        [
            (None, None, &[L::Permissive, L::Verified]),
            (V1_3, None, &[L::Permissive, L::Verified, L::Encrypted]),
            (V1_3, Some(P::Pkix), ALL),
            (V1_3, Some(P::Dane), ALL),
            (V1_3, Some(P::Posh), ALL),
            (V1_3, Some(P::Pin), ALL),
            (Some(TlsVersion::V1_2), Some(P::Pkix), ALL),
        ]
    };
    for level in [Level::Permissive, Level::Verified, Level::Encrypted, Level::Trusted] {
        let policy = policy(&format!("rules: [{{ match: a.test, level: {} }}]", level.as_str()));
        for (tls, prooftype, levels) in reached {
            for direction in [Inbound, Outbound] {
                let decision = decide(&policy, "legacy.test", "a.test", direction);
                let case = format!("{level:?} {tls:?} {prooftype:?} {direction:?}");
                let enough = levels.contains(&level);
                assert_eq!(decision.enough(tls, prooftype, prooftype).is_ok(), enough, "{case}");
                // a dialback key is worth what proves the server that confirms it
                let dialback = Some(P::Dialback);
                assert_eq!(decision.enough(tls, dialback, prooftype).is_ok(), enough, "{case}");
            }
        }
    }
}

#[test]
fn only_prooftypes_that_are_named_count_and_pins_are_exclusive() {
    let key = format!("sha256/{}=", "A".repeat(43));
    let policy = policy(&format!(
        "rules:\n\
         - {{ match: dane.test, proofs: dane }}\n\
         - {{ match: weak.test, proofs: [dialback, pkix] }}\n\
         - {{ match: pin.test, pins: '{key}' }}\n\
         - {{ match: new.test, tls: {{ min: '1.3' }}, level: permissive }}\n"
    ));
    let enough = |name: &str, prooftype: Option<Prooftype>| {
        let decision = decide(&policy, "legacy.test", name, Inbound);
        decision.enough(Some(TlsVersion::V1_2), prooftype, prooftype).is_ok()
    };
    use Prooftype as P;
    let all = [None, Some(P::Dane), Some(P::Pin), Some(P::Pkix), Some(P::Posh)];
    assert_eq!(all.map(|p| enough("dane.test", p)), [false, true, false, false, false]);
    assert_eq!(all.map(|p| enough("weak.test", p)), [true, false, false, true, false]);
    assert_eq!(all.map(|p| enough("pin.test", p)), [false, false, true, false, false]);
    assert_eq!(all.map(|p| enough("new.test", p)), [false; 5]);
    let new = decide(&policy, "legacy.test", "new.test", Inbound);
    let short = new.suffices(None, None).unwrap_err();
    assert_eq!(short.to_string(), "no TLS (rule at conf.d/1.yaml:5)");
    let levels = ["dane.test", "weak.test", "pin.test", "new.test", "other.test"]
        .map(|name| decide(&policy, "legacy.test", name, Inbound).level());
    use Level as L;
    assert_eq!(levels, [L::Trusted, L::Encrypted, L::Trusted, L::Encrypted, L::Encrypted]);
    assert!(policy.has_clear() && !Policy::default().has_clear());
}

#[test]
fn the_lowest_tls_version_of_all_holds_for_streams_that_are_open_in_every_mode() {
    use TlsVersion::{V1_2, V1_3};
    let rules =
        "rules: [{ match: new.test, tls: { min: '1.3' } }, { match: old.test, level: verified }]\n";
    let [new, old, other] = ["new.test", "old.test", "other.test"];
    for (text, tls, refused) in [
        ("", Some(V1_2), &[new][..]),
        ("", None, &[new, other]),
        ("tls: { min_version: '1.3' }\n", Some(V1_2), &[new, old, other]),
        ("tls: { min_version: '1.3' }\n", Some(V1_3), &[]),
        ("tls: { min_version: '1.3' }\n", None, &[new, other]),
        ("mode: report\n", Some(V1_2), &[]),
        ("mode: report\ntls: { min_version: '1.3' }\n", Some(V1_2), &[new, old, other]),
        ("mode: report\ntls: { min_version: '1.3' }\n", Some(V1_3), &[]),
    ] {
        let policy = policy(&format!("{text}{rules}"));
        for direction in [Inbound, Outbound] {
            let falls_short = |name: &&str| {
                decide(&policy, "legacy.test", name, direction).suffices(tls, None).is_err()
            };
            let found: Vec<_> = [new, old, other].into_iter().filter(falls_short).collect();
            assert_eq!(found, refused, "{text:?} {tls:?}");
        }
    }
    let policy = policy("tls: { min_version: '1.3' }\n");
    let other = decide(&policy, "legacy.test", "other.test", Inbound);
    assert_eq!(other.suffices(Some(V1_2), None).unwrap_err().to_string(), "TLS below 1.3");
    assert_eq!(other.tls_min(), None, "no rule says so");
}

#[test]
fn an_explanation_names_every_rule_that_matched_and_what_counts() {
    let policy = policy(
        "lists: { bad: { domains: ['*.test'] } }\n\
         rules:\n\
         - { match: list(bad), allow: none, level: trusted, reason: why }\n\
         - { match: [a.b.test, '*.b.test'], allow: both }\n\
         - { match: '*.test', direction: outbound, level: encrypted }\n\
         - { match: a.b.test, local: hr.test, allow: none }\n",
    );
    let (local, remote) = (domain("legacy.test"), domain("a.b.test"));
    let query = Query { local: Some(&local), remote: &remote, direction: Inbound, address: None };
    let explained = policy.explain(&query);
    let said: Vec<_> = explained
        .matched
        .iter()
        .map(|rule| {
            let says = rule.says.iter();
            let says = says.map(|(key, value, counts)| {
                format!("{key}={value}{}", if *counts { "+" } else { "" })
            });
            format!("{} {} {}", rule.place, rule.by, says.collect::<Vec<_>>().join(" "))
        })
        .collect();
    assert_eq!(
        said,
        [
            "conf.d/1.yaml:4 a.b.test allow=yes+",
            "conf.d/1.yaml:3 list(bad) allow=no level=trusted+"
        ]
    );
    assert!(explained.decision.denied().is_none());
    assert_eq!(explained.matched[1].line.as_deref(), Some("conf.d/1.yaml:1"));
    assert_eq!(explained.matched[1].reason, Some("why"));
}

#[test]
fn a_hundred_thousand_lines_take_little_memory_and_one_hash_a_label() {
    let mut list = List::named("spam.txt".into());
    for n in 0..100_000 {
        let name = format!("spam-domain-number-{n}.example");
        list.add(crate::config::lists::entry(&name).unwrap(), n + 1);
        let network = format!("2001:db8:{:x}:{:x}::/64", n >> 16, n & 0xffff);
        list.add(crate::config::lists::entry(&network).unwrap(), n + 1);
    }
    assert_eq!(list.len(), 200_000);
    let mut policy =
        policy("lists: { spam: { domains: [] } }\nrules: [{ match: list(spam), allow: none }]");
    let bytes = list.memory();
    policy.fill("spam", Arc::new(list));
    assert!(bytes < 30 << 20, "{bytes}");
    let denied = |name: &str| policy.domain(&domain(name), Inbound).denied.is_some();
    assert!(denied("spam-domain-number-0.example") && denied("spam-domain-number-99999.example"));
    assert!(!denied("spam-domain-number-100000.example"));
    assert!(policy.address(ip("2001:db8:1:86a0::1"), Inbound).is_none());
    assert!(policy.address(ip("2001:db8:1:869f::1"), Inbound).is_some());
}

/// Prints what 100,000 lines cost: `cargo test --release --lib what_a_hundred -- --ignored --nocapture`.
#[test]
#[ignore = "it measures"]
fn what_a_hundred_thousand_lines_cost() {
    use std::{hint::black_box, time::Instant};
    let text: String = (0..100_000).map(|n| format!("spam-domain-number-{n}.example\n")).collect();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("spam.txt"), text).unwrap();
    let rules = "lists: { spam: { file: spam.txt } }\nrules: [{ match: list(spam), allow: none }]";
    std::fs::write(directory.path().join("a.yaml"), with_server(rules)).unwrap();
    let began = Instant::now();
    let config = crate::config::load(directory.path()).unwrap().config;
    eprintln!("loaded in {:?}", began.elapsed());
    for name in ["spam-domain-number-77777.example", "im.some.other.example"] {
        let remote = domain(name);
        let query = Query { local: None, remote: &remote, direction: Inbound, address: None };
        let began = Instant::now();
        for _ in 0..100_000 {
            black_box(config.policy.decide(black_box(&query)));
        }
        eprintln!("{name}: {:?} a lookup", began.elapsed() / 100_000);
    }
}
