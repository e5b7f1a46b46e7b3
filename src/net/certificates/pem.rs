//! Private keys out of PEM (RFC 7468), without leaving copies of them in memory: every buffer that a
//! key goes through is wiped. Certificates, which are no secret, are read by `rustls::pki_types`.

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::pki_types::{
    PrivateKeyDer,
    pem::{PemObject, SectionKind},
};
use zeroize::Zeroizing;

/// The first private key that is not encrypted; none if there is none, or it is cut short.
pub(super) fn private_key(pem: &[u8]) -> Option<Zeroizing<PrivateKeyDer<'static>>> {
    let mut lines = pem.split(|byte| matches!(byte, b'\n' | b'\r')).map(<[u8]>::trim_ascii);
    let (kind, end) = lines.find_map(begins)?;
    // with room for all, so that neither grows, which would leave the old place as it was
    let mut text = Zeroizing::new(Vec::with_capacity(pem.len()));
    loop {
        let line = lines.next()?;
        if line == end {
            break;
        }
        text.extend(line.iter().filter(|byte| !byte.is_ascii_whitespace()));
    }
    let mut der = Zeroizing::new(vec![0; base64::decoded_len_estimate(text.len())]);
    let length = STANDARD.decode_slice(&*text, &mut der).ok()?;
    der.truncate(length);
    PrivateKeyDer::from_pem(kind, std::mem::take(&mut *der)).map(Zeroizing::new)
}

/// The section that begins at this line, and the line at which it ends.
fn begins(line: &[u8]) -> Option<(SectionKind, &'static [u8])> {
    match line {
        b"-----BEGIN PRIVATE KEY-----" => {
            Some((SectionKind::PrivateKey, b"-----END PRIVATE KEY-----"))
        }
        b"-----BEGIN RSA PRIVATE KEY-----" => {
            Some((SectionKind::RsaPrivateKey, b"-----END RSA PRIVATE KEY-----"))
        }
        b"-----BEGIN EC PRIVATE KEY-----" => {
            Some((SectionKind::EcPrivateKey, b"-----END EC PRIVATE KEY-----"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::KeyPair;

    use super::*;

    #[test]
    fn a_key_is_found_as_the_library_finds_it() {
        let key = KeyPair::generate().unwrap();
        let pem = key.serialize_pem();
        let der = key.serialize_der();
        let relabelled = |label: &str| pem.replace("PRIVATE KEY", label);
        for (what, text) in [
            ("plain", pem.clone()),
            ("of Windows", pem.replace('\n', "\r\n")),
            ("without a last line end", pem.trim_end().to_owned()),
            ("with something before and behind", format!("Bag Attributes\n a: b\n{pem}rest\n")),
            (
                "after its parameters",
                format!("-----BEGIN EC PARAMETERS-----\nBgg=\n-----END EC PARAMETERS-----\n{pem}"),
            ),
            ("the first of two", format!("{pem}{}", KeyPair::generate().unwrap().serialize_pem())),
            ("with blanks", pem.replace('\n', "  \n\t")),
            ("older", relabelled("RSA PRIVATE KEY")),
            ("of a curve", relabelled("EC PRIVATE KEY")),
        ] {
            let found = private_key(text.as_bytes()).unwrap_or_else(|| panic!("{what}: none"));
            assert_eq!(found.secret_der(), der, "{what}");
            let other = PrivateKeyDer::from_pem_slice(text.as_bytes());
            if what != "with blanks" {
                assert_eq!(*found, other.unwrap(), "{what}");
            }
        }
    }

    #[test]
    fn what_is_no_whole_key_is_none() {
        let pem = KeyPair::generate().unwrap().serialize_pem();
        let half = &pem[..pem.len() / 2];
        let other_end = pem.replace("-----END PRIVATE", "-----END EC PRIVATE");
        for text in [
            "",
            "-----BEGIN PRIVATE KEY-----",
            half,
            &other_end,
            &pem.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"),
            &pem.replace("PRIVATE KEY", "CERTIFICATE"),
            "-----BEGIN PRIVATE KEY-----\n!!!!\n-----END PRIVATE KEY-----\n",
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----",
        ] {
            assert!(private_key(text.as_bytes()).is_none(), "{text}");
        }
    }
}
