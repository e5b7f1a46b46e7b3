//! What the rules say of the pairs of an accepted stream.

use std::{net::IpAddr, time::Duration};

use super::{Outcome, Receiving};
use crate::{
    auth::{Proof, Prooftype, TlsFacts},
    config::{
        model::LocalTrust,
        policy::{Decision, Query, Shortfall},
    },
    stream::Fault,
    xmpp::{Direction, Domain, DomainPair, Side, StreamCondition},
};

impl Receiving {
    /// The connection comes from this address.
    #[must_use]
    pub fn from_address(self, address: IpAddr) -> Self {
        Self { address: Some(address), ..self }
    }

    pub(super) fn decision(&self, local: Option<&Domain>, remote: &Domain) -> Decision<'_> {
        let (direction, address) = (Direction::Inbound, self.address);
        self.config.policy.decide(&Query { local, remote, direction, address })
    }

    /// Whether a peer may speak for `remote` to the domain in the stream's `to`.
    pub(super) fn allow(&self, remote: &Domain) -> Outcome {
        self.allow_to(self.names.to.as_ref(), remote)
    }

    /// Whether a peer may speak for `remote` to a local domain.
    pub(super) fn allow_to(&self, local: Option<&Domain>, remote: &Domain) -> Outcome {
        match self.decision(local, remote).denied() {
            None => Ok(()),
            Some(denied) => Err(Fault::policy(
                StreamCondition::PolicyViolation,
                "denied by rule",
                Some(denied.rule.to_string()),
            )),
        }
    }

    /// Whether a peer may do something without TLS on this stream: it is asked again for each pair.
    /// Old servers do not say who they are in the header.
    pub(super) fn may_stay_clear(&self) -> bool {
        let Some(from) = &self.names.from else { return self.config.policy.has_clear() };
        let to = self.names.to.as_ref();
        self.is_clear(to, from, Direction::Inbound) || self.is_clear(to, from, Direction::Outbound)
    }

    /// Whether a dialback request of a peer counts without TLS. A question about a key of ours is
    /// about the stanzas that we send.
    pub(super) fn may_be_clear(&self, pair: &DomainPair, is_verify: bool) -> bool {
        let direction = if is_verify { Direction::Outbound } else { Direction::Inbound };
        self.is_clear(Some(&pair.target), &pair.sender, direction)
    }

    fn is_clear(&self, local: Option<&Domain>, remote: &Domain, direction: Direction) -> bool {
        let query = Query { local, remote, direction, address: None };
        !self.config.policy.decide(&query).level().needs_tls()
    }

    /// After how long without stanzas the stream is closed.
    #[must_use]
    pub fn idle_limit(&self) -> Duration {
        self.idle
    }

    /// Asks policy for it; it is looked at too often for that.
    pub(super) fn decide_idle_limit(&mut self) {
        let (limits, to) = (&self.config.limits, self.names.to.as_ref());
        let of = |from| self.decision(to, from).idle_limit(limits);
        let from = self.names.from.as_ref().filter(|_| self.side == Side::Peer);
        self.idle = from.map_or(limits.idle, of);
    }

    /// Bytes of the largest stanza of the domain in the stream's header.
    pub(super) fn stanza_limit(&self) -> usize {
        let (limits, to) = (&self.config.limits, self.names.to.as_ref());
        let of = |from| self.decision(to, from).stanza_limit(limits);
        self.names.from.as_ref().map_or(limits.stanza, of)
    }

    /// Bytes of the largest stanza of a pair.
    #[must_use]
    pub fn stanza_limit_of(&self, pair: &DomainPair) -> usize {
        self.decision(Some(&pair.target), &pair.sender).stanza_limit(&self.config.limits)
    }

    /// Whether the stream may carry both directions (XEP-0288).
    pub(super) fn offers_bidi(&self) -> bool {
        let may = |from| self.decision(self.names.to.as_ref(), from).bidi();
        self.side == Side::Peer && self.names.from.as_ref().is_none_or(may)
    }

    /// Why a peer's stream is not good enough for a pair that is proven by `proof`.
    pub(super) fn falls_short(&self, pair: &DomainPair, proof: &Proof) -> Option<Shortfall> {
        if self.side == Side::Legacy {
            return None;
        }
        let tls = self.tls.as_ref().map(TlsFacts::version);
        self.decision(Some(&pair.target), &pair.sender).suffices(tls, Some(proof)).err()
    }

    /// Whether the legacy server is still believed for a pair that was proven by `proof`: it may come
    /// from there, and where it has to show a key, its address is not all that was asked for.
    pub(super) fn is_believed(&self, pair: &DomainPair, proof: &Proof) -> bool {
        if self.side == Side::Peer {
            return true;
        }
        self.config.local_domains.get(&pair.sender).is_some_and(|legacy| {
            let by_address = proof.prooftype() == Prooftype::Source;
            self.address.is_none_or(|address| legacy.may_come_from(address))
                && (legacy.trust == LocalTrust::Source || !by_address)
        })
    }
}
