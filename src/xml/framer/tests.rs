//! Accepted and refused, case by case; `properties` holds the framer against a reference.

use super::*;
use crate::{
    xml::{DefaultNamespace, ElementName, Tag, Version},
    xmpp::StreamCondition,
};

mod namesakes;
mod properties;

pub(in crate::xml) const LIMITS: Limits =
    Limits { header: 8192, element: 524_288, depth: 64, attributes: 64, grace: 1 };

pub(in crate::xml) const HEADER: &str = "<stream:stream xmlns='jabber:server' \
    xmlns:stream='http://etherx.jabber.org/streams' xmlns:db='jabber:server:dialback' \
    to='b.example' from='a.example' id='i1' xml:lang='en' version='1.0'>";

/// Feeds `bytes` piece by piece; returns each token with its bytes, and the fault if one ends it.
pub(in crate::xml) fn run(
    limits: Limits,
    bytes: &[u8],
    cuts: impl IntoIterator<Item = usize>,
) -> (Vec<(TokenKind, Vec<u8>)>, Option<Fault>) {
    let mut framer = Framer::new(limits);
    let (mut tokens, mut start) = (Vec::new(), 0);
    for end in cuts.into_iter().chain([bytes.len()]) {
        loop {
            match framer.next(&bytes[start..end]) {
                Ok(None) => {
                    // as those do that have read all
                    if start == end {
                        framer.rest();
                    }
                    break;
                }
                Ok(Some(Token { len, kind })) => {
                    assert!(len > 0 && len <= end - start);
                    tokens.push((kind, bytes[start..start + len].to_vec()));
                    start += len;
                }
                Err(fault) => {
                    assert_eq!(framer.next(&bytes[start..end]).err(), Some(fault), "fault stays");
                    return (tokens, Some(fault));
                }
            }
        }
    }
    (tokens, None)
}

fn all_at_once(text: impl AsRef<[u8]>) -> (Vec<(TokenKind, Vec<u8>)>, Option<Fault>) {
    run(LIMITS, text.as_ref(), [])
}

fn header(text: &str) -> Header {
    let (tokens, fault) = all_at_once(text);
    assert_eq!(fault, None, "{text}");
    match &tokens.last().expect("a token").0 {
        TokenKind::Header(header) => (**header).clone(),
        other => panic!("{other:?}"),
    }
}

/// The only element of `stanza` on a usual stream, cut at every byte and not at all.
fn element(stanza: &str) -> Tag {
    let text = format!("{HEADER}{stanza}");
    let tags = [Vec::new(), (0..text.len()).collect()].map(|cuts| {
        let (tokens, fault) = run(LIMITS, text.as_bytes(), cuts);
        assert_eq!(fault, None, "{stanza}");
        let [_, (TokenKind::Element(tag), bytes)] = &tokens[..] else {
            panic!("{stanza}: {tokens:?}")
        };
        assert_eq!(bytes, stanza.as_bytes());
        *tag
    });
    assert_eq!(tags[0], tags[1]);
    tags[0]
}

/// The fault of `content` on a usual stream, the same at every cut.
fn fault(content: impl AsRef<[u8]>) -> Option<Fault> {
    let content = content.as_ref();
    let text = [HEADER.as_bytes(), content].concat();
    let at_once = all_at_once(&text).1;
    assert_eq!(run(LIMITS, &text, 0..text.len()).1, at_once);
    at_once
}

#[test]
fn the_tokens_of_a_stream_come_in_order() {
    let text = format!(
        "<?xml version='1.0' encoding='utf-8'?> {HEADER}\n<message><body>hi</body></message> \
         <presence/></stream:stream >\r\n"
    );
    let (tokens, fault) = all_at_once(&text);
    assert_eq!(fault, None);
    let kinds: Vec<_> = tokens
        .iter()
        .map(|(kind, bytes)| match kind {
            TokenKind::Declaration => "declaration",
            TokenKind::Element(tag) if tag.name == ElementName::Message && !tag.empty => "message",
            TokenKind::Element(tag) if tag.name == ElementName::Presence && tag.empty => "presence",
            TokenKind::Element(_) => "?",
            TokenKind::Footer => "footer",
            TokenKind::Header(_) => "header",
            TokenKind::Space => {
                assert!(bytes.iter().all(u8::is_ascii_whitespace));
                "space"
            }
        })
        .collect();
    let expected = [
        "declaration",
        "space",
        "header",
        "space",
        "message",
        "space",
        "presence",
        "footer",
        "space",
    ];
    assert_eq!(kinds, expected);
    assert_eq!(
        tokens.iter().flat_map(|(_, bytes)| bytes.clone()).collect::<Vec<_>>(),
        text.as_bytes()
    );
}

#[test]
fn a_header_tells_what_it_says() {
    let header = header(HEADER);
    assert_eq!(header.to.as_deref(), Some("b.example"));
    assert_eq!(header.from.as_deref(), Some("a.example"));
    assert_eq!(header.id.as_deref(), Some("i1"));
    assert_eq!(header.lang.as_deref(), Some("en"));
    assert_eq!(header.version, Some(Version::V1_0));
    assert_eq!(header.default_namespace, DefaultNamespace::Server);
    assert_eq!(header.dialback_prefix(), Some("db"));
    assert_eq!(header.prefixes.len(), 2);
}

#[test]
fn a_header_from_before_version_1_is_accepted() {
    let header = header(
        "<?xml version='1.0'?><stream:stream xmlns='jabber:server' id='' loop:check='x' \
         xmlns:loop='http://jabberd.jabberstudio.org/ns/loopcheck' to='a &amp; b' \
         xmlns:stream='http://etherx.jabber.org/streams'>",
    );
    assert_eq!((header.version, header.from.as_deref()), (None, None));
    assert_eq!(header.id.as_deref(), Some(""));
    assert_eq!(header.to.as_deref(), Some("a & b"));
    assert!(!header.declares_dialback());
}

#[test]
fn versions_are_pairs_of_numbers() {
    for (text, version) in [
        ("1.0", Some((1, 0))),
        ("01.00", Some((1, 0))),
        ("2.13", Some((2, 13))),
        ("0.9", Some((0, 9))),
        ("1", None),
        ("1.", None),
        ("+1.0", None),
        ("1.0.0", None),
        ("99999999999.0", None),
        ("", None),
    ] {
        let version = version.map(|(major, minor)| Version { major, minor });
        assert_eq!(Version::parse(text), version, "{text}");
    }
    assert!(Version { major: 1, minor: 10 } > Version { major: 1, minor: 9 });
}

#[test]
fn other_styles_of_header_are_accepted() {
    const STREAMS: &str = "http://etherx.jabber.org/streams";
    for (text, default) in [
        (format!("<s:stream xmlns:s='{STREAMS}' xmlns='jabber:server'>"), DefaultNamespace::Server),
        (format!("<stream xmlns='{STREAMS}'>"), DefaultNamespace::Stream),
        (format!("<stream:stream xmlns:stream='{STREAMS}'>"), DefaultNamespace::None),
        (format!("<stream:stream xmlns='' xmlns:stream='{STREAMS}'>"), DefaultNamespace::None),
        (
            format!(
                "<stream:stream\n\txmlns:stream = \"{STREAMS}\"\r\nxmlns = 'jabber&#58;server' >"
            ),
            DefaultNamespace::Server,
        ),
    ] {
        assert_eq!(header(&text).default_namespace, default, "{text}");
    }
}

#[test]
fn wrong_headers_are_refused() {
    use StreamCondition as C;
    const S: &str = "xmlns:stream='http://etherx.jabber.org/streams'";
    for (text, fault) in [
        ("<stream:stream xmlns:stream='x' xmlns='jabber:server'>".into(), Fault::RootNamespace),
        ("<stream:stream xmlns='jabber:server'>".into(), Fault::UndeclaredPrefix),
        ("<stream xmlns='jabber:server'>".into(), Fault::RootNamespace),
        ("<stream>".into(), Fault::RootNamespace),
        ("<xml:stream>".into(), Fault::RootNamespace),
        (format!("<stream:features {S} xmlns='jabber:server'>"), Fault::RootName),
        (format!("<stream:stream {S} xmlns='jabber:client'>"), Fault::ContentNamespace),
        (format!("<stream:stream {S} xmlns='jabber:server'/>"), Fault::EmptyStream),
        (format!("<stream:stream {S} to='a' to='b'>"), Fault::DuplicateAttribute),
        ("</stream:stream>".into(), Fault::Syntax),
        ("GET / HTTP/1.1\r\n".into(), Fault::StreamText),
        ("\u{feff}<stream:stream>".into(), Fault::StreamText),
        ("<![CDATA[".into(), Fault::StreamText),
        ("<!DOCTYPE stream [<!ENTITY a 'b'>]>".into(), Fault::DocumentType),
        ("<!-- -->".into(), Fault::Comment),
        ("<?php ?>".into(), Fault::ProcessingInstruction),
    ] {
        let bytes = text.as_bytes();
        assert_eq!(run(LIMITS, bytes, []).1, Some(fault), "{text}");
        assert_eq!(run(LIMITS, bytes, 0..bytes.len()).1, Some(fault), "{text}");
    }
    assert_eq!(Fault::RootNamespace.condition(), C::InvalidNamespace);
    assert_eq!(Fault::ContentNamespace.condition(), C::InvalidNamespace);
    assert_eq!(Fault::RootName.condition(), C::BadFormat);
    assert_eq!(Fault::StreamText.condition(), C::BadFormat);
}

#[test]
fn an_xml_declaration_is_checked() {
    for (text, fault) in [
        ("<?xml version='1.0'?>", None),
        ("<?xml\tversion = \"1.0\"\nencoding='UTF-8' standalone='yes' ?>", None),
        ("<?xml version='1.0' standalone='no'?>", None),
        ("<?xml version='1.0' encoding='utf-8'?>", None),
        ("<?xml version='1.0' encoding='ISO-8859-1'?>", Some(Fault::Encoding)),
        ("<?xml version='1.0' encoding='UTF-16'?>", Some(Fault::Encoding)),
        ("<?xml version='1.1'?>", Some(Fault::BadDeclaration)),
        ("<?xml encoding='utf-8'?>", Some(Fault::BadDeclaration)),
        ("<?xml version='1.0'encoding='utf-8'?>", Some(Fault::BadDeclaration)),
        ("<?xml version='1.0' standalone='yes' encoding='utf-8'?>", Some(Fault::BadDeclaration)),
        ("<?xml version='1.0' standalone='maybe'?>", Some(Fault::BadDeclaration)),
        ("<?xml version='1.0' x='y'?>", Some(Fault::BadDeclaration)),
        ("<?xml version='1.0\"?>", Some(Fault::BadDeclaration)),
        ("<?xml version?>", Some(Fault::BadDeclaration)),
        ("<?xml version='1.0'>", Some(Fault::BadDeclaration)),
        ("<?xml?>", Some(Fault::BadDeclaration)),
        ("<?xml ?>", Some(Fault::BadDeclaration)),
        ("<?xml version='1.0'?><?xml version='1.0'?>", Some(Fault::MisplacedDeclaration)),
        (" <?xml version='1.0'?>", Some(Fault::MisplacedDeclaration)),
        ("<?xml-stylesheet href='x'?>", Some(Fault::ProcessingInstruction)),
        ("<?XML version='1.0'?>", Some(Fault::ProcessingInstruction)),
    ] {
        assert_eq!(run(LIMITS, text.as_bytes(), []).1, fault, "{text}");
        assert_eq!(run(LIMITS, text.as_bytes(), 0..text.len()).1, fault, "{text}");
    }
    assert_eq!(Fault::Encoding.condition(), StreamCondition::UnsupportedEncoding);
}

#[test]
fn another_encoding_is_seen_at_the_first_bytes() {
    for (bytes, fault) in [
        (&b"\xff\xfe<\0"[..], Fault::Encoding),
        (b"\xfe\xff\0<", Fault::Encoding),
        (b"<\0?\0", Fault::Encoding),
        (b"\0<\0?", Fault::Encoding),
        (b"\x4c\x6f\xa7\x94", Fault::StreamText),
        (b"\xef\xbb\xbf<?xml", Fault::StreamText),
        (b"\xc0\xbc", Fault::NotUtf8),
    ] {
        assert_eq!(run(LIMITS, bytes, []).1, Some(fault), "{bytes:x?}");
        assert_eq!(run(LIMITS, bytes, 0..bytes.len()).1, Some(fault), "{bytes:x?}");
    }
}

#[test]
fn a_first_level_tag_tells_what_it_says() {
    let stanza = "<message to='b@b.example/&quot;' x:from='no' from=\"a@a.example\" xmlns:x='x' \
                  type='chat' id='a\tb\r\nc&#10;d'><body from='no'/></message>";
    let tag = element(stanza);
    let text =
        |span: Option<crate::xml::Span>| span.map(|s| s.text(stanza.as_bytes()).into_owned());
    assert_eq!(tag.name, ElementName::Message);
    assert_eq!(text(tag.from).as_deref(), Some("a@a.example"));
    assert_eq!(text(tag.to).as_deref(), Some("b@b.example/\""));
    assert_eq!(text(tag.type_).as_deref(), Some("chat"));
    assert_eq!(text(tag.id).as_deref(), Some("a b c\nd"));
    assert_eq!(&stanza[..tag.insert_at as usize], "<message");
    assert!(!tag.has_lang && !tag.empty);

    let tag = element("<iq xml:lang=''/>");
    assert!(tag.has_lang && tag.empty && tag.from.is_none());
}

#[test]
fn elements_are_told_apart_by_namespace() {
    use ElementName as E;
    const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
    const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
    for (xml, name) in [
        ("<message/>".into(), E::Message),
        ("<presence/>".into(), E::Presence),
        ("<iq xmlns='jabber:server'/>".into(), E::Iq),
        ("<db:result>k</db:result>".into(), E::DbResult),
        ("<db:verify/>".into(), E::DbVerify),
        ("<d:verify xmlns:d='jabber:server:dialback'/>".into(), E::DbVerify),
        ("<db:message/>".into(), E::Other),
        ("<stream:error/>".into(), E::StreamError),
        ("<stream:features><message/></stream:features>".into(), E::StreamFeatures),
        (format!("<starttls xmlns='{TLS}'/>"), E::StartTls),
        (format!("<proceed xmlns='{TLS}'/>"), E::TlsProceed),
        (format!("<failure xmlns='{TLS}'/>"), E::TlsFailure),
        (format!("<failure xmlns='{SASL}'/>"), E::SaslFailure),
        (format!("<auth xmlns='{SASL}'>=</auth>"), E::SaslAuth),
        (format!("<s:success xmlns:s='{SASL}'/>"), E::SaslSuccess),
        (format!("<response xmlns='{SASL}'/>"), E::SaslResponse),
        (format!("<challenge xmlns='{SASL}'/>"), E::SaslChallenge),
        (format!("<abort xmlns='{SASL}'/>"), E::SaslAbort),
        ("<compress xmlns='http://jabber.org/protocol/compress'/>".into(), E::Compress),
        ("<message xmlns='evil'/>".into(), E::Other),
        ("<msg/>".into(), E::UnknownStanza),
        ("<result/>".into(), E::UnknownStanza),
    ] {
        let tag = element(&xml);
        assert_eq!(tag.name, name, "{xml}");
        assert_eq!(tag.name.is_stanza(), matches!(name, E::Message | E::Presence | E::Iq));
    }
}

#[test]
fn stanzas_of_other_content_namespaces_are_refused() {
    use StreamCondition as C;
    for (xml, condition) in [
        ("<x:message xmlns:x='jabber:server'/>", C::BadNamespacePrefix),
        ("<x:foo xmlns:x='jabber:server'/>", C::BadNamespacePrefix),
        ("<message xmlns='jabber:client'/>", C::InvalidNamespace),
        ("<x:message xmlns:x='jabber:client'/>", C::InvalidNamespace),
        ("<message xmlns=''/>", C::InvalidNamespace),
    ] {
        assert_eq!(fault(xml).map(Fault::condition), Some(condition), "{xml}");
    }
}

#[test]
fn without_a_default_namespace_elements_bring_their_own() {
    for (root, bare) in [
        (
            "<stream:stream xmlns:stream='http://etherx.jabber.org/streams'>",
            Err(Fault::ContentNamespace),
        ),
        ("<stream xmlns='http://etherx.jabber.org/streams'>", Ok(ElementName::Other)),
    ] {
        let (tokens, fault) = all_at_once(format!("{root}<message xmlns='jabber:server'/>"));
        assert_eq!(fault, None, "{root}");
        assert!(matches!(tokens[1].0, TokenKind::Element(tag) if tag.name == ElementName::Message));

        let (tokens, fault) = all_at_once(format!("{root}<message/>"));
        match (bare, fault) {
            (Err(expected), Some(fault)) => assert_eq!(fault, expected),
            (Ok(name), None) => {
                assert!(matches!(tokens[1].0, TokenKind::Element(tag) if tag.name == name));
            }
            other => panic!("{other:?}"),
        }
    }
    let text = "<stream xmlns='http://etherx.jabber.org/streams'><features/></stream>";
    let (tokens, fault) = all_at_once(text);
    assert_eq!(fault, None);
    assert!(
        matches!(tokens[1].0, TokenKind::Element(tag) if tag.name == ElementName::StreamFeatures)
    );
    assert!(matches!(tokens[2].0, TokenKind::Footer));
}

#[test]
fn xml_that_is_allowed_passes() {
    for xml in [
        "<message from='a@x' to=\"b@y\" ><body>a &amp; b &#x159;&#345; &lt;&gt;&apos;&quot;</body ></message\n>",
        "<message><body><![CDATA[</message></stream:stream><!-- --> ]]]]><![CDATA[>]] ]> & \u{159}]]></body></message>",
        "<message><body>]] ]> ] > ]&#93;></body></message>",
        "<message><![CDATA[]]>></message>",
        "<message a='>' b='\"' c=\"'\" d=']]>' e='&lt;'/>",
        "<message\ta = 'x'\r\nb\n=\n'y'/>",
        "<message><a.b-c_d1/><_x/></message>",
        "<message><x:a xmlns:x='u:1'><x:a x:b='' b=''/></x:a><y xmlns='u:2'><z xmlns=''/></y></message>",
        "<message xmlns:xml='http://www.w3.org/XML/1998/namespace' xml:space='preserve'/>",
        "<message><db:result type='valid'/><stream:error/></message>",
        "<message>\u{ff0c}\u{fffd}\u{7f}\u{85}\u{feff}\u{10ffff}\u{e000}\t\r\n</message>",
        "<message a='\u{ff0c}\u{fffd}\u{7f}'/>",
        "<message>&#x9;&#xA;&#xD;&#x20;&#xD7FF;&#xE000;&#xFFFD;&#x10000;&#x10FFFF;&#0000000065;</message>",
    ] {
        element(xml);
    }
}

#[test]
fn xml_that_is_not_well_formed_is_refused() {
    use Fault as F;
    for (xml, expected) in [
        (&b"<message>a & b</message>"[..], F::BadReference),
        (b"<message>&#0;</message>", F::BadReference),
        (b"<message>&#x1F;</message>", F::BadReference),
        (b"<message>&#xD800;</message>", F::BadReference),
        (b"<message>&#xFFFE;</message>", F::BadReference),
        (b"<message>&#x110000;</message>", F::BadReference),
        (b"<message>&#xFFFFFFFF;</message>", F::BadReference),
        (b"<message>&#x10000000000000041;</message>", F::BadReference),
        (b"<message>&#;</message>", F::BadReference),
        // nothing that could still come makes it good
        (b"<message>&23aa1", F::BadReference),
        (b"<message>&#xs", F::BadReference),
        (b"<message>&#1a", F::BadReference),
        (b"<message>&#x;</message>", F::BadReference),
        (b"<message>&#X41;</message>", F::BadReference),
        (b"<message>&#+65;</message>", F::BadReference),
        (b"<message>&;</message>", F::BadReference),
        (b"<message>&amp</message>", F::BadReference),
        (b"<message>&1;</message>", F::BadReference),
        (b"<message a='&#0;'/>", F::BadReference),
        (b"<message a='&'/>", F::BadReference),
        (b"<message>\x01</message>", F::ForbiddenChar),
        (b"<message>\x00</message>", F::ForbiddenChar),
        (b"<message><![CDATA[\x0b]]></message>", F::ForbiddenChar),
        (b"<message a='\x00'/>", F::ForbiddenChar),
        (b"<message>\xef\xbf\xbe</message>", F::ForbiddenChar),
        (b"<message a='\xef\xbf\xbf'/>", F::ForbiddenChar),
        (b"<message><![CDATA[\xef\xbf\xbf]]></message>", F::ForbiddenChar),
        (b"<message>\xff</message>", F::NotUtf8),
        (b"<message>\xc0\xbcx</message>", F::NotUtf8),
        (b"<message>\xed\xa0\x80</message>", F::NotUtf8),
        (b"<message>\xf4\x90\x80\x80</message>", F::NotUtf8),
        (b"<message>\xe2\x82</message>", F::NotUtf8),
        (b"<mess\xffage/>", F::NotUtf8),
        (b"<message a\xff='b'/>", F::NotUtf8),
        (b"<message></messag>", F::MismatchedEnd),
        (b"<message></messages>", F::MismatchedEnd),
        (b"<message></Message>", F::MismatchedEnd),
        (b"<message><a></b></message>", F::MismatchedEnd),
        (b"<message></message a='b'>", F::Syntax),
        (b"<message></ message>", F::MismatchedEnd),
        (b"<message></>", F::MismatchedEnd),
        (b"<message></message/>", F::MismatchedEnd),
        (b"</message>", F::MismatchedEnd),
        (b"<message a='1' a='2'/>", F::DuplicateAttribute),
        (b"<message xmlns:a='u' xmlns:b='u' a:c='1' b:c='2'/>", F::DuplicateAttribute),
        (b"<message xmlns:a='u' xmlns:b='&#117;' a:c='1' b:c='2'/>", F::DuplicateAttribute),
        (b"<message xmlns:a='jabber:server:dialback' a:c='1' db:c='2'/>", F::DuplicateAttribute),
        (b"<message xmlns:a='u' xmlns:a='v'/>", F::DuplicateAttribute),
        (b"<message xmlns='u' xmlns='u'/>", F::DuplicateAttribute),
        (b"<z:message/>", F::UndeclaredPrefix),
        (b"<message z:a='b'/>", F::UndeclaredPrefix),
        (b"<message><a xmlns:z='u'/><z:a/></message>", F::UndeclaredPrefix),
        (b"<message><a xmlns:z='u'></a><z:a/></message>", F::UndeclaredPrefix),
        (b"<message a='<'/>", F::AngleInValue),
        (b"<message a=b/>", F::Syntax),
        (b"<message a/>", F::Syntax),
        (b"<message a='b'c='d'/>", F::Syntax),
        (b"<message a 'b'/>", F::Syntax),
        (b"<message 'b'/>", F::BadName),
        (b"<message / >", F::Syntax),
        (b"<message/a>", F::Syntax),
        (b"<a/b></a>", F::Syntax),
        (b"<message\"/>", F::Syntax),
        (b"<message>]]></message>", F::CdataEndInText),
        (b"<message>]]]]]></message>", F::CdataEndInText),
        (b"<message><![CDATA[]]>]]></message>", F::CdataEndInText),
        (b"<1/>", F::BadName),
        (b"<-a/>", F::BadName),
        (b"<.a/>", F::BadName),
        (b"< message/>", F::BadName),
        (b"<>", F::BadName),
        (b"<<", F::BadName),
        (b"<message 1='a'/>", F::BadName),
        ("<\u{b7}/>".as_bytes(), F::BadName),
        ("<a\u{d7}/>".as_bytes(), F::BadName),
        ("<a\u{37e}/>".as_bytes(), F::BadName),
        ("<\u{f0000}/>".as_bytes(), F::BadName),
        (b"<a:b:c xmlns:a='u'/>", F::BadColon),
        (b"<:a/>", F::BadColon),
        (b"<message a:='u'/>", F::BadColon),
        (b"<message :='u'/>", F::BadColon),
        (b"<message xmlns:='u'/>", F::BadColon),
        (b"<message xmlns:1a='u'/>", F::BadColon),
        (b"<message xmlns:xml='u'/>", F::ReservedPrefix),
        (b"<message xmlns:xmlns='u'/>", F::ReservedPrefix),
        (b"<message xmlns:xmlns='http://www.w3.org/2000/xmlns/'/>", F::ReservedPrefix),
        (b"<message xmlns:a='http://www.w3.org/2000/xmlns/'/>", F::ReservedPrefix),
        (b"<message xmlns:a='http://www.w3.org/XML/1998/namespac&#101;'/>", F::ReservedPrefix),
        (b"<message xmlns='http://www.w3.org/XML/1998/namespace'/>", F::ReservedPrefix),
        (b"<xmlns:message/>", F::ReservedPrefix),
        (b"<message xmlns:a=''/>", F::EmptyNamespace),
        (b"<message><a xmlns='jabber:server|message'/></message>", F::NamespaceName),
        (b"<message><a xmlns:p='jabber:server&#10;message'/></message>", F::NamespaceName),
        (b"<message><![CDAT[a]]></message>", F::Syntax),
        (b"<message><!a></message>", F::Syntax),
        (b"<message><?xml version='1.0'?></message>", F::MisplacedDeclaration),
        (b"<?xml version='1.0'?>", F::MisplacedDeclaration),
    ] {
        let shown = String::from_utf8_lossy(xml);
        assert_eq!(fault(xml), Some(expected), "{shown}");
        assert_eq!(expected.condition(), StreamCondition::NotWellFormed, "{shown}");
    }
}

#[test]
fn names_that_old_parsers_refuse_are_refused() {
    for xml in [
        "<message><\u{e9}l/></message>",
        "<message><a\u{10000}/></message>",
        "<message \u{fdf0}='a'/>",
    ] {
        assert_eq!(fault(xml), Some(Fault::ForeignName), "{xml}");
    }
    assert_eq!(Fault::ForeignName.condition(), StreamCondition::PolicyViolation);
}

#[test]
fn what_xmpp_forbids_is_restricted_xml() {
    for xml in [
        "<message><!-- a --></message>",
        "<!-- a -->",
        "<message><?php a?></message>",
        "<?a?>",
        "<message><?xmlfoo?></message>",
        "<message><!DOCTYPE a></message>",
        "<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]>",
        "<message><!ENTITY % b 'c'></message>",
        "<message>&foo;</message>",
        "<message a='&foo;'/>",
        "<message>&nbsp;</message>",
        "<message>&lol9;</message>",
        "<message>&AMP;</message>",
        "<message>&thing",
    ] {
        let condition = fault(xml).map(Fault::condition);
        assert_eq!(condition, Some(StreamCondition::RestrictedXml), "{xml}");
    }
}

#[test]
fn a_header_inside_the_stream_is_refused_at_once() {
    assert_eq!(fault("<stream:stream to='a'>"), Some(Fault::SecondHeader));
    assert_eq!(fault(HEADER), Some(Fault::SecondHeader));
    assert_eq!(Fault::SecondHeader.condition(), StreamCondition::BadFormat);
}

#[test]
fn text_between_elements_is_bad_format() {
    for xml in ["a", "<message/>a", "&amp;", "<![CDATA[]]>", "\u{feff}", "\u{a0}", ">", "]]>"] {
        assert_eq!(fault(xml).map(Fault::condition), Some(StreamCondition::BadFormat), "{xml}");
    }
    assert_eq!(fault("</stream:stream><message/>"), Some(Fault::AfterFooter));
    assert_eq!(fault("</stream:stream>x"), Some(Fault::AfterFooter));
    assert_eq!(fault("</stream>"), Some(Fault::MismatchedEnd));
    assert_eq!(fault("</stream:stream> \n"), None);
}

#[test]
fn limits_are_exact() {
    // the header has eight attributes
    let limits = Limits { header: HEADER.len(), element: 60, depth: 3, attributes: 8, grace: 1 };
    let check = |content: &str, expected: Option<Fault>| {
        let text = format!("{HEADER}{content}");
        assert_eq!(run(limits, text.as_bytes(), []).1, expected, "{content}");
        assert_eq!(run(limits, text.as_bytes(), 0..text.len()).1, expected, "{content}");
    };
    check(&format!("<message>{}</message>", "a".repeat(41)), None);
    check(&format!("<message>{}</message>", "a".repeat(42)), Some(Fault::ElementTooBig));
    check(&format!("<message>{}", "a".repeat(51)), None);
    check(&format!("<message>{}", "a".repeat(52)), Some(Fault::ElementTooBig));
    check(&format!("<message a='{}", "a".repeat(49)), Some(Fault::ElementTooBig));
    check(&format!("<message>{}\u{e9}", "a".repeat(50)), Some(Fault::ElementTooBig));
    check("<message><a><b/><b/></a></message>", None);
    check("<message><a><b><c", Some(Fault::TooDeep));
    check("<message a='' b='' c='' d='' e='' f='' g='' h=''/>", None);
    check("<message a='' b='' c='' d='' e='' f='' g='' h='' i", Some(Fault::TooManyAttributes));
    check(&" ".repeat(100), None);

    let limits = Limits { header: HEADER.len() - 1, ..limits };
    let declaration = "<?xml version='1.0'?>";
    let text = format!("{declaration}{HEADER}");
    assert_eq!(run(limits, text.as_bytes(), []).1, Some(Fault::HeaderTooBig));
    assert_eq!(run(limits, text.as_bytes(), 0..text.len()).1, Some(Fault::HeaderTooBig));
    for fault in [Fault::ElementTooBig, Fault::HeaderTooBig, Fault::TooDeep, Fault::NameTooLong] {
        assert_eq!(fault.condition(), StreamCondition::PolicyViolation);
        let application = (fault == Fault::ElementTooBig).then_some("stanza-too-big");
        assert_eq!(fault.application(), application);
    }
}

#[test]
fn names_and_declarations_are_limited() {
    let name = "a".repeat(1024);
    element(&format!("<message><{name} {name}=''/></message>"));
    assert_eq!(fault(format!("<message><{name}b")), Some(Fault::NameTooLong));
    assert_eq!(fault(format!("<message {name}b")), Some(Fault::NameTooLong));
    assert_eq!(fault(format!("<message><{name}bbbb:::")), Some(Fault::NameTooLong));

    let nested = |n: usize| {
        let open: String = (0..n).map(|i| format!("<a xmlns:n{i}='u'>")).collect();
        format!("<message>{open}{}</message>", "</a>".repeat(n))
    };
    // three on the header, its default one included
    element(&nested(61));
    assert_eq!(fault(nested(62)), Some(Fault::TooManyNamespaces));
    element(&format!("<message>{}</message>", "<a xmlns='u'/>".repeat(1000)));
}

#[test]
fn what_is_beyond_a_limit_with_grace_is_marked_and_ends_nothing() {
    let limits = Limits { grace: 3, element: 5000, depth: 3, attributes: 8, ..LIMITS };
    let all = |n: usize, part: &dyn Fn(usize) -> String| (0..n).map(part).collect::<String>();
    let attributes = |n| format!("<message{}/>", all(n, &|i| format!(" a{i}=''")));
    let nested = |n| format!("<message>{}{}</message>", "<a>".repeat(n), "</a>".repeat(n));
    let long = |n| format!("<message><{}/></message>", "n".repeat(n));
    let large = |n: usize| format!("<message>{}</message>", "x".repeat(n - 19));
    let name = |name: &str| format!("<message><{name}></{name}></message>");
    let uri = |uri: &str| format!("<message><a xmlns='{uri}'/></message>");
    for (within, beyond, over, fault) in [
        (attributes(8), attributes(9), Some(attributes(25)), Fault::TooManyAttributes),
        (attributes(8), attributes(24), Some(attributes(25)), Fault::TooManyAttributes),
        (nested(2), nested(3), Some(nested(9)), Fault::TooDeep),
        (nested(2), nested(8), Some(nested(9)), Fault::TooDeep),
        (large(5000), large(5001), Some(large(15_001)), Fault::ElementTooBig),
        (large(5000), large(15_000), Some(large(15_001)), Fault::ElementTooBig),
        (long(1024), long(1025), Some(long(3073)), Fault::NameTooLong),
        (long(1024), long(3072), Some(long(3073)), Fault::NameTooLong),
        (name("a"), name("a\u{e9}"), None, Fault::ForeignName),
        (name("a"), "<message \u{e9}:a='' xmlns:\u{e9}='u'/>".into(), None, Fault::ForeignName),
        (uri("a"), uri("a|b"), None, Fault::NamespaceName),
    ] {
        let text = format!("{HEADER}{within}{beyond}{within}");
        for cuts in [Vec::new(), (0..text.len()).collect()] {
            let (tokens, end) = run(limits, text.as_bytes(), cuts);
            assert_eq!(end, None, "{beyond}");
            let excess: Vec<_> = tokens[1..].iter().map(|(kind, _)| excess(kind)).collect();
            assert_eq!(excess, [None, Some(fault), None], "{beyond}");
        }
        let Some(over) = over else { continue };
        let text = format!("{HEADER}{over}");
        for cuts in [Vec::new(), (0..text.len()).collect()] {
            assert_eq!(run(limits, text.as_bytes(), cuts).1, Some(fault), "{over}");
        }
    }
    // three declarations are on the header
    let limits = Limits { grace: 3, ..LIMITS };
    let declared = |n| {
        let open = all(n, &|i| format!("<a xmlns:n{i}='u'>"));
        format!("{HEADER}<message>{open}{}</message>", "</a>".repeat(n))
    };
    for (n, fault) in [(61, None), (62, Some(Fault::TooManyNamespaces))] {
        let (tokens, end) = run(limits, declared(n).as_bytes(), []);
        assert_eq!((excess(&tokens[1].0), end), (fault, None), "{n}");
    }
    let limits = Limits { depth: 1000, ..limits };
    assert_eq!(run(limits, declared(189).as_bytes(), []).1, None);
    assert_eq!(run(limits, declared(190).as_bytes(), []).1, Some(Fault::TooManyNamespaces));
    // a header has no grace
    let text = HEADER.replace(" to=", &format!("{} to=", all(64, &|i| format!(" a{i}=''"))));
    assert_eq!(run(limits, text.as_bytes(), []).1, Some(Fault::TooManyAttributes));
}

fn excess(kind: &TokenKind) -> Option<Fault> {
    match kind {
        TokenKind::Element(tag) => tag.excess,
        kind => panic!("{kind:?}"),
    }
}

#[test]
fn depth_and_endless_input_cost_no_more_than_the_limits() {
    assert_eq!(fault("<a>".repeat(100_000)), Some(Fault::TooDeep));
    let attributes: String = (0..100_000).map(|i| format!(" a{i}=''")).collect();
    assert_eq!(fault(format!("<message{attributes}")), Some(Fault::TooManyAttributes));
    let limits = Limits { element: 16_384, ..LIMITS };
    for start in
        ["<message>", "<message a='", "<message ", "<message><![CDATA[", "<message></message "]
    {
        let text = format!("{HEADER}{start}{}", " ".repeat(20_000));
        assert_eq!(run(limits, text.as_bytes(), []).1, Some(Fault::ElementTooBig), "{start}");
    }
}

#[test]
fn limits_can_be_raised_and_lowered_on_the_way() {
    let text = format!("{HEADER}<message>\u{e9}\u{e9}\u{e9}</message>");
    let stanza = &text.as_bytes()[HEADER.len()..];
    let small = Limits { element: 10, ..LIMITS };
    let mut framer = Framer::new(LIMITS);
    assert!(framer.next(text.as_bytes()).unwrap().is_some());
    framer.set_limits(Limits { element: stanza.len(), ..LIMITS });
    assert!(framer.next(stanza).unwrap().is_some());
    assert!(framer.next(&stanza[..11]).unwrap().is_none());
    framer.set_limits(small);
    assert_eq!(framer.next(stanza).unwrap_err(), Fault::ElementTooBig);
}

#[test]
fn a_limit_inside_a_broken_character_is_met_first() {
    // the header's larger limit had the bytes behind the element's limit looked at already
    let limits = Limits { element: 20, ..LIMITS };
    let text = [HEADER.as_bytes(), b"<message>aaaaaaaaaa\xc3'"].concat();
    for cuts in [Vec::new(), (0..text.len()).collect()] {
        assert_eq!(run(limits, &text, cuts).1, Some(Fault::ElementTooBig));
    }
}

#[test]
fn reasons_are_distinct_words() {
    let faults =
        [Fault::AfterFooter, Fault::Comment, Fault::NotUtf8, Fault::TooDeep, Fault::Syntax];
    let reasons: std::collections::BTreeSet<_> = faults.iter().map(|f| f.reason()).collect();
    assert_eq!(reasons.len(), faults.len());
    assert!(
        reasons.iter().all(|r| r.bytes().all(|b| b.is_ascii_lowercase() || b"-8".contains(&b)))
    );
}
