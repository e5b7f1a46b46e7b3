//! One target: what DNS says of it, and its addresses one after another, until a stream comes about.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};

use super::{
    Endpoint, Family, Walk, connection, elapsed, is_final,
    report::{Connection, TargetReport, Tlsa, Trouble},
    stream, trouble, unresolved,
};
use crate::{
    auth::dane::{AddressState, DanePlan, Security, TlsaState, wants_tlsa},
    config::policy::{Connect, Denied, Level, Place},
    net::{
        connector::{ConnectFailure, Connected, Connector, Rules, bear_until, connect_legacy},
        resolver::ResolveError,
        targets::{Delegation, Target, TargetTls},
    },
    stream::{Failure, FailureKind},
    xmpp::Direction,
};

impl Walk<'_> {
    /// Tries the addresses of a target until a stream comes about; `has_more` targets follow.
    pub(super) async fn target(&self, target: Target, has_more: bool) -> TargetReport {
        let began = Instant::now();
        let mut report = target_report(&target);
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
            let Connected { stream, target, address, plan, security: _ } = connected;
            let endpoint = Endpoint { target, plan, tlsa: tlsa.clone(), addresses };
            let has_more = has_more || connector.has_more();
            let walk = self.over_at(bear_until(self.deadline, has_more));
            let tried = walk.connection(stream, address, &endpoint).await;
            let is_final = is_final(&tried);
            report.connections.push(Connection { connect_ms: Some(connect_ms), ..tried });
            if is_final {
                break;
            }
        }
        if report.connections.is_empty() {
            let detail = format!("{} has no address of that family", report.host);
            report.error = Some(Trouble { reason: "not-found", detail });
        }
        report
    }

    /// Goes where a rule says that the domain is reached.
    pub(super) async fn fixed(&self, connect: &Connect) -> TargetReport {
        let target = Target {
            host: connect.address.host.as_str().into(),
            port: connect.address.port,
            tls: if connect.direct_tls { TargetTls::Direct } else { TargetTls::StartTls },
            priority: 0,
            delegation: Delegation::Insecure,
        };
        let mut report = target_report(&target);
        let began = Instant::now();
        let limit = self.services.config.limits.tcp_connect;
        let connected = connect_legacy(&connect.address, limit).await;
        let connected = connected.and_then(|stream| Ok((stream.peer_addr()?, stream)));
        let connect_ms = Some(elapsed(began));
        let tried = match connected {
            Ok((address, stream)) => {
                let endpoint = Endpoint {
                    target,
                    plan: DanePlan::NotApplicable,
                    tlsa: TlsaState::NotAsked,
                    addresses: AddressState::Insecure,
                };
                let tried = self.connection(stream, address, &endpoint).await;
                Connection { connect_ms, ..tried }
            }
            Err(error) => {
                let error = Trouble { reason: "unreachable", detail: error.to_string() };
                Connection { error: Some(error), ..connection(None) }
            }
        };
        report.connections.push(tried);
        report
    }

    /// Addresses and TLSA records, into the report.
    pub(super) async fn look_up(
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

    /// Speaks with the peer; once more without our certificate where it does not bear it, and once
    /// more without TLS where that fails and need not be.
    pub(super) async fn connection(
        &self,
        socket: TcpStream,
        address: SocketAddr,
        endpoint: &Endpoint,
    ) -> Connection {
        let level = self.decision(Direction::Outbound).level();
        let with_tls = endpoint.plan.level(level.clamp(Level::Verified, Level::Encrypted));
        let mut first = stream::explore(self, socket, address, endpoint, true, with_tls).await;
        if let (Some(base), Some(error), None) =
            (endpoint.plan.asks_for_tls(), &mut first.error, &first.tls)
            && !level.needs_tls()
        {
            error.detail += &format!(": the TLSA records of {base} ask for TLS");
        }
        let Some(Trouble { reason, detail }) = first.error.clone() else { return first };
        let may_do_without = level == Level::Permissive
            && endpoint.target.tls == TargetTls::StartTls
            && endpoint.plan.asks_for_tls().is_none();
        if reason != CERTIFICATE && !(reason == TLS && may_do_without) {
            return first;
        }
        let again = timeout(self.services.config.limits.tcp_connect, TcpStream::connect(address));
        let Ok(Ok(socket)) = again.await else { return first };
        if reason == CERTIFICATE {
            // Protocol EKU-3, as when it is dialled.
            let second = stream::explore(self, socket, address, endpoint, false, with_tls).await;
            return Connection { certificate_refused: Some(detail), ..second };
        }
        let clear = Level::Permissive;
        let second = stream::explore(self, socket, address, endpoint, false, clear).await;
        Connection { tls_failed: Some(detail), ..second }
    }
}

/// A target of which nothing is known yet.
pub(super) fn target_report(target: &Target) -> TargetReport {
    TargetReport {
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
    }
}

/// An address that was not connected to; none if it was left out by an option.
fn not_connected(failure: &ConnectFailure) -> Option<Connection> {
    let (address, reason) = match failure {
        ConnectFailure::Resolve(error) => {
            let error = Some(unresolved(error.clone()));
            return Some(Connection { error, ..connection(None) });
        }
        ConnectFailure::Denied { denied, .. } if denied.rule.to_string().starts_with('-') => {
            return None;
        }
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
    Denied { reason: None, rule: Place::words(option) }
}

fn no_time() -> Failure {
    Failure::new(FailureKind::Timeout, "no time left to connect (limits.connect)")
}

/// The label of a failure because of our certificate,
const CERTIFICATE: &str = "certificate";
/// and of one of TLS.
const TLS: &str = "tls";
