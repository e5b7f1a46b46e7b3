//! Streams that carry stanzas both ways (XEP-0288; BI-1 to BI-5; attack row A-25): those that peers
//! open to us, and those that we open to them.

use std::time::Duration;

use tokio::time::timeout;

use crate::world::{
    Authority, BIDI, BOUNCE, Conn, EXTERNAL, FEATURES_END, FOOTER, Host, Plan, Service, World,
    attribute, features, header, message_to, soon,
};

const FEATURE: &str = "<bidi xmlns='urn:xmpp:features:bidi'/>";

/// A stream of a peer that carries stanzas both ways, by SASL EXTERNAL, and has carried the message that
/// the peer opened it for.
async fn from_peer(world: &mut World, from: &str) -> Conn {
    let mut conn = world.secured(Some(&world.authority.issue(&[from]))).await;
    conn.say(header(from, "old.test")).await;
    let offered = conn.until(FEATURES_END).await;
    assert!(offered.contains(FEATURE), "{offered}");
    conn.say(BIDI).await;
    conn.say(EXTERNAL).await;
    conn.until("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
    conn.say(header(from, "old.test")).await;
    let offered = conn.until(FEATURES_END).await;
    assert!(!offered.contains(FEATURE), "too late for it: {offered}");
    speak(world, &mut conn, from).await;
    conn
}

/// The same by dialback, without a certificate: `host` is asked about the key.
async fn by_dialback(world: &mut World, host: &Host) -> Conn {
    let mut conn = world.secured(None).await;
    conn.say(header("evil.test", "old.test")).await;
    conn.until(FEATURES_END).await;
    conn.say(BIDI).await;
    conn.say("<db:result from='evil.test' to='old.test'>k</db:result>").await;
    let mut asked = host.accept_offered("").await;
    let question = asked.until("</db:verify>").await;
    let id = attribute(&question, "id");
    asked.say(format!("<db:verify from='evil.test' to='old.test' id='{id}' type='valid'/>")).await;
    conn.until("type='valid'/>").await;
    speak(world, &mut conn, "evil.test").await;
    conn
}

/// A message of the peer arrives: nothing goes back on its stream before.
async fn speak(world: &mut World, conn: &mut Conn, from: &str) {
    conn.say(message_from(from)).await;
    assert_eq!(world.legacy.arrival().await, message_from(from));
}

/// A stream of ours to a peer that carries stanzas both ways, and one message already.
async fn to_peer(world: &World, host: &Host) -> Conn {
    let _stream = world.sends(&host.domain).await;
    let (mut conn, said) = host.accept_with(&features(true, true)).await;
    let limits = "<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>524288</max-bytes>\
        <idle-seconds>1800</idle-seconds></limits>";
    assert!(said.starts_with(&format!("<bidi xmlns='urn:xmpp:bidi'>{limits}</bidi>")), "{said}");
    conn.until(&message_to(&host.domain)).await;
    conn
}

/// The operator closes the stream with the peer, of which there is one.
fn close(world: &World) {
    let monitor = world.app.monitor();
    let of_peer: Vec<_> = monitor.streams().into_iter().filter(|s| s.side == "peer").collect();
    let [stream] = &of_peer[..] else { panic!("{of_peer:?}") };
    assert!(monitor.close(stream.id));
}

fn message_from(domain: &str) -> String {
    format!("<message from='m@{domain}' to='bob@old.test' id='8'><body>hello</body></message>")
}

/// Numbered messages of some size.
fn numbered(from: &str, to: &str, count: u32, size: usize) -> String {
    let padding = "x".repeat(size);
    let one =
        |n| format!("<message from='{from}' to='{to}' id='{n}'><body>{padding}</body></message>");
    (0..count).map(one).collect()
}

// === streams that peers open ===

#[tokio::test]
async fn what_the_legacy_server_answers_goes_back_on_the_peers_stream() {
    // nothing in DNS says where the peer is
    let mut world = World::start().await;
    let mut conn = from_peer(&mut world, "evil.test").await;
    for _ in 0..2 {
        speak(&mut world, &mut conn, "evil.test").await;
        let _stream = world.sends("evil.test").await;
        assert_eq!(conn.until("</message>").await, message_to("evil.test"));
    }
    assert!(!world.dns.was_asked("evil.test"));
    world.is_alive().await;
}

#[tokio::test]
async fn dialback_opens_the_way_back_too() {
    let mut world = World::start().await;
    let host = world.host("evil.test").await;
    let mut conn = by_dialback(&mut world, &host).await;
    let _stream = world.sends("evil.test").await;
    assert_eq!(conn.until("</message>").await, message_to("evil.test"));
    world.is_alive().await;
}

#[tokio::test]
async fn a_peer_that_could_not_be_reached_is_as_soon_as_it_comes() {
    let mut world = World::with(BOUNCE).await;
    let _stream = world.sends("evil.test").await;
    world.bounced("evil.test", "remote-server-not-found").await;
    let mut conn = from_peer(&mut world, "evil.test").await;
    let _stream = world.sends("evil.test").await;
    assert_eq!(conn.until("</message>").await, message_to("evil.test"));
    world.is_alive().await;
}

#[tokio::test]
async fn a_stream_that_begins_anew_by_external_carries_nothing_meanwhile() {
    // RFC 6120 §6.4.6: pairs of before authentication are over
    let mut world = World::with(BOUNCE).await;
    let mut conn = world.secured(Some(&world.authority.issue(&["evil.test"]))).await;
    conn.say(header("evil.test", "old.test")).await;
    conn.until(FEATURES_END).await;
    conn.say(BIDI).await;
    conn.say("<db:result from='evil.test' to='old.test'>k</db:result>").await;
    conn.until("type='valid'/>").await;
    speak(&mut world, &mut conn, "evil.test").await;
    let mut stream = world.sends("evil.test").await;
    assert_eq!(conn.until("</message>").await, message_to("evil.test"));
    conn.say(EXTERNAL).await;
    conn.until("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
    // nothing else leads to the peer
    stream.say(&message_to("evil.test")).await;
    world.bounced("evil.test", "remote-server-not-found").await;
    conn.say(header("evil.test", "old.test")).await;
    let text = conn.until(FEATURES_END).await;
    assert!(!text.contains("<message"), "{text}");
    speak(&mut world, &mut conn, "evil.test").await;
    stream.say(&message_to("evil.test")).await;
    assert_eq!(conn.until("</message>").await, message_to("evil.test"));
    world.is_alive().await;
}

#[tokio::test]
async fn a_pair_that_was_not_granted_is_not_sent_on_the_peers_stream() {
    // BI-2
    let mut world = World::with(BOUNCE).await;
    let mut conn = from_peer(&mut world, "evil.test").await;
    let mut stream = world.legacy.open_as("rooms.old.test", "evil.test").await;
    stream.say("<message from='r@rooms.old.test' to='m@evil.test' id='1'/>").await;
    let bounce = world.legacy.arrival().await;
    assert!(bounce.contains("<remote-server-not-found "), "{bounce}");
    let _stream = world.sends("sub.evil.test").await;
    world.bounced("sub.evil.test", "remote-server-not-found").await;
    let _stream = world.sends("evil.test").await;
    assert_eq!(conn.until("</message>").await, message_to("evil.test"));
    world.is_alive().await;
}

#[tokio::test]
async fn a_peer_that_did_not_ask_for_it_gets_a_stream_of_ours() {
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    let mut conn = world.authenticated("evil.test").await;
    conn.say(BIDI).await; // too late
    conn.say(message_from("evil.test")).await;
    assert_eq!(world.legacy.arrival().await, message_from("evil.test"));
    let _stream = world.sends("evil.test").await;
    let mut own = host.accept_open().await;
    assert_eq!(own.until("</message>").await, message_to("evil.test"));
    conn.say(FOOTER).await;
    assert_eq!(conn.rest().await, FOOTER);
    world.is_alive().await;
}

#[tokio::test]
async fn a_peer_that_closes_its_stream_gets_the_next_stanza_on_one_of_ours() {
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    for polite in [true, false] {
        let mut conn = from_peer(&mut world, "evil.test").await;
        let _stream = world.sends("evil.test").await;
        assert_eq!(conn.until("</message>").await, message_to("evil.test"));
        if polite {
            conn.say(FOOTER).await;
            assert_eq!(conn.rest().await, FOOTER);
        } else {
            conn.finish().await;
            assert_eq!(conn.rest().await, "");
        }
        let _stream = world.sends("evil.test").await;
        let mut own = host.accept_open().await;
        assert_eq!(own.until("</message>").await, message_to("evil.test"));
        own.say(FOOTER).await;
        own.rest().await;
    }
    world.is_alive().await;
}

#[tokio::test]
async fn a_peers_stream_that_is_closed_gets_nothing_more_and_nothing_waits_for_its_end() {
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    let mut conn = from_peer(&mut world, "evil.test").await;
    let mut stream = world.sends("evil.test").await;
    assert_eq!(conn.until("</message>").await, message_to("evil.test"));
    close(&world);
    conn.until("</stream:error>").await;
    assert_eq!(conn.until(FOOTER).await, FOOTER);
    stream.say(&message_to("evil.test")).await;
    let mut own = host.accept_open().await;
    assert_eq!(own.until("</message>").await, message_to("evil.test"));
    speak(&mut world, &mut conn, "evil.test").await;
    conn.say(FOOTER).await;
    conn.ends_silently().await;
    world.is_alive().await;
}

#[tokio::test]
async fn what_a_peers_broken_stream_did_not_take_goes_over_one_of_ours_in_order() {
    // I6, I9
    let plan = Plan { config: "limits: { queue: 32MiB, stanza: 64KiB }", ..BOUNCE };
    let mut world = World::with(plan).await;
    let host = world.host("evil.test").await;
    let mut conn = from_peer(&mut world, "evil.test").await;
    let mut stream = world.legacy.open("evil.test").await;
    stream.say(&numbered("bob@old.test", "m@evil.test", 12_000, 1000)).await;
    conn.until("</message>").await;
    world.is_alive().await;
    drop(conn);
    let mut own = host.accept_open().await;
    let text = own.until(" id='11999'><body>").await;
    let first: u32 = attribute(&text[text.find("<message").unwrap()..], "id").parse().unwrap();
    assert!(first > 0, "the first message was read");
    let ids = text.split("<message ").skip(1).map(|part| attribute(part, "id"));
    assert!(ids.eq((first..12_000).map(|n| n.to_string())), "lost, doubled or out of order");
    // Of what TLS was given when the connection broke nobody knows: those before the first one that
    // went on come back, all that there are of them.
    let mut unknown = Vec::new();
    while let Ok(bounce) = timeout(Duration::from_secs(2), world.legacy.arrival()).await {
        assert!(bounce.contains("<remote-server-timeout"), "{bounce}");
        unknown.push(attribute(&bounce, "id").parse::<u32>().unwrap());
    }
    let count = unknown.len() as u32;
    assert!(unknown.into_iter().eq(first - count..first), "lost, doubled or out of order");
    world.is_alive().await;
}

#[tokio::test]
async fn policy_ends_the_way_back_and_not_the_way_in() {
    let mut world = World::with(BOUNCE).await;
    let mut conn = from_peer(&mut world, "evil.test").await;
    let mut stream = world.sends("evil.test").await;
    assert_eq!(conn.until("</message>").await, message_to("evil.test"));
    world.reload("rules: [{ match: evil.test, allow: inbound }]").unwrap();
    stream.say(&message_to("evil.test")).await;
    world.bounced("evil.test", "forbidden").await;
    conn.say(message_from("evil.test")).await;
    assert_eq!(world.legacy.arrival().await, message_from("evil.test"));
    conn.say(FOOTER).await;
    assert_eq!(conn.rest().await, FOOTER);
    world.is_alive().await;
}

#[tokio::test]
async fn a_certificate_that_answered_for_the_peer_is_not_one_that_it_showed() {
    // who is asked about a key need not be at the other end of the stream that brought it
    let config = "limits: { connect: 3s, tcp_connect: 1s }\ndefaults: { level: trusted }";
    let mut world = World::with(Plan { config, ..BOUNCE }).await;
    let host = world.host("evil.test").await;
    let mut conn = by_dialback(&mut world, &host).await;
    let _stream = world.sends("evil.test").await;
    let mut own = host.accept_open().await;
    assert_eq!(own.until("</message>").await, message_to("evil.test"));
    conn.say(FOOTER).await;
    assert_eq!(conn.rest().await, FOOTER);
    world.is_alive().await;
}

#[tokio::test]
async fn a_way_back_that_falls_short_later_gives_way_to_a_stream_of_ours() {
    let config = "limits: { connect: 3s, tcp_connect: 1s }\ndefaults: { downgrade: refuse }";
    let mut world = World::with(Plan { config, ..BOUNCE }).await;
    let host = world.host("evil.test").await;
    let _conn = by_dialback(&mut world, &host).await;
    // to another pair the same peer shows more than it did there
    let mut other = world.legacy.open_as("rooms.old.test", "evil.test").await;
    let stanza = "<message from='rooms.old.test' to='m@evil.test'/>";
    other.say(stanza).await;
    let mut own = host.accept_open().await;
    own.until(stanza).await;
    own.say(FOOTER).await;
    own.rest().await;
    let _stream = world.sends("evil.test").await;
    let mut own = host.accept_open().await;
    assert_eq!(own.until("</message>").await, message_to("evil.test"));
    world.is_alive().await;
}

#[tokio::test]
async fn whom_one_direction_trusts_the_other_need_not() {
    let mut world = World::with(BOUNCE).await;
    let partner = Authority::new();
    partner.write(&world.path().with_file_name("partner.pem"));
    let rule = |direction| {
        format!(
            "rules: [{{ match: evil.test, direction: {direction}, level: trusted, \
             tls: {{ roots: ../partner.pem }} }}]"
        )
    };
    world.reload(&rule("outbound")).unwrap();
    let host = Host::bind("evil.test", partner.issue(&["evil.test"]));
    world.dns.publish("evil.test", Service::StartTls, &[host.address]);
    let mut conn = from_peer(&mut world, "evil.test").await;
    let stream = world.sends("evil.test").await;
    let mut own = host.accept_open().await;
    assert_eq!(own.until("</message>").await, message_to("evil.test"));
    conn.say(FOOTER).await;
    assert_eq!(conn.rest().await, FOOTER);
    own.say(FOOTER).await;
    own.rest().await;
    drop(stream);
    // and the same the other way
    world.reload(&rule("inbound")).unwrap();
    let host = world.host("evil.test").await;
    let _stream = world.sends("evil.test").await;
    let (mut conn, said) = host.accept_with(&features(true, true)).await;
    assert!(said.starts_with("<auth "), "{said}");
    assert_eq!(conn.until("</message>").await, message_to("evil.test"));
    world.is_alive().await;
}

#[tokio::test]
async fn a_stream_that_has_said_its_last_words_is_no_way_back() {
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    let mut conn = from_peer(&mut world, "evil.test").await;
    world.app.drain();
    conn.until(FOOTER).await;
    // it is open for what the peer may still say
    let _stream = world.sends("evil.test").await;
    let mut own = host.accept_open().await;
    assert_eq!(own.until("</message>").await, message_to("evil.test"));
}

#[tokio::test]
async fn much_goes_both_ways_on_a_peers_stream() {
    let plan = Plan { config: "limits: { queue: 32MiB }", ..BOUNCE };
    let mut world = World::with(plan).await;
    let conn = from_peer(&mut world, "evil.test").await;
    both_ways(&mut world, conn).await;
}

// === streams that we open ===

#[tokio::test]
async fn what_a_peer_says_on_our_stream_arrives() {
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    let mut conn = to_peer(&world, &host).await;
    for _ in 0..3 {
        conn.say(message_from("evil.test")).await;
        assert_eq!(world.legacy.arrival().await, message_from("evil.test"));
        let _stream = world.sends("evil.test").await;
        assert_eq!(conn.until("</message>").await, message_to("evil.test"));
    }
    host.nobody_waits().await;
    // and the operator sees it
    let streams = world.app.monitor().streams();
    let ours = streams.iter().find(|stream| stream.side == "peer").unwrap();
    assert_eq!((ours.stanzas_in, ours.pairs_total), (3, 2), "{ours:?}");
    assert_eq!(ours.bytes_in, 3 * message_from("evil.test").len() as u64);
    world.is_alive().await;
}

#[tokio::test]
async fn what_a_peer_says_until_it_closes_our_stream_arrives() {
    // RFC 6120 §4.4
    for ends in [false, true] {
        let mut world = World::with(BOUNCE).await;
        let host = world.host("evil.test").await;
        let mut conn = to_peer(&world, &host).await;
        let mut end = None;
        if ends {
            let World { app, legacy, .. } = world;
            end = Some(tokio::spawn(app.shutdown()));
            assert_eq!(conn.until(FOOTER).await, FOOTER);
            conn.say(message_from("evil.test") + FOOTER).await;
            let mut legacy = legacy;
            assert_eq!(legacy.arrival().await, message_from("evil.test"));
        } else {
            close(&world);
            assert_eq!(conn.until(FOOTER).await, FOOTER);
            // what there is to be sent does not wait for that
            let _stream = world.sends("evil.test").await;
            host.accept_open().await.until(&message_to("evil.test")).await;
            conn.say(message_from("evil.test") + FOOTER).await;
            assert_eq!(world.legacy.arrival().await, message_from("evil.test"));
            world.is_alive().await;
        }
        conn.ends_silently().await;
        if let Some(end) = end {
            soon("the end", end).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_stanza_right_behind_the_last_features_arrives() {
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    let _stream = world.sends("evil.test").await;
    let mut conn = host.accept_offered(&features(true, true)).await;
    conn.until("</auth>").await;
    conn.say("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
    host.greet(&mut conn).await;
    conn.say(format!("<stream:features/>{}", message_from("evil.test"))).await;
    assert_eq!(world.legacy.arrival().await, message_from("evil.test"));
    conn.until(&message_to("evil.test")).await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_further_pair_that_is_valid_brings_its_stanzas_too() {
    // BI-2: not before the answer
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    let mut conn = to_peer(&world, &host).await;
    let from_rooms = "<message from='r@rooms.old.test' to='m@evil.test' id='1'></message>";
    let to_rooms = "<message from='m@evil.test' to='r@rooms.old.test' id='2'></message>";
    let mut stream = world.legacy.open_as("rooms.old.test", "evil.test").await;
    stream.say(from_rooms).await;
    let asked = conn.until("</db:result>").await;
    assert!(asked.contains("from='rooms.old.test' to='evil.test'"), "{asked}");
    conn.say("<db:result from='evil.test' to='rooms.old.test' type='valid'/>").await;
    assert_eq!(conn.until("</message>").await, from_rooms);
    conn.say(to_rooms).await;
    assert_eq!(world.legacy.arrival().await, to_rooms);
    let shown = world.app.monitor().streams().into_iter().flat_map(|stream| stream.pairs);
    let comes =
        |pair: &fedgate::ops::report::Pair| pair.target == "rooms.old.test" && pair.stanzas == 1;
    assert_eq!(shown.filter(|pair| pair.direction == "inbound" && comes(pair)).count(), 2);
    host.nobody_waits().await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_peer_that_may_not_send_is_not_asked_to() {
    let config = "limits: { connect: 3s, tcp_connect: 1s }\n\
        rules: [{ match: evil.test, allow: outbound }]";
    let mut world = World::with(Plan { config, ..BOUNCE }).await;
    let host = world.host("evil.test").await;
    let _stream = world.sends("evil.test").await;
    let (mut conn, said) = host.accept_with(&features(true, true)).await;
    assert!(said.starts_with("<auth ") && !said.contains("bidi"), "{said}");
    conn.until(&message_to("evil.test")).await;
    conn.say(message_from("evil.test")).await;
    let _stream = world.sends("evil.test").await;
    assert_eq!(conn.until("</message>").await, message_to("evil.test"));
    world.is_alive().await;
}

#[tokio::test]
async fn a_peer_that_is_denied_later_sends_no_more_on_our_stream() {
    // AB-2
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    let mut conn = to_peer(&world, &host).await;
    conn.say(message_from("evil.test")).await;
    assert_eq!(world.legacy.arrival().await, message_from("evil.test"));
    world.reload("rules: [{ match: evil.test, allow: outbound }]").unwrap();
    world.is_alive().await;
    let _stream = world.sends("evil.test").await;
    assert_eq!(conn.until("</message>").await, message_to("evil.test"));
    conn.say(message_from("evil.test")).await;
    conn.ends_with("not-authorized").await;
    world.is_alive().await;
}

#[tokio::test]
async fn much_goes_both_ways_on_our_stream() {
    let plan = Plan { config: "limits: { queue: 32MiB }", ..BOUNCE };
    let mut world = World::with(plan).await;
    let host = world.host("evil.test").await;
    let conn = to_peer(&world, &host).await;
    both_ways(&mut world, conn).await;
    host.nobody_waits().await;
}

/// The peer writes all before it reads anything, while as much is sent to it.
async fn both_ways(world: &mut World, mut conn: Conn) {
    const COUNT: u32 = 5000;
    // in all more than the sockets hold
    const SIZE: usize = 4000;
    let mut stream = world.legacy.open("evil.test").await;
    let there = numbered("bob@old.test", "m@evil.test", COUNT, SIZE);
    let back = numbered("m@evil.test", "bob@old.test", COUNT, SIZE);
    let peer = async {
        conn.say(&back).await;
        let last = format!(" id='{}'><body>", COUNT - 1);
        let mut text = conn.until(&last).await;
        text += &conn.until("</message>").await;
        text
    };
    let legacy = async {
        let mut text = String::new();
        for _ in 0..COUNT {
            text += &world.legacy.arrival().await;
        }
        text
    };
    let ((), at_peer, at_legacy) = tokio::join!(stream.say(&there), peer, legacy);
    assert!(at_peer == there, "lost, doubled or out of order");
    assert!(at_legacy == back, "lost, doubled or out of order");
    world.is_alive().await;
}

#[tokio::test]
async fn a_pair_that_is_denied_while_it_is_asked_for_brings_nothing() {
    // AB-2, whatever the peer answers, and when
    for (rule, answered) in [("none", false), ("none", true), ("inbound", false), ("inbound", true)]
    {
        let mut world = World::with(BOUNCE).await;
        let names = ["evil.test", "b.test"];
        let host = Host::bind("evil.test", world.authority.issue(&names));
        for name in names {
            world.dns.publish(name, Service::StartTls, &[host.address]);
        }
        let mut conn = to_peer(&world, &host).await;
        let mut stream = world.sends("b.test").await;
        conn.until("</db:result>").await;
        let valid = "<db:result from='b.test' to='old.test' type='valid'/>";
        if answered {
            conn.say(valid).await;
            conn.until(&message_to("b.test")).await;
        }
        world.reload(&format!("rules: [{{ match: b.test, allow: {rule} }}]")).unwrap();
        if answered {
            stream.say(&message_to("b.test")).await;
        }
        world.bounced("b.test", "forbidden").await;
        if !answered {
            conn.say(valid).await;
        }
        conn.say(message_from("b.test")).await;
        conn.ends_with("invalid-from").await;
        world.is_alive().await;
    }
}
