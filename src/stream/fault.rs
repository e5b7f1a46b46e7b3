//! Why an accepted stream ends, what the other end is told, and who erred.

use super::management::TooHigh;
use crate::{
    auth::ledger::Inadmissible,
    xml::{self, writer::Application},
    xmpp::StreamCondition,
};

/// Who is to blame: decides how loud the log line is. Peers can never raise alarms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blame {
    /// The other end of the stream.
    Remote,
    /// Nobody: the operator's policy or the ordinary end of things.
    Policy,
    /// fedgate itself.
    Us,
}

/// Why a stream ends.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Fault {
    condition: StreamCondition,
    reason: &'static str,
    blame: Blame,
    rule: Option<String>,
    application: Option<Application>,
}

impl Blame {
    /// The word for logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Remote => "remote",
            Self::Policy => "policy",
            Self::Us => "us",
        }
    }
}

impl Fault {
    /// The other end sent XML that does not pass (protocol §13.1).
    #[must_use]
    pub fn xml(fault: xml::Fault) -> Self {
        let application = fault.application().map(Application::Named);
        Self { application, ..Self::remote(fault.condition(), fault.reason()) }
    }

    /// The other end broke the protocol; `reason` is a closed label for logs and metrics.
    #[must_use]
    pub fn remote(condition: StreamCondition, reason: &'static str) -> Self {
        Self { condition, reason, blame: Blame::Remote, rule: None, application: None }
    }

    /// Policy says no; `rule` is the place of the rule, if it was one.
    #[must_use]
    pub fn policy(condition: StreamCondition, reason: &'static str, rule: Option<String>) -> Self {
        Self { condition, reason, blame: Blame::Policy, rule, application: None }
    }

    /// Our own doing.
    #[must_use]
    pub fn us(condition: StreamCondition, reason: &'static str) -> Self {
        Self { condition, reason, blame: Blame::Us, rule: None, application: None }
    }

    /// What the other end is told (RFC 6120 §4.9.3).
    #[must_use]
    pub fn condition(&self) -> StreamCondition {
        self.condition
    }

    /// The closed label.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// Who erred.
    #[must_use]
    pub fn blame(&self) -> Blame {
        self.blame
    }

    /// The rule that said no.
    #[must_use]
    pub fn rule(&self) -> Option<&str> {
        self.rule.as_deref()
    }

    /// The application condition beside it, such as `stanza-too-big` (RFC 6120 §13.12 item 4).
    #[must_use]
    pub fn application(&self) -> Option<Application> {
        self.application
    }
}

impl From<TooHigh> for Fault {
    fn from(TooHigh { h, sent }: TooHigh) -> Self {
        let application = Some(Application::HandledTooHigh { h, sent });
        let reason = "more acknowledged than sent";
        Self { application, ..Self::remote(StreamCondition::UndefinedCondition, reason) }
    }
}

impl From<Inadmissible> for Fault {
    fn from(why: Inadmissible) -> Self {
        let reason = match why {
            Inadmissible::Addressing => "stanza without a valid from and to",
            Inadmissible::Unauthenticated => "stanza before authentication",
            Inadmissible::Sender => "stanza from a domain not proven on this stream",
            Inadmissible::Pair => "stanza of a domain pair not authorized on this stream",
        };
        Self::remote(why.condition(), reason)
    }
}
