//! What is measured when somebody asks.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::{DirectionOnly, add, registry};
use crate::xmpp::{Direction, Side};

/// What is so now.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    /// When the process began to serve, in seconds since 1970.
    pub started: f64,
    /// When the configuration of now was taken, in seconds since 1970.
    pub config_loaded: f64,
    /// Whether the last attempt to read the configuration succeeded.
    pub config_good: bool,
    /// Whether fedgate is draining.
    pub draining: bool,
    /// Tasks of the runtime.
    pub tasks: i64,
    /// Open streams.
    pub streams: Vec<(StreamKind, i64)>,
    /// Domain pairs that may send now, by direction.
    pub pairs: Vec<(Direction, i64)>,
    /// Stanzas and bytes that wait, by the side they go to.
    pub queues: Vec<(Side, i64, i64)>,
    /// Domain pairs that failed and did not succeed since.
    pub failing: Vec<(Direction, i64)>,
    /// When the certificate of a local domain expires, in seconds since 1970.
    pub certificates: Vec<(String, f64)>,
    /// Whether a legacy server accepts connections.
    pub legacy: Vec<(String, bool)>,
}

/// What streams are told apart by in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct StreamKind {
    /// `legacy` or `peer`.
    pub side: &'static str,
    /// `accepted` or `opened`.
    pub origin: &'static str,
    /// The level that is reached, `none` before.
    pub level: &'static str,
    /// The prooftype, `none` before.
    pub proof: &'static str,
    /// The version of TLS, `none` without.
    pub tls: &'static str,
}

impl Gauges {
    pub(super) fn registry(&self) -> Registry {
        let mut registry = registry();
        let r = &mut registry;
        seconds(r, "start_timestamp", "When fedgate began to serve", self.started);
        let help = "When the configuration of now was taken";
        seconds(r, "config_loaded_timestamp", help, self.config_loaded);
        let good = single(self.config_good);
        r.register(
            "config_last_reload_successful",
            "Whether the last attempt to read it was",
            good,
        );
        r.register("draining", "Whether fedgate is draining", single(self.draining));
        add::<Gauge>(r, "tasks", "Tasks of the runtime: some for each stream, route and listener")
            .set(self.tasks);
        let streams = add::<Family<Streams, Gauge>>(r, "streams", "Open streams");
        for (kind, n) in &self.streams {
            let StreamKind { side, origin, level, proof, tls } = *kind;
            streams.get_or_create(&Streams { side, origin, level, proof, tls }).set(*n);
        }
        let pairs =
            add::<Family<DirectionOnly, Gauge>>(r, "pairs", "Domain pairs that may send now");
        let failing = add::<Family<DirectionOnly, Gauge>>(
            r,
            "pairs_failing",
            "Domain pairs that failed and did not succeed since",
        );
        for (family, values) in [(&pairs, &self.pairs), (&failing, &self.failing)] {
            for (direction, n) in values {
                let labels = DirectionOnly { direction: direction.as_str() };
                family.get_or_create(&labels).set(*n);
            }
        }
        let stanzas = add::<Family<SideOnly, Gauge>>(r, "queue_stanzas", "Stanzas that wait");
        let bytes = Family::<SideOnly, Gauge>::default();
        r.register_with_unit("queue", "Bytes of the stanzas that wait", Unit::Bytes, bytes.clone());
        for (side, waiting, size) in &self.queues {
            let labels = SideOnly { side: side.as_str() };
            stanzas.get_or_create(&labels).set(*waiting);
            bytes.get_or_create(&labels).set(*size);
        }
        let expiry = Family::<LocalDomain, Gauge<f64, AtomicU64>>::default();
        let help = "When the certificate of a local domain expires";
        let name = "certificate_expiry_timestamp";
        r.register_with_unit(name, help, Unit::Seconds, expiry.clone());
        for (domain, at) in &self.certificates {
            expiry.get_or_create(&LocalDomain { domain: domain.clone() }).set(*at);
        }
        let help = "Whether a legacy server accepts connections";
        let legacy = add::<Family<LegacyServer, Gauge>>(r, "legacy_up", help);
        for (name, up) in &self.legacy {
            legacy.get_or_create(&LegacyServer { legacy: name.clone() }).set((*up).into());
        }
        registry
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct SideOnly {
    side: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Streams {
    side: &'static str,
    origin: &'static str,
    level: &'static str,
    proof: &'static str,
    tls: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct LocalDomain {
    domain: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct LegacyServer {
    legacy: String,
}

fn single(value: bool) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(value.into());
    gauge
}

fn seconds(registry: &mut Registry, name: &str, help: &str, value: f64) {
    let gauge = Gauge::<f64, AtomicU64>::default();
    gauge.set(value);
    registry.register_with_unit(name, help, Unit::Seconds, gauge);
}
