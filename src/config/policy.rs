//! Who may federate: rules by domain and address, merged by specificity, never by order.
//!
//! A remote domain is judged key by key from its exact name over the longest `*.d` and `*` to the
//! defaults; at equal specificity the more restrictive `allow` wins, and a differing `level` is
//! refused when the rules are read. An address is judged by its longest prefix. A lookup costs a
//! hash per label or per prefix length in use, however many rules there are. Names are compared in
//! the canonical form of [`Domain`], so no spelling slips past a rule (protocol rule ID-4).

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use ipnet::IpNet;

use crate::xmpp::{Direction, Domain};

/// The minimum that a domain pair must reach (names of XEP-0238).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// TLS with any certificate, and dialback.
    Encrypted,
    /// TLS and a certificate that proves the remote domain.
    Trusted,
}

impl Level {
    /// The word for logs and configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Encrypted => "encrypted",
            Self::Trusted => "trusted",
        }
    }
}

/// All rules, ready to be asked. The default has none: everyone may, at level `encrypted`, and
/// only addresses that can be nobody's are refused.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Policy {
    exact: HashMap<Domain, Entry>,
    below: HashMap<Box<str>, Entry>,
    any: Entry,
    defaults: Entry,
    v4: Prefixes,
    v6: Prefixes,
}

/// Where a rule stands, for logs: `conf.d/20-rules.yaml:12`, or words for a rule of no file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place(pub Arc<str>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the rules say of a remote domain in one direction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// Refused: why and by which rule.
    pub denied: Option<Denied>,
    /// The level that has to be reached.
    pub level: Level,
    /// The rule that sets the level; none: nobody did, it is [`Level::Encrypted`].
    pub level_rule: Option<Place>,
}

/// A refusal by rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Denied {
    /// The operator's reason, if the rule gives one. For our own logs, not for the peer.
    pub reason: Option<Arc<str>>,
    /// The rule's place.
    pub rule: Place,
}

impl Policy {
    /// Judges a remote domain.
    #[must_use]
    pub fn domain(&self, remote: &Domain, direction: Direction) -> Verdict {
        let entries = || {
            let below = suffixes(remote.as_str()).filter_map(|suffix| self.below.get(suffix));
            self.exact.get(remote).into_iter().chain(below).chain([&self.any, &self.defaults])
        };
        let denied = match entries().find_map(|entry| entry.says(direction)) {
            Some(Says::Deny(denied)) => Some(denied.clone()),
            Some(Says::Allow) | None => None,
        };
        let level = entries().find_map(|entry| entry.level.as_ref());
        Verdict {
            denied,
            level: level.map_or(Level::Encrypted, |(level, _)| *level),
            level_rule: level.map(|(_, place)| place.clone()),
        }
    }

    /// Judges an address: of a peer that connects, or that we would connect to.
    ///
    /// An IPv4 address inside an IPv6 one is judged as IPv4 (RFC 4291 §2.5.5.2), outbound also one
    /// that is to be translated (NAT64, RFC 6052 §2.1), so that no spelling gets around a rule.
    #[must_use]
    pub fn address(&self, address: IpAddr, direction: Direction) -> Option<Denied> {
        let address = address.to_canonical();
        if is_nobody(address) {
            let rule = Place("never an address of a server".into());
            return Some(Denied { reason: None, rule });
        }
        if let (IpAddr::V6(v6), Direction::Outbound) = (address, direction)
            && let Some(v4) = translated(v6)
            && let Some(denied) = self.address(v4.into(), direction)
        {
            return Some(denied);
        }
        let says = match address {
            IpAddr::V4(v4) => self.v4.says(u128::from(v4.to_bits()), 32, direction),
            IpAddr::V6(v6) => self.v6.says(v6.to_bits(), 128, direction),
        };
        match says {
            Some(Says::Deny(denied)) => Some(denied.clone()),
            Some(Says::Allow) | None => None,
        }
    }
}

// === making ===

/// A pattern of remote domains.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Pattern {
    /// This name alone.
    Exact(Domain),
    /// The names below this one, which may be a single label.
    Below(Box<str>),
    /// All names.
    Any,
}

/// The directions that a rule leaves open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Allow {
    pub(crate) inbound: bool,
    pub(crate) outbound: bool,
}

/// What a rule says of what it matches.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) allow: Option<Allow>,
    pub(crate) level: Option<Level>,
    pub(crate) reason: Option<Arc<str>>,
    pub(crate) place: Place,
}

/// Another rule that sets another level with the same specificity.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LevelConflict {
    pub(crate) level: Level,
    pub(crate) place: Place,
}

impl Policy {
    /// Says what holds where no rule speaks.
    pub(crate) fn set_defaults(&mut self, rule: &Rule) -> Result<(), LevelConflict> {
        self.defaults.add(rule)
    }

    /// Adds a rule for remote domains.
    ///
    /// # Errors
    /// [`LevelConflict`] when the same pattern has another level already; the rest is added.
    pub(crate) fn add_domains(
        &mut self,
        pattern: Pattern,
        rule: &Rule,
    ) -> Result<(), LevelConflict> {
        match pattern {
            Pattern::Exact(domain) => self.exact.entry(domain).or_default().add(rule),
            Pattern::Below(suffix) => self.below.entry(suffix).or_default().add(rule),
            Pattern::Any => self.any.add(rule),
        }
    }

    /// Adds a rule for addresses; its level means nothing.
    pub(crate) fn add_network(&mut self, network: IpNet, rule: &Rule) {
        self.network(network).allow(rule);
    }

    /// Denies outbound connections to a network, as a rule does.
    pub(crate) fn deny_out(&mut self, network: IpNet, denied: Denied) {
        restrict(&mut self.network(network).outbound, Says::Deny(denied));
    }

    /// Denies outbound connections to a network, unless a rule for that very network speaks.
    /// To be called when all rules are in.
    pub(crate) fn guard(&mut self, network: IpNet, denied: Denied) {
        self.network(network).outbound.get_or_insert(Says::Deny(denied));
    }

    /// Whether a rule says of exactly this name, whatever it says, who is allowed.
    pub(crate) fn names(&self, domain: &Domain) -> bool {
        self.exact.get(domain).is_some_and(|entry| entry.inbound.is_some())
    }

    fn network(&mut self, network: IpNet) -> &mut Entry {
        match network {
            IpNet::V4(net) => self.v4.entry(net.prefix_len(), u128::from(net.network().to_bits())),
            IpNet::V6(net) => self.v6.entry(net.prefix_len(), net.network().to_bits()),
        }
    }
}

// === giving back ===

impl Policy {
    /// What holds where no rule speaks.
    pub(super) fn defaults(&self) -> &Entry {
        &self.defaults
    }

    /// All that is said of remote domains, in no order.
    pub(super) fn domains(&self) -> impl Iterator<Item = (Pattern, &Entry)> {
        let exact = self.exact.iter().map(|(domain, e)| (Pattern::Exact(domain.clone()), e));
        let below = self.below.iter().map(|(suffix, e)| (Pattern::Below(suffix.clone()), e));
        exact.chain(below).chain([(Pattern::Any, &self.any)])
    }

    /// All that is said of addresses, in no order.
    pub(super) fn networks(&self) -> impl Iterator<Item = (IpNet, &Entry)> {
        // what went in as a network comes out as one
        let v4 = self.v4.entries().filter_map(|(bits, length, entry)| {
            let address = Ipv4Addr::from_bits(u32::try_from(bits).ok()?);
            Some((IpNet::new(address.into(), length).ok()?, entry))
        });
        let v6 = self.v6.entries().filter_map(|(bits, length, entry)| {
            Some((IpNet::new(Ipv6Addr::from_bits(bits).into(), length).ok()?, entry))
        });
        v4.chain(v6)
    }
}

/// What all rules of one specificity say together. A rule speaks of both directions or of neither;
/// what keeps us from a network speaks of the outbound one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Entry {
    pub(super) inbound: Option<Says>,
    pub(super) outbound: Option<Says>,
    pub(super) level: Option<(Level, Place)>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Says {
    Allow,
    Deny(Denied),
}

impl Entry {
    fn says(&self, direction: Direction) -> Option<&Says> {
        match direction {
            Direction::Inbound => self.inbound.as_ref(),
            Direction::Outbound => self.outbound.as_ref(),
        }
    }

    fn add(&mut self, rule: &Rule) -> Result<(), LevelConflict> {
        self.allow(rule);
        let Some(level) = rule.level else { return Ok(()) };
        match &self.level {
            Some((other, place)) if *other != level => {
                Err(LevelConflict { level: *other, place: place.clone() })
            }
            Some(_) => Ok(()),
            None => {
                self.level = Some((level, rule.place.clone()));
                Ok(())
            }
        }
    }

    fn allow(&mut self, rule: &Rule) {
        let Some(allow) = rule.allow else { return };
        let says = |allowed: bool| match allowed {
            true => Says::Allow,
            false => Says::Deny(Denied { reason: rule.reason.clone(), rule: rule.place.clone() }),
        };
        restrict(&mut self.inbound, says(allow.inbound));
        restrict(&mut self.outbound, says(allow.outbound));
    }
}

/// Denying wins. Of two refusals the one with a reason stays, then the one first by its text, so
/// that not even the words of a verdict depend on the order of rules.
fn restrict(all: &mut Option<Says>, says: Says) {
    let rank = |d: &Denied| (d.reason.is_none(), d.reason.clone(), d.rule.clone());
    match (&all, &says) {
        (None, _) | (Some(Says::Allow), Says::Deny(_)) => *all = Some(says),
        (Some(Says::Deny(a)), Says::Deny(b)) if rank(b) < rank(a) => *all = Some(says),
        (Some(_), _) => {}
    }
}

/// Networks of one address family, by prefix length.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Prefixes(BTreeMap<u8, HashMap<u128, Entry>>);

impl Prefixes {
    fn entry(&mut self, length: u8, network: u128) -> &mut Entry {
        self.0.entry(length).or_default().entry(network).or_default()
    }

    fn entries(&self) -> impl Iterator<Item = (u128, u8, &Entry)> {
        self.0.iter().flat_map(|(length, networks)| {
            networks.iter().map(|(network, entry)| (*network, *length, entry))
        })
    }

    fn says(&self, address: u128, width: u8, direction: Direction) -> Option<&Says> {
        self.0.iter().rev().find_map(|(length, networks)| {
            let host_bits = u32::from(width.saturating_sub(*length));
            let network = match u128::MAX.checked_shl(host_bits) {
                Some(mask) => address & mask,
                None => 0,
            };
            networks.get(&network)?.says(direction)
        })
    }
}

/// The names above a name, nearest first: `b.c` and `c` for `a.b.c`.
fn suffixes(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| name.split_once('.').map(|(_, above)| above)).skip(1)
}

/// Addresses that no connection can rightly have: "this network" (RFC 791 §3.2), unspecified,
/// multicast and broadcast.
fn is_nobody(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[0] == 0 || v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_multicast(),
    }
}

/// The IPv4 address behind the well-known NAT64 prefix `64:ff9b::/96` (RFC 6052 §2.1).
fn translated(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = v6.to_bits();
    let low = u32::try_from(bits & u128::from(u32::MAX)).ok()?;
    (bits >> 32 == NAT64 >> 32).then(|| Ipv4Addr::from_bits(low))
}

const NAT64: u128 = 0x0064_ff9b << 96;

#[cfg(test)]
mod tests;
