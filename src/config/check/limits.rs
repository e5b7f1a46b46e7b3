//! The bounds, each with the range in which it makes sense.

use std::{ops::RangeInclusive, time::Duration};

use crate::config::{
    model::{Limits, Rate},
    problem::{Reports, Wrong},
    read::Section,
    value,
};

pub(super) fn check(top: &Section<'_>, out: &mut Reports<'_>) -> Limits {
    let default = Limits::default();
    let Some(section) = top.section("limits", &KEYS, out) else { return default };
    let mut reader = Reader { section: &section, out };
    let limits = Limits {
        // RFC 6120 §13.12 item 4: not below 10000 bytes
        stanza: reader.size("stanza", default.stanza, 10_000..=16 << 20),
        element_before_auth: reader.size(
            "element_before_auth",
            default.element_before_auth,
            2 << 10..=1 << 20,
        ),
        depth: reader.count("depth", default.depth, 8..=1024),
        attributes: reader.count("attributes", default.attributes, 16..=4096),
        connections_per_address: reader.count(
            "connections_per_address",
            default.connections_per_address,
            1..=1_000_000,
        ),
        connections: reader.count("connections", default.connections, CONNECTIONS),
        connections_per_domain: reader.count(
            "connections_per_domain",
            default.connections_per_domain,
            CONNECTIONS,
        ),
        legacy_streams_per_address: reader.count(
            "legacy_streams_per_address",
            default.legacy_streams_per_address,
            CONNECTIONS,
        ),
        legacy_streams: reader.count("legacy_streams", default.legacy_streams, CONNECTIONS),
        bytes_before_auth: reader.size(
            "bytes_before_auth",
            default.bytes_before_auth,
            16 << 10..=64 << 20,
        ),
        lookups_per_address: reader.count(
            "lookups_per_address",
            default.lookups_per_address,
            1..=10_000,
        ),
        dialback_rate: reader.rate("dialback_rate", default.dialback_rate, value::count_rate),
        rate: reader.rate("rate", default.rate, value::size_rate),
        stanza_rate: reader.rate("stanza_rate", default.stanza_rate, value::count_rate),
        burst: reader.time("burst", default.burst, SECOND..=Duration::from_mins(10)),
        pending_verifications: reader.count(
            "pending_verifications",
            default.pending_verifications,
            1..=10_000,
        ),
        pairs_per_stream: reader.count("pairs_per_stream", default.pairs_per_stream, 1..=100_000),
        queue: reader.size("queue", default.queue, 10_000..=1 << 30),
        queue_total: reader.size("queue_total", default.queue_total, 10_000..=64 << 30),
        negotiation: reader.time(
            "negotiation",
            default.negotiation,
            SECOND..=Duration::from_mins(10),
        ),
        connect: reader.time("connect", default.connect, SECOND..=Duration::from_mins(10)),
        tcp_connect: reader.time(
            "tcp_connect",
            default.tcp_connect,
            Duration::from_millis(100)..=Duration::from_mins(2),
        ),
        // a room's self-ping comes every 15 minutes (XEP-0410 §4): below it streams come and go
        idle: reader.time(
            "idle",
            default.idle,
            Duration::from_mins(15)..=Duration::from_hours(168),
        ),
        keepalive: reader.time_or_off("keepalive", default.keepalive, &KEEPALIVE),
        write_stall: reader.time(
            "write_stall",
            default.write_stall,
            SECOND..=Duration::from_hours(1),
        ),
        ack: reader.time("ack", default.ack, SECOND..=Duration::from_hours(1)),
        unacknowledged: reader.size("unacknowledged", default.unacknowledged, 10_000..=1 << 30),
        resumption: reader.time_or_off("resumption", default.resumption, &RESUMPTION),
    };
    reader.at_least("queue", limits.queue, "stanza", limits.stanza);
    reader.at_least("queue_total", limits.queue_total, "queue", limits.queue);
    let (all, one) = (limits.bytes_before_auth, limits.element_before_auth);
    reader.at_least("bytes_before_auth", all, "element_before_auth", one);
    reader.at_least("connect", limits.connect, "tcp_connect", limits.tcp_connect);
    limits
}

struct Reader<'a, 'n, 's> {
    section: &'a Section<'n>,
    out: &'a mut Reports<'s>,
}

impl Reader<'_, '_, '_> {
    fn size(&mut self, key: &str, default: usize, range: RangeInclusive<usize>) -> usize {
        self.section.text(key, |t| value::size(t, &range), self.out).unwrap_or(default)
    }

    fn count(&mut self, key: &str, default: usize, range: RangeInclusive<usize>) -> usize {
        self.section.text(key, |t| value::count(t, &range), self.out).unwrap_or(default)
    }

    fn time(&mut self, key: &str, default: Duration, range: RangeInclusive<Duration>) -> Duration {
        self.section.text(key, |t| value::duration(t, &range), self.out).unwrap_or(default)
    }

    fn rate(
        &mut self,
        key: &str,
        default: Rate,
        read: impl Fn(&str) -> Result<Rate, Wrong>,
    ) -> Rate {
        self.section.text(key, read, self.out).unwrap_or(default)
    }

    fn time_or_off(
        &mut self,
        key: &str,
        default: Option<Duration>,
        range: &RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let read = |text: &str| match text {
            "off" => Ok(None),
            _ => value::duration(text, range).map(Some),
        };
        self.section.text(key, read, self.out).unwrap_or(default)
    }

    /// Reports a limit below another that it has to hold.
    fn at_least<T: PartialOrd>(&mut self, key: &str, value: T, other: &str, least: T) {
        let given = self.section.get(key).or_else(|| self.section.get(other));
        if let (true, Some(node)) = (value < least, given) {
            let wrong = Wrong::new(format!("\"{key}\" is less than \"{other}\""));
            self.out.error(node.at, wrong.hint("it has to be at least as much"));
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);
pub(super) const CONNECTIONS: RangeInclusive<usize> = 1..=1_000_000;
const KEEPALIVE: RangeInclusive<Duration> = SECOND..=Duration::from_hours(24);

const RESUMPTION: RangeInclusive<Duration> = SECOND..=Duration::from_mins(30);

const KEYS: [&str; 28] = [
    "stanza",
    "element_before_auth",
    "depth",
    "attributes",
    "connections_per_address",
    "connections",
    "connections_per_domain",
    "legacy_streams_per_address",
    "legacy_streams",
    "bytes_before_auth",
    "lookups_per_address",
    "dialback_rate",
    "rate",
    "stanza_rate",
    "burst",
    "pending_verifications",
    "pairs_per_stream",
    "queue",
    "queue_total",
    "negotiation",
    "connect",
    "tcp_connect",
    "idle",
    "keepalive",
    "write_stall",
    "ack",
    "unacknowledged",
    "resumption",
];
