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
/// Counts inbound connections.
#[derive(Debug, Default)]
pub(super) struct Admission {
    all: AtomicUsize,
    by_address: DashMap<IpAddr, usize>,
}

/// A place for one connection; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    admission: Arc<Admission>,
    key: IpAddr,
}

impl Admission {
    /// A place for a connection from `address`, if it has fewer than `own` and all together have
    /// fewer than `all`; or else the limit that is reached.
    pub(super) fn admit(
        self: &Arc<Self>,
        address: IpAddr,
        own: usize,
        all: usize,
    ) -> Result<Permit, Limit> {
        let key = network(address);
        let mut of_address = self.by_address.entry(key).or_insert(0);
        if *of_address >= own {
            return Err(Limit::ConnectionsPerAddress);
        }
        if self.all.load(Ordering::Relaxed) >= all {
            if *of_address == 0 {
                drop(of_address);
                self.by_address.remove_if(&key, |_, count| *count == 0);
            }
            return Err(Limit::Connections);
        }
        *of_address += 1;
        self.all.fetch_add(1, Ordering::Relaxed);
        Ok(Permit { admission: Arc::clone(self), key })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.all.fetch_sub(1, Ordering::Relaxed);
        if let Some(mut count) = self.admission.by_address.get_mut(&self.key) {
            *count = count.saturating_sub(1);
        }
        self.admission.by_address.remove_if(&self.key, |_, count| *count == 0);
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
        let admission = Arc::new(Admission::default());
        let admit = |address: &str| admission.admit(address.parse().unwrap(), 2, 3);
        let first = admit("192.0.2.1").unwrap();
        let _mapped = admit("::ffff:192.0.2.1").unwrap();
        assert!(admit("192.0.2.1").is_err());
        let _v6 = admit("2001:db8::1").unwrap();
        assert!(admit("2001:db8::2").is_err(), "three in all");
        drop(first);
        let _same_64 = admit("2001:db8::3").unwrap();
        assert_eq!(admission.by_address.len(), 2);
    }
}
