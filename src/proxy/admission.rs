//! How many connections strangers may hold, in all and per address.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use dashmap::DashMap;

use super::reached::Limit;

/// Counts connections.
#[derive(Debug)]
pub(super) struct Admission {
    all: AtomicUsize,
    by_address: DashMap<IpAddr, usize>,
    /// What is reached when an address has no place left, and when nobody has.
    limits: (Limit, Limit),
}

/// A place for one connection; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    admission: Arc<Admission>,
    /// To whom it counts.
    key: Option<IpAddr>,
}

impl Admission {
    /// There are none. `own` is the limit of an address, `all` that of all together.
    pub(super) fn new(own: Limit, all: Limit) -> Arc<Self> {
        let (count, by_address) = (AtomicUsize::new(0), DashMap::new());
        Arc::new(Self { all: count, by_address, limits: (own, all) })
    }

    /// A place for a connection from `address`, if it has fewer than `own` and all together have
    /// fewer than `all`; or else the limit that is reached. Without an address it counts to nobody.
    pub(super) fn admit(
        self: &Arc<Self>,
        address: Option<IpAddr>,
        own: usize,
        all: usize,
    ) -> Result<Permit, Limit> {
        let key = address.map(network);
        if let Some(key) = key {
            self.enter(key, own)?;
        }
        let one_more = |taken| (taken < all).then_some(taken + 1);
        if self.all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_err() {
            key.into_iter().for_each(|key| self.leave(key));
            return Err(self.limits.1);
        }
        Ok(Permit { admission: Arc::clone(self), key })
    }

    fn enter(&self, key: IpAddr, own: usize) -> Result<(), Limit> {
        let mut of_address = self.by_address.entry(key).or_insert(0);
        if *of_address >= own {
            return Err(self.limits.0);
        }
        *of_address += 1;
        Ok(())
    }

    fn leave(&self, key: IpAddr) {
        if let Some(mut count) = self.by_address.get_mut(&key) {
            *count = count.saturating_sub(1);
        }
        self.by_address.remove_if(&key, |_, count| *count == 0);
    }
}

impl Permit {
    /// From now on it counts to `address`, if it has counted to nobody and that has fewer than `own`;
    /// or else the limit that is reached.
    pub(super) fn charge(&mut self, address: IpAddr, own: usize) -> Result<(), Limit> {
        if self.key.is_none() {
            let key = network(address);
            self.admission.enter(key, own)?;
            self.key = Some(key);
        }
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.all.fetch_sub(1, Ordering::Relaxed);
        self.key.into_iter().for_each(|key| self.admission.leave(key));
    }
}

/// What counts as one address: an IPv4 address, a /64 of IPv6.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_per_address_and_in_all_and_come_back() {
        let admission = Admission::new(Limit::ConnectionsPerAddress, Limit::Connections);
        let admit = |address: &str| admission.admit(Some(address.parse().unwrap()), 2, 3);
        let first = admit("192.0.2.1").unwrap();
        let _mapped = admit("::ffff:192.0.2.1").unwrap();
        assert_eq!(admit("192.0.2.1").unwrap_err(), Limit::ConnectionsPerAddress);
        let _v6 = admit("2001:db8::1").unwrap();
        assert_eq!(admit("2001:db8::2").unwrap_err(), Limit::Connections, "three in all");
        drop(first);
        let _same_64 = admit("2001:db8::3").unwrap();
        assert_eq!(admission.by_address.len(), 2);
    }
}
