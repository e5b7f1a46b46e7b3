//! When a stream that a peer opened becomes bidirectional (XEP-0288; protocol BI-1, BI-2).

use super::*;
use crate::stream::wire::{domain, pair};

const A: &str = "capulet.example";
const L: &str = "montague.example";
const BIDI: &str = "<bidi xmlns='urn:xmpp:bidi'/>";

#[test]
fn it_is_asked_for_behind_tls_before_authentication_or_never() {
    for (state, becomes) in [
        ("in the clear", false),
        ("behind TLS, proven by certificate", true),
        ("behind TLS, not proven", true),
        ("dialback pending", false),
        ("authorized by dialback", false),
        ("authorized by EXTERNAL", false),
    ] {
        let mut end = peer_in(state);
        for time in 1..=2 {
            assert_eq!(end.xml(BIDI), "-", "{state}, {time}");
            assert_eq!(end.machine.is_bidirectional(), becomes, "{state}, {time}");
        }
    }
    for state in ["before the header", "in the handshake", "judging the certificate"] {
        let mut end = peer_in(state);
        assert_eq!(end.xml(BIDI), "!not-authorized", "{state}");
        assert!(!end.machine.is_bidirectional(), "{state}");
    }
    for state in ["open", "dialback pending", "authorized"] {
        let mut end = legacy_in(state);
        assert_eq!(end.xml(BIDI), "-", "{state}");
        assert!(!end.machine.is_bidirectional(), "{state}");
    }
}

//
#[test]
fn what_was_asked_for_in_the_clear_is_forgotten() {
    let mut end = peer_in("in the clear");
    end.xml(BIDI);
    end.xml("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    end.tls(&Tls::get().with_certificate);
    end.header(PEER);
    end.confirm();
    assert!(!end.machine.is_bidirectional());
}

#[test]
fn it_lasts_over_both_ways_of_authentication() {
    let mut end = behind_tls(true);
    end.xml(BIDI);
    let auth = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>";
    assert_eq!(end.xml(auth), "success restart");
    assert!(!end.machine.is_authorized());
    end.header(PEER);
    assert!(end.machine.is_bidirectional());
    assert_eq!(end.machine.grant_of(&pair(A, L)).unwrap().proof().domain(), &domain(A));

    let mut end = behind_tls(false);
    end.xml(BIDI);
    let end = authorized(end, A, L);
    assert!(end.machine.is_bidirectional());
    assert!(end.machine.grant_of(&pair(A, L)).is_some());
}

// A-25, BI-2
#[test]
fn nothing_is_granted_by_it() {
    let mut end = behind_tls(true);
    end.xml(BIDI);
    assert!(!end.machine.is_authorized());
    assert_eq!(end.stanza(A, L), "!not-authorized");
    end.xml(&request(A, L, None, "key"));
    assert!(end.machine.grant_of(&pair(A, L)).is_none(), "not before the verdict");
    assert_eq!(end.stanza(A, L), "!not-authorized");
    end.answer_error(StanzaCondition::RemoteServerTimeout);
    assert!(end.machine.grant_of(&pair(A, L)).is_none());
    assert!(!end.machine.is_authorized());
}

// BI-3: typed dialback elements may come on such a stream
#[test]
fn answers_on_it_were_not_asked_for() {
    let mut end = behind_tls(false);
    end.xml(BIDI);
    let mut end = authorized(end, A, L);
    let rooms = "rooms.capulet.example";
    for (from, to) in [(A, L), (L, A), (rooms, L), (A, "rooms.montague.example")] {
        for answer in [
            format!("<db:result from='{from}' to='{to}' type='valid'/>"),
            format!("<db:verify from='{from}' to='{to}' id='id1' type='valid'/>"),
        ] {
            assert_eq!(end.xml(&answer), "-", "{answer}");
        }
    }
    assert_eq!(end.stanza(L, A), "!invalid-from", "it is ours to send");
    assert_eq!(end.stanza(rooms, L), "!invalid-from");
    assert_eq!(end.stanza(A, "rooms.montague.example"), "!invalid-from");
    assert_eq!(end.stanza(A, L), "admitted(capulet.example→montague.example)");
}

#[test]
fn a_withdrawn_pair_is_no_grant_any_more() {
    let mut end = behind_tls(false);
    end.xml(BIDI);
    let end = authorized(end, A, L);
    let mut end = authorized(end, "rooms.capulet.example", L);
    let deny = "rules:\n  - { match: rooms.capulet.example, allow: none }\n";
    let text = crate::stream::wire::CONFIG.replace("rules:\n", deny);
    let gone = end.machine.reconfigure(crate::stream::wire::config(&text)).unwrap();
    assert_eq!(gone, [pair("rooms.capulet.example", L)]);
    assert!(end.machine.grant_of(&gone[0]).is_none());
    assert!(end.machine.grant_of(&pair(A, L)).is_some());
}
