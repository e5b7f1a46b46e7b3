//! Whether a certificate is the one that a domain's DNSSEC-signed TLSA records name (RFC 6698,
//! RFC 7671, RFC 7673, RFC 7712 §5.1; protocol rules DA-4 to DA-7, DA-11, DA-12).
//!
//! Nothing here asks DNS or knows the time: the records come in as a [`TlsaSet`], which is made of
//! secure answers only, and what to do without one says [`plan`]. The two usages of domains that
//! are their own authority stand alone; PKIX-TA and PKIX-EE are constraints in addition to PKIX.
//! Certificates and records are hostile input and bounded; nothing in them makes this panic.

use std::cell::Cell;

use rustls::pki_types::{CertificateDer, Der, TrustAnchor, UnixTime};
use webpki::VerifiedPath;
use x509_parser::{asn1_rs::Any, prelude::FromDer};

use super::{
    Proof, Prooftype,
    pkix::{self, Fingerprint, PkixError, ReferenceIds, TrustRoots},
    proof::Evidence,
};
use crate::xmpp::Domain;

mod plan;
mod record;
#[cfg(test)]
mod tests;

use record::{Matching, Selector, Usable, Usage};

pub use plan::{AddressState, DanePlan, Security, SrvState, TlsaState, plan, wants_tlsa};
pub use record::{TlsaRecord, TlsaSet};

/// What a certificate chain is by a set of TLSA records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// A record means it: proven.
    Match(Proof),
    /// No record means it, and other prooftypes must not say otherwise (RFC 7673 §4.2).
    Mismatch(DaneError),
    /// There is no record that can be used: as if there were none.
    NoUsableRecords,
}

/// Why a certificate is not one that the records mean.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DaneError {
    /// The plan for the endpoint was not to use it.
    #[error("dns forbids to use the endpoint")]
    Forbidden,
    /// A CA that a record of usage PKIX-TA names is in no valid path.
    #[error("none of the CAs above the certificate is one that the TLSA records of {base} ask for")]
    MissingCa {
        /// Where the records stand.
        base: Box<str>,
    },
    /// The peer presented none.
    #[error("peer presented no certificate")]
    NoCertificate,
    /// Nothing that was sent matches.
    #[error("certificate matches no TLSA record of {base} ({usable} usable)")]
    NoMatch {
        /// Where the records stand.
        base: Box<str>,
        /// How many of them can be used.
        usable: usize,
    },
    /// A record of usage PKIX-EE or PKIX-TA also wants what PKIX wants.
    #[error("the TLSA records of {base} ask for a valid certificate chain too: {source}")]
    Pkix {
        /// Where the records stand.
        base: Box<str>,
        /// What is wrong with the chain.
        source: PkixError,
    },
    /// A record of usage DANE-TA matches, but the chain below it is not good.
    #[error("certificate does not follow from the CA in the TLSA records of {base}: {source}")]
    TrustAnchor {
        /// Where the records stand.
        base: Box<str>,
        /// What is wrong with the chain.
        source: PkixError,
    },
}

/// Why a certificate does not prove the domain of an endpoint.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unproven {
    /// By DANE, which is final.
    #[error(transparent)]
    Dane(#[from] DaneError),
    /// By PKIX, where DANE says nothing.
    #[error(transparent)]
    Pkix(#[from] PkixError),
}

impl DaneError {
    /// A closed label for logs and counters.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Forbidden => "dane-forbidden",
            Self::MissingCa { .. } | Self::NoMatch { .. } => "dane-mismatch",
            Self::NoCertificate => "no-certificate",
            Self::Pkix { .. } | Self::TrustAnchor { .. } => "dane-chain",
        }
    }
}

impl DanePlan {
    /// Judges the certificate chain of a server, leaf first, that was reached at the SRV target
    /// `host` of the domain; `delegated` is until when secure SRV records say that it stands for
    /// the domain, if any do.
    ///
    /// # Errors
    /// [`Unproven`]; by DANE it is final for this endpoint, by PKIX the next prooftype may follow.
    pub fn judge(
        &self,
        chain: &[CertificateDer<'_>],
        domain: &Domain,
        host: &str,
        delegated: Option<UnixTime>,
        roots: &TrustRoots,
        now: UnixTime,
    ) -> Result<Proof, Unproven> {
        let domain = ReferenceIds::of(domain);
        let with_host = match delegated {
            Some(until) => domain.delegated([Some(host), None], until),
            None => domain,
        };
        match self {
            Self::Abort | Self::SkipEndpoint => Err(DaneError::Forbidden.into()),
            Self::NotApplicable => Ok(pkix::verify(chain, roots, domain, now)?),
            // without SRV records the host is the domain itself
            Self::PkixWithTarget | Self::Unusable(_) => {
                Ok(pkix::verify(chain, roots, with_host, now)?)
            }
            Self::Match(set) => {
                let hosts = [Some(host), Some(&*set.base)];
                let reference = domain.delegated(hosts, set.expires);
                match verify(chain, set, roots, reference, now) {
                    Outcome::Match(proof) => Ok(proof),
                    Outcome::Mismatch(error) => Err(error.into()),
                    Outcome::NoUsableRecords => Ok(pkix::verify(chain, roots, with_host, now)?),
                }
            }
        }
    }
}

/// Judges the certificate chain of a server, leaf first, by the TLSA records of the endpoint where
/// it was reached. Any matching record will do. `reference` are the names for the usages that ask
/// for names, `roots` the CAs for those that ask for PKIX.
#[must_use]
pub fn verify(
    chain: &[CertificateDer<'_>],
    set: &TlsaSet,
    roots: &TrustRoots,
    reference: ReferenceIds<'_>,
    now: UnixTime,
) -> Outcome {
    let records = set.usable();
    if records.is_empty() {
        return Outcome::NoUsableRecords;
    }
    match (Attempt { chain, set, records, reference, now }).run(Some(roots)) {
        Ok(proof) => Outcome::Match(proof),
        Err(error) => Outcome::Mismatch(error),
    }
}

/// Judges the certificate chain of a client, leaf first, by the TLSA records of all endpoints of
/// the domain for which it wants to speak: no standard names its records, and servers show the
/// same certificate in both roles (DA-11, DA-12). Of usages only those without PKIX count, and of
/// names only the domain's.
#[must_use]
pub fn verify_client(
    chain: &[CertificateDer<'_>],
    sets: &[TlsaSet],
    domain: &Domain,
    now: UnixTime,
) -> Outcome {
    let mut outcome = Outcome::NoUsableRecords;
    for set in sets {
        let mut records = set.usable();
        records.retain(|record| matches!(record.usage, Usage::DaneEe | Usage::DaneTa));
        if records.is_empty() {
            continue;
        }
        let reference = ReferenceIds::of(domain);
        match (Attempt { chain, set, records, reference, now }).run(None) {
            Ok(proof) => return Outcome::Match(proof),
            Err(error) => outcome = Outcome::Mismatch(error),
        }
    }
    outcome
}

/// One chain against the usable records of one set.
struct Attempt<'a> {
    chain: &'a [CertificateDer<'a>],
    set: &'a TlsaSet,
    records: Vec<Usable<'a>>,
    reference: ReferenceIds<'a>,
    now: UnixTime,
}

/// A CA that a record of usage DANE-TA names.
struct Named<'a> {
    anchor: TrustAnchor<'a>,
    /// None where only its key is known.
    certificate: Option<CertificateDer<'a>>,
}

impl Attempt<'_> {
    fn run(&self, roots: Option<&TrustRoots>) -> Result<Proof, DaneError> {
        let leaf = self.chain.first().ok_or(DaneError::NoCertificate)?;
        pkix::check_bounds(self.chain).map_err(|source| self.chain_error(source))?;
        let is_leaf = |record: &Usable<'_>| record.matches(leaf);
        // DANE-EE: names and dates in the certificate say nothing (RFC 7671 §5.1)
        if self.of(Usage::DaneEe).any(is_leaf) {
            return Ok(self.proof(leaf, self.set.expires));
        }
        let mut error = None;
        match self.follows_from_named_ca() {
            Some(Ok(expires)) => return Ok(self.proof(leaf, expires)),
            Some(Err(source)) => error = Some(self.chain_error(source)),
            None => {}
        }
        if let Some(roots) = roots {
            if self.of(Usage::PkixEe).any(is_leaf) {
                match self.validate(roots, &|_| Ok(())) {
                    Ok(expires) => return Ok(self.proof(leaf, expires)),
                    Err(source) => error = Some(self.pkix_error(source)),
                }
            }
            if self.of(Usage::PkixTa).next().is_some() {
                match self.under_asked_ca(roots) {
                    Ok(expires) => return Ok(self.proof(leaf, expires)),
                    Err(why) => error = Some(error.unwrap_or(why)),
                }
            }
        }
        Err(error.unwrap_or_else(|| DaneError::NoMatch {
            base: self.base(),
            usable: self.records.len(),
        }))
    }

    fn of(&self, usage: Usage) -> impl Iterator<Item = &Usable<'_>> {
        self.records.iter().filter(move |record| record.usage == usage)
    }

    /// Whether the chain is good with the CAs of the DANE-TA records as its only trust anchors;
    /// none if the records name no CA that is known or was sent.
    fn follows_from_named_ca(&self) -> Option<Result<UnixTime, PkixError>> {
        let named = self.named_cas();
        if named.is_empty() {
            return None;
        }
        let anchors: Vec<_> = named.iter().map(|ca| ca.anchor.clone()).collect();
        let first = Cell::new(self.set.expires);
        let accepts = |path: &VerifiedPath<'_>| {
            let mut of_path = named.iter().filter(|ca| pkix::same_key(&ca.anchor, path.anchor()));
            // without a certificate there are no dates to hold to
            let expires = match of_path.next().and_then(|ca| ca.certificate.as_ref()) {
                Some(ca) => self.check_ca(ca, path)?,
                None => self.set.expires,
            };
            first.set(self.set.expires.min(expires));
            Ok(())
        };
        let valid = pkix::validate(self.chain, &anchors, self.reference, self.now, &accepts);
        Some(valid.map(|valid| valid.expires.min(first.get())))
    }

    /// The CAs that the DANE-TA records name: among the certificates sent, or in the record itself
    /// (RFC 7671 §5.2).
    fn named_cas(&self) -> Vec<Named<'_>> {
        let issuers = self.chain.get(1..).unwrap_or_default();
        let mut named = Vec::new();
        for record in self.of(Usage::DaneTa) {
            let mut was_sent = false;
            for issuer in issuers.iter().filter(|ca| record.matches(ca)) {
                was_sent = true;
                named.extend(Named::certificate(issuer.as_ref()));
            }
            match (record.selector, record.matching) {
                (Selector::Certificate, Matching::Full) if !was_sent => {
                    named.extend(Named::certificate(record.data));
                }
                (Selector::Key, Matching::Full) if !was_sent => {
                    named.extend(self.chain.iter().filter_map(|c| Named::key(c, record.data)));
                }
                _ => {}
            }
        }
        named
    }

    /// What holds for the CA at the top of a path, which webpki takes as it is: its dates, and how
    /// many CAs may stand under it.
    fn check_ca(
        &self,
        ca: &CertificateDer<'_>,
        path: &VerifiedPath<'_>,
    ) -> Result<UnixTime, webpki::Error> {
        let ca = pkix::parse(ca).map_err(|_| webpki::Error::BadDer)?;
        let (not_before, not_after) = pkix::validity(&ca);
        if self.now < not_before {
            return Err(webpki::Error::CertNotValidYet { time: self.now, not_before });
        }
        if self.now > not_after {
            return Err(webpki::Error::CertExpired { time: self.now, not_after });
        }
        let constraints = ca.basic_constraints().map_err(|_| webpki::Error::BadDer)?;
        let most = constraints.and_then(|basic| basic.value.path_len_constraint);
        match most {
            Some(most) if path.intermediate_certificates().count() > most as usize => {
                Err(webpki::Error::PathLenConstraintViolated)
            }
            Some(_) | None => Ok(not_after),
        }
    }

    /// PKIX-TA: a valid path in which one of the CAs, trusted or below, is one that a record names.
    /// webpki goes on to longer paths where a shorter one is not accepted (RFC 7671 §5.4).
    fn under_asked_ca(&self, roots: &TrustRoots) -> Result<UnixTime, DaneError> {
        let is_asked =
            |ca: &CertificateDer<'_>| self.of(Usage::PkixTa).any(|record| record.matches(ca));
        let accepts = |path: &VerifiedPath<'_>| {
            let mut below = path.intermediate_certificates();
            if below.any(|ca| is_asked(&ca.der())) || roots.behind(path.anchor()).any(is_asked) {
                Ok(())
            } else {
                Err(webpki::Error::UnknownIssuer)
            }
        };
        self.validate(roots, &|_| Ok(())).map_err(|source| self.pkix_error(source))?;
        self.validate(roots, &accepts).map_err(|_| DaneError::MissingCa { base: self.base() })
    }

    fn validate(
        &self,
        roots: &TrustRoots,
        accepts: &dyn Fn(&VerifiedPath<'_>) -> Result<(), webpki::Error>,
    ) -> Result<UnixTime, PkixError> {
        let valid = pkix::validate(self.chain, roots.anchors(), self.reference, self.now, accepts)?;
        Ok(valid.expires.min(self.set.expires))
    }

    fn proof(&self, leaf: &CertificateDer<'_>, expires: UnixTime) -> Proof {
        let evidence = Evidence { dnssec: true, expires };
        let domain = self.reference.source().clone();
        Proof::assertion(domain, Prooftype::Dane, Fingerprint::of(leaf), evidence)
    }

    fn chain_error(&self, source: PkixError) -> DaneError {
        DaneError::TrustAnchor { base: self.base(), source }
    }

    fn pkix_error(&self, source: PkixError) -> DaneError {
        DaneError::Pkix { base: self.base(), source }
    }

    fn base(&self) -> Box<str> {
        (&*self.set.base).into()
    }
}

impl<'a> Named<'a> {
    /// A CA by its certificate; none if it cannot be read.
    fn certificate(der: &'a [u8]) -> Option<Self> {
        let certificate = CertificateDer::from(der);
        let anchor = webpki::anchor_from_trusted_cert(&certificate).ok()?.to_owned();
        Some(Self { anchor, certificate: Some(certificate) })
    }

    /// A CA by its key, with the name that is the issuer of `below`; whoever has no certificate in
    /// the chain is known by no other name (RFC 7671 §5.2.3).
    fn key(below: &CertificateDer<'_>, key: &'a [u8]) -> Option<Self> {
        let below = pkix::parse(below).ok()?;
        let inside = |der: &[u8]| Some(Der::from(Any::from_der(der).ok()?.1.data.to_vec()));
        let anchor = TrustAnchor {
            subject: inside(below.issuer().as_raw())?,
            subject_public_key_info: inside(key)?,
            name_constraints: None,
        };
        Some(Self { anchor, certificate: None })
    }
}
