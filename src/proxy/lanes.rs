//! The outgoing half of a stream: the domain pairs that it carries, a lane for each, and what of
//! their stanzas is written. Lanes take turns, so that a busy pair does not hold up the others;
//! each keeps its own order (RFC 6120 §10.1).

mod acks;
mod ending;

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
    sync::{Arc, Weak},
};

use futures_channel::mpsc;
use rustls::pki_types::CertificateDer;
use tokio::{sync::oneshot, time::Instant};

use self::acks::Acks;
pub(super) use self::ending::Ended;
use super::{
    expiry,
    live::{Flow, LiveStream, Meter},
    pieces,
    route::{Queued, Route},
    shared_task::{SharedTask, Turn},
};
use crate::{
    auth::{Proof, ledger::Routable},
    net::wire::Wire,
    stream::Failure,
    xmpp::DomainPair,
};

/// Names a lane of one stream.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct LaneId(u64);

/// Spreads numbers that we count ourselves: nobody else has a say in them.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// What routes want of a stream. What waits in the mailbox is bounded by the routes: each lets in
/// only so many bytes.
#[derive(Debug)]
pub(super) enum Call {
    /// Carry one more pair.
    Board(Box<Boarding>),
    /// Stanzas of a lane.
    Stanzas(LaneId, Box<Queued>),
}

/// Where calls are put. It holds no memory while nothing is in it, for most streams are silent.
#[derive(Clone, Debug)]
pub(super) struct Mailbox {
    calls: mpsc::UnboundedSender<Call>,
    /// The task that looks into it.
    task: Weak<SharedTask>,
}

/// A route that wants its pair carried.
#[derive(Debug)]
pub(super) struct Boarding {
    /// The route.
    pub(super) route: Arc<Route>,
    /// What proves the pair's target on this connection.
    pub(super) proof: Option<Proof>,
    /// The certificates that this connection has shown, where it was found among others.
    pub(super) chain: Option<Arc<[CertificateDer<'static>]>>,
    /// What certificates were judged by when that was found out; see `Gate::trust`.
    pub(super) trust: u64,
    /// Where the route waits for the end.
    pub(super) back: oneshot::Sender<Returned>,
}

/// A pair is carried no more; what was not written stands in its route's queue again.
#[derive(Debug)]
pub(super) struct Returned {
    /// Why.
    pub(super) end: End,
    /// Stanzas were wholly written.
    pub(super) progress: bool,
}

/// Why a pair is carried no more.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// Nothing went over it for long, or all is written and nothing more will come.
    Done(&'static str),
    /// The stream broke.
    Broken(Failure),
    /// Policy withdrew the pair.
    Denied(Failure),
    /// The other end does not take the pair on this stream.
    Refused(Failure),
    /// This stream proves the pair's target no more; another one may.
    Withdrawn(Failure),
    /// The stream ended, or ends, before the pair was on it.
    Missed,
}

/// The lanes of one stream.
#[derive(Debug)]
pub(super) struct Lanes {
    handle: Mailbox,
    calls: mpsc::UnboundedReceiver<Call>,
    /// Taken out of the mailbox and not looked at yet.
    boarding: VecDeque<Box<Boarding>>,
    lanes: HashMap<LaneId, Box<Lane>, BuildHasherDefault<Spread>>,
    last: u64,
    /// When stanzas last went over any lane.
    used: Instant,
    /// Lanes whose pairs were asked for.
    asked: HashMap<DomainPair, LaneId>,
    /// Lanes with something to write, each once, in the order of their turns.
    turns: VecDeque<LaneId>,
    /// Put on the wire and not known to be written: where each ends in the output.
    writing: VecDeque<(u64, LaneId, Box<Queued>)>,
    /// With stream management: what is put on the wire and not acknowledged, in place of `writing`.
    acks: Option<Box<Acks>>,
    /// Behind the end of the connection: what nobody knows of whether it was written.
    uncertain: Vec<Routable>,
    /// Stanzas of others that were delivered and are not counted yet.
    delivered: u64,
    live: Option<LiveStream>,
}

/// One pair on one stream.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) route: Arc<Route>,
    pub(super) proof: Option<Proof>,
    pub(super) stage: Stage,
    /// Bytes of the largest stanza that may go over it.
    largest: usize,
    /// When stanzas last went over it, or when it came aboard.
    pub(super) used: Instant,
    /// When its proof is to be looked at; none while that is done, and without one that expires.
    pub(super) renewal: Option<Instant>,
    /// Its proof may mean nothing any more, though it has not expired.
    pub(super) doubted: bool,
    /// How often in a row there was no answer when it was looked at.
    pub(super) unanswered: u32,
    back: oneshot::Sender<Returned>,
    waiting: VecDeque<Box<Queued>>,
    in_flight: usize,
    progress: bool,
    /// Counts what is written.
    meter: Option<Arc<Meter>>,
}

/// How far a pair has come on the stream.
#[derive(Debug)]
pub(super) enum Stage {
    /// It waits for its turn to be asked for.
    Waiting,
    /// It was asked for.
    Asked,
    /// Stanzas flow.
    Open,
    /// Nothing more is taken; what is on its way is still written.
    Leaving(End),
}

impl Boarding {
    /// The stream does not take the pair now, which is not the fault of the pair.
    fn miss(self) {
        // A route that is gone wants nothing any more.
        let _ = self.back.send(Returned { end: End::Missed, progress: true });
    }
}

impl Mailbox {
    /// Whether both are the same stream's.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.calls.same_receiver(&other.calls)
    }

    /// Puts a call into it. The stream's task may be run with what is returned, if no lock is held
    /// that it could want.
    ///
    /// # Errors
    /// The call, where the stream is gone.
    pub(super) fn put(&self, call: Call) -> Result<Turn, Call> {
        let turn = SharedTask::turn(&self.task);
        match self.calls.unbounded_send(call) {
            Ok(()) => Ok(turn),
            Err(unsent) => Err(unsent.into_inner()),
        }
    }
}

impl Lanes {
    /// No lanes; `live` is what the operator sees of the stream.
    pub(super) fn new(live: Option<LiveStream>) -> Self {
        let (sender, calls) = mpsc::unbounded();
        Self {
            handle: Mailbox { calls: sender, task: Weak::new() },
            calls,
            boarding: VecDeque::new(),
            lanes: HashMap::default(),
            last: 0,
            used: Instant::now(),
            asked: HashMap::new(),
            turns: VecDeque::new(),
            writing: VecDeque::new(),
            acks: None,
            uncertain: Vec::new(),
            delivered: 0,
            live,
        }
    }

    /// Those of a stream that `task` carries.
    pub(super) fn carried_by(mut self, task: &Arc<SharedTask>) -> Self {
        self.handle.task = Arc::downgrade(task);
        self
    }

    /// The stream's mailbox.
    pub(super) fn handle(&self) -> &Mailbox {
        &self.handle
    }

    /// Waits for a call. Cancel-safe.
    pub(super) async fn call(&mut self) -> Option<Call> {
        match self.boarding.pop_front() {
            Some(boarding) => Some(Call::Board(boarding)),
            None => self.calls.recv().await.ok(),
        }
    }

    /// A call that is there already.
    pub(super) fn next_call(&mut self) -> Option<Call> {
        match self.boarding.pop_front() {
            Some(boarding) => Some(Call::Board(boarding)),
            None => self.calls.try_recv().ok(),
        }
    }

    /// A call while there is no connection: stanzas wait with their lane, and who would come aboard
    /// finds another way.
    pub(super) fn put_aside(&mut self, call: Call) {
        match call {
            Call::Stanzas(id, queued) => self.push(id, queued),
            Call::Board(boarding) => boarding.miss(),
        }
    }

    /// Takes the stanzas out of the mailbox.
    fn fetch(&mut self) {
        while let Ok(call) = self.calls.try_recv() {
            match call {
                Call::Stanzas(id, queued) => self.push(id, queued),
                Call::Board(boarding) => self.boarding.push_back(boarding),
            }
        }
    }

    /// When stanzas last went over any lane.
    pub(super) fn used(&self) -> Instant {
        self.used
    }

    pub(super) fn len(&self) -> usize {
        self.lanes.len()
    }

    pub(super) fn get(&self, id: LaneId) -> Option<&Lane> {
        self.lanes.get(&id).map(|lane| &**lane)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (LaneId, &Lane)> {
        self.lanes.iter().map(|(id, lane)| (*id, &**lane))
    }

    /// The pair is answered: the lane that it was asked for on behalf of.
    pub(super) fn answered(&mut self, pair: &DomainPair) -> Option<LaneId> {
        self.asked.remove(pair)
    }

    /// How many answers are waited for.
    pub(super) fn outstanding(&self) -> usize {
        self.asked.len()
    }

    /// Takes a pair aboard that is not yet asked for.
    pub(super) fn board(&mut self, boarding: Boarding) -> LaneId {
        self.last += 1;
        let id = LaneId(self.last);
        let Boarding { route, proof, back, .. } = boarding;
        self.lanes.insert(
            id,
            Box::new(Lane {
                route,
                proof,
                stage: Stage::Waiting,
                largest: usize::MAX,
                used: Instant::now(),
                renewal: None,
                doubted: false,
                unanswered: 0,
                back,
                waiting: VecDeque::new(),
                in_flight: 0,
                progress: false,
                meter: None,
            }),
        );
        id
    }

    /// The pair is asked for.
    pub(super) fn ask(&mut self, id: LaneId) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.stage = Stage::Asked;
            lane.used = Instant::now();
            self.asked.insert(lane.route.pair().clone(), id);
        }
    }

    /// What proves the pair's target from now on.
    pub(super) fn prove(&mut self, id: LaneId, proof: Proof) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.renewal = proof.expires().map(expiry::look_at);
            lane.unanswered = 0;
            lane.doubted = false;
            if let Some(live) = &self.live {
                live.authorized(lane.route.pair(), Flow::Out, Some(&proof));
            }
            lane.proof = Some(proof);
        }
    }

    /// The proof of every lane that rests on a certificate is to be looked at now.
    pub(super) fn doubt_all(&mut self) {
        self.lanes.values_mut().for_each(|lane| lane.doubt());
    }

    /// The same for one lane.
    pub(super) fn doubt(&mut self, id: LaneId) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.doubt();
        }
    }

    /// The proof of the lane is looked at then; none while that is done.
    pub(super) fn look_at(&mut self, id: LaneId, when: Option<Instant>) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.renewal = when;
        }
    }

    /// Nobody knows whether the proof of the lane still holds; it is looked at again then.
    pub(super) fn look_again_at(&mut self, id: LaneId, when: Instant) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.renewal = Some(when);
            lane.unanswered += 1;
        }
    }

    /// The pair may be sent for: what its route holds is taken over.
    pub(super) fn open(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.stage = Stage::Open;
        lane.used = Instant::now();
        if !lane.doubted {
            lane.renewal = lane.proof.as_ref().and_then(Proof::expires).map(expiry::look_at);
        }
        if let Some(live) = &self.live {
            live.authorized(lane.route.pair(), Flow::Out, lane.proof.as_ref());
            lane.meter = Some(live.meter(lane.route.pair()));
        }
        lane.waiting = lane.route.board(id, self.handle.clone());
        if !lane.waiting.is_empty() {
            self.turns.push_back(id);
        }
    }

    /// Stanzas came for a lane.
    pub(super) fn push(&mut self, id: LaneId, queued: Box<Queued>) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        if lane.waiting.is_empty() {
            self.turns.push_back(id);
        }
        lane.waiting.push_back(queued);
    }

    /// Stanzas of more bytes do not go over the lane.
    pub(super) fn bound(&mut self, id: LaneId, largest: usize) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.largest = largest;
        }
    }

    /// Puts as much on the wire as there is room for; gives back what is too large to go.
    #[must_use]
    pub(super) fn fill(&mut self, wire: &mut Wire) -> Vec<Routable> {
        let large = self.put_while(wire, |wire, acks| {
            wire.has_room() && acks.as_ref().is_none_or(|acks| acks.has_room())
        });
        self.ask_for_acks(wire);
        large
    }

    fn put_while(
        &mut self,
        wire: &mut Wire,
        room: impl Fn(&Wire, &Option<Box<Acks>>) -> bool,
    ) -> Vec<Routable> {
        let now = Instant::now();
        let mut large = Vec::new();
        while room(wire, &self.acks)
            && let Some(id) = self.turns.pop_front()
        {
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            let Some(queued) = lane.waiting.pop_front() else { continue };
            let Some(mut queued) = fitting(queued, lane.largest, &mut large) else {
                if !lane.waiting.is_empty() {
                    self.turns.push_back(id);
                }
                continue;
            };
            wire.put_stanzas(queued.stanzas.bytes());
            lane.used = now;
            self.used = now;
            lane.in_flight += 1;
            if !lane.waiting.is_empty() {
                self.turns.push_back(id);
            }
            match &mut self.acks {
                Some(acks) => {
                    // Acknowledgements may take long to come, and have a bound of their own.
                    queued.ease();
                    acks.put(wire.put_total(), id, queued, now);
                }
                None => self.writing.push_back((wire.put_total(), id, queued)),
            }
        }
        large
    }

    /// The same, however much waits.
    #[must_use]
    pub(super) fn fill_up(&mut self, wire: &mut Wire) -> Vec<Routable> {
        self.fetch();
        self.put_while(wire, |_, _| true)
    }

    /// Lets go of what is written; with stream management, of nothing: that is acknowledged.
    pub(super) fn settle(&mut self, written: u64) {
        if let Some(acks) = &mut self.acks {
            acks.written(written);
        }
        while self.writing.front().is_some_and(|(end, ..)| *end <= written) {
            let Some((_, id, queued)) = self.writing.pop_front() else { return };
            self.done(id, &queued);
        }
    }

    /// A batch was delivered.
    fn done(&mut self, id: LaneId, queued: &Queued) {
        self.count(&queued.stanzas, queued.stanzas.stanzas());
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        if let Some(meter) = &lane.meter {
            meter.count(queued.stanzas.stanzas(), queued.stanzas.bytes().len());
        }
        lane.in_flight -= 1;
        lane.progress = true;
        self.release(id);
    }

    /// So many stanzas of a batch were delivered.
    fn count(&mut self, of: &Routable, stanzas: u32) {
        if !of.is_own() {
            self.delivered += u64::from(stanzas);
        }
    }

    /// How many stanzas of others were delivered since this was asked last.
    pub(super) fn take_delivered(&mut self) -> u64 {
        std::mem::take(&mut self.delivered)
    }

    /// The lane comes to its end: nothing more is taken for it, and its route gets it back as soon
    /// as what is on its way is written.
    pub(super) fn leave(&mut self, id: LaneId, end: End) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        if matches!(lane.stage, Stage::Asked) {
            self.asked.remove(lane.route.pair());
        }
        lane.stage = Stage::Leaving(end);
        // From here on stanzas wait in the route again, behind those that are here already.
        lane.route.disembark();
        self.fetch();
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.route.requeue(std::mem::take(&mut lane.waiting));
        let is_in_flight = lane.in_flight > 0;
        if let Some(acks) = self.acks.as_mut().filter(|_| is_in_flight) {
            acks.hurry();
        }
        self.release(id);
    }

    /// Whether nothing is left but lanes that leave.
    pub(super) fn is_leaving(&self) -> bool {
        self.lanes.values().all(|lane| matches!(lane.stage, Stage::Leaving(_)))
    }

    /// Whether the lane has nothing to write.
    pub(super) fn is_idle(&self, id: LaneId) -> bool {
        self.lanes.get(&id).is_none_or(|lane| lane.waiting.is_empty() && lane.in_flight == 0)
    }

    fn release(&mut self, id: LaneId) {
        let leaves = |lane: &Lane| lane.in_flight == 0 && matches!(lane.stage, Stage::Leaving(_));
        if self.lanes.get(&id).is_some_and(|lane| leaves(lane))
            && let Some(lane) = self.lanes.remove(&id)
        {
            if let Some(live) = &self.live {
                live.withdrawn(lane.route.pair());
            }
            lane.give_back(End::Missed);
        }
    }
}

impl Lane {
    fn doubt(&mut self) {
        if self.proof.as_ref().is_some_and(Proof::is_strong) {
            self.doubted = true;
            self.renewal = Some(Instant::now());
        }
    }

    /// Tells the route; a lane that was leaving has its own reason.
    fn give_back(self, end: End) {
        let end = match self.stage {
            Stage::Leaving(own) => own,
            Stage::Waiting => End::Missed,
            Stage::Asked | Stage::Open => end,
        };
        // A route that is gone needs no answer.
        let _ = self.back.send(Returned { end, progress: self.progress });
    }
}

/// The stanzas of a batch that are not too large; the others are put into `large`. Only batches
/// that could hold one are looked into.
fn fitting(queued: Box<Queued>, largest: usize, large: &mut Vec<Routable>) -> Option<Box<Queued>> {
    if queued.stanzas.bytes().len() <= largest {
        return Some(queued);
    }
    let (small, over) = pieces::sorted(&queued.stanzas, largest);
    large.extend(over);
    small.map(|stanzas| queued.only(stanzas))
}

#[cfg(test)]
mod tests;
