//! What the two machines have in common: the script that the input is, the configurations, and the
//! ear that listens to what they say.
//!
//! A script is one byte of settings, then the bytes of the other end. Between them stand events of
//! three bytes, a NUL, which no XML has, a letter and an argument:
//!
//! ```text
//! \x00<stream:stream ...>\0t0<stream:stream ...>\0v0<auth ...>
//! ```

use std::{
    cell::Cell,
    sync::{Arc, LazyLock},
};

use fedgate::{
    auth::dialback_key::DialbackKeys,
    config::{self, model::Config},
    stream::Fault,
    xml::{self, Element, ElementName, Framer, Header, TokenKind, writer::FOOTER},
    xmpp::{Domain, DomainPair, StreamCondition},
};
use zeroize::Zeroizing;

use super::reading;

/// Scripts longer than this are cut off.
const MAX: usize = 64 << 10;

/// One step of a script.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event<'d> {
    /// The other end sent this.
    Bytes(&'d [u8]),
    /// Something else happened.
    Happens(u8, usize),
}

/// The steps of a script, without its settings.
pub(crate) fn events(data: &[u8]) -> Vec<Event<'_>> {
    let mut rest = &data[..data.len().min(MAX)];
    let mut events = Vec::new();
    while !rest.is_empty() {
        let bytes = rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len());
        if bytes > 0 {
            events.push(Event::Bytes(&rest[..bytes]));
        }
        if let Some(&[_, letter, argument, ..]) = rest[bytes..].first_chunk::<3>() {
            events.push(Event::Happens(letter, usize::from(argument.wrapping_sub(b'0'))));
        }
        rest = rest.get(bytes + 3..).unwrap_or_default();
    }
    events
}

const RULES: &str = "
version: 1
legacy:
  old: { address: '127.0.0.1:1', domains: [montague.example, rooms.montague.example] }
  other: { address: '127.0.0.1:2', domains: [verona.example] }
limits: { pending_verifications: 3, pairs_per_stream: 5 }
rules:
  - { match: [evil.example, '*.evil.example'], allow: none, reason: spam }
  - { match: strict.example, level: trusted }
  - { match: old.example, level: permissive }
  - { match: other.example, compat: { stream_management: off } }
";

/// Ours are `montague.example`, its rooms and, on another legacy server, `verona.example`.
pub(crate) static CONFIGS: LazyLock<[Arc<Config>; 4]> = LazyLock::new(|| {
    let denied = "  - { match: rooms.capulet.example, allow: none }\n";
    let trusted = "  - { match: '*.capulet.example', level: trusted }\n";
    [
        RULES.to_owned(),
        format!("{RULES}{denied}"),
        RULES
            .replace("verona.example", "old.example")
            .replace("level: permissive", "compat: { bidi: off }"),
        format!("{RULES}{trusted}"),
    ]
    .map(|text| {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("fedgate.yaml"), text).unwrap();
        match config::load(directory.path()) {
            Ok(loaded) => Arc::new(loaded.config),
            Err(problems) => panic!("{problems}"),
        }
    })
});

/// Domains for the arguments of events, those that may meet first.
pub(crate) fn domain(number: usize) -> Domain {
    const NAMES: [&str; 9] = [
        "montague.example",
        "capulet.example",
        "rooms.capulet.example",
        "rooms.montague.example",
        "strict.example",
        "old.example",
        "verona.example",
        "evil.example",
        "other.example",
    ];
    Domain::parse(NAMES[number % NAMES.len()]).unwrap()
}

/// A pair for the argument of an event.
pub(crate) fn pair(number: usize) -> DomainPair {
    DomainPair::new(domain(number % 9), domain(number / 9))
}

/// The secrets of the gate.
pub(crate) fn keys() -> Arc<DialbackKeys> {
    Arc::new(DialbackKeys::new(Zeroizing::new([7; 32])))
}

thread_local! {
    static IDS: Cell<u32> = const { Cell::new(0) };
}

/// Stream ids: `id1`, `id2` and so on.
pub(crate) fn ids() -> String {
    IDS.set(IDS.get() + 1);
    format!("id{}", IDS.get())
}

/// A script begins: so do the ids.
pub(crate) fn restart_ids() {
    IDS.set(0);
}

/// What came, piece by piece, as fedgate reads it from a socket.
pub(crate) struct Input {
    framer: Framer,
    bytes: Vec<u8>,
    limits: xml::Limits,
}

/// One piece.
pub(crate) enum Piece {
    Header(Arc<Header>),
    Element(ElementName, Element),
    Stanza { from: String, to: String },
    Footer,
}

impl Input {
    pub(crate) fn new(config: &Config) -> Self {
        let limits = xml::Limits {
            header: config.limits.element_before_auth,
            element: config.limits.element_before_auth,
            depth: config.limits.depth,
            attributes: config.limits.attributes,
            grace: 1,
        };
        Self { framer: Framer::new(limits), bytes: Vec::new(), limits }
    }

    /// A new stream begins on the connection.
    pub(crate) fn restart(&mut self) {
        self.framer = Framer::new(self.limits);
    }

    /// Elements may have so many bytes from now on.
    pub(crate) fn authenticated(&mut self, element: usize) {
        self.framer.set_limits(xml::Limits { element, ..self.limits });
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next piece, and how many bytes it has.
    pub(crate) fn next(&mut self) -> Result<Option<(Piece, usize)>, Fault> {
        while let Some(token) = self.framer.next(&self.bytes).map_err(Fault::xml)? {
            let bytes: Vec<u8> = self.bytes.drain(..token.len).collect();
            let piece = match token.kind {
                TokenKind::Declaration | TokenKind::Space => continue,
                TokenKind::Header(header) => Piece::Header(header),
                TokenKind::Footer => Piece::Footer,
                TokenKind::Element(tag) if tag.name.is_stanza() => {
                    let text = |span: Option<xml::Span>| {
                        span.map(|span| span.text(&bytes).into_owned()).unwrap_or_default()
                    };
                    Piece::Stanza { from: text(tag.from), to: text(tag.to) }
                }
                TokenKind::Element(tag) => {
                    let header = self.framer.header().expect("the header comes first");
                    match Element::parse(&bytes, header) {
                        Ok(element) => Piece::Element(tag.name, element),
                        Err(xml::ElementError::TooLarge) => {
                            let reason = "element too complex";
                            return Err(Fault::remote(StreamCondition::PolicyViolation, reason));
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            };
            return Ok(Some((piece, token.len)));
        }
        Ok(None)
    }
}

/// Hears what a machine says: whole elements, on streams that are well-formed.
pub(crate) struct Ear {
    framer: Framer,
    stream: Vec<u8>,
}

impl Ear {
    pub(crate) fn new() -> Self {
        Self { framer: framer(), stream: Vec::new() }
    }

    /// It said this; what elements those were.
    pub(crate) fn hear(&mut self, bytes: &[u8]) -> Vec<(ElementName, Element)> {
        self.stream.extend_from_slice(bytes);
        let (mut rest, mut elements) = (bytes, Vec::new());
        while let Some(token) = self.framer.next(rest).expect("good XML") {
            let (bytes, behind) = rest.split_at(token.len);
            rest = behind;
            if let TokenKind::Element(tag) = token.kind {
                let header = self.framer.header().expect("the header comes first");
                elements.push((tag.name, Element::parse(bytes, header).unwrap()));
            }
        }
        assert!(rest.is_empty(), "half an element: {}", String::from_utf8_lossy(rest));
        elements
    }

    /// The stream ends, with these last words; what elements they were.
    pub(crate) fn end(&mut self, farewell: &[u8]) -> Vec<(ElementName, Element)> {
        let elements = self.hear(farewell);
        if !self.stream.is_empty() {
            if !self.stream.ends_with(FOOTER.as_bytes()) {
                self.stream.extend_from_slice(FOOTER.as_bytes());
            }
            let reading = reading::read(&self.stream);
            assert!(reading.complete, "{}\n{reading:?}", String::from_utf8_lossy(&self.stream));
        }
        *self = Self::new();
        elements
    }
}

fn framer() -> Framer {
    let limits =
        xml::Limits { header: 64 << 10, element: 1 << 20, depth: 64, attributes: 64, grace: 1 };
    Framer::new(limits)
}
