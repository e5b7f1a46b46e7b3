//! One running fedgate: builds and owns everything, takes new configurations, ends in order.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::{
    accepted::Entry,
    daily,
    events::About,
    gate::Gate,
    listeners::{ListenError, Listeners},
    lists,
    monitor::Monitor,
    remembering,
    services::{Services, ServicesError},
    workers::Workers,
};
use crate::{
    config::model::Config,
    net::secret::{self, SecretError},
    xmpp::Side,
};

/// How long what is to be kept may take to be written at the end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A running fedgate. To be made and used inside a tokio runtime.
#[derive(Debug)]
pub struct App {
    gate: Arc<Gate>,
    listeners: Listeners,
    /// The accepted streams.
    legs: TaskTracker,
    /// What writes down the memory and the daily report.
    keepers: TaskTracker,
    monitor: Monitor,
}

/// Why a configuration cannot be put to work.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// It goes down soon: what changes now is for the next start.
    #[error("fedgate is draining")]
    Draining,
    /// A socket.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The dialback secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Certificates, trust roots, name servers.
    #[error(transparent)]
    Services(#[from] ServicesError),
}

/// Where a running fedgate is reached, as bound: a port 0 in the configuration is a real one here.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// Peers, STARTTLS.
    pub public: Vec<SocketAddr>,
    /// Peers, direct TLS.
    pub direct_tls: Vec<SocketAddr>,
    /// The legacy server.
    pub local: Vec<SocketAddr>,
    /// The DNS responder.
    pub dns: Vec<SocketAddr>,
}

impl App {
    /// Binds all sockets and begins to serve; `workers` carry the streams, the caller's runtime does
    /// what else there is to do.
    ///
    /// # Errors
    /// [`AppError`]; nothing is left running then.
    pub fn start(config: Config, workers: Workers) -> Result<Self, AppError> {
        let keys = secret::dialback_keys(config.dialback_secret.as_deref(), &config.state_dir)?;
        let config = Arc::new(config);
        let mut services = Services::new(Arc::clone(&config), None)?;
        let mut listeners = Listeners::default();
        let bound = listeners.bind(&config, workers.first())?;
        services.keep()?;
        let gate = Gate::new(services, keys, workers);
        let legs = TaskTracker::new();
        listeners.serve(&gate, &legs, bound);
        gate.tracker().spawn(lists::refresh(Arc::clone(&gate)));
        let keepers = TaskTracker::new();
        keepers.spawn(remembering::keep(Arc::clone(&gate)));
        keepers.spawn(daily::keep(Arc::clone(&gate)));
        keepers.close();
        gate.set_listening(listeners.report());
        let monitor = Monitor::new(Arc::clone(&gate));
        Ok(Self { gate, listeners, legs, keepers, monitor })
    }

    /// Goes over to another configuration, all or nothing: streams that it still allows go on
    /// undisturbed, others end with `policy-violation`. Its state directory is that of before, as
    /// [`config::reload`](crate::config::reload) has it.
    ///
    /// # Errors
    /// [`AppError`]; everything runs on as before then.
    pub fn reload(&mut self, config: Config) -> Result<(), AppError> {
        let old = self.gate.config();
        if config.dialback_secret != old.dialback_secret {
            warn!("a changed dialback.secret_file takes effect at the next start");
        }
        if config.log.format != old.log.format {
            warn!("a changed log.format takes effect at the next start");
        }
        if self.gate.draining().is_cancelled() {
            return Err(AppError::Draining);
        }
        let config = Arc::new(config);
        let mut services = Services::new(Arc::clone(&config), Some(&self.gate.services()))?;
        let bound = self.listeners.bind(&config, self.gate.workers().first())?;
        services.keep()?;
        self.gate.replace(services);
        self.listeners.serve(&self.gate, &self.legs, bound);
        self.gate.set_listening(self.listeners.report());
        self.gate.metrics().reloaded(true);
        self.gate.events().tell("reloaded", About::default(), String::new);
        Ok(())
    }

    /// What an operator sees of it.
    #[must_use]
    pub fn monitor(&self) -> &Monitor {
        &self.monitor
    }

    /// Takes nothing new from peers, and ends the streams that are accepted; what the legacy server
    /// still sends is delivered. For one of several that is to be stopped soon.
    pub fn drain(&mut self) {
        info!("draining: nothing new is taken from peers");
        self.turn_away();
    }

    fn turn_away(&mut self) {
        self.listeners.stop_public();
        self.gate.set_listening(self.listeners.report());
        self.gate.draining().cancel();
        self.legs.close();
        self.gate.events().tell("draining", About::default(), String::new);
    }

    /// Where it is reached.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        Addresses {
            public: self.listeners.addresses(Entry::Public),
            direct_tls: self.listeners.addresses(Entry::DirectTls),
            local: self.listeners.addresses(Entry::Local),
            dns: self.listeners.dns_addresses(),
        }
    }

    /// Ends in order: takes nothing new, closes accepted streams, writes what was taken, closes
    /// the rest; within the time that the configuration sets. What is remembered and reported is
    /// written in any case.
    pub async fn shutdown(mut self) {
        let limit = self.gate.config().shutdown_timeout;
        if timeout(limit, self.end()).await.is_err() {
            let lost: u64 = self.gate.routes().report().iter().map(|route| route.queued).sum();
            warn!(seconds = limit.as_secs(), lost, "not everything ended in time");
            self.gate.ending().cancel();
        }
        if timeout(LAST_WORDS, self.keepers.wait()).await.is_err() {
            warn!("memory and daily report not written in time");
        }
        let totals = self.gate.metrics().totals();
        info!(
            from_legacy = totals.from_legacy,
            from_peers = totals.from_peers,
            bounced = totals.bounced,
            undeliverable = totals.undeliverable,
            lost_errors = totals.lost_errors,
            refused = totals.refused,
            "ended"
        );
    }

    async fn end(&mut self) {
        self.gate.leaving().cancel();
        self.turn_away();
        // Routes go on meanwhile, so that streams which wait for them can end.
        let share = self.gate.config().shutdown_timeout / 2;
        if timeout(share, self.legs.wait()).await.is_err() {
            warn!("some accepted streams did not end in time");
        }
        // What peers do not take goes back to the legacy server, which may first want to check
        // our keys; so that side ends last, and its listener after it.
        self.gate.stop(Side::Peer).await;
        self.gate.stop(Side::Legacy).await;
        self.listeners.stop();
        self.gate.ending().cancel();
        self.listeners.stop_dns();
        self.gate.tracker().close();
        self.gate.tracker().wait().await;
    }
}
