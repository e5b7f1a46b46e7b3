//! Certificates as wrong as one likes, of the authority or of nobody.

use rcgen::{
    CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::{Authority, Identity};

/// A subject alternative name, as wrong as one likes.
#[derive(Clone)]
pub(crate) enum San {
    Dns(String),
    Srv(String),
    Xmpp(String),
}

impl San {
    pub(crate) fn dns(name: &str) -> Self {
        Self::Dns(name.to_owned())
    }

    /// DER.
    fn encode(&self) -> Vec<u8> {
        let other = |oid, tag, text: &str| {
            let value = tlv(0xa0, &tlv(tag, text.as_bytes()));
            tlv(0xa0, &[tlv(0x06, oid), value].concat())
        };
        match self {
            Self::Dns(name) => tlv(0x82, name.as_bytes()),
            Self::Srv(name) => other(SRV_NAME, 0x16, name),
            Self::Xmpp(name) => other(XMPP_ADDR, 0x0c, name),
        }
    }
}

impl Authority {
    /// A certificate for these names, otherwise as wanted.
    pub(crate) fn issue_with(
        &self,
        names: &[San],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let key = KeyPair::generate().unwrap();
        let cert = leaf(names, change).signed_by(&key, &self.issuer).unwrap();
        Identity { cert: cert.pem(), key: key.serialize_pem() }
    }

    /// The same of a CA below the root, itself as wanted, whose certificate is sent too.
    pub(crate) fn issue_below(
        &self,
        between: impl FnOnce(&mut CertificateParams),
        names: &[San],
    ) -> Identity {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "between");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        between(&mut params);
        let ca_key = KeyPair::generate().unwrap();
        let ca = params.signed_by(&ca_key, &self.issuer).unwrap();
        let key = KeyPair::generate().unwrap();
        let cert =
            leaf(names, |_| {}).signed_by(&key, &Issuer::from_params(&params, &ca_key)).unwrap();
        Identity { cert: cert.pem() + &ca.pem(), key: key.serialize_pem() }
    }
}

impl Identity {
    /// A certificate that nobody vouches for, otherwise as wanted.
    pub(crate) fn self_signed_with(
        names: &[San],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let key = KeyPair::generate().unwrap();
        let cert = leaf(names, change).self_signed(&key).unwrap();
        Self { cert: cert.pem(), key: key.serialize_pem() }
    }

    /// The same leaf, with these certificates behind it.
    pub(crate) fn followed_by(&self, more: &[&Self]) -> Self {
        let more = more.iter().map(|other| other.cert.as_str());
        Self { cert: self.cert.clone() + &more.collect::<String>(), key: self.key.clone() }
    }
}

fn leaf(names: &[San], change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "leaf");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    if !names.is_empty() {
        let encoded: Vec<u8> = names.iter().flat_map(San::encode).collect();
        let extension = CustomExtension::from_oid_content(&[2, 5, 29, 17], tlv(0x30, &encoded));
        params.custom_extensions.push(extension);
    }
    change(&mut params);
    params
}

/// DER: tag, length, value.
fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = u32::try_from(value.len()).unwrap().to_be_bytes();
    let mut out = vec![tag];
    match length {
        [0, 0, 0, low @ ..0x80] => out.push(low),
        [0, 0, 0, low] => out.extend([0x81, low]),
        [0, 0, high, low] => out.extend([0x82, high, low]),
        long => out.extend([&[0x83], &long[1..]].concat()),
    }
    out.extend(value);
    out
}

/// 1.3.6.1.5.5.7.8.7 and 1.3.6.1.5.5.7.8.5, DER.
const SRV_NAME: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 8, 7];
const XMPP_ADDR: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 8, 5];
