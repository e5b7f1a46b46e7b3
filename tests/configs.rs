//! Every configuration under `tests/configs/valid` loads, every one under `invalid` is refused,
//! and what is said about it is exactly its `expected.txt`. The samples of `conf.d` load as they
//! are, and so they do with all that is commented out.
//!
//! `UPDATE_EXPECTED=1` writes the files instead of comparing them.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use fedgate::config::{Problem, Severity, load};

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
fn the_samples_load_with_their_comments_taken_away_and_defaults_are_what_they_say() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf.d");
    let directory = tempfile::tempdir().unwrap();
    for name in ["10-fedgate.yaml", "50-rules.yaml"] {
        let text = fs::read_to_string(samples.join(name)).unwrap();
        fs::write(directory.path().join(name), uncommented(&text)).unwrap();
    }
    let loaded = load(directory.path()).unwrap_or_else(|problems| panic!("{problems}"));
    let default = load(&samples).unwrap().config;
    let said = loaded.config;
    assert_eq!(said.listen, default.listen);
    assert_eq!(said.legacy, default.legacy);
    assert_eq!(said.tls, default.tls);
    assert_eq!(said.resolver, default.resolver);
    assert_eq!(said.steer, default.steer);
    assert_eq!(said.limits, default.limits);
    assert_eq!(said.log, default.log);
    assert_eq!(said.state_dir, default.state_dir);
    assert_eq!(said.shutdown_timeout, default.shutdown_timeout);
    assert_eq!(said.certificates.len(), 1);
    assert_ne!(said.policy, default.policy);
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
    let path = directory.join("expected.txt");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&path, said).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap();
    assert_eq!(said, expected, "{}", directory.display());
}
