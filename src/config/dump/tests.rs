//! What is written is what is read, for rules that meet in one place and for hard text.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, sync::Arc, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::config::{
    civil::Instant,
    load::{Origin, assemble},
    policy::{Allow, Pattern, Place, Policy, Rule, Terms},
    problem::{Problems, Reports, Source},
};

#[test]
fn rules_are_written_as_they_are_by_what_they_match() {
    let text = written(
        "defaults: { allow: outbound }\n\
         rules:\n\
         - { match: ['*', b.test, '*.a.test', A.test], allow: none, reason: x }\n\
         - { match: a.test, level: trusted }\n\
         - { match: c.test, allow: outbound, reason: in }\n\
         - { match: c.test, allow: inbound, reason: out, level: trusted }\n\
         - { address: [192.0.2.1, '::ffff:198.51.100.0/120'], allow: both, reason: lost }\n\
         - { address: 192.0.2.0/24, allow: inbound }\n",
    );
    let rules = text.split_once("defaults:").unwrap().1;
    assert_eq!(
        format!("defaults:{rules}"),
        "defaults:\n  allow: outbound\n  level: encrypted\n  downgrade: alert\n\
         lists: {}\n\
         roles: {}\n\
         rules:\n\
         - match:\n  - '*'\n  - b.test\n  - '*.a.test'\n  - a.test\n  allow: none\n  reason: x\n\
         - match:\n  - a.test\n  level: trusted\n\
         - match:\n  - c.test\n  allow: inbound\n  level: trusted\n  reason: out\n\
         - match:\n  - c.test\n  allow: outbound\n  reason: in\n\
         - address:\n  - 192.0.2.0/24\n  allow: inbound\n\
         - address:\n  - 192.0.2.1/32\n  - 198.51.100.0/24\n  allow: both\n  reason: lost\n\
         networks:\n  deny_out:\n  - link-local\n  - loopback\n  - private\n"
    );
}

#[test]
fn guarded_networks_are_written_as_words_and_networks() {
    let networks = |text: &str| {
        let text = written(text);
        text.split_once("deny_out:").unwrap().1.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(networks("networks: { deny_out: [] }"), "[]");
    assert_eq!(networks("networks: { deny_out: [loopback] }"), "- loopback");
    assert_eq!(
        networks("networks: { deny_out: ['fe80::/10', 10.0.0.0/8, loopback, private] }"),
        "- loopback - private - 10.0.0.0/8 - fe80::/10"
    );
}

#[test]
fn what_only_a_default_can_say_is_left_to_the_default() {
    assert!(
        written("listen: { local: ['127.0.0.1:0'] }")
            .contains("steer:\n  address:\n  - 127.0.0.1\nt")
    );
    assert!(written("listen: { local: ['[ff02::1]:0'] }").contains("steer: {}\n"));
}

#[test]
fn text_stays_text() {
    for name in ["null", "~", "Null", "010", "1.10", "no", "yes", "<<", "[a", "a: b", "- a", "# a"]
    {
        written(&format!("rules: [{{ match: a.test, allow: none, reason: '{name}' }}]"));
    }
    for name in [" ", "a\u{2029} b", "\u{feff}a", "\u{200b}", "'\"\\", "\u{1f980}"] {
        round_trip(&config_with_name(name));
    }
}

#[test]
fn what_yaml_would_not_give_back_is_an_error() {
    for name in ["\u{2028}", "a\u{2029}b"] {
        let error = dump(&config_with_name(name)).unwrap_err();
        assert!(matches!(error, DumpError::LineSeparator));
    }
    let mut config = read("").unwrap();
    config.state_dir = OsStr::from_bytes(b"/\xff").into();
    assert!(matches!(dump(&config).unwrap_err(), DumpError::NotUtf8(_)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    #[test]
    fn any_text_is_written_so_that_it_is_read_as_it_was(
        name in "[\\PC--[\u{2028}\u{2029}]]{1,16}",
        reason in "[\\PC--[\u{2028}\u{2029}]]{0,40}",
        path in "/[^\0\u{2028}\u{2029}]{0,20}",
    ) {
        let mut config = config_with_name(&name);
        config.state_dir = path.into();
        config.policy.add_rule(Rule {
            patterns: vec![Pattern::Any],
            local: Vec::new(),
            direction: None,
            terms: Terms { allow: Some(Allow { inbound: false, outbound: true }), ..Terms::default() },
            reason: Some(reason.as_str().into()),
            expires: None,
            place: Place::words("test"),
        });
        round_trip(&config);
    }

    #[test]
    fn sizes_and_times_are_written_exactly(bytes in 10_000_usize..=16 << 20, millis in 1000_u64..=600_000) {
        let mut config = read("").unwrap();
        config.limits.stanza = bytes;
        config.limits.queue = 16 << 20;
        config.limits.connect = Duration::from_millis(millis);
        config.limits.tcp_connect = Duration::from_secs(1);
        round_trip(&config);
    }
}

/// Writes what a text comes to, and sees that it is read as the same.
fn written(text: &str) -> String {
    round_trip(&read(text).unwrap_or_else(|problems| panic!("{problems}")))
}

fn round_trip(config: &model::Config) -> String {
    let text = dump(config).unwrap();
    let again = read_all(text.clone()).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    assert_eq!(dump(&again).unwrap(), text);
    let rest =
        |config: &model::Config| model::Config { policy: Policy::default(), ..config.clone() };
    assert_eq!(rest(&again), rest(config), "{text}");
    text
}

fn config_with_name(name: &str) -> model::Config {
    let mut config = read("").unwrap();
    let old = config.legacy.pop_first().unwrap().1;
    let new = Arc::new(model::Legacy { name: name.to_owned(), ..(*old).clone() });
    config.local_domains.values_mut().for_each(|server| *server = Arc::clone(&new));
    config.legacy.insert(name.to_owned(), new);
    config
}

fn read(text: &str) -> Result<model::Config, Problems> {
    let rest = "version: 1\nlegacy: { old: { address: 'a:1', domains: [legacy.test] } }\n";
    read_all(format!("{rest}{text}\n"))
}

fn read_all(text: String) -> Result<model::Config, Problems> {
    let sources = [Source::new("conf.d/1.yaml", text)];
    let mut out = Reports::new(&sources);
    let config = assemble(Origin::made_up(), &sources, true, Instant::now(), &mut out);
    out.finish().map(|_| config)
}
