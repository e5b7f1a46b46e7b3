//! The way that peers come to a local domain, walked from this machine: every address that DNS
//! names, whoever answers there.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};

use super::{
    CheckError, Endpoint, Options, Walk, connection, elapsed, report::Connection, trouble,
};
use crate::{
    auth::dane::plan,
    net::{resolver::ResolveError, targets::Target},
    proxy::services::Services,
    stream::{Failure, FailureKind},
    xmpp::{Domain, DomainPair},
};

/// One address of one target.
pub(in crate::diagnose) struct Reached {
    pub(in crate::diagnose) target: Target,
    /// What a connection showed, or why there is none. No address: there was nowhere to connect to.
    pub(in crate::diagnose) connection: Connection,
}

/// Goes to each address of `domain` as a peer would that calls itself `prober`.
///
/// # Errors
/// [`CheckError::Random`]; all else is told of the addresses.
pub(in crate::diagnose) async fn reach(
    services: &Arc<Services>,
    domain: &Domain,
    prober: &Domain,
) -> Result<Result<Vec<Reached>, ResolveError>, CheckError> {
    let options =
        Options { domain: domain.clone(), from: None, family: None, tls: None, dialback: false };
    let deadline = Instant::now() + PATIENCE;
    let mut walk = Walk {
        services: Arc::clone(services),
        options: &options,
        pair: DomainPair::new(prober.clone(), domain.clone()),
        secret: super::unused_keys()?.public().clone(),
        deadline,
        over: deadline,
    };
    let targets = match services.resolver.service(domain).await {
        Ok(targets) => targets,
        Err(error) => return Ok(Err(error)),
    };
    let mut reached = Vec::new();
    for target in targets {
        if reached.len() >= ADDRESSES_MAX {
            break;
        }
        walk.deadline = Instant::now() + PATIENCE;
        walk.each_address(target, &mut reached).await;
    }
    Ok(Ok(reached))
}

impl Walk<'_> {
    async fn each_address(&mut self, target: Target, reached: &mut Vec<Reached>) {
        let nowhere = |target: &Target, error| Reached {
            target: target.clone(),
            connection: Connection { error: Some(error), ..connection(None) },
        };
        let mut found = super::target::target_report(&target);
        let looked_up = timeout_at(self.deadline, self.look_up(&target, &mut found)).await;
        let (state, tlsa) = match looked_up {
            Ok(Ok(looked_up)) => looked_up,
            Ok(Err(error)) => return reached.push(nowhere(&target, super::unresolved(error))),
            Err(_) => {
                let failure =
                    Failure::new(FailureKind::Resolution, "name resolution took too long");
                return reached.push(nowhere(&target, trouble(&failure)));
            }
        };
        let judged_by = plan(target.delegation.state(), state, tlsa.clone());
        let endpoint = Endpoint { target, plan: judged_by, tlsa, addresses: state };
        let room = ADDRESSES_MAX.saturating_sub(reached.len());
        for ip in found.addresses.into_iter().take(room) {
            let address = SocketAddr::new(ip.to_canonical(), endpoint.target.port);
            self.deadline = Instant::now() + PATIENCE;
            let began = Instant::now();
            let limit = self.services.config.limits.tcp_connect.min(CONNECT);
            let tried = match timeout(limit, TcpStream::connect(address)).await {
                Ok(Ok(socket)) => {
                    let connect_ms = Some(elapsed(began));
                    let tried = self.connection(socket, address, &endpoint).await;
                    Connection { connect_ms, ..tried }
                }
                failed => {
                    let why = match failed {
                        Ok(Err(error)) => error.to_string(),
                        _ => "no answer in time".to_owned(),
                    };
                    let error = trouble(&Failure::new(FailureKind::Unreachable, why));
                    Connection { error: Some(error), ..connection(Some(address)) }
                }
            };
            reached.push(Reached { target: endpoint.target.clone(), connection: tried });
        }
    }
}

/// Addresses of one domain that are tried.
const ADDRESSES_MAX: usize = 16;
/// How long one address may take to show what it has to show,
const PATIENCE: Duration = Duration::from_secs(15);
/// and to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
