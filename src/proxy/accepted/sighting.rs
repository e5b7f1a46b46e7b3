//! What an accepted stream shows of its peer, for the memory of remote domains.

use std::sync::Arc;

use tracing::info;

use super::{End, Leg};
use crate::{
    auth::{Proof, TlsFacts, ledger::AuthorizedPair},
    proxy::remembering::Sight,
    xmpp::{Direction, DomainPair, Side},
};

impl Leg {
    /// A peer's pair is granted.
    pub(super) fn remember(&self, pair: &DomainPair) {
        if let (Side::Peer, Some(grant)) = (self.side, self.machine.grant_of(pair)) {
            self.gate.remember(&self.sight(pair, Direction::Inbound, Some(grant.proof())));
        }
    }

    /// What it has shown of the target of a pair that goes back on it.
    pub(super) fn sight_back<'a>(
        &'a self,
        pair: &'a DomainPair,
        proof: Option<&'a Proof>,
    ) -> Sight<'a> {
        self.sight(pair, Direction::Outbound, proof)
    }

    fn sight<'a>(
        &'a self,
        pair: &'a DomainPair,
        direction: Direction,
        proof: Option<&'a Proof>,
    ) -> Sight<'a> {
        let tls = self.machine.tls();
        let chain = tls.map_or(&[][..], |tls| tls.peer_chain());
        Sight { pair, direction, tls: tls.map(TlsFacts::version), proof, chain }
    }

    /// The rules changed: pairs whose sender is not what it was may have been let in by the old.
    pub(super) fn judge_downgraded(&mut self) -> Result<(), End> {
        if self.side == Side::Legacy {
            return Ok(());
        }
        let gate = Arc::clone(&self.gate);
        let tls = self.machine.tls().map(TlsFacts::version);
        let chain = self.machine.tls().map(|tls| Arc::clone(tls.peer_chain())).unwrap_or_default();
        let is_as_before = |grant: &AuthorizedPair| {
            let (pair, direction, proof) = (grant.pair(), Direction::Inbound, Some(grant.proof()));
            gate.is_downgraded(&Sight { pair, direction, tls, proof, chain: &chain }).is_none()
        };
        for pair in self.machine.withdraw(is_as_before)? {
            self.live.withdrawn(&pair);
            self.free_place(&pair);
            info!(pair = %pair, "domain pair withdrawn: the peer is not what it was");
        }
        Ok(())
    }
}
