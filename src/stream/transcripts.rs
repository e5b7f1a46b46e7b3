//! Test only: conversations as they stand in the specifications, and as they were seen on the
//! wire, held with the machines. They are in `tests/transcripts`:
//!
//! ```text
//! # words; a line that begins with white space goes on the last one
//! = receiving peer | receiving legacy
//! = sending peer|legacy FROM TO [external] [trusted] [old]      a stream of ours
//! = asking peer|legacy FROM TO ID KEY                           a dialback question of ours
//! > what comes in           < what we say, all of it
//! ? what else we do, such as prove(a→b), granted(a→b external), opened(dialback)
//! ! proven | weak | invalid | error CONDITION | unproven        the verdict on the oldest challenge
//! ! tls | tls with certificate                                  the handshake succeeds
//! ```
//! `{public FROM TO ID}` and `{local FROM TO ID}` stand for our keys, where the initiating server
//! is FROM, and the ids in our headers are those of the transcript.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use super::{
    Purpose, Question,
    wire::{
        Accepting, Event, Opening, Piece, Reader, Tls, domain, header, keys, preset_ids, setup,
        words,
    },
};
use crate::{
    auth::Proof,
    config::policy::Level,
    xml::{Element, Header},
    xmpp::{Side, StanzaCondition},
};

macro_rules! transcripts {
    ($($name:ident)+) => {
        $(#[test]
        fn $name() {
            let name = stringify!($name);
            hold(name, include_str!(concat!("../../tests/transcripts/", stringify!($name), ".xmpp")));
        })+

        const NAMES: &[&str] = &[$(stringify!($name)),+];
    };
}

transcripts! {
    ejabberd
    jabberd14
    jabberd2
    prosody
    rfc6120_9_2
    xep0178_3
    xep0220_authoritative
    xep0220_initiating
    xep0220_receiving
    xep0220_verifying
}

#[test]
fn no_transcript_is_left_out() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut files: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    files.sort();
    assert_eq!(files, NAMES);
}

enum End {
    Accepting(Box<Accepting>),
    Opening(Box<Opening>),
}

/// One conversation: the machine, what comes in, and what it did that was not looked at yet.
struct Conversation {
    end: End,
    input: Reader,
    events: Vec<Event>,
    /// Reads what we are expected to say.
    expected: Reader,
}

fn hold(name: &str, text: &str) {
    let mut held = 0;
    let mut conversation: Option<Conversation> = None;
    for (number, line) in lines(text) {
        let place = format!("{name}.xmpp:{number}");
        let (mark, rest) = line.split_at(1);
        let rest = fill(rest.trim());
        if mark == "=" {
            if let Some(last) = conversation.take() {
                last.finish(&place);
            }
            preset_ids(ids(text, number));
            conversation = Some(Conversation::new(&rest, &place));
            held += 1;
            continue;
        }
        conversation.as_mut().unwrap().line(mark, &rest, &place);
    }
    conversation.unwrap().finish(name);
    assert!(held > 0, "{name}");
}

/// Lines with their numbers, comments away and continuations joined.
fn lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        match lines.last_mut() {
            Some((_, last)) if line.starts_with([' ', '\t']) => write!(last, "\n{line}").unwrap(),
            _ => lines.push((number + 1, line.to_owned())),
        }
    }
    lines
}

/// The ids of our headers in the conversation that begins at `start`.
fn ids(text: &str, start: usize) -> Vec<String> {
    lines(text)
        .into_iter()
        .skip_while(|(number, _)| *number <= start)
        .take_while(|(_, line)| !line.starts_with('='))
        .filter_map(|(_, line)| line.strip_prefix('<').map(|said| said.trim().to_owned()))
        .filter(|said| said.contains("<stream:stream"))
        .filter_map(|said| header(&said).id.clone())
        .collect()
}

/// Puts keys in.
fn fill(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, tail)) = rest.split_once('{') {
        let (name, after) = tail.split_once('}').unwrap();
        let [which, from, to, id] = name.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{name}")
        };
        let keys = keys();
        let key = match which {
            "public" => keys.public().key(&domain(to), &domain(from), id),
            "local" => keys.local("old").key(&domain(to), &domain(from), id),
            _ => panic!("{which}"),
        };
        out += before;
        out += &key;
        rest = after;
    }
    out + rest
}

impl Conversation {
    fn new(role: &str, place: &str) -> Self {
        let words: Vec<_> = role.split_whitespace().collect();
        let side = match words.get(1) {
            Some(&"peer") => Side::Peer,
            Some(&"legacy") => Side::Legacy,
            _ => panic!("{place}: {role}"),
        };
        let mut events = Vec::new();
        let end = match (words[0], &words[2..]) {
            ("receiving", []) => End::Accepting(Box::new(Accepting::new(side))),
            ("sending", [from, to, options @ ..]) => {
                let mut setup = setup(side, from, to, Purpose::Send);
                setup.external = options.contains(&"external");
                setup.version = !options.contains(&"old");
                if options.contains(&"trusted") {
                    setup.level = Level::Trusted;
                }
                let mut end = Opening::new(setup);
                events = end.connected();
                End::Opening(Box::new(end))
            }
            ("asking", [from, to, id, key]) => {
                let purpose =
                    Purpose::Verify { id: (*id).into(), key: (*key).into(), spelling: None };
                let mut end = Opening::new(setup(side, from, to, purpose));
                events = end.connected();
                End::Opening(Box::new(end))
            }
            _ => panic!("{place}: {role}"),
        };
        Self { end, input: Reader::new(), events, expected: Reader::new() }
    }

    fn line(&mut self, mark: &str, rest: &str, place: &str) {
        match mark {
            "<" => self.expect(rest, place),
            "?" => {
                assert!(!self.events.is_empty(), "{place}: nothing was done");
                let event = self.events.remove(0);
                assert!(!matches!(event, Event::Said(_)), "{place}: it said {event}");
                assert_eq!(event.to_string(), rest, "{place}");
                // The parser of what we say begins anew where we do.
                if rest == "restart" || rest.starts_with("handshake") {
                    self.expected = Reader::new();
                    self.input = Reader::new();
                }
            }
            ">" => {
                self.nothing_left(place);
                self.input.push(rest.as_bytes());
                while let Some(piece) = self.input.next().unwrap() {
                    let events = match &mut self.end {
                        End::Accepting(end) => end.take(&piece),
                        End::Opening(end) => end.take(&piece),
                    };
                    self.events.extend(events);
                }
            }
            "!" => {
                self.nothing_left(place);
                self.events = self.verdict(rest, place);
            }
            _ => panic!("{place}: {mark}"),
        }
    }

    fn verdict(&mut self, verdict: &str, place: &str) -> Vec<Event> {
        let tls = Tls::get();
        match (&mut self.end, verdict) {
            (End::Accepting(end), "tls" | "tls with certificate") => {
                let certificate = verdict != "tls";
                end.tls(if certificate { &tls.with_certificate } else { &tls.anonymous });
                Vec::new()
            }
            (End::Opening(end), "tls") => end.tls(&tls.opened),
            (End::Opening(end), "proven") => {
                let target = end.target().to_string();
                end.judged(Ok(Tls::proof(&target)))
            }
            (End::Opening(end), "unproven") => end.judged(Err("no proof in a test".into())),
            (End::Accepting(end), "proven") => {
                let of = match end.challenges.front().unwrap().question() {
                    Question::Certificate(pair)
                    | Question::Pair { pair, .. }
                    | Question::Renewal { pair, .. } => pair.sender.clone(),
                };
                end.answer(Ok(Tls::proof(of.as_str())))
            }
            (End::Accepting(end), "weak") => {
                let Question::Pair { pair, .. } = end.challenges.front().unwrap().question() else {
                    panic!("{place}: {verdict}")
                };
                let sender = pair.sender.clone();
                end.answer(Ok(Proof::dialback(sender, None)))
            }
            (End::Accepting(end), "invalid") => end.answer_invalid(),
            (End::Accepting(end), verdict) => {
                let condition = match verdict {
                    "unproven" => StanzaCondition::NotAuthorized,
                    other => other
                        .strip_prefix("error ")
                        .and_then(StanzaCondition::from_wire)
                        .unwrap_or_else(|| panic!("{place}: {verdict}")),
                };
                end.answer_error(condition)
            }
            (End::Opening(_), _) => panic!("{place}: {verdict}"),
        }
    }

    fn expect(&mut self, text: &str, place: &str) {
        if matches!(self.events.first(), Some(Event::Fault(_)))
            && let Event::Fault(fault) = self.events.remove(0)
            && let End::Accepting(end) = &mut self.end
        {
            self.events = end.farewell(&fault);
        }
        self.expected.push(text.as_bytes());
        let mut some = false;
        while let Some(expected) = self.expected.next().unwrap() {
            assert!(!self.events.is_empty(), "{place}: nothing was said");
            let Event::Said(said) = self.events.remove(0) else {
                panic!("{place}: something else was done")
            };
            assert_eq!(canonical(&said), canonical(&expected), "{place}");
            some = true;
        }
        assert!(some, "{place}: half an element");
    }

    fn nothing_left(&self, place: &str) {
        assert!(self.events.is_empty(), "{place}: before it: {}", words(&self.events));
    }

    fn finish(self, place: &str) {
        self.nothing_left(place);
    }
}

/// What matters in a piece: not the order of attributes, nor white space around text.
fn canonical(piece: &Piece) -> String {
    match piece {
        Piece::Header(header) => {
            let Header { to, from, id, lang, version, .. } = &**header;
            let db = header.declares_dialback();
            format!("header {to:?} {from:?} {id:?} {lang:?} {version:?} db {db}")
        }
        Piece::Element(_, element) => tree(element),
        Piece::Stanza { from, to } => format!("stanza {from} {to}"),
        Piece::Footer => "footer".into(),
    }
}

fn tree(element: &Element) -> String {
    let attributes: BTreeMap<_, _> = ["from", "to", "id", "type", "mechanism"]
        .iter()
        .filter_map(|name| Some((*name, element.attr(name)?)))
        .collect();
    let children: Vec<_> = element.children().iter().map(tree).collect();
    let (namespace, name, text) = (&element.namespace, &element.name, element.text().trim());
    format!("<{{{namespace}}}{name} {attributes:?} {text:?} {}>", children.concat())
}
