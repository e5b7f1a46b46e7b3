//! Finds out what an accepted stream asks to have found out: fetches, asks, and lets the pure
//! verifiers decide.

use std::{net::IpAddr, sync::Arc, time::Duration};

use rustls::pki_types::CertificateDer;
use tokio::time::{sleep, timeout};
use tracing::{debug, info};

use super::{
    dial, expiry,
    gate::Gate,
    judge::{Silence, Unproven},
    questions::Wish,
    remembering::Sight,
    rules,
};
use crate::{
    auth::{Proof, Prooftype},
    config::model::{LocalTrust, Refusals, TlsVersion},
    stream::{Challenge, Failure, FailureKind, Purpose, Question, Refusal, Verdict, VerifyOutcome},
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
    /// Its TLS version.
    pub(super) tls: Option<TlsVersion>,
    /// The certificates of its TLS client; empty without.
    pub(super) chain: Arc<[CertificateDer<'static>]>,
    /// The language of its stanzas.
    pub(super) lang: Option<Arc<str>>,
}

/// Answers a challenge.
pub(super) async fn prove(gate: Arc<Gate>, asker: Asker, challenge: Challenge) -> Verdict {
    let question = challenge.question().clone();
    let result = match question {
        Question::Certificate(DomainPair { sender, target }) => {
            match gate.accept_client(&asker, Some(&target), &sender).await {
                Ok(proof) => Ok(proof),
                Err(why) => {
                    let detail = why.to_string();
                    info!(domain = %sender, detail, addr = %asker.address, "peer not proven by its certificate");
                    Err(Refusal::error(StanzaCondition::NotAuthorized, detail))
                }
            }
        }
        Question::Renewal { pair, before, dialback } => {
            prove_again(&gate, &asker, &pair, before, dialback.as_ref()).await
        }
        Question::Pair { pair, key, id, spelling } => {
            // Of servers across the Internet we ask as we write.
            let spelling = Some(spelling.reversed()).filter(|_| asker.side == Side::Legacy);
            let question = Purpose::Verify { id, key, spelling };
            match asker.side {
                Side::Peer => peer_pair(&gate, &asker, &pair, question).await,
                Side::Legacy => legacy_pair(&gate, &asker, &pair, question).await,
            }
        }
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
            Some((key, id)) => {
                let question = Purpose::Verify { id: id.clone(), key: key.clone(), spelling: None };
                match Box::pin(dial_back(gate, asker, pair, question, true)).await {
                    Ok(confirmed) if confirmed.hides(before) => {
                        let detail = "by its server's certificate nobody can say";
                        (Refusal::error(StanzaCondition::RemoteServerTimeout, detail), false)
                    }
                    Ok(confirmed) => match confirmed.recalled(gate, asker, pair) {
                        Ok(proof) => return Ok(proof),
                        Err((refusal, is_unanswered)) => (refusal, !is_unanswered),
                    },
                    Err(Unconfirmed::Unanswered(refusal)) => (refusal, false),
                    Err(Unconfirmed::Refused(refusal)) => (refusal, true),
                }
            }
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
    question: Purpose,
) -> Result<Proof, Refusal> {
    let proof = match gate.accept_client(asker, Some(&pair.target), &pair.sender).await {
        // XEP-0344 §2.4: proven already, nobody needs to be dialled.
        Ok(proof) => proof,
        Err(why) => {
            let mut confirmed = Box::pin(dial_back(gate, asker, pair, question, false)).await?;
            confirmed.silence = confirmed.silence.max(why.silence());
            if let (Unproven::Contradicted(why), false) = (why, confirmed.proof.is_strong()) {
                return Err(Refusal::error(StanzaCondition::NotAcceptable, why));
            }
            confirmed.recalled(gate, asker, pair).map_err(|(refusal, _)| refusal)?
        }
    };
    // The route takes it over.
    let _berth = gate.berth(pair, Some(asker.address)).map_err(|failure| refusal(&failure))?;
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
    question: Purpose,
) -> Result<Proof, Refusal> {
    let config = gate.config();
    let Some(legacy) = config.local_domains.get(&pair.sender) else {
        return Err(Refusal::error(StanzaCondition::NotAuthorized, "not a local domain"));
    };
    if !legacy.may_come_from(asker.address) {
        let detail = format!("{} may not speak for {}", asker.address, pair.sender);
        return Err(Refusal::error(StanzaCondition::NotAuthorized, detail));
    }
    let proof = match legacy.trust {
        LocalTrust::Source => Proof::source_address(pair.sender.clone()),
        LocalTrust::Dialback => dial_back(gate, asker, pair, question, false).await?.proof,
    };
    if legacy.refusals == Refusals::Bounce {
        // The way to the peer is opened meanwhile; what it does not take goes back.
        drop(gate.routes().get(gate, Side::Peer, pair, asker.lang.as_ref()));
        return Ok(proof);
    }
    if let Err(failure) = rules::allowed(&config, pair, Direction::Outbound) {
        gate.memory().refused(&pair.target, Direction::Outbound);
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

/// A key that the authoritative server knows.
struct Confirmed {
    proof: Proof,
    /// Whose answer is missing, by which the proof might be stronger.
    silence: Option<Silence>,
}

/// A key that the authoritative server did not confirm.
enum Unconfirmed {
    /// It could not be asked, by whosever fault, or said nothing: nobody knows.
    Unanswered(Refusal),
    /// It says no, or is not what it has to be.
    Refused(Refusal),
}

impl Unconfirmed {
    /// What a question that failed means.
    fn by(failure: &Failure) -> Self {
        let refusal = refusal(failure);
        match failure.kind() {
            FailureKind::Rejected
            | FailureKind::Resolution
            | FailureKind::Resource
            | FailureKind::Shutdown
            | FailureKind::Stream
            | FailureKind::Timeout
            | FailureKind::Unreachable => Self::Unanswered(refusal),
            FailureKind::Certificate
            | FailureKind::Denied
            | FailureKind::HostUnknown
            | FailureKind::NotFound
            | FailureKind::NotProven
            | FailureKind::Tls
            | FailureKind::TooLarge => Self::Refused(refusal),
        }
    }
}

impl From<Unconfirmed> for Refusal {
    fn from(why: Unconfirmed) -> Self {
        match why {
            Unconfirmed::Unanswered(refusal) | Unconfirmed::Refused(refusal) => refusal,
        }
    }
}

impl Confirmed {
    /// Whether it might be a stronger one, but for a missing answer, where there was one.
    fn hides(&self, before: Prooftype) -> bool {
        !self.proof.is_strong() && self.silence.is_some_and(|silence| silence.hides(before))
    }

    /// The proof, if a peer may come by it that has come before: else the refusal, and whether that
    /// rests on a missing answer.
    fn recalled(
        self,
        gate: &Gate,
        asker: &Asker,
        pair: &DomainPair,
    ) -> Result<Proof, (Refusal, bool)> {
        let proof = Some(&self.proof);
        let (tls, chain, direction) = (asker.tls, &*asker.chain, Direction::Inbound);
        let sight = Sight { pair, direction, tls, proof, chain };
        match gate.recall(&sight, self.silence) {
            Ok(()) => Ok(self.proof),
            Err(why) if why.is_unanswered => {
                let condition = StanzaCondition::RemoteServerTimeout;
                Err((Refusal::error(condition, why.to_string()), true))
            }
            Err(why) => {
                Err((Refusal::error(StanzaCondition::NotAuthorized, why.to_string()), false))
            }
        }
    }
}

/// Asks the server that is authoritative for the pair's sender whether it knows a key, as `question`
/// says; our `from` is the pair's target. Of strangers' questions one domain gets a few at once; one
/// about a pair that goes on `is_renewal`, and does not wait for theirs.
async fn dial_back(
    gate: &Arc<Gate>,
    asker: &Asker,
    pair: &DomainPair,
    question: Purpose,
    is_renewal: bool,
) -> Result<Confirmed, Unconfirmed> {
    let patience = gate.config().limits.connect;
    let share = gate.config().limits.lookups_per_address;
    let (side, address) = (asker.side, asker.address);
    let domain = (!is_renewal).then_some(&pair.sender);
    let slot = gate.questions().slot(Wish { side, address, share, domain }, patience).await;
    let _slot = slot.map_err(|full| {
        gate.no_place(full, asker.address);
        let detail = "too many dialback questions are under way";
        Unconfirmed::Unanswered(Refusal::error(StanzaCondition::ResourceConstraint, detail))
    })?;
    let asked = dial::ask(gate, (asker.side, asker.address), &pair.reversed(), question).await;
    gate.metrics().asked(match &asked {
        Ok(asked) => match asked.outcome {
            VerifyOutcome::Valid => "valid",
            VerifyOutcome::Invalid => "invalid",
            VerifyOutcome::Error(_) => "error",
        },
        Err(_) => "unreachable",
    });
    let asked = asked.map_err(|failure| Unconfirmed::by(&failure))?;
    match asked.outcome {
        VerifyOutcome::Valid => {
            let proof = Proof::dialback(pair.sender.clone(), asked.proof.as_ref());
            let proof = proof.found_securely(asked.found_securely);
            Ok(Confirmed { proof, silence: asked.silence })
        }
        VerifyOutcome::Invalid => Err(Unconfirmed::Refused(Refusal {
            outcome: VerifyOutcome::Invalid,
            detail: "the authoritative server does not know the key".into(),
        })),
        VerifyOutcome::Error(condition) => Err(Unconfirmed::Refused(Refusal::error(
            StanzaCondition::RemoteServerNotFound,
            format!(
                "the authoritative server answered with error {}",
                condition.map_or("of no known kind", StanzaCondition::as_str)
            ),
        ))),
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
