//! The accepting end of a stream, whatever comes and in whatever order things are found out: it
//! routes for no pair that was not proven on it, and what it says is XML.
//!
//! The settings: bit 0 the side, bit 1 direct TLS, bits 2 and 3 the configuration, bit 4 whether
//! the peer shows a certificate. The events:
//!
//! ```text
//! t         the TLS handshake is done             c  the configuration is the argument's
//! v p P     a challenge is answered: pkix, posh,  d  certificates are trusted from others
//!           pin; the argument says which one      n  as many quarters of an hour have passed
//! o         it is, with a proof of another domain w  policy withdraws a pair
//! i e       it is: invalid, an error              k  a right question about a key of ours
//! s         so many stanzas go to the peer        b  the connection breaks, so many of them not
//!                                                    written, and the peer opens another
//! ```
//!
//! The peer may resume the streams `sm0` to `sm2`, and those that broke; `sm3` is another's.

mod answering;
mod managing;

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use fedgate::{
    auth::{Proof, TlsFacts},
    config::{model::Config, policy::Query},
    stream::{
        Action, Authentication, Challenge, Fault, Question, Receiving, Refusal, TooHigh, Verdict,
        VerifyOutcome,
    },
    xml::{ElementName, writer::FOOTER},
    xmpp::{Direction, Domain, DomainPair, Side, StanzaCondition, ns},
};
use rustls::pki_types::UnixTime;

use self::managing::Managing;
use super::{
    certificates::{By, Certificates, NOW},
    conversation::{
        CONFIGS, Ear, Event, Input, Piece, domain, events, ids, keys, pair, restart_ids,
    },
    management::{self, Outgoing, Resumable},
};

/// One conversation.
pub fn run(data: &[u8]) {
    let Some((&settings, script)) = data.split_first() else { return };
    restart_ids();
    let mut end = End::new(settings);
    for event in events(script) {
        let outcome = match event {
            Event::Bytes(bytes) => end.read(bytes),
            Event::Happens(letter, argument) => end.happens(letter, argument),
        };
        if let Err(fault) = outcome {
            let farewell = end.machine.farewell(&fault);
            let last_words = end.ear.end(&farewell);
            let [.., (ElementName::StreamError, error)] = &last_words[..] else {
                panic!("{last_words:?}")
            };
            assert!(error.child(ns::STREAM_ERRORS, fault.condition().as_str()).is_some());
            if let Some(too_high) = end.too_high {
                management::assert_too_high(&last_words, too_high);
            }
            return;
        }
        if end.closed {
            // before a handshake there is no stream to end
            end.ear.end(if end.wants_tls { b"" } else { FOOTER.as_bytes() });
            return;
        }
    }
    end.ear.end(b"");
}

/// The machine and what stands around it, with what has to be true.
struct End {
    settings: u8,
    machine: Receiving,
    side: Side,
    config: Arc<Config>,
    input: Input,
    ear: Ear,
    /// Issued and not answered, each with the stream that it was issued on.
    challenges: Vec<(Challenge, u32)>,
    /// Streams that began on the connection.
    streams: u32,
    certificate: bool,
    wants_tls: bool,
    closed: bool,
    tls: bool,
    /// What the certificate was found to prove on this stream, or the one before.
    certified: Option<Domain>,
    /// What SASL has shown of the peer.
    external: Option<Domain>,
    /// Stanzas are acknowledged, under this SM-ID if the stream can be resumed.
    managed: bool,
    session: Option<(String, Domain)>,
    outgoing: Outgoing,
    /// How many stanzas came since.
    received: u32,
    too_high: Option<TooHigh>,
    /// What may be resumed, and by whom.
    sessions: Vec<(Resumable, Domain)>,
    /// What it just wants.
    managing: Vec<Managing>,
    /// What was just answered well.
    proven: Option<Question>,
    /// The pairs that it may carry.
    authorized: BTreeSet<DomainPair>,
    now: u64,
}

impl End {
    fn new(settings: u8) -> Self {
        let side = if settings & 1 == 0 { Side::Peer } else { Side::Legacy };
        let config = Arc::clone(&CONFIGS[usize::from(settings >> 2) % CONFIGS.len()]);
        let machine = Receiving::new(side, Arc::clone(&config), keys(), ids)
            .from_address(IpAddr::from([192, 0, 2, 1]));
        let whose = |number| domain(if number == 3 { 4 } else { 1 });
        let mut end = Self {
            settings,
            machine,
            side,
            input: Input::new(&config),
            config,
            ear: Ear::new(),
            challenges: Vec::new(),
            streams: 0,
            certificate: settings & 16 != 0,
            wants_tls: false,
            closed: false,
            tls: false,
            certified: None,
            external: None,
            managed: false,
            session: None,
            outgoing: Outgoing::default(),
            received: 0,
            too_high: None,
            sessions: (0..4).map(|n| (management::former(n), whose(n))).collect(),
            managing: Vec::new(),
            proven: None,
            authorized: BTreeSet::new(),
            now: NOW,
        };
        if side == Side::Peer && settings & 2 != 0 {
            end.tls_up();
        }
        end
    }

    fn tls_up(&mut self) {
        let certificates = Certificates::get();
        let facts: &TlsFacts = match self.certificate {
            true => &certificates.with_certificate,
            false => &certificates.anonymous,
        };
        self.machine.tls_up(facts.clone());
        self.input.restart();
        self.streams += 1;
        (self.wants_tls, self.tls) = (false, true);
        self.certified = None;
        self.authorized.clear();
        self.look();
    }

    fn read(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        // in the clear behind <proceed/>: the socket is closed (RFC 6120 §5.4.3.3)
        if self.wants_tls {
            self.closed = true;
            return Ok(());
        }
        self.input.push(bytes);
        while let Some((piece, len)) = self.input.next()? {
            let mut out = Vec::new();
            let expected = self.expected(&piece);
            let outcome = match &piece {
                Piece::Header(header) => self.machine.header(header, &mut out),
                Piece::Element(name, element) => self.machine.element(*name, element, &mut out),
                Piece::Stanza { from, to } => self.stanza(from, to),
                Piece::Footer => {
                    self.closed = true;
                    return Ok(());
                }
            };
            let said = self.act(out);
            let bytes: usize = said.iter().map(Vec::len).sum();
            assert!(bytes <= 4096 + 8 * len, "{bytes} bytes for {len}");
            self.answers(&piece, &said);
            self.as_expected(expected, &said, &outcome);
            outcome?;
            self.manage()?;
            if self.closed {
                return Ok(());
            }
            if self.wants_tls {
                self.closed = !self.input.is_empty();
                return Ok(());
            }
        }
        Ok(())
    }

    /// A stanza is routed for what was proven, and not in the clear.
    fn stanza(&mut self, from: &str, to: &str) -> Result<(), Fault> {
        let grant = self.machine.stanza(from, to)?.clone();
        let pair = grant.pair();
        assert_eq!(grant.proof().domain(), &pair.sender);
        assert!(self.authorized.contains(pair), "{pair} was never proven");
        let of_jid = |jid: &str| Domain::parse(fedgate::xmpp::jid::domainpart(jid).unwrap());
        assert_eq!(of_jid(from).as_ref(), Ok(&pair.sender));
        assert_eq!(of_jid(to).as_ref(), Ok(&pair.target));
        self.received = self.received.wrapping_add(1);
        Ok(())
    }

    fn happens(&mut self, letter: u8, argument: usize) -> Result<(), Fault> {
        let mut out = Vec::new();
        self.proven = None;
        let outcome = match letter {
            b't' => {
                if self.wants_tls {
                    self.tls_up();
                }
                Ok(())
            }
            b'v' | b'p' | b'P' | b'o' | b'i' | b'e' => self.verdict(letter, argument, &mut out),
            b'c' => {
                self.config = Arc::clone(&CONFIGS[argument % CONFIGS.len()]);
                let outcome = self.machine.reconfigure(Arc::clone(&self.config));
                outcome.map(|gone| {
                    self.withdrawn(&gone);
                    self.authorized.iter().for_each(|pair| self.allowed(pair));
                })
            }
            b'w' => {
                let unwanted = self.authorized.iter().nth(argument).cloned();
                let outcome =
                    self.machine.withdraw(|grant| Some(grant.pair()) != unwanted.as_ref());
                outcome.map(|gone| {
                    assert_eq!(gone.first(), unwanted.as_ref());
                    self.withdrawn(&gone);
                })
            }
            b'd' => {
                self.certified = None;
                self.machine.distrust(&mut out)
            }
            b'n' => {
                self.now += 900 * argument as u64;
                let now = UnixTime::since_unix_epoch(Duration::from_secs(self.now));
                self.machine.renew(now, &mut out);
                assert!(self.machine.expires().is_none_or(|first| first > now));
                Ok(())
            }
            b'k' if !self.wants_tls && !self.machine.expects_header() => {
                self.key(argument);
                Ok(())
            }
            b's' if self.managed => {
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
        assert_eq!(self.managing, []);
        outcome?;
        self.look();
        Ok(())
    }

    fn withdrawn(&mut self, gone: &[DomainPair]) {
        for pair in gone {
            assert!(self.authorized.remove(pair), "{pair} was not authorized");
        }
    }

    fn verdict(&mut self, letter: u8, argument: usize, out: &mut Vec<Action>) -> Result<(), Fault> {
        let Some(at) = argument.checked_rem(self.challenges.len()) else { return Ok(()) };
        let (challenge, stream) = self.challenges.remove(at);
        let question = challenge.question().clone();
        let of = match &question {
            Question::Certificate(pair)
            | Question::Pair { pair, .. }
            | Question::Renewal { pair, .. } => &pair.sender,
        };
        let certificates = Certificates::get();
        let result: Result<Proof, Refusal> = match letter {
            b'v' => Ok(certificates.proof(By::Pkix, of)),
            b'p' => Ok(certificates.proof(By::Posh, of)),
            b'P' => Ok(certificates.proof(By::Pin, of)),
            b'o' => Ok(certificates.proof(By::Posh, &domain(8))),
            b'i' => Err(Refusal { outcome: VerifyOutcome::Invalid, detail: String::new() }),
            _ => Err(Refusal::error(StanzaCondition::RemoteServerTimeout, "")),
        };
        let is_stale = stream != self.streams;
        if result.as_ref().is_ok_and(|proof| proof.domain() == of) && !is_stale {
            if let Question::Certificate(pair) = &question {
                self.certified = Some(pair.sender.clone());
            }
            self.proven = Some(question);
        }
        let verdict: Verdict = challenge.answer(result);
        let outcome = self.machine.verdict(verdict, out);
        if is_stale {
            assert!(out.is_empty() && outcome.is_ok(), "an answer for another stream counted");
        }
        outcome
    }

    /// What it does, checked one by one; what it said.
    fn act(&mut self, actions: Vec<Action>) -> Vec<Vec<u8>> {
        let mut said = Vec::new();
        for action in actions {
            assert!(!self.closed, "{action:?} behind the end");
            match action {
                Action::Send(bytes) => {
                    assert!(!self.wants_tls, "clear text behind <proceed/>");
                    self.ear.hear(&bytes);
                    said.push(bytes);
                }
                Action::StartTls(_) => {
                    assert!(!self.tls && self.side == Side::Peer && self.authorized.is_empty());
                    self.wants_tls = true;
                    self.ear.end(b"");
                }
                Action::Restart(over) => {
                    assert!(self.tls && self.certified.is_some() && !self.managed);
                    self.external.clone_from(&self.certified);
                    self.input.restart();
                    self.ear.end(b"");
                    self.streams += 1;
                    assert_eq!(over.len(), self.authorized.len());
                    assert!(over.iter().all(|pair| self.authorized.remove(pair)));
                }
                Action::Prove(challenge) => self.challenges.push((challenge, self.streams)),
                Action::Granted(grant, how) => self.granted(grant.pair(), how),
                Action::Refused(pair, _) => assert!(!self.authorized.contains(&pair)),
                Action::Full(_) => {}
                Action::Renewed(pair) => {
                    assert!(self.is_proven(&pair, true) && self.authorized.contains(&pair));
                }
                Action::Withdrawn(pair, _) => assert!(self.authorized.remove(&pair)),
                Action::Manage { resumable } => self.managing.push(Managing::Enable { resumable }),
                Action::Resume(former) => self.managing.push(Managing::Resume(former)),
                Action::AckWanted => self.managing.push(Managing::Tell),
                Action::Acknowledged(h) => self.managing.push(Managing::Acknowledge(h)),
                Action::Close | Action::StreamError(_) => self.closed = true,
            }
        }
        let asked = self.challenges.iter().filter(|(challenge, stream)| {
            *stream == self.streams && matches!(challenge.question(), Question::Pair { .. })
        });
        assert!(asked.count() <= self.config.limits.pending_verifications);
        said
    }

    fn is_proven(&self, of: &DomainPair, again: bool) -> bool {
        match &self.proven {
            Some(Question::Pair { pair, .. }) => pair == of && !again,
            Some(Question::Renewal { pair, .. }) => pair == of && again,
            Some(Question::Certificate(_)) | None => false,
        }
    }

    fn granted(&mut self, pair: &DomainPair, how: Authentication) {
        let local = |domain| self.config.local_domains.contains_key(domain);
        assert_eq!(local(&pair.target), self.side == Side::Peer, "{pair}");
        assert_eq!(local(&pair.sender), self.side == Side::Legacy, "{pair}");
        match how {
            Authentication::External => {
                assert!(self.tls && self.certified.as_ref() == Some(&pair.sender), "{pair}");
                assert_eq!(self.machine.addressed(), Some(&pair.target));
            }
            Authentication::Dialback => assert!(self.is_proven(pair, false), "{pair}"),
        }
        self.allowed(pair);
        self.authorized.insert(pair.clone());
        self.input.authenticated(self.machine.stanza_limit_of(pair));
    }

    /// The rules let the pair come as it does.
    fn allowed(&self, pair: &DomainPair) {
        if self.side == Side::Legacy {
            return;
        }
        let (local, remote) = (Some(&pair.target), &pair.sender);
        let address = Some(IpAddr::from([192, 0, 2, 1]));
        let query = Query { local, remote, direction: Direction::Inbound, address };
        let decision = self.config.policy.decide(&query);
        assert!(decision.denied().is_none(), "{pair} is denied");
        assert!(self.tls || !decision.level().needs_tls(), "{pair} in the clear");
    }

    /// What the machine would carry is what was proven.
    fn look(&self) {
        let grants: BTreeSet<_> = self.machine.grants().map(|grant| grant.pair().clone()).collect();
        assert_eq!(grants, self.authorized);
        assert!(grants.len() <= self.config.limits.pairs_per_stream);
        assert_eq!(self.machine.is_authorized(), !grants.is_empty());
        assert_eq!(self.machine.is_managed(), self.managed);
        assert!(!self.machine.may_be_managed() || self.machine.is_bidirectional() && !self.managed);
        let identity =
            self.machine.identity().map(|(peer, us)| DomainPair::new(peer.clone(), us.clone()));
        assert_eq!(identity, self.identity());
    }
}
