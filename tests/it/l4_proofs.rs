//! Who the peer is that the gate has connected to (protocol §9.2, §12.4; attack rows,
//! certificates, dialback, and which addresses are tried.

use hickory_proto::rr::RecordType;
use tokio::time::{Duration, sleep};

use crate::world::{
    BOUNCE, FOOTER, Host, Identity, MECHANISMS, Plan, Service, World, has_xml, header_with,
    message_to, soon,
};

#[tokio::test]
async fn a_refused_certificate_leaves_dialback_on_the_same_stream() {
    // EX-9
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    let _stream = world.sends("evil.test").await;
    let mut conn = host.accept_auth().await;
    conn.say("<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>").await;
    let request = conn.until("</db:result>").await;
    assert!(request.contains("<db:result from='old.test' to='evil.test'>"), "{request}");
    conn.say("<db:result from='evil.test' to='old.test' type='valid'/>").await;
    conn.until(&message_to("evil.test")).await;
    world.is_alive().await;
}

#[tokio::test]
async fn answers_to_another_question_open_nothing() {
    // A-6, DB-5: on the right stream, with other names, swapped, or of the other kind
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    let _stream = world.sends("evil.test").await;
    let (mut conn, _) = host.accept_request().await;
    for wrong in [
        "<db:result from='old.test' to='evil.test' type='valid'/>",
        "<db:result from='good.test' to='old.test' type='valid'/>",
        "<db:result from='evil.test' to='rooms.old.test' type='valid'/>",
        "<db:verify from='evil.test' to='old.test' id='i1' type='valid'/>",
        "<db:result from='evil.test' to='old.test'>k</db:result>",
        "<db:result from='evil.test' to='old.test' type='maybe'/>",
    ] {
        conn.say(wrong).await;
    }
    conn.say("<db:result from='evil.test' to='old.test' type='invalid'/>").await;
    assert_eq!(conn.rest().await, FOOTER);
    world.bounced("evil.test", "internal-server-error").await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_certificate_for_another_name_is_never_authenticated_to() {
    // EX-7, A-41
    let mut world = World::with(BOUNCE).await;
    let mut host = world.host("evil.test").await;
    host.identity = world.authority.issue(&["other.test"]);
    let _stream = world.sends("evil.test").await;
    let mut conn = host.accept_secured().await;
    host.greet(&mut conn).await;
    conn.say(MECHANISMS).await;
    let said = conn.until("</db:result>").await;
    assert!(!said.contains("<auth"), "{said}");
    drop(conn);
    world.bounced("evil.test", "remote-server-timeout").await;
    world.is_alive().await;
}

#[tokio::test]
async fn where_trust_is_asked_for_a_certificate_for_another_name_ends_it() {
    let config = "limits: { connect: 3s, tcp_connect: 1s }
rules: [{ match: '*.evil.test', level: trusted }]";
    let mut world = World::with(Plan { config, ..BOUNCE }).await;
    for (domain, identity) in [
        ("a.evil.test", world.authority.issue(&["b.evil.test"])),
        ("c.evil.test", Identity::self_signed("c.evil.test")),
    ] {
        let mut host = world.host(domain).await;
        host.identity = identity;
        let _stream = world.sends(domain).await;
        let mut conn = host.accept_secured().await;
        conn.ends_silently().await;
        world.bounced(domain, "remote-server-timeout").await;
    }
    world.is_alive().await;
}

#[tokio::test]
async fn the_next_server_of_a_domain_is_tried_when_one_is_of_no_use() {
    let mut world = World::with(BOUNCE).await;
    let identity = world.authority.issue(&["evil.test"]);
    let bad = Host::bind("evil.test", identity.clone());
    let good = Host::bind("evil.test", identity);
    world.dns.publish("evil.test", Service::StartTls, &[bad.address, good.address]);
    let _stream = world.sends("evil.test").await;
    let mut conn = bad.accept().await;
    conn.say("</stream:stream>").await;
    conn.rest().await;
    let mut conn = good.accept_open().await;
    conn.until(&message_to("evil.test")).await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_target_for_direct_tls_is_never_spoken_to_in_the_clear() {
    // TLS-10, A-30
    let mut world = World::with(BOUNCE).await;
    let host = Host::bind("evil.test", world.authority.issue(&["evil.test"]));
    world.dns.publish("evil.test", Service::Direct, &[host.address]);
    let _stream = world.sends("evil.test").await;
    let mut conn = host.accept().await;
    conn.accept_tls(host.identity.server()).await.unwrap();
    host.greet(&mut conn).await;
    conn.say(
        "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>",
    )
    .await;
    let said = conn.until("</db:result>").await;
    assert!(!said.contains("starttls"), "{said}");
    conn.say("<db:result from='evil.test' to='old.test' type='valid'/>").await;
    conn.until(&message_to("evil.test")).await;
    // one that speaks no TLS
    let host = Host::bind("clear.test", world.authority.issue(&["clear.test"]));
    world.dns.publish("clear.test", Service::Direct, &[host.address]);
    let _stream = world.sends("clear.test").await;
    let mut conn = host.accept().await;
    conn.say(header_with("from='clear.test' id='1' version='1.0'")).await;
    assert!(!has_xml(&conn.rest_bytes().await));
    world.bounced("clear.test", "remote-server-timeout").await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_domain_whose_server_is_the_gate_itself_is_no_loop() {
    //
    let mut world = World::with(BOUNCE).await;
    world.dns.publish("loop.test", Service::StartTls, &[world.public()]);
    let _stream = world.sends("loop.test").await;
    world.bounced("loop.test", "remote-server-not-found").await;
    world.is_alive().await;
}

#[tokio::test]
async fn nobody_is_dialled_at_an_address_that_is_guarded() {
    //
    let config = "limits: { connect: 3s, tcp_connect: 1s }
rules: [{ address: 127.0.0.66, allow: none }]";
    let mut world = World::with(Plan { config, ..BOUNCE }).await;
    world.dns.publish("evil.test", Service::StartTls, &["127.0.0.66:5269".parse().unwrap()]);
    let _stream = world.sends("evil.test").await;
    world.bounced("evil.test", "forbidden").await;
    world.is_alive().await;
}

/// Where DNS leaves out just what would say that a pair's server is where it was, nobody knows that it
/// is not: a family of addresses, or one of two servers whose other one is not there.
#[tokio::test]
async fn no_pair_is_withdrawn_over_half_of_an_answer() {
    for has_ipv6 in [true, false] {
        let mut world = World::with(BOUNCE).await;
        let host = world.host("evil.test").await;
        if has_ipv6 {
            world.dns.record("host1.evil.test", RecordType::AAAA, "2001:db8::1");
        } else {
            let port = host.address.port();
            let name = "_xmpp-server._tcp.evil.test";
            world.dns.record(name, RecordType::SRV, &format!("9 0 {port} nowhere.evil.test."));
        }
        let rule = "{ address: '2001:db8::/32', allow: none }";
        world.reload(&format!("rules: [{rule}]")).unwrap();
        let _stream = world.sends("evil.test").await;
        let mut conn = host.accept_open().await;
        conn.until(&message_to("evil.test")).await;
        // all is proven again, and nothing kept of what was asked
        world.dns.fail_ipv4("host1.evil.test");
        let before = world.dns.asked().len();
        let rules = format!("rules: [{rule}, {{ match: other.test, proofs: pkix }}]");
        world.reload(&rules).unwrap();
        let last = if has_ipv6 { "host1.evil.test." } else { "nowhere.evil.test." };
        soon("the question", async {
            while !world.dns.asked()[before..].iter().any(|asked| asked == last) {
                sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        world.is_alive().await;
        let _stream = world.sends("evil.test").await;
        conn.until(&message_to("evil.test")).await;
        world.is_alive().await;
        host.nobody_waits().await;
    }
}
