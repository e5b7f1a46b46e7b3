//! Directories: which files count, what comes out, and the bounds.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use tempfile::TempDir;

use super::*;
use crate::{
    config::model::{HeaderVersion, ListSource, LocalTrust, Refusals, Roots},
    xmpp::{Direction, Domain},
};

const MINIMAL: &str = "version: 1\nlegacy: { old: { address: 'legacy:5269', domains: [legacy.test, Rooms.Legacy.test] } }\n";

#[test]
fn the_smallest_configuration_has_sensible_defaults() {
    let directory = directory(&[("a.yaml", MINIMAL)]);
    let config = load(directory.path()).unwrap().config;
    assert_eq!(config.state_dir, Path::new("/var/lib/fedgate"));
    assert_eq!(config.listen.public, ["[::]:5269".parse().unwrap()]);
    assert_eq!(config.listen.local, ["127.0.0.1:5268".parse().unwrap()]);
    assert!(config.listen.direct_tls.is_empty() && config.listen.dns.is_empty());
    let legacy = &config.local_domains[&Domain::parse("rooms.legacy.test").unwrap()];
    assert_eq!(legacy, &config.legacy["old"]);
    assert_eq!(legacy.trust, LocalTrust::Dialback);
    assert_eq!(legacy.header, HeaderVersion::V1);
    assert_eq!(legacy.refusals, Refusals::Dialback);
    assert_eq!(legacy.sources.len(), 2);
    assert_eq!(config.tls.roots, [Roots::System]);
    let steered = (&config.steer.addresses[..], config.steer.port);
    assert_eq!(steered, (&["127.0.0.1".parse().unwrap()][..], 5268));
    assert_eq!(config.limits.stanza, 524_288);
    assert_eq!(config.files(), [resolv_conf()]);
}

/// It is read where no name servers are given.
fn resolv_conf() -> PathBuf {
    PathBuf::from("/etc/resolv.conf")
}

#[test]
fn the_systems_name_servers_matter_where_none_are_given() {
    let text = "resolver: { servers: [192.0.2.1] }\n";
    let directory = directory(&[("a.yaml", MINIMAL), ("b.yaml", text)]);
    assert!(load(directory.path()).unwrap().config.files().is_empty());
}

#[test]
fn relative_paths_are_relative_to_the_directory() {
    let text =
        "certificates: [{ cert: a.crt, key: ../keys/a.key }]\ntls: { roots: [system, ./ca.pem] }\n";
    let directory = directory(&[("a.yaml", MINIMAL), ("b.yaml", text)]);
    let files = load(directory.path()).unwrap().config.files();
    let at = |path: &str| directory.path().join(path);
    assert_eq!(files, [at("a.crt"), at("../keys/a.key"), at("./ca.pem"), resolv_conf()]);
}

#[test]
fn the_trust_roots_of_rules_are_files_of_the_configuration() {
    let text = "tls: { roots: [ca.pem] }\nrules:\n\
                - { match: a.test, tls: { roots: [own.pem, system] } }\n\
                - { match: b.test, tls: { roots: [system, own.pem, own.pem] } }\n\
                - { match: c.test, tls: { roots: ca.pem } }\n";
    let directory = directory(&[("a.yaml", MINIMAL), ("b.yaml", text)]);
    let config = load(directory.path()).unwrap().config;
    let at = |path: &str| directory.path().join(path);
    assert_eq!(config.files(), [at("ca.pem"), at("own.pem"), resolv_conf()]);
    // one set for both rules
    let places: Vec<_> = config.policy.roots().into_values().map(|at| at.to_string()).collect();
    assert_eq!(places.len(), 2);
    assert!(places.iter().any(|place| place.ends_with("b.yaml:3")), "{places:?}");
}

#[test]
fn a_name_of_a_top_level_key_means_nothing_below() {
    let list = |domain: &str| format!("lists: {{ legacy: {{ domains: [{domain}] }} }}\n");
    let files = [("a.yaml", MINIMAL), ("b.yaml", &list("a.test")), ("c.yaml", &list("b.test"))];
    let config = load(directory(&files).path()).unwrap().config;
    let ListSource::Domains(domains) = &config.lists["legacy"] else {
        panic!("{:?}", config.lists)
    };
    assert_eq!(domains.len(), 2);
    let twice = directory(&[("a.yaml", MINIMAL), ("b.yaml", MINIMAL)]);
    let problems = load(twice.path()).unwrap_err();
    assert!(problems.summary().contains("both configure the legacy server \"old\""), "{problems}");
}

#[test]
fn a_running_process_keeps_its_state_directory_and_what_is_derived_from_it() {
    let list = "lists: { bad: { url: 'https://lists.test/bad.txt' } }\n\
                rules: [{ match: list(bad), allow: none }]\n";
    let directory = directory(&[("a.yaml", MINIMAL), ("b.yaml", list)]);
    let running = tempfile::tempdir().unwrap();
    fs::create_dir(running.path().join("lists")).unwrap();
    fs::write(running.path().join("lists/bad.txt"), "evil.test\n").unwrap();
    let moved = format!("state_dir: {}\n", directory.path().join("new").display());
    for (more, place) in [("", ""), (&*moved, "c.yaml:1:1: ")] {
        fs::write(directory.path().join("c.yaml"), more).unwrap();
        let Loaded { config, warnings, .. } = reload(directory.path(), running.path()).unwrap();
        assert_eq!(config.state_dir, running.path());
        assert_eq!(config.admin.socket, Some(running.path().join("admin.sock")));
        assert_eq!(config.files(), [resolv_conf(), running.path().join("lists/bad.txt")]);
        let evil = Domain::parse("evil.test").unwrap();
        assert!(config.policy.domain(&evil, Direction::Inbound).denied.is_some());
        let [warning] = &warnings[..] else { panic!("{warnings:?}") };
        let warning = warning.headline();
        assert!(
            warning.contains("a changed state_dir takes effect at the next start"),
            "{warning}"
        );
        assert!(warning.contains(place), "{warning}");
    }
    // said as it is, there is nothing to warn of
    let same = format!("state_dir: {}\n", running.path().display());
    fs::write(directory.path().join("c.yaml"), same).unwrap();
    assert!(reload(directory.path(), running.path()).unwrap().warnings.is_empty());
}

#[test]
fn who_asks_a_running_process_finds_its_socket_by_what_can_be_read() {
    let at = |more: &str, broken: &str| {
        let files = [("a.yaml", &*format!("{MINIMAL}{more}")), ("b.yaml", broken)];
        locate(directory(&files).path()).unwrap_err().socket
    };
    let state = Some(PathBuf::from("/run/gate/admin.sock"));
    for broken in ["limitz: {}\n", "legacy: [\n", "admin: { socket: '~/a.sock' }\n", "\0"] {
        assert_eq!(at("state_dir: /run/gate\n", broken), state, "{broken}");
        assert_eq!(at("", broken), Some("/var/lib/fedgate/admin.sock".into()), "{broken}");
    }
    assert_eq!(at("admin: { socket: /run/a.sock }\n", "rules: [\n"), Some("/run/a.sock".into()));
    assert_eq!(at("admin: { socket: off }\n", "rules: [\n"), None);
    let nowhere = directory(&[]).path().join("nowhere");
    assert_eq!(locate(&nowhere).unwrap_err().socket, Some("/var/lib/fedgate/admin.sock".into()));
}

#[test]
fn files_reached_through_links_as_kubernetes_makes_them_are_read() {
    let directory = directory(&[]);
    let root = directory.path();
    fs::create_dir(root.join("..2026")).unwrap();
    fs::write(root.join("..2026/a.yaml"), MINIMAL).unwrap();
    symlink("..2026", root.join("..data")).unwrap();
    symlink("..data/a.yaml", root.join("a.yaml")).unwrap();
    assert_eq!(load(root).unwrap().config.legacy.len(), 1);
    symlink("nowhere", root.join("b.yaml")).unwrap();
    assert!(load(root).unwrap_err().summary().contains("b.yaml: read:"));
}

#[test]
fn what_is_no_directory_is_an_error() {
    let directory = directory(&[("a.yaml", MINIMAL)]);
    for path in ["a.yaml", "nowhere"] {
        let problems = load(&directory.path().join(path)).unwrap_err();
        assert!(problems.summary().starts_with(&format!("{path}: read the directory: ")));
        assert_eq!(problems.iter().count(), 1);
    }
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let directory = directory(&[("a.yaml", MINIMAL)]);
    let large = File::create(directory.path().join("b.yaml")).unwrap();
    large.set_len(MAX_FILE + 1).unwrap();
    let problems = load(directory.path()).unwrap_err();
    assert!(problems.summary().ends_with("b.yaml: larger than 8 MiB"), "{problems}");
}

#[test]
fn a_fifo_is_not_waited_for() {
    let directory = directory(&[("a.yaml", MINIMAL)]);
    let fifo = directory.path().join("b.yaml");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    assert!(load(directory.path()).unwrap_err().summary().ends_with("b.yaml: not a file"));
}

#[test]
fn what_a_broken_file_may_hold_is_not_called_missing() {
    let directory = directory(&[("a.yaml", "log: { levle: info }\n"), ("b.yaml", "legacy: [\n")]);
    let problems = load(directory.path()).unwrap_err();
    assert_eq!(problems.iter().count(), 2, "{problems}");
    assert!(problems.summary().ends_with("unknown key \"levle\" (and 1 more error)"));
}

#[test]
fn very_many_problems_are_counted_and_the_first_are_shown() {
    let rules = "- { match: a.test, alow: none, level: trusted }\n".repeat(1000);
    let directory = directory(&[("a.yaml", MINIMAL), ("b.yaml", &format!("rules:\n{rules}"))]);
    let problems = load(directory.path()).unwrap_err();
    assert_eq!(problems.iter().count(), 200);
    assert!(problems.to_string().ends_with("and 800 more errors"));
    assert!(problems.summary().ends_with("(and 999 more errors)"));
}

#[test]
fn a_hundred_thousand_rules_load_and_are_all_there() {
    let rules: String =
        (0..100_000).map(|n| format!("- {{ match: d{n}.test, allow: none }}\n")).collect();
    let directory = directory(&[("a.yaml", MINIMAL), ("b.yaml", &format!("rules:\n{rules}"))]);
    let policy = load(directory.path()).unwrap().config.policy;
    let judge = |n: usize| {
        policy.domain(&Domain::parse(&format!("d{n}.test")).unwrap(), Direction::Inbound)
    };
    let denied = judge(99_999).denied.unwrap();
    assert!(denied.rule.to_string().ends_with("/b.yaml:100001"));
    assert_eq!(judge(100_000).denied, None);
}

fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}
