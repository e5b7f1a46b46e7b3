//! Ordered domain pairs (XEP-0220 §1.3) and the two sides that fedgate stands between.

use std::fmt;

use super::Domain;

/// Stanzas `from` the sender domain `to` the target domain (XEP-0220 §1.3 "Domain Pair").
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct DomainPair {
    /// The domain in `from`.
    pub sender: Domain,
    /// The domain in `to`.
    pub target: Domain,
}

impl DomainPair {
    /// The pair of stanzas from `sender` to `target`.
    #[must_use]
    pub fn new(sender: Domain, target: Domain) -> Self {
        Self { sender, target }
    }

    /// The pair of the answers.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self { sender: self.target.clone(), target: self.sender.clone() }
    }
}

impl fmt::Display for DomainPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}→{}", self.sender, self.target)
    }
}

/// Which of its two neighbours a stream connects fedgate with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Side {
    /// The old server beside us.
    Legacy,
    /// A server across the Internet.
    Peer,
}

impl Side {
    /// The side across from it: where stanzas of this one go, and where their errors come from.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Legacy => Self::Peer,
            Self::Peer => Self::Legacy,
        }
    }

    /// The word for logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Peer => "peer",
        }
    }
}

/// Which way stanzas cross the border: `Inbound` from a peer to the legacy server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Direction {
    /// From a peer to the legacy server.
    Inbound,
    /// From the legacy server to a peer.
    Outbound,
}

impl Direction {
    /// The word for logs and configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}
