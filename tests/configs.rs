//! Every configuration under `tests/configs/valid` loads, every one under `invalid` is refused,
//! and what is said about it is exactly its `expected.txt`. The samples of `conf.d` load as they
//! are, and so they do with all that is commented out; so do the examples. Whatever loads can be written down and loads
//! as the same again.
//!
//! `UPDATE_EXPECTED=1` writes the files instead of comparing them.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use fedgate::{
    config::{
        Problem, Severity, dump, load,
        model::Config,
        policy::{Denied, Level, Policy},
    },
    xmpp::{Direction, Domain},
};

#[test]
fn valid_configurations_load_with_just_the_expected_warnings() {
    for directory in fixtures("valid") {
        let loaded = load(&directory)
            .unwrap_or_else(|problems| panic!("{}:\n{problems}", directory.display()));
        compare(&directory, &shown(&loaded.warnings));
    }
}

#[test]
fn invalid_configurations_are_refused_with_just_the_expected_words() {
    for directory in fixtures("invalid") {
        let problems = match load(&directory) {
            Ok(_) => panic!("{} loads", directory.display()),
            Err(problems) => problems,
        };
        assert!(problems.iter().any(|p| p.severity() == Severity::Error));
        compare(&directory, &format!("{problems}\n"));
    }
}

#[test]
fn the_samples_load_as_they_are() {
    let loaded = load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("conf.d")).unwrap();
    assert_eq!(shown(&loaded.warnings), "");
    assert_eq!(loaded.config.legacy.len(), 1);
}

#[test]
fn the_examples_load_without_a_warning() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut directories =
        vec![root.join("docker/fedgate/conf.d"), root.join("docker/fedgate/redirect.d")];
    for guide in fs::read_dir(root.join("examples")).unwrap() {
        let directory = guide.unwrap().path().join("conf.d");
        directories.extend(directory.exists().then_some(directory));
    }
    assert!(directories.len() > 5, "{directories:?}");
    for directory in directories {
        let loaded = load(&directory)
            .unwrap_or_else(|problems| panic!("{}:\n{problems}", directory.display()));
        assert_eq!(shown(&loaded.warnings), "", "{}", directory.display());
    }
}

#[test]
fn the_samples_load_with_their_comments_taken_away_and_defaults_are_what_they_say() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf.d");
    let directory = samples_in_full();
    let loaded = load(directory.path()).unwrap_or_else(|problems| panic!("{problems}"));
    let default = load(&samples).unwrap().config;
    let said = loaded.config;
    assert_eq!(said.listen, default.listen);
    assert_eq!(said.legacy, default.legacy);
    assert_eq!(said.tls, default.tls);
    assert_eq!(said.resolver, default.resolver);
    assert_eq!(said.posh, default.posh);
    assert_eq!(said.steer, default.steer);
    assert_eq!(said.limits, default.limits);
    assert_eq!(said.log, default.log);
    assert_eq!(said.state_dir, default.state_dir);
    assert_eq!(said.shutdown_timeout, default.shutdown_timeout);
    assert_eq!(said.certificates.len(), 1);
    assert_ne!(said.policy, default.policy);
}

#[test]
fn a_configuration_that_is_written_loads_as_the_same_and_is_written_the_same() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf.d");
    let in_full = samples_in_full();
    let all = [fixtures("valid"), vec![samples, in_full.path().to_owned()]].concat();
    for directory in all {
        let config = load(&directory).unwrap().config;
        let text = dump(&config).unwrap();
        assert_eq!(dump(&config).unwrap(), text);
        let written = tempfile::tempdir().unwrap();
        fs::write(written.path().join("all.yaml"), &text).unwrap();
        let again = load(written.path())
            .unwrap_or_else(|problems| panic!("{}:\n{problems}\n{text}", directory.display()))
            .config;
        assert_eq!(dump(&again).unwrap(), text);
        assert_eq!(judged(&again.policy), judged(&config.policy), "{text}");
        let rest = |config| Config { policy: Policy::default(), ..config };
        assert_eq!(rest(again), rest(config));
    }
}

#[test]
fn the_effective_configuration_is_printed_if_it_is_good() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs");
    let directory = root.join("valid/everything");
    let good = check_config(&["--print"], &directory);
    assert!(good.status.success());
    let printed = String::from_utf8(good.stdout).unwrap();
    assert_eq!(printed, dump(&load(&directory).unwrap().config).unwrap());
    // not *.yaml, or it would be read with the rest
    let printed = printed.replace(directory.to_str().unwrap(), "/etc/fedgate/conf.d");
    compare_file(&directory.join("printed.txt"), &printed);

    assert_eq!(check_config(&[], &directory).stdout, b"");
    let bad = check_config(&["--print"], &root.join("invalid/values"));
    assert_eq!((bad.status.code(), &*bad.stdout), (Some(1), &b""[..]));
}

fn check_config(flags: &[&str], directory: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fedgate"));
    command.arg("check-config").args(flags).arg("--config").arg(directory).output().unwrap()
}

/// What a policy says of all that the rules of fixtures and samples name and of what is near it,
/// but for the places of rules.
fn judged(policy: &Policy) -> Vec<(Option<Option<String>>, Option<Level>)> {
    let names = ["spam.example", "bank.example", "good.invalid", "a.invalid", "half.example"]
        .into_iter()
        .chain(["named.example", "deep.spam.example", "xn--bcher-kva.example", "a.zone"])
        .chain(["a.example", "b.example", "c.example", "evil.example", "other.test"])
        .map(|name| Domain::parse(name).unwrap());
    let names: Vec<_> =
        names.flat_map(|name| [Domain::parse(&format!("below.{name}")).unwrap(), name]).collect();
    let addresses = ["203.0.113.1", "198.51.100.1", "192.0.2.1", "10.1.2.3", "10.1.2.4"]
        .into_iter()
        .chain(["127.0.0.1", "169.254.0.1", "0.0.0.1", "::1", "fd00::1", "fd01::1", "fe80::1"])
        .chain(["2001:db8:bad::1", "2001:db8::1"]);
    let reason = |denied: Denied| denied.reason.map(|r| r.to_string());
    let mut all = Vec::new();
    for direction in [Direction::Inbound, Direction::Outbound] {
        for name in &names {
            let verdict = policy.domain(name, direction);
            all.push((verdict.denied.map(reason), Some(verdict.level)));
        }
        for address in addresses.clone() {
            let denied = policy.address(address.parse().unwrap(), direction);
            all.push((denied.map(reason), None));
        }
    }
    all
}

/// The samples with everything switched on.
fn samples_in_full() -> tempfile::TempDir {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf.d");
    let directory = tempfile::tempdir().unwrap();
    for name in ["10-fedgate.yaml", "50-rules.yaml"] {
        let text = fs::read_to_string(samples.join(name)).unwrap();
        fs::write(directory.path().join(name), uncommented(&text)).unwrap();
    }
    directory
}

/// The sample with everything switched on: a setting has no blank behind its `#`, or two.
fn uncommented(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let (indent, rest) = line.split_at(line.len() - line.trim_start().len());
        match rest.strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') || setting.starts_with("  ") => {
                format!("{indent}{setting}")
            }
            Some(_) | None => line.to_owned(),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn fixtures(kind: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs").join(kind);
    let entries = root.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    found.sort();
    assert!(found.len() >= 5, "few fixtures in {}", root.display());
    found
}

fn shown(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

fn compare(directory: &Path, said: &str) {
    compare_file(&directory.join("expected.txt"), said);
}

fn compare_file(path: &Path, said: &str) {
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(path, said).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap();
    assert_eq!(said, expected, "{}", path.display());
}
