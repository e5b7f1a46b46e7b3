//! `fedgate check`: the whole way to a remote domain's server, step by step, as far as fedgate
//! itself would go before it sends a stanza.
//!
//! ```text
//! rules ── DNS ── for each target: addresses, TLSA ── TCP ── stream ── STARTTLS ── certificate
//!            and every prooftype ── stream ── features ── [dialback]
//! ```
//! The stream's header names a local domain as its sender, but nothing is asserted: the check ends
//! when the peer has said what it offers inside TLS. Only if it is asked for is a dialback key
//! sent, made with the secret of the running fedgate, which then answers for it.

mod features;
mod hints;
mod lines;
mod proofs;
pub mod report;
mod stream;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use zeroize::Zeroizing;

pub use self::report::Report;
use self::report::{
    Connection, Dns, Outcome, Policy, Ruling, Service, Srv, TargetReport, Tlsa, Trouble, VERSION,
};
use super::Status;
use crate::{
    auth::{
        dane::{AddressState, DanePlan, Security, TlsaState, wants_tlsa},
        dialback_key::{DialbackKeys, MASTER_LEN, Secret},
    },
    config::{
        model::{Config, Dnssec},
        policy::{Denied, Level, Place},
    },
    net::{
        connector::{ConnectFailure, Connected, Connector, Rules},
        resolver::ResolveError,
        secret::{self, SecretError},
        targets::{Target, TargetTls},
    },
    proxy::{ServicesError, services::Services},
    stream::{Failure, FailureKind},
    xmpp::{Direction, Domain, DomainPair},
};

/// What to look at.
#[derive(Clone, Debug)]
pub struct Options {
    /// The remote domain.
    pub domain: Domain,
    /// The local domain that stands in the stream header's `from`; none: the first that is
    /// configured.
    pub from: Option<Domain>,
    /// Only addresses of this family.
    pub family: Option<Family>,
    /// Only targets of this kind.
    pub tls: Option<TargetTls>,
    /// Whether to send a dialback key too.
    pub dialback: bool,
}

/// A family of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Why nothing could be looked at.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The domain is one of ours, to which fedgate never connects.
    #[error("{0} is served here: what it has to publish says `fedgate records {0}`")]
    Local(Domain),
    /// The domain to speak for is none of ours.
    #[error("{0} is not served here: --from takes a local domain")]
    NotLocal(Domain),
    /// There is nobody to speak for.
    #[error("no local domain is configured")]
    NoLocal,
    /// No random numbers.
    #[error("draw a random secret")]
    Random(#[source] getrandom::Error),
    /// The dialback secret of the running fedgate.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Certificates, trust roots, name servers.
    #[error(transparent)]
    Services(#[from] ServicesError),
}

/// Walks the way. Reads the files that the configuration names, and writes none.
///
/// # Errors
/// [`CheckError`]: what is wrong is on this side, and nothing is known of the domain.
pub async fn check(config: Config, options: &Options) -> Result<Report, CheckError> {
    let from = match &options.from {
        Some(from) if config.local_domains.contains_key(from) => from.clone(),
        Some(from) => return Err(CheckError::NotLocal(from.clone())),
        None => first_domain(&config).ok_or(CheckError::NoLocal)?,
    };
    if config.local_domains.contains_key(&options.domain) {
        return Err(CheckError::Local(options.domain.clone()));
    }
    let keys = match options.dialback {
        true => secret::existing_dialback_keys(&config.state_dir)?,
        false => unused_keys()?,
    };
    let deadline = Instant::now() + config.limits.connect;
    let services = Services::beside(Arc::new(config))?;
    let walk = Walk {
        pair: DomainPair::new(from, options.domain.clone()),
        secret: keys.public().clone(),
        services,
        options,
        deadline,
    };
    Ok(walk.run().await)
}

fn first_domain(config: &Config) -> Option<Domain> {
    config.legacy.values().find_map(|legacy| legacy.domains.first()).cloned()
}

/// No key is ever made with them.
fn unused_keys() -> Result<DialbackKeys, CheckError> {
    let mut master = Zeroizing::new([0; MASTER_LEN]);
    getrandom::fill(master.as_mut()).map_err(CheckError::Random)?;
    Ok(DialbackKeys::new(master))
}

/// One check under way.
struct Walk<'a> {
    services: Services,
    options: &'a Options,
    /// From the local domain to the remote one.
    pair: DomainPair,
    secret: Secret,
    deadline: Instant,
}

/// A target with what DNS says of its certificate.
struct Endpoint {
    target: Target,
    plan: DanePlan,
    tlsa: TlsaState,
    addresses: AddressState,
}

impl Walk<'_> {
    async fn run(&self) -> Report {
        let policy = self.policy();
        let mut report = Report {
            version: VERSION,
            domain: self.pair.target.to_string(),
            from: self.pair.sender.to_string(),
            status: Status::Unknown,
            summary: String::new(),
            policy,
            dns: None,
            targets: Vec::new(),
            outcome: Outcome { outbound: None, inbound: None, level: None, proven_by: None },
            hints: Vec::new(),
        };
        let Policy { outbound, inbound } = &report.policy;
        if outbound.allowed || inbound.allowed {
            let (dns, targets) = self.dns().await;
            report.dns = Some(dns);
            for target in targets {
                let tried = self.target(target).await;
                let is_good = tried.connections.last().is_some_and(|last| last.error.is_none());
                report.targets.push(tried);
                if is_good {
                    break;
                }
            }
        }
        hints::conclude(&mut report, &self.services);
        report
    }

    fn policy(&self) -> Policy {
        let ruling = |direction| {
            let verdict = self.services.config.policy.domain(&self.pair.target, direction);
            let (denied_by, reason) = match verdict.denied {
                Some(Denied { reason, rule }) => (Some(rule), reason),
                None => (None, None),
            };
            Ruling {
                allowed: denied_by.is_none(),
                reason: reason.map(|reason| reason.to_string()),
                denied_by: denied_by.map(|rule| rule.to_string()),
                level: verdict.level.as_str(),
                level_rule: verdict.level_rule.map(|rule| rule.to_string()),
            }
        };
        Policy { outbound: ruling(Direction::Outbound), inbound: ruling(Direction::Inbound) }
    }

    fn level(&self) -> Level {
        self.services.config.policy.domain(&self.pair.target, Direction::Outbound).level
    }

    /// What DNS says of the services, and the targets to try.
    async fn dns(&self) -> (Dns, Vec<Target>) {
        let (direct, starttls) =
            tokio::join!(self.service(TargetTls::Direct), self.service(TargetTls::StartTls));
        let mut dns = Dns { services: vec![direct, starttls], fallback: false, error: None };
        // mostly in the resolver's memory by now
        let found = timeout_at(self.deadline, self.services.resolver.service(&self.pair.target));
        let mut targets = match found.await {
            Ok(Ok(targets)) => targets,
            Ok(Err(error)) => {
                dns.error = Some(unresolved(error));
                return (dns, Vec::new());
            }
            Err(_) => {
                let failure =
                    Failure::new(FailureKind::Resolution, "name resolution took too long");
                dns.error = Some(trouble(&failure));
                return (dns, Vec::new());
            }
        };
        dns.fallback = dns.services.iter().all(|service| service.records.is_empty());
        if let Some(tls) = self.options.tls {
            targets.retain(|target| target.tls == tls);
            if targets.is_empty() {
                let detail =
                    format!("no target for {}: left out by --{}", self.pair.target, tls.as_str());
                dns.error = Some(Trouble { reason: "not-found", detail });
            }
        }
        (dns, targets)
    }

    async fn service(&self, tls: TargetTls) -> Service {
        let domain = &self.pair.target;
        let began = Instant::now();
        let answer = self.services.resolver.srv_records(domain, tls).await;
        let name = format!("{}._tcp.{domain}", tls.service());
        let ms = elapsed(began);
        match answer {
            Ok(found) => Service {
                name,
                dnssec: Some(self.security(found.security)),
                records: found.records.into_iter().map(Srv::from).collect(),
                error: None,
                ms,
            },
            Err(error) => {
                let error = Some(Failure::from(error).detail().to_owned());
                Service { name, dnssec: None, records: Vec::new(), error, ms }
            }
        }
    }

    fn security(&self, security: Security) -> &'static str {
        match (security, &self.services.config.resolver.dnssec) {
            (_, Dnssec::Off) => "unchecked",
            (Security::Secure, _) => "secure",
            (Security::Insecure, _) => "insecure",
        }
    }

    /// Tries the addresses of a target until a stream comes about.
    async fn target(&self, target: Target) -> TargetReport {
        let began = Instant::now();
        let mut report = TargetReport {
            host: target.host.to_string(),
            port: target.port,
            tls: target.tls.as_str(),
            addresses: Vec::new(),
            dnssec: None,
            alias: None,
            tlsa: None,
            error: None,
            ms: 0,
            connections: Vec::new(),
        };
        let looked_up = timeout_at(self.deadline, self.look_up(&target, &mut report)).await;
        report.ms = elapsed(began);
        let (addresses, tlsa) = match looked_up {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                report.error = Some(unresolved(error));
                return report;
            }
            Err(_) => {
                report.error = Some(trouble(&no_time()));
                return report;
            }
        };
        let mut connector =
            Connector::new(self.services.resolver.clone(), vec![target], self.rules());
        let mut failed = 0;
        loop {
            let began = Instant::now();
            let next = timeout_at(self.deadline, connector.next()).await;
            let connect_ms = elapsed(began);
            let failures = connector.failures().get(failed..).unwrap_or_default();
            failed += failures.len();
            report.connections.extend(failures.iter().filter_map(not_connected));
            let connected = match next {
                Ok(Some(connected)) => connected,
                Ok(None) => break,
                Err(_) => {
                    let trouble = Some(trouble(&no_time()));
                    report.connections.push(Connection { error: trouble, ..connection(None) });
                    break;
                }
            };
            let Connected { stream, target, address, plan } = connected;
            let endpoint = Endpoint { target, plan, tlsa: tlsa.clone(), addresses };
            let tried = self.connection(stream, address, &endpoint).await;
            let is_final = tried.error.as_ref().is_none_or(|error| {
                // as when it is dialled: other addresses would say the same
                matches!(error.reason, "rejected" | "host-unknown")
            });
            report.connections.push(Connection { connect_ms: Some(connect_ms), ..tried });
            if is_final {
                break;
            }
        }
        report
    }

    /// Addresses and TLSA records, into the report.
    async fn look_up(
        &self,
        target: &Target,
        report: &mut TargetReport,
    ) -> Result<(AddressState, TlsaState), ResolveError> {
        let resolver = &self.services.resolver;
        let addresses = resolver.addresses(&target.host).await?;
        report.addresses.clone_from(&addresses.ips);
        report.dnssec = Some(self.security(addresses.security));
        report.alias = addresses.canonical.as_ref().map(ToString::to_string);
        let state = match addresses.security {
            Security::Insecure => AddressState::Insecure,
            Security::Secure => AddressState::Secure,
        };
        let tlsa = match wants_tlsa(target.delegation.state(), state) {
            true => resolver.tlsa(target, &addresses).await?,
            false => TlsaState::NotAsked,
        };
        report.tlsa = Some(match &tlsa {
            TlsaState::Records(set) => Tlsa {
                state: "secure",
                base: Some(set.base.to_string()),
                records: set.records.iter().map(ToString::to_string).collect(),
            },
            TlsaState::Denied => Tlsa { state: "secure", base: None, records: Vec::new() },
            TlsaState::Insecure => Tlsa { state: "insecure", base: None, records: Vec::new() },
            TlsaState::NotAsked | TlsaState::Failed => {
                Tlsa { state: "not-asked", base: None, records: Vec::new() }
            }
        });
        Ok((state, tlsa))
    }

    fn rules(&self) -> Rules {
        let config = Arc::clone(&self.services.config);
        let family = self.options.family;
        Rules {
            filter: Box::new(move |ip| match (family, ip) {
                (Some(Family::V4), IpAddr::V6(_)) => Some(left_out("-4")),
                (Some(Family::V6), IpAddr::V4(_)) => Some(left_out("-6")),
                _ => config.policy.address(ip, Direction::Outbound),
            }),
            own: self.services.own.clone(),
            tcp_timeout: self.services.config.limits.tcp_connect,
        }
    }

    /// Speaks with the peer; once more without our certificate where it does not bear it.
    async fn connection(
        &self,
        socket: TcpStream,
        address: SocketAddr,
        endpoint: &Endpoint,
    ) -> Connection {
        let first = stream::explore(self, socket, address, endpoint, true).await;
        let alert = match &first.error {
            Some(error) if error.reason == CERTIFICATE => error.detail.clone(),
            _ => return first,
        };
        // Protocol EKU-3, as when it is dialled.
        let again = timeout(self.services.config.limits.tcp_connect, TcpStream::connect(address));
        let Ok(Ok(socket)) = again.await else { return first };
        let second = stream::explore(self, socket, address, endpoint, false).await;
        Connection { certificate_refused: Some(alert), ..second }
    }
}

/// The label of a failure because of our certificate.
const CERTIFICATE: &str = "certificate";

/// How long the last words may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// A connection of which nothing is known yet.
fn connection(address: Option<SocketAddr>) -> Connection {
    Connection {
        address,
        connect_ms: None,
        stream: None,
        tls: None,
        certificates: Vec::new(),
        proofs: Vec::new(),
        secured: None,
        level: None,
        proven_by: None,
        proven_until: None,
        certificate_refused: None,
        dialback: None,
        error: None,
    }
}

/// An address that was not connected to; none if it was left out by an option.
fn not_connected(failure: &ConnectFailure) -> Option<Connection> {
    let (address, reason) = match failure {
        ConnectFailure::Resolve(error) => {
            let error = Some(unresolved(error.clone()));
            return Some(Connection { error, ..connection(None) });
        }
        ConnectFailure::Denied { denied, .. } if denied.rule.0.starts_with('-') => return None,
        ConnectFailure::Denied { address, .. } => (address, "denied"),
        ConnectFailure::Own { address } => (address, "own"),
        ConnectFailure::Tcp { address, .. } => (address, "unreachable"),
    };
    let detail = match failure {
        ConnectFailure::Tcp { source, .. } => source.to_string(),
        other => other.to_string(),
    };
    Some(Connection { error: Some(Trouble { reason, detail }), ..connection(Some(*address)) })
}

fn left_out(option: &str) -> Denied {
    Denied { reason: None, rule: Place(option.into()) }
}

fn no_time() -> Failure {
    Failure::new(FailureKind::Timeout, "no time left to connect (limits.connect)")
}

fn trouble(failure: &Failure) -> Trouble {
    Trouble { reason: failure.reason(), detail: failure.detail().to_owned() }
}

/// A bogus answer is one: nobody federates on it. Without any answer nothing is known.
fn unresolved(error: ResolveError) -> Trouble {
    let is_bogus = matches!(error, ResolveError::Bogus { .. });
    let trouble = trouble(&Failure::from(error));
    if is_bogus { Trouble { reason: "bogus", ..trouble } } else { trouble }
}

fn elapsed(since: Instant) -> u64 {
    since.elapsed().as_millis().try_into().unwrap_or(u64::MAX)
}

impl From<crate::net::resolver::SrvRecord> for Srv {
    fn from(srv: crate::net::resolver::SrvRecord) -> Self {
        let crate::net::resolver::SrvRecord { priority, weight, port, target } = srv;
        Self { priority, weight, port, target: target.into() }
    }
}
