//! Reads the trust roots that the configuration names.
//!
//! A file that is named and cannot be used is an error, since peers would silently become
//! untrusted; the system's store is taken as it is, with a warning for what is wrong in it, unless
//! nothing of it can be read where it could be before.

use std::{io, path::PathBuf};

use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls_native_certs::{CertificateResult, load_native_certs};

use super::certificates::read_file;
use crate::{auth::pkix::TrustRoots, config::model::Roots};

/// Why trust roots cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// A certificate in a file is none.
    #[error("{}: certificate {number} cannot be used as a trust root", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Which one in it, from 1.
        number: usize,
    },
    /// A file without certificates.
    #[error("{}: no certificate in PEM format", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A file that is not there or may not be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nothing of the system's store can be read.
    #[error("system trust roots: {0}")]
    System(String),
}

/// What it is if nothing of the system's store can be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unread {
    /// An error: who was trusted until now would silently not be.
    Error,
    /// A warning: fedgate serves with dialback alone as well.
    Warning,
}

/// What an operator should know about the trust roots.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RootsWarning {
    /// No root from any source.
    #[error("no trust roots: no peer can be proven by its certificate")]
    None,
    /// The system's store is not wholly readable.
    #[error("system trust roots: {0}")]
    System(String),
}

/// Reads all sources together.
///
/// # Errors
/// [`RootsError`] for the first file that cannot be used.
pub fn load(
    sources: &[Roots],
    unread: Unread,
) -> Result<(TrustRoots, Vec<RootsWarning>), RootsError> {
    let mut roots = TrustRoots::new();
    let mut warnings = Vec::new();
    for source in sources {
        match source {
            Roots::System => add(&load_native_certs(), unread, &mut roots, &mut warnings)?,
            Roots::File(path) => {
                let pem = read_file(path)
                    .map_err(|source| RootsError::Read { path: path.clone(), source })?;
                let before = roots.len();
                for (i, certificate) in CertificateDer::pem_slice_iter(&pem).enumerate() {
                    let added = certificate.ok().map(|certificate| roots.add(&certificate));
                    let Some(Ok(())) = added else {
                        return Err(RootsError::Certificate { path: path.clone(), number: i + 1 });
                    };
                }
                if roots.len() == before {
                    return Err(RootsError::Empty { path: path.clone() });
                }
            }
        }
    }
    if roots.is_empty() {
        warnings.push(RootsWarning::None);
    }
    Ok((roots, warnings))
}

/// Adds what there is of the system's store.
fn add(
    system: &CertificateResult,
    unread: Unread,
    roots: &mut TrustRoots,
    warnings: &mut Vec<RootsWarning>,
) -> Result<(), RootsError> {
    if unread == Unread::Error
        && system.certs.is_empty()
        && let Some(error) = system.errors.first()
    {
        return Err(RootsError::System(error.to_string()));
    }
    let errors = system.errors.iter().take(MAX_WARNINGS);
    warnings.extend(errors.map(|error| RootsWarning::System(error.to_string())));
    for certificate in &system.certs {
        if let Err(error) = roots.add(certificate)
            && warnings.len() < MAX_WARNINGS
        {
            warnings.push(RootsWarning::System(error.to_string()));
        }
    }
    Ok(())
}

/// Complaints about the system's store; a broken one has hundreds.
const MAX_WARNINGS: usize = 4;

#[cfg(test)]
mod tests {
    use std::fs;

    use rustls_native_certs::load_certs_from_paths;

    use super::*;
    use crate::auth::pkix::testing::{San, self_signed};

    #[test]
    fn files_are_read_together_and_what_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            Roots::File(path)
        };
        let a = self_signed(&[San::Dns("a.example")], |_| {}).pem;
        let b = self_signed(&[San::Dns("b.example")], |_| {}).pem;
        let not_x509 = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

        let load = |sources: &[Roots]| load(sources, Unread::Error);
        let (roots, warnings) = load(&[
            file("two.pem", &format!("{a}{b}")),
            file("one.pem", &format!("# a comment\n{a}")),
        ])
        .unwrap();
        assert_eq!((roots.len(), warnings), (3, vec![]));

        let error = load(&[file("bad.pem", &format!("{a}{not_x509}"))]).unwrap_err();
        assert!(
            error.to_string().ends_with("bad.pem: certificate 2 cannot be used as a trust root")
        );
        let error = load(&[file("empty.pem", "")]).unwrap_err();
        assert!(error.to_string().ends_with("empty.pem: no certificate in PEM format"));
        assert!(matches!(
            load(&[Roots::File(dir.path().join("missing.pem"))]),
            Err(RootsError::Read { .. })
        ));
    }

    #[test]
    fn no_roots_at_all_are_a_warning() {
        assert_eq!(load(&[], Unread::Error).unwrap().1, [RootsWarning::None]);
    }

    #[test]
    fn a_system_store_of_which_nothing_can_be_read_is_an_error_where_it_was_read_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("a.pem"), self_signed(&[San::Dns("a.example")], |_| {}).pem).unwrap();
        let store = |file: &str, directory: &str| {
            load_certs_from_paths(Some(&path(file)), Some(&path(directory)))
        };
        let add = |store: &CertificateResult, unread| {
            let (mut roots, mut warnings) = (TrustRoots::new(), Vec::new());
            add(store, unread, &mut roots, &mut warnings).map(|()| (roots.len(), warnings.len()))
        };
        let gone = store("none.pem", "none");
        let error = add(&gone, Unread::Error).unwrap_err().to_string();
        assert!(error.starts_with("system trust roots: failed to read PEM from file: "), "{error}");
        assert_eq!(add(&gone, Unread::Warning).unwrap(), (0, 2));
        assert_eq!(add(&store("a.pem", "none"), Unread::Error).unwrap(), (1, 1));
        // a host without any
        assert_eq!(add(&CertificateResult::default(), Unread::Error).unwrap(), (0, 0));
    }
}
