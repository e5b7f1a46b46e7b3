//! Opening a stream: to a peer over the targets that its domain publishes, or to the legacy server
//! at its configured address; until stanzas may flow, or a dialback question is answered.

mod again;
mod asking;
mod fixed;
mod job;
mod negotiation;
mod telling;

pub(super) use again::prove_again;
pub(super) use asking::{Kept, ask};
use job::Job;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;
use tracing::info;

use super::{
    events::About,
    frames::{Frame, Frames},
    gate::Gate,
    judge::Silence,
    live::LiveStream,
    remembering::Sight,
    sharing::Join,
    steps::Steps,
};
use crate::{
    auth::{
        Proof, Strength, TlsFacts,
        dane::{DanePlan, Security, SrvState},
    },
    config::{model::Legacy, policy::Level},
    net::{targets::Target, wire::Wire},
    ops::metrics::Origin,
    stream::{
        Authentication, Failure, FailureKind, Former, Initiating, Purpose, Resumed, Step,
        VerifyOutcome,
    },
    xmpp::{Direction, DomainPair, Side},
};

/// An open stream.
#[derive(Debug)]
pub(super) struct Live {
    /// The connection.
    pub(super) wire: Wire,
    /// Where the peer was reached; none for the legacy server.
    pub(super) endpoint: Option<Box<Endpoint>>,
    /// The legacy server, as it was reached.
    pub(super) legacy: Option<Arc<Legacy>>,
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
    announce(gate, side, pair, &mut live, reached, began);
    Ok(Way::Own(live))
}

/// Opens a stream to a peer on which the former one of `pair` is to be resumed. Whether it is, the
/// machine knows.
pub(super) async fn resume(
    gate: &Arc<Gate>,
    pair: &DomainPair,
    lang: Option<Arc<str>>,
    former: Former,
    server: Option<Target>,
) -> Result<Box<Live>, Failure> {
    let (began, steps) = (Instant::now(), Steps::new());
    let mut job = Job::new(gate, Side::Peer, pair, Purpose::Send, lang, &steps)?;
    job.setup.former = Some(former);
    // Another one of the same domain may know nothing of it.
    job.former = server;
    match job.run(None).await? {
        Outcome::Reached(mut live, reached) => {
            announce(gate, Side::Peer, pair, &mut live, reached, began);
            Ok(live)
        }
        Outcome::Joined => Err(Failure::new(FailureKind::Stream, "joined in place of resumed")),
    }
}

/// A stream is open: the operator is told.
fn announce(
    gate: &Arc<Gate>,
    side: Side,
    pair: &DomainPair,
    live: &mut Live,
    reached: Reached,
    began: Instant,
) {
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
            resumed = matches!(live.machine.resumed(), Some(Resumed::Yes(_))).then_some(true),
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
        if live.machine.is_managed() {
            shown.managed(matches!(live.machine.resumed(), Some(Resumed::Yes(_))));
        }
        live.shown = Some(shown);
    }
}

/// Where the legacy server of a pair's target is.
fn legacy_address(gate: &Gate, pair: &DomainPair) -> Option<String> {
    gate.config().local_domains.get(&pair.target).map(|legacy| legacy.address.to_string())
}

/// Which way stanzas go on streams that we open on that side.
fn direction(side: Side) -> Direction {
    match side {
        Side::Peer => Direction::Outbound,
        Side::Legacy => Direction::Inbound,
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

/// How long the footer after a dialback question may take.
const FAREWELL: Duration = Duration::from_secs(2);
