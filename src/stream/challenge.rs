//! What a stream must have found out, and the answers.
//!
//! A verdict exists only for a challenge that was issued, once: the answer to XEP-0220 §3.1,
//! "Unsolicited Dialback".

use super::dialback::{Spelling, VerifyOutcome};
use crate::{
    auth::{Proof, Prooftype},
    xmpp::{DomainPair, StanzaCondition},
};

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
    /// Does the certificate of the TLS peer prove the sender of this pair, by the rules for the pair?
    Certificate(DomainPair),
    /// May this stream carry this pair, asked for with this dialback key for this stream id?
    Pair {
        /// Sender and target.
        pair: DomainPair,
        /// The key.
        key: String,
        /// The stream id we gave.
        id: String,
        /// How the names were written.
        spelling: Spelling,
    },
    /// May this stream still carry this pair, whose proof has expired?
    Renewal {
        /// Sender and target.
        pair: DomainPair,
        /// By what the certificate behind its proof was believed.
        before: Prooftype,
        /// The dialback key by which it was granted, and the id of its stream; none for a pair
        /// that a certificate proved.
        dialback: Option<(String, String)>,
    },
}

/// The answer to one challenge.
#[derive(Debug)]
pub struct Verdict {
    pub(super) question: Question,
    pub(super) stream: String,
    pub(super) result: Result<Proof, Refusal>,
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

impl Verdict {
    /// What was asked.
    #[must_use]
    pub fn question(&self) -> &Question {
        &self.question
    }

    /// Whether it is a proof.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.result.is_ok()
    }

    /// A refusal in place of whatever it was.
    #[must_use]
    pub fn refused(self, refusal: Refusal) -> Self {
        Self { result: Err(refusal), ..self }
    }
}

impl Challenge {
    /// The stream with this id asks.
    pub(super) fn new(question: Question, stream: String) -> Self {
        Self { question, stream }
    }

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
