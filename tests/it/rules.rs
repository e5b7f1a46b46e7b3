//! What rules let through and what they refuse, on the wire: streams without TLS, pinned
//! certificates, prooftypes, versions, fixed targets, lists that are fetched, mode `report`.

use std::net::SocketAddr;

use fedgate::config;
use hickory_proto::rr::RecordType;
use tokio::time::{Duration, sleep};

use crate::world::{
    Authority, BOUNCE, EXTERNAL, FEATURES_END, FOOTER, Host, Identity, MECHANISMS, Plan, STARTTLS,
    Service, Station, Style, World, assert_error, header, header_with, message_to, soon,
};

const STANZA: &str = "<message from='m@plain.test' to='bob@old.test'><body>x</body></message>";

/// A peer without TLS.
async fn plain(world: &World, style: Style) -> Station {
    let peer = Station::start("plain.test", style, None).await;
    world.dns.publish("plain.test", Service::StartTls, &[peer.address]);
    peer.steer(world.public());
    peer
}

#[tokio::test]
async fn a_peer_without_tls_federates_where_a_rule_says_that_it_may() {
    for (style, level) in
        [(Style::Modern, "verified"), (Style::Old, "verified"), (Style::Modern, "permissive")]
    {
        let mut world = World::start().await;
        world.reload(&format!("rules: [{{ match: plain.test, level: {level} }}]")).unwrap();
        let mut peer = plain(&world, style).await;
        let mut inbound = peer.open("old.test").await;
        inbound.say(STANZA).await;
        assert_eq!(world.legacy.arrival().await, STANZA);
        let _stream = world.sends("plain.test").await;
        assert_eq!(peer.arrival().await, message_to("plain.test"));
        // a new rule ends it
        world.reload("rules: [{ match: plain.test, level: encrypted }]").unwrap();
        assert!(inbound.rest().await.contains("<policy-violation"));
        world.is_alive().await;
    }
}

#[tokio::test]
async fn a_peer_without_tls_is_refused_where_no_rule_says_otherwise() {
    for rules in ["rules: []", "rules: [{ match: other.test, level: permissive }]"] {
        let mut world = World::with(BOUNCE).await;
        world.reload(rules).unwrap();
        let mut peer = plain(&world, Style::Modern).await;
        assert!(peer.ask("old.test").await.contains("policy-violation"));
        let _stream = world.sends("plain.test").await;
        world.bounced("plain.test", "remote-server-timeout").await;
        assert_eq!(peer.arrived(), Vec::<String>::new());
        world.is_alive().await;
    }
}

#[tokio::test]
async fn a_level_of_one_direction_is_none_of_the_other() {
    for direction in ["inbound", "outbound"] {
        let mut world = World::with(BOUNCE).await;
        let rule = format!("{{ match: plain.test, direction: {direction}, level: verified }}");
        world.reload(&format!("rules: [{rule}]")).unwrap();
        let mut peer = plain(&world, Style::Modern).await;
        if direction == "inbound" {
            // the question about its key goes to it in the clear, too
            let mut stream = peer.open("old.test").await;
            stream.say(STANZA).await;
            assert_eq!(world.legacy.arrival().await, STANZA);
            let _stream = world.sends("plain.test").await;
            world.bounced("plain.test", "remote-server-timeout").await;
            assert_eq!(peer.arrived(), Vec::<String>::new());
        } else {
            assert!(peer.ask("old.test").await.contains("policy-violation"));
            let _stream = world.sends("plain.test").await;
            assert_eq!(peer.arrival().await, message_to("plain.test"));
        }
        world.is_alive().await;
    }
}

#[tokio::test]
async fn without_tls_is_tried_with_a_peer_of_level_permissive_alone() {
    let failure = "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>";
    for (level, again) in [("permissive", true), ("verified", false)] {
        let mut world = World::with(BOUNCE).await;
        world.reload(&format!("rules: [{{ match: evil.test, level: {level} }}]")).unwrap();
        let host = world.host("evil.test").await;
        let _stream = world.sends("evil.test").await;
        let mut conn = host.accept_starttls().await;
        conn.say(failure).await;
        if again {
            let mut conn = host.accept().await;
            host.greet(&mut conn).await;
            conn.say(
                "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>\
                 </stream:features>",
            )
            .await;
            conn.until("</db:result>").await;
            conn.say("<db:result from='evil.test' to='old.test' type='valid'/>").await;
            conn.until(&message_to("evil.test")).await;
        } else {
            world.bounced("evil.test", "remote-server-timeout").await;
            host.nobody_waits().await;
        }
        world.is_alive().await;
    }
}

/// A server at which signed TLSA records ask for TLS.
fn asks_for_tls(world: &World, address: SocketAddr, domain: &str) {
    asks_for_tls_by(world, address, domain, 1);
}

/// The same by a digest that is said to be of that type.
fn asks_for_tls_by(world: &World, address: SocketAddr, domain: &str, matching: u8) {
    let name = format!("_{}._tcp.host1.{domain}", address.port());
    world.dns.record(&name, RecordType::TLSA, &format!("3 1 {matching} {:064x}", 1));
}

#[tokio::test]
async fn no_rule_lets_a_server_go_without_tls_whose_tlsa_records_ask_for_it() {
    const BARE: &str = "<stream:features/>";
    const OFFER: &str =
        "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>";
    for (level, features, matching) in [
        ("verified", BARE, 1),
        ("permissive", BARE, 1),
        ("permissive", OFFER, 1),
        // too short for its type: it says nothing of the key (RFC 7673 §4.1)
        ("permissive", OFFER, 2),
    ] {
        let mut world = World::with(BOUNCE).await;
        world.dns.vouch();
        let rules = format!("rules: [{{ match: '*.evil.test', level: {level} }}]");
        world.reload(&format!("resolver: {{ dnssec: trust-ad }}\n{rules}")).unwrap();
        let host = world.host("a.evil.test").await;
        asks_for_tls_by(&world, host.address, "a.evil.test", matching);
        let stream = world.sends("a.evil.test").await;
        let mut conn = host.accept().await;
        host.greet(&mut conn).await;
        conn.say(features).await;
        conn.until(STARTTLS).await;
        conn.say("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>").await;
        world.bounced("a.evil.test", "remote-server-timeout").await;
        host.nobody_waits().await;
        let failures = serde_json::to_string(&world.app.monitor().failures()).unwrap();
        let why = "refused STARTTLS: the TLSA records of host1.a.evil.test ask for TLS";
        assert!(failures.contains(why), "{failures}");
        drop(stream);
        // a server of before XMPP 1.0
        let host = world.host("b.evil.test").await;
        asks_for_tls_by(&world, host.address, "b.evil.test", matching);
        let _stream = world.sends("b.evil.test").await;
        let mut conn = host.accept().await;
        conn.until("version='1.0'>").await;
        conn.say(header_with("from='b.evil.test' id='i1'")).await;
        assert!(conn.rest().await.contains("<unsupported-version"));
        world.bounced("b.evil.test", "remote-server-timeout").await;
        host.nobody_waits().await;
        world.is_alive().await;
    }
}

#[tokio::test]
async fn nor_is_such_a_server_asked_about_a_key_without_tls() {
    for is_asked_for in [false, true] {
        let mut world = World::start().await;
        world.dns.vouch();
        let rules = "rules: [{ match: plain.test, level: permissive }]";
        world.reload(&format!("resolver: {{ dnssec: trust-ad }}\n{rules}")).unwrap();
        let host = world.host("plain.test").await;
        if is_asked_for {
            asks_for_tls(&world, host.address, "plain.test");
        }
        let mut inbound = world.clear("plain.test").await;
        inbound.say("<db:result from='plain.test' to='old.test'>k</db:result>").await;
        let mut conn = host.accept().await;
        host.greet(&mut conn).await;
        conn.say("<stream:features/>").await;
        if is_asked_for {
            conn.until(STARTTLS).await;
            conn.say("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>").await;
            let answer = inbound.until("</db:result>").await;
            assert!(answer.contains("<not-acceptable "), "{answer}");
            host.nobody_waits().await;
        } else {
            conn.until("</db:verify>").await;
        }
        drop(conn);
        world.is_alive().await;
    }
}

#[tokio::test]
async fn nothing_that_was_granted_without_tls_is_taken_up_behind_it() {
    let mut world = World::start().await;
    world.reload("rules: [{ match: plain.test, level: verified }]").unwrap();
    let peer = plain(&world, Style::Modern).await;
    let mut stream = peer.open("old.test").await;
    stream.say("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
    let text = stream.rest().await;
    assert!(text.contains("<failure") && !text.contains("<proceed"), "{text}");
    world.is_alive().await;
}

#[tokio::test]
async fn a_pinned_certificate_is_good_and_every_other_is_not() {
    let config = "limits: { connect: 3s, tcp_connect: 1s }";
    let mut world = World::with(Plan { config, ..BOUNCE }).await;
    let pinned = Identity::self_signed("nobody.test");
    world.reload(&format!("rules: [{{ match: evil.test, pins: '{}' }}]", pinned.sha256())).unwrap();
    // a good certificate for the domain is not that one
    let other = world.host("evil.test").await;
    let _stream = world.sends("evil.test").await;
    let mut conn = other.accept_secured().await;
    conn.ends_silently().await;
    world.bounced("evil.test", "remote-server-timeout").await;
    let issued = world.authority.issue(&["evil.test"]);
    for (identity, expected) in [(&issued, false), (&pinned, true)] {
        let mut conn = world.secured(Some(identity)).await;
        conn.say(header("evil.test", "old.test")).await;
        assert_eq!(conn.until(FEATURES_END).await.contains("EXTERNAL"), expected);
        if expected {
            conn.say(EXTERNAL).await;
            conn.until("<success").await;
            conn.say(header("evil.test", "old.test")).await;
            conn.until(FEATURES_END).await;
            let stanza = "<message from='m@evil.test' to='bob@old.test'/>";
            conn.say(stanza).await;
            assert_eq!(world.legacy.arrival().await, stanza);
        }
    }
    world.is_alive().await;
}

#[tokio::test]
async fn a_peer_is_reached_where_its_rule_says_and_shows_what_is_pinned() {
    let mut world = World::with(BOUNCE).await;
    let identity = Identity::self_signed("nobody.test");
    let host = Host::bind_at("127.0.0.5:0".parse().unwrap(), "evil.test", identity.clone());
    // a network that no DNS leads to
    world
        .reload(&format!(
            "networks: {{ deny_out: [127.0.0.5] }}\n\
             rules: [{{ match: evil.test, pins: '{}', connect: {{ address: '{}' }} }}]",
            identity.sha256(),
            host.address
        ))
        .unwrap();
    let _stream = world.sends("evil.test").await;
    let mut conn = host.accept_open().await;
    conn.until(&message_to("evil.test")).await;
    assert!(!world.dns.was_asked("evil.test"));
    world.is_alive().await;
}

#[tokio::test]
async fn a_prooftype_that_does_not_count_proves_nothing() {
    let mut world = World::with(BOUNCE).await;
    world
        .reload(
            "rules:\n- { match: evil.test, proofs: [dialback, dane] }\n\
             - { match: new.test, tls: { min: '1.3' } }",
        )
        .unwrap();
    let identity = world.authority.issue(&["evil.test"]);
    let mut conn = world.secured(Some(&identity)).await;
    conn.say(header("evil.test", "old.test")).await;
    assert!(!conn.until(FEATURES_END).await.contains("EXTERNAL"));
    let host = world.host("evil.test").await;
    let _stream = world.sends("evil.test").await;
    let mut conn = host.accept_secured().await;
    host.greet(&mut conn).await;
    conn.say(MECHANISMS).await;
    let said = conn.until("</db:result>").await;
    assert!(!said.contains("<auth"), "{said}");
    // TLS 1.3 is what these tests speak
    let mut conn = world.authenticated("new.test").await;
    let stanza = "<message from='m@new.test' to='bob@old.test'/>";
    conn.say(stanza).await;
    assert_eq!(world.legacy.arrival().await, stanza);
    world.is_alive().await;
}

#[tokio::test]
async fn the_trust_roots_of_a_rule_stand_in_place_of_those_for_all() {
    let config = "limits: { connect: 3s, tcp_connect: 1s }";
    let mut world = World::with(Plan { config, ..BOUNCE }).await;
    let partner = Authority::new();
    partner.write(&world.path().with_file_name("partner.pem"));
    let rules = "rules: [{ match: evil.test, level: trusted, tls: { roots: ../partner.pem } }]";
    world.reload(rules).unwrap();
    for (authority, domain, expected) in [
        (&world.authority, "evil.test", false),
        (&partner, "evil.test", true),
        (&world.authority, "other.test", true),
        (&partner, "other.test", false),
    ] {
        let mut conn = world.secured(Some(&authority.issue(&[domain]))).await;
        conn.say(header(domain, "old.test")).await;
        let features = conn.until(FEATURES_END).await;
        assert_eq!(features.contains("EXTERNAL"), expected, "{domain}");
    }
    let common = world.host("evil.test").await;
    let stream = world.sends("evil.test").await;
    common.accept_secured().await.ends_silently().await;
    world.bounced("evil.test", "remote-server-timeout").await;
    drop(stream);
    world.reload(rules).unwrap();
    let host = Host::bind("evil.test", partner.issue(&["evil.test"]));
    world.dns.publish("evil.test", Service::StartTls, &[host.address]);
    let _stream = world.sends("evil.test").await;
    let mut conn = host.accept_open().await;
    conn.until(&message_to("evil.test")).await;
    world.is_alive().await;
}

#[tokio::test]
async fn what_a_rule_for_one_local_domain_wants_of_certificates_is_wanted_there_alone() {
    let mut world = World::start().await;
    let partner = Authority::new();
    partner.write(&world.path().with_file_name("partner.pem"));
    let pinned = world.authority.issue(&["pinned.test"]);
    world
        .reload(&format!(
            "rules:\n- {{ match: evil.test, local: old.test, level: trusted, proofs: pkix, \
             tls: {{ roots: ../partner.pem }} }}\n\
             - {{ match: pinned.test, local: old.test, pins: '{}' }}",
            pinned.sha256()
        ))
        .unwrap();
    for (authority, to, expected) in [
        (&world.authority, "old.test", false),
        (&partner, "old.test", true),
        (&world.authority, "rooms.old.test", true),
        (&partner, "rooms.old.test", false),
    ] {
        let mut conn = world.secured(Some(&authority.issue(&["evil.test"]))).await;
        conn.say(header("evil.test", to)).await;
        let features = conn.until(FEATURES_END).await;
        assert_eq!(features.contains("EXTERNAL"), expected, "{to}");
    }
    // judged for one of them, it is not taken for the other
    let mut conn = world.secured(Some(&world.authority.issue(&["evil.test"]))).await;
    conn.say(header("evil.test", "rooms.old.test")).await;
    conn.until(FEATURES_END).await;
    conn.say(EXTERNAL).await;
    conn.until("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
    conn.say(header("evil.test", "old.test")).await;
    conn.ends_with_header_and("policy-violation").await;
    // a certificate that CAs vouch for, too, is the pinned one
    let mut conn = world.secured(Some(&pinned)).await;
    conn.say(header("pinned.test", "old.test")).await;
    conn.until(FEATURES_END).await;
    conn.say(EXTERNAL).await;
    conn.until("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
    conn.say(header("pinned.test", "old.test")).await;
    conn.until(FEATURES_END).await;
    let stanza = "<message from='m@pinned.test' to='bob@old.test'/>";
    conn.say(stanza).await;
    assert_eq!(world.legacy.arrival().await, stanza);
    world.is_alive().await;
}

#[tokio::test]
async fn a_reload_that_changes_whom_to_trust_proves_open_streams_again() {
    let config = "limits: { connect: 3s, tcp_connect: 1s }";
    let mut world = World::with(Plan { config, ..BOUNCE }).await;
    Authority::new().write(&world.path().with_file_name("partner.pem"));
    let mut inbound = world.authenticated("evil.test").await;
    let mut other = world.authenticated("other.test").await;
    let host = world.host("evil.test").await;
    let _stream = world.sends("evil.test").await;
    let mut outbound = host.accept_open().await;
    outbound.until(&message_to("evil.test")).await;
    world.reload("rules: [{ match: evil.test, tls: { roots: ../partner.pem } }]").unwrap();
    for conn in [&mut inbound, &mut outbound] {
        assert_error(&conn.until(FOOTER).await, "reset");
    }
    let stanza = "<message from='m@other.test' to='bob@old.test'/>";
    other.say(stanza).await;
    assert_eq!(world.legacy.arrival().await, stanza);
    world.is_alive().await;
}

#[tokio::test]
async fn the_mode_and_the_lists_of_rules_for_trust_are_a_change_of_whom_to_trust() {
    let roots = "tls: { roots: ../partner.pem }";
    let mode = |mode: &str| format!("mode: {mode}\nrules: [{{ match: evil.test, {roots} }}]");
    let list = |banks: &str| {
        format!(
            "lists: {{ banks: {{ domains: [{banks}] }} }}\n\
             rules: [{{ match: list(banks), {roots} }}]"
        )
    };
    for (before, after) in
        [(mode("report"), mode("enforce")), (list("bank.test"), list("bank.test, evil.test"))]
    {
        let config = "limits: { connect: 3s, tcp_connect: 1s }";
        let mut world = World::with(Plan { config, ..BOUNCE }).await;
        Authority::new().write(&world.path().with_file_name("partner.pem"));
        world.reload(&before).unwrap();
        let mut inbound = world.authenticated("evil.test").await;
        let host = world.host("evil.test").await;
        let _stream = world.sends("evil.test").await;
        let mut outbound = host.accept_open().await;
        outbound.until(&message_to("evil.test")).await;
        world.reload(&after).unwrap();
        for conn in [&mut inbound, &mut outbound] {
            assert_error(&conn.until(FOOTER).await, "reset");
        }
        world.is_alive().await;
    }
}

#[tokio::test]
async fn in_mode_report_the_trust_roots_for_all_count_too() {
    let mut world = World::start().await;
    Authority::new().write(&world.path().with_file_name("partner.pem"));
    let rules = "mode: report\nrules: [{ match: evil.test, tls: { roots: ../partner.pem } }]";
    world.reload(rules).unwrap();
    let mut conn = world.authenticated("evil.test").await;
    let stanza = "<message from='m@evil.test' to='bob@old.test'/>";
    conn.say(stanza).await;
    assert_eq!(world.legacy.arrival().await, stanza);
    world.is_alive().await;
}

#[tokio::test]
async fn trust_roots_of_a_rule_that_cannot_be_read_change_nothing() {
    let mut world = World::start().await;
    world.configure("rules:\n- match: evil.test\n  tls: { roots: [system, ../missing.pem] }");
    let config = world.config();
    let error = world.app.reload(config).unwrap_err();
    let source = std::error::Error::source(&error).unwrap();
    assert!(error.to_string().ends_with("20.yaml:3:3"), "{error}");
    assert!(source.to_string().contains("missing.pem"), "{source}");
    world.authenticated("evil.test").await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_rule_for_one_local_domain_leaves_the_others() {
    let mut world = World::start().await;
    world.reload("rules: [{ match: evil.test, local: rooms.old.test, allow: none }]").unwrap();
    let mut conn = world.authenticated("evil.test").await;
    let stanza = "<message from='m@evil.test' to='bob@old.test'/>";
    conn.say(stanza).await;
    assert_eq!(world.legacy.arrival().await, stanza);
    conn.say("<db:result from='evil.test' to='rooms.old.test'>key</db:result>").await;
    let answer = conn.until("</db:result>").await;
    assert!(answer.contains("<forbidden"), "{answer}");
    world.is_alive().await;
}

#[tokio::test]
async fn the_senders_of_refused_stanzas_get_the_error_of_the_rule() {
    let mut world = World::with(BOUNCE).await;
    world.reload("rules: [{ match: evil.test, allow: none, error: not-allowed }]").unwrap();
    let _stream = world.sends("evil.test").await;
    world.bounced("evil.test", "not-allowed").await;
    world.is_alive().await;
}

#[tokio::test]
async fn in_mode_report_the_denied_go_on() {
    let mut world = World::start().await;
    world
        .reload("mode: report\nrules:\n- { match: evil.test, allow: none }\n- { address: 127.0.0.1, allow: none }")
        .unwrap();
    let mut conn = world.authenticated("evil.test").await;
    let stanza = "<message from='m@evil.test' to='bob@old.test'/>";
    conn.say(stanza).await;
    assert_eq!(world.legacy.arrival().await, stanza);
    world.is_alive().await;
}

#[tokio::test]
async fn a_list_is_fetched_kept_and_used() {
    let mut world = World::start().await;
    let web = world.web(&["lists.test"], "").await;
    web.write("lists.test", "# bad\nevil.test\n198.51.100.0/24\n");
    let lists = format!(
        "posh: {{ port: {port} }}\n\
         lists: {{ spam: {{ url: 'https://lists.test:{port}/list.txt' }} }}\n\
         rules: [{{ match: list(spam), allow: none }}]",
        port = web.port
    );
    world.reload(&lists).unwrap();
    let kept = world.config().list_file("spam", &world.config().lists["spam"]).unwrap();
    let is_kept = async || {
        while !kept.exists() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    soon("the list", is_kept()).await;
    let loaded = config::load(&world.path()).unwrap();
    assert!(loaded.warnings.is_empty());
    // what the watcher of files would do
    world.reload(&lists).unwrap();
    let mut conn = world.connect().await;
    conn.say(header("evil.test", "old.test")).await;
    conn.ends_with("policy-violation").await;
    // without its file it is empty, so it is not waited for until it is due
    std::fs::remove_file(&kept).unwrap();
    world.reload(&lists).unwrap();
    soon("the list again", is_kept()).await;
    world.is_alive().await;
}
