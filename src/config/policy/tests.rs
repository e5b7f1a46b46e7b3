//! Specificity, and that order decides nothing: rules as they are written, in files.

use proptest::prelude::*;

use super::*;
use crate::auth::Prooftype;
use crate::config::model::{Limits, Rate, TlsVersion};
use crate::config::{
    civil::Instant,
    dump,
    load::{Origin, assemble},
    model::Config,
    problem::{Problems, Reports, Source},
};
use crate::xmpp::StanzaCondition;

use Direction::{Inbound, Outbound};

mod decisions;
mod outcomes;
mod trust;

#[test]
fn the_most_specific_domain_rule_wins_key_by_key() {
    let policy = policy(
        "defaults: { allow: outbound, level: trusted }\n\
         rules:\n\
         - { match: '*', allow: both }\n\
         - { match: '*.example', allow: none, level: encrypted, reason: zone }\n\
         - { match: '*.good.example', allow: both }\n\
         - { match: bad.good.example, allow: inbound, level: trusted, reason: bad }\n",
    );
    let judged = |name: &str| {
        let both = [Inbound, Outbound].map(|d| policy.domain(&domain(name), d));
        let reasons = both.clone().map(|v| v.denied.map(|d| d.reason.unwrap().to_string()));
        (reasons, both[0].level)
    };
    let zone = || Some("zone".to_owned());
    assert_eq!(judged("a.test"), ([None, None], Level::Trusted));
    assert_eq!(judged("a.example"), ([zone(), zone()], Level::Encrypted));
    assert_eq!(judged("good.example"), ([zone(), zone()], Level::Encrypted));
    assert_eq!(judged("a.b.good.example"), ([None, None], Level::Encrypted));
    assert_eq!(judged("bad.good.example"), ([None, Some("bad".into())], Level::Trusted));
    assert_eq!(judged("a.bad.good.example"), ([None, None], Level::Encrypted));
}

#[test]
fn a_verdict_names_the_place_of_its_rules() {
    let policy = policy("defaults: { allow: none }\nrules:\n- { match: a.test, level: trusted }\n");
    let verdict = policy.domain(&domain("a.test"), Inbound);
    assert_eq!(verdict.denied.unwrap().rule.to_string(), "conf.d/1.yaml:1");
    assert_eq!(verdict.level_rule.unwrap().to_string(), "conf.d/1.yaml:3");
}

#[test]
fn at_equal_specificity_each_direction_is_denied_by_who_denies_it() {
    let policy = policy(
        "rules:\n\
         - { match: a.test, allow: inbound, reason: no outbound }\n\
         - { match: A.test, allow: outbound, reason: no inbound }\n\
         - { match: a.test, allow: both }\n",
    );
    let reason = |d| policy.domain(&domain("a.test"), d).denied.unwrap().reason.unwrap();
    assert_eq!(&*reason(Inbound), "no inbound");
    assert_eq!(&*reason(Outbound), "no outbound");
}

#[test]
fn no_spelling_of_a_name_slips_past_a_rule() {
    let policy = policy(
        "rules:\n\
         - { match: ['*.example.com', evil.test, bücher.test, '*.xn--bcher-kva.example'], allow: none }\n",
    );
    let denied = |name: &str| policy.domain(&domain(name), Inbound).denied.is_some();
    for name in [
        "a.example.com",
        "A.EXAMPLE.com.",
        "a。example｡com",
        "a.b.c.example.com",
        "evil.test",
        "Evil.TEST.",
        "ｅｖｉｌ.test",
        "evil\u{ad}.test",
        "bücher.test",
        "XN--BCHER-KVA.test",
        "BÜCHER.test",
        "a.bücher.example",
    ] {
        assert!(denied(name), "{name}");
    }
    for name in [
        "example.com",
        "evil-example.com",
        "aexample.com",
        "example.com.test",
        "a.example.co",
        "a.evil.test",
        "evil.test.example",
        "bucher.test",
        "bücher.example",
        "xevil.test",
    ] {
        assert!(!denied(name), "{name}");
    }
}

#[test]
fn the_longest_prefix_wins_and_at_equal_length_the_stricter() {
    let policy = policy(
        "rules:\n\
         - { address: 203.0.113.0/24, allow: none, reason: net }\n\
         - { address: 203.0.113.128/25, allow: inbound }\n\
         - { address: 203.0.113.129, allow: both }\n\
         - { address: 198.51.100.7, allow: both }\n\
         - { address: 198.51.100.7, allow: outbound, reason: twice }\n\
         - { address: '2001:db8::/32', allow: none }\n\
         - { address: '::/0', allow: outbound }\n",
    );
    let denied = |text: &str| [Inbound, Outbound].map(|d| policy.address(ip(text), d).is_some());
    assert_eq!(denied("203.0.113.1"), [true, true]);
    assert_eq!(denied("::ffff:203.0.113.1"), [true, true]);
    assert_eq!(denied("203.0.113.200"), [false, true]);
    assert_eq!(denied("203.0.113.129"), [false, false]);
    assert_eq!(denied("198.51.100.7"), [true, false]);
    assert_eq!(denied("192.0.2.1"), [false, false]);
    assert_eq!(denied("2001:db8::1"), [true, true]);
    assert_eq!(denied("2001:db9::1"), [true, false]);
    let reason = policy.address(ip("203.0.113.1"), Inbound).unwrap().reason;
    assert_eq!(reason.as_deref(), Some("net"));
}

#[test]
fn own_networks_are_guarded_from_outbound_connections_alone() {
    let policy = policy("rules: []\n");
    for text in [
        "10.1.2.3",
        "172.31.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "127.0.0.1",
        "127.9.9.9",
        "169.254.169.254",
        "::1",
        "fd00::1",
        "fe80::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::1",
    ] {
        let denied = policy.address(ip(text), Outbound).unwrap_or_else(|| panic!("{text}"));
        assert!(denied.reason.is_some());
        assert_eq!(policy.address(ip(text), Inbound), None, "{text}");
    }
    for text in ["192.0.2.1", "172.32.0.1", "100.128.0.1", "2001:db8::1", "64:ff9b::192.0.2.1"] {
        assert_eq!(policy.address(ip(text), Outbound), None, "{text}");
    }
}

#[test]
fn a_rule_for_the_same_network_or_a_smaller_one_lifts_a_guarded_word() {
    let policy = policy(
        "rules:\n\
         - { address: [10.1.0.0/16, '::1', 192.168.0.0/16], allow: both }\n\
         - { address: [127.0.0.1], allow: outbound }\n\
         - { address: [0.0.0.0/0, '::/0'], allow: both }\n",
    );
    for text in ["10.1.2.3", "::1", "192.168.1.1", "127.0.0.1", "64:ff9b::10.1.2.3"] {
        assert_eq!(policy.address(ip(text), Outbound), None, "{text}");
    }
    for text in ["10.2.0.1", "127.0.0.2", "172.16.0.1", "fe80::1"] {
        assert!(policy.address(ip(text), Outbound).is_some(), "{text}");
    }
}

#[test]
fn a_guarded_network_that_is_written_out_is_a_rule_among_rules() {
    let policy = policy(
        "networks: { deny_out: [192.0.2.0/24, 198.51.100.0/24] }\n\
         rules:\n\
         - { address: [192.0.2.0/24, 198.51.100.1], allow: both }\n",
    );
    let denied = policy.address(ip("192.0.2.1"), Outbound).unwrap();
    assert_eq!(denied.rule.to_string(), "conf.d/1.yaml:1");
    assert_eq!(policy.address(ip("192.0.2.1"), Inbound), None);
    assert_eq!(policy.address(ip("198.51.100.1"), Outbound), None);
    assert!(policy.address(ip("198.51.100.2"), Outbound).is_some());
    assert_eq!(policy.address(ip("127.0.0.1"), Outbound), None);
}

#[test]
fn addresses_of_nobody_are_denied_whatever_the_rules_say() {
    let policy = policy(
        "networks: { deny_out: [] }\nrules:\n- { address: [0.0.0.0/0, '::/0', '::', 255.255.255.255], allow: both }\n",
    );
    for text in
        ["0.0.0.0", "0.1.2.3", "255.255.255.255", "224.0.0.1", "::", "ff02::1", "::ffff:0.0.0.0"]
    {
        for direction in [Inbound, Outbound] {
            assert!(policy.address(ip(text), direction).is_some(), "{text}");
        }
    }
    assert!(Policy::default().address(ip("::"), Outbound).is_some());
    assert_eq!(Policy::default().address(ip("127.0.0.1"), Outbound), None);
}

#[test]
fn a_name_of_very_many_labels_is_judged() {
    let policy = policy("rules:\n- { match: '*.b', allow: none }\n");
    let name = format!("{}b", "a.".repeat(126));
    assert!(policy.domain(&domain(&name), Inbound).denied.is_some());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
    #[test]
    fn neither_order_nor_files_change_a_verdict(
        (rules, shuffled) in prop::collection::vec(rule(), 0..12)
            .prop_flat_map(|rules| (Just(rules.clone()), Just(rules).prop_shuffle())),
        cut in 0_usize..12,
    ) {
        let one = judged(&[&rules]);
        let cut = cut.min(shuffled.len());
        let (first, second) = shuffled.split_at(cut);
        prop_assert_eq!(&one, &judged(&[&shuffled]));
        prop_assert_eq!(&one, &judged(&[first, second]));
    }

    #[test]
    fn rules_that_are_written_down_judge_the_same(
        rules in prop::collection::vec(rule(), 0..12),
        deny_out in prop::sample::subsequence(vec!["private", "loopback", "10.0.0.0/8", "::1"], 0..=4),
    ) {
        let quoted: Vec<_> = deny_out.iter().map(|network| format!("'{network}'")).collect();
        let deny_out = format!("networks: {{ deny_out: [{}] }}\n", quoted.join(", "));
        if let Ok(config) = read(&[with_server(&format!("{}{deny_out}{LISTS}", in_file(&rules)))]) {
            let text = dump(&config).unwrap();
            let again = read(std::slice::from_ref(&text)).unwrap();
            prop_assert_eq!(verdicts(&again.policy), verdicts(&config.policy), "{}", text);
        }
    }
}

/// Rules that meet each other often.
fn rule() -> impl Strategy<Value = String> {
    let allow = prop::sample::select(vec!["both", "inbound", "outbound", "none"]);
    let reason = prop::option::of(prop::sample::select(vec!["x", "y"]));
    let pattern = prop::sample::select(vec![
        "*",
        "*.test",
        "*.a.test",
        "a.test",
        "A.test",
        "b.a.test",
        "list(one)",
        "list(two)",
    ]);
    let address =
        prop::sample::select(vec!["10.0.0.0/8", "10.0.0.1", "0.0.0.0/0", "::1", "fd00::/8"]);
    let levels =
        vec!["level: trusted", "level: verified", "error: forbidden", "error: not-allowed"];
    let level = prop::option::weighted(0.2, prop::sample::select(levels));
    let scopes = vec!["local: hr.test", "local: [hr.test, legacy.test]", "direction: inbound"];
    let scope = prop::option::weighted(0.3, prop::sample::select(scopes));
    (any::<bool>(), pattern, address, allow, level, scope, reason).prop_map(
        |(by_name, p, a, allow, level, scope, reason)| {
            let more: String = [level, scope]
                .into_iter()
                .flatten()
                .filter(|_| by_name)
                .map(|more| format!(", {more}"))
                .collect();
            let reason = reason.map(|r| format!(", reason: {r}")).unwrap_or_default();
            let what = if by_name { format!("match: '{p}'") } else { format!("address: '{a}'") };
            format!("{{ {what}, allow: {allow}{more}{reason} }}")
        },
    )
}

/// The lists that the rules name.
const LISTS: &str = "lists: { one: { domains: [b.a.test, '*.example', 10.0.0.0/9] }, \
     two: { domains: ['*.a.test', xa.test, '::1'] } }\n";

/// The reason of a refusal, the level, and what senders are told.
type Judged = (Option<Option<Arc<str>>>, Option<Level>, Option<StanzaCondition>);

/// What the rules, in files, say of everything; none if they conflict.
fn judged(files: &[&[String]]) -> Option<Vec<Judged>> {
    let mut texts: Vec<_> = files.iter().map(|rules| in_file(rules)).collect();
    texts.push(LISTS.to_owned());
    let policy = build(&texts).ok()?;
    Some(verdicts(&policy))
}

fn in_file(rules: &[String]) -> String {
    format!("rules: [{}]\n", rules.join(", "))
}

fn verdicts(policy: &Policy) -> Vec<Judged> {
    let names = ["a.test", "b.a.test", "c.b.a.test", "test.example", "xa.test"];
    let addresses = ["10.0.0.1", "10.0.0.2", "192.0.2.1", "::1", "fd00::1", "::ffff:10.0.0.1"];
    let mut all = Vec::new();
    for direction in [Inbound, Outbound] {
        for (name, local) in
            names.iter().flat_map(|name| [(name, "hr.test"), (name, "legacy.test")])
        {
            let (local, remote) = (domain(local), domain(name));
            let query = Query { local: Some(&local), remote: &remote, direction, address: None };
            let decision = policy.decide(&query);
            let reason = decision.denied().map(|d| d.reason);
            all.push((reason, Some(decision.level()), decision.error()));
        }
        for address in addresses {
            all.push((policy.address(ip(address), direction).map(|d| d.reason), None, None));
        }
    }
    all
}

fn policy(text: &str) -> Policy {
    build(&[text.to_owned()]).unwrap_or_else(|problems| panic!("{problems}"))
}

fn build(files: &[String]) -> Result<Policy, Problems> {
    read(&[files, &[with_server("")]].concat()).map(|config| config.policy)
}

fn with_server(text: &str) -> String {
    format!(
        "version: 1\n\
         legacy: {{ old: {{ address: 'a:1', domains: [legacy.test, hr.test, other.test] }} }}\n{text}"
    )
}

fn read(files: &[String]) -> Result<Config, Problems> {
    let name = |n: usize| format!("conf.d/{}.yaml", n + 1);
    let sources: Vec<_> =
        files.iter().enumerate().map(|(n, text)| Source::new(name(n), text.clone())).collect();
    let mut out = Reports::new(&sources);
    let config = assemble(Origin::made_up(), &sources, true, now(), &mut out);
    out.finish().map(|_| config)
}

fn now() -> Instant {
    Instant::parse_end("2027-01-01").unwrap()
}

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
