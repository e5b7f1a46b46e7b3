//! Pinned certificates and keys: the operator names what a domain has to show, and nothing else
//! counts for it (protocol DNA-6).
//!
//! A pin is compared with the leaf alone, whose key the handshake proved. Dates and names in the
//! certificate mean nothing: whoever pins has looked at it.

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use super::{Proof, pkix};
use crate::{config::policy::Pin, xmpp::Domain};

/// Why a certificate is none that is pinned.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PinError {
    /// The peer showed none.
    #[error("no certificate, where one is pinned")]
    NoCertificate,
    /// It matches no pin.
    #[error("a certificate that is not pinned")]
    Mismatch,
}

/// Judges a certificate chain, leaf first, by the pins of a domain.
///
/// # Errors
/// [`PinError`]: no other prooftype may make up for it.
pub fn verify(
    pins: &[Pin],
    chain: &[CertificateDer<'_>],
    domain: &Domain,
) -> Result<Proof, PinError> {
    let leaf = chain.first().ok_or(PinError::NoCertificate)?;
    let fingerprint = pkix::Fingerprint::of(leaf);
    let key: Option<[u8; 32]> =
        pkix::Outline::of(leaf).map(|leaf| Sha256::digest(leaf.public_key).into());
    let matches = |pin: &Pin| match pin {
        Pin::Certificate(digest) => digest == fingerprint.as_bytes(),
        Pin::Key(digest) => Some(*digest) == key,
    };
    if !pins.iter().any(matches) {
        return Err(PinError::Mismatch);
    }
    Ok(Proof::pinned(domain.clone(), fingerprint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> (CertificateDer<'static>, [u8; 32]) {
        let key = rcgen::KeyPair::generate().unwrap();
        let digest = Sha256::digest(rcgen::PublicKeyData::subject_public_key_info(&key)).into();
        // of another name, and long expired
        let mut params = rcgen::CertificateParams::new(["other.test".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        (params.self_signed(&key).unwrap().into(), digest)
    }

    #[test]
    fn the_leaf_is_pinned_by_its_key_or_as_a_whole() {
        let ((leaf, key), (other, other_key)) = (certificate(), certificate());
        let domain = Domain::parse("pinned.test").unwrap();
        let whole = Pin::Certificate(*pkix::Fingerprint::of(&leaf).as_bytes());
        for pins in [vec![whole], vec![Pin::Key(key)], vec![Pin::Key(other_key), whole]] {
            let proof = verify(&pins, std::slice::from_ref(&leaf), &domain).unwrap();
            assert_eq!(proof.domain(), &domain);
            assert_eq!(proof.prooftype().as_str(), "pin");
            assert!(proof.is_strong() && !proof.rests_on_dnssec());
            assert_eq!(proof.expires(), None);
        }
        // its dates need not even be readable
        let mut damaged = leaf.to_vec();
        let date = damaged.windows(2).position(|tag| tag == [0x17, 13]).unwrap();
        damaged[date + 4] = b'x';
        verify(&[Pin::Key(key)], &[damaged.into()], &domain).unwrap();
        let mismatch = Some(PinError::Mismatch);
        let certificate_by_key = [Pin::Certificate(key)];
        assert_eq!(
            verify(&certificate_by_key, std::slice::from_ref(&leaf), &domain).err(),
            mismatch
        );
        assert_eq!(verify(&[whole], std::slice::from_ref(&other), &domain).err(), mismatch);
        // the rest of the chain is anybody's
        assert_eq!(verify(&[whole], &[other, leaf], &domain).err(), mismatch);
        assert_eq!(verify(&[whole], &[], &domain).err(), Some(PinError::NoCertificate));
    }
}
