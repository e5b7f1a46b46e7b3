//! Domain pairs on an accepted stream: asked for by dialback, proven, granted, withdrawn
//! (XEP-0220 §2.2; protocol rules DB-9 to DB-22).

use std::sync::Arc;

use super::{Action, Authentication, Full, Layer, Outcome, Receiving, Stage, Waiting, say};
use crate::{
    auth::{Proof, ledger::AuthorizedPair},
    config::model::Config,
    stream::{
        Fault,
        challenge::{Question, Refusal, Verdict},
        dialback::{Dialback, DialbackError, DialbackRequest, Spelling, VerifyOutcome},
    },
    xml::{
        Element, ElementName,
        writer::{self, DialbackAnswer},
    },
    xmpp::{DomainPair, Side, StanzaCondition, StreamCondition},
};

/// Dialback elements in the clear that a peer may send before the stream ends (protocol §12.1).
pub(super) const CLEAR_DIALBACK_MAX: u32 = 3;
/// Spellings in which one pair is asked for at a time.
pub(super) const SPELLINGS_MAX: usize = 4;

impl Receiving {
    pub(super) fn dialback(
        &mut self,
        name: ElementName,
        layer: Layer,
        element: &Element,
        out: &mut Vec<Action>,
    ) -> Outcome {
        let is_verify = name == ElementName::DbVerify;
        let request = match Dialback::parse(element, is_verify) {
            Ok(Dialback::Request(request)) => request,
            // We ask nothing on streams that we accepted: an answer here was not asked for
            // (XEP-0220 §3.1 "Unsolicited Dialback").
            Ok(Dialback::Answer(_)) => return self.ignore(),
            Err(DialbackError::Target) if self.asks_for_no_domain(is_verify, element) => {
                out.push(no_such_target(element));
                return Ok(());
            }
            Err(error) => {
                let condition = match error {
                    DialbackError::Addressing | DialbackError::Target => {
                        StreamCondition::ImproperAddressing
                    }
                    DialbackError::Id | DialbackError::Key | DialbackError::Type => {
                        StreamCondition::BadFormat
                    }
                };
                return Err(Fault::remote(condition, "malformed dialback element"));
            }
        };
        if self.side == Side::Peer
            && layer == Layer::Clear
            && !self.may_be_clear(&request.pair, is_verify)
        {
            self.clear_dialback += 1;
            if self.clear_dialback > CLEAR_DIALBACK_MAX {
                return Err(Fault::policy(StreamCondition::PolicyViolation, "tls required", None));
            }
            let outcome = VerifyOutcome::Error(Some(StanzaCondition::PolicyViolation));
            out.push(answer(&request, outcome));
            return Ok(());
        }
        if is_verify {
            let outcome = self.check_key(&request);
            out.push(answer(&request, outcome));
            return Ok(());
        }
        self.request(request, out)
    }

    /// Whether that is a request of the legacy server for a pair whose target is no domain: one of its
    /// users has written so, and others share the stream.
    fn asks_for_no_domain(&self, is_verify: bool, element: &Element) -> bool {
        self.side == Side::Legacy && !is_verify && element.attr("type").is_none()
    }

    /// We are the authoritative server: of our domains towards peers, of everyone else's towards
    /// the legacy server (XEP-0220 §2.2.2). Needs no authorization (protocol DB-18).
    fn check_key(&self, request: &DialbackRequest) -> VerifyOutcome {
        let (receiving, initiating) = (&request.pair.sender, &request.pair.target);
        let id = request.id.as_deref().unwrap_or_default();
        let secret = match (self.side, self.config.local_domains.get(receiving)) {
            (Side::Peer, None) if self.is_local(initiating) => self.keys.public().clone(),
            (Side::Legacy, Some(legacy)) if !self.is_local(initiating) => {
                self.keys.local(&legacy.name)
            }
            _ => return VerifyOutcome::Error(Some(StanzaCondition::ItemNotFound)),
        };
        if secret.check(receiving, initiating, id, &request.key) {
            VerifyOutcome::Valid
        } else {
            VerifyOutcome::Invalid
        }
    }

    /// We are the receiving server (XEP-0220 §2.2.1).
    fn request(&mut self, request: DialbackRequest, out: &mut Vec<Action>) -> Outcome {
        let DialbackRequest { pair, spelling, key, .. } = request;
        let waiting = self.waiting.get_mut(&pair).map(|waiting| &mut waiting.spellings);
        let Some(asked) = self.pending.get_mut(&pair).or(waiting) else {
            return self.look_into(pair, vec![spelling], key, out);
        };
        if asked.contains(&spelling) {
            return self.ignore(); // the answer to the first request answers this one too
        }
        // What comes of the first request is said by these names, too.
        if asked.len() < SPELLINGS_MAX {
            asked.push(spelling);
        } else {
            out.push(Action::Full(Full::PendingVerifications));
            let outcome = VerifyOutcome::Error(Some(StanzaCondition::ResourceConstraint));
            out.extend(answers(&[spelling], outcome));
        }
        Ok(())
    }

    /// A pair is asked for, by these names.
    fn look_into(
        &mut self,
        pair: DomainPair,
        spellings: Vec<Spelling>,
        key: String,
        out: &mut Vec<Action>,
    ) -> Outcome {
        if let Some(refusal) = self.objection(&pair) {
            out.push(Action::Refused(pair, refusal.detail));
            out.extend(answers(&spellings, refusal.outcome));
            // Other pairs live on the stream, and one that is not served is asked for again and
            // again; how often is bounded by rate (XEP-0220 §2.2.1: that ends no stream).
            return if self.is_authorized() { Ok(()) } else { self.ignore() };
        }
        if self.ledger.get(&pair).is_some() {
            out.extend(answers(&spellings, VerifyOutcome::Valid));
        } else if let Some(limit) = self.full() {
            if self.may_wait(limit) {
                self.waiting.insert(pair, Waiting { spellings, key });
                return Ok(());
            }
            out.push(Action::Full(limit));
            let outcome = VerifyOutcome::Error(Some(StanzaCondition::ResourceConstraint));
            out.extend(answers(&spellings, outcome));
        } else {
            // The key came with the first.
            let Some(spelling) = spellings.first().cloned() else { return Ok(()) };
            self.pending.insert(pair.clone(), spellings);
            let question = Question::Pair { pair, key, id: self.id.to_string(), spelling };
            out.push(self.challenge(question));
        }
        Ok(())
    }

    /// What there is no room for in one more pair.
    fn full(&self) -> Option<Full> {
        let limits = &self.config.limits;
        if self.pending.len() >= limits.pending_verifications {
            Some(Full::PendingVerifications)
        } else if self.ledger.len() + self.pending.len() >= limits.pairs_per_stream {
            Some(Full::PairsPerStream)
        } else {
            None
        }
    }

    /// The legacy server asks for all pairs at once for which it has something, and jabberd2 closes
    /// its stream if one is refused: so none is refused for the others, but waits for its turn.
    fn may_wait(&self, limit: Full) -> bool {
        let pairs = self.ledger.len() + self.pending.len() + self.waiting.len();
        self.side == Side::Legacy
            && limit == Full::PendingVerifications
            && pairs < self.config.limits.pairs_per_stream
    }

    /// Requests that waited have their turn.
    fn take_up(&mut self, out: &mut Vec<Action>) -> Outcome {
        while self.full().is_none()
            && let Some((pair, Waiting { spellings, key })) = self.waiting.pop_first()
        {
            self.look_into(pair, spellings, key, out)?;
        }
        Ok(())
    }

    /// A challenge is answered.
    ///
    /// # Errors
    /// The [`Fault`] that ends the stream.
    pub fn verdict(&mut self, verdict: Verdict, out: &mut Vec<Action>) -> Outcome {
        // Of a stream that was restarted meanwhile, or of another one, it is void.
        if *verdict.stream != *self.id {
            return Ok(());
        }
        match verdict.question {
            Question::Certificate(DomainPair { sender, target }) => {
                let names = (self.names.from.as_ref(), self.names.to.as_ref());
                if self.stage == Stage::Judging && names == (Some(&sender), Some(&target)) {
                    self.certificate = verdict.result.ok().filter(|p| *p.domain() == sender);
                    self.open_tls(out);
                }
                Ok(())
            }
            Question::Renewal { pair, .. } => self.renewed(&pair, verdict.result, out),
            Question::Pair { pair, key, .. } => {
                let Some(spellings) = self.pending.remove(&pair) else { return Ok(()) };
                self.remember_key(&pair, key, &verdict.result);
                let accepted = verdict.result.and_then(|proof| self.accept(&pair, proof, out));
                let mut outcome = match accepted {
                    Ok(()) => VerifyOutcome::Valid,
                    Err(refusal) => {
                        out.push(Action::Refused(pair, refusal.detail));
                        refusal.outcome
                    }
                };
                // XEP-0220 §2.2.1: invalid ends the stream, so not while other pairs live on it.
                if outcome == VerifyOutcome::Invalid && !self.ledger.is_empty() {
                    outcome = VerifyOutcome::Error(Some(StanzaCondition::Forbidden));
                }
                out.extend(answers(&spellings, outcome));
                if outcome == VerifyOutcome::Invalid {
                    out.push(Action::Close);
                    return Ok(());
                }
                self.take_up(out)
            }
        }
    }

    /// The configuration changed: pairs that it no longer allows are withdrawn and returned.
    ///
    /// # Errors
    /// A [`Fault`] when nothing is left that the stream may do.
    pub fn reconfigure(&mut self, config: Arc<Config>) -> Result<Vec<DomainPair>, Fault> {
        self.config = config;
        self.decide_idle_limit();
        let mut rule = None;
        let mut ledger = std::mem::take(&mut self.ledger);
        let before = ledger.len();
        let gone = ledger.retain(|grant| {
            let pair = grant.pair();
            if self.side == Side::Peer
                && let Err(fault) = self.allow_to(Some(&pair.target), &pair.sender)
            {
                rule = fault.rule().map(Into::into);
            }
            let short = self.falls_short(pair, grant.proof());
            if let Some(by) = short.as_ref().and_then(|short| short.rule.as_ref()) {
                rule = Some(by.to_string());
            }
            short.is_none()
                && self.objection(pair).is_none()
                && self.is_believed(pair, grant.proof())
        });
        self.ledger = ledger;
        self.forget(&gone);
        if before > 0 && self.ledger.is_empty() {
            return Err(Fault::policy(
                StreamCondition::PolicyViolation,
                "no longer allowed by policy",
                rule,
            ));
        }
        if self.side == Side::Peer
            && let Some(from) = self.names.from.clone()
        {
            self.allow(&from)?;
        }
        Ok(gone)
    }

    /// Withdraws the pairs for which `keep` says no, by policy, and returns them.
    ///
    /// # Errors
    /// A [`Fault`] when nothing is left that the stream may do.
    pub fn withdraw(
        &mut self,
        keep: impl FnMut(&AuthorizedPair) -> bool,
    ) -> Result<Vec<DomainPair>, Fault> {
        let gone = self.ledger.retain(keep);
        self.forget(&gone);
        if !gone.is_empty() && self.ledger.is_empty() {
            let reason = "no longer allowed by policy";
            return Err(Fault::policy(StreamCondition::PolicyViolation, reason, None));
        }
        Ok(gone)
    }

    /// A pair was proven: is that enough?
    fn accept(
        &mut self,
        pair: &DomainPair,
        proof: Proof,
        out: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        // The configuration may have changed since the request.
        if let Some(refusal) = self.objection(pair) {
            return Err(refusal);
        }
        if let Some(short) = self.falls_short(pair, &proof) {
            return Err(Refusal::error(StanzaCondition::NotAuthorized, short.to_string()));
        }
        if !self.is_believed(pair, &proof) {
            let detail = "the legacy server has other sources now, or has to show a key";
            return Err(Refusal::error(StanzaCondition::NotAuthorized, detail));
        }
        if !self.grant(pair.clone(), proof, Authentication::Dialback, out) {
            let detail = "the proof is of another domain";
            return Err(Refusal::error(StanzaCondition::InternalServerError, detail));
        }
        Ok(())
    }

    /// Why a pair may not be authorized here, however well it is proven.
    fn objection(&self, pair: &DomainPair) -> Option<Refusal> {
        if self.is_for_questions {
            return Some(Refusal::error(StanzaCondition::RemoteServerTimeout, "shutting down"));
        }
        if !self.serves(&pair.target) {
            let detail = "the target is not served here";
            return Some(Refusal::error(StanzaCondition::ItemNotFound, detail));
        }
        match (self.side, self.is_local(&pair.sender)) {
            (Side::Legacy, true) => None,
            (Side::Legacy, false) => {
                Some(Refusal::error(StanzaCondition::NotAuthorized, "the sender is not local"))
            }
            (Side::Peer, true) => {
                Some(Refusal::error(StanzaCondition::Forbidden, "the sender is served here"))
            }
            (Side::Peer, false) => {
                self.allow_to(Some(&pair.target), &pair.sender).err().map(|fault| {
                    let detail = format!("denied by {}", fault.rule().unwrap_or_default());
                    Refusal::error(StanzaCondition::Forbidden, detail)
                })
            }
        }
    }
}

/// The answer to a request: from and to swapped, same id, in the spelling that came: by that the
/// other end knows what it asked.
fn answer(request: &DialbackRequest, outcome: VerifyOutcome) -> Action {
    let Spelling { from, to } = &request.spelling;
    say(|out| match &request.id {
        Some(id) => writer::dialback_verify_answer(out, to, from, id, wire(outcome)),
        None => writer::dialback_result_answer(out, to, from, wire(outcome)),
    })
}

/// The answer to requests for one pair.
fn answers(to: &[Spelling], outcome: VerifyOutcome) -> impl Iterator<Item = Action> {
    to.iter().map(move |Spelling { from, to }| {
        say(|out| writer::dialback_result_answer(out, to, from, wire(outcome)))
    })
}

/// The answer to a request for a target that is no domain, with the names as they came
/// (XEP-0220 §2.5).
fn no_such_target(element: &Element) -> Action {
    let name = |name| element.attr(name).unwrap_or_default();
    let outcome = VerifyOutcome::Error(Some(StanzaCondition::ItemNotFound));
    say(|out| writer::dialback_result_answer(out, name("to"), name("from"), wire(outcome)))
}

fn wire(outcome: VerifyOutcome) -> DialbackAnswer<'static> {
    match outcome {
        VerifyOutcome::Valid => DialbackAnswer::Valid,
        VerifyOutcome::Invalid => DialbackAnswer::Invalid,
        VerifyOutcome::Error(condition) => {
            DialbackAnswer::Error(condition.unwrap_or(StanzaCondition::RemoteServerTimeout), None)
        }
    }
}
