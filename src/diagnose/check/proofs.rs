//! Every prooftype by itself, with why it holds or does not, and what fedgate makes of them all
//! (RFC 7712; protocol §9.4).

use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::time::timeout_at;

use super::{
    Endpoint, Walk,
    report::{Features, ProofReport, ProofResult},
};
use crate::{
    auth::{
        Proof,
        dane::{self, AddressState, DanePlan, SrvState, TlsaState},
        pin, pkix, posh,
    },
    config::model::Dnssec,
    net::posh::PATH,
    proxy::judge::{Errand, Unproven},
    stream::{Failure, FailureKind},
    xmpp::Direction,
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
    let decision = walk.decision(Direction::Outbound);
    let roots = walk.services.roots_for(&decision).unwrap_or(&walk.services.roots);
    let judge = |plan: &DanePlan| {
        let Endpoint { target, .. } = endpoint;
        let domain = &walk.pair.target;
        plan.judge(chain, domain, &target.host, target.delegation.until(), roots, now)
    };
    let dane = match &endpoint.plan {
        DanePlan::Match(set) => match &judge(&endpoint.plan) {
            Ok(_) => report(
                "dane",
                ProofResult::Holds,
                format!("a TLSA record of {} means it", set.base),
            ),
            Err(why) => failed("dane", why),
        },
        _ if walk.services.config.resolver.dnssec == Dnssec::Off => {
            report("dane", ProofResult::Untried, "resolver.dnssec is off".into())
        }
        _ if decision.connect().is_some() => {
            let why = "a rule says where the domain is reached, not DNS";
            report("dane", ProofResult::Untried, why.into())
        }
        _ => report("dane", ProofResult::Absent, no_dane(endpoint)),
    };
    let posh = by_posh(walk, chain).await;
    let mut proofs = vec![dane, by_pkix(judge(&DanePlan::PkixWithTarget)), posh];
    let Endpoint { target, plan, .. } = endpoint;
    let Walk { services, pair, deadline, .. } = walk;
    let remote = &pair.target;
    let verdict = services
        .accept_endpoint(chain, &decision, remote, target, plan, Errand::ours(*deadline))
        .await;
    // before all others, and instead of them (protocol DNA-6)
    if let Some(pins) = decision.pins() {
        proofs.insert(
            0,
            match pin::verify(pins, chain, remote) {
                Ok(_) => {
                    report("pin", ProofResult::Holds, "a rule names it; nothing else counts".into())
                }
                Err(why) => {
                    let report =
                        report("pin", ProofResult::Fails, format!("{why}; nothing else counts"));
                    ProofReport { reason: Some("pin-mismatch"), ..report }
                }
            },
        );
    }
    let verdict = match verdict {
        Ok(proof) => Ok(Ok(proof)),
        Err(Unproven::Open(why) | Unproven::Unanswered(why) | Unproven::Unfetched(why)) => {
            Ok(Err(why))
        }
        Err(Unproven::Contradicted(why)) => Err(Failure::new(FailureKind::NotProven, why)),
    };
    Judgement { proofs, verdict }
}

/// POSH, which fedgate itself asks for only where the others leave it to that.
async fn by_posh(walk: &Walk<'_>, chain: &[CertificateDer<'static>]) -> ProofReport {
    let domain = &walk.pair.target;
    let of = |result, why: String| report("posh", result, why);
    let Some(client) = &walk.services.posh else {
        return of(ProofResult::Untried, "posh.fetch is off".into());
    };
    let material = match timeout_at(walk.deadline, client.material(domain)).await {
        Ok(Ok(Some(material))) => material,
        Ok(Ok(None)) => {
            return of(ProofResult::Absent, format!("nothing at https://{domain}{PATH}"));
        }
        Ok(Err(error)) => return of(ProofResult::Unknown, error.to_string()),
        Err(_) => return of(ProofResult::Unknown, "no answer in time".into()),
    };
    match posh::verify(chain, &material, domain, UnixTime::now()) {
        posh::Outcome::Match(proof) => {
            let until = proof.expires().map(pkix::utc).unwrap_or_default();
            of(ProofResult::Holds, format!("https://{domain} lists the certificate, until {until}"))
        }
        posh::Outcome::Mismatch(why) => {
            let report = of(ProofResult::Fails, why.to_string());
            ProofReport { reason: Some("posh-mismatch"), ..report }
        }
        posh::Outcome::NoUsableMaterial => {
            of(ProofResult::Absent, "nothing that can be used is published".into())
        }
    }
}

fn by_pkix(verdict: Result<Proof, dane::Unproven>) -> ProofReport {
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
        (None, Some(_)) => (ProofResult::Untried, "offered; --dialback tries it"),
        (None, None) => (ProofResult::Absent, "not offered"),
    };
    report("dialback", result, why.to_owned())
}

/// Why DANE has no say.
fn no_dane(endpoint: &Endpoint) -> String {
    let host = &endpoint.target.host;
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

fn failed(prooftype: &'static str, why: &dane::Unproven) -> ProofReport {
    let reason = match why {
        dane::Unproven::Dane(why) => why.reason(),
        dane::Unproven::Pkix(why) => why.reason(),
    };
    ProofReport { reason: Some(reason), ..report(prooftype, ProofResult::Fails, why.to_string()) }
}

fn report(prooftype: &'static str, result: ProofResult, why: String) -> ProofReport {
    ProofReport { prooftype, result, reason: None, why }
}
