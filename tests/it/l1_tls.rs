//! Around the start of TLS (protocol §2; attack rows ): injection, nonsense in
//! place of a handshake, ALPN and server names on the direct TLS port.

use std::sync::Arc;

use rustls::ClientConfig;

use crate::world::{Conn, EXTERNAL, PROCEED, Plan, STARTTLS, World, has_xml, header};

#[tokio::test]
async fn bytes_behind_starttls_are_never_taken_for_what_comes_after_it() {
    // A-32, TLS-4: in the same segment, whatever they are
    let mut world = World::start().await;
    for injected in [
        header("evil.test", "old.test"),
        EXTERNAL.to_owned(),
        "<db:result from='evil.test' to='old.test'>k</db:result>".into(),
        "<message from='m@evil.test' to='bob@old.test'/>".into(),
        " ".into(),
    ] {
        let mut conn = world.clear("evil.test").await;
        conn.say(format!("{STARTTLS}{injected}")).await;
        let text = conn.rest().await;
        assert!(matches!(text.as_str(), "" | PROCEED), "{injected}: {text}");
    }
    // in a segment of their own they meet the handshake
    let mut conn = world.clear("evil.test").await;
    conn.say(STARTTLS).await;
    conn.until(PROCEED).await;
    conn.say(header("evil.test", "old.test")).await;
    let alert = conn.rest_bytes().await;
    assert!(!has_xml(&alert), "{alert:?}");
    world.is_alive().await;
}

#[tokio::test]
async fn starttls_is_not_offered_twice() {
    // TLS-2, TLS-10
    let mut world = World::start().await;
    let mut conn = world.proven("evil.test").await;
    conn.say(STARTTLS).await;
    let text = conn.rest().await;
    assert_eq!(text, "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>");
    world.is_alive().await;
}

#[tokio::test]
async fn nonsense_in_place_of_tls_ends_the_connection_without_xmpp() {
    // TLS-2
    let mut world = World::start().await;
    for nonsense in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 0xff, 0xff], &[0; 512], b"<"] {
        let mut direct = Conn::open(world.direct(), "127.0.0.1").await;
        let mut upgraded = world.clear("evil.test").await;
        upgraded.say(STARTTLS).await;
        upgraded.until(PROCEED).await;
        for conn in [&mut direct, &mut upgraded] {
            conn.say(nonsense).await;
            conn.finish().await;
            let end = conn.rest_bytes().await;
            assert!(!has_xml(&end), "{end:?}");
        }
    }
    world.is_alive().await;
}

/// A handshake on the direct TLS port, and then a stream.
async fn direct(world: &World, alpn: &[&str], name: &str) -> std::io::Result<Conn> {
    let mut conn = Conn::open(world.direct(), "127.0.0.1").await;
    let identity = world.authority.issue(&["evil.test"]);
    conn.connect_tls(world.authority.client(Some(&identity), alpn), name).await?;
    conn.say(header("evil.test", "old.test")).await;
    conn.until("</stream:features>").await;
    Ok(conn)
}

#[tokio::test]
async fn direct_tls_is_for_xmpp_servers_only() {
    // TLS-11, A-37
    let mut world = World::start().await;
    for alpn in [&[][..], &["xmpp-server"], &["h2", "xmpp-server"]] {
        direct(&world, alpn, "old.test").await.unwrap();
    }
    for alpn in [&["h2"][..], &["xmpp-client"], &["http/1.1", "xmpp-client"]] {
        let error = direct(&world, alpn, "old.test").await.err().unwrap();
        assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    }
    // TLS-12
    let error = direct(&world, &["xmpp-server"], "unknown.test").await.err().unwrap();
    assert!(error.to_string().contains("UnrecognisedName"), "{error}");
    // TLS-10
    let mut conn = direct(&world, &[], "old.test").await.unwrap();
    conn.say(STARTTLS).await;
    conn.until("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
    world.is_alive().await;
}

#[tokio::test]
async fn tls_below_the_configured_version_is_refused() {
    //
    let plan = Plan { config: "  min_version: '1.3'", ..Plan::DEFAULT };
    let mut world = World::with(plan).await;
    let old = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS12])
        .with_root_certificates(world.authority.roots())
        .with_no_client_auth();
    let mut conn = Conn::open(world.direct(), "127.0.0.1").await;
    let error = conn.connect_tls(Arc::new(old), "old.test").await.unwrap_err();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
    world.is_alive().await;
}

#[tokio::test]
async fn the_certificate_is_that_of_the_header_s_domain_when_the_client_names_none() {
    // TLS-6, A-19: the server name is a hint and proves nothing
    let mut world = World::start().await;
    let mut conn = world.clear("evil.test").await;
    conn.say(STARTTLS).await;
    conn.until(PROCEED).await;
    let identity = world.authority.issue(&["evil.test"]);
    let config = world.authority.client(Some(&identity), &[]);
    conn.connect_tls(config, "rooms.old.test").await.unwrap();
    conn.say(header("evil.test", "nobody.test")).await;
    conn.ends_with_header_and("host-unknown").await;
    world.is_alive().await;
}
