//! Stream headers, order of negotiation, SASL (protocol §1.1, §4.3; attack rows,
//! what a peer may say when, and for whom.

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::world::{
    EXTERNAL, FOOTER, STARTTLS, World, assert_error, attribute, header, header_with,
};

/// A header in the clear, and what it is answered with to the end.
async fn refused(world: &World, attributes: &str, condition: &str) -> String {
    let mut conn = world.connect().await;
    conn.say(header_with(attributes)).await;
    let text = conn.rest().await;
    assert!(text.starts_with("<?xml version='1.0'?><stream:stream "), "{text}");
    assert_error(&text, condition);
    text
}

#[tokio::test]
async fn a_header_that_cannot_be_served_is_answered_and_then_refused() {
    let mut world = World::start().await;
    // ST-7: nobody is named as sender of the answer
    for to in ["nobody.test", "good.test", "127.0.0.1", "sub.old.test", "old.test@x", ""] {
        let attributes = format!("from='evil.test' to='{to}' version='1.0'");
        let text = refused(&world, &attributes, "host-unknown").await;
        assert_eq!(attribute(&text, "from"), "", "{text}");
    }
    // ST-5
    refused(&world, "from='evil.test' to='old.test'", "unsupported-version").await;
    refused(&world, "from='evil.test' to='old.test' version='0.9'", "unsupported-version").await;
    refused(&world, "from='evil.test' to='old.test' version='x'", "unsupported-version").await;
    // EX-6: nobody is a domain of ours
    for from in ["old.test", "rooms.old.test", "OLD.test."] {
        let attributes = format!("from='{from}' to='old.test' version='1.0'");
        refused(&world, &attributes, "not-authorized").await;
    }
    //
    for from in ["localhost", "1.2.3.4", "a b", "_x.test", "-a.test", "xn--example-.test"] {
        let attributes = format!("from='{from}' to='old.test' version='1.0'");
        refused(&world, &attributes, "improper-addressing").await;
    }
    world.is_alive().await;
}

#[tokio::test]
async fn headers_are_read_liberally_where_the_rfc_asks_for_it() {
    let mut world = World::start().await;
    let mut ids = Vec::new();
    for (attributes, version) in [
        ("to='old.test' version='1.0'", "1.0"), // ST-6
        ("version='1.0'", "1.0"),
        ("from='evil.test' to='old.test' id='mine' version='1.0'", "1.0"),
        ("from='evil.test' to='OLD.TEST.' version='2.13'", "1.0"), // ST-4
        ("from='evil.test' to='old.test' version='1.0' loop:check='x' xmlns:loop='urn:l'", "1.0"),
    ] {
        let mut conn = world.connect().await;
        conn.say(header_with(attributes)).await;
        let text = conn.until("</stream:features>").await;
        assert_eq!(attribute(&text.replace("<?xml version='1.0'?>", ""), "version"), version);
        assert!(text.contains("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/>"));
        ids.push(attribute(&text, "id"));
    }
    // fresh, and not the peer's
    ids.push("mine".into());
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "{ids:?}");
    world.is_alive().await;
}

#[tokio::test]
async fn each_header_of_one_connection_gets_an_id_of_its_own() {
    // ST-2
    let mut world = World::start().await;
    let mut conn = world.connect().await;
    conn.say(header("evil.test", "old.test")).await;
    let clear = attribute(&conn.until("</stream:features>").await, "id");
    conn.say(STARTTLS).await;
    conn.until("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
    let identity = world.authority.issue(&["evil.test"]);
    conn.connect_tls(world.authority.client(Some(&identity), &[]), "old.test").await.unwrap();
    conn.say(header("evil.test", "old.test")).await;
    let tls = attribute(&conn.until("</stream:features>").await, "id");
    conn.say(EXTERNAL).await;
    conn.until("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
    conn.say(header("evil.test", "old.test")).await;
    let sasl = attribute(&conn.until("</stream:features>").await, "id");
    assert!(clear != tls && tls != sasl && clear != sasl);
    world.is_alive().await;
}

#[tokio::test]
async fn a_stanza_before_authentication_ends_the_stream() {
    //
    let mut world = World::start().await;
    let stanza = "<message from='m@evil.test' to='bob@old.test'><body>early</body></message>";
    let mut conn = world.clear("evil.test").await;
    conn.say(stanza).await;
    conn.ends_with("not-authorized").await;
    let mut conn = world.proven("evil.test").await;
    conn.say(stanza).await;
    conn.ends_with("not-authorized").await;
    // in one segment with the request for authentication, and before the new header
    let mut conn = world.proven("evil.test").await;
    conn.say(format!("{EXTERNAL}{stanza}")).await;
    let text = conn.rest().await;
    assert_error(&text, "invalid-namespace");
    world.is_alive().await;
}

#[tokio::test]
async fn what_was_said_in_the_clear_does_not_count_after_tls() {
    // A-18, ST-11: the certificate is good for the name that was said first
    let mut world = World::start().await;
    let identity = world.authority.issue(&["anybody.test"]);
    let mut conn = world.secured(Some(&identity)).await; // said from='anybody.test' in the clear
    conn.say(header("other.test", "old.test")).await;
    let features = conn.until("</stream:features>").await;
    assert!(!features.contains("EXTERNAL"), "{features}");
    conn.say(EXTERNAL).await;
    conn.until("<not-authorized/></failure>").await;
    // nor does the first header's to
    let mut conn = world.secured(Some(&identity)).await;
    conn.say(header_with("from='anybody.test' version='1.0'")).await;
    conn.ends_with_header_and("host-unknown").await;
    world.is_alive().await;
}

#[tokio::test]
async fn names_that_change_after_authentication_end_the_stream() {
    // A-17, ST-12
    let mut world = World::start().await;
    for (names, condition) in [
        ("from='good.test' to='old.test'", "invalid-from"),
        ("from='old.test' to='old.test'", "not-authorized"),
        ("to='old.test'", "invalid-from"),
        ("from='evil.test' to='other.test'", "host-unknown"),
        ("from='evil.test'", "host-unknown"),
    ] {
        let mut conn = world.proven("evil.test").await;
        conn.say(EXTERNAL).await;
        conn.until("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
        conn.say(header_with(&format!("{names} version='1.0'"))).await;
        conn.ends_with_header_and(condition).await;
    }
    world.is_alive().await;
}

#[tokio::test]
async fn sasl_external_speaks_for_the_header_s_domain_alone() {
    // A-16, EX-3, even when the certificate covers both
    let mut world = World::start().await;
    let identity = world.authority.issue(&["evil.test", "good.test", "*.evil.test"]);
    let auth = |payload: &str| {
        format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>{payload}</auth>"
        )
    };
    let plain = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGEAYg==</auth>";
    for (payload, failure) in [
        (auth(&STANDARD.encode("good.test")), "invalid-authzid"),
        (auth(&STANDARD.encode("x.evil.test")), "invalid-authzid"),
        (auth(&STANDARD.encode("m@evil.test")), "invalid-authzid"),
        (auth(&STANDARD.encode("old.test")), "invalid-authzid"),
        (auth("&amp;&amp;"), "incorrect-encoding"),
        (auth("Z29v ZC50"), "incorrect-encoding"),
        (auth("=="), "incorrect-encoding"),
        (plain.to_owned(), "invalid-mechanism"),
    ] {
        let mut conn = world.secured(Some(&identity)).await;
        conn.say(header("evil.test", "old.test")).await;
        conn.until("</stream:features>").await;
        for _ in 0..3 {
            conn.say(&payload).await;
            conn.until(&format!("<{failure}/></failure>")).await;
        }
        // RFC 6120 §6.4.5
        conn.say(&payload).await;
        conn.ends_with("policy-violation").await;
    }
    let mut conn = world.clear("evil.test").await;
    conn.say(EXTERNAL).await;
    conn.until("<encryption-required/></failure>").await;
    // the same domain in another spelling is the same domain
    let mut conn = world.proven("evil.test").await;
    conn.say(auth(&STANDARD.encode("EVIL.test"))).await;
    conn.until("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_second_authentication_ends_the_stream() {
    let mut world = World::start().await;
    let mut conn = world.authenticated("evil.test").await;
    conn.say(EXTERNAL).await;
    conn.ends_with("policy-violation").await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_peer_that_ends_its_stream_gets_the_end_of_ours() {
    // ST-17
    let mut world = World::start().await;
    for mut conn in [
        world.clear("evil.test").await,
        world.proven("evil.test").await,
        world.authenticated("evil.test").await,
    ] {
        conn.say(FOOTER).await;
        assert_eq!(conn.rest().await, FOOTER);
    }
    world.is_alive().await;
}

#[tokio::test]
async fn what_is_no_stream_at_all_gets_no_answer() {
    //
    let mut world = World::start().await;
    for bytes in
        ["GET / HTTP/1.1\r\nHost: old.test\r\n\r\n", "EHLO evil\r\n", "\u{16}\u{3}\u{1}\u{0}"]
    {
        let mut conn = world.connect().await;
        conn.say(bytes).await;
        conn.ends_silently().await;
    }
    world.is_alive().await;
}
