//! The addresses that are refused, as ranges for those who can hold no rules.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
};

use ipnet::IpNet;

use super::Policy;
use crate::xmpp::Direction;

impl Policy {
    /// The ranges of addresses that are refused in a direction, in order and apart from each other,
    /// IPv4 first; but for those that can be nobody's. What the mode lets through is not in them.
    #[must_use]
    pub fn refused(&self, direction: Direction) -> Vec<RangeInclusive<IpAddr>> {
        let (mut v4, mut v6) = (nobody_v4(), nobody_v6());
        for network in self.networks() {
            match network {
                IpNet::V4(net) => {
                    v4.push((net.network().to_bits().into(), net.broadcast().to_bits().into()));
                }
                IpNet::V6(net) => v6.push((net.network().to_bits(), net.broadcast().to_bits())),
            }
        }
        let of_v4 = |bits: u128| Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(u32::MAX));
        let mut all = self.ranges(v4, u32::MAX.into(), direction, |bits| of_v4(bits).into());
        all.extend(self.ranges(v6, u128::MAX, direction, |bits| Ipv6Addr::from_bits(bits).into()));
        all
    }

    /// Between two places where some network begins or ends, one address is judged as all.
    fn ranges(
        &self,
        networks: Vec<(u128, u128)>,
        last: u128,
        direction: Direction,
        address: impl Fn(u128) -> IpAddr,
    ) -> Vec<RangeInclusive<IpAddr>> {
        let ends = networks.iter().filter(|(_, end)| *end < last).map(|(_, end)| end + 1);
        let mut starts: Vec<u128> = networks.iter().map(|(start, _)| *start).chain(ends).collect();
        starts.sort_unstable();
        starts.dedup();
        let mut found: Vec<(u128, u128)> = Vec::new();
        for (at, start) in starts.iter().enumerate() {
            let end = starts.get(at + 1).map_or(last, |next| next - 1);
            let judged = address(*start);
            if super::is_nobody(judged) || self.address(judged, direction).is_none() {
                continue;
            }
            match found.last_mut() {
                Some((_, before)) if *before + 1 == *start => *before = end,
                Some(_) | None => found.push((*start, end)),
            }
        }
        found.into_iter().map(|(start, end)| address(start)..=address(end)).collect()
    }
}

/// Where addresses of nobody begin and end.
fn nobody_v4() -> Vec<(u128, u128)> {
    vec![(0, 0x00ff_ffff), (0xe000_0000, 0xefff_ffff), (0xffff_ffff, 0xffff_ffff)]
}

fn nobody_v6() -> Vec<(u128, u128)> {
    vec![(0, 0), (0xff << 120, u128::MAX)]
}
