use std::collections::BTreeMap;

use super::*;

const DOCUMENTED: &str = include_str!("../../../docs/metrics.md");

/// Every counter counted once, every gauge with a member.
fn rendered() -> String {
    let metrics = Metrics::new();
    metrics.connected("public");
    metrics.rejected("public", "rule");
    metrics.handshake(Origin::Accepted, Some("TLSv1.3"));
    metrics.handshake(Origin::Opened, None);
    metrics.negotiated(Side::Peer, Origin::Accepted, 0.3);
    metrics.not_negotiated(Side::Peer, Origin::Opened, "tls");
    metrics.authorized(Side::Peer, "pkix");
    metrics.closed(Side::Peer, Origin::Accepted, None);
    metrics.asked("valid");
    metrics.accepted(Side::Peer, 2, 300);
    metrics.bounced(Side::Peer, StanzaCondition::Forbidden, "denied", 1, 1);
    metrics.refused(Side::Legacy, Class::Muc);
    metrics.lost(1);
    metrics.delivered(Side::Legacy, 2);
    metrics.resumption(Origin::Opened, "resumed");
    metrics.limit_reached("rate");
    metrics.reloaded(true);
    let kind = StreamKind {
        side: "peer",
        origin: "accepted",
        level: "trusted",
        proof: "pkix",
        tls: "TLSv1.3",
    };
    metrics.render(&Gauges {
        streams: vec![(kind, 1)],
        pairs: vec![(Direction::Inbound, 1)],
        queues: vec![(Side::Peer, 1, 100)],
        failing: vec![(Direction::Outbound, 1)],
        certificates: vec![("old.example\"\\\n".into(), 1.8e9)],
        legacy: vec![("old".into(), true)],
        ..Gauges::default()
    })
}

/// Type and labels by the name of a metric; that of a counter ends in `_total`, as on its samples.
fn exposed(text: &str) -> BTreeMap<String, (String, Vec<String>)> {
    let mut types = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            let suffix = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            types.insert(format!("{name}{suffix}"), (kind.to_owned(), Vec::new()));
        }
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, labels) = line.split_once(['{', ' ']).unwrap();
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let name = family.filter(|name| types.contains_key(*name)).unwrap_or(name);
        let labels = if line.contains('{') { labels.rsplit_once('}').unwrap().0 } else { "" };
        let names = labels.split("\",").filter_map(|label| Some(label.split_once("=\"")?.0));
        let names: Vec<_> = names.filter(|name| *name != "le").map(str::to_owned).collect();
        types.get_mut(name).unwrap_or_else(|| panic!("no type: {line}")).1 = names;
    }
    types
}

/// The same from the tables of the documentation.
fn documented() -> BTreeMap<String, (String, Vec<String>)> {
    let rows = DOCUMENTED.lines().filter_map(|line| line.strip_prefix("| `fedgate_"));
    let row = |row: &str| {
        let mut cells = row.split(" | ");
        let name = format!("fedgate_{}", cells.next().unwrap().trim_end_matches('`'));
        let kind = cells.next().unwrap().to_owned();
        let labels = cells.next().unwrap().split(", ").filter(|label| !label.is_empty());
        let labels = labels.map(|label| label.trim_matches('`').to_owned()).collect();
        (name, (kind, labels))
    };
    rows.map(row).collect()
}

#[test]
fn every_metric_is_documented_and_every_documented_metric_exists() {
    let text = rendered();
    assert_eq!(exposed(&text), documented());
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn values_are_what_was_counted() {
    let text = rendered();
    for line in [
        "fedgate_stanzas_total{direction=\"inbound\"} 2",
        "fedgate_stanzas_total{direction=\"outbound\"} 0",
        "fedgate_stanza_bytes_total{direction=\"inbound\"} 300",
        "fedgate_stanzas_bounced_total{direction=\"outbound\",condition=\"forbidden\",reason=\"denied\"} 1",
        "fedgate_stanzas_refused_total{direction=\"inbound\",class=\"muc\"} 1",
        "fedgate_negotiation_seconds_bucket{le=\"0.5\",side=\"peer\",origin=\"accepted\"} 1",
        "fedgate_negotiation_seconds_bucket{le=\"0.25\",side=\"peer\",origin=\"accepted\"} 0",
        "fedgate_negotiations_total{side=\"peer\",origin=\"opened\",result=\"tls\"} 1",
        "fedgate_queue_bytes{side=\"peer\"} 100",
        "fedgate_legacy_up{legacy=\"old\"} 1",
        "fedgate_certificate_expiry_timestamp_seconds{domain=\"old.example\\\"\\\\\\n\"} 1800000000.0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
}

#[test]
fn the_totals_are_those_of_the_counters() {
    let metrics = Metrics::new();
    metrics.accepted(Side::Legacy, 3, 10);
    metrics.accepted(Side::Peer, 2, 20);
    metrics.bounced(Side::Peer, StanzaCondition::Forbidden, "denied", 2, 1);
    metrics.bounced(Side::Legacy, StanzaCondition::RemoteServerTimeout, "tls", 1, 0);
    metrics.lost(4);
    let totals = metrics.totals();
    assert_eq!((totals.from_legacy, totals.from_peers), (3, 2));
    assert_eq!((totals.bytes_from_legacy, totals.bytes_from_peers), (10, 20));
    assert_eq!((totals.bounced, totals.undeliverable, totals.lost_errors), (3, 1, 4));
}
