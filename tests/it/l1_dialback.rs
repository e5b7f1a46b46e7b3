//! Dialback from peers (XEP-0220; protocol §5, §12.5; attack rows ): requests that are
//! refused, answers that nobody asked for, authoritative servers that lie or fail.

use crate::world::{Conn, Host, Identity, Plan, Service, World, attribute, header};

/// Asks for a domain pair.
fn request(from: &str, to: &str) -> String {
    format!("<db:result from='{from}' to='{to}'>some-key</db:result>")
}

/// A refusal of `evil.test`'s pair.
fn refusal(condition: &str) -> String {
    format!("<{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></db:result>")
}

/// The gate asks `host` about a key; the question, and the stream that waits for the answer.
async fn question(host: &Host) -> (Conn, String) {
    let mut conn = host.accept_secured().await;
    host.greet(&mut conn).await;
    conn.say(DIALBACK).await;
    let question = conn.until("</db:verify>").await;
    (conn, question)
}

const DIALBACK: &str = "<stream:features><dialback xmlns='urn:xmpp:features:dialback'><errors/>\
    </dialback></stream:features>";
const STANZA: &str = "<message from='m@evil.test' to='bob@old.test'><body>x</body></message>";
const VALID: &str = "<db:result from='old.test' to='evil.test' type='valid'/>";

#[tokio::test]
async fn a_key_that_the_authoritative_server_confirms_opens_the_pair() {
    let mut world = World::start().await;
    let host = world.host("evil.test").await;
    let (mut conn, id) = world.unproven("evil.test").await;
    conn.say(request("evil.test", "old.test")).await;
    let (mut verify, asked) = question(&host).await;
    assert!(asked.contains(&format!(
        "<db:verify from='old.test' to='evil.test' id='{id}'>some-key</db:verify>"
    )));
    // DB-1: an answer that echoes the key is taken
    verify
        .say(format!(
            "<db:verify from='evil.test' to='old.test' id='{id}' type='valid'>some-key</db:verify>"
        ))
        .await;
    conn.until(VALID).await;
    conn.say(STANZA).await;
    assert_eq!(world.legacy.arrival().await, STANZA);
    world.is_alive().await;
}

#[tokio::test]
async fn a_stanza_between_request_and_valid_ends_the_stream() {
    // A-3; and A-8: the answer that comes after it finds nobody
    let mut world = World::start().await;
    let host = world.host("evil.test").await;
    let (mut conn, id) = world.unproven("evil.test").await;
    conn.say(request("evil.test", "old.test")).await;
    let (mut verify, _) = question(&host).await;
    conn.say(STANZA).await;
    conn.ends_with("not-authorized").await;
    let answer = format!("<db:verify from='evil.test' to='old.test' id='{id}' type='valid'/>");
    verify.say(answer).await;
    verify.rest().await;
    world.is_alive().await;
}

#[tokio::test]
async fn answers_that_nobody_asked_for_authorize_nothing() {
    // DB-5, DB-14, DB-21
    let mut world = World::start().await;
    for answer in [
        "<db:result from='old.test' to='evil.test' type='valid'/>",
        "<db:result from='evil.test' to='old.test' type='valid'/>",
        "<db:result from='good.test' to='old.test' type='valid'/>",
        "<db:verify from='evil.test' to='old.test' id='1' type='valid'/>",
        "<db:verify from='good.test' to='old.test' id='1' type='valid'>k</db:verify>",
    ] {
        let (mut conn, _) = world.unproven("evil.test").await;
        conn.say(format!("{answer}{STANZA}")).await;
        conn.ends_with("not-authorized").await;
        // nor does it open the way that we would use towards its sender
        let mut conn = world.authenticated("evil.test").await;
        conn.say(format!("{answer}<message from='ann@good.test' to='bob@old.test'/>")).await;
        conn.ends_with("invalid-from").await;
    }
    world.is_alive().await;
}

#[tokio::test]
async fn only_the_answer_to_the_very_question_counts() {
    // with another id, other names, or swapped; on the right stream
    let mut world = World::start().await;
    let host = world.host("evil.test").await;
    let (mut conn, id) = world.unproven("evil.test").await;
    conn.say(request("evil.test", "old.test")).await;
    let (mut verify, _) = question(&host).await;
    for wrong in [
        format!("<db:verify from='evil.test' to='old.test' id='x{id}' type='valid'/>"),
        format!("<db:verify from='old.test' to='evil.test' id='{id}' type='valid'/>"),
        format!("<db:verify from='good.test' to='old.test' id='{id}' type='valid'/>"),
        "<db:result from='evil.test' to='old.test' type='valid'/>".to_owned(),
        "<db:verify from='evil.test' to='old.test' type='valid'/>".to_owned(),
    ] {
        verify.say(wrong).await;
    }
    verify
        .say(format!("<db:verify from='evil.test' to='old.test' id='{id}' type='invalid'/>"))
        .await;
    let text = conn.rest().await;
    assert_eq!(text, "<db:result from='old.test' to='evil.test' type='invalid'/></stream:stream>");
    world.is_alive().await;
}

#[tokio::test]
async fn another_stream_cannot_answer_for_the_authoritative_server() {
    // the right id, on a stream that the gate did not ask on
    let mut world = World::start().await;
    let host = world.host("evil.test").await;
    let (mut conn, id) = world.unproven("evil.test").await;
    conn.say(request("evil.test", "old.test")).await;
    let (mut verify, _) = question(&host).await;
    let answer = format!("<db:verify from='evil.test' to='old.test' id='{id}' type='valid'/>");
    let mut other = world.authenticated("other.test").await;
    other.say(&answer).await;
    conn.say(&answer).await;
    verify.say(answer.replace("valid", "invalid")).await;
    assert!(conn.rest().await.contains("type='invalid'"));
    world.is_alive().await;
}

#[tokio::test]
async fn a_stolen_key_is_checked_with_the_domain_it_claims() {
    // the attacker has no key of good.test
    let mut world = World::start().await;
    let (mut conn, _) = world.unproven("good.test").await;
    conn.say(request("good.test", "old.test")).await;
    assert!(conn.rest().await.contains("type='invalid'"));
    world.is_alive().await;
}

#[tokio::test]
async fn requests_for_domains_of_ours_or_of_nobody_are_refused_without_dialling() {
    // A-7, DB-10, DB-11
    let mut world = World::start().await;
    let (mut conn, _) = world.unproven("evil.test").await;
    for (from, to, condition) in [
        ("old.test", "old.test", "forbidden"),
        ("rooms.old.test", "old.test", "forbidden"),
        ("OLD.TEST.", "old.test", "forbidden"),
        ("unasked.test", "nobody.test", "item-not-found"),
        ("unasked.test", "unasked.test", "item-not-found"),
        ("old.test", "good.test", "item-not-found"),
    ] {
        conn.say(request(from, to)).await;
        let text = conn.until("</db:result>").await;
        assert!(text.contains(condition), "{from} {to}: {text}");
    }
    assert!(!world.dns.was_asked("unasked.test") && !world.dns.was_asked("old.test"));
    world.is_alive().await;
}

#[tokio::test]
async fn malformed_dialback_elements_end_the_stream() {
    // DB-3, A-15, A-96
    let mut world = World::start().await;
    let long = "k".repeat(1025);
    for element in [
        "<db:result to='old.test'>k</db:result>",
        "<db:result from='evil.test'>k</db:result>",
        "<db:result from='' to='old.test'>k</db:result>",
        "<db:result from='m@evil.test' to='old.test'>k</db:result>",
        "<db:result from='a b.test' to='old.test'>k</db:result>",
        "<db:result from='localhost' to='old.test'>k</db:result>",
        "<db:result from='127.0.0.1' to='old.test'>k</db:result>",
    ] {
        let (mut conn, _) = world.unproven("evil.test").await;
        conn.say(element).await;
        conn.ends_with("improper-addressing").await;
    }
    for element in [
        "<db:result from='evil.test' to='old.test'/>",
        "<db:result from='evil.test' to='old.test' type='maybe'/>",
        "<db:verify from='evil.test' to='old.test'>k</db:verify>",
        "<db:verify from='evil.test' to='old.test' id=''>k</db:verify>",
        &format!("<db:result from='evil.test' to='old.test'>{long}</db:result>"),
        &format!("<db:verify from='evil.test' to='old.test' id='{long}'>k</db:verify>"),
    ] {
        let (mut conn, _) = world.unproven("evil.test").await;
        conn.say(element).await;
        conn.ends_with("bad-format").await;
    }
    world.is_alive().await;
}

#[tokio::test]
async fn the_gate_answers_for_its_own_keys_only() {
    // A-10, DB-18 to DB-20
    let mut world = World::start().await;
    let (mut conn, _) = world.unproven("evil.test").await;
    for (from, to, answer) in [
        ("evil.test", "old.test", "type='invalid'"),
        ("evil.test", "rooms.old.test", "type='invalid'"),
        ("evil.test", "good.test", "item-not-found"),
        ("old.test", "good.test", "item-not-found"), // a key of the other side
        ("old.test", "evil.test", "item-not-found"),
        ("old.test", "old.test", "item-not-found"),
    ] {
        let key = "a".repeat(64);
        conn.say(format!("<db:verify from='{from}' to='{to}' id='i'>{key}</db:verify>")).await;
        let text = conn.until(answer).await;
        assert!(text.contains(&format!("from='{to}' to='{from}' id='i'")), "{text}");
    }
    world.is_alive().await;
}

#[tokio::test]
async fn dialback_in_the_clear_is_refused_and_soon_ends_the_stream() {
    // §12.1 I1f
    let mut world = World::start().await;
    let mut conn = world.clear("evil.test").await;
    for _ in 0..3 {
        conn.say(request("evil.test", "old.test")).await;
        conn.until(&refusal("policy-violation")).await;
    }
    conn.say("<db:verify from='evil.test' to='old.test' id='1'>k</db:verify>").await;
    conn.ends_with("policy-violation").await;
    assert!(!world.dns.was_asked("evil.test"));
    world.is_alive().await;
}

#[tokio::test]
async fn the_answer_says_what_became_of_the_question() {
    // DB-15
    let mut world =
        World::with(Plan { config: "limits: { connect: 3s, tcp_connect: 1s }", ..Plan::DEFAULT })
            .await;
    // no such domain
    let (mut conn, _) = world.unproven("evil.test").await;
    conn.say(request("nowhere.test", "old.test")).await;
    conn.until(&refusal("remote-server-not-found")).await;
    // name servers do not answer
    world.dns.silence("silent.test");
    conn.say(request("silent.test", "old.test")).await;
    conn.until(&refusal("remote-server-timeout")).await;
    // nobody listens
    let gone = world.host("gone.test").await;
    drop(gone);
    conn.say(request("gone.test", "old.test")).await;
    conn.until(&refusal("remote-server-timeout")).await;
    // no TLS there
    let host = world.host("plain.test").await;
    conn.say(request("plain.test", "old.test")).await;
    let mut plain = host.accept_starttls().await;
    plain.say("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>").await;
    drop(plain);
    conn.until(&refusal("not-acceptable")).await;
    // it closes, it errs, it does not know, it never answers
    let host = world.host("odd.test").await;
    conn.say(request("odd.test", "old.test")).await;
    drop(question(&host).await);
    conn.until(&refusal("remote-server-timeout")).await;
    conn.say(request("odd.test", "old.test")).await;
    let (mut verify, asked) = question(&host).await;
    let id = attribute(&asked[asked.find("<db:verify").unwrap()..], "id");
    verify
        .say(format!(
            "<db:verify from='odd.test' to='old.test' id='{id}' type='error'><error type='cancel'>\
             <item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></db:verify>"
        ))
        .await;
    conn.until(&refusal("remote-server-not-found")).await;
    conn.say(request("odd.test", "old.test")).await;
    let (mut verify, _) = question(&host).await;
    verify.say(STREAM_HOST_UNKNOWN).await;
    conn.until(&refusal("remote-server-not-found")).await;
    conn.say(request("odd.test", "old.test")).await;
    let (verify, _) = question(&host).await;
    conn.until(&refusal("remote-server-timeout")).await;
    drop(verify);
    world.is_alive().await;
}

const STREAM_HOST_UNKNOWN: &str = "<stream:error><host-unknown \
    xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>";

#[tokio::test]
async fn an_invalid_key_ends_the_stream_only_when_no_other_pair_lives_on_it() {
    // DB-12
    let mut world = World::start().await;
    let host = world.host("second.test").await;
    let mut conn = world.authenticated("evil.test").await;
    conn.say(request("second.test", "old.test")).await;
    let (mut verify, asked) = question(&host).await;
    let id = attribute(&asked[asked.find("<db:verify").unwrap()..], "id");
    verify
        .say(format!("<db:verify from='second.test' to='old.test' id='{id}' type='invalid'/>"))
        .await;
    conn.until(&refusal("forbidden")).await;
    conn.say(STANZA).await;
    assert_eq!(world.legacy.arrival().await, STANZA);
    world.is_alive().await;
}

#[tokio::test]
async fn a_domain_that_has_to_be_trusted_is_not_taken_by_dialback_alone() {
    let config = "defaults: { level: trusted }";
    let mut world = World::with(Plan { config, ..Plan::DEFAULT }).await;
    let mut host = world.host("evil.test").await;
    host.identity = Identity::self_signed("evil.test");
    let (mut conn, _) = world.unproven("evil.test").await;
    conn.say(request("evil.test", "old.test")).await;
    // its server has to prove itself before it is asked
    let mut verify = host.accept_starttls().await;
    verify.say("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
    let _ = verify.accept_tls(host.identity.server()).await;
    conn.until(&refusal("not-acceptable")).await;
    conn.say(STANZA).await;
    conn.ends_with("not-authorized").await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_flood_of_requests_is_bounded_and_answered() {
    // DB-16
    let config = "limits: { pending_verifications: 8, connect: 2s, tcp_connect: 1s }";
    let mut world = World::with(Plan { config, ..Plan::DEFAULT }).await;
    for n in 0..8 {
        world.dns.silence(&format!("silent{n}.test"));
    }
    let (mut conn, _) = world.unproven("evil.test").await;
    let flood: String =
        (0..1000).map(|n| request(&format!("silent{n}.test"), "old.test")).collect();
    conn.say(flood).await;
    let mut refused = 0;
    for _ in 0..1000 {
        let text = conn.until("</db:result>").await;
        refused += usize::from(text.contains("<resource-constraint "));
    }
    assert_eq!(refused, 992);
    assert!(!world.dns.was_asked("silent8.test"));
    // the same request again and again is one request, and soon ends the stream
    conn.say(request("silent0.test", "old.test").repeat(1000)).await;
    conn.ends_with("policy-violation").await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_stranger_s_questions_do_not_keep_others_from_asking() {
    // as many questions as the gate asks at once, none of which is ever answered
    let config = "limits: { pending_verifications: 200, connect: 60s }";
    let mut world = World::with(Plan { config, ..Plan::DEFAULT }).await;
    let host = world.host("mute.test").await;
    let mut conns = Vec::new();
    for c in 0..2 {
        let (mut conn, _) = world.unproven("evil.test").await;
        for n in 0..200 {
            let domain = format!("d{c}x{n}.mute.test");
            world.dns.publish(&domain, Service::StartTls, &[host.address]);
            conn.say(request(&domain, "old.test")).await;
        }
        conns.push(conn);
    }
    drop(host.accept().await);
    world.is_alive().await; // the legacy side needs dialback too
    // and so does a peer at another address
    let mut conn = world.secured_from("127.0.0.2", None).await;
    conn.say(header("third.test", "old.test")).await;
    conn.until("</stream:features>").await;
    let third = world.host("third.test").await;
    conn.say(request("third.test", "old.test")).await;
    question(&third).await;
}

#[tokio::test]
async fn pairs_on_one_stream_are_bounded() {
    //
    let config = "limits: { pairs_per_stream: 3 }";
    let mut world = World::with(Plan { config, ..Plan::DEFAULT }).await;
    let names = ["evil.test", "b.test", "c.test", "d.test"];
    let identity = world.authority.issue(&names);
    let mut conn = world.secured(Some(&identity)).await;
    conn.say(header("evil.test", "old.test")).await;
    conn.until("</stream:features>").await;
    for name in &names[..3] {
        conn.say(request(name, "old.test")).await;
        conn.until(&format!("to='{name}' type='valid'/>")).await;
    }
    conn.say(request("d.test", "old.test")).await;
    conn.until(&refusal("resource-constraint")).await;
    world.is_alive().await;
}
