//! What is answered, and what never is.

use super::*;
use crate::xml::{
    TokenKind,
    element::Element,
    framer::tests::{HEADER, LIMITS, run},
};

fn reply(stanza: &str, text: Option<&str>) -> Option<String> {
    answer(stanza, |bytes, tag| error_reply(bytes, tag, StanzaCondition::RemoteServerTimeout, text))
}

fn answer(stanza: &str, make: impl Fn(&[u8], &Tag) -> Option<Vec<u8>>) -> Option<String> {
    let (tokens, fault) = run(LIMITS, format!("{HEADER}{stanza}").as_bytes(), []);
    assert_eq!(fault, None, "{stanza}");
    let Some((TokenKind::Element(tag), bytes)) = tokens.last() else { panic!("{tokens:?}") };
    Some(String::from_utf8(make(bytes, tag)?).unwrap())
}

#[test]
fn the_answer_goes_back_where_the_stanza_came_from() {
    let stanza = "<message type='chat' from='a@a.example/&lt;r' to=\"o'b@b.example\" id='&amp;1'>\
                  <body>secret</body></message>";
    assert_eq!(
        reply(stanza, Some("no <answer>")).unwrap(),
        "<message from='o&apos;b@b.example' to='a@a.example/&lt;r' id='&amp;1' type='error'>\
         <error type='wait'>\
         <remote-server-timeout xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>\
         <text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='en'>no &lt;answer&gt;</text>\
         </error></message>"
    );
}

#[test]
fn only_what_may_be_answered_is_answered() {
    for (start, answered) in [
        ("<message", true),
        ("<message type='groupchat'", true),
        ("<message type='error'", false),
        ("<message type='&#101;rror'", false),
        ("<iq type='get'", true),
        ("<iq type='set'", true),
        ("<iq type='result'", false),
        ("<iq type='error'", false),
        ("<iq", false),
        ("<presence", false),
        ("<presence type='unavailable'", false),
        ("<presence type='probe'", false),
        ("<presence type='error'", false),
        ("<presence type='subscribe'", true),
        ("<presence type='unsubscribed'", true),
        ("<db:result", false),
        ("<foo", false),
    ] {
        let stanza = format!("{start} from='a@a.example' to='b@b.example'/>");
        let answer = reply(&stanza, None);
        assert_eq!(answer.is_some(), answered, "{stanza}");
        if let Some(answer) = answer {
            let (tokens, fault) = run(LIMITS, format!("{HEADER}{answer}").as_bytes(), []);
            assert_eq!(fault, None);
            let TokenKind::Header(header) = &tokens[0].0 else { panic!("{tokens:?}") };
            let element = Element::parse(answer.as_bytes(), header).unwrap();
            assert_eq!(element.attr("to"), Some("a@a.example"));
            assert_eq!(element.attr("type"), Some("error"));
            assert_eq!(reply(&answer, None), None, "an answer to an answer");
        }
    }
    assert_eq!(reply("<message to='b@b.example'/>", None), None);
    assert_eq!(reply("<message from='b@b.example'/>", None), None);
}

#[test]
fn a_refusal_is_answered_where_somebody_waits_for_it() {
    for (start, answered) in [
        ("<message", true),
        ("<message type='groupchat'", true),
        ("<message type='headline'", false),
        ("<message type='error'", false),
        ("<iq type='get'", true),
        ("<iq type='set'", true),
        ("<iq type='result'", false),
        ("<iq", false),
        ("<presence", true),
        ("<presence type='subscribe'", true),
        ("<presence type='subscribed'", true),
        ("<presence type='unavailable'", false),
        ("<presence type='error'", false),
        ("<presence type='nobody-knows'", false),
    ] {
        let stanza = format!("{start} from='a@a.example' to='b@b.example' id='1'/>");
        let refuse = |bytes: &[u8], tag: &Tag| {
            refusal(bytes, tag, StanzaCondition::PolicyViolation, "not here")
        };
        let refused = answer(&stanza, refuse);
        assert_eq!(refused.is_some(), answered, "{stanza}");
        let Some(refused) = refused else { continue };
        assert!(refused.contains(" from='b@b.example' to='a@a.example' id='1' type='error'>"));
        assert!(refused.contains("<error type='modify'><policy-violation "), "{refused}");
        assert_eq!(answer(&refused, refuse), None, "an answer to an answer");
    }
}
