//! The DNS responder for the legacy server's resolver: it makes fedgate the S2S server of every
//! remote domain (RFC 1035, RFC 2782, RFC 6891).
//!
//! ```text
//! SRV _xmpp-server._tcp.X, _jabber._tcp.X  →  0 0 PORT steer.fedgate.internal.
//! A, AAAA steer.fedgate.internal.          →  the addresses of the local listeners
//! the same where X can be no remote domain →  0 0 5269 nowhere.fedgate.internal.
//! A, AAAA nowhere.fedgate.internal.        →  no data: the legacy server bounces by itself
//! SRV _xmpps-server._tcp.X                 →  no data: the legacy server cannot speak TLS
//! all of these for a local domain X, and everything else  →  relayed upstream, byte for byte
//! ```
//!
//! A local domain's records stay those of the public DNS: a server that asks for them (another
//! legacy server, a monitor) shall see the truth, and nothing is led in a circle through fedgate.
//!
//! Promises: answers from a steered name need no upstream, so that the legacy server reaches
//! fedgate, and its users get an error, also for a domain that does not exist; strangers get no
//! answer at all; queries in flight, TCP clients, sizes and times are bounded; [`Responder::run`]
//! leaves no task behind.

mod answer;
mod relay;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use socket2::{Protocol, Socket, Type};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{net::handover, ops::seldom::Seldom, xmpp::Domain};
use answer::{Step, step};
use relay::{Transport, relay};

/// What the responder answers, to whom, and whom it asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The local listener's address, as the legacy server reaches it, and those of the replicas.
    pub addresses: Vec<IpAddr>,
    /// The port of all of them.
    pub port: u16,
    /// Domains that are not steered.
    pub local_domains: Vec<Domain>,
    /// Who is answered; everyone where it is empty.
    pub clients: Vec<IpNet>,
    /// The name servers for everything else, in the order to ask; never fedgate's own.
    pub upstream: Vec<SocketAddr>,
}

/// The responder, bound to its sockets.
#[derive(Debug)]
pub struct Responder {
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: Arc<ArcSwap<Settings>>,
    /// Bounds the queries that wait for an upstream.
    queries: Arc<Semaphore>,
    /// Bounds the TCP clients.
    streams: Arc<Semaphore>,
}

impl Responder {
    /// Binds UDP and TCP on each address; port 0 stands for one free port for both. A wildcard
    /// address is only good on a host with a single one: UDP answers may come from another.
    /// What is later stored in `settings` holds from the next query on. The port is taken over from
    /// `old` sockets that may have it.
    ///
    /// To be called within a Tokio runtime.
    ///
    /// # Errors
    /// Those of binding, with the address in the message.
    pub fn bind(
        addresses: &[SocketAddr],
        settings: Arc<ArcSwap<Settings>>,
        old: &[BorrowedFd<'_>],
    ) -> io::Result<Self> {
        let mut responder = Self {
            udp: Vec::new(),
            tcp: Vec::new(),
            shared: Arc::new(Shared {
                settings,
                queries: Arc::new(Semaphore::new(QUERIES)),
                streams: Arc::new(Semaphore::new(STREAMS)),
            }),
        };
        for address in addresses {
            let (udp, tcp) = bind_both(*address, old).map_err(|e| {
                io::Error::new(e.kind(), format!("bind dns responder to {address}: {e}"))
            })?;
            responder.udp.push(udp);
            responder.tcp.push(tcp);
        }
        Ok(responder)
    }

    /// The addresses that were bound.
    ///
    /// # Errors
    /// Those of `getsockname`.
    pub fn local_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.udp.iter().map(UdpSocket::local_addr).collect()
    }

    /// The sockets that were bound.
    pub fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.udp.iter().map(AsFd::as_fd).chain(self.tcp.iter().map(AsFd::as_fd))
    }

    /// Answers until the shutdown; queries in flight are then dropped.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut tasks = JoinSet::new();
        for socket in self.udp {
            tasks.spawn(serve_udp(Arc::new(socket), self.shared.clone()));
        }
        for listener in self.tcp {
            tasks.spawn(serve_tcp(listener, self.shared.clone()));
        }
        shutdown.cancelled().await;
        tasks.shutdown().await;
    }
}

impl Shared {
    fn knows(&self, client: SocketAddr) -> bool {
        let settings = self.settings.load();
        let ip = client.ip().to_canonical();
        settings.clients.is_empty() || settings.clients.iter().any(|net| net.contains(&ip))
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, shared: Arc<Shared>) {
    let mut queries = JoinSet::new();
    let mut buffer = vec![0; LARGEST];
    loop {
        let (len, client) = tokio::select! {
            received = socket.recv_from(&mut buffer) => match received {
                Ok(received) => received,
                Err(error) => {
                    tracing::warn!(%error, "receive dns query");
                    sleep(PAUSE).await;
                    continue;
                }
            },
            Some(_) = queries.join_next() => continue,
        };
        if !shared.knows(client) {
            continue;
        }
        let Some(query) = buffer.get(..len) else { continue };
        let settings = shared.settings.load_full();
        match step(query, &settings) {
            Step::Drop => {}
            // A lost answer is asked for again, as any.
            Step::Reply(reply) => drop(socket.try_send_to(&reply, client)),
            Step::Forward => {
                // Without a permit the query is dropped: the client asks again.
                let Ok(permit) = shared.queries.clone().try_acquire_owned() else { continue };
                let (socket, query) = (socket.clone(), query.to_vec());
                queries.spawn(async move {
                    let _permit = permit;
                    if let Some(reply) = relay(&query, &settings.upstream, Transport::Udp).await {
                        drop(socket.send_to(&reply, client).await);
                    }
                });
            }
        }
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>) {
    let mut streams = JoinSet::new();
    let mut told = Seldom::default();
    loop {
        let (stream, client) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    if let Some(times) = told.again(Instant::now()) {
                        tracing::warn!(%error, times, "accept dns client");
                    }
                    sleep(PAUSE).await;
                    continue;
                }
            },
            Some(_) = streams.join_next() => continue,
        };
        let Ok(permit) = shared.streams.clone().try_acquire_owned() else { continue };
        if shared.knows(client) {
            let shared = shared.clone();
            streams.spawn(async move {
                let _permit = permit;
                // How the client's stream ends is its own affair.
                drop(serve_stream(stream, &shared).await);
            });
        }
    }
}

/// Answers one query after the other, as they come.
async fn serve_stream(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    loop {
        let query = timeout(IDLE, async {
            let len = stream.read_u16().await?;
            let mut query = vec![0; usize::from(len)];
            stream.read_exact(&mut query).await?;
            io::Result::Ok(query)
        });
        let query = query.await??;
        let settings = shared.settings.load_full();
        let reply = match step(&query, &settings) {
            Step::Drop => return Ok(()),
            Step::Reply(reply) => Some(reply),
            Step::Forward => {
                let Ok(_permit) = shared.queries.acquire().await else { return Ok(()) };
                relay(&query, &settings.upstream, Transport::Tcp).await
            }
        };
        let Some(reply) = reply else { return Ok(()) };
        timeout(IDLE, relay::write_message(&mut stream, &reply)).await??;
    }
}

fn bind_both(address: SocketAddr, old: &[BorrowedFd<'_>]) -> io::Result<(UdpSocket, TcpListener)> {
    let mut tries = if address.port() == 0 { FREE_PORT_TRIES } else { 1 };
    loop {
        tries -= 1;
        let bind = |shares| socket(address, Type::DGRAM, Protocol::UDP, shares);
        let udp = UdpSocket::from_std(handover::bind(old, bind)?.into())?;
        let address = udp.local_addr()?;
        let tcp = handover::bind(old, |shares| {
            let tcp = socket(address, Type::STREAM, Protocol::TCP, shares)?;
            tcp.listen(BACKLOG).map(|()| tcp)
        });
        match tcp {
            Ok(tcp) => return Ok((udp, TcpListener::from_std(tcp.into())?)),
            Err(e) if tries == 0 => return Err(e),
            Err(_) => {}
        }
    }
}

fn socket(
    address: SocketAddr,
    kind: Type,
    protocol: Protocol,
    shares_port: bool,
) -> io::Result<Socket> {
    let socket = Socket::new(socket2::Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if kind == Type::STREAM {
        // A restart must not wait for the connections of the run before.
        socket.set_reuse_address(true)?;
    }
    socket.set_reuse_port(shares_port)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Queries that wait for an upstream at most; each holds one socket.
const QUERIES: usize = 256;
/// TCP clients at most.
const STREAMS: usize = 64;
/// The largest DNS message.
const LARGEST: usize = 65_535;
/// A TCP client that neither asks nor takes its answer for so long is dropped.
const IDLE: Duration = Duration::from_secs(10);
/// After an error of a listening socket, lest it is met again at once.
const PAUSE: Duration = Duration::from_millis(100);
/// TCP clients that wait to be accepted.
const BACKLOG: i32 = 64;
/// Ports free for UDP that are tried until one is free for TCP as well.
const FREE_PORT_TRIES: u32 = 16;

#[cfg(test)]
mod tests;
