//! Domain pairs that come aboard a stream that we opened: asked for by dialback, answered, carried
//! (XEP-0220 §2.6, RFC 7712 §4.4).

use std::sync::Arc;

use tokio::time::Instant;
use tracing::info;

use super::{Opened, largest};
use crate::{
    auth::{Proof, TlsFacts},
    proxy::{
        lanes::{Call, End, Stage},
        rules::may_come,
    },
    stream::{Failure, Step},
    xmpp::{Direction, DomainPair, StreamCondition},
};

/// Requests for further pairs that wait for an answer at once; peers bound what they have pending.
const ASKED_MAX: usize = 16;

impl Opened {
    pub(super) fn call(&mut self, call: Call) {
        match call {
            Call::Stanzas(lane, queued) => self.lanes.push(lane, queued),
            Call::Board(boarding) => {
                let pair = boarding.route.pair().clone();
                let is_outdated = boarding.trust != self.trust;
                // It comes by what another connection has shown, if this one has taken its place.
                let shown = self.live.machine.tls().map(TlsFacts::peer_chain);
                let found = boarding.chain.as_ref().zip(shown);
                let is_stray = !found.is_some_and(|(found, shown)| Arc::ptr_eq(found, shown));
                let lane = self.lanes.board(*boarding);
                if is_outdated {
                    self.lanes.doubt(lane);
                }
                let most = largest(&self.gate.config(), self.side, &pair, &self.live);
                self.lanes.bound(lane, most);
                self.check = Instant::now();
                // Several may have joined at the same time.
                let full = self.lanes.len() > self.gate.config().limits.pairs_per_stream;
                if self.stopping || self.is_closed || is_stray || full {
                    self.count();
                    self.leave(lane, End::Missed);
                    return;
                }
                // The configuration may have changed on the way here.
                let proof = self.lanes.get(lane).and_then(|lane| lane.proof.as_ref());
                if let Err(failure) = self.still_allowed(&pair, proof) {
                    let told = failure.telling(StreamCondition::PolicyViolation);
                    self.count();
                    self.leave(lane, End::Denied(told));
                    return;
                }
                self.unasked.push_back(lane);
                self.ask();
                self.count();
            }
        }
    }

    /// Asks for the pairs that wait for it, a few at a time.
    pub(super) fn ask(&mut self) {
        let mut steps = Vec::new();
        while self.lanes.outstanding() < ASKED_MAX
            && let Some(id) = self.unasked.pop_front()
        {
            let Some(lane) = self.lanes.get(id) else { continue };
            if matches!(lane.stage, Stage::Waiting) {
                let pair = lane.route.pair().clone();
                let (tls, address) = (self.tls(), self.live.address());
                let may = |proof: &Proof| {
                    may_come(&self.gate.config(), &pair.reversed(), address, tls, proof)
                };
                let inbound = lane.proof.clone().filter(may);
                self.live.machine.request(pair, inbound, &mut steps);
                self.lanes.ask(id);
                self.check = self.check.min(Instant::now() + self.gate.config().limits.connect);
            }
        }
        self.say(steps);
    }

    fn say(&mut self, steps: Vec<Step>) {
        for step in steps {
            self.step(step);
        }
    }

    pub(super) fn step(&mut self, step: Step) {
        match step {
            Step::Send(text) => self.live.wire.put(&text),
            Step::Answered(pair, outcome) => self.answered(&pair, outcome),
            // Of the time before the stream was open.
            Step::StartTls | Step::Restart | Step::Judge | Step::Opened(_) | Step::Verified(_) => {}
            // Of acknowledgements, which are looked at before.
            Step::Managed(_) | Step::Unmanaged | Step::AckWanted | Step::Acknowledged(_) => {}
        }
    }

    pub(super) fn answered(&mut self, pair: &DomainPair, outcome: Result<(), Failure>) {
        let Some(id) = self.lanes.answered(pair) else { return };
        match outcome {
            Ok(()) => {
                self.lanes.open(id);
                // Its proof may expire before those of the others.
                self.check = Instant::now();
                self.bound();
                let back = pair.reversed();
                self.show_inbound(|pair| *pair == back);
                self.gate.opened(self.side, pair);
                let proof = self.lanes.get(id).and_then(|lane| lane.proof.as_ref());
                info!(
                    side = self.side.as_str(),
                    direction = Direction::Outbound.as_str(),
                    pair = %pair,
                    addr = self.live.address().map(tracing::field::display),
                    proof = proof.map_or("none", |proof| proof.prooftype().as_str()),
                    shared = %self.first,
                    "domain pair joined"
                );
                let (address, tls) = (self.live.address(), self.tls());
                self.gate.report(pair, Direction::Outbound, address, tls, proof);
                self.gate.remember(&self.sight(pair, proof));
            }
            Err(failure) => self.leave(id, End::Refused(failure)),
        }
        self.ask();
        self.count();
    }

    pub(super) fn count(&self) {
        if let Some(registered) = &self.registered {
            registered.carries(self.lanes.len());
        }
    }
}
