//! Who may federate: rules by domain, address, local domain and direction, merged by specificity,
//! never by order.
//!
//! A pair is judged key by key, from the rules for the remote domain's exact name over the longest
//! `*.d`, the named lists and `*` to the defaults. Where the remote domain is matched equally, a
//! rule that names a local domain is more specific than one that names a direction, and that more
//! than one that names neither. Between equals the stricter `allow` wins, and any other
//! disagreement is refused when the rules are read; lists, whose content changes without their
//! rules, are an exception: between two of them the stricter wins, or else the first by name.
//!
//! An address is judged by its longest prefix. A lookup costs a hash per label or per prefix length
//! in use, and per list, however many rules and lines there are, and allocates nothing. Names are
//! compared in the canonical form of [`Domain`], so no spelling slips past a rule (protocol rule
//! ID-4).

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;

use self::{
    network::{Entry, Networks, Says, is_nobody, translated},
    rule::speaks_first,
    tiers::{Merged, Tier, fill_from_lists},
};
use crate::{
    config::{
        civil::Instant,
        model::{Roots, TlsVersion},
    },
    xmpp::{Direction, Domain},
};

mod answer;
mod decision;
mod explain;
mod features;
mod key;
mod list;
mod network;
mod ranges;
mod rule;
mod terms;
mod tiers;
mod trust;

pub use answer::{Downgrade, Mode};
pub use decision::{Decision, Missing, Query, Shortfall};
pub use explain::{Explanation, Matched};
pub use features::{Guard, Refused, Role};
pub use list::List;
pub use rule::{Denied, Place};
pub use terms::{Connect, Level, Pin, Proofs};

pub(in crate::config) use features::{FeatureTerms, Whom};
pub(in crate::config) use key::Key;
pub(in crate::config) use list::ListEntry;
pub(in crate::config) use rule::{AddressRule, Expiry, Pattern, Rule};
pub(in crate::config) use terms::{Allow, LimitTerms, Terms};
pub(in crate::config) use tiers::Conflict;

/// All rules, ready to be asked. The default has none: everyone may, at level `encrypted`, and
/// only addresses that can be nobody's are refused.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Policy {
    mode: Mode,
    /// The lowest TLS version, whatever rules say.
    tls_min: TlsVersion,
    /// Some rule lets streams go without TLS.
    clear: bool,
    /// All rules for domains; what is found below are numbers of these.
    rules: Vec<Rule>,
    exact: HashMap<Domain, Tier>,
    below: HashMap<Arc<str>, Tier>,
    lists: BTreeMap<Arc<str>, Listed>,
    any: Tier,
    defaults: Tier,
    addresses: Vec<AddressRule>,
    networks: Networks<Entry>,
    guarded: Vec<Guarded>,
    /// Whether any rule refuses stanzas for what they carry.
    features: bool,
}

/// A list that rules name, and what they say of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Listed {
    tier: Tier,
    list: Arc<List>,
}

/// What `deny_out` names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::config) enum Guarded {
    Word(&'static str),
    Network(IpNet),
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

impl Policy {
    /// Judges a pair.
    #[must_use]
    pub fn decide(&self, query: &Query<'_>) -> Decision<'_> {
        let Query { local, remote, direction, address } = *query;
        let mut merged = Merged::default();
        if let Some(tier) = self.exact.get(remote) {
            tier.fill(&mut merged, local, direction);
        }
        if !self.below.is_empty() {
            for tier in suffixes(remote.as_str()).filter_map(|suffix| self.below.get(suffix)) {
                tier.fill(&mut merged, local, direction);
            }
        }
        let has = |listed: &&Listed| listed.list.line(remote).is_some();
        let mut lists = self.lists.values().filter(has).map(|listed| &listed.tier);
        let all = lists.clone();
        match (lists.next(), lists.next()) {
            (None, _) => {}
            (Some(one), None) => one.fill(&mut merged, local, direction),
            (Some(_), Some(_)) => {
                fill_from_lists(all, &mut merged, local, direction, &self.rules);
            }
        }
        self.any.fill(&mut merged, local, direction);
        self.defaults.fill(&mut merged, local, direction);
        let mut decision = Decision { policy: self, direction, merged, address: None };
        if let Some(address) = address {
            decision.address = self
                .judge(address, direction)
                .or_else(|| Some((self.not_from(address, &decision)?, false)));
        }
        decision
    }

    /// Judges a remote domain for local domains that no rule names.
    #[must_use]
    pub fn domain(&self, remote: &Domain, direction: Direction) -> Verdict {
        let query = Query { local: None, remote, direction, address: None };
        let decision = self.decide(&query);
        Verdict {
            denied: decision.denied(),
            level: decision.level(),
            level_rule: decision.level_rule(),
        }
    }

    /// Judges an address: of a peer that connects, or that we would connect to.
    ///
    /// An IPv4 address inside an IPv6 one is judged as IPv4 (RFC 4291 §2.5.5.2), outbound also one
    /// that is to be translated (NAT64, RFC 6052 §2.1), so that no spelling gets around a rule. In
    /// mode `report` only networks of `deny_out` and addresses of nobody are refused.
    #[must_use]
    pub fn address(&self, address: IpAddr, direction: Direction) -> Option<Denied> {
        let (denied, always) = self.judge(address, direction)?;
        (always || self.mode == Mode::Enforce).then_some(denied)
    }

    /// Why the rules refuse an address where the mode `report` lets it through.
    #[must_use]
    pub fn reported_address(&self, address: IpAddr, direction: Direction) -> Option<Denied> {
        let (denied, always) = self.judge(address, direction)?;
        (!always && self.mode == Mode::Report).then_some(denied)
    }

    /// The local domains that rules name: all others are judged alike.
    pub fn named_locals(&self) -> impl Iterator<Item = &Domain> {
        self.rules.iter().flat_map(|rule| &rule.local)
    }

    /// Whether refusals are carried out.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether any rule refuses stanzas for what they carry.
    #[must_use]
    pub fn has_features(&self) -> bool {
        self.features
    }

    /// Whether there is a rule by which streams of somebody may go without TLS.
    #[must_use]
    pub fn has_clear(&self) -> bool {
        self.clear
    }

    /// Why an address is refused, and whether in every mode.
    fn judge(&self, address: IpAddr, direction: Direction) -> Option<(Denied, bool)> {
        let (denied, always) = self.judge_by_all(address.to_canonical(), direction)?;
        // A rule that is not carried out does not open what is shut.
        if !always
            && self.mode == Mode::Report
            && direction == Direction::Outbound
            && let Some(shut) = self.shut_besides(address.to_canonical())
        {
            return Some((shut.clone(), true));
        }
        Some((denied, always))
    }

    /// Why an address is shut to us, where all that denies it is left aside.
    fn shut_besides(&self, address: IpAddr) -> Option<&Denied> {
        let (length, shut) = self.networks.longest(address, Entry::guards)?;
        let lists = self.lists_with(address, Direction::Outbound);
        let opened = lists.filter(|(_, _, open)| *open).map(|(length, ..)| length).max();
        shut.filter(|_| opened.is_none_or(|opened| opened <= length))
    }

    fn judge_by_all(&self, address: IpAddr, direction: Direction) -> Option<(Denied, bool)> {
        if is_nobody(address) {
            let rule = Place::words("never an address of a server");
            return Some((Denied { reason: None, rule }, true));
        }
        if let (IpAddr::V6(v6), Direction::Outbound) = (address, direction)
            && let Some(v4) = translated(v6)
            && let Some(denied) = self.judge(v4.into(), direction)
        {
            return Some(denied);
        }
        let written = self.networks.longest(address, |entry| entry.says(direction));
        let listed = self.listed(address, direction);
        // of equal length what is written overrides a list
        let by_list = listed.filter(|(length, _)| written.is_none_or(|(w, _)| w < *length));
        if let Some((_, denied)) = by_list {
            return denied.map(|denied| (denied, false));
        }
        match written? {
            (_, Says::Deny(denied)) => Some((denied.clone(), false)),
            (_, Says::Shut(denied)) => Some((denied.clone(), true)),
            (_, Says::Allow) => None,
        }
    }

    /// The lists that name an address: by what length of prefix, their rule, and whether it opens. The
    /// networks of a list count for rules that are for all local domains and both directions.
    fn lists_with(
        &self,
        address: IpAddr,
        direction: Direction,
    ) -> impl Iterator<Item = (u8, &Rule, bool)> {
        let key = match direction {
            Direction::Inbound => Key::Inbound,
            Direction::Outbound => Key::Outbound,
        };
        self.lists.values().filter_map(move |Listed { tier, list }| {
            let rule = self.rules.get(tier.of_all()?.rule(key)?)?;
            let (length, _) = list.network(address)?;
            Some((length, rule, rule.terms.allow.is_none_or(|allow| allow.is_open(direction))))
        })
    }

    /// What lists say of an address: the length of the longest prefix, and the refusal.
    fn listed(&self, address: IpAddr, direction: Direction) -> Option<(u8, Option<Denied>)> {
        let mut found: Option<(u8, Option<Denied>)> = None;
        for (length, rule, open) in self.lists_with(address, direction) {
            let denied = (!open).then(|| rule.denied());
            let replaces = match (&found, &denied) {
                (None, _) => true,
                (Some((longest, _)), _) if *longest != length => *longest < length,
                (Some((_, None)), denied) => denied.is_some(),
                (Some((_, Some(old))), Some(new)) => speaks_first(new, old),
                (Some((_, Some(_))), None) => false,
            };
            if replaces {
                found = Some((length, denied));
            }
        }
        found
    }

    /// The refusal of a peer that comes from elsewhere than its rule says.
    fn not_from(&self, address: IpAddr, decision: &Decision<'_>) -> Option<Denied> {
        if decision.direction == Direction::Outbound {
            return None;
        }
        let rule = decision.rule(Key::FromIp)?;
        let address = address.to_canonical();
        let from = rule.terms.from_ip.as_deref().unwrap_or_default();
        (!from.iter().any(|net| net.contains(&address))).then(|| Denied {
            reason: Some(rule.reason.clone().unwrap_or_else(|| "not from its addresses".into())),
            rule: rule.place.clone(),
        })
    }
}

// === making ===

impl Policy {
    pub(in crate::config) fn set_mode(&mut self, mode: Mode) {
        self.mode = mode;
    }

    pub(in crate::config) fn set_tls_min(&mut self, least: TlsVersion) {
        self.tls_min = least;
    }

    /// Says what holds where no rule speaks.
    pub(in crate::config) fn set_defaults(&mut self, rule: Rule) {
        let number = self.rules.len();
        self.clear |= is_clear(&rule);
        self.features |= features::refuses(&rule);
        self.rules.push(rule);
        // one rule alone conflicts with nothing
        self.defaults = Tier::default();
        self.defaults.add(number, &self.rules);
    }

    /// Adds a rule for remote domains; gives back, by the pattern's number, where it conflicts.
    /// What does not is added.
    pub(in crate::config) fn add_rule(&mut self, rule: Rule) -> Vec<(usize, Conflict)> {
        let number = self.rules.len();
        let patterns = rule.patterns.clone();
        self.clear |= is_clear(&rule);
        self.features |= features::refuses(&rule);
        self.rules.push(rule);
        let mut conflicts = Vec::new();
        for (at, pattern) in patterns.into_iter().enumerate() {
            let tier = match pattern {
                Pattern::Exact(domain) => self.exact.entry(domain).or_default(),
                Pattern::Below(suffix) => self.below.entry(suffix).or_default(),
                Pattern::List(name) => &mut self.lists.entry(name).or_default().tier,
                Pattern::Any => &mut self.any,
            };
            let found = tier.add(number, &self.rules);
            conflicts.extend(found.into_iter().map(|conflict| (at, conflict)));
        }
        conflicts
    }

    /// Adds a rule for addresses.
    pub(in crate::config) fn add_addresses(&mut self, rule: AddressRule) {
        for network in &rule.networks {
            self.networks.entry(*network, Entry::default).add(&rule);
        }
        self.addresses.push(rule);
    }

    /// Shuts a network to outbound connections, as a rule does; or, for a word, unless a rule for
    /// that very network speaks. To be called when all rules are in.
    pub(in crate::config) fn shut(&mut self, network: IpNet, by: Guarded, denied: Denied) {
        let entry = self.networks.entry(network, Entry::default);
        match by {
            Guarded::Network(_) => entry.shut(denied),
            Guarded::Word(_) => entry.guard(denied),
        }
        if !self.guarded.contains(&by) {
            self.guarded.push(by);
        }
    }

    /// Gives a list its content, if any rule names it.
    pub(in crate::config) fn fill(&mut self, name: &str, list: Arc<List>) {
        if let Some(listed) = self.lists.get_mut(name) {
            listed.list = list;
        }
    }

    /// Whether a rule says of exactly this name, whatever it says, who is allowed.
    pub(in crate::config) fn names(&self, domain: &Domain) -> bool {
        let tier = self.exact.get(domain).and_then(Tier::of_all);
        tier.is_some_and(|merged| merged.rule(Key::Inbound).is_some())
    }

    /// When a rule expires next, or is about to so that its author is to be warned; none: never.
    #[must_use]
    pub fn next_expiry(&self, now: Instant) -> Option<Duration> {
        let of_domains = self.rules.iter().filter_map(|rule| rule.expires);
        let of_addresses = self.addresses.iter().filter_map(|rule| rule.expires);
        let times = of_domains.chain(of_addresses).flat_map(|Expiry(at)| [at.minus(NOTICE), at]);
        times.filter_map(|time| time.after(now)).min()
    }

    pub(in crate::config) fn rule(&self, number: usize) -> Option<&Rule> {
        self.rules.get(number)
    }
}

// === giving back ===

impl Policy {
    /// What holds where no rule speaks, if it was said.
    pub(in crate::config) fn defaults(&self) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.patterns.is_empty())
    }

    /// The rules for domains but for the defaults, as they were written.
    pub(in crate::config) fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| !rule.patterns.is_empty())
    }

    /// The sets of trust roots that rules name, and for each the place of one of these rules.
    #[must_use]
    pub fn roots(&self) -> BTreeMap<Arc<[Roots]>, Place> {
        let named =
            |rule: &Rule| Some((Arc::clone(rule.terms.roots.as_ref()?), rule.place.clone()));
        // the first rule of several speaks
        self.rules.iter().rev().filter_map(named).collect()
    }

    /// The rules for addresses, as they were written.
    pub(in crate::config) fn addresses(&self) -> &[AddressRule] {
        &self.addresses
    }

    /// What `deny_out` names.
    pub(in crate::config) fn guarded(&self) -> &[Guarded] {
        &self.guarded
    }

    /// The networks of which anything is said, in no order.
    fn networks(&self) -> impl Iterator<Item = IpNet> + '_ {
        let listed = self.lists.values().flat_map(|listed| listed.list.networks().iter());
        self.networks.iter().chain(listed)
    }
}

fn is_clear(rule: &Rule) -> bool {
    rule.terms.level.is_some_and(|level| !level.needs_tls())
}

/// How long before a rule expires its author is warned.
pub(in crate::config) const NOTICE: Duration = Duration::from_hours(14 * 24);

/// The names above a name, nearest first: `b.c` and `c` for `a.b.c`.
fn suffixes(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| name.split_once('.').map(|(_, above)| above)).skip(1)
}

#[cfg(test)]
mod tests;
