//! Peers whose certificates nobody vouches for but their own web server (RFC 7711, RFC 7712 §5.2;
//! protocol §9.4 step 4; attack rows ): in both roles, proven, contradicted, unknown.

use std::time::Duration;

use tokio::time::timeout;

use crate::world::{
    BOUNCE, Conn, EXTERNAL, Host, Identity, Plan, World, attribute, header, message_to, soon,
};

const TRUSTED: &str = "rules: [{ match: '*', level: trusted }]";
const FEATURES_END: &str = "</stream:features>";
const STANZA: &str = "<message from='m@evil.test' to='bob@old.test'><body>x</body></message>";
const DIALBACK: &str = "<stream:features><dialback xmlns='urn:xmpp:features:dialback'><errors/>\
    </dialback></stream:features>";

/// A certificate for a name that is not the domain's, and of no CA.
fn unproven() -> Identity {
    Identity::self_signed("hoster.test")
}

/// A server of `evil.test` with such a certificate.
async fn host(world: &World) -> Host {
    let mut host = world.host("evil.test").await;
    host.identity = unproven();
    host
}

/// A client of `evil.test` with this certificate, and what it is offered.
async fn client(world: &World, identity: &Identity) -> (Conn, String) {
    let mut conn = world.secured(Some(identity)).await;
    conn.say(header("evil.test", "old.test")).await;
    let features = conn.until(FEATURES_END).await;
    (conn, features)
}

/// It asks for its pair by dialback, and its server confirms the key if it is asked.
async fn dials_back(conn: &mut Conn, features: &str, host: &Host) {
    let id = attribute(features, "id");
    conn.say("<db:result from='evil.test' to='old.test'>k</db:result>").await;
    let mut verify = host.accept_secured().await;
    host.greet(&mut verify).await;
    verify.say(DIALBACK).await;
    verify.until("</db:verify>").await;
    let answer = format!("<db:verify from='evil.test' to='old.test' id='{id}' type='valid'/>");
    verify.say(answer).await;
}

#[tokio::test]
async fn a_server_is_proven_by_what_its_domain_publishes() {
    let mut world = World::with(BOUNCE).await;
    let web = world.web(&["evil.test"], TRUSTED).await;
    let host = host(&world).await;
    web.publish("evil.test", &[&unproven(), &host.identity]);
    let _stream = world.sends("evil.test").await;
    let mut conn = host.accept_open().await;
    conn.until(&message_to("evil.test")).await;
    world.is_alive().await;
    // whom a CA proves nobody has to ask
    assert_eq!(web.asked(), ["evil.test"]);
}

#[tokio::test]
async fn a_server_that_the_domain_does_not_list_is_not_talked_to_at_any_level() {
    // RFC 7711 §3.3
    let mut world = World::with(BOUNCE).await;
    let web = world.web(&["evil.test"], "").await;
    let host = host(&world).await;
    web.publish("evil.test", &[&unproven()]);
    let _stream = world.sends("evil.test").await;
    let mut conn = host.accept_secured().await;
    conn.ends_silently().await;
    world.bounced("evil.test", "remote-server-timeout").await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_certificate_of_a_ca_stands_whatever_the_domain_publishes() {
    // DNA-5
    let mut world = World::with(BOUNCE).await;
    let web = world.web(&["evil.test"], TRUSTED).await;
    let host = world.host("evil.test").await;
    web.publish("evil.test", &[&unproven()]);
    let _stream = world.sends("evil.test").await;
    let mut conn = host.accept_open().await;
    conn.until(&message_to("evil.test")).await;
    world.is_alive().await;
    assert!(web.asked().is_empty());
}

#[tokio::test]
async fn where_nothing_is_published_policy_decides() {
    let mut world = World::with(BOUNCE).await;
    let web = world.web(&["evil.test"], "").await;
    let host = host(&world).await;
    let _stream = world.sends("evil.test").await;
    let (mut conn, _) = host.accept_request().await;
    conn.say("<db:result from='evil.test' to='old.test' type='valid'/>").await;
    conn.until(&message_to("evil.test")).await;
    assert_eq!(web.asked(), ["evil.test"]);
    world.is_alive().await;

    let mut world = World::with(BOUNCE).await;
    let web = world.web(&["evil.test"], TRUSTED).await;
    let host = self::host(&world).await;
    let _stream = world.sends("evil.test").await;
    host.accept_secured().await.ends_silently().await;
    world.bounced("evil.test", "remote-server-timeout").await;
    assert_eq!(web.asked(), ["evil.test"]);
    world.is_alive().await;
}

#[tokio::test]
async fn a_web_server_that_is_silent_leaves_time_for_dialback() {
    let config = "limits: { connect: 4s, tcp_connect: 1s }";
    let mut world = World::with(Plan { config, ..BOUNCE }).await;
    let _web = world.mute_web(&["evil.test"]).await;
    let host = host(&world).await;
    let _stream = world.sends("evil.test").await;
    let (mut conn, _) = host.accept_request().await;
    conn.say("<db:result from='evil.test' to='old.test' type='valid'/>").await;
    conn.until(&message_to("evil.test")).await;
    world.is_alive().await;
}

#[tokio::test]
async fn nothing_is_fetched_where_that_is_switched_off() {
    let mut world = World::with(BOUNCE).await;
    let web = world.web(&["evil.test"], "").await;
    world.reload(&format!("posh: {{ fetch: false }}\n{TRUSTED}")).unwrap();
    let host = host(&world).await;
    web.publish("evil.test", &[&host.identity]);
    let _stream = world.sends("evil.test").await;
    let mut conn = host.accept_secured().await;
    conn.ends_silently().await;
    world.bounced("evil.test", "remote-server-timeout").await;
    assert!(web.asked().is_empty());
    world.is_alive().await;
}

#[tokio::test]
async fn nothing_is_fetched_from_addresses_that_are_guarded() {
    //
    let mut world = World::with(BOUNCE).await;
    let rules = "rules: [{ match: '*', level: trusted }, { address: 127.0.0.66, allow: none }]";
    let web = world.web(&["evil.test"], rules).await;
    world.dns.address("evil.test", "127.0.0.66".parse().unwrap());
    let host = host(&world).await;
    web.publish("evil.test", &[&host.identity]);
    let _stream = world.sends("evil.test").await;
    let mut conn = host.accept_secured().await;
    conn.ends_silently().await;
    world.bounced("evil.test", "remote-server-timeout").await;
    assert!(web.asked().is_empty());
    world.is_alive().await;
}

#[tokio::test]
async fn a_client_is_proven_by_what_its_domain_publishes() {
    let mut world = World::start().await;
    let web = world.web(&["evil.test"], TRUSTED).await;
    let identity = unproven();
    web.publish("evil.test", &[&identity]);
    let (mut conn, features) = client(&world, &identity).await;
    assert!(features.contains("<mechanism>EXTERNAL</mechanism>"), "{features}");
    conn.say(EXTERNAL).await;
    conn.until("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
    conn.say(header("evil.test", "old.test")).await;
    conn.until(FEATURES_END).await;
    conn.say(STANZA).await;
    assert_eq!(world.legacy.arrival().await, STANZA);
    // nor is anybody dialled for it
    let (mut conn, _) = client(&world, &identity).await;
    conn.say("<db:result from='evil.test' to='old.test'>k</db:result>").await;
    conn.until("<db:result from='old.test' to='evil.test' type='valid'/>").await;
    world.is_alive().await;
    assert_eq!(web.asked(), ["evil.test"]);
}

#[tokio::test]
async fn a_proof_is_for_the_domain_that_published_it_alone() {
    // PO-8
    let mut world = World::start().await;
    let web = world.web(&["evil.test", "other.test"], TRUSTED).await;
    let identity = unproven();
    web.publish("other.test", &[&identity]);
    let (_conn, features) = client(&world, &identity).await;
    assert!(!features.contains("EXTERNAL"), "{features}");
    assert_eq!(web.asked(), ["evil.test"]);
    world.is_alive().await;
}

#[tokio::test]
async fn a_client_that_the_domain_does_not_list_needs_its_proven_server_to_speak_for_it() {
    // protocol §9.4 steps 4 and 5
    let mut world = World::start().await;
    let web = world.web(&["evil.test"], "").await;
    let mut host = host(&world).await;
    web.publish("evil.test", &[&host.identity]);
    let (mut conn, features) = client(&world, &unproven()).await;
    assert!(!features.contains("EXTERNAL"), "{features}");
    dials_back(&mut conn, &features, &host).await;
    conn.until("<db:result from='old.test' to='evil.test' type='valid'/>").await;
    conn.say(STANZA).await;
    assert_eq!(world.legacy.arrival().await, STANZA);
    // and one that is not listed either is not asked
    host.identity = unproven();
    let (mut conn, _) = client(&world, &unproven()).await;
    conn.say("<db:result from='evil.test' to='old.test'>k</db:result>").await;
    host.accept_secured().await.ends_silently().await;
    let refusal = conn.until("</db:result>").await;
    assert!(refusal.contains("<not-acceptable "), "{refusal}");
    world.is_alive().await;
}

#[tokio::test]
async fn a_client_of_a_domain_that_publishes_nothing_may_dial_back() {
    let mut world = World::start().await;
    let _web = world.web(&["evil.test"], "").await;
    let host = host(&world).await;
    let (mut conn, features) = client(&world, &unproven()).await;
    dials_back(&mut conn, &features, &host).await;
    conn.until("<db:result from='old.test' to='evil.test' type='valid'/>").await;
    world.is_alive().await;
}

#[tokio::test]
async fn nothing_is_fetched_for_a_client_without_certificate_or_of_a_denied_domain() {
    //
    let mut world = World::with(Plan::DEFAULT).await;
    let web = world.web(&["evil.test"], "rules: [{ match: evil.test, allow: outbound }]").await;
    let mut conn = world.secured(Some(&unproven())).await;
    conn.say(header("evil.test", "old.test")).await;
    conn.ends_with_header_and("policy-violation").await;
    world.reload("rules: []").unwrap();
    world.unproven("evil.test").await;
    assert!(web.asked().is_empty());
    world.is_alive().await;
}

/// A-67, PO-10: of one address so many fetches go on at once, whether it shows certificates or has us
/// ask servers that show them; others have theirs meanwhile.
#[tokio::test]
async fn an_address_causes_only_so_many_fetches_at_once() {
    let names = ["a.test", "b.test", "c.test", "d.test", "e.test", "f.test"];
    let mut world = World::start().await;
    let web = world.mute_web(&names).await;
    let mut clients = Vec::new();
    let mut held = Vec::new();
    for name in &names[..3] {
        let mut conn = world.secured_from("127.0.0.66", Some(&Identity::self_signed(name))).await;
        conn.say(header(name, "old.test")).await;
        held.push(soon("a fetch", web.accept()).await.unwrap());
        clients.push(conn);
    }
    // and two by what servers show that we ask since the same address wants it
    let mut asking = world.secured_from("127.0.0.66", None).await;
    asking.say(header("d.test", "old.test")).await;
    asking.until(FEATURES_END).await;
    let mut servers = Vec::new();
    for name in &names[3..5] {
        let mut server = world.host(name).await;
        server.identity = Identity::self_signed(name);
        asking.say(format!("<db:result from='{name}' to='old.test'>k</db:result>")).await;
        servers.push((server.accept_secured().await, server));
    }
    held.push(soon("a fetch", web.accept()).await.unwrap());
    assert!(timeout(Duration::from_millis(500), web.accept()).await.is_err(), "a fifth");
    let mut elsewhere =
        world.secured_from("127.0.0.67", Some(&Identity::self_signed("f.test"))).await;
    elsewhere.say(header("f.test", "old.test")).await;
    held.push(soon("a fetch for another", web.accept()).await.unwrap());
    // places that are free again are taken
    held.clear();
    soon("the fifth", web.accept()).await.unwrap();
}

/// Nor does one at which many domains are said to be have us fetch more, whom we go to by ourselves.
#[tokio::test]
async fn the_servers_at_one_address_cause_only_so_many_fetches_at_once() {
    let names = ["a.test", "b.test", "c.test", "d.test", "e.test"];
    let config = "limits: { connect: 30s }";
    let mut world = World::with(Plan { config, ..BOUNCE }).await;
    let web = world.mute_web(&names).await;
    let (mut servers, mut held) = (Vec::new(), Vec::new());
    for name in names {
        let mut server = world.host(name).await;
        server.identity = Identity::self_signed(name);
        let stream = world.sends(name).await;
        servers.push((server.accept_secured().await, stream, server));
    }
    for _ in 0..4 {
        held.push(soon("a fetch", web.accept()).await.unwrap());
    }
    assert!(timeout(Duration::from_millis(500), web.accept()).await.is_err(), "a fifth");
    held.clear();
    soon("the fifth", web.accept()).await.unwrap();
}
