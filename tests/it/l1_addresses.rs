//! Which stanzas a peer may send (protocol §13.2; attack rows ): what is not
//! for an authorized domain pair of the very stream ends that stream, and goes nowhere.

use crate::world::{Plan, World, header};

#[tokio::test]
async fn a_stanza_outside_the_authorized_pair_ends_the_stream_and_goes_nowhere() {
    let mut world = World::start().await;
    let long = "x".repeat(1024);
    for (from, to, condition) in [
        //
        (Some("ann@good.test"), Some("bob@old.test"), "invalid-from"),
        (Some("m@sub.evil.test"), Some("bob@old.test"), "invalid-from"),
        (Some("old.test"), Some("bob@old.test"), "invalid-from"),
        //
        (Some("m@evil.test"), Some("room@rooms.old.test"), "invalid-from"),
        (Some("m@evil.test"), Some("bob@nobody.test"), "host-unknown"),
        (Some("m@evil.test"), Some("ann@good.test"), "host-unknown"),
        // addresses that are none
        (None, Some("bob@old.test"), "improper-addressing"),
        (Some("m@evil.test"), None, "improper-addressing"),
        (Some(""), Some("bob@old.test"), "improper-addressing"),
        (Some("m@evil.test"), Some(""), "improper-addressing"),
        (Some("m@"), Some("bob@old.test"), "improper-addressing"),
        (Some("@evil.test"), Some("bob@old.test"), "improper-addressing"),
        (Some("m@evil.test"), Some("bob@old.test/"), "improper-addressing"),
        (Some(&long), Some("bob@old.test"), "improper-addressing"),
        (Some("m@evil.test"), Some("bob@127.0.0.1"), "improper-addressing"),
        //
        (Some("evil@good.test/x@evil.test"), Some("bob@old.test"), "invalid-from"),
        (Some("good.test/@evil.test"), Some("bob@old.test"), "invalid-from"),
        (Some("m@good.test@evil.test"), Some("bob@old.test"), "improper-addressing"),
        // XML-7: decoded before it is judged
        (Some("m@good&#46;test"), Some("bob@old.test"), "invalid-from"),
    ] {
        let attribute = |name, value: Option<&str>| {
            value.map(|value| format!(" {name}='{value}'")).unwrap_or_default()
        };
        for name in ["message", "presence", "iq"] {
            let stanza = format!("<{name}{}{}/>", attribute("from", from), attribute("to", to));
            let mut conn = world.authenticated("evil.test").await;
            conn.say(&stanza).await;
            let text = conn.rest().await;
            assert!(text.contains(&format!("<{condition} ")), "{stanza}: {text}");
        }
    }
    world.is_alive().await;
}

#[tokio::test]
async fn only_an_unprefixed_attribute_is_an_address() {
    // XML-7
    let mut world = World::start().await;
    let mut conn = world.authenticated("evil.test").await;
    conn.say("<message xmlns:x='urn:x' x:from='m@evil.test' to='bob@old.test'/>").await;
    conn.ends_with("improper-addressing").await;
    let mut conn = world.authenticated("evil.test").await;
    conn.say(
        "<message xmlns:x='urn:x' x:from='m@evil.test' from='ann@good.test' to='bob@old.test'/>",
    )
    .await;
    conn.ends_with("invalid-from").await;
    world.is_alive().await;
}

#[tokio::test]
async fn one_peer_s_fault_leaves_the_streams_of_others_alone() {
    // pairs live on their own connection only
    let mut world = World::start().await;
    let mut other = world.authenticated("other.test").await;
    let mut evil = world.authenticated("evil.test").await;
    evil.say("<message from='x@other.test' to='bob@old.test'/>").await;
    evil.ends_with("invalid-from").await;
    let honest = "<message from='x@other.test' to='bob@old.test'><body>mine</body></message>";
    other.say(honest).await;
    assert_eq!(world.legacy.arrival().await, honest);
    world.is_alive().await;
}

#[tokio::test]
async fn other_spellings_of_the_authorized_names_are_the_same_names() {
    // ID-6: and the spelling is relayed as it came
    let mut world = World::start().await;
    let mut conn = world.authenticated("evil.test").await;
    let stanza = "<message from='m@EVIL.test./x' to='bob@Old.Test'><body>same</body></message>";
    conn.say(stanza).await;
    let next = "<message from='m@evil.test' to='bob@old.test'/>";
    conn.say(next).await;
    assert_eq!(world.legacy.arrival().await, stanza);
    assert_eq!(world.legacy.arrival().await, next);
    world.is_alive().await;
}

#[tokio::test]
async fn a_denied_domain_is_refused_in_every_spelling() {
    //
    let config = "rules: [{ match: [evil.test, '*.bad.test', 'bücher.test'], allow: none }]";
    let mut world = World::with(Plan { config, ..Plan::DEFAULT }).await;
    for from in
        ["evil.test", "EVIL.test", "evil.test.", "evil。test", "ｅｖｉｌ.test", "a.bad.test"]
    {
        let mut conn = world.connect().await;
        conn.say(header(from, "old.test")).await;
        conn.ends_with_header_and("policy-violation").await;
    }
    for from in ["bücher.test", "xn--bcher-kva.test", "XN--BCHER-KVA.test"] {
        let mut conn = world.connect().await;
        conn.say(header(from, "old.test")).await;
        conn.ends_with_header_and("policy-violation").await;
    }
    for from in ["straße.test", "faß.test", "xn--a.test"] {
        let mut conn = world.connect().await;
        conn.say(header(from, "old.test")).await;
        conn.ends_with_header_and("improper-addressing").await;
    }
    for from in ["bad.test", "verybad.test", "evil.test.example", "notevil.test"] {
        drop(world.clear(from).await);
    }
    // nor as a further pair on the stream of an allowed domain
    let identity = world.authority.issue(&["fine.test", "evil.test"]);
    let mut conn = world.secured(Some(&identity)).await;
    conn.say(header("fine.test", "old.test")).await;
    conn.until("</stream:features>").await;
    conn.say("<db:result from='evil.test' to='old.test'>k</db:result>").await;
    conn.until("<forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></db:result>")
        .await;
    conn.say("<db:result from='fine.test' to='old.test'>k</db:result>").await;
    conn.until("<db:result from='old.test' to='fine.test' type='valid'/>").await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_denied_address_gets_no_byte() {
    let config = "rules: [{ address: 127.0.0.66, allow: none }]";
    let mut world = World::with(Plan { config, ..Plan::DEFAULT }).await;
    for port in [world.public(), world.direct()] {
        let mut conn = crate::world::Conn::open(port, "127.0.0.66").await;
        conn.say(header("evil.test", "old.test")).await;
        conn.ends_silently().await;
    }
    world.is_alive().await;
}
