//! What the admin interface tells, as the JSON of `/api`: filled by the gate, shown by the commands
//! and the status page. A field may be added; none is renamed or changes its meaning.
//!
//! Times are whole seconds since 1970, durations say their unit. Names of remote domains, reasons
//! and details come from strangers: whoever shows them has to escape them.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// `GET /api/status`: the whole at a glance.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The version of fedgate.
    pub version: String,
    /// When it began to serve.
    pub started: u64,
    /// When this was measured.
    pub now: u64,
    /// Whether it takes nothing new from peers.
    pub draining: bool,
    /// Whether it can do its work, check by check.
    pub ready: Vec<Check>,
    /// The configuration of now.
    pub config: ConfigState,
    /// Open streams.
    pub streams: StreamCounts,
    /// What became of stanzas since the start.
    pub stanzas: StanzaCounts,
    /// Stanzas that wait.
    pub queued: u64,
    /// Remote domains with a stream or a failure.
    pub domains: u64,
    /// Domain pairs that fail.
    pub failing: u64,
    /// Stanzas and bytes of the last minutes.
    pub history: History,
    /// The certificates of the local domains.
    pub certificates: Vec<Certificate>,
}

/// One thing that has to be so for fedgate to do its work.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Check {
    /// `listeners`, `certificates`, `legacy`, `resolver` or `draining`.
    pub name: String,
    /// Whether it is so.
    pub ok: bool,
    /// What was found.
    pub detail: String,
}

/// `GET /api/listeners`: where fedgate is reached.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Listeners {
    /// What is bound; of the public ones none any more while it drains.
    pub listeners: Vec<Listener>,
    /// A local domain, to ask for.
    pub domain: String,
    /// Whether it takes nothing new from peers.
    pub draining: bool,
    /// Addresses and networks whose connections for peers have to begin with a PROXY header.
    #[serde(default)]
    pub proxy_protocol: Vec<String>,
}

/// A socket that fedgate listens on.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Listener {
    /// `public`, `direct_tls`, `local` or `dns`.
    pub entry: String,
    /// Its address and port, as bound.
    pub address: String,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.entry, self.address)
    }
}

/// One of `GET /api/memory`: what a remote domain has reached in one direction, as `memory.jsonl`
/// keeps it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Remembered {
    /// The remote domain.
    pub domain: String,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// At the best level; none of one that was refused.
    pub best: Option<Reached>,
    /// The last time.
    pub last: Option<Reached>,
    /// The keys that were shown at the best level, as they could be pinned, the newest first.
    pub keys: Vec<String>,
    /// When a rule refused it.
    pub refused: Option<u64>,
}

/// What was reached, and when.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reached {
    /// The level of XEP-0238.
    pub level: String,
    /// The version of TLS.
    pub tls: Option<String>,
    /// How good the proof was.
    pub strength: Option<String>,
    /// When.
    pub at: u64,
}

/// The configuration and the last attempt to read it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConfigState {
    /// Counts the configurations taken since the start, from 1.
    pub generation: u64,
    /// When that of now was taken.
    pub loaded: u64,
    /// Why the last attempt to read it changed nothing.
    pub error: Option<String>,
}

/// Open streams by side and by who opened them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct StreamCounts {
    /// Accepted from peers.
    pub peer_accepted: u64,
    /// Opened to peers.
    pub peer_opened: u64,
    /// Accepted from legacy servers.
    pub legacy_accepted: u64,
    /// Opened to legacy servers.
    pub legacy_opened: u64,
}

/// Stanzas since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct StanzaCounts {
    /// Taken from peers.
    pub inbound: u64,
    /// Taken from legacy servers.
    pub outbound: u64,
    /// Written to their target's server, or acknowledged by it.
    #[serde(default)]
    pub delivered: u64,
    /// Returned with an error.
    pub bounced: u64,
    /// Undeliverable, and want no error.
    pub dropped: u64,
    /// Refused by a rule for what they carry.
    #[serde(default)]
    pub refused: u64,
    /// Errors that could not be returned.
    pub errors_lost: u64,
}

/// Stanzas and bytes, sample by sample, the oldest first.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct History {
    /// Seconds between two samples.
    pub seconds: u64,
    /// Stanzas from peers in each.
    pub stanzas_in: Vec<u64>,
    /// Stanzas to peers.
    pub stanzas_out: Vec<u64>,
    /// Bytes of stanzas from peers.
    pub bytes_in: Vec<u64>,
    /// Bytes of stanzas to peers.
    pub bytes_out: Vec<u64>,
}

/// One of `GET /api/streams`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stream {
    /// Tells it from all others of this process.
    pub id: u64,
    /// `peer` or `legacy`.
    pub side: String,
    /// `accepted` or `opened`.
    pub origin: String,
    /// The listener that it came in by.
    pub listener: Option<String>,
    /// The other end.
    pub address: Option<String>,
    /// The version of TLS.
    pub tls: Option<String>,
    /// Its cipher suite.
    pub cipher: Option<String>,
    /// Stream management: `off`, `on`, or `resumable`.
    #[serde(default)]
    pub sm: String,
    /// Stanzas that were sent and are not acknowledged.
    #[serde(default)]
    pub unacknowledged: u64,
    /// The certificate of the other end, as it was shown.
    pub certificate: Option<PeerCertificate>,
    /// The level of XEP-0238 that is reached; `none` before a pair is authorized.
    pub level: String,
    /// When it began.
    pub since: u64,
    /// When a stanza last went over it.
    pub used: u64,
    /// Domain pairs, the first hundred; where one domain is asked for, of its own.
    pub pairs: Vec<Pair>,
    /// How many there are.
    pub pairs_total: u64,
    /// Stanzas that came.
    pub stanzas_in: u64,
    /// Stanzas that went.
    pub stanzas_out: u64,
    /// Bytes of the stanzas that came.
    pub bytes_in: u64,
    /// Bytes of the stanzas that went.
    pub bytes_out: u64,
}

/// The certificate that the other end showed. Claims only: the proof says what was verified.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PeerCertificate {
    /// Its names.
    pub names: String,
    /// Its issuer, or `self-signed`.
    pub issuer: String,
    /// When it expires.
    pub not_after: u64,
    /// SHA-256, hexadecimal.
    pub fingerprint: String,
}

/// A domain pair on a stream: stanzas from `sender` to `target`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pair {
    /// The domain in `from`.
    pub sender: String,
    /// The domain in `to`.
    pub target: String,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// The prooftype; `none` where the other end proved nothing.
    pub proof: String,
    /// Stanzas.
    pub stanzas: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// One of `GET /api/routes`: a domain pair's way to one side.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Route {
    /// The side it goes to.
    pub side: String,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// The domain in `from`.
    pub sender: String,
    /// The domain in `to`.
    pub target: String,
    /// `opening` or `open`.
    pub state: String,
    /// Stanzas that wait.
    pub queued: u64,
    /// Their bytes.
    pub queued_bytes: u64,
}

/// One of `GET /api/domains`: all that there is with one remote domain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Domain {
    /// The remote domain.
    pub domain: String,
    /// The highest level that one of its streams reached; `none` without any.
    pub level: String,
    /// The prooftypes, each once.
    pub proofs: Vec<String>,
    /// The versions of TLS, each once.
    pub tls: Vec<String>,
    /// It may send to us now.
    pub inbound: bool,
    /// We may send to it now.
    pub outbound: bool,
    /// Its streams.
    pub streams: Vec<u64>,
    /// Stanzas from it, on the streams that are open.
    pub stanzas_in: u64,
    /// Stanzas to it.
    pub stanzas_out: u64,
    /// Bytes of the stanzas from it.
    pub bytes_in: u64,
    /// Bytes of the stanzas to it.
    pub bytes_out: u64,
    /// Stanzas that wait for it.
    pub queued: u64,
    /// When a stanza last came or went.
    pub used: u64,
    /// When its certificate expires.
    pub certificate_expires: Option<u64>,
    /// Its latest failure that no success followed.
    pub failure: Option<LastFailure>,
}

/// The end of a failure's story.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LastFailure {
    /// `inbound` or `outbound`.
    pub direction: String,
    /// The local domain.
    pub local: String,
    /// When it last happened.
    pub last: u64,
    /// How often, since a success.
    pub count: u64,
    /// Why, in one word.
    pub reason: String,
    /// Why, in words.
    pub detail: String,
}

/// One of `GET /api/failures`: a domain pair that does not come about.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// `inbound` or `outbound`.
    pub direction: String,
    /// The local domain.
    pub local: String,
    /// The remote domain.
    pub remote: String,
    /// When it first happened, since a success.
    pub first: u64,
    /// When it last happened.
    pub last: u64,
    /// How often.
    pub count: u64,
    /// How far it came: `policy`, `dns`, `tcp`, `tls`, `proof`, `auth` or `stream`.
    pub stage: String,
    /// Why, in one word.
    pub reason: String,
    /// Why, in words.
    pub detail: String,
    /// Stanzas that waited the last time and were returned.
    pub returned: u64,
    /// Stanzas that wait now.
    pub waiting: u64,
    /// Until when stanzas are returned at once; the first one after that tries again.
    pub retry: Option<u64>,
    /// The last attempts, the latest last.
    pub attempts: Vec<Attempt>,
}

/// One attempt that failed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Attempt {
    /// When it ended.
    pub at: u64,
    /// How far it came.
    pub stage: String,
    /// Why it failed, in one word.
    pub reason: String,
    /// Why, in words.
    pub detail: String,
    /// What was done, of the latest attempts.
    pub steps: Vec<Step>,
}

/// One step of an attempt.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Step {
    /// Milliseconds since the attempt began.
    pub ms: u64,
    /// What was done and found.
    pub text: String,
}

/// One of `GET /api/certificates`: what peers see of a local domain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Certificate {
    /// The local domain.
    pub domain: String,
    /// Whether a certificate names it and is in date.
    pub ok: bool,
    /// The names in it; none if no certificate names the domain.
    pub names: Option<String>,
    /// The issuer, or `self-signed`.
    pub issuer: Option<String>,
    /// When it expires.
    pub not_after: Option<u64>,
    /// Days until then; negative after it.
    pub days_left: Option<i64>,
    /// Whether it should have been renewed: less than a fifth of its lifetime is left, and less than
    /// 14 days.
    #[serde(default)]
    pub is_due: bool,
    /// SHA-256, hexadecimal.
    pub fingerprint: Option<String>,
}

/// What happened, on `GET /api/watch`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: u64,
    /// `authorized`, `refused`, `opened`, `closed`, `failed`, `reloaded` or `draining`.
    pub what: String,
    /// The stream.
    pub stream: Option<u64>,
    /// `inbound` or `outbound`.
    pub direction: Option<String>,
    /// The local domain.
    pub local: Option<String>,
    /// The remote domain.
    pub remote: Option<String>,
    /// More, in words.
    pub detail: String,
}

/// The answer to a request that changes something.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Done {
    /// Whether it was done.
    pub ok: bool,
    /// What was done, or why not.
    pub detail: String,
    /// What the author of the configuration may not have meant, or what is wrong with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// The answer to `POST /api/ping`: a ping from a local domain to a remote one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ping {
    /// Whether an answer came; an error is one too.
    pub ok: bool,
    /// The local domain.
    pub local: String,
    /// The remote domain.
    pub remote: String,
    /// Whether a stream to the remote domain was there already.
    pub was_open: bool,
    /// What was done to open one, since the ping began.
    pub steps: Vec<Step>,
    /// Milliseconds until a stream carried the pair.
    pub opened_ms: Option<u64>,
    /// Until the ping was written.
    pub written_ms: Option<u64>,
    /// Until the answer came.
    pub answered_ms: Option<u64>,
    /// `result`, or the condition of the error.
    pub answer: Option<String>,
    /// Why there is no answer, in words.
    pub failure: Option<String>,
}

/// The time of now, as reports have it.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
