//! The task of a route: opens the stream, writes what is queued in order, opens it again when it
//! breaks, and bounces what cannot be delivered.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout},
};
use tracing::{info, warn};

use super::{Queued, State, shutdown};
use crate::{
    config::model::Limits,
    net::wire::Event,
    ops::metrics::Origin,
    proxy::{
        dial::{self, Live},
        events::About,
        failures::{self, Attempt, Key},
        gate::Gate,
        live::{self, Flow, Meter},
        pieces,
        routes::RouteId,
    },
    stream::{Failure, FailureKind},
    xml::writer,
    xmpp::{Direction, DomainPair, Side, StreamCondition},
};

/// Streams that break with stanzas unsent are opened again so often in a row without progress.
const REDIALS: u32 = 2;

/// Why a stream that was open came to its end.
enum End {
    /// Nothing went over it for long, or all is written and nothing more will come.
    Done(&'static str),
    /// It broke.
    Broken(Failure),
    /// Policy withdrew the pair.
    Denied(Failure),
}

pub(super) struct Task {
    pub(super) gate: Arc<Gate>,
    pub(super) id: RouteId,
    pub(super) side: Side,
    pub(super) pair: DomainPair,
    pub(super) lang: Option<Arc<str>>,
    pub(super) queue: mpsc::Receiver<Queued>,
    pub(super) state: watch::Sender<State>,
    /// Taken from the queue, not (wholly) written.
    pub(super) unsent: VecDeque<Queued>,
    /// Counts what is written on the stream of now.
    pub(super) meter: Option<Arc<Meter>>,
    /// Stanzas were wholly written on the last stream.
    pub(super) progress: bool,
    pub(super) limits: Limits,
}

impl Task {
    pub(super) async fn run(mut self) {
        let mut redials = 0;
        loop {
            let gate = Arc::clone(&self.gate);
            let dialled = tokio::select! {
                dialled = dial::open(&gate, self.side, &self.pair, self.lang.clone()) => dialled,
                () = self.given_up() => Err(shutdown()),
            };
            let mut live = match dialled {
                Ok(live) => live,
                Err(failure) => return self.fail(failure),
            };
            self.gate.routes().opened(self.side, &self.pair);
            self.state.send_replace(State::Open);
            self.meter = live.shown.as_ref().map(|shown| shown.meter(&self.pair));
            let (end, whole) = self.pump(&mut live).await;
            let condition = None;
            self.gate.metrics().closed(self.side, Origin::Opened, condition);
            if std::mem::take(&mut self.progress) {
                redials = 0;
            }
            match end {
                End::Done(reason) => {
                    info!(side = self.side.as_str(), pair = %self.pair, reason, "stream closed");
                    live.wire.put(writer::FOOTER.as_bytes());
                    live.wire.close(self.limits.write_stall.min(CLOSE_WAIT)).await;
                    // What came while it closed goes over one more stream of this same route:
                    // with another one beside it the pair's order would be lost.
                    if self.queue.is_empty() && self.finish() {
                        return;
                    }
                }
                End::Denied(failure) => {
                    let failure = failure.telling(StreamCondition::PolicyViolation);
                    self.part(live, &failure, whole);
                    return self.fail(failure);
                }
                End::Broken(failure) => {
                    info!(
                        side = self.side.as_str(),
                        pair = %self.pair,
                        reason = failure.reason(),
                        detail = %failure,
                        "stream closed"
                    );
                    self.part(live, &failure, whole);
                    if self.unsent.is_empty() && self.queue.is_empty() && self.finish() {
                        return;
                    }
                    redials += 1;
                    if redials > REDIALS {
                        return self.fail(failure);
                    }
                }
            }
            self.state.send_replace(State::Opening);
        }
    }

    /// Resolves when the stream need not be opened any more, for fedgate ends. What a peer would
    /// get goes back then; but what the legacy server is to get has nowhere else to go.
    async fn given_up(&self) {
        self.gate.stopping(self.side).await;
        if self.side == Side::Legacy && !(self.unsent.is_empty() && self.queue.is_empty()) {
            std::future::pending().await
        }
    }

    /// Says the last words on a stream and closes it, in the background: what waits need not wait
    /// for a neighbour that may be dead. Inside a stanza there is nothing more to say.
    fn part(&self, mut live: Live, failure: &Failure, whole: bool) {
        if whole {
            let farewell = live.farewell(failure);
            live.wire.put(&farewell);
        }
        self.gate.tracker().spawn(live.wire.close(CLOSE_WAIT));
    }

    /// Writes what comes out of the queue until the stream ends; what is not wholly written then
    /// stands in `unsent` again. Also says whether the stream did not end inside a stanza.
    async fn pump(&mut self, live: &mut Live) -> (End, bool) {
        let mut writing = VecDeque::new();
        for queued in std::mem::take(&mut self.unsent) {
            put(live, &mut writing, queued);
        }
        let end = self.transfer(live, &mut writing).await;
        let written = live.wire.written_total();
        self.settle(&mut writing, written);
        let mut whole = live.wire.put_total() == written;
        for (end, queued) in writing {
            let stanzas = queued.stanzas.stanzas();
            let Some(rest) = rest(queued, end, written) else { continue };
            self.progress |= rest.stanzas.stanzas() < stanzas;
            if self.unsent.is_empty() {
                whole = end - rest.stanzas.bytes().len() as u64 == written;
            }
            self.unsent.push_back(rest);
        }
        // It goes over the next stream, or back to its senders, so not over this one too.
        live.wire.discard();
        (end, whole)
    }

    /// Lets go of what is written.
    fn settle(&mut self, writing: &mut VecDeque<(u64, Queued)>, written: u64) {
        while writing.front().is_some_and(|(end, _)| *end <= written) {
            if let (Some((_, queued)), Some(meter)) = (writing.pop_front(), &self.meter) {
                meter.count(queued.stanzas.stanzas(), queued.stanzas.bytes().len());
            }
            self.progress = true;
        }
    }

    async fn transfer(&mut self, live: &mut Live, writing: &mut VecDeque<(u64, Queued)>) -> End {
        let gate = Arc::clone(&self.gate);
        let mut generation = gate.subscribe();
        let mut used = Instant::now();
        let closed = live.shown.as_ref().map(|shown| shown.end().clone()).unwrap_or_default();
        // The configuration may have changed while the stream was opened.
        if let Err(failure) = self.still_allowed(live) {
            return End::Denied(failure);
        }
        loop {
            self.settle(writing, live.wire.written_total());
            let idle = used + self.limits.idle;
            let deadline = live.wire.stalls_at(self.limits.write_stall).unwrap_or(idle);
            tokio::select! {
                event = live.wire.event() => match event {
                    Ok(Event::Read) => if let Err(failure) = live.read() {
                        return End::Broken(failure);
                    },
                    Ok(Event::Written) => {}
                    Ok(Event::Eof) => return End::Broken(Failure::new(
                        FailureKind::Stream, "the other end closed the connection")),
                    Err(error) => return End::Broken(Failure::new(
                        FailureKind::Stream, error.to_string())),
                },
                queued = self.queue.recv(), if live.wire.has_room() => match queued {
                    Some(queued) => {
                        used = Instant::now();
                        put(live, writing, queued);
                        // What waits goes into the same record and the same write.
                        while live.wire.has_room() && let Ok(queued) = self.queue.try_recv() {
                            put(live, writing, queued);
                        }
                    }
                    None if live.wire.is_flushed() => return End::Done("drained"),
                    // Closed and empty: only the rest of the output is waited for.
                    None => match timeout(self.limits.write_stall, live.wire.flush()).await {
                        Ok(Ok(())) => return End::Done("drained"),
                        Ok(Err(error)) => return End::Broken(Failure::new(
                            FailureKind::Stream, error.to_string())),
                        Err(_) => return End::Broken(stalled()),
                    },
                },
                () = gate.stopping(self.side), if !self.queue.is_closed() => self.queue.close(),
                () = closed.cancelled() => return End::Done("closed by the operator"),
                changed = generation.changed() => {
                    if changed.is_ok() && let Err(failure) = self.still_allowed(live) {
                        return End::Denied(failure);
                    }
                }
                () = sleep_until(deadline) => {
                    if deadline != idle {
                        return End::Broken(stalled());
                    }
                    return End::Done("idle");
                }
            }
        }
    }

    /// Judges the pair by the configuration of now (protocol AB-2).
    fn still_allowed(&self, live: &Live) -> Result<(), Failure> {
        let config = self.gate.config();
        let (remote, local) = match self.side {
            Side::Peer => (&self.pair.target, &self.pair.sender),
            Side::Legacy => (&self.pair.sender, &self.pair.target),
        };
        if !config.local_domains.contains_key(local) {
            return Err(Failure::new(FailureKind::Denied, format!("{local} is no longer served")));
        }
        // The way to the legacy server stays open for errors; its stanzas were judged as they came.
        if self.side == Side::Legacy {
            return Ok(());
        }
        dial::allowed(&config, remote, Direction::Outbound)?;
        if let Some(address) = live.address {
            dial::address_allowed(&config, address)?;
        }
        let level = config.policy.domain(remote, Direction::Outbound).level;
        dial::level_reached(level, live.proof.as_ref())
    }

    /// The route ends with nothing to say. False if stanzas slipped in at the last moment: they
    /// are in `unsent` and want one more stream.
    fn finish(&mut self) -> bool {
        self.gate.routes().ended(self.id, self.side, &self.pair, None);
        self.queue.close();
        while let Ok(queued) = self.queue.try_recv() {
            self.unsent.push_back(queued);
        }
        if !self.unsent.is_empty() {
            return false;
        }
        let failure = Failure::new(FailureKind::Stream, "the stream was closed");
        self.state.send_replace(State::Ended(Arc::new(failure)));
        true
    }

    /// Remembers for the operator that the pair did not come about.
    fn record(&self, failure: &Failure, waiting: u32) {
        if failure.kind() == FailureKind::Shutdown {
            return;
        }
        let direction = live::direction(self.side, Flow::Out);
        let reason = failure.reason();
        self.gate.metrics().not_negotiated(self.side, Origin::Opened, reason);
        let about = About::pair(&self.pair, direction);
        self.gate.events().tell("failed", about, || format!("{reason}: {failure}"));
        let attempt = Attempt {
            returned: waiting.into(),
            ..Attempt::new(failures::stage(failure.kind()), reason, failure.detail().to_owned())
        };
        self.gate.failures().failed(direction, Key::of(&self.pair, direction), attempt);
    }

    /// The route ends: what waits goes back to its senders.
    fn fail(mut self, failure: Failure) {
        let failure = Arc::new(failure);
        self.gate.routes().ended(self.id, self.side, &self.pair, Some(&failure));
        self.queue.close();
        while let Ok(queued) = self.queue.try_recv() {
            self.unsent.push_back(queued);
        }
        let waiting: u32 = self.unsent.iter().map(|queued| queued.stanzas.stanzas()).sum();
        let (reason, detail) = (failure.reason(), failure.detail());
        match self.side {
            Side::Legacy => {
                warn!(pair = %self.pair, reason, detail, waiting, "legacy server not reached");
            }
            Side::Peer => info!(pair = %self.pair, reason, detail, waiting, "peer not reached"),
        }
        self.record(&failure, waiting);
        for queued in std::mem::take(&mut self.unsent) {
            self.gate.bounce(self.side, &queued.stanzas, &failure);
        }
        self.state.send_replace(State::Ended(failure));
    }
}

fn stalled() -> Failure {
    Failure::new(FailureKind::Timeout, "the other end takes no bytes")
}

fn put(live: &mut Live, writing: &mut VecDeque<(u64, Queued)>, queued: Queued) {
    live.wire.put(queued.stanzas.bytes());
    writing.push_back((live.wire.put_total(), queued));
}

/// The stanzas of a batch that ended at `end` of the output and were not wholly written: a stanza
/// of which only a part went out was never received, for its stream ended inside it.
fn rest(queued: Queued, end: u64, written: u64) -> Option<Queued> {
    let begin = end - queued.stanzas.bytes().len() as u64;
    let sent = usize::try_from(written.saturating_sub(begin)).ok()?;
    let stanzas = pieces::after(&queued.stanzas, sent)?;
    Some(Queued { stanzas, ..queued })
}

/// How long last words may take.
const CLOSE_WAIT: Duration = Duration::from_secs(2);
