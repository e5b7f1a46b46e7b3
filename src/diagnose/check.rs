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
pub(super) mod own;
mod proofs;
pub mod report;
mod stream;
mod target;

use std::{net::SocketAddr, sync::Arc};

use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

pub use self::report::Report;
use self::report::{Connection, Dns, Outcome, Policy, Ruling, Service, Srv, Trouble, VERSION};
use super::Status;
use crate::{
    auth::{
        dane::{AddressState, DanePlan, Security, TlsaState},
        dialback_key::{DialbackKeys, MASTER_LEN, Secret},
    },
    config::{
        model::{Config, Dnssec},
        policy::{Decision, Denied},
    },
    net::{
        resolver::{ResolveError, SrvRecord},
        secret::{self, SecretError},
        targets::{Target, TargetTls},
    },
    proxy::{ServicesError, rules::decide, services::Services},
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
        true => {
            secret::existing_dialback_keys(config.dialback_secret.as_deref(), &config.state_dir)?
        }
        false => unused_keys()?,
    };
    let pair = DomainPair::new(from, options.domain.clone());
    let decision = decide(&config, &pair, Direction::Outbound);
    let deadline = Instant::now() + decision.connect_limit(&config.limits);
    let services = Arc::new(Services::beside(Arc::new(config))?);
    let secret = keys.public().clone();
    let walk = Walk { pair, secret, services, options, deadline, over: deadline };
    Ok(walk.run().await)
}

fn first_domain(config: &Config) -> Option<Domain> {
    config.legacy.values().find_map(|legacy| legacy.domains.first()).cloned()
}

/// No key is ever made with them.
pub(super) fn unused_keys() -> Result<DialbackKeys, CheckError> {
    let mut master = Zeroizing::new([0; MASTER_LEN]);
    getrandom::fill(master.as_mut()).map_err(CheckError::Random)?;
    Ok(DialbackKeys::new(master))
}

/// One check under way.
struct Walk<'a> {
    services: Arc<Services>,
    options: &'a Options,
    /// From the local domain to the remote one.
    pair: DomainPair,
    secret: Secret,
    deadline: Instant,
    /// When all targets are over.
    over: Instant,
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
            match self.decision(Direction::Outbound).connect() {
                Some(connect) => report.targets.push(self.fixed(connect).await),
                None => self.by_dns(&mut report).await,
            }
        }
        hints::conclude(&mut report, &self.services);
        report
    }

    async fn by_dns(&self, report: &mut Report) {
        let (dns, targets) = self.dns().await;
        report.dns = Some(dns);
        let mut targets = targets.into_iter();
        while let Some(target) = targets.next() {
            let tried = self.target(target, targets.len() > 0).await;
            let is_final = tried.connections.last().is_some_and(is_final);
            report.targets.push(tried);
            if is_final {
                break;
            }
        }
    }

    /// The same with less time.
    fn over_at(&self, deadline: Instant) -> Self {
        let Self { services, options, pair, secret, over, .. } = self;
        let (services, pair, secret) = (Arc::clone(services), pair.clone(), secret.clone());
        Self { services, options, pair, secret, deadline, over: *over }
    }

    fn policy(&self) -> Policy {
        let ruling = |direction| {
            let decision = self.decision(direction);
            let (denied_by, reason) = match decision.denied() {
                Some(Denied { reason, rule }) => (Some(rule), reason),
                None => (None, None),
            };
            Ruling {
                allowed: denied_by.is_none(),
                reason: reason.map(|reason| reason.to_string()),
                denied_by: denied_by.map(|rule| rule.to_string()),
                reported: decision.reported().map(|denied| denied.rule.to_string()),
                level: decision.level().as_str(),
                level_rule: decision.level_rule().map(|rule| rule.to_string()),
            }
        };
        Policy { outbound: ruling(Direction::Outbound), inbound: ruling(Direction::Inbound) }
    }

    /// What the rules say of the stanzas that go that way.
    fn decision(&self, direction: Direction) -> Decision<'_> {
        let pair = match direction {
            Direction::Outbound => &self.pair,
            Direction::Inbound => &self.pair.reversed(),
        };
        decide(&self.services.config, pair, direction)
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
}

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
        missing_outbound: None,
        missing_inbound: None,
        tls_failed: None,
        certificate_refused: None,
        dialback: None,
        error: None,
    }
}

/// Whether nothing more is tried: a stream came about, or, as when it is dialled, others would say
/// the same.
fn is_final(connection: &Connection) -> bool {
    let reason = connection.error.as_ref().map(|error| error.reason);
    reason.is_none_or(|reason| matches!(reason, "rejected" | "host-unknown"))
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

impl From<SrvRecord> for Srv {
    fn from(srv: SrvRecord) -> Self {
        let SrvRecord { priority, weight, port, target } = srv;
        Self { priority, weight, port, target: target.into() }
    }
}
