//! Attacks on TLS itself.

use std::{sync::Arc, time::Duration};

use rustls::{
    ClientConfig, HandshakeKind, SupportedProtocolVersion,
    pki_types::ServerName,
    version::{TLS12, TLS13},
};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_rustls::TlsConnector;

use super::offered;
use crate::world::{
    BOUNCE, Conn, EXTERNAL, FEATURES_END, Identity, MECHANISMS, PROCEED, STARTTLS, San, World,
    has_xml, header, message_to, soon,
};

#[tokio::test]
async fn a_31_that_tls_is_not_required_makes_it_no_less_so() {
    let mut world = World::with(BOUNCE).await;
    let dialback = "<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>";
    for (n, features) in [
        "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>".to_owned(),
        format!("{dialback}<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
        format!(
            "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><optional/></starttls>{dialback}"
        ),
        dialback.to_owned(),
    ]
    .into_iter()
    .enumerate()
    {
        let host = world.host(&format!("a{n}.test")).await;
        let _stream = world.sends(&host.domain).await;
        let mut conn = host.accept().await;
        host.greet(&mut conn).await;
        conn.say(format!("<stream:features>{features}</stream:features>")).await;
        assert_eq!(conn.until("/>").await, STARTTLS);
        conn.say(PROCEED).await;
        conn.accept_tls(host.identity.server()).await.unwrap();
        host.greet(&mut conn).await;
        conn.say(MECHANISMS).await;
        conn.until("</auth>").await;
        drop(conn);
        world.bounced(&host.domain, "remote-server-timeout").await;
    }
    world.is_alive().await;
}

#[tokio::test]
async fn a_34_without_external_only_what_policy_allows_is_left() {
    let mut world = World::with(BOUNCE).await;
    world.reload("rules: [{ match: [t1.test, t2.test], level: trusted }]").unwrap();
    // proven by its certificate: dialback with the proven server, at any level
    for domain in ["a.test", "t1.test"] {
        let host = world.host(domain).await;
        let _stream = world.sends(domain).await;
        let (mut conn, _) = host.accept_request().await;
        conn.say(format!("<db:result from='{domain}' to='old.test' type='valid'/>")).await;
        conn.until(&message_to(domain)).await;
    }
    // not proven: whatever it offers, nothing at the level that wants a certificate
    let mut host = world.host("t2.test").await;
    host.identity = Identity::self_signed("t2.test");
    let _stream = world.sends("t2.test").await;
    host.accept_secured().await.ends_silently().await;
    world.bounced("t2.test", "remote-server-timeout").await;
    // and where a peer connects without its certificate, not by another's word
    let (mut conn, _) = world.unproven("t2.test").await;
    conn.say("<db:result from='t2.test' to='old.test'>k</db:result>").await;
    let answer = conn.until("</db:result>").await;
    assert!(!answer.contains("valid'"), "{answer}");
    conn.say("<message from='m@t2.test' to='bob@old.test'/>").await;
    conn.ends_with("not-authorized").await;
    world.is_alive().await;
}

/// A ClientHello record of this version. TLS 1.3 only with `extensions` that say so.
pub(super) fn hello(
    version: [u8; 2],
    suites: &[u16],
    compression: &[u8],
    extensions: &[u8],
) -> Vec<u8> {
    let mut body = version.to_vec();
    body.extend([7; 32]);
    body.push(0);
    body.extend(u16::try_from(2 * suites.len()).unwrap().to_be_bytes());
    body.extend(suites.iter().flat_map(|suite| suite.to_be_bytes()));
    body.push(u8::try_from(compression.len()).unwrap());
    body.extend(compression);
    body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend(extensions);
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[1], &length[1..], &body].concat();
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    [&[0x16, 3, 1], &length[..], &message].concat()
}

pub(super) fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap().to_be_bytes();
    [&kind.to_be_bytes()[..], &length, data].concat()
}

/// Groups, signatures and the extended master secret, as all clients have them.
pub(super) fn usual() -> Vec<u8> {
    [
        extension(10, &[0, 4, 0, 0x1d, 0, 0x17]),
        extension(11, &[1, 0]),
        extension(13, &[0, 8, 4, 3, 8, 4, 8, 7, 4, 1]),
        extension(23, &[]),
    ]
    .concat()
}

/// The gate's answer to these bytes, on the port for direct TLS and behind STARTTLS.
async fn answers(world: &World, bytes: &[u8]) -> [Vec<u8>; 2] {
    let mut upgraded = world.clear("evil.test").await;
    upgraded.say(STARTTLS).await;
    upgraded.until(PROCEED).await;
    let mut all = [Conn::open(world.direct(), "127.0.0.1").await, upgraded];
    let mut answers = [Vec::new(), Vec::new()];
    for (conn, answer) in all.iter_mut().zip(&mut answers) {
        conn.say(bytes).await;
        conn.finish().await;
        *answer = conn.rest_bytes().await;
        assert!(!has_xml(answer), "{answer:?}");
    }
    answers
}

/// ECDHE with AES-GCM, for either kind of certificate.
pub(super) const GOOD: &[u16] = &[0xc02b, 0xc02f];

#[tokio::test]
async fn a_36_old_versions_and_weak_handshakes_get_a_fatal_alert() {
    const HANDSHAKE_FAILURE: u8 = 40;
    const PROTOCOL_VERSION: u8 = 70;
    let mut world = World::start().await;
    for (name, bytes, alert) in [
        ("SSL 3.0", hello([3, 0], GOOD, &[0], &usual()), PROTOCOL_VERSION),
        ("TLS 1.0", hello([3, 1], GOOD, &[0], &usual()), PROTOCOL_VERSION),
        ("TLS 1.1", hello([3, 2], GOOD, &[0], &usual()), PROTOCOL_VERSION),
        // RSA key exchange, CBC, NULL and anonymous suites
        (
            "weak suites",
            hello([3, 3], &[0x9c, 0x2f, 0x35, 0x0a, 0x02, 0x34, 0xc009, 0xc013], &[0], &usual()),
            HANDSHAKE_FAILURE,
        ),
    ] {
        for answer in answers(&world, &bytes).await {
            let [0x15, _, _, 0, 2, 2, found] = answer[..] else {
                panic!("{name}: {answer:?}");
            };
            assert_eq!(found, alert, "{name}");
        }
    }
    // where compression is offered it is not taken
    for answer in answers(&world, &hello([3, 3], GOOD, &[1, 0], &usual())).await {
        let session = usize::from(answer[43]);
        let [suite @ .., method] = &answer[44 + session..47 + session] else { panic!() };
        assert_eq!(answer[..6], [0x16, 3, 3, answer[3], answer[4], 2], "a ServerHello");
        assert!(GOOD.contains(&u16::from_be_bytes(suite.try_into().unwrap())), "{suite:?}");
        assert_eq!(*method, 0);
    }
    for answer in answers(&world, &hello([3, 3], GOOD, &[1], &usual())).await {
        assert_eq!((answer[0], answer[5], answer.len()), (0x15, 2, 7), "{answer:?}");
    }
    world.is_alive().await;
}

#[tokio::test]
async fn a_36_nothing_that_is_sent_early_is_ever_read() {
    // 0-RTT: a hello of TLS 1.3 with a ticket of nobody and data behind it (RFC 9325 §3.10)
    let mut world = World::start().await;
    let early = [
        usual(),
        extension(43, &[2, 3, 4]),
        // X25519, the base point
        extension(51, &[&[0, 36, 0, 0x1d, 0, 32, 9][..], &[0; 31]].concat()),
        extension(45, &[1, 1]),
        extension(42, &[]),
        extension(
            41,
            &[&[0, 38, 0, 32][..], &[5; 32], &[0, 0, 0, 0], &[0, 33, 32], &[6; 32]].concat(),
        ),
    ];
    let hello = hello([3, 3], &[0x1301], &[0], &early.concat());
    let stream = header("evil.test", "old.test");
    let length = u16::try_from(stream.len()).unwrap().to_be_bytes();
    let data = [&[0x17, 3, 3], &length[..], stream.as_bytes()].concat();
    for answer in answers(&world, &[hello, data].concat()).await {
        // a handshake that goes on as if nothing had come early, or none at all
        assert!(matches!(answer.first(), Some(0x15 | 0x16)), "{answer:?}");
    }
    world.is_alive().await;
}

/// A handshake with a configuration that would resume sessions; which kind it was, and whether
/// what was said early was taken.
async fn kind(world: &World, config: &Arc<ClientConfig>, from: &str, external: bool) {
    let socket = TcpStream::connect(world.direct()).await.unwrap();
    let name = ServerName::try_from("old.test").unwrap();
    let connector = TlsConnector::from(Arc::clone(config));
    let mut tls = soon("TLS", connector.connect(name, socket)).await.unwrap();
    tls.write_all(header(from, "old.test").as_bytes()).await.unwrap();
    tls.flush().await.unwrap();
    let mut text = String::new();
    while !text.ends_with(FEATURES_END) {
        let read = soon("features", tokio::io::AsyncReadExt::read_u8(&mut tls)).await.unwrap();
        text.push(char::from(read));
    }
    let session = tls.get_ref().1;
    assert_eq!(session.handshake_kind(), Some(HandshakeKind::Full));
    assert!(!session.is_early_data_accepted());
    assert_eq!(text.contains("EXTERNAL"), external, "{text}");
}

#[tokio::test]
async fn a_38_no_session_is_resumed_so_every_stream_shows_its_certificate() {
    let mut world = World::start().await;
    let identity = world.authority.issue(&["evil.test"]);
    for version in [&TLS12, &TLS13] {
        let builder = || {
            let versions: [&'static SupportedProtocolVersion; 1] = [version];
            ClientConfig::builder_with_protocol_versions(&versions)
                .with_root_certificates(world.authority.roots())
        };
        let mut with =
            builder().with_client_auth_cert(identity.chain(), identity.private_key()).unwrap();
        with.enable_early_data = true;
        let mut without = builder().with_no_client_auth();
        // what the proven one got the other would use
        without.resumption = with.resumption.clone();
        without.enable_early_data = true;
        let (with, without) = (Arc::new(with), Arc::new(without));
        for _ in 0..2 {
            kind(&world, &with, "evil.test", true).await;
            kind(&world, &without, "evil.test", false).await;
            kind(&world, &with, "good.test", false).await;
        }
    }
    world.is_alive().await;
}

#[tokio::test]
async fn a_38_a_certificate_that_expired_on_the_stream_proves_no_further_pair() {
    let mut world = World::start().await;
    let host = world.host("evil.test").await;
    let now = || rustls::pki_types::UnixTime::now().as_secs();
    let end = now() + 3;
    let identity = world.authority.issue_with(&[San::dns("evil.test")], |params| {
        super::certificates::valid(params, end - 60, end);
    });
    let mut conns = Vec::new();
    for _ in 0..2 {
        let mut conn = world.secured(Some(&identity)).await;
        conn.say(header("evil.test", "old.test")).await;
        assert!(conn.until(FEATURES_END).await.contains("EXTERNAL"));
        conns.push(conn);
    }
    while now() <= end {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    conns[0].say(EXTERNAL).await;
    conns[0].until("<not-authorized/></failure>").await;
    // by dialback its server is asked, as that of any other
    conns[1].say("<db:result from='evil.test' to='old.test'>k</db:result>").await;
    let mut verify = host.accept_offered("").await;
    let question = verify.until("</db:verify>").await;
    let id = crate::world::attribute(&question[question.find("<db:verify").unwrap()..], "id");
    verify
        .say(format!("<db:verify from='evil.test' to='old.test' id='{id}' type='invalid'/>"))
        .await;
    assert!(conns[1].rest().await.contains("type='invalid'/></stream:stream>"));
    world.is_alive().await;
}

#[tokio::test]
async fn a_46_chains_and_certificates_without_measure_prove_nothing() {
    let mut world = World::with(BOUNCE).await;
    let name = |n: usize| San::Dns(format!("{n}.a-name-that-is-rather-long.test"));
    let padding: Vec<Identity> = (0..10)
        .map(|n| {
            world.authority.issue_with(&[San::dns("padding.test")], |params| {
                params.distinguished_name.push(rcgen::DnType::CommonName, n.to_string());
            })
        })
        .collect();
    let padding: Vec<&Identity> = padding.iter().collect();
    for (count, proven) in [(9, true), (10, false)] {
        let domain = format!("chain{count}.test");
        let identity = world.authority.issue(&[&domain]).followed_by(&padding[..count]);
        assert_eq!(world.proves_client(&identity, &domain).await, proven, "{count} more");
        assert_eq!(world.proves_server(&identity, &domain).await, proven, "{count} more");
    }
    let names: Vec<San> = (0..1000).map(name).collect();
    let large = world.authority.issue_with(&names, |_| {});
    let kilobytes =
        |identity: &Identity| identity.chain().iter().map(|one| one.len()).sum::<usize>() >> 10;
    let names: Vec<San> = [San::dns("large.test")].into_iter().chain(names).collect();
    let identity = world.authority.issue_with(&names, |_| {});
    assert!((30..64).contains(&kilobytes(&identity)));
    assert!(world.proves_client(&identity, "large.test").await);
    // together so large that the handshake ends
    let identity = identity.followed_by(&[&large]);
    assert!((65..200).contains(&kilobytes(&identity)));
    let mut conn = Conn::open(world.direct(), "127.0.0.1").await;
    let _ = conn.connect_tls(world.authority.client(Some(&identity), &[]), "old.test").await;
    conn.say(header("large.test", "old.test")).await;
    conn.ends_silently().await;
    let mut host = world.host("large.test").await;
    host.identity = identity;
    let _stream = world.sends("large.test").await;
    let mut conn = host.accept_starttls().await;
    conn.say(PROCEED).await;
    let _ = conn.accept_tls(host.identity.server()).await;
    world.bounced("large.test", "remote-server-timeout").await;
    // a hello that says it will be long, and never is
    let mut conn = Conn::open(world.direct(), "127.0.0.1").await;
    conn.say([0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff]).await;
    conn.say([0; 20_000]).await;
    assert!(!has_xml(&conn.rest_bytes().await));
    let host = world.host("after.test").await;
    let _stream = world.sends("after.test").await;
    assert!(offered(&host).await.0);
    world.bounced("after.test", "remote-server-timeout").await;
    world.is_alive().await;
}
