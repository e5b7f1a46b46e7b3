//! A certificate authority that exists for one run, and issues what public ones issue today:
//! certificates for servers, with `serverAuth` and nothing else in their extended key usage.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// A root CA with its key, which never leaves the process.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: PathBuf,
}

/// The files of a certificate and its key, PEM.
pub(crate) struct Issued {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    /// Makes the CA and writes its certificate into `directory`.
    pub(crate) fn new(directory: &Path) -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "CA of the fedgate demo");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let root = directory.join("ca.pem");
        fs::write(&root, params.self_signed(&key)?.pem())?;
        Ok(Self { issuer: Issuer::new(params, key), root })
    }

    /// The file that whoever trusts this CA names as trust root.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Issues a certificate for `domain` and writes it and its key into `directory`.
    pub(crate) fn issue(&self, domain: &str, directory: &Path) -> anyhow::Result<Issued> {
        let mut params = CertificateParams::new([domain.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, domain);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let issued = Issued {
            cert: directory.join(format!("{domain}.crt")),
            key: directory.join(format!("{domain}.key")),
        };
        fs::write(&issued.cert, params.signed_by(&key, &self.issuer)?.pem())?;
        fs::write(&issued.key, key.serialize_pem())?;
        Ok(issued)
    }
}
