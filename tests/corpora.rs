//! Every file of `fuzz/corpus` goes through what its fuzz target does with it: what was found once,
//! and what reached most of the code, without libFuzzer.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "it is a library elsewhere")]
mod drivers;

use std::{fs, path::Path};

use drivers::{config, evidence, framer, initiating, receiving};

#[test]
fn the_corpus_of_config() {
    replay("config", config::run);
}

#[test]
fn the_corpus_of_evidence() {
    replay("evidence", evidence::run);
}

#[test]
fn the_corpus_of_framer() {
    replay("framer", framer::run);
}

#[test]
fn the_corpus_of_initiating() {
    replay("initiating", initiating::run);
}

#[test]
fn the_corpus_of_receiving() {
    replay("receiving", receiving::run);
}

fn replay(target: &str, run: fn(&[u8])) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let directory =
        fs::read_dir(&root).unwrap_or_else(|error| panic!("{}: {error}", root.display()));
    let mut files: Vec<_> = directory.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 20, "{} files in {}", files.len(), root.display());
    for file in files {
        // the last that is named is the one that fails
        eprintln!("{}", file.display());
        run(&fs::read(&file).unwrap());
    }
}
