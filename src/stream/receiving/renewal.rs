//! Proofs that expire while the stream lives: each is found out again, and where that fails its pair
//! is withdrawn (RFC 6120 §13.7.2.3; protocol TLS-9, §9.5).

use rustls::pki_types::UnixTime;

use super::{Action, Outcome, Receiving};
use crate::{
    auth::{Proof, Prooftype},
    stream::{
        Fault,
        challenge::{Question, Refusal},
    },
    xmpp::{DomainPair, StreamCondition},
};

impl Receiving {
    /// When the first of the proofs expires that are not being renewed.
    #[must_use]
    pub fn expires(&self) -> Option<UnixTime> {
        self.ledger
            .iter()
            .filter(|grant| !self.renewing.contains(grant.pair()))
            .filter_map(|grant| grant.proof().expires())
            .min()
    }

    /// Asks for all proofs again that have expired by `now`. Their pairs go on until it is known.
    pub fn renew(&mut self, now: UnixTime, out: &mut Vec<Action>) {
        self.prove_again(|proof| proof.expires().is_some_and(|expires| expires <= now), out);
    }

    /// By a certificate that has expired by `now` nobody authenticates any more.
    pub fn expire(&mut self, now: UnixTime) {
        let expires = self.certificate.as_ref().and_then(Proof::expires);
        if expires.is_some_and(|expires| expires <= now) {
            self.certificate = None;
        }
    }

    /// Asks for all proofs again that rest on a certificate, for others are trusted now. What was
    /// proven for an authentication that is not complete counts no more.
    ///
    /// # Errors
    /// A [`Fault`] when the stream is between `<success/>` and its new header.
    pub fn distrust(&mut self, out: &mut Vec<Action>) -> Outcome {
        self.certificate = None;
        if self.external.is_some() && self.ledger.is_empty() {
            let reason = "others are trusted since authentication began";
            return Err(Fault::policy(StreamCondition::Reset, reason, None));
        }
        self.prove_again(Proof::is_strong, out);
        Ok(())
    }

    fn prove_again(&mut self, doubtful: impl Fn(&Proof) -> bool, out: &mut Vec<Action>) {
        let expired: Vec<(DomainPair, Prooftype)> = self
            .ledger
            .iter()
            .filter(|grant| doubtful(grant.proof()))
            .map(|grant| {
                let proof = grant.proof();
                (grant.pair().clone(), proof.strong().unwrap_or_else(|| proof.prooftype()))
            })
            .collect();
        for (pair, before) in expired {
            if !self.renewing.insert(pair.clone()) {
                continue;
            }
            let key = self.dialback_keys.get(&pair).cloned();
            let dialback = key.map(|key| (key, self.id.to_string()));
            out.push(self.challenge(Question::Renewal { pair, before, dialback }));
        }
    }

    /// A pair is being granted: by the same key it can be asked for again.
    pub(super) fn remember_key(
        &mut self,
        pair: &DomainPair,
        key: String,
        result: &Result<Proof, Refusal>,
    ) {
        let by_key = |proof: &Proof| proof.prooftype() == Prooftype::Dialback && proof.is_strong();
        if result.as_ref().is_ok_and(by_key) {
            self.dialback_keys.insert(pair.clone(), key);
        } else {
            self.dialback_keys.remove(pair);
        }
    }

    /// Pairs were withdrawn: what is still found out about their proofs concerns no later grant.
    pub(super) fn forget(&mut self, withdrawn: &[DomainPair]) {
        for pair in withdrawn {
            self.renewing.remove(pair);
            self.dialback_keys.remove(pair);
        }
    }

    pub(super) fn renewed(
        &mut self,
        pair: &DomainPair,
        result: Result<Proof, Refusal>,
        out: &mut Vec<Action>,
    ) -> Outcome {
        // Policy may have withdrawn it meanwhile.
        if !self.renewing.remove(pair) || self.ledger.get(pair).is_none() {
            return Ok(());
        }
        let detail = match result {
            Ok(proof) => match self.falls_short(pair, &proof) {
                Some(short) => short.to_string(),
                None => match self.ledger.authorize(pair.clone(), proof) {
                    Some(_) => {
                        out.push(Action::Renewed(pair.clone()));
                        return Ok(());
                    }
                    None => "the proof is of another domain".into(),
                },
            },
            Err(refusal) => refusal.detail,
        };
        self.ledger.withdraw(pair);
        self.dialback_keys.remove(pair);
        out.push(Action::Withdrawn(pair.clone(), detail));
        if self.ledger.is_empty() {
            // RFC 6120 §4.9.3.16: the other end has to prove itself on a new stream.
            return Err(Fault::policy(StreamCondition::Reset, "the proof has expired", None));
        }
        Ok(())
    }
}
