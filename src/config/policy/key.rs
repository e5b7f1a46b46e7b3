//! The keys of rules: each is decided on its own.

use ipnet::IpNet;

use super::terms::{Allow, Pin, Terms};
use crate::{config::model::Roots, features::Class, xmpp::Direction};

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
    StreamManagement,
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
    pub(in crate::config) const ALL: [Self; 27] = [
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
        Self::StreamManagement,
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
            Self::StreamManagement => "compat.stream_management",
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
            Self::StreamManagement => terms.stream_management.map(auto),
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
