//! What is relayed means what it meant, checked by example and at random.

use std::cell::Cell;

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use rxml::Namespace;

use super::*;
use crate::xml::{
    TokenKind, Version,
    framer::tests::{HEADER, LIMITS, run},
    oracle::{self, Part},
    writer::StreamHeader,
};

/// What becomes of the first element behind a header.
fn relayed(header: &str, stanza: &str, lang: Option<&str>) -> String {
    let (tokens, fault) = run(LIMITS, format!("{header}{stanza}").as_bytes(), []);
    assert_eq!(fault, None, "{stanza}");
    let [(TokenKind::Header(header), _), (TokenKind::Element(tag), bytes)] = &tokens[..] else {
        panic!("{tokens:?}")
    };
    let bytes = Bytes::from(bytes.clone());
    let out = outgoing(&bytes, tag, header, lang);
    assert_eq!(out.as_ptr() == bytes.as_ptr(), out == bytes, "copied without need, or changed");
    String::from_utf8(out.into()).unwrap()
}

#[test]
fn an_ordinary_stanza_is_passed_on_as_it_is() {
    for stanza in [
        "<message from='a' to='b'><body>&#x159;<![CDATA[x]]></body><x xmlns='u:x' a=\"b\"/></message>",
        "<message xmlns='jabber:server' xml:lang=''><p:x xmlns:p='u:p'/></message>",
        "<iq xmlns:db='u:mine'><db:x/></iq>",
    ] {
        let lang = stanza.contains("xml:lang").then_some("en");
        assert_eq!(relayed(HEADER, stanza, lang), stanza);
    }
}

#[test]
fn declarations_of_the_header_go_along_with_names_that_use_them() {
    assert_eq!(
        relayed(HEADER, "<message><db:result db:a=''/></message>", None),
        "<message xmlns:db='jabber:server:dialback'><db:result db:a=''/></message>"
    );
    assert_eq!(
        relayed(HEADER, "<iq><stream:error/></iq>", None),
        "<iq xmlns:stream='http://etherx.jabber.org/streams'><stream:error/></iq>"
    );
    assert_eq!(
        relayed(HEADER, "<iq><a xmlns:db='u:mine'><db:x/></a></iq>", None),
        "<iq><a xmlns:db='u:mine'><db:x/></a></iq>"
    );
}

#[test]
fn declarations_that_ours_lacks_go_along_always() {
    const P: &str = "<s:stream xmlns='jabber:server' xmlns:s='http://etherx.jabber.org/streams' \
                     xmlns:db='jabber:server:dialback' xmlns:p=\"u:'&amp;p\">";
    assert_eq!(
        relayed(P, "<iq type='p:x'/>", None),
        "<iq xmlns:s='http://etherx.jabber.org/streams' xmlns:p='u:&apos;&amp;p' type='p:x'/>"
    );
    assert_eq!(
        relayed(P, "<iq xmlns:p='u:2' xmlns:s='u:3'><p:x/></iq>", None),
        "<iq xmlns:p='u:2' xmlns:s='u:3'><p:x/></iq>"
    );
    const DB: &str = "<stream:stream xmlns:stream='http://etherx.jabber.org/streams' \
                      xmlns='jabber:server' xmlns:db='u:evil'>";
    assert_eq!(relayed(DB, "<iq/>", None), "<iq xmlns:db='u:evil'/>");
}

#[test]
fn the_language_is_stamped_on_stanzas_that_name_none() {
    assert_eq!(
        relayed(HEADER, "<message><body xml:lang='fr'/></message>", Some("de'")),
        "<message xml:lang='de&apos;'><body xml:lang='fr'/></message>"
    );
    assert_eq!(relayed(HEADER, "<iq xml:lang=''/>", Some("de")), "<iq xml:lang=''/>");
}

#[test]
fn a_relayed_stanza_is_one_element_of_the_same_content() {
    let (kept, changed) = (Cell::new(0), Cell::new(0));
    let config = Config { cases: 2000, failure_persistence: None, ..Config::default() };
    let strategy = (oracle::damaged_streams(), prop::bool::weighted(0.3));
    let result = TestRunner::new(config).run(&strategy, |(bytes, stamp)| {
        let (tokens, _) = run(LIMITS, &bytes, []);
        let before = oracle::read(&bytes);
        if before.stumbled() {
            return Ok(());
        }
        let mut before = before.elements.into_iter();
        let mut found = None;
        for (kind, bytes) in tokens {
            let tag = match kind {
                TokenKind::Header(header) => {
                    found = Some(header);
                    continue;
                }
                TokenKind::Element(tag) => tag,
                TokenKind::Declaration | TokenKind::Footer | TokenKind::Space => continue,
            };
            let mut expected = before.next().expect("the reference sees what we see").content;
            if !tag.name.is_stanza() {
                continue;
            }
            let header = found.as_deref().expect("a header first");
            let lang = stamp.then_some("tlh");
            let bytes = Bytes::from(bytes);
            let out = outgoing(&bytes, &tag, header, lang);
            let count = if out == bytes { &kept } else { &changed };
            count.set(count.get() + 1);

            let mut text = Vec::new();
            StreamHeader { version: Some(Version::V1_0), ..StreamHeader::default() }
                .write(&mut text);
            text.extend_from_slice(&out);
            text.extend_from_slice(writer::FOOTER.as_bytes());
            let after = oracle::read(&text);
            prop_assert!(after.complete, "{:?}", after);
            prop_assert_eq!(after.elements.len(), 1);
            if let (Some(Part::Start(namespace, _, attributes)), Some(lang)) =
                (expected.first_mut(), lang)
            {
                prop_assert_eq!(namespace.as_str(), crate::xmpp::ns::SERVER);
                if !tag.has_lang {
                    let name = "lang".try_into().expect("a name");
                    attributes.insert(Namespace::XML, name, lang.to_owned());
                }
            }
            prop_assert_eq!(&after.elements[0].content, &expected);
            // and our own framer finds the same there
            let (again, fault) = run(LIMITS, &text, []);
            prop_assert_eq!(fault, None);
            let same = again.iter().any(|(kind, bytes)| {
                *bytes == out && matches!(kind, TokenKind::Element(t) if t.name == tag.name)
            });
            prop_assert!(same);
        }
        Ok(())
    });
    result.unwrap();
    let counts = (kept.get(), changed.get());
    assert!(counts.0 > 50 && counts.1 > 50, "{counts:?}");
}
