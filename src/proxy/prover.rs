//! Finds out what an accepted stream asks to have found out: fetches, asks, and lets the pure
//! verifiers decide.

use std::{net::IpAddr, sync::Arc, time::Duration};

use rustls::pki_types::CertificateDer;
use tokio::time::{sleep, timeout};
use tracing::{debug, info};

use super::{dial, expiry, gate::Gate, judge::Unproven, reached::Limit, rules};
use crate::{
    auth::{Proof, Prooftype},
    config::model::{LocalTrust, Refusals},
    stream::{Challenge, Failure, FailureKind, Question, Refusal, Verdict, VerifyOutcome},
    xmpp::{Direction, DomainPair, Side, StanzaCondition},
};

/// How long `valid` is held back until the legacy server takes the pair (protocol §12.5 step 7).
const LEGACY_WAIT: Duration = Duration::from_secs(10);

/// What is known of the stream that asks.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    /// Its side.
    pub(super) side: Side,
    /// Its address.
    pub(super) address: IpAddr,
    /// The certificates of its TLS client; empty without.
    pub(super) chain: Arc<[CertificateDer<'static>]>,
    /// The language of its stanzas.
    pub(super) lang: Option<Arc<str>>,
}

/// Answers a challenge.
pub(super) async fn prove(gate: Arc<Gate>, asker: Asker, challenge: Challenge) -> Verdict {
    let question = challenge.question().clone();
    let result = match question {
        Question::Certificate(domain) => match gate.accept_client(&asker, None, &domain).await {
            Ok(proof) => Ok(proof),
            Err(why) => {
                let detail = why.to_string();
                info!(domain = %domain, detail, addr = %asker.address, "peer not proven by its certificate");
                Err(Refusal::error(StanzaCondition::NotAuthorized, detail))
            }
        },
        Question::Renewal { pair, before, dialback } => {
            prove_again(&gate, &asker, &pair, before, dialback.as_ref()).await
        }
        Question::Pair { pair, key, id } => match asker.side {
            Side::Peer => peer_pair(&gate, &asker, &pair, key, id).await,
            Side::Legacy => legacy_pair(&gate, &asker, &pair, key, id).await,
        },
    };
    challenge.answer(result)
}

/// The proof of a pair has expired. Where nobody answers nobody knows, which is no reason to end
/// what goes well; but not for ever.
async fn prove_again(
    gate: &Arc<Gate>,
    asker: &Asker,
    pair: &DomainPair,
    before: Prooftype,
    dialback: Option<&(String, String)>,
) -> Result<Proof, Refusal> {
    let mut unanswered = 0;
    loop {
        let (refusal, is_answer) = match dialback {
            Some((key, id)) => match dial_back(gate, asker, pair, key.clone(), id.clone()).await {
                Ok(proof) => return Ok(proof),
                Err(refusal) => {
                    let silence = VerifyOutcome::Error(Some(StanzaCondition::RemoteServerTimeout));
                    let is_answer = refusal.outcome != silence;
                    (refusal, is_answer)
                }
            },
            None => match gate.accept_client(asker, Some(&pair.target), &pair.sender).await {
                Ok(proof) => return Ok(proof),
                Err(why) => {
                    let is_answer = !why.leaves_open(before);
                    let refusal = Refusal::error(StanzaCondition::NotAuthorized, why.to_string());
                    (refusal, is_answer)
                }
            },
        };
        if is_answer || unanswered == expiry::UNANSWERED_MAX {
            return Err(refusal);
        }
        unanswered += 1;
        debug!(pair = %pair, detail = refusal.detail, "proof not renewed yet");
        sleep(expiry::UNANSWERED_WAIT).await;
    }
}

/// A peer wants to send for a pair (protocol §12.5).
async fn peer_pair(
    gate: &Arc<Gate>,
    asker: &Asker,
    pair: &DomainPair,
    key: String,
    id: String,
) -> Result<Proof, Refusal> {
    let proof = match gate.accept_client(asker, Some(&pair.target), &pair.sender).await {
        // XEP-0344 §2.4: proven already, nobody needs to be dialled.
        Ok(proof) => proof,
        Err(why) => {
            let proof = dial_back(gate, asker, pair, key, id).await?;
            if let (Unproven::Contradicted(why), false) = (why, proof.is_strong()) {
                return Err(Refusal::error(StanzaCondition::NotAcceptable, why));
            }
            proof
        }
    };
    let route = gate
        .routes()
        .get(gate, Side::Legacy, pair, asker.lang.as_ref())
        .map_err(|failure| legacy_down(&failure))?;
    match timeout(LEGACY_WAIT, route.opened()).await {
        Ok(Ok(())) => Ok(proof),
        Ok(Err(failure)) => Err(legacy_down(&failure)),
        Err(_) => Err(Refusal::error(
            StanzaCondition::InternalServerError,
            "the legacy server did not take the pair in time",
        )),
    }
}

/// The legacy server wants to send for a pair (protocol §12.3).
async fn legacy_pair(
    gate: &Arc<Gate>,
    asker: &Asker,
    pair: &DomainPair,
    key: String,
    id: String,
) -> Result<Proof, Refusal> {
    let config = gate.config();
    let Some(legacy) = config.local_domains.get(&pair.sender) else {
        return Err(Refusal::error(StanzaCondition::NotAuthorized, "not a local domain"));
    };
    if !legacy.sources.iter().any(|net| net.contains(&asker.address.to_canonical())) {
        let detail = format!("{} may not speak for {}", asker.address, pair.sender);
        return Err(Refusal::error(StanzaCondition::NotAuthorized, detail));
    }
    let proof = match legacy.trust {
        LocalTrust::Source => Proof::source_address(pair.sender.clone()),
        LocalTrust::Dialback => dial_back(gate, asker, pair, key, id).await?,
    };
    if legacy.refusals == Refusals::Bounce {
        // The way to the peer is opened meanwhile; what it does not take goes back.
        drop(gate.routes().get(gate, Side::Peer, pair, asker.lang.as_ref()));
        return Ok(proof);
    }
    if let Err(failure) = rules::allowed(&config, pair, Direction::Outbound) {
        return Err(refusal(&failure));
    }
    let reverse = pair.reversed();
    let peer = async {
        match gate.routes().get(gate, Side::Peer, pair, asker.lang.as_ref()) {
            Ok(route) => route.opened().await,
            Err(failure) => Err(failure),
        }
    };
    tokio::select! {
        biased;
        () = gate.checking().started(&reverse) => Ok(proof),
        opened = peer => match opened {
            Ok(()) => Ok(proof),
            Err(failure) => Err(refusal(&failure)),
        },
    }
}

/// Asks the server that is authoritative for the pair's sender; our `from` is the pair's target.
async fn dial_back(
    gate: &Arc<Gate>,
    asker: &Asker,
    pair: &DomainPair,
    key: String,
    id: String,
) -> Result<Proof, Refusal> {
    let patience = gate.config().limits.connect;
    let share = gate.config().limits.lookups_per_address;
    let slot = gate.questions().slot(asker.side, asker.address, share, patience).await;
    let Some(_slot) = slot else {
        gate.limit_reached(Limit::LookupsPerAddress, asker.address);
        let detail = "too many dialback questions are under way";
        return Err(Refusal::error(StanzaCondition::ResourceConstraint, detail));
    };
    let asked = dial::ask(gate, asker.side, &pair.reversed(), id, key).await;
    gate.metrics().asked(match &asked {
        Ok(asked) => match asked.outcome {
            VerifyOutcome::Valid => "valid",
            VerifyOutcome::Invalid => "invalid",
            VerifyOutcome::Error(_) => "error",
        },
        Err(_) => "unreachable",
    });
    let asked = asked.map_err(|failure| refusal(&failure))?;
    match asked.outcome {
        VerifyOutcome::Valid => Ok(Proof::dialback(pair.sender.clone(), asked.proof.as_ref())),
        VerifyOutcome::Invalid => Err(Refusal {
            outcome: VerifyOutcome::Invalid,
            detail: "the authoritative server does not know the key".into(),
        }),
        VerifyOutcome::Error(condition) => Err(Refusal::error(
            StanzaCondition::RemoteServerNotFound,
            format!(
                "the authoritative server answered with error {}",
                condition.map_or("of no known kind", StanzaCondition::as_str)
            ),
        )),
    }
}

/// XEP-0220 §2.5.
fn refusal(failure: &Failure) -> Refusal {
    let condition = match failure.kind() {
        FailureKind::NotProven | FailureKind::Tls | FailureKind::Certificate => {
            StanzaCondition::NotAcceptable
        }
        FailureKind::Denied
        | FailureKind::HostUnknown
        | FailureKind::NotFound
        | FailureKind::Rejected
        | FailureKind::Resolution
        | FailureKind::Resource
        | FailureKind::Shutdown
        | FailureKind::Stream
        | FailureKind::Timeout
        | FailureKind::TooLarge
        | FailureKind::Unreachable => failure.condition(),
    };
    Refusal::error(condition, failure.detail())
}

fn legacy_down(failure: &Failure) -> Refusal {
    Refusal::error(StanzaCondition::InternalServerError, failure.detail())
}
