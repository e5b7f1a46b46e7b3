//! Speaking for another domain.

use std::collections::HashSet;

use crate::world::{
    BOUNCE, Conn, EXTERNAL, FEATURES_END, FOOTER, Host, Identity, PROCEED, STARTTLS, Service,
    World, attribute, features, header, header_with, message_to,
};

const DIALBACK: &str = "<stream:features><dialback xmlns='urn:xmpp:features:dialback'><errors/>\
    </dialback></stream:features>";
const STANZA: &str = "<message from='m@evil.test' to='bob@old.test'><body>x</body></message>";

/// A dialback request.
fn request(from: &str, to: &str, key: &str) -> String {
    format!("<db:result from='{from}' to='{to}'>{key}</db:result>")
}

/// The gate asks `host` about a key; the stream that waits for the answer.
async fn question(host: &Host) -> Conn {
    let mut conn = host.accept_secured().await;
    host.greet(&mut conn).await;
    conn.say(DIALBACK).await;
    conn.until("</db:verify>").await;
    conn
}

#[tokio::test]
async fn a_08_an_answer_for_a_stream_that_is_gone_is_dropped_in_silence() {
    let mut world = World::start().await;
    let host = world.host("evil.test").await;
    let (mut conn, id) = world.unproven("evil.test").await;
    conn.say(request("evil.test", "old.test", "k")).await;
    let mut verify = question(&host).await;
    conn.say(FOOTER).await;
    conn.rest().await;
    drop(conn);
    // a new stream is there when the answer for the old one comes
    let (mut conn, _) = world.unproven("evil.test").await;
    verify.say(format!("<db:verify from='evil.test' to='old.test' id='{id}' type='valid'/>")).await;
    verify.say(FOOTER).await;
    let said = verify.rest().await;
    assert!(said == FOOTER || said.is_empty(), "{said}");
    conn.say(STANZA).await;
    conn.ends_with("not-authorized").await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_09_a_key_of_ours_that_is_sent_back_to_us_proves_nothing() {
    // the gate's own key, with the very id that it was made for
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    let _stream = world.sends("evil.test").await;
    let (_outbound, key) = host.accept_request().await;
    // for the domain that it speaks for: refused without asking anybody
    let (mut conn, _) = world.unproven("evil.test").await;
    conn.say(request("old.test", "old.test", &key)).await;
    let answer = conn.until("</db:result>").await;
    assert!(answer.contains("<forbidden "), "{answer}");
    // for another: that one is asked, and knows nothing of it
    conn.say(request("good.test", "old.test", &key)).await;
    assert_eq!(
        conn.rest().await,
        "<db:result from='old.test' to='good.test' type='invalid'/></stream:stream>"
    );
    // nor does a key of the legacy side's do better
    world.is_alive().await;
    let [_, _, _, local] = world.legacy.requests().pop().unwrap();
    let (mut conn, _) = world.unproven("good.test").await;
    conn.say(request("good.test", "old.test", &local)).await;
    assert!(conn.rest().await.contains("type='invalid'"));
    world.is_alive().await;
}

#[tokio::test]
async fn a_10_a_key_made_for_the_legacy_server_is_not_confirmed_to_peers() {
    let mut world = World::start().await;
    world.is_alive().await;
    let [from, to, id, key] = world.legacy.requests().pop().unwrap();
    assert_eq!((from.as_str(), to.as_str()), ("good.test", "old.test"));
    let (mut conn, _) = world.unproven("evil.test").await;
    // as its own server would be asked
    conn.say(format!("<db:verify from='old.test' to='good.test' id='{id}'>{key}</db:verify>"))
        .await;
    let answer = conn.until("</db:verify>").await;
    assert!(answer.contains("type='error'") && answer.contains("<item-not-found "), "{answer}");
    // and as if it were a key for peers
    conn.say(format!("<db:verify from='good.test' to='old.test' id='{id}'>{key}</db:verify>"))
        .await;
    conn.until("type='invalid'/>").await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_12_who_stands_in_the_middle_gets_no_key_of_ours_and_comes_from_elsewhere() {
    // The true server signs the id of a stream that another one opened, as it would if that one
    // stood between it and the gate. Dialback cannot tell; where the peer comes from can.
    let mut world = World::start().await;
    world.reload("rules: [{ match: good.test, from_ip: 192.0.2.1 }]").unwrap();
    let (mut conn, id) = world.unproven("other.test").await;
    conn.say(request("good.test", "old.test", &world.good.sign(&id))).await;
    conn.until("<forbidden ").await;
    conn.say("<message from='ann@good.test' to='bob@old.test'/>").await;
    conn.ends_with("not-authorized").await;
    let mut conn = world.secured(None).await;
    conn.say(header("good.test", "old.test")).await;
    conn.ends_with_header_and("policy-violation").await;
    world.reload("").unwrap();
    world.is_alive().await;
    // between the gate and a peer: no key is handed out to a certificate that proves nothing
    let mut world = World::with(BOUNCE).await;
    world.reload("rules: [{ match: evil.test, level: trusted }]").unwrap();
    let mut host = world.host("evil.test").await;
    host.identity = Identity::self_signed("evil.test");
    let _stream = world.sends("evil.test").await;
    host.accept_secured().await.ends_silently().await;
    world.bounced("evil.test", "remote-server-timeout").await;
    world.is_alive().await;
}

/// The ids of so many streams on the public and the local port.
async fn ids(world: &World, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..count {
        let at = if n % 2 == 0 { world.public() } else { world.local() };
        let mut conn = Conn::open(at, "127.0.0.1").await;
        conn.say(header("good.test", if n % 2 == 0 { "old.test" } else { "good.test" })).await;
        ids.push(attribute(&conn.until(FEATURES_END).await, "id"));
        conn.say(FOOTER).await;
        conn.rest().await;
    }
    ids
}

#[tokio::test]
async fn a_13_no_stream_id_comes_again_after_a_restart_or_at_another_gate() {
    // a key that was seen once is worth nothing unless its id comes again
    let world = World::start().await;
    let other = World::start().await;
    let mut all = ids(&world, 200).await;
    all.extend(ids(&other, 200).await);
    let mut world = world.restarted().await;
    all.extend(ids(&world, 200).await);
    let count = all.len();
    // half of an id is enough to tell them apart
    let halves: HashSet<&str> = all.iter().flat_map(|id| [&id[..16], &id[16..]]).collect();
    assert_eq!(halves.len(), 2 * count);
    world.is_alive().await;
}

#[tokio::test]
async fn a_14_stream_ids_are_128_bits_of_which_none_can_be_guessed() {
    const COUNT: u32 = 1600;
    let mut world = World::start().await;
    let ids = ids(&world, COUNT as usize).await;
    for place in 0..32 {
        let mut seen = [0u32; 16];
        let mut same_as_before = 0;
        let mut last = None;
        for id in &ids {
            assert_eq!(id.len(), 32, "{id}");
            let digit = char::from(id.as_bytes()[place]).to_digit(16).unwrap();
            seen[digit as usize] += 1;
            same_as_before += u32::from(last.replace(digit) == Some(digit));
        }
        // Pearson's test with 15 degrees of freedom: by chance above 90 once in 10^12
        let expected = f64::from(COUNT) / 16.0;
        let squares = seen.iter().map(|n| (f64::from(*n) - expected).powi(2) / expected);
        let sum: f64 = squares.sum();
        assert!(sum < 90.0, "digit {place}: {seen:?}");
        // on average 100 times, by chance beyond this less than once in 10^10
        assert!((40..170).contains(&same_as_before), "digit {place}: {same_as_before}");
    }
    world.is_alive().await;
}

#[tokio::test]
async fn a_19_each_name_is_checked_where_it_counts_and_nowhere_else() {
    let mut world = World::start().await;
    let identity = world.authority.issue(&["evil.test"]);
    // the TLS server name, the header in the clear, the header behind TLS, the request
    for (sni, clear, secured) in [
        ("rooms.old.test", "old.test", "old.test"),
        ("old.test", "rooms.old.test", "old.test"),
        ("old.test", "old.test", "rooms.old.test"),
    ] {
        let mut conn = world.connect().await;
        conn.say(header("evil.test", clear)).await;
        conn.until(FEATURES_END).await;
        conn.say(STARTTLS).await;
        conn.until(PROCEED).await;
        conn.connect_tls(world.authority.client(Some(&identity), &[]), sni).await.unwrap();
        conn.say(header("evil.test", secured)).await;
        conn.until(FEATURES_END).await;
        conn.say(request("evil.test", "nobody.test", "k")).await;
        conn.until("<item-not-found ").await;
        conn.say(request("evil.test", "rooms.old.test", "k")).await;
        conn.until("<db:result from='rooms.old.test' to='evil.test' type='valid'/>").await;
        let rooms = "<message from='m@evil.test' to='r@rooms.old.test'/>";
        conn.say(rooms).await;
        assert_eq!(world.legacy.arrival().await, rooms);
        // whatever the other three were
        conn.say(STANZA).await;
        conn.ends_with("invalid-from").await;
    }
    // with SASL EXTERNAL it is the last header alone
    let mut conn = world.secured(Some(&identity)).await;
    conn.say(header("evil.test", "old.test")).await;
    conn.until(FEATURES_END).await;
    conn.say(EXTERNAL).await;
    conn.until("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
    conn.say(header("evil.test", "rooms.old.test")).await;
    conn.until(FEATURES_END).await;
    conn.say(STANZA).await;
    conn.ends_with("invalid-from").await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_20_nobody_is_sent_elsewhere_by_a_stream_error() {
    let mut world = World::with(BOUNCE).await;
    // what stands in for a host of the own network
    let inside = world.host("inside.test").await;
    let see = |host: &str| {
        format!(
            "<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>{host}\
             </see-other-host></stream:error></stream:stream>"
        )
    };
    let place = inside.address.to_string();
    for (n, place) in [place.as_str(), "inside.test", "host1.inside.test"].into_iter().enumerate() {
        // before anything is proven, and as a peer that is
        let host = world.host(&format!("a{n}.test")).await;
        let _stream = world.sends(&host.domain).await;
        let mut conn = host.accept().await;
        host.greet(&mut conn).await;
        conn.say(see(place)).await;
        assert_eq!(conn.rest().await, FOOTER);
        world.bounced(&host.domain, "remote-server-timeout").await;
        let host = world.host(&format!("b{n}.test")).await;
        let _stream = world.sends(&host.domain).await;
        let (mut conn, _) = host.accept_with(&features(true, true)).await;
        conn.until(&message_to(&host.domain)).await;
        conn.say(see(place)).await;
        assert_eq!(conn.rest().await, FOOTER);
        // the next one goes where DNS says
        let _stream = world.sends(&host.domain).await;
        let (mut conn, _) = host.accept_with(&features(true, true)).await;
        conn.until(&message_to(&host.domain)).await;
        // nor by one that connects to us
        let mut conn = world.authenticated(&host.domain).await;
        conn.say(see(place)).await;
        assert_eq!(conn.rest().await, FOOTER);
    }
    inside.nobody_waits().await;
    assert!(!world.dns.was_asked("inside.test"));
    world.is_alive().await;
}

#[tokio::test]
async fn a_22_a_pair_of_one_connection_is_none_of_another_of_the_same_peer() {
    let mut world = World::start().await;
    let identity = world.authority.issue(&["evil.test", "second.test"]);
    let second = "<message from='m@second.test' to='bob@old.test'/>";
    let mut conns = Vec::new();
    for _ in 0..2 {
        let mut conn = world.secured(Some(&identity)).await;
        conn.say(header("evil.test", "old.test")).await;
        conn.until(FEATURES_END).await;
        conn.say(request("evil.test", "old.test", "k")).await;
        conn.until("type='valid'/>").await;
        conns.push(conn);
    }
    conns[0].say(request("second.test", "old.test", "k")).await;
    conns[0].until("type='valid'/>").await;
    conns[0].say(second).await;
    assert_eq!(world.legacy.arrival().await, second);
    conns[1].say(second).await;
    conns[1].ends_with("invalid-from").await;
    conns[0].say(second).await;
    assert_eq!(world.legacy.arrival().await, second);
    world.is_alive().await;
}

#[tokio::test]
async fn a_26_a_domain_that_leads_back_to_the_gate_ends_there_for_both_sides() {
    // by SRV to each of our own listeners, as STARTTLS and as direct TLS, and as authoritative server
    let mut world = World::with(BOUNCE).await;
    for (n, (service, at, condition)) in [
        (Service::StartTls, world.public(), "remote-server-not-found"),
        (Service::StartTls, world.direct(), "remote-server-timeout"),
        (Service::Direct, world.direct(), "remote-server-timeout"),
        (Service::StartTls, world.local(), "remote-server-timeout"),
    ]
    .into_iter()
    .enumerate()
    {
        let domain = format!("loop{n}.test");
        world.dns.publish(&domain, service, &[at]);
        let _stream = world.sends(&domain).await;
        world.bounced(&domain, condition).await;
        let (mut conn, _) = world.unproven(&domain).await;
        conn.say(request(&domain, "old.test", "k")).await;
        let answer = conn.until("</db:result>").await;
        assert!(answer.contains("type='error'"), "{answer}");
    }
    // a domain of ours, whatever DNS says of it
    world.dns.publish("old.test", Service::StartTls, &[world.public()]);
    let mut conn = Conn::open(world.local(), "127.0.0.1").await;
    conn.say(header_with("to='good.test'")).await;
    conn.until("'>").await;
    conn.say(request("old.test", "rooms.old.test", "k")).await;
    conn.until("<item-not-found ").await;
    world.is_alive().await;
}
