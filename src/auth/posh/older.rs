//! The bodies of drafts before RFC 7711 (PO-12): JSON Web Keys with certificates, and a certificate
//! alone. They have no "expires"; thumbprints (`x5t`) are SHA-1 and never count.

use std::time::Duration;

use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{Fingerprints, LENIENT, Listed, MAX_LISTED, MAX_SIZE, PoshError, json::Json};
use crate::auth::pkix;

/// The certificates of a list of keys, the first of each chain
/// (draft-miller-xmpp-posh-prooftype-02 §3).
pub(super) fn keys(keys: &Json) -> Result<Fingerprints, PoshError> {
    let Json::List(keys) = keys else { return Err(PoshError::Certificate) };
    let mut listed = Vec::new();
    for key in keys.iter().take(MAX_LISTED) {
        let Some(Json::List(chain)) = key.member("x5c") else { continue };
        let Some(Json::Text(leaf)) = chain.first() else { return Err(PoshError::Certificate) };
        // the drafts say base64url, today's JSON Web Keys base64 (RFC 7517 §4.7)
        let der = BASE64_URL.decode(leaf).or_else(|_| LENIENT.decode(leaf));
        listed.push(whole(der.map_err(|_| PoshError::Certificate)?)?);
    }
    match listed.is_empty() {
        true => Err(PoshError::Certificate),
        false => Ok(Fingerprints { listed, lifetime: LIFETIME }),
    }
}

/// A certificate, PEM or DER (draft-miller-xmpp-dna-00 §5.3).
pub(super) fn certificate(body: &[u8]) -> Result<Fingerprints, PoshError> {
    if body.len() > MAX_SIZE {
        return Err(PoshError::TooLarge(body.len()));
    }
    let der = match CertificateDer::from_pem_slice(body) {
        Ok(certificate) => certificate.as_ref().to_vec(),
        Err(_) => body.to_vec(),
    };
    Ok(Fingerprints { listed: vec![whole(der)?], lifetime: LIFETIME })
}

fn whole(der: Vec<u8>) -> Result<Listed, PoshError> {
    match pkix::parse(&CertificateDer::from(&*der)) {
        Ok(_) => Ok(Listed::Certificate(der.into())),
        Err(_) => Err(PoshError::Certificate),
    }
}

const BASE64_URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// How long they hold at most; most do not say it.
pub(super) const LIFETIME: Duration = Duration::from_secs(3600);
