//! TLSA records: what they say, and which of them can be used (RFC 6698 §2 and §4.1, RFC 7671 §9;
//! protocol rules DA-5, DA-6).
//!
//! Records are hostile input until DNSSEC has vouched for them, and the owner's own mistakes after
//! that: whatever cannot be understood is unusable, never an error.

use std::{fmt, sync::Arc};

use rustls::pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256, Sha512};
use x509_parser::{prelude::FromDer, x509::SubjectPublicKeyInfo};

use crate::auth::pkix::{self, Outline};

/// One TLSA record as it came. Shown as `3 1 1 aa55…`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TlsaRecord {
    /// What the record is about, by number.
    pub usage: u8,
    /// Which part of the certificate, by number.
    pub selector: u8,
    /// How it is given, by number.
    pub matching: u8,
    /// The certificate association data.
    pub data: Box<[u8]>,
}

/// The TLSA records of one endpoint, of which DNSSEC has shown that they are its owner's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsaSet {
    /// The host under whose name they stand: the target, or what it is securely an alias of.
    pub base: Arc<str>,
    /// The records.
    pub records: Vec<TlsaRecord>,
    /// When they have to be asked for again.
    pub expires: UnixTime,
}

/// The certificate usages (RFC 6698 §2.1.1, RFC 7218).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Usage {
    PkixTa,
    PkixEe,
    DaneTa,
    DaneEe,
}

/// The selectors (RFC 6698 §2.1.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Selector {
    Certificate,
    Key,
}

/// The matching types (RFC 6698 §2.1.3), in order of strength.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Matching {
    Full,
    Sha256,
    Sha512,
}

/// A record that can be used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usable<'a> {
    pub(super) usage: Usage,
    pub(super) selector: Selector,
    pub(super) matching: Matching,
    pub(super) data: &'a [u8],
}

impl TlsaSet {
    /// Whether any record can be used; a set without is as good as none (RFC 7673 §4.1).
    #[must_use]
    pub fn has_usable(&self) -> bool {
        self.records.iter().any(|record| record.usable().is_some())
    }

    /// The records to match against: the usable ones, and of those with digests only the
    /// strongest of each usage and selector (DA-6).
    pub(super) fn usable(&self) -> Vec<Usable<'_>> {
        let all: Vec<_> =
            self.records.iter().filter_map(TlsaRecord::usable).take(MAX_RECORDS).collect();
        let strongest = |record: &Usable<'_>| {
            let like = |other: &&Usable<'_>| {
                (other.usage, other.selector) == (record.usage, record.selector)
            };
            all.iter().filter(like).map(|other| other.matching).max()
        };
        let is_kept = |record: &&Usable<'_>| {
            record.matching == Matching::Full || Some(record.matching) == strongest(record)
        };
        all.iter().filter(is_kept).copied().collect()
    }
}

impl TlsaRecord {
    /// The record to publish for a key, given as `SubjectPublicKeyInfo`: `3 1 1`, which outlives
    /// the certificate (RFC 7671 §5.1; DA-13).
    #[must_use]
    pub fn of_key(key: &[u8]) -> Self {
        Self { usage: 3, selector: 1, matching: 1, data: Sha256::digest(key).as_slice().into() }
    }

    fn usable(&self) -> Option<Usable<'_>> {
        let usage = match self.usage {
            0 => Usage::PkixTa,
            1 => Usage::PkixEe,
            2 => Usage::DaneTa,
            3 => Usage::DaneEe,
            _ => return None,
        };
        let selector = match self.selector {
            0 => Selector::Certificate,
            1 => Selector::Key,
            _ => return None,
        };
        let data = &*self.data;
        let (matching, fits) = match self.matching {
            0 => (
                Matching::Full,
                match selector {
                    Selector::Certificate => pkix::parse(&CertificateDer::from(data)).is_ok(),
                    Selector::Key => {
                        matches!(SubjectPublicKeyInfo::from_der(data), Ok((rest, _)) if rest.is_empty())
                    }
                },
            ),
            1 => (Matching::Sha256, data.len() == Sha256::output_size()),
            2 => (Matching::Sha512, data.len() == Sha512::output_size()),
            _ => return None,
        };
        fits.then_some(Usable { usage, selector, matching, data })
    }
}

impl Usable<'_> {
    /// Whether the record means this certificate. Where it means a key nothing else in the
    /// certificate is read, so that nothing else can be in its way (RFC 7671 §5.1).
    pub(super) fn matches(&self, certificate: &CertificateDer<'_>) -> bool {
        match self.selector {
            Selector::Certificate => self.is(certificate),
            Selector::Key => {
                Outline::of(certificate).is_some_and(|outline| self.is(outline.public_key))
            }
        }
    }

    fn is(&self, selected: &[u8]) -> bool {
        match self.matching {
            Matching::Full => self.data == selected,
            Matching::Sha256 => self.data == Sha256::digest(selected).as_slice(),
            Matching::Sha512 => self.data == Sha512::digest(selected).as_slice(),
        }
    }
}

impl fmt::Display for TlsaRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ", self.usage, self.selector, self.matching)?;
        self.data.iter().take(SHOWN).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        if self.data.len() > SHOWN {
            f.write_str("…")?;
        }
        Ok(())
    }
}

/// Usable records of one set that are looked at.
const MAX_RECORDS: usize = 32;

/// Bytes of the data that are shown: all of a SHA-512 digest.
const SHOWN: usize = 64;
