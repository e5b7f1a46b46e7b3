//! Stanzas that rules refuse for what they carry, on all streams on which stanzas come: what is
//! refused is not forwarded, its sender gets one error, and all else goes on in order.

use crate::world::{BOUNCE, Conn, Plan, World, attribute, features, message_to};

const DENY: &str = "rules: [{ match: '*', features: { muc: deny, file_transfer: deny, \
    subscriptions: deny, pubsub: deny, payloads: { 'urn:secret:*': deny } } }]";

const JOIN: &str = "<x xmlns='http://jabber.org/protocol/muc'/>";
const OFFER: &str = "<si xmlns='http://jabber.org/protocol/si'/>";
const EVENT: &str = "<event xmlns='http://jabber.org/protocol/pubsub#event'/>";
const INVITE: &str =
    "<x xmlns='http://jabber.org/protocol/muc#user'><invite to='x@third.test'/></x>";

fn stanza(name: &str, from: &str, to: &str, id: u32, more: &str, inside: &str) -> String {
    format!("<{name} from='{from}' to='{to}' id='{id}'{more}>{inside}</{name}>")
}

/// What is sent, and the condition and text of the error that comes back for it; with none it is
/// to arrive, unless it is `dropped`.
struct Sent {
    text: String,
    error: Option<(&'static str, &'static str)>,
    dropped: bool,
}

/// Stanzas of all kinds, one behind the other.
fn all(from: &str, to: &str) -> Vec<Sent> {
    let mut id = 0;
    let mut sent = |name, more, inside, error| {
        id += 1;
        Sent { text: stanza(name, from, to, id, more, inside), error, dropped: false }
    };
    let rooms = Some(("policy-violation", "group chat is not allowed here"));
    let files = Some(("service-unavailable", "file transfer is not allowed here"));
    let events = ("policy-violation", "publish-subscribe is not allowed here");
    let subscriptions = ("policy-violation", "presence subscriptions are not allowed here");
    let named = ("policy-violation", "this use is not allowed here");
    let chat = "<body>hello</body>";
    vec![
        sent("message", "", chat, None),
        sent("message", " type='chat'", chat, None),
        sent("presence", "", JOIN, rooms),
        sent("presence", "", "", None),
        sent("message", " type='groupchat'", chat, rooms),
        sent("message", "", INVITE, rooms),
        sent("message", "", chat, None),
        sent("iq", " type='set'", OFFER, files),
        sent("iq", " type='result'", OFFER, None),
        sent("iq", " type='error'", OFFER, None),
        sent("message", " type='error'", INVITE, None),
        sent("presence", " type='unavailable'", JOIN, None),
        Sent { dropped: true, ..sent("message", " type='headline'", EVENT, None) },
        sent("message", "", EVENT, Some(events)),
        sent("presence", " type='subscribe'", "", Some(subscriptions)),
        sent("presence", " type='unsubscribed'", "", None),
        sent("message", "", "<a xmlns='urn:a'><b xmlns='urn:secret:1'/></a>", Some(named)),
        sent("message", "", "<a xmlns='urn:secret'/>", None),
        sent("iq", " type='get'", "<ping xmlns='urn:xmpp:ping'/>", None),
    ]
}

/// The errors that come back, in order and as they are.
fn errors(all: &[Sent]) -> Vec<String> {
    let refused = all.iter().filter_map(|sent| Some((&sent.text, sent.error?)));
    let error = |(text, (condition, words)): (&String, (&str, &str))| {
        let name = text[1..].split(' ').next().unwrap();
        let [from, to, id] = ["from", "to", "id"].map(|name| attribute(text, name));
        let kind = if condition == "service-unavailable" { "cancel" } else { "modify" };
        let ns = "xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'";
        format!(
            "<{name} from='{to}' to='{from}' id='{id}' type='error'><error type='{kind}'>\
             <{condition} {ns}/><text {ns} xml:lang='en'>{words}</text></error></{name}>"
        )
    };
    refused.map(error).collect()
}

fn arriving(all: &[Sent]) -> Vec<&str> {
    let arrives = |sent: &&Sent| sent.error.is_none() && !sent.dropped;
    all.iter().filter(arrives).map(|sent| &*sent.text).collect()
}

fn bytes(all: &[Sent]) -> String {
    all.iter().map(|sent| &*sent.text).collect()
}

#[tokio::test]
async fn what_a_peer_may_not_send_comes_back_to_it_and_all_else_arrives_in_order() {
    let mut world = World::with(Plan { config: DENY, ..Plan::DEFAULT }).await;
    let all = all("ann@good.test/x", "bob@old.test");
    let mut stream = world.good.open("old.test").await;
    stream.say(&bytes(&all)).await;
    for expected in arriving(&all) {
        assert_eq!(world.legacy.arrival().await, expected);
    }
    for expected in errors(&all) {
        assert_eq!(world.good.arrival().await, expected);
    }
    // nothing else came
    world.is_alive().await;
}

#[tokio::test]
async fn what_the_legacy_server_may_not_send_comes_back_to_it_and_all_else_arrives_in_order() {
    let mut world = World::with(Plan { config: DENY, ..Plan::DEFAULT }).await;
    let all = all("bob@old.test/x", "ann@good.test");
    let mut stream = world.legacy.open("good.test").await;
    // stanza by stanza too
    for sent in &all {
        stream.say(&sent.text).await;
    }
    for expected in arriving(&all) {
        assert_eq!(world.good.arrival().await, expected);
    }
    for expected in errors(&all) {
        assert_eq!(world.legacy.arrival().await, expected);
    }
    world.is_alive().await;
}

/// Says everything on a stream that carries both directions; the errors come back on it.
async fn both_ways(world: &mut World, conn: &mut Conn) {
    let all = all("m@evil.test/x", "bob@old.test");
    conn.say(bytes(&all)).await;
    for expected in arriving(&all) {
        assert_eq!(world.legacy.arrival().await, expected);
    }
    let errors = errors(&all);
    let came = conn.until(errors.last().unwrap()).await;
    assert_eq!(came, errors.concat());
    let chat = stanza("message", "m@evil.test/x", "bob@old.test", 99, "", "");
    conn.say(&chat).await;
    assert_eq!(world.legacy.arrival().await, chat);
}

#[tokio::test]
async fn on_a_bidirectional_stream_of_a_peer_errors_go_back_on_it() {
    let mut world = World::with(Plan { config: DENY, ..Plan::DEFAULT }).await;
    let mut conn = world.authenticated_both_ways("evil.test").await;
    both_ways(&mut world, &mut conn).await;
    world.is_alive().await;
}

#[tokio::test]
async fn on_a_bidirectional_stream_of_ours_a_peer_may_not_send_more() {
    let mut world = World::with(Plan { config: DENY, ..BOUNCE }).await;
    let host = world.host("evil.test").await;
    let _stream = world.sends("evil.test").await;
    let (mut conn, said) = host.accept_with(&features(true, true)).await;
    assert!(said.starts_with("<bidi "), "{said}");
    conn.until(&message_to("evil.test")).await;
    both_ways(&mut world, &mut conn).await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_reload_switches_it_on_open_streams() {
    let mut world = World::with(BOUNCE).await;
    let mut stream = world.good.open("old.test").await;
    let join = stanza("presence", "ann@good.test/x", "bob@old.test", 1, "", JOIN);
    let one_way = "rules: [{ match: good.test, direction: outbound, features: { muc: deny } }]";
    let report = format!("mode: report\n{DENY}");
    for (rules, refused) in [
        ("", false),
        (DENY, true),
        (one_way, false),
        ("rules: [{ match: other.test, features: { muc: deny } }]", false),
        ("defaults: { features: { muc: deny } }", true),
        (&report, false),
        ("", false),
    ] {
        world.reload(rules).unwrap();
        // by the end of this every stream has heard of it
        world.is_alive().await;
        stream.say(&join).await;
        if refused {
            let error = world.good.arrival().await;
            assert!(error.contains("<policy-violation "), "{rules}: {error}");
        } else {
            assert_eq!(world.legacy.arrival().await, join, "{rules}");
        }
    }
    world.is_alive().await;
}

#[tokio::test]
async fn roles_say_for_whom_a_rule_holds() {
    const ROLES: &str = "roles: { staff: [bob@old.test], guests: [guest@old.test] }\n\
        rules:\n\
        - { match: '*', features: { muc: deny, except: staff } }\n\
        - { match: '*', direction: inbound, features: { file_transfer: deny, only: guests } }\n";
    let mut world = World::with(Plan { config: ROLES, ..Plan::DEFAULT }).await;
    let mut inbound = world.good.open("old.test").await;
    let mut outbound = world.legacy.open("good.test").await;
    let ann = "ann@good.test/x";
    for (local, may_join) in
        [("bob@old.test/x", true), ("eve@old.test", false), ("old.test", false)]
    {
        let there = stanza("presence", local, ann, 1, "", JOIN);
        let back = stanza("presence", ann, local, 2, "", JOIN);
        outbound.say(&there).await;
        inbound.say(&back).await;
        let came = [world.good.arrival().await, world.legacy.arrival().await];
        if may_join {
            assert_eq!(came, [there, back]);
        } else {
            // to each the error for what it sent
            assert!(came.iter().all(|text| text.contains("<policy-violation ")), "{came:?}");
        }
    }
    // however a stranger writes it
    for (local, is_guest) in
        [("GUEST@old.test", true), ("ｇuest@old.test", true), ("eve@old.test", false)]
    {
        let offer = stanza("iq", ann, local, 3, " type='set'", OFFER);
        inbound.say(&offer).await;
        if is_guest {
            assert!(world.good.arrival().await.contains("<service-unavailable "));
        } else {
            assert_eq!(world.legacy.arrival().await, offer);
        }
    }
    world.is_alive().await;
}
