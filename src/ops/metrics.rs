//! The metrics, as OpenMetrics text. Each is described in `docs/metrics.md`, and a test holds that
//! page and this file together.
//!
//! Counters live here and are counted where things happen. What is so now is measured when somebody
//! asks, and comes in as [`Gauges`]. Labels are of closed sets, or names that the operator chose:
//! never remote domains, for strangers choose those.

mod gauges;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, histogram::Histogram, info::Info},
    registry::{Metric, Registry, Unit},
};

pub use self::gauges::{Gauges, StreamKind};
use crate::{
    features::Class,
    xmpp::{Direction, Side, StanzaCondition},
};

/// Upper bounds of the time from the beginning of a stream to its first authorized pair, in seconds.
const NEGOTIATION_SECONDS: [f64; 10] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Who opened a stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Origin {
    /// The other end: we accepted it.
    Accepted,
    /// We did.
    Opened,
}

impl Origin {
    /// The word for labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Opened => "opened",
        }
    }
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    connections: Family<Listener, Counter>,
    rejected: Family<Rejected, Counter>,
    handshakes: Family<Handshake, Counter>,
    handshake_failures: Family<OriginOnly, Counter>,
    negotiations: Family<Negotiation, Counter>,
    negotiation_seconds: Family<SideOrigin, Histogram>,
    pairs: Family<Authorized, Counter>,
    closed: Family<Closed, Counter>,
    questions: Family<ResultOnly, Counter>,
    stanzas: ByDirection,
    bytes: ByDirection,
    delivered: ByDirection,
    resumptions: Family<OriginResult, Counter>,
    bounced: Family<Bounced, Counter>,
    unanswered: Counter,
    refused: Family<RefusedStanza, Counter>,
    lost: Counter,
    limits: Family<Reached, Counter>,
    reloads: Family<ResultOnly, Counter>,
    bounced_total: AtomicU64,
    refused_total: AtomicU64,
}

/// Two counters that are found without a lock.
#[derive(Debug)]
struct ByDirection {
    inbound: Counter,
    outbound: Counter,
}

/// The totals for the last log line.
#[derive(Clone, Copy, Debug)]
pub struct Totals {
    /// Stanzas taken from the legacy servers.
    pub from_legacy: u64,
    /// Stanzas taken from peers.
    pub from_peers: u64,
    /// Stanzas delivered to legacy servers and peers.
    pub delivered: u64,
    /// Stanzas answered with an error.
    pub bounced: u64,
    /// Stanzas that could not be delivered and want no error.
    pub undeliverable: u64,
    /// Errors that could not be returned.
    pub lost_errors: u64,
    /// Stanzas that rules refuse for what they carry.
    pub refused: u64,
    /// Bytes of the stanzas taken from the legacy servers.
    pub bytes_from_legacy: u64,
    /// Bytes of the stanzas taken from peers.
    pub bytes_from_peers: u64,
}

macro_rules! labels {
    ($($name:ident { $($label:ident),+ })+) => {
        $(
            #[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
            struct $name {
                $($label: &'static str,)+
            }
        )+
    };
}

labels! {
    Listener { listener }
    Rejected { listener, reason }
    Handshake { origin, version }
    OriginOnly { origin }
    Negotiation { side, origin, result }
    SideOrigin { side, origin }
    Authorized { side, proof }
    Closed { side, origin, condition }
    ResultOnly { result }
    OriginResult { origin, result }
    DirectionOnly { direction }
    Reached { limit }
    Bounced { direction, condition, reason }
    RefusedStanza { direction, class }
}

impl Metrics {
    /// Everything at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = registry();
        let r = &mut registry;
        let info = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        r.register("build", "The version that runs", info);
        let by_direction = |r: &mut Registry, name, help| {
            let family = Family::<DirectionOnly, Counter>::default();
            r.register(name, help, family.clone());
            let of = |direction: Direction| {
                family.get_or_create(&DirectionOnly { direction: direction.as_str() }).clone()
            };
            ByDirection { inbound: of(Direction::Inbound), outbound: of(Direction::Outbound) }
        };
        Self {
            connections: add(r, "connections_accepted", "Connections accepted"),
            rejected: add(r, "connections_rejected", "Connections ended before a byte was read"),
            handshakes: add(r, "tls_handshakes", "TLS handshakes that succeeded"),
            handshake_failures: add(r, "tls_handshake_failures", "TLS handshakes that failed"),
            negotiations: add(r, "negotiations", "Streams negotiated, or why they were not"),
            negotiation_seconds: {
                let family: Family<_, Histogram> =
                    Family::new_with_constructor(|| Histogram::new(NEGOTIATION_SECONDS));
                let help = "From the beginning of a stream to its first authorized pair";
                r.register_with_unit("negotiation", help, Unit::Seconds, family.clone());
                family
            },
            pairs: add(r, "pairs_authorized", "Domain pairs authorized on accepted streams"),
            closed: add(r, "streams_closed", "Streams ended, by the stream error that ended them"),
            questions: add(r, "dialback_questions", "Authoritative servers asked for a key"),
            stanzas: by_direction(r, "stanzas", "Stanzas taken from their senders' servers"),
            bytes: by_direction(r, "stanza_bytes", "Bytes of the stanzas taken"),
            delivered: by_direction(
                r,
                "stanzas_delivered",
                "Stanzas written to their target's server, or acknowledged by it",
            ),
            resumptions: add(r, "resumptions", "Streams that were to be resumed"),
            bounced: add(r, "stanzas_bounced", "Stanzas returned with an error"),
            unanswered: add(r, "stanzas_dropped", "Undeliverable stanzas that want no error"),
            refused: add(r, "stanzas_refused", "Stanzas refused by rule for what they carry"),
            lost: add(r, "errors_lost", "Errors that could not be returned"),
            limits: add(r, "limits_reached", "Limits that somebody reached"),
            reloads: add(r, "config_reloads", "Configurations read again"),
            bounced_total: AtomicU64::new(0),
            refused_total: AtomicU64::new(0),
            registry,
        }
    }

    /// A connection came in.
    pub fn connected(&self, listener: &'static str) {
        self.connections.get_or_create(&Listener { listener }).inc();
    }

    /// A connection was ended before a byte was read.
    pub fn rejected(&self, listener: &'static str, reason: &'static str) {
        self.rejected.get_or_create(&Rejected { listener, reason }).inc();
    }

    /// A TLS handshake succeeded, at this version, or failed.
    pub fn handshake(&self, origin: Origin, version: Option<&'static str>) {
        let origin = origin.as_str();
        match version {
            Some(version) => {
                self.handshakes.get_or_create(&Handshake { origin, version }).inc();
            }
            None => {
                self.handshake_failures.get_or_create(&OriginOnly { origin }).inc();
            }
        }
    }

    /// A stream got its first pair after so many seconds.
    pub fn negotiated(&self, side: Side, origin: Origin, seconds: f64) {
        self.negotiation(side, origin, "ok");
        let labels = SideOrigin { side: side.as_str(), origin: origin.as_str() };
        self.negotiation_seconds.get_or_create(&labels).observe(seconds);
    }

    /// A stream, or a pair on one, did not come about.
    pub fn not_negotiated(&self, side: Side, origin: Origin, reason: &'static str) {
        self.negotiation(side, origin, reason);
    }

    fn negotiation(&self, side: Side, origin: Origin, result: &'static str) {
        let labels = Negotiation { side: side.as_str(), origin: origin.as_str(), result };
        self.negotiations.get_or_create(&labels).inc();
    }

    /// A pair was authorized on an accepted stream.
    pub fn authorized(&self, side: Side, proof: &'static str) {
        self.pairs.get_or_create(&Authorized { side: side.as_str(), proof }).inc();
    }

    /// A stream ended, by the stream error of that name or by none.
    pub fn closed(&self, side: Side, origin: Origin, condition: Option<&'static str>) {
        let condition = condition.unwrap_or("none");
        let labels = Closed { side: side.as_str(), origin: origin.as_str(), condition };
        self.closed.get_or_create(&labels).inc();
    }

    /// An authoritative server was asked for a key: `valid`, `invalid`, `error`, or `unreachable`.
    pub fn asked(&self, result: &'static str) {
        self.questions.get_or_create(&ResultOnly { result }).inc();
    }

    /// Stanzas were taken from a stream of that side.
    pub fn accepted(&self, side: Side, stanzas: u32, bytes: usize) {
        let from = |by: &ByDirection, n: u64| {
            let counter = match side {
                Side::Legacy => &by.outbound,
                Side::Peer => &by.inbound,
            };
            counter.inc_by(n);
        };
        from(&self.stanzas, stanzas.into());
        from(&self.bytes, bytes as u64);
    }

    /// Stanzas for that side were delivered: written, or with stream management acknowledged.
    pub fn delivered(&self, side: Side, stanzas: u64) {
        let counter = match side {
            Side::Legacy => &self.delivered.inbound,
            Side::Peer => &self.delivered.outbound,
        };
        counter.inc_by(stanzas);
    }

    /// A stream with a peer was to be resumed (XEP-0198 §5): `resumed`, `refused`, or `given-up` if
    /// the peer was not reached in time.
    pub fn resumption(&self, origin: Origin, result: &'static str) {
        self.resumptions.get_or_create(&OriginResult { origin: origin.as_str(), result }).inc();
    }

    /// Stanzas for that side could not be delivered: some were answered with an error, others want
    /// none.
    pub fn bounced(
        &self,
        side: Side,
        condition: StanzaCondition,
        reason: &'static str,
        answered: u32,
        silent: u32,
    ) {
        let direction = match side {
            Side::Legacy => Direction::Inbound,
            Side::Peer => Direction::Outbound,
        };
        if answered > 0 {
            let labels =
                Bounced { direction: direction.as_str(), condition: condition.as_str(), reason };
            self.bounced.get_or_create(&labels).inc_by(answered.into());
            self.bounced_total.fetch_add(answered.into(), Ordering::Relaxed);
        }
        self.unanswered.inc_by(silent.into());
    }

    /// A stanza for that side was refused for what it carries.
    pub fn refused(&self, side: Side, class: Class) {
        let direction = match side {
            Side::Legacy => Direction::Inbound,
            Side::Peer => Direction::Outbound,
        };
        let labels = RefusedStanza { direction: direction.as_str(), class: class.as_str() };
        self.refused.get_or_create(&labels).inc();
        self.refused_total.fetch_add(1, Ordering::Relaxed);
    }

    /// Errors could not be returned.
    pub fn lost(&self, errors: u32) {
        self.lost.inc_by(errors.into());
    }

    /// Somebody reached a limit, named as in the configuration.
    pub fn limit_reached(&self, limit: &'static str) {
        self.limits.get_or_create(&Reached { limit }).inc();
    }

    /// The configuration was read again.
    pub fn reloaded(&self, good: bool) {
        let result = if good { "ok" } else { "failed" };
        self.reloads.get_or_create(&ResultOnly { result }).inc();
    }

    /// What became of stanzas.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            from_legacy: self.stanzas.outbound.get(),
            from_peers: self.stanzas.inbound.get(),
            delivered: self.delivered.inbound.get() + self.delivered.outbound.get(),
            bounced: self.bounced_total.load(Ordering::Relaxed),
            undeliverable: self.unanswered.get(),
            lost_errors: self.lost.get(),
            refused: self.refused_total.load(Ordering::Relaxed),
            bytes_from_legacy: self.bytes.outbound.get(),
            bytes_from_peers: self.bytes.inbound.get(),
        }
    }

    /// All metrics as OpenMetrics text.
    #[must_use]
    pub fn render(&self, gauges: &Gauges) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = text::encode_registry(&mut text, &self.registry);
        let _ = text::encode_registry(&mut text, &gauges.registry());
        let _ = text::encode_eof(&mut text);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn registry() -> Registry {
    Registry::with_prefix("fedgate")
}

fn add<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}
