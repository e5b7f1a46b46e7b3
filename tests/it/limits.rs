//! Each limit that one can reach through the wire, reached and not reached. Where somebody has to
//! wait, only that it was not less is looked at.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::world::{
    Authority, BOUNCE, Conn, EXTERNAL, FEATURES_END, FOOTER, Identity, PeerTls, Plan, Service,
    Station, Style, World, assert_error, attribute, header, message_to, soon,
};

/// A gate with these limits.
async fn world(config: &'static str) -> World {
    World::with(Plan { config, ..Plan::DEFAULT }).await
}

/// A message of so many bytes.
fn message(from: &str, to: &str, id: u32, len: usize) -> String {
    let frame = format!("<message from='{from}' to='{to}' id='{id}'><body></body></message>");
    let padding = "x".repeat(len.saturating_sub(frame.len()));
    frame.replace("<body>", &format!("<body>{padding}"))
}

fn inbound(id: u32, len: usize) -> String {
    message("m@evil.test", "bob@old.test", id, len)
}

fn outbound(id: u32, len: usize) -> String {
    message("bob@old.test", "m@evil.test", id, len)
}

/// These arrive at the legacy server, in this order.
async fn arrive(world: &mut World, ids: std::ops::Range<u32>) {
    for id in ids {
        let stanza = world.legacy.arrival().await;
        assert_eq!(attribute(&stanza, "id"), id.to_string(), "{stanza}");
    }
}

// === rates ===

#[tokio::test]
async fn stanzas_that_come_too_fast_wait_and_none_is_lost() {
    let mut world = world("limits: { stanza_rate: 2/s, burst: 1s }").await;
    let mut one = world.authenticated("evil.test").await;
    let mut other = world.authenticated("evil.test").await;
    let start = Instant::now();
    one.say((0..8).map(|id| inbound(id, 0)).collect::<String>()).await;
    arrive(&mut world, 0..8).await;
    one.say(inbound(8, 0)).await;
    arrive(&mut world, 8..9).await;
    // eight are four seconds, one of which is the burst
    assert!(start.elapsed() >= Duration::from_secs(3));
    // nine and one more: all streams of the domain count together
    other.say(inbound(9, 0)).await;
    arrive(&mut world, 9..10).await;
    other.say(inbound(10, 0)).await;
    arrive(&mut world, 10..11).await;
    assert!(start.elapsed() >= Duration::from_secs(4));
    world.is_alive().await;
}

#[tokio::test]
async fn stanzas_that_are_refused_count_too() {
    let config = "limits: { stanza_rate: 2/s, burst: 1s }\n\
        rules: [{ match: evil.test, features: { muc: deny } }]";
    let mut world = world(config).await;
    let mut conn = world.authenticated("evil.test").await;
    let start = Instant::now();
    let refused = inbound(0, 0).replacen("<message ", "<message type='groupchat' ", 1);
    conn.say(refused.repeat(8) + &inbound(1, 0)).await;
    arrive(&mut world, 1..2).await;
    assert!(start.elapsed() >= Duration::from_secs(3));
    world.is_alive().await;
}

#[tokio::test]
async fn a_burst_of_stanzas_does_not_wait() {
    // one more than this, and the next would come after the test's patience
    let mut world = world("limits: { stanza_rate: 1/s, burst: 10m }").await;
    let mut conn = world.authenticated("evil.test").await;
    conn.say((0..600).map(|id| inbound(id, 0)).collect::<String>()).await;
    arrive(&mut world, 0..600).await;
    conn.say(inbound(600, 0)).await;
    arrive(&mut world, 600..601).await;
    world.is_alive().await;
}

#[tokio::test]
async fn bytes_that_come_too_fast_wait_while_the_other_direction_goes_on() {
    let mut world = world("limits: { rate: 2KiB/s, burst: 1s }").await;
    let mut conn = bidirectional(&world, "").await;
    let start = Instant::now();
    conn.say(inbound(0, 10 << 10)).await;
    arrive(&mut world, 0..1).await;
    conn.say(inbound(1, 0)).await;
    let _stream = world.sends("evil.test").await;
    conn.until(&message_to("evil.test")).await;
    arrive(&mut world, 1..2).await;
    // five seconds, one of which is the burst
    assert!(start.elapsed() >= Duration::from_secs(4));
    world.is_alive().await;
}

#[tokio::test]
async fn a_burst_of_bytes_does_not_wait() {
    // the whole burst: a second one would come after the test's patience
    let mut world = world("limits: { rate: 1KiB/s, burst: 10m }").await;
    let mut conn = world.authenticated("evil.test").await;
    conn.say((0..60).map(|id| inbound(id, 10 << 10)).collect::<String>()).await;
    arrive(&mut world, 0..60).await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_rule_gives_a_domain_a_rate_of_its_own() {
    let config = "limits: { stanza_rate: 1/s, burst: 1s }
rules: [{ match: evil.test, limits: { stanza_rate: off } }, { match: good.test, limits: { stanza_rate: off } }]";
    let mut world = world(config).await;
    let mut conn = world.authenticated("evil.test").await;
    for id in 0..100 {
        conn.say(inbound(id, 0)).await;
        arrive(&mut world, id..id + 1).await;
    }
    world.is_alive().await;
}

#[tokio::test]
async fn dialback_elements_that_come_too_fast_wait() {
    let config = "limits: { dialback_rate: 2/s, burst: 1s }";
    let mut world = world(config).await;
    let mut conn = world.secured_from("127.0.0.66", None).await;
    conn.say(header("evil.test", "old.test")).await;
    conn.until(FEATURES_END).await;
    let start = Instant::now();
    let question = "<db:verify from='evil.test' to='old.test' id='i'>k</db:verify>";
    conn.say(question.repeat(8)).await;
    for _ in 0..8 {
        conn.until("type='invalid'/>").await;
    }
    // seven are three and a half seconds, one of which is the burst
    assert!(start.elapsed() >= Duration::from_millis(2500));
    world.is_alive().await;
}

#[tokio::test]
async fn a_burst_of_dialback_elements_does_not_wait() {
    let mut world = world("limits: { dialback_rate: 1/s, burst: 10m }").await;
    let mut conn = world.secured_from("127.0.0.66", None).await;
    conn.say(header("evil.test", "old.test")).await;
    conn.until(FEATURES_END).await;
    let question = "<db:verify from='evil.test' to='old.test' id='i'>k</db:verify>";
    conn.say(question.repeat(600)).await;
    for _ in 0..600 {
        conn.until("type='invalid'/>").await;
    }
    world.is_alive().await;
}

// === streams of a domain ===

#[tokio::test]
async fn a_domain_has_only_so_many_streams() {
    let mut world = world("limits: { connections_per_domain: 2 }").await;
    let mut first = world.authenticated("evil.test").await;
    let mut second = world.authenticated("evil.test").await;
    let mut third = world.authenticated("evil.test").await;
    third.ends_with("resource-constraint").await;
    // by dialback the stream stays, for other domains
    let host = world.host("evil.test").await;
    let (mut conn, _) = world.unproven("evil.test").await;
    conn.say("<db:result from='evil.test' to='old.test'>k</db:result>").await;
    valid(&host).await;
    let answer = conn.until("</db:result>").await;
    assert!(answer.contains("<resource-constraint "), "{answer}");
    for (id, conn) in [&mut first, &mut second].into_iter().enumerate() {
        let id = u32::try_from(id).unwrap();
        conn.say(inbound(id, 0)).await;
        arrive(&mut world, id..id + 1).await;
    }
    // one ends, and another may come
    first.say("</stream:stream>").await;
    first.rest().await;
    loop {
        conn.say("<db:result from='evil.test' to='old.test'>k</db:result>").await;
        valid(&host).await;
        if !conn.until(">").await.contains("'error'") {
            break;
        }
        conn.until("</db:result>").await;
    }
    conn.say(inbound(2, 0)).await;
    arrive(&mut world, 2..3).await;
    world.is_alive().await;
}

/// Calls the key valid that the gate asks about.
async fn valid(host: &crate::world::Host) {
    let mut asked = host.accept_offered("").await;
    let id = attribute(&asked.until("</db:verify>").await, "id");
    asked.say(format!("<db:verify from='evil.test' to='old.test' id='{id}' type='valid'/>")).await;
}

#[tokio::test]
async fn a_domain_that_did_not_come_again_after_sasl_takes_no_place() {
    let mut world = world("limits: { connections_per_domain: 1 }").await;
    let identity = world.authority.issue(&["evil.test", "other.test"]);
    let mut conn = world.secured(Some(&identity)).await;
    conn.say(header("evil.test", "old.test")).await;
    conn.until(FEATURES_END).await;
    conn.say("<db:result from='other.test' to='old.test'>k</db:result>").await;
    conn.until("type='valid'/>").await;
    world.authenticated("other.test").await.ends_with("resource-constraint").await;
    conn.say(EXTERNAL).await;
    conn.until("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
    conn.say(header("evil.test", "old.test")).await;
    conn.until(FEATURES_END).await;
    let mut other = world.authenticated("other.test").await;
    let stanza = "<message from='x@other.test' to='bob@old.test'/>";
    other.say(stanza).await;
    assert_eq!(world.legacy.arrival().await, stanza);
    world.is_alive().await;
}

#[tokio::test]
async fn a_rule_gives_a_domain_streams_of_its_own() {
    let config = "limits: { connections_per_domain: 2 }
rules: [{ match: evil.test, limits: { connections_per_domain: 1 } }]";
    let mut world = world(config).await;
    let _first = world.authenticated("evil.test").await;
    world.authenticated("evil.test").await.ends_with("resource-constraint").await;
    let _other = [world.authenticated("b.test").await, world.authenticated("b.test").await];
    world.is_alive().await;
}

// === streams to the legacy server ===

/// A stream from `address` on which these domains can be proven by a certificate; no pair is yet.
async fn named(world: &World, address: &str, names: &[&str]) -> Conn {
    let mut conn = world.secured_from(address, Some(&world.authority.issue(names))).await;
    conn.say(header(names[0], "old.test")).await;
    conn.until(FEATURES_END).await;
    conn
}

/// The answer when the stream asks for the pair of a domain.
async fn answer(conn: &mut Conn, domain: &str) -> String {
    conn.say(format!("<db:result from='{domain}' to='old.test'>k</db:result>")).await;
    match conn.until(&format!(" to='{domain}' type='")).await + &conn.until(">").await {
        valid if valid.ends_with("'valid'/>") => valid,
        refused => refused + &conn.until("</db:result>").await,
    }
}

#[tokio::test]
async fn an_address_has_only_so_many_streams_to_the_legacy_server() {
    let mut world = world("limits: { legacy_streams_per_address: 2, idle: 15m }").await;
    let names = ["a.test", "b.test", "c.test"];
    let mut conn = named(&world, "127.0.0.66", &names).await;
    for name in ["a.test", "b.test", "a.test"] {
        let answer = answer(&mut conn, name).await;
        assert!(answer.ends_with("type='valid'/>"), "{answer}");
    }
    let refused = answer(&mut conn, "c.test").await;
    assert!(refused.contains("<resource-constraint "), "{refused}");
    assert_eq!(world.legacy.headers().len(), 2);
    // nor by another stream and another way
    let mut other = named(&world, "127.0.0.66", &["c.test"]).await;
    other.say(EXTERNAL).await;
    other.until("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
    other.say(header("c.test", "old.test")).await;
    other.ends_with_header_and("resource-constraint").await;
    // a pair keeps its place when nothing came for long and its stream to the legacy server has ended
    let stanza = |name: &str| format!("<message from='m@{name}' to='bob@old.test'/>");
    for _ in 0..2 {
        conn.say(stanza("a.test")).await;
        assert_eq!(world.legacy.arrival().await, stanza("a.test"));
        pass(Duration::from_secs(10 * 60)).await;
    }
    let refused = answer(&mut conn, "c.test").await;
    assert!(refused.contains("<resource-constraint "), "{refused}");
    conn.say(stanza("b.test")).await;
    assert_eq!(world.legacy.arrival().await, stanza("b.test"));
    assert_eq!(world.legacy.headers().len(), 3, "b.test has a new one");
    // whoever else comes has places
    let mut elsewhere = named(&world, "127.0.0.67", &["d.test"]).await;
    assert!(answer(&mut elsewhere, "d.test").await.ends_with("type='valid'/>"));
    // and they are free again when pairs and their streams are gone
    conn.say(FOOTER).await;
    conn.rest().await;
    let mut conn = named(&world, "127.0.0.66", &names).await;
    let refused = answer(&mut conn, "c.test").await;
    assert!(refused.contains("<resource-constraint "), "{refused}");
    pass(Duration::from_secs(15 * 60 + 1)).await;
    let mut conn = named(&world, "127.0.0.66", &names).await;
    while !answer(&mut conn, "c.test").await.ends_with("type='valid'/>") {}
    world.is_alive().await;
}

#[tokio::test]
async fn all_together_have_only_so_many_streams_to_the_legacy_server() {
    let mut world = world("limits: { legacy_streams: 2 }").await;
    world.is_alive().await;
    let mut first = world.authenticated("evil.test").await;
    first.say(inbound(0, 0)).await;
    arrive(&mut world, 0..1).await;
    world.authenticated("b.test").await.ends_with("resource-constraint").await;
    let mut conn = named(&world, "127.0.0.66", &["c.test"]).await;
    let refused = answer(&mut conn, "c.test").await;
    assert!(refused.contains("<resource-constraint "), "{refused}");
    first.say(inbound(1, 0)).await;
    arrive(&mut world, 1..2).await;
    world.is_alive().await;
}

// === strangers ===

#[tokio::test]
async fn a_stranger_may_send_only_so_much() {
    let mut world = world("limits: { bytes_before_auth: 16KiB }").await;
    let (mut conn, _) = world.unproven("evil.test").await;
    conn.say(" ".repeat(17 << 10)).await;
    conn.ends_with("policy-violation").await;
    // what came before TLS counts too
    let mut conn = world.clear("evil.test").await;
    conn.say(" ".repeat(12 << 10)).await;
    conn.say(crate::world::STARTTLS).await;
    conn.until(crate::world::PROCEED).await;
    conn.connect_tls(world.authority.client(None, &[]), "old.test").await.unwrap();
    conn.say(header("evil.test", "old.test")).await;
    conn.until(FEATURES_END).await;
    conn.say(" ".repeat(5 << 10)).await;
    conn.ends_with("policy-violation").await;
    // just below, and then as much as one likes
    let mut conn = world.proven("evil.test").await;
    conn.say(" ".repeat(15 << 10)).await;
    conn.say(EXTERNAL).await;
    conn.until("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
    conn.say(header("evil.test", "old.test")).await;
    conn.until(FEATURES_END).await;
    conn.say(inbound(0, 100 << 10)).await;
    arrive(&mut world, 0..1).await;
    world.is_alive().await;
}

#[tokio::test]
async fn an_address_has_only_so_much_looked_up() {
    for (config, refused) in [
        ("limits: { lookups_per_address: 1, connect: 2s, tcp_connect: 1s }", true),
        ("limits: { lookups_per_address: 3, connect: 2s, tcp_connect: 1s }", false),
    ] {
        let mut world = world(config).await;
        // they take the connection and never say a word
        let hosts =
            [world.host("a.test").await, world.host("b.test").await, world.host("c.test").await];
        let mut conn = world.secured_from("127.0.0.66", None).await;
        conn.say(header("a.test", "old.test")).await;
        conn.until(FEATURES_END).await;
        for host in &hosts {
            let from = &host.domain;
            conn.say(format!("<db:result from='{from}' to='old.test'>k</db:result>")).await;
        }
        let mut answers = String::new();
        for _ in &hosts {
            answers += &conn.until("</db:result>").await;
        }
        assert_eq!(answers.contains("<resource-constraint "), refused, "{answers}");
        world.is_alive().await;
    }
}

/// DB-16: whoever asks for it, and from wherever, one domain is asked only so many questions at once.
#[tokio::test]
async fn one_domain_is_asked_only_so_many_questions_at_once() {
    let mut world = world("").await;
    let host = world.host("victim.test").await;
    let mut clients = Vec::new();
    for n in 1..=6 {
        let mut conn = world.secured_from(&format!("127.0.0.{}", 60 + n), None).await;
        conn.say(header("victim.test", "old.test")).await;
        conn.until(FEATURES_END).await;
        conn.say("<db:result from='victim.test' to='old.test'>k</db:result>").await;
        clients.push(conn);
    }
    let mut asked = Vec::new();
    for _ in 0..4 {
        asked.push(host.accept().await);
    }
    let fifth = timeout(Duration::from_millis(500), host.accept()).await;
    assert!(fifth.is_err(), "a fifth");
    // a place that is free again is taken
    asked.pop();
    host.accept().await;
    world.is_alive().await;
}

/// Strangers who cause questions that take long keep no proven pair from being proven again: that no
/// question could be asked is no answer.
#[tokio::test]
async fn a_pair_outlasts_that_there_is_no_place_for_the_question_about_it() {
    let rules = "limits: { lookups_per_address: 1, connect: 1s, tcp_connect: 1s }\n\
                 rules:\n- { match: slow.test, limits: { connect: 30s } }\n";
    let mut world = world("").await;
    world.reload(rules).unwrap();
    let identity = world.authority.issue(&["evil.test"]);
    let client = world.authority.client(None, &[]);
    let tls = PeerTls { server: identity.server(), client, external: false };
    let peer = Station::start("evil.test", Style::Modern, Some(tls)).await;
    world.dns.publish("evil.test", Service::StartTls, &[peer.address]);
    peer.steer(world.public());
    let mut stream = peer.open("old.test").await;
    // takes the connection and never says a word
    let slow = world.host("slow.test").await;
    let (mut conn, _) = world.unproven("slow.test").await;
    conn.say("<db:result from='slow.test' to='old.test'>k</db:result>").await;
    let held = slow.accept().await;
    Authority::new().write(&world.path().with_file_name("partner.pem"));
    let other = "- { match: other.test, tls: { roots: ../partner.pem } }\n";
    world.reload(&format!("{rules}{other}")).unwrap();
    // who asks after it waits as long
    for from in ["a.test", "b.test"] {
        conn.say(format!("<db:result from='{from}' to='old.test'>k</db:result>")).await;
        let answer = conn.until("</db:result>").await;
        assert!(answer.contains("<resource-constraint "), "{answer}");
    }
    let stanza = "<message from='m@evil.test' to='bob@old.test'/>";
    stream.say(stanza).await;
    assert_eq!(world.legacy.arrival().await, stanza);
    drop(held);
    world.is_alive().await;
}

/// Of one address so many certificates are looked into at once, here of a client whose web server
/// says nothing for a while; who comes from elsewhere does not wait for it.
#[tokio::test]
async fn an_address_has_only_so_many_certificates_looked_into() {
    for (config, waits) in [
        ("limits: { lookups_per_address: 1 }", true),
        ("limits: { lookups_per_address: 2 }", false),
    ] {
        let mut world = world(config).await;
        let web = world.mute_web(&["slow.test"]).await;
        let slow = Identity::self_signed("slow.test");
        let mut first = world.secured_from("127.0.0.66", Some(&slow)).await;
        first.say(header("slow.test", "old.test")).await;
        let (held, _) = soon("a fetch", web.accept()).await.unwrap();
        let good = world.authority.issue(&["evil.test"]);
        let mut second = world.secured_from("127.0.0.66", Some(&good)).await;
        second.say(header("evil.test", "old.test")).await;
        let mut elsewhere = world.secured_from("127.0.0.67", Some(&good)).await;
        elsewhere.say(header("evil.test", "old.test")).await;
        assert!(elsewhere.until(FEATURES_END).await.contains("EXTERNAL"));
        if waits {
            let mut features = std::pin::pin!(second.until(FEATURES_END));
            assert!(timeout(Duration::from_millis(500), &mut features).await.is_err());
            drop(held);
            assert!(features.await.contains("EXTERNAL"));
        } else {
            assert!(second.until(FEATURES_END).await.contains("EXTERNAL"));
            drop(held);
        }
        assert!(!first.until(FEATURES_END).await.contains("EXTERNAL"));
        world.is_alive().await;
    }
}

// === queues ===

#[tokio::test]
async fn all_queues_together_hold_only_so_much() {
    for (second, full) in [(60, true), (30, false)] {
        let limits = "limits: { connect: 3s, tcp_connect: 1s, stanza: 64KiB, queue: 1MiB, queue_total: 1MiB }";
        let mut world = World::with(Plan { config: limits, ..BOUNCE }).await;
        // they take the connection and never say a word
        let _hosts = [world.host("a.test").await, world.host("b.test").await];
        for (name, count) in [("a.test", 60), ("b.test", second)] {
            let mut stream = world.legacy.open(name).await;
            for id in 0..count {
                let to = format!("m@{name}");
                stream.say(&message("bob@old.test", &to, id, 10 << 10)).await;
            }
        }
        let mut refused = 0;
        for _ in 0..60 + second {
            let bounce = world.legacy.arrival().await;
            if bounce.contains("<resource-constraint ") {
                assert_eq!(attribute(&bounce, "from"), "m@b.test");
                refused += 1;
            }
        }
        assert_eq!(refused > 0, full, "{refused}");
        world.is_alive().await;
    }
}

// === what the other end takes ===

const LIMITS: &str =
    "<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>10000</max-bytes></limits>";

/// A stream of a peer that carries stanzas both ways, and says this about itself.
async fn bidirectional(world: &World, limits: &str) -> Conn {
    let mut conn = world.proven("evil.test").await;
    conn.say(format!("<bidi xmlns='urn:xmpp:bidi'>{limits}</bidi>")).await;
    conn.say(EXTERNAL).await;
    conn.until("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
    conn.say(header("evil.test", "old.test")).await;
    conn.until(FEATURES_END).await;
    conn
}

/// Among other messages some too large are sent: those come back, the others go on in their order.
async fn only_small_ones_go(world: &mut World, conn: &mut Conn) {
    let mut stream = world.legacy.open("evil.test").await;
    let sizes = [0, 10_000, 10_001, 0, 50_000, 9_999];
    let all = (0u32..).zip(sizes).map(|(id, len)| outbound(id, len));
    stream.say(&all.collect::<String>()).await;
    for id in [0, 1, 3, 5] {
        let stanza = conn.until("</message>").await;
        assert_eq!(attribute(&stanza, "id"), id.to_string(), "{stanza}");
    }
    for id in [2, 4] {
        let bounce = world.legacy.arrival().await;
        assert_eq!(attribute(&bounce, "id"), id.to_string(), "{bounce}");
        // XEP-0478 §4
        assert!(bounce.contains("<policy-violation ") && !bounce.contains("by="), "{bounce}");
    }
}

#[tokio::test]
async fn a_peer_gets_no_stanza_larger_than_its_features_say() {
    // LI-1
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    let _stream = world.sends("evil.test").await;
    let mut conn = host.accept_offered(LIMITS).await;
    conn.until("</db:result>").await;
    conn.say("<db:result from='evil.test' to='old.test' type='valid'/>").await;
    conn.until(&message_to("evil.test")).await;
    only_small_ones_go(&mut world, &mut conn).await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_peer_gets_no_stanza_larger_than_it_says_when_it_asks_for_both_directions() {
    // LI-1
    let mut world = World::with(BOUNCE).await;
    let mut conn = bidirectional(&world, LIMITS).await;
    only_small_ones_go(&mut world, &mut conn).await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_rule_bounds_the_stanzas_of_a_domain_both_ways() {
    let config = "limits: { connect: 3s, tcp_connect: 1s }
rules: [{ match: evil.test, limits: { stanza: 10000B } }]";
    let mut world = World::with(Plan { config, ..BOUNCE }).await;
    let mut conn = world.secured(Some(&world.authority.issue(&["evil.test"]))).await;
    conn.say(header("evil.test", "old.test")).await;
    let offered = conn.until(FEATURES_END).await;
    assert!(offered.contains("<max-bytes>10000</max-bytes>"), "{offered}");
    let mut conn = bidirectional(&world, "").await;
    only_small_ones_go(&mut world, &mut conn).await;
    conn.say(inbound(0, 10_000)).await;
    arrive(&mut world, 0..1).await;
    conn.say(inbound(1, 10_001)).await;
    let text = conn.rest().await;
    assert!(text.contains("<policy-violation ") && text.contains("<stanza-too-big "), "{text}");
    let mut other = world.authenticated("b.test").await;
    other.say(message("m@b.test", "bob@old.test", 2, 20_000)).await;
    arrive(&mut world, 2..3).await;
    world.is_alive().await;
}

// === what keeps streams alive ===

#[tokio::test]
async fn a_peer_gets_a_space_now_and_then() {
    let mut world = World::with(Plan {
        config: "limits: { keepalive: 1s, connect: 3s, tcp_connect: 1s }",
        ..BOUNCE
    })
    .await;
    let mut accepted = world.authenticated("evil.test").await;
    let host = world.host("evil.test").await;
    let _stream = world.sends("evil.test").await;
    let mut opened = host.accept_open().await;
    opened.until(&message_to("evil.test")).await;
    for conn in [&mut accepted, &mut opened] {
        assert_eq!(conn.until("  ").await, "  ");
    }
    // and all goes on
    accepted.say(inbound(0, 0)).await;
    arrive(&mut world, 0..1).await;
    let _stream = world.sends("evil.test").await;
    assert!(opened.until("</message>").await.ends_with(&message_to("evil.test")));
}

// === time ===

/// So much time passes for everybody.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_stream_without_stanzas_ends_after_a_while_and_no_sooner() {
    let mut world = world("limits: { idle: 15m }").await;
    let mut conn = world.authenticated("evil.test").await;
    for id in 0..2 {
        conn.say(inbound(id, 0)).await;
        arrive(&mut world, id..id + 1).await;
        pass(Duration::from_secs(14 * 60 + 50)).await;
    }
    conn.say(inbound(2, 0)).await;
    arrive(&mut world, 2..3).await;
    pass(Duration::from_secs(15 * 60 + 1)).await;
    // in order: it is no error, and what crosses the end is taken
    assert_eq!(conn.until(FOOTER).await.trim_start(), FOOTER);
    conn.say(inbound(3, 0) + FOOTER).await;
    arrive(&mut world, 3..4).await;
    conn.ends_silently().await;
    world.is_alive().await;
}

#[tokio::test]
async fn white_space_keeps_no_stream() {
    // neither that of a peer without stanzas, nor a local one that never authenticates
    let mut world = world("limits: { idle: 15m }").await;
    let mut peer = world.authenticated("evil.test").await;
    peer.say(inbound(0, 0)).await;
    arrive(&mut world, 0..1).await;
    pass(Duration::from_secs(14 * 60)).await;
    let mut local = Conn::open(world.local(), "127.0.0.1").await;
    local.say(header("old.test", "good.test")).await;
    local.until(FEATURES_END).await;
    pass(Duration::from_secs(50)).await;
    for conn in [&mut peer, &mut local] {
        conn.say(" ").await;
    }
    world.is_alive().await; // they were read
    pass(Duration::from_secs(11)).await;
    for conn in [&mut peer, &mut local] {
        conn.until(FOOTER).await;
    }
    world.is_alive().await;
}

#[tokio::test]
async fn a_stream_on_which_the_legacy_server_asks_stays() {
    let world = world("limits: { negotiation: 60s }").await;
    let mut conn = Conn::open(world.local(), "127.0.0.1").await;
    conn.say(header("old.test", "good.test")).await;
    conn.until(FEATURES_END).await;
    for _ in 0..3 {
        pass(Duration::from_secs(50)).await;
        conn.say("<db:verify from='old.test' to='good.test' id='i'>k</db:verify>").await;
        conn.until("type='invalid'/>").await;
    }
    pass(Duration::from_secs(61)).await;
    assert_error(&conn.until(FOOTER).await, "policy-violation");
}

#[tokio::test]
async fn a_stream_of_ours_without_stanzas_ends_after_a_while_and_no_sooner() {
    let plan = Plan { config: "limits: { idle: 15m }", ..BOUNCE };
    let world = World::with(plan).await;
    let host = world.host("evil.test").await;
    let mut stream = world.sends("evil.test").await;
    let mut conn = host.accept_open().await;
    conn.until(&message_to("evil.test")).await;
    pass(Duration::from_secs(14 * 60 + 50)).await;
    stream.say(&message_to("evil.test")).await;
    let said = conn.until(&message_to("evil.test")).await;
    assert!(!said.contains(FOOTER), "{said}");
    pass(Duration::from_secs(15 * 60 + 1)).await;
    conn.until(FOOTER).await;
}

#[tokio::test]
async fn a_silent_stream_is_left_alone_where_that_is_wanted() {
    let plan = Plan { config: "limits: { keepalive: off }", ..BOUNCE };
    let mut world = World::with(plan).await;
    let host = world.host("evil.test").await;
    let mut stream = world.sends("evil.test").await;
    let mut ours = host.accept_open().await;
    ours.until(&message_to("evil.test")).await;
    let mut theirs = world.authenticated("evil.test").await;
    theirs.say(inbound(0, 0)).await;
    arrive(&mut world, 0..1).await;
    for id in 1..4 {
        // longer than the default
        pass(Duration::from_secs(6 * 60)).await;
        theirs.say(inbound(id, 0)).await;
        arrive(&mut world, id..id + 1).await;
        stream.say(&message_to("evil.test")).await;
        assert_eq!(ours.until(&message_to("evil.test")).await, message_to("evil.test"));
    }
    theirs.say(FOOTER).await;
    assert_eq!(theirs.until(FOOTER).await, FOOTER);
}

// === what XML may be ===

/// The most of something that a peer can send: `stanza` makes one with so many. One more ends the
/// stream.
async fn most(config: &'static str, stanza: impl Fn(usize) -> String, counts: [usize; 2]) {
    let mut world = world(config).await;
    let [most, more] = counts.map(stanza);
    let mut conn = world.authenticated("evil.test").await;
    conn.say(&most).await;
    assert_eq!(world.legacy.arrival().await, most);
    conn.say(&more).await;
    assert_error(&conn.until(FOOTER).await, "policy-violation");
    world.is_alive().await;
}

#[tokio::test]
async fn elements_stand_only_so_deep() {
    let nested = |depth: usize| {
        let inside = "<x xmlns='x:y'>".repeat(depth - 1) + &"</x>".repeat(depth - 1);
        format!("<message from='m@evil.test' to='bob@old.test'>{inside}</message>")
    };
    most("limits: { depth: 8 }", nested, [8, 9]).await;
}

#[tokio::test]
async fn an_element_has_only_so_many_attributes() {
    let with = |count: usize| {
        let more: String = (2..count).map(|n| format!(" a{n}='x'")).collect();
        format!("<message from='m@evil.test' to='bob@old.test'{more}/>")
    };
    most("limits: { attributes: 16 }", with, [16, 17]).await;
}

#[tokio::test]
async fn a_stanza_has_only_so_many_bytes() {
    most("limits: { stanza: 10000B }", |len| inbound(0, len), [10_000, 10_001]).await;
}

#[tokio::test]
async fn an_element_of_a_stranger_has_only_so_many_bytes() {
    let world = world("limits: { element_before_auth: 2KiB }").await;
    for (len, ends) in [(2048, false), (2049, true)] {
        let (mut conn, _) = world.unproven("evil.test").await;
        let frame = "<x xmlns='x:y'></x>";
        let element = frame.replace("></", &format!(">{}</", "x".repeat(len - frame.len())));
        conn.say(element + "<db:verify from='evil.test' to='old.test' id='i'>k</db:verify>").await;
        match ends {
            true => assert_error(&conn.until(FOOTER).await, "policy-violation"),
            false => drop(conn.until("type='invalid'/>").await),
        }
    }
}

#[tokio::test]
async fn there_are_only_so_many_connections() {
    let world = world("limits: { connections: 3 }").await;
    let mut served = Vec::new();
    for n in 1..=4 {
        let mut conn = Conn::open(world.public(), &format!("127.0.0.{}", 60 + n)).await;
        conn.say(header("evil.test", "old.test")).await;
        match n {
            1..=3 => drop(conn.until(FEATURES_END).await),
            _ => conn.ends_silently().await,
        }
        served.push(conn);
    }
}
