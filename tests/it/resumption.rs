//! Streams that go on over another connection (XEP-0198 §5; SM-6, SM-7; attack row A-23).

use std::time::Duration;

use fedgate::xmpp::Domain;

use crate::world::{BOUNCE, Conn, FOOTER, Host, Plan, World, attribute, header, message_to};

const RESUMABLE: &str = "<enable xmlns='urn:xmpp:sm:3' resume='true'/>";
const FEATURE: &str = "<sm xmlns='urn:xmpp:sm:3'/>";
const R: &str = "<r xmlns='urn:xmpp:sm:3'/>";
const NOT_FOUND: &str = "<failed xmlns='urn:xmpp:sm:3'><item-not-found \
    xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>";

fn a(h: u32) -> String {
    format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>")
}

fn resume(id: &str, h: u32) -> String {
    format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='{h}'/>")
}

fn resumed(id: &str, h: u32) -> String {
    format!("<resumed xmlns='urn:xmpp:sm:3' previd='{id}' h='{h}'/>")
}

fn from_peer(number: u32) -> String {
    format!("<message from='m@evil.test' to='bob@old.test' id='{number}'><body>x</body></message>")
}

fn to_peer(number: u32) -> String {
    format!("<message from='bob@old.test' to='m@evil.test' id='{number}'><body>x</body></message>")
}

/// A peer's stream that can be resumed, and its SM-ID.
async fn resumable(world: &World, from: &str, bidi: bool) -> (Conn, String) {
    let mut conn = match bidi {
        true => world.authenticated_both_ways(from).await,
        false => world.authenticated(from).await,
    };
    conn.say(RESUMABLE).await;
    let enabled = conn.until("/>").await;
    assert!(enabled.contains(" resume='true' max='120'/>"), "{enabled}");
    (conn, attribute(&enabled, "id"))
}

/// The gate opens a stream and asks that it can be resumed; it can, by that SM-ID.
async fn accept(host: &Host, id: &str) -> Conn {
    let mut conn = features(host).await;
    conn.until(RESUMABLE).await;
    conn.say(format!("<enabled xmlns='urn:xmpp:sm:3' id='{id}' resume='true' max='60'/>")).await;
    conn
}

/// The gate has got the last features.
async fn features(host: &Host) -> Conn {
    let mut conn = host.accept_auth().await;
    conn.say("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
    host.greet(&mut conn).await;
    conn.say(format!("<stream:features>{FEATURE}</stream:features>")).await;
    conn
}

/// Several messages from the legacy server, as one batch or several.
async fn sends(world: &World, numbers: std::ops::Range<u32>) -> crate::world::Stream {
    let mut stream = world.legacy.open("evil.test").await;
    stream.say(&numbers.map(to_peer).collect::<String>()).await;
    stream
}

// === streams that peers open ===

#[tokio::test]
async fn a_peer_goes_on_where_its_connection_was_lost() {
    let mut world = World::start().await;
    let (mut conn, id) = resumable(&world, "evil.test", false).await;
    for round in 0..3 {
        for number in 0..2 {
            conn.say(from_peer(3 * round + number)).await;
            assert_eq!(world.legacy.arrival().await, from_peer(3 * round + number));
        }
        // a part of one is none
        conn.say(&from_peer(3 * round + 2)[..30]).await;
        drop(conn);
        conn = world.authenticated("evil.test").await;
        conn.say(resume(&id, 0)).await;
        assert_eq!(conn.until("/>").await, resumed(&id, 3 * round + 2));
        conn.say(from_peer(3 * round + 2)).await;
        assert_eq!(world.legacy.arrival().await, from_peer(3 * round + 2));
    }
    conn.say(R).await;
    conn.until(&a(9)).await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_stream_that_is_resumed_elsewhere_ends_with_a_conflict() {
    let mut world = World::start().await;
    let (mut old, id) = resumable(&world, "evil.test", false).await;
    old.say(from_peer(0)).await;
    world.legacy.arrival().await;
    let mut conn = world.authenticated("evil.test").await;
    conn.say(resume(&id, 0)).await;
    assert_eq!(conn.until("/>").await, resumed(&id, 1));
    old.ends_with("conflict").await;
    conn.say(from_peer(1)).await;
    assert_eq!(world.legacy.arrival().await, from_peer(1));
    world.is_alive().await;
}

#[tokio::test]
async fn nobody_else_resumes_a_stream() {
    //
    let mut world = World::start().await;
    let (mut conn, id) = resumable(&world, "evil.test", false).await;
    conn.say(from_peer(0)).await;
    world.legacy.arrival().await;
    // another domain, proven as well
    let mut other = world.authenticated("other.test").await;
    other.say(resume(&id, 0)).await;
    assert_eq!(other.until("</failed>").await, NOT_FOUND);
    // and no pair goes along
    other.say(from_peer(1)).await;
    other.ends_with("invalid-from").await;
    // the same domain, but speaking to another of ours
    let mut rooms =
        world.authenticated_with(&header("evil.test", "rooms.old.test"), "evil.test").await;
    rooms.say(resume(&id, 0)).await;
    assert_eq!(rooms.until("</failed>").await, NOT_FOUND);
    // the same domain, not by SASL
    let mut weak = world.proven("evil.test").await;
    weak.say("<db:result from='evil.test' to='old.test'>k</db:result>").await;
    weak.until("type='valid'/>").await;
    weak.say(resume(&id, 0)).await;
    assert_eq!(weak.until("</failed>").await, NOT_FOUND);
    // an SM-ID that nobody had
    let mut guess = world.authenticated("evil.test").await;
    guess.say(resume(&"0".repeat(32), 0)).await;
    assert_eq!(guess.until("</failed>").await, NOT_FOUND);
    // the stream has not suffered, and its owner resumes it
    conn.say(from_peer(2)).await;
    assert_eq!(world.legacy.arrival().await, from_peer(2));
    drop(conn);
    let mut again = world.authenticated("evil.test").await;
    again.say(resume(&id, 0)).await;
    assert_eq!(again.until("/>").await, resumed(&id, 2));
    world.is_alive().await;
}

#[tokio::test]
async fn a_stream_that_was_closed_is_not_resumed() {
    let mut world = World::start().await;
    let (mut conn, id) = resumable(&world, "evil.test", false).await;
    conn.say(FOOTER).await;
    assert_eq!(conn.rest().await, a(0) + FOOTER);
    let mut conn = world.authenticated("evil.test").await;
    conn.say(resume(&id, 0)).await;
    assert_eq!(conn.until("</failed>").await, NOT_FOUND);
    // a failure is no end
    conn.say(from_peer(1)).await;
    assert_eq!(world.legacy.arrival().await, from_peer(1));
    world.is_alive().await;
}

#[tokio::test]
async fn a_stream_that_the_operator_closes_tells_what_it_took_and_is_not_resumed() {
    let plan = Plan { config: "limits: { stanza_rate: 2/s, burst: 1s }", ..Plan::DEFAULT };
    let mut world = World::with(plan).await;
    let (mut conn, id) = resumable(&world, "evil.test", false).await;
    conn.say((1..300).map(from_peer).collect::<String>()).await;
    assert_eq!(world.legacy.arrival().await, from_peer(1));
    world.app.monitor().close_domain(&Domain::parse("evil.test").unwrap());
    let text = conn.until(FOOTER).await;
    let (_, last) = text.rsplit_once("<a ").unwrap();
    let taken = attribute(&format!("<a {last}"), "h").parse().unwrap();
    // what comes behind that is still the peer's
    conn.say(from_peer(300)).await;
    let mut again = world.authenticated("evil.test").await;
    again.say(resume(&id, 0)).await;
    assert_eq!(again.until("</failed>").await, NOT_FOUND);
    conn.say(FOOTER).await;
    conn.ends_silently().await;
    for number in 2..=taken {
        assert_eq!(world.legacy.arrival().await, from_peer(number));
    }
    world.is_alive().await;
}

#[tokio::test]
async fn a_peer_that_claims_too_much_resumes_nothing() {
    // SM-4
    let mut world = World::start().await;
    let (conn, id) = resumable(&world, "evil.test", false).await;
    drop(conn);
    let mut conn = world.authenticated("evil.test").await;
    conn.say(resume(&id, 1)).await;
    let text = conn.rest().await;
    let too_high = "<handled-count-too-high xmlns='urn:xmpp:sm:3' h='1' send-count='0'/>";
    assert!(text.contains(too_high), "{text}");
    world.is_alive().await;
}

#[tokio::test]
async fn where_it_is_off_no_stream_is_resumed() {
    let plan = Plan { config: "limits: { resumption: off }", ..Plan::DEFAULT };
    let mut world = World::with(plan).await;
    let mut conn = world.authenticated("evil.test").await;
    conn.say(RESUMABLE).await;
    assert_eq!(conn.until("/>").await, "<enabled xmlns='urn:xmpp:sm:3'/>");
    drop(conn);
    let mut conn = world.authenticated("evil.test").await;
    conn.say(resume("x", 0)).await;
    assert_eq!(conn.until("</failed>").await, NOT_FOUND);
    world.is_alive().await;
}

#[tokio::test]
async fn what_goes_back_on_a_peers_stream_is_sent_again_where_it_resumes() {
    let mut world = World::with(BOUNCE).await;
    let (mut conn, id) = resumable(&world, "evil.test", true).await;
    let mut stream = sends(&world, 0..3).await;
    conn.until(&to_peer(2)).await;
    drop(conn);
    // also what came meanwhile
    stream.say(&to_peer(3)).await;
    let mut conn = world.authenticated_both_ways("evil.test").await;
    // it has got one of them
    conn.say(resume(&id, 1)).await;
    assert_eq!(conn.until("/>").await, resumed(&id, 0));
    let text = conn.until(R).await;
    assert_eq!(text, (1..4).map(to_peer).collect::<String>() + R);
    conn.say(a(4)).await;
    stream.say(&to_peer(4)).await;
    assert_eq!(conn.until(R).await, to_peer(4) + R);
    world.is_alive().await;
}

// === streams that we open ===

#[tokio::test]
async fn our_stream_goes_on_where_its_connection_was_lost() {
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    let mut stream = sends(&world, 0..4).await;
    let mut conn = accept(&host, "id1").await;
    conn.until(&to_peer(3)).await;
    let mut asked = false;
    for round in 0..3 {
        drop(conn);
        stream.say(&to_peer(4 + round)).await;
        conn = features(&host).await;
        assert_eq!(conn.until("/>").await, resume("id1", 0));
        // one more got there
        conn.say(resumed("id1", 1 + round)).await;
        let text = conn.until(&to_peer(4 + round)).await;
        asked = text.contains(R);
        assert_eq!(text.replace(R, ""), (1 + round..5 + round).map(to_peer).collect::<String>());
    }
    if !asked {
        conn.until(R).await;
    }
    conn.say(a(7)).await;
    conn.say(FOOTER).await;
    conn.rest().await;
    host.nobody_waits().await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_peer_that_has_forgotten_the_stream_gets_a_new_one() {
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    let mut stream = world.sends("evil.test").await;
    let mut conn = accept(&host, "id1").await;
    conn.until(&message_to("evil.test")).await;
    drop(conn);
    let mut conn = features(&host).await;
    assert_eq!(conn.until("/>").await, resume("id1", 0));
    stream.say(&to_peer(1)).await;
    conn.say(NOT_FOUND).await;
    conn.until(RESUMABLE).await;
    conn.say("<enabled xmlns='urn:xmpp:sm:3' id='id2' resume='true'/>").await;
    // nobody knows whether the first arrived
    world.bounced("evil.test", "remote-server-timeout").await;
    assert_eq!(conn.until(R).await, to_peer(1) + R);
    conn.say(a(1)).await;
    drop(conn);
    let mut conn = features(&host).await;
    assert_eq!(conn.until("/>").await, resume("id2", 0));
    conn.say(resumed("id2", 1)).await;
    stream.say(&to_peer(2)).await;
    conn.until(&to_peer(2)).await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_peer_that_claims_more_than_was_sent_gets_nothing_twice() {
    // SM-4, I9
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    let _stream = sends(&world, 0..2).await;
    let mut conn = accept(&host, "id1").await;
    conn.until(&to_peer(1)).await;
    drop(conn);
    let mut conn = features(&host).await;
    assert_eq!(conn.until("/>").await, resume("id1", 0));
    conn.say(resumed("id1", 3)).await;
    let text = conn.rest().await;
    let too_high = "<handled-count-too-high xmlns='urn:xmpp:sm:3' h='3' send-count='2'/>";
    assert!(text.contains(too_high), "{text}");
    for number in 0..2 {
        let bounce = world.legacy.arrival().await;
        assert!(bounce.contains("<remote-server-timeout "), "{bounce}");
        assert_eq!(attribute(&bounce, "id"), number.to_string());
    }
    host.nobody_waits().await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_stream_that_was_just_resumed_ends_with_fedgate() {
    let config = "shutdown_timeout: 3s\nlimits: { connect: 3s, tcp_connect: 1s }";
    let world = World::with(Plan { config, ..BOUNCE }).await;
    let host = world.host("evil.test").await;
    let _stream = sends(&world, 0..1).await;
    let mut conn = accept(&host, "id1").await;
    conn.until(&to_peer(0)).await;
    drop(conn);
    let mut conn = features(&host).await;
    conn.until("/>").await;
    conn.say(resumed("id1", 1)).await;
    // it is taken up before the end
    conn.say(R).await;
    conn.until(&a(0)).await;
    let mut end = tokio::spawn(world.app.shutdown());
    tokio::select! {
        text = conn.until(FOOTER) => assert_eq!(text, a(0) + FOOTER),
        _ = &mut end => panic!("fedgate ended without a word"),
    }
    conn.say(FOOTER).await;
    end.await.unwrap();
}

#[tokio::test]
async fn what_a_peer_remembers_of_a_stream_that_is_gone_counts() {
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    let _stream = sends(&world, 0..3).await;
    let mut conn = accept(&host, "id1").await;
    conn.until(&to_peer(2)).await;
    drop(conn);
    let mut conn = features(&host).await;
    assert_eq!(conn.until("/>").await, resume("id1", 0));
    conn.say(NOT_FOUND.replacen("<failed", "<failed h='1'", 1)).await;
    let text = conn.until(&to_peer(2)).await;
    assert_eq!(text, RESUMABLE.to_owned() + &to_peer(1) + &to_peer(2));
    world.is_alive().await;
}

#[tokio::test]
async fn what_waits_for_a_peer_that_does_not_come_back_bounces() {
    let plan =
        Plan { config: "limits: { connect: 3s, tcp_connect: 1s, resumption: 1s }", ..BOUNCE };
    let mut world = World::with(plan).await;
    let host = world.host("evil.test").await;
    let _stream = world.sends("evil.test").await;
    let mut conn = accept(&host, "id1").await;
    conn.until(&message_to("evil.test")).await;
    drop((conn, host));
    world.bounced("evil.test", "remote-server-timeout").await;
    world.is_alive().await;
}

#[tokio::test]
async fn what_waits_for_a_peer_that_is_denied_meanwhile_bounces_at_once() {
    const DENY: &str = "rules: [{ match: evil.test, allow: none }]";
    // for our stream, and for what goes back on one of the peer's
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    let mut stream = sends(&world, 0..1).await;
    let mut conn = accept(&host, "id1").await;
    conn.until(&to_peer(0)).await;
    drop(conn);
    drop(host.accept().await); // it tries
    drop(host);
    stream.say(&to_peer(1)).await;
    world.reload(DENY).unwrap();
    let mut bounces = [world.legacy.arrival().await, world.legacy.arrival().await];
    bounces.sort_unstable_by_key(|bounce| bounce.contains(" id='1' "));
    assert!(bounces[0].contains("<remote-server-timeout "), "perhaps it got there: {bounces:?}");
    assert!(bounces[1].contains("<forbidden "), "{bounces:?}");

    world.reload("").unwrap();
    let (mut conn, _) = resumable(&world, "evil.test", true).await;
    let mut stream = sends(&world, 0..1).await;
    conn.until(&to_peer(0)).await;
    conn.until(R).await;
    conn.say(a(1)).await;
    drop(conn);
    while world.app.monitor().streams().iter().any(|stream| stream.side == "peer") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stream.say(&to_peer(1)).await;
    world.reload(DENY).unwrap();
    let bounce = world.legacy.arrival().await;
    assert!(bounce.contains("<forbidden ") && bounce.contains(" id='1' "), "{bounce}");
    world.is_alive().await;
}

/// A stream of ours that carries `old.test`, to which `rooms.old.test` has joined or is about to, loses
/// its connection while it waits to be resumed.
async fn two_pairs_lose_their_connection(world: &World, host: &Host, joined: bool) {
    let _stream = sends(world, 0..1).await;
    let mut conn = host.accept_offered(&crate::world::features(true, false)).await;
    conn.until("</auth>").await;
    conn.say("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
    host.greet(&mut conn).await;
    conn.say(format!("<stream:features>{FEATURE}</stream:features>")).await;
    conn.until(RESUMABLE).await;
    conn.say("<enabled xmlns='urn:xmpp:sm:3' id='id1' resume='true' max='60'/>").await;
    conn.until(&to_peer(0)).await;
    from_rooms(world, 1).await;
    conn.until("</db:result>").await;
    if joined {
        conn.say("<db:result from='evil.test' to='rooms.old.test' type='valid'/>").await;
        conn.until("</message>").await;
        conn.say(a(2)).await;
    }
}

fn rooms_message(number: u32) -> String {
    to_peer(number).replace("bob@", "r@rooms.")
}

async fn from_rooms(world: &World, number: u32) {
    let mut stream = world.legacy.open_as("rooms.old.test", "evil.test").await;
    stream.say(&rooms_message(number)).await;
}

#[tokio::test]
async fn a_pair_that_was_not_answered_does_not_wait_for_a_stream_to_be_resumed() {
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    two_pairs_lose_their_connection(&world, &host, false).await;
    let mut held = Vec::new();
    let mut arrived = false;
    while !arrived {
        let mut conn = features(&host).await;
        if conn.until("/>").await.starts_with("<resume ") {
            held.push(conn);
            continue;
        }
        conn.say("<enabled xmlns='urn:xmpp:sm:3' id='id2' resume='true'/>").await;
        assert_eq!(conn.until("</message>").await, rooms_message(1));
        arrived = true;
        held.push(conn);
    }
    world.is_alive().await;
}

#[tokio::test]
async fn a_stream_whose_own_pair_is_denied_meanwhile_holds_up_no_others() {
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    two_pairs_lose_their_connection(&world, &host, true).await;
    drop(host.accept().await); // it tries
    from_rooms(&world, 2).await;
    world.reload("rules: [{ match: evil.test, local: old.test, allow: none }]").unwrap();
    loop {
        let mut conn = features(&host).await;
        if conn.until("/>").await.starts_with("<resume ") {
            continue;
        }
        conn.say("<enabled xmlns='urn:xmpp:sm:3' id='id2' resume='true'/>").await;
        assert_eq!(conn.until("</message>").await, rooms_message(2));
        break;
    }
    world.is_alive().await;
}

#[tokio::test]
async fn both_directions_of_our_stream_go_on() {
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    let mut stream = sends(&world, 0..2).await;
    let both = crate::world::features(true, true);
    let sm = format!("<stream:features>{FEATURE}</stream:features>");
    let mut received = 0;
    for round in 0..3 {
        let mut conn = host.accept_offered(&both).await;
        conn.until("</auth>").await;
        conn.say("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
        host.greet(&mut conn).await;
        conn.say(&sm).await;
        if round == 0 {
            conn.until(RESUMABLE).await;
            conn.say("<enabled xmlns='urn:xmpp:sm:3' id='id1' resume='true'/>").await;
            conn.until(&to_peer(1)).await;
        } else {
            assert_eq!(conn.until("/>").await, resume("id1", received));
            conn.say(resumed("id1", 2 * round)).await;
            stream.say(&(2 * round..2 * round + 2).map(to_peer).collect::<String>()).await;
            let text = conn.until(&to_peer(2 * round + 1)).await;
            assert_eq!(text, (2 * round..2 * round + 2).map(to_peer).collect::<String>());
        }
        for number in 0..3 {
            conn.say(from_peer(number)).await;
            assert_eq!(world.legacy.arrival().await, from_peer(number));
            received += 1;
        }
        conn.say(R).await;
        conn.until(&a(received)).await;
    }
    world.is_alive().await;
}
