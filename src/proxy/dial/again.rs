//! The certificates of a connection that is open, judged once more.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use tokio::time::{Instant, timeout_at};

use super::Endpoint;
use crate::{
    auth::{Proof, Prooftype},
    net::connector::Connector,
    proxy::{
        gate::Gate,
        judge::{Errand, Unproven},
        rules::decide,
        services::Services,
    },
    stream::{Failure, FailureKind},
    xmpp::{Direction, DomainPair},
};

/// Judges the certificates of an open connection again: does DNS still send those who look for
/// the pair's target to this endpoint, and do they still prove it?
///
/// # Errors
/// Why not; [`FailureKind::Resolution`] where nobody knows.
pub(in crate::proxy) async fn prove_again(
    gate: &Arc<Gate>,
    pair: &DomainPair,
    endpoint: &Endpoint,
    chain: &[CertificateDer<'static>],
    before: Prooftype,
) -> Result<Proof, Failure> {
    let (services, config, domain) = (gate.services(), gate.config(), &pair.target);
    let decision = decide(&config, pair, Direction::Outbound);
    let deadline = Instant::now() + config.limits.connect;
    let errand = Errand::of(endpoint.address.ip(), deadline);
    if decision.connect().is_some() {
        let judged = gate.accept_endpoint(chain, &decision, domain, endpoint, errand).await;
        return judged.map_err(|why| lost(&why, before));
    }
    let late = |_| Failure::new(FailureKind::Resolution, "name resolution took too long");
    let found = timeout_at(deadline, services.resolver.service(domain)).await.map_err(late)?;
    let rules = Services::rules(&config, &services.own);
    let mut connector = Connector::new(services.resolver.clone(), found?, rules);
    let mut why = None;
    while let Some(at) = timeout_at(deadline, connector.upcoming()).await.map_err(late)? {
        if at.target.tls == endpoint.target.tls && at.addresses.contains(&endpoint.address) {
            let endpoint = Endpoint {
                address: endpoint.address,
                target: at.target.clone(),
                plan: at.plan.clone(),
                security: at.security,
            };
            match gate.accept_endpoint(chain, &decision, domain, &endpoint, errand).await {
                Ok(proof) => return Ok(proof),
                Err(unproven) => why = Some(lost(&unproven, before)),
            }
        }
        connector.skip();
    }
    if let Some(why) = why {
        return Err(why);
    }
    let is_partial = connector.is_partial();
    let unconnected = connector.into_error();
    // It may be in what DNS did not say.
    if is_partial {
        let detail = match unconnected.failures.is_empty() {
            true => format!("some addresses of {domain} are not known"),
            false => unconnected.to_string(),
        };
        return Err(Failure::new(FailureKind::Resolution, detail));
    }
    if !unconnected.failures.is_empty() {
        return Err(Failure::from(unconnected));
    }
    let detail = format!("{domain} is no longer reached at {}", endpoint.address);
    Err(Failure::new(FailureKind::NotProven, detail))
}

/// What it means for a pair that was proven by `before`.
fn lost(why: &Unproven, before: Prooftype) -> Failure {
    let kind = match why.leaves_open(before) {
        true => FailureKind::Resolution,
        false => FailureKind::NotProven,
    };
    Failure::new(kind, why.to_string())
}
