//! The sockets that are listened on, and who may come in.

mod balanced;
mod sockets;

use std::{
    collections::HashMap,
    future::poll_fn,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::Semaphore,
    task::yield_now,
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use self::sockets::{BACKLOG, Tuned, bind, copies};
use super::{
    accepted::{self, Entry},
    gate::Gate,
};
use crate::{
    config::model::{Config, Listen},
    net::{
        handover,
        own::OwnAddresses,
        resolver::{ServersError, name_servers},
        tune::tune,
    },
    ops::{report, seldom::Seldom},
    steer::dns,
    xmpp::{Direction, Side, StreamCondition},
};

/// Connections that are accepted before those that are in have their turn: a crowd waits in the
/// kernel, not in front of them.
const IN_A_ROW: u32 = 4;
/// Connections to the local listener that are refused with a word at once; more are just cut off.
const REFUSALS: usize = 64;
/// How long accepting rests after an error such as having no file descriptor left.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Why the sockets cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// An address for streams.
    #[error("listen on {0}")]
    Stream(SocketAddr, #[source] io::Error),
    /// An address of the DNS responder.
    #[error("listen for DNS on {0}")]
    Dns(SocketAddr, #[source] io::Error),
    /// Nobody to forward questions to.
    #[error(transparent)]
    Servers(#[from] ServersError),
}

/// All sockets of one fedgate.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    streams: HashMap<(Entry, SocketAddr), Listening>,
    dns: HashMap<SocketAddr, Listening>,
    /// What the responders answer.
    steering: Option<Arc<ArcSwap<dns::Settings>>>,
}

#[derive(Debug)]
struct Listening {
    local: SocketAddr,
    stop: CancellationToken,
    /// For those that take its port over; the sockets are closed when all that have them are gone.
    sockets: Vec<OwnedFd>,
}

/// The sockets that a new configuration needs in addition.
#[derive(Debug)]
pub(super) struct Bound {
    listen: Listen,
    streams: Vec<(Entry, SocketAddr, TcpListener, Tuned, Vec<OwnedFd>)>,
    responders: Vec<(SocketAddr, dns::Responder, Vec<OwnedFd>)>,
    /// What the responders will answer; none without any.
    steering: Option<Steering>,
}

/// The settings of the responders: the place where they look, and what it shall hold.
type Steering = (Arc<ArcSwap<dns::Settings>>, dns::Settings);

impl Listeners {
    /// Binds what `config` wants and is not bound yet, for `runtime`. Changes nothing.
    pub(super) fn bind(&self, config: &Config, runtime: &Handle) -> Result<Bound, ListenError> {
        let _there = runtime.enter();
        let listen = &config.listen;
        let mut streams = Vec::new();
        for (entry, address) in wanted(listen) {
            if !self.streams.contains_key(&(entry, address)) {
                let old = self.leaving(listen, address.port());
                let fail = |error| ListenError::Stream(address, error);
                let (listener, tuned) =
                    bind(address, config.limits.write_stall, &old).map_err(fail)?;
                let sockets = copies([listener.as_fd()]).map_err(fail)?;
                streams.push((entry, address, listener, tuned, sockets));
            }
        }
        let mut responders = Vec::new();
        let mut steering = None;
        if !listen.dns.is_empty() {
            let settings = dns_settings(config)?;
            let shared = self.steering.clone();
            let shared =
                shared.unwrap_or_else(|| Arc::new(ArcSwap::from_pointee(settings.clone())));
            for &address in listen.dns.iter().filter(|address| !self.dns.contains_key(address)) {
                let old = self.leaving(listen, address.port());
                let fail = |error| ListenError::Dns(address, error);
                let responder =
                    dns::Responder::bind(&[address], Arc::clone(&shared), &old).map_err(fail)?;
                let sockets = copies(responder.sockets()).map_err(fail)?;
                responders.push((address, responder, sockets));
            }
            steering = Some((shared, settings));
        }
        Ok(Bound { listen: listen.clone(), streams, responders, steering })
    }

    /// The sockets at a port that `listen` does not want any more.
    fn leaving(&self, listen: &Listen, port: u16) -> Vec<BorrowedFd<'_>> {
        let keep: Vec<_> = wanted(listen).collect();
        let streams = self.streams.iter().filter(|(key, _)| !keep.contains(key));
        let dns = self.dns.iter().filter(|(address, _)| !listen.dns.contains(address));
        streams
            .map(|(_, listening)| listening)
            .chain(dns.map(|(_, listening)| listening))
            .filter(|listening| listening.local.port() == port)
            .flat_map(|listening| listening.sockets.iter().map(AsFd::as_fd))
            .collect()
    }

    /// Serves what was bound, and stops what is no longer wanted.
    pub(super) fn serve(&mut self, gate: &Arc<Gate>, legs: &TaskTracker, bound: Bound) {
        let keep: Vec<_> = wanted(&bound.listen).collect();
        self.streams.retain(|key, listening| {
            let kept = keep.contains(key);
            if !kept {
                listening.stop.cancel();
                listening.sockets.iter().for_each(|socket| handover::end(socket.as_fd()));
            }
            kept
        });
        for (entry, address, listener, tuned, sockets) in bound.streams {
            let local = listener.local_addr().unwrap_or(address);
            info!(addr = %local, entry = entry.as_str(), "listening");
            let stop = CancellationToken::new();
            let acceptor = Acceptor {
                gate: Arc::clone(gate),
                legs: legs.clone(),
                entry,
                stop: stop.clone(),
                tuned,
                refusals: Arc::new(Semaphore::new(REFUSALS)),
                headers: Arc::new(Semaphore::new(BACKLOG as usize)),
            };
            let run = Arc::new(acceptor).run(listener);
            gate.tracker().spawn_on(run, gate.workers().first());
            self.streams.insert((entry, address), Listening { local, stop, sockets });
        }
        self.dns.retain(|address, listening| {
            let kept = bound.listen.dns.contains(address);
            if !kept {
                listening.stop.cancel();
            }
            kept
        });
        if let Some((shared, settings)) = bound.steering {
            shared.store(Arc::new(settings));
            self.steering = Some(shared);
        }
        for (address, responder, sockets) in bound.responders {
            let local = responder.local_addresses().ok().and_then(|all| all.first().copied());
            let local = local.unwrap_or(address);
            info!(addr = %local, entry = "dns", "listening");
            let stop = CancellationToken::new();
            gate.tracker().spawn_on(responder.run(stop.clone()), gate.workers().first());
            self.dns.insert(address, Listening { local, stop, sockets });
        }
    }

    /// Accepts nothing more from peers.
    pub(super) fn stop_public(&mut self) {
        self.streams.retain(|(entry, _), listening| {
            let kept = entry.side() == Side::Legacy;
            if !kept {
                listening.stop.cancel();
            }
            kept
        });
    }

    /// Accepts nothing more.
    pub(super) fn stop(&mut self) {
        for (_, listening) in self.streams.drain() {
            listening.stop.cancel();
        }
    }

    /// The DNS responder answers until the very end, for the legacy server may still ask.
    pub(super) fn stop_dns(&mut self) {
        for (_, listening) in self.dns.drain() {
            listening.stop.cancel();
        }
    }

    /// The bound addresses of one kind.
    pub(super) fn addresses(&self, entry: Entry) -> Vec<SocketAddr> {
        let mut all: Vec<_> = self
            .streams
            .iter()
            .filter(|((of, _), _)| *of == entry)
            .map(|(_, listening)| listening.local)
            .collect();
        all.sort();
        all
    }

    /// What is bound.
    pub(super) fn report(&self) -> Vec<report::Listener> {
        let bound = |entry: &str, local: SocketAddr| report::Listener {
            entry: entry.to_owned(),
            address: local.to_string(),
        };
        let streams = self.streams.iter();
        let mut all: Vec<_> = streams
            .map(|((entry, _), listening)| bound(entry.as_str(), listening.local))
            .chain(self.dns.values().map(|listening| bound("dns", listening.local)))
            .collect();
        all.sort();
        all
    }

    /// The bound addresses of the DNS responder.
    pub(super) fn dns_addresses(&self) -> Vec<SocketAddr> {
        self.dns.values().map(|listening| listening.local).collect()
    }
}

fn wanted(listen: &Listen) -> impl Iterator<Item = (Entry, SocketAddr)> {
    let of = |entry| move |address: &SocketAddr| (entry, *address);
    let public = listen.public.iter().map(of(Entry::Public));
    let direct = listen.direct_tls.iter().map(of(Entry::DirectTls));
    let local = listen.local.iter().map(of(Entry::Local));
    public.chain(direct).chain(local)
}

fn dns_settings(config: &Config) -> Result<dns::Settings, ServersError> {
    let own = OwnAddresses::new(config.listen.dns.iter().copied());
    Ok(dns::Settings {
        addresses: config.steer.addresses.clone(),
        port: config.steer.port,
        local_domains: config.local_domains.keys().cloned().collect(),
        clients: config.legacy.values().flat_map(|legacy| legacy.sources.clone()).collect(),
        upstream: name_servers(&config.resolver, &own)?,
    })
}

struct Acceptor {
    gate: Arc<Gate>,
    legs: TaskTracker,
    entry: Entry,
    stop: CancellationToken,
    tuned: Tuned,
    /// Places for the last words to strangers.
    refusals: Arc<Semaphore>,
    /// Places for connections whose PROXY header is awaited.
    headers: Arc<Semaphore>,
}

impl Acceptor {
    async fn run(self: Arc<Self>, listener: TcpListener) {
        let mut told = Seldom::default();
        let mut in_a_row = 0;
        loop {
            let mut waited = false;
            let accepted = poll_fn(|cx| {
                let polled = listener.poll_accept(cx);
                waited |= polled.is_pending();
                polled
            });
            let accepted = tokio::select! {
                accepted = accepted => accepted,
                () = self.stop.cancelled() => return,
            };
            match accepted {
                Ok((socket, address)) => {
                    if self.is_balanced(address) {
                        self.unwrap(socket, address);
                    } else {
                        self.admit(socket, address);
                    }
                    in_a_row = if waited { 1 } else { in_a_row + 1 };
                    if in_a_row == IN_A_ROW {
                        in_a_row = 0;
                        yield_now().await;
                    }
                }
                // it may have ended before this task heard of it
                Err(_) if self.stop.is_cancelled() => return,
                Err(error) => {
                    // Mostly no file descriptors: some will be free again.
                    if let Some(times) = told.again(Instant::now()) {
                        warn!(%error, times, entry = self.entry.as_str(), "accept");
                    }
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
    }

    /// The owner of the next stream, and what ends it.
    fn owner(&self) -> (&TaskTracker, CancellationToken) {
        let gate = &self.gate;
        if gate.leaving().is_cancelled() {
            (gate.tracker(), gate.ending().clone())
        } else if gate.draining().is_cancelled() {
            (&self.legs, gate.leaving().clone())
        } else {
            (&self.legs, gate.draining().clone())
        }
    }

    /// Refusals here cost one line and no XMPP byte (protocol §12.1, state I0).
    fn admit(&self, socket: TcpStream, address: SocketAddr) {
        let config = self.gate.config();
        let (metrics, listener) = (self.gate.metrics(), self.entry.as_str());
        let ip = address.ip().to_canonical();
        let mut address = SocketAddr::new(ip, address.port());
        let side = self.entry.side();
        let (all, admission) = (config.limits.connections, self.gate.admission(side));
        let permit = match self.entry {
            Entry::Public | Entry::DirectTls => {
                if let Some(denied) = config.policy.address(ip, Direction::Inbound) {
                    info!(addr = %ip, rule = %denied.rule, "connection refused by rule");
                    metrics.rejected(listener, "rule");
                    return;
                }
                admission.admit(Some(ip), config.limits.connections_per_address, all)
            }
            Entry::Local => {
                // A redirected connection keeps the address that it had for the Internet; but what
                // arrives at a loopback address comes from this machine.
                let local = socket.local_addr();
                if local.is_ok_and(|local| local.ip().to_canonical().is_loopback()) {
                    address.set_ip(match ip {
                        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
                    });
                }
                let ip = address.ip();
                let known = config
                    .legacy
                    .values()
                    .any(|legacy| legacy.sources.iter().any(|net| net.contains(&ip)));
                if !known {
                    info!(addr = %ip, "local connection refused: not among the legacy sources");
                    metrics.rejected(listener, "stranger");
                    let why = (StreamCondition::NotAuthorized, "not a legacy source");
                    return self.refuse(socket, why);
                }
                admission.admit(Some(ip), all, all)
            }
        };
        let permit = match permit {
            Ok(permit) => permit,
            Err(limit) => {
                self.gate.limit_reached(limit, ip);
                metrics.rejected(listener, "limit");
                if side == Side::Legacy {
                    self.refuse(socket, (StreamCondition::ResourceConstraint, limit.as_str()));
                }
                return;
            }
        };
        let stall = config.limits.write_stall;
        if self.tuned != Some(stall)
            && let Err(error) = tune(&socket, stall)
        {
            debug!(%error, "socket options");
        }
        let gate = Arc::clone(&self.gate);
        let (owner, end) = self.owner();
        let entry = self.entry;
        let serve = |socket| accepted::serve(gate, socket, address, entry, permit, end);
        if let Err(error) = self.gate.workers().serve(socket, owner, serve) {
            warn!(%error, addr = %ip, "connection cut off");
        }
    }

    /// COMPAT(jabberd2): a connection that just closes is opened again at once, over and over; a
    /// stream error gives it pause.
    fn refuse(&self, socket: TcpStream, why: (StreamCondition, &'static str)) {
        if let Ok(place) = Arc::clone(&self.refusals).try_acquire_owned() {
            let refusal = accepted::refuse(Arc::clone(&self.gate), socket, why);
            self.gate.tracker().spawn(async move {
                refusal.await;
                drop(place);
            });
        }
    }
}
