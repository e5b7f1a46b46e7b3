//! Configuration files: loading them ends, in a configuration or in problems, and what is written
//! of one that was accepted loads as the same and decides the same.
//!
//! The input is the first file; a NUL, which no YAML has, begins the next. The second is a list,
//! `list.txt`, the others are further files.

use std::{collections::BTreeSet, fs, path::Path};

use fedgate::{
    config::{
        Severity, dump, load,
        model::Config,
        policy::{Policy, Query},
    },
    xmpp::{Direction, Domain},
};

const FILES_MAX: usize = 6;
/// Domains of the written configuration that are asked about.
const DOMAINS_MAX: usize = 24;

/// One configuration.
pub fn run(data: &[u8]) {
    let directory = directory();
    for (number, text) in data.split(|&byte| byte == 0).take(FILES_MAX).enumerate() {
        let name = if number == 1 { "list.txt".into() } else { format!("{number}.yaml") };
        fs::write(directory.path().join(name), text).unwrap();
    }
    let config = match load(directory.path()) {
        Ok(loaded) => {
            assert!(loaded.warnings.iter().all(|p| p.severity() == Severity::Warning));
            loaded.warnings.iter().for_each(|problem| assert!(!problem.to_string().is_empty()));
            loaded.config
        }
        Err(problems) => {
            assert!(problems.iter().any(|problem| problem.severity() == Severity::Error));
            assert!(!problems.to_string().is_empty());
            return;
        }
    };
    let Ok(text) = dump(&config) else { return };
    let written = self::directory();
    fs::write(written.path().join("all.yaml"), &text).unwrap();
    let again = again(written.path(), &text);
    assert_eq!(dump(&again).unwrap(), text);
    let rest = |config| Config { policy: Policy::default(), ..config };
    assert_eq!(judged(&again, &text), judged(&config, &text), "{text}");
    assert_eq!(rest(again), rest(config), "{text}");
}

fn again(directory: &Path, text: &str) -> Config {
    load(directory).unwrap_or_else(|problems| panic!("{problems}\n{text}")).config
}

/// What the rules say of all domains in a text, but for the places of rules.
fn judged(config: &Config, text: &str) -> Vec<String> {
    let words = text.split(|c: char| !(c.is_alphanumeric() || "-.".contains(c)));
    let domains = words.filter_map(|word| Domain::parse(word).ok());
    let domains: BTreeSet<_> = domains.take(DOMAINS_MAX).collect();
    let mut all = Vec::new();
    for remote in &domains {
        for direction in [Direction::Inbound, Direction::Outbound] {
            for local in [None, config.local_domains.keys().min()] {
                let address = Some("192.0.2.1".parse().unwrap());
                let query = Query { local, remote, direction, address };
                let decision = config.policy.decide(&query);
                let limits = &config.limits;
                all.push(format!(
                    "{remote} {local:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {} {} {:?} {} {:?} {} {} {:?}",
                    decision.denied().map(|denied| denied.reason),
                    decision.reported().map(|denied| denied.reason),
                    decision.level(),
                    decision.proofs(),
                    decision.pins(),
                    decision.tls_min(),
                    decision.roots(),
                    decision.is_enforced(),
                    decision.bidi(),
                    decision.error(),
                    decision.multiplex(),
                    decision.connect(),
                    decision.queue_limit(limits),
                    decision.stanza_limit(limits),
                    (decision.rate_limits(limits), decision.idle_limit(limits)),
                ));
            }
        }
    }
    all
}

/// A new directory, in memory where there is such a place.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}
