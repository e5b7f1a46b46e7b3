//! What keeps a pair on a stream that we opened: that it is used, that its proof holds, that policy
//! allows it, that fedgate goes on.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tracing::{debug, info};

use super::{Opened, largest};
use crate::{
    auth::{Proof, TlsFacts},
    config::model::{Limits, TlsVersion},
    proxy::{
        dial, expiry,
        lanes::{End, Lane, LaneId, Stage},
        live::Flow,
        remembering::Sight,
        rules::{self, decide, may_come},
    },
    stream::{Failure, FailureKind},
    xmpp::{Direction, DomainPair, Side, StreamCondition},
};

impl Opened {
    /// When a peer gets a space, if nothing else is written until then (RFC 6120 §4.6.1).
    pub(super) fn keepalive(&self, limits: &Limits) -> Option<Instant> {
        let wire = &self.live.wire;
        let quiet = self.side == Side::Peer && wire.is_flushed();
        Some(wire.last_put() + limits.keepalive.filter(|_| quiet)?)
    }

    /// Lets every lane go that has nothing to write.
    pub(super) fn drain(&mut self) {
        self.drop_unanswered();
        let is_done = |(id, lane): &(LaneId, &Lane)| {
            matches!(lane.stage, Stage::Open) && self.lanes.is_idle(*id)
        };
        let done: Vec<_> = self.lanes.iter().filter(is_done).map(|(id, _)| id).collect();
        for id in done {
            self.leave(id, End::Done("drained"));
        }
    }

    /// Lets every lane go whose pair is not answered yet: nothing was sent on it.
    pub(super) fn drop_unanswered(&mut self) {
        let is_unanswered =
            |(_, lane): &(LaneId, &Lane)| matches!(lane.stage, Stage::Waiting | Stage::Asked);
        let all: Vec<_> = self.lanes.iter().filter(is_unanswered).map(|(id, _)| id).collect();
        for id in all {
            self.leave(id, End::Missed);
        }
    }

    /// Looks after lanes whose time has come.
    pub(super) fn look_after(&mut self) {
        let config = self.gate.config();
        let limits = &config.limits;
        let idle = |pair: &DomainPair| match self.side {
            Side::Peer => decide(&config, pair, Direction::Outbound).idle_limit(limits),
            Side::Legacy => limits.idle,
        };
        let now = Instant::now();
        let bidirectional = self.live.machine.is_bidirectional();
        let due_of = |lane: &Lane| {
            let used = if bidirectional { lane.used.max(self.came) } else { lane.used };
            used + idle(lane.route.pair())
        };
        // What comes for a pair is looked after by its lane: none goes before the others.
        let all_due =
            self.lanes.iter().map(|(_, lane)| due_of(lane)).max().filter(|_| bidirectional);
        let may_go = |(id, lane): (LaneId, &Lane)| match lane.stage {
            Stage::Open => self.lanes.is_idle(id),
            Stage::Waiting | Stage::Asked => false,
            Stage::Leaving(_) => true,
        };
        let all_may_go = !bidirectional || self.lanes.iter().all(may_go);
        let mut next = now + limits.idle;
        let mut gone = Vec::new();
        let mut expired = Vec::new();
        for (id, lane) in self.lanes.iter() {
            let (due, end) = match lane.stage {
                Stage::Open => (all_due.unwrap_or_else(|| due_of(lane)), End::Done("idle")),
                Stage::Waiting => continue,
                Stage::Asked => {
                    let detail = "no answer to our dialback key in time";
                    let failure = Failure::new(FailureKind::Timeout, detail);
                    (lane.used + limits.connect, End::Refused(failure))
                }
                Stage::Leaving(_) => continue,
            };
            let stays = matches!(lane.stage, Stage::Open) && !all_may_go;
            if due <= now && self.lanes.is_idle(id) && !stays {
                gone.push((id, end));
                continue;
            }
            next = next.min(due.max(now + SOON));
            if let Some(renewal) = lane.renewal {
                if renewal <= now {
                    expired.push(id);
                } else {
                    next = next.min(renewal);
                }
            }
        }
        let is_asked = |(id, _): &(LaneId, End)| {
            self.lanes.get(*id).is_some_and(|lane| matches!(lane.stage, Stage::Asked))
        };
        if gone.iter().any(is_asked) {
            self.keep_apart();
            // Those that were not asked for yet need not wait for the same.
            let waits = |(id, lane): (LaneId, &Lane)| {
                matches!(lane.stage, Stage::Waiting).then_some((id, End::Missed))
            };
            gone.extend(self.lanes.iter().filter_map(waits));
        }
        for (id, end) in gone {
            self.leave(id, end);
        }
        for id in expired {
            self.renew(id);
        }
        self.check = next;
        self.ask();
        self.count();
    }

    /// Has the proof of a lane found out again, if it has expired (protocol §9.5).
    fn renew(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get(id) else { return };
        let Some(proof) = &lane.proof else { return };
        if !lane.doubted {
            let Some(expires) = proof.expires() else { return };
            if !expiry::is_past(expires) {
                self.lanes.look_at(id, Some(expiry::look_at(expires)));
                return;
            }
        }
        let (Some(endpoint), Some(tls)) = (self.live.endpoint.clone(), self.live.machine.tls())
        else {
            return;
        };
        let (pair, before) = (lane.route.pair().clone(), proof.prooftype());
        let (gate, chain) = (Arc::clone(&self.gate), Arc::clone(tls.peer_chain()));
        let trust = gate.trust();
        self.lanes.look_at(id, None);
        self.renewals.spawn(async move {
            let outcome = dial::prove_again(&gate, &pair, &endpoint, &chain, before).await;
            Renewal { lane: id, trust, outcome }
        });
    }

    pub(super) fn renewed(&mut self, Renewal { lane: id, trust, outcome }: Renewal) {
        let Some(lane) = self.lanes.get(id) else { return };
        let pair = lane.route.pair().clone();
        self.check = Instant::now();
        if trust != self.gate.trust() {
            // By what certificates were judged before a reload.
            self.lanes.look_at(id, Some(self.check));
            return;
        }
        match outcome {
            Ok(proof) => {
                debug!(pair = %pair, prooftype = proof.prooftype().as_str(), "proof renewed");
                self.live.machine.renewed(&pair, &proof);
                self.gate.remember(&self.sight(&pair, Some(&proof)));
                self.lanes.prove(id, proof);
            }
            // Without an answer nobody knows; but not for ever.
            Err(failure)
                if failure.kind() == FailureKind::Resolution
                    && lane.unanswered < expiry::UNANSWERED_MAX =>
            {
                debug!(pair = %pair, detail = %failure, "proof not renewed yet");
                self.lanes.look_again_at(id, Instant::now() + expiry::UNANSWERED_WAIT);
            }
            Err(failure) => {
                info!(pair = %pair, detail = %failure, "domain pair withdrawn, its proof has expired");
                self.leave(id, End::Withdrawn(failure.telling(StreamCondition::Reset)));
            }
        }
    }

    /// The peer does not bear that pairs join: it ends the stream over them, or has no answer.
    pub(super) fn keep_apart(&self) {
        if let Some(endpoint) = &self.live.endpoint {
            self.gate.sharing().keep_apart(endpoint.address);
        }
    }

    pub(super) fn leave(&mut self, id: LaneId, end: End) {
        if let Some(lane) = self.lanes.get(id) {
            let pair = lane.route.pair();
            // An answer that comes yet admits nothing.
            self.live.machine.forget(pair);
            if matches!(end, End::Denied(_) | End::Withdrawn(_)) {
                // Nothing looks after the proof of what comes but the lane.
                self.live.machine.withdraw(pair);
                if let Some(shown) = &self.live.shown {
                    shown.withdrawn(&pair.reversed());
                }
            }
        }
        self.parting = end.clone();
        self.lanes.leave(id, end);
    }

    /// Judges all pairs by the configuration of now (protocol AB-2).
    pub(super) fn judge(&mut self) {
        self.intake.reconfigure();
        let trust = self.gate.trust();
        if std::mem::replace(&mut self.trust, trust) != trust {
            self.lanes.doubt_all();
        }
        // Their times may be others now.
        self.check = Instant::now();
        let verdicts: Vec<_> = self
            .lanes
            .iter()
            .filter(|(_, lane)| !matches!(lane.stage, Stage::Leaving(_)))
            .filter_map(|(id, lane)| {
                let verdict = self.still_allowed(lane.route.pair(), lane.proof.as_ref());
                verdict.err().map(|failure| (id, failure))
            })
            .collect();
        let config = self.gate.config();
        let bounds: Vec<_> = self
            .lanes
            .iter()
            .map(|(id, lane)| (id, largest(&config, self.side, lane.route.pair(), &self.live)))
            .collect();
        for (id, largest) in bounds {
            self.lanes.bound(id, largest);
        }
        let (tls, address) = (self.tls(), self.live.address());
        for pair in self
            .live
            .machine
            .retain_inbound(|grant| may_come(&config, grant.pair(), address, tls, grant.proof()))
        {
            info!(pair = %pair, "domain pair withdrawn by policy");
            if let Some(shown) = &self.live.shown {
                shown.withdrawn(&pair);
            }
        }
        self.live
            .machine
            .retain_asked(|pair, proof| may_come(&config, &pair.reversed(), address, tls, proof));
        self.bound();
        self.show_inbound(|_| true);
        for (id, failure) in verdicts {
            self.leave(id, End::Denied(failure.telling(StreamCondition::PolicyViolation)));
        }
        if self.has_moved() {
            self.leave_all("the legacy server is elsewhere now");
        }
        self.count();
    }

    /// Whether the legacy server that the stream goes to is at another address now, or another one
    /// serves the domain.
    fn has_moved(&self) -> bool {
        let config = self.gate.config();
        let now = config.local_domains.get(&self.first.target);
        let then = self.live.legacy.as_ref();
        then.zip(now).is_some_and(|(then, now)| then.address != now.address)
    }

    /// All pairs find another stream, when what is on its way is written.
    pub(super) fn leave_all(&mut self, why: &'static str) {
        let all: Vec<LaneId> = self.lanes.iter().map(|(id, _)| id).collect();
        for id in all {
            self.leave(id, End::Done(why));
        }
    }

    /// The operator sees what may come in, too: these of the pairs.
    pub(super) fn show_inbound(&self, which: impl Fn(&DomainPair) -> bool) {
        let Some(shown) = &self.live.shown else { return };
        for grant in self.live.machine.inbound().filter(|grant| which(grant.pair())) {
            shown.authorized(grant.pair(), Flow::In, Some(grant.proof()));
        }
    }

    pub(super) fn still_allowed(
        &self,
        pair: &DomainPair,
        proof: Option<&Proof>,
    ) -> Result<(), Failure> {
        let config = self.gate.config();
        let local = match self.side {
            Side::Peer => &pair.sender,
            Side::Legacy => &pair.target,
        };
        if !config.local_domains.contains_key(local) {
            return Err(Failure::new(FailureKind::Denied, format!("{local} is no longer served")));
        }
        // The way to the legacy server stays open for errors; its stanzas were judged as they came.
        if self.side == Side::Legacy {
            return Ok(());
        }
        let decision = decide(&config, pair, Direction::Outbound);
        rules::allowed_by(&decision, &pair.target)?;
        // where a rule sends us we go
        if let (Some(address), None) = (self.live.address(), decision.connect()) {
            rules::address_allowed(&config, address)?;
        }
        self.gate.suffices(&decision, &self.sight(pair, proof))
    }

    /// What the stream has shown of a pair's target.
    pub(super) fn sight<'a>(&'a self, pair: &'a DomainPair, proof: Option<&'a Proof>) -> Sight<'a> {
        Sight { proof, ..self.live.sight(pair, Direction::Outbound) }
    }

    pub(super) fn tls(&self) -> Option<TlsVersion> {
        self.live.machine.tls().map(TlsFacts::version)
    }
}

/// The proof of a lane was found out again, or could not be.
pub(super) struct Renewal {
    lane: LaneId,
    /// What certificates were judged by; see `Gate::trust`.
    trust: u64,
    outcome: Result<Proof, Failure>,
}

/// Lanes are looked at no more often than this.
const SOON: Duration = Duration::from_secs(1);
