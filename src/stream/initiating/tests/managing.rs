//! Stream management on streams of ours (XEP-0198; protocol SM-2, SM-3, SM-6).

use super::*;
use crate::stream::{Former, Resumed};

const SM: &str = "<stream:features><sm xmlns='urn:xmpp:sm:3'/></stream:features>";
const ENABLED: &str = "<enabled xmlns='urn:xmpp:sm:3'/>";
const RESUMABLE: &str = "<enabled xmlns='urn:xmpp:sm:3' id='s' resume='true' max='60'/>";
const FAILED: &str = "<failed xmlns='urn:xmpp:sm:3'/>";
const RESUMED: &str = "<resumed xmlns='urn:xmpp:sm:3' previd='s' h='4'/>";
const R: &str = "<r xmlns='urn:xmpp:sm:3'/>";
const A: &str = "<a xmlns='urn:xmpp:sm:3' h='7'/>";

fn managed() -> Setup {
    Setup { management: true, resumption: true, ..setup(Side::Peer, US, PEER, Purpose::Send) }
}

/// A stream whose peer has taken our certificate and offers what is said; what that leads to.
fn external(setup: Setup, features: &str) -> (Opening, String) {
    let mut end = behind_tls(setup);
    end.header(MODERN);
    end.xml(EXTERNAL);
    end.xml(SUCCESS);
    end.header(MODERN);
    let did = end.xml(features);
    (end, did)
}

#[test]
fn it_is_asked_for_when_the_stream_is_open_and_counts_from_there() {
    let (mut end, did) = external(managed(), SM);
    assert_eq!(did, "enable opened(external)");
    assert!(end.machine.is_managed() && end.machine.awaits_resumption());
    // the other end may ask and say at once
    assert_eq!((&*end.xml(R), &*end.xml(A)), ("ack wanted", "acknowledged(7)"));
    assert_eq!(end.xml(RESUMABLE), "managed(s 60)");
    assert!(!end.machine.awaits_resumption());
    // once
    assert_eq!(
        (end.xml(RESUMABLE), end.xml(FAILED), end.xml(RESUMED)),
        ("-".into(), "-".into(), "-".into())
    );
    assert!(end.machine.is_managed() && end.machine.resumed().is_none());
    let (mut end, _) = external(managed(), SM);
    assert_eq!(end.xml(ENABLED), "managed");
    let (mut end, _) = external(Setup { resumption: false, ..managed() }, SM);
    assert_eq!(end.xml(RESUMABLE), "managed", "that was not wanted");
}

#[test]
fn it_is_not_asked_for_where_it_is_not_offered_or_not_wanted() {
    let (end, did) = external(managed(), FEATURES);
    assert_eq!((did.as_str(), end.machine.is_managed()), ("opened(external)", false));
    let (mut end, did) = external(Setup { management: false, ..managed() }, SM);
    assert_eq!((did.as_str(), end.machine.is_managed()), ("opened(external)", false));
    for element in [ENABLED, RESUMABLE, FAILED, RESUMED, R, A] {
        assert_eq!(end.xml(element), "-", "nobody asked");
    }
}

#[test]
fn a_refusal_is_no_end() {
    let (mut end, _) = external(managed(), SM);
    assert_eq!(end.xml(FAILED), "unmanaged");
    assert!(!end.machine.is_managed() && !end.machine.awaits_resumption());
    assert_eq!((end.xml(R), end.xml(A), end.xml(ENABLED)), ("-".into(), "-".into(), "-".into()));
}

#[test]
fn behind_dialback_it_is_asked_for_by_the_features_of_before() {
    // SM-2
    let mut end = behind_tls(managed());
    end.header(MODERN);
    assert_eq!(end.xml(SM), "db:result");
    let valid = format!("<db:result from='{PEER}' to='{US}' type='valid'/>");
    assert_eq!(end.xml(&valid), "enable opened(dialback)");
    assert!(end.machine.is_managed());
    assert_eq!(end.xml(RESUMABLE), "managed", "nobody asked that it can be resumed");
}

#[test]
fn a_former_stream_is_resumed_or_a_new_one_begins() {
    let former = Some(Former { id: "s".into(), h: 9 });
    let setup = Setup { former, ..managed() };
    let (mut end, did) = external(setup.clone(), SM);
    assert_eq!(did, "resume");
    // another stream's answer is none to this wish
    let other = "<resumed xmlns='urn:xmpp:sm:3' previd='t' h='4'/>";
    assert_eq!(
        (end.xml(other), end.xml(ENABLED), end.xml(R)),
        ("-".into(), "-".into(), "-".into())
    );
    assert_eq!(end.xml(RESUMED), "opened(external)");
    assert_eq!((end.machine.resumed(), end.machine.is_managed()), (Some(Resumed::Yes(4)), true));
    assert_eq!(end.xml(A), "acknowledged(7)");
    for (failed, h) in [(FAILED, None), ("<failed xmlns='urn:xmpp:sm:3' h='3'/>", Some(3))] {
        let (mut end, _) = external(setup.clone(), SM);
        assert_eq!(end.xml(failed), "enable opened(external)");
        assert_eq!(end.machine.resumed(), Some(Resumed::No(h)));
        assert_eq!(end.xml(ENABLED), "managed");
    }
    let (end, did) = external(setup.clone(), FEATURES);
    assert_eq!(
        (did.as_str(), end.machine.resumed()),
        ("opened(external)", Some(Resumed::No(None)))
    );
    // SM-7: not behind dialback
    let mut end = behind_tls(setup);
    end.header(MODERN);
    end.xml(SM);
    let valid = format!("<db:result from='{PEER}' to='{US}' type='valid'/>");
    assert_eq!(end.xml(&valid), "enable opened(dialback)");
    assert_eq!(end.machine.resumed(), Some(Resumed::No(None)));
}

#[test]
fn numbers_that_are_none_end_the_stream() {
    //
    for element in ["<a {} h='-1'/>", "<a {}/>", "<a {} h='4294967296'/>", "<resumed {} h='0'/>"] {
        let (mut end, _) = external(managed(), SM);
        let element = element.replace("{}", "xmlns='urn:xmpp:sm:3'");
        let events = end.take(&piece(&element));
        let Some(Event::Failure(failure)) = events.last() else { panic!("{element}") };
        assert_eq!(failure.told(), Some(StreamCondition::BadFormat), "{element}");
    }
}
