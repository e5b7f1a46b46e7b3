//! What the rules say of the pairs of an accepted stream.

use std::net::IpAddr;

use super::{Outcome, Receiving};
use crate::{
    auth::{Proof, TlsFacts},
    config::policy::{Decision, Query, Shortfall},
    stream::Fault,
    xmpp::{Direction, Domain, DomainPair, Side, StreamCondition},
};

impl Receiving {
    /// The connection comes from this address.
    #[must_use]
    pub fn from_address(self, address: IpAddr) -> Self {
        Self { address: Some(address), ..self }
    }

    fn decision(&self, local: Option<&Domain>, remote: &Domain) -> Decision<'_> {
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
}
