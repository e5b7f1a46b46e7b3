//! Defaults, rules and guarded networks become the policy.

use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{
    config::{
        policy::{Allow, Denied, Level, Pattern, Place, Policy, Rule},
        problem::{At, Reports, Wrong, quote},
        read::{Section, items},
        value,
    },
    xmpp::{Direction, Domain},
};

pub(super) fn check(top: &Section<'_>, out: &mut Reports<'_>) -> Policy {
    let mut policy = Policy::default();
    if let Some(pair) = top.pair("defaults") {
        let section = Section::of(&pair.value, "defaults", &["allow", "level"], out);
        let at = section.pair("allow").map_or(pair.at, |allow| allow.at);
        let rule = read_rule(&section, at, out);
        // one value for each key in all files: nothing can conflict here
        if policy.set_defaults(&rule).is_err() {
            out.error(at, Wrong::new("conflicting defaults"));
        }
    }
    let mut below = Vec::new();
    if let Some(node) = top.get("rules") {
        for item in items(node, "rules", out) {
            let keys = ["match", "address", "allow", "level", "reason"];
            let section = Section::of(item, "rule", &keys, out);
            if !section.is_mapping {
                continue;
            }
            let rule = read_rule(&section, section.at, out);
            match (section.get("match"), section.get("address")) {
                (Some(_), None) => add_domains(&section, &rule, &mut policy, &mut below, out),
                (None, Some(_)) => add_networks(&section, &rule, &mut policy, out),
                (Some(_), Some(address)) => {
                    let wrong = Wrong::new("a rule with \"match\" and \"address\"");
                    let hint = "a rule is for domains or for addresses: write two rules";
                    out.error(address.at, wrong.hint(hint));
                }
                (None, None) => {
                    let wrong = Wrong::new("a rule without \"match\" or \"address\"");
                    out.error(section.at, wrong.hint("say which domains or addresses it is for"));
                }
            }
        }
    }
    guard_networks(top, &mut policy, out);
    for (parent, allow, at) in below {
        warn_of_parent(&policy, &parent, allow, at, out);
    }
    policy
}

/// What a rule says, whatever it is for.
fn read_rule(section: &Section<'_>, at: At, out: &mut Reports<'_>) -> Rule {
    let levels = [("encrypted", Level::Encrypted), ("trusted", Level::Trusted)];
    let level = |text: &str| value::word(text, "level", &levels);
    Rule {
        allow: section.text("allow", |text| value::word(text, "direction", &ALLOW), out),
        level: section.text("level", level, out),
        reason: section.text("reason", reason, out),
        place: Place(out.place(at).into()),
    }
}

fn reason(text: &str) -> Result<Arc<str>, Wrong> {
    if text.chars().any(char::is_control) || text.len() > MAX_REASON {
        let hint = format!("one line of at most {MAX_REASON} bytes");
        return Err(Wrong::new(format!("not a reason: {}", quote(text))).hint(hint));
    }
    Ok(text.into())
}

fn add_domains(
    section: &Section<'_>,
    rule: &Rule,
    policy: &mut Policy,
    below: &mut Vec<(Domain, Allow, At)>,
    out: &mut Reports<'_>,
) {
    if section.get("allow").is_none() && section.get("level").is_none() {
        let wrong = Wrong::new("a rule that says nothing");
        out.error(section.at, wrong.hint("give \"allow\" or \"level\""));
    }
    let patterns = section.one_or_list("match", value::pattern, out).unwrap_or_default();
    for (pattern, at) in patterns {
        // the parent of `*.test` cannot federate, so nobody can have meant it too
        if let (Pattern::Below(parent), Some(allow)) = (&pattern, rule.allow)
            && let Ok(parent) = Domain::parse(parent)
        {
            below.push((parent, allow, at));
        }
        if let Err(other) = policy.add_domains(pattern, rule) {
            let level = rule.level.map_or("", Level::as_str);
            let wrong = format!(
                "level \"{level}\" conflicts with \"{}\" for the same pattern at {}",
                other.level.as_str(),
                other.place
            );
            out.error(at, Wrong::new(wrong).hint("order decides nothing: leave one"));
        }
    }
}

fn add_networks(section: &Section<'_>, rule: &Rule, policy: &mut Policy, out: &mut Reports<'_>) {
    if let Some(pair) = section.pair("level") {
        let wrong = Wrong::new("\"level\" in a rule for addresses");
        out.error(pair.at, wrong.hint("a level is for domains: write two rules"));
    }
    if section.get("allow").is_none() {
        let wrong = Wrong::new("a rule that says nothing");
        out.error(section.at, wrong.hint("give \"allow\""));
    }
    for (network, _) in section.one_or_list("address", value::network, out).unwrap_or_default() {
        policy.add_network(network, rule);
    }
}

/// Where outbound connections never go. A word yields to a rule for the very same network, so that
/// `::1` can be opened at all; a written network is a rule among rules.
fn guard_networks(top: &Section<'_>, policy: &mut Policy, out: &mut Reports<'_>) {
    let section = top.section("networks", &["deny_out"], out);
    let given = section.as_ref().and_then(|s| s.list("deny_out", guarded, out));
    let (words, networks): (Vec<_>, Vec<_>) = match given {
        Some(given) => {
            let placed = given.into_iter().map(|(guarded, at)| (guarded, out.place(at)));
            placed.partition(|(guarded, _)| matches!(guarded, Guarded::Word(_)))
        }
        None => (
            WORD_NAMES.iter().map(|w| (Guarded::Word(w), DEFAULT_GUARD.to_owned())).collect(),
            Vec::new(),
        ),
    };
    for (guarded, place) in networks.into_iter().chain(words) {
        let place = Place(place.into());
        match guarded {
            Guarded::Network(network) => {
                policy.deny_out(network, Denied { reason: None, rule: place });
            }
            Guarded::Word(word) => {
                let reason: Arc<str> = guard_reason(word).into();
                for (_, network) in WORDS.iter().filter(|(w, _)| *w == word) {
                    let denied = Denied { reason: Some(reason.clone()), rule: place.clone() };
                    policy.guard(*network, denied);
                }
            }
        }
    }
}

/// The reason of a refusal by a word; a written network has none.
pub(in crate::config) fn guard_reason(word: &str) -> String {
    format!("{word} network")
}

#[derive(Clone)]
enum Guarded {
    Word(&'static str),
    Network(IpNet),
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

fn warn_of_parent(policy: &Policy, parent: &Domain, allow: Allow, at: At, out: &mut Reports<'_>) {
    let open =
        |denied: bool, direction| denied && policy.domain(parent, direction).denied.is_none();
    let forgotten =
        open(!allow.inbound, Direction::Inbound) || open(!allow.outbound, Direction::Outbound);
    if forgotten && !policy.names(parent) {
        let name = parent.to_unicode();
        let wrong = Wrong::new(format!("\"*.{name}\" does not cover \"{name}\" itself"));
        out.warning(at, wrong.hint(format!("did you mean both? write [\"{name}\", \"*.{name}\"]")));
    }
}

const ALLOW: [(&str, Allow); 4] = [
    ("both", Allow { inbound: true, outbound: true }),
    ("inbound", Allow { inbound: true, outbound: false }),
    ("outbound", Allow { inbound: false, outbound: true }),
    ("none", Allow { inbound: false, outbound: false }),
];

/// The words for networks.
pub(in crate::config) const WORD_NAMES: [&str; 3] = ["private", "loopback", "link-local"];

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
/// Bytes of a reason.
const MAX_REASON: usize = 500;
