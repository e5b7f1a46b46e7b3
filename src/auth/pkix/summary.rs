//! Certificates as an operator wants to read them: dates, names, issuer, fingerprint.
//!
//! All text out of a certificate passes through [`bounded`]: no control characters, no endless
//! names in our logs.

use std::{fmt, time::Duration};

use rustls::pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};
use x509_parser::{asn1_rs::oid, prelude::X509Certificate, time::ASN1Time, x509::X509Name};

use super::{PkixError, Presented, parse};

/// SHA-256 of a certificate's DER; shown in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

/// What a log line says of a certificate (TLS-15). Claims only: nothing here is verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateInfo {
    /// DNS-IDs, SRV-IDs and XmppAddrs, the first of them if there are many.
    pub names: String,
    /// The subject's name; it counts for nothing.
    pub subject: String,
    /// The issuer's name, or `self-signed`.
    pub issuer: String,
    /// The extended key usages; none: for any purpose.
    pub purposes: Option<String>,
    /// When it becomes valid.
    pub not_before: UnixTime,
    /// When it expires.
    pub not_after: UnixTime,
    /// What tells it from all others.
    pub fingerprint: Fingerprint,
}

impl Fingerprint {
    /// The fingerprint of a certificate.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate.as_ref()).into())
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl CertificateInfo {
    /// Reads a certificate.
    ///
    /// # Errors
    /// [`PkixError::Malformed`] if it cannot be read.
    pub fn of(der: &CertificateDer<'_>) -> Result<Self, PkixError> {
        let certificate = parse(der)?;
        let self_issued = certificate.subject().as_raw() == certificate.issuer().as_raw();
        Ok(Self {
            names: Presented::of(&certificate)?.to_string(),
            subject: name(certificate.subject()),
            purposes: purposes(&certificate),
            issuer: if self_issued { "self-signed".to_owned() } else { name(certificate.issuer()) },
            not_before: not_before(&certificate),
            not_after: not_after(&certificate),
            fingerprint: Fingerprint::of(der),
        })
    }

    /// Whether it should have been renewed: renewal comes with a third of the lifetime left, which
    /// is a month for one of 90 days and two days for one of six.
    #[must_use]
    pub fn is_due(&self, now: UnixTime) -> bool {
        let lifetime = self.not_after.as_secs().saturating_sub(self.not_before.as_secs());
        let margin = Duration::from_secs(lifetime / 5).min(MAX_MARGIN);
        self.not_after.as_secs() < now.as_secs() + margin.as_secs()
    }
}

pub(super) fn not_before(certificate: &X509Certificate<'_>) -> UnixTime {
    unix(certificate.validity().not_before)
}

pub(super) fn not_after(certificate: &X509Certificate<'_>) -> UnixTime {
    unix(certificate.validity().not_after)
}

/// Dates before 1970 are 1970.
fn unix(time: ASN1Time) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(time.timestamp().try_into().unwrap_or(0)))
}

/// `2026-03-01 12:00:00 UTC`.
pub(crate) fn utc(time: UnixTime) -> String {
    let seconds = time.as_secs();
    let Ok(time) = ASN1Time::from_timestamp(seconds.try_into().unwrap_or(i64::MAX)) else {
        return format!("second {seconds} after 1970");
    };
    let t = time.to_datetime();
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02} UTC",
        t.year(),
        u8::from(t.month()),
        t.day(),
        t.hour(),
        t.minute(),
        t.second()
    )
}

/// A distinguished name.
pub(super) fn name(name: &X509Name<'_>) -> String {
    bounded(&name.to_string())
}

/// The purposes of a certificate that is not for servers; none if it is.
pub(crate) fn foreign_purposes(certificate: &X509Certificate<'_>) -> Option<String> {
    let usage = certificate.extended_key_usage().ok()??.value;
    if usage.server_auth || usage.any { None } else { purposes(certificate) }
}

/// The purposes that a certificate is restricted to, if it is.
fn purposes(certificate: &X509Certificate<'_>) -> Option<String> {
    let purposes = certificate.extended_key_usage().ok()??.value;
    let known = [
        (purposes.any, "any"),
        (purposes.server_auth, "serverAuth"),
        (purposes.client_auth, "clientAuth"),
        (purposes.code_signing, "codeSigning"),
        (purposes.email_protection, "emailProtection"),
        (purposes.time_stamping, "timeStamping"),
        (purposes.ocsp_signing, "OCSPSigning"),
    ];
    let mut words: Vec<_> =
        known.into_iter().filter(|(is, _)| *is).map(|(_, word)| word.to_owned()).collect();
    words.extend(purposes.other.iter().take(MAX_SHOWN).map(ToString::to_string));
    Some(bounded(&words.join(", ")))
}

/// Whether a certificate is signed with MD2, MD5 or SHA-1 (RFC 9325 §4.1).
pub(super) fn is_signed_weakly(certificate: &X509Certificate<'_>) -> bool {
    let weak = [
        oid!(1.2.840.113549.1.1.2), // md2WithRSAEncryption (RFC 3279 §2.2)
        oid!(1.2.840.113549.1.1.4), // md5WithRSAEncryption
        oid!(1.2.840.113549.1.1.5), // sha1WithRSAEncryption
        oid!(1.3.14.3.2.29),        // the same, obsolete
        oid!(1.2.840.10040.4.3),    // dsa-with-sha1
        oid!(1.2.840.10045.4.1),    // ecdsa-with-SHA1
    ];
    weak.contains(&certificate.signature_algorithm.algorithm)
}

/// Text from outside made fit for a log line: printable, and short.
pub(in crate::auth) fn bounded(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if out.len() > MAX_TEXT {
            out.push('…');
            break;
        }
        out.extend(c.escape_debug());
    }
    out
}

/// Bytes of one text shown.
const MAX_TEXT: usize = 128;

/// Items of a list shown.
pub(super) const MAX_SHOWN: usize = 8;

/// How early, at most, an expiry is announced.
const MAX_MARGIN: Duration = Duration::from_secs(14 * 24 * 60 * 60);
