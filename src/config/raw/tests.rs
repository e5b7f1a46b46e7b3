//! The tree, its places and its bounds.

use proptest::prelude::*;

use super::*;
use crate::config::problem::Problems;

#[test]
fn every_value_knows_its_place_in_characters() {
    let node = tree("é: 1\r\nb: [x, 'y y'] # c\n").unwrap();
    let Kind::Map(pairs) = &node.kind else { panic!("{node:?}") };
    assert_eq!(place(&pairs[0].value), (1, 4));
    assert_eq!(pairs[1].at.line, 2);
    let Kind::List(items) = &pairs[1].value.kind else { panic!("{node:?}") };
    assert_eq!(place(&items[1]), (2, 8));
}

#[test]
fn scalars_stay_text_and_only_plain_nothing_is_null() {
    let node = tree("[no, 010, 1.10, 'null', '', \"~\", null, ~, 1e3]").unwrap();
    let Kind::List(items) = &node.kind else { panic!("{node:?}") };
    let texts = items.iter().map(|node| match &node.kind {
        Kind::Text(text) => Some(&**text),
        Kind::Null => None,
        Kind::List(_) | Kind::Map(_) => panic!("{node:?}"),
    });
    let texts: Vec<_> = texts.collect();
    let some = ["no", "010", "1.10", "null", "", "~"].map(Some);
    assert_eq!(texts[..6], some);
    assert_eq!(texts[6..], [None, None, Some("1e3")]);
}

#[test]
fn keys_that_stand_twice_are_found_at_any_depth() {
    let said = tree("a: { b: 1, 'b': 2 }\n").unwrap_err().to_string();
    assert!(said.contains("file:1:12: error: key \"b\" stands twice"), "{said}");
}

#[test]
fn aliases_cannot_multiply_without_bound() {
    let wide: String =
        (1..60).map(|n| format!("a{n}: &a{n} [*a{}, *a{}]\n", n - 1, n - 1)).collect();
    assert!(tree(&format!("a0: &a0 [x, x]\n{wide}")).is_err());
    let deep: String = (1..60).map(|n| format!("a{n}: &a{n} [[[*a{}]]]\n", n - 1)).collect();
    let said = tree(&format!("a0: &a0 x\n{deep}")).unwrap_err().to_string();
    assert!(said.contains("nested too deep"), "{said}");
}

#[test]
fn depth_is_bounded_in_every_style() {
    for opening in ["[", "- ", "{a: ", "? ", "&a [", "- - ? "] {
        assert!(tree(&opening.repeat(100_000)).is_err(), "{opening:?}");
    }
}

#[test]
fn a_hundred_thousand_rules_are_within_the_bounds() {
    let rules = "  - { match: spam.example, allow: none, level: trusted, reason: x }\n";
    assert!(tree(&format!("rules:\n{}", rules.repeat(100_000))).is_ok());
}

proptest! {
    #[test]
    fn any_text_is_a_tree_or_an_error(text in "[\\[\\]{}:,&*!|>'\"%@`#?~<=\\-\\\\ \t\r\na1é\u{feff}\u{2028}\0]{0,60}") {
        let _either = tree(&text);
    }

    #[test]
    fn any_lines_are_a_tree_or_an_error(lines in prop::collection::vec(
        "[ ]{0,6}(- |\\? |[a-c]: )?([a-c]|&a [a-c]|\\*a|\\[|\\]|\\{|\\}|\\||>-|'|\"|---|\\.\\.\\.|#|%YAML 1.1|!!x|)", 0..12)) {
        let _either = tree(&lines.join("\n"));
    }
}

fn tree(text: &str) -> Result<Node, Problems> {
    let sources = [Source::new("file", text.to_owned())];
    let mut out = Reports::new(&sources);
    let node = parse(0, &sources[0], &mut MAX_NODES.clone(), &mut out);
    out.finish()?;
    Ok(node.unwrap_or(Node { kind: Kind::Null, at: At { file: 0, line: 1, column: 1, width: 1 } }))
}

fn place(node: &Node) -> (usize, usize) {
    (node.at.line, node.at.column)
}
