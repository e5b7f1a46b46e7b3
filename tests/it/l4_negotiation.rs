//! Peers that spoil the negotiation of the stream that the gate opens to them (protocol §12.4,
//! §12.6; attack rows ): they are told, nobody is sent anything in the clear, and
//! the waiting stanza goes back to its sender over a stream that the legacy server has accepted.

use crate::world::{
    Conn, FOOTER, Host, Identity, MECHANISMS, PROCEED, Plan, Service, Stream, World, assert_error,
    header_with,
};

/// The legacy server hands its stanzas over at once, and gets them back one by one.
pub(crate) const BOUNCE: Plan = Plan {
    legacy: "    refusals: bounce",
    config: "limits: { connect: 3s, tcp_connect: 1s }",
    ..Plan::DEFAULT
};

/// The legacy server sends a message to a domain.
pub(crate) async fn sends(world: &World, domain: &str) -> Stream {
    let mut stream = world.legacy.open(domain).await;
    stream.say(&message(domain)).await;
    stream
}

fn message(domain: &str) -> String {
    format!("<message from='bob@old.test' to='m@{domain}' id='7'><body>hello</body></message>")
}

/// The message came back to the legacy server, with this condition.
pub(crate) async fn bounced(world: &mut World, domain: &str, condition: &str) {
    let bounce = world.legacy.arrival().await;
    let start = format!("<message from='m@{domain}' to='bob@old.test' id='7' type='error'><error ");
    assert!(bounce.starts_with(&start), "{bounce}");
    let condition = format!("<{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>");
    assert!(bounce.contains(&condition), "{condition}: {bounce}");
    assert!(!bounce.contains("hello"), "{bounce}");
}

/// How far the gate's stream has come; all that it said is read.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Connected,
    Header,
    StartTls,
    SecuredHeader,
    SecuredFeatures,
    Auth,
    Request,
    Success,
}

impl Stage {
    async fn reach(self, host: &Host) -> Conn {
        match self {
            Self::Connected => {
                let mut conn = host.accept().await;
                conn.until("version='1.0'>").await;
                conn
            }
            Self::Header => {
                let mut conn = host.accept().await;
                host.greet(&mut conn).await;
                conn
            }
            Self::StartTls => host.accept_starttls().await,
            Self::SecuredHeader => {
                let mut conn = host.accept_secured().await;
                conn.until("version='1.0'>").await;
                conn
            }
            Self::SecuredFeatures => {
                let mut conn = host.accept_secured().await;
                host.greet(&mut conn).await;
                conn
            }
            Self::Auth => host.accept_auth().await,
            Self::Request => host.accept_request().await.0,
            Self::Success => {
                let mut conn = host.accept_auth().await;
                conn.say("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
                conn.until("version='1.0'>").await;
                conn
            }
        }
    }
}

const STAGES: [Stage; 8] = [
    Stage::Connected,
    Stage::Header,
    Stage::StartTls,
    Stage::SecuredHeader,
    Stage::SecuredFeatures,
    Stage::Auth,
    Stage::Request,
    Stage::Success,
];

/// A fresh domain for each case: after a failure the gate leaves a peer in peace for a while.
struct Names(u32);

impl Names {
    async fn host(&mut self, world: &World) -> Host {
        self.0 += 1;
        world.host(&format!("evil{}.test", self.0)).await
    }
}

#[tokio::test]
async fn a_peer_that_closes_at_any_step_costs_the_sender_a_bounce() {
    let mut world = World::with(BOUNCE).await;
    let mut names = Names(0);
    for stage in STAGES {
        for polite in [false, true] {
            let host = names.host(&world).await;
            let _stream = sends(&world, &host.domain).await;
            let mut conn = stage.reach(&host).await;
            // before the header there is no stream to end
            if polite && !matches!(stage, Stage::Connected | Stage::SecuredHeader | Stage::Success) {
                conn.say(FOOTER).await;
                assert_eq!(conn.rest().await, FOOTER, "{stage:?}");
            }
            drop(conn);
            bounced(&mut world, &host.domain, "remote-server-timeout").await;
        }
    }
    world.is_alive().await;
}

#[tokio::test]
async fn xml_that_is_not_allowed_is_answered_with_the_error_that_the_rfc_names() {
    // from the server that we connect to
    let mut world = World::with(BOUNCE).await;
    let mut names = Names(0);
    for stage in STAGES {
        for (condition, attack) in [
            ("not-well-formed", "<a b=c/>".to_owned()),
            ("restricted-xml", "<!DOCTYPE x>".to_owned()),
            ("not-well-formed", "<a b='\u{1}'".to_owned()),
            ("policy-violation", format!("<x a='{}", "x".repeat(17 << 10))),
        ] {
            let host = names.host(&world).await;
            let _stream = sends(&world, &host.domain).await;
            let mut conn = stage.reach(&host).await;
            conn.say(&attack).await;
            let text = conn.rest().await;
            assert!(text.starts_with("<stream:error>"), "{stage:?} {attack}: {text}");
            assert_error(&text, condition);
            bounced(&mut world, &host.domain, "remote-server-timeout").await;
        }
    }
    world.is_alive().await;
}

#[tokio::test]
async fn headers_that_open_no_stream_are_refused() {
    let mut world = World::with(BOUNCE).await;
    let mut names = Names(0);
    for (condition, header) in [
        ("bad-format", header_with("from='x.test' to='old.test' version='1.0'")), // no id
        ("bad-format", header_with("id='' version='1.0'")),
        ("unsupported-version", header_with("id='1'")), // ST-4, ST-5
        ("unsupported-version", header_with("id='1' version='0.9'")),
        (
            "invalid-namespace",
            header_with("id='1' version='1.0'").replace("jabber:server'", "jabber:client'"),
        ),
        ("bad-format", "HTTP/1.1 400 Bad Request\r\n\r\n".into()),
        ("policy-violation", header_with(&format!("id='{}'", "i".repeat(20_000)))),
    ] {
        for stage in [Stage::Connected, Stage::SecuredHeader, Stage::Success] {
            // before TLS the version decides; after it TLS is up already
            let host = names.host(&world).await;
            let _stream = sends(&world, &host.domain).await;
            let mut conn = stage.reach(&host).await;
            conn.say(&header).await;
            conn.ends_with(condition).await;
            bounced(&mut world, &host.domain, "remote-server-timeout").await;
        }
    }
    world.is_alive().await;
}

#[tokio::test]
async fn a_peer_that_never_answers_costs_the_sender_a_bounce_in_time() {
    // at every stage, also with features that have no end
    let mut world = World::with(BOUNCE).await;
    let mut names = Names(0);
    let mut waiting = Vec::new();
    for stage in STAGES {
        let host = names.host(&world).await;
        let stream = sends(&world, &host.domain).await;
        let mut conn = stage.reach(&host).await;
        if matches!(stage, Stage::Header | Stage::SecuredFeatures) {
            conn.say("<stream:features><x>").await;
        }
        waiting.push((stream, host, conn));
    }
    let mut pending: Vec<String> = waiting.iter().map(|(_, host, _)| host.domain.clone()).collect();
    while !pending.is_empty() {
        let bounce = world.legacy.arrival().await;
        assert!(bounce.contains("<remote-server-timeout "), "{bounce}");
        pending.retain(|domain| !bounce.contains(&format!("'m@{domain}'")));
    }
    for (_, _, mut conn) in waiting {
        conn.ends_with("connection-timeout").await;
    }
    world.is_alive().await;
}

#[tokio::test]
async fn tls_is_asked_for_whatever_is_offered_and_nothing_goes_without_it() {
    // TLS-1
    let mut world = World::with(BOUNCE).await;
    let mut names = Names(0);
    for answer in ["<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", MECHANISMS] {
        let host = names.host(&world).await;
        let _stream = sends(&world, &host.domain).await;
        let mut conn = host.accept().await;
        host.greet(&mut conn).await;
        conn.say("<stream:features/>").await;
        conn.until("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
        conn.say(answer).await;
        let text = conn.rest().await;
        assert!(text.starts_with("<stream:error>") && text.ends_with(FOOTER), "{text}");
        bounced(&mut world, &host.domain, "remote-server-timeout").await;
    }
    world.is_alive().await;
}

#[tokio::test]
async fn bytes_behind_proceed_are_never_taken_for_what_comes_after_it() {
    //
    let mut world = World::with(BOUNCE).await;
    let mut names = Names(0);
    let header = header_with("id='1' version='1.0'");
    for injected in [
        format!("{PROCEED}{header}<stream:features/>"),
        format!("{PROCEED} "),
        format!("{PROCEED}<db:result from='evil.test' to='old.test' type='valid'/>"),
    ] {
        let host = names.host(&world).await;
        let _stream = sends(&world, &host.domain).await;
        let mut conn = host.accept_starttls().await;
        conn.say(&injected).await;
        assert_eq!(conn.rest().await, "", "{injected}");
        bounced(&mut world, &host.domain, "remote-server-timeout").await;
    }
    // in a segment of their own they meet the handshake
    let host = names.host(&world).await;
    let _stream = sends(&world, &host.domain).await;
    let mut conn = host.accept_starttls().await;
    conn.say(PROCEED).await;
    conn.say(&header).await;
    let text = conn.rest_bytes().await;
    assert!(!text.contains(&b'<'), "{text:?}");
    bounced(&mut world, &host.domain, "remote-server-timeout").await;
    world.is_alive().await;
}

#[tokio::test]
async fn what_is_injected_before_tls_counts_for_nothing_after_it() {
    // a valid, a success and features that promise everything, all in the clear
    let mut world = World::with(BOUNCE).await;
    for (domain, injected) in [
        ("a.test", "<db:result from='a.test' to='old.test' type='valid'/>"),
        ("b.test", "<message from='m@b.test' to='bob@old.test'/>"),
    ] {
        let host = world.host(domain).await;
        let _stream = sends(&world, domain).await;
        let mut conn = host.accept().await;
        host.greet(&mut conn).await;
        conn.say(format!("{injected}{MECHANISMS}")).await;
        conn.until("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
        conn.say(PROCEED).await;
        conn.accept_tls(host.identity.server()).await.unwrap();
        host.greet(&mut conn).await;
        conn.say("<stream:features/>").await;
        let said = conn.until("</db:result>").await; // no EXTERNAL, no stanza: it asks afresh
        assert!(!said.contains("<auth") && !said.contains("<message"), "{said}");
        conn.say(format!("<db:result from='{domain}' to='old.test' type='valid'/>")).await;
        conn.until(&message(domain)).await;
        conn.say(FOOTER).await;
        assert_eq!(conn.rest().await, FOOTER);
    }
    world.is_alive().await;
}

#[tokio::test]
async fn a_stream_error_from_the_peer_becomes_the_right_stanza_error() {
    // §12.6, and ST-16: the answer is the end of our stream
    let mut world = World::with(BOUNCE).await;
    let mut names = Names(0);
    for (condition, bounce) in [
        ("host-unknown", "remote-server-not-found"),
        ("host-gone", "remote-server-not-found"),
        ("policy-violation", "remote-server-timeout"),
        ("not-authorized", "remote-server-timeout"),
        ("conflict", "remote-server-timeout"),
        ("internal-server-error", "remote-server-timeout"),
        ("resource-constraint", "remote-server-timeout"),
        ("system-shutdown", "remote-server-timeout"),
        ("see-other-host", "remote-server-timeout"), // not followed
        ("xml-not-well-formed", "remote-server-timeout"),
        ("no-such-condition", "remote-server-timeout"),
    ] {
        for stage in [Stage::Header, Stage::SecuredFeatures, Stage::Request] {
            let host = names.host(&world).await;
            let _stream = sends(&world, &host.domain).await;
            let mut conn = stage.reach(&host).await;
            conn.say(format!(
                "<stream:error><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'>\
                 127.0.0.1:1</{condition}></stream:error></stream:stream>"
            ))
            .await;
            assert_eq!(conn.rest().await, FOOTER, "{condition}");
            bounced(&mut world, &host.domain, bounce).await;
        }
    }
    // from before XMPP had a name
    let host = names.host(&world).await;
    let _stream = sends(&world, &host.domain).await;
    let mut conn = host.accept_request().await.0;
    conn.say("<stream:error>Go away\u{7f}</stream:error>").await;
    assert_eq!(conn.rest().await, FOOTER);
    bounced(&mut world, &host.domain, "remote-server-timeout").await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_refused_dialback_request_becomes_the_right_stanza_error() {
    // DB-6, DB-8
    let mut world = World::with(BOUNCE).await;
    let mut names = Names(0);
    for (answer, bounce) in [
        ("invalid", "internal-server-error"),
        ("item-not-found", "remote-server-not-found"),
        ("remote-server-not-found", "remote-server-not-found"),
        ("forbidden", "remote-server-timeout"),
        ("not-allowed", "remote-server-timeout"),
        ("no-such-condition", "remote-server-timeout"),
    ] {
        let host = names.host(&world).await;
        let _stream = sends(&world, &host.domain).await;
        let (mut conn, _) = host.accept_request().await;
        let from = &host.domain;
        conn.say(if answer == "invalid" {
            format!("<db:result from='{from}' to='old.test' type='invalid'/>")
        } else {
            format!(
                "<db:result from='{from}' to='old.test' type='error'><error type='cancel'><{answer} \
                 xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></db:result>"
            )
        })
        .await;
        assert_eq!(conn.rest().await, FOOTER, "{answer}");
        bounced(&mut world, from, bounce).await;
    }
    world.is_alive().await;
}

#[tokio::test]
async fn a_refused_certificate_leaves_dialback_on_the_same_stream() {
    // EX-9
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    let _stream = sends(&world, "evil.test").await;
    let mut conn = host.accept_auth().await;
    conn.say("<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>").await;
    let request = conn.until("</db:result>").await;
    assert!(request.contains("<db:result from='old.test' to='evil.test'>"), "{request}");
    conn.say("<db:result from='evil.test' to='old.test' type='valid'/>").await;
    conn.until(&message("evil.test")).await;
    world.is_alive().await;
}

#[tokio::test]
async fn answers_to_another_question_open_nothing() {
    // A-6, DB-5: on the right stream, with other names, swapped, or of the other kind
    let mut world = World::with(BOUNCE).await;
    let host = world.host("evil.test").await;
    let _stream = sends(&world, "evil.test").await;
    let (mut conn, _) = host.accept_request().await;
    for wrong in [
        "<db:result from='old.test' to='evil.test' type='valid'/>",
        "<db:result from='good.test' to='old.test' type='valid'/>",
        "<db:result from='evil.test' to='rooms.old.test' type='valid'/>",
        "<db:verify from='evil.test' to='old.test' id='i1' type='valid'/>",
        "<db:result from='evil.test' to='old.test'>k</db:result>",
        "<db:result from='evil.test' to='old.test' type='maybe'/>",
    ] {
        conn.say(wrong).await;
    }
    conn.say("<db:result from='evil.test' to='old.test' type='invalid'/>").await;
    assert_eq!(conn.rest().await, FOOTER);
    bounced(&mut world, "evil.test", "internal-server-error").await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_certificate_for_another_name_is_never_authenticated_to() {
    // EX-7, A-41
    let mut world = World::with(BOUNCE).await;
    let mut host = world.host("evil.test").await;
    host.identity = world.authority.issue(&["other.test"]);
    let _stream = sends(&world, "evil.test").await;
    let mut conn = host.accept_secured().await;
    host.greet(&mut conn).await;
    conn.say(MECHANISMS).await;
    let said = conn.until("</db:result>").await;
    assert!(!said.contains("<auth"), "{said}");
    drop(conn);
    bounced(&mut world, "evil.test", "remote-server-timeout").await;
    world.is_alive().await;
}

#[tokio::test]
async fn where_trust_is_asked_for_a_certificate_for_another_name_ends_it() {
    let config = "limits: { connect: 3s, tcp_connect: 1s }
rules: [{ match: '*.evil.test', level: trusted }]";
    let mut world = World::with(Plan { config, ..BOUNCE }).await;
    for (domain, identity) in [
        ("a.evil.test", world.authority.issue(&["b.evil.test"])),
        ("c.evil.test", Identity::self_signed("c.evil.test")),
    ] {
        let mut host = world.host(domain).await;
        host.identity = identity;
        let _stream = sends(&world, domain).await;
        let mut conn = host.accept_secured().await;
        conn.ends_silently().await;
        bounced(&mut world, domain, "remote-server-timeout").await;
    }
    world.is_alive().await;
}

#[tokio::test]
async fn the_next_server_of_a_domain_is_tried_when_one_is_of_no_use() {
    let mut world = World::with(BOUNCE).await;
    let identity = world.authority.issue(&["evil.test"]);
    let bad = Host::bind("evil.test", identity.clone()).await;
    let good = Host::bind("evil.test", identity).await;
    world.dns.publish("evil.test", Service::StartTls, &[bad.address, good.address]);
    let _stream = sends(&world, "evil.test").await;
    let mut conn = bad.accept().await;
    conn.say("</stream:stream>").await;
    conn.rest().await;
    let mut conn = good.accept_open().await;
    conn.until(&message("evil.test")).await;
    world.is_alive().await;
}

#[tokio::test]
async fn nobody_is_dialled_at_an_address_that_is_guarded() {
    //
    let config = "limits: { connect: 3s, tcp_connect: 1s }
rules: [{ address: 127.0.0.66, allow: none }]";
    let mut world = World::with(Plan { config, ..BOUNCE }).await;
    world.dns.publish("evil.test", Service::StartTls, &["127.0.0.66:1".parse().unwrap()]);
    let _stream = sends(&world, "evil.test").await;
    bounced(&mut world, "evil.test", "forbidden").await;
    world.is_alive().await;
}
