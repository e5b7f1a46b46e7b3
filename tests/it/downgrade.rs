//! Peers that come back weaker than they were, or with another key: let in, or refused, in both
//! directions, on open streams, after a restart, and when it only seems so.

use std::{fs, process::Command};

use fedgate::{
    proxy::{App, Workers},
    xmpp::Domain,
};
use serde_json::{Value, json};

use crate::world::{
    BOUNCE, Conn, EXTERNAL, FEATURES_END, Host, Identity, PeerTls, Service, Station, Style, World,
    header, message_to,
};

const STANZA: &str = "<message from='m@evil.test' to='bob@old.test'><body>x</body></message>";
const DIALBACK: &str = "<stream:features/>";

fn downgrade(word: &str) -> String {
    format!("defaults: {{ downgrade: {word} }}")
}

/// A server of `evil.test` whose certificate nobody vouches for: it comes by dialback alone.
async fn weak(world: &World) -> Station {
    let identity = Identity::self_signed("evil.test");
    let tls = PeerTls {
        server: identity.server(),
        client: world.authority.client(Some(&identity), &[]),
        external: false,
    };
    serve(world, tls).await
}

async fn serve(world: &World, tls: PeerTls) -> Station {
    let peer = Station::start("evil.test", Style::Modern, Some(tls)).await;
    world.dns.publish("evil.test", Service::StartTls, &[peer.address]);
    peer.steer(world.public());
    peer
}

/// The peer was trusted, inbound.
async fn was_trusted(world: &mut World) {
    let mut conn = world.authenticated("evil.test").await;
    conn.say(STANZA).await;
    assert_eq!(world.legacy.arrival().await, STANZA);
}

#[tokio::test]
async fn a_peer_that_was_trusted_comes_back_by_dialback_alone() {
    for (word, is_in) in [("allow", true), ("alert", true), ("refuse", false)] {
        let mut world = World::start().await;
        world.reload(&downgrade(word)).unwrap();
        was_trusted(&mut world).await;
        let peer = weak(&world).await;
        if is_in {
            let mut stream = peer.open("old.test").await;
            stream.say(STANZA).await;
            assert_eq!(world.legacy.arrival().await, STANZA);
        } else {
            assert!(peer.ask("old.test").await.contains("not-authorized"));
        }
        world.is_alive().await;
    }
}

#[tokio::test]
async fn a_domain_that_is_forgotten_begins_anew() {
    let mut world = World::start().await;
    world.reload(&downgrade("refuse")).unwrap();
    was_trusted(&mut world).await;
    let peer = weak(&world).await;
    assert!(peer.ask("old.test").await.contains("not-authorized"));
    let [evil, other] = ["evil.test", "other.test"].map(|name| Domain::parse(name).unwrap());
    let best = |world: &World| {
        let all = world.app.monitor().remembered(Some(&evil));
        all.into_iter().filter_map(|of| Some(of.best?.level)).collect::<Vec<_>>()
    };
    assert_eq!(best(&world), ["trusted"]);
    assert_eq!(world.app.monitor().forget_remembered(&other), 0);
    assert_eq!(world.app.monitor().forget_remembered(&evil), 1);
    assert!(best(&world).is_empty());
    let mut stream = peer.open("old.test").await;
    stream.say(STANZA).await;
    assert_eq!(world.legacy.arrival().await, STANZA);
    assert_eq!(best(&world), ["encrypted"]);
    // on disk too, with the end
    let world = world.restarted().await;
    assert_eq!(best(&world), ["encrypted"]);
}

#[tokio::test]
async fn a_raised_answer_ends_open_streams_unless_the_less_was_allowed() {
    for (word, stays) in [("alert", false), ("allow", true)] {
        let mut world = World::start().await;
        world.reload(&downgrade(word)).unwrap();
        was_trusted(&mut world).await;
        let peer = weak(&world).await;
        let mut stream = peer.open("old.test").await;
        world.reload(&downgrade("refuse")).unwrap();
        if stays {
            stream.say(STANZA).await;
            assert_eq!(world.legacy.arrival().await, STANZA);
            drop(peer.open("old.test").await);
        } else {
            assert!(stream.rest().await.contains("<policy-violation"));
            assert!(peer.ask("old.test").await.contains("not-authorized"));
        }
        world.is_alive().await;
    }
}

#[tokio::test]
async fn in_mode_report_nobody_is_refused_for_being_weaker() {
    let mut world = World::start().await;
    world.reload("mode: report\ndefaults: { downgrade: refuse }").unwrap();
    was_trusted(&mut world).await;
    let peer = weak(&world).await;
    drop(peer.open("old.test").await);
    world.is_alive().await;
}

/// The gate opens a stream to `host` with which its certificate proves nothing; or does not.
async fn opens_by_dialback(world: &mut World, host: &Host, is_good: bool) -> Option<Conn> {
    let _stream = world.sends("evil.test").await;
    let mut conn = host.accept_secured().await;
    if !is_good {
        conn.ends_silently().await;
        world.bounced("evil.test", "remote-server-timeout").await;
        return None;
    }
    host.greet(&mut conn).await;
    conn.say(DIALBACK).await;
    conn.until("</db:result>").await;
    conn.say("<db:result from='evil.test' to='old.test' type='valid'/>").await;
    conn.until(&message_to("evil.test")).await;
    Some(conn)
}

#[tokio::test]
async fn a_server_that_was_trusted_shows_a_certificate_that_proves_nothing() {
    for (word, is_in) in [("allow", true), ("alert", true), ("refuse", false)] {
        let mut world = World::with(BOUNCE).await;
        world.reload(&downgrade(word)).unwrap();
        let mut host = world.host("evil.test").await;
        let _stream = world.sends("evil.test").await;
        let mut conn = host.accept_open().await;
        conn.until(&message_to("evil.test")).await;
        conn.say("</stream:stream>").await;
        conn.rest().await;
        host.identity = Identity::self_signed("evil.test");
        opens_by_dialback(&mut world, &host, is_in).await;
        world.is_alive().await;
    }
}

#[tokio::test]
async fn a_self_signed_certificate_has_the_key_that_it_had() {
    for (word, is_in) in [("allow", true), ("alert", true), ("refuse", false)] {
        let mut world = World::with(BOUNCE).await;
        world.reload(&downgrade(word)).unwrap();
        let mut host = world.host("evil.test").await;
        let identities = ["evil.test"; 2].map(Identity::self_signed);
        // once to be known, and again; then another, which once let in is known too
        for (identity, is_in) in [(0, true), (0, true), (1, is_in), (1, is_in), (0, true)] {
            host.identity = identities[identity].clone();
            if let Some(mut conn) = opens_by_dialback(&mut world, &host, is_in).await {
                conn.say("</stream:stream>").await;
                conn.rest().await;
            }
            // no pause for a pair that failed
            world.reload(&downgrade(word)).unwrap();
        }
        world.is_alive().await;
    }
}

#[tokio::test]
async fn what_a_web_server_does_not_answer_lowers_nothing() {
    let mut world = World::start().await;
    let web = world.web(&["evil.test"], "").await;
    let identity = Identity::self_signed("evil.test");
    web.publish("evil.test", &[&identity]);
    let mut conn = world.secured(Some(&identity)).await;
    conn.say(header("evil.test", "old.test")).await;
    assert!(conn.until(FEATURES_END).await.contains("EXTERNAL"));
    conn.say(EXTERNAL).await;
    conn.until("<success").await;
    conn.say(header("evil.test", "old.test")).await;
    conn.until(FEATURES_END).await;
    conn.say(STANZA).await;
    assert_eq!(world.legacy.arrival().await, STANZA);
    // nothing listens there any more, and nothing is kept of what was fetched
    let port = web.port;
    drop(web);
    let with = |word| format!("posh: {{ port: {port} }}\n{}", downgrade(word));
    world.reload(&with("refuse")).unwrap();
    let peer = weak(&world).await;
    assert!(peer.ask("old.test").await.contains("remote-server-timeout"));
    world.reload(&with("allow")).unwrap();
    drop(peer.open("old.test").await);
    world.reload(&with("refuse")).unwrap();
    assert!(peer.ask("old.test").await.contains("remote-server-timeout"));
    world.is_alive().await;
}

/// What the gate that has ended remembers of `evil.test` in a direction.
fn remembered(world: &World, direction: &str) -> String {
    let text = fs::read_to_string(world.config().state_dir.join("memory.jsonl")).unwrap();
    let start = format!("{{\"domain\":\"evil.test\",\"direction\":\"{direction}\",");
    let mut lines = text.lines().filter(|line| line.starts_with(&start));
    lines.next().unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[tokio::test]
async fn what_dns_does_not_answer_lowers_nothing() {
    let mut world = World::with(BOUNCE).await;
    world.reload(&downgrade("allow")).unwrap();
    let host = world.host("evil.test").await;
    let stream = world.sends("evil.test").await;
    let mut conn = host.accept_open().await;
    conn.until(&message_to("evil.test")).await;
    drop((conn, stream));
    let mut world = world.restarted().await;
    let before = remembered(&world, "outbound");
    assert!(before.contains("\"best\":{\"level\":\"trusted\","), "{before}");
    world.dns.silence("evil.test");
    let stream = world.sends("evil.test").await;
    world.bounced("evil.test", "remote-server-timeout").await;
    drop(stream);
    let mut world = world.restarted().await;
    assert_eq!(remembered(&world, "outbound"), before);
    world.is_alive().await;
}

#[tokio::test]
async fn a_restart_forgets_nothing_and_a_broken_file_is_put_aside() {
    let mut world = World::start().await;
    world.reload(&downgrade("refuse")).unwrap();
    was_trusted(&mut world).await;
    let mut world = world.restarted().await;
    let peer = weak(&world).await;
    assert!(peer.ask("old.test").await.contains("not-authorized"));
    world.is_alive().await;

    // what cannot be read stops nobody
    let file = world.config().state_dir.join("memory.jsonl");
    let mut world = world.restarted().await;
    fs::write(&file, "nonsense").unwrap();
    let aside = file.with_extension("jsonl.broken");
    let other = App::start(world.config(), Workers::new(Vec::new())).unwrap();
    let app = std::mem::replace(&mut world.app, other);
    assert_eq!(fs::read_to_string(aside).unwrap(), "nonsense");
    app.shutdown().await;
    world.legacy.steer(world.local());
    world.good.steer(world.public());
    peer.steer(world.public());
    drop(peer.open("old.test").await);
    world.is_alive().await;
}

#[tokio::test]
async fn a_peer_that_had_tls_comes_back_without() {
    let rules =
        |word| format!("{}\nrules: [{{ match: evil.test, level: verified }}]", downgrade(word));
    for (word, is_in) in [("alert", true), ("refuse", false)] {
        let mut world = World::with(BOUNCE).await;
        world.reload(&rules(word)).unwrap();
        let mut peer = weak(&world).await;
        drop(peer.open("old.test").await);
        let stream = world.sends("evil.test").await;
        assert_eq!(peer.arrival().await, message_to("evil.test"));
        drop((peer, stream));
        let mut peer = Station::start("evil.test", Style::Modern, None).await;
        world.dns.publish("evil.test", Service::StartTls, &[peer.address]);
        peer.steer(world.public());
        // nothing is kept of what the DNS said, nor of streams
        let mut world = world.restarted().await;
        peer.steer(world.public());
        let _stream = world.sends("evil.test").await;
        if is_in {
            assert_eq!(peer.arrival().await, message_to("evil.test"));
            drop(peer.open("old.test").await);
        } else {
            world.bounced("evil.test", "remote-server-timeout").await;
            assert!(peer.ask("old.test").await.contains("not-authorized"));
        }
        world.is_alive().await;
    }
}

#[tokio::test]
async fn how_the_server_was_found_that_confirmed_a_key_is_remembered() {
    for (is_vouched, is_proven, word) in [
        (false, false, "dialback-weak"),
        (true, false, "dialback-dnssec"),
        (true, true, "dialback-proven"),
    ] {
        let mut world = World::start().await;
        if is_vouched {
            world.dns.vouch();
            world.reload("resolver: { dnssec: trust-ad }").unwrap();
        }
        let identity = match is_proven {
            true => world.authority.issue(&["evil.test"]),
            false => Identity::self_signed("evil.test"),
        };
        let client = world.authority.client(None, &[]);
        let tls = PeerTls { server: identity.server(), client, external: false };
        let peer = serve(&world, tls).await;
        drop(peer.open("old.test").await);
        let mut world = world.restarted().await;
        let line = remembered(&world, "inbound");
        assert!(line.contains(&format!("\"proof\":\"{word}\"")), "{word}: {line}");
        world.is_alive().await;
    }
}

#[tokio::test]
async fn a_new_policy_is_simulated_on_what_is_remembered() {
    let mut world = World::start().await;
    world.reload("rules: [{ match: no.test, allow: none }]").unwrap();
    was_trusted(&mut world).await;
    let peer = weak(&world).await;
    drop(peer.open("old.test").await);
    let mut conn = world.connect().await;
    conn.say(header("no.test", "old.test")).await;
    conn.ends_with("policy-violation").await;
    let world = world.restarted().await;

    let new = world.path().with_file_name("new.d");
    let with = |rules: &str| {
        fs::create_dir_all(&new).unwrap();
        fs::copy(world.path().join("10.yaml"), new.join("10.yaml")).unwrap();
        fs::write(new.join("20.yaml"), format!("version: 1\n{rules}")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_fedgate"));
        command.args(["policy", "simulate", "--json", "--config"]).arg(&new);
        command.env("FEDGATE_CONFIG", world.path());
        let ran = command.output().unwrap();
        (ran.status.code().unwrap(), String::from_utf8(ran.stdout).unwrap())
    };
    let same = "rules: [{ match: no.test, allow: none }]";
    let (code, text) = with(same);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &report["refused"], &report["admitted"]), (0, &json!([]), &json!([])));
    let (code, text) = with("rules: [{ match: evil.test, level: trusted }]");
    assert_eq!(code, 1, "{text}");
    let report: Value = serde_json::from_str(&text).unwrap();
    let refused = &report["refused"][0];
    assert_eq!(refused["domain"], "evil.test");
    assert_eq!(refused["direction"], "inbound");
    assert_eq!(
        (&refused["level"], &refused["proof"]),
        (&json!("encrypted"), &json!("dialback-weak"))
    );
    assert!(refused["rule"].as_str().unwrap().ends_with("/20.yaml:2"), "{text}");
    assert_eq!(report["refused"].as_array().unwrap().len(), 1, "{text}");
    assert_eq!(report["admitted"][0]["domain"], "no.test");
    assert_eq!(with("rules: [{ match: evil.test, lvl: trusted }]").0, 64);
    // nobody knows
    fs::remove_file(world.config().state_dir.join("memory.jsonl")).unwrap();
    assert_eq!(with(same).0, 3);
}
