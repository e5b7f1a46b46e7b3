//! What all tasks of one fedgate share: the configuration of now and what was made from it, the
//! routes, and the two signals by which everything ends.

use std::{
    fmt,
    future::pending,
    io,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info;

use super::{
    admission::Admission,
    backlog::Backlog,
    berths::Berths,
    checking::Checking,
    dial::Kept,
    events::Events,
    failures::{Failures, Key},
    features::Refusals,
    live::{self, Flow, LiveStreams},
    pings::Pings,
    places::Places,
    questions::{Full, Questions},
    rates::Rates,
    reached::{Limit, Reached},
    remembering::Remembering,
    routes::Routes,
    services::Services,
    sessions::Sessions,
    sharing::Sharing,
    workers::Workers,
};
use crate::{
    auth::dialback_key::DialbackKeys,
    config::model::Config,
    net::tls::{ClientCertificate, Connect, HandshakeError, Secured, is_certificate_alert},
    ops::{
        metrics::{Metrics, Origin},
        report::{self, ConfigState},
    },
    stream::{Failure, FailureKind, Setup},
    xmpp::{Domain, DomainPair, Side},
};

/// How long a peer that ended TLS because of our certificate is not shown it again (EKU-3).
const SUPPRESSION: Duration = Duration::from_secs(3600);
/// Peers remembered for that.
const SUPPRESSED_MAX: usize = 10_000;

/// The shared heart of one fedgate.
#[derive(Debug)]
pub(super) struct Gate {
    services: ArcSwap<Services>,
    generation: watch::Sender<u64>,
    keys: Arc<DialbackKeys>,
    routes: Routes,
    sharing: Sharing,
    sessions: Arc<Sessions>,
    checking: Arc<Checking>,
    admission: Arc<Admission>,
    /// The same for legacy servers: peers take no places away from them.
    legacy_admission: Arc<Admission>,
    berths: Arc<Berths>,
    metrics: Metrics,
    live: Arc<LiveStreams>,
    failures: Failures,
    events: Events,
    refusals: Refusals,
    questions: Arc<Questions>,
    kept: Kept,
    lookups: Arc<Questions>,
    places: Arc<Places>,
    rates: Rates,
    reached: Reached,
    backlog: Arc<Backlog>,
    memory: Remembering,
    pings: Pings,
    no_certificate: DashMap<Domain, Instant>,
    started: u64,
    config_state: Mutex<ConfigState>,
    listening: ArcSwap<Vec<report::Listener>>,
    workers: Workers,
    tracker: TaskTracker,
    routes_to: BySide<TaskTracker>,
    draining: CancellationToken,
    leaving: CancellationToken,
    ending: CancellationToken,
    stopping: BySide<CancellationToken>,
}

/// One for each side.
#[derive(Debug, Default)]
struct BySide<T> {
    legacy: T,
    peer: T,
}

impl<T> BySide<T> {
    fn of(&self, side: Side) -> &T {
        match side {
            Side::Legacy => &self.legacy,
            Side::Peer => &self.peer,
        }
    }
}

impl Gate {
    /// A gate that runs on these services.
    pub(super) fn new(services: Services, keys: DialbackKeys, workers: Workers) -> Arc<Self> {
        let backlog = Backlog::new(services.config.limits.queue_total);
        let memory = Remembering::new(&services.config.state_dir);
        let berths = Berths::new();
        let connections = || Admission::new(Limit::ConnectionsPerAddress, Limit::Connections);
        Arc::new(Self {
            services: ArcSwap::from_pointee(services),
            generation: watch::Sender::new(1),
            keys: Arc::new(keys),
            routes: Routes::default(),
            sharing: Sharing::default(),
            sessions: Arc::default(),
            checking: Checking::new(),
            admission: connections(),
            legacy_admission: connections(),
            metrics: Metrics::new(),
            live: LiveStreams::new(Arc::clone(&berths)),
            berths,
            failures: Failures::default(),
            events: Events::new(),
            refusals: Refusals::default(),
            questions: Questions::new(),
            kept: Kept::default(),
            lookups: Questions::new(),
            places: Arc::default(),
            rates: Rates::default(),
            reached: Reached::default(),
            backlog,
            memory,
            pings: Pings::default(),
            no_certificate: DashMap::new(),
            started: report::now(),
            config_state: Mutex::new(ConfigState {
                generation: 1,
                loaded: report::now(),
                error: None,
            }),
            listening: ArcSwap::default(),
            workers,
            tracker: TaskTracker::new(),
            routes_to: BySide::default(),
            draining: CancellationToken::new(),
            leaving: CancellationToken::new(),
            ending: CancellationToken::new(),
            stopping: BySide::default(),
        })
    }

    /// The configuration of now.
    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.services.load().config)
    }

    /// The configuration of now, and what was made from it.
    pub(super) fn services(&self) -> Arc<Services> {
        self.services.load_full()
    }

    /// From now on everything runs on `services`; every open stream is judged again.
    pub(super) fn replace(&self, services: Services) {
        self.backlog.resize(services.config.limits.queue_total);
        let services = services.in_place_of(&self.services.load());
        self.services.store(Arc::new(services));
        self.routes.forget_failures();
        self.no_certificate.clear();
        let mut state = self.config_state.lock().unwrap_or_else(PoisonError::into_inner);
        state.generation += 1;
        (state.loaded, state.error) = (report::now(), None);
        drop(state);
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// Another number whenever certificates may prove something else than before. Who has one judged
    /// asks for it before the services: newer ones cost a needless renewal, but what older ones proved
    /// would never be doubted.
    pub(super) fn trust(&self) -> u64 {
        self.services.load().trust()
    }

    /// Changes when the configuration does.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// When it began, in seconds since 1970.
    pub(super) fn started(&self) -> u64 {
        self.started
    }

    /// What became of the attempts to read the configuration.
    pub(super) fn config_state(&self) -> ConfigState {
        self.config_state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The configuration was read and cannot be used.
    pub(super) fn reload_failed(&self, why: &str) {
        let mut state = self.config_state.lock().unwrap_or_else(PoisonError::into_inner);
        state.error = Some(why.to_owned());
    }

    /// The listeners that are bound.
    pub(super) fn listening(&self) -> Arc<Vec<report::Listener>> {
        self.listening.load_full()
    }

    /// These listeners are bound now.
    pub(super) fn set_listening(&self, listeners: Vec<report::Listener>) {
        self.listening.store(Arc::new(listeners));
    }

    pub(super) fn keys(&self) -> &Arc<DialbackKeys> {
        &self.keys
    }

    pub(super) fn routes(&self) -> &Routes {
        &self.routes
    }

    /// The streams that pairs can share.
    pub(super) fn sharing(&self) -> &Sharing {
        &self.sharing
    }

    /// The streams of peers that can be resumed.
    pub(super) fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    pub(super) fn checking(&self) -> &Arc<Checking> {
        &self.checking
    }

    /// The places for connections of a side.
    pub(super) fn admission(&self, side: Side) -> &Arc<Admission> {
        match side {
            Side::Legacy => &self.legacy_admission,
            Side::Peer => &self.admission,
        }
    }

    /// The places of pairs on their way to the legacy servers.
    pub(super) fn berths(&self) -> &Arc<Berths> {
        &self.berths
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The streams that are open now.
    pub(super) fn live(&self) -> &Arc<LiveStreams> {
        &self.live
    }

    /// The pairs that did not come about.
    pub(super) fn failures(&self) -> &Failures {
        &self.failures
    }

    /// For whoever watches.
    pub(super) fn events(&self) -> &Events {
        &self.events
    }

    /// What was refused lately for what it carries.
    pub(super) fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Who carries the streams.
    pub(super) fn workers(&self) -> &Workers {
        &self.workers
    }

    /// The owner of all tasks but accepted streams and routes.
    pub(super) fn tracker(&self) -> &TaskTracker {
        &self.tracker
    }

    /// The owner of the routes to a side.
    pub(super) fn routes_to(&self, side: Side) -> &TaskTracker {
        self.routes_to.of(side)
    }

    /// Accepted streams end: no more stanzas are taken.
    pub(super) fn draining(&self) -> &CancellationToken {
        &self.draining
    }

    /// fedgate ends: from the legacy server nothing is taken any more either, for it could go nowhere.
    pub(super) fn leaving(&self) -> &CancellationToken {
        &self.leaving
    }

    /// The streams end that the legacy server opened after the others had to: by them it checks
    /// the keys under which the last bounces go to it.
    pub(super) fn ending(&self) -> &CancellationToken {
        &self.ending
    }

    /// Resolves when the routes to a side have to end, after what they hold is written.
    pub(super) async fn stopping(&self, side: Side) {
        self.stopping.of(side).cancelled().await;
    }

    /// The same for who keeps it.
    pub(super) fn stop_of(&self, side: Side) -> CancellationToken {
        self.stopping.of(side).clone()
    }

    pub(super) fn is_stopping(&self, side: Side) -> bool {
        self.stopping.of(side).is_cancelled()
    }

    /// Ends the routes to a side and waits for them.
    pub(super) async fn stop(&self, side: Side) {
        self.stopping.of(side).cancel();
        let routes = self.routes_to.of(side);
        routes.close();
        routes.wait().await;
    }

    /// The pings that are out.
    pub(super) fn pings(&self) -> &Pings {
        &self.pings
    }

    /// The dialback questions under way.
    pub(super) fn questions(&self) -> &Arc<Questions> {
        &self.questions
    }

    /// Streams for the next questions.
    pub(super) fn kept(&self) -> &Kept {
        &self.kept
    }

    /// The client certificates that are being judged.
    pub(super) fn lookups(&self) -> &Arc<Questions> {
        &self.lookups
    }

    /// The inbound streams of remote domains.
    pub(super) fn places(&self) -> &Arc<Places> {
        &self.places
    }

    /// How fast others may send.
    pub(super) fn rates(&self) -> &Rates {
        &self.rates
    }

    /// `who` reached a limit: a domain, an address or a pair.
    pub(super) fn limit_reached(&self, limit: Limit, who: impl fmt::Display) {
        self.metrics.limit_reached(limit.as_str());
        self.reached.tell(limit, who, Instant::now());
    }

    /// What `address` has us find out had no place.
    pub(super) fn no_place(&self, full: Full, address: IpAddr) {
        match full {
            Full::Address => self.limit_reached(Limit::LookupsPerAddress, address),
            Full::Domain | Full::Side => self.reached.tell_full(address, Instant::now()),
        }
    }

    /// Errors find no way back to those whose stanzas were not delivered.
    pub(super) fn errors_lost(&self, pair: &DomainPair, stanzas: u32) {
        self.metrics.lost(stanzas);
        self.reached.tell_lost(pair, stanzas, Instant::now());
    }

    /// What waits in all routes.
    pub(super) fn backlog(&self) -> &Arc<Backlog> {
        &self.backlog
    }

    /// What remote domains have reached so far.
    pub(super) fn memory(&self) -> &Remembering {
        &self.memory
    }

    /// Whether we show our certificate to this peer.
    pub(super) fn offers_certificate(&self, peer: &Domain) -> bool {
        self.no_certificate.get(peer).is_none_or(|until| *until < Instant::now())
    }

    /// The peer does not bear our certificate.
    pub(super) fn suppress_certificate(&self, peer: &Domain) {
        info!(domain = %peer, "peer ended the connection because of our certificate: none is shown");
        if self.no_certificate.len() >= SUPPRESSED_MAX {
            self.no_certificate.clear();
        }
        self.no_certificate.insert(peer.clone(), Instant::now() + SUPPRESSION);
    }

    /// The client's TLS handshake, whose last words go with what is written next.
    pub(super) async fn connect_tls(
        &self,
        socket: TcpStream,
        setup: &Setup,
        how: Connect,
        deadline: Instant,
    ) -> Result<Secured, Failure> {
        let services = self.services.load_full();
        let certificate = if setup.external {
            ClientCertificate::For(&setup.pair.sender)
        } else {
            ClientCertificate::Withheld
        };
        let handshake = services.tls.connect_held(socket, &setup.pair.target, how, certificate);
        let outcome = timeout_at(deadline, handshake).await;
        let version = outcome.as_ref().ok().and_then(|done| done.as_ref().ok());
        self.metrics.handshake(Origin::Opened, version.map(|secured| secured.facts.version_str()));
        match outcome {
            Ok(Ok(secured)) => Ok(secured),
            Ok(Err(error @ HandshakeError::CertificateAlert(_))) => {
                Err(Failure::new(FailureKind::Certificate, error.to_string()))
            }
            Ok(Err(error)) => Err(Failure::new(FailureKind::Tls, error.to_string())),
            Err(_) => Err(Failure::new(FailureKind::Timeout, "the TLS handshake took too long")),
        }
    }

    /// A connection that we opened broke while `stage`.
    pub(super) fn broken(&self, error: &io::Error, stage: &str) -> Failure {
        match is_certificate_alert(error) {
            Some(alert) => Failure::new(FailureKind::Certificate, alert),
            None => Failure::new(FailureKind::Stream, format!("{error}, {stage}")),
        }
    }

    /// A stream carries the pair to that side from now on: what failed before does not matter.
    pub(super) fn opened(&self, side: Side, pair: &DomainPair) {
        self.routes.opened(side, pair);
        let direction = live::direction(side, Flow::Out);
        let key = Key::of(pair, direction);
        self.failures.succeeded(direction, &key);
        if side == Side::Peer {
            self.failures.daily().succeeded(&key);
        }
    }
}

/// Waits until the configuration changes; gives back what tells of the next time. For those who
/// keep waiting over many other events.
pub(super) async fn next_change(mut generation: watch::Receiver<u64>) -> watch::Receiver<u64> {
    if generation.changed().await.is_err() {
        // The gate is gone, and nothing changes any more.
        pending::<()>().await;
    }
    generation
}

#[cfg(test)]
mod tests;
