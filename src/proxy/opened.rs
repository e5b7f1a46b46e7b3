//! A stream that we opened, from negotiation to end: carries the stanzas of its domain pairs, takes
//! further pairs aboard, and gives back what it could not write.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Buf;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tracing::{debug, info};

use super::{
    dial::{self, Live},
    expiry,
    gate::Gate,
    intake::Intake,
    lanes::{Call, End, LaneId, Lanes, Stage},
    rules::{decide, may_come},
    sharing::{Join, Registered},
};
use crate::{
    auth::{Proof, TlsFacts},
    config::model::TlsVersion,
    net::wire::Event,
    stream::{Failure, FailureKind, Fault, Step},
    xml::{Span, Tag, Token, TokenKind, writer},
    xmpp::{Direction, DomainPair, Side, StreamCondition},
};

/// Requests for further pairs that wait for an answer at once; peers bound what they have pending.
const ASKED_MAX: usize = 16;
/// How long last words may take.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

struct Opened {
    gate: Arc<Gate>,
    side: Side,
    /// The pair that the stream was opened for.
    first: DomainPair,
    live: Live,
    lanes: Lanes,
    registered: Option<Registered>,
    /// Stanzas that come, on a bidirectional stream.
    intake: Intake,
    /// When the last of them came.
    came: Instant,
    /// Pairs that wait to be asked for.
    unasked: VecDeque<LaneId>,
    stopping: bool,
    /// Why the last pair left.
    parting: End,
    /// Proofs that are being looked at.
    renewals: JoinSet<(LaneId, Result<Proof, Failure>)>,
    /// When lanes are to be looked at.
    check: Instant,
}

/// Starts the task of a stream that was opened for `join`'s pair. None if that is on another stream
/// by now.
pub(super) fn launch(gate: &Arc<Gate>, side: Side, live: Live, join: Join) -> Option<()> {
    let mut lanes = Lanes::new();
    let registered = match side {
        Side::Peer => Registered::new(gate, &live, &join, lanes.handle().clone()),
        Side::Legacy => None,
    };
    let mut boarding = join.into_boarding()?;
    boarding.proof.clone_from(&live.proof);
    let first = boarding.route.pair().clone();
    let lane = lanes.board(boarding);
    lanes.open(lane);
    gate.routes().opened(side, &first);
    let mut intake = Intake::new(gate, side.other());
    let mut live = live;
    if let Some(header) = live.frames.framer().header() {
        intake.set_lang(header);
    }
    let opened = Opened {
        gate: Arc::clone(gate),
        side,
        first,
        live,
        lanes,
        registered,
        intake,
        came: Instant::now(),
        unasked: VecDeque::new(),
        stopping: false,
        parting: End::Missed,
        renewals: JoinSet::new(),
        check: Instant::now(),
    };
    gate.routes_to(side).spawn(opened.run());
    Some(())
}

impl Opened {
    async fn run(mut self) {
        let end = self.carry().await;
        self.renewals.shutdown().await;
        // Nobody joins any more.
        self.registered = None;
        // What was admitted goes on its way.
        loop {
            self.intake.delivered().await;
            self.intake.hand_over(self.live.wire.input());
            if !self.intake.is_busy() {
                break;
            }
        }
        let Self { lanes, mut live, side, first, gate, intake, .. } = self;
        let pairs = lanes.len();
        let whole = lanes.end(&mut live.wire, &end);
        let (reason, failure) = match end {
            End::Done(reason) => (reason, None),
            End::Missed => ("missed", None),
            End::Broken(failure)
            | End::Denied(failure)
            | End::Refused(failure)
            | End::Withdrawn(failure) => (failure.reason(), Some(failure)),
        };
        info!(
            side = side.as_str(),
            pair = %first,
            pairs,
            stanzas = live.machine.is_bidirectional().then(|| intake.stanzas()),
            reason,
            detail = failure.as_ref().map(tracing::field::display),
            "stream closed"
        );
        // Inside a stanza there is nothing more to say.
        if whole {
            let farewell = match &failure {
                Some(failure) => live.farewell(failure),
                None => writer::FOOTER.as_bytes().to_vec(),
            };
            live.wire.put(&farewell);
        }
        // In the background: what waits need not wait for a neighbour that may be dead.
        gate.tracker().spawn(live.wire.close(CLOSE_WAIT));
    }

    async fn carry(&mut self) -> End {
        let gate = Arc::clone(&self.gate);
        let mut generation = gate.subscribe();
        let limits = gate.config().limits.clone();
        // The configuration may have changed while the stream was opened.
        self.judge();
        // Stanzas may stand right behind what opened it.
        if let Err(failure) = self.read() {
            return End::Broken(failure);
        }
        loop {
            self.lanes.settle(self.live.wire.written_total());
            self.lanes.fill(&mut self.live.wire);
            if self.stopping {
                self.drain();
            }
            if self.lanes.is_leaving() {
                return self.parting.clone();
            }
            let stalls = self.live.wire.stalls_at(limits.write_stall);
            let deadline = stalls.map_or(self.check, |stalls| stalls.min(self.check));
            let busy = self.intake.is_busy();
            tokio::select! {
                event = self.live.wire.event_reading(!busy) => match event {
                    Ok(Event::Read) => if let Err(failure) = self.read() {
                        return End::Broken(failure);
                    },
                    Ok(Event::Written) => {}
                    Ok(Event::Eof) => return End::Broken(Failure::new(
                        FailureKind::Stream, "the other end closed the connection")),
                    Err(error) => return End::Broken(Failure::new(
                        FailureKind::Stream, error.to_string())),
                },
                () = self.intake.delivered(), if busy => if let Err(failure) = self.read() {
                    return End::Broken(failure);
                },
                Some(call) = self.lanes.call() => {
                    self.call(call);
                    // What waits goes into the same record and the same write.
                    while let Some(call) = self.lanes.next_call() {
                        self.call(call);
                    }
                }
                Some(renewal) = self.renewals.join_next(), if !self.renewals.is_empty() => {
                    if let Ok((lane, outcome)) = renewal {
                        self.renewed(lane, outcome);
                    }
                }
                () = gate.stopping(self.side), if !self.stopping => self.stopping = true,
                changed = generation.changed() => if changed.is_ok() {
                    self.judge();
                },
                () = sleep_until(deadline) => {
                    if stalls.is_some_and(|stalls| stalls <= Instant::now()) {
                        return End::Broken(Failure::new(
                            FailureKind::Timeout, "the other end takes no bytes"));
                    }
                    self.look_after();
                }
            }
        }
    }

    fn call(&mut self, call: Call) {
        match call {
            Call::Stanzas(lane, queued) => self.lanes.push(lane, queued),
            Call::Board(boarding) => {
                let lane = self.lanes.board(boarding);
                self.check = Instant::now();
                // Several may have joined at the same time.
                let full = self.lanes.len() > self.gate.config().limits.pairs_per_stream;
                if self.stopping || full {
                    self.count();
                    self.leave(lane, End::Missed);
                    return;
                }
                self.unasked.push_back(lane);
                self.ask();
                self.count();
            }
        }
    }

    /// Asks for the pairs that wait for it, a few at a time.
    fn ask(&mut self) {
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
            }
        }
        self.say(steps);
    }

    fn say(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Send(text) => self.live.wire.put(&text),
                Step::Answered(pair, outcome) => self.answered(&pair, outcome),
                // Of the time before the stream was open.
                Step::StartTls
                | Step::Restart
                | Step::Judge
                | Step::Opened(_)
                | Step::Verified(_) => {}
            }
        }
    }

    fn answered(&mut self, pair: &DomainPair, outcome: Result<(), Failure>) {
        let Some(id) = self.lanes.answered(pair) else { return };
        match outcome {
            Ok(()) => {
                self.lanes.open(id);
                self.gate.routes().opened(self.side, pair);
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
            }
            Err(failure) => self.leave(id, End::Refused(failure)),
        }
        self.ask();
        self.count();
    }

    fn count(&self) {
        if let Some(registered) = &self.registered {
            registered.carries(self.lanes.len());
        }
    }

    /// Takes what came in out of the input, or as much as routes have room for.
    fn read(&mut self) -> Result<(), Failure> {
        while !self.intake.is_busy() {
            let at = self.intake.offset();
            let rest = self.live.wire.input().get(at..).unwrap_or_default();
            let token = self.live.frames.framer().next(rest);
            match token.map_err(|fault| Failure::malformed(&Fault::xml(fault)))? {
                None => {
                    self.intake.hand_over(self.live.wire.input());
                    break;
                }
                Some(Token { len, kind: TokenKind::Element(tag) }) if tag.name.is_stanza() => {
                    self.stanza(&tag, at, len)?;
                }
                Some(token) => {
                    self.intake.hand_over(self.live.wire.input());
                    self.token(token)?;
                }
            }
        }
        self.live.wire.shrink();
        Ok(())
    }

    /// Admits the stanza that stands at `at` of the input.
    fn stanza(&mut self, tag: &Tag, at: usize, len: usize) -> Result<(), Failure> {
        let Live { wire, frames, machine, .. } = &mut self.live;
        let bytes = wire.input().get(at..at + len).unwrap_or_default();
        let text = |span: Option<Span>| span.map(|span| span.text(bytes)).unwrap_or_default();
        let grant = machine.stanza(&text(tag.from), &text(tag.to))?;
        match (grant, frames.framer().header()) {
            (Some(grant), Some(header)) => {
                self.intake.stanza(wire.input(), header, tag, len, grant);
                self.came = Instant::now();
            }
            // Without a grant nothing is batched, so it stands at the front.
            _ => wire.input().advance(len),
        }
        Ok(())
    }

    /// Takes a token that is no stanza from the front of the input.
    fn token(&mut self, token: Token) -> Result<(), Failure> {
        let Live { wire, frames, machine, .. } = &mut self.live;
        let mut steps = Vec::new();
        let outcome = match token.kind {
            TokenKind::Declaration | TokenKind::Space => Ok(()),
            TokenKind::Header(header) => machine.header(&header, &mut steps),
            TokenKind::Element(tag) => {
                let bytes = wire.input().get(..token.len).unwrap_or_default();
                let element = frames.parse(bytes).map_err(|fault| Failure::malformed(&fault))?;
                machine.element(tag.name, &element, &mut steps)
            }
            TokenKind::Footer => Err(machine.footer()),
        };
        wire.input().advance(token.len);
        if outcome.is_err() {
            self.blame();
        }
        self.say(steps);
        outcome
    }

    /// The peer ends the stream. Did it because of a pair that joined?
    fn blame(&self) {
        if self.lanes.outstanding() > 0
            && let Some(endpoint) = &self.live.endpoint
        {
            self.gate.sharing().keep_apart(endpoint.address);
        }
    }

    /// Lets every lane go that has nothing to write.
    fn drain(&mut self) {
        let idle = |id| self.lanes.is_idle(id);
        let done: Vec<_> = self
            .lanes
            .iter()
            .filter(|(id, lane)| match lane.stage {
                Stage::Waiting | Stage::Asked => true,
                Stage::Open => idle(*id),
                Stage::Leaving(_) => false,
            })
            .map(|(id, lane)| (id, matches!(lane.stage, Stage::Open)))
            .collect();
        for (id, open) in done {
            self.leave(id, if open { End::Done("drained") } else { End::Missed });
        }
    }

    /// Looks after lanes whose time has come.
    fn look_after(&mut self) {
        let config = self.gate.config();
        let limits = &config.limits;
        let idle = |pair: &DomainPair| match self.side {
            Side::Peer => decide(&config, pair, Direction::Outbound).idle_limit(limits),
            Side::Legacy => limits.idle,
        };
        let now = Instant::now();
        let mut next = now + limits.idle;
        let mut gone = Vec::new();
        let mut expired = Vec::new();
        for (id, lane) in self.lanes.iter() {
            let (due, end) = match lane.stage {
                Stage::Open if self.live.machine.is_bidirectional() => {
                    (lane.used.max(self.came) + idle(lane.route.pair()), End::Done("idle"))
                }
                Stage::Open => (lane.used + idle(lane.route.pair()), End::Done("idle")),
                Stage::Waiting => continue,
                Stage::Asked => {
                    let detail = "no answer to our dialback key in time";
                    let failure = Failure::new(FailureKind::Timeout, detail);
                    (lane.used + limits.connect, End::Refused(failure))
                }
                Stage::Leaving(_) => continue,
            };
            if due <= now && self.lanes.is_idle(id) {
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
        for (id, end) in gone {
            if let Some(lane) = self.lanes.get(id) {
                self.live.machine.forget(lane.route.pair());
            }
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
        let Some(expires) = lane.proof.as_ref().and_then(Proof::expires) else { return };
        if !expiry::is_past(expires) {
            self.lanes.look_at(id, Some(expiry::look_at(expires)));
            return;
        }
        let (Some(endpoint), Some(tls)) = (self.live.endpoint.clone(), self.live.machine.tls())
        else {
            return;
        };
        let pair = lane.route.pair().clone();
        let (gate, chain) = (Arc::clone(&self.gate), Arc::clone(tls.peer_chain()));
        self.lanes.look_at(id, None);
        self.renewals
            .spawn(async move { (id, dial::prove_again(&gate, &pair, &endpoint, &chain).await) });
    }

    fn renewed(&mut self, id: LaneId, outcome: Result<Proof, Failure>) {
        let Some(lane) = self.lanes.get(id) else { return };
        let pair = lane.route.pair().clone();
        self.check = Instant::now();
        match outcome {
            Ok(proof) => {
                debug!(pair = %pair, prooftype = proof.prooftype().as_str(), "proof renewed");
                self.live.machine.renewed(&pair, &proof);
                self.lanes.prove(id, proof);
            }
            // Without an answer nobody knows; but not for ever.
            Err(failure)
                if failure.kind() == FailureKind::Resolution
                    && lane.unanswered < UNANSWERED_MAX =>
            {
                debug!(pair = %pair, detail = %failure, "proof not renewed yet");
                self.lanes.look_again_at(id, Instant::now() + UNANSWERED_WAIT);
            }
            Err(failure) => {
                info!(pair = %pair, detail = %failure, "domain pair withdrawn, its proof has expired");
                let reversed = pair.reversed();
                self.live.machine.retain_inbound(|grant| *grant.pair() != reversed);
                self.leave(id, End::Withdrawn(failure.telling(StreamCondition::Reset)));
            }
        }
    }

    fn leave(&mut self, id: LaneId, end: End) {
        self.parting = end.clone();
        self.lanes.leave(id, end);
    }

    /// Judges all pairs by the configuration of now (protocol AB-2).
    fn judge(&mut self) {
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
        let (tls, address) = (self.tls(), self.live.address());
        for pair in self
            .live
            .machine
            .retain_inbound(|grant| may_come(&config, grant.pair(), address, tls, grant.proof()))
        {
            info!(pair = %pair, "domain pair withdrawn by policy");
        }
        for (id, failure) in verdicts {
            self.leave(id, End::Denied(failure.telling(StreamCondition::PolicyViolation)));
        }
        self.count();
    }

    fn still_allowed(&self, pair: &DomainPair, proof: Option<&Proof>) -> Result<(), Failure> {
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
        dial::allowed(&config, pair, Direction::Outbound)?;
        let decision = decide(&config, pair, Direction::Outbound);
        // where a rule sends us we go
        if let (Some(address), None) = (self.live.address(), decision.connect()) {
            dial::address_allowed(&config, address)?;
        }
        dial::sufficient(&decision, self.tls(), proof)
    }

    fn tls(&self) -> Option<TlsVersion> {
        self.live.machine.tls().map(TlsFacts::version)
    }
}

/// Lanes are looked at no more often than this.
const SOON: Duration = Duration::from_secs(1);
/// How long to wait where DNS did not say whether a proof still holds,
const UNANSWERED_WAIT: Duration = Duration::from_secs(30);
/// and how often.
const UNANSWERED_MAX: u32 = 5;
