//! What an accepted stream may take: bytes of strangers, streams of a domain, dialback elements of
//! an address, bytes of a stanza.

use std::{collections::HashSet, sync::Arc};

use tokio::time::Instant;
use tracing::info;

use super::{End, Leg};
use crate::{
    auth::ledger::AuthorizedPair,
    proxy::{berths::Berth, reached::Limit, rules::decide},
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

    /// The pair's place on the way to the legacy server. That of a pair which was proven by dialback was
    /// taken before; if it is gone again, the pair goes without.
    ///
    /// # Errors
    /// A fault when there is no place.
    pub(super) fn keep_berth(
        &self,
        grant: &AuthorizedPair,
        how: Authentication,
    ) -> Result<Option<Arc<Berth>>, End> {
        if self.side == Side::Legacy {
            return Ok(None);
        }
        match (self.gate.berth(grant.pair(), Some(self.address.ip())), how) {
            (Ok(berth), _) => Ok(Some(berth)),
            (Err(_), Authentication::Dialback) => Ok(None),
            (Err(_), Authentication::External) => {
                let reason = "too many streams to the legacy servers, of its address or in all";
                Err(Fault::policy(StreamCondition::ResourceConstraint, reason, None).into())
            }
        }
    }

    fn has_place(&mut self, domain: &Domain, most: usize) -> bool {
        let Err(at) = self.places.binary_search_by(|place| place.domain().cmp(domain)) else {
            return true;
        };
        match self.gate.places().take(domain, most) {
            Some(place) => {
                self.places.insert(at, place);
                true
            }
            None => {
                self.gate.limit_reached(Limit::ConnectionsPerDomain, domain);
                false
            }
        }
    }

    /// The rules changed: what one stanza of each pair may have, and who has a place.
    pub(super) fn bound(&mut self) {
        self.stanza_bounds = None;
        self.keep_places();
        let limits = self.machine.grants().map(|grant| self.machine.stanza_limit_of(grant.pair()));
        if let Some(bounds) = limits.map(|limit| (limit, limit)).reduce(widest) {
            self.widen(bounds);
        }
    }

    /// A pair was granted. A stream may have thousands, so that others are not looked at.
    pub(super) fn admit_stanzas_of(&mut self, pair: &DomainPair) {
        let limit = self.machine.stanza_limit_of(pair);
        self.widen((limit, limit));
    }

    fn widen(&mut self, bounds: (usize, usize)) {
        let limits = &self.gate.config().limits;
        let (least, most) = self.stanza_bounds.map_or(bounds, |before| widest(before, bounds));
        self.stanza_bounds = Some((least, most));
        match self.side {
            Side::Legacy => self.frames.of_legacy(limits),
            Side::Peer => self.frames.authenticated(limits, most),
        }
    }

    /// Only domains that are authorized keep their places.
    pub(super) fn keep_places(&mut self) {
        if self.places.is_empty() {
            return;
        }
        let senders: HashSet<&Domain> =
            self.machine.grants().map(|grant| &grant.pair().sender).collect();
        self.places.retain(|place| senders.contains(place.domain()));
    }

    /// A pair was withdrawn, or did not come about: perhaps it was the last of its domain. What its
    /// stanzas might have stays as a bound of all, for each pair has its own besides.
    pub(super) fn free_place(&mut self, pair: &DomainPair) {
        if self.machine.grant_of(pair).is_some()
            || self.machine.grants().any(|grant| grant.pair().sender == pair.sender)
        {
            return;
        }
        if let Ok(at) = self.places.binary_search_by(|place| place.domain().cmp(&pair.sender)) {
            self.places.remove(at);
        }
    }
}

fn widest(one: (usize, usize), other: (usize, usize)) -> (usize, usize) {
    (one.0.min(other.0), one.1.max(other.1))
}

/// A stanza of so many bytes is too large for its pair.
pub(super) fn too_large(pair: &DomainPair, len: usize) -> End {
    info!(pair = %pair, bytes = len, "stanza larger than a rule allows");
    Fault::xml(xml::Fault::ElementTooBig).into()
}
