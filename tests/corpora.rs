//! Every file of `fuzz/corpus` goes through what its fuzz target does with it: what was found once,
//! and what reached most of the code, without libFuzzer.

#[path = "../fuzz/src/lib.rs"]
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
        // libFuzzer names the file where it fails; here it is the last one that is named
        println!("{}", file.display());
        run(&fs::read(&file).unwrap());
    }
}
