//! Networks where connections to peers never go, by words and as they are written.

use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::{
    policy::{Denied, Guarded, Place, Policy},
    problem::{Reports, Wrong, quote},
    read::Section,
    value,
};

/// Where outbound connections never go. A word yields to a rule for the very same network, so that
/// `::1` can be opened at all; a written network is a rule among rules.
pub(super) fn check(top: &Section<'_>, policy: &mut Policy, out: &mut Reports<'_>) {
    let section = top.section("networks", &NETWORK_KEYS, out);
    let given = section.as_ref().and_then(|s| s.list("deny_out", guarded, out));
    let given: Vec<_> = match given {
        Some(given) => given.into_iter().map(|(guarded, at)| (guarded, out.place(at))).collect(),
        None => {
            WORD_NAMES.iter().map(|w| (Guarded::Word(w), Place::words(DEFAULT_GUARD))).collect()
        }
    };
    let (words, networks): (Vec<_>, Vec<_>) =
        given.into_iter().partition(|(guarded, _)| matches!(guarded, Guarded::Word(_)));
    for (guarded, rule) in networks.into_iter().chain(words) {
        match guarded {
            Guarded::Network(network) => {
                policy.shut(network, guarded, Denied { reason: None, rule });
            }
            Guarded::Word(word) => {
                let reason: Arc<str> = format!("{word} network").into();
                for (_, network) in WORDS.iter().filter(|(w, _)| *w == word) {
                    let denied = Denied { reason: Some(reason.clone()), rule: rule.clone() };
                    policy.shut(*network, guarded, denied);
                }
            }
        }
    }
}

fn guarded(text: &str) -> Result<Guarded, Wrong> {
    if let Some(word) = WORD_NAMES.iter().find(|word| **word == text) {
        return Ok(Guarded::Word(word));
    }
    value::network(text).map(Guarded::Network).map_err(|wrong| {
        if text.contains(|c: char| c.is_ascii_digit() || c == ':') {
            return wrong;
        }
        Wrong::new(format!("unknown network {}", quote(text)))
            .hint(format!("expected a network or one of: {}", WORD_NAMES.join(", ")))
    })
}

pub(super) const NETWORK_KEYS: [&str; 1] = ["deny_out"];

/// The words for networks.
const WORD_NAMES: [&str; 3] = ["private", "loopback", "link-local"];

/// What the words stand for.
const WORDS: [(&str, IpNet); 11] = [
    ("private", v4([10, 0, 0, 0], 8)),
    ("private", v4([172, 16, 0, 0], 12)),
    ("private", v4([192, 168, 0, 0], 16)),
    // behind a carrier's NAT (RFC 6598), and where some clouds keep their metadata
    ("private", v4([100, 64, 0, 0], 10)),
    // unique local (RFC 4193), site-local (RFC 3879), NAT64 of the site (RFC 8215)
    ("private", v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7)),
    ("private", v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10)),
    ("private", v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48)),
    ("loopback", v4([127, 0, 0, 0], 8)),
    ("loopback", v6([0, 0, 0, 0, 0, 0, 0, 1], 128)),
    ("link-local", v4([169, 254, 0, 0], 16)),
    ("link-local", v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10)),
];

const fn v4(octets: [u8; 4], length: u8) -> IpNet {
    let [a, b, c, d] = octets;
    IpNet::V4(Ipv4Net::new_assert(std::net::Ipv4Addr::new(a, b, c, d), length))
}

const fn v6(groups: [u16; 8], length: u8) -> IpNet {
    let [a, b, c, d, e, f, g, h] = groups;
    IpNet::V6(Ipv6Net::new_assert(std::net::Ipv6Addr::new(a, b, c, d, e, f, g, h), length))
}

const DEFAULT_GUARD: &str = "networks.deny_out (default)";
