//! How many dialback questions may be under way at once (protocol DB-16), and in the same way client
//! certificates that are looked into, and fetches by HTTPS for any certificate. A peer can cause them
//! without having proven anything, so each address has a share, each domain is asked a few only, and those
//! that the legacy server causes have a place of their own: strangers who ask about domains that never
//! answer keep nobody else from federating, and turn no crowd of ours upon anybody.

use std::{hash::Hash, net::IpAddr, sync::Arc, time::Duration};

use dashmap::DashMap;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::admission::network;
use crate::xmpp::{Domain, Side};

/// Questions for the streams of one side.
const OF_SIDE: usize = 256;
/// Questions to the servers of one remote domain, which strangers choose,
const OF_DOMAIN: usize = 4;
/// and of these from one address, so that it keeps no other from asking.
const OF_BOTH: usize = 1;

/// The questions under way.
#[derive(Debug)]
pub(super) struct Questions {
    legacy: Arc<Semaphore>,
    peers: Arc<Semaphore>,
    by_address: Arc<Shares<IpAddr>>,
    by_domain: Arc<Shares<Domain>>,
    by_both: Arc<Shares<(IpAddr, Domain)>>,
}

/// A question that is to be asked, or a certificate to be looked into.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish<'a> {
    /// The side of the stream that needs it,
    pub(super) side: Side,
    /// and its address.
    pub(super) address: IpAddr,
    /// How many one address (IPv6: one /64) may have under way.
    pub(super) share: usize,
    /// The remote domain whose servers are to be asked, where strangers must not have it asked often.
    pub(super) domain: Option<&'a Domain>,
}

/// A place for one question; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    _of_address: Option<Share<IpAddr>>,
    _of_domain: Option<Share<Domain>>,
    _of_both: Option<Share<(IpAddr, Domain)>>,
    _place: OwnedSemaphorePermit,
}

/// Of what there was no place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Full {
    /// The share of the address that asks.
    Address,
    /// That of the domain that is asked.
    Domain,
    /// All that there are for a side.
    Side,
}

impl Questions {
    /// No question is under way.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            legacy: Arc::new(Semaphore::new(OF_SIDE)),
            peers: Arc::new(Semaphore::new(OF_SIDE)),
            by_address: Arc::default(),
            by_domain: Arc::default(),
            by_both: Arc::default(),
        })
    }

    /// A place for what is wished.
    ///
    /// # Errors
    /// [`Full`], if there is none within `patience`.
    pub(super) async fn slot(&self, wish: Wish<'_>, patience: Duration) -> Result<Slot, Full> {
        let mut full = Full::Address;
        let slot = timeout(patience, self.wait(wish, &mut full)).await;
        slot.ok().flatten().ok_or(full)
    }

    /// A place of a peer's address alone, however long that takes.
    pub(super) async fn share(&self, address: IpAddr, share: usize) -> Option<Slot> {
        let wish = Wish { side: Side::Peer, address, share, domain: None };
        self.wait(wish, &mut Full::Address).await
    }

    /// Waits for a place; `full` says of what. That of a side comes last: nobody has it and waits.
    async fn wait(&self, wish: Wish<'_>, full: &mut Full) -> Option<Slot> {
        let Wish { side, address, share, domain } = wish;
        let (mut of_address, mut of_domain, mut of_both) = (None, None, None);
        let places = match side {
            Side::Legacy => &self.legacy,
            Side::Peer => {
                let network = network(address);
                let share = of_address.insert(self.by_address.share(network, share));
                share.take().await?;
                if let Some(domain) = domain {
                    *full = Full::Domain;
                    let key = (network, domain.clone());
                    let share = of_both.insert(self.by_both.share(key, OF_BOTH));
                    share.take().await?;
                    let share = of_domain.insert(self.by_domain.share(domain.clone(), OF_DOMAIN));
                    share.take().await?;
                }
                &self.peers
            }
        };
        *full = Full::Side;
        let place = Arc::clone(places).acquire_owned().await.ok()?;
        Some(Slot {
            _of_address: of_address,
            _of_domain: of_domain,
            _of_both: of_both,
            _place: place,
        })
    }
}

/// The places of each address or domain that has any taken or waited for.
#[derive(Debug)]
struct Shares<K: Eq + Hash>(DashMap<K, Arc<Semaphore>>);

impl<K: Eq + Hash> Default for Shares<K> {
    fn default() -> Self {
        Self(DashMap::new())
    }
}

impl<K: Clone + Eq + Hash> Shares<K> {
    /// One of the `most` places of a key, not taken yet.
    fn share(self: &Arc<Self>, key: K, most: usize) -> Share<K> {
        let new = || Arc::new(Semaphore::new(most));
        let places = self.0.entry(key.clone()).or_insert_with(new).clone();
        Share { shares: Arc::clone(self), key, places: Some(places), taken: None }
    }
}

/// A place of a key, waited for or taken; who leaves last takes away that there are any.
#[derive(Debug)]
struct Share<K: Eq + Hash> {
    shares: Arc<Shares<K>>,
    key: K,
    places: Option<Arc<Semaphore>>,
    taken: Option<OwnedSemaphorePermit>,
}

impl<K: Eq + Hash> Share<K> {
    async fn take(&mut self) -> Option<()> {
        self.taken = Some(self.places.clone()?.acquire_owned().await.ok()?);
        Some(())
    }
}

impl<K: Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        self.taken = None;
        self.places = None;
        // whoever waits for one or has one holds them too
        self.shares.0.remove_if(&self.key, |_, places| Arc::strong_count(places) == 1);
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test]
    async fn an_address_has_its_share_and_the_legacy_side_a_place_of_its_own() {
        let questions = Questions::new();
        let ask = |side, address: &str| {
            let address = address.parse().unwrap();
            let questions = Arc::clone(&questions);
            let wish = Wish { side, address, share: 64, domain: None };
            async move { questions.slot(wish, Duration::ZERO).await }
        };
        let mut slots = Vec::new();
        for address in ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"] {
            while let Ok(slot) = ask(Side::Peer, address).await {
                slots.push(slot);
            }
        }
        assert_eq!(slots.len(), OF_SIDE);
        let full = |slot: Result<Slot, Full>| slot.unwrap_err();
        assert_eq!(full(ask(Side::Peer, "192.0.2.4").await), Full::Side, "none left at all");
        assert!(ask(Side::Legacy, "127.0.0.1").await.is_ok());
        slots.remove(0);
        let same = ask(Side::Peer, "2001:db8::ffff").await;
        assert_eq!(full(same), Full::Address, "of the same /64");
        assert!(ask(Side::Peer, "192.0.2.4").await.is_ok());
        slots.clear();
        assert!(questions.by_address.0.is_empty());
    }

    #[tokio::test]
    async fn a_domain_is_asked_so_many_questions_at_once_and_others_have_theirs() {
        let questions = Questions::new();
        let domains = ["a.test", "b.test"].map(|name| Domain::parse(name).unwrap());
        let mut slots = Vec::new();
        for domain in &domains {
            for n in 0..=OF_DOMAIN {
                let address = format!("192.0.2.{n}").parse().unwrap();
                let wish = Wish { side: Side::Peer, address, share: 64, domain: Some(domain) };
                let slot = questions.slot(wish, Duration::ZERO).await;
                match n {
                    OF_DOMAIN => assert_eq!(slot.unwrap_err(), Full::Domain),
                    _ => slots.push(slot.unwrap()),
                }
            }
        }
        assert_eq!(slots.len(), 2 * OF_DOMAIN);
        slots.clear();
        // and one address does not take them all
        let address = "192.0.2.1".parse().unwrap();
        let wish = Wish { side: Side::Peer, address, share: 64, domain: Some(&domains[0]) };
        let slot = questions.slot(wish, Duration::ZERO).await.unwrap();
        assert_eq!(questions.slot(wish, Duration::ZERO).await.unwrap_err(), Full::Domain);
        drop(slot);
        let maps = (&questions.by_domain.0, &questions.by_address.0, &questions.by_both.0);
        assert!(maps.0.is_empty() && maps.1.is_empty() && maps.2.is_empty());
    }

    #[tokio::test]
    async fn nothing_is_kept_of_those_who_go_while_they_wait() {
        let questions = Questions::new();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let wish = Wish { side: Side::Peer, address, share: 1, domain: None };
        let ask = || questions.slot(wish, Duration::from_secs(60));
        let slot = ask().await.unwrap();
        let mut waiting = Box::pin(ask());
        let mut context = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        // which hands its place on
        drop(slot);
        drop(waiting);
        assert!(questions.by_address.0.is_empty());
    }
}
