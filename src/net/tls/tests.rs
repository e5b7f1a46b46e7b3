//! Handshakes over loopback TCP, with ourselves and with plain rustls as the other end.

use std::io;

use arc_swap::ArcSwap;
use rustls::{
    HandshakeKind, RootCertStore,
    pki_types::{CertificateDer, UnixTime},
    server::WebPkiClientVerifier,
};
use tempfile::TempDir;
use tokio::{io::AsyncReadExt, net::TcpListener};

use super::{testing::certified, *};
use crate::{
    auth::{
        Prooftype,
        pkix::{
            self, PkixError, ReferenceIds,
            testing::{Ca, Issued, San, self_signed},
        },
    },
    config::model::CertificateFiles,
};

const BOTH: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

/// A context with these certificates; the domains are local.
fn context(certificates: &[&Issued], domains: &[&str], min: TlsVersion) -> TlsContext {
    let dir: TempDir = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (i, issued) in certificates.iter().enumerate() {
        let pair = CertificateFiles {
            cert: dir.path().join(format!("{i}.crt")),
            key: dir.path().join(format!("{i}.key")),
        };
        std::fs::write(&pair.cert, &issued.pem).unwrap();
        std::fs::write(&pair.key, issued.key.serialize_pem()).unwrap();
        files.push(pair);
    }
    let domains: Vec<_> = domains.iter().map(|name| domain(name)).collect();
    let (store, _) = CertificateStore::load(&files, &domains, dir.path()).unwrap();
    TlsContext::new(store, min).unwrap()
}

async fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (opened, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    (opened.unwrap(), accepted.unwrap().0)
}

/// A certificate with the key of another.
fn certified_as(certificate: CertificateDer<'static>, key: &Issued) -> CertifiedKey {
    let key = Arc::clone(&certified(key).key);
    CertifiedKey::new(vec![certificate], key)
}

/// A client of plain rustls that trusts everything.
fn client(
    version: &'static SupportedProtocolVersion,
    key: Option<Arc<CertifiedKey>>,
) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(RecordingVerifier::new()));
    match key {
        Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
        None => builder.with_no_client_auth(),
    }
}

/// Lets a plain client handshake with a context.
async fn handshake(
    config: impl Into<Arc<ClientConfig>>,
    sni: &str,
    context: &TlsContext,
    how: Accept<'_>,
) -> (
    Result<tokio_rustls::client::TlsStream<TcpStream>, HandshakeError>,
    Result<Secured, HandshakeError>,
) {
    let (near, far) = tcp().await;
    let name = ServerName::try_from(sni.to_owned()).unwrap();
    let connector = TlsConnector::from(config.into());
    let (client, server) = tokio::join!(connector.connect(name, near), context.accept(far, how));
    (client.map_err(HandshakeError::from), server)
}

#[test]
fn there_are_no_facts_before_the_handshake_is_over() {
    let ca = Ca::new("Root");
    let (a, b) = (ca.server(&["a.example"]), ca.server(&["b.example"]));
    let (near, far) = testing::facts("b.example", Some(&a), &b);
    assert_eq!(near.peer_chain().first(), Some(&b.certificate));
    assert_eq!(far.peer_chain().first(), Some(&a.certificate));
    assert!(!testing::facts("b.example", None, &b).1.has_peer_certificate());
}

#[tokio::test]
async fn two_of_us_prove_each_other_by_either_way_in() {
    let ca = Ca::new("Root");
    let a = ca.server(&["a.example"]);
    let b = ca.server(&["b.example"]);
    let ours = context(&[&a], &["a.example"], TlsVersion::V1_2);
    let theirs = context(&[&b], &["b.example"], TlsVersion::V1_3);
    let to = domain("b.example");
    for (connect, accept, alpn) in [
        (Connect::Direct, Accept::Direct, Some(ALPN)),
        (Connect::StartTls, Accept::StartTls { to: Some(&to) }, None),
    ] {
        let (near, far) = tcp().await;
        let from = domain("a.example");
        let (near, far) = tokio::join!(
            ours.connect(near, &to, connect, ClientCertificate::For(&from)),
            theirs.accept(far, accept)
        );
        let (mut near, mut far) = (near.unwrap(), far.unwrap());
        for (facts, name) in [(&near.facts, &to), (&far.facts, &from)] {
            assert_eq!(facts.version_str(), "TLSv1.3");
            assert!(facts.cipher_suite().starts_with("TLS13_"));
            assert_eq!(facts.alpn(), alpn);
            assert_eq!(facts.sni(), Some("b.example"));
            let proof = pkix::verify(
                facts.peer_chain(),
                &ca.roots(),
                ReferenceIds::of(name),
                UnixTime::now(),
            );
            assert_eq!(proof.unwrap().prooftype(), Prooftype::Pkix);
        }
        near.stream.write_all(b"ping").await.unwrap();
        let mut read = [0; 4];
        far.stream.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"ping");
    }
}

#[tokio::test]
async fn a_client_certificate_is_recorded_in_every_handshake_and_none_is_resumed() {
    let ca = Ca::new("Root");
    let ours = context(&[&ca.server(&["b.example"])], &["b.example"], TlsVersion::V1_2);
    let peer = ca.server(&["a.example"]);
    for version in BOTH {
        let config = Arc::new(client(version, Some(certified(&peer))));
        for _ in 0..3 {
            let (client, server) =
                handshake(Arc::clone(&config), "b.example", &ours, Accept::Direct).await;
            let (mut client, mut server) = (client.unwrap(), server.unwrap());
            assert_eq!(client.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
            assert_eq!(server.facts.peer_chain().first(), Some(&peer.certificate));
            // a ticket would come with the first bytes
            server.stream.write_all(b"x").await.unwrap();
            client.read_u8().await.unwrap();
        }
    }
}

#[tokio::test]
async fn no_certificate_is_no_obstacle_and_neither_is_a_bad_one() {
    let ours = context(&[], &["b.example"], TlsVersion::V1_2);
    let critical = self_signed(&[San::Dns("a.example")], |p| {
        let mut extension = rcgen::CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0]);
        extension.set_criticality(true);
        p.custom_extensions.push(extension);
    });
    // the month of a date is no number
    let dateless = self_signed(&[San::Dns("a.example")], |_| {});
    let mut der = dateless.certificate.to_vec();
    let date = der.windows(2).position(|tag| tag == [0x17, 13]).unwrap();
    der[date + 4] = b'x';
    let roots = Ca::new("Root").roots();
    for version in BOTH {
        for (key, reason) in [
            (None, "no-certificate"),
            (Some(Arc::new(certified_as(der.clone().into(), &dateless))), "malformed"),
            (Some(certified(&self_signed(&[San::Dns("a.example")], |_| {}))), "self-signed"),
            (Some(certified(&critical)), "invalid"),
        ] {
            let presented = key.is_some();
            let (_, server) =
                handshake(client(version, key), "b.example", &ours, Accept::Direct).await;
            let facts = server.unwrap().facts;
            assert_eq!(facts.has_peer_certificate(), presented);
            let name = domain("a.example");
            let judged =
                pkix::verify(facts.peer_chain(), &roots, ReferenceIds::of(&name), UnixTime::now());
            assert_eq!(judged.as_ref().map_err(PkixError::reason), Err(reason));
        }
    }
}

#[tokio::test]
async fn a_certificate_without_its_key_ends_the_handshake() {
    let ca = Ca::new("Root");
    let ours = context(&[&ca.server(&["b.example"])], &["b.example"], TlsVersion::V1_2);
    let stolen = ca.server(&["good.example"]).certificate;
    let own = ca.server(&["evil.example"]);
    for version in BOTH {
        let key = Arc::new(certified_as(stolen.clone(), &own));
        let config = client(version, Some(Arc::clone(&key)));
        let (_, server) = handshake(config, "b.example", &ours, Accept::Direct).await;
        assert!(matches!(server, Err(HandshakeError::Protocol(_))), "{server:?}");

        let config = server_config(version, key, None);
        let near = against(&ours, config, ClientCertificate::Withheld).await.0;
        assert!(matches!(near, Err(HandshakeError::Protocol(_))), "{near:?}");
    }
}

/// A server of plain rustls.
fn server_config(
    version: &'static SupportedProtocolVersion,
    key: Arc<CertifiedKey>,
    client_ca: Option<&Ca>,
) -> ServerConfig {
    let builder =
        ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[version]).unwrap();
    let builder = match client_ca {
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add(ca.certificate.clone()).unwrap();
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                    .allow_unauthenticated()
                    .build()
                    .unwrap(),
            )
        }
        None => builder.with_no_client_auth(),
    };
    builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
}

/// Connects a context to a plain server.
async fn against(
    context: &TlsContext,
    config: ServerConfig,
    certificate: ClientCertificate<'_>,
) -> (Result<Secured, HandshakeError>, io::Result<tokio_rustls::server::TlsStream<TcpStream>>) {
    let (near, far) = tcp().await;
    let peer = domain("peer.example");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    tokio::join!(context.connect(near, &peer, Connect::Direct, certificate), acceptor.accept(far))
}

#[tokio::test]
async fn a_peer_that_refuses_our_purpose_is_recognised_and_content_without_certificate() {
    let ca = Ca::new("Root");
    let ours = context(&[&ca.server(&["a.example"])], &["a.example"], TlsVersion::V1_2);
    let a = domain("a.example");
    for version in BOTH {
        // a stock verifier demands clientAuth of a certificate that has serverAuth only
        let strict = || server_config(version, certified(&ca.server(&["peer.example"])), Some(&ca));
        let (near, far) = against(&ours, strict(), ClientCertificate::For(&a)).await;
        assert!(far.is_err());
        if version.version == rustls::ProtocolVersion::TLSv1_2 {
            assert!(matches!(near, Err(HandshakeError::CertificateAlert(_))), "{near:?}");
        } else {
            let error = near.unwrap().stream.read_u8().await.unwrap_err();
            assert!(is_certificate_alert(&error).is_some(), "{error}");
        }

        let (near, far) = against(&ours, strict(), ClientCertificate::Withheld).await;
        far.unwrap();
        // and a server that selects no ALPN is an old TLS terminator
        assert_eq!(near.unwrap().facts.alpn(), None);
    }
}

#[tokio::test]
async fn a_domain_without_certificate_shows_the_first() {
    let ca = Ca::new("Root");
    let (host, named) = (ca.server(&["host.example"]), ca.server(&["named.example"]));
    let ours = context(&[&host, &named], &["hosted.example", "named.example"], TlsVersion::V1_2);
    let theirs = context(&[&ca.server(&["b.example"])], &["b.example"], TlsVersion::V1_2);
    let b = domain("b.example");
    for (from, shown) in [("hosted.example", &host), ("named.example", &named)] {
        let (near, far) = tcp().await;
        let from = domain(from);
        let (near, far) = tokio::join!(
            ours.connect(near, &b, Connect::StartTls, ClientCertificate::For(&from)),
            theirs.accept(far, Accept::StartTls { to: None })
        );
        near.unwrap();
        assert_eq!(far.unwrap().facts.peer_chain()[0], shown.certificate, "{from}");
    }
}

#[tokio::test]
async fn the_server_name_chooses_the_certificate_and_an_unknown_one_is_refused_on_direct_tls() {
    let ca = Ca::new("Root");
    let a = ca.server(&["a.example"]);
    let b = ca.server(&["b.example"]);
    let ours = context(&[&a, &b], &["a.example", "b.example"], TlsVersion::V1_2);
    let to = domain("b.example");
    for version in BOTH {
        for (sni, how, expected) in [
            ("a.example", Accept::Direct, Some(&a)),
            ("b.example", Accept::Direct, Some(&b)),
            ("unknown.example", Accept::Direct, None),
            // an address is no server name: the client sends none
            ("127.0.0.1", Accept::Direct, Some(&a)),
            ("a.example", Accept::StartTls { to: Some(&to) }, Some(&a)),
            ("unknown.example", Accept::StartTls { to: Some(&to) }, Some(&b)),
            ("127.0.0.1", Accept::StartTls { to: Some(&to) }, Some(&b)),
            ("unknown.example", Accept::StartTls { to: None }, Some(&a)),
        ] {
            let (client, server) = handshake(client(version, None), sni, &ours, how).await;
            let Some(expected) = expected else {
                assert!(matches!(server, Err(HandshakeError::UnknownName(name)) if name == sni));
                assert!(matches!(client, Err(HandshakeError::Alert("unrecognized_name"))));
                continue;
            };
            let client = client.unwrap();
            let shown = client.get_ref().1.peer_certificates().unwrap();
            assert_eq!(shown.first(), Some(&expected.certificate), "{sni} {how:?}");
            let sni = (sni != "127.0.0.1").then_some(sni);
            assert_eq!(server.unwrap().facts.sni(), sni);
        }
    }
}

#[tokio::test]
async fn alpn_is_judged_on_direct_tls_only() {
    let ours = context(&[], &["b.example"], TlsVersion::V1_2);
    let starttls = Accept::StartTls { to: None };
    for version in BOTH {
        for (offered, how, expected) in [
            (vec![], Accept::Direct, Ok(None)),
            (vec!["xmpp-server"], Accept::Direct, Ok(Some(ALPN))),
            (vec!["h2", "xmpp-server"], Accept::Direct, Ok(Some(ALPN))),
            (vec!["h2"], Accept::Direct, Err(())),
            (vec!["xmpp-client"], Accept::Direct, Err(())),
            (vec!["h2"], starttls, Ok(None)),
            (vec![], starttls, Ok(None)),
        ] {
            let mut config = client(version, None);
            config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
            let (client, server) = handshake(config, "b.example", &ours, how).await;
            match expected {
                Ok(alpn) => assert_eq!(server.unwrap().facts.alpn(), alpn, "{offered:?}"),
                Err(()) => {
                    assert!(matches!(server, Err(HandshakeError::OtherProtocol)), "{offered:?}");
                    let client = client.map(drop);
                    assert!(
                        matches!(client, Err(HandshakeError::Alert("no_application_protocol"))),
                        "{client:?}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn versions_below_the_least_are_refused() {
    let modern = context(&[], &["b.example"], TlsVersion::V1_3);
    let (client, server) =
        handshake(client(&TLS12, None), "b.example", &modern, Accept::Direct).await;
    assert!(matches!(server, Err(HandshakeError::Version)), "{server:?}");
    assert!(matches!(client, Err(HandshakeError::Alert("protocol_version"))));

    // TLS 1.0: a hello with one CBC suite and no extensions
    let ours = context(&[], &["b.example"], TlsVersion::V1_2);
    let mut hello = vec![22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 1];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    let (server, answer) = accept_bytes(&ours, &hello).await;
    assert!(matches!(server, Err(HandshakeError::Version)), "{server:?}");
    assert_eq!((answer[0], answer[5]), (21, 2), "a fatal alert: {answer:?}");
}

/// What a context makes of these first bytes, and what it answers.
async fn accept_bytes(
    context: &TlsContext,
    bytes: &[u8],
) -> (Result<Secured, HandshakeError>, Vec<u8>) {
    let (mut near, far) = tcp().await;
    near.write_all(bytes).await.unwrap();
    near.shutdown().await.unwrap();
    let server = context.accept(far, Accept::Direct).await;
    let mut answer = Vec::new();
    let _ = near.read_to_end(&mut answer).await;
    (server, answer)
}

#[tokio::test]
async fn what_is_no_handshake_has_its_words() {
    let ours = context(&[], &["b.example"], TlsVersion::V1_2);
    for (bytes, expected) in [
        (&b"GET / HTTP/1.1\r\nHost: b.example\r\n\r\n"[..], "peer does not speak TLS"),
        (b"<?xml version='1.0'?><stream:stream>", "peer does not speak TLS"),
        (b"", "peer closed the connection during the TLS handshake"),
        (&[22, 3, 1, 0, 100, 1], "peer closed the connection during the TLS handshake"),
    ] {
        let (server, _) = accept_bytes(&ours, bytes).await;
        assert_eq!(server.unwrap_err().to_string(), expected);
    }
}

#[tokio::test]
async fn a_new_store_serves_new_handshakes_and_leaves_old_streams_alone() {
    let ca = Ca::new("Root");
    let old = ca.server(&["b.example"]);
    let new = ca.server(&["b.example"]);
    let current = ArcSwap::from_pointee(context(&[&old], &["b.example"], TlsVersion::V1_2));
    let config = Arc::new(client(&TLS13, None));
    let shown = |client: &tokio_rustls::client::TlsStream<TcpStream>| {
        client.get_ref().1.peer_certificates().unwrap()[0].clone()
    };

    let (first, server) =
        handshake(Arc::clone(&config), "b.example", &current.load(), Accept::Direct).await;
    let (mut first, mut server) = (first.unwrap(), server.unwrap());
    assert_eq!(shown(&first), old.certificate);

    current.store(Arc::new(context(&[&new], &["b.example"], TlsVersion::V1_2)));
    let (second, _) = handshake(config, "b.example", &current.load(), Accept::Direct).await;
    assert_eq!(shown(&second.unwrap()), new.certificate);
    server.stream.write_all(b"x").await.unwrap();
    assert_eq!(first.read_u8().await.unwrap(), b'x');
}
