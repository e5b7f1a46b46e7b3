//! The merged tree becomes the model. Every problem is reported and the default taken in its
//! place, so that one pass finds all of them; what comes out beside errors is not used.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    civil::Instant,
    model::{
        CertificateFiles, Config, Listen, Log, LogFormat, Posh, ReportFiles, Roots, Steer, Tls,
        TlsVersion,
    },
    problem::{At, Reports, Wrong, quote},
    raw::{Kind, Node},
    read::{Section, items},
    value,
};

mod admin;
mod features;
mod legacy;
mod limits;
mod lists;
mod networks;
mod resolver;
pub(super) mod rules;
mod terms;

/// Checks the merged files. `directory` is what relative paths are relative to; `missing` is what
/// to name when something stands in no file, and none if a file could not be read. `running` is the
/// state directory of the process that goes on. Rules that have expired at `now` are left out.
pub(super) fn check(
    root: &Node,
    directory: &Path,
    missing: Option<&str>,
    running: Option<&Path>,
    now: Instant,
    out: &mut Reports<'_>,
) -> Config {
    let top = Section::of(root, "configuration", &KEYS, out);
    check_version(&top, missing, out);
    let listen = check_listen(&top, out);
    let (legacy, local_domains) = legacy::check(&top, &listen, missing, out);
    let lists = lists::check(&top, directory, out);
    let roles = features::roles(&top, &local_domains, out);
    let tls = check_tls(&top, directory, out);
    let context = rules::Context {
        directory,
        lists: &lists,
        roles: &roles,
        local_domains: &local_domains,
        tls_min: tls.min_version,
        now,
    };
    let policy = rules::check(&top, &context, out);
    let state_dir = check_state_dir(&top, directory, missing, running, out);
    Config {
        admin: admin::check(&top, &state_dir, &listen, directory, out),
        state_dir,
        dialback_secret: check_dialback(&top, directory, out),
        legacy,
        local_domains,
        certificates: check_certificates(&top, directory, out),
        tls,
        resolver: resolver::check(&top, &listen, directory, out),
        posh: check_posh(&top, out),
        steer: check_steer(&top, &listen, out),
        lists: lists.sources,
        roles: roles.into_iter().map(|(name, role)| (name, role.members)).collect(),
        policy,
        limits: limits::check(&top, out),
        log: check_log(&top, out),
        report: check_report(&top, directory, out),
        shutdown_timeout: top
            .text("shutdown_timeout", |t| value::duration(t, &SHUTDOWN_RANGE), out)
            .unwrap_or(SHUTDOWN_TIMEOUT),
        listen,
    }
}

fn check_version(top: &Section<'_>, missing: Option<&str>, out: &mut Reports<'_>) {
    let version = |text: &str| match text {
        "1" => Ok(()),
        _ => Err(Wrong::new(format!("unknown version {}", quote(text))).hint("expected 1")),
    };
    match (top.get("version"), missing) {
        (Some(_), _) => {
            top.text("version", version, out);
        }
        (None, Some(label)) => {
            let wrong = Wrong::new("\"version\" stands in no file");
            out.file_error(label, wrong.hint("write \"version: 1\" in one of them"));
        }
        (None, None) => {}
    }
}

/// That of a running process stays: keys, lists and what is remembered are there, and the places that
/// follow from it have to agree with them.
fn check_state_dir(
    top: &Section<'_>,
    directory: &Path,
    missing: Option<&str>,
    running: Option<&Path>,
    out: &mut Reports<'_>,
) -> PathBuf {
    let path = |text: &str| value::path(text, directory);
    let given = top.text("state_dir", path, out).unwrap_or_else(|| STATE_DIR.into());
    let Some(running) = running.filter(|running| **running != *given) else { return given };
    let wrong = Wrong::new("a changed state_dir takes effect at the next start");
    let wrong = wrong.hint(format!("until then it is {}", quote(&running.to_string_lossy())));
    match (top.pair("state_dir"), missing) {
        (Some(pair), _) => out.warning(pair.at, wrong),
        (None, Some(label)) => out.file_warning(label, wrong),
        (None, None) => {}
    }
    running.to_owned()
}

fn check_listen(top: &Section<'_>, out: &mut Reports<'_>) -> Listen {
    let section = top.section("listen", &LISTEN_KEYS, out);
    // a default has no place
    let mut all: Vec<(SocketAddr, Option<At>)> = Vec::new();
    let mut read = |key: &str, default: &[SocketAddr], out: &mut Reports<'_>| {
        let given = section.as_ref().and_then(|s| s.list(key, value::listen_address, out));
        let found: Vec<_> = match given {
            Some(given) => given.into_iter().map(|(address, at)| (address, Some(at))).collect(),
            None => default.iter().map(|address| (*address, None)).collect(),
        };
        all.extend(&found);
        found.into_iter().map(|(address, _)| address).collect::<Vec<_>>()
    };
    let listen = Listen {
        public: read("public", &[SocketAddr::from(([0u16; 8], 5269))], out),
        direct_tls: read("direct_tls", &[], out),
        local: read("local", &[SocketAddr::from(([127, 0, 0, 1], 5268))], out),
        dns: read("dns", &[], out),
        proxy_protocol: section
            .as_ref()
            .and_then(|section| section.list("proxy_protocol", value::network, out))
            .map_or_else(Vec::new, without_places),
    };
    for (n, (address, place)) in all.iter().enumerate() {
        let mut before = all.iter().take(n);
        let Some((other, earlier)) = before.find(|(other, _)| overlap(*other, *address)) else {
            continue;
        };
        let (at, wrong) = match (place, earlier) {
            (Some(at), Some(earlier)) => {
                (at, format!("{address} is taken by {other} at {}", out.exact(*earlier)))
            }
            (Some(at), None) => (at, format!("{address} is taken by {other}, a default")),
            (None, Some(at)) => (at, format!("{other} takes {address}, a default")),
            (None, None) => continue,
        };
        out.error(*at, Wrong::new(wrong));
    }
    let empty = |key: &str| section.as_ref().and_then(|s| s.empty_list(key));
    if let Some(at) = empty("local") {
        let wrong = Wrong::new("no local address to listen on");
        out.error(at, wrong.hint("the legacy server could not send anything"));
    }
    if let (Some(at), true) = (empty("public"), listen.direct_tls.is_empty()) {
        let wrong = Wrong::new("no public address to listen on");
        out.warning(at, wrong.hint("no peer can connect, nor verify dialback with us"));
    }
    listen
}

/// Whether two sockets cannot listen at once; `[::]` takes IPv4 too.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let covers = |x: SocketAddr, y: SocketAddr| {
        x.ip() == y.ip() || (x.ip().is_unspecified() && (x.is_ipv6() || y.is_ipv4()))
    };
    a.port() != 0 && a.port() == b.port() && (covers(a, b) || covers(b, a))
}

fn check_certificates(
    top: &Section<'_>,
    directory: &Path,
    out: &mut Reports<'_>,
) -> Vec<CertificateFiles> {
    let Some(node) = top.get("certificates") else { return Vec::new() };
    let mut certificates = Vec::new();
    for item in items(node, "certificates", out) {
        let section = Section::of(item, "certificate", &["cert", "key"], out);
        let path = |text: &str| value::path(text, directory);
        let cert = section.required("cert", path, out);
        let key = section.required("key", path, out);
        if let (Some(cert), Some(key)) = (cert, key) {
            certificates.push(CertificateFiles { cert, key });
        }
    }
    certificates
}

fn check_tls(top: &Section<'_>, directory: &Path, out: &mut Reports<'_>) -> Tls {
    let section = top.section("tls", &["roots", "min_version"], out);
    let root = |text: &str| root(text, directory);
    let versions = [("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)];
    let version = |text: &str| value::word(text, "TLS version", &versions);
    let given = section.as_ref().and_then(|s| s.list("roots", root, out));
    Tls {
        roots: given.map_or_else(|| vec![Roots::System], without_places),
        min_version: section.and_then(|s| s.text("min_version", version, out)).unwrap_or_default(),
    }
}

fn root(text: &str, directory: &Path) -> Result<Roots, Wrong> {
    match text {
        "system" => Ok(Roots::System),
        // a bare word is a misspelt word sooner than a file
        _ if !text.contains(['/', '.']) => {
            Err(Wrong::new(format!("unknown trust roots {}", quote(text)))
                .hint("expected \"system\" or the path of a PEM file"))
        }
        _ => value::path(text, directory).map(Roots::File),
    }
}

/// Whether a connection to `target` ends at the listener `own`, as far as one can say.
fn is_here(own: SocketAddr, target: SocketAddr) -> bool {
    own.ip() == target.ip() || (own.ip().is_unspecified() && target.ip().is_loopback())
}

fn check_posh(top: &Section<'_>, out: &mut Reports<'_>) -> Posh {
    let default = Posh::default();
    let keys = ["fetch", "older_forms", "port"];
    let Some(section) = top.section("posh", &keys, out) else { return default };
    let mut flag = |key| section.text(key, value::flag, out);
    let (fetch, older_forms) = (flag("fetch"), flag("older_forms"));
    if let (Some(false), Some(true), Some(pair)) = (fetch, older_forms, section.pair("older_forms"))
    {
        out.warning(pair.at, Wrong::new("\"older_forms\" without \"fetch\": nothing is fetched"));
    }
    Posh {
        fetch: fetch.unwrap_or(default.fetch),
        older_forms: older_forms.unwrap_or(default.older_forms),
        port: section.text("port", value::port, out).unwrap_or(default.port),
    }
}

fn check_dialback(top: &Section<'_>, directory: &Path, out: &mut Reports<'_>) -> Option<PathBuf> {
    let section = top.section("dialback", &["secret_file"], out)?;
    section.text("secret_file", |text| value::path(text, directory), out)
}

fn check_steer(top: &Section<'_>, listen: &Listen, out: &mut Reports<'_>) -> Steer {
    let section = top.section("steer", &["address", "port"], out);
    let given = section.as_ref().and_then(|s| s.get("address"));
    let addresses = section.as_ref().and_then(|s| s.one_or_list("address", value::address, out));
    let mut addresses = addresses.unwrap_or_default();
    if let Some((_, at)) = addresses.get(Steer::MAX_ADDRESSES) {
        let wrong = Wrong::new(format!("more than {} addresses", Steer::MAX_ADDRESSES));
        out.error(*at, wrong.hint("no more fit into a DNS answer that every resolver takes"));
        addresses.truncate(Steer::MAX_ADDRESSES);
    }
    let given_port = section.as_ref().and_then(|s| s.get("port"));
    let port = section.as_ref().and_then(|s| s.text("port", value::port, out));
    let local = listen.local.first().copied().unwrap_or(SocketAddr::from(([127, 0, 0, 1], 5268)));
    let dns = top.get("listen").and_then(|node| key_at(node, "dns"));
    if let (Some(dns), false) = (dns, listen.dns.is_empty()) {
        if local.ip().is_unspecified() && given.is_none() {
            let wrong = Wrong::new("\"listen.dns\" is on and \"steer.address\" is not given");
            let hint = format!("nobody can be sent to {}; say where it is reached", local.ip());
            out.error(dns, wrong.hint(hint));
        }
        if local.port() == 0 && given_port.is_none() {
            let wrong = Wrong::new("\"listen.dns\" is on and \"steer.port\" is not given");
            out.error(dns, wrong.hint("the port of the local listener is not known beforehand"));
        }
    }
    let default = match local {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        SocketAddr::V4(_) | SocketAddr::V6(_) => local.ip(),
    };
    let mut addresses = without_places(addresses);
    if addresses.is_empty() {
        addresses.push(default);
    }
    Steer { addresses, port: port.unwrap_or(local.port()) }
}

fn key_at(node: &Node, key: &str) -> Option<At> {
    match &node.kind {
        Kind::Map(pairs) => pairs.iter().find(|pair| &*pair.key == key).map(|pair| pair.at),
        Kind::Null | Kind::Text(_) | Kind::List(_) => None,
    }
}

fn check_log(top: &Section<'_>, out: &mut Reports<'_>) -> Log {
    let section = top.section("log", &["format", "level"], out);
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let format = |text: &str| value::word(text, "log format", &formats);
    let section = section.as_ref();
    Log {
        format: section.and_then(|s| s.text("format", format, out)).unwrap_or(LogFormat::Text),
        level: section
            .and_then(|s| s.text("level", value::log_filter, out))
            .unwrap_or_else(|| "info".to_owned()),
    }
}

fn check_report(top: &Section<'_>, directory: &Path, out: &mut Reports<'_>) -> Option<ReportFiles> {
    let section = top.section("report", &["directory", "keep_days"], out)?;
    let directory = section.required("directory", |text| value::path(text, directory), out);
    let keep = section.text("keep_days", |text| value::count(text, &KEEP_RANGE), out);
    Some(ReportFiles { directory: directory?, keep_days: keep.unwrap_or(KEEP_DAYS) as u64 })
}

fn without_places<T>(values: Vec<(T, At)>) -> Vec<T> {
    values.into_iter().map(|(value, _)| value).collect()
}

const LISTEN_KEYS: [&str; 5] = ["public", "direct_tls", "local", "dns", "proxy_protocol"];

const KEYS: [&str; 21] = [
    "version",
    "state_dir",
    "dialback",
    "listen",
    "legacy",
    "certificates",
    "tls",
    "resolver",
    "posh",
    "steer",
    "mode",
    "defaults",
    "lists",
    "roles",
    "rules",
    "networks",
    "limits",
    "log",
    "admin",
    "report",
    "shutdown_timeout",
];

const STATE_DIR: &str = "/var/lib/fedgate";
const KEEP_DAYS: usize = 30;
const KEEP_RANGE: std::ops::RangeInclusive<usize> = 1..=3650;
/// Below the ten seconds after which compose kills a container.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(8);
const SHUTDOWN_RANGE: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_mins(10);
