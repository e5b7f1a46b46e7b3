//! Defaults, rules and guarded networks become the policy.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use ipnet::IpNet;

use super::{
    features::{self, Roles},
    lists::Lists,
    networks,
    terms::{self, DEFAULT_KEYS, TERM_KEYS},
    without_places,
};
use crate::{
    config::{
        civil::Instant,
        model::{Legacy, TlsVersion},
        policy::{
            AddressRule, Allow, Conflict, Expiry, Mode, NOTICE, Pattern, Place, Policy, Rule,
        },
        problem::{At, Reports, Wrong, quote},
        raw::Node,
        read::{Section, items, nearest},
        value,
    },
    xmpp::{Direction, Domain},
};

/// What else there is that rules have to agree with.
pub(super) struct Context<'c> {
    /// What relative paths are relative to.
    pub(super) directory: &'c Path,
    pub(super) lists: &'c Lists,
    pub(super) roles: &'c Roles,
    pub(super) local_domains: &'c BTreeMap<Domain, Arc<Legacy>>,
    /// The lowest TLS version that is used with anybody.
    pub(super) tls_min: TlsVersion,
    pub(super) now: Instant,
}

pub(super) fn check(top: &Section<'_>, context: &Context<'_>, out: &mut Reports<'_>) -> Policy {
    let mut policy = Policy::default();
    policy.set_tls_min(context.tls_min);
    let modes = [("enforce", Mode::Enforce), ("report", Mode::Report)];
    if let Some(mode) = top.text("mode", |text| value::word(text, "mode", &modes), out) {
        policy.set_mode(mode);
    }
    if let Some(pair) = top.pair("defaults") {
        let section = Section::of(&pair.value, "defaults", &DEFAULT_KEYS, out);
        let at = section.pair("allow").map_or(pair.at, |allow| allow.at);
        policy.set_defaults(Rule {
            patterns: Vec::new(),
            local: Vec::new(),
            direction: None,
            terms: terms::read(&section, context, out),
            reason: None,
            expires: None,
            place: out.place(at),
        });
    }
    let mut rules = Rules { policy, context, below: Vec::new() };
    if let Some(node) = top.get("rules") {
        for item in items(node, "rules", out) {
            rules.rule(item, out);
        }
    }
    let Rules { mut policy, below, .. } = rules;
    unused_lists(top, &policy, context.lists, out);
    let said = policy.rules().chain(policy.defaults());
    features::unused(top, said.filter_map(|rule| rule.terms.features.as_deref()), out);
    networks::check(top, &mut policy, out);
    for (parent, allow, at) in below {
        warn_of_parent(&policy, &parent, allow, at, out);
    }
    for (name, list) in &context.lists.written {
        policy.fill(name, Arc::clone(list));
    }
    policy
}

struct Rules<'c> {
    policy: Policy,
    context: &'c Context<'c>,
    /// What rules for `*.parent` allow.
    below: Vec<(Domain, Allow, At)>,
}

/// What every rule has.
struct Frame {
    reason: Option<Arc<str>>,
    expires: Option<Expiry>,
    /// Whether it has not expired.
    holds: bool,
    place: Place,
}

impl Rules<'_> {
    fn rule(&mut self, item: &Node, out: &mut Reports<'_>) {
        let keys = [&TERM_KEYS[..], &RULE_KEYS[..]].concat();
        let section = Section::of(item, "rule", &keys, out);
        if !section.is_mapping {
            return;
        }
        let frame = self.frame(&section, out);
        match (section.get("match"), section.get("address")) {
            (Some(_), None) => self.for_domains(&section, frame, out),
            (None, Some(_)) => self.for_addresses(&section, frame, out),
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

    fn frame(&self, section: &Section<'_>, out: &mut Reports<'_>) -> Frame {
        let reason = section.text("reason", reason, out);
        let expires = section.text("expires", Instant::parse_end, out);
        let mut holds = true;
        if let (Some(expires), Some(node)) = (expires, section.get("expires")) {
            let why = reason.as_deref().map(|reason| format!(" ({})", quote(reason)));
            let why = why.unwrap_or_default();
            match expires.after(self.context.now) {
                None => {
                    holds = false;
                    out.warning(
                        node.at,
                        Wrong::new(format!("rule expired {expires}, ignored{why}")),
                    );
                }
                Some(left) if left <= NOTICE => {
                    let wrong = Wrong::new(format!("rule expires {expires}{why}"));
                    out.warning(node.at, wrong.hint("from then on it is ignored"));
                }
                Some(_) => {}
            }
        }
        Frame { reason, expires: expires.map(Expiry), holds, place: out.place(section.at) }
    }

    fn for_domains(&mut self, section: &Section<'_>, frame: Frame, out: &mut Reports<'_>) {
        let terms = terms::read(section, self.context, out);
        let says = terms::says_something(&terms);
        if !says && TERM_KEYS.iter().all(|key| section.get(key).is_none()) {
            let wrong = Wrong::new("a rule that says nothing");
            out.error(section.at, wrong.hint("give \"allow\", \"level\" or another key"));
        }
        let local = section.one_or_list("local", value::domain, out).unwrap_or_default();
        let served = self.context.local_domains;
        for (domain, at) in &local {
            if !served.is_empty() && !served.contains_key(domain) {
                let names: Vec<_> = served.keys().map(Domain::as_str).collect();
                let wrong = Wrong::new(format!("{domain} is not served by any legacy server"));
                out.error(*at, wrong.hint(nearest(domain.as_str(), &names)));
            }
        }
        let directions = [("inbound", Direction::Inbound), ("outbound", Direction::Outbound)];
        let direction = |text: &str| value::word(text, "direction", &directions);
        let direction = section.text("direction", direction, out);
        let given = section.one_or_list("match", pattern, out).unwrap_or_default();
        let given: Vec<_> =
            given.into_iter().filter(|(pattern, at)| self.is_known(pattern, *at, out)).collect();
        if !frame.holds {
            return;
        }
        if let (Some(allow), None) = (terms.allow, direction) {
            // the parent of `*.test` cannot federate, so nobody can have meant it too
            let parents = given.iter().filter_map(|(pattern, at)| match pattern {
                Pattern::Below(parent) => Some((Domain::parse(parent).ok()?, allow, *at)),
                Pattern::Exact(_) | Pattern::List(_) | Pattern::Any => None,
            });
            self.below.extend(parents);
        }
        let places: Vec<_> = given.iter().map(|(_, at)| *at).collect();
        let rule = Rule {
            patterns: without_places(given),
            local: without_places(local),
            direction,
            terms,
            reason: frame.reason,
            expires: frame.expires,
            place: frame.place,
        };
        let new = rule.clone();
        for (at, conflict) in self.policy.add_rule(rule) {
            if let (Some(place), Some(old)) = (places.get(at), self.policy.rule(conflict.with)) {
                out.error(*place, disagreement(&new, old, at, &conflict));
            }
        }
    }

    /// Whether a list of that name is there.
    fn is_known(&self, pattern: &Pattern, at: At, out: &mut Reports<'_>) -> bool {
        let Pattern::List(name) = pattern else { return true };
        let sources = &self.context.lists.sources;
        if sources.contains_key(name) {
            return true;
        }
        let names: Vec<_> = sources.keys().map(|name| &**name).collect();
        let wrong = Wrong::new(format!("unknown list {}", quote(name)));
        out.error(
            at,
            match names.is_empty() {
                true => wrong.hint("\"lists\" names none"),
                false => wrong.hint(nearest(name, &names)),
            },
        );
        false
    }

    fn for_addresses(&mut self, section: &Section<'_>, frame: Frame, out: &mut Reports<'_>) {
        let others = TERM_KEYS.iter().filter(|key| **key != "allow").chain(&["local", "direction"]);
        for pair in others.filter_map(|key| section.pair(key)) {
            let wrong = Wrong::new(format!("\"{}\" in a rule for addresses", pair.key));
            out.error(pair.at, wrong.hint("that is for domains: write two rules"));
        }
        let word = |text: &str| value::word(text, "direction", &Allow::WORDS);
        let allow = section.text("allow", word, out);
        if section.get("allow").is_none() {
            let wrong = Wrong::new("a rule that says nothing");
            out.error(section.at, wrong.hint("give \"allow\""));
        }
        let networks = section.one_or_list("address", network, out).unwrap_or_default();
        if let (Some(allow), true) = (allow, frame.holds) {
            self.policy.add_addresses(AddressRule {
                networks: without_places(networks),
                allow,
                reason: frame.reason,
                expires: frame.expires,
                place: frame.place,
            });
        }
    }
}

/// What two rules of the same specificity say differently.
fn disagreement(new: &Rule, old: &Rule, pattern: usize, conflict: &Conflict) -> Wrong {
    let key = conflict.key;
    let value = |rule: &Rule| quote(&key.show(&rule.terms).unwrap_or_default());
    let what = new.patterns.get(pattern).map(ToString::to_string).unwrap_or_default();
    let local = conflict.local.as_ref().map(|local| format!(" and {local}")).unwrap_or_default();
    let wrong = format!(
        "conflicts with {:#}: both set {} for {}{local} ({} / {})",
        old.place,
        key.as_str(),
        quote(&what),
        value(old),
        value(new)
    );
    Wrong::new(wrong).hint("order decides nothing: leave one")
}

fn pattern(text: &str) -> Result<Pattern, Wrong> {
    match text.strip_prefix("list(").and_then(|rest| rest.strip_suffix(')')) {
        Some(name) => Ok(Pattern::List(name.trim().into())),
        None => value::pattern(text),
    }
}

fn network(text: &str) -> Result<IpNet, Wrong> {
    value::network(text).map_err(|wrong| match text.starts_with("list(") {
        true => wrong.hint(format!("write \"match: {text}\": networks of a list count too")),
        false => wrong,
    })
}

/// A list that no rule names may have been forgotten.
fn unused_lists(top: &Section<'_>, policy: &Policy, lists: &Lists, out: &mut Reports<'_>) {
    let Some(node) = top.get("lists") else { return };
    let crate::config::raw::Kind::Map(pairs) = &node.kind else { return };
    for pair in pairs.iter().filter(|pair| lists.sources.contains_key(&pair.key)) {
        let names = |rule: &Rule| {
            rule.patterns.iter().any(|p| matches!(p, Pattern::List(name) if *name == pair.key))
        };
        if !policy.rules().any(names) {
            let wrong = Wrong::new(format!("no rule names the list \"{}\"", pair.key));
            out.warning(pair.at, wrong.hint(format!("write \"match: list({})\"", pair.key)));
        }
    }
}

fn reason(text: &str) -> Result<Arc<str>, Wrong> {
    if text.chars().any(char::is_control) || text.len() > MAX_REASON {
        let hint = format!("one line of at most {MAX_REASON} bytes");
        return Err(Wrong::new(format!("not a reason: {}", quote(text))).hint(hint));
    }
    Ok(text.into())
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

pub(super) const RULE_KEYS: [&str; 6] =
    ["match", "address", "local", "direction", "reason", "expires"];

/// Bytes of a reason.
const MAX_REASON: usize = 500;
