//! The legacy servers and the domains they serve.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use ipnet::IpNet;

use super::{is_here, overlap, without_places};
use crate::{
    config::{
        model::{HeaderVersion, HostPort, Legacy, Listen, LocalTrust, Refusals},
        problem::{At, Reports, Wrong, quote},
        raw::{Kind, Pair},
        read::Section,
        value,
    },
    xmpp::Domain,
};

type Servers = (BTreeMap<String, Arc<Legacy>>, BTreeMap<Domain, Arc<Legacy>>);

pub(super) fn check(
    top: &Section<'_>,
    listen: &Listen,
    missing: Option<&str>,
    out: &mut Reports<'_>,
) -> Servers {
    let Some(node) = top.get("legacy") else {
        if let Some(label) = missing {
            let wrong = Wrong::new("no legacy server in any file");
            let hint = "write \"legacy:\" with the address and domains of the server to stand for";
            out.file_error(label, wrong.hint(hint));
        }
        return Servers::default();
    };
    let named = Section::free(node, "legacy", out);
    if named.is_empty() && matches!(node.kind, Kind::Map(_)) {
        out.error(node.at, Wrong::new("\"legacy\" names no server"));
    }
    let mut servers = BTreeMap::new();
    let mut domains = BTreeMap::new();
    let mut places: BTreeMap<Domain, At> = BTreeMap::new();
    for pair in named {
        let Some((server, at)) = check_server(pair, listen, out) else { continue };
        let server = Arc::new(server);
        for (domain, at) in server.domains.iter().zip(at) {
            if let Some(other) = places.insert(domain.clone(), at) {
                let wrong = Wrong::new(format!("{domain} is served at {} too", out.exact(other)));
                out.error(at, wrong.hint("a domain has one server and stands once"));
            }
            domains.insert(domain.clone(), Arc::clone(&server));
        }
        servers.insert(server.name.clone(), server);
    }
    (servers, domains)
}

/// A server and the places of its domains.
fn check_server(pair: &Pair, listen: &Listen, out: &mut Reports<'_>) -> Option<(Legacy, Vec<At>)> {
    let keys = ["address", "domains", "trust", "sources", "header_version", "refusals"];
    let name = &pair.key;
    if name.is_empty() || name.len() > MAX_NAME || name.contains(|c: char| c.is_control()) {
        let wrong = Wrong::new(format!("not a name for a server: {}", quote(name)));
        out.error(pair.at, wrong.hint(format!("1 to {MAX_NAME} bytes, no control characters")));
    }
    let section = Section::of(&pair.value, name, &keys, out);
    let address = section.required("address", value::host_port, out);
    if let (Some(address), Some(node)) = (&address, section.get("address"))
        && is_own(address, listen)
    {
        let wrong = Wrong::new(format!("{address} is fedgate's own listener"));
        out.error(node.at, wrong.hint("expected where the legacy server accepts S2S streams"));
    }
    let domains = domains(&section, out);
    let words = [("dialback", LocalTrust::Dialback), ("source", LocalTrust::Source)];
    let trust = section.text("trust", |t| value::word(t, "trust", &words), out);
    let trust = trust.unwrap_or(LocalTrust::Dialback);
    let sources = sources(&section, trust, out);
    let words = [("1.0", HeaderVersion::V1), ("none", HeaderVersion::None)];
    let header = section.text("header_version", |t| value::word(t, "header version", &words), out);
    let words = [("dialback", Refusals::Dialback), ("bounce", Refusals::Bounce)];
    let refusals = section.text("refusals", |t| value::word(t, "refusals", &words), out);
    let (domains, places) = domains.into_iter().unzip();
    let server = Legacy {
        name: name.to_string(),
        address: address?,
        domains,
        trust,
        sources,
        header: header.unwrap_or(HeaderVersion::V1),
        refusals: refusals.unwrap_or(Refusals::Dialback),
    };
    Some((server, places))
}

fn domains(section: &Section<'_>, out: &mut Reports<'_>) -> Vec<(Domain, At)> {
    let Some(domains) = section.list("domains", value::domain, out) else {
        section.missing("domains", out);
        return Vec::new();
    };
    if let Some(at) = section.empty_list("domains") {
        out.error(at, Wrong::new("\"domains\" is empty"));
    }
    domains
}

fn sources(section: &Section<'_>, trust: LocalTrust, out: &mut Reports<'_>) -> Vec<IpNet> {
    let Some(sources) = section.list("sources", value::network, out) else {
        return loopback();
    };
    if let Some(at) = section.empty_list("sources") {
        let wrong = Wrong::new("\"sources\" is empty");
        out.error(at, wrong.hint("the server could not connect from anywhere"));
    }
    for (source, at) in &sources {
        if trust == LocalTrust::Source && source.prefix_len() == 0 {
            let wrong = Wrong::new(format!("{source} with \"trust: source\""));
            out.warning(*at, wrong.hint("everyone who reaches the port may speak for the domains"));
        }
    }
    without_places(sources)
}

/// Where a server beside us comes from.
fn loopback() -> Vec<IpNet> {
    let v4 = ipnet::Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
    vec![IpNet::V4(v4), IpNet::from(IpAddr::from(std::net::Ipv6Addr::LOCALHOST))]
}

/// Whether an address is one that fedgate listens on, which would lead in a circle.
fn is_own(address: &HostPort, listen: &Listen) -> bool {
    let ip = match address.host.as_str() {
        "localhost" => IpAddr::from(Ipv4Addr::LOCALHOST),
        host => match host.parse() {
            Ok(ip) => ip,
            Err(_) => return false,
        },
    };
    let target = std::net::SocketAddr::new(ip, address.port);
    let own = listen.public.iter().chain(&listen.direct_tls).chain(&listen.local);
    own.into_iter().any(|own| overlap(*own, target) && is_here(*own, target))
}

/// Bytes of a server's name.
const MAX_NAME: usize = 64;
