//! Everything written is read back by the framer and the tree.

use super::*;
use crate::xml::{
    DefaultNamespace, ElementName, TokenKind,
    element::Element,
    framer::tests::{LIMITS, run},
};

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

/// Reads an element of ours back, as a peer would.
fn read(write: impl FnOnce(&mut Vec<u8>)) -> (ElementName, Element) {
    let xml = written(write);
    let mut text = Vec::new();
    StreamHeader::default().write(&mut text);
    text.extend_from_slice(xml.as_bytes());
    let (tokens, fault) = run(LIMITS, &text, []);
    assert_eq!(fault, None, "{xml}");
    let [_, (TokenKind::Header(header), _), (TokenKind::Element(tag), bytes)] = &tokens[..] else {
        panic!("{xml}: {tokens:?}")
    };
    (tag.name, Element::parse(bytes, header).unwrap())
}

#[test]
fn a_header_is_read_back_as_written() {
    let header = StreamHeader {
        to: Some("bücher.example"),
        from: Some("a'b"),
        id: Some("0123"),
        version: Some(Version::V1_0),
        lang: Some("en"),
    };
    let text = written(|out| header.write(out)) + FOOTER;
    let (tokens, fault) = run(LIMITS, text.as_bytes(), []);
    assert_eq!(fault, None);
    let [(TokenKind::Declaration, _), (TokenKind::Header(read), _), (TokenKind::Footer, _)] =
        &tokens[..]
    else {
        panic!("{tokens:?}")
    };
    assert_eq!(read.to.as_deref(), header.to);
    assert_eq!(read.from.as_deref(), header.from);
    assert_eq!(read.id.as_deref(), header.id);
    assert_eq!(read.lang.as_deref(), header.lang);
    assert_eq!(read.version, header.version);
    assert_eq!(read.default_namespace, DefaultNamespace::Server);
    assert_eq!(read.dialback_prefix(), Some("db"));
    assert_eq!((read.prefixes.len(), read.foreign), (2, 0));
}

#[test]
fn a_bare_header_still_declares_dialback() {
    assert_eq!(
        written(|out| StreamHeader::default().write(out)),
        "<?xml version='1.0'?><stream:stream xmlns='jabber:server' \
         xmlns:stream='http://etherx.jabber.org/streams' xmlns:db='jabber:server:dialback'>"
    );
}

#[test]
fn stream_errors_have_condition_text_and_application_condition() {
    assert_eq!(
        written(|out| stream_error(out, StreamCondition::HostUnknown, None, None)),
        "<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"
    );
    let (name, error) = read(|out| {
        stream_error(
            out,
            StreamCondition::PolicyViolation,
            Some("a<b"),
            Some(Application::Named("stanza-too-big")),
        );
    });
    assert_eq!(name, ElementName::StreamError);
    assert!(error.child(ns::STREAM_ERRORS, "policy-violation").is_some());
    assert_eq!(error.child(ns::STREAM_ERRORS, "text").unwrap().text(), "a<b");
    assert!(error.child(ns::APP_ERRORS, "stanza-too-big").is_some());
}

#[test]
fn dialback_elements_are_those_of_xep_0220() {
    assert_eq!(
        written(|out| dialback_result(out, "a.example", "b.example", "k<y")),
        "<db:result from='a.example' to='b.example'>k&lt;y</db:result>"
    );
    assert_eq!(
        written(|out| dialback_result_answer(out, "b", "a", DialbackAnswer::Valid)),
        "<db:result from='b' to='a' type='valid'/>"
    );
    assert_eq!(
        written(|out| dialback_verify(out, "b", "a", "i'd", "key")),
        "<db:verify from='b' to='a' id='i&apos;d'>key</db:verify>"
    );
    assert_eq!(
        written(|out| dialback_verify_answer(out, "a", "b", "id", DialbackAnswer::Invalid)),
        "<db:verify from='a' to='b' id='id' type='invalid'/>"
    );
    let answer = DialbackAnswer::Error(StanzaCondition::ItemNotFound, Some("why"));
    let (name, result) = read(|out| dialback_result_answer(out, "b", "a", answer));
    assert_eq!(name, ElementName::DbResult);
    assert_eq!(result.attr("type"), Some("error"));
    let error = result.child(ns::SERVER, "error").unwrap();
    assert_eq!(error.attr("type"), Some("cancel"));
    assert!(error.child(ns::STANZA_ERRORS, "item-not-found").is_some());
    assert_eq!(error.child(ns::STANZA_ERRORS, "text").unwrap().text(), "why");
}

#[test]
fn negotiation_elements_are_recognised() {
    use ElementName as E;
    type Write = fn(&mut Vec<u8>);
    let cases: [(Write, E); 16] = [
        (starttls, E::StartTls),
        (tls_proceed, E::TlsProceed),
        (tls_failure, E::TlsFailure),
        (|out| sasl_auth_external(out, "="), E::SaslAuth),
        (sasl_challenge, E::SaslChallenge),
        (|out| sasl_response(out, ""), E::SaslResponse),
        (sasl_success, E::SaslSuccess),
        (|out| sasl_failure(out, "not-authorized"), E::SaslFailure),
        (compress_failure, E::Other),
        (|out| sm_enable(out, true), E::SmEnable),
        (|out| sm_enabled(out, Some(("a&b", 9))), E::SmEnabled),
        (|out| sm_failed(out, "item-not-found"), E::SmFailed),
        (|out| sm_resume(out, "a", u32::MAX), E::SmResume),
        (|out| sm_resumed(out, "a", 0), E::SmResumed),
        (sm_request, E::SmRequest),
        (|out| sm_answer(out, 1), E::SmAnswer),
    ];
    for (write, name) in cases {
        assert_eq!(read(write).0, name);
    }
    assert!(read(|out| sasl_failure(out, "aborted")).1.child(ns::SASL, "aborted").is_some());
    let auth = read(|out| sasl_auth_external(out, "YQ==")).1;
    assert_eq!((auth.attr("mechanism"), auth.text()), (Some("EXTERNAL"), "YQ=="));
}

#[test]
fn features_hold_what_is_offered_and_nothing_else() {
    let (name, none) = read(|out| features(out, &Features::default()));
    assert_eq!(name, ElementName::StreamFeatures);
    assert!(none.children().is_empty());

    let limits = StreamLimits { max_bytes: Some(262_144), idle_seconds: None };
    let all = Features {
        tls_optional: false,
        starttls: true,
        external: true,
        dialback: true,
        bidi: true,
        sm: true,
        limits: Some(limits),
    };
    let (_, all) = read(|out| features(out, &all));
    assert!(all.child(ns::TLS, "starttls").unwrap().child(ns::TLS, "required").is_some());
    let mechanisms = all.child(ns::SASL, "mechanisms").unwrap();
    assert_eq!(mechanisms.child(ns::SASL, "mechanism").unwrap().text(), "EXTERNAL");
    let dialback = all.child(ns::DIALBACK_FEATURE, "dialback").unwrap();
    assert!(dialback.child(ns::DIALBACK_FEATURE, "errors").is_some());
    assert!(all.child(ns::BIDI_FEATURE, "bidi").is_some());
    assert!(all.child(ns::SM, "sm").is_some());
    let limits = all.child(ns::LIMITS, "limits").unwrap();
    assert_eq!(limits.child(ns::LIMITS, "max-bytes").unwrap().text(), "262144");
    assert_eq!(limits.children().len(), 1);
}

#[test]
fn any_text_stands_for_itself_or_is_replaced() {
    let hostile = "]]><a b=\"'&amp;\t\r\n\0\u{1}\u{1f}\u{7f}\u{fffe}\u{ffff}\u{10ffff}é";
    let expected =
        "]]><a b=\"'&amp;\t\r\n\u{fffd}\u{fffd}\u{fffd}\u{7f}\u{fffd}\u{fffd}\u{10ffff}é";
    let (_, element) = read(|out| dialback_verify(out, hostile, "b", hostile, hostile));
    assert_eq!(element.attr("from"), Some(expected));
    assert_eq!(element.attr("id"), Some(expected));
    assert_eq!(element.text(), expected);
    let header = written(|out| {
        StreamHeader { id: Some(hostile), ..StreamHeader::default() }.write(out);
    });
    let (tokens, fault) = run(LIMITS, header.as_bytes(), []);
    assert_eq!(fault, None);
    let Some((TokenKind::Header(header), _)) = tokens.last() else { panic!("{tokens:?}") };
    assert_eq!(header.id.as_deref(), Some(expected));
}

#[test]
fn each_special_character_is_escaped_also_when_it_stands_alone() {
    let all = (0..0x80).chain([0xe9, 0xef, 0xfffd, 0xfffe, 0xffff, 0x1_0000]);
    for c in all.filter_map(char::from_u32) {
        let text = format!("a{c}b");
        let mut out = Vec::new();
        escape(&mut out, &text);
        assert_eq!(out != text.as_bytes(), is_special(c), "{c:?}");
    }
}
