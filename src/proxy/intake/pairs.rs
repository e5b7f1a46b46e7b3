//! What the intake of one stream knows of its pairs, so that it asks nobody again when stanzas of
//! another pair come, and of this one afterwards.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use crate::{
    auth::ledger::AuthorizedPair,
    config::model::{Config, Rate},
    proxy::{
        live::{LiveStream, Meter},
        route::Route,
        rules::decide,
    },
    xmpp::Direction,
};

/// Pairs that the stream has no more are looked for when so many are known.
const SWEEP_MIN: usize = 1024;

/// The pairs of one stream whose stanzas came.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    /// Whose stanzas came last: nearly always that of the next ones, too.
    last: Option<Box<Pair>>,
    /// Most streams have none.
    others: Option<Box<Others>>,
}

#[derive(Debug)]
struct Others {
    /// By [`AuthorizedPair::address`].
    known: HashMap<usize, Box<Pair>>,
    sweep_at: usize,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Pair {
    /// Held on to, so that no other grant has its address.
    grant: AuthorizedPair,
    /// Of the last batch, if it took that: no pair keeps one in memory that has ended.
    route: Weak<Route>,
    meter: Option<Arc<Meter>>,
    rates: Option<(Rate, Rate)>,
}

impl Pairs {
    /// What is known of the pair of a grant.
    pub(super) fn of(&mut self, grant: &AuthorizedPair) -> &mut Pair {
        let known = self.last.take_if(|last| last.grant.is(grant));
        let known = known.unwrap_or_else(|| {
            let before = self.last.take();
            let others = &mut self.others;
            let known = others.as_mut().and_then(|others| others.known.remove(&grant.address()));
            if let Some(before) = before {
                others.get_or_insert_default().put(before);
            }
            known.unwrap_or_else(|| Box::new(Pair::new(grant.clone())))
        });
        self.last.insert(known)
    }

    /// That whose stanzas came last.
    pub(super) fn last(&self) -> Option<&Pair> {
        self.last.as_deref()
    }

    /// The configuration changed.
    pub(super) fn reconfigure(&mut self) {
        let others = self.others.iter_mut().flat_map(|others| others.known.values_mut());
        self.last.iter_mut().chain(others).for_each(|pair| pair.rates = None);
    }
}

impl Default for Others {
    fn default() -> Self {
        Self { known: HashMap::new(), sweep_at: SWEEP_MIN }
    }
}

impl Others {
    fn put(&mut self, pair: Box<Pair>) {
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, pair| pair.grant.is_held_elsewhere());
            self.sweep_at = SWEEP_MIN.max(2 * self.known.len());
        }
        self.known.insert(pair.grant.address(), pair);
    }
}

impl Pair {
    fn new(grant: AuthorizedPair) -> Self {
        Self { grant, route: Weak::new(), meter: None, rates: None }
    }

    /// The route that took its last batch, unless it has ended.
    pub(super) fn route(&self) -> Option<Arc<Route>> {
        self.route.upgrade()
    }

    /// A route took a batch.
    pub(super) fn goes_by(&mut self, route: &Arc<Route>) {
        if !std::ptr::eq(self.route.as_ptr(), Arc::as_ptr(route)) {
            self.route = Arc::downgrade(route);
        }
    }

    /// Where its stanzas on that stream are counted.
    pub(super) fn meter(&mut self, live: &LiveStream) -> &Meter {
        let pair = self.grant.pair();
        let meter = self.meter.take().filter(|meter| meter.is_for(pair));
        self.meter.insert(meter.unwrap_or_else(|| live.meter(pair)))
    }

    /// How fast its stanzas may come in, in bytes and in number.
    pub(super) fn rates(&mut self, config: &Config) -> (Rate, Rate) {
        *self.rates.get_or_insert_with(|| {
            let decision = decide(config, self.grant.pair(), Direction::Inbound);
            decision.rate_limits(&config.limits)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        auth::{Proof, ledger::Ledger},
        proxy::backlog::Backlog,
        xmpp::{Domain, DomainPair, Side},
    };

    const RATES: (Rate, Rate) = (Rate::PerSecond(1), Rate::Off);

    fn pair(n: usize) -> DomainPair {
        let [sender, target] = [format!("a{n}.example"), "l.example".to_owned()]
            .map(|name| Domain::parse(&name).unwrap());
        DomainPair::new(sender, target)
    }

    fn grant(ledger: &mut Ledger, n: usize) -> AuthorizedPair {
        let (pair, proof) = (pair(n), Proof::dialback(pair(n).sender, None));
        ledger.authorize(pair, proof).unwrap()
    }

    #[test]
    fn a_pair_is_known_again_when_others_came_meanwhile() {
        let (mut ledger, mut pairs) = (Ledger::default(), Pairs::default());
        let grants: Vec<_> = (0..10).map(|n| grant(&mut ledger, n)).collect();
        for grant in &grants {
            assert!(pairs.of(grant).rates.replace(RATES).is_none());
            assert_eq!(pairs.last().unwrap().grant.pair(), grant.pair());
        }
        assert!(grants.iter().all(|grant| pairs.of(grant).rates == Some(RATES)));
        // a grant made again is another one
        assert!(pairs.of(&grant(&mut ledger, 3)).rates.is_none());
        pairs.reconfigure();
        assert!(grants.iter().all(|grant| pairs.of(grant).rates.is_none()));
    }

    #[test]
    fn routes_that_ended_are_not_kept() {
        let (mut ledger, mut pairs) = (Ledger::default(), Pairs::default());
        let grant = grant(&mut ledger, 0);
        let route = Route::new(Side::Legacy, pair(0), None, 1000, Backlog::new(1000));
        let route = Arc::new(route);
        pairs.of(&grant).goes_by(&route);
        assert!(Arc::ptr_eq(&pairs.of(&grant).route().unwrap(), &route));
        drop(route);
        assert!(pairs.of(&grant).route().is_none());
    }

    #[test]
    fn pairs_that_were_withdrawn_are_forgotten() {
        let (mut ledger, mut pairs) = (Ledger::default(), Pairs::default());
        let stays = grant(&mut ledger, 0);
        pairs.of(&stays).rates = Some(RATES);
        for n in 1..5 * SWEEP_MIN {
            pairs.of(&grant(&mut ledger, n));
            ledger.withdraw(&pair(n));
            assert!(pairs.others.as_ref().is_none_or(|others| others.known.len() <= SWEEP_MIN));
        }
        assert_eq!(pairs.of(&stays).rates, Some(RATES));
        // and those that are still there are not
        let grants: Vec<_> = (1..3 * SWEEP_MIN).map(|n| grant(&mut ledger, n)).collect();
        grants.iter().for_each(|grant| pairs.of(grant).rates = Some(RATES));
        assert!(grants.iter().all(|grant| pairs.of(grant).rates == Some(RATES)));
    }
}
