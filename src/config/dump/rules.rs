//! The policy as sections of the format: the rules as they were written, but for their order and
//! for those that have expired.

use std::{collections::BTreeMap, path::Path};

use serde::Serialize;

use crate::{
    config::{
        model::{ListSource, ListUrl, TlsVersion},
        policy::{self, AddressRule, Downgrade, Guarded, Level, Policy, Proofs, Role},
        value,
    },
    features::Class,
};

#[derive(Serialize)]
pub(super) struct Defaults<'p> {
    allow: &'static str,
    level: &'static str,
    downgrade: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    proofs: Option<Vec<&'static str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compat: Option<Compat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    features: Option<Features<'p>>,
}

impl<'p> Defaults<'p> {
    pub(super) fn of(policy: &'p Policy) -> Self {
        let Terms { allow, level, proofs, downgrade, error, compat, features, .. } =
            policy.defaults().map(|rule| Terms::of(&rule.terms)).unwrap_or_default();
        Self {
            allow: allow.unwrap_or("both"),
            level: level.unwrap_or(Level::Encrypted.as_str()),
            downgrade: downgrade.unwrap_or(Downgrade::default().as_str()),
            proofs,
            error,
            compat,
            features,
        }
    }
}

pub(super) fn mode(policy: &Policy) -> &'static str {
    match policy.mode() {
        policy::Mode::Enforce => "enforce",
        policy::Mode::Report => "report",
    }
}

#[derive(Serialize)]
pub(super) struct Rule<'p> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    r#match: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    address: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    local: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<&'static str>,
    #[serde(flatten)]
    terms: Terms<'p>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
}

/// The rules, for domains and then for addresses, by what they match.
pub(super) fn rules(policy: &Policy) -> Vec<Rule<'_>> {
    let domains = policy.rules().map(Rule::of);
    let mut rules: Vec<_> =
        domains.chain(policy.addresses().iter().map(Rule::of_addresses)).collect();
    rules.sort_by_cached_key(|rule| {
        let text = serde_yaml::to_string(rule).unwrap_or_default();
        (!rule.address.is_empty(), rule.r#match.clone(), rule.address.clone(), text)
    });
    rules
}

impl<'p> Rule<'p> {
    fn of(rule: &'p policy::Rule) -> Self {
        let policy::Rule { patterns, local, direction, terms, reason, expires, place: _ } = rule;
        Self {
            r#match: texts(patterns),
            address: Vec::new(),
            local: texts(local),
            direction: direction.map(crate::xmpp::Direction::as_str),
            terms: Terms::of(terms),
            reason: reason.as_deref(),
            expires: expires.map(|expires| expires.0.to_string()),
        }
    }

    fn of_addresses(rule: &'p AddressRule) -> Self {
        let AddressRule { networks, allow, reason, expires, place: _ } = rule;
        Self {
            r#match: Vec::new(),
            address: texts(networks),
            local: Vec::new(),
            direction: None,
            terms: Terms { allow: Some(allow.as_str()), ..Terms::default() },
            reason: reason.as_deref(),
            expires: expires.map(|expires| expires.0.to_string()),
        }
    }
}

/// What a rule says.
#[derive(Serialize, Default)]
struct Terms<'p> {
    #[serde(skip_serializing_if = "Option::is_none")]
    allow: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proofs: Option<Vec<&'static str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pins: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<Tls>,
    #[serde(skip_serializing_if = "Option::is_none")]
    downgrade: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect: Option<BTreeMap<&'static str, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_ip: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compat: Option<Compat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<BTreeMap<&'static str, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    features: Option<Features<'p>>,
}

#[derive(Serialize)]
struct Tls {
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    roots: Option<Vec<String>>,
}

#[derive(Serialize)]
pub(super) struct Compat {
    #[serde(skip_serializing_if = "Option::is_none")]
    bidi: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    multiplex: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_management: Option<&'static str>,
}

impl<'p> Terms<'p> {
    fn of(terms: &'p policy::Terms) -> Self {
        let policy::Terms {
            allow,
            level,
            proofs,
            pins,
            tls_min,
            roots,
            downgrade,
            connect,
            from_ip,
            error,
            bidi,
            multiplex,
            stream_management,
            limits,
            features,
        } = terms;
        let policy::LimitTerms {
            stanza,
            queue,
            connect: connect_time,
            idle,
            rate,
            stanza_rate,
            connections_per_domain,
        } = limits;
        let switch = |on: &Option<bool>| on.map(|on| if on { "auto" } else { "off" });
        let limits = [
            ("stanza", stanza.map(value::show_size)),
            ("queue", queue.map(value::show_size)),
            ("connect", connect_time.map(value::show_duration)),
            ("idle", idle.map(value::show_duration)),
            ("rate", rate.map(value::show_size_rate)),
            ("stanza_rate", stanza_rate.map(value::show_count_rate)),
            ("connections_per_domain", connections_per_domain.map(|n| n.to_string())),
        ];
        let limits: BTreeMap<_, _> =
            limits.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        Self {
            allow: allow.map(policy::Allow::as_str),
            level: level.map(Level::as_str),
            proofs: proofs.map(|proofs: Proofs| proofs.words().collect()),
            pins: pins.as_deref().map(texts),
            tls: (tls_min.is_some() || roots.is_some()).then(|| Tls {
                min: tls_min.map(TlsVersion::as_str),
                roots: roots.as_deref().map(texts),
            }),
            downgrade: downgrade.map(Downgrade::as_str),
            connect: connect.as_deref().map(|connect| {
                let tls = if connect.direct_tls { "direct" } else { "starttls" };
                BTreeMap::from([("address", connect.address.to_string()), ("tls", tls.to_owned())])
            }),
            from_ip: from_ip.as_deref().map(texts),
            error: error.map(crate::xmpp::StanzaCondition::as_str),
            compat: (bidi.is_some() || multiplex.is_some() || stream_management.is_some()).then(
                || Compat {
                    bidi: switch(bidi),
                    multiplex: switch(multiplex),
                    stream_management: switch(stream_management),
                },
            ),
            limits: (!limits.is_empty()).then_some(limits),
            features: features.as_deref().map(Features::of),
        }
    }
}

/// What a rule says of what stanzas carry.
#[derive(Serialize)]
pub(super) struct Features<'p> {
    #[serde(flatten)]
    switches: BTreeMap<&'static str, &'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payloads: Option<BTreeMap<String, &'static str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    only: Vec<&'p str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    except: Vec<&'p str>,
}

impl<'p> Features<'p> {
    fn of(terms: &'p policy::FeatureTerms) -> Self {
        let policy::FeatureTerms { spoken, denied, payloads, whom } = terms;
        let policy::Whom { only, except } = whom;
        let word = |denied| if denied { "deny" } else { "allow" };
        let switches = Class::ALL.into_iter().filter(|class| *class != Class::Payloads);
        let names = |roles: &'p [Role]| roles.iter().map(|role| &*role.name).collect();
        Self {
            switches: switches
                .filter(|class| spoken.contains(*class))
                .map(|class| (class.as_str(), word(denied.contains(class))))
                .collect(),
            payloads: payloads.as_ref().map(|payloads| {
                payloads.iter().map(|(pattern, denied)| (pattern, word(denied))).collect()
            }),
            only: names(only),
            except: names(except),
        }
    }
}

/// A list, in one of its three shapes.
#[derive(Serialize)]
#[serde(rename_all = "snake_case", untagged)]
pub(super) enum List<'c> {
    File { file: &'c Path },
    Domains { domains: &'c [String] },
    Url { url: &'c str, refresh: String, max_size: String },
}

impl<'c> List<'c> {
    pub(super) fn of(source: &'c ListSource) -> Self {
        match source {
            ListSource::File(file) => Self::File { file },
            ListSource::Domains(domains) => Self::Domains { domains },
            ListSource::Url(ListUrl { url, refresh, max_size }) => Self::Url {
                url,
                refresh: value::show_duration(*refresh),
                max_size: value::show_size(*max_size),
            },
        }
    }
}

#[derive(Serialize)]
pub(super) struct Networks {
    deny_out: Vec<String>,
}

impl Networks {
    pub(super) fn of(policy: &Policy) -> Self {
        let mut guarded = policy.guarded().to_vec();
        guarded.sort();
        let text = |guarded: &Guarded| match guarded {
            Guarded::Word(word) => (*word).to_owned(),
            Guarded::Network(network) => network.to_string(),
        };
        Self { deny_out: guarded.iter().map(text).collect() }
    }
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}
