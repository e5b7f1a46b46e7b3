//! What a rule can say, key by key, and how strict it is.

use std::{fmt, sync::Arc, time::Duration};

use ipnet::IpNet;

use super::{answer::Downgrade, features::FeatureTerms, key::Key};
use crate::{
    auth::Prooftype,
    config::model::{HostPort, Rate, Roots, TlsVersion},
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
    pub(in crate::config) stream_management: Option<bool>,
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
            Key::StreamManagement => self.stream_management.is_some(),
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
            Key::StreamManagement => self.stream_management == other.stream_management,
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
            | Key::StreamManagement
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
