//! Test only: both machines without sockets. Bytes go through the real framer in either
//! direction, so that everything a machine says is read as the other end would read it; what it
//! does comes out as short words, for tables and transcripts.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeSet, VecDeque},
    fmt,
    sync::{Arc, LazyLock},
    time::Duration,
};

use rustls::pki_types::UnixTime;
use zeroize::Zeroizing;

use super::{
    Action, Authentication, Challenge, Failure, Fault, Initiating, Purpose, Question, Receiving,
    Refusal, Resumption, Setup, Step, VerifyOutcome,
};
use crate::{
    auth::{
        Proof, TlsFacts,
        dialback_key::DialbackKeys,
        pkix::{self, ReferenceIds, TrustRoots, testing::Ca},
    },
    config::{self, model::Config, policy::Level},
    net::tls::testing,
    xml::{
        self, Element, ElementName, Framer, Header, TokenKind, Version,
        writer::{self, StreamHeader},
    },
    xmpp::{Domain, DomainPair, Side, StanzaCondition},
};

/// The domains of the tests: ours are `montague.example`, its rooms, those of transcripts and, on
/// another legacy server, `verona.example`; `evil.example` is denied, `strict.example` has to be trusted.
pub(super) const CONFIG: &str = "
version: 1
legacy:
  old:
    address: '127.0.0.1:15269'
    domains:
      [montague.example, rooms.montague.example, example.com, example.net,
       legacy.test, old.test, oldeja.test, plain.test]
  other: { address: '127.0.0.1:25269', domains: [verona.example] }
rules:
  - { match: [evil.example, '*.evil.example'], allow: none, reason: spam }
  - { match: strict.example, level: trusted }
limits: { pending_verifications: 3, pairs_per_stream: 5 }
";

/// A checked configuration.
pub(super) fn config(yaml: &str) -> Arc<Config> {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("fedgate.yaml"), yaml).unwrap();
    Arc::new(config::load(directory.path()).unwrap().config)
}

/// The configuration of [`CONFIG`].
pub(super) fn usual_config() -> Arc<Config> {
    static USUAL: LazyLock<Arc<Config>> = LazyLock::new(|| config(CONFIG));
    Arc::clone(&USUAL)
}

/// The same secrets for all machines of a test, as for all replicas.
pub(super) fn keys() -> Arc<DialbackKeys> {
    Arc::new(DialbackKeys::new(Zeroizing::new([7; 32])))
}

pub(super) fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

pub(super) fn pair(sender: &str, target: &str) -> DomainPair {
    DomainPair::new(domain(sender), domain(target))
}

/// Handshakes that happened, and the CA that both ends trust.
pub(super) struct Tls {
    roots: TrustRoots,
    /// What we know of a connection that a peer opened and showed a certificate on.
    pub(super) with_certificate: TlsFacts,
    /// Without a certificate.
    pub(super) anonymous: TlsFacts,
    /// What we know of a connection that we opened to a peer.
    pub(super) opened: TlsFacts,
}

impl Tls {
    pub(super) fn get() -> &'static Self {
        static TLS: LazyLock<Tls> = LazyLock::new(|| {
            let ca = Ca::new("ca");
            let peer = ca.server(&[
                "capulet.example",
                "*.capulet.example",
                "strict.example",
                "evil.example",
                "example.org",
                "*.example.org",
                "im.example.com",
                "example.com",
                "example.net",
            ]);
            let us = ca.server(&["montague.example", "rooms.montague.example"]);
            let (_, with_certificate) = testing::facts("montague.example", Some(&peer), &us);
            let (_, anonymous) = testing::facts("montague.example", None, &us);
            let (opened, _) = testing::facts("capulet.example", Some(&us), &peer);
            Tls { roots: ca.roots(), with_certificate, anonymous, opened }
        });
        &TLS
    }

    /// Judges the peer's certificate for a domain, as the gate does.
    pub(super) fn judge(facts: &TlsFacts, source: &Domain) -> Result<Proof, String> {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_900_000_000));
        pkix::verify(facts.peer_chain(), &Self::get().roots, ReferenceIds::of(source), now)
            .map_err(|error| error.to_string())
    }

    /// A proof by the certificate of the peer.
    pub(super) fn proof(source: &str) -> Proof {
        Self::judge(&Self::get().with_certificate, &domain(source)).unwrap()
    }
}

thread_local! {
    static COUNTER: Cell<u32> = const { Cell::new(0) };
    static PRESET: RefCell<VecDeque<String>> = const { RefCell::new(VecDeque::new()) };
}

/// Stream ids: those of [`preset_ids`], then `id1`, `id2` and so on.
pub(super) fn ids() -> String {
    PRESET.with_borrow_mut(VecDeque::pop_front).unwrap_or_else(|| {
        COUNTER.set(COUNTER.get() + 1);
        format!("id{}", COUNTER.get())
    })
}

/// The next stream ids of machines of this thread.
pub(super) fn preset_ids(ids: impl IntoIterator<Item = String>) {
    COUNTER.set(0);
    PRESET.set(ids.into_iter().collect());
}

// === reading ===

/// One piece of a stream.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    Header(Arc<Header>),
    Element(ElementName, Element),
    Stanza { from: String, to: String },
    Footer,
}

/// The receiving end of a byte pipe.
#[derive(Debug)]
pub(super) struct Reader {
    framer: Framer,
    bytes: Vec<u8>,
}

impl Reader {
    pub(super) fn new() -> Self {
        let limits = xml::Limits {
            header: 16 << 10,
            element: 512 << 10,
            depth: 64,
            attributes: 64,
            grace: 1,
        };
        Self { framer: Framer::new(limits), bytes: Vec::new() }
    }

    /// A reader that has read a header such as ours.
    pub(super) fn inside() -> Self {
        let mut header = Vec::new();
        let plain = StreamHeader { version: Some(Version::V1_0), ..StreamHeader::default() };
        plain.write(&mut header);
        let mut reader = Self::new();
        reader.push(&header);
        assert!(matches!(reader.next(), Ok(Some(Piece::Header(_)))));
        reader
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn next(&mut self) -> Result<Option<Piece>, xml::Fault> {
        while let Some(token) = self.framer.next(&self.bytes)? {
            let bytes: Vec<u8> = self.bytes.drain(..token.len).collect();
            return Ok(Some(match token.kind {
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
                    let header = self.framer.header().unwrap();
                    Piece::Element(tag.name, Element::parse(&bytes, header).unwrap())
                }
            }));
        }
        Ok(None)
    }

    /// A new stream begins: nothing of the old one may be left.
    pub(super) fn restart(&mut self) {
        assert!(self.bytes.is_empty(), "left over: {}", String::from_utf8_lossy(&self.bytes));
        *self = Self::new();
    }
}

/// The single piece of a text, read inside a stream.
pub(super) fn piece(xml: &str) -> Piece {
    let mut reader = Reader::inside();
    reader.push(xml.as_bytes());
    let piece = reader.next().unwrap().unwrap();
    assert!(reader.bytes.is_empty(), "{xml}");
    piece
}

/// The single header of a text.
pub(super) fn header(xml: &str) -> Arc<Header> {
    let mut reader = Reader::new();
    reader.push(xml.as_bytes());
    match reader.next().unwrap().unwrap() {
        Piece::Header(header) => header,
        other => panic!("{other:?}"),
    }
}

/// A stream header with these attributes, as text.
pub(super) fn header_text(attributes: &str) -> String {
    format!(
        "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
         xmlns:db='jabber:server:dialback' {attributes}>"
    )
}

// === what machines do ===

/// Something that a machine did.
#[derive(Debug)]
pub(super) enum Event {
    /// It said this.
    Said(Piece),
    /// It did something else, in words.
    Did(String),
    /// It ended the stream.
    Fault(Fault),
    /// It gave the stream up.
    Failure(Failure),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Said(piece) => write!(f, "{piece}"),
            Self::Did(what) => f.write_str(what),
            Self::Fault(fault) => write!(f, "!{}", fault.condition()),
            Self::Failure(failure) => write!(f, "!{}", failure.reason()),
        }
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(header) if header.version.is_some() => f.write_str("header"),
            Self::Header(_) => f.write_str("old-header"),
            Self::Footer => f.write_str("footer"),
            Self::Stanza { .. } => f.write_str("stanza"),
            Self::Element(name, element) => {
                let prefix = match name {
                    ElementName::DbResult | ElementName::DbVerify => "db:",
                    ElementName::StreamError => "stream:",
                    ElementName::TlsFailure => "tls:",
                    ElementName::SaslFailure => "sasl:",
                    _ => "",
                };
                write!(f, "{prefix}{}", element.name)?;
                if let Some(kind) = element.attr("type") {
                    write!(f, "={kind}")?;
                }
                let inside: Vec<_> = element
                    .children()
                    .iter()
                    .flat_map(|child| match child.name.as_str() {
                        "error" => child.children(),
                        _ => std::slice::from_ref(child),
                    })
                    .map(|child| child.name.as_str())
                    .collect();
                if !inside.is_empty() {
                    write!(f, "({})", inside.join(" "))?;
                }
                Ok(())
            }
        }
    }
}

/// Events in a row, as words.
pub(super) fn words(events: &[Event]) -> String {
    if events.is_empty() {
        return "-".into();
    }
    events.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn how(authentication: Authentication) -> &'static str {
    authentication.as_str()
}

/// What was said, read as the other end reads it; the bytes are kept for it.
#[derive(Debug)]
struct Voice {
    reader: Reader,
    sent: Vec<u8>,
}

impl Voice {
    fn new() -> Self {
        Self { reader: Reader::new(), sent: Vec::new() }
    }

    fn say(&mut self, bytes: &[u8], events: &mut Vec<Event>) {
        self.sent.extend_from_slice(bytes);
        self.reader.push(bytes);
        while let Some(piece) = self.reader.next().unwrap() {
            events.push(Event::Said(piece));
        }
        assert!(self.reader.bytes.is_empty(), "a machine says whole elements only");
    }
}

// === the accepting end ===

/// A [`Receiving`] machine and what stands around it.
pub(super) struct Accepting {
    pub(super) machine: Receiving,
    voice: Voice,
    /// Challenges that it issued and nobody answered yet.
    pub(super) challenges: VecDeque<Challenge>,
    pub(super) wants_tls: bool,
    pub(super) wants_restart: bool,
    pub(super) ended: bool,
}

impl Accepting {
    pub(super) fn new(side: Side) -> Self {
        Self::of(Receiving::new(side, usual_config(), keys(), ids))
    }

    pub(super) fn of(machine: Receiving) -> Self {
        Self {
            machine,
            voice: Voice::new(),
            challenges: VecDeque::new(),
            wants_tls: false,
            wants_restart: false,
            ended: false,
        }
    }

    /// The bytes that it sent since the last call.
    pub(super) fn sent(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.voice.sent)
    }

    pub(super) fn tls(&mut self, facts: &TlsFacts) {
        self.wants_tls = false;
        self.machine.tls_up(facts.clone());
    }

    pub(super) fn take(&mut self, piece: &Piece) -> Vec<Event> {
        let mut out = Vec::new();
        let mut events = Vec::new();
        let outcome = match piece {
            Piece::Header(header) => self.machine.header(header, &mut out),
            Piece::Element(name, element) => self.machine.element(*name, element, &mut out),
            Piece::Stanza { from, to } => self.machine.stanza(from, to).map(|grant| {
                events.push(Event::Did(format!("admitted({})", grant.pair())));
            }),
            Piece::Footer => Ok(()),
        };
        self.done(out, outcome, events)
    }

    /// Reads a piece from text and takes it.
    pub(super) fn xml(&mut self, xml: &str) -> String {
        words(&self.take(&piece(xml)))
    }

    pub(super) fn header(&mut self, attributes: &str) -> String {
        words(&self.take(&Piece::Header(header(&header_text(attributes)))))
    }

    pub(super) fn stanza(&mut self, from: &str, to: &str) -> String {
        words(&self.take(&Piece::Stanza { from: from.into(), to: to.into() }))
    }

    /// Answers the oldest challenge.
    pub(super) fn answer(&mut self, result: Result<Proof, Refusal>) -> Vec<Event> {
        let challenge = self.challenges.pop_front().unwrap();
        self.answer_to(challenge, result)
    }

    pub(super) fn answer_to(
        &mut self,
        challenge: Challenge,
        result: Result<Proof, Refusal>,
    ) -> Vec<Event> {
        let mut out = Vec::new();
        let outcome = self.machine.verdict(challenge.answer(result), &mut out);
        self.done(out, outcome, Vec::new())
    }

    /// The oldest challenge is found to be good: by the certificate, or by dialback.
    pub(super) fn confirm(&mut self) -> String {
        let proof = match self.challenges.front().unwrap().question() {
            Question::Certificate(pair) => Tls::proof(pair.sender.as_str()),
            Question::Pair { pair, .. } | Question::Renewal { pair, .. } => {
                Proof::dialback(pair.sender.clone(), None)
            }
        };
        words(&self.answer(Ok(proof)))
    }

    /// The oldest challenge is answered with a dialback error.
    pub(super) fn answer_error(&mut self, condition: StanzaCondition) -> Vec<Event> {
        self.answer(Err(Refusal::error(condition, "refused in a test")))
    }

    /// The authoritative server does not know the key of the oldest challenge.
    pub(super) fn answer_invalid(&mut self) -> Vec<Event> {
        let refusal = Refusal { outcome: VerifyOutcome::Invalid, detail: "wrong key".into() };
        self.answer(Err(refusal))
    }

    /// The last words for a fault, read by the other end.
    pub(super) fn farewell(&mut self, fault: &Fault) -> Vec<Event> {
        let bytes = self.machine.farewell(fault);
        let mut events = Vec::new();
        self.voice.say(&bytes, &mut events);
        events
    }

    /// Certificates may prove something else from now on.
    pub(super) fn distrust(&mut self) -> String {
        words(&self.distrusted())
    }

    /// The same.
    pub(super) fn distrusted(&mut self) -> Vec<Event> {
        let mut out = Vec::new();
        let outcome = self.machine.distrust(&mut out);
        self.done(out, outcome, Vec::new())
    }

    /// The time is `seconds` after the epoch: proofs that have expired are asked for again.
    pub(super) fn renew(&mut self, seconds: u64) -> String {
        words(&self.expired(seconds))
    }

    /// The same.
    pub(super) fn expired(&mut self, seconds: u64) -> Vec<Event> {
        let mut out = Vec::new();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        self.machine.renew(now, &mut out);
        self.done(out, Ok(()), Vec::new())
    }

    fn done(
        &mut self,
        out: Vec<Action>,
        outcome: Result<(), Fault>,
        mut events: Vec<Event>,
    ) -> Vec<Event> {
        for action in out {
            assert!(!self.ended, "an action behind the end");
            let did = match action {
                Action::Send(bytes) => {
                    assert!(!self.wants_tls, "clear text behind <proceed/>");
                    self.voice.say(&bytes, &mut events);
                    continue;
                }
                Action::StartTls(domain) => {
                    self.wants_tls = true;
                    self.voice.reader.restart();
                    let domain = domain.map(|domain| domain.to_string()).unwrap_or_default();
                    format!("handshake({domain})")
                }
                Action::Restart(over) => {
                    self.wants_restart = true;
                    self.voice.reader.restart();
                    let over: BTreeSet<_> = over.iter().collect();
                    let over = over.into_iter().map(|pair| format!(" over({pair})"));
                    format!("restart{}", over.collect::<String>())
                }
                Action::Prove(challenge) => {
                    let did = match challenge.question() {
                        Question::Certificate(pair) => format!("judge({})", pair.sender),
                        Question::Pair { pair, .. } => format!("prove({pair})"),
                        Question::Renewal { pair, .. } => format!("renew({pair})"),
                    };
                    self.challenges.push_back(challenge);
                    did
                }
                Action::Granted(grant, by) => format!("granted({} {})", grant.pair(), how(by)),
                Action::Refused(pair, _) => format!("refused({pair})"),
                Action::Full(limit) => format!("full({limit:?})"),
                Action::Renewed(pair) => format!("renewed({pair})"),
                Action::Withdrawn(pair, _) => format!("withdrawn({pair})"),
                Action::Manage { resumable } => {
                    format!("manage({})", if resumable { "resumable" } else { "" })
                }
                Action::Resume(former) => format!("resume({} {})", former.id, former.h),
                Action::AckWanted => "ack wanted".into(),
                Action::Acknowledged(h) => format!("acknowledged({h})"),
                Action::Close => {
                    self.ended = true;
                    "close".into()
                }
                Action::StreamError(failure) => {
                    self.ended = true;
                    format!("close({})", failure.reason())
                }
            };
            events.push(Event::Did(did));
        }
        if let Err(fault) = outcome {
            events.push(Event::Fault(fault));
        }
        events
    }
}

// === the opening end ===

/// An [`Initiating`] machine and what stands around it.
pub(super) struct Opening {
    pub(super) machine: Initiating,
    target: Domain,
    voice: Voice,
    pub(super) wants_tls: bool,
    pub(super) wants_restart: bool,
    pub(super) wants_judgement: bool,
}

impl Opening {
    pub(super) fn new(setup: Setup) -> Self {
        Self {
            target: setup.pair.target.clone(),
            machine: Initiating::new(setup),
            voice: Voice::new(),
            wants_tls: false,
            wants_restart: false,
            wants_judgement: false,
        }
    }

    pub(super) fn sent(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.voice.sent)
    }

    pub(super) fn target(&self) -> &Domain {
        &self.target
    }

    pub(super) fn connected(&mut self) -> Vec<Event> {
        let mut out = Vec::new();
        self.machine.connected(&mut out);
        self.done(out, Ok(()))
    }

    pub(super) fn tls(&mut self, facts: &TlsFacts) -> Vec<Event> {
        self.wants_tls = false;
        let mut out = Vec::new();
        self.machine.tls_up(facts.clone(), &mut out);
        self.done(out, Ok(()))
    }

    pub(super) fn judged(&mut self, verdict: Result<Proof, String>) -> Vec<Event> {
        self.wants_judgement = false;
        let mut out = Vec::new();
        let outcome = self.machine.judged(verdict, &mut out);
        self.done(out, outcome)
    }

    /// None if it may not be asked.
    pub(super) fn ask_again(&mut self, setup: &Setup) -> Option<String> {
        let mut out = Vec::new();
        let asked = self.machine.ask_again(setup, &mut out);
        let events = self.done(out, Ok(()));
        asked.then(|| words(&events))
    }

    pub(super) fn take(&mut self, piece: &Piece) -> Vec<Event> {
        let mut out = Vec::new();
        let mut admitted = None;
        let outcome = match piece {
            Piece::Header(header) => self.machine.header(header, &mut out),
            Piece::Element(name, element) => self.machine.element(*name, element, &mut out),
            Piece::Stanza { from, to } => self.machine.stanza(from, to).map(|grant| {
                admitted = grant.map(|grant| format!("admitted({})", grant.pair()));
            }),
            Piece::Footer => Err(self.machine.footer()),
        };
        let mut events = self.done(out, outcome);
        events.extend(admitted.map(Event::Did));
        events
    }

    pub(super) fn xml(&mut self, xml: &str) -> String {
        words(&self.take(&piece(xml)))
    }

    pub(super) fn header(&mut self, attributes: &str) -> String {
        words(&self.take(&Piece::Header(header(&header_text(attributes)))))
    }

    /// Asks for one more pair on the open stream.
    pub(super) fn request(&mut self, pair: DomainPair, inbound: Option<Proof>) -> String {
        let mut out = Vec::new();
        self.machine.request(pair, inbound, &mut out);
        words(&self.done(out, Ok(())))
    }

    fn done(&mut self, out: Vec<Step>, outcome: Result<(), Failure>) -> Vec<Event> {
        let mut events = Vec::new();
        for step in out {
            let did = match step {
                Step::Send(bytes) => {
                    assert!(!self.wants_tls, "clear text behind <proceed/>");
                    self.voice.say(&bytes, &mut events);
                    continue;
                }
                Step::StartTls => {
                    self.wants_tls = true;
                    self.voice.reader.restart();
                    "handshake".into()
                }
                Step::Restart => {
                    self.wants_restart = true;
                    self.voice.reader.restart();
                    "restart".into()
                }
                Step::Judge => {
                    self.wants_judgement = true;
                    "judge".into()
                }
                Step::Answered(pair, Ok(())) => format!("answered({pair}, valid)"),
                Step::Answered(pair, Err(failure)) => {
                    format!("answered({pair}, {})", failure.reason())
                }
                Step::Opened(by) => format!("opened({})", how(by)),
                Step::Managed(None) => "managed".into(),
                Step::Managed(Some(Resumption { id, max })) => {
                    format!("managed({id} {})", max.map_or(0, |max| max.as_secs()))
                }
                Step::Unmanaged => "unmanaged".into(),
                Step::AckWanted => "ack wanted".into(),
                Step::Acknowledged(h) => format!("acknowledged({h})"),
                Step::Verified(outcome) => match outcome {
                    VerifyOutcome::Valid => "verified(valid)".into(),
                    VerifyOutcome::Invalid => "verified(invalid)".into(),
                    VerifyOutcome::Error(condition) => {
                        let name = condition.map_or("error", StanzaCondition::as_str);
                        format!("verified({name})")
                    }
                },
            };
            events.push(Event::Did(did));
        }
        if let Err(failure) = outcome {
            events.push(Event::Failure(failure));
        }
        events
    }
}

/// A stream of ours from `sender` to `target`, on which all is as usual.
pub(super) fn setup(side: Side, sender: &str, target: &str, purpose: Purpose) -> Setup {
    Setup {
        side,
        pair: pair(sender, target),
        purpose,
        version: true,
        level: Level::Encrypted,
        external: true,
        bidi: None,
        management: false,
        resumption: false,
        former: None,
        secret: match side {
            Side::Peer => keys().public().clone(),
            Side::Legacy => keys().local("old"),
        },
        lang: None,
    }
}

/// Writes a dialback request: a `db:result`, or with an id a `db:verify`.
pub(super) fn request(sender: &str, target: &str, id: Option<&str>, key: &str) -> String {
    let mut text = Vec::new();
    match id {
        Some(id) => writer::dialback_verify(&mut text, sender, target, id, key),
        None => writer::dialback_result(&mut text, sender, target, key),
    }
    String::from_utf8(text).unwrap()
}

/// One text for each element that is told apart, and is no stanza. The dialback elements are
/// requests of the pair.
pub(super) fn samples(sender: &str, target: &str) -> Vec<(String, Piece)> {
    let tls = "xmlns='urn:ietf:params:xml:ns:xmpp-tls'";
    let sasl = "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'";
    let sm = "xmlns='urn:xmpp:sm:3'";
    let mut samples = Vec::new();
    for name in ELEMENTS {
        let xml = match name {
            ElementName::Compress => {
                "<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>"
                    .into()
            }
            ElementName::DbResult => request(sender, target, None, "key"),
            ElementName::DbVerify => request(sender, target, Some("id"), "key"),
            ElementName::Other => "<r xmlns='urn:xmpp:sm:2'/>".into(),
            ElementName::SmAnswer => format!("<a {sm} h='0'/>"),
            ElementName::SmEnable => format!("<enable {sm} resume='true'/>"),
            ElementName::SmEnabled => format!("<enabled {sm} id='s' resume='true' max='9'/>"),
            ElementName::SmFailed => format!("<failed {sm}/>"),
            ElementName::SmRequest => format!("<r {sm}/>"),
            ElementName::SmResume => format!("<resume {sm} previd='s' h='0'/>"),
            ElementName::SmResumed => format!("<resumed {sm} previd='s' h='0'/>"),
            ElementName::SaslAbort => format!("<abort {sasl}/>"),
            ElementName::SaslAuth => format!("<auth {sasl} mechanism='EXTERNAL'>=</auth>"),
            ElementName::SaslChallenge => format!("<challenge {sasl}/>"),
            ElementName::SaslFailure => format!("<failure {sasl}><not-authorized/></failure>"),
            ElementName::SaslResponse => format!("<response {sasl}/>"),
            ElementName::SaslSuccess => format!("<success {sasl}/>"),
            ElementName::StartTls => format!("<starttls {tls}/>"),
            ElementName::StreamError => {
                "<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"
                    .into()
            }
            ElementName::StreamFeatures => format!(
                "<stream:features><mechanisms {sasl}><mechanism>EXTERNAL</mechanism></mechanisms></stream:features>"
            ),
            ElementName::TlsFailure => format!("<failure {tls}/>"),
            ElementName::TlsProceed => format!("<proceed {tls}/>"),
            ElementName::UnknownStanza => "<foo/>".into(),
            ElementName::Bidi => "<bidi xmlns='urn:xmpp:bidi'/>".into(),
            ElementName::Iq | ElementName::Message | ElementName::Presence => continue,
        };
        let Piece::Element(found, element) = piece(&xml) else { panic!("{xml}") };
        assert_eq!(found, name, "{xml}");
        let label = match name {
            ElementName::Other => "other".into(),
            ElementName::StreamFeatures => "stream:features".into(),
            ElementName::StreamError => "stream:error".into(),
            ElementName::SaslFailure => "sasl:failure".into(),
            ElementName::TlsFailure => "tls:failure".into(),
            ElementName::SmAnswer => "a".into(),
            ElementName::SmFailed => "sm:failed".into(),
            _ => Piece::Element(name, element.clone()).to_string().replace("(method)", ""),
        };
        samples.push((label, Piece::Element(name, element)));
    }
    samples
}

/// All of them; [`samples`] does not compile without a new one.
const ELEMENTS: [ElementName; 27] = [
    ElementName::StartTls,
    ElementName::TlsProceed,
    ElementName::TlsFailure,
    ElementName::SaslAuth,
    ElementName::SaslAbort,
    ElementName::SaslChallenge,
    ElementName::SaslResponse,
    ElementName::SaslSuccess,
    ElementName::SaslFailure,
    ElementName::DbResult,
    ElementName::DbVerify,
    ElementName::StreamFeatures,
    ElementName::StreamError,
    ElementName::Compress,
    ElementName::Bidi,
    ElementName::SmEnable,
    ElementName::SmEnabled,
    ElementName::SmFailed,
    ElementName::SmResume,
    ElementName::SmResumed,
    ElementName::SmRequest,
    ElementName::SmAnswer,
    ElementName::Other,
    ElementName::UnknownStanza,
    ElementName::Iq,
    ElementName::Message,
    ElementName::Presence,
];

/// The rows of a table: what happens, and for which inputs.
pub(super) fn rows(outcomes: &[(String, String)]) -> String {
    let mut order: Vec<&str> = Vec::new();
    for (_, outcome) in outcomes {
        if !order.contains(&outcome.as_str()) {
            order.push(outcome);
        }
    }
    let mut text = String::new();
    for outcome in order {
        let inputs: Vec<_> =
            outcomes.iter().filter(|(_, o)| o == outcome).map(|(i, _)| i.as_str()).collect();
        let mut line = String::from("   ");
        for (at, input) in inputs.iter().enumerate() {
            if line.len() + input.len() > 96 {
                text += &format!("{line}\n");
                line = String::from("   ");
            }
            line += &format!(" {input}{}", if at + 1 < inputs.len() { "," } else { "" });
        }
        text += &format!("{line}\n        → {outcome}\n");
    }
    text
}

/// Compares a table with what is written down, and shows both if they differ.
pub(super) fn assert_table(found: &str, expected: &str) {
    let lines = |text: &str| text.trim().lines().map(|l| l.trim().to_owned()).collect::<Vec<_>>();
    let (found_lines, expected_lines) = (lines(found), lines(expected));
    let differs = found_lines.iter().zip(&expected_lines).find(|(a, b)| a != b);
    assert!(
        found_lines == expected_lines,
        "the table is now:\n{found}\nfirst difference: {differs:?}"
    );
}
