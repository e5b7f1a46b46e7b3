//! Holds `docs/attacks.md` to the tests.

use std::{collections::BTreeMap, fs, path::Path};

/// The rows: the number of the attack, and the tests that are named for it.
fn rows() -> BTreeMap<u32, Vec<String>> {
    let text = fs::read_to_string(root().join("docs/attacks.md")).unwrap();
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| A-")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [id, attack, required, tests] = cells[..] else { panic!("{line}") };
        assert!(!attack.is_empty() && !required.is_empty(), "{line}");
        let names = tests.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        let id = id.strip_prefix("A-").unwrap().parse().unwrap();
        assert!(rows.insert(id, names).is_none(), "A-{id} twice");
    }
    rows
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whether there is such a test.
fn exists(name: &str) -> bool {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap_or_default();
    let quoted = |text: &str, name: &str| text.contains(&format!("\"{name}\""));
    if let Some(row) = name.strip_prefix("rig/proof-matrix/") {
        let rows = read("tests/rig/rows.py");
        return quoted(&rows, row)
            || row.strip_prefix("posh-").is_some_and(|short| quoted(&rows, short));
    }
    if let Some(scenario) = name.strip_prefix("rig/") {
        let scenarios = fs::read_dir(root().join("tests/rig/scenarios")).unwrap();
        return scenarios
            .filter_map(|entry| fs::read_to_string(entry.unwrap().path()).ok())
            .any(|text| quoted(&text, scenario));
    }
    let Some((module, function)) = name.rsplit_once("::") else { return false };
    let text = match module.starts_with("src/") {
        true => read(module),
        false => read(&format!("tests/it/{}.rs", module.replace("::", "/"))),
    };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.windows(2).any(|pair| {
        matches!(pair[0], "#[test]" | "#[tokio::test]")
            && pair[1].trim_start_matches("async ").starts_with(&format!("fn {function}("))
    })
}

#[test]
fn every_attack_is_listed_with_tests_that_exist() {
    let rows = rows();
    let all = [1..=26, 30..=46, 50..=69, 70..=83, 90..=99];
    assert!(rows.keys().copied().eq(all.into_iter().flatten()), "{:?}", rows.keys());
    for (id, tests) in &rows {
        for test in tests {
            assert!(exists(test), "A-{id}: no test {test}");
        }
    }
    assert!(!exists("l1_xml::no_such_test") && !exists("rig/no-such") && !exists("no such"));
}

#[test]
fn every_test_that_is_named_for_an_attack_is_listed_there() {
    let rows = rows();
    let mut count = 0;
    for entry in fs::read_dir(root().join("tests/it/attacks")).unwrap() {
        let path = entry.unwrap().path();
        let module = path.file_stem().unwrap().to_str().unwrap();
        for line in fs::read_to_string(&path).unwrap().lines() {
            let Some(name) = line.strip_prefix("async fn a_") else { continue };
            let name = name.split('(').next().unwrap();
            let id: u32 = name.split('_').next().unwrap().parse().unwrap();
            let listed = format!("attacks::{module}::a_{name}");
            assert!(rows[&id].contains(&listed), "{listed} is not at A-{id}");
            count += 1;
        }
    }
    assert!(count > 30, "{count}");
}
