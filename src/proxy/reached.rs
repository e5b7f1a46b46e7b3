//! Which limits were reached, and which errors lost: the log tells of the first time and then at most once in a while, for
//! whoever reaches one mostly does so over and over.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use tokio::time::Instant;
use tracing::info;

use crate::{ops::seldom::Seldom, xmpp::DomainPair};

/// A limit that somebody can reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Limit {
    /// Bytes before anything is authorized.
    BytesBeforeAuth,
    /// Inbound connections in all.
    Connections,
    /// Inbound connections of an address.
    ConnectionsPerAddress,
    /// Inbound streams of a domain.
    ConnectionsPerDomain,
    /// Dialback elements of an address.
    DialbackRate,
    /// Streams to the legacy servers, or domain pairs that may need one.
    LegacyStreams,
    /// Those of an address.
    LegacyStreamsPerAddress,
    /// Questions and certificates of an address.
    LookupsPerAddress,
    /// Domain pairs of a stream.
    PairsPerStream,
    /// Dialback requests of a stream that are not answered yet.
    PendingVerifications,
    /// Bytes that wait for a pair.
    Queue,
    /// Bytes that wait for all pairs.
    QueueTotal,
    /// Bytes a second of a domain.
    Rate,
    /// Bytes of a stanza, as the peer that is to get it says or a rule for it; or one of the legacy
    /// server is larger or more complex than others may send.
    Stanza,
    /// Stanzas a second of a domain.
    StanzaRate,
}

impl Limit {
    /// How many there are.
    const COUNT: usize = Self::StanzaRate as usize + 1;

    /// Its key in the configuration, below `limits`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::BytesBeforeAuth => "bytes_before_auth",
            Self::Connections => "connections",
            Self::ConnectionsPerAddress => "connections_per_address",
            Self::ConnectionsPerDomain => "connections_per_domain",
            Self::DialbackRate => "dialback_rate",
            Self::LegacyStreams => "legacy_streams",
            Self::LegacyStreamsPerAddress => "legacy_streams_per_address",
            Self::LookupsPerAddress => "lookups_per_address",
            Self::PairsPerStream => "pairs_per_stream",
            Self::PendingVerifications => "pending_verifications",
            Self::Queue => "queue",
            Self::QueueTotal => "queue_total",
            Self::Rate => "rate",
            Self::Stanza => "stanza",
            Self::StanzaRate => "stanza_rate",
        }
    }
}

/// When the log told of each limit.
#[derive(Debug, Default)]
pub(super) struct Reached {
    told: Mutex<[Seldom; Limit::COUNT]>,
    /// The same of errors that find no way back,
    lost: Mutex<Seldom>,
    /// and of what is to be found out and has no place.
    full: Mutex<Seldom>,
}

impl Reached {
    /// `who` reached a limit.
    pub(super) fn tell(&self, limit: Limit, who: impl fmt::Display, now: Instant) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let again = told.get_mut(limit as usize).and_then(|told| told.again(now));
        drop(told);
        if let Some(times) = again {
            info!(limit = limit.as_str(), of = %who, times, "limit reached");
        }
    }

    /// There was no place for what `who` has us find out, whose own share was not used up.
    pub(super) fn tell_full(&self, who: impl fmt::Display, now: Instant) {
        let again = self.full.lock().unwrap_or_else(PoisonError::into_inner).again(now);
        if let Some(times) = again {
            info!(of = %who, times, "too much has to be found out at once");
        }
    }

    /// So many errors of a pair find no way back to those whose stanzas were not delivered.
    pub(super) fn tell_lost(&self, pair: &DomainPair, stanzas: u32, now: Instant) {
        let again = self.lost.lock().unwrap_or_else(PoisonError::into_inner).again(now);
        if let Some(times) = again {
            info!(pair = %pair, stanzas, times, "errors could not be returned");
        }
    }
}
