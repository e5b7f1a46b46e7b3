//! One stream to be opened: where it leads, in which order that is tried, and by when it is over.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tracing::{debug, info};

use super::{Endpoint, Outcome, direction, telling};
use crate::{
    config::{
        model::{Config, HeaderVersion},
        policy::{Decision, Level},
    },
    net::{
        connector::{Connected, Connector, bear_until, connect_legacy},
        targets::{Target, TargetTls},
    },
    proxy::{
        gate::Gate,
        rules::{allowed_by, decide, returning, stanzas},
        services::Services,
        sharing::Join,
        steps::Steps,
    },
    stream::{Failure, FailureKind, Purpose, Setup},
    xmpp::{Direction, DomainPair, Side},
};

/// What is to be done, and by what.
pub(super) struct Job<'a> {
    pub(super) gate: &'a Arc<Gate>,
    pub(super) config: Arc<Config>,
    pub(super) setup: Setup,
    /// The direction of stanzas that policy is asked for.
    pub(super) way: Direction,
    /// When all of it is over.
    pub(super) deadline: Instant,
    /// When the connection that is tried is given up, unless the peer asks others for its answer.
    pub(super) until: Instant,
    /// The stranger who causes it, if it is one.
    pub(super) asker: Option<IpAddr>,
    /// The server that is tried first, whatever its priority: that of a stream to be resumed.
    pub(super) former: Option<Target>,
    /// What is done.
    pub(super) steps: &'a Steps,
}

impl<'a> Job<'a> {
    pub(super) fn new(
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
        let (decision, bidi, management) = match side {
            Side::Legacy => (decide(&config, pair, way), None, false),
            Side::Peer => {
                let out = decide(&config, pair, Direction::Outbound);
                let back = decide(&config, &pair.reversed(), Direction::Inbound);
                let bidi = returning(&out, &back, &config.limits);
                let management = out.stream_management();
                (if way == Direction::Outbound { out } else { back }, bidi, management)
            }
        };
        let setup = Setup {
            side,
            pair: pair.clone(),
            purpose,
            version: side == Side::Peer || legacy.header == HeaderVersion::V1,
            level: decision.level().max(Level::Verified),
            external: false,
            bidi,
            management,
            resumption: config.limits.resumption.is_some(),
            former: None,
            secret: match side {
                Side::Peer => gate.keys().public().clone(),
                Side::Legacy => gate.keys().local(&legacy.name),
            },
            lang,
        };
        let deadline = Instant::now() + decision.connect_limit(&config.limits);
        steps.needed(way, setup.level);
        let (until, asker, former) = (deadline, None, None);
        Ok(Self { gate, config, setup, way, deadline, until, asker, former, steps })
    }

    /// What the rules say of the stanzas that the stream is about.
    pub(super) fn decision(&self) -> Decision<'_> {
        let Setup { side, pair, .. } = &self.setup;
        decide(&self.config, &stanzas(pair, *side, self.way), self.way)
    }

    pub(super) async fn run(mut self, join: Option<&mut Join>) -> Result<Outcome, Failure> {
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
        self.steps.reached_legacy(&legacy);
        let mut outcome = self.attempt(socket, None).await?;
        if let Outcome::Reached(live, _) = &mut outcome {
            live.legacy = Some(legacy);
        }
        Ok(outcome)
    }

    async fn peer(&mut self, mut join: Option<&mut Join>) -> Result<Outcome, Failure> {
        let remote = self.setup.pair.target.clone();
        let config = Arc::clone(&self.config);
        let connect = {
            let stanzas = stanzas(&self.setup.pair, Side::Peer, self.way);
            let decision = decide(&config, &stanzas, self.way);
            allowed_by(&decision, &remote)
                .inspect_err(|_| self.gate.memory().refused(&remote, self.way))?;
            decision.connect()
        };
        if let Some(connect) = connect {
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
        let mut targets = targets;
        if let Some(former) = &self.former {
            let place = |target: &Target| (target.host.clone(), target.port, target.tls);
            targets.sort_by_key(|target| place(target) != place(former));
        }
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
            self.until = bear_until(self.deadline, connector.has_more());
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

    pub(super) async fn target(&mut self, connected: Connected) -> Result<Outcome, Failure> {
        let Connected { stream, target, address, plan, security } = connected;
        self.steps.reached(&target.host, address);
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
                    && endpoint.plan.asks_for_tls().is_none()
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
