//! Acknowledgements on streams with peers (XEP-0198; SM-1 to SM-5; attack row A-24), in both roles
//! and both directions, and that what was taken is accounted for.

use fedgate::xmpp::Domain;

use crate::world::{
    BIDI, BOUNCE, Conn, EXTERNAL, FEATURES_END, FOOTER, Host, Manner, Plan, World, header,
    message_to, soon,
};

const ENABLE: &str = "<enable xmlns='urn:xmpp:sm:3'/>";
const ENABLED: &str = "<enabled xmlns='urn:xmpp:sm:3'/>";
const FEATURE: &str = "<sm xmlns='urn:xmpp:sm:3'/>";
const R: &str = "<r xmlns='urn:xmpp:sm:3'/>";
const UNEXPECTED: &str = "<failed xmlns='urn:xmpp:sm:3'><unexpected-request \
    xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>";

fn a(h: u32) -> String {
    format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>")
}

fn numbered(from: &str, to: &str, number: u32) -> String {
    format!("<message from='{from}' to='{to}' id='{number}'><body>x</body></message>")
}

/// A stream of ours with acknowledgements: the peer's server has them on too, and has `</r>` not
/// answered yet.
async fn to_peer(host: &Host) -> Conn {
    let mut conn = host.accept_auth().await;
    conn.say("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
    host.greet(&mut conn).await;
    conn.say(format!("<stream:features>{FEATURE}</stream:features>")).await;
    conn.until("<enable xmlns='urn:xmpp:sm:3' resume='true'/>").await;
    conn.say(ENABLED).await;
    conn
}

/// What was taken is written, bounced, dropped or refused, and nothing is left inside.
async fn adds_up(world: &World) {
    let mut last = None;
    for _ in 0..400 {
        let status = world.app.monitor().status().await;
        let s = status.stanzas;
        let out = s.delivered + s.bounced + s.dropped + s.refused;
        if status.queued == 0 && s.inbound + s.outbound == out {
            return;
        }
        last = Some((status.queued, s));
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("it does not add up: {last:?}");
}

// === streams that peers open ===

#[tokio::test]
async fn a_peer_learns_what_is_handled() {
    let mut world = World::start().await;
    let mut conn = world.authenticated("evil.test").await;
    conn.say(ENABLE).await;
    assert_eq!(conn.until(ENABLED).await, ENABLED);
    conn.say(R).await;
    assert_eq!(conn.until("/>").await, a(0));
    for number in 1..=3 {
        conn.say(numbered("m@evil.test", "bob@old.test", number)).await;
        conn.say(R).await;
        // perhaps not at once, but unasked then
        conn.until(&a(number)).await;
        world.legacy.arrival().await;
    }
    // the last words say it too
    conn.say(FOOTER).await;
    assert_eq!(conn.rest().await, a(3) + FOOTER);
    adds_up(&world).await;
    world.is_alive().await;
}

#[tokio::test]
async fn the_feature_stands_where_stanzas_may_be_sent() {
    // SM-2
    let mut world = World::start().await;
    let mut conn = world.secured(Some(&world.authority.issue(&["evil.test"]))).await;
    conn.say(header("evil.test", "old.test")).await;
    assert!(conn.until(FEATURES_END).await.contains(FEATURE), "for dialback");
    conn.say(ENABLE).await;
    assert_eq!(conn.until("</failed>").await, UNEXPECTED);
    conn.say(EXTERNAL).await;
    conn.until("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
    conn.say(header("evil.test", "old.test")).await;
    assert!(conn.until(FEATURES_END).await.contains(FEATURE));
    conn.say(ENABLE).await;
    conn.until(ENABLED).await;
    conn.say(ENABLE).await;
    assert_eq!(conn.until("</failed>").await, UNEXPECTED);
    world.reload("rules: [{ match: evil.test, compat: { stream_management: off } }]").unwrap();
    let mut conn = world.proven("evil.test").await;
    conn.say(EXTERNAL).await;
    conn.until("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
    conn.say(header("evil.test", "old.test")).await;
    assert!(!conn.until(FEATURES_END).await.contains(FEATURE));
    conn.say(ENABLE).await;
    assert!(conn.until("</failed>").await.contains("<feature-not-implemented "));
    world.is_alive().await;
}

#[tokio::test]
async fn a_bounce_is_an_end_too() {
    // SM-5
    let world = World::start().await;
    let host = world.host("evil.test").await;
    world.legacy.behave(Manner::Closes);
    let mut conn = world.authenticated("evil.test").await;
    conn.say(ENABLE).await;
    conn.until(ENABLED).await;
    conn.say(numbered("m@evil.test", "bob@old.test", 1)).await;
    conn.say(R).await;
    conn.until(&a(1)).await;
    let mut own = host.accept_open().await;
    let bounce = own.until("</message>").await;
    assert!(bounce.contains("type='error'"), "{bounce}");
    world.legacy.behave(Manner::Honest);
    adds_up(&world).await;
}

#[tokio::test]
async fn nobody_acknowledges_what_was_not_sent() {
    // SM-4, A-24
    let mut world = World::start().await;
    for (h, condition) in [
        ("1", "undefined-condition"),
        ("4294967295", "undefined-condition"),
        ("-1", "bad-format"),
        ("4294967296", "bad-format"),
    ] {
        let mut conn = world.authenticated("evil.test").await;
        conn.say(ENABLE).await;
        conn.until(ENABLED).await;
        conn.say(format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>")).await;
        let text = conn.rest().await;
        assert!(text.contains(&format!("<{condition} xmlns=")), "{text}");
        let too_high =
            format!("<handled-count-too-high xmlns='urn:xmpp:sm:3' h='{h}' send-count='0'/>");
        assert_eq!(text.contains(&too_high), condition == "undefined-condition", "{text}");
    }
    world.is_alive().await;
}

#[tokio::test]
async fn what_goes_back_on_a_peers_stream_is_acknowledged_or_bounces() {
    let mut world = World::with(BOUNCE).await;
    for acknowledged in [true, false] {
        let mut conn = world.authenticated_both_ways("evil.test").await;
        conn.say(ENABLE).await;
        conn.until(ENABLED).await;
        let _stream = world.sends("evil.test").await;
        assert_eq!(conn.until(R).await, message_to("evil.test") + R);
        if acknowledged {
            conn.say(a(1)).await;
            conn.say(numbered("m@evil.test", "bob@old.test", 1)).await;
            world.legacy.arrival().await;
        }
        drop(conn);
        if !acknowledged {
            world.bounced("evil.test", "remote-server-timeout").await;
        }
    }
    adds_up(&world).await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_peer_may_acknowledge_until_it_closes_a_stream_that_is_closed() {
    for ends in [false, true] {
        let mut world = World::with(BOUNCE).await;
        let mut conn = world.authenticated_both_ways("evil.test").await;
        conn.say(ENABLE).await;
        conn.until(ENABLED).await;
        let mut stream = world.sends("evil.test").await;
        conn.until(R).await;
        // behind what it was asked about
        stream.say(&message_to("evil.test")).await;
        conn.until(&message_to("evil.test")).await;
        if ends {
            let World { app, mut legacy, .. } = world;
            let end = tokio::spawn(app.shutdown());
            assert!(conn.until(FOOTER).await.starts_with(R));
            conn.say(a(1) + &a(2) + FOOTER).await;
            conn.ends_silently().await;
            soon("the end", end).await.unwrap();
            assert!(legacy.arrived().is_empty());
        } else {
            world.app.monitor().close_domain(&Domain::parse("evil.test").unwrap());
            assert!(conn.until(FOOTER).await.starts_with(R));
            conn.say(a(1) + &a(2) + FOOTER).await;
            conn.ends_silently().await;
            adds_up(&world).await;
            // nothing has bounced
            world.is_alive().await;
        }
    }
}

#[tokio::test]
async fn nothing_goes_back_to_a_peer_that_was_not_heard_yet() {
    let mut world = World::with(BOUNCE).await;
    for by_dialback in [false, true] {
        let mut conn = if by_dialback {
            let mut conn = world.proven("evil.test").await;
            conn.say(BIDI).await;
            conn.say("<db:result from='evil.test' to='old.test'>k</db:result>").await;
            conn.until("type='valid'/>").await;
            conn
        } else {
            world.authenticated_both_ways("evil.test").await
        };
        let _stream = world.sends("evil.test").await;
        // as where packets vanish: what was written before it asks would be lost with the connection
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        conn.say(ENABLE).await;
        assert_eq!(conn.until(R).await, ENABLED.to_owned() + &message_to("evil.test") + R);
        drop(conn);
        world.bounced("evil.test", "remote-server-timeout").await;
    }
    adds_up(&world).await;
}

#[tokio::test]
async fn what_waits_for_a_peer_to_speak_comes_back_at_the_end() {
    let world = World::with(BOUNCE).await;
    let mut conn = world.authenticated_both_ways("evil.test").await;
    let _stream = world.sends("evil.test").await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let World { app, mut legacy, .. } = world;
    let end = tokio::spawn(app.shutdown());
    // nothing else leads to the peer
    let bounce = legacy.arrival().await;
    assert!(bounce.contains("<remote-server-not-found "), "{bounce}");
    let text = conn.rest().await;
    assert!(!text.contains("<message"), "{text}");
    end.await.unwrap();
}

#[tokio::test]
async fn a_stream_by_dialback_is_managed_too() {
    let mut world = World::start().await;
    let mut conn = world.secured(Some(&world.authority.issue(&["evil.test"]))).await;
    conn.say(header("evil.test", "old.test")).await;
    conn.until(FEATURES_END).await;
    conn.say("<db:result from='evil.test' to='old.test'>k</db:result>").await;
    conn.until("type='valid'/>").await;
    // it cannot be resumed, for nothing but SASL says who comes back
    conn.say("<enable xmlns='urn:xmpp:sm:3' resume='true'/>").await;
    assert_eq!(conn.until("/>").await, ENABLED);
    conn.say(numbered("m@evil.test", "bob@old.test", 1)).await;
    conn.say(R).await;
    conn.until(&a(1)).await;
    world.legacy.arrival().await;
    conn.say(FOOTER).await;
    conn.rest().await;
    world.is_alive().await;
}

// === streams that we open ===

#[tokio::test]
async fn what_a_peer_acknowledges_is_delivered() {
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    let _stream = world.sends("evil.test").await;
    let mut conn = to_peer(&host).await;
    assert_eq!(conn.until(R).await, message_to("evil.test") + R);
    conn.say(a(1)).await;
    conn.say(R).await;
    assert_eq!(conn.until("/>").await, a(0), "nothing came from the peer");
    // the connection is lost, and nothing with it
    drop(conn);
    let _stream = world.sends("evil.test").await;
    let mut conn = to_peer(&host).await;
    assert_eq!(conn.until(R).await, message_to("evil.test") + R);
    conn.say(a(1)).await;
    conn.say(FOOTER).await;
    conn.rest().await;
    adds_up(&world).await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_stream_that_is_to_end_waits_for_what_the_peer_has_yet_to_say() {
    for denied in [false, true] {
        let mut world = World::with(BOUNCE).await;
        let host = world.host("evil.test").await;
        let _stream = world.sends("evil.test").await;
        let mut conn = to_peer(&host).await;
        conn.until(R).await;
        if denied {
            world.reload("rules: [{ match: evil.test, allow: none }]").unwrap();
        } else {
            let domain = fedgate::xmpp::Domain::parse("evil.test").unwrap();
            assert!(world.app.monitor().close_domain(&domain) > 0);
        }
        // long enough for the stream to end without
        world.is_alive().await;
        conn.say(a(1)).await;
        conn.until(FOOTER).await;
        drop(conn);
        adds_up(&world).await;
        assert_eq!(world.app.monitor().status().await.stanzas.bounced, 0);
        world.is_alive().await;
    }
}

#[tokio::test]
async fn a_peer_that_is_not_read_from_is_not_taken_for_dead() {
    let config = "limits: { ack: 1s, stanza_rate: 2/s, burst: 1s }";
    let mut world = World::with(Plan { config, ..BOUNCE }).await;
    let mut conn = world.authenticated_both_ways("evil.test").await;
    conn.say(ENABLE).await;
    conn.until(ENABLED).await;
    // eight are four seconds, one of which is the burst
    let many: String =
        (1..=8).map(|number| numbered("m@evil.test", "bob@old.test", number)).collect();
    conn.say(many).await;
    let _stream = world.sends("evil.test").await;
    conn.until(R).await;
    conn.say(a(1)).await;
    for number in 1..=8 {
        let message = numbered("m@evil.test", "bob@old.test", number);
        assert_eq!(world.legacy.arrival().await, message);
    }
    conn.say(FOOTER).await;
    conn.until(&(a(8) + FOOTER)).await;
    adds_up(&world).await;
    assert_eq!(world.app.monitor().status().await.stanzas.bounced, 0);
}

#[tokio::test]
async fn what_nobody_knows_of_bounces_and_is_not_sent_again() {
    // SM-5
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    for polite in [false, true] {
        let _stream = world.sends("evil.test").await;
        let mut conn = to_peer(&host).await;
        conn.until(&message_to("evil.test")).await;
        if polite {
            conn.say(FOOTER).await;
        }
        drop(conn);
        world.bounced("evil.test", "remote-server-timeout").await;
    }
    host.nobody_waits().await;
    adds_up(&world).await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_peer_that_acknowledges_nothing_is_dead() {
    let plan = Plan { config: "limits: { ack: 1s }", ..BOUNCE };
    let mut world = World::with(plan).await;
    let host = world.host("evil.test").await;
    let _stream = world.sends("evil.test").await;
    let mut conn = to_peer(&host).await;
    conn.until(R).await;
    world.bounced("evil.test", "remote-server-timeout").await;
    conn.rest().await;
    adds_up(&world).await;
    world.is_alive().await;
}

#[tokio::test]
async fn no_more_is_under_way_than_may_be() {
    let plan = Plan { config: "limits: { unacknowledged: 10000B }", ..BOUNCE };
    let mut world = World::with(plan).await;
    let host = world.host("evil.test").await;
    let mut stream = world.legacy.open("evil.test").await;
    let body = "x".repeat(1000);
    let message = |n: u32| {
        format!(
            "<message from='bob@old.test' to='m@evil.test' id='{n}'><body>{body}</body></message>"
        )
    };
    for n in 0..200 {
        stream.say(&message(n)).await;
    }
    let mut conn = to_peer(&host).await;
    let (mut came, mut text) = (0, String::new());
    while came < 200 {
        text += &conn.until(R).await;
        let all = text.matches("</message>").count() as u32;
        assert!(all > came, "asked again without anything new");
        came = all;
        conn.say(a(came)).await;
    }
    let found: Vec<_> =
        text.split("<message ").skip(1).map(|m| crate::world::attribute(m, "id")).collect();
    assert!(found.into_iter().eq((0..200).map(|n: u32| n.to_string())));
    adds_up(&world).await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_peer_that_claims_too_much_loses_its_stream() {
    // SM-4
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    let _stream = world.sends("evil.test").await;
    let mut conn = to_peer(&host).await;
    conn.until(R).await;
    conn.say(a(2)).await;
    let text = conn.rest().await;
    let too_high = "<handled-count-too-high xmlns='urn:xmpp:sm:3' h='2' send-count='1'/>";
    assert!(text.contains(too_high), "{text}");
    world.bounced("evil.test", "remote-server-timeout").await;
    adds_up(&world).await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_peer_that_refuses_it_gets_stanzas_all_the_same() {
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    let _stream = world.sends("evil.test").await;
    let mut conn = host.accept_auth().await;
    conn.say("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
    host.greet(&mut conn).await;
    conn.say(format!("<stream:features>{FEATURE}</stream:features>")).await;
    conn.until("<enable xmlns='urn:xmpp:sm:3' resume='true'/>").await;
    conn.say(UNEXPECTED).await;
    conn.until(&message_to("evil.test")).await;
    adds_up(&world).await;
    drop(conn);
    world.is_alive().await;
}
