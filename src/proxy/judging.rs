//! What a connection has shown, judged by the rules for its pair: pins before everything (protocol
//! DNA-6), then only the prooftypes that count.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use tracing::info;

use super::{dial::Endpoint, gate::Gate};
use crate::{
    auth::{Proof, dane::Unproven, pin},
    config::{
        model::{Config, TlsVersion},
        policy::{Decision, Mode, Query},
    },
    xmpp::{Direction, Domain, DomainPair},
};

/// Why a certificate does not prove a domain.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Doubt {
    /// It does not; the domain may be reached without a proof where the level allows it.
    #[error("{0}")]
    Unproven(String),
    /// It is one that must not be.
    #[error("{0}")]
    Refused(String),
}

/// What the rules say of a pair's stanzas, for all addresses.
pub(super) fn decide<'c>(
    config: &'c Config,
    pair: &DomainPair,
    direction: Direction,
) -> Decision<'c> {
    let (local, remote) = match direction {
        Direction::Inbound => (&pair.target, &pair.sender),
        Direction::Outbound => (&pair.sender, &pair.target),
    };
    config.policy.decide(&Query { local: Some(local), remote, direction, address: None })
}

impl Gate {
    /// Judges the certificate chain of a peer that connected and says that it is `remote`.
    ///
    /// # Errors
    /// Why it proves nothing, in words for the log.
    pub(super) async fn accept_client(
        &self,
        chain: &[CertificateDer<'static>],
        local: Option<&Domain>,
        remote: &Domain,
    ) -> Result<Proof, String> {
        let config = self.config();
        let direction = Direction::Inbound;
        let decision = config.policy.decide(&Query { local, remote, direction, address: None });
        if let Some(pins) = decision.pins() {
            let outcome = pin::verify(pins, chain, remote);
            if outcome.is_ok() || decision.is_enforced() {
                return outcome.map_err(|why| why.to_string());
            }
        }
        let proof = self.judge_client(chain, remote).await?;
        counts(&decision, proof)
    }

    /// Judges the certificate chain of a peer's endpoint that was reached for `remote`; the stanzas
    /// go in that direction.
    ///
    /// # Errors
    /// [`Doubt`].
    pub(super) fn accept_endpoint(
        &self,
        chain: &[CertificateDer<'static>],
        decision: &Decision<'_>,
        remote: &Domain,
        endpoint: &Endpoint,
    ) -> Result<Proof, Doubt> {
        if let Some(pins) = decision.pins() {
            let outcome = pin::verify(pins, chain, remote);
            if outcome.is_ok() || decision.is_enforced() {
                return outcome.map_err(|why| Doubt::Refused(why.to_string()));
            }
        }
        match self.judge_endpoint(chain, remote, endpoint) {
            Ok(proof) => counts(decision, proof).map_err(Doubt::Unproven),
            Err(Unproven::Pkix(why)) => Err(Doubt::Unproven(why.to_string())),
            // final (RFC 7673 §4.2)
            Err(Unproven::Dane(why)) => Err(Doubt::Refused(why.to_string())),
        }
    }

    /// Tells the operator what the rules would have refused, if that is all they do now.
    pub(super) fn report(
        &self,
        pair: &DomainPair,
        direction: Direction,
        address: Option<IpAddr>,
        tls: Option<TlsVersion>,
        proof: Option<&Proof>,
    ) {
        let config = self.config();
        if config.policy.mode() == Mode::Enforce {
            return;
        }
        let (local, remote) = match direction {
            Direction::Inbound => (&pair.target, &pair.sender),
            Direction::Outbound => (&pair.sender, &pair.target),
        };
        let local = Some(local);
        let decision = config.policy.decide(&Query { local, remote, direction, address });
        if let Some(denied) = decision.reported() {
            info!(
                pair = %pair,
                direction = direction.as_str(),
                rule = %denied.rule,
                detail = denied.reason.as_deref(),
                "would be refused, but the mode is report"
            );
        } else if let Err(short) = decision.would_suffice(tls, proof) {
            info!(
                pair = %pair,
                direction = direction.as_str(),
                rule = short.rule.as_ref().map(tracing::field::display),
                detail = %short,
                "would be refused, but the mode is report"
            );
        }
    }
}

/// A proof that the rules do not count is none.
fn counts(decision: &Decision<'_>, proof: Proof) -> Result<Proof, String> {
    if decision.counts(proof.prooftype()) {
        return Ok(proof);
    }
    Err(format!("a proof by {} does not count here", proof.prooftype()))
}
