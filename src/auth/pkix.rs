//! Whether a certificate chain proves a domain (RFC 5280, RFC 6120 §13.7, RFC 9525; PK-1 to PK-7).
//!
//! webpki builds and validates the path, for *serverAuth* in either direction, since public CAs
//! issue nothing else (EKU-1); identifiers are matched here, because it knows no SRV-ID and no
//! XmppAddr. Names in the subject's CN never count. Nothing here does I/O or knows the time.
//! Certificates are hostile input: sizes and path building are bounded, and no DER makes it panic.
//! Revocation is not checked (PK-6), and a trust anchor's own dates are not either: an operator
//! takes a root back by taking it out of the store.

mod constraints;
mod error;
mod identifiers;
mod outline;
mod signatures;
mod summary;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeId, KeyPurposeIdIter, KeyUsage,
    RequiredEkuNotFoundContext, VerifiedPath,
};
use x509_parser::prelude::{FromDer, X509Certificate};

pub(super) use self::summary::bounded;
pub(crate) use self::summary::{foreign_purposes, utc};
pub use self::{
    error::{Link, PkixError},
    summary::{CertificateInfo, Fingerprint},
};
pub(crate) use self::{
    identifiers::{Match, Presented},
    outline::Outline,
};
use super::{Proof, Prooftype, proof::Evidence};
use crate::xmpp::Domain;

/// The CAs that are trusted to say which key belongs to a domain.
#[derive(Clone, Debug, Default)]
pub struct TrustRoots {
    anchors: Vec<TrustAnchor<'static>>,
    /// Whole, in the order of `anchors`: a TLSA record may want one of them (RFC 7671 §5.4).
    certificates: Vec<CertificateDer<'static>>,
}

/// The names by which a peer may prove itself (PK-2): DNS-ID, SRV-ID and XmppAddr of the source
/// domain; and DNS-ID of the hosts that DNSSEC says stand for it (RFC 7673 §4.1). Never a name out
/// of an insecure DNS answer.
#[derive(Clone, Copy, Debug)]
pub struct ReferenceIds<'a> {
    source: &'a Domain,
    /// The SRV target, and what it is an alias of.
    hosts: [Option<&'a str>; 2],
    /// Until when DNS says so.
    delegated: Option<UnixTime>,
}

impl TrustRoots {
    /// No CA at all: nothing can be proven by PKIX.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether both trust the same certificates.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.certificates == other.certificates
    }

    /// Trusts a CA certificate, with the name constraints that it carries.
    ///
    /// # Errors
    /// [`PkixError::Malformed`] if it is not a certificate.
    pub fn add(&mut self, certificate: &CertificateDer<'_>) -> Result<(), PkixError> {
        let anchor =
            webpki::anchor_from_trusted_cert(certificate).map_err(|_| PkixError::Malformed)?;
        self.anchors.push(anchor.to_owned());
        self.certificates.push(certificate.clone().into_owned());
        Ok(())
    }

    pub(crate) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }

    /// The certificates behind a trust anchor.
    pub(super) fn behind<'a>(
        &'a self,
        anchor: &'a TrustAnchor<'_>,
    ) -> impl Iterator<Item = &'a CertificateDer<'static>> {
        let all = self.anchors.iter().zip(&self.certificates);
        all.filter(move |(known, _)| same_key(known, anchor)).map(|(_, certificate)| certificate)
    }

    /// How many CAs are trusted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.anchors.len()
    }

    /// Whether no CA is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }
}

impl<'a> ReferenceIds<'a> {
    /// The identifiers of the domain that a stream header or a dialback element names.
    #[must_use]
    pub fn of(source: &'a Domain) -> Self {
        Self { source, hosts: [None; 2], delegated: None }
    }

    pub(super) fn source(&self) -> &'a Domain {
        self.source
    }

    /// And the host names that DNSSEC-secure records delegate the domain to, until `expires`: the
    /// target of a secure SRV record, and the host at the end of its secure aliases (RFC 7671 §7).
    #[must_use]
    pub fn delegated(self, hosts: [Option<&'a str>; 2], expires: UnixTime) -> Self {
        Self { hosts, delegated: Some(expires), ..self }
    }
}

/// What path and names of a chain say, when both are good.
pub(super) struct Valid {
    /// The first certificate of the path expires; or what DNS says of the name, if it hangs on that.
    pub(super) expires: UnixTime,
    /// The name that fits is that of a host, which only DNSSEC ties to the domain.
    pub(super) is_delegated: bool,
}

/// Judges a certificate chain, leaf first, as it came from a peer that claims the source domain;
/// whether that peer accepted or opened the connection makes no difference.
///
/// # Errors
/// [`PkixError`]: the prooftype does not succeed; what follows from that is policy (PK-7).
pub fn verify(
    chain: &[CertificateDer<'_>],
    roots: &TrustRoots,
    reference: ReferenceIds<'_>,
    now: UnixTime,
) -> Result<Proof, PkixError> {
    let valid = validate(chain, &roots.anchors, reference, now, &|_| Ok(()))?;
    let leaf = chain.first().ok_or(PkixError::NoCertificate)?;
    let evidence = Evidence { dnssec: valid.is_delegated, expires: valid.expires };
    Ok(Proof::assertion(reference.source.clone(), Prooftype::Pkix, Fingerprint::of(leaf), evidence))
}

/// The same with any trust anchors, and with a say of the caller in each path.
pub(super) fn validate(
    chain: &[CertificateDer<'_>],
    anchors: &[TrustAnchor<'_>],
    reference: ReferenceIds<'_>,
    now: UnixTime,
    accepts: &dyn Fn(&VerifiedPath<'_>) -> Result<(), webpki::Error>,
) -> Result<Valid, PkixError> {
    let (leaf_der, intermediates) = chain.split_first().ok_or(PkixError::NoCertificate)?;
    check_bounds(chain)?;
    let leaf = parse(leaf_der)?;
    check_leaf(&leaf)?;
    let issuers = Issuers::read(intermediates)?;
    issuers.check_ambiguity()?;
    let presented = Presented::of(&leaf)?;
    let is_source = presented.matches(reference.source).is_some();
    let is_host = reference.hosts.iter().flatten().any(|host| presented.names_host(host));

    let end_entity = EndEntityCert::try_from(leaf_der)
        .map_err(|error| PkixError::explain(error, chain, &leaf))?;
    let path = end_entity
        .verify_for_usage(
            signatures::algorithms(),
            anchors,
            intermediates,
            now,
            ServerPurpose,
            None,
            Some(&|path: &VerifiedPath<'_>| {
                issuers.check(path)?;
                // a host's name is a dNSName, and those webpki has held against the constraints
                if !is_host && !issuers.may_speak_for(path, reference.source) {
                    return Err(webpki::Error::NameConstraintViolation);
                }
                accepts(path)
            }),
        )
        .map_err(|error| PkixError::explain(error, chain, &leaf))?;
    if !is_source && !is_host {
        return Err(PkixError::Name {
            wanted: reference.source.clone(),
            presented: presented.to_string(),
        });
    }
    let is_delegated = !is_source || !issuers.may_speak_for(&path, reference.source);
    let mut expires = issuers.first_expiry(&leaf, &path)?;
    if let (true, Some(delegated)) = (is_delegated, reference.delegated) {
        expires = expires.min(delegated);
    }
    Ok(Valid { expires, is_delegated })
}

/// what a peer may make us work on. rustls bounds the handshake message likewise.
pub(super) fn check_bounds(chain: &[CertificateDer<'_>]) -> Result<(), PkixError> {
    if chain.len() > MAX_CERTIFICATES {
        return Err(PkixError::TooManyCertificates(chain.len()));
    }
    let size = chain.iter().map(|certificate| certificate.len()).sum();
    if size > MAX_CHAIN_SIZE {
        return Err(PkixError::TooLarge(size));
    }
    Ok(())
}

/// What a leaf has to be that something else than a CA vouches for (PO-6, A-45): within its dates,
/// with a key and a signature of today. Also says when it expires.
///
/// `CA:TRUE` is no reason to refuse it: self-signed certificates are often made so.
pub(super) fn check_pinned(
    chain: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<UnixTime, PkixError> {
    check_bounds(chain)?;
    let leaf = parse(chain.first().ok_or(PkixError::NoCertificate)?)?;
    check_leaf(&leaf)?;
    if summary::is_signed_weakly(&leaf) {
        return Err(PkixError::SignatureAlgorithm(Link::Leaf));
    }
    let (from, since) = validity(&leaf);
    if now < from {
        return Err(PkixError::NotYetValid { which: Link::Leaf, from });
    }
    if now > since {
        return Err(PkixError::Expired { which: Link::Leaf, since });
    }
    Ok(since)
}

/// What webpki does not look at: the leaf's own key and its `keyUsage`.
fn check_leaf(leaf: &X509Certificate<'_>) -> Result<(), PkixError> {
    if let Some(bits) = rsa_bits(leaf)
        && bits < MIN_RSA_BITS
    {
        return Err(PkixError::WeakKey(bits));
    }
    // RFC 8446 §4.4.2.2: a key that signs a handshake needs digitalSignature
    match leaf.key_usage() {
        Ok(Some(usage)) if !usage.value.digital_signature() => Err(PkixError::KeyUsage),
        Ok(_) => Ok(()),
        Err(_) => Err(PkixError::Malformed),
    }
}

/// The certificates behind the leaf, each read once for all that is asked of it.
struct Issuers<'a>(Vec<(&'a [u8], X509Certificate<'a>)>);

impl<'a> Issuers<'a> {
    fn read(intermediates: &'a [CertificateDer<'_>]) -> Result<Self, PkixError> {
        let read = |der: &'a CertificateDer<'_>| Ok((der.as_ref(), parse(der)?));
        intermediates.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Path building tries every issuer of a name: nine intermediates of one name make it try
    /// 200 000 paths, seconds of work, before webpki gives up.
    fn check_ambiguity(&self) -> Result<(), PkixError> {
        let subjects = || self.0.iter().map(|(_, issuer)| issuer.subject().as_raw());
        let most = subjects().map(|one| subjects().filter(|other| *other == one).count()).max();
        match most {
            Some(count) if count > MAX_SAME_SUBJECT => Err(PkixError::TooComplex),
            _ => Ok(()),
        }
    }

    /// The CAs of a path, which are some of these.
    fn of(
        &self,
        path: &VerifiedPath<'_>,
    ) -> impl Iterator<Item = Result<&X509Certificate<'a>, PkixError>> {
        path.intermediate_certificates().map(|issuer| {
            let der = issuer.der();
            let read = self.0.iter().find(|(known, _)| *known == der.as_ref());
            read.map(|(_, issuer)| issuer).ok_or(PkixError::Malformed)
        })
    }

    /// What webpki does not ask of the CAs of a path: `keyCertSign`.
    fn check(&self, path: &VerifiedPath<'_>) -> Result<(), webpki::Error> {
        for issuer in self.of(path) {
            match issuer.map_err(|_| webpki::Error::BadDer)?.key_usage() {
                Ok(Some(usage)) if !usage.value.key_cert_sign() => {
                    return Err(webpki::Error::EndEntityUsedAsCa);
                }
                Ok(_) => {}
                Err(_) => return Err(webpki::Error::BadDer),
            }
        }
        Ok(())
    }

    /// Whether the name constraints of all CAs of a path permit the domain, by whichever identifier
    /// it is then proven (PK-6, A-44).
    fn may_speak_for(&self, path: &VerifiedPath<'_>, domain: &Domain) -> bool {
        let subtrees = path.anchor().name_constraints.as_ref();
        subtrees.is_none_or(|subtrees| constraints::subtrees_permit(subtrees, domain))
            && self.of(path).all(|issuer| issuer.is_ok_and(|ca| constraints::permits(ca, domain)))
    }

    fn first_expiry(
        &self,
        leaf: &X509Certificate<'_>,
        path: &VerifiedPath<'_>,
    ) -> Result<UnixTime, PkixError> {
        let mut first = summary::not_after(leaf);
        for issuer in self.of(path) {
            first = first.min(summary::not_after(issuer?));
        }
        Ok(first)
    }
}

/// Whether two trust anchors are one CA with one key.
pub(super) fn same_key(a: &TrustAnchor<'_>, b: &TrustAnchor<'_>) -> bool {
    a.subject == b.subject && a.subject_public_key_info == b.subject_public_key_info
}

/// Reads one certificate with nothing behind it.
pub(crate) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, PkixError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(PkixError::Malformed),
    }
}

/// The first and the last moment at which a certificate is valid.
pub(super) fn validity(certificate: &X509Certificate<'_>) -> (UnixTime, UnixTime) {
    (summary::not_before(certificate), summary::not_after(certificate))
}

fn rsa_bits(certificate: &X509Certificate<'_>) -> Option<usize> {
    use x509_parser::public_key::PublicKey;

    let Ok(PublicKey::RSA(key)) = certificate.public_key().parsed() else {
        return None;
    };
    let zeros = key.modulus.iter().take_while(|byte| **byte == 0).count();
    let first = key.modulus.get(zeros)?;
    Some((key.modulus.len() - zeros) * 8 - first.leading_zeros() as usize)
}

/// EKU-1: no purposes, or serverAuth or any among them; clientAuth alone is no evidence.
struct ServerPurpose;

impl ExtendedKeyUsageValidator for ServerPurpose {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let mut restricted = false;
        for purpose in purposes {
            let purpose = purpose?;
            if purpose == SERVER_AUTH || purpose == ANY_PURPOSE {
                return Ok(());
            }
            restricted = true;
        }
        if !restricted {
            return Ok(());
        }
        Err(webpki::Error::RequiredEkuNotFoundContext(RequiredEkuNotFoundContext {
            required: KeyUsage::server_auth(),
            present: Vec::new(),
        }))
    }
}

/// 1.3.6.1.5.5.7.3.1
const SERVER_AUTH: KeyPurposeId<'static> =
    KeyPurposeId::new(&[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01]);

/// 2.5.29.37.0
const ANY_PURPOSE: KeyPurposeId<'static> = KeyPurposeId::new(&[0x55, 0x1d, 0x25, 0x00]);

/// Certificates in a chain, leaf included; real ones have two to four.
const MAX_CERTIFICATES: usize = 10;

/// Bytes of all certificates together.
const MAX_CHAIN_SIZE: usize = 64 * 1024;

/// Cross-signed CAs come in twos, rarely in threes.
const MAX_SAME_SUBJECT: usize = 3;

/// What webpki asks of the keys of CAs, and rustls of those that sign handshakes.
const MIN_RSA_BITS: usize = 2048;
