//! CAs and certificates made at run time, good and bad, for tests.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use rustls::pki_types::CertificateDer;

use super::TrustRoots;

/// A CA with a P-256 key.
pub(crate) struct Ca {
    pub(crate) certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate of a server, and its key.
pub(crate) struct Issued {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) pem: String,
    pub(crate) key: KeyPair,
}

/// A subject alternative name, as wrong as one likes.
pub(crate) enum San<'a> {
    Dns(&'a str),
    Other(&'a [u8], u8, &'a str),
    Srv(&'a str),
    Xmpp(&'a str),
}

impl Ca {
    /// A root.
    pub(crate) fn new(name: &str) -> Self {
        Self::root(name, KeyPair::generate().unwrap(), |_| {})
    }

    /// A root with this key, otherwise as wanted.
    pub(crate) fn root(
        name: &str,
        key: KeyPair,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let mut params = ca_params(name);
        change(&mut params);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// A CA under this one.
    pub(crate) fn intermediate(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let mut params = ca_params(name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// A certificate for servers with these DNS-IDs.
    pub(crate) fn server(&self, names: &[&str]) -> Issued {
        let names: Vec<_> = names.iter().map(|name| San::Dns(name)).collect();
        self.issue(&names, |_| {})
    }

    /// A certificate for servers, otherwise as wanted.
    pub(crate) fn issue(
        &self,
        names: &[San<'_>],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Issued {
        let key = KeyPair::generate().unwrap();
        let certificate = server_params(names, change).signed_by(&key, &self.issuer).unwrap();
        Issued { certificate: certificate.der().clone(), pem: certificate.pem(), key }
    }

    /// A certificate for a key of which only the public half exists.
    pub(crate) fn certify(
        &self,
        names: &[San<'_>],
        key: &impl PublicKeyData,
    ) -> CertificateDer<'static> {
        server_params(names, |_| {}).signed_by(key, &self.issuer).unwrap().der().clone()
    }

    /// Roots that hold this CA alone.
    pub(crate) fn roots(&self) -> TrustRoots {
        let mut roots = TrustRoots::new();
        roots.add(&self.certificate).unwrap();
        roots
    }
}

/// A certificate that is its own issuer.
pub(crate) fn self_signed(
    names: &[San<'_>],
    change: impl FnOnce(&mut CertificateParams),
) -> Issued {
    let key = KeyPair::generate().unwrap();
    let certificate = server_params(names, change).self_signed(&key).unwrap();
    Issued { certificate: certificate.der().clone(), pem: certificate.pem(), key }
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn server_params(
    names: &[San<'_>],
    change: impl FnOnce(&mut CertificateParams),
) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "server");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    if !names.is_empty() {
        let encoded = names.iter().flat_map(San::encode).collect::<Vec<_>>();
        params
            .custom_extensions
            .push(CustomExtension::from_oid_content(&[2, 5, 29, 17], tlv(0x30, &encoded)));
    }
    change(&mut params);
    params
}

impl San<'_> {
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Dns(name) => tlv(0x82, name.as_bytes()),
            Self::Other(oid, tag, text) => {
                let value = tlv(0xa0, &tlv(*tag, text.as_bytes()));
                tlv(0xa0, &[tlv(0x06, oid), value].concat())
            }
            Self::Srv(text) => Self::Other(super::identifiers::SRV_NAME, 0x16, text).encode(),
            Self::Xmpp(text) => Self::Other(super::identifiers::XMPP_ADDR, 0x0c, text).encode(),
        }
    }
}

/// DER: tag, length, value.
fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    let mut out = vec![tag];
    match length {
        [0, low @ ..0x80] => out.push(low),
        [0, low] => out.extend([0x81, low]),
        long => out.extend([0x82, long[0], long[1]]),
    }
    out.extend(value);
    out
}
