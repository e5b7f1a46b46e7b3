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

mod managing;
mod opening;
mod pairs;
mod renewal;
mod rules;
mod sasl;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use super::{
    challenge::{Challenge, Question},
    dialback::Spelling,
    failure::Failure,
    fault::Fault,
    limits::largest_stanza,
    management::Former,
};
use crate::{
    auth::{
        Proof, TlsFacts,
        dialback_key::DialbackKeys,
        ledger::{AuthorizedPair, Inadmissible, Ledger},
    },
    config::model::Config,
    xml::{Element, ElementName, writer},
    xmpp::{Domain, DomainPair, Side, StreamCondition, jid},
};

/// Elements that we do not know, that mean nothing where they come or that can only be refused,
/// before the stream ends.
const IGNORED_MAX: u32 = 100;
/// What the driver has to do, in order.
#[derive(Debug)]
pub enum Action {
    /// Put this on the wire.
    Send(Vec<u8>),
    /// Write all, take no byte that came before, do the handshake, then call
    /// [`Receiving::tls_up`]. The certificate is chosen by SNI, or else by this domain.
    StartTls(Option<Domain>),
    /// A new stream begins on the connection: parse from scratch. These pairs were authorized on the
    /// one before, and are no more.
    Restart(Vec<DomainPair>),
    /// Find out, then call [`Receiving::verdict`].
    Prove(Challenge),
    /// A pair is authorized from now on.
    Granted(AuthorizedPair, Authentication),
    /// A pair is refused, for the reason given.
    Refused(DomainPair, String),
    /// A pair is refused, for there is no room for one more.
    Full(Full),
    /// The proof of a pair was renewed.
    Renewed(DomainPair),
    /// The proof of a pair expired and could not be renewed, for the reason given: it is authorized
    /// no more.
    Withdrawn(DomainPair, String),
    /// The peer wants stream management, perhaps such that the stream can be resumed: say whether it
    /// is on, and count from here on (XEP-0198 §3).
    Manage {
        /// Whether the peer may resume the stream: it wants to, and is who its certificate says.
        resumable: bool,
    },
    /// The peer wants to resume this stream: say [`Receiving::resumed`] if it is.
    Resume(Former),
    /// The peer wants to know how many stanzas are handled.
    AckWanted,
    /// The peer has handled so many.
    Acknowledged(u32),
    /// Say good-bye: the other end was told that it is refused, and the stream ends without a stream
    /// error.
    Close,
    /// Say good-bye: the other end sent this stream error, and with it the stream ends
    /// (RFC 6120 §4.9.1.1).
    StreamError(Failure),
}

/// What a stream has no more room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Full {
    /// Dialback requests under way.
    PendingVerifications,
    /// Domain pairs.
    PairsPerStream,
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
    /// Nothing is authorized on it: it is for questions about keys of ours.
    is_for_questions: bool,
    address: Option<IpAddr>,
    stage: Stage,
    /// Stream ids, one for each header that we will send on the connection.
    ids: StreamIds,
    id: Box<str>,
    header_sent: bool,
    tls: Option<TlsFacts>,
    names: Names,
    /// What policy says of these: after how long without stanzas the stream is closed.
    idle: Duration,
    /// The certificate proves `names.from` by the rules for it and `names.to`.
    certificate: Option<Proof>,
    /// Proven by SASL EXTERNAL.
    external: Option<Box<External>>,
    ledger: Ledger,
    /// The peer wants stanzas in the other direction too (XEP-0288).
    bidi: bool,
    /// Bytes of the largest stanza that it takes then, if it says so (XEP-0478).
    largest: Option<u32>,
    /// Stanzas are acknowledged (XEP-0198).
    managed: bool,
    /// Pairs that are asked for, and how they were spelled.
    pending: BTreeMap<DomainPair, Vec<Spelling>>,
    /// Requests of the legacy server that are not looked into yet.
    waiting: BTreeMap<DomainPair, Waiting>,
    /// The dialback keys of granted pairs whose proof expires.
    dialback_keys: BTreeMap<DomainPair, String>,
    /// Pairs whose proof is being renewed.
    renewing: BTreeSet<DomainPair>,
    ignored: u32,
    clear_dialback: u32,
    sasl_failures: u32,
}

/// A dialback request that has to wait.
#[derive(Debug)]
struct Waiting {
    spellings: Vec<Spelling>,
    key: String,
}

/// Who authenticated by SASL EXTERNAL.
#[derive(Clone, Debug)]
struct External {
    proof: Proof,
    /// The domain whose rules the certificate was judged by, too.
    to: Domain,
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
            idle: config.limits.idle,
            config,
            keys,
            is_for_questions: false,
            address: None,
            stage: Stage::Header(Layer::Clear),
            ids,
            id: Box::default(),
            header_sent: false,
            tls: None,
            names: Names::default(),
            certificate: None,
            external: None,
            ledger: Ledger::default(),
            bidi: false,
            largest: None,
            managed: false,
            pending: BTreeMap::new(),
            waiting: BTreeMap::new(),
            dialback_keys: BTreeMap::new(),
            renewing: BTreeSet::new(),
            ignored: 0,
            clear_dialback: 0,
            sasl_failures: 0,
        }
    }

    /// No pair is authorized on it: it is only asked whether keys are ours.
    #[must_use]
    pub fn for_questions(self) -> Self {
        Self { is_for_questions: true, ..self }
    }

    /// The TLS handshake is done: after `<proceed/>`, or at once on a direct TLS port. All that was
    /// said in the clear is forgotten (RFC 6120 §5.4.3.3).
    pub fn tls_up(&mut self, facts: TlsFacts) {
        self.stage = Stage::Header(Layer::Tls);
        self.names = Names::default();
        self.id = Box::default();
        self.pending.clear();
        self.ledger = Ledger::default();
        self.header_sent = false;
        self.bidi = false;
        self.managed = false;
        self.tls = Some(facts);
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
            out.push(Action::StreamError(Failure::stream_error(element)));
            return Ok(());
        }
        let Stage::Open(layer) = self.stage else {
            return Err(Fault::remote(StreamCondition::NotAuthorized, "element before features"));
        };
        match name {
            // What a stream without TLS carries is not to be taken up behind it.
            ElementName::StartTls
                if self.side == Side::Peer
                    && layer == Layer::Clear
                    && self.ledger.is_empty()
                    && self.pending.is_empty() =>
            {
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
            ElementName::Bidi if self.offers_bidi() && layer == Layer::Tls => {
                // Asked for before authentication or never (XEP-0288 §2.2).
                if self.ledger.is_empty() && self.pending.is_empty() {
                    self.bidi = true;
                    self.largest = largest_stanza(element);
                    return Ok(());
                }
                self.ignore()
            }
            ElementName::SmEnable
            | ElementName::SmResume
            | ElementName::SmRequest
            | ElementName::SmAnswer
                if self.side == Side::Peer && layer != Layer::Clear =>
            {
                self.managing(name, element, out)
            }
            _ => self.ignore(),
        }
    }

    /// A stanza came: which pair is it of, if that is the pair of the one before, spelled alike?
    /// The addresses are parts of valid UTF-8.
    #[must_use]
    pub fn stanza_again(&self, from: &[u8], to: &[u8]) -> Option<&AuthorizedPair> {
        self.ledger.admit_again(from, to).filter(|_| matches!(self.stage, Stage::Open(_)))
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
            if pending.contains_key(&DomainPair::new(from, to)) {
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

    /// A stanza of the legacy server is not admitted: whose is it, if that is for a `to` which is no
    /// domain? One of its users has written that, and others share the stream. Whether the pair is
    /// surely the one that it was sent for.
    #[must_use]
    pub fn misaddressed(&self, from: &str, to: &str) -> Option<(&AuthorizedPair, bool)> {
        if self.side == Side::Legacy { self.ledger.misaddressed(from, to) } else { None }
    }

    /// The last words for a fault: our header if it was not sent yet (RFC 6120 §4.9.1.2), the
    /// stream error, the footer.
    #[must_use]
    pub fn farewell(&mut self, fault: &Fault) -> Vec<u8> {
        let mut text = Vec::new();
        if matches!(self.stage, Stage::Header(_)) && !self.header_sent {
            self.id = (self.ids)().into();
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

    /// Whether stanzas of the reversed pairs may be sent on it (XEP-0288).
    #[must_use]
    pub fn is_bidirectional(&self) -> bool {
        self.bidi
    }

    /// Bytes of the largest stanza that may be sent on it, if the peer said so (XEP-0478).
    #[must_use]
    pub fn largest_stanza(&self) -> Option<usize> {
        self.largest.map(|bytes| bytes as usize)
    }

    /// The pairs that it may carry.
    pub fn grants(&self) -> impl Iterator<Item = &AuthorizedPair> {
        self.ledger.iter()
    }

    /// The grant of a pair.
    #[must_use]
    pub fn grant_of(&self, pair: &DomainPair) -> Option<&AuthorizedPair> {
        self.ledger.get(pair)
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

    /// The domain that the stream's current header is addressed to.
    #[must_use]
    pub fn addressed(&self) -> Option<&Domain> {
        self.names.to.as_ref()
    }

    fn challenge(&self, question: Question) -> Action {
        Action::Prove(Challenge::new(question, self.id.to_string()))
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

    fn is_local(&self, domain: &Domain) -> bool {
        self.config.local_domains.contains_key(domain)
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
    let mut text = Vec::with_capacity(512);
    what(&mut text);
    Action::Send(text)
}
