//! The routes that live now, by side and domain pair, and the memory of those that failed.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use dashmap::{DashMap, mapref::entry::Entry};
use tokio::time::Instant;

use super::{
    gate::Gate,
    live::{self, Flow},
    route::Route,
};
use crate::{
    ops::report,
    stream::{Failure, FailureKind},
    xmpp::{Domain, DomainPair, Side},
};

/// How long after a first failure stanzas bounce at once; it doubles with each failure up to the
/// maximum. Short, so that federation is back soon after its cause is.
const REST_FIRST: Duration = Duration::from_secs(2);
const REST_MAX_PEER: Duration = Duration::from_secs(60);
const REST_MAX_LEGACY: Duration = Duration::from_secs(8);
/// Failures that are remembered.
const REMEMBERED: usize = 10_000;

type Key = (Side, DomainPair);

/// Tells a route from its predecessors and successors of the same pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RouteId(u64);

/// All routes of one fedgate.
#[derive(Debug, Default)]
pub(super) struct Routes {
    live: DashMap<Key, (RouteId, Arc<Route>)>,
    ids: AtomicU64,
    failed: DashMap<Key, Rest>,
}

#[derive(Debug)]
struct Rest {
    until: Instant,
    times: u32,
    failure: Arc<Failure>,
}

/// A route as an operator sees it.
#[derive(Clone, Debug)]
pub(super) struct RouteReport {
    pub(super) side: Side,
    pub(super) pair: DomainPair,
    is_open: bool,
    /// Stanzas that wait.
    pub(super) queued: u64,
    /// Their bytes.
    pub(super) queued_bytes: u64,
}

/// What waits.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Stanzas in the queues.
    pub(super) queued: HashMap<Key, u64>,
    /// How long stanzas of failed pairs still bounce at once.
    pub(super) retry: HashMap<Key, Duration>,
}

impl RouteReport {
    pub(super) fn into_report(self) -> report::Route {
        report::Route {
            side: self.side.as_str().to_owned(),
            direction: live::direction(self.side, Flow::Out).as_str().to_owned(),
            sender: self.pair.sender.to_unicode(),
            target: self.pair.target.to_unicode(),
            state: if self.is_open { "open" } else { "opening" }.to_owned(),
            queued: self.queued,
            queued_bytes: self.queued_bytes,
        }
    }
}

impl Routes {
    /// The live route of a pair, or a new one that begins to open its stream. One to a legacy server
    /// takes the pair's berth, or one that counts to nobody.
    ///
    /// # Errors
    /// The last failure, while it is too early to try again; that there is no berth.
    pub(super) fn get(
        &self,
        gate: &Arc<Gate>,
        side: Side,
        pair: &DomainPair,
        lang: Option<&Arc<str>>,
    ) -> Result<Arc<Route>, Arc<Failure>> {
        let key = (side, pair.clone());
        if let Some(live) = self.live.get(&key) {
            return Ok(Arc::clone(&live.1));
        }
        if let Some(rest) = self.failed.get(&key)
            && rest.until > Instant::now()
        {
            return Err(Arc::clone(&rest.failure));
        }
        if gate.is_stopping(side) {
            return Err(Arc::new(Failure::new(FailureKind::Shutdown, "fedgate is shutting down")));
        }
        let berth = match side {
            Side::Legacy => Some(gate.berth(pair, None)?),
            Side::Peer => None,
        };
        match self.live.entry(key) {
            Entry::Occupied(entry) => Ok(Arc::clone(&entry.get().1)),
            Entry::Vacant(entry) => {
                let id = RouteId(self.ids.fetch_add(1, Ordering::Relaxed));
                let route = Route::start(gate, (id, berth), side, pair.clone(), lang.cloned());
                entry.insert((id, Arc::clone(&route)));
                Ok(route)
            }
        }
    }

    /// The stream of a route is open.
    pub(super) fn opened(&self, side: Side, pair: &DomainPair) {
        self.failed.remove(&(side, pair.clone()));
    }

    /// A route ends; the next stanza of its pair gets a new one, after a rest if it failed.
    pub(super) fn ended(
        &self,
        id: RouteId,
        side: Side,
        pair: &DomainPair,
        failure: Option<&Arc<Failure>>,
    ) {
        let key = (side, pair.clone());
        if let Some(failure) = failure
            && wants_rest(failure.kind())
        {
            if self.failed.len() >= REMEMBERED {
                let now = Instant::now();
                self.failed.retain(|_, rest| rest.until > now);
            }
            let times = self.failed.get(&key).map_or(0, |rest| rest.times);
            let max = match side {
                Side::Peer => REST_MAX_PEER,
                Side::Legacy => REST_MAX_LEGACY,
            };
            let rest = REST_FIRST.saturating_mul(1 << times.min(10)).min(max);
            if self.failed.len() < REMEMBERED {
                self.failed.insert(
                    key.clone(),
                    Rest {
                        until: Instant::now() + rest,
                        times: times + 1,
                        failure: Arc::clone(failure),
                    },
                );
            }
        }
        // Its successor may be there already.
        self.live.remove_if(&key, |_, live| live.0 == id);
    }

    /// This route takes nothing any more, though its task may not have said so yet: the next stanza of
    /// its pair gets another.
    pub(super) fn succeed(&self, route: &Arc<Route>) {
        let key = (route.side(), route.pair().clone());
        self.live.remove_if(&key, |_, live| Arc::ptr_eq(&live.1, route));
    }

    /// Forgets failures that concern a domain, or all: the next stanza tries again.
    pub(super) fn forget(&self, domain: Option<&Domain>) {
        self.failed.retain(|(_, pair), _| {
            domain.is_some_and(|domain| pair.sender != *domain && pair.target != *domain)
        });
    }

    /// All live routes, in order of their pairs.
    pub(super) fn report(&self) -> Vec<RouteReport> {
        let report = |(side, pair): &Key, route: &Route| {
            let (queued, queued_bytes) = route.waiting();
            RouteReport {
                side: *side,
                pair: pair.clone(),
                is_open: route.is_open(),
                queued,
                queued_bytes,
            }
        };
        let mut all: Vec<_> =
            self.live.iter().map(|entry| report(entry.key(), &entry.value().1)).collect();
        all.sort_by(|a, b| (a.side, &a.pair).cmp(&(b.side, &b.pair)));
        all
    }

    /// What waits for whom, and how long failed pairs rest.
    pub(super) fn waiting(&self) -> Waiting {
        let now = Instant::now();
        let rest = |rest: &Rest| rest.until.checked_duration_since(now);
        let retry =
            self.failed.iter().filter_map(|entry| Some((entry.key().clone(), rest(&entry)?)));
        Waiting {
            queued: self.report().into_iter().map(|r| ((r.side, r.pair), r.queued)).collect(),
            retry: retry.collect(),
        }
    }

    /// Forgets failures, for what caused them may be mended by the new configuration.
    pub(super) fn forget_failures(&self) {
        self.failed.clear();
    }
}

fn wants_rest(kind: FailureKind) -> bool {
    match kind {
        FailureKind::Denied | FailureKind::Shutdown => false,
        FailureKind::Certificate
        | FailureKind::HostUnknown
        | FailureKind::NotFound
        | FailureKind::NotProven
        | FailureKind::Rejected
        | FailureKind::Resolution
        | FailureKind::Resource
        | FailureKind::Stream
        | FailureKind::Timeout
        | FailureKind::TooLarge
        | FailureKind::Tls
        | FailureKind::Unreachable => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::backlog::Backlog;

    #[test]
    fn a_route_is_succeeded_once() {
        let routes = Routes::default();
        let [sender, target] = ["a.example", "l.example"].map(|name| Domain::parse(name).unwrap());
        let pair = DomainPair::new(sender, target);
        let key = (Side::Legacy, pair.clone());
        let [ended, successor] = [(); 2].map(|()| {
            Arc::new(Route::new(Side::Legacy, pair.clone(), None, 1000, Backlog::new(1000)))
        });
        routes.live.insert(key.clone(), (RouteId(1), Arc::clone(&ended)));
        routes.succeed(&ended);
        assert!(routes.live.is_empty());
        routes.live.insert(key, (RouteId(2), successor));
        routes.succeed(&ended);
        routes.ended(RouteId(1), Side::Legacy, &pair, None);
        assert_eq!(routes.live.len(), 1);
    }
}
