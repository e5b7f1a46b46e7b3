//! What has to be published, and what of it is there: the structure that `--json` writes. Members
//! are added, never renamed or taken away, as long as [`VERSION`] stays.

use serde::Serialize;

use crate::diagnose::Status;

/// The version of the structure.
pub const VERSION: u32 = 1;

/// What the local domains have to publish.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// The worst of all; the exit status of the command says the same.
    pub status: Status,
    /// Domain by domain.
    pub domains: Vec<DomainReport>,
}

/// What one domain has to publish.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct DomainReport {
    /// The domain.
    pub domain: String,
    /// The worst of its items.
    pub status: Status,
    /// The certificate that it shows.
    pub certificate: Shown,
    /// What is to be published.
    pub items: Vec<Item>,
    /// What else is to be known, one sentence each.
    pub notes: Vec<String>,
}

/// A certificate of ours.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Shown {
    /// DNS-IDs, SRV-IDs and XmppAddrs.
    pub names: String,
    /// The issuer's name, or `self-signed`.
    pub issuer: String,
    /// In seconds since 1970.
    pub not_after: u64,
    /// SHA-256 of the whole, in hexadecimal.
    pub sha256: String,
}

/// One thing to be published.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Item {
    /// What it is.
    pub kind: Kind,
    /// The owner name of a record without the last dot, the name of a host, or a URL.
    pub name: String,
    /// What is to stand there: a record's data, or a document; none for hosts, and for what should
    /// not be there.
    pub value: Option<String>,
    /// For which key: `current` or `next`.
    pub key: Option<&'static str>,
    /// How it is.
    pub state: State,
    /// What stands there now.
    pub found: Vec<String>,
    /// In words.
    pub why: Option<String>,
}

/// A kind of thing to be published.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Addresses of a host that SRV records name.
    Host,
    /// A document for POSH (RFC 7711).
    Posh,
    /// An SRV record.
    Srv,
    /// A TLSA record (RFC 7673).
    Tlsa,
}

/// How something published is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// There, and right.
    Present,
    /// Not there.
    Missing,
    /// Other than expected; it can be meant so.
    Differs,
    /// Not there, and nothing is lost by it.
    Optional,
    /// There, and it keeps peers from federating.
    Wrong,
    /// It would count for nothing.
    Useless,
    /// It could not be found out.
    Unknown,
}

impl Kind {
    /// The word for reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Posh => "posh",
            Self::Srv => "srv",
            Self::Tlsa => "tlsa",
        }
    }
}

impl State {
    /// The word for reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Missing => "missing",
            Self::Differs => "differs",
            Self::Optional => "optional",
            Self::Wrong => "WRONG",
            Self::Useless => "useless",
            Self::Unknown => "unknown",
        }
    }

    /// How bad that is.
    #[must_use]
    pub fn status(self) -> Status {
        match self {
            Self::Present | Self::Optional | Self::Useless => Status::Ok,
            Self::Missing | Self::Differs => Status::Warning,
            Self::Wrong => Status::Critical,
            Self::Unknown => Status::Unknown,
        }
    }
}
