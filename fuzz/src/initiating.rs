//! The opening end of a stream, whatever comes and in whatever order things are found out: it
//! opens only for what it asked, takes stanzas only of pairs that were proven, and what it says is
//! XML.
//!
//! The settings: bit 0 the side, bit 1 direct TLS, bits 2 and 3 the level, bit 4 whether we have a
//! certificate, bit 5 a bidirectional stream, bit 6 a dialback question, bit 7 no version. The
//! events:
//!
//! ```text
//! t        the TLS handshake is done             q Q  one more pair is asked for, without a proof
//! v p P    the certificate is judged: pkix,           and with one
//!          posh, pin                             f    and not waited for any more
//! o        it is, for another domain             n    its target is proven again
//! x        it proves nothing                     w    policy withdraws a pair that comes
//! s        so many stanzas are sent              b    the connection breaks, so many of them not
//! F        before all else: a former stream           written, and if the stream can be resumed
//!          is to be resumed, the argument             there is another
//!          says which
//! ```

mod managing;

use std::collections::{BTreeMap, BTreeSet};

use fedgate::{
    auth::Proof,
    config::policy::Level,
    stream::{
        Authentication, Failure, Initiating, Purpose, Resumption, Setup, Step, TooHigh,
        VerifyOutcome,
    },
    xml::{Element, ElementName, writer::StreamLimits},
    xmpp::{Domain, DomainPair, Side},
};

use super::{
    certificates::{By, Certificates},
    conversation::{CONFIGS, Ear, Event, Input, Piece, domain, events, keys, pair, restart_ids},
    management::{self, Outgoing, Resumable},
};

const QUESTION: &str = "an-id";

/// One conversation.
pub fn run(data: &[u8]) {
    let Some((&settings, script)) = data.split_first() else { return };
    restart_ids();
    let events = events(script);
    let former = match events.first() {
        Some(Event::Happens(b'F', argument)) => Some(management::former(*argument)),
        _ => None,
    };
    let mut end = End::new(settings, former);
    for event in events {
        let outcome = match event {
            Event::Bytes(bytes) => end.read(bytes),
            Event::Happens(letter, argument) => end.happens(letter, argument),
        };
        if let Err(failure) = outcome {
            let farewell = end.machine.farewell(&failure);
            let last_words = end.ear.end(&farewell);
            if let Some(too_high) = end.too_high {
                management::assert_too_high(&last_words, too_high);
            }
            return;
        }
        if end.closed {
            break;
        }
    }
    end.ear.end(b"");
}

/// The machine and what stands around it, with what has to be true.
struct End {
    settings: u8,
    machine: Initiating,
    setup: Setup,
    input: Input,
    ear: Ear,
    wants_tls: bool,
    wants_judgement: bool,
    closed: bool,
    tls: bool,
    /// The certificate proves the target.
    proven: bool,
    /// What was said on this stream: a request or a question, and that stanzas may come.
    asked: bool,
    bidi: bool,
    authenticated: bool,
    opened: bool,
    done: bool,
    /// Pairs that were asked for on the open stream, and whether with a proof.
    further: BTreeMap<DomainPair, bool>,
    /// The pairs of stanzas that may come.
    inbound: BTreeSet<DomainPair>,
    /// The element that just came.
    came: Option<(ElementName, Element)>,
    /// The stream that is to be resumed, and that the other end was asked for it.
    former: Option<Resumable>,
    resuming: bool,
    /// Stream management is offered, asked for, such that the stream can be resumed, and on.
    offered: bool,
    managed: bool,
    resumable: bool,
    counting: bool,
    resumption: Option<Resumption>,
    outgoing: Outgoing,
    /// How many stanzas came since it is on.
    received: u32,
    too_high: Option<TooHigh>,
}

impl End {
    fn new(settings: u8, former: Option<Resumable>) -> Self {
        let bit = |n: u8| settings >> n & 1 == 1;
        let side = if bit(0) { Side::Legacy } else { Side::Peer };
        let secret = match side {
            Side::Peer => keys().public().clone(),
            Side::Legacy => keys().local("old"),
        };
        let levels = [Level::Encrypted, Level::Trusted, Level::Verified, Level::Permissive];
        let setup = Setup {
            side,
            pair: DomainPair::new(domain(0), domain(1)),
            purpose: match bit(6) {
                true => {
                    Purpose::Verify { id: QUESTION.into(), key: "a-key".into(), spelling: None }
                }
                false => Purpose::Send,
            },
            version: !bit(7),
            level: levels[usize::from(settings >> 2 & 3)],
            external: bit(4),
            bidi: bit(5).then_some(StreamLimits::default()),
            secret,
            management: bit(4),
            resumption: bit(5),
            former: former.as_ref().map(Resumable::wanted),
            lang: bit(5).then(|| "en".into()),
        };
        let mut end = Self {
            settings,
            machine: Initiating::new(setup.clone()),
            input: Input::new(&CONFIGS[0]),
            ear: Ear::new(),
            wants_tls: bit(1) && side == Side::Peer,
            wants_judgement: false,
            closed: false,
            tls: false,
            proven: false,
            asked: false,
            bidi: false,
            authenticated: false,
            opened: false,
            done: false,
            further: BTreeMap::new(),
            inbound: BTreeSet::new(),
            came: None,
            former,
            resuming: false,
            offered: false,
            managed: false,
            resumable: false,
            counting: false,
            resumption: None,
            outgoing: Outgoing::default(),
            received: 0,
            too_high: None,
            setup,
        };
        if !end.wants_tls {
            let mut out = Vec::new();
            end.machine.connected(&mut out);
            end.act(out);
        }
        end
    }

    fn read(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.wants_tls || self.wants_judgement {
            // in the clear behind <proceed/>, or before our header: nobody reads that
            self.closed = true;
            return Ok(());
        }
        self.input.push(bytes);
        while let Some((piece, _)) =
            self.input.next().map_err(|fault| Failure::malformed(&fault))?
        {
            let mut out = Vec::new();
            let mut came = None;
            let outcome = match piece {
                Piece::Header(header) => self.machine.header(&header, &mut out),
                Piece::Element(name, element) => {
                    if name == ElementName::StreamFeatures {
                        self.offered = self.tls && management::is_offered_by(&element);
                    }
                    let outcome = self.machine.element(name, &element, &mut out);
                    came = Some((name, element));
                    outcome
                }
                Piece::Stanza { from, to } => self.stanza(&from, &to),
                Piece::Footer => Err(self.machine.footer()),
            };
            self.came = came;
            self.act(out);
            outcome?;
            if let Some(too_high) = self.too_high {
                return Err(Failure::malformed(&too_high.into()));
            }
            self.look();
            if self.wants_tls {
                self.closed = !self.input.is_empty();
                return Ok(());
            }
        }
        Ok(())
    }

    fn stanza(&mut self, from: &str, to: &str) -> Result<(), Failure> {
        if let Some(grant) = self.machine.stanza(from, to)? {
            let pair = grant.pair();
            assert!(self.inbound.contains(pair), "{pair} was never proven");
            assert_eq!(grant.proof().domain(), &pair.sender);
            assert!(self.bidi && self.proven && self.opened);
            let of_jid = |jid: &str| Domain::parse(fedgate::xmpp::jid::domainpart(jid).unwrap());
            assert_eq!(of_jid(from).as_ref(), Ok(&pair.sender));
            assert_eq!(of_jid(to).as_ref(), Ok(&pair.target));
        }
        if self.counting {
            self.received = self.received.wrapping_add(1);
        }
        Ok(())
    }

    fn happens(&mut self, letter: u8, argument: usize) -> Result<(), Failure> {
        let mut out = Vec::new();
        self.came = None;
        let certificates = Certificates::get();
        let outcome = match letter {
            b't' if self.wants_tls => {
                (self.wants_tls, self.tls, self.asked) = (false, true, false);
                self.input.restart();
                self.machine.tls_up(certificates.opened.clone(), &mut out);
                Ok(())
            }
            b'v' | b'p' | b'P' | b'o' | b'x' if self.wants_judgement => {
                self.wants_judgement = false;
                let target = &self.setup.pair.target;
                let verdict: Result<Proof, String> = match letter {
                    b'v' => Ok(certificates.proof(By::Pkix, target)),
                    b'p' => Ok(certificates.proof(By::Posh, target)),
                    b'P' => Ok(certificates.proof(By::Pin, target)),
                    b'o' => Ok(certificates.proof(By::Posh, &domain(8))),
                    _ => Err("it proves nothing".into()),
                };
                let is_good = verdict.as_ref().is_ok_and(|proof| proof.domain() == target);
                self.proven = is_good;
                let outcome = self.machine.judged(verdict, &mut out);
                let may_go_on = letter == b'x' && self.setup.level != Level::Trusted;
                assert_eq!(outcome.is_ok(), is_good || may_go_on);
                outcome
            }
            b'q' | b'Q' if self.opened => {
                let asked = pair(argument);
                let proof = certificates.proof(By::Posh, &asked.target);
                let proof = (letter == b'Q').then_some(proof);
                if asked != self.setup.pair {
                    self.further.insert(asked.clone(), proof.is_some());
                    self.machine.request(asked, proof, &mut out);
                }
                Ok(())
            }
            b'f' => {
                let asked = pair(argument);
                self.machine.forget(&asked);
                self.further.remove(&asked);
                Ok(())
            }
            b'n' => {
                let asked = pair(argument);
                let proof = certificates.proof(By::Pkix, &asked.target);
                self.machine.renewed(&asked, &proof);
                Ok(())
            }
            b'w' => {
                let unwanted = self.inbound.iter().nth(argument).cloned();
                let gone =
                    self.machine.retain_inbound(|grant| Some(grant.pair()) != unwanted.as_ref());
                assert_eq!(gone.first(), unwanted.as_ref());
                gone.iter().for_each(|pair| assert!(self.inbound.remove(pair)));
                Ok(())
            }
            b's' if self.opened && self.managed => {
                self.outgoing.put(argument);
                Ok(())
            }
            b'b' => {
                self.breaks(argument);
                return Ok(());
            }
            _ => Ok(()),
        };
        self.act(out);
        outcome?;
        self.look();
        Ok(())
    }

    /// What it does, checked one by one.
    fn act(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Send(bytes) => {
                    assert!(!self.wants_tls && !self.wants_judgement, "said before its time");
                    for (name, element) in self.ear.hear(&bytes) {
                        self.said(name, &element);
                    }
                }
                Step::StartTls => {
                    assert!(!self.tls && !self.asked && self.setup.side == Side::Peer);
                    self.wants_tls = true;
                    self.ear.end(b"");
                }
                Step::Judge => self.wants_judgement = true,
                Step::Restart => {
                    assert!(self.authenticated);
                    self.input.restart();
                    self.ear.end(b"");
                }
                Step::Opened(how) => self.has_opened(how),
                Step::Verified(outcome) => {
                    assert!(matches!(self.setup.purpose, Purpose::Verify { .. }) && !self.done);
                    assert!(self.asked);
                    let answer = self.answer(ElementName::DbVerify, &self.setup.pair);
                    assert_eq!(answer.attr("id"), Some(QUESTION));
                    let is_valid = answer.attr("type") == Some("valid");
                    assert_eq!(outcome == VerifyOutcome::Valid, is_valid);
                    self.done = true;
                }
                Step::Managed(resumption) => self.is_managed(resumption),
                Step::Unmanaged => self.is_unmanaged(),
                Step::AckWanted => self.tell(),
                Step::Acknowledged(h) => self.acknowledged(h),
                Step::Answered(pair, outcome) => {
                    let with_proof = self.further.remove(&pair).expect("it was asked for");
                    let answer = self.answer(ElementName::DbResult, &pair);
                    assert_eq!(outcome.is_ok(), answer.attr("type") == Some("valid"));
                    if outcome.is_ok() && with_proof && self.bidi {
                        self.inbound.insert(pair.reversed());
                    }
                }
            }
        }
    }

    /// The element that just came, which has to be an answer about this pair.
    fn answer(&self, name: ElementName, pair: &DomainPair) -> &Element {
        let (found, answer) = self.came.as_ref().expect("an answer");
        assert_eq!(*found, name);
        let of = |name| Domain::parse(answer.attr(name).unwrap()).unwrap();
        assert_eq!(DomainPair::new(of("to"), of("from")), *pair);
        answer
    }

    fn said(&mut self, name: ElementName, element: &Element) {
        let needs_tls = self.setup.side == Side::Peer && self.setup.level.needs_tls();
        match name {
            ElementName::SaslAuth => {
                assert!(self.tls && self.proven && self.setup.external);
                assert!(self.setup.purpose == Purpose::Send);
                self.authenticated = true;
            }
            ElementName::Bidi => {
                assert!(self.tls && self.proven && self.setup.bidi.is_some());
                self.bidi = true;
            }
            // requests of our own; answers to questions have a type
            ElementName::DbResult | ElementName::DbVerify if element.attr("type").is_none() => {
                assert!(self.tls || !needs_tls, "a key in the clear");
                self.asked = true;
            }
            ElementName::SmEnable => self.asks_to_manage(element),
            ElementName::SmResume => self.asks_to_resume(element),
            _ => {}
        }
    }

    fn has_opened(&mut self, how: Authentication) {
        assert!(!self.opened && self.setup.purpose == Purpose::Send);
        let needs_tls = self.setup.side == Side::Peer && self.setup.level.needs_tls();
        assert!(self.tls || !needs_tls, "opened in the clear");
        let must_be_proven = self.setup.side == Side::Peer && self.setup.level == Level::Trusted;
        assert!(self.proven || !must_be_proven);
        match how {
            Authentication::External => assert!(self.authenticated && self.proven),
            Authentication::Dialback => {
                assert!(self.asked);
                let answer = self.answer(ElementName::DbResult, &self.setup.pair);
                assert_eq!(answer.attr("type"), Some("valid"));
            }
        }
        self.is_resumed();
        self.opened = true;
        if self.bidi {
            self.inbound.insert(self.setup.pair.reversed());
        }
    }

    /// What may come is what was proven.
    fn look(&self) {
        let grants: BTreeSet<_> =
            self.machine.inbound().map(|grant| grant.pair().clone()).collect();
        assert_eq!(grants, self.inbound);
        assert_eq!(self.machine.is_bidirectional(), self.bidi);
        assert_eq!(self.machine.proof().is_some(), self.proven);
        assert!(!self.machine.stage().is_empty());
        assert_eq!(self.machine.is_managed(), self.managed);
        let awaits = self.managed && self.resumable && !self.counting;
        assert_eq!(self.machine.awaits_resumption(), awaits);
        assert_eq!(self.machine.resumed().is_some(), self.opened && self.former.is_some());
    }
}
