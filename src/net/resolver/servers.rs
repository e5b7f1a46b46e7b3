//! The name servers as one: what one of them fails at, another may know.
//!
//! hickory's pool takes SERVFAIL and REFUSED for the answer, and never thinks less of a server for
//! them. So each server has a pool of its own here, for its sockets and its change to TCP, and one
//! that fails is believed only if the others do no better.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use hickory_resolver::{
    NameServerPool, PoolContext, TlsConfig,
    config::{ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverOpts},
    net::{
        DnsError, NetError,
        runtime::TokioRuntimeProvider,
        xfer::{DnsHandle, DnsResponseStream, FirstAnswer},
    },
    proto::op::{DnsRequest, DnsResponse, ResponseCode},
};
use tokio::time::{Instant, sleep};

/// The name servers. Cheap to clone.
#[derive(Clone)]
pub(super) struct Servers(Arc<Shared>);

struct Shared {
    pools: Vec<NameServerPool<TokioRuntimeProvider>>,
    /// Which of them has answered last: it is asked first.
    best: AtomicUsize,
    /// How long one server may take.
    turn: Duration,
    /// How long to wait for one before another is asked beside it.
    patience: Duration,
}

type Answer = Result<DnsResponse, NetError>;

impl Servers {
    /// Whoever asks waits for no longer than `timeout`.
    pub(super) fn new(servers: &[SocketAddr], timeout: Duration) -> Result<Self, NetError> {
        let turn = timeout / 2;
        let mut settings = ResolverOpts::default();
        settings.timeout = turn;
        settings.attempts = 1;
        let context = Arc::new(PoolContext::new(settings, TlsConfig::new()?));
        let pool = |address: &SocketAddr| {
            let context = Arc::clone(&context);
            let provider = TokioRuntimeProvider::default();
            NameServerPool::from_config([name_server(*address)], context, provider)
        };
        let pools: Vec<_> = servers.iter().map(pool).collect();
        let count = u32::try_from(pools.len()).unwrap_or(u32::MAX).max(1);
        let patience = PATIENCE.min(turn / count);
        Ok(Self(Arc::new(Shared { pools, best: AtomicUsize::new(0), turn, patience })))
    }
}

impl DnsHandle for Servers {
    type Response = DnsResponseStream;
    type Runtime = TokioRuntimeProvider;

    fn send(&self, request: DnsRequest) -> DnsResponseStream {
        let servers = Arc::clone(&self.0);
        Box::pin(async move { servers.ask(&request).await }).into()
    }
}

impl Shared {
    /// All of them, and once more within the time: from other source ports.
    async fn ask(&self, request: &DnsRequest) -> Answer {
        let begin = Instant::now();
        match self.round(request).await {
            // there is no time for those that were silent, and this says more
            Err(error @ NetError::Dns(_)) if begin.elapsed() >= self.turn => Err(error),
            Err(error) if is_failure(&error) => self.round(request).await,
            answer => answer,
        }
    }

    /// Each in its turn, as soon as the one before has failed or keeps us waiting; the first answer
    /// counts, or else a failure that came before mere silence.
    async fn round(&self, request: &DnsRequest) -> Answer {
        let best = self.best.load(Ordering::Relaxed);
        let mut others = self.pools.iter().enumerate().cycle().skip(best).take(self.pools.len());
        let mut asked = Vec::new();
        let mut failure = None;
        loop {
            let next = others.next();
            let is_last = next.is_none();
            if let Some((server, pool)) = next {
                asked.push((server, pool.send(request.clone()).first_answer()));
            }
            if asked.is_empty() {
                return Err(failure.unwrap_or(NetError::NoConnections));
            }
            let first = poll_fn(|context| {
                let came =
                    asked.iter_mut().enumerate().find_map(|(at, (_, answer))| {
                        match Pin::new(answer).poll(context) {
                            Poll::Ready(answer) => Some((at, answer)),
                            Poll::Pending => None,
                        }
                    });
                came.map_or(Poll::Pending, Poll::Ready)
            });
            let came = tokio::select! {
                came = first => came,
                () = sleep(self.patience), if !is_last => continue,
            };
            let (at, answer) = came;
            let (server, _) = asked.swap_remove(at);
            match answer {
                Err(error) if is_failure(&error) => {
                    if failure.is_none() || matches!(error, NetError::Dns(_)) {
                        failure = Some(error);
                    }
                }
                answer => {
                    self.best.store(server, Ordering::Relaxed);
                    return answer;
                }
            }
        }
    }
}

/// Whether another server may do better. One that refers to others does not recurse for us.
fn is_failure(error: &NetError) -> bool {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            none.response_code == ResponseCode::NoError && none.ns.is_some() && none.soa.is_none()
        }
        _ => true,
    }
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let connections = [ProtocolConfig::Udp, ProtocolConfig::Tcp].map(|protocol| {
        let mut connection = ConnectionConfig::new(protocol);
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

/// A resolver that knows the answer, or is near who does, has said it by then.
const PATIENCE: Duration = Duration::from_millis(300);
