//! When stream management is had, and a former stream resumed (XEP-0198; protocol SM-1, SM-2, SM-7).

use super::*;
use crate::stream::wire::{CONFIG, config};

const ENABLE: &str = "<enable xmlns='urn:xmpp:sm:3'/>";
const RESUMABLE: &str = "<enable xmlns='urn:xmpp:sm:3' resume='true'/>";
const RESUME: &str = "<resume xmlns='urn:xmpp:sm:3' previd='s' h='4'/>";
const R: &str = "<r xmlns='urn:xmpp:sm:3'/>";
const A: &str = "<a xmlns='urn:xmpp:sm:3' h='7'/>";

#[test]
fn it_is_had_after_authentication_and_once() {
    // SM-1; dialback needs no further features (SM-2)
    for (state, manages) in
        [("authorized by dialback", "manage()"), ("authorized by EXTERNAL", "manage(resumable)")]
    {
        let mut end = peer_in(state);
        assert_eq!((end.xml(R), end.xml(A)), ("-".into(), "-".into()), "{state}");
        assert_eq!(end.xml(RESUMABLE), manages, "{state}");
        assert_eq!((&*end.xml(R), &*end.xml(A)), ("ack wanted", "acknowledged(7)"), "{state}");
        for again in [ENABLE, RESUMABLE, RESUME] {
            assert_eq!(end.xml(again), "failed(unexpected-request)", "{state}");
        }
        assert!(end.machine.is_managed());
    }
    let mut end = peer_in("authorized by EXTERNAL");
    assert_eq!(end.xml(ENABLE), "manage()", "nobody asked that it can be resumed");
}

#[test]
fn who_asks_too_often_goes() {
    let mut end = peer_in("authorized by dialback");
    end.xml(ENABLE);
    let answers: Vec<_> = (0..=100).map(|_| end.xml(ENABLE)).collect();
    assert_eq!(answers[99], "failed(unexpected-request)");
    assert_eq!(answers[100], "failed(unexpected-request) !policy-violation");
}

#[test]
fn only_who_is_proven_by_sasl_resumes_a_stream() {
    //
    let mut end = peer_in("authorized by EXTERNAL");
    assert_eq!(end.xml(RESUME), "resume(s 4)");
    assert!(!end.machine.is_managed(), "nobody knows the former stream yet");
    let (peer, us) = end.machine.identity().unwrap();
    assert_eq!((peer.as_str(), us.as_str()), ("capulet.example", "montague.example"));
    end.machine.resumed();
    assert_eq!(
        (end.xml(R), end.xml(ENABLE)),
        ("ack wanted".into(), "failed(unexpected-request)".into())
    );
    let mut end = peer_in("authorized by dialback");
    assert_eq!(end.xml(RESUME), "failed(item-not-found)");
    assert!(end.machine.identity().is_none());
    assert_eq!(end.xml(ENABLE), "manage()", "a failure changes nothing");
}

#[test]
fn who_was_authorized_by_sasl_resumes_nothing_when_that_is_withdrawn() {
    // A-23, SM-7
    let both = || {
        authorized(peer_in("authorized by EXTERNAL"), "rooms.capulet.example", "montague.example")
    };
    let mut end = both();
    assert_eq!(end.xml(RESUME), "resume(s 4)");
    let by_sasl = |end: &mut Accepting| {
        let gone = end.machine.withdraw(|grant| grant.pair().sender.as_str() != "capulet.example");
        assert_eq!(gone.unwrap().len(), 1);
        assert!(end.machine.identity().is_none());
    };
    by_sasl(&mut end);
    assert_eq!(end.xml(RESUME), "failed(item-not-found)");
    let mut end = both();
    by_sasl(&mut end);
    assert_eq!(end.xml(RESUMABLE), "manage()");
}

#[test]
fn a_managed_stream_is_not_authenticated_anew() {
    let auth = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>";
    let mut end = behind_tls(true);
    end.xml("<db:result from='capulet.example' to='montague.example'>key</db:result>");
    end.confirm();
    assert_eq!(end.xml(ENABLE), "manage()");
    assert_eq!(end.xml(auth), "!policy-violation");
}

#[test]
fn numbers_that_are_none_end_the_stream() {
    //
    for h in ["-1", "4294967296", "x", ""] {
        let mut end = peer_in("authorized by EXTERNAL");
        end.xml(ENABLE);
        assert_eq!(end.xml(&format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>")), "!bad-format", "{h:?}");
    }
}

#[test]
fn a_rule_switches_it_off() {
    let off = "rules:\n  - { match: capulet.example, compat: { stream_management: off } }\n";
    let mut end = peer_in("authorized by EXTERNAL");
    end.machine.reconfigure(config(&CONFIG.replace("rules:\n", off))).unwrap();
    for element in [ENABLE, RESUMABLE, RESUME] {
        assert_eq!(end.xml(element), "failed(feature-not-implemented)");
    }
    assert!(!end.machine.is_managed());
}

#[test]
fn the_legacy_server_has_none() {
    for element in [ENABLE, RESUMABLE, RESUME, R, A] {
        assert_eq!(legacy_in("authorized").xml(element), "-");
    }
}
