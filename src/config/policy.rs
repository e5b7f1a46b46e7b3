//! Who may federate: rules by domain and address, merged by specificity, never by order.

use std::net::IpAddr;

use crate::xmpp::{Direction, Domain};

/// The minimum that a domain pair must reach (names of XEP-0238).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// TLS with any certificate, and dialback.
    Encrypted,
    /// TLS and a certificate that proves the remote domain.
    Trusted,
}

/// All rules, ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct Policy {}

/// Where a rule stands, for logs: `file:line`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place(pub std::sync::Arc<str>);

/// What the rules say of a remote domain in one direction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// Refused: why and by which rule.
    pub denied: Option<Denied>,
    /// The level that has to be reached.
    pub level: Level,
}

/// A refusal by rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Denied {
    /// The operator's reason, if the rule gives one.
    pub reason: Option<std::sync::Arc<str>>,
    /// The rule's place.
    pub rule: Place,
}

impl Policy {
    /// Judges a remote domain.
    #[must_use]
    pub fn domain(&self, _remote: &Domain, _direction: Direction) -> Verdict {
        Verdict { denied: None, level: Level::Encrypted }
    }

    /// Judges an address: of a peer that connects, or that we would connect to.
    #[must_use]
    pub fn address(&self, _address: IpAddr, _direction: Direction) -> Option<Denied> {
        None
    }
}
