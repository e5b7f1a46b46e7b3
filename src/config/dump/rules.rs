//! The policy as sections of the format. What one specificity says is written together, and
//! patterns of which the same is said stand in one rule, so that the text is no longer than what
//! its author wrote.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::Serialize;

use crate::config::{
    check::rules::{WORD_NAMES, guard_reason},
    policy::{Denied, Entry, Level, Pattern, Policy, Says},
};

#[derive(Serialize)]
pub(super) struct Defaults {
    allow: &'static str,
    level: &'static str,
}

impl Defaults {
    pub(super) fn of(policy: &Policy) -> Self {
        let entry = policy.defaults();
        let allows = |says: &Option<Says>| !matches!(says, Some(Says::Deny(_)));
        Self {
            allow: match (allows(&entry.inbound), allows(&entry.outbound)) {
                (true, true) => BOTH,
                (true, false) => INBOUND,
                (false, true) => OUTBOUND,
                (false, false) => NONE,
            },
            level: entry.level.as_ref().map_or(Level::Encrypted, |(level, _)| *level).as_str(),
        }
    }
}

#[derive(Serialize)]
pub(super) struct Rule<'p> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    r#match: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    address: Vec<String>,
    #[serde(flatten)]
    said: Said<'p>,
}

/// What a rule says of what it matches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Said<'p> {
    #[serde(skip_serializing_if = "Option::is_none")]
    allow: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'p str>,
}

/// The rules, for domains by name and then for addresses.
pub(super) fn rules(policy: &Policy) -> Vec<Rule<'_>> {
    let domains = policy.domains().map(|(pattern, entry)| (Name::of(pattern), entry));
    let domains = together(domains).into_iter().map(|(names, said)| {
        let r#match = names.into_iter().map(Name::text).collect();
        Rule { r#match, address: Vec::new(), said }
    });
    let networks = together(policy.networks()).into_iter().map(|(networks, said)| {
        let address = networks.iter().map(ToString::to_string).collect();
        Rule { r#match: Vec::new(), address, said }
    });
    domains.chain(networks).collect()
}

/// A pattern in order of reading: by name, the name itself before those below it, `*` at the end.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Of { name: String, below: bool },
    Any,
}

impl Name {
    fn of(pattern: Pattern) -> Self {
        match pattern {
            Pattern::Exact(domain) => Self::Of { name: domain.to_string(), below: false },
            Pattern::Below(suffix) => Self::Of { name: suffix.into(), below: true },
            Pattern::Any => Self::Any,
        }
    }

    fn text(self) -> String {
        match self {
            Self::Of { name, below: false } => name,
            Self::Of { name, below: true } => format!("*.{name}"),
            Self::Any => "*".to_owned(),
        }
    }
}

/// Brings together of what the same is said, each and all in order.
fn together<'p, M: Clone + Ord>(
    entries: impl Iterator<Item = (M, &'p Entry)>,
) -> Vec<(Vec<M>, Said<'p>)> {
    let mut all: BTreeMap<Said<'p>, Vec<M>> = BTreeMap::new();
    for (what, entry) in entries {
        for said in said(entry).into_iter().flatten() {
            all.entry(said).or_default().push(what.clone());
        }
    }
    let mut rules: Vec<_> = all.into_iter().map(|(said, what)| (what, said)).collect();
    for (what, _) in &mut rules {
        what.sort();
    }
    rules.sort();
    rules
}

/// What a rule would say to be an entry, or two if the directions have different reasons.
fn said(entry: &Entry) -> [Option<Said<'_>>; 2] {
    fn allow<'p>(allow: &'static str, denied: Option<&'p Denied>) -> Option<Said<'p>> {
        let reason = denied.and_then(|denied| denied.reason.as_deref());
        Some(Said { allow: Some(allow), level: None, reason })
    }
    let (first, second) = match (&entry.inbound, &entry.outbound) {
        // outbound alone is what `networks` says
        (None, _) => (None, None),
        (Some(Says::Allow), Some(Says::Allow) | None) => (allow(BOTH, None), None),
        (Some(Says::Allow), Some(Says::Deny(denied))) => (allow(INBOUND, Some(denied)), None),
        (Some(Says::Deny(denied)), Some(Says::Allow) | None) => {
            (allow(OUTBOUND, Some(denied)), None)
        }
        (Some(Says::Deny(a)), Some(Says::Deny(b))) if a.reason == b.reason => {
            (allow(NONE, Some(a)), None)
        }
        (Some(Says::Deny(a)), Some(Says::Deny(b))) => {
            (allow(OUTBOUND, Some(a)), allow(INBOUND, Some(b)))
        }
    };
    let Some((level, _)) = &entry.level else { return [first, second] };
    let first = first.unwrap_or(Said { allow: None, level: None, reason: None });
    [Some(Said { level: Some(level.as_str()), ..first }), second]
}

#[derive(Serialize)]
pub(super) struct Networks {
    deny_out: Vec<String>,
}

impl Networks {
    pub(super) fn of(policy: &Policy) -> Self {
        let mut guarded: Vec<_> = policy.networks().filter_map(guarded).collect();
        guarded.sort();
        let mut deny_out = Vec::new();
        for word in WORD_NAMES {
            let reason = guard_reason(word);
            let all = guarded.len();
            guarded.retain(|(_, of)| *of != Some(&*reason));
            if guarded.len() < all {
                deny_out.push(word.to_owned());
            }
        }
        deny_out.extend(guarded.iter().map(|(network, _)| network.to_string()));
        Self { deny_out }
    }
}

/// A network that no rule speaks of and we are kept from, and why.
fn guarded((network, entry): (IpNet, &Entry)) -> Option<(IpNet, Option<&str>)> {
    match (&entry.inbound, &entry.outbound) {
        (None, Some(Says::Deny(denied))) => Some((network, denied.reason.as_deref())),
        (None, Some(Says::Allow) | None) | (Some(_), _) => None,
    }
}

const BOTH: &str = "both";
const INBOUND: &str = "inbound";
const OUTBOUND: &str = "outbound";
const NONE: &str = "none";
