//! The effective configuration as one file in the format that [`load`](super::load()) reads: all
//! files merged, all defaults filled in, paths absolute, sections in the order of the sample. The
//! only file that names the crate that writes YAML.
//!
//! What is written loads again as an equal configuration, but for the places of rules, as long as
//! it is not larger than one file may be. The same configuration gives the same text, and nothing
//! secret is in it: the model has paths of keys, and no keys.

use std::{collections::BTreeMap, path::Path};

use serde::Serialize;

use super::{model, value};

mod rules;

/// What no file can hold, or YAML does not give back as it was.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// A path below a directory of such a name.
    #[error("write the configuration: a path that is not UTF-8")]
    NotUtf8(#[source] serde_yaml::Error),
    /// YAML 1.1, which is written, has them as ends of lines; YAML 1.2, which is read, has not.
    #[error("write the configuration: a line separator (U+2028 or U+2029) in a text")]
    LineSeparator,
}

/// Writes a loaded configuration as YAML.
///
/// # Errors
/// [`DumpError`] when a path is not UTF-8, or a text has a character that would not come back.
pub fn dump(config: &model::Config) -> Result<String, DumpError> {
    let text = serde_yaml::to_string(&Config::of(config)).map_err(DumpError::NotUtf8)?;
    // they are good where they are escaped
    if text.contains(['\u{2028}', '\u{2029}']) {
        return Err(DumpError::LineSeparator);
    }
    Ok(text)
}

// every shape takes its model apart by name, so that a new key cannot be forgotten

#[derive(Serialize)]
struct Config<'c> {
    version: u8,
    legacy: BTreeMap<&'c str, Legacy>,
    certificates: Vec<Certificate<'c>>,
    state_dir: &'c Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    dialback: Option<Dialback<'c>>,
    listen: Listen,
    steer: Steer,
    tls: Tls<'c>,
    resolver: Resolver<'c>,
    posh: Posh,
    log: Log<'c>,
    admin: Admin<'c>,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<ReportFiles<'c>>,
    shutdown_timeout: String,
    limits: Limits,
    mode: &'static str,
    defaults: rules::Defaults<'c>,
    lists: BTreeMap<&'c str, rules::List<'c>>,
    roles: BTreeMap<&'c str, Vec<String>>,
    rules: Vec<rules::Rule<'c>>,
    networks: rules::Networks,
}

impl<'c> Config<'c> {
    fn of(config: &'c model::Config) -> Self {
        let model::Config {
            state_dir,
            dialback_secret,
            listen,
            legacy,
            // they stand with their servers
            local_domains: _,
            certificates,
            tls,
            resolver,
            posh,
            steer,
            lists,
            roles,
            policy,
            limits,
            log,
            admin,
            report,
            shutdown_timeout,
        } = config;
        Self {
            version: 1,
            legacy: legacy.iter().map(|(name, server)| (&**name, Legacy::of(server))).collect(),
            certificates: certificates.iter().map(Certificate::of).collect(),
            state_dir,
            dialback: dialback_secret.as_deref().map(|secret_file| Dialback { secret_file }),
            listen: Listen::of(listen),
            steer: Steer::of(steer),
            tls: Tls::of(tls),
            resolver: Resolver::of(resolver),
            posh: Posh::of(posh),
            log: Log::of(log),
            admin: Admin::of(admin),
            report: report.as_ref().map(ReportFiles::of),
            shutdown_timeout: value::show_duration(*shutdown_timeout),
            limits: Limits::of(limits),
            mode: rules::mode(policy),
            defaults: rules::Defaults::of(policy),
            lists: lists.iter().map(|(name, from)| (&**name, rules::List::of(from))).collect(),
            roles: roles.iter().map(|(name, members)| (&**name, texts(members))).collect(),
            rules: rules::rules(policy),
            networks: rules::Networks::of(policy),
        }
    }
}

#[derive(Serialize)]
struct Legacy {
    address: String,
    domains: Vec<String>,
    trust: &'static str,
    sources: Vec<String>,
    header_version: &'static str,
    refusals: &'static str,
}

impl Legacy {
    fn of(server: &model::Legacy) -> Self {
        // the name is the key
        let model::Legacy { name: _, address, domains, trust, sources, header, refusals } = server;
        Self {
            address: address.to_string(),
            domains: texts(domains),
            trust: match trust {
                model::LocalTrust::Dialback => "dialback",
                model::LocalTrust::Source => "source",
            },
            sources: texts(sources),
            header_version: match header {
                model::HeaderVersion::V1 => "1.0",
                model::HeaderVersion::None => "none",
            },
            refusals: match refusals {
                model::Refusals::Dialback => "dialback",
                model::Refusals::Bounce => "bounce",
            },
        }
    }
}

#[derive(Serialize)]
struct Certificate<'c> {
    cert: &'c Path,
    key: &'c Path,
}

impl<'c> Certificate<'c> {
    fn of(files: &'c model::CertificateFiles) -> Self {
        let model::CertificateFiles { cert, key } = files;
        Self { cert, key }
    }
}

#[derive(Serialize)]
struct Dialback<'c> {
    secret_file: &'c Path,
}

#[derive(Serialize)]
struct Listen {
    public: Vec<String>,
    direct_tls: Vec<String>,
    local: Vec<String>,
    dns: Vec<String>,
    proxy_protocol: Vec<String>,
}

impl Listen {
    fn of(listen: &model::Listen) -> Self {
        let model::Listen { public, direct_tls, local, dns, proxy_protocol } = listen;
        Self {
            public: texts(public),
            direct_tls: texts(direct_tls),
            local: texts(local),
            dns: texts(dns),
            proxy_protocol: texts(proxy_protocol),
        }
    }
}

/// What a default has made and nobody could write, such as port 0, is left to the default again.
#[derive(Serialize)]
struct Steer {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    address: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
}

impl Steer {
    fn of(steer: &model::Steer) -> Self {
        let model::Steer { addresses, port } = steer;
        let mut address = texts(addresses);
        address.retain(|text| value::address(text).is_ok());
        Self { address, port: value::port(&port.to_string()).ok() }
    }
}

#[derive(Serialize)]
struct Tls<'c> {
    roots: Vec<&'c Path>,
    min_version: &'static str,
}

impl<'c> Tls<'c> {
    fn of(tls: &'c model::Tls) -> Self {
        let model::Tls { roots, min_version } = tls;
        let root = |root: &'c model::Roots| match root {
            model::Roots::System => Path::new("system"),
            model::Roots::File(path) => path,
        };
        Self {
            roots: roots.iter().map(root).collect(),
            min_version: match min_version {
                model::TlsVersion::V1_2 => "1.2",
                model::TlsVersion::V1_3 => "1.3",
            },
        }
    }
}

#[derive(Serialize)]
struct Resolver<'c> {
    servers: Vec<String>,
    timeout: String,
    dnssec: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trust_anchor: Option<&'c Path>,
}

impl<'c> Resolver<'c> {
    fn of(resolver: &'c model::Resolver) -> Self {
        let model::Resolver { servers, timeout, dnssec } = resolver;
        let (dnssec, trust_anchor) = match dnssec {
            model::Dnssec::Off => ("off", None),
            model::Dnssec::TrustAd => ("trust-ad", None),
            model::Dnssec::Validate { trust_anchor } => ("validate", trust_anchor.as_deref()),
        };
        let timeout = value::show_duration(*timeout);
        Self { servers: texts(servers), timeout, dnssec, trust_anchor }
    }
}

#[derive(Serialize)]
struct Posh {
    fetch: bool,
    older_forms: bool,
    port: u16,
}

impl Posh {
    fn of(posh: &model::Posh) -> Self {
        let model::Posh { fetch, older_forms, port } = *posh;
        Self { fetch, older_forms, port }
    }
}

#[derive(Serialize)]
struct Log<'c> {
    format: &'static str,
    level: &'c str,
}

impl<'c> Log<'c> {
    fn of(log: &'c model::Log) -> Self {
        let model::Log { format, level } = log;
        let format = match format {
            model::LogFormat::Text => "text",
            model::LogFormat::Json => "json",
        };
        Self { format, level }
    }
}

#[derive(Serialize)]
struct Admin<'c> {
    socket: &'c Path,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    http: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_file: Option<&'c Path>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    write: bool,
}

impl<'c> Admin<'c> {
    fn of(admin: &'c model::Admin) -> Self {
        let model::Admin { socket, http, token_file, write } = admin;
        Self {
            socket: socket.as_deref().unwrap_or(Path::new("off")),
            http: texts(http),
            token_file: token_file.as_deref(),
            write: *write,
        }
    }
}

#[derive(Serialize)]
struct ReportFiles<'c> {
    directory: &'c Path,
    keep_days: u64,
}

impl<'c> ReportFiles<'c> {
    fn of(report: &'c model::ReportFiles) -> Self {
        let model::ReportFiles { directory, keep_days } = report;
        Self { directory, keep_days: *keep_days }
    }
}

#[derive(Serialize)]
struct Limits {
    stanza: String,
    element_before_auth: String,
    depth: usize,
    attributes: usize,
    connections_per_address: usize,
    connections: usize,
    connections_per_domain: usize,
    legacy_streams_per_address: usize,
    legacy_streams: usize,
    bytes_before_auth: String,
    lookups_per_address: usize,
    dialback_rate: String,
    rate: String,
    stanza_rate: String,
    burst: String,
    pending_verifications: usize,
    pairs_per_stream: usize,
    queue: String,
    queue_total: String,
    negotiation: String,
    connect: String,
    tcp_connect: String,
    idle: String,
    keepalive: String,
    write_stall: String,
    ack: String,
    unacknowledged: String,
    resumption: String,
}

impl Limits {
    fn of(limits: &model::Limits) -> Self {
        let model::Limits {
            stanza,
            element_before_auth,
            depth,
            attributes,
            connections_per_address,
            connections,
            connections_per_domain,
            legacy_streams_per_address,
            legacy_streams,
            bytes_before_auth,
            lookups_per_address,
            dialback_rate,
            rate,
            stanza_rate,
            burst,
            pending_verifications,
            pairs_per_stream,
            queue,
            queue_total,
            negotiation,
            connect,
            tcp_connect,
            idle,
            keepalive,
            write_stall,
            ack,
            unacknowledged,
            resumption,
        } = *limits;
        let or_off = |time: Option<_>| time.map_or_else(|| "off".to_owned(), value::show_duration);
        Self {
            stanza: value::show_size(stanza),
            element_before_auth: value::show_size(element_before_auth),
            depth,
            attributes,
            connections_per_address,
            connections,
            connections_per_domain,
            legacy_streams_per_address,
            legacy_streams,
            bytes_before_auth: value::show_size(bytes_before_auth),
            lookups_per_address,
            dialback_rate: value::show_count_rate(dialback_rate),
            rate: value::show_size_rate(rate),
            stanza_rate: value::show_count_rate(stanza_rate),
            burst: value::show_duration(burst),
            pending_verifications,
            pairs_per_stream,
            queue: value::show_size(queue),
            queue_total: value::show_size(queue_total),
            negotiation: value::show_duration(negotiation),
            connect: value::show_duration(connect),
            tcp_connect: value::show_duration(tcp_connect),
            idle: value::show_duration(idle),
            keepalive: or_off(keepalive),
            write_stall: value::show_duration(write_stall),
            ack: value::show_duration(ack),
            unacknowledged: value::show_size(unacknowledged),
            resumption: or_off(resumption),
        }
    }
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests;
