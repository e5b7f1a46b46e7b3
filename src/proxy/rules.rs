//! What a connection has shown, judged by the rules for its pair: pins before everything (protocol
//! DNA-6), then only the prooftypes that count.

use std::{net::IpAddr, time::Duration};

use rustls::pki_types::CertificateDer;
use tracing::info;

use super::{
    dial::Endpoint,
    gate::Gate,
    judge::{Errand, Unproven},
    prover::Asker,
    questions::Wish,
    reasons,
    remembering::Sight,
    services::Services,
};
use crate::{
    auth::{Proof, dane::DanePlan, pin},
    config::{
        model::{Config, Limits, TlsVersion},
        policy::{Decision, Missing, Mode, Query},
    },
    net::targets::Target,
    stream::{Failure, FailureKind},
    xml::writer::StreamLimits,
    xmpp::{Direction, Domain, DomainPair, Side},
};

/// How long a certificate waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the rules say of a pair's stanzas, for all addresses.
pub(crate) fn decide<'c>(
    config: &'c Config,
    pair: &DomainPair,
    direction: Direction,
) -> Decision<'c> {
    let (local, remote) = match direction {
        Direction::Inbound => (&pair.target, &pair.sender),
        Direction::Outbound => (&pair.sender, &pair.target),
    };
    config.policy.decide(&Query { local: Some(local), remote, direction, address: None })
}

/// The pair whose stanzas a stream for `pair` is about: a question to a peer is about those that
/// come from it.
pub(super) fn stanzas(pair: &DomainPair, side: Side, way: Direction) -> DomainPair {
    match (side, way) {
        (Side::Peer, Direction::Inbound) => pair.reversed(),
        (Side::Peer, Direction::Outbound) | (Side::Legacy, _) => pair.clone(),
    }
}

/// Whether policy allows the stanzas of a pair.
pub(super) fn allowed(
    config: &Config,
    pair: &DomainPair,
    direction: Direction,
) -> Result<(), Failure> {
    let remote = match direction {
        Direction::Inbound => &pair.sender,
        Direction::Outbound => &pair.target,
    };
    allowed_by(&decide(config, pair, direction), remote)
}

/// The same of what the rules come to for a pair with that remote domain.
pub(super) fn allowed_by(decision: &Decision<'_>, remote: &Domain) -> Result<(), Failure> {
    match decision.denied() {
        None => Ok(()),
        Some(denied) => Err(reasons::denied(remote, &denied, decision.error())),
    }
}

/// Whether policy allows to connect to an address.
pub(super) fn address_allowed(config: &Config, address: IpAddr) -> Result<(), Failure> {
    match config.policy.address(address, Direction::Outbound) {
        None => Ok(()),
        Some(denied) => Err(reasons::denied(address, &denied, None)),
    }
}

/// Whether TLS and what was proven are enough.
pub(super) fn sufficient(
    decision: &Decision<'_>,
    tls: Option<TlsVersion>,
    proof: Option<&Proof>,
) -> Result<(), Failure> {
    decision.suffices(tls, proof).map_err(|short| {
        let kind = match short.missing {
            Missing::Tls | Missing::TlsVersion(_) => FailureKind::Tls,
            Missing::Pin | Missing::Proof => FailureKind::NotProven,
        };
        Failure::new(kind, short.to_string())
    })
}

/// What we take on a stream that we open for a pair, if that may carry its answers too (XEP-0288,
/// XEP-0478). The rules are asked for the pair and, the other way, for its answers.
pub(super) fn returning(
    out: &Decision<'_>,
    back: &Decision<'_>,
    limits: &Limits,
) -> Option<StreamLimits> {
    let may_return = back.denied().is_none() && back.bidi() && out.bidi() && out.trusts_like(back);
    may_return.then(|| StreamLimits {
        max_bytes: Some(back.stanza_limit(limits) as u64),
        idle_seconds: Some(back.idle_limit(limits).as_secs()),
    })
}

/// Bytes of the largest stanza of a pair that goes to a peer: what the peer takes, if it says so,
/// and what a rule lets it have.
pub(super) fn largest(config: &Config, pair: &DomainPair, peers: Option<usize>) -> usize {
    let of_rule = decide(config, pair, Direction::Outbound).stanza_rule(&config.limits);
    peers.into_iter().chain(of_rule).min().unwrap_or(usize::MAX)
}

/// Whether stanzas of a pair may come in on a stream that we opened, from a peer at that address,
/// which the rules for the other direction hold to be proven.
pub(super) fn may_come(
    config: &Config,
    pair: &DomainPair,
    address: Option<IpAddr>,
    tls: Option<TlsVersion>,
    proof: &Proof,
) -> bool {
    let (local, remote) = (Some(&pair.target), &pair.sender);
    let query = Query { local, remote, direction: Direction::Inbound, address };
    let decision = config.policy.decide(&query);
    let out = decide(config, &pair.reversed(), Direction::Outbound);
    let is_open = decision.denied().is_none() && decision.bidi() && out.trusts_like(&decision);
    is_open && decision.suffices(tls, Some(proof)).is_ok()
}

impl Gate {
    /// Judges the certificate chain of a peer that connected and says that it is `remote`. What
    /// has to be looked up for it is bounded for each address (attack A-67).
    ///
    /// # Errors
    /// [`Unproven`].
    pub(super) async fn accept_client(
        &self,
        asker: &Asker,
        local: Option<&Domain>,
        remote: &Domain,
    ) -> Result<Proof, Unproven> {
        let (services, chain) = (self.services(), &*asker.chain);
        let (config, direction) = (&services.config, Direction::Inbound);
        let decision = config.policy.decide(&Query { local, remote, direction, address: None });
        if let Some(pinned) = by_pin(&decision, chain, remote) {
            return pinned;
        }
        if chain.is_empty() {
            return Err(Unproven::Open("no certificate".into()));
        }
        let (share, address) = (config.limits.lookups_per_address, asker.address);
        let wish = Wish { side: Side::Peer, address, share, domain: None };
        let slot = self.lookups().slot(wish, PATIENCE).await;
        let _slot = slot.map_err(|full| {
            self.no_place(full, address);
            Unproven::Unanswered("too many certificates are looked into".into())
        })?;
        let roots = services.roots_for(&decision).ok_or_else(outdated)?;
        let mut judged = services.judge_client(chain, remote, roots, address).await;
        if is_reported(&decision, remote, &judged) {
            judged = services.judge_client(chain, remote, &services.roots, address).await;
        }
        counts(&decision, judged?)
    }

    /// Judges the certificate chain of a peer's endpoint that was reached for `remote`, by what the
    /// rules say of the pair.
    ///
    /// # Errors
    /// [`Unproven`].
    pub(super) async fn accept_endpoint(
        &self,
        chain: &[CertificateDer<'static>],
        decision: &Decision<'_>,
        remote: &Domain,
        endpoint: &Endpoint,
        errand: Errand,
    ) -> Result<Proof, Unproven> {
        let Endpoint { target, plan, .. } = endpoint;
        self.services().accept_endpoint(chain, decision, remote, target, plan, errand).await
    }

    /// Whether what the other end has shown is enough for the rules of the pair, and beside what it
    /// has shown before.
    pub(super) fn suffices(
        &self,
        decision: &Decision<'_>,
        sight: &Sight<'_>,
    ) -> Result<(), Failure> {
        sufficient(decision, sight.tls, sight.proof)?;
        match self.is_downgraded(sight) {
            None => Ok(()),
            Some(why) => Err(why.into()),
        }
    }

    /// Tells the operator what the rules would have refused, if that is all they do now.
    pub(super) fn report(
        &self,
        pair: &DomainPair,
        direction: Direction,
        address: Option<IpAddr>,
        tls: Option<TlsVersion>,
        proof: Option<&Proof>,
    ) {
        let config = self.config();
        if config.policy.mode() == Mode::Enforce {
            return;
        }
        let (local, remote) = match direction {
            Direction::Inbound => (&pair.target, &pair.sender),
            Direction::Outbound => (&pair.sender, &pair.target),
        };
        let local = Some(local);
        let decision = config.policy.decide(&Query { local, remote, direction, address });
        if let Some(denied) = decision.reported() {
            info!(
                pair = %pair,
                direction = direction.as_str(),
                rule = %denied.rule,
                detail = denied.reason.as_deref(),
                "would be refused, but the mode is report"
            );
        } else if let Err(short) = decision.would_suffice(tls, proof) {
            info!(
                pair = %pair,
                direction = direction.as_str(),
                rule = short.rule.as_ref().map(tracing::field::display),
                detail = %short,
                "would be refused, but the mode is report"
            );
        }
    }
}

impl Services {
    /// Judges the certificate chain of a peer's endpoint; see [`Gate::accept_endpoint`].
    ///
    /// # Errors
    /// [`Unproven`].
    pub(crate) async fn accept_endpoint(
        &self,
        chain: &[CertificateDer<'static>],
        decision: &Decision<'_>,
        remote: &Domain,
        target: &Target,
        plan: &DanePlan,
        errand: Errand,
    ) -> Result<Proof, Unproven> {
        if let Some(pinned) = by_pin(decision, chain, remote) {
            return pinned;
        }
        let roots = self.roots_for(decision).ok_or_else(outdated)?;
        let mut judged = self.judge_endpoint(chain, remote, target, plan, roots, errand).await;
        if is_reported(decision, remote, &judged) {
            let roots = &self.roots;
            judged = self.judge_endpoint(chain, remote, target, plan, roots, errand).await;
        }
        counts(decision, judged?)
    }
}

/// What the pins of the rules say, if there are any. They are exclusive.
fn by_pin(
    decision: &Decision<'_>,
    chain: &[CertificateDer<'static>],
    remote: &Domain,
) -> Option<Result<Proof, Unproven>> {
    let outcome = pin::verify(decision.pins()?, chain, remote);
    (outcome.is_ok() || decision.is_enforced())
        .then(|| outcome.map_err(|why| Unproven::Contradicted(why.to_string())))
}

/// Whether the trust roots for all have to be asked too: those of the rule prove nothing, and the
/// mode is `report`. The operator is told.
fn is_reported(decision: &Decision<'_>, remote: &Domain, judged: &Result<Proof, Unproven>) -> bool {
    let (Err(why), Some(_), false) = (judged, decision.roots(), decision.is_enforced()) else {
        return false;
    };
    info!(domain = %remote, detail = %why, "not proven by the trust roots of its rule, but the mode is report");
    true
}

/// The rules are those of a configuration that was replaced a moment ago.
fn outdated() -> Unproven {
    Unproven::Unanswered("the configuration has just changed".to_owned())
}

/// A proof that the rules do not count is none.
fn counts(decision: &Decision<'_>, proof: Proof) -> Result<Proof, Unproven> {
    if decision.counts(proof.prooftype()) {
        return Ok(proof);
    }
    Err(Unproven::Open(format!("a proof by {} does not count here", proof.prooftype())))
}
