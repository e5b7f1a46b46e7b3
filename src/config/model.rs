//! What the program runs on: the checked configuration. Made by `check` only; nothing past it
//! checks again or finds an `Option` that had to be `Some`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;

use super::policy::Policy;
use crate::{features::Member, xmpp::Domain};

/// The whole configuration of one fedgate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Where the dialback secret and the self-signed certificate are kept.
    pub state_dir: PathBuf,
    /// A dialback secret that is given; none: one is made and kept in `state_dir`.
    pub dialback_secret: Option<PathBuf>,
    /// The sockets to listen on.
    pub listen: Listen,
    /// The legacy servers by name.
    pub legacy: BTreeMap<String, Arc<Legacy>>,
    /// Which legacy server serves a local domain.
    pub local_domains: BTreeMap<Domain, Arc<Legacy>>,
    /// Certificate and key files; empty: a self-signed certificate for all local domains.
    pub certificates: Vec<CertificateFiles>,
    /// Trust roots and versions of the public side.
    pub tls: Tls,
    /// How remote domains are resolved.
    pub resolver: Resolver,
    /// Whether what remote domains publish over HTTPS is fetched.
    pub posh: Posh,
    /// What the embedded DNS responder answers.
    pub steer: Steer,
    /// Named lists of domains and networks, which rules refer to.
    pub lists: BTreeMap<Arc<str>, ListSource>,
    /// Local addresses by name, which rules refer to.
    pub roles: BTreeMap<Arc<str>, Arc<[Member]>>,
    /// Who may federate, and how well proven.
    pub policy: Policy,
    /// Bounds on what one stream, one peer and the whole may use.
    pub limits: Limits,
    /// What is logged.
    pub log: Log,
    /// Where operators look, and give orders.
    pub admin: Admin,
    /// Where the daily report goes; none: there is none.
    pub report: Option<ReportFiles>,
    /// How long an orderly end may take after SIGTERM.
    pub shutdown_timeout: Duration,
}

impl Config {
    /// The files outside the configuration directory that matter as much as those in it:
    /// certificates, keys, trust roots, trust anchors, lists, the admin token, and where no name
    /// servers are given the file of the system's. For [`Watcher`](super::watch::Watcher).
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let of_rules = self.policy.roots();
        let certificates = self.certificates.iter().flat_map(|c| [&c.cert, &c.key]);
        let roots: BTreeSet<_> =
            of_rules.keys().flat_map(|set| &**set).chain(&self.tls.roots).collect();
        let roots = roots.into_iter().filter_map(|roots| match roots {
            Roots::System => None,
            Roots::File(path) => Some(path),
        });
        let anchor = match &self.resolver.dnssec {
            Dnssec::Validate { trust_anchor } => trust_anchor.as_ref(),
            Dnssec::Off | Dnssec::TrustAd => None,
        };
        let token = self.admin.token_file.as_ref();
        let servers = self.resolver.servers.is_empty().then(|| PathBuf::from(RESOLV_CONF));
        let files = certificates.chain(roots).chain(anchor).chain(token).cloned().chain(servers);
        let lists = self.lists.iter().filter_map(|(name, source)| self.list_file(name, source));
        files.chain(lists).collect()
    }

    /// The file that a list is read from; one that is fetched is kept in the state directory.
    #[must_use]
    pub fn list_file(&self, name: &str, source: &ListSource) -> Option<PathBuf> {
        match source {
            ListSource::Domains(_) => None,
            ListSource::File(path) => Some(path.clone()),
            ListSource::Url(_) => Some(self.state_dir.join("lists").join(format!("{name}.txt"))),
        }
    }
}

/// Where the content of a list comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ListSource {
    /// The configuration itself: patterns of domains.
    Domains(Vec<String>),
    /// A file, read again when it changes.
    File(PathBuf),
    /// A web server.
    Url(ListUrl),
}

/// A list that is fetched by HTTPS; what was good last is used meanwhile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListUrl {
    /// `https://…`.
    pub url: String,
    /// How often it is fetched.
    pub refresh: Duration,
    /// Bytes that it may have.
    pub max_size: usize,
}

/// The sockets to listen on. `[::]` takes IPv4 too; port 0 leaves the choice to the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listen {
    /// Peers, STARTTLS (XMPP's port 5269).
    pub public: Vec<SocketAddr>,
    /// Peers, direct TLS (XEP-0368).
    pub direct_tls: Vec<SocketAddr>,
    /// The legacy server's outbound streams.
    pub local: Vec<SocketAddr>,
    /// The embedded DNS responder, UDP and TCP.
    pub dns: Vec<SocketAddr>,
    /// Load balancers whose connections to the public sockets begin with a PROXY header.
    pub proxy_protocol: Vec<IpNet>,
}

/// One legacy server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Legacy {
    /// Its name in the configuration.
    pub name: String,
    /// Where it accepts S2S streams: an address, or a host name that is looked up at each connect.
    pub address: HostPort,
    /// The domains it serves.
    pub domains: Vec<Domain>,
    /// How a stream that claims to be this server proves it.
    pub trust: LocalTrust,
    /// Addresses from which its streams may come at all.
    pub sources: Vec<IpNet>,
    /// What our stream header to it says.
    pub header: HeaderVersion,
    /// How it learns that a peer is not reached.
    pub refusals: Refusals,
}

impl Legacy {
    /// Whether its streams may come from an address.
    #[must_use]
    pub fn may_come_from(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.sources.iter().any(|network| network.contains(&address))
    }
}

/// How the legacy server learns that a domain pair it asks for cannot be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusals {
    /// By a dialback error (XEP-0220 §2.5): it bounces what waits, with an error of its choice.
    Dialback,
    /// By a stanza error for each stanza, with the exact condition: the pair is called valid. For
    /// servers that end the stream with all its other pairs over one refusal, as jabberd2 does.
    Bounce,
}

/// A host, by name or address, and a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostPort {
    /// A name for the system's resolver, or an address literal.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// How a stream on the local listener proves that it comes from the legacy server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LocalTrust {
    /// Its dialback key is checked with the legacy server itself. The default.
    Dialback,
    /// Its address is enough: everyone on `sources` may speak for the local domains.
    Source,
}

/// The `version` in the header of the streams that fedgate opens to a legacy server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderVersion {
    /// `version='1.0'`; servers of before 2004 ignore it.
    V1,
    /// No `version`, for servers that stumble over it.
    None,
}

/// A certificate chain and its private key, both PEM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub cert: PathBuf,
    /// PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// TLS towards peers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tls {
    /// Where trust roots come from; all together. Empty: nobody is trusted, dialback decides.
    pub roots: Vec<Roots>,
    /// The lowest version.
    pub min_version: TlsVersion,
}

/// A source of trust roots.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Roots {
    /// The system's store.
    System,
    /// A PEM file.
    File(PathBuf),
}

impl fmt::Display for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// A TLS protocol version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    V1_2,
    /// TLS 1.3.
    V1_3,
}

impl TlsVersion {
    /// The word of the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1_2 => "1.2",
            Self::V1_3 => "1.3",
        }
    }
}

/// How remote domains are resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resolver {
    /// Name servers; empty: those of the system's `resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// How long one query may take, with its retries and all that validates its answer.
    pub timeout: Duration,
    /// Who says that an answer is its owner's.
    pub dnssec: Dnssec,
}

/// What DNSSEC is used for, and who validates.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Dnssec {
    /// Nothing: no answer is secure, so no proof rests on one. The default.
    Off,
    /// The name servers do, on this host, and mark what is secure with the AD bit.
    TrustAd,
    /// fedgate itself does.
    Validate {
        /// A file of DNSKEY or DS records; none: the keys of the root that are built in.
        trust_anchor: Option<PathBuf>,
    },
}

/// How remote domains are asked over HTTPS which certificates they have (RFC 7711).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Posh {
    /// Whether they are. The default.
    pub fetch: bool,
    /// Whether the places and formats of the drafts before RFC 7711 count too.
    pub older_forms: bool,
    /// The port of their HTTPS servers; references and redirects may lead to 443 besides.
    pub port: u16,
}

impl Default for Posh {
    fn default() -> Self {
        Self { fetch: true, older_forms: false, port: 443 }
    }
}

/// What the embedded DNS responder answers for `_xmpp-server._tcp.X` and `_jabber._tcp.X`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Steer {
    /// fedgate's own address, as the legacy server reaches it, and those of its replicas; at least
    /// one, at most [`MAX_ADDRESSES`](Self::MAX_ADDRESSES).
    pub addresses: Vec<IpAddr>,
    /// The port of the local listeners there.
    pub port: u16,
}

/// How much of something may come in one second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rate {
    /// As much as comes.
    Off,
    /// So much on average.
    PerSecond(u32),
}

impl Steer {
    /// So that the answer for the longest name still has the 512 bytes that any resolver takes.
    pub const MAX_ADDRESSES: usize = 6;
}

/// Bounds. Sizes are bytes, everything else says its unit in its type or text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// One stanza, `<` to final `>` (RFC 6120 §13.12 item 4).
    pub stanza: usize,
    /// One first-level element before the stream is authenticated, and a stream header.
    pub element_before_auth: usize,
    /// Element depth inside a stanza.
    pub depth: usize,
    /// Attributes of one element, namespace declarations included.
    pub attributes: usize,
    /// Inbound public connections of one address (IPv6: of one /64).
    pub connections_per_address: usize,
    /// Inbound public connections in all.
    pub connections: usize,
    /// Inbound streams on which one remote domain is authorized.
    pub connections_per_domain: usize,
    /// Streams to the legacy servers for pairs of one address (IPv6: of one /64).
    pub legacy_streams_per_address: usize,
    /// Streams to the legacy servers in all.
    pub legacy_streams: usize,
    /// Bytes that may come on an inbound public connection before anything is authorized on it.
    pub bytes_before_auth: usize,
    /// Client certificates, and as many dialback questions, that are looked into at once for one
    /// address (IPv6: one /64).
    pub lookups_per_address: usize,
    /// Dialback elements of one address (IPv6: one /64).
    pub dialback_rate: Rate,
    /// Bytes of the stanzas of one remote domain.
    pub rate: Rate,
    /// Stanzas of one remote domain.
    pub stanza_rate: Rate,
    /// For how long more may come at once than the rates allow, if less came before.
    pub burst: Duration,
    /// Pending dialback verifications of one inbound stream.
    pub pending_verifications: usize,
    /// Domain pairs on one stream.
    pub pairs_per_stream: usize,
    /// Bytes queued for one domain pair.
    pub queue: usize,
    /// Bytes queued for all domain pairs together.
    pub queue_total: usize,
    /// From accept to authentication of an inbound stream.
    pub negotiation: Duration,
    /// From the first stanza for a peer to an authorized stream, or a bounce.
    pub connect: Duration,
    /// One TCP connection attempt.
    pub tcp_connect: Duration,
    /// A stream without stanzas is closed after this.
    pub idle: Duration,
    /// A space is written to a peer after so long without anything else; none: never.
    pub keepalive: Option<Duration>,
    /// A neighbour that takes no bytes for this long is dead.
    pub write_stall: Duration,
    /// A peer that does not answer a request for acknowledgement for this long is dead (XEP-0198).
    pub ack: Duration,
    /// Bytes of the stanzas that are sent on one stream and not acknowledged.
    pub unacknowledged: usize,
    /// How long a stream whose connection broke can be resumed; none: not at all.
    pub resumption: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            stanza: 512 << 10,
            element_before_auth: 16 << 10,
            depth: 64,
            attributes: 64,
            connections_per_address: 32,
            connections: 10_000,
            connections_per_domain: 64,
            legacy_streams_per_address: 1000,
            legacy_streams: 10_000,
            bytes_before_auth: 256 << 10,
            lookups_per_address: 64,
            dialback_rate: Rate::PerSecond(100),
            rate: Rate::PerSecond(4 << 20),
            stanza_rate: Rate::PerSecond(2000),
            burst: Duration::from_secs(10),
            pending_verifications: 32,
            pairs_per_stream: 10_000,
            queue: 4 << 20,
            queue_total: 256 << 20,
            negotiation: Duration::from_secs(60),
            connect: Duration::from_secs(30),
            tcp_connect: Duration::from_secs(10),
            idle: Duration::from_mins(30),
            keepalive: Some(Duration::from_mins(5)),
            write_stall: Duration::from_secs(60),
            ack: Duration::from_secs(60),
            unacknowledged: 8 << 20,
            resumption: Some(Duration::from_mins(2)),
        }
    }
}

/// What is logged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Log {
    /// Text for people or JSON for machines.
    pub format: LogFormat,
    /// A `tracing` filter such as `info` or `warn,fedgate=debug`, known to be one.
    pub level: String,
}

/// The admin interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admin {
    /// A Unix socket for the owner and the group of the process; none: it is off.
    pub socket: Option<PathBuf>,
    /// Addresses for HTTP; those that are not loopback need a token.
    pub http: Vec<SocketAddr>,
    /// A file that holds what requests by HTTP have to show.
    pub token_file: Option<PathBuf>,
    /// Whether requests by HTTP may change something.
    pub write: bool,
}

/// The files of the daily report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReportFiles {
    /// Where they are.
    pub directory: PathBuf,
    /// Days that are kept besides that of now.
    pub keep_days: u64,
}

/// The shape of a log line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// One line of text.
    Text,
    /// One JSON object a line.
    Json,
}

/// Which name servers the system uses (resolv.conf(5)); the resolver reads it where none are given.
pub(super) const RESOLV_CONF: &str = "/etc/resolv.conf";
