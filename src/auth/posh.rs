//! Whether a certificate is one that a domain publishes over HTTPS: PKIX over Secure HTTP
//! (RFC 7711, RFC 7712 §5.2; protocol rules PO-2 to PO-6, PO-8, PO-9, PO-12).
//!
//! Nothing here fetches or knows the time: bodies of HTTPS answers come in, and [`Material`] comes
//! out, by which certificates are judged until it expires. A match stands in for the chain to a CA
//! and for the names in the certificate; its dates and its key still count. Documents are hostile
//! input: bounded, strict, and nothing in them makes this panic.

use std::{sync::Arc, time::Duration};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    prelude::BASE64_STANDARD,
};
use rustls::pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256, Sha384, Sha512};
use url::Url;

use super::{
    Proof, Prooftype,
    pkix::{self, Fingerprint, PkixError},
    proof::Evidence,
};
use crate::xmpp::Domain;

mod json;
mod older;
#[cfg(test)]
mod tests;

use json::Json;

/// What an HTTPS answer of status 200 says (RFC 7711 §3.1, §3.2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Document {
    /// Which certificates the domain's servers have.
    Fingerprints(Fingerprints),
    /// Where that is said.
    Reference(Reference),
}

/// A fingerprints document (RFC 7711 §3.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fingerprints {
    listed: Vec<Listed>,
    lifetime: Duration,
}

/// A reference document (RFC 7711 §3.2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reference {
    /// Where the fingerprints document is: an `https` URL, not checked further.
    pub url: Url,
    /// For how long that holds, from when it was fetched.
    pub lifetime: Duration,
}

/// What a domain publishes about its certificates, for as long as it holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Material {
    listed: Arc<[Listed]>,
    expires: UnixTime,
}

/// One certificate that a document names.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Listed {
    /// Whole, as in the older forms.
    Certificate(Box<[u8]>),
    /// By the strongest hash that is given.
    Digest(Hash, Box<[u8]>),
    /// By hashes that prove nothing any more, or are not known here.
    Unusable,
}

/// A hash function that may name a certificate, weakest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// What a certificate chain is by what the domain publishes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The certificate is listed: proven.
    Match(Proof),
    /// The domain has other certificates: the stream should not go on (RFC 7711 §3.3).
    Mismatch(Mismatch),
    /// Nothing is listed by a hash that can be used, or it holds no longer: as if there were
    /// nothing.
    NoUsableMaterial,
}

/// Why a certificate is not one that the domain publishes.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Mismatch {
    /// It is listed, and yet cannot be used.
    #[error("certificate is one that the domain publishes by POSH, but: {0}")]
    Certificate(#[source] PkixError),
    /// The peer presented none.
    #[error("peer presented no certificate")]
    NoCertificate,
    /// It is not listed.
    #[error("certificate is none of the {0} that the domain publishes by POSH")]
    NotListed(usize),
}

/// Why the body of an answer says nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PoshError {
    /// Both kinds of document in one.
    #[error("POSH document has both \"url\" and \"fingerprints\"")]
    Both,
    /// A body of the older forms that holds no certificate.
    #[error("no certificate where one is published")]
    Certificate,
    /// "expires" is no whole number of seconds.
    #[error("POSH document: \"expires\" is missing or no whole number of seconds")]
    Expires,
    /// "expires" is 0.
    #[error("POSH document says that it holds no longer (\"expires\" is 0)")]
    Expired,
    /// A member of a descriptor is not the Base64 text of such a hash.
    #[error("POSH document: fingerprint {number} has no {hash} in Base64")]
    Fingerprint {
        /// Which one, from 1.
        number: usize,
        /// The hash function's name.
        hash: &'static str,
    },
    /// "fingerprints" is not a list of 1 to 100 objects.
    #[error("POSH document: \"fingerprints\" is not a list of 1 to {MAX_LISTED} objects")]
    Fingerprints,
    /// Not one JSON value, or one with a member named twice.
    #[error("POSH document is not JSON as it should be: {0}")]
    Json(String),
    /// A reference leads to another.
    #[error("POSH document refers to one that refers to a third")]
    Nested,
    /// Not a document of either kind.
    #[error("POSH document is no object with \"fingerprints\" or \"url\"")]
    Neither,
    /// More bytes than a document may have.
    #[error("POSH document has {0} bytes, too many")]
    TooLarge(usize),
    /// "url" is not an `https` URL.
    #[error("POSH document: \"url\" is no https URL")]
    Url,
}

impl Document {
    /// Reads the body of an answer.
    ///
    /// # Errors
    /// [`PoshError`]; nothing of the document counts then.
    pub fn parse(body: &[u8]) -> Result<Self, PoshError> {
        Self::of(&Json::parse(body)?)
    }

    /// Reads the body of an answer from the place of an older draft, `….json`: a document as
    /// today's, or keys with their certificates.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_older(body: &[u8]) -> Result<Self, PoshError> {
        let json = Json::parse(body)?;
        let mut document = match json.member("keys") {
            Some(keys) => Self::Fingerprints(older::keys(keys)?),
            None => Self::of(&json)?,
        };
        match &mut document {
            Self::Fingerprints(Fingerprints { lifetime, .. })
            | Self::Reference(Reference { lifetime, .. }) => {
                *lifetime = (*lifetime).min(older::LIFETIME);
            }
        }
        Ok(document)
    }

    /// Reads the body of an answer from the place of an older draft, `….cer`: one certificate, PEM
    /// or DER.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_certificate(body: &[u8]) -> Result<Self, PoshError> {
        Ok(Self::Fingerprints(older::certificate(body)?))
    }

    fn of(json: &Json) -> Result<Self, PoshError> {
        let lifetime = || match json.member("expires") {
            Some(Json::Number(Some(0))) => Err(PoshError::Expired),
            Some(Json::Number(Some(seconds))) => Ok(Duration::from_secs(*seconds)),
            Some(_) | None => Err(PoshError::Expires),
        };
        match (json.member("fingerprints"), json.member("url")) {
            (Some(_), Some(_)) => Err(PoshError::Both),
            (None, None) => Err(PoshError::Neither),
            (Some(list), None) => {
                let listed = descriptors(list)?;
                Ok(Self::Fingerprints(Fingerprints { listed, lifetime: lifetime()? }))
            }
            (None, Some(url)) => {
                let Json::Text(url) = url else { return Err(PoshError::Url) };
                let url = Url::parse(url).map_err(|_| PoshError::Url)?;
                if url.scheme() != "https" {
                    return Err(PoshError::Url);
                }
                Ok(Self::Reference(Reference { url, lifetime: lifetime()? }))
            }
        }
    }
}

impl Fingerprints {
    /// What holds from when the document was fetched: for as long as it says itself, the reference
    /// to it does if there was one, and never for more than a day (RFC 7711 §6).
    #[must_use]
    pub fn material(self, reference: Option<&Reference>, fetched: UnixTime) -> Material {
        let mut lifetime = self.lifetime.min(MAX_LIFETIME);
        if let Some(reference) = reference {
            lifetime = lifetime.min(reference.lifetime);
        }
        let expires = UnixTime::since_unix_epoch(
            Duration::from_secs(fetched.as_secs()).saturating_add(lifetime),
        );
        Material { listed: self.listed.into(), expires }
    }
}

impl Material {
    /// When it has to be fetched again.
    #[must_use]
    pub fn expires(&self) -> UnixTime {
        self.expires
    }

    /// How many certificates it names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.listed.len()
    }

    /// Whether it names none; there is no such document.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }
}

/// Judges the certificate chain of a server or a client, leaf first, by what the domain publishes;
/// the names in the certificate, and who issued it, do not matter (RFC 7711 §4). The proof is one
/// for the domain that published it alone (PO-8), until the certificate or the material expires.
#[must_use]
pub fn verify(
    chain: &[CertificateDer<'_>],
    material: &Material,
    domain: &Domain,
    now: UnixTime,
) -> Outcome {
    if now >= material.expires || material.listed.iter().all(|l| *l == Listed::Unusable) {
        return Outcome::NoUsableMaterial;
    }
    let Some(leaf) = chain.first() else { return Outcome::Mismatch(Mismatch::NoCertificate) };
    if !material.listed.iter().any(|listed| listed.names(leaf)) {
        return Outcome::Mismatch(Mismatch::NotListed(material.listed.len()));
    }
    match pkix::check_pinned(chain, now) {
        Ok(expires) => {
            let evidence = Evidence { dnssec: false, expires: expires.min(material.expires) };
            let fingerprint = Fingerprint::of(leaf);
            let proof = Proof::assertion(domain.clone(), Prooftype::Posh, fingerprint, evidence);
            Outcome::Match(proof)
        }
        Err(error) => Outcome::Mismatch(Mismatch::Certificate(error)),
    }
}

/// The fingerprints document to publish for these certificates, the one in use first (RFC 7711
/// §3.1, PO-11). `expires` is how long others may rely on it, in whole seconds.
#[must_use]
pub fn write(certificates: &[CertificateDer<'_>], expires: Duration) -> String {
    let descriptor = |certificate: &CertificateDer<'_>| {
        let der = certificate.as_ref();
        let [short, long] = [Hash::Sha256, Hash::Sha512].map(|hash| {
            format!("\"{}\": \"{}\"", hash.name(), BASE64_STANDARD.encode(hash.digest(der)))
        });
        format!("    {{\n      {short},\n      {long}\n    }}")
    };
    let descriptors: Vec<_> = certificates.iter().map(descriptor).collect();
    format!(
        "{{\n  \"fingerprints\": [\n{}\n  ],\n  \"expires\": {}\n}}\n",
        descriptors.join(",\n"),
        expires.as_secs()
    )
}

fn descriptors(list: &Json) -> Result<Vec<Listed>, PoshError> {
    let Json::List(list) = list else { return Err(PoshError::Fingerprints) };
    if !(1..=MAX_LISTED).contains(&list.len()) {
        return Err(PoshError::Fingerprints);
    }
    let mut listed = Vec::with_capacity(list.len());
    for (number, descriptor) in (1..).zip(list) {
        let Json::Object(members) = descriptor else { return Err(PoshError::Fingerprints) };
        let mut strongest = Listed::Unusable;
        let mut before = None;
        for (name, value) in members {
            let Some(hash) = Hash::named(name) else { continue };
            let wrong = PoshError::Fingerprint { number, hash: hash.name() };
            let Json::Text(text) = value else { return Err(wrong) };
            let Some(digest) = hash.decode(text) else { return Err(wrong) };
            // PO-5: whoever breaks the weaker one gains nothing
            if before.is_none_or(|before| before < hash) {
                strongest = Listed::Digest(hash, digest);
                before = Some(hash);
            }
        }
        listed.push(strongest);
    }
    Ok(listed)
}

impl Listed {
    fn names(&self, leaf: &CertificateDer<'_>) -> bool {
        match self {
            Self::Certificate(der) => **der == **leaf,
            Self::Digest(hash, digest) => *hash.digest(leaf) == **digest,
            Self::Unusable => false,
        }
    }
}

impl Hash {
    /// Its name among IANA's "Hash Function Textual Names".
    fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::Sha256, Self::Sha384, Self::Sha512].into_iter().find(|hash| hash.name() == name)
    }

    fn digest(self, der: &[u8]) -> Box<[u8]> {
        match self {
            Self::Sha256 => Sha256::digest(der).as_slice().into(),
            Self::Sha384 => Sha384::digest(der).as_slice().into(),
            Self::Sha512 => Sha512::digest(der).as_slice().into(),
        }
    }

    /// A hash out of Base64, whose padding may be missing, as it is in an example of RFC 7711 §3.1.
    fn decode(self, text: &str) -> Option<Box<[u8]>> {
        let digest = LENIENT.decode(text).ok()?;
        let length = match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        };
        (digest.len() == length).then(|| digest.into())
    }
}

/// RFC 4648 §4 with or without padding, and no bits left over.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// Bytes of a document (PO-9).
pub const MAX_SIZE: usize = 64 << 10;
/// Certificates in a document (PO-9).
const MAX_LISTED: usize = 100;
/// However long a document says that it holds (PO-3).
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);
