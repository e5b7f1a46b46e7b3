//! SRV records, and the hosts that they name (RFC 2782, RFC 6120 §3.2.1, XEP-0368 §3).

use std::collections::BTreeSet;

use super::{DomainReport, Item, Kind, Signed, State, Survey, item};
use crate::{
    net::{
        resolver::{Records, SrvRecord},
        targets::TargetTls,
    },
    xmpp::Domain,
};

/// Where peers find a domain's server.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Endpoint {
    pub(super) host: String,
    pub(super) port: u16,
    /// Whether DNSSEC vouches for it.
    pub(super) is_delegated: bool,
}

impl Survey {
    /// Says what SRV records there are to be; the endpoints for which TLSA records belong there.
    pub(super) async fn srv(&self, domain: &Domain, report: &mut DomainReport) -> Vec<Endpoint> {
        let listen = &self.services.config.listen;
        let mut endpoints = BTreeSet::new();
        let mut known = Vec::new();
        for (tls, listeners) in
            [(TargetTls::StartTls, &listen.public), (TargetTls::Direct, &listen.direct_tls)]
        {
            let ports: BTreeSet<u16> = listeners.iter().map(|address| address.port()).collect();
            let found = self.services.resolver.srv_records(domain, tls).await;
            known.push((tls, ports, found));
        }
        let named: BTreeSet<String> =
            known.iter().filter_map(|(.., found)| found.as_ref().ok()).flat_map(hosts_of).collect();
        // for a service that names no host yet: those of the other
        let fallback = match &self.options.target {
            Some(target) => BTreeSet::from([target.to_string()]),
            None if named.is_empty() => BTreeSet::from([domain.to_string()]),
            None => named.clone(),
        };
        if self.options.target.is_none() && named.is_empty() {
            report.notes.push(format!(
                "no SRV record names a host, so {domain} itself stands here: say --target HOST for another"
            ));
        }
        let mut all_hosts = BTreeSet::new();
        for (tls, ports, found) in known {
            let named = found.as_ref().map(hosts_of).unwrap_or_default();
            let hosts = match self.options.target.is_none() && !named.is_empty() {
                true => named,
                false => fallback.clone(),
            };
            if !ports.is_empty() {
                all_hosts.extend(hosts.iter().cloned());
            }
            let name = format!("{}._tcp.{domain}", tls.service());
            let found = match found {
                Ok(found) => found,
                Err(error) => {
                    for port in &ports {
                        endpoints.extend(hosts.iter().map(|host| Endpoint::at(host, *port, false)));
                    }
                    report.items.push(item(Kind::Srv, name, None).unresolved(error));
                    continue;
                }
            };
            let is_delegated = self.is_signed(found.security) != Signed::No;
            for srv in found.records.iter().filter(|srv| hosts.contains(&*srv.target)) {
                endpoints.insert(Endpoint::at(&srv.target, srv.port, is_delegated));
            }
            if ports.is_empty() {
                report.items.extend(not_listened(tls, &name, &found));
                continue;
            }
            for host in &hosts {
                for port in &ports {
                    report.items.push(wanted(&name, host, *port, &found));
                    endpoints.insert(Endpoint::at(host, *port, is_delegated));
                }
            }
        }
        for host in &all_hosts {
            report.items.push(self.host(host).await);
        }
        endpoints.into_iter().collect()
    }

    /// Whether a host that SRV records name can be named.
    async fn host(&self, host: &str) -> Item {
        let item = item(Kind::Host, host, None);
        let found = match self.services.resolver.host_records(host).await {
            Ok(found) => found,
            Err(error) => return item.unresolved(error),
        };
        let item = Item { found: found.records.iter().map(ToString::to_string).collect(), ..item };
        match (found.alias, found.records.is_empty()) {
            (_, true) => item.is(State::Wrong, "no address: nobody can connect"),
            (Some(alias), false) => item.is(
                State::Differs,
                format!(
                    "an alias of {alias}: SRV records must name a host, not an alias (RFC 2782)"
                ),
            ),
            (None, false) => {
                let addresses = item.found.join(", ");
                item.is(State::Present, addresses)
            }
        }
    }
}

impl Endpoint {
    fn at(host: &str, port: u16, is_delegated: bool) -> Self {
        Self { host: host.to_owned(), port, is_delegated }
    }
}

/// The record that sends peers to `host` and `port`.
fn wanted(name: &str, host: &str, port: u16, found: &Records<SrvRecord>) -> Item {
    let same = found.records.iter().find(|srv| (&*srv.target, srv.port) == (host, port));
    let (priority, weight) = same.map_or((0, 0), |srv| (srv.priority, srv.weight));
    let value = format!("{priority} {weight} {port} {host}.");
    let item = Item { found: texts(found), ..item(Kind::Srv, name, Some(value)) };
    let is_dot = |srv: &SrvRecord| &*srv.target == ".";
    match found.records.as_slice() {
        _ if same.is_some() => item.is(State::Present, ""),
        [] => item.is(State::Missing, ""),
        [one] if is_dot(one) => {
            item.is(State::Wrong, "the record says that the domain has no such service")
        }
        several if several.iter().any(|srv| &*srv.target == host) => item.is(
            State::Differs,
            "another port: right where that is forwarded to the one that fedgate listens on",
        ),
        _ => item.is(State::Differs, "other hosts are named"),
    }
}

/// Records of a service that is not offered.
fn not_listened(tls: TargetTls, name: &str, found: &Records<SrvRecord>) -> Option<Item> {
    let is_offered = found.records.iter().any(|srv| &*srv.target != ".");
    let key = match tls {
        TargetTls::Direct => "listen.direct_tls",
        TargetTls::StartTls => "listen.public",
    };
    let item = Item { found: texts(found), ..item(Kind::Srv, name, None) };
    let why =
        format!("published, but {key} is empty: peers are sent where fedgate does not listen");
    is_offered.then(|| item.is(State::Differs, why))
}

/// The hosts that are named now.
fn hosts_of(found: &Records<SrvRecord>) -> BTreeSet<String> {
    let named = found.records.iter().filter(|srv| &*srv.target != ".");
    named.map(|srv| srv.target.to_string()).collect()
}

fn texts(found: &Records<SrvRecord>) -> Vec<String> {
    found.records.iter().map(ToString::to_string).collect()
}
