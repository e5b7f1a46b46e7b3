//! Stanzas as the specifications show them, with the addresses of servers, and as hostile ones
//! write them.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::xml::{Framer, Limits, TokenKind};

/// The classes of a stanza, on a stream whose header has these declarations.
fn classes_on(declarations: &str, stanza: &str, payloads: Option<&Payloads>) -> Vec<Class> {
    let limits = Limits { header: 1 << 12, element: 1 << 20, depth: 256, attributes: 64, grace: 1 };
    let mut framer = Framer::new(limits);
    let header = format!(
        "<stream:stream xmlns='jabber:server' \
         xmlns:stream='http://etherx.jabber.org/streams'{declarations}>"
    );
    framer.next(header.as_bytes()).unwrap().unwrap();
    let header = Arc::clone(framer.header().unwrap());
    let token = framer.next(stanza.as_bytes()).unwrap().unwrap();
    assert_eq!(token.len, stanza.len(), "{stanza}");
    let TokenKind::Element(tag) = token.kind else { panic!("{stanza}") };
    let Some(carried) = Carried::by(stanza.as_bytes(), &tag) else { return Vec::new() };
    let found = carried.inside(stanza.as_bytes(), &header, payloads).unwrap();
    assert_eq!(carried.classes().common(found), carried.classes());
    Class::ALL.into_iter().filter(|class| found.contains(*class)).collect()
}

fn classes(stanza: &str) -> Vec<Class> {
    classes_on("", stanza, None)
}

fn check(table: &[(&str, &[Class])]) {
    for (stanza, expected) in table {
        let stanza = stanza.replacen(' ', " from='a@a.example/r' to='b@b.example/r' id='1' ", 1);
        assert_eq!(classes(&stanza), *expected, "{stanza}");
    }
}

const MUC: &[Class] = &[Class::Muc];
const FILES: &[Class] = &[Class::FileTransfer];
const PUBSUB: &[Class] = &[Class::Pubsub];
const NONE: &[Class] = &[];

#[test]
fn rooms() {
    check(&[
        // XEP-0045 §7.2.1, §7.2.6: joining, and with a password
        (
            "<presence ><x xmlns='http://jabber.org/protocol/muc'/></presence>",
            &[Class::Muc, Class::Presence],
        ),
        (
            "<presence ><x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='20'/>\
             <password>cauldronburn</password></x></presence>",
            &[Class::Muc, Class::Presence],
        ),
        // §7.2.2: the room tells of an occupant
        (
            "<presence ><x xmlns='http://jabber.org/protocol/muc#user'>\
             <item affiliation='member' role='participant'/><status code='110'/></x></presence>",
            &[Class::Muc, Class::Presence],
        ),
        // §7.14: leaving, and being thrown out, are never in the way
        ("<presence type='unavailable'/>", NONE),
        (
            "<presence type='unavailable'><x xmlns='http://jabber.org/protocol/muc#user'>\
             <item affiliation='none' role='none'/><status code='307'/></x></presence>",
            NONE,
        ),
        // §7.2.5: what the room refuses
        (
            "<presence type='error'><x xmlns='http://jabber.org/protocol/muc'/>\
             <error type='cancel'><conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>\
             </presence>",
            NONE,
        ),
        // §7.4, §7.5: to all, and to one
        ("<message type='groupchat'><body>Harpier cries</body></message>", MUC),
        ("<message type='groupchat'><subject>Fire Burn</subject></message>", MUC),
        (
            "<message type='chat'><body>I'll give thee a wind.</body>\
             <x xmlns='http://jabber.org/protocol/muc#user'/></message>",
            NONE,
        ),
        ("<message type='error'><x xmlns='http://jabber.org/protocol/muc#user'/></message>", NONE),
        // §7.8.2: a mediated invitation, as the room gets it and passes it on; a refusal of one
        (
            "<message ><x xmlns='http://jabber.org/protocol/muc#user'>\
             <invite to='hecate@b.example'><reason>Hey Hecate</reason></invite></x></message>",
            MUC,
        ),
        (
            "<message ><body>x</body><x xmlns='http://jabber.org/protocol/muc#user'>\
             <password>p</password><invite from='crone1@a.example/desktop'/></x></message>",
            MUC,
        ),
        (
            "<message ><x xmlns='http://jabber.org/protocol/muc#user'>\
             <decline to='crone1@b.example'><reason>Sorry</reason></decline></x></message>",
            NONE,
        ),
        // XEP-0249 §2: a direct one
        (
            "<message ><x xmlns='jabber:x:conference' jid='darkcave@a.example' \
             password='cauldronburn' reason='Hey Hecate'/></message>",
            MUC,
        ),
        // §9.1, §10.1.2, §6.7: administering, owning
        (
            "<iq type='set'><query xmlns='http://jabber.org/protocol/muc#admin'>\
             <item nick='pistol' role='none'/></query></iq>",
            MUC,
        ),
        ("<iq type='get'><query xmlns='http://jabber.org/protocol/muc#owner'/></iq>", MUC),
        ("<iq type='get'><unique xmlns='http://jabber.org/protocol/muc#unique'/></iq>", MUC),
        (
            "<iq type='result'><query xmlns='http://jabber.org/protocol/muc#admin'>\
             <item affiliation='owner' jid='x@a.example'/></query></iq>",
            NONE,
        ),
        ("<iq type='error'><query xmlns='http://jabber.org/protocol/muc#owner'/></iq>", NONE),
        // discovering is not using
        (
            "<iq type='get'><query xmlns='http://jabber.org/protocol/disco#info' \
             node='http://jabber.org/protocol/muc#rooms'/></iq>",
            NONE,
        ),
        ("<message ><x xmlns='http://jabber.org/protocol/muc'/></message>", NONE),
    ]);
}

#[test]
fn files() {
    let description = "<content creator='initiator' name='f'>\
        <description xmlns='urn:xmpp:jingle:apps:file-transfer:5'><file><name>test.txt</name></file>\
        </description><transport xmlns='urn:xmpp:jingle:transports:s5b:1' sid='v'/></content>";
    let jingle = |action: &str, inside: &str| {
        format!(
            "<iq type='set'><jingle xmlns='urn:xmpp:jingle:1' action='{action}' sid='s'>{inside}</jingle></iq>"
        )
    };
    let calls = "<content creator='initiator' name='v'>\
        <description xmlns='urn:xmpp:jingle:apps:rtp:1' media='audio'/></content>";
    check(&[
        // XEP-0234 §6; what answers and ends it
        (&jingle("session-initiate", description), FILES),
        (&jingle("content-add", description), FILES),
        (&jingle("session-accept", description), NONE),
        (&jingle("session-terminate", "<reason><success/></reason>"), NONE),
        (&jingle("session-terminate", description), NONE),
        (&jingle("transport-info", "<content creator='initiator' name='f'/>"), NONE),
        (&jingle("session-initiate", calls), NONE),
        (&jingle("session-initiate", &format!("{calls}{description}")), FILES),
        (&jingle("session-initiate", "<file xmlns='urn:xmpp:jingle:apps:file-transfer:5'/>"), NONE),
        // XEP-0353
        (
            "<message type='chat'><propose xmlns='urn:xmpp:jingle-message:0' id='a'>\
             <description xmlns='urn:xmpp:jingle:apps:file-transfer:5'/></propose></message>",
            FILES,
        ),
        (
            "<message type='chat'><propose xmlns='urn:xmpp:jingle-message:0' id='a'>\
             <description xmlns='urn:xmpp:jingle:apps:rtp:1' media='audio'/></propose></message>",
            NONE,
        ),
        ("<message ><retract xmlns='urn:xmpp:jingle-message:0' id='a'/></message>", NONE),
        // XEP-0096 §3
        (
            "<iq type='set'><si xmlns='http://jabber.org/protocol/si' id='a0' \
             mime-type='text/plain' profile='http://jabber.org/protocol/si/profile/file-transfer'>\
             <file xmlns='http://jabber.org/protocol/si/profile/file-transfer' name='t' size='1'/>\
             <feature xmlns='http://jabber.org/protocol/feature-neg'/></si></iq>",
            FILES,
        ),
        ("<iq type='result'><si xmlns='http://jabber.org/protocol/si'/></iq>", NONE),
        // XEP-0065 §4, §5.3
        (
            "<iq type='set'><query xmlns='http://jabber.org/protocol/bytestreams' sid='v'>\
             <streamhost host='192.0.2.1' jid='a@a.example/r' port='5086'/></query></iq>",
            FILES,
        ),
        ("<iq type='get'><query xmlns='http://jabber.org/protocol/bytestreams'/></iq>", FILES),
        ("<iq type='result'><query xmlns='http://jabber.org/protocol/bytestreams'/></iq>", NONE),
        // XEP-0047 §2.1 to §2.4
        (
            "<iq type='set'><open xmlns='http://jabber.org/protocol/ibb' block-size='4096' \
             sid='i' stanza='iq'/></iq>",
            FILES,
        ),
        (
            "<iq type='set'><data xmlns='http://jabber.org/protocol/ibb' seq='0' sid='i'>qANQ</data></iq>",
            FILES,
        ),
        (
            "<message ><data xmlns='http://jabber.org/protocol/ibb' seq='0' sid='i'>qANQ</data></message>",
            FILES,
        ),
        ("<iq type='set'><close xmlns='http://jabber.org/protocol/ibb' sid='i'/></iq>", NONE),
        // XEP-0363 §4, and before it had a version
        (
            "<iq type='get'><request xmlns='urn:xmpp:http:upload:0' filename='x.jpg' size='23456' \
             content-type='image/jpeg'/></iq>",
            FILES,
        ),
        (
            "<iq type='get'><request xmlns='urn:xmpp:http:upload'><filename>x</filename></request></iq>",
            FILES,
        ),
        ("<iq type='get'><request xmlns='urn:xmpp:http:uploads'/></iq>", NONE),
        ("<iq type='result'><slot xmlns='urn:xmpp:http:upload:0'/></iq>", NONE),
        // a link stays a link
        (
            "<message ><body>https://a.example/x.jpg</body>\
             <x xmlns='jabber:x:oob'><url>https://a.example/x.jpg</url></x></message>",
            NONE,
        ),
    ]);
}

#[test]
fn presence_and_subscriptions() {
    check(&[
        ("<presence />", &[Class::Presence]),
        (
            "<presence ><show>away</show><c xmlns='http://jabber.org/protocol/caps'/></presence>",
            &[Class::Presence],
        ),
        ("<presence type='unavailable'><status>gone</status></presence>", NONE),
        ("<presence type='probe'/>", NONE),
        ("<presence type='error'/>", NONE),
        ("<presence type='subscribe'/>", &[Class::Subscriptions]),
        ("<presence type='subscribed'/>", NONE),
        ("<presence type='unsubscribe'/>", NONE),
        ("<presence type='unsubscribed'/>", NONE),
        // who gets these may take them for presence
        ("<presence type=''/>", &[Class::Presence]),
        ("<presence type=' unavailable'/>", &[Class::Presence]),
        ("<presence type='available'/>", &[Class::Presence]),
        ("<presence type='sub&#115;cribe'/>", &[Class::Subscriptions]),
    ]);
}

#[test]
fn pubsub() {
    let iq = |namespace: &str, inside: &str| {
        format!(
            "<iq type='set'><pubsub xmlns='http://jabber.org/protocol/{namespace}'>{inside}</pubsub></iq>"
        )
    };
    check(&[
        // XEP-0060 §6.1, §6.2, §7.1, §8.1
        (&iq("pubsub", "<subscribe node='princely_musings' jid='f@a.example'/>"), PUBSUB),
        (&iq("pubsub", "<unsubscribe node='princely_musings' jid='f@a.example'/>"), NONE),
        (&iq("pubsub", "<publish node='princely_musings'><item/></publish>"), PUBSUB),
        (&iq("pubsub", "<unsubscribe/><publish node='princely_musings'/>"), PUBSUB),
        (&iq("pubsub", "<create/><configure/>"), PUBSUB),
        (&iq("pubsub#owner", "<delete node='princely_musings'/>"), PUBSUB),
        (
            "<iq type='result'><pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='n'/></pubsub></iq>",
            NONE,
        ),
        // §7.1.2.1, XEP-0163 §4.3
        (
            "<message type='headline'><event xmlns='http://jabber.org/protocol/pubsub#event'>\
             <items node='urn:xmpp:avatar:metadata'><item id='1'/></items></event></message>",
            PUBSUB,
        ),
        (
            "<message ><event xmlns='http://jabber.org/protocol/pubsub#event'><items node='n'/>\
             </event></message>",
            PUBSUB,
        ),
        ("<iq type='get'><query xmlns='http://jabber.org/protocol/pubsubs'/></iq>", NONE),
    ]);
}

#[test]
fn what_is_only_quoted_is_not_done() {
    let room = "<x xmlns='http://jabber.org/protocol/muc#user'><invite from='a@a.example'/></x>";
    for stanza in [
        format!(
            "<message ><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' \
             type='groupchat'>{room}</message></forwarded></message>"
        ),
        format!("<message ><y xmlns='urn:y'>{room}</y></message>"),
        "<message ><x xmlns='http://jabber.org/protocol/muc#user'><a><invite/></a></x></message>"
            .to_owned(),
        "<message ><x xmlns='http://jabber.org/protocol/muc#user'/><y xmlns='u'><invite/></y></message>"
            .to_owned(),
        "<iq type='get'><query xmlns='jabber:iq:private'><jingle xmlns='urn:xmpp:jingle:1'>\
         <description xmlns='urn:xmpp:jingle:apps:file-transfer:5'/></jingle></query></iq>"
            .to_owned(),
    ] {
        assert_eq!(classes(&stanza), NONE, "{stanza}");
    }
}

#[test]
fn no_way_to_write_a_namespace_hides_it() {
    let declared = " xmlns:f='http://jabber.org/protocol/si' xmlns:g='urn:g'";
    for stanza in [
        "<iq type='set'><f:si/></iq>",
        "<iq type='set'><g:a/><f:si/></iq>",
        "<iq type='set'><q:si xmlns:q='http://jabber.org/protocol/si'/></iq>",
        "<iq type='set' xmlns:q='http://jabber.org/protocol/si'><q:si/></iq>",
        "<iq type='set'><si xmlns='http&#x3a;//jabber&#46;org/protocol/si'/></iq>",
        "<iq type='s&#101;t'><si xmlns=\"http://jabber.org/protocol/si\"></si ></iq>",
        "<iq type='set'><g:si xmlns:g='http://jabber.org/protocol/si'/></iq>",
        "<iq><f:si/></iq>",
        "<iq type='SET'><f:si/></iq>",
        "<iq x:type='result' xmlns:x='urn:x'><f:si/></iq>",
    ] {
        assert_eq!(classes_on(declared, stanza, None), FILES, "{stanza}");
    }
    for stanza in [
        "<iq type='set'><f:si xmlns:f='urn:other'/></iq>",
        "<iq type='set'><si xmlns='HTTP://jabber.org/protocol/si'/></iq>",
        "<iq type='set'><si xmlns='http://jabber.org/protocol/si/'/></iq>",
        "<iq type='set'><si f:a='1'/></iq>",
        "<iq type='set'><a xmlns='urn:a'>http://jabber.org/protocol/si<![CDATA[<f:si/>]]></a></iq>",
        "<iq type='set'><f:si xmlns:f='urn:o'/><a xmlns='urn:a' si='http://jabber.org/protocol/si'/></iq>",
    ] {
        assert_eq!(classes_on(declared, stanza, None), NONE, "{stanza}");
    }
    // behind more elements than a tree may have
    let many = format!("<iq type='set'>{}<f:si/></iq>", "<g:a/>".repeat(5000));
    assert_eq!(classes_on(declared, &many, None), FILES);
    let deep =
        format!("<iq type='set'>{}{}<f:si/></iq>", "<g:a>".repeat(200), "</g:a>".repeat(200));
    assert_eq!(classes_on(declared, &deep, None), FILES);
}

#[test]
fn an_offer_is_none_only_by_its_own_action() {
    let offer = |attributes: &str| {
        format!(
            "<iq type='set'><jingle xmlns='urn:xmpp:jingle:1' {attributes}>\
             <description xmlns='urn:xmpp:jingle:apps:file-transfer:5'/></jingle></iq>"
        )
    };
    assert_eq!(classes(&offer("action='session-&#97;ccept'")), NONE);
    for attributes in [
        "",
        "action='session-initiate'",
        "action='Session-accept'",
        "a:action='session-accept' xmlns:a='urn:a'",
        "action='session-accept '",
    ] {
        assert_eq!(classes(&offer(attributes)), FILES, "{attributes}");
    }
}

#[test]
fn named_payloads_are_found_at_any_depth_and_never_in_answers() {
    let mut payloads = Payloads::default();
    payloads.add("urn:xmpp:jingle:*", true).unwrap();
    payloads.add("urn:secret", true).unwrap();
    let found = |stanza: &str| classes_on(" xmlns:s='urn:secret'", stanza, Some(&payloads));
    for stanza in [
        "<message><s:x/></message>",
        "<message><a xmlns='urn:a'><b><s:x/></b></a></message>",
        "<iq type='set'><jingle xmlns='urn:xmpp:jingle:1' action='session-accept'/></iq>",
        "<presence type='subscribed'><s:x/></presence>",
        "<message type='headline'><event xmlns='urn:e'><s:x/></event></message>",
    ] {
        assert_eq!(found(stanza), [Class::Payloads], "{stanza}");
    }
    for stanza in [
        "<message type='error'><s:x/></message>",
        "<iq type='result'><s:x/></iq>",
        "<presence type='unavailable'><s:x/></presence>",
        "<presence type='unsubscribed'><s:x/></presence>",
        "<message><body>urn:secret</body><x xmlns='urn:a' s:b='1'/></message>",
    ] {
        assert_eq!(found(stanza), NONE, "{stanza}");
    }
}

/// Stanzas that carry none of what classes are made of: types, names and namespaces beside them.
fn harmless() -> impl Strategy<Value = String> {
    let element = prop_oneof![
        Just("<body>hello</body>"),
        Just("<active xmlns='http://jabber.org/protocol/chatstates'/>"),
        Just("<query xmlns='jabber:iq:version'/>"),
        Just("<ping xmlns='urn:xmpp:ping'/>"),
        Just(
            "<query xmlns='http://jabber.org/protocol/disco#info' node='http://jabber.org/protocol/muc'/>"
        ),
        Just("<encrypted xmlns='eu.siacs.conversations.axolotl'><payload>si</payload></encrypted>"),
        Just("<x xmlns='jabber:x:data' type='form'><field var='muc#roomconfig'/></x>"),
        Just("<x xmlns='http://jabber.org/protocol/mucus'><invite/></x>"),
        Just("<description xmlns='urn:xmpp:jingle:apps:file-transfer:5'/>"),
        Just("<invite xmlns='urn:i'/>"),
        Just("<a xmlns=''><b/></a>"),
    ];
    let start = prop_oneof![
        Just(("message", "")),
        Just(("message", " type='chat'")),
        Just(("message", " type='normal'")),
        Just(("message", " type='headline'")),
        Just(("iq", " type='get'")),
        Just(("iq", " type='set'")),
        Just(("presence", " type='unavailable'")),
        Just(("presence", " type='unsubscribe'")),
        Just(("presence", " type='subscribed'")),
    ];
    (start, prop::collection::vec(element, 0..6)).prop_map(|((name, of_type), inside)| {
        format!("<{name}{of_type} from='a@a.example' to='b@b.example'>{}</{name}>", inside.concat())
    })
}

/// All that there is to refuse, in one element each.
fn harmful() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("<x xmlns='http://jabber.org/protocol/muc#user'><invite/></x>"),
        Just("<x xmlns='jabber:x:conference'/>"),
        Just("<si xmlns='http://jabber.org/protocol/si'/>"),
        Just(
            "<jingle xmlns='urn:xmpp:jingle:1'><description xmlns='urn:xmpp:jingle:apps:file-transfer:5'/></jingle>"
        ),
        Just("<event xmlns='http://jabber.org/protocol/pubsub#event'/>"),
        Just("<secret xmlns='urn:secret'/>"),
    ]
}

fn secret() -> Payloads {
    let mut payloads = Payloads::default();
    payloads.add("urn:secret", true).unwrap();
    payloads
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn what_carries_nothing_of_it_is_of_no_class(stanza in harmless()) {
        prop_assert_eq!(classes_on("", &stanza, Some(&secret())), NONE, "{}", stanza);
    }

    #[test]
    fn answers_are_of_no_class_whatever_they_carry(
        inside in prop::collection::vec(harmful(), 0..6),
        start in prop_oneof![
            Just(("iq", "result")),
            Just(("iq", "error")),
            Just(("message", "error")),
            Just(("presence", "error")),
            Just(("presence", "unavailable")),
        ],
    ) {
        let (name, of_type) = start;
        let stanza = format!("<{name} type='{of_type}'>{}</{name}>", inside.concat());
        prop_assert_eq!(classes_on("", &stanza, Some(&secret())), NONE, "{}", stanza);
    }
}
