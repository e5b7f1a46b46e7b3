//! Both versions as HAProxy writes them, everything else, and that no byte more is read.

use proptest::prelude::*;

use super::*;

/// Reads a header that these bytes begin with; and how many bytes are left.
fn header(bytes: &[u8]) -> (Result<Source, String>, usize) {
    let mut rest = bytes;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let outcome = runtime.block_on(read(&mut rest));
    (outcome.map_err(|error| error.to_string()), rest.len())
}

fn client(address: &str) -> Source {
    Source::Client(address.parse().unwrap())
}

/// A header of version 2.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, rest].concat()
}

const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 1, 0xd4, 0x31, 0x14, 0x95];

#[test]
fn lines_of_version_1() {
    for (line, source) in [
        ("TCP4 192.0.2.1 198.51.100.1 54321 5269", client("192.0.2.1:54321")),
        ("TCP4 255.255.255.255 255.255.255.255 65535 65535", client("255.255.255.255:65535")),
        ("TCP6 2001:db8::1 2001:db8::2 54321 5269", client("[2001:db8::1]:54321")),
        ("TCP6 ::ffff:192.0.2.1 ::1 1 0", client("[::ffff:192.0.2.1]:1")),
        ("UNKNOWN", Source::Balancer),
        ("UNKNOWN ffff::1 whatever 1 2 3", Source::Balancer),
    ] {
        let text = format!("PROXY {line}\r\n<?xml version='1.0'?>");
        let (outcome, left) = header(text.as_bytes());
        assert_eq!(outcome, Ok(source), "{line}");
        assert_eq!(left, "<?xml version='1.0'?>".len(), "{line}");
    }
    let full = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let longest = format!("PROXY UNKNOWN {full} {full} 65535 65535\r\n");
    assert_eq!(longest.len(), LINE_MAX);
    assert_eq!(header(longest.as_bytes()).0, Ok(Source::Balancer));
}

#[test]
fn lines_that_are_none() {
    for line in [
        "PROXY TCP4 192.0.2.1 198.51.100.1 54321\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 54321 5269 1\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 54321 5269 \r\n",
        "PROXY TCP4  192.0.2.1 198.51.100.1 54321 5269\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 65536 5269\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 +1 5269\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 01 5269\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 -1 5269\r\n",
        "PROXY TCP4 192.0.2.01 198.51.100.1 1 5269\r\n",
        "PROXY TCP4 2001:db8::1 2001:db8::2 1 5269\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.1 1 5269\r\n",
        "PROXY TCP4 192.0.2.1 2001:db8::2 1 5269\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.1 1 5269\r\n",
        "PROXY tcp4 192.0.2.1 198.51.100.1 1 5269\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 1 5269\n",
        "PROXY TCP4 192.0.2.1\n198.51.100.1 1 5269\r\n",
        "PROXY TCP4 192.0.2.\u{661} 198.51.100.1 1 5269\r\n",
        "proxy TCP4 192.0.2.1 198.51.100.1 1 5269\r\n",
        "PROXYTCP4 192.0.2.1 198.51.100.1 1 5269\r\n",
        "<?xml version='1.0'?><stream:stream>",
        "GET / HTTP/1.1\r\nHost: example\r\n\r\n",
    ] {
        let (outcome, _) = header(line.as_bytes());
        assert!(outcome.is_err(), "{line}: {outcome:?}");
    }
    let endless = format!("PROXY UNKNOWN {}", "x".repeat(1000));
    let (outcome, left) = header(endless.as_bytes());
    assert_eq!(outcome, Err("a PROXY line without an end".into()));
    assert_eq!(left, endless.len() - LINE_MAX);
}

#[test]
fn headers_of_version_2() {
    let v6: Vec<u8> = [
        &"2001:db8::1".parse::<Ipv6Addr>().unwrap().octets()[..],
        &"2001:db8::2".parse::<Ipv6Addr>().unwrap().octets()[..],
        &[0, 1, 0x14, 0x95],
    ]
    .concat();
    // a field of type PP2_TYPE_ALPN, and one of no known type
    let fields = [&V4[..], &[0x01, 0, 11], b"xmpp-server", &[0xee, 0, 1, 9]].concat();
    for (bytes, source) in [
        (v2(0x21, 0x11, &V4), client("192.0.2.1:54321")),
        (v2(0x21, 0x11, &fields), client("192.0.2.1:54321")),
        (v2(0x21, 0x21, &v6), client("[2001:db8::1]:1")),
        (v2(0x21, 0x00, &[]), Source::Balancer),
        (v2(0x21, 0x00, &[7; 20]), Source::Balancer),
        (v2(0x20, 0x00, &[]), Source::Balancer),
        (v2(0x20, 0x11, &V4), Source::Balancer),
        (v2(0x20, 0xff, &[1; 4096]), Source::Balancer),
    ] {
        let (outcome, left) = header(&[&bytes[..], b"<?xml"].concat());
        assert_eq!((outcome, left), (Ok(source), 5), "{bytes:x?}");
    }
}

#[test]
fn headers_that_are_none() {
    for bytes in [
        v2(0x11, 0x11, &V4),       // version 1 in the binary form
        v2(0x22, 0x11, &V4),       // an unknown command
        v2(0x21, 0x12, &V4),       // UDP
        v2(0x21, 0x31, &[0; 216]), // a Unix socket
        v2(0x21, 0x10, &V4),       // a family without a protocol
        v2(0x21, 0x11, &V4[..11]), // short
        v2(0x21, 0x21, &V4),       // the wrong family for its length
        v2(0x21, 0x11, &[0; 4097]),
    ] {
        let (outcome, _) = header(&bytes);
        assert!(outcome.is_err(), "{bytes:x?}: {outcome:?}");
    }
}

#[test]
fn one_that_ends_early_is_none() {
    let line = b"PROXY TCP4 192.0.2.1 198.51.100.1 54321 5269\r\n".to_vec();
    for whole in [line, v2(0x21, 0x11, &V4)] {
        for end in 0..whole.len() {
            assert!(header(&whole[..end]).0.is_err(), "{end} of {whole:x?}");
        }
    }
}

proptest! {
    /// Whatever comes: no panic, and never more bytes than a header may have.
    #[test]
    fn any_bytes(start in 0usize..4, bytes in prop::collection::vec(any::<u8>(), 0..6000)) {
        let starts: [&[u8]; 4] = [b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE];
        let all = [starts[start], &bytes].concat();
        let (_, left) = header(&all);
        prop_assert!(all.len() - left <= FIXED + REST_MAX);
    }
}
