//! What an operator sees of a running fedgate, and what he can do to it, for the admin interface.

mod domains;
mod history;
mod ready;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::pki_types::UnixTime;
use tokio::sync::broadcast;

use self::{history::Sampler, ready::Probes};
use super::{
    failures::Key,
    gate::Gate,
    routes::{RouteReport, Waiting},
};
use crate::{
    config::{self, DumpError},
    ops::{
        metrics::Gauges,
        report::{self, Check, Event, now},
    },
    xmpp::{Direction, Domain, DomainPair, Side},
};

/// A handle on a running fedgate.
#[derive(Clone, Debug)]
pub struct Monitor {
    gate: Arc<Gate>,
    probes: Arc<Probes>,
    sampler: Arc<Mutex<Sampler>>,
}

impl Monitor {
    pub(super) fn new(gate: Arc<Gate>) -> Self {
        let sampler = Sampler::new(&gate.metrics().totals());
        Self { gate, probes: Arc::default(), sampler: Arc::new(Mutex::new(sampler)) }
    }

    pub(super) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// The whole at a glance.
    pub async fn status(&self) -> report::Status {
        let ready = self.ready().await;
        let totals = self.gate.metrics().totals();
        let mut streams = report::StreamCounts::default();
        for kind in self.gate.live().kinds() {
            *match (kind.side, kind.origin) {
                ("peer", "accepted") => &mut streams.peer_accepted,
                ("peer", _) => &mut streams.peer_opened,
                (_, "accepted") => &mut streams.legacy_accepted,
                _ => &mut streams.legacy_opened,
            } += 1;
        }
        let failures = self.gate.failures();
        let failing = failures.count(Direction::Inbound) + failures.count(Direction::Outbound);
        report::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.gate.started(),
            now: now(),
            draining: self.gate.draining().is_cancelled(),
            ready,
            config: self.gate.config_state(),
            streams,
            stanzas: report::StanzaCounts {
                inbound: totals.from_peers,
                outbound: totals.from_legacy,
                delivered: totals.delivered,
                bounced: totals.bounced,
                dropped: totals.undeliverable,
                refused: totals.refused,
                errors_lost: totals.lost_errors,
            },
            queued: self.routes().iter().map(|route| route.queued).sum(),
            domains: self.domains().len() as u64,
            failing: failing as u64,
            history: self.sampler.lock().unwrap_or_else(PoisonError::into_inner).report(),
            certificates: self.certificates(),
        }
    }

    /// Whether fedgate can do its work, check by check. Asks neighbours at most every few seconds.
    pub async fn ready(&self) -> Vec<Check> {
        self.probes.ready(&self.gate, self.certificates()).await
    }

    /// All open streams.
    #[must_use]
    pub fn streams(&self) -> Vec<report::Stream> {
        self.gate.live().report()
    }

    /// Those that carry a pair of a domain, with such pairs alone.
    #[must_use]
    pub fn streams_with(&self, domain: &Domain) -> Vec<report::Stream> {
        self.gate.live().report_with(domain)
    }

    /// One of them, with all its pairs.
    #[must_use]
    pub fn stream(&self, id: u64) -> Option<report::Stream> {
        self.gate.live().report_of(id)
    }

    /// All routes.
    #[must_use]
    pub fn routes(&self) -> Vec<report::Route> {
        self.gate.routes().report().into_iter().map(RouteReport::into_report).collect()
    }

    /// All remote domains with a stream, a queue or a failure, in order of name.
    #[must_use]
    pub fn domains(&self) -> Vec<report::Domain> {
        domains::all(&self.gate)
    }

    /// The domain pairs that do not come about, those that failed last first.
    #[must_use]
    pub fn failures(&self) -> Vec<report::Failure> {
        let Waiting { queued, retry } = self.gate.routes().waiting();
        let failures = self.gate.failures().report().into_iter();
        let failures = failures.map(|(direction, key, failure)| {
            let route = key.route(direction);
            let waiting = queued.get(&route).copied().unwrap_or_default();
            let wait = retry.get(&route).map(|left| now() + left.as_secs() + 1);
            report::Failure { waiting, retry: wait, ..failure }
        });
        failures.collect()
    }

    /// What peers see of the local domains.
    #[must_use]
    pub fn certificates(&self) -> Vec<report::Certificate> {
        let services = self.gate.services();
        let now = now();
        let domains = services.config.local_domains.keys();
        let certificate = |domain: &Domain| {
            let info = services.tls.store().info(domain);
            let left = |at: u64| (i128::from(at) - i128::from(now)).div_euclid(SECONDS_OF_DAY);
            report::Certificate {
                domain: domain.to_unicode(),
                ok: info.is_some_and(|info| {
                    (info.not_before.as_secs()..=info.not_after.as_secs()).contains(&now)
                }),
                names: info.map(|info| info.names.clone()),
                issuer: info.map(|info| info.issuer.clone()),
                not_after: info.map(|info| info.not_after.as_secs()),
                days_left: info.and_then(|info| i64::try_from(left(info.not_after.as_secs())).ok()),
                is_due: info.is_some_and(|info| info.is_due(UnixTime::now())),
                fingerprint: info.map(|info| info.fingerprint.to_string()),
            }
        };
        domains.map(certificate).collect()
    }

    /// The effective configuration, as `check-config --print` writes it. No secret is in it.
    ///
    /// # Errors
    /// [`DumpError`] for what no file can hold.
    pub fn config(&self) -> Result<String, DumpError> {
        config::dump(&self.gate.config())
    }

    /// All metrics as OpenMetrics text.
    pub async fn metrics(&self) -> String {
        // It also tells which legacy servers are up.
        self.ready().await;
        let mut streams = BTreeMap::new();
        for kind in self.gate.live().kinds() {
            *streams.entry(kind).or_insert(0) += 1;
        }
        let mut pairs = [0, 0];
        for pair in self.gate.live().pairs() {
            if pair.kind.side == Side::Peer.as_str() {
                let [inbound, outbound] = &mut pairs;
                *(if pair.direction == Direction::Inbound { inbound } else { outbound }) += 1;
            }
        }
        let mut queues = [(Side::Legacy, 0, 0), (Side::Peer, 0, 0)];
        for route in self.gate.routes().report() {
            if let Some(queue) = queues.iter_mut().find(|queue| queue.0 == route.side) {
                queue.1 += i64::try_from(route.queued).unwrap_or(i64::MAX);
                queue.2 += i64::try_from(route.queued_bytes).unwrap_or(i64::MAX);
            }
        }
        let failing = |direction| {
            let count = self.gate.failures().count(direction);
            (direction, i64::try_from(count).unwrap_or(i64::MAX))
        };
        let state = self.gate.config_state();
        let certificates = self.certificates().into_iter();
        self.gate.metrics().render(&Gauges {
            started: self.gate.started() as f64,
            config_loaded: state.loaded as f64,
            config_good: state.error.is_none(),
            draining: self.gate.draining().is_cancelled(),
            tasks: i64::try_from(self.gate.workers().tasks()).unwrap_or(i64::MAX),
            streams: streams.into_iter().collect(),
            pairs: vec![(Direction::Inbound, pairs[0]), (Direction::Outbound, pairs[1])],
            queues: queues.to_vec(),
            failing: vec![failing(Direction::Inbound), failing(Direction::Outbound)],
            certificates: certificates
                .filter_map(|c| Some((c.domain, c.not_after? as f64)))
                .collect(),
            legacy: self.probes.legacy(),
        })
    }

    /// What happens from now on.
    #[must_use]
    pub fn watch(&self) -> broadcast::Receiver<Event> {
        self.gate.events().watch()
    }

    /// Takes a sample for the charts; to be called every [`Self::SAMPLE_SECONDS`].
    pub fn sample(&self) {
        let totals = self.gate.metrics().totals();
        self.sampler.lock().unwrap_or_else(PoisonError::into_inner).take(&totals);
    }

    /// The time between two samples.
    pub const SAMPLE_SECONDS: u64 = history::SECONDS;

    /// Tries failed pairs again at once, those of a domain or all; returns how many.
    pub fn retry(&self, domain: Option<&Domain>) -> usize {
        let failures = self.gate.failures().report().into_iter();
        let concerned = failures.filter(|(direction, key, _)| {
            *direction == Direction::Outbound
                && domain.is_none_or(|domain| key.remote == *domain || key.local == *domain)
        });
        self.gate.routes().forget(domain);
        let routes = concerned.map(|(_, key, _)| {
            let pair = DomainPair::new(key.local, key.remote);
            drop(self.gate.routes().get(&self.gate, Side::Peer, &pair, None));
        });
        routes.count()
    }

    /// Forgets failures, of a domain or all; returns how many pairs failed.
    pub fn forget(&self, domain: Option<&Domain>) -> usize {
        self.gate.routes().forget(domain);
        self.gate.failures().forget(domain)
    }

    /// Where it is reached.
    #[must_use]
    pub fn listeners(&self) -> report::Listeners {
        let config = self.gate.config();
        report::Listeners {
            listeners: self.gate.listening().to_vec(),
            domain: config.local_domains.keys().next().map(Domain::to_unicode).unwrap_or_default(),
            draining: self.gate.draining().is_cancelled(),
            proxy_protocol: config.listen.proxy_protocol.iter().map(ToString::to_string).collect(),
        }
    }

    /// What is remembered of remote domains, of one or all, in order of name.
    #[must_use]
    pub fn remembered(&self, domain: Option<&Domain>) -> Vec<report::Remembered> {
        self.gate.memory().report(domain)
    }

    /// Forgets what a remote domain has reached, and that it was refused; returns how many records
    /// that were. Whatever it shows next is what is expected from then on.
    pub fn forget_remembered(&self, domain: &Domain) -> usize {
        self.gate.memory().forget(domain)
    }

    /// Ends a stream; false if there is none of that number.
    #[must_use]
    pub fn close(&self, id: u64) -> bool {
        self.gate.live().close(id)
    }

    /// Ends all streams that carry a pair of a domain; returns how many.
    pub fn close_domain(&self, domain: &Domain) -> usize {
        self.gate.live().close_domain(domain)
    }

    /// The configuration was read again and cannot be used: the old one stays.
    pub fn reload_failed(&self, why: &str) {
        self.gate.metrics().reloaded(false);
        self.gate.reload_failed(why);
    }
}

impl Key {
    /// The route that the stanzas of the pair take.
    fn route(&self, direction: Direction) -> (Side, DomainPair) {
        let (local, remote) = (self.local.clone(), self.remote.clone());
        match direction {
            Direction::Inbound => (Side::Legacy, DomainPair::new(remote, local)),
            Direction::Outbound => (Side::Peer, DomainPair::new(local, remote)),
        }
    }
}

const SECONDS_OF_DAY: i128 = 24 * 60 * 60;
