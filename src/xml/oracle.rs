//! For tests: streams made up at random, and what `rxml`, a strict parser, says of them.

mod reading;

use proptest::{collection::vec, prelude::*, sample::select};

pub(super) use reading::{Part, read};

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
