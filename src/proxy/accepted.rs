//! A stream that somebody opened to us, from accept to end: pumps one socket through one
//! [`Receiving`] machine, does what the machine says, and hands admitted stanzas to their routes.

mod bounds;
mod ending;
mod granting;
mod managing;
mod parked;
mod proving;
mod reading;
mod returning;
mod sighting;

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use rustls::pki_types::UnixTime;
use tokio::{
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use self::{ending::Deadline, managing::Managing, returning::Returning};
use super::{
    CLOSE_WAIT,
    admission::Permit,
    alarm::Alarm,
    expiry,
    frames::Frames,
    gate::Gate,
    intake::{Intake, Progress},
    live::LiveStream,
    places::Place,
    sessions::Takeover,
    signals::{Signal, Signals},
};
use crate::{
    auth::TlsFacts,
    net::{
        tls::Accept,
        wire::{Event, Wire},
    },
    ops::metrics::Origin,
    stream::{Action, Failure, Fault, Receiving, Verdict},
    xml::writer,
    xmpp::{Direction, Domain, DomainPair, Side, StreamCondition},
};

/// How a connection came in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Entry {
    /// From a peer, in the clear first.
    Public,
    /// From a peer, TLS at once (XEP-0368).
    DirectTls,
    /// From the legacy server.
    Local,
}

impl Entry {
    /// The word for logs.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::DirectTls => "direct_tls",
            Self::Local => "local",
        }
    }

    /// The side that it connects us with.
    pub(super) fn side(self) -> Side {
        match self {
            Self::Public | Self::DirectTls => Side::Peer,
            Self::Local => Side::Legacy,
        }
    }
}

/// Why it ended.
enum End {
    /// We end it with a stream error.
    Fault(Fault),
    /// The other end, or the protocol, ends it in order.
    Closed(&'static str),
    /// The other end ended the stream, and gets our footer for it.
    Finished,
    /// We end it in order.
    Done(&'static str),
    /// It was told that it is refused.
    Refused,
    /// The other end ended the stream with a stream error, and gets our footer for it.
    Error(Failure),
    /// The connection broke.
    Broken(String),
    /// The peer goes on with the stream over another connection.
    Resumed(Takeover),
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// A stream that has got its last words.
struct Closing {
    /// Until when it is read.
    until: Instant,
    /// Why; taken when it is told.
    end: Option<End>,
}

struct Leg {
    gate: Arc<Gate>,
    entry: Entry,
    side: Side,
    address: SocketAddr,
    wire: Wire,
    frames: Frames,
    machine: Receiving,
    /// Each with what certificates were judged by when it began; see `Gate::trust`.
    jobs: JoinSet<(u64, Verdict)>,
    /// What came of them, and is to be told to the machine.
    verdicts: Vec<(u64, Verdict)>,
    intake: Intake,
    /// Bytes that came before TLS.
    before_tls: u64,
    /// Those of the domains that are authorized, in their order.
    places: Vec<Place>,
    /// Bytes that a stanza may have of every pair, and of some pair.
    stanza_bounds: Option<(usize, usize)>,
    /// What certificates proved something by when they were judged.
    trust: u64,
    /// When proofs are to be looked at, the first of which expires.
    renewal: Option<Instant>,
    /// What goes the other way, on a bidirectional stream.
    returning: Option<Box<Returning>>,
    /// What there is of stream management.
    managing: Option<Managing>,
    /// Until when the peer, which says nothing yet, may ask for it before anything goes back to it.
    quiet: Option<Instant>,
    accepted: Instant,
    /// When a stanza last came, or a pair was granted; or a dialback element of the legacy server.
    used: Instant,
    /// Since when an element is incomplete.
    partial: Option<Instant>,
    /// It has got its last words, and is read on for a moment.
    closing: Option<Box<Closing>>,
    /// What the operator sees of it.
    live: LiveStream,
}

/// Serves one accepted connection to its end.
pub(super) async fn serve(
    gate: Arc<Gate>,
    socket: TcpStream,
    address: SocketAddr,
    entry: Entry,
    permit: Permit,
    draining: CancellationToken,
) {
    // From here on every change is seen, also one that comes during a handshake.
    let generation = gate.subscribe();
    let config = gate.config();
    let now = Instant::now();
    let side = entry.side();
    gate.metrics().connected(entry.as_str());
    let from = Some(address.to_string());
    let live = gate.live().enter(side, Origin::Accepted, from, Some(entry.as_str()));
    let (wire, facts) = if entry == Entry::DirectTls {
        let deadline = now + config.limits.negotiation;
        match Box::pin(accept_tls(&gate, socket, Accept::Direct, deadline)).await {
            Ok((wire, facts)) => {
                live.secured(&facts);
                (wire, Some(facts))
            }
            Err(detail) => {
                info!(side = "peer", addr = %address.ip(), reason = "tls", detail, "stream closed");
                return;
            }
        }
    } else {
        (Wire::plain(socket), None)
    };
    let mut leg = Leg::new(gate, (entry, address), (wire, facts), live, now);
    let end = leg.run(generation, draining).await;
    // What happens once is not to be part of what waits most of the time.
    let parked = Box::pin(leg.finish(end)).await.map(Box::new);
    // It has no connection any more.
    drop(permit);
    if let Some(parked) = parked {
        Box::pin(parked.wait()).await;
    }
}

/// Tells who is not taken on the local listener why.
pub(super) async fn refuse(
    gate: Arc<Gate>,
    socket: TcpStream,
    (condition, why): (StreamCondition, &'static str),
) {
    let keys = Arc::clone(gate.keys());
    let mut machine = Receiving::new(Side::Legacy, gate.config(), keys, stream_id);
    let fault = Fault::policy(condition, why, None);
    let mut wire = Wire::plain(socket);
    wire.put(&machine.farewell(&fault));
    wire.close(CLOSE_WAIT).await;
}

async fn accept_tls(
    gate: &Gate,
    socket: TcpStream,
    how: Accept<'_>,
    deadline: Instant,
) -> Result<(Wire, TlsFacts), String> {
    let services = gate.services();
    let accepted = tokio::select! {
        accepted = timeout_at(deadline, services.tls.accept(socket, how)) => accepted,
        () = gate.draining().cancelled() => return Err("shutting down".into()),
    };
    let version = accepted.as_ref().ok().and_then(|done| done.as_ref().ok());
    let version = version.map(|secured| secured.facts.version_str());
    gate.metrics().handshake(Origin::Accepted, version);
    match accepted {
        Ok(Ok(secured)) => Ok((Wire::tls(secured.stream), secured.facts)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the TLS handshake took too long".into()),
    }
}

/// At least 128 random bits, in an alphabet that is good everywhere (protocol ST-2).
fn stream_id() -> String {
    let mut random = [0u8; 16];
    // The same source as the TLS keys come from; without it there is nothing to be done.
    getrandom::fill(&mut random).expect("the system gives random numbers");
    format!("{:032x}", u128::from_be_bytes(random))
}

impl Leg {
    /// Of a connection from `address` that was accepted at `accepted`; with direct TLS there are
    /// facts of it already. It is large, and moved no more.
    fn new(
        gate: Arc<Gate>,
        (entry, address): (Entry, SocketAddr),
        (wire, facts): (Wire, Option<TlsFacts>),
        live: LiveStream,
        accepted: Instant,
    ) -> Box<Self> {
        let (side, config) = (entry.side(), gate.config());
        let keys = Arc::clone(gate.keys());
        let mut machine =
            Receiving::new(side, Arc::clone(&config), keys, stream_id).from_address(address.ip());
        if let Some(facts) = facts {
            machine.tls_up(facts);
        }
        if side == Side::Legacy && gate.leaving().is_cancelled() {
            machine = machine.for_questions();
        }
        Box::new(Self {
            entry,
            side,
            address,
            wire,
            frames: Frames::new(&config.limits),
            machine,
            jobs: JoinSet::new(),
            verdicts: Vec::new(),
            intake: Intake::new(&gate, side.other(), Some(live.clone())),
            before_tls: 0,
            places: Vec::new(),
            stanza_bounds: None,
            trust: gate.trust(),
            renewal: None,
            returning: None,
            managing: None,
            quiet: None,
            accepted,
            used: accepted,
            partial: None,
            closing: None,
            live,
            gate,
        })
    }

    async fn run(&mut self, generation: watch::Receiver<u64>, draining: CancellationToken) -> End {
        let mut signals = Signals::new(generation, self.live.end().clone(), draining);
        let (mut alarm, mut look) = (Alarm::default(), Alarm::default());
        loop {
            if let Err(end) = self.tell_verdicts().await {
                return end;
            }
            let (busy, owes) = (self.intake.is_busy(), self.intake.owes());
            if let Some(returning) = &mut self.returning {
                returning.lanes.listens(!busy);
            }
            let (deadline, end) = match &self.closing {
                Some(closing) => (closing.until, Deadline::Closing),
                None => self.deadline(),
            };
            if let Some(returning) = &mut self.returning {
                returning.lanes.settle(self.wire.written_total());
                let delivered = returning.lanes.take_delivered();
                self.gate.metrics().delivered(self.side, delivered);
                if self.closing.is_none() && self.quiet.is_none() {
                    let large = returning.lanes.fill(&mut self.wire);
                    self.gate.too_large(self.side, &large);
                }
            }
            tokio::select! {
                event = self.wire.event_reading(!busy) => match event {
                    Ok(Event::Read) => {
                        if let Err(end) = self.count_bytes() {
                            return end;
                        }
                        if let Err(end) = self.read().await {
                            return end;
                        }
                    }
                    Ok(Event::Written) => {}
                    Ok(Event::Eof) => return End::Closed("connection closed by the other end"),
                    Err(error) => return End::Broken(error.to_string()),
                },
                progress = self.intake.progress(), if busy || owes => match progress {
                    Progress::Ready => {
                        // It was not read from meanwhile, so it could not be quicker.
                        self.used = Instant::now();
                        self.partial = None;
                        if let Err(end) = self.read().await {
                            return end;
                        }
                    }
                    Progress::Handled(stanzas) => self.answer(stanzas),
                },
                takeover = managing::taken_over(&mut self.managing) => {
                    return End::Resumed(takeover);
                }
                Some(call) = returning::call(&mut self.returning) => self.call(call),
                Some(verdict) = self.jobs.join_next(), if !self.jobs.is_empty() => {
                    // A task that panicked was logged by the runtime; its pair stays pending.
                    self.verdicts.extend(verdict);
                }
                signal = signals.next() => {
                    let outcome = match signal {
                        Signal::Changed => self.reconfigure().await,
                        Signal::Stopped | Signal::Closed if self.closing.is_some() => Ok(()),
                        Signal::Stopped => Box::pin(self.drain()).await,
                        Signal::Closed => {
                            let condition = StreamCondition::Reset;
                            let fault = Fault::policy(condition, "closed by the operator", None);
                            Box::pin(self.close(fault.into())).await
                        }
                    };
                    if let Err(end) = outcome {
                        return end;
                    }
                }
                () = look.at(self.renewal.unwrap_or(deadline)), if self.renewal.is_some() => {
                    let mut actions = Vec::new();
                    self.machine.renew(UnixTime::now(), &mut actions);
                    self.schedule();
                    if let Err(end) = self.act(actions).await {
                        return end;
                    }
                }
                () = alarm.at(deadline) => match end {
                    Deadline::Keepalive => self.wire.put_stanzas(&Bytes::from_static(b" ")),
                    // The next turn asks, or writes.
                    Deadline::Ask => self.quiet = None,
                    Deadline::Idle => if let Err(end) = Box::pin(self.close(end.into())).await {
                        return end;
                    },
                    _ => return end.into(),
                },
            }
        }
    }

    /// Puts text on the wire; nothing follows the last words.
    fn say(&mut self, text: &[u8]) {
        if self.closing.is_none() {
            self.wire.put(text);
        }
    }

    /// Does what the machine says.
    async fn act(&mut self, actions: Vec<Action>) -> Result<(), End> {
        for action in actions {
            match action {
                Action::Send(text) => self.say(&text),
                // What happens once a stream is not to make each wait larger.
                Action::StartTls(to) => Box::pin(self.starttls(to)).await?,
                Action::Restart(over) => {
                    self.frames = Frames::new(&self.gate.config().limits);
                    // Their domains keep their places until it is known which come again.
                    over.iter().for_each(|pair| self.live.withdrawn(pair));
                    self.judge_return();
                }
                Action::Prove(challenge) => self.prove(challenge),
                Action::Granted(grant, how) => {
                    self.keep_place(&grant, how)?;
                    // The stream holds it on, as long as it has the pair.
                    let _berth = self.keep_berth(&grant, how)?;
                    self.granted(&grant, how);
                }
                Action::Refused(pair, detail) => self.refused(&pair, detail),
                Action::Full(limit) => self.is_full(limit),
                Action::Renewed(pair) => {
                    debug!(pair = %pair, addr = %self.address.ip(), "proof renewed");
                    self.schedule_for(&pair);
                    self.remember(&pair);
                }
                Action::Withdrawn(pair, detail) => {
                    info!(
                        pair = %pair,
                        detail,
                        addr = %self.address.ip(),
                        "domain pair withdrawn, its proof has expired"
                    );
                    self.free_place(&pair);
                    self.live.withdrawn(&pair);
                    self.stop_return(&pair);
                }
                Action::Manage { resumable } => self.manage(resumable),
                Action::Resume(former) => Box::pin(self.resume(former)).await?,
                Action::AckWanted => {
                    let handled = self.intake.receipts().map_or(0, |receipts| receipts.answer());
                    self.answer(handled);
                }
                Action::Acknowledged(h) => self.acknowledged(h)?,
                Action::Close => {
                    self.last_answer().await;
                    self.say(writer::FOOTER.as_bytes());
                    return Err(End::Refused);
                }
                Action::StreamError(failure) => return Err(End::Error(failure)),
            }
        }
        Ok(())
    }

    /// Sets the time when proofs are to be looked at.
    fn schedule(&mut self) {
        self.renewal = self.machine.expires().map(expiry::look_at);
    }

    /// The same for one pair, which was granted or proven again.
    fn schedule_for(&mut self, pair: &DomainPair) {
        let expires = self.machine.grant_of(pair).and_then(|grant| grant.proof().expires());
        let at = expires.map(expiry::look_at);
        self.renewal = self.renewal.into_iter().chain(at).min();
    }

    async fn starttls(&mut self, to: Option<Domain>) -> Result<(), End> {
        let config = self.gate.config();
        let deadline = self.accepted + config.limits.negotiation;
        match timeout_at(deadline, self.wire.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(End::Broken(error.to_string())),
            Err(_) => return Err(Deadline::Negotiation.into()),
        }
        let Some(socket) = self.wire.take_clean_socket() else {
            return Err(End::Broken("bytes in the clear behind <starttls/>".into()));
        };
        let how = Accept::StartTls { to: to.as_ref() };
        let handshake = accept_tls(&self.gate, socket, how, deadline).await;
        let (wire, facts) = handshake.map_err(End::Broken)?;
        self.before_tls += self.wire.read_total();
        self.wire = wire;
        self.frames = Frames::new(&config.limits);
        self.live.secured(&facts);
        self.machine.tls_up(facts);
        Ok(())
    }

    async fn reconfigure(&mut self) -> Result<(), End> {
        self.intake.reconfigure();
        let config = self.gate.config();
        if let Err(error) = self.wire.tune(config.limits.write_stall) {
            debug!(%error, "socket options");
        }
        if self.side == Side::Peer
            && let Some(denied) = config.policy.address(self.address.ip(), Direction::Inbound)
        {
            let rule = Some(denied.rule.to_string());
            let condition = StreamCondition::PolicyViolation;
            return Err(Fault::policy(condition, "address denied by rule", rule).into());
        }
        for pair in self.machine.reconfigure(config)? {
            self.live.withdrawn(&pair);
            info!(pair = %pair, "domain pair withdrawn by policy");
        }
        if self.machine.is_authorized() {
            self.bound();
        }
        self.judge_downgraded()?;
        self.judge_return();
        let trust = self.gate.trust();
        if std::mem::replace(&mut self.trust, trust) != trust {
            let mut actions = Vec::new();
            self.machine.distrust(&mut actions)?;
            self.act(actions).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of the future that such a function gives.
    fn future_of<A, B, C, D, E, F, Future>(_: fn(A, B, C, D, E, F) -> Future) -> usize {
        size_of::<Future>()
    }

    #[test]
    fn ten_thousand_silent_streams_are_small() {
        // each has one of both for as long as it lives
        assert!(future_of(serve) <= 1700, "{}", future_of(serve));
        assert!(size_of::<Leg>() <= 1792, "{}", size_of::<Leg>());
    }
}
