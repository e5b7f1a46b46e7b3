//! Test only: the opening end against the accepting end, through a pipe that cuts the bytes
//! anywhere, and either end against whatever may come.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, LazyLock},
};

use proptest::{collection::vec, prelude::*, sample::select};
use zeroize::Zeroizing;

use super::{
    Challenge, Purpose, Question, Receiving, Refusal, Setup, VerifyOutcome,
    wire::{
        Accepting, CONFIG, Event, Opening, Piece, Reader, Tls, config, domain, header, header_text,
        ids, keys, pair, piece, preset_ids, request, samples, setup, usual_config, words,
    },
};
use crate::{
    auth::{Proof, TlsFacts, dialback_key::DialbackKeys},
    config::model::Config,
    xml::{
        Fault as XmlFault,
        writer::{self, StreamLimits},
    },
    xmpp::{Domain, DomainPair, Side, StanzaCondition},
};

const US: &str = "montague.example";
const PEER: &str = "capulet.example";

// === a pair of gates ===

/// How bytes are cut: at each step so many go, to the accepting end if the number is even.
type Cuts = Vec<u8>;

/// What differs between conversations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Case {
    /// Both certificates prove their domains.
    External,
    /// The opening end has no certificate.
    Dialback,
    /// Both certificates prove their domains, and stanzas go both ways (XEP-0288).
    BidiExternal,
    /// The opening end has no certificate, and stanzas go both ways.
    BidiDialback,
    /// It has none, and its server does not know the key.
    WrongKey,
    /// It has none, and its server cannot be asked.
    Unreachable,
}

/// A gate of other people, which serves [`PEER`].
fn other_gate() -> (Arc<Config>, Arc<DialbackKeys>) {
    static CONFIG: LazyLock<Arc<Config>> = LazyLock::new(|| config(YAML));
    const YAML: &str =
        "{ version: 1, legacy: { o: { address: '127.0.0.1:1', domains: [capulet.example] } } }";
    (Arc::clone(&CONFIG), Arc::new(DialbackKeys::new(Zeroizing::new([9; 32]))))
}

/// Two ends and the pipe between them.
struct Link<'a> {
    opening: Opening,
    accepting: Accepting,
    /// What the accepting end knows of TLS.
    facts: &'a TlsFacts,
    to_opening: (VecDeque<u8>, Reader),
    to_accepting: (VecDeque<u8>, Reader),
    /// What each end did.
    opened: Vec<Event>,
    accepted: Vec<Event>,
}

impl<'a> Link<'a> {
    fn new(setup: Setup, accepting: Receiving, facts: &'a TlsFacts) -> Self {
        Self {
            opening: Opening::new(setup),
            accepting: Accepting::of(accepting),
            facts,
            to_opening: (VecDeque::new(), Reader::new()),
            to_accepting: (VecDeque::new(), Reader::new()),
            opened: Vec::new(),
            accepted: Vec::new(),
        }
    }

    /// Lets bytes flow and facts happen until nothing is left to do.
    fn run(&mut self, cuts: &Cuts, answer: &mut dyn FnMut(&Question) -> Result<Proof, Refusal>) {
        let mut cuts = cuts.iter().copied().cycle();
        loop {
            self.to_accepting.0.extend(self.opening.sent());
            self.to_opening.0.extend(self.accepting.sent());
            let cut = cuts.next().unwrap_or(u8::MAX);
            let size = usize::from(cut / 2) + 1;
            let first = cut % 2 == 0;
            if !(self.deliver(first, size) || self.deliver(!first, size) || self.happen(answer)) {
                return;
            }
        }
    }

    /// Moves some bytes to one end. False if there are none.
    fn deliver(&mut self, to_accepting: bool, size: usize) -> bool {
        let (pipe, reader) =
            if to_accepting { &mut self.to_accepting } else { &mut self.to_opening };
        if pipe.is_empty() {
            return false;
        }
        let bytes: Vec<u8> = pipe.drain(..size.min(pipe.len())).collect();
        reader.push(&bytes);
        while let Some(piece) = reader.next().unwrap() {
            if to_accepting {
                self.accepted.extend(self.accepting.take(&piece));
                if std::mem::take(&mut self.accepting.wants_restart) {
                    reader.restart();
                }
            } else {
                self.opened.extend(self.opening.take(&piece));
                if std::mem::take(&mut self.opening.wants_restart) {
                    reader.restart();
                }
            }
        }
        true
    }

    /// What happens besides bytes. False if there is nothing.
    fn happen(&mut self, answer: &mut dyn FnMut(&Question) -> Result<Proof, Refusal>) -> bool {
        if self.accepting.wants_tls || self.opening.wants_tls {
            assert!(self.accepting.wants_tls && self.opening.wants_tls, "both or none");
            // Nothing of before may be left, for nothing of it may be read behind TLS.
            self.to_accepting.1.restart();
            self.to_opening.1.restart();
            self.accepting.tls(self.facts);
            self.opened.extend(self.opening.tls(&Tls::get().opened));
            return true;
        }
        if self.opening.wants_judgement {
            let target = self.opening.target().to_string();
            let verdict = if target == PEER { Ok(Tls::proof(PEER)) } else { Err("none".into()) };
            self.opened.extend(self.opening.judged(verdict));
            return true;
        }
        if let Some(challenge) = self.accepting.challenges.front() {
            let result = answer(challenge.question());
            self.accepted.extend(self.accepting.answer(result));
            return true;
        }
        false
    }
}

/// A stream of ours to [`PEER`], and a stanza if it is opened. What each end did.
fn conversation(case: Case, cuts: &Cuts) -> (String, String) {
    preset_ids([]);
    let tls = Tls::get();
    let external = matches!(case, Case::External | Case::BidiExternal);
    let bidi = matches!(case, Case::BidiExternal | Case::BidiDialback);
    let facts = if external { &tls.with_certificate } else { &tls.anonymous };
    let (config, keys) = other_gate();
    let accepting = Receiving::new(Side::Peer, config, keys, ids);
    let bidi = bidi.then(StreamLimits::default);
    let setup = Setup { bidi, ..setup(Side::Peer, US, PEER, Purpose::Send) };
    let mut link = Link::new(setup, accepting, facts);
    link.opened = link.opening.connected();
    let mut answer = |question: &Question| match (case, question) {
        // as if the certificate were ours
        (Case::External | Case::BidiExternal, Question::Certificate(pair)) => {
            assert_eq!(pair, &DomainPair::new(domain(US), domain(PEER)));
            Ok(Proof::dialback(domain(US), Some(&Tls::proof(PEER))))
        }
        (Case::Unreachable, Question::Pair { .. }) => {
            Err(Refusal::error(StanzaCondition::RemoteServerTimeout, "no connection"))
        }
        (Case::WrongKey, Question::Pair { pair, id, .. }) => ask(pair, id, "wrong", cuts),
        (_, Question::Pair { pair, id, key, .. }) => ask(pair, id, key, cuts),
        (_, Question::Certificate(_) | Question::Renewal { .. }) => panic!("{question:?}"),
    };
    link.run(cuts, &mut answer);
    if words(&link.opened).contains("opened") {
        let stanza = b"<message from='romeo@montague.example' to='juliet@capulet.example'><body>x</body></message>";
        link.to_accepting.0.extend(stanza);
        if link.accepting.machine.is_bidirectional() {
            let stanza = b"<message from='juliet@capulet.example' to='romeo@montague.example'/>";
            link.to_opening.0.extend(stanza);
        }
        link.run(cuts, &mut answer);
    }
    (words(&link.opened), words(&link.accepted))
}

/// The other gate dials us back: a question of its, to an accepting end of ours.
fn ask(asked: &DomainPair, id: &str, key: &str, cuts: &Cuts) -> Result<Proof, Refusal> {
    let purpose = Purpose::Verify { id: id.into(), key: key.into(), spelling: None };
    let (_, others) = other_gate();
    let from = asked.target.as_str();
    let setup = Setup { secret: others.public().clone(), ..setup(Side::Peer, from, US, purpose) };
    let ours = Receiving::new(Side::Peer, usual_config(), keys(), ids);
    let mut link = Link::new(setup, ours, &Tls::get().anonymous);
    link.opened = link.opening.connected();
    link.run(cuts, &mut |question| panic!("{question:?}"));
    let opened = words(&link.opened);
    assert!(!link.accepting.machine.is_authorized());
    if opened.ends_with("verified(valid)") {
        Ok(Proof::dialback(asked.sender.clone(), None))
    } else {
        assert!(opened.ends_with("verified(invalid)"), "{opened}");
        Err(Refusal { outcome: VerifyOutcome::Invalid, detail: "wrong key".into() })
    }
}

const CASES: [(Case, &str, &str); 6] = [
    (
        Case::External,
        "header starttls handshake judge header auth restart header opened(external)",
        "header features(starttls) proceed handshake(capulet.example) \
         header judge(montague.example) features(mechanisms dialback bidi sm limits) success restart \
         header features(dialback sm limits) granted(montague.example→capulet.example external) \
         admitted(montague.example→capulet.example)",
    ),
    (
        Case::Dialback,
        "header starttls handshake judge header db:result opened(dialback)",
        "header features(starttls) proceed handshake(capulet.example) \
         header features(dialback bidi sm limits) prove(montague.example→capulet.example) \
         granted(montague.example→capulet.example dialback) db:result=valid \
         admitted(montague.example→capulet.example)",
    ),
    (
        Case::WrongKey,
        "header starttls handshake judge header db:result !rejected",
        "header features(starttls) proceed handshake(capulet.example) \
         header features(dialback bidi sm limits) prove(montague.example→capulet.example) \
         refused(montague.example→capulet.example) db:result=invalid close",
    ),
    (
        Case::Unreachable,
        "header starttls handshake judge header db:result !rejected",
        "header features(starttls) proceed handshake(capulet.example) \
         header features(dialback bidi sm limits) prove(montague.example→capulet.example) \
         refused(montague.example→capulet.example) db:result=error(remote-server-timeout)",
    ),
    (
        Case::BidiExternal,
        "header starttls handshake judge header bidi(limits) auth restart header opened(external) \
         admitted(capulet.example→montague.example)",
        "header features(starttls) proceed handshake(capulet.example) \
         header judge(montague.example) features(mechanisms dialback bidi sm limits) success restart \
         header features(dialback sm limits) granted(montague.example→capulet.example external) \
         admitted(montague.example→capulet.example)",
    ),
    (
        Case::BidiDialback,
        "header starttls handshake judge header bidi(limits) db:result opened(dialback) \
         admitted(capulet.example→montague.example)",
        "header features(starttls) proceed handshake(capulet.example) \
         header features(dialback bidi sm limits) prove(montague.example→capulet.example) \
         granted(montague.example→capulet.example dialback) db:result=valid \
         admitted(montague.example→capulet.example)",
    ),
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn two_gates_come_to_terms_however_the_bytes_are_cut(cuts in vec(any::<u8>(), 1..40)) {
        for (case, opened, accepted) in CASES {
            let found = conversation(case, &cuts);
            prop_assert_eq!((found.0.as_str(), found.1.as_str()), (opened, accepted), "{:?}", case);
        }
    }

    #[test]
    fn a_gate_and_itself_as_legacy_server_come_to_terms(cuts in vec(any::<u8>(), 1..40)) {
        // L2 against L3: the streams on the inside are the same protocol without TLS
        preset_ids([]);
        let accepting = Receiving::new(Side::Legacy, usual_config(), keys(), ids);
        let setup = setup(Side::Legacy, US, PEER, Purpose::Send);
        let mut link = Link::new(setup, accepting, &Tls::get().anonymous);
        link.opened = link.opening.connected();
        link.run(&cuts, &mut |question| match question {
            Question::Pair { pair, .. } => Ok(Proof::dialback(pair.sender.clone(), None)),
            Question::Certificate(_) | Question::Renewal { .. } => panic!("{question:?}"),
        });
        prop_assert_eq!(words(&link.opened), "header db:result opened(dialback)");
    }
}

// === whatever may come ===

const DOMAINS: [&str; 6] =
    [US, PEER, "rooms.capulet.example", "strict.example", "evil.example", "verona.example"];

#[derive(Clone, Debug)]
enum Input {
    Header(usize, usize, bool),
    Sample(usize, usize, usize),
    Answer(usize, usize, bool),
    Auth(usize),
    Stanza(usize, usize),
    Tls(bool),
    Verdict(usize, Reply),
    Reconfigure(usize),
    Expiry(bool),
    Distrust,
}

#[derive(Clone, Copy, Debug)]
enum Reply {
    Weak,
    Strong,
    /// By dialback to a server whose certificate proves it.
    Proven,
    OtherDomain,
    Invalid,
    Error,
}

fn inputs() -> impl Strategy<Value = Vec<Input>> {
    let any_domain = 0..DOMAINS.len();
    // most of the time the domains that may meet
    let from = prop_oneof![4 => 1..4usize, 1 => any_domain.clone()];
    let to = prop_oneof![6 => Just(0usize), 1 => any_domain];
    let reply = select(vec![
        Reply::Weak,
        Reply::Weak,
        Reply::Strong,
        Reply::Strong,
        Reply::Proven,
        Reply::OtherDomain,
        Reply::Invalid,
        Reply::Error,
    ]);
    let input = prop_oneof![
        3 => (from.clone(), to.clone(), prop::bool::weighted(0.9))
            .prop_map(|(f, t, v)| Input::Header(f, t, v)),
        1 => (0..17usize, from.clone(), to.clone()).prop_map(|(n, f, t)| Input::Sample(n, f, t)),
        4 => (from.clone(), to.clone()).prop_map(|(f, t)| Input::Sample(9, f, t)),
        1 => (from.clone(), to.clone(), any::<bool>()).prop_map(|(f, t, v)| Input::Answer(f, t, v)),
        2 => (0..=DOMAINS.len()).prop_map(Input::Auth),
        6 => (from, to).prop_map(|(f, t)| Input::Stanza(f, t)),
        1 => any::<bool>().prop_map(Input::Tls),
        6 => (0..4usize, reply).prop_map(|(n, r)| Input::Verdict(n, r)),
        1 => (0..3usize).prop_map(Input::Reconfigure),
        1 => any::<bool>().prop_map(Input::Expiry),
        1 => Just(Input::Distrust),
    ];
    let begun = any::<bool>().prop_map(|certificate| {
        vec![Input::Tls(certificate), Input::Header(1, 0, true), Input::Verdict(0, Reply::Strong)]
    });
    let beginning = prop_oneof![4 => begun, 1 => Just(Vec::new())];
    (beginning, vec(input, 1..60)).prop_map(|(beginning, rest)| [beginning, rest].concat())
}

/// What has to be true for a pair to be authorized, kept beside the machine.
#[derive(Default)]
struct Model {
    tls: bool,
    /// The certificate was found to prove this, on this connection.
    certified: Option<Domain>,
    authorized: BTreeSet<DomainPair>,
}

fn proof_of(reply: Reply, domain: &Domain) -> Result<Proof, Refusal> {
    let other = || Domain::parse("other.example").unwrap();
    match reply {
        Reply::Weak => Ok(Proof::dialback(domain.clone(), None)),
        Reply::Strong => Ok(Tls::judge(&Tls::get().with_certificate, domain)
            .unwrap_or_else(|_| Proof::dialback(domain.clone(), None))),
        Reply::Proven => {
            let server = Tls::judge(&Tls::get().with_certificate, domain).ok();
            Ok(Proof::dialback(domain.clone(), server.as_ref()))
        }
        Reply::OtherDomain => Ok(Proof::dialback(other(), None)),
        Reply::Invalid => Err(Refusal { outcome: VerifyOutcome::Invalid, detail: String::new() }),
        Reply::Error => Err(Refusal::error(StanzaCondition::RemoteServerTimeout, "")),
    }
}

/// Feeds all this to an accepting end, and looks that it authorizes nothing by itself. How many
/// stanzas it admitted.
fn feed(side: Side, inputs: &[Input]) -> usize {
    static CONFIGS: LazyLock<[Arc<Config>; 3]> = LazyLock::new(|| {
        let deny = "rules:\n  - { match: rooms.capulet.example, allow: none }\n";
        [
            usual_config(),
            config(&CONFIG.replace("rules:\n", deny)),
            config(&CONFIG.replace("verona.example", "strict.example")),
        ]
    });
    let configs = &*CONFIGS;
    let mut end = Accepting::new(side);
    let mut model = Model { tls: side == Side::Legacy, ..Model::default() };
    let mut current = 0;
    let mut admitted = 0;
    let (mut stale, mut ended): (Vec<Challenge>, bool) = (Vec::new(), false);
    // on the inside the domains change places
    let name = |n: usize| match (side, n) {
        (Side::Legacy, 0) => PEER,
        (Side::Legacy, 1) => US,
        (_, n) => DOMAINS[n],
    };
    for input in inputs {
        if ended {
            break;
        }
        let (mut just_proven, mut renewed) = (None, None);
        let events = match input {
            // elsewhere it ends the stream, which is soon tried enough
            Input::Header(_, _, true) if !end.machine.expects_header() => continue,
            Input::Header(from, to, modern) => {
                let version = if *modern { "version='1.0'" } else { "" };
                let text = format!("from='{}' to='{}' {version}", name(*from), name(*to));
                end.take(&Piece::Header(header(&header_text(&text))))
            }
            Input::Sample(n, from, to) => {
                let samples = samples(name(*from), name(*to));
                end.take(&samples[n % samples.len()].1)
            }
            Input::Answer(from, to, verify) => {
                let (kind, id) = if *verify { ("verify", "id='id1'") } else { ("result", "") };
                let (from, to) = (name(*from), name(*to));
                end.take(&piece(&format!("<db:{kind} from='{from}' to='{to}' {id} type='valid'/>")))
            }
            Input::Auth(n) => {
                use base64::{Engine, engine::general_purpose::STANDARD};
                let authzid = DOMAINS.get(*n).map_or("=".into(), |name| STANDARD.encode(name));
                let sasl = "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'";
                end.take(&piece(&format!("<auth {sasl} mechanism='EXTERNAL'>{authzid}</auth>")))
            }
            Input::Stanza(from, to) => {
                let wanted = pair(name(*from), name(*to));
                if let Ok(grant) = end.machine.stanza(name(*from), name(*to)) {
                    assert_eq!(*grant.pair(), wanted);
                    assert_eq!(*grant.proof().domain(), wanted.sender);
                    assert!(model.tls, "in the clear");
                    assert!(model.authorized.contains(&wanted), "{wanted} was never authorized");
                    admitted += 1;
                }
                Vec::new()
            }
            Input::Tls(certificate) => {
                let fresh = end.machine.expects_header() && !model.tls && model.certified.is_none();
                if side == Side::Peer && (end.wants_tls || fresh) {
                    let tls = Tls::get();
                    end.tls(if *certificate { &tls.with_certificate } else { &tls.anonymous });
                    model.tls = true;
                }
                Vec::new()
            }
            Input::Verdict(n, reply) => {
                let open = end.challenges.len();
                if open == 0 {
                    continue;
                }
                let challenge = end.challenges.remove(n % open).unwrap();
                let question = challenge.question().clone();
                let of = match &question {
                    Question::Certificate(pair)
                    | Question::Pair { pair, .. }
                    | Question::Renewal { pair, .. } => &pair.sender,
                };
                let proof = proof_of(*reply, of);
                if let Ok(proof) = &proof
                    && proof.domain() == of
                {
                    match &question {
                        Question::Certificate(pair) => model.certified = Some(pair.sender.clone()),
                        Question::Pair { pair, .. } => just_proven = Some(pair.clone()),
                        Question::Renewal { pair, .. } => renewed = Some(pair.clone()),
                    }
                }
                end.answer_to(challenge, proof)
            }
            Input::Reconfigure(n) => {
                current = *n;
                match end.machine.reconfigure(Arc::clone(&configs[*n])) {
                    Ok(gone) => gone.iter().for_each(|pair| {
                        assert!(model.authorized.remove(pair), "{pair}");
                    }),
                    Err(_) => ended = true,
                }
                Vec::new()
            }
            // rcgen's certificates last until 4096
            Input::Expiry(all) => end.expired(if *all { 1 << 40 } else { 1_900_000_000 }),
            Input::Distrust => {
                model.certified = None;
                end.distrusted()
            }
        };
        for event in &events {
            match event {
                Event::Did(what) if what.starts_with("restart") => {
                    model.authorized.clear();
                    stale.extend(end.challenges.drain(..));
                }
                Event::Did(what) if what.starts_with("granted") => {
                    let inside = what.trim_start_matches("granted(").trim_end_matches(')');
                    let (domains, how) = inside.split_once(' ').unwrap();
                    let (sender, target) = domains.split_once('→').unwrap();
                    let granted = pair(sender, target);
                    let local = |domain| configs[current].local_domains.contains_key(domain);
                    assert_eq!(local(&granted.target), side == Side::Peer, "{granted}");
                    assert_eq!(local(&granted.sender), side == Side::Legacy, "{granted}");
                    match how {
                        "external" => assert_eq!(model.certified.as_ref(), Some(&granted.sender)),
                        _ => assert_eq!(just_proven.as_ref(), Some(&granted), "out of nothing"),
                    }
                    assert!(sender != "evil.example");
                    model.authorized.insert(granted);
                }
                Event::Did(what) if what.starts_with("renewed") => {
                    let pair = renewed.take().expect("it was just proven again");
                    assert_eq!(*what, format!("renewed({pair})"));
                    assert!(model.authorized.contains(&pair));
                }
                Event::Did(what) if what.starts_with("withdrawn") => {
                    let gone = |pair: &DomainPair| *what == format!("withdrawn({pair})");
                    let pair = model.authorized.iter().find(|pair| gone(pair)).cloned();
                    model.authorized.remove(&pair.expect("it was authorized"));
                }
                Event::Did(what) if what.starts_with("close") => ended = true,
                Event::Fault(_) => ended = true,
                Event::Did(_) | Event::Said(_) | Event::Failure(_) => {}
            }
        }
        let grants: BTreeSet<_> = end.machine.grants().map(|grant| grant.pair().clone()).collect();
        assert!(ended || grants == model.authorized, "{grants:?}, {:?}", model.authorized);
        // verdicts that come too late change nothing
        if let Some(challenge) = stale.pop() {
            let of = match challenge.question() {
                Question::Certificate(pair)
                | Question::Pair { pair, .. }
                | Question::Renewal { pair, .. } => pair.sender.clone(),
            };
            assert_eq!(words(&end.answer_to(challenge, Ok(Proof::dialback(of, None)))), "-");
        }
    }
    admitted
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn nothing_is_admitted_that_was_not_proven(inputs in inputs()) {
        feed(Side::Peer, &inputs);
        feed(Side::Legacy, &inputs);
    }

    #[test]
    fn an_opening_end_opens_once_and_only_when_told(
        side in select(vec![Side::Peer, Side::Legacy]),
        verify in any::<bool>(),
        inputs in vec((0..25usize, any::<bool>()), 1..60),
    ) {
        let id = "id".to_owned();
        let purpose = if verify { Purpose::Verify { id, key: "key".into(), spelling: None } } else { Purpose::Send };
        let mut end = Opening::new(setup(side, US, PEER, purpose));
        end.connected();
        let samples = samples(PEER, US);
        let (mut done, mut asked) = (0, false);
        for (n, yes) in inputs {
            if end.wants_tls {
                end.tls(&Tls::get().opened);
                asked = false;
            }
            if end.wants_judgement {
                let verdict = if yes { Ok(Tls::proof(PEER)) } else { Err("none".into()) };
                end.judged(verdict);
            }
            let kind = if yes { "valid" } else { "error" };
            let answer = |name: &str, rest: &str| {
                piece(&format!("<db:{name} from='{PEER}' to='{US}' {rest} type='{kind}'/>"))
            };
            let input = match n {
                0..4 => Piece::Header(header(&header_text("id='1' version='1.0'"))),
                4 => Piece::Header(header(&header_text("id='1'"))),
                5 => answer("result", ""),
                6 => answer("verify", "id='id'"),
                7 => Piece::Stanza { from: PEER.into(), to: US.into() },
                n => samples[n % samples.len()].1.clone(),
            };
            let events = end.take(&input);
            for event in &events {
                match event.to_string().as_str() {
                    "db:result" | "db:verify" => asked = true,
                    "opened(dialback)" => {
                        prop_assert!(asked && !verify && n == 5 && yes);
                        done += 1;
                    }
                    "opened(external)" => {
                        prop_assert!(!verify && side == Side::Peer);
                        done += 1;
                    }
                    what if what.starts_with("verified") => {
                        prop_assert!(asked && verify && n == 6);
                        done += 1;
                    }
                    _ => {}
                }
            }
            if done > 0 && side == Side::Peer {
                prop_assert!(end.machine.tls().is_some());
            }
            if matches!(events.last(), Some(Event::Failure(_))) {
                break;
            }
        }
        prop_assert!(done <= 1);
    }
}

#[test]
fn the_random_inputs_do_reach_an_authorized_stream() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let mut admitted = [0, 0];
    for _ in 0..150 {
        let inputs = inputs().new_tree(&mut runner).unwrap().current();
        admitted[0] += feed(Side::Peer, &inputs);
        admitted[1] += feed(Side::Legacy, &inputs);
    }
    assert!(admitted[0] > 5 && admitted[1] > 5, "{admitted:?}");
}

#[test]
fn a_reader_of_the_tests_sees_what_is_wrong() {
    let mut reader = Reader::inside();
    let mut footer = request(PEER, US, None, "key").into_bytes();
    footer.extend_from_slice(writer::FOOTER.as_bytes());
    reader.push(&footer);
    assert!(matches!(reader.next(), Ok(Some(Piece::Element(..)))));
    assert!(matches!(reader.next(), Ok(Some(Piece::Footer))));
    reader.push(b"x");
    assert!(matches!(reader.next(), Err(XmlFault::AfterFooter)));
}
