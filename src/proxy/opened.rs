//! A stream that we opened, from negotiation to end: carries the stanzas of its domain pairs, takes
//! further pairs aboard, and gives back what it could not write.

mod joining;
mod keeping;
mod managing;
mod reading;
mod resuming;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, info};

use self::keeping::Renewal;
use super::{
    CLOSE_WAIT, DRAIN_WAIT,
    alarm::Alarm,
    dial::Live,
    events::About,
    gate::Gate,
    intake::{Intake, Progress},
    lanes::{End, LaneId, Lanes},
    live::{self, Flow, LiveStream},
    rules,
    shared_task::SharedTask,
    sharing::{Identity, Join, Registered},
    signals::{Signal, Signals},
};
use crate::{
    config::model::Config,
    net::wire::Event,
    ops::metrics::Origin,
    stream::{Failure, FailureKind, Resumption, Sent},
    xml::writer,
    xmpp::{DomainPair, Side, StreamCondition},
};

/// How long stanzas wait at most for the peer to say that the stream can be resumed.
const CONSENT_WAIT: Duration = Duration::from_secs(5);

struct Opened {
    gate: Arc<Gate>,
    side: Side,
    /// The pair that the stream was opened for.
    first: DomainPair,
    live: Box<Live>,
    lanes: Lanes,
    registered: Option<Registered>,
    /// What of ourselves the peer sees.
    identity: Identity,
    /// The language that our header declares.
    lang: Option<Arc<str>>,
    /// The stream can be resumed, if its connection breaks.
    resumption: Option<Resumption>,
    /// Until when the peer may say that before stanzas are sent.
    consents_by: Instant,
    /// Until when it stays without a pair, for those that were on it before it was resumed.
    hold: Option<Instant>,
    /// Stanzas that come, on a bidirectional stream.
    intake: Intake,
    /// When the last of them came.
    came: Instant,
    /// Bytes that a stanza of any of their pairs may have.
    stanza_least: usize,
    /// Pairs that wait to be asked for.
    unasked: VecDeque<LaneId>,
    stopping: bool,
    /// The operator wants it closed.
    is_closed: bool,
    /// The last words are said.
    is_over: bool,
    /// Why the last pair left.
    parting: End,
    /// Proofs that are being looked at.
    renewals: JoinSet<Renewal>,
    /// What certificates proved something by when they were judged.
    trust: u64,
    /// When lanes are to be looked at.
    check: Instant,
}

/// Starts the task of a stream that was opened for `join`'s pair. None if that is on another stream
/// by now.
pub(super) fn launch(gate: &Arc<Gate>, side: Side, live: Box<Live>, join: Join) -> Option<()> {
    let task = SharedTask::new();
    let mut lanes = Lanes::new(live.shown.clone()).carried_by(&task);
    let registered = match side {
        Side::Peer => {
            let (pair, identity) = (join.pair(), join.identity());
            Registered::new(gate, &live, pair, identity, lanes.handle().clone())
        }
        Side::Legacy => None,
    };
    let identity = join.identity().clone();
    let mut boarding = join.into_boarding()?;
    let trust = boarding.trust;
    boarding.proof.clone_from(&live.proof);
    let first = boarding.route.pair().clone();
    let lang = boarding.route.lang().cloned();
    let lane = lanes.board(*boarding);
    lanes.bound(lane, largest(&gate.config(), side, &first, &live));
    if live.machine.is_managed() {
        lanes.manage(Sent::default(), gate.config().limits.unacknowledged);
    }
    lanes.open(lane);
    gate.opened(side, &first);
    let mut intake = Intake::new(gate, side.other(), live.shown.clone());
    let mut live = live;
    if let Some(header) = live.frames.framer().header() {
        intake.set_lang(header);
    }
    let opened = Box::new(Opened {
        gate: Arc::clone(gate),
        side,
        first,
        live,
        lanes,
        registered,
        identity,
        lang,
        resumption: None,
        consents_by: Instant::now() + CONSENT_WAIT,
        hold: None,
        intake,
        came: Instant::now(),
        stanza_least: gate.config().limits.stanza,
        unasked: VecDeque::new(),
        stopping: false,
        is_closed: false,
        is_over: false,
        parting: End::Missed,
        renewals: JoinSet::new(),
        trust,
        check: Instant::now(),
    });
    gate.routes_to(side).spawn(task.host(Box::pin(opened.run())));
    Some(())
}

/// Bytes of the largest stanza of a pair that goes over the stream.
fn largest(config: &Config, side: Side, pair: &DomainPair, live: &Live) -> usize {
    let announced = live.machine.largest_stanza();
    match side {
        Side::Peer => rules::largest(config, pair, announced),
        Side::Legacy => announced.unwrap_or(usize::MAX),
    }
}

impl Opened {
    async fn run(mut self: Box<Self>) {
        let end = loop {
            match self.carry().await {
                Ok(end) => break end,
                Err(failure) => {
                    // Rare and large: it is not to be part of each stream.
                    if let Err(failure) = Box::pin(self.resume(failure)).await {
                        break End::Broken(failure);
                    }
                }
            }
        };
        if matches!(end, End::Broken(_)) && self.lanes.outstanding() > 0 {
            self.keep_apart();
        }
        self.renewals.shutdown().await;
        // Nobody joins any more.
        self.registered = None;
        // What was admitted goes on its way.
        self.intake.finish(self.live.wire.input()).await;
        let lanes = std::mem::replace(&mut self.lanes, Lanes::new(None));
        let pairs = lanes.len();
        let (whole, ended) = lanes.end(&mut self.live.wire, &end);
        self.gate.settle(self.side, ended);
        let (reason, failure) = match end {
            End::Done(reason) => (reason, None),
            End::Missed => ("missed", None),
            End::Broken(failure)
            | End::Denied(failure)
            | End::Refused(failure)
            | End::Withdrawn(failure) => (failure.reason(), Some(failure)),
        };
        // Inside a stanza there is nothing more to say.
        if whole {
            // All that came is ours to answer for (XEP-0198 §4).
            if let Some(receipts) = self.intake.receipts() {
                let received = receipts.received();
                self.answer(received);
            }
            let farewell = match &failure {
                Some(failure) => self.live.farewell(failure),
                None => writer::FOOTER.as_bytes().to_vec(),
            };
            self.live.wire.put(&farewell);
            if failure.is_none() {
                Box::pin(self.read_on()).await;
            }
        }
        let Self { live, side, first, gate, intake, .. } = *self;
        let told = failure.as_ref().and_then(Failure::told);
        gate.metrics().closed(side, Origin::Opened, told.map(StreamCondition::as_str));
        if let Some(shown) = &live.shown {
            let about = About::stream(shown.id(), live::direction(side, Flow::Out)).of(&first);
            gate.events().tell("closed", about, || match &failure {
                Some(failure) => format!("{reason}: {failure}"),
                None => reason.to_owned(),
            });
        }
        info!(
            stream = live.shown.as_ref().map(LiveStream::id),
            side = side.as_str(),
            pair = %first,
            pairs,
            stanzas = live.machine.is_bidirectional().then(|| intake.stanzas()),
            reason,
            detail = failure.as_ref().map(tracing::field::display),
            "stream closed"
        );
        // In the background: what waits need not wait for a neighbour that may be dead.
        gate.tracker().spawn(live.wire.close(CLOSE_WAIT));
    }

    /// Behind the last words: what comes until the other end closes still counts (RFC 6120 §4.4). Not
    /// with acknowledgements, for the other end was told then what counts.
    async fn read_on(&mut self) {
        if !self.live.machine.is_bidirectional() || self.intake.receipts().is_some() {
            return;
        }
        self.is_over = true;
        self.intake.hurry();
        let stop = self.gate.stop_of(self.side);
        let mut changes = self.gate.subscribe();
        let reading = async {
            // What waited for a rate is here already.
            while self.read().is_ok() {
                let busy = self.intake.is_busy();
                tokio::select! {
                    event = self.live.wire.event_reading(!busy) => match event {
                        Ok(Event::Read | Event::Written) => {}
                        Ok(Event::Eof) | Err(_) => return,
                    },
                    _ = self.intake.progress(), if busy => {}
                    Ok(()) = changes.changed() => self.judge(),
                }
            }
        };
        let stopped = async {
            stop.cancelled().await;
            sleep(DRAIN_WAIT).await;
        };
        // Who does not close in time is cut off.
        tokio::select! {
            _ = timeout(CLOSE_WAIT, reading) => {}
            () = stopped => {}
        }
        self.intake.finish(self.live.wire.input()).await;
    }

    /// Carries stanzas until the stream ends.
    ///
    /// # Errors
    /// The connection broke.
    async fn carry(&mut self) -> Result<End, Failure> {
        let gate = Arc::clone(&self.gate);
        let generation = gate.subscribe();
        let mut config = gate.config();
        let closed = self.live.shown.as_ref().map(|shown| shown.end().clone()).unwrap_or_default();
        let mut signals = Signals::new(generation, closed, gate.stop_of(self.side));
        let mut alarm = Alarm::default();
        // The configuration may have changed while the stream was opened.
        self.judge();
        // Stanzas may stand right behind what opened it.
        if let Err(failure) = self.read() {
            return Ok(End::Broken(failure));
        }
        let lost = |kind, detail: String| Err(Failure::new(kind, detail));
        loop {
            self.lanes.settle(self.live.wire.written_total());
            gate.metrics().delivered(self.side, self.lanes.take_delivered());
            let awaits = self.awaits();
            if awaits.is_none() {
                let large = self.lanes.fill(&mut self.live.wire);
                gate.too_large(self.side, &large);
            }
            if self.stopping {
                self.drain();
            }
            if self.lanes.is_leaving() && !self.holds() {
                if !self.lanes.is_owed() {
                    return Ok(self.parting.clone());
                }
                // Nobody joins meanwhile.
                self.registered = None;
            }
            let (busy, owes) = (self.intake.is_busy(), self.intake.owes());
            let stalls = self.live.wire.stalls_at(self.write_stall(&config.limits));
            let keepalive = self.keepalive(&config.limits);
            let patience = self.patience(&config.limits);
            self.lanes.listens(!busy);
            let acks = self.lanes.ack_deadline(patience);
            let deadlines =
                stalls.into_iter().chain(keepalive).chain(acks).chain(self.hold).chain(awaits);
            let deadline = deadlines.fold(self.check, Instant::min);
            tokio::select! {
                event = self.live.wire.event_reading(!busy) => match event {
                    Ok(Event::Read) => {
                        if let Err(failure) = self.read() {
                            return Ok(End::Broken(failure));
                        }
                    }
                    Ok(Event::Written) => {}
                    Ok(Event::Eof) => {
                        return lost(FailureKind::Stream, "the other end closed the connection".into());
                    }
                    Err(error) => return lost(FailureKind::Stream, error.to_string()),
                },
                progress = self.intake.progress(), if busy || owes => match progress {
                    Progress::Ready => if let Err(failure) = self.read() {
                        return Ok(End::Broken(failure));
                    },
                    Progress::Handled(stanzas) => self.answer(stanzas),
                },
                Some(call) = self.lanes.call() => {
                    self.call(call);
                    // What waits goes into the same record and the same write.
                    while let Some(call) = self.lanes.next_call() {
                        self.call(call);
                    }
                }
                Some(renewal) = self.renewals.join_next(), if !self.renewals.is_empty() => {
                    if let Ok(renewal) = renewal {
                        self.renewed(renewal);
                    }
                }
                signal = signals.next() => match signal {
                    Signal::Changed => {
                        config = gate.config();
                        if let Err(error) = self.live.wire.tune(config.limits.write_stall) {
                            debug!(%error, "socket options");
                        }
                        self.judge();
                    }
                    Signal::Stopped => {
                        self.stopping = true;
                        self.hold = None;
                    }
                    Signal::Closed if self.is_closed => {}
                    Signal::Closed if self.lanes.is_managed() => self.close(),
                    Signal::Closed => return Ok(End::Done("closed by the operator")),
                },
                () = alarm.at(deadline) => {
                    if stalls.is_some_and(|stalls| stalls <= Instant::now()) {
                        return lost(FailureKind::Timeout, "the other end takes no bytes".into());
                    }
                    if self.lanes.is_unanswered(patience) {
                        return lost(FailureKind::Timeout, "the other end acknowledges nothing".into());
                    }
                    if keepalive.is_some_and(|at| at <= Instant::now()) {
                        self.live.wire.put_stanzas(&Bytes::from_static(b" "));
                    }
                    self.hold = self.hold.filter(|hold| *hold > Instant::now());
                    if self.check <= Instant::now() {
                        self.look_after();
                    }
                }
            }
        }
    }
}
