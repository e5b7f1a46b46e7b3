//! Why a name gave nothing, and why nothing can be asked.

use std::{fmt, path::PathBuf};

use hickory_resolver::{net::NetError, proto::rr::RecordType};

use super::AnchorsError;
use crate::xmpp::StanzaCondition;

/// Why there are no name servers to ask.
#[derive(Debug, thiserror::Error)]
pub enum ServersError {
    /// The trust anchors of DNSSEC cannot be used.
    #[error("{}: {source}", path.display())]
    Anchors {
        /// The file.
        path: PathBuf,
        /// Why.
        source: AnchorsError,
    },
    /// The only name server is fedgate's own steering responder.
    #[error("the only name server is fedgate's own responder: name others under resolver.servers")]
    OnlyOwn,
    /// The system's configuration cannot be used.
    #[error("read name servers from /etc/resolv.conf")]
    System(#[source] NetError),
    /// The resolver cannot be set up.
    #[error("set up the resolver")]
    Setup(#[source] NetError),
}

/// Why a name gave nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ResolveError {
    /// The answer is not what its owner signed, or cannot be shown to be: try later, use nothing
    /// of it, and do without nothing that it may have held.
    #[error("{query}: dnssec validation failed")]
    Bogus {
        /// What was asked.
        query: DnsQuery,
    },
    /// The answer is known: there is nothing (NXDOMAIN, no data, or an SRV target of `.`).
    #[error("{query}: {why}")]
    NotFound {
        /// What was asked.
        query: DnsQuery,
        /// What the answer was.
        why: Absence,
    },
    /// There was no answer that could be used: try later, assume nothing.
    #[error("{query}")]
    Temporary {
        /// What was asked.
        query: DnsQuery,
        /// What came instead.
        #[source]
        cause: NetError,
    },
}

/// A question, for messages: `SRV _xmpp-server._tcp.example.com`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DnsQuery(Box<str>);

/// In which way there is nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Absence {
    /// No address records.
    Address,
    /// The domain says by SRV that it has no XMPP service (RFC 6120 §3.2.1, XEP-0368 §5).
    Service,
    /// The name does not fit into DNS.
    TooLong,
}

impl ResolveError {
    /// Whether nobody knows what there is.
    #[must_use]
    pub fn is_unanswered(&self) -> bool {
        match self {
            Self::NotFound { .. } => false,
            Self::Bogus { .. } | Self::Temporary { .. } => true,
        }
    }

    /// What the sender of a stanza is told (RFC 6120 §8.3.3.16, §8.3.3.17; DNS-14).
    #[must_use]
    pub fn condition(&self) -> StanzaCondition {
        match self {
            Self::NotFound { .. } => StanzaCondition::RemoteServerNotFound,
            Self::Bogus { .. } | Self::Temporary { .. } => StanzaCondition::RemoteServerTimeout,
        }
    }
}

impl DnsQuery {
    pub(super) fn new(kind: RecordType, name: &str) -> Self {
        Self(format!("{kind} {name}").into())
    }
}

impl fmt::Display for DnsQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "no such host",
            Self::Service => "the domain says that it has no such service",
            Self::TooLong => "the name does not fit into dns",
        })
    }
}
