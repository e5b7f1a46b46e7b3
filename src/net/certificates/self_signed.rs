//! The self-signed certificate: what an installation without certificates shows to peers.
//!
//! It proves nothing, dialback carries the trust then; but it is kept, so that a peer which
//! remembers fingerprints sees the same one tomorrow. Where it has to be another, for a further domain
//! or because its time is over, it is for the same key: TLSA records may name that.

use std::{fmt, io, path::Path, time::Duration};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::UnixTime;
use x509_parser::time::ASN1Time;
use zeroize::Zeroizing;

use super::{CertificateError, Entry, pem};
use crate::{
    auth::pkix::Match, config::model::CertificateFiles, net::whole_file::replace, xmpp::Domain,
};

/// A certificate that was made and is not on the disk yet.
pub struct Unsaved {
    files: CertificateFiles,
    /// None if it is for the key that is there.
    key: Option<Zeroizing<String>>,
    certificate: String,
}

impl Unsaved {
    /// Whether it has a key of its own.
    #[must_use]
    pub fn has_new_key(&self) -> bool {
        self.key.is_some()
    }

    /// Puts it in the place of the one before.
    ///
    /// # Errors
    /// [`CertificateError::Write`].
    pub fn save(&self) -> Result<(), CertificateError> {
        // the key first: a certificate without its key is made again at the next start
        let key = self.key.as_ref().map(|key| (&self.files.key, key.as_str(), 0o600));
        let certificate = (&self.files.cert, self.certificate.as_str(), 0o644);
        for (path, text, mode) in key.into_iter().chain([certificate]) {
            replace(path, text, mode)
                .map_err(|source| CertificateError::Write { path: path.clone(), source })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Unsaved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unsaved").field("files", &self.files).finish_non_exhaustive()
    }
}

/// Takes the one in `state_dir` if it names all domains and is long valid, else makes it anew.
pub(super) fn load_or_make(
    domains: &[Domain],
    state_dir: &Path,
    now: UnixTime,
) -> Result<(Entry, Option<Unsaved>), CertificateError> {
    let files = files(state_dir);
    match Entry::load(&files) {
        Ok(entry) if covers(&entry, domains, now) => return Ok((entry, None)),
        // it may be good, and its key named by TLSA records
        Err(CertificateError::Read { path, source }) if is_unread(&source) => {
            return Err(CertificateError::Read { path, source });
        }
        // whatever else is wrong with the old one, a new one is the cure
        Ok(_) | Err(_) => {}
    }
    let (entry, unsaved) = make(domains, files, now)?;
    Ok((entry, Some(unsaved)))
}

/// Takes the one in `state_dir`, whatever it names.
pub(super) fn load(state_dir: &Path) -> Result<Entry, CertificateError> {
    Entry::load(&files(state_dir))
}

fn files(state_dir: &Path) -> CertificateFiles {
    CertificateFiles {
        cert: state_dir.join("self-signed.crt"),
        key: state_dir.join("self-signed.key"),
    }
}

fn covers(entry: &Entry, domains: &[Domain], now: UnixTime) -> bool {
    let lasts = entry.info.not_after > later(now, RENEW_BEFORE);
    let names = |domain| entry.presented.matches(domain) == Some(Match::Exact);
    entry.is_current(now) && lasts && domains.iter().all(names)
}

fn make(
    domains: &[Domain],
    files: CertificateFiles,
    now: UnixTime,
) -> Result<(Entry, Unsaved), CertificateError> {
    let names: Vec<_> = domains.iter().map(|domain| domain.as_str().to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "fedgate self-signed");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    // a peer's clock may be behind ours
    let yesterday = now.as_secs().saturating_sub(DAY.as_secs());
    if let (Some(from), Some(to)) = (date(yesterday), date(later(now, LIFETIME).as_secs())) {
        params.not_before = from.to_datetime();
        params.not_after = to.to_datetime();
    }
    let known = known_key(&files.key)?;
    let is_new = known.is_none();
    let key = known.map_or_else(KeyPair::generate, Ok)?;
    let certificate = params.self_signed(&key)?;
    let pem = Zeroizing::new(key.serialize_pem());
    let private = pem::private_key(pem.as_bytes())
        .ok_or_else(|| CertificateError::Key { path: files.key.clone() })?;
    let entry = Entry::new(vec![certificate.der().clone()], &private, &files)?;
    let key = is_new.then_some(pem);
    Ok((entry, Unsaved { files, key, certificate: certificate.pem() }))
}

/// The key that is there, if it can be used.
fn known_key(path: &Path) -> Result<Option<KeyPair>, CertificateError> {
    let text = match super::read(path) {
        Err(CertificateError::Read { path, source }) if is_unread(&source) => {
            return Err(CertificateError::Read { path, source });
        }
        text => text.ok(),
    };
    let private = text.and_then(|text| pem::private_key(&text));
    Ok(private.and_then(|private| KeyPair::try_from(&*private).ok()))
}

/// Whether a file may be as it should be, for all that is known of it.
fn is_unread(error: &io::Error) -> bool {
    !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::FileTooLarge)
}

fn later(now: UnixTime, by: Duration) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()) + by)
}

fn date(seconds: u64) -> Option<ASN1Time> {
    ASN1Time::from_timestamp(seconds.try_into().ok()?).ok()
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Ten years: nobody checks it, and a change would frighten peers that remember it.
const LIFETIME: Duration = DAY.saturating_mul(3650);

/// A start this long before its end makes a new one.
const RENEW_BEFORE: Duration = DAY.saturating_mul(30);
