//! What became of stanzas, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{features::Class, xmpp::Side};

/// Stanzas since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    accepted_from_legacy: AtomicU64,
    accepted_from_peers: AtomicU64,
    bounced: AtomicU64,
    silent: AtomicU64,
    lost_errors: AtomicU64,
    /// By class of features.
    refused: [AtomicU64; Class::ALL.len()],
}

impl Counters {
    /// Stanzas were taken from a stream of that side.
    pub(super) fn accepted(&self, side: Side, stanzas: u32) {
        let counter = match side {
            Side::Legacy => &self.accepted_from_legacy,
            Side::Peer => &self.accepted_from_peers,
        };
        counter.fetch_add(u64::from(stanzas), Ordering::Relaxed);
    }

    /// Stanzas could not be delivered: some were answered with an error, others want none.
    pub(super) fn bounced(&self, answered: u32, silent: u32) {
        self.bounced.fetch_add(u64::from(answered), Ordering::Relaxed);
        self.silent.fetch_add(u64::from(silent), Ordering::Relaxed);
    }

    /// A stanza that was taken from a stream of that side is refused for what it carries.
    pub(super) fn refused(&self, side: Side, class: Class) {
        self.accepted(side, 1);
        if let Some(counter) = self.refused.get(class as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Errors could not be returned.
    pub(super) fn lost(&self, errors: u32) {
        self.lost_errors.fetch_add(u64::from(errors), Ordering::Relaxed);
    }

    /// All of them, for the last log line.
    pub(super) fn totals(&self) -> Totals {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            from_legacy: get(&self.accepted_from_legacy),
            from_peers: get(&self.accepted_from_peers),
            bounced: get(&self.bounced),
            undeliverable: get(&self.silent),
            lost_errors: get(&self.lost_errors),
            refused: self.refused.iter().map(get).sum(),
        }
    }
}

/// A snapshot of the counters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Totals {
    pub(super) from_legacy: u64,
    pub(super) from_peers: u64,
    pub(super) bounced: u64,
    pub(super) undeliverable: u64,
    pub(super) lost_errors: u64,
    pub(super) refused: u64,
}
