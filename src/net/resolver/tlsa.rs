//! What DNS says of certificates: the TLSA records of an endpoint, and those of all endpoints of a
//! domain (RFC 7673 §3.3, RFC 7671 §7; protocol rules DA-2, DA-11, DA-12).

use hickory_resolver::{
    net::NetError,
    proto::rr::{RData, RecordType},
};
use tokio::task::JoinSet;

use super::{Addresses, DnsQuery, ResolveError, Resolver, unix};
use crate::{
    auth::dane::{AddressState, Security, TlsaRecord, TlsaSet, TlsaState, wants_tlsa},
    net::targets::{Decision, MAX_TARGETS, Srv, Target, TargetTls, fallback},
    xmpp::Domain,
};

/// The TLSA records of all endpoints of a domain.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// One set for each endpoint that has secure ones.
    pub sets: Vec<TlsaSet>,
    /// Why there may be more.
    pub missing: Option<ResolveError>,
}

impl Resolver {
    /// Finds the TLSA records of an endpoint, where they are worth asking for
    /// ([`wants_tlsa`]): at the name that the host is securely an alias of, and if there are none
    /// then at the host's own (RFC 7671 §7). The state is never [`TlsaState::Failed`].
    ///
    /// # Errors
    /// [`ResolveError::Temporary`] or [`ResolveError::Bogus`]: the endpoint must not be used.
    pub async fn tlsa(
        &self,
        target: &Target,
        addresses: &Addresses,
    ) -> Result<TlsaState, ResolveError> {
        let delegated = target.delegation.until().unwrap_or(addresses.expires);
        let expires = delegated.min(addresses.expires);
        let mut state = TlsaState::NotAsked;
        let own = (addresses.canonical.as_ref() != Some(&target.host)).then_some(&target.host);
        for base in addresses.canonical.iter().chain(own) {
            let name = format!("_{}._tcp.{base}", target.port);
            let answer = match self.ask(&name, RecordType::TLSA).await {
                // No record can stand where no name can.
                Err(ResolveError::NotFound { .. }) => return Ok(TlsaState::Insecure),
                answer => answer?,
            };
            let records: Vec<_> = answer.records.iter().filter_map(record).collect();
            state = match (answer.security, records.is_empty()) {
                (Security::Insecure, _) => TlsaState::Insecure,
                (Security::Secure, true) => TlsaState::Denied,
                (Security::Secure, false) => {
                    let expires = expires.min(unix(answer.until));
                    return Ok(TlsaState::Records(TlsaSet {
                        base: base.clone(),
                        records,
                        expires,
                    }));
                }
            };
        }
        Ok(state)
    }

    /// Finds the TLSA records of all endpoints of a domain, for a client that wants to speak for
    /// it (DA-11, DA-12).
    ///
    /// # Errors
    /// [`ResolveError::Temporary`] or [`ResolveError::Bogus`] if either SRV query got no answer
    /// that can be used.
    pub async fn published(&self, domain: &Domain) -> Result<Published, ResolveError> {
        let (endpoints, is_cut) = match self.servers(domain).await? {
            Decision::Absent => return Ok(Published::default()),
            Decision::Fallback => (vec![fallback(domain.as_str())], false),
            Decision::Targets(records) => endpoints(records),
        };
        let mut published = Published::default();
        if is_cut {
            published.missing = Some(ResolveError::Temporary {
                query: DnsQuery::new(RecordType::SRV, domain.as_str()),
                cause: NetError::Message("more servers than are asked about"),
            });
        }
        let mut endpoints = endpoints.into_iter();
        let mut lookups = JoinSet::new();
        loop {
            while lookups.len() < LOOKUPS_AT_ONCE
                && let Some(target) = endpoints.next()
            {
                let resolver = self.clone();
                lookups.spawn(async move { resolver.tlsa_of(&target).await });
            }
            let Some(lookup) = lookups.join_next().await else { break };
            match lookup {
                Ok(Ok(TlsaState::Records(set))) => published.sets.push(set),
                Ok(Ok(_)) | Err(_) => {}
                Ok(Err(error)) => published.missing = Some(error),
            }
        }
        Ok(published)
    }

    /// The TLSA records of an endpoint whose addresses are not known.
    async fn tlsa_of(&self, target: &Target) -> Result<TlsaState, ResolveError> {
        let addresses = match self.addresses(&target.host).await {
            Err(ResolveError::NotFound { .. }) => return Ok(TlsaState::NotAsked),
            addresses => addresses?,
        };
        match addresses.security {
            Security::Secure => self.tlsa(target, &addresses).await,
            Security::Insecure => Ok(TlsaState::NotAsked),
        }
    }
}

/// The endpoints of which TLSA records are worth asking for, each once, the best first; and whether
/// there are more than are asked about.
fn endpoints(mut records: Vec<(TargetTls, Srv)>) -> (Vec<Target>, bool) {
    // not by chance: the same are asked about each time
    records.sort_by_key(|(tls, srv)| (srv.priority, *tls));
    let mut endpoints: Vec<Target> = Vec::new();
    for (tls, srv) in records {
        let is_same = |known: &Target| (&*known.host, known.port) == (&*srv.target, srv.port);
        if !wants_tlsa(srv.delegation.state(), AddressState::Secure)
            || endpoints.iter().any(is_same)
        {
            continue;
        }
        if endpoints.len() == MAX_TARGETS {
            return (endpoints, true);
        }
        endpoints.push(Target::of(tls, &srv));
    }
    (endpoints, false)
}

pub(super) fn record(data: &RData) -> Option<TlsaRecord> {
    match data {
        RData::TLSA(tlsa) => Some(TlsaRecord {
            usage: tlsa.cert_usage.into(),
            selector: tlsa.selector.into(),
            matching: tlsa.matching.into(),
            data: tlsa.cert_data.as_slice().into(),
        }),
        _ => None,
    }
}

/// Endpoints of a domain that are asked about at the same time, to judge a client.
const LOOKUPS_AT_ONCE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::targets::Delegation;

    fn servers(hosts: std::ops::Range<u16>) -> Vec<(TargetTls, Srv)> {
        let delegation = Delegation::Secure { until: unix(std::time::Instant::now()) };
        let of = |host: u16| Srv {
            priority: host,
            weight: 0,
            port: 5269,
            target: format!("host{host}.test"),
            delegation,
        };
        hosts.map(|host| (TargetTls::StartTls, of(host))).collect()
    }

    #[test]
    fn what_is_not_asked_about_is_known_to_be_missing() {
        let most = u16::try_from(MAX_TARGETS).unwrap();
        let (all, is_cut) = endpoints(servers(0..most));
        assert_eq!((all.len(), is_cut), (MAX_TARGETS, false));
        let mut more = servers(0..most + 1);
        more.reverse();
        assert_eq!(endpoints(more), (all, true));
    }

    #[test]
    fn an_endpoint_is_asked_about_once_whatever_its_records() {
        let mut records = [servers(0..20), servers(0..20)].concat();
        records.iter_mut().skip(20).for_each(|(tls, srv)| {
            *tls = TargetTls::Direct;
            srv.priority = 1;
        });
        let (all, is_cut) = endpoints(records.clone());
        assert_eq!((all.len(), is_cut), (20, false));
        // of what nobody vouches for nothing is asked
        records.iter_mut().for_each(|(_, srv)| srv.delegation = Delegation::Insecure);
        assert_eq!(endpoints(records), (Vec::new(), false));
    }
}
