//! Peers that misbehave on a stream that the gate may send on (protocol §12.2 M6; attack rows A-4,
//! ), and streams that break: what was not written is sent again, once and in order.

use crate::world::{BOUNCE, Conn, FOOTER, Host, PROCEED, Plan, World, assert_error, message_to};

/// A stream that carries one message already.
async fn open(world: &World, host: &Host) -> Conn {
    let _stream = world.sends(&host.domain).await;
    let mut conn = host.accept_open().await;
    conn.until(&message_to(&host.domain)).await;
    conn
}

#[tokio::test]
async fn nothing_that_a_peer_says_on_our_stream_is_delivered_or_believed() {
    // §12.4 M6, A-4, DB-5
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    let mut conn = open(&world, &host).await;
    for said in [
        "<message from='m@evil.test' to='bob@old.test'><body>in by the back door</body></message>",
        "<message from='bob@old.test' to='ann@good.test'/>",
        "<db:result from='good.test' to='old.test' type='valid'/>",
        "<db:result from='evil.test' to='old.test' type='invalid'/>",
        "<db:result from='evil.test' to='old.test'>k</db:result>",
        "<db:verify from='evil.test' to='old.test' id='1'>k</db:verify>",
        "<db:verify from='evil.test' to='old.test' id='1' type='valid'/>",
        "<stream:features/>",
        "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
        "<x xmlns='evil:ns'/>",
        " \n\t",
    ] {
        conn.say(said).await;
    }
    // the stream goes on
    let _stream = world.sends("evil.test").await;
    assert_eq!(conn.until("</message>").await, message_to("evil.test"));
    world.is_alive().await;
}

#[tokio::test]
async fn a_flood_on_our_stream_ends_it_and_the_next_stanza_goes_over_another() {
    let mut world = World::with(BOUNCE).await;
    for (domain, flood, condition) in [
        ("a.test", "<message from='m@a.test' to='bob@old.test'/>", "not-authorized"),
        ("b.test", "<x xmlns='evil:ns'/>", "policy-violation"),
        ("c.test", "<db:result from='c.test' to='old.test' type='valid'/>", "policy-violation"),
    ] {
        let host = world.host(domain).await;
        let mut conn = open(&world, &host).await;
        conn.say(flood.repeat(5000)).await;
        conn.ends_with(condition).await;
        drop(conn);
        open(&world, &host).await;
    }
    world.is_alive().await;
}

#[tokio::test]
async fn malformed_xml_on_our_stream_ends_it_with_the_error_that_the_rfc_names() {
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    let big = format!("<message><body>{}", "x".repeat(600 << 10));
    for (condition, attack) in [
        ("not-well-formed", "<a></b>"),
        ("restricted-xml", "<!-- c -->"),
        ("bad-format", "text"),
        ("invalid-namespace", "<message xmlns='jabber:client'/>"),
        ("policy-violation", &big),
    ] {
        let mut conn = open(&world, &host).await;
        conn.say(attack).await;
        let text = conn.rest().await;
        assert_error(&text, condition);
    }
    world.is_alive().await;
}

#[tokio::test]
async fn a_peer_that_ends_our_stream_gets_the_next_stanza_over_another() {
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    for end in [
        FOOTER,
        "<stream:error><system-shutdown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
         </stream:error></stream:stream>",
    ] {
        let mut conn = open(&world, &host).await;
        conn.say(end).await;
        assert_eq!(conn.rest().await, FOOTER);
    }
    drop(open(&world, &host).await);
    open(&world, &host).await;
    world.is_alive().await;
}

/// Numbered messages of some size for `evil.test`.
fn numbered(numbers: std::ops::Range<u32>) -> String {
    let padding = "x".repeat(1000);
    let one = |n| {
        format!(
            "<message from='bob@old.test' to='m@evil.test' id='{n}'><body>{padding}</body></message>"
        )
    };
    numbers.map(one).collect()
}

/// The numbers of all whole messages in `text`.
fn numbers(text: &str) -> Vec<u32> {
    let whole = text.split_inclusive("</message>").filter(|part| part.ends_with("</message>"));
    whole.map(|part| crate::world::attribute(part, "id").parse().unwrap()).collect()
}

#[tokio::test]
async fn stanzas_that_a_broken_stream_did_not_take_go_over_the_next_once_and_in_order() {
    // I6, I9: the peer takes some, then nothing; then, while more is waiting than the sockets can
    // hold, it ends the stream in one way or the other and reads what is there to be read
    let plan = Plan { config: "limits: { queue: 32MiB, stanza: 64KiB }", ..BOUNCE };
    for polite in [true, false] {
        let mut world = World::with(plan.clone()).await;
        let host = world.host("evil.test").await;
        let mut stream = world.legacy.open("evil.test").await;
        stream.say(&numbered(0..10)).await;
        let mut conn = host.accept_open().await;
        conn.until(" id='9'><body>").await;
        conn.until("</message>").await;
        // more than all buffers hold; that all of it was taken shows when the honest pass behind
        stream.say(&numbered(10..12_000)).await;
        world.is_alive().await;
        if polite {
            conn.say(FOOTER).await;
        } else {
            conn.finish().await;
        }
        let first = conn.rest().await;
        let mut second = host.accept_open().await;
        let mut rest = second.until(" id='11999'><body>").await;
        rest.push_str(&second.until("</message>").await);
        let mut all = numbers(&first);
        assert!(!all.is_empty() && all.len() < 11_900, "{}", all.len());
        assert!(all.iter().copied().eq(10..10 + all.len() as u32));
        all.extend(numbers(&rest[rest.find("<message").unwrap()..]));
        assert!(all.iter().copied().eq(10..12_000), "lost, doubled or out of order");
        world.is_alive().await;
    }
}

#[tokio::test]
async fn a_peer_that_breaks_inside_the_same_stanza_for_ever_is_given_up() {
    // I7: bytes alone are no progress
    let config = "limits: { queue: 16MiB, stanza: 16MiB, connect: 10s }";
    let mut world = World::with(Plan { config, ..BOUNCE }).await;
    let host = world.host("evil.test").await;
    let mut stream = world.legacy.open("evil.test").await;
    // more than the sockets hold
    let body = "x".repeat(12 << 20);
    stream
        .say(&format!(
            "<message from='bob@old.test' to='m@evil.test' id='7'><body>{body}</body></message>"
        ))
        .await;
    let breaks = async {
        loop {
            let mut conn = host.accept_open().await;
            conn.until("<body>xxxxx").await;
        }
    };
    tokio::select! {
        () = world.bounced("evil.test", "remote-server-timeout") => {}
        () = breaks => {}
    }
    world.is_alive().await;
}

#[tokio::test]
async fn a_peer_that_takes_no_bytes_is_given_up_and_others_are_served() {
    //
    let config = "limits: { write_stall: 1s, connect: 3s, tcp_connect: 1s, queue: 1MiB }";
    let mut world = World::with(Plan { config, ..BOUNCE }).await;
    let host = world.host("evil.test").await;
    let mut stream = world.legacy.open("evil.test").await;
    let mut held = Vec::new();
    stream.say(&numbered(0..9000)).await;
    let holds = async {
        loop {
            held.push(host.accept_open().await);
        }
    };
    let bounce = async {
        let bounce = world.legacy.arrival().await;
        assert!(bounce.contains("type='error'"), "{bounce}");
    };
    tokio::select! {
        () = bounce => {}
        () = holds => {}
    }
    // the rest comes back too, and after it what is honest
    let honest = "<message from='ann@good.test' to='bob@old.test'><body>honest</body></message>";
    let mut good = world.good.open("old.test").await;
    good.say(honest).await;
    while world.legacy.arrival().await != honest {}
}

#[tokio::test]
async fn an_error_that_cannot_be_delivered_is_not_answered() {
    // neither errors nor results, nor presence that asks for nothing
    let mut world = World::with(BOUNCE).await;
    let mut stream = world.legacy.open("nowhere.test").await;
    for quiet in [
        "<message type='error' from='bob@old.test' to='m@nowhere.test'/>",
        "<iq type='result' id='1' from='bob@old.test' to='m@nowhere.test'/>",
        "<iq type='error' id='1' from='bob@old.test' to='m@nowhere.test'/>",
        "<presence from='bob@old.test' to='m@nowhere.test'/>",
        "<presence type='unavailable' from='bob@old.test' to='m@nowhere.test'/>",
        "<presence type='error' from='bob@old.test' to='m@nowhere.test'/>",
    ] {
        stream.say(quiet).await;
    }
    stream.say(&message_to("nowhere.test")).await;
    world.bounced("nowhere.test", "remote-server-not-found").await;
    world.is_alive().await;
}

#[tokio::test]
async fn tls_that_breaks_after_proceed_is_a_bounce_and_no_clear_text() {
    // TLS-2, A-36
    let mut world = World::with(BOUNCE).await;
    for (domain, bytes) in
        [("a.test", &[0x15, 3, 3, 0, 2, 2, 40][..]), ("b.test", b"HTTP/1.1 200\r\n")]
    {
        let host = world.host(domain).await;
        let _stream = world.sends(domain).await;
        let mut conn = host.accept_starttls().await;
        conn.say(PROCEED).await;
        conn.say(bytes).await;
        let said = conn.rest_bytes().await;
        assert!(!said.windows(4).any(|part| part == b"<mes"), "{said:?}");
        world.bounced(domain, "remote-server-timeout").await;
    }
    world.is_alive().await;
}
