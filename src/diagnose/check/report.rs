//! What a check found, step by step: the structure that `--json` writes. Members are added, never
//! renamed or taken away, as long as [`VERSION`] stays; what was not found out is `null`.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use crate::diagnose::Status;

/// The version of the structure.
pub const VERSION: u32 = 1;

/// What a check found.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// The remote domain.
    pub domain: String,
    /// The local domain that stood in the stream header's `from`.
    pub from: String,
    /// How it ends; the exit status of the command says the same.
    pub status: Status,
    /// What comes out, in one line.
    pub summary: String,
    /// What the rules say.
    pub policy: Policy,
    /// What DNS says of the domain; none where the rules forbid to go on, or say themselves where
    /// the domain is reached.
    pub dns: Option<Dns>,
    /// The targets that were tried, in order; the first good one ends it.
    pub targets: Vec<TargetReport>,
    /// What came of it.
    pub outcome: Outcome,
    /// What to do, one sentence each.
    pub hints: Vec<String>,
}

/// What the rules say of the domain.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Policy {
    /// Stanzas to the domain.
    pub outbound: Ruling,
    /// Stanzas from the domain.
    pub inbound: Ruling,
}

/// What the rules say in one direction.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Ruling {
    /// Whether it may federate.
    pub allowed: bool,
    /// The operator's reason to refuse.
    pub reason: Option<String>,
    /// Where the rule stands that refuses, as file and line.
    pub denied_by: Option<String>,
    /// The rule that would refuse it, if the mode were not `report`.
    pub reported: Option<String>,
    /// The level that has to be reached.
    pub level: &'static str,
    /// Where the rule stands that sets it; none where the default does.
    pub level_rule: Option<String>,
}

/// What DNS says of the domain's services.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Dns {
    /// The SRV records of both services, `_xmpps-server` first.
    pub services: Vec<Service>,
    /// Whether the domain's own addresses stand in for SRV records (RFC 6120 §3.2.2).
    pub fallback: bool,
    /// Why there is nothing to connect to.
    pub error: Option<Trouble>,
}

/// The SRV records of one service.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Service {
    /// What was asked for.
    pub name: String,
    /// `secure` or `insecure`; `unchecked` with `resolver.dnssec: off`.
    pub dnssec: Option<&'static str>,
    /// The records, in the order of the answer.
    pub records: Vec<Srv>,
    /// Why there is no answer.
    pub error: Option<String>,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

/// An SRV record.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Srv {
    /// Lower is tried first.
    pub priority: u16,
    /// The share among those of one priority.
    pub weight: u16,
    /// The TCP port.
    pub port: u16,
    /// The host; `.` for none.
    pub target: String,
}

/// One target: a host and a port.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct TargetReport {
    /// The host.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// `direct` (XEP-0368) or `starttls`.
    pub tls: &'static str,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Of the addresses, as in [`Service::dnssec`].
    pub dnssec: Option<&'static str>,
    /// What it is securely an alias of.
    pub alias: Option<String>,
    /// What DNS says of its certificate.
    pub tlsa: Option<Tlsa>,
    /// Why it is not used.
    pub error: Option<Trouble>,
    /// How long DNS took, in milliseconds.
    pub ms: u64,
    /// The connections, in the order tried.
    pub connections: Vec<Connection>,
}

/// What DNS says of the certificate of a target.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Tlsa {
    /// `secure`: signed records, or that there are none; `insecure`; `not-asked`: they would not
    /// count.
    pub state: &'static str,
    /// The host under whose name they stand.
    pub base: Option<String>,
    /// The records as in zone files.
    pub records: Vec<String>,
}

/// One TCP connection, or why there was none.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Connection {
    /// Where to; none where no address of the target could be tried.
    pub address: Option<SocketAddr>,
    /// How long the connection took, in milliseconds; together with those that failed before it.
    pub connect_ms: Option<u64>,
    /// The stream in the clear; none on direct TLS targets.
    pub stream: Option<Stream>,
    /// What the TLS handshake established.
    pub tls: Option<Tls>,
    /// The certificates, leaf first.
    pub certificates: Vec<Certificate>,
    /// Every prooftype, in the order in which fedgate looks at them.
    pub proofs: Vec<ProofReport>,
    /// The stream inside TLS.
    pub secured: Option<Stream>,
    /// The level that is reached: `verified` without TLS, `encrypted` or `trusted`.
    pub level: Option<&'static str>,
    /// By which prooftype the domain is proven.
    pub proven_by: Option<&'static str>,
    /// When that proof ends, in seconds since 1970.
    pub proven_until: Option<u64>,
    /// What outbound stanzas would need beyond that, by which rule.
    pub missing_outbound: Option<String>,
    /// What inbound stanzas would need beyond that, from a server with the same certificate.
    pub missing_inbound: Option<String>,
    /// Why TLS failed, where the level `permissive` goes on without.
    pub tls_failed: Option<String>,
    /// Whether the peer ended TLS over our certificate, so that none was shown (`alert`).
    pub certificate_refused: Option<String>,
    /// Whether the peer took our dialback key; none where it was not tried.
    pub dialback: Option<bool>,
    /// Why it ended.
    pub error: Option<Trouble>,
}

/// The beginning of a stream.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Stream {
    /// The XMPP version in the peer's header.
    pub version: Option<String>,
    /// Whether the header declares dialback.
    pub dialback_declared: bool,
    /// What the peer offers; none where it sent no features.
    pub features: Option<Features>,
    /// How long header and features took, in milliseconds.
    pub ms: u64,
}

/// Stream features.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Features {
    /// `offered` or `required`.
    pub starttls: Option<&'static str>,
    /// SASL mechanisms.
    pub sasl: Vec<String>,
    /// Dialback (XEP-0220): `offered`, or `errors` with dialback errors.
    pub dialback: Option<&'static str>,
    /// Bidirectional streams (XEP-0288).
    pub bidi: bool,
    /// Stream management (XEP-0198).
    pub sm: bool,
    /// The largest stanza, in bytes (XEP-0478).
    pub max_bytes: Option<u64>,
    /// How long a stream may be idle, in seconds (XEP-0478).
    pub idle_seconds: Option<u64>,
    /// The namespaces of all others.
    pub other: Vec<String>,
}

/// What a TLS handshake established.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Tls {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite.
    pub cipher: &'static str,
    /// The server name that was asked for.
    pub sni: String,
    /// The protocol that ALPN chose.
    pub alpn: Option<String>,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

/// A certificate. Claims: whether they hold say the prooftypes.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Certificate {
    /// The subject's name.
    pub subject: String,
    /// DNS-IDs, SRV-IDs and XmppAddrs.
    pub names: String,
    /// Whether one of them is the domain.
    pub names_domain: bool,
    /// The issuer's name, or `self-signed`.
    pub issuer: String,
    /// In seconds since 1970.
    pub not_before: u64,
    /// In seconds since 1970.
    pub not_after: u64,
    /// Whole days until it expires; negative after.
    pub days_left: i64,
    /// Whether it should have been renewed: less than a fifth of its lifetime is left, and less
    /// than 14 days.
    pub is_due: bool,
    /// The extended key usages; none: any purpose.
    pub purposes: Option<String>,
    /// SHA-256 of the whole, in hexadecimal.
    pub sha256: String,
}

/// One prooftype.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ProofReport {
    /// `pin`, `dane`, `pkix`, `posh` or `dialback`.
    pub prooftype: &'static str,
    /// What came of it.
    pub result: ProofResult,
    /// Why it fails, as a closed label.
    pub reason: Option<&'static str>,
    /// Why, in words.
    pub why: String,
}

/// What came of a prooftype.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProofResult {
    /// It proves the domain.
    Holds,
    /// It is there, and does not.
    Fails,
    /// The domain does not use it.
    Absent,
    /// There was no answer that says anything: it proves nothing, and forbids nothing.
    Unknown,
    /// The configuration or the options say not to.
    Untried,
}

/// What came of it all.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Outcome {
    /// Whether stanzas to the domain would be delivered; none if that is not known.
    pub outbound: Option<bool>,
    /// Whether stanzas from it would be taken, as far as its server shows.
    pub inbound: Option<bool>,
    /// The level that is reached: `verified`, `encrypted` or `trusted`.
    pub level: Option<&'static str>,
    /// By which prooftype.
    pub proven_by: Option<&'static str>,
}

/// Something that went wrong.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Trouble {
    /// A closed label, as in the log.
    pub reason: &'static str,
    /// In words.
    pub detail: String,
}

impl ProofResult {
    /// The word for reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Fails => "fails",
            Self::Absent => "absent",
            Self::Unknown => "unknown",
            Self::Untried => "untried",
        }
    }
}
