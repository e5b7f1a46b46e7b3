//! Which changes of the rules make certificates prove something else.

use super::*;

#[test]
fn the_mode_and_lists_count_where_a_rule_speaks_of_trust() {
    let with = |mode: &str, lists: [&str; 2], terms: &str| {
        let [banks, bad] = lists;
        policy(&format!(
            "mode: {mode}\nlists:\n  banks: {{ domains: [{banks}] }}\n  bad: {{ domains: [{bad}] }}\n\
             rules:\n- {{ match: list(banks), {terms} }}\n- {{ match: list(bad), allow: none }}\n"
        ))
    };
    const ENFORCE: &str = "enforce";
    let pin = format!("pins: '{:064x}'", 1);
    for terms in ["tls: { roots: system }", "proofs: pkix", &pin] {
        let old = with(ENFORCE, ["a.test, '*.b.test'", "x.test"], terms);
        for (mode, banks, bad, is_alike) in [
            // in another order, which is on other lines
            (ENFORCE, "'*.b.test', a.test", "x.test", true),
            (ENFORCE, "a.test, '*.b.test', 192.0.2.0/24", "x.test", true),
            // another list says nothing of trust
            (ENFORCE, "a.test, '*.b.test'", "y.test", true),
            ("report", "a.test, '*.b.test'", "x.test", false),
            (ENFORCE, "a.test, '*.b.test', c.test", "x.test", false),
            (ENFORCE, "a.test", "x.test", false),
            (ENFORCE, "a.test, b.test", "x.test", false),
            (ENFORCE, "'*.a.test', '*.b.test'", "x.test", false),
        ] {
            let new = with(mode, [banks, bad], terms);
            let shown = format!("{terms}: {mode} {banks} {bad}");
            assert_eq!(old.trusts_like(&new), is_alike, "{shown}");
            assert_eq!(new.trusts_like(&old), is_alike, "{shown}");
        }
    }
    // without such a rule certificates prove what they did
    let old = with(ENFORCE, ["a.test", "x.test"], "level: trusted");
    assert!(old.trusts_like(&with("report", ["b.test", "y.test"], "level: trusted")));
    assert!(!old.trusts_like(&with(ENFORCE, ["a.test", "x.test"], "proofs: pkix")));
}
