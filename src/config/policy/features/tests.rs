//! What rules about features come to: merged key by key, for a direction, for some and not others.

use std::sync::Arc;

use super::*;
use crate::{
    config::{
        civil::Instant,
        load::{Origin, assemble},
        policy::{Policy, Query},
        problem::{Problems, Reports, Source},
    },
    xml::{Framer, Limits, TokenKind},
};

use Direction::{Inbound, Outbound};

const JOIN: &str = "<presence F><x xmlns='http://jabber.org/protocol/muc'/></presence>";
const OFFER: &str = "<iq F type='set'><si xmlns='http://jabber.org/protocol/si'/></iq>";
const SUBSCRIBE: &str = "<presence F type='subscribe'/>";
const ONLINE: &str = "<presence F/>";
const EVENT: &str = "<message F type='headline'>\
    <event xmlns='http://jabber.org/protocol/pubsub#event'/></message>";
const CALL: &str = "<iq F type='set'><jingle xmlns='urn:xmpp:jingle:1'/></iq>";
const CHAT: &str = "<message F><body>hello</body></message>";

/// The class for which a stanza between a local and a remote address is refused, and by which line.
fn refused(
    policy: &Policy,
    stanza: &str,
    direction: Direction,
    local: &str,
    remote: &str,
) -> Option<(Class, String)> {
    let domain = |jid: &str| Domain::parse(jid::domainpart(jid).unwrap()).unwrap();
    let (own, other) = (domain(local), domain(remote));
    let query = Query { local: Some(&own), remote: &other, direction, address: None };
    let guard = policy.decide(&query).guard(&own)?;
    let (from, to) = match direction {
        Inbound => (remote, local),
        Outbound => (local, remote),
    };
    let stanza = stanza.replacen('F', &format!("from='{from}' to='{to}' id='1'"), 1);
    let limits = Limits { header: 1 << 12, element: 1 << 16, depth: 64, attributes: 64, grace: 1 };
    let mut framer = Framer::new(limits);
    let header =
        "<s:stream xmlns='jabber:server' xmlns:s='http://etherx.jabber.org/streams' version='1.0'>";
    framer.next(header.as_bytes()).unwrap().unwrap();
    let header = Arc::clone(framer.header().unwrap());
    let token = framer.next(stanza.as_bytes()).unwrap().unwrap();
    let TokenKind::Element(tag) = token.kind else { panic!("{stanza}") };
    let refused = guard.judge(stanza.as_bytes(), &tag, &header)?;
    Some((refused.class, refused.rule.to_string()))
}

fn class(policy: &Policy, stanza: &str, direction: Direction, remote: &str) -> Option<Class> {
    refused(policy, stanza, direction, "ann@legacy.test/r", remote).map(|(class, _)| class)
}

#[test]
fn each_class_is_refused_by_its_own_switch_and_no_other() {
    let all = [
        ("muc", JOIN, Class::Muc),
        ("file_transfer", OFFER, Class::FileTransfer),
        ("subscriptions", SUBSCRIBE, Class::Subscriptions),
        ("presence", ONLINE, Class::Presence),
        ("pubsub", EVENT, Class::Pubsub),
    ];
    for (word, _, class_of_word) in all {
        let policy = policy(&format!("rules: [{{ match: '*', features: {{ {word}: deny }} }}]"));
        for (other, stanza, _) in all {
            let both = word == "presence" && other == "muc"; // to join is to be present
            let expected = (word == other || both).then_some(class_of_word);
            for direction in [Inbound, Outbound] {
                assert_eq!(
                    class(&policy, stanza, direction, "a@a.test"),
                    expected,
                    "{word} {other}"
                );
            }
        }
        assert_eq!(class(&policy, CHAT, Inbound, "a@a.test"), None);
    }
}

#[test]
fn switches_are_merged_key_by_key_by_specificity() {
    let policy = policy(
        "defaults: { features: { pubsub: deny } }\n\
         rules:\n\
         - { match: '*', features: { muc: deny, file_transfer: deny } }\n\
         - { match: '*.a.test', features: { muc: allow } }\n\
         - { match: b.a.test, features: { pubsub: allow } }\n\
         - { match: c.test, level: trusted }\n",
    );
    let row = |remote: &str| [JOIN, OFFER, EVENT].map(|s| class(&policy, s, Inbound, remote));
    let (muc, files) = (Some(Class::Muc), Some(Class::FileTransfer));
    let pubsub = Some(Class::Pubsub);
    assert_eq!(row("x@c.test"), [muc, files, pubsub]);
    assert_eq!(row("x@a.test"), [muc, files, pubsub]);
    assert_eq!(row("x@d.a.test"), [None, files, pubsub]);
    assert_eq!(row("x@b.a.test"), [None, files, None]);
    let place = |stanza| refused(&policy, stanza, Inbound, "a@legacy.test", "x@c.test").unwrap().1;
    assert_eq!((&*place(JOIN), &*place(EVENT)), ("conf.d/1.yaml:5", "conf.d/1.yaml:3"));
}

#[test]
fn a_direction_says_whose_stanzas_are_meant() {
    let policy = policy(
        "rules:\n\
         - { match: '*', direction: inbound, features: { subscriptions: deny } }\n\
         - { match: '*', direction: outbound, features: { file_transfer: deny } }\n",
    );
    let row = |direction| [SUBSCRIBE, OFFER].map(|s| class(&policy, s, direction, "x@c.test"));
    assert_eq!(row(Inbound), [Some(Class::Subscriptions), None]);
    assert_eq!(row(Outbound), [None, Some(Class::FileTransfer)]);
}

#[test]
fn a_local_domain_has_its_own_rules() {
    let policy = policy(
        "rules:\n\
         - { match: '*', features: { muc: deny } }\n\
         - { match: '*', local: rooms.legacy.test, features: { muc: allow } }\n",
    );
    let of = |local| refused(&policy, JOIN, Inbound, local, "x@c.test").is_some();
    assert!(of("ann@legacy.test") && !of("room@rooms.legacy.test/x"));
}

#[test]
fn roles_lift_what_their_own_rule_refuses_or_narrow_it() {
    let policy = policy(
        "roles:\n  staff: [ann@legacy.test, '*@rooms.legacy.test']\n  guests: guest@legacy.test\n\
         rules:\n\
         - { match: '*', features: { muc: deny, file_transfer: deny, except: staff } }\n\
         - { match: b.test, features: { muc: deny } }\n\
         - { match: c.test, features: { muc: deny, only: [guests] } }\n\
         - { match: d.test, features: { muc: deny, only: [guests, staff], except: staff } }\n",
    );
    let row = |local: &str| {
        ["x@a.test", "x@b.test", "x@c.test", "x@d.test"]
            .map(|remote| refused(&policy, JOIN, Outbound, local, remote).is_some())
    };
    assert_eq!(row("ann@legacy.test/phone"), [false, true, false, false]);
    assert_eq!(row("ANN@legacy.test"), [false, true, false, false]);
    assert_eq!(row("bob@legacy.test"), [true, true, false, false]);
    assert_eq!(row("legacy.test"), [true, true, false, false]);
    assert_eq!(row("legacy.test/ann@legacy.test"), [true, true, false, false]);
    assert_eq!(row("guest@legacy.test"), [true, true, true, true]);
    assert_eq!(row("room@rooms.legacy.test/nick"), [false, true, false, false]);
    // strangers choose how they write whom they write to
    for local in ["GUEST@legacy.test", "ｇuest@LEGACY.test", "gu\u{ad}est@legacy.test/x@y"] {
        assert!(refused(&policy, JOIN, Inbound, local, "x@c.test").is_some(), "{local}");
    }
    let files = |remote| refused(&policy, OFFER, Outbound, "bob@legacy.test", remote).is_some();
    assert!(files("x@b.test"), "the other switch of the weaker rule");
}

#[test]
fn a_stanza_of_two_classes_is_refused_if_either_is() {
    let policy = policy(
        "roles: { staff: ann@legacy.test }\n\
         rules: [{ match: '*', features: { presence: deny } },\n\
         \x20       { match: '*', local: legacy.test, features: { muc: deny, except: staff } }]\n",
    );
    let of = |local: &str| refused(&policy, JOIN, Outbound, local, "x@a.test").unwrap().0;
    assert_eq!(of("bob@legacy.test"), Class::Muc);
    assert_eq!(of("ann@legacy.test"), Class::Presence);
}

#[test]
fn payloads_are_one_key() {
    let policy = policy(
        "rules:\n\
         - { match: '*', features: { payloads: { 'urn:xmpp:jingle:*': deny, 'urn:x': deny } } }\n\
         - { match: a.test, features: { payloads: { 'urn:x': deny } } }\n\
         - { match: b.test, features: { payloads: { '*': deny, 'urn:xmpp:jingle:1': allow } } }\n",
    );
    let row = |remote: &str| [CALL, CHAT, OFFER].map(|s| class(&policy, s, Inbound, remote));
    let payloads = Some(Class::Payloads);
    assert_eq!(row("x@c.test"), [payloads, None, None]);
    assert_eq!(row("x@a.test"), [None, None, None]);
    assert_eq!(row("x@b.test"), [None, None, payloads]);
}

#[test]
fn where_nothing_is_refused_there_is_no_guard() {
    let plain = policy("rules: [{ match: a.test, level: trusted }]");
    assert!(!plain.has_features());
    let of_one = policy("rules: [{ match: a.test, features: { muc: deny } }]");
    assert!(of_one.has_features());
    let [a, b, local] = ["a.test", "b.test", "legacy.test"].map(|d| Domain::parse(d).unwrap());
    let guard = |remote| {
        let query = Query { local: Some(&local), remote, direction: Inbound, address: None };
        of_one.decide(&query).guard(&local)
    };
    assert!(guard(&a).is_some() && guard(&b).is_none());
}

#[test]
fn report_mode_only_says_so() {
    let policy = policy("mode: report\nrules: [{ match: a.test, features: { muc: deny } }]");
    let [a, local] = ["a.test", "legacy.test"].map(|d| Domain::parse(d).unwrap());
    let query = Query { local: Some(&local), remote: &a, direction: Inbound, address: None };
    let guard = policy.decide(&query).guard(&local).unwrap();
    assert!(!guard.is_enforced);
}

#[test]
fn rules_that_disagree_are_told_apart() {
    let conflict = |a: &str, b: &str| {
        let text = format!(
            "roles: {{ staff: ann@legacy.test }}\n\
             rules:\n\
             - {{ match: a.test, features: {{ {a} }} }}\n\
             - {{ match: a.test, features: {{ {b} }} }}\n"
        );
        read(&text).err().map(|problems| problems.to_string()).unwrap_or_default()
    };
    assert_eq!(conflict("muc: deny", "pubsub: deny"), "");
    assert_eq!(conflict("muc: deny", "muc: deny, pubsub: allow"), "");
    let told = conflict("muc: deny", "muc: allow");
    assert!(told.contains("both set features.muc for \"a.test\" (\"deny\" / \"allow\")"), "{told}");
    let told = conflict("muc: deny", "muc: deny, except: staff");
    assert!(told.contains("(\"deny\" / \"deny except staff\")"), "{told}");
    let told = conflict("payloads: { 'urn:a': deny }", "payloads: { 'urn:b': deny }");
    assert!(told.contains("(\"urn:a: deny\" / \"urn:b: deny\")"), "{told}");
}

fn policy(text: &str) -> Policy {
    read(text).unwrap_or_else(|problems| panic!("{problems}"))
}

fn read(text: &str) -> Result<Policy, Problems> {
    let text = format!(
        "version: 1\n\
         legacy: {{ old: {{ address: 'a:1', domains: [legacy.test, rooms.legacy.test] }} }}\n{text}\n"
    );
    let sources = [Source::new("conf.d/1.yaml", text)];
    let mut out = Reports::new(&sources);
    let config = assemble(Origin::made_up(), &sources, true, Instant::now(), &mut out);
    out.finish().map(|_| config.policy)
}
