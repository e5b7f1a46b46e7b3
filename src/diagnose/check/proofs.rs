//! Every prooftype by itself, with why it holds or does not, and what fedgate makes of them all
//! (RFC 7712; protocol §9.4).

use rustls::pki_types::{CertificateDer, UnixTime};

use super::{
    Endpoint, Walk,
    report::{Features, ProofReport, ProofResult},
};
use crate::{
    auth::{
        Proof,
        dane::{AddressState, DanePlan, SrvState, TlsaState, Unproven},
        pkix,
    },
    config::model::Dnssec,
    stream::{Failure, FailureKind},
};

/// What the prooftypes say.
pub(super) struct Judgement {
    /// One by one.
    pub(super) proofs: Vec<ProofReport>,
    /// What [`Initiating::judged`](crate::stream::Initiating::judged) is told, or why it is not.
    pub(super) verdict: Result<Result<Proof, String>, Failure>,
}

/// Judges the certificate chain that the endpoint showed.
pub(super) async fn judge(
    walk: &Walk<'_>,
    chain: &[CertificateDer<'static>],
    endpoint: &Endpoint,
) -> Judgement {
    let now = UnixTime::now();
    let judge = |plan: &DanePlan| {
        let Endpoint { target, .. } = endpoint;
        let (domain, roots) = (&walk.pair.target, &walk.services.roots);
        plan.judge(chain, domain, &target.host, target.delegation.until(), roots, now)
    };
    let verdict = judge(&endpoint.plan);
    let dane = match &endpoint.plan {
        DanePlan::Match(set) => match &verdict {
            Ok(_) => report(
                "dane",
                ProofResult::Holds,
                format!("a TLSA record of {} means it", set.base),
            ),
            Err(why) => failed("dane", why),
        },
        _ => report("dane", ProofResult::Absent, no_dane(walk, endpoint)),
    };
    let proofs = vec![dane, by_pkix(judge(&DanePlan::PkixWithTarget))];
    let verdict = match verdict {
        Ok(proof) => Ok(Ok(proof)),
        Err(Unproven::Pkix(why)) => Ok(Err(why.to_string())),
        Err(Unproven::Dane(why)) => Err(Failure::new(FailureKind::NotProven, why.to_string())),
    };
    Judgement { proofs, verdict }
}

fn by_pkix(verdict: Result<Proof, Unproven>) -> ProofReport {
    match verdict {
        Ok(proof) => {
            let until = proof.expires().map(pkix::utc).unwrap_or_default();
            let why = match proof.rests_on_dnssec() {
                true => {
                    format!("certificate of a trusted CA for the signed SRV target, until {until}")
                }
                false => format!("certificate of a trusted CA for the domain, until {until}"),
            };
            report("pkix", ProofResult::Holds, why)
        }
        Err(why) => failed("pkix", &why),
    }
}

/// What dialback would do, by which a domain is believed where no certificate proves it.
pub(super) fn dialback(features: &Features, tried: Option<bool>) -> ProofReport {
    let (result, why) = match (tried, features.dialback) {
        (Some(true), _) => (ProofResult::Holds, "the peer asked back and took our key"),
        (Some(false), _) => (ProofResult::Fails, "the peer did not take our key"),
        (None, Some(_)) => (ProofResult::Unknown, "offered; --dialback tries it"),
        (None, None) => (ProofResult::Absent, "not offered"),
    };
    report("dialback", result, why.to_owned())
}

/// Why DANE has no say.
fn no_dane(walk: &Walk<'_>, endpoint: &Endpoint) -> String {
    let host = &endpoint.target.host;
    if walk.services.config.resolver.dnssec == Dnssec::Off {
        return "not looked at: resolver.dnssec is off".into();
    }
    match (endpoint.target.delegation.state(), endpoint.addresses, &endpoint.tlsa) {
        (SrvState::Insecure | SrvState::Failed, ..) => {
            "the zone of the SRV records is not signed".into()
        }
        (_, AddressState::Insecure | AddressState::Failed, _) => {
            format!("the zone of {host} is not signed")
        }
        (_, _, TlsaState::Records(_)) => format!("no usable TLSA record of {host}"),
        (_, _, TlsaState::Denied) => format!("no TLSA record of {host}"),
        (_, _, TlsaState::Insecure | TlsaState::NotAsked | TlsaState::Failed) => {
            format!("the TLSA records of {host} are not signed")
        }
    }
}

fn failed(prooftype: &'static str, why: &Unproven) -> ProofReport {
    let reason = match why {
        Unproven::Dane(why) => why.reason(),
        Unproven::Pkix(why) => why.reason(),
    };
    ProofReport { reason: Some(reason), ..report(prooftype, ProofResult::Fails, why.to_string()) }
}

fn report(prooftype: &'static str, result: ProofResult, why: String) -> ProofReport {
    ProofReport { prooftype, result, reason: None, why }
}
