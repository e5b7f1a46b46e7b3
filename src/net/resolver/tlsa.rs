//! What DNS says of certificates: the TLSA records of an endpoint, and those of all endpoints of a
//! domain (RFC 7673 §3.3, RFC 7671 §7; protocol rules DA-2, DA-11, DA-12).

use hickory_resolver::proto::rr::{RData, RecordType};
use tokio::task::JoinSet;

use super::{Addresses, ResolveError, Resolver, unix};
use crate::{
    auth::dane::{AddressState, Security, TlsaRecord, TlsaSet, TlsaState, wants_tlsa},
    net::targets::Target,
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
    /// Those of [`service`](Self::service), but that a domain without one has none.
    pub async fn published(&self, domain: &Domain) -> Result<Published, ResolveError> {
        let targets = match self.service(domain).await {
            Err(ResolveError::NotFound { .. }) => return Ok(Published::default()),
            targets => targets?,
        };
        let mut endpoints: Vec<Target> = Vec::new();
        for target in targets {
            let is_same = |other: &Target| (&other.host, other.port) == (&target.host, target.port);
            if wants_tlsa(target.delegation.state(), AddressState::Secure)
                && endpoints.len() < MAX_PUBLISHED
                && !endpoints.iter().any(is_same)
            {
                endpoints.push(target);
            }
        }
        let mut lookups = JoinSet::new();
        for target in endpoints {
            let resolver = self.clone();
            lookups.spawn(async move {
                let addresses = match resolver.addresses(&target.host).await {
                    Err(ResolveError::NotFound { .. }) => return Ok(TlsaState::NotAsked),
                    addresses => addresses?,
                };
                match addresses.security {
                    Security::Secure => resolver.tlsa(&target, &addresses).await,
                    Security::Insecure => Ok(TlsaState::NotAsked),
                }
            });
        }
        let mut published = Published::default();
        while let Some(lookup) = lookups.join_next().await {
            match lookup {
                Ok(Ok(TlsaState::Records(set))) => published.sets.push(set),
                Ok(Ok(_)) | Err(_) => {}
                Ok(Err(error)) => published.missing = Some(error),
            }
        }
        Ok(published)
    }
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

/// Endpoints of a domain of which TLSA records are asked for, to judge a client.
const MAX_PUBLISHED: usize = 8;
