//! The trust anchors of DNSSEC: the keys of the root, or those of a file with DNSKEY or DS records
//! in the form of zone files (RFC 4033 §2, RFC 1035 §5.1), as IANA publishes them and as other
//! validators keep them.
//!
//! A file replaces the keys of the root. Names that are under no anchor are insecure (RFC 4035
//! §4.3), and of several above a name the closest counts alone (RFC 6840 §C.1). Anchors do not roll
//! by themselves (RFC 5011): that is for whoever writes the file.

use std::{collections::BTreeSet, io, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use hickory_resolver::proto::{
    dnssec::{
        Algorithm, DigestType, PublicKey, PublicKeyBuf, TrustAnchors, Verifier,
        rdata::{DNSKEY, DNSSECRData, DS, RRSIG},
    },
    rr::{DNSClass, LowerName, Name, RData, Record, RecordType, SerialNumber},
};

/// The anchors, as they were written.
#[derive(Clone, Debug)]
pub(super) struct Anchors {
    /// None: the keys of the root that are built in.
    given: Option<Vec<(Name, Anchor)>>,
}

#[derive(Clone, Debug)]
enum Anchor {
    Key(PublicKeyBuf),
    Digest(DS),
}

/// Why a file of trust anchors cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AnchorsError {
    /// There is none in it.
    #[error("no DNSKEY or DS record")]
    Empty,
    /// The file is not there, or may not be read, or is far too large.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// A record that is none.
    #[error("line {line}: {why}")]
    Record {
        /// Where the record begins, from 1.
        line: usize,
        /// What is wrong.
        why: &'static str,
    },
}

impl Anchors {
    pub(super) fn root() -> Self {
        Self { given: None }
    }

    pub(super) fn load(path: &Path) -> Result<Self, AnchorsError> {
        let bytes = crate::net::certificates::read_file(path)?;
        Self::parse(&String::from_utf8_lossy(&bytes))
    }

    /// Reads DNSKEY and DS records; `(` and `)` hold a record together over lines, `;` begins a
    /// comment.
    fn parse(text: &str) -> Result<Self, AnchorsError> {
        let mut anchors = Vec::new();
        let mut tokens: Vec<String> = Vec::new();
        let (mut depth, mut first) = (0_usize, 1);
        for (n, line) in text.lines().enumerate() {
            if tokens.is_empty() {
                first = n + 1;
            }
            let wrong = |why| AnchorsError::Record { line: first, why };
            let code = line.split(';').next().unwrap_or_default();
            for token in code.replace('(', " ( ").replace(')', " ) ").split_ascii_whitespace() {
                match token {
                    "(" => depth += 1,
                    ")" => depth = depth.checked_sub(1).ok_or(wrong("a \")\" without \"(\""))?,
                    _ => tokens.push(token.to_owned()),
                }
            }
            if depth == 0 && !tokens.is_empty() {
                anchors.push(record(&tokens).map_err(wrong)?);
                tokens.clear();
            }
        }
        if depth > 0 {
            return Err(AnchorsError::Record { line: first, why: "a \"(\" without \")\"" });
        }
        if anchors.is_empty() {
            return Err(AnchorsError::Empty);
        }
        Ok(Self { given: Some(anchors) })
    }

    /// The zones of the anchors; names that are in none of them cannot be validated.
    pub(super) fn zones(&self) -> BTreeSet<Name> {
        match &self.given {
            None => BTreeSet::from([Name::root()]),
            Some(given) => given.iter().map(|(zone, _)| zone.clone()).collect(),
        }
    }

    /// Whether answers are validated by the built-in keys, which need not be fetched.
    pub(super) fn are_built_in(&self) -> bool {
        self.given.is_none()
    }

    /// Takes the keys of a zone, from whom they may, if one of them is an anchor and has signed
    /// them all (RFC 4035 §5.2); `now` in seconds after 1970, wrapped. All are then trusted, since
    /// hickory asks the zone above for those that are not, and there may be none that is signed.
    pub(super) fn admit(
        &self,
        zone: &Name,
        answers: &[Record],
        now: u32,
        keys: &mut TrustAnchors,
    ) -> bool {
        let records: Vec<&Record> = answers
            .iter()
            .filter(|record| record.name == *zone && record.record_type() == RecordType::DNSKEY)
            .take(MAX_KEYS)
            .collect();
        let of_zone =
            || records.iter().filter_map(|record| dnskey(&record.data)).filter(|k| good(k));
        let signatures = || {
            let all = answers.iter().filter(|record| record.name == *zone);
            all.filter_map(|record| signature(&record.data, now)).take(MAX_SIGNATURES)
        };
        let is_signed_by = |key: &DNSKEY| {
            let Ok(tag) = key.calculate_key_tag() else { return false };
            signatures().any(|signature| {
                let input = signature.input();
                (input.key_tag, input.algorithm) == (tag, key.public_key().algorithm())
                    && input.signer_name == *zone
                    && input.num_labels == zone.num_labels()
                    && key
                        .verify_rrsig(zone, DNSClass::IN, signature, records.iter().copied())
                        .is_ok()
            })
        };
        let is_anchored = |key: &DNSKEY| {
            self.given.iter().flatten().filter(|(name, _)| name == zone).any(|(_, anchor)| {
                match anchor {
                    Anchor::Key(known) => {
                        known.algorithm() == key.public_key().algorithm()
                            && known.public_bytes() == key.public_key().public_bytes()
                    }
                    Anchor::Digest(digest) => digest.covers(zone, key).unwrap_or(false),
                }
            })
        };
        if !of_zone().any(|key| is_anchored(key) && is_signed_by(key)) {
            return false;
        }
        for key in of_zone() {
            keys.insert_with_name(key.public_key(), LowerName::new(zone));
        }
        true
    }
}

fn dnskey(data: &RData) -> Option<&DNSKEY> {
    match data {
        RData::DNSSEC(DNSSECRData::DNSKEY(key)) => Some(key),
        _ => None,
    }
}

fn good(key: &DNSKEY) -> bool {
    key.zone_key() && !key.revoke()
}

/// A signature of keys that is in its time.
fn signature(data: &RData, now: u32) -> Option<&RRSIG> {
    let now = SerialNumber::new(now);
    match data {
        RData::DNSSEC(DNSSECRData::RRSIG(signature)) => {
            let input = signature.input();
            let in_time = input.sig_inception <= now && now <= input.sig_expiration;
            (input.type_covered == RecordType::DNSKEY && in_time).then_some(signature)
        }
        _ => None,
    }
}

/// `owner [TTL] [IN] type data…`
fn record(tokens: &[String]) -> Result<(Name, Anchor), &'static str> {
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let (owner, mut rest) = tokens.split_first().ok_or("an empty record")?;
    let mut zone = Name::from_ascii(owner).map_err(|_| "the name is none")?;
    zone.set_fqdn(true);
    let is_kind = |token: &str| ["DNSKEY", "DS"].iter().any(|k| token.eq_ignore_ascii_case(k));
    while let Some((token, data)) = rest.split_first() {
        if is_kind(token) {
            let anchor = if token.eq_ignore_ascii_case("DS") { digest(data) } else { key(data) };
            return Ok((zone, anchor?));
        }
        let is_ttl = token.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
        if !is_ttl && !token.eq_ignore_ascii_case("IN") {
            return Err("neither a DNSKEY nor a DS record");
        }
        rest = data;
    }
    Err("neither a DNSKEY nor a DS record")
}

/// `flags protocol algorithm key` (RFC 4034 §2.2).
fn key(data: &[&str]) -> Result<Anchor, &'static str> {
    let [flags, protocol, algorithm, key @ ..] = data else {
        return Err("a DNSKEY record has flags, protocol, algorithm and key");
    };
    let flags: u16 = flags.parse().map_err(|_| "the flags are no number")?;
    if flags & 0x0100 == 0 || flags & 0x0080 != 0 {
        return Err("the key is none of a zone, or revoked");
    }
    if *protocol != "3" {
        return Err("the protocol of a DNSKEY record is 3");
    }
    let key = STANDARD.decode(key.concat()).map_err(|_| "the key is no base64")?;
    if key.is_empty() {
        return Err("the key is empty");
    }
    Ok(Anchor::Key(PublicKeyBuf::new(key, known(algorithm)?)))
}

/// `tag algorithm type digest` (RFC 4034 §5.3).
fn digest(data: &[&str]) -> Result<Anchor, &'static str> {
    let [tag, algorithm, kind, digest @ ..] = data else {
        return Err("a DS record has key tag, algorithm, digest type and digest");
    };
    let tag: u16 = tag.parse().map_err(|_| "the key tag is no number")?;
    let kind: u8 = kind.parse().map_err(|_| "the digest type is no number")?;
    let kind = DigestType::from(kind);
    if !kind.is_supported() {
        return Err("the digest type is not supported");
    }
    let text = digest.concat();
    let pairs = text.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
        u8::from_str_radix(pair, 16).ok()
    });
    let digest: Vec<u8> = pairs.collect::<Option<_>>().ok_or("the digest is not hexadecimal")?;
    if digest.is_empty() {
        return Err("the digest is empty");
    }
    Ok(Anchor::Digest(DS::new(tag, known(algorithm)?, kind, digest)))
}

fn known(algorithm: &str) -> Result<Algorithm, &'static str> {
    let number: u8 = algorithm.parse().map_err(|_| "the algorithm is no number")?;
    let algorithm = Algorithm::from_u8(number);
    if algorithm.is_supported() { Ok(algorithm) } else { Err("the algorithm is not supported") }
}

/// Keys of one zone that are looked at; a zone in the middle of a roll has four.
const MAX_KEYS: usize = 16;
/// Signatures of them that are looked at.
const MAX_SIGNATURES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==";
    const DIGEST: &str = "E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D";

    #[test]
    fn keys_and_digests_are_read_in_the_spellings_of_zone_files() {
        let text = format!(
            "; anchors\n\n. 172800 IN DNSKEY 257 3 13 {KEY} ;{{id = 1}}\n\
             corp.example. in ds (20326 13 2 ; over lines\n {} \n{} )\nx.example DS 1 13 2 {DIGEST}\n",
            &DIGEST[..10],
            &DIGEST[10..]
        );
        let anchors = Anchors::parse(&text).unwrap();
        assert_eq!(anchors.given.as_ref().unwrap().len(), 3);
        let names: Vec<_> = anchors.zones().iter().map(ToString::to_string).collect();
        assert_eq!(names, [".", "corp.example.", "x.example."]);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_line() {
        for (text, words) in [
            ("", "no DNSKEY or DS record"),
            ("; nothing\n", "no DNSKEY or DS record"),
            ("\n. IN A 192.0.2.1", "line 2: neither a DNSKEY nor a DS record"),
            (".", "line 1: neither a DNSKEY nor a DS record"),
            ("a..b DS 1 13 2 00", "line 1: the name is none"),
            (". DNSKEY 257 3", "line 1: a DNSKEY record has flags, protocol, algorithm and key"),
            (". DNSKEY 256 2 13 AAAA", "line 1: the protocol of a DNSKEY record is 3"),
            (". DNSKEY 385 3 13 AAAA", "line 1: the key is none of a zone, or revoked"),
            (". DNSKEY 1 3 13 AAAA", "line 1: the key is none of a zone, or revoked"),
            (". DNSKEY 257 3 13 A", "line 1: the key is no base64"),
            (". DNSKEY 257 3 13", "line 1: the key is empty"),
            (". DNSKEY 257 3 99 AAAA", "line 1: the algorithm is not supported"),
            (". DS 1 13 9 00", "line 1: the digest type is not supported"),
            (". DS 1 13 2 0", "line 1: the digest is not hexadecimal"),
            (". DS 1 13 2 éé", "line 1: the digest is not hexadecimal"),
            (". DS 1 13 2", "line 1: the digest is empty"),
            ("\n. DS ( 1 13 2\n00", "line 2: a \"(\" without \")\""),
            (". DS ) 1 13 2 00", "line 1: a \")\" without \"(\""),
        ] {
            assert_eq!(Anchors::parse(text).unwrap_err().to_string(), words, "{text}");
        }
    }
}
