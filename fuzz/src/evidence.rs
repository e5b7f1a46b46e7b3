//! What proofs rest on, as it comes from outside: nothing of it is believed that is not there.
//!
//! The first byte says what the rest is:
//!
//! ```text
//! p o c  a POSH document, one of an older form, a certificate in its place (RFC 7711)
//! d      certificates, DER, one behind the other
//! t      TLSA records, then a certificate (RFC 6698)
//! x      a PROXY protocol header
//! n      a domain or an address
//! m      lines of the memory of what domains reached
//! l      a list of domains and networks
//! ```

use std::{
    cmp::min,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use fedgate::{
    auth::{
        dane::{self, TlsaRecord, TlsaSet},
        memory::Memory,
        pin,
        pkix::{self, CertificateInfo, Fingerprint, ReferenceIds, TrustRoots},
        posh::{self, Document},
    },
    config::{self, policy::Pin as Pinned},
    features::Member,
    net::proxy_header::{self, Source},
    xmpp::{Domain, jid},
};
use rustls::pki_types::{CertificateDer, UnixTime};
use serde_json::Value;
use sha2::{Digest, Sha256, Sha512};
use tokio::io::{self, AsyncRead, ReadBuf};

use super::{
    certificates::{Certificates, NOW},
    conversation::domain,
};

/// One piece of evidence.
pub fn run(data: &[u8]) {
    let Some((&kind, data)) = data.split_first() else { return };
    match kind {
        b'p' => document(data, Document::parse(data), false),
        b'o' => document(data, Document::parse_older(data), true),
        b'c' => document(data, Document::parse_certificate(data), true),
        b'd' => certificates(data),
        b't' => records(data),
        b'x' => proxied(data),
        b'n' => name(&String::from_utf8_lossy(data)),
        b'm' => remembered(&String::from_utf8_lossy(data)),
        b'l' => listed(&String::from_utf8_lossy(data)),
        _ => {}
    }
}

fn time(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// A document is read by `serde_json` too, names as many certificates as it lists, and holds for no
/// longer than it says.
fn document(body: &[u8], parsed: Result<Document, posh::PoshError>, is_older: bool) {
    let Ok(parsed) = parsed.inspect_err(|error| assert!(!error.to_string().is_empty())) else {
        return;
    };
    let json = || serde_json::from_slice::<Value>(body).expect("JSON");
    let says = || json().get("expires").and_then(Value::as_u64).expect("a lifetime");
    match parsed {
        Document::Reference(reference) => {
            assert_eq!(reference.url.scheme(), "https");
            assert!(json().get("fingerprints").is_none());
            assert!(reference.lifetime.as_secs() > 0 && reference.lifetime.as_secs() <= says());
        }
        Document::Fingerprints(fingerprints) => {
            let material = fingerprints.material(None, time(NOW));
            let lifetime = material.expires().as_secs() - NOW;
            assert!(lifetime <= 86_400 && !material.is_empty());
            if !is_older {
                let listed = json().get("fingerprints").and_then(Value::as_array).map(Vec::len);
                assert_eq!(listed, Some(material.len()));
                assert!(lifetime > 0 && lifetime <= says());
            }
            let facts = &Certificates::get().with_certificate;
            let outcome = posh::verify(facts.peer_chain(), &material, &domain(1), time(NOW));
            assert!(!matches!(outcome, posh::Outcome::Match(_)), "nobody listed that");
        }
    }
}

/// What stands there, cut where each certificate says that it ends.
fn chain(mut data: &[u8]) -> Vec<CertificateDer<'_>> {
    let mut chain = Vec::new();
    while !data.is_empty() && chain.len() < 12 {
        let len = match *data {
            [0x30, 0x81, len, ..] => 3 + usize::from(len),
            [0x30, 0x82, high, low, ..] => 4 + usize::from(u16::from_be_bytes([high, low])),
            _ => data.len(),
        };
        let (certificate, rest) = data.split_at(min(len, data.len()));
        chain.push(CertificateDer::from(certificate));
        data = rest;
    }
    chain
}

/// Nobody but a trusted CA proves anything, and a pin is for one certificate.
fn certificates(data: &[u8]) {
    let chain = chain(data);
    for certificate in &chain {
        match CertificateInfo::of(certificate) {
            Ok(info) => {
                let _ = info.is_due(time(NOW));
                assert!(format!("{info:?}").len() < 64 * (certificate.len() + 64));
            }
            Err(error) => assert!(!error.to_string().is_empty() && !error.reason().is_empty()),
        }
    }
    let Some((leaf, above)) = chain.split_first() else { return };
    let of = domain(1);
    let hosts = [Some("xmpp.capulet.example"), None];
    let names = ReferenceIds::of(&of);
    for reference in [names, names.delegated(hosts, time(NOW + 60))] {
        assert!(pkix::verify(&chain, &TrustRoots::new(), reference, time(NOW)).is_err());
        let mut roots = TrustRoots::new();
        if above.last().is_some_and(|root| roots.add(root).is_ok())
            && let Ok(proof) = pkix::verify(&chain, &roots, reference, time(NOW))
        {
            assert_eq!((proof.domain(), proof.fingerprint()), (&of, Some(Fingerprint::of(leaf))));
            assert!(proof.expires().is_some_and(|expires| expires >= time(NOW)));
        }
    }
    let pinned = |digest: [u8; 32]| {
        let pins = [Pinned::Certificate(digest)];
        pin::verify(&pins, &chain, &of).is_ok()
    };
    let digest: [u8; 32] = Sha256::digest(leaf).into();
    let mut other = digest;
    other[0] ^= 1;
    assert!(pinned(digest) && !pinned(other));
}

/// A certificate matches only what some record says of it.
fn records(data: &[u8]) {
    let Some((&count, mut data)) = data.split_first() else { return };
    let mut set =
        TlsaSet { base: "xmpp.capulet.example".into(), records: vec![], expires: time(NOW + 60) };
    for _ in 0..count % 16 {
        let Some((&[usage, selector, matching, len], rest)) = data.split_first_chunk() else {
            break;
        };
        // a byte for the length, but 0 stands for the whole certificate, which is longer
        let len = if len == 0 { rest.len() } else { min(rest.len(), usize::from(len)) };
        let association = rest[..len].into();
        set.records.push(TlsaRecord { usage, selector, matching, data: association });
        if len < rest.len() {
            data = &rest[len..];
        }
    }
    set.records.iter().for_each(|record| assert!(!record.to_string().is_empty()));
    let chain = chain(data);
    let of = domain(1);
    let (roots, now) = (TrustRoots::new(), time(NOW));
    let reference = ReferenceIds::of(&of);
    for outcome in [
        dane::verify(&chain, &set, &roots, reference, now),
        dane::verify_client(&chain, std::slice::from_ref(&set), &of, now),
    ] {
        match outcome {
            dane::Outcome::Match(proof) => {
                assert!(proof.rests_on_dnssec() && *proof.domain() == of);
                assert!(set.records.iter().any(|record| means(record, &chain)), "{set:?}");
            }
            dane::Outcome::Mismatch(error) => {
                assert!(set.has_usable() && !error.to_string().is_empty());
            }
            dane::Outcome::NoUsableRecords => {}
        }
    }
}

/// Whether a record may mean one of these certificates, or a key inside one.
fn means(record: &TlsaRecord, chain: &[CertificateDer<'_>]) -> bool {
    let data = &*record.data;
    let about = if record.usage == 3 { &chain[..1] } else { chain };
    about.iter().any(|certificate| {
        let digests = |part: &[u8]| match record.matching {
            0 => data == part,
            1 => data == Sha256::digest(part).as_slice(),
            2 => data == Sha512::digest(part).as_slice(),
            _ => false,
        };
        match record.selector {
            0 => digests(certificate) || record.usage == 2 && record.matching == 0,
            // a key is a sequence somewhere in it, or comes with the record
            1 => {
                let at = |n: usize| {
                    let rest = &certificate[n..];
                    let len = match *rest {
                        [0x30, len @ ..=0x7f, ..] => 2 + usize::from(len),
                        [0x30, 0x81, len, ..] => 3 + usize::from(len),
                        [0x30, 0x82, h, l, ..] => 4 + usize::from(u16::from_be_bytes([h, l])),
                        _ => return false,
                    };
                    rest.get(..len).is_some_and(digests)
                };
                (0..certificate.len()).any(at) || record.usage == 2 && record.matching == 0
            }
            _ => false,
        }
    })
}

/// Bytes that come in pieces of some length.
struct Pieces<'d> {
    rest: &'d [u8],
    size: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let len = min(self.size, min(buf.remaining(), self.rest.len()));
        buf.put_slice(&self.rest[..len]);
        self.rest = &self.rest[len..];
        Poll::Ready(Ok(()))
    }
}

/// A header says the same however it is cut, nothing behind it is read, and it says what is there.
fn proxied(data: &[u8]) {
    let read = |size| {
        let mut socket = Pieces { rest: data, size };
        let outcome = pin!(proxy_header::read(&mut socket))
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(outcome) = outcome else { panic!("nothing to wait for") };
        (outcome.map_err(|error| error.kind()), data.len() - socket.rest.len())
    };
    let (outcome, len) = read(usize::MAX);
    assert_eq!(read(1), (outcome, len));
    assert_eq!(read(7), (outcome, len));
    let Ok(source) = outcome else { return };
    let header = &data[..len];
    if let Some(line) = header.strip_prefix(b"PROXY ") {
        let line = std::str::from_utf8(line).unwrap();
        assert!(len <= 107 && line.ends_with("\r\n") && line.matches('\n').count() == 1);
        if let Source::Client(client) = source {
            let words: Vec<_> = line.trim_end().split(' ').collect();
            let [_, from, _, port, _] = words[..] else { panic!("{line}") };
            assert_eq!((from.parse(), port.parse()), (Ok(client.ip()), Ok(client.port())));
        }
    } else {
        let rest = usize::from(u16::from_be_bytes([header[14], header[15]]));
        assert_eq!(len, 16 + rest);
        if let Source::Client(client) = source {
            let octets = match client.ip() {
                std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
                std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
            };
            assert!(header[16..].starts_with(&octets));
            assert_eq!(header[16 + 2 * octets.len()..][..2], client.port().to_be_bytes());
        }
    }
}

/// A domain has one canonical form, and its other form means the same.
fn name(text: &str) {
    if let Ok(domain) = Domain::parse(text) {
        let canonical = domain.as_str();
        let of_ldh = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
        assert!(canonical.len() <= 253 && canonical.bytes().all(of_ldh), "{canonical}");
        assert!(canonical.split('.').all(|label| (1..64).contains(&label.len())), "{canonical}");
        assert!(canonical.contains('.') && canonical.parse::<std::net::IpAddr>().is_err());
        assert_eq!(Domain::parse(canonical).as_ref(), Ok(&domain));
        assert_eq!(Domain::parse(&domain.to_unicode()).as_ref(), Ok(&domain));
        assert!(!domain.is_below(&domain));
    }
    if let Some(part) = jid::domainpart(text) {
        let bare = text.split('/').next().unwrap_or_default();
        assert_eq!(part, bare.split_once('@').map_or(bare, |(_, domain)| domain));
        assert!(!part.is_empty() && part.len() <= 1023);
    }
    if let Some(local) = jid::localpart(text) {
        let folded = jid::folded(local);
        assert_eq!(jid::folded(&folded), folded, "{local:?}");
    }
    if let Ok(member) = Member::parse(text) {
        let written = member.to_string();
        assert_eq!(Member::parse(&written).as_ref(), Ok(&member), "{written}");
        if !written.starts_with('*') {
            let local = jid::localpart(text).map(jid::folded);
            assert!(member.is(local.as_deref(), member.domain()), "{written}");
        }
    }
}

/// What is remembered is written as it was read.
fn remembered(text: &str) {
    let Ok(memory) = Memory::of_lines(text).inspect_err(|e| assert!(!e.to_string().is_empty()))
    else {
        return;
    };
    let written = memory.to_lines();
    let again = Memory::of_lines(&written).unwrap_or_else(|error| panic!("{error}\n{written}"));
    assert_eq!(again, memory);
}

/// A list has at most as many entries as lines.
fn listed(text: &str) {
    match config::list_entries("list.txt", text) {
        Ok(entries) => assert!(entries <= text.lines().count()),
        Err(problems) => assert!(!problems.to_string().is_empty()),
    }
}
