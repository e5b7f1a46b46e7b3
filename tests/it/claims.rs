//! A peer that owns one authorized pair tries every way to send for another (invariants I1 to I3;
//! attack rows ): nothing arrives, the stream ends, and others are unharmed.

use crate::world::{BIDI, BOUNCE, Conn, FEATURES_END, Host, World, features, header, message_to};

const OWN: &str = "<message from='m@evil.test' to='bob@old.test'><body>own</body></message>";
const SPOOFED: &str = "<message from='ann@good.test' to='bob@old.test'><body>no</body></message>";
const ROOMS: &str = "<message from='m@evil.test' to='r@rooms.old.test'><body>no</body></message>";
const TURNED: &str = "<message from='bob@old.test' to='m@evil.test'><body>no</body></message>";

/// What a peer says before it sends for another, and for whom.
const WAYS: [(&str, &str, &str); 13] = [
    ("nothing", "", SPOOFED),
    ("nothing", "", ROOMS),
    ("nothing", "", TURNED),
    ("bidi", BIDI, SPOOFED),
    ("bidi", BIDI, ROOMS),
    (
        "a request without a proof",
        "<db:result from='good.test' to='old.test'>wrong</db:result>",
        SPOOFED,
    ),
    (
        "an answer to its own request",
        "<db:result from='good.test' to='old.test'>wrong</db:result>\
         <db:verify from='good.test' to='old.test' id='i1' type='valid'/>\
         <db:result from='old.test' to='good.test' type='valid'/>",
        SPOOFED,
    ),
    (
        "a result that was not asked for",
        "<db:result from='good.test' to='old.test' type='valid'/>",
        SPOOFED,
    ),
    (
        "a result for its own domain and another target",
        "<db:result from='evil.test' to='rooms.old.test' type='valid'/>",
        ROOMS,
    ),
    ("a result turned around", "<db:result from='old.test' to='good.test' type='valid'/>", SPOOFED),
    (
        "a verification that was not asked for",
        "<db:verify from='good.test' to='old.test' id='i1' type='valid'/>",
        SPOOFED,
    ),
    (
        "a verification for another target",
        "<db:verify from='evil.test' to='rooms.old.test' id='i1' type='valid'/>",
        ROOMS,
    ),
    ("features and success", "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>", SPOOFED),
];

/// The stream ended, with one of the errors for such stanzas or, for what is no answer on it, as
/// a stream on which dialback failed.
async fn ended(conn: &mut Conn, way: &str) {
    let text = conn.rest().await;
    let error = ["invalid-from", "not-authorized", "host-unknown"]
        .iter()
        .any(|condition| text.contains(&format!("<stream:error><{condition} ")));
    assert!(error && text.ends_with("</stream:stream>"), "{way}: {text}");
    assert!(!text.contains("<message"), "{way}: {text}");
}

/// A stream of another peer, which goes on.
async fn unharmed(world: &mut World, other: &mut Conn) {
    let stanza = "<message from='m@other.test' to='bob@old.test'><body>other</body></message>";
    other.say(stanza).await;
    assert_eq!(world.legacy.arrival().await, stanza);
    world.is_alive().await;
}

#[tokio::test]
async fn on_a_stream_of_its_own() {
    let mut world = World::with(BOUNCE).await;
    let mut other = world.authenticated("other.test").await;
    for bidi in [false, true] {
        for (way, before, stanza) in WAYS {
            let mut conn = match bidi {
                true => world.authenticated_both_ways("evil.test").await,
                false => world.authenticated("evil.test").await,
            };
            conn.say(OWN).await;
            assert_eq!(world.legacy.arrival().await, OWN, "{way}");
            conn.say(before).await;
            conn.say(stanza).await;
            ended(&mut conn, way).await;
            assert_eq!(world.legacy.arrived(), Vec::<String>::new(), "{way}");
        }
    }
    unharmed(&mut world, &mut other).await;
}

#[tokio::test]
async fn on_a_stream_of_ours() {
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    let mut other = world.authenticated("other.test").await;
    for (way, before, stanza) in WAYS {
        let mut conn = open(&world, &host, &features(true, true)).await;
        conn.say(OWN).await;
        assert_eq!(world.legacy.arrival().await, OWN, "{way}");
        conn.say(before).await;
        conn.say(stanza).await;
        ended(&mut conn, way).await;
        assert_eq!(world.legacy.arrived(), Vec::<String>::new(), "{way}");
    }
    unharmed(&mut world, &mut other).await;
}

#[tokio::test]
async fn on_a_stream_of_ours_that_goes_one_way() {
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    let mut other = world.authenticated("other.test").await;
    let mut conn = open(&world, &host, &features(true, false)).await;
    for (_, before, stanza) in WAYS {
        conn.say(before).await;
        conn.say(stanza).await;
        conn.say(OWN).await;
    }
    // all of it means nothing
    let _stream = world.sends("evil.test").await;
    assert_eq!(conn.until("</message>").await, message_to("evil.test"));
    unharmed(&mut world, &mut other).await;
}

#[tokio::test]
async fn before_it_is_authorized() {
    let mut world = World::with(BOUNCE).await;
    let mut other = world.authenticated("other.test").await;
    for stanza in [OWN, SPOOFED] {
        let mut conn = world.secured(Some(&world.authority.issue(&["evil.test"]))).await;
        conn.say(header("evil.test", "old.test")).await;
        conn.until(FEATURES_END).await;
        conn.say(BIDI).await;
        conn.say(stanza).await;
        conn.ends_with("not-authorized").await;
    }
    let host = world.host("evil.test").await;
    for stanza in [OWN, SPOOFED] {
        let _stream = world.sends("evil.test").await;
        let mut conn = host.accept_offered(&features(true, true)).await;
        conn.until("</auth>").await;
        conn.say(stanza).await;
        conn.ends_with("not-authorized").await;
        world.bounced("evil.test", "remote-server-timeout").await;
        world.reload("").unwrap(); // makes the gate try at once
    }
    unharmed(&mut world, &mut other).await;
}

#[tokio::test]
async fn by_the_pairs_of_another_connection() {
    // what one connection of a peer has proven says nothing on another
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    let mut honest = world.authenticated("victim.test").await;
    let stanza = "<message from='m@victim.test' to='bob@old.test'><body>mine</body></message>";
    honest.say(stanza).await;
    assert_eq!(world.legacy.arrival().await, stanza);
    let mut own = world.authenticated("evil.test").await;
    let mut ours = open(&world, &host, &features(true, true)).await;
    for conn in [&mut own, &mut ours] {
        conn.say(stanza).await;
        ended(conn, "a pair of another connection").await;
    }
    honest.say(stanza).await;
    assert_eq!(world.legacy.arrival().await, stanza);
    world.is_alive().await;
}

/// A stream of ours that carries a message.
async fn open(world: &World, host: &Host, features: &str) -> Conn {
    let _stream = world.sends(&host.domain).await;
    let (mut conn, _) = host.accept_with(features).await;
    conn.until(&message_to(&host.domain)).await;
    conn
}
