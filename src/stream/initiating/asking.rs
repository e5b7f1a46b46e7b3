//! The dialback request that a stream of ours is for, and its answer (XEP-0220 §2.1; protocol
//! rules DB-4 to DB-8, DB-14).

use super::{Initiating, Outcome, Purpose, Setup, State, Step, fail, say};
use crate::{
    auth::Proof,
    stream::{
        FailureKind,
        dialback::{Answer, Dialback, DialbackRequest, VerifyOutcome},
        receiving::Authentication,
    },
    xml::{
        Element,
        writer::{self, DialbackAnswer},
    },
    xmpp::{DomainPair, Side, StanzaCondition},
};

impl Initiating {
    /// The dialback request that the stream is for.
    pub(super) fn ask(&mut self, out: &mut Vec<Step>) {
        let DomainPair { sender, target } = &self.setup.pair;
        let (from, to) = (sender.to_unicode(), target.to_unicode());
        match &self.setup.purpose {
            Purpose::Send => {
                let key = self.setup.secret.key(target, sender, &self.id);
                out.push(say(|out| writer::dialback_result(out, &from, &to, &key)));
                self.state = State::Result;
                // Whoever says yes does dialback.
                self.dialback = true;
            }
            Purpose::Verify { id, key, spelling } => {
                let canonical = (&*from, &*to);
                let as_written = spelling.as_ref().map(|names| (&*names.from, &*names.to));
                let (from, to) = as_written.unwrap_or(canonical);
                out.push(say(|out| writer::dialback_verify(out, from, to, id, key)));
                self.state = State::Verify;
            }
        }
    }

    /// Asks the question of `setup` on a stream on which the last one is answered (XEP-0220 §2.1.2).
    /// False, and nothing is done, on any other stream or for another purpose.
    pub fn ask_again(&mut self, setup: &Setup, out: &mut Vec<Step>) -> bool {
        let may = self.state == State::Done && matches!(setup.purpose, Purpose::Verify { .. });
        if may {
            self.setup.clone_from(setup);
            self.ask(out);
        }
        may
    }

    /// Asks for one more pair on the open stream (XEP-0220 §2.6, RFC 7712 §4.4);
    /// [`Step::Answered`] comes when it is answered. The caller has found that the connection's
    /// certificate proves the pair's target; `inbound` is that proof, if stanzas of the reversed
    /// pair may come on a bidirectional stream.
    pub fn request(&mut self, pair: DomainPair, inbound: Option<Proof>, out: &mut Vec<Step>) {
        debug_assert!(self.state == State::Open, "asked for a pair before the stream is open");
        let DomainPair { sender, target } = &pair;
        let key = self.setup.secret.key(target, sender, &self.id);
        let (from, to) = (sender.to_unicode(), target.to_unicode());
        out.push(say(|out| writer::dialback_result(out, &from, &to, &key)));
        self.asked.insert(pair, inbound);
    }

    /// No answer to the request for this pair is waited for any more.
    pub fn forget(&mut self, pair: &DomainPair) {
        self.asked.remove(pair);
    }

    pub(super) fn dialback(
        &mut self,
        is_verify: bool,
        element: &Element,
        out: &mut Vec<Step>,
    ) -> Outcome {
        let answer = match Dialback::parse(element, is_verify) {
            Ok(Dialback::Answer(answer)) => answer,
            Ok(Dialback::Request(request)) if is_verify && self.may_be_asked() => {
                self.check_key(&request, out);
                return Ok(());
            }
            // XEP-0288 §2.2: the other end may ask for more of its domains. We take only the
            // reversed pairs of our own requests; with others it needs a stream of its own.
            Ok(Dialback::Request(request)) if !is_verify && self.inbound.is_some() => {
                let (from, to) =
                    (request.pair.target.to_unicode(), request.pair.sender.to_unicode());
                let error = DialbackAnswer::Error(StanzaCondition::NotAllowed, None);
                out.push(say(|out| writer::dialback_result_answer(out, &from, &to, error)));
                return self.ignore();
            }
            Ok(Dialback::Request(_)) | Err(_) => return self.ignore(),
        };
        let pair = answer.pair.reversed();
        if !is_verify
            && self.state == State::Open
            && let Some(inbound) = self.asked.remove(&pair)
        {
            let outcome = accepted(&answer);
            if outcome.is_ok() {
                self.admit(&pair, inbound);
            }
            out.push(Step::Answered(pair, outcome));
            return Ok(());
        }
        if pair != self.setup.pair {
            return self.ignore();
        }
        match (self.state, &self.setup.purpose) {
            (State::Result, Purpose::Send) if !is_verify => self.result(&answer, out),
            (State::Verify, Purpose::Verify { id, .. })
                if is_verify && answer.id.as_ref() == Some(id) =>
            {
                self.state = State::Done;
                out.push(Step::Verified(answer.outcome));
                Ok(())
            }
            _ => self.ignore(),
        }
    }

    /// Whether the other end may ask about keys of ours on this stream: old servers do so on any
    /// that is open (protocol §12.2, J6), Prosody on one that carries stanzas both ways.
    fn may_be_asked(&self) -> bool {
        self.setup.side == Side::Legacy || self.inbound.is_some()
    }

    /// We are the authoritative server (XEP-0220 §2.2.2), for the pairs of this stream.
    fn check_key(&self, request: &DialbackRequest, out: &mut Vec<Step>) {
        let (receiving, initiating) = (&request.pair.sender, &request.pair.target);
        let ours = match &self.inbound {
            Some(inbound) => inbound.get(&request.pair).is_some(),
            None => request.pair == self.setup.pair.reversed(),
        };
        let id = request.id.as_deref().unwrap_or_default();
        let kind = if !ours {
            DialbackAnswer::Error(StanzaCondition::ItemNotFound, None)
        } else if self.setup.secret.check(receiving, initiating, id, &request.key) {
            DialbackAnswer::Valid
        } else {
            DialbackAnswer::Invalid
        };
        let (from, to) = (initiating.to_unicode(), receiving.to_unicode());
        out.push(say(|out| writer::dialback_verify_answer(out, &from, &to, id, kind)));
    }

    fn result(&mut self, answer: &Answer, out: &mut Vec<Step>) -> Outcome {
        accepted(answer)?;
        self.opened(Authentication::Dialback, out);
        Ok(())
    }
}

/// What an answer to a dialback request means for its pair.
fn accepted(answer: &Answer) -> Outcome {
    match answer.outcome {
        VerifyOutcome::Valid => Ok(()),
        // XEP-0220 §2.1.1: what waits goes back with this condition.
        VerifyOutcome::Invalid => {
            Err(fail(FailureKind::Rejected, "our dialback key was called invalid")
                .with_condition(StanzaCondition::InternalServerError))
        }
        VerifyOutcome::Error(condition) => {
            let kind = match condition {
                Some(StanzaCondition::ItemNotFound | StanzaCondition::RemoteServerNotFound) => {
                    FailureKind::HostUnknown
                }
                Some(StanzaCondition::ResourceConstraint) => FailureKind::Resource,
                _ => FailureKind::Rejected,
            };
            let name = condition.map_or("of no known kind", StanzaCondition::as_str);
            Err(fail(kind, format!("dialback error {name}")))
        }
    }
}
