//! The local listener (protocol §12.3; attack rows ): who may speak there, for whom, to
//! whom, and how the answer looks to servers from before XMPP 1.0.

use std::time::Duration;

use crate::world::{
    BOUNCE, Conn, FOOTER, Manner, Plan, STARTTLS, Style, World, assert_error, attribute, header,
    header_with, soon,
};

/// A stream on the local listener, without a version as old servers open it.
async fn old_style(world: &World) -> (Conn, String) {
    let mut conn = Conn::open(world.local(), "127.0.0.1").await;
    conn.say(header_with("to='good.test'")).await;
    let id = attribute(&conn.until("'>").await, "id");
    (conn, id)
}

#[tokio::test]
async fn who_is_no_legacy_source_is_told_so() {
    let plan = Plan { legacy: "    sources: [192.0.2.0/24]", ..Plan::DEFAULT };
    let world = World::with(plan).await;
    let mut conn = Conn::open(world.local(), "127.0.0.1").await;
    conn.ends_with_header_and("not-authorized").await;
    let mut conn = Conn::open(world.local(), "127.0.0.1").await;
    conn.say(header("old.test", "good.test")).await;
    let text = conn.rest().await;
    assert!(text.is_empty() || text.contains("<not-authorized "), "{text}");
    drop(world.clear("evil.test").await); // peers are served
}

#[tokio::test]
async fn what_arrives_at_a_loopback_address_is_of_this_host_though_the_listener_is_for_all() {
    let plan = Plan { legacy: "    sources: [127.0.0.1]", ..Plan::DEFAULT };
    let mut world = World::with(plan).await;
    world.reload("listen: { local: ['[::]:0'] }").unwrap();
    let local = world.app.addresses().local;
    let port = local.iter().find(|address| address.is_ipv6()).unwrap().port();
    // as a redirected connection has the address that it had for the Internet
    let mut conn = Conn::open(([127, 0, 0, 1], port).into(), "127.0.0.66").await;
    conn.say(header_with("to='good.test'")).await;
    let answer = conn.until("'>").await;
    assert!(!answer.contains("<stream:error"), "{answer}");
    attribute(&answer, "id");
    conn.say("<db:result from='old.test' to='good.test'>k</db:result>").await;
    conn.until("<db:result").await;
}

#[tokio::test]
async fn the_legacy_server_has_only_so_many_connections_and_peers_have_theirs() {
    let world = World::with(Plan { config: "limits: { connections: 2 }", ..Plan::DEFAULT }).await;
    let served = [old_style(&world).await, old_style(&world).await];
    let mut refused = Conn::open(world.local(), "127.0.0.1").await;
    refused.ends_with_header_and("resource-constraint").await;
    drop(world.clear("evil.test").await); // peers are served
    drop(served);
    // the places are free as soon as the gate has seen the ends
    loop {
        let mut conn = Conn::open(world.local(), "127.0.0.1").await;
        let _ = conn.try_say(header_with("to='good.test'").as_bytes()).await;
        let answer = conn.chunk().await.unwrap_or_default();
        if !answer.is_empty() && !String::from_utf8_lossy(&answer).contains("<stream:error") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_pair_in_another_spelling_is_asked_about_and_answered_in_that() {
    // what a user of it writes, old servers know by that alone
    let mut world = World::start().await;
    for target in ["good.test.", "GOOD.test", "good\u{3002}test"] {
        drop(world.legacy.open_as("old.test", target).await);
    }
    world.is_alive().await;
}

#[tokio::test]
async fn a_key_that_the_legacy_server_did_not_make_is_invalid() {
    // whoever reaches the port is not the legacy server
    let mut world = World::start().await;
    for key in ["guess", "0", "a".repeat(64).as_str()] {
        let (mut conn, _) = old_style(&world).await;
        conn.say(format!("<db:result from='old.test' to='good.test'>{key}</db:result>")).await;
        assert_eq!(
            conn.rest().await,
            "<db:result from='good.test' to='old.test' type='invalid'/></stream:stream>"
        );
    }
    assert!(!world.dns.was_asked("good.test"));
    world.is_alive().await;
}

#[tokio::test]
async fn nothing_is_sent_for_a_domain_that_is_not_the_legacy_server_s() {
    let mut world = World::start().await;
    let (mut conn, _) = old_style(&world).await;
    for (from, to, condition) in [
        ("evil.test", "good.test", "not-authorized"),
        ("good.test", "good.test", "not-authorized"),
        ("old.test", "rooms.old.test", "item-not-found"), // no loop
        ("old.test", "old.test", "item-not-found"),
        ("evil.test", "old.test", "item-not-found"),
    ] {
        conn.say(format!("<db:result from='{from}' to='{to}'>k</db:result>")).await;
        let text = conn.until("</db:result>").await;
        assert!(text.contains(&format!("<{condition} ")), "{from} {to}: {text}");
    }
    assert!(!world.dns.was_asked("test."));
    world.is_alive().await;
}

#[tokio::test]
async fn stanzas_without_an_authorized_pair_end_the_stream() {
    let mut world = World::start().await;
    let (mut conn, _) = old_style(&world).await;
    conn.say("<message from='bob@old.test' to='ann@good.test'/>").await;
    conn.ends_with("not-authorized").await;
    for (addresses, condition) in [
        ("from='room@rooms.old.test' to='ann@good.test'", "invalid-from"),
        ("from='ann@good.test' to='ann@good.test'", "invalid-from"),
        ("from='bob@old.test' to='ann@other.test'", "invalid-from"),
        ("from='bob@old.test' to='x@rooms.old.test'", "host-unknown"),
        ("from='bob@old.test' to='x@old.test'", "host-unknown"),
        ("from='bob@old.test'", "improper-addressing"),
        ("to='ann@good.test'", "improper-addressing"),
        ("from='bob@old.test' to=''", "improper-addressing"),
    ] {
        let mut stream = world.legacy.open("good.test").await;
        stream.say(&format!("<message {addresses}/>")).await;
        let text = stream.rest().await;
        assert_error(&text, condition);
    }
    assert!(!world.dns.was_asked("other.test"));
    world.is_alive().await;
}

#[tokio::test]
async fn a_key_of_one_side_is_worthless_on_the_other() {
    // KEY-4: a key that the gate really made
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    let _stream = world.sends("evil.test").await;
    let (_outbound, key) = host.accept_request().await;
    let ours = format!("<db:verify from='evil.test' to='old.test' id='i1'>{key}</db:verify>");
    let swapped = format!("<db:verify from='old.test' to='evil.test' id='i1'>{key}</db:verify>");
    let (mut public, _) = world.unproven("evil.test").await;
    public.say(&ours).await;
    public.until("<db:verify from='old.test' to='evil.test' id='i1' type='valid'/>").await;
    public.say(ours.replace("i1", "i2")).await;
    public.until("id='i2' type='invalid'/>").await;
    public.say(&swapped).await;
    public.until("<item-not-found ").await;
    let (mut local, _) = old_style(&world).await;
    local.say(&swapped).await;
    local.until("<db:verify from='evil.test' to='old.test' id='i1' type='invalid'/>").await;
    local.say(&ours).await;
    local.until("<item-not-found ").await;
    world.is_alive().await;
}

#[tokio::test]
async fn the_answer_to_a_header_is_like_the_header() {
    // ST-5; COMPAT: byte by byte, for old servers choke on attributes that they do not know
    let mut world = World::start().await;
    let declarations = "xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
                        xmlns:db='jabber:server:dialback'";
    for (asked, answered, features) in [
        ("to='good.test'", "from='good.test'", ""),
        ("from='old.test' to='good.test'", "from='good.test' to='old.test'", ""),
        ("", "", ""),
        (
            "from='old.test' to='good.test' version='1.0'",
            "from='good.test' to='old.test' xml:lang='en' version='1.0'",
            "<stream:features><dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>\
             </stream:features>",
        ),
    ] {
        let mut conn = Conn::open(world.local(), "127.0.0.1").await;
        conn.say(header_with(asked)).await;
        conn.say("<db:verify from='old.test' to='good.test' id='1'>k</db:verify>").await;
        let verdict = "<db:verify from='good.test' to='old.test' id='1' type='invalid'/>";
        let text = conn.until(verdict).await;
        let id = attribute(&text, "id");
        assert_eq!(id.len(), 32);
        let answered = if answered.is_empty() { String::new() } else { format!(" {answered}") };
        assert_eq!(
            text,
            format!(
                "<?xml version='1.0'?><stream:stream {declarations} id='{id}'{answered}>\
                 {features}{verdict}"
            )
        );
        conn.say(FOOTER).await;
        assert_eq!(conn.rest().await, FOOTER);
    }
    world.is_alive().await;
}

#[tokio::test]
async fn a_header_to_a_domain_of_ours_is_a_loop_and_refused() {
    let mut world = World::start().await;
    for (to, version) in [("old.test", ""), ("rooms.old.test", " version='1.0'"), ("x", "")] {
        let mut conn = Conn::open(world.local(), "127.0.0.1").await;
        conn.say(header_with(&format!("from='old.test' to='{to}'{version}"))).await;
        let text = conn.rest().await;
        assert_error(&text, "host-unknown");
        let answered = text.replace("<?xml version='1.0'?>", "");
        assert_eq!(answered.contains("version='1.0'"), !version.is_empty(), "{text}");
    }
    world.is_alive().await;
}

#[tokio::test]
async fn malformed_xml_from_the_legacy_side_ends_the_stream_with_the_right_error() {
    let mut world = World::start().await;
    let attacks: &[(&str, &[u8])] = &[
        ("not-well-formed", b"<a></b>"),
        ("not-well-formed", b"<a>\xff</a>"),
        ("not-well-formed", b"<a>&#0;</a>"),
        ("not-well-formed", b"<p:a/>"),
        ("restricted-xml", b"<!DOCTYPE x>"),
        ("restricted-xml", b"<a>&xxe;</a>"),
        ("restricted-xml", b"<!-- c -->"),
        ("bad-format", b"text"),
        ("bad-namespace-prefix", b"<x:message xmlns:x='jabber:server'/>"),
        ("invalid-namespace", b"<message xmlns='jabber:client'/>"),
        ("policy-violation", &[b"<a>".as_slice(); 600].concat()),
        ("policy-violation", &[b"<a x='".as_slice(), &[b'x'; 17 << 10]].concat()),
    ];
    for (condition, attack) in attacks {
        let (mut conn, _) = old_style(&world).await;
        conn.say(attack).await;
        conn.ends_with(condition).await;
        let mut stream = world.legacy.open("good.test").await;
        if *condition != "policy-violation" || attack[2] == b'>' {
            stream.say_bytes(attack).await;
            assert_error(&stream.rest().await, condition);
        }
    }
    for (condition, start) in [
        ("not-well-formed", &b"<stream:stream>"[..]),
        ("unsupported-encoding", b"\xff\xfe<\0"),
        ("bad-format", b"hello"),
        ("restricted-xml", b"<!DOCTYPE x>"),
    ] {
        let mut conn = Conn::open(world.local(), "127.0.0.1").await;
        conn.say(start).await;
        conn.ends_with_header_and(condition).await;
    }
    world.is_alive().await;
}

/// What is beyond the limits for peers, but well-formed, is given back or dropped alone (C-16): a
/// stranger could else end the old server's stream with what just fits, and so could any user.
#[tokio::test]
async fn a_stanza_beyond_the_limits_is_given_back_alone() {
    let config = "limits: { stanza: 10000 B }";
    let mut world = World::with(Plan { config, ..Plan::DEFAULT }).await;
    let mut stream = world.legacy.open("good.test").await;
    let attributes = |n| (0..n).map(|i| format!(" a{i}=''")).collect::<String>();
    let declarations = (0..64).map(|i| format!(" xmlns:n{i}='urn:{i}'")).collect::<String>();
    let excesses = [
        ("", format!("<body>{}</body>", "&apos;".repeat(10_000))),
        ("", "<a>".repeat(70) + &"</a>".repeat(70)),
        ("", format!("<a{}/>", attributes(65))),
        (attributes(65).leak(), String::new()),
        ("", format!("<a{declarations}><n63:b/></a>")),
        ("", format!("<{}/>", "n".repeat(1025))),
        ("", "<stra\u{df}e/>".to_owned()),
        ("", "<a xmlns='urn:a b'/>".to_owned()),
    ];
    let head = |kind: &str, id: usize, more: &str| {
        format!("<message from='bob@old.test' to='ann@good.test' id='{id}' type='{kind}'{more}>")
    };
    for (id, (more, content)) in excesses.iter().enumerate() {
        let message = |kind| format!("{}{content}</message>", head(kind, id, more));
        // what is an error itself is not answered
        stream.say(&(message("error") + &message("chat"))).await;
        let bounce = world.legacy.arrival().await;
        let start = format!(
            "<message from='ann@good.test' to='bob@old.test' id='{id}' type='error'><error "
        );
        assert!(bounce.starts_with(&start), "{bounce}");
        assert!(bounce.contains("<policy-violation "), "{bounce}");
        assert!(bounce.len() < 500, "{bounce}");
    }
    // the same stream goes on, and has lost nothing else
    let full = head("chat", 99, &attributes(60)) + "</message>";
    stream.say(&full).await;
    assert_eq!(world.good.arrival().await, full);
    // what has no end does not fill the memory
    stream.say(&(head("chat", 100, "") + &"x".repeat(81_000))).await;
    assert_error(&stream.rest().await, "policy-violation");
    world.is_alive().await;
}

/// What one user writes is not to end a stream that others share.
#[tokio::test]
async fn a_pair_with_what_is_no_domain_is_refused_alone() {
    let mut world = World::start().await;
    let (mut conn, id) = old_style(&world).await;
    let names =
        ["typo_name", "foo_bar.test", "10.0.0.1", "localhost", "stra\u{df}e.test", "a&amp;b"];
    for to in names.into_iter().cycle().take(200) {
        conn.say(format!("<db:result from='old.test' to='{to}'>k</db:result>")).await;
        assert_eq!(
            conn.until("</db:result>").await,
            format!(
                "<db:result from='{to}' to='old.test' type='error'><error type='cancel'>\
                 <item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></db:result>"
            )
        );
    }
    let key = world.legacy.sign(&id);
    conn.say(format!("<db:result from='old.test' to='good.test'>{key}</db:result>")).await;
    conn.until("<db:result from='good.test' to='old.test' type='valid'/>").await;
    // who asks in no name, or about a key, is none of its users
    for wrong in [
        "<db:result from='foo_bar.test' to='good.test'>k</db:result>",
        "<db:result from='old.test'>k</db:result>",
        "<db:verify from='old.test' to='foo_bar.test' id='1'>k</db:verify>",
    ] {
        let (mut conn, _) = old_style(&world).await;
        conn.say(wrong).await;
        conn.ends_with("improper-addressing").await;
    }
    world.is_alive().await;
}

#[tokio::test]
async fn a_stanza_to_what_is_no_domain_is_given_back_alone() {
    let mut world = World::with(BOUNCE).await;
    let (mut conn, id) = old_style(&world).await;
    let key = world.legacy.sign(&id);
    for to in ["strasse.test", "good.test"] {
        conn.say(format!("<db:result from='old.test' to='{to}'>{key}</db:result>")).await;
        conn.until(&format!("<db:result from='{to}' to='old.test' type='valid'/>")).await;
    }
    let message = |to: &str, kind: &str| {
        format!("<message from='bob@old.test' to='{to}' id='7' type='{kind}'/>")
    };
    conn.say(message("ann@stra\u{df}e.test", "chat")).await;
    let bounce = world.legacy.arrival().await;
    let start =
        "<message from='ann@stra\u{df}e.test' to='bob@old.test' id='7' type='error'><error ";
    assert!(bounce.starts_with(start) && bounce.contains("<jid-malformed "), "{bounce}");
    // nobody to answer to, and nobody knows in whose name
    conn.say(message("ann@stra\u{df}e.test", "error") + &message("ann@foo_bar.test", "chat")).await;
    conn.say(message("ann@good.test", "chat")).await;
    assert_eq!(world.good.arrival().await, message("ann@good.test", "chat"));
    assert!(world.legacy.arrived().is_empty());
    conn.say("<message from='bob@foo_bar.test' to='ann@good.test'/>").await;
    conn.ends_with("improper-addressing").await;
    world.is_alive().await;
}

#[tokio::test]
async fn tls_and_sasl_are_not_for_the_local_listener() {
    let mut world = World::start().await;
    let (mut conn, _) = old_style(&world).await;
    conn.say(STARTTLS).await;
    assert_eq!(
        conn.rest().await,
        "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>"
    );
    let (mut conn, _) = old_style(&world).await;
    conn.say(crate::world::EXTERNAL).await;
    conn.until("</failure>").await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_peer_that_is_not_reached_is_a_dialback_error_with_the_right_condition() {
    // §12.6: what the legacy server is told that asks first
    let config = "limits: { connect: 2s, tcp_connect: 1s }
rules: [{ match: denied.test, allow: inbound, reason: 'x' }]";
    let mut world = World::with(Plan { config, ..Plan::DEFAULT }).await;
    world.dns.silence("silent.test");
    drop(world.host("gone.test").await);
    for (domain, condition) in [
        ("nowhere.test", "remote-server-not-found"),
        ("silent.test", "remote-server-timeout"),
        ("gone.test", "remote-server-timeout"),
        ("denied.test", "forbidden"),
    ] {
        let answer = world.legacy.ask(domain).await;
        assert!(answer.contains(&format!("error {condition}")), "{domain}: {answer}");
    }
    world.is_alive().await;
}

#[tokio::test]
async fn an_old_server_that_wants_its_own_pair_first_gets_through_from_both_sides_at_once() {
    // COMPAT(jabberd2), with a peer that has only dialback: neither waits for the other
    let plan = Plan { style: Style::Old, external: false, ..Plan::DEFAULT };
    let mut world = World::with(plan).await;
    let (mut inbound, mut outbound) =
        tokio::join!(world.good.open("old.test"), world.legacy.open("good.test"));
    let there = "<message from='bob@old.test' to='ann@good.test'/>";
    let back = "<message from='ann@good.test' to='bob@old.test'/>";
    tokio::join!(inbound.say(back), outbound.say(there));
    assert_eq!(world.legacy.arrival().await, back);
    assert_eq!(world.good.arrival().await, there);
    world.is_alive().await;
}

#[tokio::test]
async fn an_impostor_learns_nothing_while_the_legacy_server_is_down() {
    let config = "limits: { connect: 2s, tcp_connect: 1s }";
    let mut world = World::with(Plan { config, ..Plan::DEFAULT }).await;
    for manner in [Manner::Closes, Manner::Garbage, Manner::Mute, Manner::NoId] {
        world.legacy.behave(manner);
        let (mut conn, _) = old_style(&world).await;
        conn.say("<db:result from='old.test' to='good.test'>k</db:result>").await;
        let answer = conn.until("</db:result>").await;
        assert!(answer.contains("<remote-server-timeout "), "{manner:?}: {answer}");
        conn.say("<message from='bob@old.test' to='ann@good.test'/>").await;
        conn.ends_with("not-authorized").await;
    }
    world.legacy.behave(Manner::Honest);
    assert!(!world.dns.was_asked("good.test"));
    world.is_alive().await;
}

#[tokio::test]
async fn one_stream_is_enough_for_the_questions_of_a_crowd() {
    // XEP-0220 §2.1.2: it can reuse an existing stream
    let mut world = World::with(BOUNCE).await;
    let mut streams = Vec::new();
    for n in 0..5 {
        streams.push(world.legacy.open(&format!("p{n}.test")).await);
    }
    assert_eq!(world.legacy.headers().len(), 1, "{:?}", world.legacy.headers());
    // a key is good for its own stream and pair alone, on that stream too
    let (mut conn, _) = old_style(&world).await;
    conn.say("<db:result from='old.test' to='good.test'>guess</db:result>").await;
    assert!(conn.rest().await.contains("type='invalid'"));
    // another configuration may be about another server
    world.reload("").unwrap();
    let asked = world.legacy.headers().len();
    streams.push(world.legacy.open("p6.test").await);
    assert_eq!(world.legacy.headers().len(), asked + 1);
    world.is_alive().await;
    let World { app, .. } = world;
    soon("the end", app.shutdown()).await;
}

#[tokio::test]
async fn a_server_that_asks_for_many_pairs_at_once_is_refused_none() {
    // jabberd2 asks for all that it has something for, and closes the stream over one refusal
    let config = "limits: { pending_verifications: 4 }";
    let mut world = World::with(Plan { config, ..BOUNCE }).await;
    let (mut conn, id) = old_style(&world).await;
    let key = world.legacy.sign(&id);
    let requests: String = (0..50)
        .map(|n| format!("<db:result from='old.test' to='p{n}.test'>{key}</db:result>"))
        .collect();
    conn.say(requests).await;
    for _ in 0..50 {
        let answer = conn.until("/>").await;
        assert!(answer.contains("type='valid'"), "{answer}");
    }
    world.is_alive().await;
}

#[tokio::test]
async fn requests_that_wait_hold_up_nothing_else_on_their_stream() {
    let config = "limits: { pending_verifications: 2 }";
    let mut world = World::with(Plan { config, ..BOUNCE }).await;
    let mut stream = world.legacy.open("good.test").await;
    world.legacy.behave(Manner::Mute);
    let request = |n| format!("<db:result from='old.test' to='p{n}.test'>k</db:result>");
    let stanza = "<message from='bob@old.test' to='ann@good.test'/>";
    stream.say(&((0..5).map(request).collect::<String>() + stanza)).await;
    assert_eq!(world.good.arrival().await, stanza);
}

#[tokio::test]
async fn a_server_that_answers_one_question_only_has_a_stream_for_each() {
    for manner in [Manner::ClosesOnAnswer, Manner::MuteOnSecond, Manner::InvalidOnSecond] {
        let mut world = World::with(BOUNCE).await;
        world.legacy.behave(manner);
        let mut streams = Vec::new();
        for n in 0..3 {
            streams.push(world.legacy.open(&format!("p{n}.test")).await);
        }
        assert_eq!(world.legacy.headers().len(), 3, "{manner:?}");
        world.legacy.behave(Manner::Honest);
        world.is_alive().await;
    }
}
