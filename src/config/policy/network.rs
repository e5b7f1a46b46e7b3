//! What is said of networks: the longest prefix wins.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

use super::rule::{AddressRule, Denied, speaks_first};
use crate::xmpp::Direction;

/// Something for each network, of either family; an IPv4 network is never written as IPv6 here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Networks<T> {
    v4: Prefixes<T>,
    v6: Prefixes<T>,
}

/// Networks of one family, by prefix length.
type Prefixes<T> = BTreeMap<u8, HashMap<u128, T>>;

impl<T> Default for Networks<T> {
    fn default() -> Self {
        Self { v4: Prefixes::new(), v6: Prefixes::new() }
    }
}

impl<T> Networks<T> {
    /// What is there for exactly this network, or a new one.
    pub(super) fn entry(&mut self, network: IpNet, new: impl FnOnce() -> T) -> &mut T {
        let (family, bits) = match network {
            IpNet::V4(net) => (&mut self.v4, u128::from(net.network().to_bits())),
            IpNet::V6(net) => (&mut self.v6, net.network().to_bits()),
        };
        family.entry(network.prefix_len()).or_default().entry(bits).or_insert_with(new)
    }

    /// The length of the longest prefix of an address for which `find` finds something, and that.
    pub(super) fn longest<'t, U>(
        &'t self,
        address: IpAddr,
        find: impl Fn(&'t T) -> Option<U>,
    ) -> Option<(u8, U)> {
        let (family, bits, width) = match address {
            IpAddr::V4(v4) => (&self.v4, u128::from(v4.to_bits()), 32_u8),
            IpAddr::V6(v6) => (&self.v6, v6.to_bits(), 128),
        };
        family.iter().rev().find_map(|(length, networks)| {
            let host_bits = u32::from(width.saturating_sub(*length));
            let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
            Some((*length, find(networks.get(&(bits & mask))?)?))
        })
    }

    /// All networks, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = IpNet> + '_ {
        // what went in as a network comes out as one
        let v4 = all(&self.v4).filter_map(|(bits, length)| {
            let address = Ipv4Addr::from_bits(u32::try_from(bits).ok()?);
            IpNet::new(address.into(), length).ok()
        });
        let v6 = all(&self.v6)
            .filter_map(|(bits, length)| IpNet::new(Ipv6Addr::from_bits(bits).into(), length).ok());
        v4.chain(v6)
    }

    pub(super) fn len(&self) -> usize {
        self.v4.values().chain(self.v6.values()).map(HashMap::len).sum()
    }
}

fn all<T>(family: &Prefixes<T>) -> impl Iterator<Item = (u128, u8)> + '_ {
    let of = |(length, networks)| {
        let networks: &HashMap<u128, T> = networks;
        let length: &u8 = length;
        networks.keys().map(|bits| (*bits, *length))
    };
    family.iter().flat_map(of)
}

/// What all rules for one network say together. A rule speaks of both directions; what keeps us
/// from a network speaks of the outbound one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Entry {
    inbound: Option<Says>,
    outbound: Option<Says>,
    /// What was said of the outbound direction besides, where a rule denies it: another opens it, or
    /// it is shut.
    besides: Option<Box<Says>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Says {
    Allow,
    Deny(Denied),
    /// Denied by `deny_out`, whatever the mode.
    Shut(Denied),
}

impl Entry {
    pub(super) fn says(&self, direction: Direction) -> Option<&Says> {
        match direction {
            Direction::Inbound => self.inbound.as_ref(),
            Direction::Outbound => self.outbound.as_ref(),
        }
    }

    pub(super) fn add(&mut self, rule: &AddressRule) {
        let says = |open: bool| if open { Says::Allow } else { Says::Deny(rule.denied()) };
        restrict(&mut self.inbound, says(rule.allow.inbound));
        let is_open = |says: &Option<Says>| matches!(says, Some(Says::Allow));
        let opens = rule.allow.outbound || is_open(&self.outbound);
        restrict(&mut self.outbound, says(rule.allow.outbound));
        if opens && matches!(self.outbound, Some(Says::Deny(_))) {
            self.besides = Some(Box::new(Says::Allow));
        }
    }

    /// Whether the network is shut, and why, where what denies it is left aside; none if nothing else
    /// is said of it.
    pub(super) fn guards(&self) -> Option<Option<&Denied>> {
        match self.outbound.as_ref()? {
            Says::Allow => Some(None),
            Says::Shut(denied) => Some(Some(denied)),
            Says::Deny(_) => match self.besides.as_deref()? {
                Says::Shut(denied) => Some(Some(denied)),
                Says::Allow | Says::Deny(_) => Some(None),
            },
        }
    }

    /// Shuts the network, as a rule among rules does.
    pub(super) fn shut(&mut self, denied: Denied) {
        restrict(&mut self.outbound, Says::Shut(denied));
    }

    /// Shuts it unless a rule opens it; one that denies it has the word.
    pub(super) fn guard(&mut self, denied: Denied) {
        match &self.outbound {
            None => self.outbound = Some(Says::Shut(denied)),
            Some(Says::Deny(_)) => {
                self.besides.get_or_insert_with(|| Box::new(Says::Shut(denied)));
            }
            Some(Says::Allow | Says::Shut(_)) => {}
        }
    }
}

/// Denying wins, and shutting over denying. Of two refusals one speaks for both, so that not even
/// the words of a decision depend on the order of rules.
fn restrict(all: &mut Option<Says>, says: Says) {
    let replace = match (&all, &says) {
        (None, _) | (Some(Says::Allow), _) | (Some(Says::Deny(_)), Says::Shut(_)) => true,
        (Some(Says::Deny(a)), Says::Deny(b)) | (Some(Says::Shut(a)), Says::Shut(b)) => {
            speaks_first(b, a)
        }
        (Some(_), _) => false,
    };
    if replace {
        *all = Some(says);
    }
}

/// Addresses that no connection can rightly have: "this network" (RFC 791 §3.2), unspecified,
/// multicast and broadcast.
pub(super) fn is_nobody(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[0] == 0 || v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_multicast(),
    }
}

/// The IPv4 address behind the well-known NAT64 prefix `64:ff9b::/96` (RFC 6052 §2.1).
pub(super) fn translated(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = v6.to_bits();
    let low = u32::try_from(bits & u128::from(u32::MAX)).ok()?;
    (bits >> 32 == NAT64 >> 32).then(|| Ipv4Addr::from_bits(low))
}

const NAT64: u128 = 0x0064_ff9b << 96;

#[cfg(test)]
impl<T> Networks<T> {
    pub(super) fn memory(&self) -> usize {
        let tables = self.v4.values().chain(self.v6.values());
        tables.map(|table| table.capacity() * 8 / 7 * (size_of::<(u128, T)>() + 1)).sum()
    }
}
