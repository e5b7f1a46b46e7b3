//! The accepting end of a stream: a peer's stream to us (L1), or the legacy server's (L3).
//!
//! ```text
//!              header            starttls           header             auth         header
//! peer:   Header(Clear) → Open(Clear) → Handshake → Header(Tls) → Judging → Open(Tls) → Header(Sasl) → Open(Sasl)
//! legacy: Header(Clear) → Open(Clear), dialback elements at once
//! ```
//! Serves RFC 6120 §4–6 and XEP-0220 §2.2 (receiving and authoritative server). What was learned
//! before TLS is forgotten when TLS starts (RFC 6120 §5.4.3.3); a stanza is admitted only by the
//! ledger, and the ledger is fed only by verdicts on challenges that this machine itself issued.

use std::{collections::BTreeSet, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    dialback::{Dialback, DialbackError, DialbackRequest, VerifyOutcome},
    fault::Fault,
};
use crate::{
    auth::{
        Proof, TlsFacts,
        dialback_key::DialbackKeys,
        ledger::{AuthorizedPair, Inadmissible, Ledger},
    },
    config::{model::Config, policy::Level},
    xml::{
        Element, ElementName, Header, Version,
        writer::{self, DialbackAnswer, Features, StreamLimits},
    },
    xmpp::{Direction, Domain, DomainPair, Side, StanzaCondition, StreamCondition, jid},
};

/// Elements that we do not know, that mean nothing where they come or that can only be refused,
/// before the stream ends.
const IGNORED_MAX: u32 = 100;
/// Dialback elements in the clear that a peer may send before the stream ends (protocol §12.1).
const CLEAR_DIALBACK_MAX: u32 = 3;
/// Failed SASL attempts before the stream ends (RFC 6120 §6.4.5: 2 to 5).
const SASL_FAILURES_MAX: u32 = 3;

/// What the driver has to do, in order.
#[derive(Debug)]
pub enum Action {
    /// Put this on the wire.
    Send(Vec<u8>),
    /// Write all, take no byte that came before, do the handshake, then call
    /// [`Receiving::tls_up`]. The certificate is chosen by SNI, or else by this domain.
    StartTls(Option<Domain>),
    /// A new stream begins on the connection: parse from scratch.
    Restart,
    /// Find out, then call [`Receiving::verdict`].
    Prove(Challenge),
    /// A pair is authorized from now on.
    Granted(AuthorizedPair, Authentication),
    /// A pair is refused, for the reason given.
    Refused(DomainPair, String),
    /// Say good-bye: the stream ends without a stream error.
    Close,
}

/// How a domain pair came to be authorized.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Authentication {
    /// SASL EXTERNAL (RFC 6120 §6, XEP-0178).
    External,
    /// A dialback request (XEP-0220), whether or not somebody was dialled back.
    Dialback,
}

impl Authentication {
    /// The word for logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::External => "external",
            Self::Dialback => "dialback",
        }
    }
}

/// Something that this stream must have found out. Not `Clone`: a verdict exists only for a
/// challenge that was issued, once.
#[derive(Debug)]
pub struct Challenge {
    question: Question,
    /// The id of the stream that asks; an answer means nothing on another.
    stream: String,
}

/// What a challenge asks.
#[derive(Clone, Debug)]
pub enum Question {
    /// Does the certificate of the TLS peer prove this domain?
    Certificate(Domain),
    /// May this stream carry this pair, asked for with this dialback key for this stream id?
    Pair {
        /// Sender and target.
        pair: DomainPair,
        /// The key.
        key: String,
        /// The stream id we gave.
        id: String,
    },
}

/// The answer to one challenge.
#[derive(Debug)]
pub struct Verdict {
    question: Question,
    stream: String,
    result: Result<Proof, Refusal>,
}

/// Why a pair is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// What the dialback answer says.
    pub outcome: VerifyOutcome,
    /// What the operator reads.
    pub detail: String,
}

impl Refusal {
    /// A refusal with a dialback error condition (XEP-0220 §2.5).
    #[must_use]
    pub fn error(condition: StanzaCondition, detail: impl Into<String>) -> Self {
        Self { outcome: VerifyOutcome::Error(Some(condition)), detail: detail.into() }
    }
}

impl Challenge {
    /// What to find out.
    #[must_use]
    pub fn question(&self) -> &Question {
        &self.question
    }

    /// Answers it.
    #[must_use]
    pub fn answer(self, result: Result<Proof, Refusal>) -> Verdict {
        Verdict { question: self.question, stream: self.stream, result }
    }
}

/// How far the connection has come; the names in the header count only for their own layer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Layer {
    Clear,
    Tls,
    Sasl,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The next thing is a stream header.
    Header(Layer),
    /// The TLS handshake is on.
    Handshake,
    /// The certificate is being judged; features come after.
    Judging,
    /// Elements.
    Open(Layer),
}

/// The domains in the header of the current layer.
#[derive(Clone, Default, Debug)]
struct Names {
    from: Option<Domain>,
    to: Option<Domain>,
}

/// The accepting end of a stream.
#[derive(Debug)]
pub struct Receiving {
    side: Side,
    config: Arc<Config>,
    keys: Arc<DialbackKeys>,
    stage: Stage,
    /// Stream ids, one for each header that we will send on the connection.
    ids: StreamIds,
    id: String,
    header_sent: bool,
    tls: Option<TlsFacts>,
    names: Names,
    /// The certificate proves `names.from`.
    certificate: Option<Proof>,
    /// Proven by SASL EXTERNAL.
    external: Option<Proof>,
    ledger: Ledger,
    pending: BTreeSet<DomainPair>,
    ignored: u32,
    clear_dialback: u32,
    sasl_failures: u32,
}

/// A source of unpredictable stream ids (protocol ST-2).
pub type StreamIds = fn() -> String;

type Outcome = Result<(), Fault>;

impl Receiving {
    /// A connection was accepted on that side.
    #[must_use]
    pub fn new(side: Side, config: Arc<Config>, keys: Arc<DialbackKeys>, ids: StreamIds) -> Self {
        Self {
            side,
            config,
            keys,
            stage: Stage::Header(Layer::Clear),
            ids,
            id: String::new(),
            header_sent: false,
            tls: None,
            names: Names::default(),
            certificate: None,
            external: None,
            ledger: Ledger::default(),
            pending: BTreeSet::new(),
            ignored: 0,
            clear_dialback: 0,
            sasl_failures: 0,
        }
    }

    /// The TLS handshake is done: after `<proceed/>`, or at once on a direct TLS port. All that was
    /// said in the clear is forgotten (RFC 6120 §5.4.3.3).
    pub fn tls_up(&mut self, facts: TlsFacts) {
        self.stage = Stage::Header(Layer::Tls);
        self.names = Names::default();
        self.header_sent = false;
        self.tls = Some(facts);
    }

    /// A stream header came.
    ///
    /// # Errors
    /// The [`Fault`] that ends the stream.
    pub fn header(&mut self, header: &Header, out: &mut Vec<Action>) -> Outcome {
        let Stage::Header(layer) = self.stage else {
            return Err(Fault::remote(StreamCondition::BadFormat, "second stream header"));
        };
        self.id = (self.ids)();
        // The answer names nobody before the names are known to be good.
        self.names = Names::default();
        let to = header.to.as_deref().map(Domain::parse);
        let from = header.from.as_deref().map(Domain::parse);
        let modern = header.version.is_some_and(|version| version.major >= 1);
        if let Some(Ok(to)) = &to
            && self.serves(to)
        {
            self.names.to = Some(to.clone());
        }
        if let Some(Ok(from)) = &from {
            self.names.from = Some(from.clone());
        }
        out.push(say(|out| self.response_header(modern, out)));
        self.header_sent = true;
        match self.side {
            Side::Legacy => self.legacy_header(to.is_some(), modern, out),
            Side::Peer if !modern => Err(Fault::remote(
                StreamCondition::UnsupportedVersion,
                "stream without version 1.0",
            )),
            Side::Peer => {
                if to.is_some() && self.names.to.is_none() {
                    return Err(Fault::remote(
                        StreamCondition::HostUnknown,
                        "to is not served here",
                    ));
                }
                if from.is_some() && self.names.from.is_none() {
                    return Err(Fault::remote(
                        StreamCondition::ImproperAddressing,
                        "from is not a domain",
                    ));
                }
                self.peer_header(layer, out)
            }
        }
    }

    fn legacy_header(&mut self, has_to: bool, modern: bool, out: &mut Vec<Action>) -> Outcome {
        if has_to && self.names.to.is_none() {
            return Err(Fault::remote(
                StreamCondition::HostUnknown,
                "to is no domain that is reached through this gate",
            ));
        }
        // COMPAT(jabberd 1.4, jabberd2): features on a version-less stream break them.
        if modern {
            self.offer(out, Features { dialback: true, ..Features::default() });
        }
        self.stage = Stage::Open(Layer::Clear);
        Ok(())
    }

    fn peer_header(&mut self, layer: Layer, out: &mut Vec<Action>) -> Outcome {
        if let Some(from) = self.names.from.clone() {
            if self.is_local(&from) {
                return Err(Fault::remote(
                    StreamCondition::NotAuthorized,
                    "from is a domain that is served here",
                ));
            }
            self.allow(&from)?;
        }
        match layer {
            Layer::Clear => {
                self.offer(out, Features { starttls: true, ..Features::default() });
                self.stage = Stage::Open(Layer::Clear);
            }
            Layer::Tls => {
                if self.names.to.is_none() {
                    return Err(Fault::remote(StreamCondition::HostUnknown, "no to in the header"));
                }
                let has_certificate = self.tls.as_ref().is_some_and(TlsFacts::has_peer_certificate);
                match &self.names.from {
                    Some(from) if has_certificate => {
                        let question = Question::Certificate(from.clone());
                        out.push(self.challenge(question));
                        self.stage = Stage::Judging;
                    }
                    _ => self.open_tls(out),
                }
            }
            Layer::Sasl => self.after_sasl(out)?,
        }
        Ok(())
    }

    /// RFC 6120 §6.4.6: the names must be those that were authenticated.
    fn after_sasl(&mut self, out: &mut Vec<Action>) -> Outcome {
        let Some(proof) = self.external.clone() else {
            return Err(Fault::us(StreamCondition::InternalServerError, "no proof after sasl"));
        };
        if self.names.from.as_ref() != Some(proof.domain()) {
            return Err(Fault::remote(
                StreamCondition::InvalidFrom,
                "from changed after authentication",
            ));
        }
        let Some(to) = self.names.to.clone() else {
            return Err(Fault::remote(StreamCondition::HostUnknown, "no to in the header"));
        };
        self.stage = Stage::Open(Layer::Sasl);
        self.offer(out, Features { dialback: true, limits: self.limits(), ..Features::default() });
        let pair = DomainPair::new(proof.domain().clone(), to);
        if !self.grant(pair, proof, Authentication::External, out) {
            return Err(Fault::us(StreamCondition::InternalServerError, "no proof after sasl"));
        }
        Ok(())
    }

    fn open_tls(&mut self, out: &mut Vec<Action>) {
        let external = self.certificate.is_some();
        let limits = self.limits();
        self.offer(out, Features { external, dialback: true, limits, ..Features::default() });
        self.stage = Stage::Open(Layer::Tls);
    }

    /// An element that is no stanza came.
    ///
    /// # Errors
    /// The [`Fault`] that ends the stream.
    pub fn element(
        &mut self,
        name: ElementName,
        element: &Element,
        out: &mut Vec<Action>,
    ) -> Outcome {
        if name == ElementName::StreamError {
            out.push(Action::Close);
            return Ok(());
        }
        let Stage::Open(layer) = self.stage else {
            return Err(Fault::remote(StreamCondition::NotAuthorized, "element before features"));
        };
        match name {
            ElementName::StartTls if self.side == Side::Peer && layer == Layer::Clear => {
                out.push(say(writer::tls_proceed));
                out.push(Action::StartTls(self.names.to.clone()));
                self.stage = Stage::Handshake;
                Ok(())
            }
            ElementName::StartTls => {
                // RFC 6120 §5.4.2.2.
                out.push(say(writer::tls_failure));
                out.push(Action::Close);
                Ok(())
            }
            ElementName::SaslAuth => self.auth(layer, element, out),
            ElementName::SaslAbort => self.sasl_failure("aborted", out),
            ElementName::Compress => {
                out.push(say(writer::compress_failure));
                self.ignore()
            }
            ElementName::DbResult | ElementName::DbVerify => {
                self.dialback(name, layer, element, out)
            }
            _ => self.ignore(),
        }
    }

    /// A stanza came: which pair is it of?
    ///
    /// # Errors
    /// The [`Fault`] that ends the stream.
    pub fn stanza(&mut self, from: &str, to: &str) -> Result<&AuthorizedPair, Fault> {
        if !matches!(self.stage, Stage::Open(_)) {
            return Err(Inadmissible::Unauthenticated.into());
        }
        let (side, config, pending) = (self.side, &self.config, &self.pending);
        self.ledger.admit(from, to).map_err(|why| {
            let domain = |jid| jid::domainpart(jid).and_then(|part| Domain::parse(part).ok());
            let (Some(from), Some(to)) = (domain(from), domain(to)) else { return why.into() };
            let unknown = config.local_domains.contains_key(&to) != (side == Side::Peer);
            if pending.contains(&DomainPair::new(from, to)) {
                Inadmissible::Unauthenticated.into()
            } else if why == Inadmissible::Pair && unknown {
                // RFC 6120 §8.1.1.2.
                let reason = "stanza to a domain that is not served here";
                Fault::remote(StreamCondition::HostUnknown, reason)
            } else {
                why.into()
            }
        })
    }

    fn auth(&mut self, layer: Layer, element: &Element, out: &mut Vec<Action>) -> Outcome {
        if self.side == Side::Legacy || layer == Layer::Clear {
            return self.sasl_failure("encryption-required", out);
        }
        if layer == Layer::Sasl {
            return Err(Fault::remote(StreamCondition::PolicyViolation, "second authentication"));
        }
        if element.attr("mechanism") != Some("EXTERNAL") {
            return self.sasl_failure("invalid-mechanism", out);
        }
        // RFC 6120 §13.9.1: white space is no base64 either.
        let authzid = match element.text() {
            "" | "=" => None,
            encoded => {
                match STANDARD.decode(encoded).ok().and_then(|b| String::from_utf8(b).ok()) {
                    Some(authzid) => Some(authzid),
                    None => return self.sasl_failure("incorrect-encoding", out),
                }
            }
        };
        let Some(proof) = self.certificate.clone() else {
            return self.sasl_failure("not-authorized", out);
        };
        // Protocol EX-3: an authorization identity may only repeat the header's from.
        if let Some(authzid) = authzid
            && Domain::parse(&authzid).ok().as_ref() != Some(proof.domain())
        {
            return self.sasl_failure("invalid-authzid", out);
        }
        self.allow(proof.domain())?;
        out.push(say(writer::sasl_success));
        out.push(Action::Restart);
        self.external = Some(proof);
        self.header_sent = false;
        // The stream that the id, the requests and the pairs belonged to is over.
        self.id.clear();
        self.pending.clear();
        self.ledger = Ledger::default();
        self.stage = Stage::Header(Layer::Sasl);
        Ok(())
    }

    fn sasl_failure(&mut self, condition: &'static str, out: &mut Vec<Action>) -> Outcome {
        self.sasl_failures += 1;
        if self.sasl_failures > SASL_FAILURES_MAX {
            return Err(Fault::remote(StreamCondition::PolicyViolation, "too many sasl attempts"));
        }
        out.push(say(|out| writer::sasl_failure(out, condition)));
        Ok(())
    }

    fn dialback(
        &mut self,
        name: ElementName,
        layer: Layer,
        element: &Element,
        out: &mut Vec<Action>,
    ) -> Outcome {
        let is_verify = name == ElementName::DbVerify;
        let request = match Dialback::parse(element, is_verify) {
            Ok(Dialback::Request(request)) => request,
            // We ask nothing on streams that we accepted: an answer here was not asked for
            // (XEP-0220 §3.1 "Unsolicited Dialback").
            Ok(Dialback::Answer(_)) => return self.ignore(),
            Err(error) => {
                let condition = match error {
                    DialbackError::Addressing => StreamCondition::ImproperAddressing,
                    DialbackError::Id | DialbackError::Key | DialbackError::Type => {
                        StreamCondition::BadFormat
                    }
                };
                return Err(Fault::remote(condition, "malformed dialback element"));
            }
        };
        if self.side == Side::Peer && layer == Layer::Clear {
            self.clear_dialback += 1;
            if self.clear_dialback > CLEAR_DIALBACK_MAX {
                return Err(Fault::policy(StreamCondition::PolicyViolation, "tls required", None));
            }
            let outcome = VerifyOutcome::Error(Some(StanzaCondition::PolicyViolation));
            out.push(answer(&request, outcome));
            return Ok(());
        }
        if is_verify {
            let outcome = self.check_key(&request);
            out.push(answer(&request, outcome));
            return Ok(());
        }
        self.request(request, out)
    }

    /// We are the authoritative server: of our domains towards peers, of everyone else's towards
    /// the legacy server (XEP-0220 §2.2.2). Needs no authorization (protocol DB-18).
    fn check_key(&self, request: &DialbackRequest) -> VerifyOutcome {
        let (receiving, initiating) = (&request.pair.sender, &request.pair.target);
        let id = request.id.as_deref().unwrap_or_default();
        let secret = match (self.side, self.config.local_domains.get(receiving)) {
            (Side::Peer, None) if self.is_local(initiating) => self.keys.public().clone(),
            (Side::Legacy, Some(legacy)) if !self.is_local(initiating) => {
                self.keys.local(&legacy.name)
            }
            _ => return VerifyOutcome::Error(Some(StanzaCondition::ItemNotFound)),
        };
        if secret.check(receiving, initiating, id, &request.key) {
            VerifyOutcome::Valid
        } else {
            VerifyOutcome::Invalid
        }
    }

    /// We are the receiving server (XEP-0220 §2.2.1).
    fn request(&mut self, request: DialbackRequest, out: &mut Vec<Action>) -> Outcome {
        let pair = request.pair.clone();
        if self.pending.contains(&pair) {
            return self.ignore(); // the answer to the first request answers this one too
        }
        if let Some(refusal) = self.objection(&pair) {
            out.push(Action::Refused(pair, refusal.detail));
            out.push(answer(&request, refusal.outcome));
            return self.ignore();
        }
        if self.ledger.get(&pair).is_some() {
            out.push(answer(&request, VerifyOutcome::Valid));
        } else if self.pending.len() >= self.config.limits.pending_verifications
            || self.ledger.len() + self.pending.len() >= self.config.limits.pairs_per_stream
        {
            let outcome = VerifyOutcome::Error(Some(StanzaCondition::ResourceConstraint));
            out.push(answer(&request, outcome));
        } else {
            self.pending.insert(pair.clone());
            let question = Question::Pair { pair, key: request.key, id: self.id.clone() };
            out.push(self.challenge(question));
        }
        Ok(())
    }

    /// A challenge is answered.
    ///
    /// # Errors
    /// The [`Fault`] that ends the stream.
    pub fn verdict(&mut self, verdict: Verdict, out: &mut Vec<Action>) -> Outcome {
        // Of a stream that was restarted meanwhile, or of another one, it is void.
        if verdict.stream != self.id {
            return Ok(());
        }
        match verdict.question {
            Question::Certificate(domain) => {
                if self.stage == Stage::Judging && self.names.from.as_ref() == Some(&domain) {
                    self.certificate = verdict.result.ok().filter(|p| *p.domain() == domain);
                    self.open_tls(out);
                }
                Ok(())
            }
            Question::Pair { pair, .. } => {
                if !self.pending.remove(&pair) {
                    return Ok(());
                }
                let accepted = verdict.result.and_then(|proof| self.accept(&pair, proof, out));
                let mut outcome = match accepted {
                    Ok(()) => VerifyOutcome::Valid,
                    Err(refusal) => {
                        out.push(Action::Refused(pair.clone(), refusal.detail));
                        refusal.outcome
                    }
                };
                // XEP-0220 §2.2.1: invalid ends the stream, so not while other pairs live on it.
                if outcome == VerifyOutcome::Invalid && !self.ledger.is_empty() {
                    outcome = VerifyOutcome::Error(Some(StanzaCondition::Forbidden));
                }
                let (from, to) = (pair.target.to_unicode(), pair.sender.to_unicode());
                out.push(say(|out| {
                    writer::dialback_result_answer(out, &from, &to, wire(outcome));
                }));
                if outcome == VerifyOutcome::Invalid {
                    out.push(Action::Close);
                }
                Ok(())
            }
        }
    }

    /// The configuration changed: pairs that it no longer allows are withdrawn and returned.
    ///
    /// # Errors
    /// A [`Fault`] when nothing is left that the stream may do.
    pub fn reconfigure(&mut self, config: Arc<Config>) -> Result<Vec<DomainPair>, Fault> {
        self.config = config;
        let mut rule = None;
        let mut ledger = std::mem::take(&mut self.ledger);
        let before = ledger.len();
        let gone = ledger.retain(|grant| {
            let pair = grant.pair();
            if self.side == Side::Peer
                && let Err(fault) = self.allow(&pair.sender)
            {
                rule = fault.rule().map(Into::into);
            }
            self.reaches_level(pair, grant.proof()) && self.objection(pair).is_none()
        });
        self.ledger = ledger;
        if before > 0 && self.ledger.is_empty() {
            return Err(Fault::policy(
                StreamCondition::PolicyViolation,
                "no longer allowed by policy",
                rule,
            ));
        }
        if self.side == Side::Peer
            && let Some(from) = self.names.from.clone()
        {
            self.allow(&from)?;
        }
        Ok(gone)
    }

    /// The last words for a fault: our header if it was not sent yet (RFC 6120 §4.9.1.2), the
    /// stream error, the footer.
    #[must_use]
    pub fn farewell(&mut self, fault: &Fault) -> Vec<u8> {
        let mut text = Vec::new();
        if matches!(self.stage, Stage::Header(_)) && !self.header_sent {
            self.id = (self.ids)();
            self.response_header(self.side == Side::Peer, &mut text);
        }
        writer::stream_error(&mut text, fault.condition(), None, fault.application());
        text.extend_from_slice(writer::FOOTER.as_bytes());
        text
    }

    /// Whether the stream may carry stanzas for some pair.
    #[must_use]
    pub fn is_authorized(&self) -> bool {
        !self.ledger.is_empty()
    }

    /// Whether it waits for verdicts.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.pending.is_empty() || self.stage == Stage::Judging
    }

    /// Whether a stream header is the next thing.
    #[must_use]
    pub fn expects_header(&self) -> bool {
        matches!(self.stage, Stage::Header(_))
    }

    /// What is known of TLS on this connection.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsFacts> {
        self.tls.as_ref()
    }

    /// The domain that the stream's current header claims.
    #[must_use]
    pub fn claimed(&self) -> Option<&Domain> {
        self.names.from.as_ref()
    }

    fn challenge(&self, question: Question) -> Action {
        Action::Prove(Challenge { question, stream: self.id.clone() })
    }

    /// A pair was proven: is that enough?
    fn accept(
        &mut self,
        pair: &DomainPair,
        proof: Proof,
        out: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        // The configuration may have changed since the request.
        if let Some(refusal) = self.objection(pair) {
            return Err(refusal);
        }
        if !self.reaches_level(pair, &proof) {
            let detail = "the level trusted is not reached";
            return Err(Refusal::error(StanzaCondition::NotAuthorized, detail));
        }
        if !self.grant(pair.clone(), proof, Authentication::Dialback, out) {
            let detail = "the proof is of another domain";
            return Err(Refusal::error(StanzaCondition::InternalServerError, detail));
        }
        Ok(())
    }

    fn reaches_level(&self, pair: &DomainPair, proof: &Proof) -> bool {
        let level = || self.config.policy.domain(&pair.sender, Direction::Inbound).level;
        self.side == Side::Legacy || proof.is_strong() || level() == Level::Encrypted
    }

    fn grant(
        &mut self,
        pair: DomainPair,
        proof: Proof,
        how: Authentication,
        out: &mut Vec<Action>,
    ) -> bool {
        let Some(grant) = self.ledger.authorize(pair, proof) else { return false };
        out.push(Action::Granted(grant, how));
        true
    }

    /// Whether `domain` may be the target of a pair here: local domains for peers, all others for
    /// the legacy server.
    fn serves(&self, domain: &Domain) -> bool {
        self.is_local(domain) == (self.side == Side::Peer)
    }

    /// Why a pair may not be authorized here, however well it is proven.
    fn objection(&self, pair: &DomainPair) -> Option<Refusal> {
        if !self.serves(&pair.target) {
            let detail = "the target is not served here";
            return Some(Refusal::error(StanzaCondition::ItemNotFound, detail));
        }
        match (self.side, self.is_local(&pair.sender)) {
            (Side::Legacy, true) => None,
            (Side::Legacy, false) => {
                Some(Refusal::error(StanzaCondition::NotAuthorized, "the sender is not local"))
            }
            (Side::Peer, true) => {
                Some(Refusal::error(StanzaCondition::Forbidden, "the sender is served here"))
            }
            (Side::Peer, false) => self.allow(&pair.sender).err().map(|fault| {
                let detail = format!("denied by {}", fault.rule().unwrap_or_default());
                Refusal::error(StanzaCondition::Forbidden, detail)
            }),
        }
    }

    fn is_local(&self, domain: &Domain) -> bool {
        self.config.local_domains.contains_key(domain)
    }

    fn allow(&self, remote: &Domain) -> Outcome {
        match self.config.policy.domain(remote, Direction::Inbound).denied {
            None => Ok(()),
            Some(denied) => Err(Fault::policy(
                StreamCondition::PolicyViolation,
                "denied by rule",
                Some(denied.rule.0.to_string()),
            )),
        }
    }

    fn limits(&self) -> Option<StreamLimits> {
        let max_bytes = self.config.limits.stanza as u64;
        Some(StreamLimits { max_bytes: Some(max_bytes), idle_seconds: None })
    }

    fn offer(&self, out: &mut Vec<Action>, features: Features) {
        out.push(say(|out| writer::features(out, &features)));
    }

    fn response_header(&self, modern: bool, out: &mut Vec<u8>) {
        let to = self.names.from.as_ref().map(Domain::to_unicode);
        // RFC 6120 §4.9.1.3: empty when the host is unspecified or unknown.
        let nobody = || (self.side == Side::Peer).then(String::new);
        let from = self.names.to.as_ref().map(Domain::to_unicode).or_else(nobody);
        let header = writer::StreamHeader {
            to: to.as_deref(),
            from: from.as_deref(),
            id: Some(&self.id),
            // COMPAT(jabberd 1.4, jabberd2): answer like with like.
            version: modern.then_some(Version::V1_0),
            lang: modern.then_some("en"),
        };
        header.write(out);
    }

    fn ignore(&mut self) -> Outcome {
        self.ignored += 1;
        if self.ignored > IGNORED_MAX {
            return Err(Fault::remote(
                StreamCondition::PolicyViolation,
                "too many elements that mean nothing here",
            ));
        }
        Ok(())
    }
}

fn say(what: impl FnOnce(&mut Vec<u8>)) -> Action {
    let mut text = Vec::new();
    what(&mut text);
    Action::Send(text)
}

/// The answer to a request: from and to swapped, same id.
fn answer(request: &DialbackRequest, outcome: VerifyOutcome) -> Action {
    let from = request.pair.target.to_unicode();
    let to = request.pair.sender.to_unicode();
    say(|out| match &request.id {
        Some(id) => writer::dialback_verify_answer(out, &from, &to, id, wire(outcome)),
        None => writer::dialback_result_answer(out, &from, &to, wire(outcome)),
    })
}

fn wire(outcome: VerifyOutcome) -> DialbackAnswer<'static> {
    match outcome {
        VerifyOutcome::Valid => DialbackAnswer::Valid,
        VerifyOutcome::Invalid => DialbackAnswer::Invalid,
        VerifyOutcome::Error(condition) => {
            DialbackAnswer::Error(condition.unwrap_or(StanzaCondition::RemoteServerTimeout), None)
        }
    }
}

#[cfg(test)]
mod tests;
