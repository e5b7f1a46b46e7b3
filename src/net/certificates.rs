//! Our own certificates: which files they come from, and which one is shown to whom.
//!
//! A [`CertificateStore`] is immutable; a changed file means a new store, and one that cannot be
//! loaded leaves the old in place (a certificate and its key arrive one after the other).
//! Choice by RFC 6120 §5.4.3.1 and RFC 7590 §3.5 (TLS-6), the outbound one by SH-3. With no file
//! configured a self-signed certificate for all local domains is made and kept.

mod key;
mod pem;
mod self_signed;
#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    InconsistentKeys,
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    sign::CertifiedKey,
};
use zeroize::Zeroizing;

pub use self::{key::PublishedKey, self_signed::Unsaved};
use super::secret::read_wiped;
use crate::{
    auth::pkix::{self, CertificateInfo, PkixError, Presented},
    config::model::CertificateFiles,
    xmpp::Domain,
};

/// Our certificates with their keys; never empty.
#[derive(Debug)]
pub struct CertificateStore {
    entries: Vec<Entry>,
    local_domains: Vec<Domain>,
    files: Vec<PathBuf>,
    unsaved: Option<Unsaved>,
}

#[derive(Debug)]
struct Entry {
    key: Arc<CertifiedKey>,
    presented: Presented,
    info: CertificateInfo,
    /// What it is for, if not for servers.
    foreign_purposes: Option<String>,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// What stands in the file is no certificate.
    #[error("{}: {source}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: PkixError,
    },
    /// The key is of a kind that cannot be used.
    #[error("{}: private key of an unknown kind", path.display())]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// A self-signed certificate could not be made.
    #[error("make a self-signed certificate")]
    Make(#[from] rcgen::Error),
    /// The key belongs to another certificate, or the leaf is not the first.
    #[error(
        "the private key in {} is not that of the first certificate in {}",
        key.display(),
        cert.display()
    )]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// No certificate in the file.
    #[error("{}: no certificate in PEM format", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// No key in the file, or only an encrypted one.
    #[error("{}: no unencrypted private key in PEM format", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The self-signed certificate cannot be kept.
    #[error("write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What an operator should look into by day.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CertificateWarning {
    /// Out of date.
    #[error("{}: certificate expired on {}", path.display(), pkix::utc(*since))]
    Expired {
        /// The file.
        path: PathBuf,
        /// Its `notAfter`.
        since: UnixTime,
    },
    /// Should have been renewed.
    #[error("{}: certificate expires on {}", path.display(), pkix::utc(*at))]
    ExpiresSoon {
        /// The file.
        path: PathBuf,
        /// Its `notAfter`.
        at: UnixTime,
    },
    /// Its time has not come.
    #[error("{}: certificate is not valid before {}", path.display(), pkix::utc(*from))]
    NotYetValid {
        /// The file.
        path: PathBuf,
        /// Its `notBefore`.
        from: UnixTime,
    },
    /// Local domains that no certificate names.
    #[error("no certificate for the local {}", names(domains))]
    Uncovered {
        /// The domains, at least one.
        domains: Vec<Domain>,
    },
    /// Peers accept serverAuth in either direction and nothing else (EKU-1).
    #[error("{}: certificate is not for servers, only for {purposes}", path.display())]
    WrongPurpose {
        /// The file.
        path: PathBuf,
        /// What it is for.
        purposes: String,
    },
}

impl CertificateStore {
    /// Loads the configured files; without any, the self-signed certificate in `state_dir`, or one
    /// that is made now if there is none for these domains: see [`take_unsaved`](Self::take_unsaved).
    ///
    /// # Errors
    /// [`CertificateError`] for the first pair that cannot be used.
    pub fn load(
        files: &[CertificateFiles],
        local_domains: &[Domain],
        state_dir: &Path,
    ) -> Result<(Self, Vec<CertificateWarning>), CertificateError> {
        Self::assemble(files, local_domains, |now| {
            self_signed::load_or_make(local_domains, state_dir, now)
        })
    }

    /// The same, but nothing is made: for commands beside the running fedgate, which may run as
    /// another user than the one that the files must belong to.
    ///
    /// # Errors
    /// [`CertificateError`]; without configured files also for a self-signed certificate that is
    /// not there yet.
    pub fn load_existing(
        files: &[CertificateFiles],
        local_domains: &[Domain],
        state_dir: &Path,
    ) -> Result<(Self, Vec<CertificateWarning>), CertificateError> {
        Self::assemble(files, local_domains, |_| {
            self_signed::load(state_dir).map(|entry| (entry, None))
        })
    }

    fn assemble(
        files: &[CertificateFiles],
        local_domains: &[Domain],
        self_signed: impl FnOnce(UnixTime) -> Result<(Entry, Option<Unsaved>), CertificateError>,
    ) -> Result<(Self, Vec<CertificateWarning>), CertificateError> {
        let now = UnixTime::now();
        let mut entries = Vec::new();
        let (mut warnings, mut unsaved) = (Vec::new(), None);
        if files.is_empty() {
            let (entry, made) = self_signed(now)?;
            entries.push(entry);
            unsaved = made;
        }
        for pair in files {
            let entry = Entry::load(pair)?;
            entry.warn(&pair.cert, now, &mut warnings);
            entries.push(entry);
        }
        let store = Self {
            entries,
            local_domains: local_domains.to_vec(),
            files: files.iter().flat_map(|pair| [pair.cert.clone(), pair.key.clone()]).collect(),
            unsaved,
        };
        let uncovered = local_domains.iter().filter(|domain| store.find(domain).is_none());
        let domains: Vec<_> = uncovered.cloned().collect();
        if !domains.is_empty() {
            warnings.push(CertificateWarning::Uncovered { domains });
        }
        Ok((store, warnings))
    }

    /// The certificate that was made, if one was: to be saved once it is in use, so that who decides
    /// otherwise leaves the one before.
    pub fn take_unsaved(&mut self) -> Option<Unsaved> {
        self.unsaved.take()
    }

    /// The certificate for a peer that connects: by SNI if one names it, else by the stream
    /// header's `to`, else the first one.
    #[must_use]
    pub fn select(&self, sni: Option<&str>, to: Option<&Domain>) -> Arc<CertifiedKey> {
        Arc::clone(&self.entries[self.select_index(sni, to)].key)
    }

    /// The certificate to show a peer that we connect to for this local domain, the same that it
    /// would see when it connects to us: where none names the domain the first one, which may name
    /// the host that signed SRV records delegate to (RFC 7712 §5.1, RFC 7673 §4.1).
    #[must_use]
    pub fn for_domain(&self, domain: &Domain) -> Arc<CertifiedKey> {
        self.select(None, Some(domain))
    }

    /// Whether any certificate names this domain.
    #[must_use]
    pub fn names(&self, domain: &Domain) -> bool {
        self.find(domain).is_some()
    }

    /// What peers read in the certificate that they see of this local domain; none if none names it.
    #[must_use]
    pub fn info(&self, domain: &Domain) -> Option<&CertificateInfo> {
        self.find(domain).and_then(|index| self.entries.get(index)).map(|entry| &entry.info)
    }

    /// Whether a server name is one of ours: a local domain, or named by a certificate.
    #[must_use]
    pub fn hosts(&self, sni: &str) -> bool {
        Domain::parse(sni).is_ok_and(|domain| {
            self.local_domains.contains(&domain) || self.find(&domain).is_some()
        })
    }

    /// The configured files, whose change calls for a new store.
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Arc<CertifiedKey>> {
        self.entries.iter().map(|entry| &entry.key)
    }

    pub(super) fn select_index(&self, sni: Option<&str>, to: Option<&Domain>) -> usize {
        self.select_at(UnixTime::now(), sni, to)
    }

    fn select_at(&self, now: UnixTime, sni: Option<&str>, to: Option<&Domain>) -> usize {
        let by_sni = || self.find_at(now, &Domain::parse(sni?).ok()?);
        let first = || self.entries.iter().position(|entry| entry.is_current(now));
        by_sni().or_else(|| self.find_at(now, to?)).or_else(first).unwrap_or_default()
    }

    /// The best certificate for a domain: one in date, by its exact name, the first configured.
    pub(super) fn find(&self, domain: &Domain) -> Option<usize> {
        self.find_at(UnixTime::now(), domain)
    }

    fn find_at(&self, now: UnixTime, domain: &Domain) -> Option<usize> {
        let rank = |(index, entry): (usize, &Entry)| {
            let closeness = entry.presented.matches(domain)?;
            Some((!entry.is_current(now), closeness, index))
        };
        self.entries.iter().enumerate().filter_map(rank).min().map(|(_, _, index)| index)
    }
}

impl Entry {
    fn load(files: &CertificateFiles) -> Result<Self, CertificateError> {
        let CertificateFiles { cert, key } = files;
        let pem = read(cert)?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .ok()
            .filter(|chain: &Vec<_>| !chain.is_empty())
            .ok_or_else(|| CertificateError::NoCertificate { path: cert.clone() })?;
        let pem = read(key)?;
        let private =
            pem::private_key(&pem).ok_or_else(|| CertificateError::NoKey { path: key.clone() })?;
        Self::new(chain, &private, files)
    }

    /// Takes a chain and the key of its leaf; the files are for messages.
    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKeyDer<'static>,
        files: &CertificateFiles,
    ) -> Result<Self, CertificateError> {
        let path = || files.cert.clone();
        let bad = |source| CertificateError::Certificate { path: path(), source };
        let leaf = chain.first().ok_or_else(|| CertificateError::NoCertificate { path: path() })?;
        let info = CertificateInfo::of(leaf).map_err(bad)?;
        let parsed = pkix::parse(leaf).map_err(bad)?;
        let presented = Presented::of(&parsed).map_err(bad)?;
        let foreign_purposes = pkix::foreign_purposes(&parsed);
        let key = any_supported_type(key)
            .map_err(|_| CertificateError::Key { path: files.key.clone() })?;
        let key = CertifiedKey::new(chain, key);
        match key.keys_match() {
            Ok(()) => {}
            Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                return Err(CertificateError::Mismatch {
                    cert: files.cert.clone(),
                    key: files.key.clone(),
                });
            }
            Err(_) => return Err(bad(PkixError::Malformed)),
        }
        Ok(Self { key: Arc::new(key), presented, info, foreign_purposes })
    }

    fn is_current(&self, now: UnixTime) -> bool {
        self.info.not_before <= now && now <= self.info.not_after
    }

    fn warn(&self, path: &Path, now: UnixTime, warnings: &mut Vec<CertificateWarning>) {
        let path = || path.to_owned();
        let info = &self.info;
        if info.not_after < now {
            warnings.push(CertificateWarning::Expired { path: path(), since: info.not_after });
        } else if info.not_before > now {
            warnings.push(CertificateWarning::NotYetValid { path: path(), from: info.not_before });
        } else if info.is_due(now) {
            warnings.push(CertificateWarning::ExpiresSoon { path: path(), at: info.not_after });
        }
        if let Some(purposes) = self.foreign_purposes.clone() {
            warnings.push(CertificateWarning::WrongPurpose { path: path(), purposes });
        }
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, CertificateError> {
    read_file(path).map_err(|source| CertificateError::Read { path: path.to_owned(), source })
}

/// Reads a PEM file, of bounded size, into memory that is wiped.
pub(super) fn read_file(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    read_wiped(&File::open(path)?, MAX_FILE)
}

/// The first of many domains: a provider may have thousands.
fn names(domains: &[Domain]) -> String {
    let mut text = String::from(if domains.len() == 1 { "domain" } else { "domains" });
    for (n, domain) in domains.iter().take(MAX_NAMED).enumerate() {
        text.push_str(if n == 0 { " " } else { ", " });
        text.push_str(domain.as_str());
    }
    match domains.len().checked_sub(MAX_NAMED) {
        None | Some(0) => text,
        Some(more) => format!("{text} and {more} more"),
    }
}

/// Domains that one warning names.
const MAX_NAMED: usize = 8;

/// Bytes of a PEM file; a system's whole root bundle has a quarter of a million.
const MAX_FILE: u64 = 4 * 1024 * 1024;
