//! Text to values: what each kind of scalar may look like, and what to say when it does not.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net};

use super::{
    model::{HostPort, Rate},
    policy::Pattern,
    problem::{Wrong, quote},
    read::nearest,
};
use crate::xmpp::Domain;

/// One of a closed set of words.
pub(super) fn word<T: Copy>(text: &str, what: &str, words: &[(&str, T)]) -> Result<T, Wrong> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let wrong = Wrong::new(format!("unknown {what} {}", quote(text)));
    Err(wrong.hint(format!("expected one of: {}", names.join(", "))))
}

/// A switch.
pub(super) fn flag(text: &str) -> Result<bool, Wrong> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Wrong::new(format!("neither true nor false: {}", quote(text)))),
    }
}

/// A whole number in decimal digits.
pub(super) fn count(text: &str, range: &RangeInclusive<usize>) -> Result<usize, Wrong> {
    let wrong = || Wrong::new(format!("not a number: {}", quote(text)));
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits || (text.starts_with('0') && text.len() > 1) {
        return Err(wrong().hint("expected decimal digits, no unit"));
    }
    let number = text.parse().map_err(|_| wrong().hint("too large"))?;
    within(number, text, range, |n| n.to_string())
}

/// A size in bytes, with its unit.
pub(super) fn size(text: &str, range: &RangeInclusive<usize>) -> Result<usize, Wrong> {
    let expected = "a size such as 512KiB (units: B, KiB, MiB)";
    let bytes = with_unit(text, &SIZE_UNITS, "size", expected)?;
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    within(bytes, text, range, |n| show_size(*n))
}

/// A size as [`size`] reads it.
pub(super) fn show_size(bytes: usize) -> String {
    in_units(bytes as u64, &SIZE_UNITS)
}

/// Bytes a second, or "off".
pub(super) fn size_rate(text: &str) -> Result<Rate, Wrong> {
    let expected = "a size a second such as 64KiB/s, or off";
    rate(text, expected, |amount| size(amount, &(1024..=1 << 30)))
}

/// A number a second, or "off".
pub(super) fn count_rate(text: &str) -> Result<Rate, Wrong> {
    let expected = "a number a second such as 100/s, or off";
    rate(text, expected, |amount| count(amount, &(1..=1_000_000)))
}

fn rate(
    text: &str,
    expected: &str,
    read: impl Fn(&str) -> Result<usize, Wrong>,
) -> Result<Rate, Wrong> {
    let wrong = || Wrong::new(format!("not a rate: {}", quote(text)));
    if text == "off" {
        return Ok(Rate::Off);
    }
    let Some(amount) = text.strip_suffix("/s") else {
        return Err(wrong().hint(format!("expected {expected}")));
    };
    u32::try_from(read(amount.trim_end_matches(' '))?)
        .map(Rate::PerSecond)
        .map_err(|_| wrong().hint("too large"))
}

/// A rate as [`size_rate`] reads it.
pub(super) fn show_size_rate(rate: Rate) -> String {
    match rate {
        Rate::Off => "off".to_owned(),
        Rate::PerSecond(bytes) => format!("{}/s", show_size(bytes as usize)),
    }
}

/// A rate as [`count_rate`] reads it.
pub(super) fn show_count_rate(rate: Rate) -> String {
    match rate {
        Rate::Off => "off".to_owned(),
        Rate::PerSecond(number) => format!("{number}/s"),
    }
}

/// A time, with its unit.
pub(super) fn duration(text: &str, range: &RangeInclusive<Duration>) -> Result<Duration, Wrong> {
    let expected = "a time such as 30s (units: ms, s, m, h)";
    let millis = with_unit(text, &TIME_UNITS, "duration", expected)?;
    within(Duration::from_millis(millis), text, range, |d| show_duration(*d))
}

/// A time, of whole milliseconds, as [`duration`] reads it.
pub(super) fn show_duration(time: Duration) -> String {
    in_units(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), &TIME_UNITS)
}

fn with_unit(text: &str, units: &[(&str, u64)], what: &str, expected: &str) -> Result<u64, Wrong> {
    let wrong = |why: &str| {
        Err(Wrong::new(format!("{why}: {}", quote(text))).hint(format!("expected {expected}")))
    };
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let unit = unit.trim_start_matches(' ');
    if digits.is_empty() || digits.len() > 15 {
        return wrong(&format!("not a {what}"));
    }
    if unit.is_empty() {
        return wrong(&format!("a {what} without a unit"));
    }
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        return wrong(&format!("unknown unit of a {what}"));
    };
    match digits.parse::<u64>().ok().and_then(|n| n.checked_mul(*factor)) {
        Some(value) => Ok(value),
        None => wrong(&format!("not a {what}")),
    }
}

/// The shortest form that is exact; `units` are in order of size.
fn in_units(value: u64, units: &[(&str, u64)]) -> String {
    let unit = units.iter().find(|(_, factor)| value >= *factor && value.is_multiple_of(*factor));
    unit.map_or_else(|| value.to_string(), |(name, factor)| format!("{}{name}", value / factor))
}

fn within<T: PartialOrd>(
    value: T,
    text: &str,
    range: &RangeInclusive<T>,
    show: impl Fn(&T) -> String,
) -> Result<T, Wrong> {
    if value < *range.start() {
        let wrong = Wrong::new(format!("too small: {}", quote(text)));
        return Err(wrong.hint(format!("at least {}", show(range.start()))));
    }
    if value > *range.end() {
        let wrong = Wrong::new(format!("too large: {}", quote(text)));
        return Err(wrong.hint(format!("at most {}", show(range.end()))));
    }
    Ok(value)
}

/// An address and port to listen on. Port 0 lets the kernel choose.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, Wrong> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let wrong = Wrong::new(format!("not an address and port: {}", quote(text)));
    let port = text.rsplit_once(':').map(|(_, port)| port).filter(|p| p.parse::<u16>().is_ok());
    Err(match (text.parse::<IpAddr>(), port) {
        (Ok(address), _) => {
            wrong.hint(format!("the port is missing, as in \"{}\"", SocketAddr::new(address, 5269)))
        }
        (Err(_), Some(port)) if text.starts_with([':', '*']) => {
            wrong.hint(format!("for all addresses write \"[::]:{port}\""))
        }
        (Err(_), Some(_) | None) => wrong
            .hint("expected an address, not a name, such as \"[::]:5269\" or \"127.0.0.1:5268\""),
    })
}

/// A name server; without a port it is 53.
pub(super) fn name_server(text: &str) -> Result<SocketAddr, Wrong> {
    let alone = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53));
    match alone.or_else(|_| text.parse::<SocketAddr>()) {
        Ok(server) if server.port() > 0 && !server.ip().is_unspecified() => Ok(server),
        Ok(_) | Err(_) => Err(Wrong::new(format!("not a name server: {}", quote(text))).hint(
            "expected an address such as \"10.0.0.3\", \"10.0.0.4:5353\" or \"[fd00::3]:53\"",
        )),
    }
}

/// A host by name or address, and a port.
pub(super) fn host_port(text: &str) -> Result<HostPort, Wrong> {
    let wrong = |hint: &str| Wrong::new(format!("not a host and port: {}", quote(text))).hint(hint);
    if let Ok(address) = text.parse::<SocketAddr>() {
        if address.port() == 0 || address.ip().is_unspecified() {
            return Err(wrong("nobody can be reached there"));
        }
        let host = match address {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
            address => address.ip().to_string(),
        };
        return Ok(HostPort { host, port: address.port() });
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(wrong("expected \"[IPv6 address]:port\""));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(wrong("the port is missing, as in \"127.0.0.1:5269\""));
    };
    let port = match port.parse::<u16>() {
        Ok(port) if port > 0 => port,
        Ok(_) | Err(_) => return Err(wrong("the port is a number from 1 to 65535")),
    };
    // names of hosts, not of XMPP domains: a single label and "_" are good (docker, /etc/hosts)
    let label = |l: &str| {
        let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        !l.is_empty() && l.len() <= 63 && l.bytes().all(good)
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    let numeric = name.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
    if host.len() > 253 || numeric || !name.split('.').all(label) {
        return Err(wrong("expected \"name:port\", \"address:port\" or \"[IPv6 address]:port\""));
    }
    Ok(HostPort { host: host.to_owned(), port })
}

/// An address of a host, not of all or none.
pub(super) fn address(text: &str) -> Result<IpAddr, Wrong> {
    match text.parse::<IpAddr>() {
        Ok(address) if !address.is_unspecified() && !address.is_multicast() => Ok(address),
        Ok(_) => Err(Wrong::new(format!("nobody can be reached at {}", quote(text)))),
        Err(_) => Err(Wrong::new(format!("not an address: {}", quote(text)))
            .hint("expected an IPv4 or IPv6 address")),
    }
}

/// A port that is not 0.
pub(super) fn port(text: &str) -> Result<u16, Wrong> {
    let number = count(text, &(1..=usize::from(u16::MAX)))?;
    u16::try_from(number).map_err(|_| Wrong::new(format!("not a port: {}", quote(text))))
}

/// An address or a network in CIDR notation. IPv4 written as IPv6 becomes IPv4.
pub(super) fn network(text: &str) -> Result<IpNet, Wrong> {
    let network = match (text.parse::<IpNet>(), text.parse::<IpAddr>()) {
        (Ok(network), _) => network,
        (_, Ok(address)) => IpNet::from(address),
        (Err(_), Err(_)) => {
            return Err(Wrong::new(format!("not an address or network: {}", quote(text))).hint(
                "expected such as \"203.0.113.7\", \"203.0.113.0/24\" or \"2001:db8::/32\"",
            ));
        }
    };
    if network.trunc() != network {
        return Err(Wrong::new(format!("bits behind the prefix length: {}", quote(text)))
            .hint(format!("did you mean \"{}\" or \"{}\"?", network.trunc(), network.addr())));
    }
    let IpNet::V6(v6) = network else { return Ok(network) };
    let mapped = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    Ok(match mapped.and_then(|(v4, length)| Ipv4Net::new(v4, length).ok()) {
        Some(v4) => IpNet::V4(v4),
        None => network,
    })
}

/// A domain of XMPP, in any spelling that names one.
pub(super) fn domain(text: &str) -> Result<Domain, Wrong> {
    no_dot_at_end(text)?;
    Domain::parse(text).map_err(|error| {
        let wrong = Wrong::new(format!("{}: {error}", quote(text)));
        match domain_hint(text) {
            Some(hint) => wrong.hint(hint),
            None => wrong,
        }
    })
}

fn domain_hint(text: &str) -> Option<&'static str> {
    if text.contains("://") {
        Some("a domain alone, not a URL")
    } else if text.contains('@') {
        Some("a domain alone, not an address of a user")
    } else if text.contains('*') {
        Some("\"*\" stands alone or before the first dot, and only in rules")
    } else if text.contains('/') {
        Some("a domain alone; for networks write \"address\"")
    } else if text.contains(':') {
        Some("a domain alone, without a port")
    } else if text.parse::<IpAddr>().is_ok() {
        Some("for addresses write \"address\"")
    } else {
        None
    }
}

/// A pattern of remote domains: `d`, `*.d` or `*`.
pub(super) fn pattern(text: &str) -> Result<Pattern, Wrong> {
    if text == "*" {
        return Ok(Pattern::Any);
    }
    let Some(parent) = text.strip_prefix("*.") else {
        return domain(text).map(Pattern::Exact);
    };
    if !parent.is_empty() {
        no_dot_at_end(text)?;
    }
    // any name below will do to bring the parent, which may be a top-level domain, in its form
    let below = Domain::parse(&format!("a.{parent}")).map_err(|error| {
        Wrong::new(format!("{}: {error}", quote(text)))
            .hint("\"*\" stands alone, or alone before the first dot")
    })?;
    match below.as_str().strip_prefix("a.") {
        Some(parent) => Ok(Pattern::Below(parent.into())),
        None => Err(Wrong::new(format!("not a pattern of domains: {}", quote(text)))),
    }
}

fn no_dot_at_end(text: &str) -> Result<(), Wrong> {
    // the full stops of UTS 46 §2.3
    match text.strip_suffix(['.', '\u{3002}', '\u{ff0e}', '\u{ff61}']) {
        Some(name) => Err(Wrong::new(format!("a dot at the end of {}", quote(text)))
            .hint(format!("write {}", quote(name)))),
        None => Ok(()),
    }
}

/// A path; relative ones are relative to `base`.
pub(super) fn path(text: &str, base: &Path) -> Result<PathBuf, Wrong> {
    let wrong = |why: &str| Err(Wrong::new(format!("{why}: {}", quote(text))));
    if text.is_empty() || text.contains('\0') {
        return wrong("not a path");
    }
    if text.starts_with('~') {
        return wrong("\"~\" is not expanded");
    }
    Ok(base.join(text))
}

/// A filter of the log: a level, or `target=level`, several with commas.
pub(super) fn log_filter(text: &str) -> Result<String, Wrong> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    for directive in text.split(',') {
        let (target, level) = match directive.split_once('=') {
            Some((target, level)) => (Some(target), level),
            None => (None, directive),
        };
        if !LEVELS.contains(&level) {
            return Err(Wrong::new(format!("unknown log level {}", quote(level)))
                .hint(nearest(level, &LEVELS)));
        }
        let good = |t: &str| {
            !t.is_empty()
                && t.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':'))
        };
        if !target.is_none_or(good) {
            return Err(Wrong::new(format!("not a log filter: {}", quote(directive)))
                .hint("expected a level, or target=level such as fedgate=debug"));
        }
    }
    Ok(text.to_owned())
}

/// Whether a text is a filter of the log, as `log.level` takes it.
///
/// # Errors
/// Why not, in words.
pub fn check_log_filter(text: &str) -> Result<(), String> {
    log_filter(text).map(drop).map_err(Wrong::into_text)
}

/// From large to small.
const SIZE_UNITS: [(&str, u64); 3] = [("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
/// In milliseconds, from large to small.
const TIME_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

#[cfg(test)]
mod tests;
