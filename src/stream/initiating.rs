//! The opening end of a stream: ours to a peer (L4), or to the legacy server (L2), either to carry
//! the stanzas of one domain pair or to ask one dialback question (L1v, L3v).
//!
//! ```text
//! peer:   Header(Clear) → Features(Clear) → Proceed → Handshake → Judging → Header(Tls) → Features(Tls)
//!           → Auth → Header(Sasl) → Features(Sasl) → Open      EXTERNAL
//!           → Result → Open                                    dialback
//!           → Verify → Done                                    a question
//! legacy: Header(Clear) [→ Features(Clear)] → Result → Open, or → Verify → Done
//! ```
//! Serves RFC 6120 §4–6, XEP-0178 §3, XEP-0220 §2.1. An answer counts only if it was asked for on
//! this very stream (XEP-0220 §3.1); nothing that came before TLS counts after it.

mod asking;
mod inbound;
mod managing;

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    dialback::{Spelling, VerifyOutcome},
    failure::{Failure, FailureKind},
    limits::largest_stanza,
    management::{Former, Resumed, Resumption, is_offered},
    receiving::Authentication,
};
use crate::{
    auth::{Proof, TlsFacts, dialback_key::Secret, ledger::Ledger},
    config::policy::Level,
    xml::{
        Element, ElementName, Header, Version,
        writer::{self, StreamLimits},
    },
    xmpp::{DomainPair, Side, StreamCondition, ns},
};

/// Things that mean nothing on a stream of ours before we end it.
const IGNORED_MAX: u32 = 1000;

/// What the stream is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Carry the stanzas of the pair.
    Send,
    /// Ask whether the other end made this dialback key (XEP-0220 §2.1.2).
    Verify {
        /// The id of the stream on which the key came.
        id: String,
        /// The key.
        key: String,
        /// How the names are to be written, if not as we write them: old servers make keys of names as
        /// they are written.
        spelling: Option<Spelling>,
    },
}

/// What the driver has to do, in order.
#[derive(Debug)]
pub enum Step {
    /// Put this on the wire.
    Send(Vec<u8>),
    /// Write all, then do the handshake and call [`Initiating::tls_up`].
    StartTls,
    /// A new stream begins on the connection: parse from scratch.
    Restart,
    /// Judge whether the server's certificate proves the pair's target; call
    /// [`Initiating::judged`].
    Judge,
    /// Stanzas may be sent.
    Opened(Authentication),
    /// The question is answered.
    Verified(VerifyOutcome),
    /// One more pair, asked for with [`Initiating::request`], may be sent for, or why not.
    Answered(DomainPair, Result<(), Failure>),
    /// Stream management is on at the other end too, and perhaps the stream can be resumed: stanzas
    /// that come from here on are counted (XEP-0198 §3).
    Managed(Option<Resumption>),
    /// The other end will not have stream management.
    Unmanaged,
    /// The other end wants to know how many stanzas are handled.
    AckWanted,
    /// The other end has handled so many.
    Acknowledged(u32),
}

/// What the machine is made with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The side of the other end.
    pub side: Side,
    /// Our `from` and `to`: the sender is the domain we speak for.
    pub pair: DomainPair,
    /// Carry stanzas, or ask a question.
    pub purpose: Purpose,
    /// Whether our headers carry `version='1.0'`.
    pub version: bool,
    /// What the target has to reach. At `verified` TLS is used if it is offered, at `permissive` it
    /// is not: that is for a peer with which it failed.
    pub level: Level,
    /// Whether we have a certificate for the sender and may offer it for SASL EXTERNAL.
    pub external: bool,
    /// What we take of stanzas of the reversed pair, if they may come on this stream too (XEP-0288).
    pub bidi: Option<StreamLimits>,
    /// Whether stanzas are to be acknowledged, if the other end offers it (XEP-0198).
    pub management: bool,
    /// Whether the stream is to be one that can be resumed.
    pub resumption: bool,
    /// The stream that is to be resumed.
    pub former: Option<Former>,
    /// Makes our keys for this side.
    pub secret: Secret,
    /// The language of the stanzas that the stream will carry.
    pub lang: Option<Arc<str>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Layer {
    Clear,
    Tls,
    Sasl,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Header(Layer),
    Features(Layer),
    Proceed,
    Handshake,
    Judging,
    Auth,
    Result,
    Verify,
    Resume,
    Open,
    Done,
}

/// The opening end of a stream.
#[derive(Debug)]
pub struct Initiating {
    setup: Setup,
    state: State,
    id: String,
    tls: Option<TlsFacts>,
    proof: Option<Proof>,
    /// The other end does dialback.
    dialback: bool,
    /// The other end answers for each pair apart from the others (XEP-0220 §2.4.2).
    errors: bool,
    /// Pairs that were asked for on the open stream and are not answered, each with the proof of
    /// its target, if the reversed pair may come.
    asked: BTreeMap<DomainPair, Option<Proof>>,
    /// On a bidirectional stream: the pairs of the stanzas that come.
    inbound: Option<Ledger>,
    /// Bytes of the largest stanza that the other end takes, if it says so (XEP-0478).
    largest: Option<u32>,
    management: Management,
    ignored: u32,
}

/// How far stream management has come (XEP-0198).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Management {
    /// The last features offer it.
    is_offered: bool,
    /// We have asked for it, and were not refused.
    is_wanted: bool,
    /// And that the stream can be resumed.
    is_resumable: bool,
    /// The other end has consented.
    is_on: bool,
    /// What came of the wish to resume the former stream.
    resumed: Option<Resumed>,
}

type Outcome = Result<(), Failure>;

impl Initiating {
    /// A stream to be opened.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        Self {
            setup,
            state: State::Header(Layer::Clear),
            id: String::new(),
            tls: None,
            proof: None,
            dialback: false,
            errors: false,
            asked: BTreeMap::new(),
            inbound: None,
            largest: None,
            management: Management::default(),
            ignored: 0,
        }
    }

    /// The TCP connection is up, and the stream begins in the clear.
    pub fn connected(&mut self, out: &mut Vec<Step>) {
        self.open(Layer::Clear, out);
    }

    /// The TLS handshake is done, after [`Step::StartTls`] or at once on a direct TLS target.
    pub fn tls_up(&mut self, facts: TlsFacts, out: &mut Vec<Step>) {
        self.tls = Some(facts);
        self.state = State::Judging;
        out.push(Step::Judge);
    }

    /// The server's certificate is judged: a proof of the target, or why not.
    ///
    /// # Errors
    /// [`FailureKind::NotProven`] when policy wants a proof and there is none.
    pub fn judged(&mut self, verdict: Result<Proof, String>, out: &mut Vec<Step>) -> Outcome {
        match verdict {
            Ok(proof) if *proof.domain() == self.setup.pair.target => self.proof = Some(proof),
            Ok(_) => return Err(fail(FailureKind::NotProven, "proof for another domain")),
            Err(why) if self.setup.level == Level::Trusted => {
                return Err(fail(FailureKind::NotProven, why));
            }
            Err(_) => {}
        }
        self.open(Layer::Tls, out);
        Ok(())
    }

    fn open(&mut self, layer: Layer, out: &mut Vec<Step>) {
        let from = self.setup.pair.sender.to_unicode();
        let to = self.setup.pair.target.to_unicode();
        let header = writer::StreamHeader {
            to: Some(&to),
            from: Some(&from),
            id: None,
            version: self.setup.version.then_some(Version::V1_0),
            lang: self.setup.lang.as_deref(),
        };
        out.push(say(|out| header.write(out)));
        self.state = State::Header(layer);
    }

    /// The answer to our stream header came.
    ///
    /// # Errors
    /// Why the stream does not come about.
    pub fn header(&mut self, header: &Header, out: &mut Vec<Step>) -> Outcome {
        let State::Header(layer) = self.state else {
            let failure = fail(FailureKind::Stream, "second stream header");
            return Err(failure.telling(StreamCondition::BadFormat));
        };
        match header.id.as_deref() {
            Some(id) if !id.is_empty() => id.clone_into(&mut self.id),
            _ => {
                let failure = fail(FailureKind::Stream, "stream header without id");
                return Err(failure.telling(StreamCondition::BadFormat));
            }
        }
        let modern = header.version.is_some_and(|version| version.major >= 1);
        if modern {
            self.state = State::Features(layer);
            return Ok(());
        }
        if self.setup.side == Side::Peer && self.setup.level.needs_tls() {
            let failure = fail(FailureKind::Tls, "the peer speaks no XMPP 1.0, so no STARTTLS");
            return Err(failure.telling(StreamCondition::UnsupportedVersion));
        }
        self.ask(out);
        Ok(())
    }

    /// An element that is no stanza came.
    ///
    /// # Errors
    /// Why the stream does not come about, or ends.
    pub fn element(
        &mut self,
        name: ElementName,
        element: &Element,
        out: &mut Vec<Step>,
    ) -> Outcome {
        if name == ElementName::StreamError {
            return Err(Failure::stream_error(element));
        }
        match (self.state, name) {
            (State::Features(layer), ElementName::StreamFeatures) => {
                self.features(layer, element, out)
            }
            (State::Proceed, ElementName::TlsProceed) => {
                self.state = State::Handshake;
                out.push(Step::StartTls);
                Ok(())
            }
            (State::Proceed, ElementName::TlsFailure) => {
                let failure = fail(FailureKind::Tls, "the peer refused STARTTLS");
                Err(failure.telling(StreamCondition::PolicyViolation))
            }
            (State::Auth, ElementName::SaslSuccess) => {
                out.push(Step::Restart);
                self.open(Layer::Sasl, out);
                Ok(())
            }
            (State::Auth, ElementName::SaslChallenge) => {
                // The one message of EXTERNAL went with <auth/>; a server that asks missed it.
                let authzid = self.authzid();
                out.push(say(|out| writer::sasl_response(out, &authzid)));
                self.ignore()
            }
            // Protocol EX-9: refused certificates fall back to dialback on the same stream.
            (State::Auth, ElementName::SaslFailure) => {
                self.ask(out);
                Ok(())
            }
            (_, ElementName::DbResult | ElementName::DbVerify) => {
                self.dialback(name == ElementName::DbVerify, element, out)
            }
            (
                State::Open | State::Resume,
                ElementName::SmEnabled
                | ElementName::SmFailed
                | ElementName::SmResumed
                | ElementName::SmRequest
                | ElementName::SmAnswer,
            ) => self.managed(name, element, out),
            (
                State::Open
                | State::Done
                | State::Result
                | State::Verify
                | State::Auth
                | State::Resume,
                _,
            ) => self.ignore(),
            (
                State::Header(_)
                | State::Features(_)
                | State::Proceed
                | State::Handshake
                | State::Judging,
                _,
            ) => {
                let failure = fail(FailureKind::Stream, "unexpected element during negotiation");
                Err(failure.telling(StreamCondition::BadFormat))
            }
        }
    }

    fn features(&mut self, layer: Layer, features: &Element, out: &mut Vec<Step>) -> Outcome {
        let dialback = features.child(ns::DIALBACK_FEATURE, "dialback");
        // After SASL it need not be repeated (protocol DB-24).
        if let Some(dialback) = dialback.filter(|_| layer != Layer::Clear) {
            self.dialback = true;
            self.errors |= dialback.child(ns::DIALBACK_FEATURE, "errors").is_some();
        }
        // New features have new limits, and those in the clear are anybody's.
        let counts = self.setup.side == Side::Legacy || layer != Layer::Clear;
        self.largest = largest_stanza(features).filter(|_| counts);
        self.management.is_offered =
            self.setup.side == Side::Peer && layer != Layer::Clear && is_offered(features);
        match (self.setup.side, layer) {
            (Side::Legacy, _) => self.ask(out),
            (Side::Peer, Layer::Clear) => {
                let offered = features.child(ns::TLS, "starttls").is_some();
                let wanted = match self.setup.level {
                    // RFC 7590 §3.1: also when it is not offered, for the offer may have been removed.
                    Level::Encrypted | Level::Trusted => true,
                    Level::Verified => offered,
                    Level::Permissive => false,
                };
                if wanted {
                    out.push(say(writer::starttls));
                    self.state = State::Proceed;
                } else {
                    self.ask(out);
                }
            }
            (Side::Peer, Layer::Tls) => {
                let offered = features.child(ns::SASL, "mechanisms").is_some_and(|mechanisms| {
                    mechanisms.children().iter().any(|m| m.text().trim() == "EXTERNAL")
                });
                // Who the stanzas come from, only the certificate says (protocol BI-4).
                if let Some(limits) = self.setup.bidi
                    && self.setup.purpose == Purpose::Send
                    && self.proof.is_some()
                    && features.child(ns::BIDI_FEATURE, "bidi").is_some()
                {
                    out.push(say(|out| writer::bidi(out, limits)));
                    self.inbound = Some(Ledger::default());
                }
                // Never authenticate to a server that is not proven (protocol EX-7).
                let usable = offered && self.setup.external && self.proof.is_some();
                if usable && self.setup.purpose == Purpose::Send {
                    let authzid = self.authzid();
                    out.push(say(|out| writer::sasl_auth_external(out, &authzid)));
                    self.state = State::Auth;
                } else {
                    self.ask(out);
                }
            }
            (Side::Peer, Layer::Sasl) => self.resume_or_open(out),
        }
        Ok(())
    }

    /// The pair that the stream was opened for may be sent for.
    fn opened(&mut self, how: Authentication, out: &mut Vec<Step>) {
        self.state = State::Open;
        self.admit(&self.setup.pair.clone(), self.proof.clone());
        self.manage(how, out);
        out.push(Step::Opened(how));
    }

    /// The authorization identity: our own domain, in base64 (protocol EX-7).
    fn authzid(&self) -> String {
        STANDARD.encode(self.setup.pair.sender.to_unicode())
    }

    /// Bytes of the largest stanza that the other end takes, if it said so (XEP-0478).
    #[must_use]
    pub fn largest_stanza(&self) -> Option<usize> {
        self.largest.map(|bytes| bytes as usize)
    }

    /// The other end ended the stream.
    #[must_use]
    pub fn footer(&self) -> Failure {
        fail(FailureKind::Stream, "the other end closed the stream")
    }

    /// Whether the other end does dialback, so that the stream can be asked to carry further pairs.
    #[must_use]
    pub fn supports_dialback(&self) -> bool {
        self.dialback
    }

    /// Whether the other end answers for each pair apart, so that a stream can be asked to carry
    /// pairs with other targets too (XEP-0220 §2.6.2).
    #[must_use]
    pub fn supports_errors(&self) -> bool {
        self.errors
    }

    /// The proof of the target.
    #[must_use]
    pub fn proof(&self) -> Option<&Proof> {
        self.proof.as_ref()
    }

    /// What is known of TLS on this connection.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsFacts> {
        self.tls.as_ref()
    }

    /// How far it came, in words for the operator.
    #[must_use]
    pub fn stage(&self) -> &'static str {
        match self.state {
            State::Header(_) => "waiting for the stream header",
            State::Features(_) => "waiting for stream features",
            State::Proceed => "waiting for the answer to STARTTLS",
            State::Handshake => "in the TLS handshake",
            State::Judging => "judging the certificate",
            State::Auth => "waiting for the answer to SASL EXTERNAL",
            State::Result => "waiting for the answer to our dialback key",
            State::Verify => "waiting for the answer to a dialback question",
            State::Resume => "waiting for the answer to our wish to resume",
            State::Open => "open",
            State::Done => "done",
        }
    }

    /// Whether the other end has our dialback key and may be asking whether it is ours.
    #[must_use]
    pub fn is_checked(&self) -> bool {
        matches!(self.state, State::Result)
    }

    /// The last words when the stream does not come about, or ends. None where our header was not
    /// sent on this layer, so that there is no stream to end (RFC 6120 §5.4.3.2).
    #[must_use]
    pub fn farewell(&self, failure: &Failure) -> Vec<u8> {
        match self.state {
            State::Handshake | State::Judging => Vec::new(),
            State::Header(_)
            | State::Features(_)
            | State::Proceed
            | State::Auth
            | State::Result
            | State::Verify
            | State::Resume
            | State::Open
            | State::Done => failure.farewell(),
        }
    }

    fn ignore(&mut self) -> Outcome {
        self.ignored += 1;
        if self.ignored > IGNORED_MAX {
            let failure = fail(FailureKind::Stream, "too many elements that mean nothing here");
            return Err(failure.telling(StreamCondition::PolicyViolation));
        }
        Ok(())
    }
}

fn say(what: impl FnOnce(&mut Vec<u8>)) -> Step {
    let mut text = Vec::with_capacity(512);
    what(&mut text);
    Step::Send(text)
}

fn fail(kind: FailureKind, detail: impl Into<String>) -> Failure {
    Failure::new(kind, detail)
}

#[cfg(test)]
mod tests;
