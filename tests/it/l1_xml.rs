//! Malformed, restricted and oversized XML from peers (attack rows ): at
//! each stage the error that RFC 6120 §4.9.3 names, the header before it, and the end.

use crate::world::{Conn, FOOTER, World, assert_error};

/// How far the stream has come when the attack begins.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Stage {
    Clear,
    Tls,
    Authenticated,
}

const STAGES: [Stage; 3] = [Stage::Clear, Stage::Tls, Stage::Authenticated];

impl Stage {
    /// A stream with features taken.
    async fn reach(self, world: &World) -> Conn {
        match self {
            Self::Clear => world.clear("evil.test").await,
            Self::Tls => world.proven("evil.test").await,
            Self::Authenticated => world.authenticated("evil.test").await,
        }
    }
}

fn message(children: &str) -> String {
    format!("<message from='m@evil.test' to='bob@old.test'>{children}</message>")
}

#[tokio::test]
async fn xml_that_is_not_allowed_ends_the_stream_with_the_error_that_the_rfc_names() {
    let mut world = World::start().await;
    let laughs = "<!DOCTYPE x [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;'>]>";
    let attacks: &[(&str, Vec<u8>)] = &[
        //
        ("restricted-xml", laughs.into()),
        ("restricted-xml", message("<body>&xxe;</body>").into()),
        ("restricted-xml", "<!ENTITY % p SYSTEM 'file:///etc/passwd'>".into()),
        ("restricted-xml", "<?php echo 1 ?>".into()),
        ("restricted-xml", message("<!-- c -->").into()),
        //
        ("not-well-formed", b"<message><body>\xff\xfe</body>".to_vec()),
        ("not-well-formed", b"<message><body>\xc0\xbc</body>".to_vec()),
        ("not-well-formed", b"<message><body>\xed\xa0\x80</body>".to_vec()),
        ("not-well-formed", b"<message><body>\xf4\x90\x80\x80</body>".to_vec()),
        ("not-well-formed", b"<message><body>\0</body>".to_vec()),
        ("not-well-formed", message("<body>&#0;</body>").into()),
        ("not-well-formed", message("<body>\u{fffe}</body>").into()),
        ("not-well-formed", message("<body>&#xFFFE;</body>").into()),
        //
        ("not-well-formed", message("<p:x/>").into()),
        ("not-well-formed", message("<x xmlns:p=''/>").into()),
        ("not-well-formed", message("<x xmlns:p='u' xmlns:q='u' p:a='1' q:a='2'/>").into()),
        ("not-well-formed", message("<x xmlns:xmlns='u'/>").into()),
        ("not-well-formed", message("<x a='1' a='2'/>").into()),
        ("not-well-formed", message("<a></b>").into()),
        ("not-well-formed", message("<a b=c/>").into()),
        ("not-well-formed", "<?xml version='1.0'?>".into()),
        //
        ("bad-namespace-prefix", "<x:message xmlns:x='jabber:server'/>".into()),
        ("invalid-namespace", "<message xmlns='jabber:client'/>".into()),
        // text on the stream
        ("bad-format", "hello".into()),
    ];
    for stage in STAGES {
        for (condition, attack) in attacks {
            let mut conn = stage.reach(&world).await;
            conn.say(attack).await;
            // an honest stanza behind it is lost with it
            conn.say(message("<body>behind</body>")).await;
            let text = conn.rest().await;
            let shown = String::from_utf8_lossy(attack);
            let error = format!(
                "<stream:error><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
                 </stream:error></stream:stream>"
            );
            assert_eq!(text, error, "{stage:?} {shown}");
        }
    }
    world.is_alive().await;
}

#[tokio::test]
async fn the_header_is_answered_before_the_error_about_it() {
    // ST-9, A-70, A-71, A-82: also where there is no header that could be read
    let mut world = World::start().await;
    let utf16: Vec<u8> =
        "<?xml version='1.0'?>".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let attacks: &[(&str, &[u8])] = &[
        ("unsupported-encoding", &[&[0xfe, 0xff], utf16.as_slice()].concat()),
        ("unsupported-encoding", &utf16),
        ("unsupported-encoding", b"<?xml version='1.0' encoding='iso-8859-1'?>"),
        ("bad-format", "\u{feff}<?xml version='1.0'?>".as_bytes()),
        ("restricted-xml", b"<!DOCTYPE stream [<!ENTITY x 'y'>]>"),
        ("restricted-xml", b"<!-- hello -->"),
        ("restricted-xml", b"<?xml-stylesheet href='x'?>"),
        ("not-well-formed", b"<?xml version='1.0'?><?xml version='1.0'?>"),
        ("not-well-formed", b"<stream:stream xmlns='jabber:server'>"),
        ("not-well-formed", b"<stream:stream xmlns:stream='http://etherx.jabber.org/streams' to='a\xff'>"),
        ("invalid-namespace", b"<stream:stream xmlns:stream='x' xmlns='jabber:server'>"),
        (
            "invalid-namespace",
            b"<stream:stream xmlns:stream='http://etherx.jabber.org/streams' xmlns='jabber:client'>",
        ),
        ("bad-format", b"<s:flow xmlns:s='http://etherx.jabber.org/streams' xmlns='jabber:server'>"),
        ("policy-violation", &[b"<stream:stream to='".as_slice(), &[b'x'; 20_000]].concat()),
    ];
    for secured in [false, true] {
        for (condition, attack) in attacks {
            let mut conn = if secured { world.secured(None).await } else { world.connect().await };
            conn.say(attack).await;
            let text = conn.rest().await;
            let shown = String::from_utf8_lossy(attack);
            assert!(text.starts_with("<?xml version='1.0'?><stream:stream "), "{shown}: {text}");
            assert_eq!(text.matches("<stream:stream ").count(), 1, "{shown}: {text}");
            assert_error(&text, condition);
        }
    }
    world.is_alive().await;
}

#[tokio::test]
async fn oversized_and_overly_complex_elements_are_refused_before_they_are_complete() {
    // A-76, XML-5: the defaults, so that the memory that they bound is bounded as delivered
    let mut world = World::start().await;
    let many = |n: usize| (0..n).map(|i| format!(" a{i}='{i}'")).collect::<String>();
    let big: &[(&str, String)] = &[
        ("stanza-too-big", format!("<message><body>{}", "x".repeat(600 << 10))),
        ("stanza-too-big", format!("<message a='{}", "x".repeat(600 << 10))),
        ("", "<x>".repeat(100_000)),
        ("", format!("<message{}>", many(100_000))),
        ("", format!("<message {}='1'", "n".repeat(1 << 20))),
        ("", format!("<{}", "n".repeat(1 << 20))),
        (
            "",
            message(&format!(
                "<x{}/>",
                (0..65).map(|i| format!(" xmlns:p{i}='u{i}'")).collect::<String>()
            )),
        ),
    ];
    for stage in STAGES {
        for (application, attack) in big {
            let mut conn = stage.reach(&world).await;
            conn.say(attack).await;
            let text = conn.rest().await;
            assert!(text.contains("<policy-violation "), "{stage:?} {}: {text}", &attack[..30]);
            if !application.is_empty() {
                assert!(text.contains("<stanza-too-big xmlns='urn:xmpp:errors'/>"), "{text}");
            }
        }
    }
    // before authentication much less is taken
    let small = format!("<message><body>{}", "x".repeat(17 << 10));
    for stage in [Stage::Clear, Stage::Tls] {
        let mut conn = stage.reach(&world).await;
        conn.say(&small).await;
        conn.ends_with("policy-violation").await;
    }
    let mut conn = Stage::Authenticated.reach(&world).await;
    let whole = message(&format!("<body>{}</body>", "x".repeat(500 << 10)));
    conn.say(&whole).await;
    assert_eq!(world.legacy.arrival().await, whole);
    world.is_alive().await;
}

#[tokio::test]
async fn elements_of_other_namespaces_are_never_relayed_and_not_taken_for_ever() {
    // first-level elements that are none of ours
    let mut world = World::start().await;
    for alien in [
        "<message xmlns='evil:ns' from='m@evil.test' to='bob@old.test'/>",
        "<stream:features/>",
        "<db:result from='evil.test' to='old.test' type='valid'/>",
        "<db:verify from='evil.test' to='old.test' id='1' type='valid'/>",
        "<r xmlns='urn:xmpp:sm:3'/>",
        "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
    ] {
        let mut conn = world.authenticated("evil.test").await;
        let honest = message("<body>next</body>");
        conn.say(format!("{alien}{honest}")).await;
        assert_eq!(world.legacy.arrival().await, honest, "{alien}");
        conn.say(alien.repeat(200)).await;
        conn.ends_with("policy-violation").await;
    }
    world.is_alive().await;
}

#[tokio::test]
async fn a_stream_error_from_a_peer_is_answered_with_the_end_of_the_stream() {
    // ST-16; A-75
    let mut world = World::start().await;
    for stage in STAGES {
        let mut conn = stage.reach(&world).await;
        conn.say("<stream:error>old style text</stream:error>").await;
        assert_eq!(conn.rest().await, FOOTER);
    }
    world.is_alive().await;
}

#[tokio::test]
async fn compression_is_refused_and_the_stream_goes_on() {
    //
    let mut world = World::start().await;
    for stage in STAGES {
        let mut conn = stage.reach(&world).await;
        conn.say(
            "<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>",
        )
        .await;
        conn.until("<unsupported-method/></failure>").await;
        conn.say(FOOTER).await;
        assert_eq!(conn.rest().await, FOOTER);
    }
    world.is_alive().await;
}

#[tokio::test]
async fn a_stanza_cut_off_by_the_end_of_the_connection_is_not_relayed() {
    // A-35, ST-17: neither behind a FIN alone nor behind a close_notify
    let mut world = World::start().await;
    for polite in [false, true] {
        let mut conn = world.authenticated("evil.test").await;
        let whole = message("<body>whole</body>");
        conn.say(format!("{whole}{}", whole.trim_end_matches("</message>"))).await;
        assert_eq!(world.legacy.arrival().await, whole);
        if polite {
            conn.finish().await;
        }
        drop(conn);
    }
    world.is_alive().await;
}
