//! What stanzas carry, held against the rules: once for a pair the rules are asked, then each of
//! its stanzas is judged as it comes in. Where no rule speaks of it, no stanza is looked into.

use std::{collections::HashMap, time::Duration};

use dashmap::DashMap;
use tokio::time::Instant;
use tracing::info;

use super::{gate::Gate, rules::decide};
use crate::{
    auth::ledger::AuthorizedPair,
    config::{
        model::Config,
        policy::{Guard, Refused},
    },
    features::Class,
    xml::{Header, Tag},
    xmpp::{Direction, Domain, DomainPair, Side},
};

/// What the rules refuse to the pairs of one stream.
#[derive(Debug)]
pub(super) struct Guards {
    direction: Direction,
    /// The pairs that were asked for; none at all: no rule refuses anything.
    known: Option<HashMap<DomainPair, Option<Guard>>>,
}

impl Guards {
    /// For stanzas that go to this side.
    pub(super) fn new(config: &Config, onward: Side) -> Self {
        let direction = match onward {
            Side::Legacy => Direction::Inbound,
            Side::Peer => Direction::Outbound,
        };
        let mut guards = Self { direction, known: None };
        guards.reconfigure(config);
        guards
    }

    /// The configuration changed: all pairs are asked for again.
    pub(super) fn reconfigure(&mut self, config: &Config) {
        self.known = config.policy.has_features().then(HashMap::new);
    }

    /// Why an admitted stanza may not go on, if it may not.
    pub(super) fn judge(
        &mut self,
        gate: &Gate,
        grant: &AuthorizedPair,
        stanza: &[u8],
        tag: &Tag,
        header: &Header,
    ) -> Option<Class> {
        let known = self.known.as_mut()?;
        let pair = grant.pair();
        if !known.contains_key(pair) {
            if known.len() >= PAIRS_MAX {
                known.clear();
            }
            let config = gate.config();
            let decision = decide(&config, pair, self.direction);
            known.insert(pair.clone(), decision.guard(local(pair, self.direction)));
        }
        let refused = known.get(pair)?.as_ref()?.judge(stanza, tag, header)?;
        gate.refusals().note(pair, self.direction, &refused);
        refused.is_enforced.then_some(refused.class)
    }
}

fn local(pair: &DomainPair, direction: Direction) -> &Domain {
    match direction {
        Direction::Inbound => &pair.target,
        Direction::Outbound => &pair.sender,
    }
}

/// What was refused lately, so that the log has a line now and then and not one for each stanza.
#[derive(Debug, Default)]
pub(super) struct Refusals(DashMap<(Domain, Class), Noted>);

#[derive(Debug)]
struct Noted {
    /// When a line was written last.
    written: Instant,
    /// Stanzas since then.
    stanzas: u64,
}

impl Refusals {
    /// A stanza was refused, or would have been.
    fn note(&self, pair: &DomainPair, direction: Direction, refused: &Refused<'_>) {
        let remote = match direction {
            Direction::Inbound => &pair.sender,
            Direction::Outbound => &pair.target,
        };
        let Some(stanzas) = self.count(remote, refused.class, Instant::now()) else { return };
        let (class, rule) = (refused.class.as_str(), refused.rule);
        let direction = direction.as_str();
        if refused.is_enforced {
            info!(pair = %pair, direction, class, rule = %rule, stanzas, "stanzas refused for what they carry");
        } else {
            info!(
                pair = %pair,
                direction,
                class,
                rule = %rule,
                stanzas,
                "stanzas would be refused for what they carry, but the mode is report"
            );
        }
    }

    /// Counts a stanza; says how many there were since the last line if it is time for another.
    fn count(&self, remote: &Domain, class: Class, now: Instant) -> Option<u64> {
        if self.0.len() >= NOTED_MAX {
            self.0.clear();
        }
        let key = (remote.clone(), class);
        let Some(mut noted) = self.0.get_mut(&key) else {
            self.0.insert(key, Noted { written: now, stanzas: 0 });
            return Some(1);
        };
        noted.stanzas += 1;
        if now.duration_since(noted.written) < BETWEEN_LINES {
            return None;
        }
        noted.written = now;
        Some(std::mem::take(&mut noted.stanzas))
    }
}

/// Pairs remembered for one stream.
const PAIRS_MAX: usize = 1024;
/// Domains and classes remembered for the log.
const NOTED_MAX: usize = 10_000;
/// From one line to the next of the same domain and class.
const BETWEEN_LINES: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_has_one_line_a_minute_for_a_domain_and_class() {
        let refusals = Refusals::default();
        let [a, b] = ["a.example", "b.example"].map(|name| Domain::parse(name).unwrap());
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(refusals.count(&a, Class::Muc, at(0)), Some(1));
        for second in 0..60 {
            assert_eq!(refusals.count(&a, Class::Muc, at(second)), None);
        }
        assert_eq!(refusals.count(&b, Class::Muc, at(1)), Some(1));
        assert_eq!(refusals.count(&a, Class::Pubsub, at(1)), Some(1));
        assert_eq!(refusals.count(&a, Class::Muc, at(60)), Some(61));
        assert_eq!(refusals.count(&a, Class::Muc, at(61)), None);
        assert_eq!(refusals.count(&a, Class::Muc, at(500)), Some(2));
    }

    #[test]
    fn many_domains_take_bounded_memory() {
        let refusals = Refusals::default();
        for n in 0..NOTED_MAX + 10 {
            let domain = Domain::parse(&format!("a{n}.example")).unwrap();
            assert_eq!(refusals.count(&domain, Class::Muc, Instant::now()), Some(1));
            assert!(refusals.0.len() <= NOTED_MAX);
        }
    }
}
