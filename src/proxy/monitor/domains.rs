//! Streams, queues and failures, gathered by remote domain.

use std::collections::BTreeMap;

use crate::{
    ops::report::{self, LastFailure},
    proxy::gate::Gate,
    xmpp::{Direction, Domain, DomainPair, Side},
};

/// From low to high.
const LEVELS: [&str; 4] = ["none", "verified", "encrypted", "trusted"];

/// All remote domains with a stream to or from a peer, a queue or a failure.
pub(super) fn all(gate: &Gate) -> Vec<report::Domain> {
    let mut all: BTreeMap<Domain, report::Domain> = BTreeMap::new();
    fn of<'a>(
        all: &'a mut BTreeMap<Domain, report::Domain>,
        domain: &Domain,
    ) -> &'a mut report::Domain {
        all.entry(domain.clone()).or_insert_with(|| nothing(domain))
    }
    for pair in gate.live().pairs() {
        // What there is with the legacy server is the other half of the same way.
        if pair.kind.side != Side::Peer.as_str() {
            continue;
        }
        let domain = of(&mut all, remote(pair.meter.pair(), pair.direction));
        let (stanzas, bytes, used) = pair.meter.read();
        match pair.direction {
            Direction::Inbound => {
                domain.inbound = true;
                domain.stanzas_in += stanzas;
                domain.bytes_in += bytes;
            }
            Direction::Outbound => {
                domain.outbound = true;
                domain.stanzas_out += stanzas;
                domain.bytes_out += bytes;
            }
        }
        domain.used = domain.used.max(used);
        if rank(pair.kind.level) > rank(&domain.level) {
            domain.level = pair.kind.level.to_owned();
        }
        once(&mut domain.proofs, pair.proof);
        once(&mut domain.tls, pair.kind.tls);
        if !domain.streams.contains(&pair.stream) {
            domain.streams.push(pair.stream);
        }
        let expires = [domain.certificate_expires, pair.certificate_expires];
        domain.certificate_expires = expires.into_iter().flatten().min();
    }
    for route in gate.routes().report() {
        if route.side == Side::Peer && route.queued > 0 {
            of(&mut all, &route.pair.target).queued += route.queued;
        }
    }
    for (direction, key, failure) in gate.failures().report() {
        let domain = of(&mut all, &key.remote);
        // The first one is the latest.
        domain.failure.get_or_insert(LastFailure {
            direction: direction.as_str().to_owned(),
            local: failure.local,
            last: failure.last,
            count: failure.count,
            reason: failure.reason,
            detail: failure.detail,
        });
    }
    all.into_values().collect()
}

fn nothing(domain: &Domain) -> report::Domain {
    report::Domain {
        domain: domain.to_unicode(),
        level: "none".to_owned(),
        proofs: Vec::new(),
        tls: Vec::new(),
        inbound: false,
        outbound: false,
        streams: Vec::new(),
        stanzas_in: 0,
        stanzas_out: 0,
        bytes_in: 0,
        bytes_out: 0,
        queued: 0,
        used: 0,
        certificate_expires: None,
        failure: None,
    }
}

fn remote(pair: &DomainPair, direction: Direction) -> &Domain {
    match direction {
        Direction::Inbound => &pair.sender,
        Direction::Outbound => &pair.target,
    }
}

fn rank(level: &str) -> Option<usize> {
    LEVELS.iter().position(|known| *known == level)
}

fn once(words: &mut Vec<String>, word: &str) {
    if word != "none" && !words.iter().any(|known| known == word) {
        words.push(word.to_owned());
    }
}
