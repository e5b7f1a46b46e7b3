//! Rules by what they match, merged key by key where they are equally specific.

use super::{
    key::Key,
    rule::{Rule, speaks_first},
};
use crate::xmpp::{Direction, Domain};

/// For each key the rule that speaks of it, by its number plus one; 0: none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Merged([u32; Key::ALL.len()]);

impl Merged {
    pub(super) fn rule(&self, key: Key) -> Option<usize> {
        let number = self.0.get(key.index()).copied()?;
        usize::try_from(number.checked_sub(1)?).ok()
    }

    fn set(&mut self, key: Key, rule: usize) {
        if let (Some(slot), Ok(number)) = (self.0.get_mut(key.index()), u32::try_from(rule + 1)) {
            *slot = number;
        }
    }

    /// Takes what a weaker one says of keys of which nothing is said yet.
    pub(super) fn fill(&mut self, weaker: &Self) {
        for (slot, other) in self.0.iter_mut().zip(weaker.0) {
            if *slot == 0 {
                *slot = other;
            }
        }
    }

    /// Adds what an equally specific rule says; the stricter wins where that has a meaning. For
    /// other keys what is there stays, and the rule that says so comes back with the key.
    fn add(&mut self, key: Key, number: usize, rules: &[Rule]) -> Option<usize> {
        let Some(other) = self.rule(key) else {
            self.set(key, number);
            return None;
        };
        let (new, old) = (rules.get(number)?, rules.get(other)?);
        if new.terms.agrees(&old.terms, key) {
            if speaks_first(&new.denied(), &old.denied()) {
                self.set(key, number);
            }
            return None;
        }
        match key {
            Key::Inbound | Key::Outbound => {
                if new.terms.is_stricter(&old.terms, key) {
                    self.set(key, number);
                }
                None
            }
            _ => Some(other),
        }
    }

    /// Adds what rules for another list say, the lists being taken in order of name: the stricter
    /// wins where that has a meaning, else the first list.
    fn add_list(&mut self, other: &Self, rules: &[Rule]) {
        for key in Key::ALL {
            let Some(number) = other.rule(key) else { continue };
            let Some(held) = self.add(key, number, rules) else { continue };
            let (Some(new), Some(old)) = (rules.get(number), rules.get(held)) else { continue };
            if new.terms.is_stricter(&old.terms, key) {
                self.set(key, number);
            }
        }
    }
}

/// Which pairs a rule is for, beside the remote domain. One that names more is more specific, and
/// naming a local domain says more than a direction.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Scope {
    local: Option<Domain>,
    direction: Option<Direction>,
}

impl Scope {
    fn rank(&self) -> usize {
        match (&self.local, self.direction) {
            (Some(_), Some(_)) => 0,
            (Some(_), None) => 1,
            (None, Some(_)) => 2,
            (None, None) => 3,
        }
    }

    fn holds(&self, local: Option<&Domain>, direction: Direction) -> bool {
        self.local.as_ref().is_none_or(|own| Some(own) == local)
            && self.direction.is_none_or(|own| own == direction)
    }
}

const RANKS: usize = 4;

/// All rules of one pattern.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Tier(Vec<(Scope, Merged)>);

/// Two equally specific rules that say different things of a key.
pub(in crate::config) struct Conflict {
    pub(in crate::config) key: Key,
    /// The number of the earlier rule.
    pub(in crate::config) with: usize,
    /// The local domain for which they meet, if they name one.
    pub(in crate::config) local: Option<Domain>,
}

impl Tier {
    /// Adds the rule of this number.
    pub(super) fn add(&mut self, number: usize, rules: &[Rule]) -> Vec<Conflict> {
        let Some(rule) = rules.get(number) else { return Vec::new() };
        let mut locals: Vec<Option<Domain>> = rule.local.iter().cloned().map(Some).collect();
        if locals.is_empty() {
            locals.push(None);
        }
        let mut conflicts = Vec::new();
        for local in locals {
            let scope = Scope { local, direction: rule.direction };
            let merged = match self.0.iter().position(|(other, _)| *other == scope) {
                Some(at) => self.0.get_mut(at),
                None => {
                    // no spare room: most patterns have one rule, and there may be very many
                    self.0.reserve_exact(1);
                    self.0.push((scope.clone(), Merged::default()));
                    self.0.last_mut()
                }
            };
            let Some((_, merged)) = merged else { continue };
            for key in Key::ALL.into_iter().filter(|key| rule.has(*key)) {
                if let Some(with) = merged.add(key, number, rules) {
                    conflicts.push(Conflict { key, with, local: scope.local.clone() });
                }
            }
        }
        conflicts
    }

    /// Adds to `merged` what this tier says to what nothing stronger has said.
    pub(super) fn fill(&self, merged: &mut Merged, local: Option<&Domain>, direction: Direction) {
        // nearly always there is one, which is for all
        if let [(Scope { local: None, direction: None }, all)] = self.0.as_slice() {
            merged.fill(all);
            return;
        }
        for rank in 0..RANKS {
            for (_, found) in self.of_rank(rank, local, direction) {
                merged.fill(found);
            }
        }
    }

    fn of_rank(
        &self,
        rank: usize,
        local: Option<&Domain>,
        direction: Direction,
    ) -> impl Iterator<Item = &(Scope, Merged)> {
        let fits = move |scope: &Scope| scope.rank() == rank && scope.holds(local, direction);
        self.0.iter().filter(move |(scope, _)| fits(scope))
    }

    /// What is said of all local domains and both directions.
    pub(super) fn of_all(&self) -> Option<&Merged> {
        self.0.iter().find(|(scope, _)| scope.rank() == RANKS - 1).map(|(_, merged)| merged)
    }
}

/// Adds what several lists say, which are all of one specificity.
pub(super) fn fill_from_lists<'t>(
    tiers: impl Iterator<Item = &'t Tier> + Clone,
    merged: &mut Merged,
    local: Option<&Domain>,
    direction: Direction,
    rules: &[Rule],
) {
    for rank in 0..RANKS {
        let mut together = Merged::default();
        for (_, found) in tiers.clone().flat_map(|tier| tier.of_rank(rank, local, direction)) {
            together.add_list(found, rules);
        }
        merged.fill(&together);
    }
}

impl Rule {
    /// Whether it speaks of a key, for a direction that it is for.
    pub(super) fn has(&self, key: Key) -> bool {
        let of = match key {
            Key::Inbound => Some(Direction::Inbound),
            Key::Outbound => Some(Direction::Outbound),
            _ => None,
        };
        let meant = match (of, self.direction) {
            (Some(of), Some(own)) => of == own,
            (Some(_), None) | (None, _) => true,
        };
        meant && self.terms.has(key)
    }
}
