//! Finding a domain's servers, their addresses and what DNS says of their certificates
//! (RFC 6120 §3.2, XEP-0368, RFC 7673 §3; protocol rules DNS-3 to DNS-11, DA-1 to DA-3).
//!
//! Promises: an answer that is missing for a passing reason, or bogus, is an error of its own and
//! never read as "no such record", so that nobody gains a fallback by suppressing answers (DNS-4);
//! what is called secure is so in every step from the name that was asked to the records; every
//! question ends within the configured time; answers live as long as their TTL says, negative ones
//! at most a minute. The hosts file and search domains play no part.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use hickory_resolver::{
    net::NetError,
    proto::{
        rr::{Name, RData, RecordType},
        serialize::binary::BinEncodable,
    },
    system_conf::read_system_conf,
};
use rustls::pki_types::UnixTime;

use super::{
    cache::Cache,
    own::OwnAddresses,
    targets::{
        Answer, Decision, Delegation, MAX_TARGETS, Srv, Target, TargetTls, decide, fallback, order,
    },
};
use crate::{
    auth::dane::Security,
    config::model::{self, Dnssec},
    xmpp::Domain,
};

mod anchors;
mod ask;
mod error;
mod raw;
mod read;
mod servers;
mod tlsa;

use ask::{Asker, Trust};
use read::{Found, Step, Unanswered};

pub use anchors::AnchorsError;
pub use error::{Absence, DnsQuery, ResolveError, ServersError};
pub use raw::{Records, SrvRecord};
pub use tlsa::Published;

/// Asks the name servers and remembers what they said. Cheap to clone, the memory is shared.
#[derive(Clone)]
pub struct Resolver(Arc<Shared>);

struct Shared {
    asker: Asker,
    cache: Cache<(Name, RecordType), (Step, Instant)>,
    timeout: Duration,
}

/// The addresses of a host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Addresses {
    /// IPv6 and then IPv4, each family in the order of the answer.
    pub ips: Vec<IpAddr>,
    /// Secure if those of either family are.
    pub security: Security,
    /// What the host is securely an alias of, if it is.
    pub canonical: Option<Arc<str>>,
    /// When they have to be asked for again.
    pub expires: UnixTime,
    /// Whether one family is missing, for there was no answer that can be used.
    pub is_partial: bool,
}

/// What is at the end of a name's aliases.
struct Chain {
    records: Vec<RData>,
    /// The least of all steps.
    security: Security,
    /// The first step to end.
    until: Instant,
    /// The last name.
    end: Name,
}

impl Resolver {
    /// Sets up the resolver: the configured name servers, or else the system's as they are now.
    /// `own` are fedgate's own DNS listeners, which are never asked.
    ///
    /// # Errors
    /// [`ServersError`] where no name server is left, or DNSSEC cannot be set up as configured.
    pub fn new(config: &model::Resolver, own: &OwnAddresses) -> Result<Self, ServersError> {
        let servers = name_servers(config, own)?;
        let trust = match &config.dnssec {
            Dnssec::Off => Trust::Nothing,
            Dnssec::TrustAd => Trust::AdBit,
            Dnssec::Validate { trust_anchor: None } => Trust::Anchors(anchors::Anchors::root()),
            Dnssec::Validate { trust_anchor: Some(path) } => {
                let anchors = anchors::Anchors::load(path);
                Trust::Anchors(
                    anchors
                        .map_err(|source| ServersError::Anchors { path: path.clone(), source })?,
                )
            }
        };
        let asker = Asker::new(&servers, config.timeout, trust).map_err(ServersError::Setup)?;
        let cache = Cache::new(CACHED_ANSWERS);
        Ok(Self(Arc::new(Shared { asker, cache, timeout: config.timeout })))
    }

    /// Finds where the domain's server may be, in the order to try.
    ///
    /// # Errors
    /// [`ResolveError::NotFound`] if the domain says that it has no service,
    /// [`ResolveError::Temporary`] or [`ResolveError::Bogus`] if either SRV query got no answer
    /// that can be used.
    pub async fn service(&self, domain: &Domain) -> Result<Vec<Target>, ResolveError> {
        match self.servers(domain).await? {
            Decision::Absent => Err(ResolveError::NotFound {
                query: DnsQuery::new(RecordType::SRV, domain.as_str()),
                why: Absence::Service,
            }),
            Decision::Fallback => Ok(vec![fallback(domain.as_str())]),
            Decision::Targets(records) => Ok(order(records, random_up_to)),
        }
    }

    /// Whether a name server answers at the moment: asks for the domain's SRV records, whatever the
    /// memory says.
    ///
    /// # Errors
    /// [`ResolveError::Temporary`] without an answer, [`ResolveError::Bogus`] with a false one.
    pub async fn answers(&self, domain: &Domain) -> Result<(), ResolveError> {
        let name = format!("_xmpp-server._tcp.{domain}");
        let query = DnsQuery::new(RecordType::SRV, &name);
        let Ok(mut owner) = Name::from_ascii(&name) else {
            return Err(ResolveError::NotFound { query, why: Absence::TooLong });
        };
        owner.set_fqdn(true);
        let asked = tokio::time::timeout(self.0.timeout, self.0.asker.ask(&owner, RecordType::SRV));
        match asked.await.unwrap_or(Err(Unanswered::Failed(NetError::Timeout))) {
            Ok(_) => Ok(()),
            Err(Unanswered::Bogus) => Err(ResolveError::Bogus { query }),
            Err(Unanswered::Failed(cause)) => Err(ResolveError::Temporary { query, cause }),
        }
    }

    /// Finds the addresses of a host. A family without an answer is left out if the other has one.
    ///
    /// # Errors
    /// [`ResolveError::NotFound`] if both families are known to have none,
    /// [`ResolveError::Temporary`] or [`ResolveError::Bogus`] if there is none but one family got
    /// no answer that can be used.
    pub async fn addresses(&self, host: &str) -> Result<Addresses, ResolveError> {
        let (v6, v4) =
            tokio::join!(self.ask(host, RecordType::AAAA), self.ask(host, RecordType::A));
        let mut found: Option<Addresses> = None;
        let mut error = None;
        for answer in [v6, v4] {
            match answer {
                Ok(chain) => {
                    let ips: Vec<_> = chain.records.iter().filter_map(address).collect();
                    if ips.is_empty() {
                        continue;
                    }
                    let family = Addresses { ips, ..chain.about(host) };
                    found = Some(match found {
                        None => family,
                        Some(other) => other.and(family),
                    });
                }
                Err(e @ ResolveError::NotFound { .. }) => error = error.or(Some(e)),
                Err(e @ (ResolveError::Temporary { .. } | ResolveError::Bogus { .. })) => {
                    error = Some(e);
                }
            }
        }
        let is_partial = error.as_ref().is_some_and(ResolveError::is_unanswered);
        found.map(|found| Addresses { is_partial, ..found }).ok_or_else(|| {
            error.unwrap_or_else(|| ResolveError::NotFound {
                query: DnsQuery::new(RecordType::A, host),
                why: Absence::Address,
            })
        })
    }

    /// What both SRV queries say.
    async fn servers(&self, domain: &Domain) -> Result<Decision, ResolveError> {
        let direct = service_name(TargetTls::Direct, domain);
        let starttls = service_name(TargetTls::StartTls, domain);
        let (direct, starttls) = tokio::try_join!(self.srv(&direct), self.srv(&starttls))?;
        Ok(decide(Answer::new(direct), Answer::new(starttls)))
    }

    async fn srv(&self, name: &str) -> Result<Vec<Srv>, ResolveError> {
        let chain = match self.ask(name, RecordType::SRV).await {
            // No record can stand where no name can.
            Err(ResolveError::NotFound { .. }) => return Ok(Vec::new()),
            answer => answer?,
        };
        let delegation = match chain.security {
            Security::Insecure => Delegation::Insecure,
            Security::Secure => Delegation::Secure { until: unix(chain.until) },
        };
        let srv = chain.records.iter().filter_map(|data| match data {
            RData::SRV(srv) => Some(Srv {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: srv.target.to_ascii(),
                delegation,
            }),
            _ => None,
        });
        Ok(srv.collect())
    }

    /// The records of that type at the end of the name's chain of aliases; none if it is known
    /// that there are none.
    async fn ask(&self, name: &str, kind: RecordType) -> Result<Chain, ResolveError> {
        let query = DnsQuery::new(kind, name);
        let Ok(mut owner) = Name::from_ascii(name) else {
            return Err(ResolveError::NotFound { query, why: Absence::TooLong });
        };
        owner.set_fqdn(true);
        let answer = tokio::time::timeout(self.0.timeout, self.follow(owner, kind)).await;
        answer.unwrap_or(Err(Unanswered::Failed(NetError::Timeout))).map_err(|why| match why {
            Unanswered::Bogus => ResolveError::Bogus { query },
            Unanswered::Failed(cause) => ResolveError::Temporary { query, cause },
        })
    }

    async fn follow(&self, owner: Name, kind: RecordType) -> Result<Chain, Unanswered> {
        let until = Instant::now() + POSITIVE_TTL;
        let mut chain =
            Chain { records: Vec::new(), security: Security::Secure, until, end: owner };
        for _ in 0..MAX_ALIASES {
            let (step, until) = self.step(&chain.end, kind).await?;
            chain.security = chain.security.min(step.security);
            chain.until = chain.until.min(until);
            match step.found {
                Found::Alias(target) => chain.end = target,
                Found::Nothing => return Ok(chain),
                Found::Records(records) => return Ok(Chain { records, ..chain }),
            }
        }
        Err(Unanswered::Failed(NetError::Message("the chain of aliases is too long")))
    }

    async fn step(&self, owner: &Name, kind: RecordType) -> Result<(Step, Instant), Unanswered> {
        if let Some(found) = special(owner, kind) {
            let step = Step { found, security: Security::Insecure, ttl: 0 };
            return Ok((step, Instant::now()));
        }
        let key = (owner.clone(), kind);
        if let Some(known) = self.0.cache.get(&key, Instant::now()) {
            return Ok(known);
        }
        let step = self.0.asker.ask(owner, kind).await?;
        let (most, records) = match &step.found {
            Found::Nothing => (NEGATIVE_TTL, &[][..]),
            Found::Alias(_) => (POSITIVE_TTL, &[][..]),
            Found::Records(records) => (POSITIVE_TTL, &records[..]),
        };
        let now = Instant::now();
        let until = now + Duration::from_secs(step.ttl.into()).min(most);
        // Strangers' zones must not decide how much memory the cache takes.
        if records.len() <= MANY_RECORDS && size(records) <= MANY_BYTES {
            self.0.cache.put(key, (step.clone(), until), until, now);
        }
        Ok((step, until))
    }
}

impl Chain {
    /// All but the addresses.
    fn about(&self, host: &str) -> Addresses {
        let end = self.end.to_ascii().to_ascii_lowercase();
        let end = end.strip_suffix('.').unwrap_or(&end);
        let is_alias = self.security == Security::Secure && end != host;
        Addresses {
            ips: Vec::new(),
            security: self.security,
            canonical: is_alias.then(|| end.into()),
            expires: unix(self.until),
            is_partial: false,
        }
    }
}

impl Addresses {
    fn and(mut self, other: Self) -> Self {
        self.ips.extend(other.ips);
        Self {
            ips: self.ips,
            security: self.security.max(other.security),
            canonical: self.canonical.or(other.canonical),
            expires: self.expires.min(other.expires),
            is_partial: self.is_partial || other.is_partial,
        }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("timeout", &self.0.timeout).finish_non_exhaustive()
    }
}

/// The name servers to ask: the configured ones, or else the system's as they are now; without
/// `own`, fedgate's own DNS listeners.
///
/// # Errors
/// [`ServersError`] where none is left.
pub fn name_servers(
    config: &model::Resolver,
    own: &OwnAddresses,
) -> Result<Vec<SocketAddr>, ServersError> {
    let mut servers = config.servers.clone();
    if servers.is_empty() {
        let (system, _) = read_system_conf().map_err(ServersError::System)?;
        servers.extend(system.name_servers().iter().map(|s| SocketAddr::new(s.ip, DNS)));
    }
    servers.retain(|server| !own.contains(*server));
    if servers.is_empty() {
        return Err(ServersError::OnlyOwn);
    }
    Ok(servers)
}

/// The answers that are never asked for: names of this host, of no host, and of a network that
/// name servers must not hear of (RFC 6761 §6, RFC 7686).
fn special(owner: &Name, kind: RecordType) -> Option<Found> {
    let last = owner.iter().next_back()?.to_ascii_lowercase();
    let here = |address: IpAddr| Some(Found::Records(vec![RData::from(address)]));
    match (&*last, kind) {
        (b"localhost", RecordType::A) => here(Ipv4Addr::LOCALHOST.into()),
        (b"localhost", RecordType::AAAA) => here(Ipv6Addr::LOCALHOST.into()),
        (b"localhost" | b"invalid" | b"onion", _) => Some(Found::Nothing),
        _ => None,
    }
}

/// Bytes that the records take on the wire.
fn size(records: &[RData]) -> usize {
    records.iter().map(|data| data.to_bytes().map_or(MANY_BYTES + 1, |bytes| bytes.len())).sum()
}

/// Where the SRV records of a domain's service stand.
fn service_name(tls: TargetTls, domain: &Domain) -> String {
    format!("{}._tcp.{domain}", tls.service())
}

fn unix(instant: Instant) -> UnixTime {
    let left = instant.saturating_duration_since(Instant::now()).as_secs();
    UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs() + left))
}

fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(a) => Some(a.0.into()),
        RData::AAAA(aaaa) => Some(aaaa.0.into()),
        _ => None,
    }
}

/// Uniform in `0..=max`; the bias of the remainder is below 2⁻³² for any sum of weights.
fn random_up_to(max: u64) -> u64 {
    // Without randomness the order is still one of those that are allowed.
    getrandom::u64().unwrap_or(0) % max.saturating_add(1)
}

/// The port of name servers in `resolv.conf`.
const DNS: u16 = 53;
/// Answers kept at most.
const CACHED_ANSWERS: usize = 4096;
/// An answer with more records than this is used but not kept,
const MANY_RECORDS: usize = 2 * MAX_TARGETS;
/// nor is one with more bytes: targets may have 255 each, and certificates in TLSA records thousands.
const MANY_BYTES: usize = 4096;
/// A longer TTL is cut to this: a peer that moved is found again within it.
const POSITIVE_TTL: Duration = Duration::from_secs(3600);
/// As is one of "there is nothing", so that federation recovers soon after a mistake.
const NEGATIVE_TTL: Duration = Duration::from_secs(60);
/// Aliases followed one after another.
const MAX_ALIASES: usize = 8;

#[cfg(test)]
mod dnssec_tests;
#[cfg(test)]
pub(crate) mod signed_zones;
#[cfg(test)]
mod tests;
