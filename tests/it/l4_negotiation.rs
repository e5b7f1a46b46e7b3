//! Peers that spoil the negotiation of the stream that the gate opens to them (protocol §12.4,
//! §12.6; attack rows ): they are told, nobody is sent anything in the clear, and
//! the waiting stanza goes back to its sender over a stream that the legacy server has accepted.

use tokio::task::JoinSet;

use crate::world::{
    BOUNCE, Conn, FOOTER, Host, MECHANISMS, PROCEED, Plan, Service, World, assert_error, has_xml,
    header_with, message_to,
};

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
            let _stream = world.sends(&host.domain).await;
            let mut conn = stage.reach(&host).await;
            // before the header there is no stream to end
            if polite && !matches!(stage, Stage::Connected | Stage::SecuredHeader | Stage::Success)
            {
                conn.say(FOOTER).await;
                assert_eq!(conn.rest().await, FOOTER, "{stage:?}");
            }
            drop(conn);
            world.bounced(&host.domain, "remote-server-timeout").await;
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
            let _stream = world.sends(&host.domain).await;
            let mut conn = stage.reach(&host).await;
            conn.say(&attack).await;
            let text = conn.rest().await;
            assert!(text.starts_with("<stream:error>"), "{stage:?} {attack}: {text}");
            assert_error(&text, condition);
            world.bounced(&host.domain, "remote-server-timeout").await;
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
            let _stream = world.sends(&host.domain).await;
            let mut conn = stage.reach(&host).await;
            conn.say(&header).await;
            conn.ends_with(condition).await;
            world.bounced(&host.domain, "remote-server-timeout").await;
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
        let stream = world.sends(&host.domain).await;
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
        let _stream = world.sends(&host.domain).await;
        let mut conn = host.accept().await;
        host.greet(&mut conn).await;
        conn.say("<stream:features/>").await;
        conn.until("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
        conn.say(answer).await;
        let text = conn.rest().await;
        assert!(text.starts_with("<stream:error>") && text.ends_with(FOOTER), "{text}");
        world.bounced(&host.domain, "remote-server-timeout").await;
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
        let _stream = world.sends(&host.domain).await;
        let mut conn = host.accept_starttls().await;
        conn.say(&injected).await;
        assert_eq!(conn.rest().await, "", "{injected}");
        world.bounced(&host.domain, "remote-server-timeout").await;
    }
    // in a segment of their own they meet the handshake
    let host = names.host(&world).await;
    let _stream = world.sends(&host.domain).await;
    let mut conn = host.accept_starttls().await;
    conn.say(PROCEED).await;
    conn.say(&header).await;
    let text = conn.rest_bytes().await;
    assert!(!has_xml(&text), "{text:?}");
    world.bounced(&host.domain, "remote-server-timeout").await;
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
        let _stream = world.sends(domain).await;
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
        conn.until(&message_to(domain)).await;
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
            let _stream = world.sends(&host.domain).await;
            let mut conn = stage.reach(&host).await;
            conn.say(format!(
                "<stream:error><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'>\
                 127.0.0.1:1</{condition}></stream:error></stream:stream>"
            ))
            .await;
            assert_eq!(conn.rest().await, FOOTER, "{condition}");
            world.bounced(&host.domain, bounce).await;
        }
    }
    // from before XMPP had a name
    let host = names.host(&world).await;
    let _stream = world.sends(&host.domain).await;
    let mut conn = host.accept_request().await.0;
    conn.say("<stream:error>Go away\u{7f}</stream:error>").await;
    assert_eq!(conn.rest().await, FOOTER);
    world.bounced(&host.domain, "remote-server-timeout").await;
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
        let _stream = world.sends(&host.domain).await;
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
        world.bounced(from, bounce).await;
    }
    world.is_alive().await;
}

/// Half of it is enough for what does not hang, on any machine.
const HALVED: &str = "limits: { connect: 10s, tcp_connect: 1s }";

/// A server that takes connections and then says nothing is not waited for until all time is over:
/// the domain has another one.
#[tokio::test]
async fn a_server_that_hangs_at_any_step_leaves_time_for_the_next() {
    let world = World::with(Plan { config: HALVED, ..BOUNCE }).await;
    let mut names = Names(0);
    let mut held = Vec::new();
    let mut reached = JoinSet::new();
    for stage in STAGES {
        let hung = names.host(&world).await;
        let domain = hung.domain.clone();
        let good = Host::bind(&domain, world.authority.issue(&[&domain]));
        world.dns.publish(&domain, Service::StartTls, &[hung.address, good.address]);
        held.push((world.sends(&domain).await, stage.reach(&hung).await, hung));
        reached.spawn(async move {
            good.accept_open().await.until(&message_to(&domain)).await;
        });
    }
    assert_eq!(reached.join_all().await.len(), STAGES.len());
}

/// So it is with a port for direct TLS.
#[tokio::test]
async fn a_port_for_direct_tls_that_hangs_leaves_time_for_starttls() {
    let world = World::with(Plan { config: HALVED, ..BOUNCE }).await;
    let hung = world.host("evil.test").await;
    let good = Host::bind("evil.test", world.authority.issue(&["evil.test"]));
    world.dns.publish("evil.test", Service::Direct, &[hung.address]);
    world.dns.publish("evil.test", Service::StartTls, &[good.address]);
    let _stream = world.sends("evil.test").await;
    let _held = hung.accept().await;
    good.accept_open().await.until(&message_to("evil.test")).await;
}

/// The same of a question: the key is for the domain, whichever of its servers answers.
#[tokio::test]
async fn a_dialback_question_is_asked_of_the_next_server_where_one_hangs() {
    let mut world = World::with(Plan { config: HALVED, ..BOUNCE }).await;
    let hung = world.host("evil.test").await;
    let good = Host::bind("evil.test", world.authority.issue(&["evil.test"]));
    world.dns.publish("evil.test", Service::StartTls, &[hung.address, good.address]);
    let (mut conn, _) = world.unproven("evil.test").await;
    conn.say("<db:result from='evil.test' to='old.test'>k</db:result>").await;
    let _held = hung.accept().await;
    let mut asked = good.accept_secured().await;
    good.greet(&mut asked).await;
    asked.say("<stream:features/>").await;
    asked.until("</db:verify>").await;
    world.is_alive().await;
}
