//! For tests: streams made up at random, and what `rxml`, a strict parser, says of them.

use proptest::{collection::vec, prelude::*, sample::select};
use rxml::{
    AttrMap, Namespace, NcName, Parse, WithOptions,
    error::{EndOrError, ErrorContext},
    parser::Options,
};

/// A stream in `rxml`'s eyes.
#[derive(Default, Debug)]
pub(super) struct Reading {
    /// Its first-level elements, as far as they are good.
    pub(super) elements: Vec<Reference>,
    /// Whether it ends where the text ends.
    pub(super) complete: bool,
    /// Why it was not read to its end.
    pub(super) error: Option<rxml::Error>,
}

/// A first-level element in `rxml`'s eyes.
#[derive(Default, Debug)]
pub(super) struct Reference {
    /// The offset in the stream behind its last byte.
    pub(super) end: usize,
    /// What it consists of; text in one piece.
    pub(super) content: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Part {
    Start(Namespace<'static>, NcName, AttrMap),
    End,
    Text(String),
}

/// Reads a complete stream.
pub(super) fn read(mut bytes: &[u8]) -> Reading {
    let options = Options { max_token_length: 1 << 20, ..Options::default() };
    let mut parser = rxml::Parser::with_options(options);
    let mut reading = Reading::default();
    let len = bytes.len();
    let (mut depth, mut current) = (0, Vec::new());
    loop {
        let event = match parser.parse(&mut bytes, true) {
            Ok(Some(event)) => event,
            Ok(None) => {
                reading.complete = true;
                return reading;
            }
            Err(EndOrError::NeedMoreData) => unreachable!("all data is there"),
            Err(EndOrError::Error(error)) => {
                reading.error = Some(error);
                return reading;
            }
        };
        let outside = depth <= 1;
        match event {
            rxml::Event::XmlDeclaration(..) => {}
            rxml::Event::StartElement(_, (namespace, name), attributes) => {
                depth += 1;
                if depth > 1 {
                    current.push(Part::Start(namespace, name, attributes));
                }
            }
            rxml::Event::Text(_, text) if !outside => match current.last_mut() {
                Some(Part::Text(before)) => before.push_str(&text),
                _ => current.push(Part::Text(text)),
            },
            rxml::Event::Text(..) => {}
            rxml::Event::EndElement(_) => {
                depth -= 1;
                if depth >= 1 {
                    current.push(Part::End);
                }
                if depth == 1 {
                    let content = std::mem::take(&mut current);
                    // not by the metrics of events, which leave out empty CDATA sections
                    reading.elements.push(Reference { end: len - bytes.len(), content });
                }
            }
        }
    }
}

impl Reading {
    /// Whether reading ended at something that is good XML, but that `rxml` 0.14 refuses.
    pub(super) fn stumbled(&self) -> bool {
        match self.error {
            // a name with a character that its tables lack
            Some(rxml::Error::UnexpectedChar(_, c, _)) => ('\u{fdf0}'..='\u{fffd}').contains(&c),
            // a lone carriage return in a value, which it blames on the good character behind it
            Some(rxml::Error::InvalidChar(Some(ErrorContext::AttributeValue), c, false)) => {
                char::from_u32(c).is_some_and(|c| !c.is_control() && c < '\u{fffe}')
            }
            _ => false,
        }
    }
}

impl Reference {
    /// The value of an attribute of its start tag.
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        match self.content.first()? {
            Part::Start(_, _, attributes) => {
                attributes.get(&Namespace::NONE, name).map(String::as_str)
            }
            Part::End | Part::Text(_) => None,
        }
    }
}

/// Streams that are well-formed but for a prefix that nobody declares now and then.
pub(super) fn streams() -> impl Strategy<Value = String> {
    (headers(), vec(first_level(), 1..5)).prop_map(|(header, elements)| {
        let (name, _) = header[1..].split_once(' ').expect("a header with attributes");
        format!("{}{header}{}</{name}>", "<?xml version='1.0'?>\n", elements.concat())
    })
}

/// Streams with a few bytes changed, mostly those that mean something.
pub(super) fn damaged_streams() -> impl Strategy<Value = Vec<u8>> {
    let edits = vec((any::<prop::sample::Index>(), edit()), 0..3);
    (streams(), edits).prop_map(|(text, edits)| {
        let mut bytes = text.into_bytes();
        for (index, (remove, insert)) in edits {
            let at = index.index(bytes.len());
            let end = bytes.len().min(at + remove);
            bytes.splice(at..end, insert);
        }
        bytes
    })
}

fn edit() -> impl Strategy<Value = (usize, Vec<u8>)> {
    let byte =
        select(b"<>/'\"&;=:! ?[]-#x\n\t\0\x01\x7f\x80\xbf\xc0\xc3\xed\xef\xf4\xffam1".to_vec());
    let bytes = prop_oneof![
        3 => byte.prop_map(|b| vec![b]),
        1 => Just(Vec::new()),
        1 => select(SNIPPETS).prop_map(|s| s.as_bytes().to_vec()),
        1 => any::<u8>().prop_map(|b| vec![b]),
    ];
    (0_usize..3, bytes)
}

const SNIPPETS: &[&str] = &[
    "<!--",
    "]]>",
    "<![CDATA[",
    "<?x?>",
    "<a>",
    "</a>",
    "<a/>",
    "&lt;",
    "&#0;",
    "&#65;",
    "&foo;",
    "\u{fffe}",
    "\u{e9}",
    "\u{2028}",
    "xmlns:",
    "xml:",
    "p:",
    " from='z'",
    " p:from='z'",
    " xmlns=''",
    " xmlns:p=''",
    " xmlns:q='u:q'",
    " a=''",
    "</stream:stream>",
    "<message/>",
];

fn headers() -> impl Strategy<Value = String> {
    let root = select(
        &[
            "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams'",
            "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams'",
            "<s:stream xmlns='jabber:server' xmlns:s='http://etherx.jabber.org/streams'",
            "<stream xmlns='http://etherx.jabber.org/streams'",
            "<stream:stream xmlns:stream='http://etherx.jabber.org/streams'",
        ][..],
    );
    let declarations = select(
        &[
            " xmlns:db='jabber:server:dialback'",
            " xmlns:db='jabber:server:dialback'",
            " xmlns:db='jabber:server:dialback' xmlns:q='u:q' xmlns:p='u:p&amp;p'",
            " xmlns:db='u:other' xmlns:q=\"u:'q'\" xmlns:p='u:p'",
            " xmlns:q='jabber:server' xmlns:xml='http://www.w3.org/XML/1998/namespace' xmlns:p='u:p' \
         xmlns:db='jabber:server:dialback'",
        ][..],
    );
    let rest = select(&[" version='1.0'", " from='a' to='b' xml:lang='de'", "\n"][..]);
    (root, declarations, rest).prop_map(|(a, b, c)| format!("{a}{b}{c}>"))
}

fn first_level() -> impl Strategy<Value = String> {
    let space = select(&["", "", " ", "\r\n"][..]);
    let name = select(&["message", "presence", "iq", "db:result", "foo"][..]);
    let own = select(
        &[
            " xmlns='jabber:server' xmlns:p='u:p2' xmlns:q='u:q2'",
            " xmlns='jabber:server' xmlns:p='u:p2' xmlns:q='u:q2'",
            " xmlns='jabber:server'",
            " xmlns:q='u:q2'",
            "",
        ][..],
    );
    (space, name, own, attributes(), vec(node(), 0..4))
        .prop_map(|(space, name, own, a, nodes)| format!("{space}{}", tag(name, own, &a, &nodes)))
}

fn node() -> impl Strategy<Value = String> {
    let name = select(&["body", "x", "p:x", "db:result", "q:x", "e_1", "a.b-c"][..]);
    let own = select(
        &[
            "",
            "",
            "",
            " xmlns='u:x'",
            " xmlns:p='u:p'",
            " xmlns:q='u:p'",
            " xmlns=''",
            " xmlns:p='u:p' xmlns:q=\"u:q\"",
        ][..],
    );
    text().prop_recursive(3, 12, 3, move |inner| {
        (name.clone(), own.clone(), attributes(), vec(inner, 0..4))
            .prop_map(|(name, own, a, nodes)| tag(name, own, &a, &nodes))
    })
}

fn tag(name: &str, own: &str, attributes: &str, nodes: &[String]) -> String {
    if nodes.is_empty() {
        format!("<{name}{own}{attributes}/>")
    } else {
        format!("<{name}{attributes}{own}>{}</{name} >", nodes.concat())
    }
}

fn attributes() -> impl Strategy<Value = String> {
    let names = &["from", "to", "id", "type", "xml:lang", "p:from", "q:from", "db:id", "a"][..];
    let names = prop::sample::subsequence(names, 0..3);
    let values = vec(
        select(
            &["", "a@b.example/r", "é&quot;", "&#x41;\t&#10;\n", "\u{ff0c}>]]>", "x y", "p:q"][..],
        ),
        3,
    );
    (names, values, any::<bool>()).prop_map(|(names, values, double)| {
        let quote = if double { '"' } else { '\'' };
        let pairs = names.iter().zip(values);
        pairs.map(|(name, value)| format!(" {name}={quote}{value}{quote}")).collect()
    })
}

fn text() -> impl Strategy<Value = String> {
    select(
        &[
            "text",
            "&amp;&lt;",
            "&#x159;",
            "<![CDATA[</message> ]] > ]]>",
            "<![CDATA[]]>",
            "\u{ff0c}é",
            "]] >",
            "\r\n",
            "a longer run of text, so that blocks are run over, and then some more \u{20ac}",
        ][..],
    )
    .prop_map(str::to_owned)
}
