//! The JSON Schema for editors has the keys and words of the configuration's format, all of them
//! and no others: fedgate itself is asked for them, by keys and words that it does not know.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{collections::BTreeSet, fs, path::Path};

use fedgate::config::load;
use serde_json::{Map, Value, json};

/// Neither a key nor a word, nor near to any.
const NONSENSE: &str = "zzzzzzzzzzzzzzzzzzzzzzzz";

#[test]
fn the_schema_has_the_keys_and_words_that_fedgate_reads() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/schema/fedgate.schema.json");
    let schema: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let mut seen = Seen::default();
    seen.walk("", &schema, &|value| value);
    assert!(seen.objects >= 15, "{} objects", seen.objects);
    assert!(seen.words >= 12, "{} words", seen.words);
}

#[derive(Default)]
struct Seen {
    objects: usize,
    words: usize,
}

impl Seen {
    /// Compares a part of the schema; `place` puts a value there into a whole file.
    fn walk(&mut self, path: &str, schema: &Value, place: &dyn Fn(Value) -> Value) {
        if let Some(properties) = schema["properties"].as_object() {
            self.objects += 1;
            let ours: BTreeSet<_> = properties.keys().cloned().collect();
            let expected = expected(&place(json!({ NONSENSE: 1 })), "unknown key", path);
            assert_eq!(ours, expected, "keys of {path:?}");
            for (key, schema) in properties {
                let within =
                    |value: Value| place(Value::Object(Map::from_iter([(key.clone(), value)])));
                self.walk(&format!("{path}.{key}"), schema, &within);
            }
        }
        if let Some(schema) = schema.get("additionalProperties").filter(|any| any.is_object()) {
            let within = |value: Value| place(json!({ "any": value }));
            self.walk(&format!("{path}.any"), schema, &within);
        }
        if let Some(schema) = schema.get("items") {
            let within = |mut value: Value| {
                // without it nobody knows what a rule is for, and nothing else is read
                if let (".rules", Some(rule)) = (path, value.as_object_mut()) {
                    rule.entry("match").or_insert(json!("a.test"));
                }
                place(json!([value]))
            };
            self.walk(&format!("{path}[]"), schema, &within);
        }
        if let Some(either) = schema["oneOf"].as_array() {
            // a single value, or a list of such: read by the same words
            self.walk(path, either.first().unwrap(), place);
        }
        if let Some(words) = schema["enum"].as_array() {
            self.words += 1;
            let ours: BTreeSet<_> =
                words.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect();
            assert_eq!(
                ours,
                expected(&place(json!(NONSENSE)), "unknown", path),
                "words of {path:?}"
            );
        }
    }
}

/// What fedgate says it expects in the place of nonsense.
fn expected(file: &Value, what: &str, path: &str) -> BTreeSet<String> {
    let directory = tempfile::tempdir().unwrap();
    // JSON is YAML
    fs::write(directory.path().join("a.yaml"), file.to_string()).unwrap();
    let problems = load(directory.path()).unwrap_err();
    let said = problems.iter().map(ToString::to_string);
    let mut found = said.filter(|text| text.contains(what) && text.contains(NONSENSE));
    let text = found.next().unwrap_or_else(|| panic!("nothing is said of {path:?}: {problems}"));
    let (_, words) = text.split_once("expected one of: ").unwrap_or_else(|| panic!("{text}"));
    words.split(", ").map(|word| word.trim().to_owned()).collect()
}
