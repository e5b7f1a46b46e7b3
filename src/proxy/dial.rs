//! Opening a stream: to a peer over the targets that its domain publishes, or to the legacy server
//! at its configured address; until stanzas may flow, or a dialback question is answered.

mod negotiation;

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
    failures::Key,
    frames::{Frame, Frames},
    gate::Gate,
    live::{Flow, LiveStream},
    reasons,
};
use crate::{
    auth::{Proof, dane::DanePlan},
    config::{
        model::{Config, HeaderVersion},
        policy::Level,
    },
    net::{
        connector::{Connected, Connector, Rules, connect_legacy},
        targets::Target,
        wire::Wire,
    },
    ops::metrics::Origin,
    stream::{
        Authentication, Failure, FailureKind, Initiating, Purpose, Setup, Step, VerifyOutcome,
    },
    xml::writer,
    xmpp::{Direction, Domain, DomainPair, Side},
};

/// An open stream.
#[derive(Debug)]
pub(super) struct Live {
    /// The connection.
    pub(super) wire: Wire,
    /// The peer's address.
    pub(super) address: Option<IpAddr>,
    /// What proves the other end's domain.
    pub(super) proof: Option<Proof>,
    /// What the operator sees of it, once it is open.
    pub(super) shown: Option<LiveStream>,
    frames: Frames,
    machine: Initiating,
}

/// What came of a dialback question.
#[derive(Debug)]
pub(super) struct Asked {
    /// What the authoritative server says.
    pub(super) outcome: VerifyOutcome,
    /// What proves that it is the authoritative server.
    pub(super) proof: Option<Proof>,
}

/// Where a peer was reached, and what DNS says of it.
#[derive(Debug)]
pub(super) struct Endpoint {
    address: SocketAddr,
    /// Its host name and port, and who says that it stands for the domain.
    pub(super) target: Target,
    /// By what its certificate is to be judged.
    pub(super) plan: DanePlan,
}

/// What a stream was opened for, reached.
enum Reached {
    Opened(Authentication),
    Verified(VerifyOutcome),
}

/// Opens a stream that carries the stanzas of `pair`.
pub(super) async fn open(
    gate: &Arc<Gate>,
    side: Side,
    pair: &DomainPair,
    lang: Option<Arc<str>>,
) -> Result<Live, Failure> {
    // While the legacy server checks our key, its own wish for the reverse pair must not wait.
    let _checking = (side == Side::Legacy).then(|| gate.checking().enter(pair.clone()));
    let began = Instant::now();
    let job = Job::new(gate, side, pair, Purpose::Send, lang)?;
    let (mut live, reached) = job.run().await?;
    if let Reached::Opened(authentication) = reached {
        let tls = live.machine.tls();
        let shown =
            gate.live().enter(side, Origin::Opened, live.address.map(|ip| ip.to_string()), None);
        if let Some(tls) = tls {
            shown.secured(tls);
        }
        shown.authorized(pair, Flow::Out, live.proof.as_ref());
        gate.metrics().negotiated(side, Origin::Opened, began.elapsed().as_secs_f64());
        let about = About::stream(shown.id(), direction(side)).of(pair);
        gate.events().tell("opened", about, || {
            let proof = live.proof.as_ref().map_or("none", |proof| proof.prooftype().as_str());
            format!("{proof}, {}", tls.map_or("no TLS", |tls| tls.version_str()))
        });
        gate.failures().succeeded(direction(side), &Key::of(pair, direction(side)));
        info!(
            stream = shown.id(),
            side = side.as_str(),
            direction = direction(side).as_str(),
            pair = %pair,
            addr = live.address.map(tracing::field::display),
            tls = tls.map(|tls| tls.version_str()),
            cipher = tls.map(|tls| tls.cipher_suite()),
            proof = live.proof.as_ref().map_or("none", |proof| proof.prooftype().as_str()),
            auth = authentication.as_str(),
            ms = began.elapsed().as_millis() as u64,
            "stream negotiated"
        );
        live.shown = Some(shown);
    }
    Ok(live)
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
    let job = Job::new(gate, side, pair, Purpose::Verify { id, key }, None)?;
    let (mut live, reached) = job.run().await?;
    let proof = live.proof.take();
    live.wire.put(writer::FOOTER.as_bytes());
    gate.tracker().spawn(live.wire.close(FAREWELL));
    match reached {
        Reached::Verified(outcome) => Ok(Asked { outcome, proof }),
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

/// Whether policy allows a remote domain.
pub(super) fn allowed(
    config: &Config,
    remote: &Domain,
    direction: Direction,
) -> Result<(), Failure> {
    match config.policy.domain(remote, direction).denied {
        None => Ok(()),
        Some(denied) => Err(reasons::denied(remote, &denied)),
    }
}

/// Whether policy allows to connect to an address.
pub(super) fn address_allowed(config: &Config, address: IpAddr) -> Result<(), Failure> {
    match config.policy.address(address, Direction::Outbound) {
        None => Ok(()),
        Some(denied) => Err(reasons::denied(address, &denied)),
    }
}

/// Whether what was proven is enough.
pub(super) fn level_reached(level: Level, proof: Option<&Proof>) -> Result<(), Failure> {
    if level == Level::Trusted && proof.is_none() {
        return Err(Failure::new(FailureKind::NotProven, "the level trusted is not reached"));
    }
    Ok(())
}

struct Job<'a> {
    gate: &'a Arc<Gate>,
    config: Arc<Config>,
    setup: Setup,
    /// The direction of stanzas that policy is asked for.
    way: Direction,
    deadline: Instant,
}

impl<'a> Job<'a> {
    fn new(
        gate: &'a Arc<Gate>,
        side: Side,
        pair: &DomainPair,
        purpose: Purpose,
        lang: Option<Arc<str>>,
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
            level: config.policy.domain(remote, way).level,
            external: false,
            secret: match side {
                Side::Peer => gate.keys().public().clone(),
                Side::Legacy => gate.keys().local(&legacy.name),
            },
            lang,
        };
        let deadline = Instant::now() + config.limits.connect;
        Ok(Self { gate, config, setup, way, deadline })
    }

    async fn run(mut self) -> Result<(Live, Reached), Failure> {
        match self.setup.side {
            Side::Peer => self.peer().await,
            Side::Legacy => self.legacy().await,
        }
    }

    async fn legacy(&mut self) -> Result<(Live, Reached), Failure> {
        let Some(legacy) = self.config.local_domains.get(&self.setup.pair.target).cloned() else {
            return Err(Failure::new(FailureKind::NotFound, "not served here"));
        };
        let socket = connect_legacy(&legacy.address, self.config.limits.tcp_connect)
            .await
            .map_err(|error| {
                let detail = format!("connect to {} at {}: {error}", legacy.name, legacy.address);
                Failure::new(FailureKind::Unreachable, detail)
            })?;
        self.attempt(socket, None).await
    }

    async fn peer(&mut self) -> Result<(Live, Reached), Failure> {
        let remote = self.setup.pair.target.clone();
        allowed(&self.config, &remote, self.way)?;
        let services = self.gate.services();
        let targets = match timeout_at(self.deadline, services.resolver.service(&remote)).await {
            Ok(targets) => targets.map_err(Failure::from)?,
            Err(_) => {
                return Err(Failure::new(FailureKind::Resolution, "name resolution took too long"));
            }
        };
        let config = Arc::clone(&self.config);
        let rules = Rules {
            filter: Box::new(move |ip| config.policy.address(ip, Direction::Outbound)),
            own: services.own.clone(),
            tcp_timeout: self.config.limits.tcp_connect,
        };
        let mut connector = Connector::new(services.resolver.clone(), targets, rules);
        let mut failures = Vec::new();
        loop {
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
                    failures.push(failure);
                }
            }
        }
        let unconnected = connector.into_error();
        if failures.is_empty() || !unconnected.failures.is_empty() {
            failures.insert(0, Failure::from(unconnected));
        }
        Err(Failure::all(failures))
    }

    async fn target(&mut self, connected: Connected) -> Result<(Live, Reached), Failure> {
        let Connected { stream, target, address, plan } = connected;
        let endpoint = Endpoint { address, target, plan };
        self.setup.external = self.gate.offers_certificate(&self.setup.pair.target);
        match self.attempt(stream, Some(&endpoint)).await {
            Err(failure) if failure.kind() == FailureKind::Certificate && self.setup.external => {
                // Protocol EKU-3: servers that want clientAuth in our certificate end the
                // connection. Without a certificate dialback is left.
                self.gate.suppress_certificate(&self.setup.pair.target);
                self.setup.external = false;
                let again = timeout(self.config.limits.tcp_connect, TcpStream::connect(address));
                let Ok(Ok(stream)) = again.await else { return Err(failure) };
                self.attempt(stream, Some(&endpoint)).await
            }
            outcome => outcome,
        }
    }
}

impl Live {
    /// Handles what came in while stanzas flow the other way.
    pub(super) fn read(&mut self) -> Result<(), Failure> {
        let mut steps = Vec::new();
        while let Some(frame) =
            self.frames.next(self.wire.input()).map_err(|fault| Failure::malformed(&fault))?
        {
            self.take(frame, &mut steps)?;
        }
        self.wire.shrink();
        for step in steps {
            if let Step::Send(text) = step {
                self.wire.put(&text);
            }
        }
        Ok(())
    }

    /// The last words when the stream ends with `failure`.
    pub(super) fn farewell(&self, failure: &Failure) -> Vec<u8> {
        self.machine.farewell(failure)
    }

    fn take(&mut self, frame: Frame, steps: &mut Vec<Step>) -> Result<(), Failure> {
        match frame {
            Frame::Header(header) => self.machine.header(&header, steps),
            Frame::Element(name, element) => self.machine.element(name, &element, steps),
            Frame::Stanza => self.machine.stanza(),
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
        | FailureKind::Tls
        | FailureKind::Unreachable => false,
    }
}

/// How long the footer after a dialback question may take.
const FAREWELL: Duration = Duration::from_secs(2);
