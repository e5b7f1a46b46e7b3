//! Roles, and what rules say of what stanzas carry.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    config::{
        model::Legacy,
        policy::{FeatureTerms, Role, Whom},
        problem::{Reports, Wrong, quote},
        raw::{Kind, Pair},
        read::{Section, nearest},
        value,
    },
    features::{Class, Member, MemberError, PatternError, Payloads},
    xmpp::Domain,
};

/// The roles by name.
pub(super) type Roles = BTreeMap<Arc<str>, Role>;

/// The keys of features: the classes, and for whom.
pub(super) const FEATURE_KEYS: [&str; 8] =
    ["muc", "file_transfer", "subscriptions", "presence", "pubsub", "payloads", "except", "only"];

/// Reads the section of roles.
pub(super) fn roles(
    top: &Section<'_>,
    local_domains: &BTreeMap<Domain, Arc<Legacy>>,
    out: &mut Reports<'_>,
) -> Roles {
    let mut roles = Roles::new();
    let Some(node) = top.get("roles") else { return roles };
    for Pair { key: name, at, value } in Section::free(node, "roles", out) {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(good) {
            let wrong = Wrong::new(format!("not a name for a role: {}", quote(name)));
            out.error(*at, wrong.hint(format!("1 to {MAX_NAME} letters, digits, \"-\" and \"_\"")));
        }
        let own = crate::config::read::one_or_list(value, name, member, out);
        for (member, at) in &own {
            let domain = member.domain();
            if !local_domains.is_empty() && !local_domains.contains_key(domain) {
                let names: Vec<_> = local_domains.keys().map(Domain::as_str).collect();
                let wrong = Wrong::new(format!("{domain} is not served by any legacy server"));
                out.error(*at, wrong.hint(nearest(domain.as_str(), &names)));
            }
        }
        let mut members: Vec<_> = own.into_iter().map(|(member, _)| member).collect();
        members.sort();
        members.dedup();
        roles.insert(Arc::clone(name), Role { name: Arc::clone(name), members: members.into() });
    }
    roles
}

/// Warns of roles that no rule names: they may have been forgotten.
pub(super) fn unused<'r>(
    top: &Section<'_>,
    said: impl Iterator<Item = &'r FeatureTerms>,
    out: &mut Reports<'_>,
) {
    let Some(Kind::Map(pairs)) = top.get("roles").map(|node| &node.kind) else { return };
    let named: BTreeSet<_> = said.flat_map(|terms| terms.whom.roles()).map(|r| &r.name).collect();
    for pair in pairs {
        if !named.contains(&pair.key) {
            let wrong = Wrong::new(format!("no rule names the role \"{}\"", pair.key));
            out.warning(
                pair.at,
                wrong.hint("name it under \"features\", as \"except\" or \"only\""),
            );
        }
    }
}

/// Reads the features of a rule.
pub(super) fn read(
    section: &Section<'_>,
    roles: &Roles,
    out: &mut Reports<'_>,
) -> Option<Arc<FeatureTerms>> {
    let pair = section.pair("features")?;
    let features = section.section("features", &FEATURE_KEYS, out)?;
    let mut terms = FeatureTerms::default();
    for class in Class::ALL.into_iter().filter(|class| *class != Class::Payloads) {
        if let Some(is_denied) = features.text(class.as_str(), switch, out) {
            terms.say(class, is_denied);
        }
    }
    if let Some(pair) = features.pair(Class::Payloads.as_str()) {
        let payloads = payloads(pair, out);
        terms.say(Class::Payloads, payloads.deny_any());
        terms.payloads = Some(Arc::new(payloads));
    }
    let mut named = |key| {
        let role = |text: &str| role(text, roles);
        super::without_places(features.one_or_list(key, role, out).unwrap_or_default())
    };
    terms.whom = Whom { only: named("only"), except: named("except") };
    for whom in ["only", "except"].into_iter().filter_map(|key| features.pair(key)) {
        if terms.denied.is_empty() && features.is_mapping {
            let wrong = Wrong::new(format!("\"{}\" where nothing is denied", whom.key));
            out.error(whom.at, wrong.hint("roles say for whom a \"deny\" of the same rule holds"));
        }
    }
    if matches!(&pair.value.kind, Kind::Map(pairs) if pairs.is_empty()) {
        let wrong = Wrong::new("\"features\" says nothing");
        out.error(pair.at, wrong.hint(format!("give one of: {}", FEATURE_KEYS.join(", "))));
    }
    Some(Arc::new(terms))
}

fn payloads(pair: &Pair, out: &mut Reports<'_>) -> Payloads {
    let mut payloads = Payloads::default();
    let given = Section::free(&pair.value, "payloads", out);
    if given.is_empty() && matches!(pair.value.kind, Kind::Map(_)) {
        out.error(pair.value.at, Wrong::new("\"payloads\" is empty"));
    }
    for Pair { key, at, value } in given {
        let is_denied = crate::config::read::text(value, key, switch, out);
        if let Err(error) = payloads.add(key, is_denied.unwrap_or(true)) {
            let wrong = Wrong::new(format!("{}: {error}", quote(key)));
            out.error(
                *at,
                match error {
                    PatternError::Invalid | PatternError::Star => wrong
                        .hint("expected such as \"urn:xmpp:ping\", or \"urn:xmpp:jingle:*\" for all that begin so"),
                    PatternError::Stanzas => wrong.hint("for whole domains write \"allow\""),
                    PatternError::TooMany => wrong.hint("a \"*\" stands for many"),
                },
            );
        }
    }
    payloads
}

fn switch(text: &str) -> Result<bool, Wrong> {
    value::word(text, "feature switch", &[("allow", false), ("deny", true)])
}

fn member(text: &str) -> Result<Member, Wrong> {
    Member::parse(text).map_err(|error| {
        let wrong = Wrong::new(format!("not a local address: {}: {error}", quote(text)));
        match error {
            MemberError::Resource => wrong.hint("a role is for all resources of an account"),
            MemberError::Localpart | MemberError::Domain(_) => {
                wrong.hint("expected \"account@domain\", \"*@domain\" or \"domain\"")
            }
        }
    })
}

fn role(text: &str, roles: &Roles) -> Result<Role, Wrong> {
    roles.get(text).cloned().ok_or_else(|| {
        let wrong = Wrong::new(format!("unknown role {}", quote(text)));
        let names: Vec<_> = roles.keys().map(|name| &**name).collect();
        match names.is_empty() {
            true => wrong.hint("\"roles\" names none"),
            false => wrong.hint(nearest(text, &names)),
        }
    })
}

/// Bytes of a role's name.
const MAX_NAME: usize = 64;
