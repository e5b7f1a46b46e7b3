//! A stream that somebody opened to us, from accept to end: pumps one socket through one
//! [`Receiving`] machine, does what the machine says, and hands admitted stanzas to their routes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Buf;
use tokio::{
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::{
    admission::Permit,
    frames::Frames,
    gate::Gate,
    prover::{self, Asker},
    route::Route,
};
use crate::{
    auth::{
        TlsFacts,
        ledger::{AuthorizedPair, Routable},
    },
    net::{
        tls::Accept,
        wire::{Event, Wire},
    },
    stream::{Action, Authentication, Blame, Failure, Fault, Receiving, Verdict},
    xml::{self, Span, Tag, Token, TokenKind, relay, writer},
    xmpp::{Direction, Domain, Side, StreamCondition},
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
    /// It was told that it is refused.
    Refused,
    /// The connection broke.
    Broken(String),
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

struct Leg {
    gate: Arc<Gate>,
    entry: Entry,
    side: Side,
    address: SocketAddr,
    wire: Wire,
    frames: Frames,
    machine: Receiving,
    jobs: JoinSet<Verdict>,
    lang: Option<Arc<str>>,
    accepted: Instant,
    /// When something meaningful last came.
    used: Instant,
    /// Since when an element is incomplete.
    partial: Option<Instant>,
    stanzas: u64,
    batch: Option<Batch>,
    /// Until when a stream that has got its last words is read.
    closing: Option<Instant>,
}

/// Stanzas of one pair, one behind the other in the input, that go as they are.
struct Batch {
    grant: AuthorizedPair,
    route: Result<Arc<Route>, Arc<Failure>>,
    /// The route's stream declares another language than ours: stanzas have to say theirs.
    stamp: Option<Arc<str>>,
    /// The batch is the input up to here.
    end: usize,
    stanzas: u32,
}

/// Serves one accepted connection to its end.
pub(super) async fn serve(
    gate: Arc<Gate>,
    socket: TcpStream,
    address: SocketAddr,
    entry: Entry,
    _permit: Option<Permit>,
    draining: CancellationToken,
) {
    // From here on every change is seen, also one that comes during a handshake.
    let generation = gate.subscribe();
    let config = gate.config();
    let now = Instant::now();
    let mut machine =
        Receiving::new(entry.side(), Arc::clone(&config), Arc::clone(gate.keys()), stream_id);
    let wire = if entry == Entry::DirectTls {
        let deadline = now + config.limits.negotiation;
        match accept_tls(&gate, socket, Accept::Direct, deadline).await {
            Ok((wire, facts)) => {
                machine.tls_up(facts);
                wire
            }
            Err(detail) => {
                info!(side = "peer", addr = %address.ip(), reason = "tls", detail, "stream closed");
                return;
            }
        }
    } else {
        Wire::plain(socket)
    };
    let mut leg = Leg {
        entry,
        side: entry.side(),
        address,
        wire,
        frames: Frames::new(&config.limits),
        machine,
        jobs: JoinSet::new(),
        lang: None,
        accepted: now,
        used: now,
        partial: None,
        stanzas: 0,
        batch: None,
        closing: None,
        gate,
    };
    let end = leg.run(generation, draining).await;
    leg.finish(end).await;
}

/// Tells a stranger on the local listener that it is one.
pub(super) async fn refuse(gate: Arc<Gate>, socket: TcpStream) {
    let keys = Arc::clone(gate.keys());
    let mut machine = Receiving::new(Side::Legacy, gate.config(), keys, stream_id);
    let fault = Fault::policy(StreamCondition::NotAuthorized, "not a legacy source", None);
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
    async fn run(
        &mut self,
        mut generation: watch::Receiver<u64>,
        draining: CancellationToken,
    ) -> End {
        loop {
            let (deadline, end) = match self.closing {
                Some(until) => (until, Deadline::Closing),
                None => self.deadline(),
            };
            tokio::select! {
                event = self.wire.event() => match event {
                    Ok(Event::Read) => if let Err(end) = self.read().await {
                        return end;
                    },
                    Ok(Event::Written) => {}
                    Ok(Event::Eof) => return End::Closed("connection closed by the other end"),
                    Err(error) => return End::Broken(error.to_string()),
                },
                Some(verdict) = self.jobs.join_next(), if !self.jobs.is_empty() => {
                    // A task that panicked was logged by the runtime; its pair stays pending.
                    let Ok(verdict) = verdict else { continue };
                    let mut actions = Vec::new();
                    let outcome = self.machine.verdict(verdict, &mut actions);
                    if let Err(end) = self.act(actions).await {
                        return end;
                    }
                    if let Err(fault) = outcome {
                        return fault.into();
                    }
                }
                changed = generation.changed(), if self.closing.is_none() => {
                    if changed.is_ok() && let Err(end) = self.reconfigure() {
                        return end;
                    }
                }
                () = draining.cancelled(), if self.closing.is_none() => {
                    let fault = Fault::us(StreamCondition::SystemShutdown, "shutting down");
                    let farewell = self.machine.farewell(&fault);
                    self.wire.put(&farewell);
                    // RFC 6120 §4.4: what comes until the other end closes still counts.
                    self.closing = Some(Instant::now() + DRAIN_WAIT);
                }
                () = sleep_until(deadline) => return end.into(),
            }
        }
    }

    /// Takes all complete tokens out of the input.
    async fn read(&mut self) -> Result<(), End> {
        loop {
            let at = self.batch.as_ref().map_or(0, |batch| batch.end);
            let rest = self.wire.input().get(at..).unwrap_or_default();
            let step = match self.frames.framer().next(rest) {
                Ok(None) => break,
                Ok(Some(Token { len, kind: TokenKind::Element(tag) })) if tag.name.is_stanza() => {
                    self.partial = None;
                    self.stanza(&tag, at, len).await
                }
                Ok(Some(token)) => {
                    self.partial = None;
                    self.hand_over().await;
                    self.token(token).await
                }
                Err(fault) => Err(self.unreadable(fault)),
            };
            if let Err(end) = step {
                self.hand_over().await;
                return Err(end);
            }
        }
        self.hand_over().await;
        if !self.wire.input().is_empty() {
            self.partial.get_or_insert_with(Instant::now);
        }
        self.wire.shrink();
        Ok(())
    }

    /// What does not even begin like XML comes from no XMPP server: a browser, a scanner, a TLS
    /// client on the wrong port. It gets no answer (attack A-37).
    fn unreadable(&mut self, fault: xml::Fault) -> End {
        let in_stream = self.frames.framer().header().is_some() || self.machine.tls().is_some();
        let first = self.wire.input().first().copied().unwrap_or(b'<');
        // white space, and how UTF-8, UTF-16 and UTF-32 may begin
        let is_xml = matches!(first, b'<' | b' ' | b'\t' | b'\r' | b'\n' | 0 | 0xef | 0xfe | 0xff);
        if in_stream || is_xml || self.side == Side::Legacy {
            return Fault::xml(fault).into();
        }
        End::Broken("not XMPP".into())
    }

    /// Admits the stanza that stands at `at` of the input, just behind the batch.
    async fn stanza(&mut self, tag: &Tag, at: usize, len: usize) -> Result<(), End> {
        let bytes = self.wire.input().get(at..at + len).unwrap_or_default();
        let text = |span: Option<Span>| span.map(|span| span.text(bytes)).unwrap_or_default();
        let grant = self.machine.stanza(&text(tag.from), &text(tag.to))?;
        let Some(header) = self.frames.framer().header().cloned() else {
            return Err(End::Broken("stanza without a stream header".into()));
        };
        self.used = Instant::now();
        self.stanzas += 1;
        if let Some(batch) = &mut self.batch
            && batch.grant.is(grant)
            && relay::is_verbatim(tag, &header, batch.stamp.as_deref())
        {
            batch.end += len;
            batch.stanzas += 1;
            return Ok(());
        }
        let grant = grant.clone();
        self.hand_over().await;
        let onward = self.onward();
        let route = self.gate.routes().get(&self.gate, onward, grant.pair(), self.lang.as_ref());
        let stamp = match &route {
            Ok(route) if route.lang() != self.lang.as_deref() => self.lang.clone(),
            Ok(_) | Err(_) => None,
        };
        if relay::is_verbatim(tag, &header, stamp.as_deref()) {
            self.batch = Some(Batch { grant, route, stamp, end: len, stanzas: 1 });
            return Ok(());
        }
        let bytes = self.wire.input().split_to(len).freeze();
        let bytes = relay::outgoing(&bytes, tag, &header, stamp.as_deref());
        let stanza = Routable::new(&grant, bytes, 1);
        self.gate.counters().accepted(self.side, 1);
        self.gate.deliver(route, onward, stanza, self.lang.as_ref()).await;
        Ok(())
    }

    /// Hands the batch to its route.
    async fn hand_over(&mut self) {
        let Some(batch) = self.batch.take() else { return };
        let bytes = self.wire.input().split_to(batch.end).freeze();
        let stanzas = Routable::new(&batch.grant, bytes, batch.stanzas);
        self.gate.counters().accepted(self.side, batch.stanzas);
        self.gate.deliver(batch.route, self.onward(), stanzas, self.lang.as_ref()).await;
    }

    /// Takes a token that is no stanza from the front of the input.
    async fn token(&mut self, token: Token) -> Result<(), End> {
        let mut actions = Vec::new();
        let outcome = match token.kind {
            TokenKind::Declaration => Ok(()),
            TokenKind::Space => {
                self.used = Instant::now();
                Ok(())
            }
            TokenKind::Header(header) => {
                self.lang = header.lang.as_deref().map(Into::into);
                self.machine.header(&header, &mut actions)
            }
            TokenKind::Element(tag) => {
                let bytes = self.wire.input().get(..token.len).unwrap_or_default();
                let element = self.frames.parse(bytes)?;
                self.machine.element(tag.name, &element, &mut actions)
            }
            TokenKind::Footer => {
                self.say(writer::FOOTER.as_bytes());
                return Err(End::Closed("stream closed by the other end"));
            }
        };
        self.wire.input().advance(token.len);
        self.act(actions).await?;
        Ok(outcome?)
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
                Action::StartTls(to) => self.starttls(to).await?,
                Action::Restart => self.frames = Frames::new(&self.gate.config().limits),
                Action::Prove(challenge) => {
                    let asker = Asker {
                        side: self.side,
                        address: self.address.ip(),
                        chain: self
                            .machine
                            .tls()
                            .map(|tls| Arc::clone(tls.peer_chain()))
                            .unwrap_or_default(),
                        lang: self.lang.clone(),
                    };
                    self.jobs.spawn(prover::prove(Arc::clone(&self.gate), asker, challenge));
                }
                Action::Granted(grant, how) => self.granted(&grant, how),
                Action::Refused(pair, detail) => {
                    info!(pair = %pair, detail, addr = %self.address.ip(), "domain pair refused");
                }
                Action::Close => {
                    self.say(writer::FOOTER.as_bytes());
                    return Err(End::Refused);
                }
            }
        }
        Ok(())
    }

    fn granted(&mut self, grant: &AuthorizedPair, how: Authentication) {
        self.frames.authenticated(&self.gate.config().limits);
        self.used = Instant::now();
        let tls = self.machine.tls();
        info!(
            side = self.side.as_str(),
            direction = match self.side {
                Side::Peer => Direction::Inbound,
                Side::Legacy => Direction::Outbound,
            }.as_str(),
            pair = %grant.pair(),
            addr = %self.address.ip(),
            tls = tls.map(TlsFacts::version_str),
            entry = self.entry.as_str(),
            cipher = tls.map(TlsFacts::cipher_suite),
            proof = grant.proof().prooftype().as_str(),
            auth = how.as_str(),
            ms = self.accepted.elapsed().as_millis() as u64,
            "stream negotiated"
        );
        if self.side == Side::Peer {
            // EXTERNAL cannot be held back until the legacy server takes the pair; so the way
            // there is opened before the first stanza comes.
            let onward = self.onward();
            let lang = self.lang.as_ref();
            drop(self.gate.routes().get(&self.gate, onward, grant.pair(), lang));
        }
    }

    async fn starttls(&mut self, to: Option<Domain>) -> Result<(), End> {
        let config = self.gate.config();
        let broken = |error: std::io::Error| End::Broken(error.to_string());
        self.wire.flush().await.map_err(broken)?;
        let Some(socket) = self.wire.take_clean_socket() else {
            return Err(End::Broken("bytes in the clear behind <starttls/>".into()));
        };
        let deadline = self.accepted + config.limits.negotiation;
        let (wire, facts) =
            accept_tls(&self.gate, socket, Accept::StartTls { to: to.as_ref() }, deadline)
                .await
                .map_err(End::Broken)?;
        self.wire = wire;
        self.frames = Frames::new(&config.limits);
        self.machine.tls_up(facts);
        Ok(())
    }

    fn reconfigure(&mut self) -> Result<(), End> {
        let config = self.gate.config();
        if self.side == Side::Peer
            && let Some(denied) = config.policy.address(self.address.ip(), Direction::Inbound)
        {
            let rule = Some(denied.rule.0.to_string());
            let condition = StreamCondition::PolicyViolation;
            return Err(Fault::policy(condition, "address denied by rule", rule).into());
        }
        for pair in self.machine.reconfigure(config)? {
            info!(pair = %pair, "domain pair withdrawn by policy");
        }
        Ok(())
    }

    /// The side that stanzas of this stream go to.
    fn onward(&self) -> Side {
        match self.side {
            Side::Peer => Side::Legacy,
            Side::Legacy => Side::Peer,
        }
    }

    /// When something must have happened, and what it means if not.
    fn deadline(&self) -> (Instant, Deadline) {
        let limits = &self.gate.config().limits;
        let mut first = (self.used + FOREVER, Deadline::Idle);
        let mut at = |instant: Instant, why| {
            if instant < first.0 {
                first = (instant, why);
            }
        };
        if let Some(stalls) = self.wire.stalls_at(limits.write_stall) {
            at(stalls, Deadline::Stalled);
        }
        if let Some(partial) = self.partial {
            at(partial + limits.negotiation, Deadline::Partial);
        }
        if !self.machine.is_authorized() {
            let waiting = self.machine.is_waiting();
            // Streams that only ask dialback questions never get further; they may come again.
            let since = match self.side {
                Side::Peer => self.accepted,
                Side::Legacy => self.used,
            };
            // The proof of a pair takes its time: a place, a question, the legacy server. But who
            // asks for one after the other that nobody proves does not stay for ever.
            let grace = if waiting { limits.connect * 3 } else { Duration::ZERO };
            at(since + limits.negotiation + grace, Deadline::Negotiation);
        } else if self.side == Side::Peer {
            at(self.used + limits.idle, Deadline::Idle);
        }
        first
    }

    /// Last words, and the one line that tells the stream's story.
    async fn finish(mut self, end: End) {
        let stall = CLOSE_WAIT.min(self.gate.config().limits.write_stall);
        let (reason, blame, rule) = match &end {
            End::Fault(fault) => {
                let farewell = self.machine.farewell(fault);
                self.say(&farewell);
                (fault.reason(), fault.blame(), fault.rule())
            }
            End::Closed(reason) => (*reason, Blame::Remote, None),
            End::Refused => ("refused", Blame::Policy, None),
            End::Broken(detail) => (detail.as_str(), Blame::Remote, None),
        };
        if self.stanzas == 0 && self.machine.claimed().is_none() && matches!(end, End::Closed(_)) {
            // Somebody looked whether anybody is there: health checks do, every few seconds.
            debug!(addr = %self.address.ip(), entry = self.entry.as_str(), reason, "stream closed");
            self.wire.close(stall).await;
            return;
        }
        info!(
            side = self.side.as_str(),
            addr = %self.address.ip(),
            domain = self.machine.claimed().map(tracing::field::display),
            reason,
            blame = blame.as_str(),
            rule,
            condition = match &end {
                End::Fault(fault) => Some(fault.condition().as_str()),
                End::Closed(_) | End::Refused | End::Broken(_) => None,
            },
            stanzas = self.stanzas,
            seconds = self.accepted.elapsed().as_secs(),
            "stream closed"
        );
        self.jobs.shutdown().await;
        self.wire.close(stall).await;
    }
}

/// What a deadline was for.
#[derive(Clone, Copy)]
enum Deadline {
    Closing,
    Idle,
    Negotiation,
    Partial,
    Stalled,
}

impl From<Deadline> for End {
    fn from(deadline: Deadline) -> Self {
        let timeout = |reason| Self::Fault(Fault::remote(StreamCondition::PolicyViolation, reason));
        match deadline {
            Deadline::Closing => Self::Closed("drained"),
            Deadline::Idle => {
                Self::Fault(Fault::policy(StreamCondition::ConnectionTimeout, "idle", None))
            }
            Deadline::Negotiation => timeout("not authenticated in time"),
            Deadline::Partial => timeout("an element took too long"),
            Deadline::Stalled => Self::Broken("the other end takes no bytes".into()),
        }
    }
}

/// No deadline at all.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// How long, when fedgate ends, the other end may take to close its stream.
const DRAIN_WAIT: Duration = Duration::from_secs(1);
/// How long last words may take.
const CLOSE_WAIT: Duration = Duration::from_secs(2);
