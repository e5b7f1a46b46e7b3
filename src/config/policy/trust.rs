//! Whether two sets of rules have certificates believed alike, so that what was proven under one is
//! proven under the other.

use std::sync::Arc;

use super::{
    Policy,
    rule::{Pattern, Rule},
};

impl Policy {
    /// Whether rules say the same of pins, trust roots and prooftypes, for the same domains and with
    /// the same effect.
    #[must_use]
    pub fn trusts_like(&self, other: &Self) -> bool {
        let ours: Vec<_> = self.of_trust().collect();
        let theirs: Vec<_> = other.of_trust().collect();
        let is_said_alike = ours.len() == theirs.len()
            && ours.iter().zip(&theirs).all(|(one, other)| says_like(one, other));
        // where no rule speaks of it neither the mode nor a list matters
        is_said_alike
            && (ours.is_empty() || self.mode == other.mode && self.lists_like(other, &ours))
    }

    /// The rules that speak of pins, trust roots or prooftypes.
    fn of_trust(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| {
            let terms = &rule.terms;
            terms.pins.is_some() || terms.roots.is_some() || terms.proofs.is_some()
        })
    }

    /// Whether the lists that these rules are for name the same domains.
    fn lists_like(&self, other: &Self, rules: &[&Rule]) -> bool {
        let mut named =
            rules.iter().flat_map(|rule| &rule.patterns).filter_map(|pattern| match pattern {
                Pattern::List(name) => Some(name),
                Pattern::Exact(_) | Pattern::Below(_) | Pattern::Any => None,
            });
        named.all(|name| match (self.lists.get(name), other.lists.get(name)) {
            (Some(one), Some(other)) => {
                Arc::ptr_eq(&one.list, &other.list) || one.list.names_like(&other.list)
            }
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        })
    }
}

/// Whether both say the same of it, for the same pairs.
fn says_like(one: &Rule, other: &Rule) -> bool {
    let said = |rule: &Rule| (rule.terms.proofs, rule.direction);
    said(one) == said(other)
        && one.terms.pins == other.terms.pins
        && one.terms.roots == other.terms.roots
        && one.patterns == other.patterns
        && one.local == other.local
}
