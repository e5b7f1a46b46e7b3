//! Changes while streams are open, and the end (protocol AB-2, A-97, A-99, §1.3 `system-shutdown`).

use std::{fs, io::ErrorKind, net::SocketAddr};

use fedgate::xmpp::Domain;

use crate::world::{
    BOUNCE, Conn, FOOTER, Manner, PROCEED, Plan, STARTTLS, World, assert_error, has_xml, header,
    soon,
};

const DENY: &str = "rules: [{ match: evil.test, allow: none, reason: 'spam' }]";

#[tokio::test]
async fn a_new_rule_ends_the_streams_that_it_denies_and_no_other() {
    //
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    let _stream = world.sends("evil.test").await;
    let mut outbound = host.accept_open().await;
    outbound.until("</message>").await;
    let mut clear = world.clear("evil.test").await;
    let mut proven = world.proven("evil.test").await;
    let mut inbound = world.authenticated("evil.test").await;
    let mut other = world.authenticated("other.test").await;
    world.reload(DENY).unwrap();
    for conn in [&mut clear, &mut proven, &mut inbound, &mut outbound] {
        conn.ends_with("policy-violation").await;
    }
    let stanza = "<message from='x@other.test' to='bob@old.test'/>";
    other.say(stanza).await;
    assert_eq!(world.legacy.arrival().await, stanza);
    // from now on nobody gets there, and the sender learns why
    let _stream = world.sends("evil.test").await;
    world.bounced("evil.test", "forbidden").await;
    let mut conn = world.connect().await;
    conn.say(header("evil.test", "old.test")).await;
    conn.ends_with_header_and("policy-violation").await;
    world.is_alive().await;
    // and back
    world.reload("").unwrap();
    drop(world.authenticated("evil.test").await);
    let _stream = world.sends("evil.test").await;
    host.accept_open().await.until("</message>").await;
    world.is_alive().await;
}

#[tokio::test]
async fn one_pair_of_a_stream_can_go_and_the_others_stay() {
    //
    let mut world = World::start().await;
    let identity = world.authority.issue(&["evil.test", "other.test"]);
    let mut conn = world.secured(Some(&identity)).await;
    conn.say(header("other.test", "old.test")).await;
    conn.until("</stream:features>").await;
    for domain in ["evil.test", "other.test"] {
        conn.say(format!("<db:result from='{domain}' to='old.test'>k</db:result>")).await;
        conn.until("type='valid'/>").await;
    }
    world.reload(DENY).unwrap();
    let stanza = "<message from='x@other.test' to='bob@old.test'/>";
    conn.say(stanza).await;
    assert_eq!(world.legacy.arrival().await, stanza);
    conn.say("<message from='m@evil.test' to='bob@old.test'/>").await;
    conn.ends_with("invalid-from").await;
    world.is_alive().await;
}

#[tokio::test]
async fn what_a_peer_sends_until_it_closes_a_stream_that_is_closed_is_taken() {
    // RFC 6120 §4.4: also what waits for a rate
    let plan = Plan { config: "limits: { stanza_rate: 2/s, burst: 1s }", ..Plan::DEFAULT };
    let stanza = |n| format!("<message from='m@evil.test' to='bob@old.test' id='{n}'/>");
    for polite in [true, false] {
        let mut world = World::with(plan.clone()).await;
        let mut conn = world.authenticated("evil.test").await;
        conn.say((0..300).map(stanza).collect::<String>()).await;
        assert_eq!(world.legacy.arrival().await, stanza(0));
        let mut events = world.app.monitor().watch();
        let streams = world.app.monitor().streams();
        let stream = streams.iter().find(|stream| stream.side == "peer").unwrap();
        // with the stream on which they go on to the legacy server
        assert_eq!(world.app.monitor().close_domain(&Domain::parse("evil.test").unwrap()), 2);
        assert_error(&conn.until(FOOTER).await, "reset");
        match polite {
            true => conn.say(stanza(300) + FOOTER).await,
            false => conn.finish().await,
        }
        for n in 1..if polite { 301 } else { 300 } {
            assert_eq!(world.legacy.arrival().await, stanza(n));
        }
        conn.ends_silently().await;
        let closed = async {
            loop {
                let event = events.recv().await.unwrap();
                if (&*event.what, event.stream) == ("closed", Some(stream.id)) {
                    return event.detail;
                }
            }
        };
        assert_eq!(soon("the end", closed).await, "closed by the operator");
        world.is_alive().await;
    }
}

#[tokio::test]
async fn an_address_that_a_new_rule_denies_loses_its_streams() {
    let mut world = World::start().await;
    let mut denied = world.secured_from("127.0.0.66", None).await;
    denied.say(header("evil.test", "old.test")).await;
    denied.until("</stream:features>").await;
    let mut other = world.authenticated("other.test").await;
    world.reload("rules: [{ address: 127.0.0.66, allow: none }]").unwrap();
    denied.ends_with("policy-violation").await;
    other.say("<message from='x@other.test' to='bob@old.test'/>").await;
    world.legacy.arrival().await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_rule_that_comes_during_a_handshake_holds_after_it() {
    let mut world = World::with(BOUNCE).await;
    // on the way in: direct TLS begun, STARTTLS agreed
    let mut direct = Conn::open(world.direct(), "127.0.0.1").await;
    let mut upgraded = world.clear("evil.test").await;
    upgraded.say(STARTTLS).await;
    upgraded.until(PROCEED).await;
    // on the way out
    let host = world.host("evil.test").await;
    let _stream = world.sends("evil.test").await;
    let mut outbound = host.accept_starttls().await;
    world.is_alive().await; // the direct connection was accepted before those of this
    world.reload(DENY).unwrap();
    let identity = world.authority.issue(&["evil.test"]);
    for conn in [&mut direct, &mut upgraded] {
        let tls = world.authority.client(Some(&identity), &[]);
        conn.connect_tls(tls, "old.test").await.unwrap();
        conn.say(header("evil.test", "old.test")).await;
        assert_error(&conn.rest().await, "policy-violation");
    }
    outbound.say(PROCEED).await;
    outbound.accept_tls(host.identity.server()).await.unwrap();
    host.greet(&mut outbound).await;
    outbound.say("<stream:features/>").await;
    outbound.until("</db:result>").await;
    outbound.say("<db:result from='evil.test' to='old.test' type='valid'/>").await;
    let text = outbound.rest().await;
    assert!(!text.contains("<message"), "{text}");
    assert_error(&text, "policy-violation");
    world.bounced("evil.test", "forbidden").await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_broken_file_changes_nothing() {
    let mut world = World::start().await;
    let mut conn = world.authenticated("evil.test").await;
    for broken in ["rules: [{ match: evil.test, alow: none }]", "a: [", "rules: 7", "\u{0}"] {
        world.reload(broken).unwrap_err();
        let stanza = "<message from='m@evil.test' to='bob@old.test'/>";
        conn.say(stanza).await;
        assert_eq!(world.legacy.arrival().await, stanza);
    }
    world.is_alive().await;
}

/// As another process would, such as a second fedgate.
fn is_taken(address: SocketAddr) {
    let outcome = std::net::TcpListener::bind(address);
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::AddrInUse, "{address}");
}

#[tokio::test]
async fn a_listener_may_move_to_an_address_that_overlaps_the_old_one() {
    let mut world = World::start().await;
    let (public, direct) = (world.public(), world.direct());
    let mut open = world.authenticated("evil.test").await;
    let everywhere = |ip: &str| SocketAddr::new(ip.parse().unwrap(), public.port());
    for (new_public, new_direct) in [
        (everywhere("::"), direct),
        (everywhere("0.0.0.0"), direct),
        (public, direct),
        // each the other's
        (direct, public),
        (public, direct),
    ] {
        let mut config = world.config();
        config.listen.public = vec![new_public];
        config.listen.direct_tls = vec![new_direct];
        world.app.reload(config).unwrap();
        assert_eq!((world.public(), world.direct()), (new_public, new_direct));
        world.good.steer(SocketAddr::new(public.ip(), new_public.port()));
        world.is_alive().await;
        for address in [public, direct, new_public] {
            is_taken(address);
        }
    }
    let stanza = "<message from='m@evil.test' to='bob@old.test'/>";
    open.say(stanza).await;
    assert_eq!(world.legacy.arrival().await, stanza, "streams go on");
}

/// Peers may remember the certificate, and TLSA records name its key.
#[tokio::test]
async fn a_self_signed_certificate_is_another_only_once_it_is_in_use_and_keeps_its_key() {
    let mut world = World::start().await;
    let mut config = world.config();
    config.certificates = Vec::new();
    world.app.reload(config.clone()).unwrap();
    let files = ["key", "crt"].map(|kind| config.state_dir.join(format!("self-signed.{kind}")));
    let saved = || files.each_ref().map(|path| std::fs::read(path).unwrap());
    let before = saved();
    let legacy = config.local_domains.values().next().unwrap().clone();
    config.local_domains.insert(Domain::parse("new.test").unwrap(), legacy);
    // a listener that cannot be had
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut refused = config.clone();
    refused.listen.direct_tls = vec![other.local_addr().unwrap()];
    world.app.reload(refused).unwrap_err();
    assert_eq!(saved(), before);
    world.app.reload(config).unwrap();
    let after = saved();
    assert_eq!(after[0], before[0]);
    assert_ne!(after[1], before[1]);
}

#[tokio::test]
async fn listeners_that_cannot_move_stay_where_they_are() {
    let mut world = World::start().await;
    let (public, direct) = (world.public(), world.direct());
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = world.config();
    config.listen.public = vec![SocketAddr::new("0.0.0.0".parse().unwrap(), public.port())];
    config.listen.direct_tls = vec![direct, other.local_addr().unwrap()];
    world.app.reload(config).unwrap_err();
    assert_eq!((world.public(), world.direct()), (public, direct));
    for address in [public, direct, SocketAddr::new("0.0.0.0".parse().unwrap(), public.port())] {
        is_taken(address);
    }
    world.is_alive().await;
}

#[tokio::test]
async fn the_end_is_said_on_every_stream_once() {
    // shutdown_timeout is far beyond what is waited for here
    let plan = Plan { config: "shutdown_timeout: 10m", ..BOUNCE };
    let mut world = World::with(plan).await;
    let host = world.host("evil.test").await;
    let mut legacy = world.sends("evil.test").await;
    let mut outbound = host.accept_open().await;
    outbound.until("</message>").await;
    let clear = world.clear("evil.test").await;
    let inbound = world.authenticated("evil.test").await;
    let silent = world.connect().await;
    let mut handshake = world.clear("evil.test").await;
    handshake.say(STARTTLS).await;
    handshake.until(PROCEED).await;
    world.is_alive().await;
    let end = tokio::spawn(world.app.shutdown());
    for mut conn in [clear, inbound] {
        let text = conn.until(FOOTER).await;
        assert_error(&text, "system-shutdown");
        conn.say(FOOTER).await;
        conn.ends_silently().await;
    }
    let mut silent = silent;
    silent.ends_with_header_and("system-shutdown").await;
    assert!(!has_xml(&handshake.rest_bytes().await));
    let text = legacy.rest().await;
    assert_error(&text, "system-shutdown");
    assert_eq!(outbound.rest().await, FOOTER);
    soon("the end", end).await.unwrap();
}

#[tokio::test]
async fn what_was_taken_before_the_end_is_delivered_and_what_cannot_be_comes_back() {
    let plan = Plan { config: "shutdown_timeout: 10m", ..BOUNCE };
    let mut world = World::with(plan).await;
    let host = world.host("evil.test").await;
    // the one peer is still being connected to, the other takes stanzas
    let _stream = world.sends("evil.test").await;
    let _half = host.accept_starttls().await;
    let mut stream = world.legacy.open("good.test").await;
    let stanza = |n| format!("<message from='bob@old.test' to='ann@good.test' id='{n}'/>");
    stream.say(&(0..500).map(stanza).collect::<String>()).await;
    assert_eq!(world.good.arrival().await, stanza(0));
    let World { app, mut good, mut legacy, .. } = world;
    let end = tokio::spawn(app.shutdown());
    for n in 1..500 {
        assert_eq!(good.arrival().await, stanza(n));
    }
    let bounce = legacy.arrival().await;
    assert!(bounce.contains("<remote-server-timeout "), "{bounce}");
    soon("the end", end).await.unwrap();
}

#[tokio::test]
async fn a_neighbour_that_is_deaf_does_not_hold_up_the_end() {
    let config = "shutdown_timeout: 2s\nlimits: { connect: 60s }\nreport: { directory: report }";
    let world = World::with(Plan { config, ..BOUNCE }).await;
    let [memory, reports] =
        [world.config().state_dir.join("memory.jsonl"), world.path().join("report")];
    let host = world.host("evil.test").await;
    let _stream = world.sends("evil.test").await;
    let _half = host.accept_starttls().await;
    let mut _inbound = world.authenticated("evil.test").await;
    world.legacy.behave(Manner::Mute);
    _inbound.say("<message from='m@evil.test' to='bob@old.test'/>").await;
    soon("the end", world.app.shutdown()).await;
    // and what is to be kept is written
    assert!(fs::read_to_string(memory).unwrap().contains("evil.test"));
    let reports = fs::read_dir(reports).unwrap();
    let mut reports = reports.map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    assert!(reports.any(|report| report.contains("evil.test")));
}

#[tokio::test]
async fn nothing_is_taken_at_the_end_that_could_go_nowhere() {
    // the legacy server comes again at once, as old servers do
    for drained in [false, true] {
        let plan = Plan { config: "shutdown_timeout: 10m", ..BOUNCE };
        let mut world = World::with(plan).await;
        let host = world.host("evil.test").await;
        let _stream = world.sends("evil.test").await;
        let half = host.accept_starttls().await;
        if drained {
            world.app.drain();
        }
        let mut late = world.legacy.open("good.test").await;
        let World { app, legacy, .. } = world;
        let end = tokio::spawn(app.shutdown());
        assert_error(&late.rest().await, "system-shutdown");
        let answer = legacy.ask("good.test").await;
        assert!(answer.contains("error remote-server-timeout"), "{answer}");
        drop(half);
        let mut legacy = legacy;
        assert!(legacy.arrival().await.contains(" type='error'"), "though keys are still checked");
        soon("the end", end).await.unwrap();
    }
}

#[tokio::test]
async fn what_waits_for_a_peer_that_takes_no_bytes_comes_back_at_the_end() {
    // the end has less time than `limits.write_stall`
    let plan = Plan { config: "shutdown_timeout: 6s\nlimits: { queue: 64MiB }", ..BOUNCE };
    let world = World::with(plan).await;
    let host = world.host("evil.test").await;
    let mut stream = world.legacy.open("evil.test").await;
    let stanza = |n| {
        let body = "x".repeat(50_000);
        format!(
            "<message from='bob@old.test' to='m@evil.test' id='{n}'><body>{body}</body></message>"
        )
    };
    stream.say(&(0..400).map(stanza).collect::<String>()).await;
    let mut conn = host.accept_open().await;
    conn.until("</message>").await;
    let World { app, mut legacy, .. } = world;
    let end = tokio::spawn(app.shutdown());
    let bounce = legacy.arrival().await;
    assert!(bounce.contains("<remote-server-timeout "), "{bounce}");
    soon("the end", end).await.unwrap();
    drop(conn);
}
