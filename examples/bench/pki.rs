//! Certificates for one run, and TLS as all sides of it do it: mutual, with rustls and aws-lc, no
//! session resumption and no tickets, which is how fedgate does it.

use std::{fs, path::Path, sync::Arc};

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};

/// The CA's file in a directory.
pub(crate) const CA: &str = "ca.pem";

/// A certificate with its key, and the CA that everybody trusts.
pub(crate) struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Arc<RootCertStore>,
}

/// Makes a CA and certificates for these names, each in `NAME.crt` and `NAME.key` under the first
/// label that is no `*`.
pub(crate) fn make(directory: &Path, identities: &[(&str, &[&str])]) -> anyhow::Result<()> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "CA of the benchmark");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    fs::write(directory.join(CA), ca.pem())?;
    for (file, names) in identities {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, *file);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        fs::write(directory.join(format!("{file}.crt")), params.signed_by(&key, &ca)?.pem())?;
        fs::write(directory.join(format!("{file}.key")), key.serialize_pem())?;
    }
    Ok(())
}

impl Identity {
    /// Reads what [`make`] wrote.
    pub(crate) fn read(directory: &Path, name: &str) -> anyhow::Result<Self> {
        let at = |file: &str| directory.join(file);
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(at(CA)).context(CA)?)?;
        let chain = vec![CertificateDer::from_pem_file(at(&format!("{name}.crt")))?];
        let key = PrivateKeyDer::from_pem_file(at(&format!("{name}.key")))?;
        Ok(Self { chain, key, roots: Arc::new(roots) })
    }

    /// A client that shows the certificate.
    pub(crate) fn client(&self) -> anyhow::Result<Arc<ClientConfig>> {
        let mut config = ClientConfig::builder()
            .with_root_certificates(Arc::clone(&self.roots))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }

    /// A server that wants one.
    pub(crate) fn server(&self) -> anyhow::Result<Arc<ServerConfig>> {
        let verifier = WebPkiClientVerifier::builder(Arc::clone(&self.roots)).build()?;
        let mut config = ServerConfig::builder()
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}
