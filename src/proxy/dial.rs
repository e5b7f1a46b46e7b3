//! Opening a stream: to a peer over the targets that its domain publishes, or to the legacy server
//! at its configured address; until stanzas may flow, or a dialback question is answered.

mod again;
mod fixed;
mod negotiation;
mod telling;

pub(super) use again::prove_again;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tracing::{debug, info};

use super::{
    events::About,
    frames::{Frame, Frames},
    gate::Gate,
    judge::Silence,
    live::LiveStream,
    remembering::Sight,
    rules::{allowed, decide, may_return, stanzas, taken},
    services::Services,
    sharing::Join,
    steps::Steps,
};
use crate::{
    auth::{
        Proof, Strength, TlsFacts,
        dane::{DanePlan, Security, SrvState},
    },
    config::{
        model::{Config, HeaderVersion},
        policy::{Decision, Level},
    },
    net::{
        connector::{Connected, Connector, connect_legacy},
        targets::{Target, TargetTls},
        wire::Wire,
    },
    ops::metrics::Origin,
    stream::{
        Authentication, Failure, FailureKind, Initiating, Purpose, Setup, Step, VerifyOutcome,
    },
    xml::writer,
    xmpp::{Direction, DomainPair, Side},
};

/// An open stream.
#[derive(Debug)]
pub(super) struct Live {
    /// The connection.
    pub(super) wire: Wire,
    /// Where the peer was reached; none for the legacy server.
    pub(super) endpoint: Option<Endpoint>,
    /// What proves the other end's domain.
    pub(super) proof: Option<Proof>,
    /// Whose answer is missing, by which more might be proven.
    pub(super) silence: Option<Silence>,
    /// What the operator sees of it, once it is open for stanzas.
    pub(super) shown: Option<LiveStream>,
    pub(super) frames: Frames,
    pub(super) machine: Initiating,
}

/// How a pair got onto a stream.
#[derive(Debug)]
pub(super) enum Way {
    /// Onto one of its own.
    Own(Box<Live>),
    /// Onto one that was open.
    Joined,
}

/// What came of a dialback question.
#[derive(Debug)]
pub(super) struct Asked {
    /// What the authoritative server says.
    pub(super) outcome: VerifyOutcome,
    /// What proves that it is the authoritative server.
    pub(super) proof: Option<Proof>,
    /// Whether DNSSEC-secure records led to it.
    pub(super) found_securely: bool,
    /// Whose answer is missing, by which more might be proven.
    pub(super) silence: Option<Silence>,
}

/// Where a peer is reached, and what DNS says of it.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    /// Its address.
    pub(super) address: SocketAddr,
    /// Its host name and port, and who says that it stands for the domain.
    pub(super) target: Target,
    /// By what its certificate is to be judged.
    pub(super) plan: DanePlan,
    /// Whether DNSSEC vouches for the address.
    pub(super) security: Security,
}

impl Endpoint {
    /// Whether all that led here from the domain is DNSSEC-secure.
    fn is_found_securely(&self) -> bool {
        let is_delegated = self.target.delegation.state() == SrvState::Secure;
        is_delegated && self.security == Security::Secure
    }
}

/// What came of a job.
enum Outcome {
    Reached(Box<Live>, Reached),
    Joined,
}

/// What a stream was opened for, reached.
enum Reached {
    Opened(Authentication),
    Verified(VerifyOutcome),
}

/// Opens a stream that carries the stanzas of `pair`, or has an open one carry them by `join`.
pub(super) async fn open(
    gate: &Arc<Gate>,
    side: Side,
    pair: &DomainPair,
    lang: Option<Arc<str>>,
    join: Option<&mut Join>,
    steps: &Steps,
) -> Result<Way, Failure> {
    // While the legacy server checks our key, its own wish for the reverse pair must not wait.
    let _checking = (side == Side::Legacy).then(|| gate.checking().enter(pair.clone()));
    let began = Instant::now();
    let job = Job::new(gate, side, pair, Purpose::Send, lang, steps)?;
    let (mut live, reached) = match job.run(join).await? {
        Outcome::Reached(live, reached) => (live, reached),
        Outcome::Joined => return Ok(Way::Joined),
    };
    if let Reached::Opened(authentication) = reached {
        let tls = live.machine.tls();
        let address = match (&live.endpoint, side) {
            (Some(endpoint), _) => Some(endpoint.address.to_string()),
            (None, Side::Legacy) => legacy_address(gate, pair),
            (None, Side::Peer) => None,
        };
        let shown = gate.live().enter(side, Origin::Opened, address, None);
        if let Some(tls) = tls {
            shown.secured(tls);
        }
        gate.metrics().negotiated(side, Origin::Opened, began.elapsed().as_secs_f64());
        gate.events().tell("opened", About::stream(shown.id(), direction(side)).of(pair), || {
            let proof = live.proof.as_ref().map_or("none", |proof| proof.prooftype().as_str());
            format!("{proof}, {}", tls.map_or("no TLS", |tls| tls.version_str()))
        });
        info!(
            stream = shown.id(),
            side = side.as_str(),
            direction = direction(side).as_str(),
            pair = %pair,
            addr = live.address().map(tracing::field::display),
            tls = tls.map(|tls| tls.version_str()),
            cipher = tls.map(|tls| tls.cipher_suite()),
            reached = Level::of(tls.is_some(), live.proof.is_some()).as_str(),
            proof = live.proof.as_ref().map_or("none", |proof| proof.prooftype().as_str()),
            strength = live.proof.as_ref().map(Proof::strength).map(Strength::as_str),
            auth = authentication.as_str(),
            bidi = live.machine.is_bidirectional().then_some(true),
            ms = began.elapsed().as_millis() as u64,
            "stream negotiated"
        );
        if side == Side::Peer {
            let version = tls.map(TlsFacts::version);
            gate.report(pair, Direction::Outbound, live.address(), version, live.proof.as_ref());
            gate.remember(&live.sight(pair, Direction::Outbound));
            if live.machine.is_bidirectional() {
                gate.remember(&live.sight(&pair.reversed(), Direction::Inbound));
            }
        }
        live.shown = Some(shown);
    }
    Ok(Way::Own(live))
}

/// Where the legacy server of a pair's target is.
fn legacy_address(gate: &Gate, pair: &DomainPair) -> Option<String> {
    gate.config().local_domains.get(&pair.target).map(|legacy| legacy.address.to_string())
}

/// Asks the server that is authoritative for the pair's target whether it made `key` for the
/// stream `id` (XEP-0220 §2.1.2).
pub(super) async fn ask(
    gate: &Arc<Gate>,
    side: Side,
    pair: &DomainPair,
    id: String,
    key: String,
) -> Result<Asked, Failure> {
    let steps = Steps::new();
    let job = Job::new(gate, side, pair, Purpose::Verify { id, key }, None, &steps)?;
    let Outcome::Reached(mut live, reached) = job.run(None).await? else {
        return Err(Failure::new(FailureKind::Stream, "joined in place of verified"));
    };
    let (proof, silence) = (live.proof.take(), live.silence);
    let found_securely = live.endpoint.as_ref().is_some_and(Endpoint::is_found_securely);
    live.wire.put(writer::FOOTER.as_bytes());
    gate.tracker().spawn(live.wire.close(FAREWELL));
    match reached {
        Reached::Verified(outcome) => Ok(Asked { outcome, proof, found_securely, silence }),
        Reached::Opened(_) => Err(Failure::new(FailureKind::Stream, "opened in place of verified")),
    }
}

/// Which way stanzas go on streams that we open on that side.
fn direction(side: Side) -> Direction {
    match side {
        Side::Peer => Direction::Outbound,
        Side::Legacy => Direction::Inbound,
    }
}

struct Job<'a> {
    gate: &'a Arc<Gate>,
    config: Arc<Config>,
    setup: Setup,
    /// The direction of stanzas that policy is asked for.
    way: Direction,
    deadline: Instant,
    /// What is done.
    steps: &'a Steps,
}

impl<'a> Job<'a> {
    fn new(
        gate: &'a Arc<Gate>,
        side: Side,
        pair: &DomainPair,
        purpose: Purpose,
        lang: Option<Arc<str>>,
        steps: &'a Steps,
    ) -> Result<Self, Failure> {
        let config = gate.config();
        let (local, remote) = match side {
            Side::Peer => (&pair.sender, &pair.target),
            Side::Legacy => (&pair.target, &pair.sender),
        };
        let Some(legacy) = config.local_domains.get(local) else {
            return Err(Failure::new(FailureKind::NotFound, format!("{local} is not served here")));
        };
        if side == Side::Peer && config.local_domains.contains_key(remote) {
            return Err(Failure::new(
                FailureKind::NotFound,
                format!("{remote} is served here: nothing is dialled"),
            ));
        }
        // A question is about stanzas that come in.
        let way = match purpose {
            Purpose::Send => direction(side),
            Purpose::Verify { .. } => Direction::Inbound,
        };
        let setup = Setup {
            side,
            pair: pair.clone(),
            purpose,
            version: side == Side::Peer || legacy.header == HeaderVersion::V1,
            level: decide(&config, &stanzas(pair, side, way), way).level().max(Level::Verified),
            external: false,
            bidi: (side == Side::Peer && may_return(&config, pair))
                .then(|| taken(&config, &pair.reversed())),
            secret: match side {
                Side::Peer => gate.keys().public().clone(),
                Side::Legacy => gate.keys().local(&legacy.name),
            },
            lang,
        };
        let patience =
            decide(&config, &stanzas(pair, side, way), way).connect_limit(&config.limits);
        let deadline = Instant::now() + patience;
        steps.say(format!(
            "{way} stanzas need the level {level}",
            way = way.as_str(),
            level = setup.level.as_str()
        ));
        Ok(Self { gate, config, setup, way, deadline, steps })
    }

    /// What the rules say of the stanzas that the stream is about.
    fn decision(&self) -> Decision<'_> {
        let Setup { side, pair, .. } = &self.setup;
        decide(&self.config, &stanzas(pair, *side, self.way), self.way)
    }

    async fn run(mut self, join: Option<&mut Join>) -> Result<Outcome, Failure> {
        match self.setup.side {
            Side::Peer => self.peer(join).await,
            Side::Legacy => self.legacy().await,
        }
    }

    async fn legacy(&mut self) -> Result<Outcome, Failure> {
        let Some(legacy) = self.config.local_domains.get(&self.setup.pair.target).cloned() else {
            return Err(Failure::new(FailureKind::NotFound, "not served here"));
        };
        let socket = connect_legacy(&legacy.address, self.config.limits.tcp_connect)
            .await
            .map_err(|error| {
                let detail = format!("connect to {} at {}: {error}", legacy.name, legacy.address);
                Failure::new(FailureKind::Unreachable, detail)
            })?;
        self.steps.say(format!("connected to {} at {}", legacy.name, legacy.address));
        self.attempt(socket, None).await
    }

    async fn peer(&mut self, mut join: Option<&mut Join>) -> Result<Outcome, Failure> {
        let remote = self.setup.pair.target.clone();
        let config = Arc::clone(&self.config);
        let stanzas = stanzas(&self.setup.pair, Side::Peer, self.way);
        allowed(&config, &stanzas, self.way)
            .inspect_err(|_| self.gate.memory().refused(&remote, self.way))?;
        if let Some(connect) = decide(&config, &stanzas, self.way).connect() {
            return self.fixed(connect).await;
        }
        let services = self.gate.services();
        let targets = match timeout_at(self.deadline, services.resolver.service(&remote)).await {
            Ok(targets) => targets.map_err(Failure::from)?,
            Err(_) => {
                return Err(Failure::new(FailureKind::Resolution, "name resolution took too long"));
            }
        };
        self.steps.say(telling::found(&targets));
        let rules = Services::rules(&self.config, &services.own);
        let mut connector = Connector::new(services.resolver.clone(), targets, rules);
        let mut failures = Vec::new();
        loop {
            if let Some(join) = &mut join
                && let Ok(Some(candidates)) = timeout_at(self.deadline, connector.upcoming()).await
                && let Ok(true) = timeout_at(self.deadline, join.join(self.gate, candidates)).await
            {
                return Ok(Outcome::Joined);
            }
            let connected = match timeout_at(self.deadline, connector.next()).await {
                Ok(Some(connected)) => connected,
                Ok(None) => break,
                Err(_) => {
                    failures.push(Failure::new(FailureKind::Timeout, "no time left to connect"));
                    break;
                }
            };
            match self.target(connected).await {
                Ok(reached) => return Ok(reached),
                Err(failure) if is_final(failure.kind()) => return Err(failure),
                Err(failure) => {
                    debug!(reason = failure.reason(), detail = %failure, "target given up");
                    self.steps.say(format!("given up: {failure}"));
                    failures.push(failure);
                }
            }
        }
        let unconnected = connector.into_error();
        for failure in &unconnected.failures {
            self.steps.say(failure.to_string());
        }
        if failures.is_empty() || !unconnected.failures.is_empty() {
            failures.insert(0, Failure::from(unconnected));
        }
        Err(Failure::all(failures))
    }

    async fn target(&mut self, connected: Connected) -> Result<Outcome, Failure> {
        let Connected { stream, target, address, plan, security } = connected;
        self.steps.say(format!("connected to {} at {address}", target.host));
        let endpoint = Endpoint { address, target, plan, security };
        self.setup.external = self.gate.offers_certificate(&self.setup.pair.target);
        match self.attempt(stream, Some(&endpoint)).await {
            Err(failure) if failure.kind() == FailureKind::Certificate && self.setup.external => {
                // Protocol EKU-3: servers that want clientAuth in our certificate end the
                // connection. Without a certificate dialback is left.
                self.gate.suppress_certificate(&self.setup.pair.target);
                self.steps.say(format!("{failure}: once more without our certificate"));
                self.setup.external = false;
                let again = timeout(self.config.limits.tcp_connect, TcpStream::connect(address));
                let Ok(Ok(stream)) = again.await else { return Err(failure) };
                self.attempt(stream, Some(&endpoint)).await
            }
            Err(failure)
                if failure.kind() == FailureKind::Tls
                    && endpoint.target.tls == TargetTls::StartTls
                    && self.decision().level() == Level::Permissive =>
            {
                self.without_tls(address, &endpoint, failure).await
            }
            outcome => outcome,
        }
    }

    /// Once more, for a peer with which TLS failed and that need not have it.
    async fn without_tls(
        &mut self,
        address: SocketAddr,
        endpoint: &Endpoint,
        failure: Failure,
    ) -> Result<Outcome, Failure> {
        info!(pair = %self.setup.pair, addr = %address.ip(), detail = %failure, "no TLS: tried without");
        let again = timeout(self.config.limits.tcp_connect, TcpStream::connect(address));
        let Ok(Ok(stream)) = again.await else { return Err(failure) };
        self.setup.level = Level::Permissive;
        let outcome = self.attempt(stream, Some(endpoint)).await;
        self.setup.level = Level::Verified;
        outcome
    }
}

impl Live {
    /// The peer's address.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.endpoint.as_ref().map(|endpoint| endpoint.address.ip())
    }

    /// What it has shown of the peer, for a pair that it carries or is to carry.
    pub(super) fn sight<'a>(&'a self, pair: &'a DomainPair, direction: Direction) -> Sight<'a> {
        let (tls, proof) = (self.machine.tls(), self.proof.as_ref());
        let chain = tls.map_or(&[][..], |tls| tls.peer_chain());
        Sight { pair, direction, tls: tls.map(TlsFacts::version), proof, chain }
    }

    /// The last words when the stream ends with `failure`.
    pub(super) fn farewell(&self, failure: &Failure) -> Vec<u8> {
        self.machine.farewell(failure)
    }

    /// Hands one piece of the input to the machine, before stanzas may flow.
    fn take(&mut self, frame: Frame, steps: &mut Vec<Step>) -> Result<(), Failure> {
        match frame {
            Frame::Header(header) => self.machine.header(&header, steps),
            Frame::Element(name, element) => self.machine.element(name, &element, steps),
            Frame::Stanza => self.machine.early_stanza(),
            Frame::Footer => Err(self.machine.footer()),
        }
    }
}

/// Whether other targets of the domain would say the same.
fn is_final(kind: FailureKind) -> bool {
    match kind {
        FailureKind::Rejected | FailureKind::HostUnknown => true,
        FailureKind::Certificate
        | FailureKind::Denied
        | FailureKind::NotFound
        | FailureKind::NotProven
        | FailureKind::Resolution
        | FailureKind::Resource
        | FailureKind::Shutdown
        | FailureKind::Stream
        | FailureKind::Timeout
        | FailureKind::TooLarge
        | FailureKind::Tls
        | FailureKind::Unreachable => false,
    }
}

/// How long the footer after a dialback question may take.
const FAREWELL: Duration = Duration::from_secs(2);
