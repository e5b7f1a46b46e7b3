//! From targets to TCP connections: happy eyeballs (RFC 8305 §4 and §5, RFC 6120 §3.2.1 items 6
//! to 8; protocol rules DNS-6, DNS-9, DNS-12, DNS-13).
//!
//! ```text
//! target 1 ── addresses: v6 v4 v6 v4 … ── filter ── race, 250 ms apart ── winner ── TLS, XMPP
//!                                                        └── the caller asks for the next ──┘
//! target 2 ── only when every address of target 1 has been tried
//! ```
//!
//! Before any address of a target is tried, DNS is asked about its certificates, so that no
//! connection is made where the answer forbids it (RFC 7673 §3; protocol §10.1).
//!
//! Promises: connects only to the very address that the filter saw, in its unmapped form; never to
//! an own listener; leaves no connection attempt behind when it is dropped; names every cause, in
//! the order tried.

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    io,
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::{
    own::OwnAddresses,
    resolver::{Addresses, ResolveError, Resolver},
    targets::Target,
};
use crate::{
    auth::dane::{AddressState, DanePlan, Security, TlsaState, plan, wants_tlsa},
    config::{model::HostPort, policy::Denied},
    xmpp::StanzaCondition,
};

/// Judges an address before a connection is made to it.
pub type AddressFilter = Box<dyn Fn(IpAddr) -> Option<Denied> + Send + Sync>;

/// The connections to a domain's targets, one after another.
pub struct Connector {
    resolver: Resolver,
    rules: Rules,
    targets: VecDeque<Target>,
    /// The target whose addresses are being tried, and those not tried to the end.
    current: Option<Current>,
    failures: Vec<ConnectFailure>,
    /// Of some target DNS did not say all addresses.
    is_partial: bool,
}

#[derive(Debug)]
struct Current {
    target: Target,
    plan: DanePlan,
    security: Security,
    addresses: Vec<SocketAddr>,
}

/// What holds for every connection of a [`Connector`].
pub struct Rules {
    /// The rules of the operator.
    pub filter: AddressFilter,
    /// fedgate's own listeners.
    pub own: OwnAddresses,
    /// How long one TCP connection may take.
    pub tcp_timeout: Duration,
}

/// An open connection.
#[derive(Debug)]
pub struct Connected {
    /// The socket, with `TCP_NODELAY`.
    pub stream: TcpStream,
    /// Which target it is: how to begin, and the host name.
    pub target: Target,
    /// The address that was connected to.
    pub address: SocketAddr,
    /// By what its certificate is to be judged; never one of the plans not to connect.
    pub plan: DanePlan,
    /// Whether DNSSEC vouches for the address.
    pub security: Security,
}

/// A target with the addresses that are to be tried.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    /// The target.
    pub target: &'a Target,
    /// By what its certificate is to be judged.
    pub plan: &'a DanePlan,
    /// Whether DNSSEC vouches for the addresses.
    pub security: Security,
    /// In the order of trying; never empty.
    pub addresses: &'a [SocketAddr],
}

/// Why one target or address gave no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectFailure {
    /// The target's host could not be resolved.
    #[error(transparent)]
    Resolve(ResolveError),
    /// A rule forbids the address.
    #[error("{address} is refused by the rule at {}", .denied.rule)]
    Denied {
        /// Where we would have connected.
        address: SocketAddr,
        /// The rule, with its reason.
        denied: Denied,
    },
    /// The address is one of fedgate's own listeners.
    #[error("{address} is fedgate itself")]
    Own {
        /// Where we would have connected.
        address: SocketAddr,
    },
    /// The TCP connection failed or took too long.
    #[error("connect to {address}: {source}")]
    Tcp {
        /// Where we tried to connect.
        address: SocketAddr,
        /// What the system said; `TimedOut` also for our own limit.
        source: io::Error,
    },
}

/// Every failure, in the order tried.
#[derive(Debug, thiserror::Error)]
pub struct ConnectError {
    /// One for each target or address.
    pub failures: Vec<ConnectFailure>,
}

// === impl Connector ===

impl Connector {
    /// For the targets as [`Resolver::service`] ordered them.
    pub fn new(resolver: Resolver, targets: Vec<Target>, rules: Rules) -> Self {
        let (targets, failures) = (targets.into(), Vec::new());
        Self { resolver, rules, targets, current: None, failures, is_partial: false }
    }

    /// Connects to the next candidate; `None` when there is none left, and then
    /// [`into_error`](Self::into_error) says why.
    ///
    /// To be called again when a connection turned out useless: goes on with the addresses of the
    /// same target that have not failed yet, then with the next target. May be dropped at any
    /// time; an attempt in flight is then made again by the next call.
    pub async fn next(&mut self) -> Option<Connected> {
        loop {
            self.upcoming().await?;
            let Current { target, plan, security, addresses } = self.current.as_mut()?;
            let winner = race(addresses, &mut self.failures, self.rules.tcp_timeout).await;
            if let Some((stream, address)) = winner {
                let (target, plan, security) = (target.clone(), plan.clone(), *security);
                return Some(Connected { stream, target, address, plan, security });
            }
            self.current = None;
        }
    }

    /// What has failed so far.
    #[must_use]
    pub fn failures(&self) -> &[ConnectFailure] {
        &self.failures
    }

    /// What [`next`](Self::next) would connect to now; `None` when there is nothing left. May be
    /// dropped at any time.
    pub async fn upcoming(&mut self) -> Option<Candidates<'_>> {
        while self.current.as_ref().is_none_or(|current| current.addresses.is_empty()) {
            self.current = None;
            let target = self.targets.front()?;
            let found = examine(&self.resolver, target).await;
            let target = self.targets.pop_front()?;
            match found {
                Ok((Addresses { ips, security, is_partial, .. }, plan)) => {
                    let addresses = self.rules.candidates(ips, target.port, &mut self.failures);
                    self.current = Some(Current { target, plan, security, addresses });
                    self.is_partial |= is_partial;
                }
                Err(error) => self.failures.push(ConnectFailure::Resolve(error)),
            }
        }
        let Current { target, plan, security, addresses } = self.current.as_ref()?;
        Some(Candidates { target, plan, security: *security, addresses })
    }

    /// Whether there may be more addresses than those that were tried, for DNS gave no answer that can
    /// be used about some: where all of a target are missing that is a failure too.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.is_partial || self.failures.iter().any(ConnectFailure::is_unanswered)
    }

    /// Whether [`next`](Self::next) has anything to try yet.
    #[must_use]
    pub fn has_more(&self) -> bool {
        let has_addresses = |current: &Current| !current.addresses.is_empty();
        self.current.as_ref().is_some_and(has_addresses) || !self.targets.is_empty()
    }

    /// Goes on to the next target.
    pub fn skip(&mut self) {
        self.current = None;
    }

    /// Why there was no connection, or no other.
    #[must_use]
    pub fn into_error(self) -> ConnectError {
        ConnectError { failures: self.failures }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("targets", &self.targets)
            .field("current", &self.current)
            .field("failures", &self.failures)
            .finish_non_exhaustive()
    }
}

// === impl Rules ===

impl Rules {
    /// The addresses that may be connected to, families in turn, IPv6 first.
    fn candidates(
        &self,
        addresses: Vec<IpAddr>,
        port: u16,
        failures: &mut Vec<ConnectFailure>,
    ) -> Vec<SocketAddr> {
        // The mapped form would reach the IPv4 address behind the back of the filter.
        let addresses = addresses.into_iter().map(|ip| ip.to_canonical());
        let (v6, v4): (Vec<_>, Vec<_>) = addresses.partition(IpAddr::is_ipv6);
        let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
        let mut candidates = Vec::new();
        for turn in std::iter::from_fn(|| {
            let turn = [v6.next(), v4.next()];
            turn.iter().any(Option::is_some).then_some(turn)
        }) {
            for ip in turn.into_iter().flatten() {
                let address = SocketAddr::new(ip, port);
                if candidates.len() == MAX_ADDRESSES || candidates.contains(&address) {
                    continue;
                }
                if let Some(denied) = (self.filter)(ip) {
                    failures.push(ConnectFailure::Denied { address, denied });
                } else if self.own.contains(address) {
                    failures.push(ConnectFailure::Own { address });
                } else {
                    candidates.push(address);
                }
            }
        }
        candidates
    }
}

// === impl ConnectError ===

impl ConnectError {
    /// What the sender of a stanza is told (DNS-14): a failure that may pass weighs more than a
    /// rule, and a rule more than a host that does not exist.
    #[must_use]
    pub fn condition(&self) -> StanzaCondition {
        let conditions = || self.failures.iter().map(ConnectFailure::condition);
        for condition in [StanzaCondition::RemoteServerTimeout, StanzaCondition::Forbidden] {
            if conditions().any(|c| c == condition) {
                return condition;
            }
        }
        conditions().next().unwrap_or(StanzaCondition::RemoteServerTimeout)
    }
}

impl ConnectFailure {
    /// Whether nothing was tried to connect to, for DNS gave no answer that can be used.
    #[must_use]
    pub fn is_unanswered(&self) -> bool {
        match self {
            Self::Resolve(error) => error.is_unanswered(),
            Self::Denied { .. } | Self::Own { .. } | Self::Tcp { .. } => false,
        }
    }

    /// What the sender of a stanza would be told if it were the only failure.
    #[must_use]
    pub fn condition(&self) -> StanzaCondition {
        match self {
            Self::Denied { .. } => StanzaCondition::Forbidden,
            Self::Own { .. } => StanzaCondition::RemoteServerNotFound,
            Self::Resolve(error) => error.condition(),
            Self::Tcp { .. } => StanzaCondition::RemoteServerTimeout,
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, failure) in self.failures.iter().enumerate() {
            if n > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{failure}")?;
            if let ConnectFailure::Resolve(ResolveError::Temporary { cause, .. }) = failure {
                write!(f, ": {cause}")?;
            }
        }
        Ok(())
    }
}

/// Asks DNS all that is to be known of a target before a connection is made.
///
/// # Errors
/// The target is not to be used: it has no addresses, or an answer about it is missing.
async fn examine(
    resolver: &Resolver,
    target: &Target,
) -> Result<(Addresses, DanePlan), ResolveError> {
    let addresses = resolver.addresses(&target.host).await?;
    let state = match addresses.security {
        Security::Insecure => AddressState::Insecure,
        Security::Secure => AddressState::Secure,
    };
    let srv = target.delegation.state();
    let tlsa = match wants_tlsa(srv, state) {
        true => resolver.tlsa(target, &addresses).await?,
        false => TlsaState::NotAsked,
    };
    let plan = plan(srv, state, tlsa);
    Ok((addresses, plan))
}

/// Connects to a host that no DNS record of a service names, such as that of a URL.
///
/// # Errors
/// [`ConnectError`] with every failure.
pub async fn connect_host(
    resolver: &Resolver,
    host: &str,
    port: u16,
    rules: &Rules,
) -> Result<TcpStream, ConnectError> {
    let mut failures = Vec::new();
    match resolver.addresses(host).await {
        Ok(addresses) => {
            let mut candidates = rules.candidates(addresses.ips, port, &mut failures);
            let winner = race(&mut candidates, &mut failures, rules.tcp_timeout).await;
            if let Some((stream, _)) = winner {
                return Ok(stream);
            }
        }
        Err(error) => failures.push(ConnectFailure::Resolve(error)),
    }
    Err(ConnectError { failures })
}

/// Connects to the legacy server: a name is looked up by the system's resolver, now, and all its
/// addresses are tried in turn, within `limit` altogether.
///
/// # Errors
/// That of the last address; `TimedOut` where the time was over.
pub async fn connect_legacy(address: &HostPort, limit: Duration) -> io::Result<TcpStream> {
    let end = Instant::now() + limit;
    let found = timeout_at(end, lookup_host((address.host.as_str(), address.port))).await;
    let addresses: Vec<SocketAddr> = found??.collect();
    let mut error = io::Error::new(io::ErrorKind::NotFound, "no addresses");
    for (n, address) in addresses.iter().enumerate() {
        // The rest of the time in equal parts, so that a dead address leaves some for the others.
        let parts = u32::try_from(addresses.len() - n).unwrap_or(u32::MAX);
        let part = end.saturating_duration_since(Instant::now()) / parts;
        match connect(*address, part).await {
            Ok(stream) => return Ok(stream),
            Err(e) => error = e,
        }
    }
    Err(error)
}

/// When a connection that says nothing is given up, if all is over at `deadline`: half of the time is
/// for the other candidates, where there are more.
#[must_use]
pub fn bear_until(deadline: Instant, has_more: bool) -> Instant {
    let now = Instant::now();
    match has_more {
        true => now + deadline.saturating_duration_since(now) / 2,
        false => deadline,
    }
}

/// Races the candidates, each a while after the one before or as soon as that has failed. Those
/// that failed, and the winner, are removed from the list.
async fn race(
    candidates: &mut Vec<SocketAddr>,
    failures: &mut Vec<ConnectFailure>,
    tcp_timeout: Duration,
) -> Option<(TcpStream, SocketAddr)> {
    let mut attempts: Vec<Attempt> = Vec::new();
    let mut stagger = pin!(sleep_until(Instant::now()));
    while !candidates.is_empty() {
        tokio::select! {
            biased;
            (address, result) = first(&mut attempts), if !attempts.is_empty() => {
                candidates.retain(|candidate| *candidate != address);
                match result {
                    Ok(stream) => return Some((stream, address)),
                    Err(source) => failures.push(ConnectFailure::Tcp { address, source }),
                }
                stagger.as_mut().reset(Instant::now());
            }
            () = &mut stagger, if attempts.len() < candidates.len() => {
                // In flight are the first of the list: only those leave it.
                if let Some(&address) = candidates.get(attempts.len()) {
                    attempts.push(Box::pin(async move { (address, connect(address, tcp_timeout).await) }));
                }
                stagger.as_mut().reset(Instant::now() + STAGGER);
            }
        }
    }
    None
}

type Attempt = Pin<Box<dyn Future<Output = (SocketAddr, io::Result<TcpStream>)> + Send>>;

/// The first attempt that ends, removed from the list.
async fn first(attempts: &mut Vec<Attempt>) -> (SocketAddr, io::Result<TcpStream>) {
    poll_fn(|cx| {
        for n in 0..attempts.len() {
            if let Poll::Ready(result) = attempts[n].as_mut().poll(cx) {
                drop(attempts.remove(n));
                return Poll::Ready(result);
            }
        }
        Poll::Pending
    })
    .await
}

async fn connect(address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let stream = timeout(limit, TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Addresses of one target that are tried at most.
const MAX_ADDRESSES: usize = 16;
/// Between the starts of two attempts (RFC 8305 §5, Connection Attempt Delay).
const STAGGER: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests;
