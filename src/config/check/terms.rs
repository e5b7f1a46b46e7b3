//! What a rule says, and what it cannot say together.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{features, limits::CONNECTIONS, root, rules::Context, without_places};
use crate::{
    config::{
        model::TlsVersion,
        policy::{Allow, Connect, Downgrade, Key, Level, Pin, Proofs, Terms},
        problem::{Reports, Wrong, quote},
        read::Section,
        value,
    },
    xmpp::StanzaCondition,
};

/// The keys of terms.
pub(super) const TERM_KEYS: [&str; 12] = [
    "allow",
    "level",
    "proofs",
    "pins",
    "tls",
    "downgrade",
    "connect",
    "from_ip",
    "error",
    "compat",
    "limits",
    "features",
];
/// Those that make sense for everybody.
pub(super) const DEFAULT_KEYS: [&str; 7] =
    ["allow", "level", "proofs", "downgrade", "error", "compat", "features"];

pub(super) const TLS_KEYS: [&str; 2] = ["min", "roots"];
pub(super) const CONNECT_KEYS: [&str; 2] = ["address", "tls"];
pub(super) const COMPAT_KEYS: [&str; 3] = ["bidi", "multiplex", "stream_management"];
pub(super) const LIMIT_KEYS: [&str; 7] =
    ["stanza", "queue", "connect", "idle", "rate", "stanza_rate", "connections_per_domain"];

pub(super) fn read(section: &Section<'_>, context: &Context<'_>, out: &mut Reports<'_>) -> Terms {
    let mut terms = Terms {
        allow: section.text("allow", |text| value::word(text, "direction", &Allow::WORDS), out),
        level: section.text("level", level, out),
        proofs: proofs(section, out),
        pins: section.one_or_list("pins", pin, out).map(|pins| without_places(pins).into()),
        downgrade: section.text("downgrade", |t| value::word(t, "answer", &Downgrade::WORDS), out),
        from_ip: section
            .one_or_list("from_ip", value::network, out)
            .map(|networks| without_places(networks).into()),
        features: features::read(section, context.roles, out),
        error: section.text("error", |text| value::word(text, "stanza error", &ERRORS), out),
        ..Terms::default()
    };
    if let Some(tls) = section.section("tls", &TLS_KEYS, out) {
        terms.tls_min = tls.text("min", |text| tls_min(text, context.tls_min), out);
        let roots = tls.one_or_list("roots", |text| root(text, context.directory), out);
        terms.roots = roots.map(|given| {
            let mut roots = without_places(given);
            roots.sort();
            roots.dedup();
            roots.into()
        });
        trusted_in_vain(&tls, &terms, out);
    }
    if let Some(connect) = section.section("connect", &CONNECT_KEYS, out) {
        let address = connect.required("address", value::host_port, out);
        let words = [("starttls", false), ("direct", true)];
        let tls = connect.text("tls", |text| value::word(text, "way to TLS", &words), out);
        terms.connect =
            address.map(|address| Arc::new(Connect { address, direct_tls: tls.unwrap_or(false) }));
    }
    if let Some(compat) = section.section("compat", &COMPAT_KEYS, out) {
        let words = [("auto", true), ("off", false)];
        let mut switch =
            |key| compat.text(key, |text| value::word(text, "switch", &words), &mut *out);
        terms.bidi = switch("bidi");
        terms.multiplex = switch("multiplex");
        terms.stream_management = switch("stream_management");
    }
    if let Some(limits) = section.section("limits", &LIMIT_KEYS, out) {
        let own = &mut terms.limits;
        own.queue = limits.text("queue", |text| value::size(text, &QUEUE), out);
        own.connect = limits.text("connect", |text| value::duration(text, &CONNECT), out);
        own.idle = limits.text("idle", |text| value::duration(text, &IDLE), out);
        own.stanza = limits.text("stanza", |text| value::size(text, &STANZA), out);
        own.rate = limits.text("rate", value::size_rate, out);
        own.stanza_rate = limits.text("stanza_rate", value::count_rate, out);
        let connections = |text: &str| value::count(text, &CONNECTIONS);
        own.connections_per_domain = limits.text("connections_per_domain", connections, out);
    }
    cannot_be(section, &terms, out);
    terms
}

/// Whether anything is said.
pub(super) fn says_something(terms: &Terms) -> bool {
    Key::ALL.into_iter().any(|key| terms.has(key))
}

/// What one rule says and nobody can do.
fn cannot_be(section: &Section<'_>, terms: &Terms, out: &mut Reports<'_>) {
    let proofs = terms.proofs.unwrap_or(Proofs::ALL);
    if terms.level == Some(Level::Trusted)
        && proofs == Proofs::DIALBACK
        && let Some(pair) = section.pair("level")
    {
        let wrong = "\"level: trusted\" with \"proofs: [dialback]\" can never succeed";
        out.error(pair.at, Wrong::new(wrong).hint("dialback alone proves no certificate"));
    }
    let Some(pins) = section.pair("pins") else { return };
    if !proofs.contains(Proofs::PIN) {
        let wrong = Wrong::new("\"pins\" with \"proofs\" that have no \"pin\"");
        out.error(pins.at, wrong.hint("with pins nothing else counts: leave \"proofs\" out"));
    }
    if let Some(level) = terms.level.filter(|level| !level.needs_tls()) {
        let wrong = format!("\"pins\" with \"level: {}\"", level.as_str());
        out.error(pins.at, Wrong::new(wrong).hint("a stream without TLS shows no certificate"));
    }
}

/// Trust roots that nothing asks.
fn trusted_in_vain(tls: &Section<'_>, terms: &Terms, out: &mut Reports<'_>) {
    let Some(roots) = tls.pair("roots") else { return };
    let proofs = terms.proofs.unwrap_or(Proofs::ALL);
    // TLSA records may ask for a trusted CA too
    if !proofs.contains(Proofs::PKIX) && !proofs.contains(Proofs::DANE) {
        let wrong =
            Wrong::new("\"tls.roots\" with \"proofs\" that have neither \"pkix\" nor \"dane\"");
        out.error(roots.at, wrong.hint("no CA is asked for then"));
    }
    if terms.pins.is_some() {
        let wrong = Wrong::new("\"tls.roots\" with \"pins\"");
        out.error(roots.at, wrong.hint("with pins nothing else counts: leave one out"));
    }
}

/// A version for some cannot be below that for all, `least`: that alone is offered in handshakes.
fn tls_min(text: &str, least: TlsVersion) -> Result<TlsVersion, Wrong> {
    let versions = [("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)];
    let version = value::word(text, "TLS version", &versions)?;
    if version < least {
        let (version, least) = (version.as_str(), least.as_str());
        let wrong = format!("\"tls.min: {version}\" with \"tls.min_version: {least}\"");
        let hint =
            "nobody is offered less: lower \"tls.min_version\", and have rules for the others";
        return Err(Wrong::new(wrong).hint(hint));
    }
    Ok(version)
}

fn level(text: &str) -> Result<Level, Wrong> {
    value::word(text, "level", &LEVELS).map_err(|wrong| {
        // the words of Postfix, which many who come here know
        let same = match text {
            "none" | "may" => Level::Verified,
            "encrypt" => Level::Encrypted,
            "dane" | "dane-only" | "fingerprint" | "verify" | "secure" => Level::Trusted,
            _ => return wrong,
        };
        let words = LEVELS.map(|(word, _)| word).join(", ");
        let same = format!("(postfix \"{text}\" = {})", same.as_str());
        wrong.hint(format!("expected one of: {words} {same}"))
    })
}

fn proofs(section: &Section<'_>, out: &mut Reports<'_>) -> Option<Proofs> {
    let one = |text: &str| value::word(text, "prooftype", &Proofs::WORDS);
    let given = without_places(section.one_or_list("proofs", one, out)?);
    given.into_iter().reduce(Proofs::and)
}

fn pin(text: &str) -> Result<Pin, Wrong> {
    let wrong = || {
        Wrong::new(format!("not a pin: {}", quote(text))).hint(
            "expected \"sha256/BASE64\" of a public key, or the 64 hex digits of a certificate",
        )
    };
    if let Some(key) = text.strip_prefix("sha256/") {
        let digest = STANDARD.decode(key).ok().and_then(|bytes| bytes.try_into().ok());
        return digest.map(Pin::Key).ok_or_else(wrong);
    }
    let digits: String = text.chars().filter(|c| *c != ':').collect();
    if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let byte = |at: usize| u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok();
    let digest: Option<Vec<u8>> = (0..32).map(byte).collect();
    let digest = digest.and_then(|bytes| bytes.try_into().ok());
    digest.map(Pin::Certificate).ok_or_else(wrong)
}

pub(super) const LEVELS: [(&str, Level); 4] = [
    ("permissive", Level::Permissive),
    ("verified", Level::Verified),
    ("encrypted", Level::Encrypted),
    ("trusted", Level::Trusted),
];

/// What a sender can be told of a refusal.
pub(super) const ERRORS: [(&str, StanzaCondition); 6] = [
    ("forbidden", StanzaCondition::Forbidden),
    ("not-acceptable", StanzaCondition::NotAcceptable),
    ("not-allowed", StanzaCondition::NotAllowed),
    ("policy-violation", StanzaCondition::PolicyViolation),
    ("remote-server-not-found", StanzaCondition::RemoteServerNotFound),
    ("service-unavailable", StanzaCondition::ServiceUnavailable),
];

// the same ranges as of the limits for all
const STANZA: RangeInclusive<usize> = 10_000..=16 << 20;
const QUEUE: RangeInclusive<usize> = 10_000..=1 << 30;
const CONNECT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(10);
const IDLE: RangeInclusive<Duration> = Duration::from_mins(15)..=Duration::from_hours(168);
