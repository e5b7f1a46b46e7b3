//! Finding a domain's servers and their addresses in DNS (RFC 6120 §3.2, XEP-0368; protocol rules
//! DNS-3 to DNS-10).
//!
//! Promises: an answer that is missing for a passing reason is an error of its own and never read
//! as "no such record", so that nobody gains a fallback by suppressing answers (DNS-4); every
//! query ends within the configured time; answers live as long as their TTL says, negative ones at
//! most a minute. The hosts file and search domains play no part. Each question is asked, and its
//! aliases followed, in `Resolver::ask`, where the state of validation will be taken from.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverConfig},
    lookup::Lookup,
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{Name, RData, RecordType},
    },
    system_conf::read_system_conf,
};

use super::{
    own::OwnAddresses,
    targets::{Answer, Decision, MAX_TARGETS, Srv, Target, decide, fallback, order},
};
use crate::{
    config::model,
    xmpp::{Domain, StanzaCondition},
};

/// Asks the name servers and remembers what they said. Cheap to clone, the memory is shared.
#[derive(Clone)]
pub struct Resolver {
    hickory: TokioResolver,
    timeout: Duration,
}

/// Why there are no name servers to ask.
#[derive(Debug, thiserror::Error)]
pub enum ServersError {
    /// The only name server is fedgate's own steering responder.
    #[error("the only name server is fedgate's own responder: name others under resolver.servers")]
    OnlyOwn,
    /// The system's configuration cannot be used.
    #[error("read name servers from /etc/resolv.conf")]
    System(#[source] NetError),
    /// The resolver cannot be set up.
    #[error("set up the resolver")]
    Setup(#[source] NetError),
}

/// Why a name gave nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ResolveError {
    /// The answer is known: there is nothing (NXDOMAIN, no data, or an SRV target of `.`).
    #[error("{query}: {why}")]
    NotFound {
        /// What was asked.
        query: DnsQuery,
        /// What the answer was.
        why: Absence,
    },
    /// There was no answer that could be used: try later, assume nothing.
    #[error("{query}")]
    Temporary {
        /// What was asked.
        query: DnsQuery,
        /// What came instead.
        #[source]
        cause: NetError,
    },
}

/// A question, for messages: `SRV _xmpp-server._tcp.example.com`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DnsQuery(Box<str>);

/// In which way there is nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Absence {
    /// No address records.
    Address,
    /// The domain says by SRV that it has no XMPP service (RFC 6120 §3.2.1, XEP-0368 §5).
    Service,
    /// The name does not fit into DNS.
    TooLong,
}

impl Resolver {
    /// Sets up the resolver: the configured name servers, or else the system's as they are now.
    /// `own` are fedgate's own DNS listeners, which are never asked.
    ///
    /// # Errors
    /// [`ServersError`] where no name server is left.
    pub fn new(config: &model::Resolver, own: &OwnAddresses) -> Result<Self, ServersError> {
        let servers = name_servers(config, own)?.into_iter().map(name_server).collect();
        let config_of_hickory = ResolverConfig::from_name_servers(servers);
        let mut builder =
            TokioResolver::builder_with_config(config_of_hickory, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        // Once more within the time: another server, or a new source port.
        options.timeout = config.timeout / 2;
        options.attempts = 1;
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = CACHED_ANSWERS;
        options.positive_max_ttl = Some(POSITIVE_TTL);
        options.negative_max_ttl = Some(NEGATIVE_TTL);
        let hickory = builder.build().map_err(ServersError::Setup)?;
        Ok(Self { hickory, timeout: config.timeout })
    }

    /// Finds where the domain's server may be, in the order to try.
    ///
    /// # Errors
    /// [`ResolveError::NotFound`] if the domain says that it has no service,
    /// [`ResolveError::Temporary`] if either SRV query got no answer.
    pub async fn service(&self, domain: &Domain) -> Result<Vec<Target>, ResolveError> {
        let direct = format!("_xmpps-server._tcp.{domain}");
        let starttls = format!("_xmpp-server._tcp.{domain}");
        let (direct, starttls) = tokio::try_join!(self.srv(&direct), self.srv(&starttls))?;
        match decide(Answer::new(direct), Answer::new(starttls)) {
            Decision::Absent => Err(ResolveError::NotFound {
                query: DnsQuery::new(RecordType::SRV, domain.as_str()),
                why: Absence::Service,
            }),
            Decision::Fallback => Ok(vec![fallback(domain.as_str())]),
            Decision::Targets(records) => Ok(order(records, random_up_to)),
        }
    }

    /// Finds the addresses of a host, IPv6 and IPv4, each family in the order of the answer.
    ///
    /// # Errors
    /// [`ResolveError::NotFound`] if both families are known to have none,
    /// [`ResolveError::Temporary`] if there is none but one family got no answer.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let (v6, v4) =
            tokio::join!(self.ask(host, RecordType::AAAA), self.ask(host, RecordType::A));
        let mut addresses = Vec::new();
        let mut error = None;
        for answer in [v6, v4] {
            match answer {
                Ok(records) => addresses.extend(records.iter().filter_map(address)),
                Err(e @ ResolveError::Temporary { .. }) => error = Some(e),
                Err(e @ ResolveError::NotFound { .. }) => error = error.or(Some(e)),
            }
        }
        if addresses.is_empty() {
            return Err(error.unwrap_or_else(|| ResolveError::NotFound {
                query: DnsQuery::new(RecordType::A, host),
                why: Absence::Address,
            }));
        }
        Ok(addresses)
    }

    async fn srv(&self, name: &str) -> Result<Vec<Srv>, ResolveError> {
        let records = match self.ask(name, RecordType::SRV).await {
            // No record can stand where no name can.
            Err(ResolveError::NotFound { .. }) => Vec::new(),
            answer => answer?,
        };
        let srv = records.iter().filter_map(|data| match data {
            RData::SRV(srv) => Some(Srv {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: srv.target.to_ascii(),
            }),
            _ => None,
        });
        Ok(srv.collect())
    }

    /// The records of that type at the end of the name's chain of aliases; none if it is known
    /// that there are none.
    async fn ask(&self, name: &str, kind: RecordType) -> Result<Vec<RData>, ResolveError> {
        let query = DnsQuery::new(kind, name);
        let Ok(mut owner) = Name::from_ascii(name) else {
            return Err(ResolveError::NotFound { query, why: Absence::TooLong });
        };
        owner.set_fqdn(true);
        let answer = tokio::time::timeout(self.timeout, self.follow(owner, kind)).await;
        answer
            .unwrap_or(Err(NetError::Timeout))
            .map_err(|cause| ResolveError::Temporary { query, cause })
    }

    async fn follow(&self, mut owner: Name, kind: RecordType) -> Result<Vec<RData>, NetError> {
        for _ in 0..MAX_ALIASES {
            match self.lookup(&owner, kind).await? {
                Found::Nothing => return Ok(Vec::new()),
                Found::Records(records) => return Ok(records),
                Found::Elsewhere => {}
            }
            match self.lookup(&owner, RecordType::CNAME).await? {
                Found::Records(records) => match records.first() {
                    Some(RData::CNAME(target)) => owner = target.0.clone(),
                    _ => return Ok(Vec::new()),
                },
                Found::Elsewhere | Found::Nothing => {
                    // No alias after all: what hickory remembers of this name is a wrong turn
                    // that it took from another one.
                    self.hickory.clear_lookup_cache(owner.clone(), kind);
                    return match self.lookup(&owner, kind).await? {
                        Found::Records(records) => Ok(records),
                        Found::Elsewhere | Found::Nothing => Ok(Vec::new()),
                    };
                }
            }
        }
        Err(NetError::Message("the chain of aliases is too long"))
    }

    async fn lookup(&self, owner: &Name, kind: RecordType) -> Result<Found, NetError> {
        match self.hickory.lookup(owner.clone(), kind).await {
            Ok(lookup) => {
                if lookup.answers().len() > MANY_RECORDS {
                    // Strangers' zones must not decide how much memory the cache takes.
                    self.hickory.clear_lookup_cache(owner.clone(), kind);
                    self.hickory.clear_lookup_cache(lookup.query().name().clone(), kind);
                }
                Ok(found(&lookup, owner, kind))
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => match none.response_code {
                ResponseCode::NXDomain | ResponseCode::NoError if *none.query.name() != *owner => {
                    // hickory follows the target of an SRV record that stands behind an alias as
                    // if that were the next alias, and says (and remembers, of each name on its
                    // way) that there is no SRV record.
                    Ok(Found::Elsewhere)
                }
                // A referral, name servers and no SOA, is no answer (RFC 2308 §2.2).
                ResponseCode::NoError if none.ns.is_some() && none.soa.is_none() => {
                    Err(NetError::Message("a referral instead of an answer"))
                }
                ResponseCode::NXDomain | ResponseCode::NoError => Ok(Found::Nothing),
                code => Err(NetError::Dns(DnsError::ResponseCode(code))),
            },
            Err(cause) => Err(cause),
        }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl ResolveError {
    /// What the sender of a stanza is told (RFC 6120 §8.3.3.16, §8.3.3.17; DNS-14).
    #[must_use]
    pub fn condition(&self) -> StanzaCondition {
        match self {
            Self::NotFound { .. } => StanzaCondition::RemoteServerNotFound,
            Self::Temporary { .. } => StanzaCondition::RemoteServerTimeout,
        }
    }
}

impl DnsQuery {
    fn new(kind: RecordType, name: &str) -> Self {
        Self(format!("{kind} {name}").into())
    }
}

impl fmt::Display for DnsQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "no such host",
            Self::Service => "the domain says that it has no such service",
            Self::TooLong => "the name does not fit into dns",
        })
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

enum Found {
    /// Behind an alias that has to be followed by hand.
    Elsewhere,
    Nothing,
    Records(Vec<RData>),
}

/// What the answer holds for the name, aliases inside the answer followed.
fn found(lookup: &Lookup, owner: &Name, kind: RecordType) -> Found {
    let mut end = owner;
    for _ in 0..MAX_ALIASES {
        let at_end: Vec<&RData> =
            lookup.answers().iter().filter(|r| r.name == *end).map(|r| &r.data).collect();
        let records: Vec<RData> =
            at_end.iter().filter(|d| d.record_type() == kind).map(|d| (*d).clone()).collect();
        if !records.is_empty() {
            return Found::Records(records);
        }
        match at_end.first() {
            Some(RData::CNAME(target)) => end = &target.0,
            _ => break,
        }
    }
    Found::Elsewhere
}

fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(a) => Some(a.0.into()),
        RData::AAAA(aaaa) => Some(aaaa.0.into()),
        _ => None,
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

/// Uniform in `0..=max`; the bias of the remainder is below 2⁻³² for any sum of weights.
fn random_up_to(max: u64) -> u64 {
    // Without randomness the order is still one of those that are allowed.
    getrandom::u64().unwrap_or(0) % max.saturating_add(1)
}

/// The port of name servers in `resolv.conf`.
const DNS: u16 = 53;
/// Answers kept at most.
const CACHED_ANSWERS: u64 = 4096;
/// An answer with more records than this is used but not kept.
const MANY_RECORDS: usize = 2 * MAX_TARGETS;
/// A longer TTL is cut to this: a peer that moved is found again within it.
const POSITIVE_TTL: Duration = Duration::from_secs(3600);
/// As is one of "there is nothing", so that federation recovers soon after a mistake.
const NEGATIVE_TTL: Duration = Duration::from_secs(60);
/// Aliases followed one after another.
const MAX_ALIASES: usize = 8;

#[cfg(test)]
mod tests;
