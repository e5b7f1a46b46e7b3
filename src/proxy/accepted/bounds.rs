//! What an accepted stream may take: bytes of strangers, streams of a domain, dialback elements of
//! an address, bytes of a stanza.

use tokio::time::Instant;
use tracing::info;

use super::{End, Leg};
use crate::{
    auth::ledger::AuthorizedPair,
    proxy::{reached::Limit, rules::decide},
    stream::{Authentication, Fault, Full, Question, Refusal, Verdict},
    xml,
    xmpp::{Direction, Domain, DomainPair, Side, StanzaCondition, StreamCondition},
};

impl Leg {
    /// Bytes came. Strangers may send only so many.
    ///
    /// # Errors
    /// A fault when nothing is authorized yet and it was too much.
    pub(super) fn count_bytes(&self) -> Result<(), End> {
        let most = self.gate.config().limits.bytes_before_auth as u64;
        let came = self.before_tls + self.wire.read_total();
        if self.side == Side::Legacy || self.machine.is_authorized() || came <= most {
            return Ok(());
        }
        self.gate.limit_reached(Limit::BytesBeforeAuth, self.address.ip());
        let reason = "too many bytes before authentication";
        Err(Fault::policy(StreamCondition::PolicyViolation, reason, None).into())
    }

    /// A dialback element came: one address may send only so many in a second, or its stream is not
    /// read from for a while.
    pub(super) fn count_dialback(&mut self) {
        if self.side == Side::Legacy {
            return;
        }
        let (config, address) = (self.gate.config(), self.address.ip());
        if let Some(pause) = self.gate.rates().dialback(address, &config.limits, Instant::now()) {
            self.intake.pause(pause, address);
        }
    }

    /// A pair was refused, for the stream has no room for it.
    pub(super) fn is_full(&self, limit: Full) {
        let limit = match limit {
            Full::PendingVerifications => Limit::PendingVerifications,
            Full::PairsPerStream => Limit::PairsPerStream,
        };
        self.gate.limit_reached(limit, self.address.ip());
    }

    /// A domain was proven for a pair: refused, if it is authorized on too many streams already.
    pub(super) fn place(&mut self, verdict: Verdict) -> Verdict {
        let Question::Pair { pair, .. } = verdict.question() else { return verdict };
        if self.side == Side::Legacy || !verdict.is_good() {
            return verdict;
        }
        let most = decide(&self.gate.config(), pair, Direction::Inbound)
            .connections_limit(&self.gate.config().limits);
        let domain = pair.sender.clone();
        if self.has_place(&domain, most) {
            return verdict;
        }
        let condition = StanzaCondition::ResourceConstraint;
        verdict.refused(Refusal::error(condition, "the domain has too many streams"))
    }

    /// The same for a domain that is authorized already, by SASL EXTERNAL.
    ///
    /// # Errors
    /// A fault when there is no place.
    pub(super) fn keep_place(
        &mut self,
        grant: &AuthorizedPair,
        how: Authentication,
    ) -> Result<(), End> {
        if self.side == Side::Legacy || how == Authentication::Dialback {
            return Ok(());
        }
        let (config, pair) = (self.gate.config(), grant.pair());
        let most = decide(&config, pair, Direction::Inbound).connections_limit(&config.limits);
        if self.has_place(&pair.sender, most) {
            return Ok(());
        }
        let reason = "the domain has too many streams";
        Err(Fault::policy(StreamCondition::ResourceConstraint, reason, None).into())
    }

    fn has_place(&mut self, domain: &Domain, most: usize) -> bool {
        if self.places.iter().any(|place| place.domain() == domain) {
            return true;
        }
        let place = self.gate.places().take(domain, most);
        if place.is_none() {
            self.gate.limit_reached(Limit::ConnectionsPerDomain, domain);
        }
        self.places.extend(place);
        self.places.last().is_some_and(|place| place.domain() == domain)
    }

    /// Grants came or went: what one stanza may have, and who has a place.
    pub(super) fn bound(&mut self) {
        let limits = &self.gate.config().limits;
        if self.side == Side::Legacy {
            self.frames.authenticated(limits, limits.stanza);
            return;
        }
        let Self { machine, places, .. } = self;
        places.retain(|place| machine.grants().any(|grant| grant.pair().sender == *place.domain()));
        let of = |grant: &AuthorizedPair| machine.stanza_limit_of(grant.pair());
        let bounds = || machine.grants().map(of);
        self.stanza_least = bounds().min().unwrap_or(limits.stanza);
        let most = bounds().max().unwrap_or(limits.element_before_auth);
        self.frames.authenticated(limits, most);
    }
}

/// A stanza of so many bytes is too large for its pair.
pub(super) fn too_large(pair: &DomainPair, len: usize) -> End {
    info!(pair = %pair, bytes = len, "stanza larger than a rule allows");
    Fault::xml(xml::Fault::ElementTooBig).into()
}
