//! Domain pairs that share a connection to a peer (RFC 7712 §4.4, XEP-0220 §2.6; SH-1 to SH-6,
//! DB-23 to DB-26; attack row A-21), and how they come apart again.

use std::ops::Range;

use crate::world::{
    BOUNCE, Conn, FOOTER, Host, Plan, Service, World, attribute, features, message_to,
};

const NAMES: [&str; 3] = ["a.test", "b.test", "c.test"];

/// A server of all [`NAMES`] at one address, whose certificate has these names, and its first
/// connection, which carries messages from `old.test` to `a.test`.
async fn first(world: &World, certificate: &[&str], features: &str) -> (Host, Conn) {
    let host = Host::bind("a.test", world.authority.issue(certificate));
    for name in NAMES {
        world.dns.publish(name, Service::StartTls, &[host.address]);
    }
    let _stream = world.sends("a.test").await;
    let (mut conn, _) = host.accept_with(features).await;
    conn.until(&message_to("a.test")).await;
    (host, conn)
}

fn valid(from: &str, to: &str) -> String {
    format!("<db:result from='{from}' to='{to}' type='valid'/>")
}

fn error(from: &str, to: &str, condition: &str) -> String {
    format!(
        "<db:result from='{from}' to='{to}' type='error'><error type='cancel'>\
         <{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></db:result>"
    )
}

/// The gate asks for one more pair on a connection.
async fn asks(conn: &mut Conn, from: &str, to: &str) {
    let request = conn.until("</db:result>").await;
    let start = format!("<db:result from='{from}' to='{to}'>");
    assert!(request.starts_with(&start), "{start}: {request}");
}

/// The connection still carries messages to `a.test`, and nothing else came on it before.
async fn carries(world: &World, conn: &mut Conn) {
    let _stream = world.sends("a.test").await;
    assert_eq!(conn.until("</message>").await, message_to("a.test"));
}

#[tokio::test]
async fn a_target_that_the_certificate_names_joins_the_connection() {
    // SH-1, DB-24
    let mut world = World::with(BOUNCE).await;
    let (host, mut conn) = first(&world, &NAMES, &features(true, false)).await;
    for name in ["b.test", "c.test"] {
        let mut stream = world.sends(name).await;
        asks(&mut conn, "old.test", name).await;
        // a stanza that comes meanwhile waits with the other
        stream.say(&message_to(name)).await;
        carries(&world, &mut conn).await;
        conn.say(valid(name, "old.test")).await;
        for _ in 0..2 {
            assert_eq!(conn.until("</message>").await, message_to(name));
        }
    }
    for name in ["c.test", "a.test", "b.test"] {
        let _stream = world.sends(name).await;
        assert_eq!(conn.until("</message>").await, message_to(name));
    }
    host.nobody_waits().await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_target_that_the_certificate_does_not_name_gets_a_connection_of_its_own() {
    // A-21, SH-2
    let mut world = World::with(BOUNCE).await;
    let (host, mut conn) = first(&world, &["a.test"], &features(true, false)).await;
    let _stream = world.sends("b.test").await;
    let mut own = host.accept_offered(&features(true, false)).await;
    asks(&mut own, "old.test", "b.test").await;
    own.say(valid("b.test", "old.test")).await;
    assert_eq!(own.until("</message>").await, message_to("b.test"));
    carries(&world, &mut conn).await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_target_at_another_address_or_port_gets_a_connection_of_its_own() {
    // DB-24
    let mut world = World::with(BOUNCE).await;
    let (host, mut conn) = first(&world, &NAMES, &features(true, false)).await;
    let port = Host::bind("b.test", host.identity.clone());
    let mut address = host.address;
    address.set_ip("127.0.0.2".parse().unwrap());
    let address = Host::bind_at(address, "c.test", host.identity.clone());
    for other in [port, address] {
        world.dns.publish(&other.domain, Service::StartTls, &[other.address]);
        let _stream = world.sends(&other.domain).await;
        let (mut own, _) = other.accept_with(&features(true, false)).await;
        assert_eq!(own.until("</message>").await, message_to(&other.domain));
    }
    carries(&world, &mut conn).await;
    world.is_alive().await;
}

#[tokio::test]
async fn without_dialback_errors_only_other_senders_join() {
    // DB-23, DB-24
    let mut world = World::with(BOUNCE).await;
    let (host, mut conn) = first(&world, &NAMES, &features(false, false)).await;
    let _stream = world.sends("b.test").await;
    let (mut own, _) = host.accept_with(&features(false, false)).await;
    assert_eq!(own.until("</message>").await, message_to("b.test"));
    let mut stream = world.legacy.open_as("rooms.old.test", "a.test").await;
    let stanza = "<message from='r@rooms.old.test' to='m@a.test' id='1'><body>x</body></message>";
    stream.say(stanza).await;
    asks(&mut conn, "rooms.old.test", "a.test").await;
    conn.say(valid("a.test", "rooms.old.test")).await;
    assert_eq!(conn.until("</message>").await, stanza);
    carries(&world, &mut conn).await;
    host.nobody_waits().await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_peer_that_does_no_dialback_gets_a_connection_for_each_pair() {
    // it would not answer, or end the stream of all
    const EXTERNAL: &str = "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
        <mechanism>EXTERNAL</mechanism></mechanisms>";
    let mut world = World::with(BOUNCE).await;
    let (host, mut conn) = first(&world, &NAMES, EXTERNAL).await;
    let mut stream = world.legacy.open_as("rooms.old.test", "a.test").await;
    let stanza = "<message from='r@rooms.old.test' to='m@a.test' id='1'><body>x</body></message>";
    stream.say(stanza).await;
    let (mut own, _) = host.accept_with(EXTERNAL).await;
    assert_eq!(own.until("</message>").await, stanza);
    carries(&world, &mut conn).await;
    host.nobody_waits().await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_pair_that_is_refused_is_the_only_one_that_bounces() {
    let mut world = World::with(BOUNCE).await;
    let (host, mut conn) = first(&world, &NAMES, &features(true, false)).await;
    for (condition, bounced) in
        [("item-not-found", "remote-server-not-found"), ("forbidden", "remote-server-timeout")]
    {
        let _stream = world.sends("b.test").await;
        asks(&mut conn, "old.test", "b.test").await;
        conn.say(error("b.test", "old.test", condition)).await;
        world.bounced("b.test", bounced).await;
        // late answers count for nothing
        conn.say(valid("b.test", "old.test")).await;
        carries(&world, &mut conn).await;
        world.reload("").unwrap(); // makes the gate try at once
    }
    host.nobody_waits().await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_pair_for_which_the_stream_is_too_full_gets_another() {
    // SH-6
    let mut world = World::with(BOUNCE).await;
    let (host, mut conn) = first(&world, &NAMES, &features(true, false)).await;
    let _stream = world.sends("b.test").await;
    asks(&mut conn, "old.test", "b.test").await;
    conn.say(error("b.test", "old.test", "resource-constraint")).await;
    let (mut own, _) = host.accept_with(&features(true, false)).await;
    assert_eq!(own.until("</message>").await, message_to("b.test"));
    carries(&world, &mut conn).await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_pair_that_gets_no_answer_bounces_and_joins_no_more() {
    // DB-26
    let config = "limits: { connect: 1s, tcp_connect: 1s }";
    let mut world = World::with(Plan { config, ..BOUNCE }).await;
    let (host, mut conn) = first(&world, &NAMES, &features(true, false)).await;
    let _stream = world.sends("b.test").await;
    asks(&mut conn, "old.test", "b.test").await;
    world.bounced("b.test", "remote-server-timeout").await;
    conn.say(valid("b.test", "old.test")).await;
    carries(&world, &mut conn).await;
    world.reload("").unwrap(); // makes the gate try at once
    let _stream = world.sends("b.test").await;
    let (mut own, _) = host.accept_with(&features(true, false)).await;
    assert_eq!(own.until("</message>").await, message_to("b.test"));
    carries(&world, &mut conn).await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_peer_that_ends_the_stream_over_a_further_pair_gets_a_stream_for_each() {
    // DB-26
    let host_unknown = "<stream:error><host-unknown \
        xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>";
    for end in [host_unknown, FOOTER, ""] {
        let mut world = World::with(BOUNCE).await;
        let (host, mut conn) = first(&world, &NAMES, &features(true, false)).await;
        let _stream = world.sends("b.test").await;
        asks(&mut conn, "old.test", "b.test").await;
        conn.say(end).await;
        conn.finish().await;
        assert_eq!(conn.rest().await, FOOTER);
        for name in ["b.test", "a.test", "c.test"] {
            let _stream = world.sends(name).await;
            let (mut own, _) = host.accept_with(&features(true, false)).await;
            assert_eq!(own.until("</message>").await, message_to(name));
            if name == "b.test" {
                // the first one waited for its answer when the stream ended
                assert_eq!(own.until("</message>").await, message_to(name));
            }
            // all of them stay open
            tokio::spawn(async move { own.rest().await });
        }
        world.is_alive().await;
    }
}

/// Numbered messages of some size.
fn numbered(to: &str, numbers: Range<u32>) -> String {
    let padding = "x".repeat(1000);
    let one = |n| {
        format!(
            "<message from='bob@old.test' to='m@{to}' id='{n}'><body>{padding}</body></message>"
        )
    };
    numbers.map(one).collect()
}

/// The numbers of the whole messages to `domain` in a text.
fn numbers(text: &str, domain: &str) -> Vec<u32> {
    text.split_inclusive("</message>")
        .filter(|part| part.ends_with("</message>") && part.contains(&format!("to='m@{domain}'")))
        .map(|part| attribute(part, "id").parse().unwrap())
        .collect()
}

#[tokio::test]
async fn what_a_broken_stream_did_not_take_of_its_pairs_goes_over_others_once_and_in_order() {
    // I6, I9
    let plan = Plan { config: "limits: { queue: 32MiB, stanza: 64KiB }", ..BOUNCE };
    for polite in [true, false] {
        let mut world = World::with(plan.clone()).await;
        let (host, mut conn) = first(&world, &NAMES, &features(true, false)).await;
        let mut streams = Vec::new();
        for name in ["a.test", "b.test"] {
            streams.push(world.legacy.open(name).await);
        }
        streams[1].say(&numbered("b.test", 0..1)).await;
        asks(&mut conn, "old.test", "b.test").await;
        conn.say(valid("b.test", "old.test")).await;
        conn.until("</message>").await;
        // more than all buffers hold; that all of it was taken shows when the honest pass behind
        for part in 0..60 {
            streams[0].say(&numbered("a.test", 100 * part..100 * part + 100)).await;
            streams[1].say(&numbered("b.test", 100 * part + 1..100 * part + 101)).await;
        }
        world.is_alive().await;
        if polite {
            conn.say(FOOTER).await;
        } else {
            conn.finish().await;
        }
        let start = conn.rest().await;
        let mut serving = host.serve();
        let mut of_a = numbers(&start, "a.test");
        let mut of_b = numbers(&start, "b.test");
        assert!(!of_a.is_empty() && !of_b.is_empty(), "both had their turns");
        assert!(of_a.len() < 5900 && of_b.len() < 5900);
        while of_a.len() < 6000 || of_b.len() < 6000 {
            let message = serving.arrival().await;
            of_a.extend(numbers(&message, "a.test"));
            of_b.extend(numbers(&message, "b.test"));
        }
        assert!(of_a.iter().copied().eq(0..6000), "lost, doubled or out of order");
        assert!(of_b.iter().copied().eq(1..6001), "lost, doubled or out of order");
        world.is_alive().await;
    }
}

#[tokio::test]
async fn policy_takes_one_pair_off_the_connection() {
    // AB-2
    let mut world = World::with(BOUNCE).await;
    let (host, mut conn) = first(&world, &NAMES, &features(true, false)).await;
    let mut stream = world.sends("b.test").await;
    asks(&mut conn, "old.test", "b.test").await;
    conn.say(valid("b.test", "old.test")).await;
    conn.until(&message_to("b.test")).await;
    world.reload("rules: [{ match: b.test, allow: none }]").unwrap();
    stream.say(&message_to("b.test")).await;
    world.bounced("b.test", "forbidden").await;
    carries(&world, &mut conn).await;
    // and lets it back
    world.reload("").unwrap();
    stream.say(&message_to("b.test")).await;
    asks(&mut conn, "old.test", "b.test").await;
    conn.say(valid("b.test", "old.test")).await;
    assert_eq!(conn.until("</message>").await, message_to("b.test"));
    host.nobody_waits().await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_target_of_which_a_rule_wants_better_tls_does_not_join() {
    let mut world = World::with(BOUNCE).await;
    world.reload("rules: [{ match: b.test, tls: { min: '1.3' } }]").unwrap();
    let host = Host::bind("a.test", world.authority.issue(&NAMES)).with_tls12();
    for name in NAMES {
        world.dns.publish(name, Service::StartTls, &[host.address]);
    }
    let _stream = world.sends("a.test").await;
    let (mut conn, _) = host.accept_with(&features(true, false)).await;
    conn.until(&message_to("a.test")).await;
    let _stream = world.sends("b.test").await;
    // one of its own is no better
    let mut own = host.accept_secured().await;
    assert!(!own.rest().await.contains("db:result"));
    world.bounced("b.test", "remote-server-timeout").await;
    carries(&world, &mut conn).await;
    world.is_alive().await;
}

#[tokio::test]
async fn behind_pairs_that_nobody_answers_no_others_wait() {
    // DB-26: sixteen are asked for at a time
    let mut world = World::with(BOUNCE).await;
    let names: Vec<String> = (0..19).map(|n| format!("d{n}.test")).collect();
    let of_all: Vec<&str> = names.iter().map(String::as_str).collect();
    let host = Host::bind("d0.test", world.authority.issue(&of_all));
    for name in &names {
        world.dns.publish(name, Service::StartTls, &[host.address]);
    }
    let mut streams = vec![world.sends("d0.test").await];
    let (mut conn, _) = host.accept_with(&features(true, false)).await;
    conn.until(&message_to("d0.test")).await;
    for name in &names[1..] {
        streams.push(world.sends(name).await);
    }
    for _ in 0..16 {
        conn.until("</db:result>").await;
    }
    let (mut bounced, mut arrived) = (0, 0);
    for _ in 0..2 {
        let (mut own, _) = host.accept_with(&features(true, false)).await;
        arrived += own.until("</message>").await.matches("<message ").count();
        tokio::spawn(async move { own.rest().await });
    }
    while bounced < 16 {
        let bounce = world.legacy.arrival().await;
        assert!(bounce.contains("<remote-server-timeout "), "{bounce}");
        bounced += 1;
    }
    assert_eq!(arrived, 2);
    world.is_alive().await;
}

#[tokio::test]
async fn a_full_stream_takes_no_more_pairs() {
    // SH-6
    let config = "limits: { connect: 3s, tcp_connect: 1s, pairs_per_stream: 2 }";
    let mut world = World::with(Plan { config, ..BOUNCE }).await;
    let (host, mut conn) = first(&world, &NAMES, &features(true, false)).await;
    let _stream = world.sends("b.test").await;
    asks(&mut conn, "old.test", "b.test").await;
    conn.say(valid("b.test", "old.test")).await;
    conn.until(&message_to("b.test")).await;
    let _stream = world.sends("c.test").await;
    let (mut own, _) = host.accept_with(&features(true, false)).await;
    assert_eq!(own.until("</message>").await, message_to("c.test"));
    carries(&world, &mut conn).await;
    world.is_alive().await;
}

#[tokio::test]
async fn two_hundred_pairs_go_over_one_connection() {
    let mut world = World::with(BOUNCE).await;
    let names: Vec<String> = (0..200).map(|n| format!("d{n}.test")).collect();
    let of_all: Vec<&str> = names.iter().map(String::as_str).collect();
    let host = Host::bind("d0.test", world.authority.issue(&of_all));
    for name in &names {
        world.dns.publish(name, Service::StartTls, &[host.address]);
    }
    let mut serving = host.serve();
    let _stream = world.sends("d0.test").await;
    assert_eq!(serving.arrival().await, message_to("d0.test"));
    let mut streams = Vec::new();
    for name in &names {
        streams.push(world.sends(name).await);
    }
    let mut missing: Vec<String> = names.iter().map(|name| message_to(name)).collect();
    while !missing.is_empty() {
        let message = serving.arrival().await;
        let at = missing.iter().position(|expected| *expected == message);
        missing.swap_remove(at.unwrap_or_else(|| panic!("twice: {message}")));
    }
    assert_eq!(serving.connections(), 1);
    world.is_alive().await;
}
