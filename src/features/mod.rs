//! What stanzas are for, by what they carry: a small set of classes that rules can refuse.
//!
//! Only what asks for something belongs to a class. What answers, ends or takes leave never does:
//! errors and results, `unavailable`, the end of a subscription or of a transfer. So nobody is held
//! in a room or a session by a rule that came later. What is end-to-end encrypted, a link in a
//! body, and the joining of a room as before XEP-0045 look like any other stanza.
//!
//! Everything here is decided from one stanza alone: no I/O, no clock, no log.

mod carried;
mod member;
mod payloads;

pub use carried::Carried;
pub use member::{Member, MemberError};
pub use payloads::{PatternError, Payloads};

/// A kind of use that a rule can refuse.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Class {
    /// Multi-user chat (XEP-0045): joining rooms, speaking in them, inviting, administering.
    Muc,
    /// Offers of files and their transfer (XEP-0047, XEP-0065, XEP-0096, XEP-0234, XEP-0363).
    FileTransfer,
    /// Requests for presence subscriptions (RFC 6121 §3.1).
    Subscriptions,
    /// Presence of those who are there (RFC 6121 §4.2, §4.4).
    Presence,
    /// Publish-subscribe and personal eventing (XEP-0060, XEP-0163).
    Pubsub,
    /// What the operator names by its namespace.
    Payloads,
}

impl Class {
    /// All there are.
    pub const ALL: [Self; 6] = [
        Self::Muc,
        Self::FileTransfer,
        Self::Subscriptions,
        Self::Presence,
        Self::Pubsub,
        Self::Payloads,
    ];

    /// The word for logs, metrics and configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Muc => "muc",
            Self::FileTransfer => "file_transfer",
            Self::Subscriptions => "subscriptions",
            Self::Presence => "presence",
            Self::Pubsub => "pubsub",
            Self::Payloads => "payloads",
        }
    }

    /// What senders are told. It names nobody: who a sender in a room is must not show by it.
    #[must_use]
    pub fn refusal(self) -> &'static str {
        match self {
            Self::Muc => "group chat is not allowed here",
            Self::FileTransfer => "file transfer is not allowed here",
            Self::Subscriptions => "presence subscriptions are not allowed here",
            Self::Presence => "presence is not allowed here",
            Self::Pubsub => "publish-subscribe is not allowed here",
            Self::Payloads => "this use is not allowed here",
        }
    }
}

/// A set of classes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Classes(u8);

impl Classes {
    /// Adds one.
    pub fn insert(&mut self, class: Class) {
        self.0 |= 1 << class as u8;
    }

    /// Whether it is among them.
    #[must_use]
    pub fn contains(self, class: Class) -> bool {
        self.0 & 1 << class as u8 != 0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those of either.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those of both.
    #[must_use]
    pub fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The first of them.
    #[must_use]
    pub fn first(self) -> Option<Class> {
        Class::ALL.into_iter().find(|class| self.contains(*class))
    }
}

impl FromIterator<Class> for Classes {
    fn from_iter<T: IntoIterator<Item = Class>>(classes: T) -> Self {
        let mut all = Self::default();
        classes.into_iter().for_each(|class| all.insert(class));
        all
    }
}
