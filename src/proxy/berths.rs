//! How many streams to the legacy servers may come about, in all and by whom: each is a connection of
//! its own, and an old server has room for so many. A domain pair has its place (berth) before the
//! way there is opened, and until no stream of a peer has the pair and its route has ended: so a
//! pair that is authorized has one also after its route was idle.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use dashmap::{DashMap, mapref::entry::Entry};

use super::{
    admission::{Admission, Permit},
    gate::Gate,
    reached::Limit,
};
use crate::{
    config::model::Limits,
    stream::{Failure, FailureKind},
    xmpp::DomainPair,
};

/// The berths that are taken.
#[derive(Debug)]
pub(super) struct Berths {
    admission: Arc<Admission>,
    taken: DashMap<DomainPair, Weak<Berth>>,
}

/// The berth of a pair, which is free again when nobody holds it any more.
#[derive(Debug)]
pub(super) struct Berth {
    berths: Arc<Berths>,
    pair: DomainPair,
    permit: Mutex<Permit>,
}

impl Berths {
    /// None is taken.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// The berth of a pair, which counts to the first address (IPv6: /64) that asks for it.
    ///
    /// # Errors
    /// The limit that is reached.
    fn take(
        self: &Arc<Self>,
        pair: &DomainPair,
        asker: Option<IpAddr>,
        limits: &Limits,
    ) -> Result<Arc<Berth>, Limit> {
        let (own, all) = (limits.legacy_streams_per_address, limits.legacy_streams);
        // It may be the last to hold it: not while the entry is locked.
        let there = match self.taken.entry(pair.clone()) {
            Entry::Occupied(mut entry) => match entry.get().upgrade() {
                Some(berth) => berth,
                None => {
                    let berth = self.berth(pair, self.admission.admit(asker, own, all)?);
                    entry.insert(Arc::downgrade(&berth));
                    return Ok(berth);
                }
            },
            Entry::Vacant(entry) => {
                let berth = self.berth(pair, self.admission.admit(asker, own, all)?);
                entry.insert(Arc::downgrade(&berth));
                return Ok(berth);
            }
        };
        if let Some(asker) = asker {
            let mut permit = there.permit.lock().unwrap_or_else(PoisonError::into_inner);
            permit.charge(asker, own)?;
        }
        Ok(there)
    }

    fn berth(self: &Arc<Self>, pair: &DomainPair, permit: Permit) -> Arc<Berth> {
        let (berths, permit) = (Arc::clone(self), Mutex::new(permit));
        Arc::new(Berth { berths, pair: pair.clone(), permit })
    }

    /// The berth of a pair, if it is taken.
    pub(super) fn held(&self, pair: &DomainPair) -> Option<Arc<Berth>> {
        self.taken.get(pair)?.upgrade()
    }
}

impl Default for Berths {
    fn default() -> Self {
        let admission = Admission::new(Limit::LegacyStreamsPerAddress, Limit::LegacyStreams);
        Self { admission, taken: DashMap::new() }
    }
}

impl Drop for Berth {
    fn drop(&mut self) {
        // It may have a successor.
        self.berths.taken.remove_if(&self.pair, |_, berth| berth.strong_count() == 0);
    }
}

impl Gate {
    /// The berth of a pair, for the peer at `asker` or, without one, for who may not be kept from it
    /// by others at that address.
    ///
    /// # Errors
    /// That there is none; it was counted and logged.
    pub(super) fn berth(
        &self,
        pair: &DomainPair,
        asker: Option<IpAddr>,
    ) -> Result<Arc<Berth>, Failure> {
        let taken = self.berths().take(pair, asker, &self.config().limits);
        taken.map_err(|limit| {
            match asker {
                Some(address) => self.limit_reached(limit, address),
                None => self.limit_reached(limit, pair),
            }
            let detail = if limit == Limit::LegacyStreams {
                "too many streams to the legacy servers"
            } else {
                "too many streams to the legacy servers for pairs of this address"
            };
            Failure::new(FailureKind::Resource, detail)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ops::metrics::Origin,
        proxy::live::{Flow, LiveStreams},
        xmpp::{Domain, Side},
    };

    const LIMITS: fn() -> Limits =
        || Limits { legacy_streams_per_address: 2, legacy_streams: 4, ..Limits::default() };

    fn pair(name: &str) -> DomainPair {
        let [sender, target] = [name, "old.test"].map(|name| Domain::parse(name).unwrap());
        DomainPair::new(sender, target)
    }

    #[test]
    fn berths_are_limited_by_address_and_in_all_and_come_back() {
        let (berths, limits) = (Berths::new(), LIMITS());
        let take = |name: &str, address: &str| {
            berths.take(&pair(name), Some(address.parse().unwrap()), &limits)
        };
        let first = take("a.test", "2001:db8::1").unwrap();
        let second = take("b.test", "2001:db8::2").unwrap();
        let refused = take("c.test", "2001:db8::3").unwrap_err();
        assert_eq!(refused, Limit::LegacyStreamsPerAddress, "of the same /64");
        // a pair has one, whoever asks for it
        let again = [take("a.test", "2001:db8::1"), take("a.test", "192.0.2.1")];
        assert!(again.iter().all(Result::is_ok));
        let others = ["c.test", "d.test"].map(|name| take(name, "192.0.2.1").unwrap());
        assert_eq!(take("e.test", "192.0.2.2").unwrap_err(), Limit::LegacyStreams);
        drop(first);
        assert!(take("e.test", "192.0.2.2").is_err(), "others hold it yet");
        drop(again);
        let last = take("e.test", "2001:db8::3").unwrap();
        drop((second, others, last));
        assert!(berths.taken.is_empty());
        assert!((0..2).all(|_| take("a.test", "2001:db8::1").is_ok()));
    }

    #[test]
    fn a_stream_of_a_peer_holds_the_berth_of_what_may_come_on_it() {
        let (berths, limits) = (Berths::new(), LIMITS());
        let streams = LiveStreams::new(Arc::clone(&berths));
        let stream = streams.enter(Side::Peer, Origin::Opened, None, None);
        let legacy = streams.enter(Side::Legacy, Origin::Accepted, None, None);
        let pair = pair("a.test");
        for (there, flow) in [(pair.clone(), Flow::In), (pair.reversed(), Flow::Out)] {
            let berth = berths.take(&pair, None, &limits).unwrap();
            stream.authorized(&there, flow, None);
            legacy.authorized(&there, flow, None);
            drop(berth);
            assert!(berths.held(&pair).is_some(), "{flow:?}");
            stream.withdrawn(&there);
            assert!(berths.taken.is_empty(), "{flow:?}");
        }
    }

    #[test]
    fn an_address_keeps_no_error_from_its_way_and_pays_for_it_when_it_asks() {
        let (berths, limits) = (Berths::new(), LIMITS());
        let take = |name: &str, asker| berths.take(&pair(name), asker, &limits);
        let asker = Some("192.0.2.1".parse().unwrap());
        let _own = ["a.test", "b.test"].map(|name| take(name, asker).unwrap());
        let _errors = take("c.test", None).unwrap();
        assert_eq!(take("c.test", asker).unwrap_err(), Limit::LegacyStreamsPerAddress);
        let other = Some("192.0.2.2".parse().unwrap());
        let _others = ["c.test", "d.test"].map(|name| take(name, other).unwrap());
        assert_eq!(take("e.test", None).unwrap_err(), Limit::LegacyStreams);
        assert!(berths.held(&pair("e.test")).is_none() && berths.held(&pair("a.test")).is_some());
    }
}
