//! Certificates for one run, and TLS as all sides of it do it: mutual, with rustls and aws-lc, no
//! session resumption and no tickets, which is how fedgate does it.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, RsaKeySize,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SignatureScheme,
    client::{ResolvesClientCert, Resumption},
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};

/// The CA's file in a directory.
pub(crate) const CA: &str = "ca.pem";

/// Certificates with their key, and the CA that everybody trusts.
pub(crate) struct Identity {
    shown: Arc<Shown>,
    roots: Arc<RootCertStore>,
}

/// Each handshake shows the next one of some certificates, as if it were another server's.
#[derive(Debug)]
struct Shown {
    certificates: Vec<Arc<CertifiedKey>>,
    next: AtomicUsize,
}

/// Who signs certificates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Issuers {
    /// A CA of ours, with a key of P-256: the least work that there is for who looks into them.
    Own,
    /// An intermediate CA with a key of P-384, which a root CA with RSA and 4096 bits has signed:
    /// what the public CAs of today issue for a key of P-256.
    Public,
}

/// Makes certificates for these names, each in `NAME.crt` with what leads to the CA, and `NAME.key`;
/// in `NAME.leaves` so many others for the same names and key.
pub(crate) fn make(
    directory: &Path,
    issuers: Issuers,
    identities: &[(&str, &[&str], u64)],
) -> anyhow::Result<()> {
    fs::create_dir(directory)?;
    let root_key = match issuers {
        Issuers::Own => KeyPair::generate()?,
        Issuers::Public => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096)?,
    };
    let root = CertifiedIssuer::self_signed(ca("Root of the benchmark"), root_key)?;
    fs::write(directory.join(CA), root.pem())?;
    let intermediate = match issuers {
        Issuers::Own => None,
        Issuers::Public => {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?;
            Some(CertifiedIssuer::signed_by(ca("Intermediate of the benchmark"), key, &root)?)
        }
    };
    for (file, names, others) in identities {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, *file);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let issuer = intermediate.as_ref().unwrap_or(&root);
        let mut leaves = String::new();
        for number in 0..*others {
            params.serial_number = Some(number.into());
            leaves += &params.signed_by(&key, issuer)?.pem();
        }
        fs::write(directory.join(format!("{file}.leaves")), leaves)?;
        let mut chain = params.signed_by(&key, issuer)?.pem();
        if let Some(intermediate) = &intermediate {
            chain += &intermediate.pem();
        }
        fs::write(directory.join(format!("{file}.crt")), chain)?;
        fs::write(directory.join(format!("{file}.key")), key.serialize_pem())?;
    }
    Ok(())
}

fn ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

impl Identity {
    /// Reads what [`make`] wrote of that name.
    pub(crate) fn read(directory: &Path, name: &str) -> anyhow::Result<Self> {
        let at = |file: &str| directory.join(file);
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(at(CA)).context(CA)?)?;
        let read = |kind: &str| -> anyhow::Result<Vec<_>> {
            let file = CertificateDer::pem_file_iter(at(&format!("{name}.{kind}")))?;
            Ok(file.collect::<Result<_, _>>()?)
        };
        let mut chain = read("crt")?;
        let key = any_supported_type(&PrivateKeyDer::from_pem_file(at(&format!("{name}.key")))?)?;
        let mut certificates = Vec::new();
        for leaf in read("leaves")? {
            *chain.first_mut().context("no certificate")? = leaf;
            certificates.push(Arc::new(CertifiedKey::new(chain.clone(), Arc::clone(&key))));
        }
        if certificates.is_empty() {
            certificates.push(Arc::new(CertifiedKey::new(chain, key)));
        }
        let shown = Arc::new(Shown { certificates, next: AtomicUsize::new(0) });
        Ok(Self { shown, roots: Arc::new(roots) })
    }

    /// A client that shows them.
    pub(crate) fn client(&self) -> anyhow::Result<Arc<ClientConfig>> {
        let mut config = ClientConfig::builder()
            .with_root_certificates(Arc::clone(&self.roots))
            .with_client_cert_resolver(Arc::<Shown>::clone(&self.shown));
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }

    /// A server that wants one.
    pub(crate) fn server(&self) -> anyhow::Result<Arc<ServerConfig>> {
        let verifier = WebPkiClientVerifier::builder(Arc::clone(&self.roots)).build()?;
        let mut config = ServerConfig::builder()
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::<Shown>::clone(&self.shown));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

impl Shown {
    fn next(&self) -> Option<Arc<CertifiedKey>> {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        self.certificates.get(next % self.certificates.len()).cloned()
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.next()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.next()
    }
}
