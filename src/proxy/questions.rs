//! How many dialback questions may be under way at once (protocol DB-16), and in the same way client
//! certificates that are looked into, and fetches by HTTPS for any certificate. A peer can cause them
//! without having proven anything, so each address has a share, and those that the legacy server
//! causes have a place of their own: strangers who ask about domains that never answer keep
//! nobody else from federating.

use std::{net::IpAddr, sync::Arc, time::Duration};

use dashmap::DashMap;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::admission::network;
use crate::xmpp::Side;

/// Questions for the streams of one side.
const OF_SIDE: usize = 256;

/// The questions under way.
#[derive(Debug)]
pub(super) struct Questions {
    legacy: Arc<Semaphore>,
    peers: Arc<Semaphore>,
    by_address: DashMap<IpAddr, Arc<Semaphore>>,
}

/// A place for one question; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    questions: Arc<Questions>,
    share: Option<(IpAddr, OwnedSemaphorePermit)>,
    _place: OwnedSemaphorePermit,
}

impl Questions {
    /// No question is under way.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            legacy: Arc::new(Semaphore::new(OF_SIDE)),
            peers: Arc::new(Semaphore::new(OF_SIDE)),
            by_address: DashMap::new(),
        })
    }

    /// A place for a question that a stream of `side` from `address` needs answered, of which one
    /// address (IPv6: one /64) has `share`. `None` if there is none within `patience`.
    pub(super) async fn slot(
        self: &Arc<Self>,
        side: Side,
        address: IpAddr,
        share: usize,
        patience: Duration,
    ) -> Option<Slot> {
        timeout(patience, self.wait(side, address, share)).await.ok().flatten()
    }

    /// A place of a peer's address alone, however long that takes.
    pub(super) async fn share(self: &Arc<Self>, address: IpAddr, share: usize) -> Option<Slot> {
        self.wait(Side::Peer, address, share).await
    }

    async fn wait(self: &Arc<Self>, side: Side, address: IpAddr, share: usize) -> Option<Slot> {
        let (share, places) = match side {
            Side::Legacy => (None, &self.legacy),
            Side::Peer => {
                let key = network(address);
                let share = self.by_address.entry(key).or_insert_with(|| of_address(share)).clone();
                (Some((key, share.acquire_owned().await.ok()?)), &self.peers)
            }
        };
        let mut slot = Share { questions: self, share };
        let place = Arc::clone(places).acquire_owned().await.ok()?;
        Some(Slot { questions: Arc::clone(self), share: slot.share.take(), _place: place })
    }

    fn give_back(&self, share: Option<(IpAddr, OwnedSemaphorePermit)>) {
        let Some((key, permit)) = share else { return };
        drop(permit);
        // whoever waits for it or holds a part of it has it too
        self.by_address.remove_if(&key, |_, share| Arc::strong_count(share) == 1);
    }
}

/// A share whose holder still waits for a place.
struct Share<'a> {
    questions: &'a Questions,
    share: Option<(IpAddr, OwnedSemaphorePermit)>,
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.questions.give_back(self.share.take());
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.questions.give_back(self.share.take());
    }
}

fn of_address(share: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_has_its_share_and_the_legacy_side_a_place_of_its_own() {
        let questions = Questions::new();
        let ask = |side, address: &str| {
            let address = address.parse().unwrap();
            let questions = Arc::clone(&questions);
            async move { questions.slot(side, address, 64, Duration::ZERO).await }
        };
        let mut slots = Vec::new();
        for address in ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"] {
            while let Some(slot) = ask(Side::Peer, address).await {
                slots.push(slot);
            }
        }
        assert_eq!(slots.len(), OF_SIDE);
        assert!(ask(Side::Peer, "192.0.2.4").await.is_none(), "none left at all");
        assert!(ask(Side::Legacy, "127.0.0.1").await.is_some());
        slots.remove(0);
        assert!(ask(Side::Peer, "2001:db8::ffff").await.is_none(), "of the same /64");
        assert!(ask(Side::Peer, "192.0.2.4").await.is_some());
        slots.clear();
        assert!(questions.by_address.is_empty());
    }
}
