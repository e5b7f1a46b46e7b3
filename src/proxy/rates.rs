//! How fast remote domains may send stanzas, over all their streams together, and addresses dialback
//! elements. Who is too fast is read from more slowly; nothing is dropped.

use std::{
    hash::Hash,
    net::IpAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use dashmap::DashMap;
use tokio::time::Instant;

use super::{admission::network, bucket::Bucket, reached::Limit};
use crate::{
    config::model::{Limits, Rate},
    xmpp::Domain,
};

/// Buckets that are full are looked for when there are so many.
const SWEEP_MIN: usize = 1024;

/// The buckets of those who sent lately.
#[derive(Debug, Default)]
pub(super) struct Rates {
    domains: Buckets<Domain, Account>,
    addresses: Buckets<IpAddr, Bucket>,
}

/// What one remote domain sends.
#[derive(Debug)]
struct Account {
    bytes: Bucket,
    stanzas: Bucket,
}

/// Somebody has to wait, for that limit.
pub(super) type Pause = (Duration, Limit);

impl Rates {
    /// Stanzas of a remote domain came; how long nothing more may be taken from the stream on which
    /// they came. `rates` are those of bytes and stanzas.
    pub(super) fn stanzas(
        &self,
        domain: &Domain,
        (bytes, stanzas): (usize, u32),
        rates: (Rate, Rate),
        burst: Duration,
        now: Instant,
    ) -> Option<Pause> {
        if rates == (Rate::Off, Rate::Off) {
            return None;
        }
        self.domains.with(domain, now, |account: &mut Account| {
            let by_bytes = account.bytes.take(bytes as u64, rates.0, burst, now);
            let by_number = account.stanzas.take(stanzas.into(), rates.1, burst, now);
            longer((by_bytes, Limit::Rate), (by_number, Limit::StanzaRate))
        })
    }

    /// A dialback element came from an address; how long nothing more may be taken from the stream.
    pub(super) fn dialback(&self, address: IpAddr, limits: &Limits, now: Instant) -> Option<Pause> {
        if limits.dialback_rate == Rate::Off {
            return None;
        }
        self.addresses.with(&network(address), now, |bucket: &mut Bucket| {
            let wait = bucket.take(1, limits.dialback_rate, limits.burst, now);
            (!wait.is_zero()).then_some((wait, Limit::DialbackRate))
        })
    }
}

fn longer(one: Pause, other: Pause) -> Option<Pause> {
    let longer = if one.0 >= other.0 { one } else { other };
    (!longer.0.is_zero()).then_some(longer)
}

/// Something that is as good as new when nobody used it for a while.
trait Refills {
    fn new(now: Instant) -> Self;
    fn is_full(&self, now: Instant) -> bool;
}

impl Refills for Bucket {
    fn new(now: Instant) -> Self {
        Self::new(now)
    }

    fn is_full(&self, now: Instant) -> bool {
        self.is_full(now)
    }
}

impl Refills for Account {
    fn new(now: Instant) -> Self {
        Self { bytes: Bucket::new(now), stanzas: Bucket::new(now) }
    }

    fn is_full(&self, now: Instant) -> bool {
        self.bytes.is_full(now) && self.stanzas.is_full(now)
    }
}

/// Those that are not full, and as many again at most.
#[derive(Debug)]
struct Buckets<K: Eq + Hash, V> {
    all: DashMap<K, V>,
    /// At so many the full ones are thrown away.
    sweep_at: AtomicUsize,
}

impl<K: Eq + Hash + Clone, V: Refills> Buckets<K, V> {
    fn with<T>(&self, key: &K, now: Instant, take: impl FnOnce(&mut V) -> T) -> T {
        if let Some(mut known) = self.all.get_mut(key) {
            return take(&mut known);
        }
        if self.all.len() >= self.sweep_at.load(Ordering::Relaxed) {
            self.all.retain(|_, bucket| !bucket.is_full(now));
            self.sweep_at.store(SWEEP_MIN.max(2 * self.all.len()), Ordering::Relaxed);
        }
        take(&mut self.all.entry(key.clone()).or_insert_with(|| V::new(now)))
    }
}

impl<K: Eq + Hash, V> Default for Buckets<K, V> {
    fn default() -> Self {
        Self { all: DashMap::new(), sweep_at: AtomicUsize::new(SWEEP_MIN) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn domain(name: &str) -> Domain {
        Domain::parse(name).unwrap()
    }

    #[test]
    fn bytes_and_stanzas_of_a_domain_count_over_all_its_streams() {
        let (rates, now) = (Rates::default(), Instant::now());
        let both = (Rate::PerSecond(1000), Rate::PerSecond(10));
        let send = |name: &str, what| rates.stanzas(&domain(name), what, both, SECOND, now);
        assert_eq!(send("a.example", (1000, 1)), None);
        assert_eq!(send("b.example", (10, 10)), None);
        assert_eq!(send("a.example", (500, 1)), Some((SECOND / 2, Limit::Rate)));
        assert_eq!(send("b.example", (10, 20)), Some((2 * SECOND, Limit::StanzaRate)));
        let off = (Rate::Off, Rate::Off);
        let free = rates.stanzas(&domain("a.example"), (1 << 30, 1), off, SECOND, now);
        assert_eq!(free, None);
    }

    #[test]
    fn an_address_is_a_v4_address_or_a_v6_network() {
        let (rates, now) = (Rates::default(), Instant::now());
        let limits =
            Limits { dialback_rate: Rate::PerSecond(1), burst: SECOND, ..Limits::default() };
        let ask = |address: &str| rates.dialback(address.parse().unwrap(), &limits, now);
        assert_eq!(ask("192.0.2.1"), None);
        assert_eq!(ask("192.0.2.2"), None);
        assert_eq!(ask("2001:db8::1"), None);
        assert_eq!(ask("2001:db8::2"), Some((SECOND, Limit::DialbackRate)));
        assert_eq!(ask("192.0.2.1"), Some((SECOND, Limit::DialbackRate)));
    }

    #[test]
    fn what_is_full_again_is_forgotten() {
        let (rates, start) = (Rates::default(), Instant::now());
        let both = (Rate::PerSecond(1000), Rate::Off);
        for n in 0..10 * SWEEP_MIN as u64 {
            let now = start + SECOND * u32::try_from(n).unwrap();
            let name = domain(&format!("d{n}.example"));
            rates.stanzas(&name, (1000, 1), both, SECOND, now);
            assert!(rates.domains.all.len() <= SWEEP_MIN);
        }
        // those that are in use stay
        for n in 0..3 * SWEEP_MIN {
            let name = domain(&format!("e{n}.example"));
            rates.stanzas(&name, (1000, 1), both, SECOND, start + SECOND * 1_000_000);
        }
        assert!(rates.domains.all.len() >= 3 * SWEEP_MIN);
    }
}
