//! Trees of elements as they come, and of what should not come.

use std::cell::Cell;

use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::{
    xml::{
        TokenKind,
        framer::tests::{HEADER, LIMITS, run},
        oracle::{self, Part},
    },
    xmpp::ns,
};

fn parse_on(header: &str, xml: &str) -> Result<Element, ElementError> {
    let (tokens, _) = run(LIMITS, header.as_bytes(), []);
    let TokenKind::Header(header) = &tokens[0].0 else { panic!("{tokens:?}") };
    Element::parse(xml.as_bytes(), header)
}

fn parse(xml: &str) -> Result<Element, ElementError> {
    parse_on(HEADER, xml)
}

#[test]
fn features_are_read_by_namespace() {
    let features = parse(
        "<stream:features xmlns:stream='http://etherx.jabber.org/streams'>\
         <starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required></required></starttls> \
         <m:mechanisms xmlns:m='urn:ietf:params:xml:ns:xmpp-sasl'>\
         <m:mechanism>EXTERNAL</m:mechanism><m:mechanism>DIGEST-MD5</m:mechanism></m:mechanisms>\
         </stream:features>",
    )
    .unwrap();
    assert!(features.is(ns::STREAM, "features"));
    assert!(features.child(ns::TLS, "starttls").unwrap().child(ns::TLS, "required").is_some());
    assert!(features.child(ns::SASL, "starttls").is_none());
    let mechanisms = features.child(ns::SASL, "mechanisms").unwrap();
    let texts: Vec<_> = mechanisms.children().iter().map(Element::text).collect();
    assert_eq!(texts, ["EXTERNAL", "DIGEST-MD5"]);
}

#[test]
fn text_and_attributes_are_decoded() {
    let element = parse(
        "<db:result from='a&amp;b&#10;\r\nc' x:from='other' xmlns:x='u:x' xml:lang='en'>\
         a&lt;&#x159;<x/><![CDATA[<&amp;>]]>\r\nb</db:result>",
    )
    .unwrap();
    assert!(element.is(ns::DIALBACK, "result"));
    assert_eq!(element.attr("from"), Some("a&b\n c"));
    assert_eq!(element.attr_ns("u:x", "from"), Some("other"));
    assert_eq!(element.attr_ns(ns::XML, "lang"), Some("en"));
    assert_eq!(element.attr("xmlns:x"), None);
    assert_eq!(element.text(), "a<\u{159}<&amp;>\nb");
    assert!(element.child(ns::SERVER, "x").is_some());
}

#[test]
fn the_header_gives_meaning_to_prefixes_and_bare_names() {
    const S: &str = "http://etherx.jabber.org/streams";
    let prefix_free = format!("<stream xmlns='{S}' xmlns:p=\"u:'&amp;lt;\">");
    assert!(parse_on(&prefix_free, "<error/>").unwrap().is(ns::STREAM, "error"));
    assert!(parse_on(&prefix_free, "<p:x/>").unwrap().is("u:'&lt;", "x"));
    assert!(parse_on(&prefix_free, "<x xmlns=''/>").unwrap().is("", "x"));
    let none = format!("<stream:stream xmlns:stream='{S}'>");
    assert!(parse_on(&none, "<x/>").unwrap().is("", "x"));
    assert!(parse("<x/>").unwrap().is(ns::SERVER, "x"));
}

#[test]
fn what_the_framer_would_not_pass_is_malformed() {
    for xml in [
        "",
        " ",
        "x",
        "<a/><b/>",
        "<a/>x",
        "<a>",
        "</a>",
        "<a></b>",
        "<z:a/>",
        "<a><!-- --></a>",
        "<?a?><a/>",
        "<!DOCTYPE a><a/>",
        "<a>&foo;</a>",
        "<a b='1' b='2'/>",
        "<a b='1'c='2'/>",
        "<a b='<'/>",
        "<a b/>",
        "<a b=1/>",
        "<a b='1/>",
        "<a / >",
        "<a></a",
        "<a></ a>",
        "<a></ab>",
        "<a><b></a></b>",
        "<a><![CDATA[]]</a>",
        "<![CDATA[]]><a/>",
        "<a>&amp</a>",
        "<:a/>",
        "<a xmlns:='u:x'/>",
    ] {
        assert_eq!(parse(xml), Err(ElementError::Malformed), "{xml}");
    }
    let header = run(LIMITS, HEADER.as_bytes(), []).0;
    let TokenKind::Header(header) = &header[0].0 else { panic!("{header:?}") };
    assert_eq!(Element::parse(b"<a>\xff</a>", header), Err(ElementError::Malformed));
}

#[test]
fn the_number_of_parts_is_limited() {
    let elements = |n: usize| format!("<a>{}</a>", "<b/>".repeat(n));
    assert!(parse(&elements(511)).is_ok());
    assert_eq!(parse(&elements(512)), Err(ElementError::TooLarge));
    assert_eq!(parse(&format!("<a>{}</a>", "<b c=''/>".repeat(256))), Err(ElementError::TooLarge));
}

/// Takes the content of an element from the parts behind its start tag.
fn same_tree<'r>(element: &Element, start: &'r Part, rest: &mut impl Iterator<Item = &'r Part>) {
    let Part::Start(namespace, name, attributes) = start else { panic!("{start:?}") };
    assert!(element.is(namespace.as_str(), name.as_str()), "{element:?}\n{start:?}");
    assert_eq!(element.attributes.len(), attributes.iter().count());
    for ((namespace, name), value) in attributes {
        assert_eq!(element.attr_ns(namespace.as_str(), name.as_str()), Some(value.as_str()));
    }
    let (mut text, mut children) = (String::new(), element.children().iter());
    loop {
        match rest.next().expect("an end") {
            Part::End => break,
            Part::Text(more) => text.push_str(more),
            start @ Part::Start(..) => {
                same_tree(children.next().expect("as many children"), start, rest);
            }
        }
    }
    assert!(children.next().is_none());
    assert_eq!(element.text(), text);
}

#[test]
fn the_tree_is_what_a_strict_parser_saw() {
    let compared = Cell::new(0);
    let config = Config { cases: 2000, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&oracle::damaged_streams(), |bytes| {
        let theirs = oracle::read(&bytes);
        if theirs.stumbled() {
            return Ok(());
        }
        let mut header = None;
        let mut theirs = theirs.elements.iter();
        for (kind, bytes) in run(LIMITS, &bytes, []).0 {
            match (kind, &header) {
                (TokenKind::Header(found), _) => header = Some(found),
                (TokenKind::Element(_), Some(header)) => {
                    let element = Element::parse(&bytes, header).unwrap();
                    let mut parts = theirs.next().expect("as many elements").content.iter();
                    same_tree(&element, parts.next().expect("a start"), &mut parts);
                    assert!(parts.next().is_none());
                    compared.set(compared.get() + 1);
                }
                _ => {}
            }
        }
        Ok(())
    });
    result.unwrap();
    assert!(compared.get() > 1000, "{}", compared.get());
}
