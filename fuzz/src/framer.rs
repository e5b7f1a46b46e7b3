//! XML streams: the framer against `rxml`, a strict parser, and everything that is done with a
//! stanza afterwards. The input is the stream.

use bytes::Bytes;
use fedgate::{
    features::Carried,
    xml::{
        Element, ElementName, Fault, Framer, Header, Limits, Span, Tag, Token, TokenKind, Version,
        bounce, relay, walk,
        writer::{FOOTER, StreamHeader},
    },
    xmpp::{StanzaCondition, ns},
};
use rxml::Namespace;

use super::{
    chance::Chance,
    reading::{self, Part, Reading, Reference},
};

/// Those of a gate, as far as the input may reach them.
const LIMITS: Limits =
    Limits { header: 8192, element: 524_288, depth: 64, attributes: 64, grace: 1 };
/// Inputs up to this length are cut at every byte too.
const SHORT: usize = 2048;

type Tokens = Vec<(TokenKind, Vec<u8>)>;

/// One stream.
pub fn run(data: &[u8]) {
    let mut chance = Chance::of(data);
    let (tokens, fault) = frame(LIMITS, data, &[]);
    cuts_make_no_difference(&mut chance, LIMITS, data, (&tokens, fault));
    let tight = Limits {
        header: chance.one_of(&[100, 200, 400]),
        element: chance.one_of(&[20, 60, 200]),
        depth: chance.one_of(&[1, 2, 3, 5]),
        attributes: chance.one_of(&[1, 2, 5]),
        grace: 1,
    };
    let (bounded, refused) = frame(tight, data, &[]);
    cuts_make_no_difference(&mut chance, tight, data, (&bounded, refused));

    // what comes after the beginning of a character is still to come
    let theirs = reading::read(match std::str::from_utf8(data) {
        Err(error) if error.error_len().is_none() => &data[..error.valid_up_to()],
        _ => data,
    });
    if theirs.stumbled() {
        return;
    }
    agree(data, &tokens, fault, &theirs);
    let mut header = None;
    let mut elements = theirs.elements.iter();
    for (kind, bytes) in &tokens {
        match (kind, header) {
            (TokenKind::Header(found), _) => header = Some(&**found),
            (TokenKind::Element(tag), Some(header)) => {
                let reference = elements.next().expect("rxml sees what the framer sees");
                tag_agrees(tag, bytes, reference);
                element_agrees(bytes, header, reference);
                if tag.name.is_stanza() {
                    let lang = (chance.below(2) == 0).then_some("tlh");
                    relayed(bytes, tag, header, lang, reference);
                    bounced(bytes, tag);
                    looked_into(bytes, tag, header);
                }
            }
            _ => {}
        }
    }
}

/// Feeds `data`, cut at these offsets; the tokens with their bytes, and the fault if one ends it.
fn frame(limits: Limits, data: &[u8], cuts: &[usize]) -> (Tokens, Option<Fault>) {
    let mut framer = Framer::new(limits);
    let (mut tokens, mut start) = (Vec::new(), 0);
    for &end in cuts.iter().chain([&data.len()]) {
        loop {
            match framer.next(&data[start..end]) {
                Ok(None) => {
                    if start == end {
                        framer.rest();
                    }
                    break;
                }
                Ok(Some(Token { len, kind })) => {
                    assert!(len > 0 && len <= end - start, "a token of {len} bytes");
                    tokens.push((kind, data[start..start + len].to_vec()));
                    start += len;
                }
                Err(fault) => {
                    assert_eq!(framer.next(&data[start..end]).err(), Some(fault), "it stays");
                    return (tokens, Some(fault));
                }
            }
        }
    }
    (tokens, None)
}

fn cuts_make_no_difference(
    chance: &mut Chance,
    limits: Limits,
    data: &[u8],
    (tokens, fault): (&Tokens, Option<Fault>),
) {
    let mut some: Vec<_> = (0..chance.below(5)).map(|_| chance.below(data.len() + 1)).collect();
    some.sort_unstable();
    let all: Vec<_> = if data.len() <= SHORT { (0..data.len()).collect() } else { Vec::new() };
    // white space may come in any number of pieces
    let solid = |tokens: &Tokens| -> Vec<String> {
        let solid = tokens.iter().filter(|(kind, _)| !matches!(kind, TokenKind::Space));
        solid.map(|(kind, bytes)| format!("{kind:?} {bytes:x?}")).collect()
    };
    for cuts in [some, all] {
        let (pieces, same) = frame(limits, data, &cuts);
        assert_eq!(same, fault, "cut at {cuts:?}");
        assert_eq!(solid(&pieces), solid(tokens), "cut at {cuts:?}");
    }
}

/// Whether it is acceptable, where each element ends, and its `from`.
fn agree(data: &[u8], tokens: &Tokens, fault: Option<Fault>, theirs: &Reading) {
    let mut end = 0;
    let mut ours = Vec::new();
    for (kind, bytes) in tokens {
        end += bytes.len();
        if let TokenKind::Element(tag) = kind {
            ours.push((end, tag.from.map(|span| span.text(bytes).into_owned())));
        }
    }
    let seen: Vec<_> = theirs
        .elements
        .iter()
        .map(|element| (element.end, element.attribute("from").map(str::to_owned)))
        .collect();
    let rest = String::from_utf8_lossy(&data[end..]);
    // rxml lets the last of two declarations of the default namespace win
    let twice = fault == Some(Fault::DuplicateAttribute)
        && rest.split('<').any(|tag| tag.matches("xmlns").count() > 1);
    // and takes references to white space for white space behind the end
    let behind = fault == Some(Fault::AfterFooter) && rest.trim_start().starts_with("&#");
    if twice || behind || fault.is_some_and(is_stricter) {
        assert!(seen.starts_with(&ours), "{fault:?}\n{ours:?}\n{theirs:?}");
        return;
    }
    assert_eq!(ours, seen, "{fault:?}\n{theirs:?}");
    let closed = tokens.iter().any(|(kind, _)| matches!(kind, TokenKind::Footer));
    let complete = fault.is_none() && closed;
    assert_eq!(complete, theirs.complete, "{fault:?}\n{theirs:?}");
    if !complete && fault.is_none() {
        let at_end = matches!(theirs.error, Some(rxml::Error::InvalidEof(_)));
        assert!(at_end || ends_in_tag(data), "{theirs:?}");
    }
}

/// Whether the last tag is not complete: the framer looks at it as a whole when it is, `rxml` at
/// each attribute. A `<` is in no value.
fn ends_in_tag(data: &[u8]) -> bool {
    let Some(start) = data.iter().rposition(|&byte| byte == b'<') else { return false };
    let mut quote = None;
    for &byte in &data[start..] {
        match (quote, byte) {
            (None, b'>') => return false,
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), _) if open == byte => quote = None,
            _ => {}
        }
    }
    true
}

/// Where the framer refuses what `rxml` accepts: rules of XMPP beyond those of XML, namespace
/// names that expat stumbles over, limits, and where `rxml` is lax: prefixes for the namespace of
/// `xmlns`, any spelling of values in the declaration.
fn is_stricter(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::BadDeclaration
            | Fault::ContentNamespace
            | Fault::ElementTooBig
            | Fault::EmptyStream
            | Fault::ForeignName
            | Fault::HeaderTooBig
            | Fault::NameTooLong
            | Fault::NamespaceName
            | Fault::PrefixedStanza
            | Fault::ReservedPrefix
            | Fault::RootName
            | Fault::RootNamespace
            | Fault::SecondHeader
            | Fault::StreamText
            | Fault::TooDeep
            | Fault::TooManyAttributes
            | Fault::TooManyNamespaces
    )
}

/// The attributes by which stanzas are routed and answered.
fn tag_agrees(tag: &Tag, bytes: &[u8], reference: &Reference) {
    for (name, span) in [("from", tag.from), ("to", tag.to), ("id", tag.id), ("type", tag.type_)] {
        let ours = span.map(|span| span.text(bytes).into_owned());
        assert_eq!(ours.as_deref(), reference.attribute(name), "{name}");
        if let Some(Span { start, end, escaped: false }) = span {
            let raw = &bytes[start as usize..end as usize];
            assert_eq!(Some(raw), ours.as_deref().map(str::as_bytes), "{name}");
        }
    }
    let Some(Part::Start(namespace, name, attributes)) = reference.content.first() else {
        panic!("{reference:?}")
    };
    assert_eq!(tag.has_lang, attributes.get(&Namespace::XML, "lang").is_some());
    let stanza = match name.as_str() {
        _ if *namespace != *ns::SERVER => None,
        "iq" => Some(ElementName::Iq),
        "message" => Some(ElementName::Message),
        "presence" => Some(ElementName::Presence),
        _ => None,
    };
    assert_eq!(tag.name.is_stanza().then_some(tag.name), stanza);
    let is_dialback = *namespace == *ns::DIALBACK;
    assert_eq!(tag.name == ElementName::DbResult, is_dialback && name == "result");
    assert_eq!(tag.name == ElementName::DbVerify, is_dialback && name == "verify");
}

/// The tree of an element is what `rxml` saw.
fn element_agrees(bytes: &[u8], header: &Header, reference: &Reference) {
    let parts = &reference.content;
    let weight: usize = parts
        .iter()
        .map(|part| match part {
            Part::Start(_, _, attributes) => 1 + attributes.iter().count(),
            Part::End | Part::Text(_) => 0,
        })
        .sum();
    match Element::parse(bytes, header) {
        Ok(element) => {
            let mut parts = parts.iter();
            same_tree(&element, parts.next().expect("a start"), &mut parts);
            assert!(parts.next().is_none());
        }
        // which also counts declarations
        Err(error) => assert!(weight + bytes.len() / 8 > 512, "{error}: {weight} parts"),
    }
}

fn same_tree<'r>(element: &Element, start: &'r Part, rest: &mut impl Iterator<Item = &'r Part>) {
    let Part::Start(namespace, name, attributes) = start else { panic!("{start:?}") };
    assert!(element.is(namespace.as_str(), name.as_str()), "{element:?}\n{start:?}");
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
    // behind brackets rxml leaves a carriage return as it is, so nobody knows how many lines end there
    let lines = |text: &str| -> Vec<String> {
        text.split(['\r', '\n']).filter(|line| !line.is_empty()).map(str::to_owned).collect()
    };
    assert_eq!(lines(element.text()), lines(&text));
}

/// What goes on another stream is one element of the same content there.
fn relayed(bytes: &[u8], tag: &Tag, header: &Header, lang: Option<&str>, reference: &Reference) {
    let stanza = Bytes::copy_from_slice(bytes);
    let out = relay::outgoing(&stanza, tag, header, lang);
    assert_eq!(relay::is_verbatim(tag, header, lang), out == stanza);
    let text = on_a_stream_of_ours(&out);
    let after = reading::read(&text);
    assert!(after.complete && after.elements.len() == 1, "{after:?}");
    let mut expected = reference.content.clone();
    if let (Some(Part::Start(_, _, attributes)), Some(lang), false) =
        (expected.first_mut(), lang, tag.has_lang)
    {
        attributes.insert(Namespace::XML, "lang".try_into().unwrap(), lang.to_owned());
    }
    assert_eq!(after.elements[0].content, expected);
    let roomy = Limits { element: 2 * LIMITS.element, attributes: 2 * LIMITS.attributes, ..LIMITS };
    let (again, fault) = frame(roomy, &text, &[]);
    // declarations that are written out count where they stand
    if fault == Some(Fault::TooManyNamespaces) {
        return;
    }
    assert_eq!(fault, None);
    let found = again.iter().find_map(|(kind, bytes)| match kind {
        TokenKind::Element(tag) => Some((tag, bytes)),
        _ => None,
    });
    let (found, bytes) = found.expect("the stanza");
    assert!(*bytes == out && found.name == tag.name);
}

/// An error that answers it is one stanza, from whom it was sent to.
fn bounced(bytes: &[u8], tag: &Tag) {
    let condition = StanzaCondition::RemoteServerNotFound;
    let value = |span: Option<Span>| span.map(|span| span.text(bytes).into_owned());
    for (is_error, reply) in [
        (true, bounce::error_reply(bytes, tag, condition, Some("for a test"))),
        (false, bounce::refusal(bytes, tag, condition, "for a test")),
    ] {
        let Some(reply) = reply else { continue };
        assert_ne!(value(tag.type_).as_deref(), Some("error"), "an error answered");
        let answer = reading::read(&on_a_stream_of_ours(&reply));
        assert!(answer.complete && answer.elements.len() == 1, "{is_error} {answer:?}");
        let answer = &answer.elements[0];
        assert_eq!(answer.attribute("type"), Some("error"));
        for (name, span) in [("to", tag.from), ("from", tag.to), ("id", tag.id)] {
            assert_eq!(answer.attribute(name), value(span).as_deref(), "{name}");
        }
    }
}

/// Rules about what a stanza carries can be asked of it.
fn looked_into(bytes: &[u8], tag: &Tag, header: &Header) {
    if let Some(carried) = Carried::by(bytes, tag) {
        let inside = carried.inside(bytes, header, None).expect("it came through the framer");
        assert_eq!(inside.common(carried.classes()), carried.classes());
    }
    let mut seen = 0;
    let outcome = walk::elements(bytes, header, |inner| {
        assert!(inner.depth < LIMITS.depth && !inner.name().is_empty());
        seen += 1;
        std::ops::ControlFlow::Continue(())
    });
    assert!(outcome.is_ok() && !(tag.empty && seen > 0));
}

fn on_a_stream_of_ours(stanza: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    StreamHeader { version: Some(Version::V1_0), ..StreamHeader::default() }.write(&mut text);
    text.extend_from_slice(stanza);
    text.extend_from_slice(FOOTER.as_bytes());
    text
}
