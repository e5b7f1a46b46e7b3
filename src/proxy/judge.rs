//! Whether a certificate chain proves a domain, by all prooftypes that need no dialback, in the
//! order of protocol §9.4: DANE, which is final where it applies, PKIX, POSH.
//!
//! A judgement can be made again at any time for the same chain: it rests on the configuration and
//! the records of then.

use std::net::IpAddr;

use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::time::{Duration, Instant, timeout, timeout_at};
use tracing::debug;

use super::services::Services;
use crate::{
    auth::{
        Proof, Prooftype,
        dane::{self, DanePlan},
        pkix::{self, TrustRoots},
        posh,
    },
    config::model::Dnssec,
    net::{posh::TIME as POSH_TIME, resolver::ResolveError, targets::Target},
    stream::Failure,
    xmpp::{Direction, Domain},
};

/// Why a certificate chain does not prove a domain, in words for the operator.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Unproven {
    /// The domain says by DANE or POSH that its certificates are others: nothing weaker can prove
    /// it then (RFC 7673 §4.2, RFC 7711 §3.3).
    #[error("{0}")]
    Contradicted(String),
    /// No prooftype succeeded; what follows from that is policy.
    #[error("{0}")]
    Open(String),
    /// DNS gave no answer that can be used, so nobody knows what the domain's records say.
    #[error("{0}")]
    Unanswered(String),
    /// No prooftype succeeded, and what the domain publishes by POSH could not be fetched: for most
    /// that is nothing.
    #[error("{0}")]
    Unfetched(String),
}

/// Whose answer is missing where nobody knows what could be proven.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Silence {
    /// The web server's of POSH.
    Web,
    /// That of DNS.
    Dns,
}

impl Silence {
    /// Whether a proof of this type, which held before, might hold but for that.
    pub(super) fn hides(self, before: Prooftype) -> bool {
        match self {
            Self::Dns => true,
            // A certificate that CAs vouched for does not need it.
            Self::Web => before == Prooftype::Posh,
        }
    }
}

/// On whose behalf, and until when, something is found out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Errand {
    deadline: Instant,
    /// The stranger who causes it; none where it is the operator's.
    asker: Option<IpAddr>,
}

impl Errand {
    /// Of the operator's.
    pub(crate) fn ours(deadline: Instant) -> Self {
        Self { deadline, asker: None }
    }

    /// Caused by whoever is at an address.
    pub(crate) fn of(asker: IpAddr, deadline: Instant) -> Self {
        Self { deadline, asker: Some(asker) }
    }
}

impl Unproven {
    /// Whose answer is missing, if any.
    pub(super) fn silence(&self) -> Option<Silence> {
        match self {
            Self::Contradicted(_) | Self::Open(_) => None,
            Self::Unanswered(_) => Some(Silence::Dns),
            Self::Unfetched(_) => Some(Silence::Web),
        }
    }

    /// Whether it says nothing against a proof of this type that held until now.
    pub(crate) fn leaves_open(&self, before: Prooftype) -> bool {
        self.silence().is_some_and(|silence| silence.hides(before))
    }
}

impl Services {
    /// Judges the certificate chain of a client that claims a domain, as of now: where DNSSEC is
    /// used by what it says of the domain's own servers, which show the same certificates (protocol
    /// DA-11, DA-12), by PKIX, and by POSH.
    ///
    /// # Errors
    /// [`Unproven`].
    pub(super) async fn judge_client(
        &self,
        chain: &[CertificateDer<'static>],
        domain: &Domain,
        roots: &TrustRoots,
        address: IpAddr,
    ) -> Result<Proof, Unproven> {
        let mut ids = vec![pkix::ReferenceIds::of(domain)];
        let mut targets = Vec::new();
        if self.config.resolver.dnssec != Dnssec::Off {
            let published = timeout(WAIT, Box::pin(self.resolver.published(domain))).await;
            let published =
                published.map_err(|_| Unproven::Unanswered("DNS took too long".to_owned()))?;
            let published = published.map_err(unanswered)?;
            let judged = dane::verify_client(chain, &published.sets, domain, UnixTime::now());
            if let Some(proof) = by_dane(judged, published.missing.map(unanswered))? {
                return Ok(proof);
            }
            // In the resolver's memory by now.
            targets = self.resolver.service(domain).await.unwrap_or_default();
        }
        for target in &targets {
            if let Some(until) = target.delegation.until() {
                let id = pkix::ReferenceIds::of(domain);
                ids.push(id.delegated([Some(&*target.host), None], until));
            }
        }
        let mut why = String::new();
        for id in ids {
            match pkix::verify(chain, roots, id, UnixTime::now()) {
                Ok(proof) => return Ok(proof),
                Err(error) => why = error.to_string(),
            }
        }
        // nothing is fetched at the wish of those who may not send
        if self.config.policy.domain(domain, Direction::Inbound).denied.is_some() {
            return Err(Unproven::Open(why));
        }
        let errand = Errand::of(address, Instant::now() + POSH_WAIT);
        self.judge_by_posh(chain, domain, why, errand, POSH_TIME).await
    }

    /// Judges the certificate chain of a peer's endpoint, as of now. What the domain publishes by
    /// POSH is fetched only where DANE has no say and PKIX does not prove it, and in half of the time
    /// that is left: where the web server is silent, the rest is for dialback.
    ///
    /// # Errors
    /// [`Unproven`].
    pub(crate) async fn judge_endpoint(
        &self,
        chain: &[CertificateDer<'static>],
        domain: &Domain,
        target: &Target,
        plan: &DanePlan,
        roots: &TrustRoots,
        errand: Errand,
    ) -> Result<Proof, Unproven> {
        let delegated = target.delegation.until();
        let now = UnixTime::now();
        match plan.judge(chain, domain, &target.host, delegated, roots, now) {
            Ok(proof) => Ok(proof),
            Err(dane::Unproven::Dane(why)) => Err(Unproven::Contradicted(why.to_string())),
            Err(dane::Unproven::Pkix(why)) => {
                let left = errand.deadline.saturating_duration_since(Instant::now());
                // with the wait for its turn
                let errand = Errand { deadline: errand.deadline - left / 4, ..errand };
                self.judge_by_posh(chain, domain, why.to_string(), errand, left / 2).await
            }
        }
    }

    /// The last step: what the domain publishes by POSH. `pkix` is why it is needed, and `most` what
    /// a fetch may take: it has to end by itself, for what came of it to be known from then on.
    async fn judge_by_posh(
        &self,
        chain: &[CertificateDer<'static>],
        domain: &Domain,
        pkix: String,
        Errand { deadline, asker }: Errand,
        most: Duration,
    ) -> Result<Proof, Unproven> {
        let Some(client) = &self.posh else { return Err(Unproven::Open(pkix)) };
        let published = async {
            let share = match asker {
                Some(address) => Some(self.fetches.share(address, FETCHES_OF_ADDRESS).await),
                None => None,
            };
            // Rarely needed and large.
            let material = Box::pin(client.material_within(domain, most)).await;
            drop(share);
            material
        };
        let material = match timeout_at(deadline, published).await {
            Ok(Ok(Some(material))) => material,
            Ok(Ok(None)) => return Err(Unproven::Open(pkix)),
            // unknown: it proves nothing and forbids nothing
            Ok(Err(error)) => {
                debug!(%domain, %error, "POSH material not known");
                return Err(Unproven::Unfetched(format!("{pkix}; POSH: {error}")));
            }
            Err(_) => return Err(Unproven::Unfetched(format!("{pkix}; POSH: no answer in time"))),
        };
        match posh::verify(chain, &material, domain, UnixTime::now()) {
            posh::Outcome::Match(proof) => Ok(proof),
            posh::Outcome::Mismatch(why) => Err(Unproven::Contradicted(format!("{why}; {pkix}"))),
            posh::Outcome::NoUsableMaterial => {
                Err(Unproven::Open(format!("{pkix}; POSH: nothing that can be used")))
            }
        }
    }
}

/// What the records of all endpoints that are known say of a client; nothing, where PKIX decides.
fn by_dane(judged: dane::Outcome, missing: Option<Unproven>) -> Result<Option<Proof>, Unproven> {
    match (judged, missing) {
        (dane::Outcome::Match(proof), _) => Ok(Some(proof)),
        // Nobody knows whether those that are missing mean the certificate, or forbid it.
        (dane::Outcome::Mismatch(_) | dane::Outcome::NoUsableRecords, Some(why)) => Err(why),
        (dane::Outcome::Mismatch(why), None) => Err(Unproven::Contradicted(why.to_string())),
        (dane::Outcome::NoUsableRecords, None) => Ok(None),
    }
}

/// With the cause.
fn unanswered(error: ResolveError) -> Unproven {
    Unproven::Unanswered(Failure::from(error).to_string())
}

/// How many fetches of POSH one address may cause at once, of the sixteen that there are: who has
/// web servers that never answer keeps no other peer's document from being fetched (attack A-67).
const FETCHES_OF_ADDRESS: usize = 4;

/// How long DNS may keep a client waiting (protocol §9.3 step 3),
const WAIT: Duration = Duration::from_secs(5);
/// and then POSH: a fetch ends before.
const POSH_WAIT: Duration = POSH_TIME.saturating_add(Duration::from_secs(1));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_contradicted_only_by_all_records_of_its_domain() {
        let mismatch = || dane::Outcome::Mismatch(dane::DaneError::NoCertificate);
        let missing = || Some(Unproven::Unanswered("TLSA _5269._tcp.b.test".into()));
        let all = by_dane(mismatch(), None).unwrap_err();
        assert!(matches!(all, Unproven::Contradicted(_)), "{all:?}");
        for judged in [mismatch(), dane::Outcome::NoUsableRecords] {
            // so that a proof which held before is asked for again
            let some = by_dane(judged, missing()).unwrap_err();
            assert!(some.leaves_open(Prooftype::Dane), "{some:?}");
        }
        assert_eq!(by_dane(dane::Outcome::NoUsableRecords, None), Ok(None));
    }
}
