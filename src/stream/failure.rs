//! Why a stream that fedgate opens did not come about, or ended: what the senders of the waiting
//! stanzas are told, and what the operator reads.

use std::fmt;

use super::fault::Fault;
use crate::{
    xml::{
        Element,
        writer::{self, Application},
    },
    xmpp::{StanzaCondition, StreamCondition, ns},
};

/// What went wrong, by kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailureKind {
    /// A rule forbids the pair or the address.
    Denied,
    /// There is no such domain, or it offers no service (RFC 6120 §10.4.3.1).
    NotFound,
    /// Name resolution gave no answer for now.
    Resolution,
    /// No TCP connection.
    Unreachable,
    /// No TLS: refused, failed, or a version that is too old.
    Tls,
    /// The other end ended the TLS connection because of our certificate.
    Certificate,
    /// TLS is up, but the certificate does not prove the domain as policy asks.
    NotProven,
    /// The other end did not accept our domain.
    Rejected,
    /// The other end does not know the target domain.
    HostUnknown,
    /// The stream ended, or said something else than the protocol.
    Stream,
    /// It took too long.
    Timeout,
    /// A bound of ours is reached.
    Resource,
    /// The stanza is larger or more complex than the other end takes, or than it may get.
    TooLarge,
    /// fedgate goes down.
    Shutdown,
}

/// A failure with what the operator reads about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    kind: FailureKind,
    detail: String,
    condition: StanzaCondition,
    told: Option<(StreamCondition, Option<Application>)>,
}

impl Failure {
    /// A failure; `detail` says in words what happened, for the log only.
    #[must_use]
    pub fn new(kind: FailureKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), condition: condition(kind), told: None }
    }

    /// The same with another stanza error than is usual for its kind.
    #[must_use]
    pub fn with_condition(self, condition: StanzaCondition) -> Self {
        Self { condition, ..self }
    }

    /// The same, with what makes it one.
    #[must_use]
    pub fn because(self, why: impl fmt::Display) -> Self {
        Self { detail: format!("{}: {why}", self.detail), ..self }
    }

    /// The other end broke the protocol in a way that has a stream error, which it is told.
    #[must_use]
    pub fn telling(self, condition: StreamCondition) -> Self {
        Self { told: Some((condition, None)), ..self }
    }

    /// The other end sent XML that does not pass.
    #[must_use]
    pub fn malformed(fault: &Fault) -> Self {
        let told = Some((fault.condition(), fault.application()));
        Self { told, ..Self::new(FailureKind::Stream, format!("the other end sent {fault}")) }
    }

    /// The last words on a stream of ours that is open: the stream error, if one is due, and the
    /// footer (RFC 6120 §4.9.1).
    #[must_use]
    pub fn farewell(&self) -> Vec<u8> {
        let mut text = Vec::new();
        if let Some((condition, application)) = self.told {
            writer::stream_error(&mut text, condition, None, application);
        }
        text.extend_from_slice(writer::FOOTER.as_bytes());
        text
    }

    /// The other end sent a stream error (RFC 6120 §4.9); servers of before 2004 put bare text there.
    #[must_use]
    pub fn stream_error(element: &Element) -> Self {
        let is_condition =
            |child: &&Element| child.namespace == ns::STREAM_ERRORS && child.name != "text";
        let Some(condition) = element.children().iter().find(is_condition) else {
            let detail = format!("stream error: {}", printable(element.text().trim()));
            return Self::new(FailureKind::Stream, detail);
        };
        let kind = match StreamCondition::from_wire(&condition.name) {
            Some(StreamCondition::HostUnknown | StreamCondition::HostGone) => {
                FailureKind::HostUnknown
            }
            Some(
                StreamCondition::PolicyViolation
                | StreamCondition::NotAuthorized
                | StreamCondition::InvalidFrom,
            ) => FailureKind::Rejected,
            _ => FailureKind::Stream,
        };
        let text = element.child(ns::STREAM_ERRORS, "text").map(Element::text);
        let text = text.map(|text| format!(" ({})", printable(text))).unwrap_or_default();
        Self::new(kind, format!("stream error {}{text}", printable(&condition.name)))
    }

    /// All that was tried, in order; the last kind stands for the whole.
    #[must_use]
    pub fn all(mut failures: Vec<Self>) -> Self {
        let detail = failures.iter().map(|f| f.detail.as_str()).collect::<Vec<_>>().join("; ");
        match failures.pop() {
            None => Self::new(FailureKind::Unreachable, "nothing to connect to"),
            Some(last) => Self { detail, ..last },
        }
    }

    /// The stream error that the other end is told, if any.
    #[must_use]
    pub fn told(&self) -> Option<StreamCondition> {
        self.told.as_ref().map(|(condition, _)| *condition)
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// What happened, in words.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The stanza error for the senders of waiting stanzas (RFC 6120 §8.3.3, §10.4.3), and the
    /// condition of a refused dialback request (XEP-0220 §2.5).
    #[must_use]
    pub fn condition(&self) -> StanzaCondition {
        self.condition
    }

    /// Text for the sender. It names no server: a bounce can reach people who must not learn whom
    /// they talk to, such as the occupants of a room.
    #[must_use]
    pub fn text(&self) -> &'static str {
        match self.kind {
            FailureKind::Denied => "denied by the policy of the sender's server",
            FailureKind::NotFound => "the remote domain has no XMPP service",
            FailureKind::HostUnknown => "the remote server does not serve that domain",
            FailureKind::Resolution => "the remote domain could not be looked up",
            FailureKind::Unreachable => "the remote server could not be reached",
            FailureKind::Tls => "no encrypted connection to the remote server",
            FailureKind::Certificate => "the remote server did not accept our certificate",
            FailureKind::NotProven => "the remote server did not prove its identity",
            FailureKind::Rejected => "the remote server did not accept the sender's domain",
            FailureKind::Stream => "the connection to the remote server ended",
            FailureKind::Timeout => "the remote server did not answer in time",
            FailureKind::Resource => "too much is waiting for the remote server",
            FailureKind::TooLarge => "the stanza is larger or more complex than may be sent",
            FailureKind::Shutdown => "the gateway is shutting down",
        }
    }

    /// A closed label for logs and metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self.kind {
            FailureKind::Denied => "denied",
            FailureKind::NotFound => "not-found",
            FailureKind::HostUnknown => "host-unknown",
            FailureKind::Resolution => "resolution",
            FailureKind::Unreachable => "unreachable",
            FailureKind::Tls => "tls",
            FailureKind::Certificate => "certificate",
            FailureKind::NotProven => "not-proven",
            FailureKind::Rejected => "rejected",
            FailureKind::Stream => "stream",
            FailureKind::Timeout => "timeout",
            FailureKind::Resource => "resource",
            FailureKind::TooLarge => "too-large",
            FailureKind::Shutdown => "shutdown",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Failure {}

fn condition(kind: FailureKind) -> StanzaCondition {
    match kind {
        FailureKind::Denied => StanzaCondition::Forbidden,
        FailureKind::NotFound | FailureKind::HostUnknown => StanzaCondition::RemoteServerNotFound,
        FailureKind::Resolution
        | FailureKind::Unreachable
        | FailureKind::Tls
        | FailureKind::Certificate
        | FailureKind::NotProven
        | FailureKind::Rejected
        | FailureKind::Stream
        | FailureKind::Timeout
        | FailureKind::Shutdown => StanzaCondition::RemoteServerTimeout,
        FailureKind::Resource => StanzaCondition::ResourceConstraint,
        // XEP-0478 §4
        FailureKind::TooLarge => StanzaCondition::PolicyViolation,
    }
}

/// Text of the other end, fit for a log line: bounded, nothing a terminal would act on, no end of a
/// line, and nothing that turns the direction of writing.
#[must_use]
pub(crate) fn printable(text: &str) -> String {
    let turns = |c| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars()
        .take(200)
        .map(|c| if c.is_control() || turns(c) { '\u{fffd}' } else { c })
        .collect()
}
