//! Stateless dialback keys (XEP-0185), from separate secrets for the two sides.
//!
//! A key that was made for a peer is never good on the loopback side, nor the other way round
//! (protocol rule KEY-4): otherwise either side could be asked to vouch for the other.

use std::fmt;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::xmpp::Domain;

/// The length of the master secret in bytes.
pub const MASTER_LEN: usize = 32;

/// The secrets of one fedgate, and of all its replicas.
#[derive(Clone)]
pub struct DialbackKeys {
    master: Zeroizing<[u8; MASTER_LEN]>,
    public: Secret,
}

/// A secret that signs and checks keys of one side.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl DialbackKeys {
    /// Derives the secrets of both sides.
    #[must_use]
    pub fn new(master: Zeroizing<[u8; MASTER_LEN]>) -> Self {
        let public = Secret::derive(&master, "db-public");
        Self { master, public }
    }

    /// The secret of the streams towards peers.
    #[must_use]
    pub fn public(&self) -> &Secret {
        &self.public
    }

    /// The secret of the streams towards the legacy server of that name.
    #[must_use]
    pub fn local(&self, legacy: &str) -> Secret {
        Secret::derive(&self.master, &format!("db-local:{legacy}"))
    }
}

impl Secret {
    fn derive(master: &[u8; MASTER_LEN], purpose: &str) -> Self {
        let mut okm = Zeroizing::new([0u8; 32]);
        Hkdf::<Sha256>::new(None, master)
            .expand(purpose.as_bytes(), okm.as_mut())
            .expect("32 bytes are within what HKDF-SHA256 can give");
        Self::from_text(&hex(okm.as_ref()))
    }

    /// XEP-0185 §2: the HMAC key is the hex text of the secret's SHA-256 hash.
    fn from_text(secret: &str) -> Self {
        let mut digest = Sha256::digest(secret.as_bytes());
        let text = hex(&digest);
        digest.zeroize();
        Self(text)
    }

    /// The key for the stream `id` that `receiving` gave to `initiating`.
    /// It is no secret for long: whoever it is for shows it to whoever it comes from.
    #[must_use]
    pub fn key(&self, receiving: &Domain, initiating: &Domain, id: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_bytes())
            .expect("HMAC takes keys of every length");
        mac.update(receiving.as_str().as_bytes());
        mac.update(b" ");
        mac.update(initiating.as_str().as_bytes());
        mac.update(b" ");
        mac.update(id.as_bytes());
        hex(&mac.finalize().into_bytes()).to_string()
    }

    /// Whether `key` is the one that [`Self::key`] makes, in constant time.
    #[must_use]
    pub fn check(&self, receiving: &Domain, initiating: &Domain, id: &str, key: &str) -> bool {
        self.key(receiving, initiating, id).as_bytes().ct_eq(key.trim().as_bytes()).into()
    }
}

impl fmt::Debug for DialbackKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DialbackKeys(…)")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// As hexadecimal digits, in one place that is wiped.
pub(crate) fn hex(bytes: &[u8]) -> Zeroizing<String> {
    let digit = |value: u8| char::from(if value < 10 { b'0' + value } else { b'a' - 10 + value });
    let mut text = Zeroizing::new(String::with_capacity(bytes.len() * 2));
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 15));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_vectors_hold() {
        // XEP-0185 §3 and XEP-0220's example.
        for (secret, receiving, initiating, id, key) in [
            (
                "s3cr3tf0rd14lb4ck",
                "xmpp.example.com",
                "example.org",
                "D60000229F",
                "37c69b1cf07a3f67c04a5ef5902fa5114f2c76fe4a2686482ba5b89323075643",
            ),
            (
                "s3cr3tf0rd14lb4ck",
                "montague.example",
                "capulet.example",
                "D60000229F",
                "b4835385f37fe2895af6c196b59097b16862406db80559900d96bf6fa7d23df3",
            ),
            (
                "d14lb4ck43v3r",
                "capulet.example",
                "montague.example",
                "417GAF25",
                "225cc5aa6a071133249d25fef42ae516fc7a86c523aa1c6980a7f73e784c972d",
            ),
        ] {
            let secret = Secret::from_text(secret);
            let [r, i] = [receiving, initiating].map(|d| Domain::parse(d).unwrap());
            assert_eq!(secret.key(&r, &i, id), key);
            assert!(secret.check(&r, &i, id, &format!(" {key}\n")));
            assert!(!secret.check(&i, &r, id, key), "the order of the domains matters");
            assert!(!secret.check(&r, &i, "other", key), "the key belongs to one stream");
            assert!(!secret.check(&r, &i, id, &key.to_uppercase()));
        }
    }

    #[test]
    fn nothing_secret_is_shown() {
        let keys = DialbackKeys::new(Zeroizing::new([7; MASTER_LEN]));
        assert_eq!(format!("{keys:?}"), "DialbackKeys(…)");
        assert_eq!(format!("{:#?}", keys.public()), "Secret(…)");
    }

    #[test]
    fn the_sides_have_nothing_in_common() {
        let keys = DialbackKeys::new(Zeroizing::new([7; MASTER_LEN]));
        let [a, b] = ["a.example", "b.example"].map(|d| Domain::parse(d).unwrap());
        let key = keys.public().key(&a, &b, "1");
        assert!(!keys.local("jabberd2").check(&a, &b, "1", &key));
        assert_ne!(keys.local("jabberd2").key(&a, &b, "1"), keys.local("other").key(&a, &b, "1"));
        let replica = DialbackKeys::new(Zeroizing::new([7; MASTER_LEN]));
        assert!(replica.public().check(&a, &b, "1", &key));
    }
}
