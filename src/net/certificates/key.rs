//! What of a certificate or key is published: never a private part.

use std::path::Path;

use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::{CertificateError, pem, read};
use crate::auth::pkix;

/// A key of ours as the world is told of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublishedKey {
    /// Its certificate; none where there is only the key yet.
    pub certificate: Option<CertificateDer<'static>>,
    /// The public key, as `SubjectPublicKeyInfo`.
    pub key: Vec<u8>,
}

impl PublishedKey {
    /// The key of a certificate.
    ///
    /// # Errors
    /// [`CertificateError::Certificate`] if it cannot be read; `path` is for the message.
    pub fn of(certificate: &CertificateDer<'_>, path: &Path) -> Result<Self, CertificateError> {
        let parsed = pkix::parse(certificate)
            .map_err(|source| CertificateError::Certificate { path: path.to_owned(), source })?;
        let key = parsed.public_key().raw.to_vec();
        Ok(Self { certificate: Some(certificate.clone().into_owned()), key })
    }

    /// The first certificate of a PEM file, or else its private key.
    ///
    /// # Errors
    /// [`CertificateError`] if there is neither, or neither can be used.
    pub fn load(path: &Path) -> Result<Self, CertificateError> {
        let pem = read(path)?;
        if let Some(Ok(certificate)) = CertificateDer::pem_slice_iter(&pem).next() {
            return Self::of(&certificate, path);
        }
        let private = pem::private_key(&pem)
            .ok_or_else(|| CertificateError::NoKey { path: path.to_owned() })?;
        let unusable = || CertificateError::Key { path: path.to_owned() };
        let private = any_supported_type(&private).map_err(|_| unusable())?;
        let key = private.public_key().ok_or_else(unusable)?.to_vec();
        Ok(Self { certificate: None, key })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::auth::pkix::testing::{San, self_signed};

    #[test]
    fn a_certificate_and_its_key_are_published_alike() {
        let dir = tempfile::tempdir().unwrap();
        let issued = self_signed(&[San::Dns("a.example")], |_| {});
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let by_certificate = PublishedKey::load(&file("a.crt", &issued.pem)).unwrap();
        let by_key = PublishedKey::load(&file("a.key", &issued.key.serialize_pem())).unwrap();
        assert_eq!(by_certificate.key, by_key.key);
        assert!(by_certificate.certificate.is_some() && by_key.certificate.is_none());
        let error = PublishedKey::load(&file("none", "nothing")).unwrap_err();
        assert!(matches!(error, CertificateError::NoKey { .. }), "{error}");
    }
}
