//! What a rule can say, key by key, and how strict it is.

use std::{fmt, sync::Arc, time::Duration};

use ipnet::IpNet;

use super::features::FeatureTerms;
use crate::{
    auth::Prooftype,
    config::model::{HostPort, Rate, Roots, TlsVersion},
    features::Class,
    xmpp::{Direction, StanzaCondition},
};

/// The minimum that a domain pair must reach (names of XEP-0238).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// As `verified`; and a peer whose TLS fails is reached without.
    Permissive,
    /// Dialback, with TLS where the other end offers it.
    Verified,
    /// TLS with any certificate, and dialback.
    Encrypted,
    /// TLS and a certificate that proves the remote domain.
    Trusted,
}

impl Level {
    /// The word for logs and configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Permissive => "permissive",
            Self::Verified => "verified",
            Self::Encrypted => "encrypted",
            Self::Trusted => "trusted",
        }
    }

    /// The level of a stream, by whether it has TLS and a certificate that proves its domain.
    #[must_use]
    pub fn of(has_tls: bool, is_proven: bool) -> Self {
        match (has_tls, is_proven) {
            (true, true) => Self::Trusted,
            (true, false) => Self::Encrypted,
            (false, _) => Self::Verified,
        }
    }

    /// Whether streams without TLS do not reach it.
    #[must_use]
    pub fn needs_tls(self) -> bool {
        self >= Self::Encrypted
    }
}

/// Whether refusals are carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// They are.
    #[default]
    Enforce,
    /// What the rules refuse beyond the defaults is logged only: everyone may at level
    /// `encrypted`. Networks of `deny_out` stay shut.
    Report,
}

/// What becomes of a remote domain that reaches less than it has reached before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Downgrade {
    /// Nothing, and from then on the less is what is expected of it.
    Allow,
    /// It is logged.
    #[default]
    Alert,
    /// Its stanzas are refused.
    Refuse,
}

impl Downgrade {
    /// The words of the configuration.
    pub(in crate::config) const WORDS: [(&'static str, Self); 3] =
        [("allow", Self::Allow), ("alert", Self::Alert), ("refuse", Self::Refuse)];

    pub(in crate::config) fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Alert => "alert",
            Self::Refuse => "refuse",
        }
    }
}

/// A set of prooftypes that count.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Proofs(u8);

impl Proofs {
    /// All there are.
    pub const ALL: Self = Self(0b1_1111);
    /// A certificate named in DNS.
    pub const DANE: Self = Self(1);
    /// Dialback whose authoritative server nothing but DNS vouches for. With a certificate that
    /// proves that server, it counts as what proves it (RFC 7712 §4.3).
    pub const DIALBACK: Self = Self(1 << 1);
    /// A certificate or key that a rule names.
    pub const PIN: Self = Self(1 << 2);
    /// A certificate of a trusted CA.
    pub const PKIX: Self = Self(1 << 3);
    /// A certificate that the domain's web server names (RFC 7711).
    pub const POSH: Self = Self(1 << 4);

    /// The words of the configuration.
    pub(in crate::config) const WORDS: [(&'static str, Self); 5] = [
        ("dane", Self::DANE),
        ("dialback", Self::DIALBACK),
        ("pin", Self::PIN),
        ("pkix", Self::PKIX),
        ("posh", Self::POSH),
    ];

    /// Those of either.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are among them.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether a proof of this type counts.
    #[must_use]
    pub fn allows(self, prooftype: Prooftype) -> bool {
        match prooftype {
            Prooftype::Dane => self.contains(Self::DANE),
            Prooftype::Dialback => self.contains(Self::DIALBACK),
            Prooftype::Pin => self.contains(Self::PIN),
            Prooftype::Pkix => self.contains(Self::PKIX),
            Prooftype::Posh => self.contains(Self::POSH),
            // the legacy side is not the policy's
            Prooftype::Source => true,
        }
    }

    /// Their words, in order.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        Self::WORDS.into_iter().filter(move |(_, one)| self.contains(*one)).map(|(word, _)| word)
    }
}

/// A certificate or key that a peer has to show.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Pin {
    /// SHA-256 of the leaf's `SubjectPublicKeyInfo`; renewal with the same key keeps it.
    Key([u8; 32]),
    /// SHA-256 of the whole leaf.
    Certificate([u8; 32]),
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use base64::{Engine, engine::general_purpose::STANDARD};
        match self {
            Self::Key(digest) => write!(f, "sha256/{}", STANDARD.encode(digest)),
            Self::Certificate(digest) => digest.iter().try_for_each(|b| write!(f, "{b:02x}")),
        }
    }
}

/// Where a peer is reached, in place of what DNS says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Connect {
    /// Its host and port.
    pub address: HostPort,
    /// Whether TLS begins with the first byte (XEP-0368).
    pub direct_tls: bool,
}

/// The directions that a rule leaves open.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::config) struct Allow {
    pub(in crate::config) inbound: bool,
    pub(in crate::config) outbound: bool,
}

impl Allow {
    /// The words of the configuration.
    pub(in crate::config) const WORDS: [(&'static str, Self); 4] = [
        ("both", Self { inbound: true, outbound: true }),
        ("inbound", Self { inbound: true, outbound: false }),
        ("outbound", Self { inbound: false, outbound: true }),
        ("none", Self { inbound: false, outbound: false }),
    ];

    pub(in crate::config) fn is_open(self, direction: Direction) -> bool {
        match direction {
            Direction::Inbound => self.inbound,
            Direction::Outbound => self.outbound,
        }
    }

    pub(in crate::config) fn as_str(self) -> &'static str {
        Self::WORDS.into_iter().find(|(_, allow)| *allow == self).map_or("", |(word, _)| word)
    }
}

/// What a rule says; nothing of what it leaves out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(in crate::config) struct Terms {
    pub(in crate::config) allow: Option<Allow>,
    pub(in crate::config) level: Option<Level>,
    pub(in crate::config) proofs: Option<Proofs>,
    pub(in crate::config) pins: Option<Arc<[Pin]>>,
    pub(in crate::config) tls_min: Option<TlsVersion>,
    /// Sorted, each once: equal sets are the same.
    pub(in crate::config) roots: Option<Arc<[Roots]>>,
    pub(in crate::config) downgrade: Option<Downgrade>,
    pub(in crate::config) connect: Option<Arc<Connect>>,
    pub(in crate::config) from_ip: Option<Arc<[IpNet]>>,
    pub(in crate::config) error: Option<StanzaCondition>,
    pub(in crate::config) bidi: Option<bool>,
    pub(in crate::config) multiplex: Option<bool>,
    pub(in crate::config) limits: LimitTerms,
    pub(in crate::config) features: Option<Arc<FeatureTerms>>,
}

/// Bounds for what a rule matches, in place of those for all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(in crate::config) struct LimitTerms {
    pub(in crate::config) queue: Option<usize>,
    pub(in crate::config) connect: Option<Duration>,
    pub(in crate::config) idle: Option<Duration>,
    pub(in crate::config) stanza: Option<usize>,
    pub(in crate::config) rate: Option<Rate>,
    pub(in crate::config) stanza_rate: Option<Rate>,
    pub(in crate::config) connections_per_domain: Option<usize>,
}

/// What is decided on its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::config) enum Key {
    Inbound,
    Outbound,
    Level,
    Proofs,
    Pins,
    TlsMin,
    Roots,
    Downgrade,
    Connect,
    FromIp,
    Error,
    Bidi,
    Multiplex,
    Queue,
    ConnectTime,
    Idle,
    Stanza,
    Rate,
    StanzaRate,
    Connections,
    Feature(Class),
}

impl Key {
    pub(in crate::config) const ALL: [Self; 26] = [
        Self::Inbound,
        Self::Outbound,
        Self::Level,
        Self::Proofs,
        Self::Pins,
        Self::TlsMin,
        Self::Roots,
        Self::Downgrade,
        Self::Connect,
        Self::FromIp,
        Self::Error,
        Self::Bidi,
        Self::Multiplex,
        Self::Queue,
        Self::ConnectTime,
        Self::Idle,
        Self::Feature(Class::Muc),
        Self::Feature(Class::FileTransfer),
        Self::Feature(Class::Subscriptions),
        Self::Feature(Class::Presence),
        Self::Feature(Class::Pubsub),
        Self::Feature(Class::Payloads),
        Self::Stanza,
        Self::Rate,
        Self::StanzaRate,
        Self::Connections,
    ];

    /// Its place among [`Self::ALL`].
    pub(in crate::config) fn index(self) -> usize {
        Self::ALL.iter().position(|key| *key == self).unwrap_or(Self::ALL.len())
    }

    /// As it is written in a rule.
    pub(in crate::config) fn as_str(self) -> &'static str {
        match self {
            Self::Inbound | Self::Outbound => "allow",
            Self::Level => "level",
            Self::Proofs => "proofs",
            Self::Pins => "pins",
            Self::TlsMin => "tls.min",
            Self::Roots => "tls.roots",
            Self::Downgrade => "downgrade",
            Self::Connect => "connect",
            Self::FromIp => "from_ip",
            Self::Error => "error",
            Self::Bidi => "compat.bidi",
            Self::Multiplex => "compat.multiplex",
            Self::Queue => "limits.queue",
            Self::ConnectTime => "limits.connect",
            Self::Idle => "limits.idle",
            Self::Feature(Class::Muc) => "features.muc",
            Self::Feature(Class::FileTransfer) => "features.file_transfer",
            Self::Feature(Class::Subscriptions) => "features.subscriptions",
            Self::Feature(Class::Presence) => "features.presence",
            Self::Feature(Class::Pubsub) => "features.pubsub",
            Self::Feature(Class::Payloads) => "features.payloads",
            Self::Stanza => "limits.stanza",
            Self::Rate => "limits.rate",
            Self::StanzaRate => "limits.stanza_rate",
            Self::Connections => "limits.connections_per_domain",
        }
    }

    /// What the terms say of it, for people; none if nothing.
    pub(in crate::config) fn show(self, terms: &Terms) -> Option<String> {
        use crate::config::value::{show_count_rate, show_duration, show_size, show_size_rate};
        let open = |allow: &Option<Allow>, direction| {
            allow.map(|allow| if allow.is_open(direction) { "yes" } else { "no" }.to_owned())
        };
        let list = |words: Vec<String>| words.join(", ");
        let auto = |on: bool| if on { "auto" } else { "off" }.to_owned();
        match self {
            Self::Inbound => open(&terms.allow, Direction::Inbound),
            Self::Outbound => open(&terms.allow, Direction::Outbound),
            Self::Level => terms.level.map(|level| level.as_str().to_owned()),
            Self::Proofs => terms.proofs.map(|p| list(p.words().map(str::to_owned).collect())),
            Self::Pins => {
                terms.pins.as_ref().map(|pins| list(pins.iter().map(Pin::to_string).collect()))
            }
            Self::TlsMin => terms.tls_min.map(|version| version.as_str().to_owned()),
            Self::Roots => {
                terms.roots.as_ref().map(|roots| list(roots.iter().map(Roots::to_string).collect()))
            }
            Self::Downgrade => terms.downgrade.map(|what| what.as_str().to_owned()),
            Self::Connect => terms.connect.as_ref().map(|connect| {
                let tls = if connect.direct_tls { "direct" } else { "starttls" };
                format!("{} ({tls})", connect.address)
            }),
            Self::FromIp => {
                terms.from_ip.as_ref().map(|nets| list(nets.iter().map(IpNet::to_string).collect()))
            }
            Self::Error => terms.error.map(|condition| condition.as_str().to_owned()),
            Self::Bidi => terms.bidi.map(auto),
            Self::Multiplex => terms.multiplex.map(auto),
            Self::Queue => terms.limits.queue.map(show_size),
            Self::ConnectTime => terms.limits.connect.map(show_duration),
            Self::Idle => terms.limits.idle.map(show_duration),
            Self::Feature(class) => terms.features.as_ref()?.show(class),
            Self::Stanza => terms.limits.stanza.map(show_size),
            Self::Rate => terms.limits.rate.map(show_size_rate),
            Self::StanzaRate => terms.limits.stanza_rate.map(show_count_rate),
            Self::Connections => terms.limits.connections_per_domain.map(|n| n.to_string()),
        }
    }
}

impl Terms {
    /// Whether anything is said of a key.
    pub(in crate::config) fn has(&self, key: Key) -> bool {
        match key {
            Key::Inbound | Key::Outbound => self.allow.is_some(),
            Key::Level => self.level.is_some(),
            Key::Proofs => self.proofs.is_some(),
            Key::Pins => self.pins.is_some(),
            Key::TlsMin => self.tls_min.is_some(),
            Key::Roots => self.roots.is_some(),
            Key::Downgrade => self.downgrade.is_some(),
            Key::Connect => self.connect.is_some(),
            Key::FromIp => self.from_ip.is_some(),
            Key::Error => self.error.is_some(),
            Key::Bidi => self.bidi.is_some(),
            Key::Multiplex => self.multiplex.is_some(),
            Key::Queue => self.limits.queue.is_some(),
            Key::ConnectTime => self.limits.connect.is_some(),
            Key::Idle => self.limits.idle.is_some(),
            Key::Feature(class) => self.features.as_ref().is_some_and(|terms| terms.has(class)),
            Key::Stanza => self.limits.stanza.is_some(),
            Key::Rate => self.limits.rate.is_some(),
            Key::StanzaRate => self.limits.stanza_rate.is_some(),
            Key::Connections => self.limits.connections_per_domain.is_some(),
        }
    }

    /// Whether both say the same of a key.
    pub(in crate::config) fn agrees(&self, other: &Self, key: Key) -> bool {
        let open = |allow: &Option<Allow>, direction| allow.map(|allow| allow.is_open(direction));
        match key {
            Key::Inbound => {
                open(&self.allow, Direction::Inbound) == open(&other.allow, Direction::Inbound)
            }
            Key::Outbound => {
                open(&self.allow, Direction::Outbound) == open(&other.allow, Direction::Outbound)
            }
            Key::Level => self.level == other.level,
            Key::Proofs => self.proofs == other.proofs,
            Key::Pins => self.pins == other.pins,
            Key::TlsMin => self.tls_min == other.tls_min,
            Key::Roots => self.roots == other.roots,
            Key::Downgrade => self.downgrade == other.downgrade,
            Key::Connect => self.connect == other.connect,
            Key::FromIp => self.from_ip == other.from_ip,
            Key::Error => self.error == other.error,
            Key::Bidi => self.bidi == other.bidi,
            Key::Multiplex => self.multiplex == other.multiplex,
            Key::Queue => self.limits.queue == other.limits.queue,
            Key::ConnectTime => self.limits.connect == other.limits.connect,
            Key::Idle => self.limits.idle == other.limits.idle,
            Key::Feature(class) => match (&self.features, &other.features) {
                (Some(own), Some(other)) => own.agrees(other, class),
                (Some(one), None) | (None, Some(one)) => !one.has(class),
                (None, None) => true,
            },
            Key::Stanza => self.limits.stanza == other.limits.stanza,
            Key::Rate => self.limits.rate == other.limits.rate,
            Key::StanzaRate => self.limits.stanza_rate == other.limits.stanza_rate,
            Key::Connections => {
                self.limits.connections_per_domain == other.limits.connections_per_domain
            }
        }
    }

    /// Whether these are stricter than others of a key, as far as strictness has an order.
    pub(in crate::config) fn is_stricter(&self, other: &Self, key: Key) -> bool {
        let shut =
            |terms: &Self, direction| terms.allow.is_some_and(|allow| !allow.is_open(direction));
        let denies = |terms: &Self, class| {
            terms.features.as_ref().is_some_and(|terms| terms.denied.contains(class))
        };
        match key {
            Key::Inbound => shut(self, Direction::Inbound) && !shut(other, Direction::Inbound),
            Key::Outbound => shut(self, Direction::Outbound) && !shut(other, Direction::Outbound),
            Key::Level => self.level > other.level,
            Key::TlsMin => self.tls_min > other.tls_min,
            Key::Downgrade => self.downgrade > other.downgrade,
            Key::Feature(class) => denies(self, class) && !denies(other, class),
            Key::Proofs
            | Key::Pins
            | Key::Roots
            | Key::Connect
            | Key::FromIp
            | Key::Error
            | Key::Bidi
            | Key::Multiplex
            | Key::Queue
            | Key::ConnectTime
            | Key::Idle
            | Key::Stanza
            | Key::Rate
            | Key::StanzaRate
            | Key::Connections => false,
        }
    }
}
