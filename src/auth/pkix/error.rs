//! Why a certificate proves nothing, in words for the operator who reads them at night.
//!
//! Text out of certificates is bounded and escaped before it gets in here.

use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::X509Certificate;

use super::{parse, summary};
use crate::xmpp::Domain;

/// Which certificate of a chain is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// One of the CAs above it.
    Issuer,
    /// The peer's own.
    Leaf,
}

/// Why a certificate chain does not prove a domain.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PkixError {
    /// A signature does not match: corrupt, or the issuer has another key than the name says.
    #[error("certificate has a wrong signature")]
    BadSignature,
    /// `CA:TRUE` in the leaf (RFC 6120 §13.7.1.1, RFC 5280 §4.2.1.9).
    #[error("certificate is a CA's own, not that of a server")]
    CaAsLeaf,
    /// Out of date.
    #[error("{} expired on {}", link(*.which), summary::utc(*.since))]
    Expired {
        /// Which certificate.
        which: Link,
        /// Its `notAfter`.
        since: UnixTime,
    },
    /// What else webpki found, by its name for it.
    #[error("certificate chain is not valid: {0}")]
    Invalid(String),
    /// `keyUsage` without `digitalSignature`.
    #[error("certificate's key usage does not allow signatures")]
    KeyUsage,
    /// Not X.509, or an extension that cannot be read.
    #[error("certificate cannot be read")]
    Malformed,
    /// A valid chain, but for other names.
    #[error("certificate is not for {wanted} but for {presented}")]
    Name {
        /// The source domain.
        wanted: Domain,
        /// What the certificate names, bounded and escaped.
        presented: String,
    },
    /// A CA of the chain may not speak for the domain (RFC 5280 §4.2.1.10).
    #[error("certificate is outside the names that its issuer may certify")]
    NameConstraint,
    /// The peer presented none.
    #[error("peer presented no certificate")]
    NoCertificate,
    /// A certificate that is no CA's was used as one.
    #[error("certificate was issued by one that is not a CA's")]
    NotACa,
    /// Not valid yet: often the clock of this machine is wrong.
    #[error("{} is not valid before {}", link(*.which), summary::utc(*.from))]
    NotYetValid {
        /// Which certificate.
        which: Link,
        /// Its `notBefore`.
        from: UnixTime,
    },
    /// Its own issuer, and no trust root.
    #[error("certificate is self-signed")]
    SelfSigned,
    /// MD5, SHA-1 or something unknown (RFC 9325 §4.1).
    #[error("{} is signed with an algorithm that is not trusted", link(*.0))]
    SignatureAlgorithm(Link),
    /// Path building could be made to run away: many issuers of one name, or too deep.
    #[error("certificate chain has too many ways to be built")]
    TooComplex,
    /// More bytes than a chain may have.
    #[error("certificate chain has {0} bytes, too many")]
    TooLarge(usize),
    /// More certificates than a chain may have.
    #[error("certificate chain has {0} certificates, too many")]
    TooManyCertificates(usize),
    /// The chain ends at a CA that is no trust root, or an intermediate certificate is missing.
    #[error("certificate's issuer is unknown: {issuer} ({sent} intermediate certificates sent)")]
    UnknownIssuer {
        /// The CA where the chain ends, bounded and escaped.
        issuer: String,
        /// How many intermediate certificates the peer sent.
        sent: usize,
    },
    /// An RSA key below 2048 bits.
    #[error("certificate has an RSA key of {0} bits only")]
    WeakKey(usize),
    /// `extendedKeyUsage` without serverAuth (EKU-1).
    #[error("{} is not for servers, only for {purposes}", link(*.which))]
    WrongPurpose {
        /// Which certificate.
        which: Link,
        /// What it is for.
        purposes: String,
    },
}

impl PkixError {
    /// A closed label for logs and counters.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooComplex | Self::TooLarge(_) | Self::TooManyCertificates(_) => {
                "chain-too-large"
            }
            Self::BadSignature => "bad-signature",
            Self::CaAsLeaf => "ca-as-leaf",
            Self::Expired { .. } => "expired",
            Self::Invalid(_) => "invalid",
            Self::KeyUsage => "key-usage",
            Self::Malformed => "malformed",
            Self::Name { .. } => "name-mismatch",
            Self::NameConstraint => "name-constraint",
            Self::NoCertificate => "no-certificate",
            Self::NotACa => "not-a-ca",
            Self::NotYetValid { .. } => "not-yet-valid",
            Self::SelfSigned => "self-signed",
            Self::SignatureAlgorithm(_) => "weak-signature",
            Self::UnknownIssuer { .. } => "unknown-issuer",
            Self::WeakKey(_) => "weak-key",
            Self::WrongPurpose { .. } => "wrong-purpose",
        }
    }

    /// Says in our words what webpki found in this chain.
    pub(super) fn explain(
        error: webpki::Error,
        chain: &[CertificateDer<'_>],
        leaf: &X509Certificate<'_>,
    ) -> Self {
        use webpki::Error as E;
        match error {
            E::BadDer | E::BadDerTime | E::MalformedExtensions | E::TrailingData(_) => {
                Self::Malformed
            }
            E::CaUsedAsEndEntity => Self::CaAsLeaf,
            E::CertExpired { not_after, .. } => Self::Expired {
                which: Link::leaf_if(summary::not_after(leaf) == not_after),
                since: not_after,
            },
            E::CertNotValidYet { not_before, .. } => Self::NotYetValid {
                which: Link::leaf_if(summary::not_before(leaf) == not_before),
                from: not_before,
            },
            E::EndEntityUsedAsCa => Self::NotACa,
            E::InvalidSignatureForPublicKey => Self::BadSignature,
            E::MaximumNameConstraintComparisonsExceeded
            | E::MaximumPathBuildCallsExceeded
            | E::MaximumPathDepthExceeded
            | E::MaximumSignatureChecksExceeded => Self::TooComplex,
            E::NameConstraintViolation => Self::NameConstraint,
            E::RequiredEkuNotFoundContext(_) => wrong_purpose(chain, leaf),
            E::UnknownIssuer if leaf.subject().as_raw() == leaf.issuer().as_raw() => {
                Self::SelfSigned
            }
            E::UnknownIssuer => Self::UnknownIssuer {
                issuer: last_issuer(chain, leaf),
                sent: chain.len().saturating_sub(1),
            },
            E::UnsupportedSignatureAlgorithmContext(context) => Self::SignatureAlgorithm(
                Link::leaf_if(is_signed_with(leaf, &context.signature_algorithm_id)),
            ),
            E::UnsupportedSignatureAlgorithmForPublicKeyContext(context) => {
                Self::SignatureAlgorithm(Link::leaf_if(is_signed_with(
                    leaf,
                    &context.signature_algorithm_id,
                )))
            }
            other => Self::Invalid(summary::bounded(&format!("{other:?}"))),
        }
    }
}

impl Link {
    fn leaf_if(is_leaf: bool) -> Self {
        if is_leaf { Self::Leaf } else { Self::Issuer }
    }
}

fn link(which: Link) -> &'static str {
    match which {
        Link::Issuer => "a CA certificate in the chain",
        Link::Leaf => "certificate",
    }
}

/// Whether an `AlgorithmIdentifier`, without its outer tag, is that of the leaf's signature.
fn is_signed_with(leaf: &X509Certificate<'_>, algorithm: &[u8]) -> bool {
    // 0x06, one byte of length, the OID
    algorithm
        .get(2..)
        .is_some_and(|oid| oid.starts_with(leaf.signature_algorithm.algorithm.as_bytes()))
}

fn wrong_purpose(chain: &[CertificateDer<'_>], leaf: &X509Certificate<'_>) -> PkixError {
    if let Some(purposes) = summary::foreign_purposes(leaf) {
        return PkixError::WrongPurpose { which: Link::Leaf, purposes };
    }
    let purposes = chain
        .iter()
        .skip(1)
        .filter_map(|der| summary::foreign_purposes(&parse(der).ok()?))
        .next()
        .unwrap_or_else(|| "something else".to_owned());
    PkixError::WrongPurpose { which: Link::Issuer, purposes }
}

/// Follows the chain upwards by names to the issuer that is not in it.
fn last_issuer(chain: &[CertificateDer<'_>], leaf: &X509Certificate<'_>) -> String {
    let issuers: Vec<_> = chain.iter().skip(1).filter_map(|der| parse(der).ok()).collect();
    let mut last = leaf;
    for _ in &issuers {
        let above = issuers.iter().find(|issuer| {
            issuer.subject().as_raw() == last.issuer().as_raw()
                && issuer.subject().as_raw() != issuer.issuer().as_raw()
        });
        match above {
            Some(issuer) => last = issuer,
            None => break,
        }
    }
    summary::name(last.issuer())
}
