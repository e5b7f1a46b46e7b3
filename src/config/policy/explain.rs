//! Why the rules come to what they come to: every rule that matched, and what it gave.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    Decision, Place, Policy, Query,
    key::Key,
    rule::{Pattern, Rule},
    suffixes,
};
use crate::xmpp::{Direction, Domain};

/// A decision with all rules that matched, the most specific first.
#[derive(Clone, Debug)]
pub struct Explanation<'p> {
    /// What it comes to.
    pub decision: Decision<'p>,
    /// The rules that matched.
    pub matched: Vec<Matched<'p>>,
}

/// A rule that matched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Matched<'p> {
    /// Where it stands.
    pub place: Place,
    /// By what it matched: a pattern, a network, or words for the defaults.
    pub by: String,
    /// The line of the list by which it matched.
    pub line: Option<String>,
    /// Its reason.
    pub reason: Option<&'p str>,
    /// What it says: the key, the value, and whether that is what counts.
    pub says: Vec<(&'static str, String, bool)>,
}

impl Policy {
    /// Judges a pair, and says by which rules. Looks at all rules: not for every stanza.
    #[must_use]
    pub fn explain(&self, query: &Query<'_>) -> Explanation<'_> {
        let decision = self.decide(query);
        let mut found: Vec<_> = self
            .rules
            .iter()
            .enumerate()
            .filter_map(|(number, rule)| {
                let (rank, by, line) = self.matches(rule, query)?;
                let of = |key: &Key| is_meant(*key, query.direction) && rule.has(*key);
                let says = Key::ALL.into_iter().filter(of).filter_map(|key| {
                    let counts = decision.merged.rule(key) == Some(number);
                    Some((key.as_str(), key.show(&rule.terms)?, counts))
                });
                let place = rule.place.clone();
                let reason = rule.reason.as_deref();
                Some((rank, Matched { place, by, line, reason, says: says.collect() }))
            })
            .collect();
        found.sort_by(|(a, x), (b, y)| (a, &x.place).cmp(&(b, &y.place)));
        let mut matched: Vec<_> = found.into_iter().map(|(_, matched)| matched).collect();
        if let Some(address) = query.address {
            let of_address = self.matches_address(address.to_canonical(), &decision);
            matched.splice(0..0, of_address);
        }
        Explanation { decision, matched }
    }

    /// How specific the strongest pattern of a rule is that matches (less is more), and which.
    fn matches(
        &self,
        rule: &Rule,
        query: &Query<'_>,
    ) -> Option<((usize, usize), String, Option<String>)> {
        let local =
            rule.local.is_empty() || query.local.is_some_and(|local| rule.local.contains(local));
        if !local || rule.direction.is_some_and(|own| own != query.direction) {
            return None;
        }
        let scope = 2 * usize::from(rule.local.is_empty()) + usize::from(rule.direction.is_none());
        if rule.patterns.is_empty() {
            return Some(((usize::MAX, scope), "defaults".to_owned(), None));
        }
        let ranked = rule.patterns.iter().filter_map(|pattern| {
            let (rank, line) = self.matches_pattern(pattern, query.remote)?;
            Some(((rank, scope), pattern.to_string(), line))
        });
        ranked.min()
    }

    fn matches_pattern(
        &self,
        pattern: &Pattern,
        remote: &Domain,
    ) -> Option<(usize, Option<String>)> {
        match pattern {
            Pattern::Exact(domain) => (domain == remote).then_some((0, None)),
            Pattern::Below(suffix) => {
                let at = suffixes(remote.as_str()).position(|above| *above == **suffix)?;
                Some((1 + at, None))
            }
            Pattern::List(name) => {
                let list = &self.lists.get(name)?.list;
                let line = list.line(remote)?;
                Some((usize::MAX - 2, Some(list.place(line))))
            }
            Pattern::Any => Some((usize::MAX - 1, None)),
        }
    }

    fn matches_address<'p>(&'p self, address: IpAddr, decision: &Decision<'_>) -> Vec<Matched<'p>> {
        let direction = decision.direction;
        let refusal = decision.address.as_ref().map(|(denied, _)| denied);
        let mut found = Vec::new();
        for rule in &self.addresses {
            let Some(network) = rule.networks.iter().find(|net| net.contains(&address)) else {
                continue;
            };
            let counts = refusal.is_some_and(|denied| denied.rule == rule.place);
            let matched = Matched {
                place: rule.place.clone(),
                by: network.to_string(),
                line: None,
                reason: rule.reason.as_deref(),
                says: vec![("allow", open(rule.allow.is_open(direction)), counts)],
            };
            found.push((network.prefix_len(), matched));
        }
        for listed in self.lists.values() {
            let key = match direction {
                Direction::Inbound => Key::Inbound,
                Direction::Outbound => Key::Outbound,
            };
            let rule = listed.tier.of_all().and_then(|merged| self.rules.get(merged.rule(key)?));
            let (Some(rule), Some((length, line))) = (rule, listed.list.network(address)) else {
                continue;
            };
            let allowed = rule.terms.allow.is_none_or(|allow| allow.is_open(direction));
            let counts = refusal.is_some_and(|denied| denied.rule == rule.place);
            let matched = Matched {
                place: rule.place.clone(),
                by: IpNet::new(address, length)
                    .map_or_else(|_| address.to_string(), |network| network.trunc().to_string()),
                line: Some(listed.list.place(line)),
                reason: rule.reason.as_deref(),
                says: vec![("allow", open(allowed), counts)],
            };
            found.push((length, matched));
        }
        found.sort_by(|(a, x), (b, y)| b.cmp(a).then_with(|| x.place.cmp(&y.place)));
        found.into_iter().map(|(_, matched)| matched).collect()
    }
}

impl Decision<'_> {
    /// What the rules say, key by key: the key, its value, and the place of its rule.
    #[must_use]
    pub fn values(&self) -> Vec<(&'static str, String, Place)> {
        let meant = |(key, ..): &(Key, String, &Rule)| is_meant(*key, self.direction);
        let said = self.said().filter(meant);
        said.map(|(key, value, rule)| (key.as_str(), value, rule.place.clone())).collect()
    }
}

fn is_meant(key: Key, direction: Direction) -> bool {
    match key {
        Key::Inbound => direction == Direction::Inbound,
        Key::Outbound => direction == Direction::Outbound,
        _ => true,
    }
}

fn open(open: bool) -> String {
    if open { "yes" } else { "no" }.to_owned()
}
