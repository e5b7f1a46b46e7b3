//! What the rules come to for one pair, direction and address.

use std::{fmt, net::IpAddr, time::Duration};

use super::{
    Policy,
    answer::{Downgrade, Mode},
    key::Key,
    rule::{Denied, Place, Rule},
    terms::{Connect, Level, Pin, Proofs},
    tiers::Merged,
};
use crate::{
    auth::{Proof, Prooftype},
    config::model::{Limits, Rate, Roots, TlsVersion},
    xmpp::{Direction, Domain, StanzaCondition},
};

/// Who wants to send stanzas to whom.
#[derive(Clone, Copy, Debug)]
pub struct Query<'q> {
    /// The local domain, if it is known: rules that name one hold for it alone.
    pub local: Option<&'q Domain>,
    /// The remote domain.
    pub remote: &'q Domain,
    /// The direction of the stanzas.
    pub direction: Direction,
    /// The address at the other end; none: it is not judged.
    pub address: Option<IpAddr>,
}

/// What the rules come to, merged key by key.
#[derive(Clone, Debug)]
pub struct Decision<'p> {
    pub(super) policy: &'p Policy,
    pub(super) direction: Direction,
    pub(super) merged: Merged,
    /// Refused because of the address, and whether that is so in every mode.
    pub(super) address: Option<(Denied, bool)>,
}

impl<'p> Decision<'p> {
    /// Why the pair is refused; in mode `report` nobody is whom the defaults would let through.
    #[must_use]
    pub fn denied(&self) -> Option<Denied> {
        match (&self.address, self.policy.mode) {
            (Some((denied, true)), _) => Some(denied.clone()),
            (_, Mode::Report) => None,
            (_, Mode::Enforce) => self.refusal(),
        }
    }

    /// Why the rules refuse the pair where the mode `report` lets it through.
    #[must_use]
    pub fn reported(&self) -> Option<Denied> {
        match self.denied() {
            Some(_) => None,
            None => self.refusal(),
        }
    }

    /// Why the rules refuse the pair, whatever the mode.
    #[must_use]
    pub fn refusal(&self) -> Option<Denied> {
        let by_address = self.address.as_ref().map(|(denied, _)| denied.clone());
        by_address.or_else(|| {
            let rule = self.rule(self.allow_key())?;
            let open = rule.terms.allow.is_none_or(|allow| allow.is_open(self.direction));
            (!open).then(|| rule.denied())
        })
    }

    /// The level that has to be reached, all that the rules say taken together: pins and a TLS
    /// version need TLS, and without dialback among the prooftypes there has to be a strong one. In
    /// mode `report` it is not above [`Level::Encrypted`].
    #[must_use]
    pub fn level(&self) -> Level {
        let mut level = self.level_wanted();
        if self.pins().is_some() || !self.proofs().contains(Proofs::DIALBACK) {
            level = Level::Trusted;
        } else if self.tls_min().is_some() {
            level = level.max(Level::Encrypted);
        }
        match self.policy.mode {
            Mode::Enforce => level,
            Mode::Report => level.min(Level::Encrypted),
        }
    }

    /// The level that a rule names, whatever the mode.
    #[must_use]
    pub fn level_wanted(&self) -> Level {
        self.rule(Key::Level).and_then(|rule| rule.terms.level).unwrap_or(Level::Encrypted)
    }

    /// The rule that sets the level; none: nobody did, it is [`Level::Encrypted`].
    #[must_use]
    pub fn level_rule(&self) -> Option<Place> {
        self.place(Key::Level)
    }

    /// The prooftypes that count.
    #[must_use]
    pub fn proofs(&self) -> Proofs {
        self.rule(Key::Proofs).and_then(|rule| rule.terms.proofs).unwrap_or(Proofs::ALL)
    }

    /// Whether refusals are carried out.
    #[must_use]
    pub fn is_enforced(&self) -> bool {
        self.policy.mode == Mode::Enforce
    }

    /// Whether a proof of this type counts; in mode `report` all do.
    #[must_use]
    pub fn counts(&self, prooftype: Prooftype) -> bool {
        self.policy.mode == Mode::Report || self.proofs().allows(prooftype)
    }

    /// The certificates and keys of which the peer has to show one; none: it need not.
    #[must_use]
    pub fn pins(&self) -> Option<&'p [Pin]> {
        self.rule(Key::Pins)?.terms.pins.as_deref()
    }

    /// The lowest TLS version, if a rule sets one.
    #[must_use]
    pub fn tls_min(&self) -> Option<TlsVersion> {
        self.rule(Key::TlsMin)?.terms.tls_min
    }

    /// The trust roots for the peer's certificates, sorted, in place of those for all; none: those.
    #[must_use]
    pub fn roots(&self) -> Option<&'p [Roots]> {
        self.rule(Key::Roots)?.terms.roots.as_deref()
    }

    /// Whether a certificate that is believed by these rules is by those, too: they have the same
    /// pins and trust roots.
    #[must_use]
    pub fn trusts_like(&self, other: &Decision<'_>) -> bool {
        self.pins() == other.pins() && self.roots() == other.roots()
    }

    /// What becomes of a remote domain that reaches less than before; in mode `report` it is
    /// refused by nobody.
    #[must_use]
    pub fn downgrade(&self) -> Downgrade {
        let wanted = self.downgrade_wanted();
        match self.policy.mode {
            Mode::Enforce => wanted,
            Mode::Report => wanted.min(Downgrade::Alert),
        }
    }

    /// The same, whatever the mode.
    #[must_use]
    pub fn downgrade_wanted(&self) -> Downgrade {
        self.rule(Key::Downgrade).and_then(|rule| rule.terms.downgrade).unwrap_or_default()
    }

    /// The rule that says so; none: nobody did.
    #[must_use]
    pub fn downgrade_rule(&self) -> Option<Place> {
        self.place(Key::Downgrade)
    }

    /// Where the peer is reached, in place of what DNS says.
    #[must_use]
    pub fn connect(&self) -> Option<&'p Connect> {
        self.rule(Key::Connect)?.terms.connect.as_deref()
    }

    /// The stanza error for local senders of refused stanzas, if a rule chooses one.
    #[must_use]
    pub fn error(&self) -> Option<StanzaCondition> {
        self.rule(Key::Error)?.terms.error
    }

    /// Whether one stream may carry both directions (XEP-0288).
    #[must_use]
    pub fn bidi(&self) -> bool {
        self.rule(Key::Bidi).and_then(|rule| rule.terms.bidi).unwrap_or(true)
    }

    /// Whether stanzas are acknowledged on streams (XEP-0198), where both ends can.
    #[must_use]
    pub fn stream_management(&self) -> bool {
        self.rule(Key::StreamManagement)
            .and_then(|rule| rule.terms.stream_management)
            .unwrap_or(true)
    }

    /// Whether one stream may carry several pairs (XEP-0220 §2.6).
    #[must_use]
    pub fn multiplex(&self) -> bool {
        self.rule(Key::Multiplex).and_then(|rule| rule.terms.multiplex).unwrap_or(true)
    }

    /// Bytes that may wait for the pair: those of the rule, or of all.
    #[must_use]
    pub fn queue_limit(&self, limits: &Limits) -> usize {
        let of_rule = self.rule(Key::Queue).and_then(|rule| rule.terms.limits.queue);
        self.acts(of_rule, limits.queue).unwrap_or(limits.queue)
    }

    /// How long opening a stream may take: as the rule says, or for all.
    #[must_use]
    pub fn connect_limit(&self, limits: &Limits) -> Duration {
        let of_rule = self.rule(Key::ConnectTime).and_then(|rule| rule.terms.limits.connect);
        self.acts(of_rule, limits.connect).unwrap_or(limits.connect)
    }

    /// After how long without stanzas a stream is closed: as the rule says, or for all.
    #[must_use]
    pub fn idle_limit(&self, limits: &Limits) -> Duration {
        self.rule(Key::Idle).and_then(|rule| rule.terms.limits.idle).unwrap_or(limits.idle)
    }

    /// Bytes of one stanza, if a rule that acts says so.
    #[must_use]
    pub fn stanza_rule(&self, limits: &Limits) -> Option<usize> {
        self.acts(self.rule(Key::Stanza)?.terms.limits.stanza, limits.stanza)
    }

    /// Bytes of one stanza: those of the rule, or of all.
    #[must_use]
    pub fn stanza_limit(&self, limits: &Limits) -> usize {
        self.stanza_rule(limits).unwrap_or(limits.stanza)
    }

    /// Bytes and stanzas a second of the remote domain: those of the rule, or of all.
    #[must_use]
    pub fn rate_limits(&self, limits: &Limits) -> (Rate, Rate) {
        let bytes = self.rule(Key::Rate).and_then(|rule| rule.terms.limits.rate);
        let stanzas = self.rule(Key::StanzaRate).and_then(|rule| rule.terms.limits.stanza_rate);
        (bytes.unwrap_or(limits.rate), stanzas.unwrap_or(limits.stanza_rate))
    }

    /// Inbound streams on which the remote domain may be authorized: those of the rule, or of all.
    #[must_use]
    pub fn connections_limit(&self, limits: &Limits) -> usize {
        let of_rule = self.rule(Key::Connections);
        let of_rule = of_rule.and_then(|rule| rule.terms.limits.connections_per_domain);
        self.acts(of_rule, limits.connections_per_domain).unwrap_or(limits.connections_per_domain)
    }

    /// The limit of a rule, if it acts: in mode `report` one that refuses what is beyond it does only
    /// where it is above that of all.
    fn acts<T: PartialOrd>(&self, of_rule: Option<T>, of_all: T) -> Option<T> {
        of_rule.filter(|limit| self.is_enforced() || *limit > of_all)
    }

    /// Whether a stream with this TLS version and this proof of the remote domain is good enough.
    /// A proof of dialback alone, and none on a stream that we open, are one: DNS led to the other
    /// end. In mode `report` only what the defaults would refuse falls short.
    ///
    /// # Errors
    /// What is missing, and the rule that wants it.
    pub fn suffices(
        &self,
        tls: Option<TlsVersion>,
        proof: Option<&Proof>,
    ) -> Result<(), Shortfall> {
        self.suffices_by(tls, proof.map(Proof::prooftype), proof.and_then(Proof::strong))
    }

    /// The same by the prooftype, and that by which the certificate behind it is believed.
    ///
    /// # Errors
    /// What is missing, and the rule that wants it.
    pub fn suffices_by(
        &self,
        tls: Option<TlsVersion>,
        prooftype: Option<Prooftype>,
        strong: Option<Prooftype>,
    ) -> Result<(), Shortfall> {
        match self.policy.mode {
            Mode::Enforce => self.enough(tls, prooftype, strong),
            Mode::Report => match (tls, self.policy.tls_min) {
                (None, _) if self.level().needs_tls() => Err(self.short(Missing::Tls, Key::Level)),
                (Some(version), least) if version < least => {
                    Err(self.short(Missing::TlsVersion(least), Key::TlsMin))
                }
                (None | Some(_), _) => Ok(()),
            },
        }
    }

    /// The same, whatever the mode.
    ///
    /// # Errors
    /// What is missing, and the rule that wants it.
    pub fn would_suffice(
        &self,
        tls: Option<TlsVersion>,
        proof: Option<&Proof>,
    ) -> Result<(), Shortfall> {
        self.enough(tls, proof.map(Proof::prooftype), proof.and_then(Proof::strong))
    }

    pub(super) fn enough(
        &self,
        tls: Option<TlsVersion>,
        prooftype: Option<Prooftype>,
        strong: Option<Prooftype>,
    ) -> Result<(), Shortfall> {
        let level = self.level_wanted();
        if level.needs_tls() && tls.is_none() {
            return Err(self.short(Missing::Tls, Key::Level));
        }
        let of_rule = self.tls_min();
        let least = of_rule.unwrap_or(self.policy.tls_min);
        match tls {
            Some(version) if version < least => {
                return Err(self.short(Missing::TlsVersion(least), Key::TlsMin));
            }
            None if of_rule.is_some() => return Err(self.short(Missing::Tls, Key::TlsMin)),
            Some(_) | None => {}
        }
        if self.pins().is_some() {
            return match strong == Some(Prooftype::Pin) {
                true => Ok(()),
                false => Err(self.short(Missing::Pin, Key::Pins)),
            };
        }
        match (strong, prooftype) {
            (Some(strong), _) if self.proofs().allows(strong) => return Ok(()),
            // nobody was asked for a key
            (
                Some(_),
                Some(Prooftype::Dane | Prooftype::Pin | Prooftype::Pkix | Prooftype::Posh),
            ) => {
                return Err(self.short(Missing::Proof, Key::Proofs));
            }
            (Some(_) | None, _) => {}
        }
        if level == Level::Trusted {
            return Err(self.short(Missing::Proof, Key::Level));
        }
        if !self.proofs().contains(Proofs::DIALBACK) {
            return Err(self.short(Missing::Proof, Key::Proofs));
        }
        Ok(())
    }

    /// What is said of a key: its name, the value and the place of the rule.
    pub(super) fn said(&self) -> impl Iterator<Item = (Key, String, &'p Rule)> {
        Key::ALL.into_iter().filter_map(|key| {
            let rule = self.rule(key)?;
            Some((key, key.show(&rule.terms)?, rule))
        })
    }

    fn short(&self, missing: Missing, key: Key) -> Shortfall {
        Shortfall { missing, level: self.level_wanted(), rule: self.place(key) }
    }

    fn place(&self, key: Key) -> Option<Place> {
        self.rule(key).map(|rule| rule.place.clone())
    }

    fn allow_key(&self) -> Key {
        match self.direction {
            Direction::Inbound => Key::Inbound,
            Direction::Outbound => Key::Outbound,
        }
    }

    pub(super) fn rule(&self, key: Key) -> Option<&'p Rule> {
        self.policy.rules.get(self.merged.rule(key)?)
    }
}

/// Why a stream is not good enough for a pair.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shortfall {
    /// What is missing.
    pub missing: Missing,
    /// The level that the pair has to reach.
    pub level: Level,
    /// The rule that wants it; none: the default level does.
    pub rule: Option<Place>,
}

/// What a stream lacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Missing {
    /// TLS.
    Tls,
    /// A TLS version.
    TlsVersion(TlsVersion),
    /// A certificate or key that is pinned.
    Pin,
    /// A proof that counts.
    Proof,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.missing {
            Missing::Tls => f.write_str("no TLS")?,
            Missing::TlsVersion(least) => write!(f, "TLS below {}", least.as_str())?,
            Missing::Pin => f.write_str("no pinned certificate or key")?,
            Missing::Proof => write!(f, "the level {} is not reached", self.level.as_str())?,
        }
        match &self.rule {
            Some(rule) => write!(f, " (rule at {rule})"),
            None => Ok(()),
        }
    }
}
