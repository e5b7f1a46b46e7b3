//! The other direction of an accepted stream: on a bidirectional one (XEP-0288) the reversed pairs
//! of those that the peer has proven are carried back on it.

use std::future::pending;

use tracing::info;

use super::Leg;
use crate::{
    auth::{Proof, Prooftype, ledger::AuthorizedPair},
    net::wire::Wire,
    proxy::{
        lanes::{Boarding, Call, End, Ended, Lanes},
        rules::{self, decide, largest},
        sharing::Offer,
    },
    stream::{Failure, FailureKind},
    xmpp::{Direction, DomainPair},
};

/// What goes back on a stream that the peer opened.
pub(super) struct Returning {
    pub(super) lanes: Lanes,
    /// The pairs that routes can find it by.
    offers: Vec<Offer>,
}

impl Returning {
    /// No routes come any more.
    pub(super) fn withdraw_offers(&mut self) {
        self.offers.clear();
    }

    /// The stream is to end in order: no routes come any more, and what is not on its way finds another
    /// one.
    pub(super) fn leave(&mut self, wire: &mut Wire) {
        self.withdraw_offers();
        let all: Vec<_> = self.lanes.iter().map(|(id, _)| id).collect();
        for id in all {
            self.lanes.leave(id, End::Done("the peer's stream ends"));
        }
        self.lanes.ask_at_last(wire);
    }

    /// The connection ends: no routes come any more. Says whether the output did not end inside a
    /// stanza.
    pub(super) fn interrupt(&mut self, wire: &mut Wire) -> bool {
        self.withdraw_offers();
        self.lanes.interrupt(wire)
    }

    /// Behind that: the stream ends. The peer has handled `h` stanzas, or nobody knows.
    pub(super) fn finish(self, end: &End, h: Option<u32>) -> Ended {
        self.lanes.finish(end, h)
    }
}

/// The next call of a route. Cancel-safe; never without a way back.
pub(super) async fn call(returning: &mut Option<Box<Returning>>) -> Option<Call> {
    match returning {
        Some(returning) => returning.lanes.call().await,
        None => pending().await,
    }
}

impl Leg {
    /// A pair was granted: on a bidirectional stream its reverse may be sent, if policy allows.
    pub(super) fn offer_return(&mut self, grant: &AuthorizedPair) {
        let pair = grant.pair().reversed();
        if self.closing.is_some() {
            return;
        }
        if !self.machine.is_bidirectional() || self.may_return(&pair, grant.proof()).is_err() {
            return;
        }
        let managing = &self.managing;
        let most = self.gate.config().limits.unacknowledged;
        let returning = self.returning.get_or_insert_with(|| {
            let mut lanes = Lanes::new(Some(self.live.clone()));
            if let Some(managing) = managing {
                lanes.manage(managing.sent(), most);
            }
            Box::new(Returning { lanes, offers: Vec::new() })
        });
        let calls = returning.lanes.handle().clone();
        // Whatever failed before: here is a way.
        self.gate.routes().opened(self.side, &pair);
        returning.offers.push(Offer::new(&self.gate, pair, calls));
    }

    /// Does what a route wants.
    pub(super) fn call(&mut self, call: Call) {
        let Some(returning) = &mut self.returning else { return };
        match call {
            Call::Stanzas(lane, queued) => returning.lanes.push(lane, queued),
            Call::Board(boarding) => self.board(*boarding),
        }
        while let Some(returning) = &mut self.returning
            && let Some(call) = returning.lanes.next_call()
        {
            match call {
                Call::Stanzas(lane, queued) => returning.lanes.push(lane, queued),
                Call::Board(boarding) => self.board(*boarding),
            }
        }
    }

    fn board(&mut self, mut boarding: Boarding) {
        let pair = boarding.route.pair().clone();
        let proof = self.machine.grant_of(&pair.reversed()).map(|grant| grant.proof().clone());
        let allowed = proof.as_ref().is_some_and(|proof| self.may_return(&pair, proof).is_ok());
        let largest = largest(&self.gate.config(), &pair, self.machine.largest_stanza());
        let Some(returning) = &mut self.returning else { return };
        boarding.proof = proof;
        let lane = returning.lanes.board(boarding);
        returning.lanes.bound(lane, largest);
        if !allowed || self.closing.is_some() {
            // What the peer has shown elsewhere may be more than it showed here: the route finds the
            // next stream, and not this one again.
            returning.offers.retain(|offer| *offer.pair() != pair);
            returning.lanes.leave(lane, End::Missed);
            return;
        }
        returning.lanes.open(lane);
        let proof = returning.lanes.get(lane).and_then(|lane| lane.proof.as_ref());
        self.gate.opened(self.side, &pair);
        info!(
            side = self.side.as_str(),
            direction = Direction::Outbound.as_str(),
            pair = %pair,
            addr = %self.address.ip(),
            proof = proof.map_or("none", |proof| proof.prooftype().as_str()),
            bidi = true,
            "domain pair joined"
        );
        if let Some(grant) = self.machine.grant_of(&pair.reversed()) {
            self.gate.remember(&self.sight_back(&pair, shown(grant.proof())));
        }
    }

    /// The configuration or the grants changed: what may not go back on this stream any more gets
    /// one of ours, if there may be one.
    pub(super) fn judge_return(&mut self) {
        let Some(mut returning) = self.returning.take() else { return };
        let may_return = |pair: &DomainPair| {
            let grant = self.machine.grant_of(&pair.reversed());
            grant.is_some_and(|grant| self.may_return(pair, grant.proof()).is_ok())
        };
        returning.offers.retain(|offer| may_return(offer.pair()));
        let lanes = returning.lanes.iter();
        let config = self.gate.config();
        let bound = |pair| largest(&config, pair, self.machine.largest_stanza());
        let bounds: Vec<_> =
            returning.lanes.iter().map(|(id, lane)| (id, bound(lane.route.pair()))).collect();
        let gone: Vec<_> =
            lanes.filter(|(_, lane)| !may_return(lane.route.pair())).map(|(id, _)| id).collect();
        for (id, largest) in bounds {
            returning.lanes.bound(id, largest);
        }
        for id in gone {
            returning.lanes.leave(id, no_more());
        }
        self.returning = Some(returning);
    }

    /// A pair was withdrawn, so its reverse goes back on this stream no more.
    pub(super) fn stop_return(&mut self, pair: &DomainPair) {
        let Some(returning) = &mut self.returning else { return };
        let back = pair.reversed();
        returning.offers.retain(|offer| *offer.pair() != back);
        let lane = returning.lanes.iter().find(|(_, lane)| *lane.route.pair() == back);
        if let Some(id) = lane.map(|(id, _)| id) {
            returning.lanes.leave(id, no_more());
        }
    }

    fn may_return(&self, pair: &DomainPair, proof: &Proof) -> Result<(), Failure> {
        let config = self.gate.config();
        let decision = decide(&config, pair, Direction::Outbound);
        rules::allowed_by(&decision, &pair.target)?;
        rules::address_allowed(&config, self.address.ip().to_canonical())?;
        if !decision.bidi() {
            return Err(Failure::new(FailureKind::Denied, "bidi is off for the peer"));
        }
        let came = decide(&config, &pair.reversed(), Direction::Inbound);
        if !came.trusts_like(&decision) {
            let detail = "pins or trust roots of this direction are others";
            return Err(Failure::new(FailureKind::NotProven, detail));
        }
        self.gate.suffices(&decision, &self.sight_back(pair, shown(proof)))
    }
}

/// The proof, if the connection itself has shown it. That the authoritative server showed a
/// certificate when it confirmed a key says nothing of who takes what is sent here.
fn shown(proof: &Proof) -> Option<&Proof> {
    Some(proof).filter(|proof| proof.is_strong() && proof.prooftype() != Prooftype::Dialback)
}

fn no_more() -> End {
    let detail = "the peer's stream carries the pair no more";
    End::Withdrawn(Failure::new(FailureKind::Stream, detail))
}
