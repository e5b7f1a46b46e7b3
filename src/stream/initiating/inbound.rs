//! What comes in on a stream that we opened: nothing that counts, unless it is bidirectional
//! (XEP-0288; protocol rules BI-1 to BI-5).

use super::{Failure, FailureKind, Initiating, Outcome, fail};
use crate::{
    auth::{
        Proof,
        ledger::{AuthorizedPair, Inadmissible, Ledger},
    },
    xmpp::{DomainPair, StreamCondition},
};

impl Initiating {
    /// Stanzas of the reversed pair may come, for `proof` proves their sender (XEP-0288 §2.2).
    pub(super) fn admit(&mut self, pair: &DomainPair, proof: Option<Proof>) {
        if let (Some(inbound), Some(proof)) = (&mut self.inbound, proof) {
            // None for a proof of another domain, which then admits nothing.
            let _ = inbound.authorize(pair.reversed(), proof);
        }
    }

    /// A stanza came before the stream is open.
    ///
    /// # Errors
    /// Always on a bidirectional stream, else when it comes too often.
    pub fn early_stanza(&mut self) -> Outcome {
        if self.inbound.is_some() {
            return Err(inadmissible(Inadmissible::Unauthenticated));
        }
        self.ignore().map_err(|failure| failure.telling(StreamCondition::NotAuthorized))
    }

    /// A stanza came: which pair is it of? None on a stream that carries stanzas in our direction
    /// only, where it means nothing.
    ///
    /// # Errors
    /// Why the stream ends: a stanza that may not come on it, or too many that mean nothing.
    pub fn stanza(&mut self, from: &str, to: &str) -> Result<Option<&AuthorizedPair>, Failure> {
        if self.inbound.is_none() {
            self.early_stanza()?;
        }
        let Some(inbound) = &mut self.inbound else { return Ok(None) };
        inbound.admit(from, to).map(Some).map_err(inadmissible)
    }

    /// Whether stanzas come on it too (XEP-0288).
    #[must_use]
    pub fn is_bidirectional(&self) -> bool {
        self.inbound.is_some()
    }

    /// The target of `pair` was proven again.
    pub fn renewed(&mut self, pair: &DomainPair, proof: &Proof) {
        let reversed = pair.reversed();
        if let Some(inbound) = &mut self.inbound
            && inbound.get(&reversed).is_some()
        {
            // None for a proof of another domain, which then changes nothing.
            let _ = inbound.authorize(reversed, proof.clone());
        }
        if let Some(Some(asked)) = self.asked.get_mut(pair) {
            asked.clone_from(proof);
        }
    }

    /// The pairs of stanzas that may come.
    pub fn inbound(&self) -> impl Iterator<Item = &AuthorizedPair> {
        self.inbound.iter().flat_map(Ledger::iter)
    }

    /// Where `keep` says no to a pair that is asked for and its proof, stanzas of the reversed pair
    /// will not come by it.
    pub fn retain_asked(&mut self, mut keep: impl FnMut(&DomainPair, &Proof) -> bool) {
        for (pair, inbound) in &mut self.asked {
            inbound.take_if(|proof| !keep(pair, proof));
        }
    }

    /// Stanzas of the reversed pair come no more.
    pub fn withdraw(&mut self, pair: &DomainPair) {
        if let Some(inbound) = &mut self.inbound {
            inbound.withdraw(&pair.reversed());
        }
    }

    /// Withdraws the pairs of stanzas that come for which `keep` says no, and returns them.
    pub fn retain_inbound(&mut self, keep: impl FnMut(&AuthorizedPair) -> bool) -> Vec<DomainPair> {
        self.inbound.as_mut().map(|inbound| inbound.retain(keep)).unwrap_or_default()
    }
}

fn inadmissible(why: Inadmissible) -> Failure {
    fail(FailureKind::Stream, format!("the other end sent {why}")).telling(why.condition())
}
