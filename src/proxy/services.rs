//! What is made from one configuration: TLS material, trust roots, the resolver. A reload makes a
//! new one, whole, before the old one is let go.

use std::sync::Arc;

use tracing::warn;

use crate::{
    auth::pkix::TrustRoots,
    config::model::Config,
    net::{
        certificates::{CertificateError, CertificateStore},
        connector::Rules,
        fetch::Fetcher,
        own::OwnAddresses,
        posh::PoshClient,
        resolver::{Resolver, ServersError},
        roots::{self, RootsError},
        tls::TlsContext,
    },
    xmpp::Direction,
};

/// Everything that a configuration turns into.
#[derive(Debug)]
pub(super) struct Services {
    pub(super) config: Arc<Config>,
    pub(super) tls: TlsContext,
    pub(super) roots: TrustRoots,
    pub(super) resolver: Resolver,
    /// What domains publish over HTTPS; none: it is not asked for.
    pub(super) posh: Option<PoshClient>,
    /// The addresses that fedgate itself listens on, which are never dialled.
    pub(super) own: OwnAddresses,
}

/// Why a configuration cannot be put to work.
#[derive(Debug, thiserror::Error)]
pub enum ServicesError {
    /// A certificate or key.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Trust roots.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// Name servers.
    #[error(transparent)]
    Servers(#[from] ServersError),
    /// TLS itself.
    #[error("set up TLS")]
    Tls(#[source] rustls::Error),
}

impl Services {
    /// Reads certificates and roots; says in the log what an operator should look at.
    pub(super) fn new(config: Arc<Config>) -> Result<Self, ServicesError> {
        let domains: Vec<_> = config.local_domains.keys().cloned().collect();
        let (store, warnings) =
            CertificateStore::load(&config.certificates, &domains, &config.state_dir)?;
        for warning in warnings {
            warn!("{warning}");
        }
        let (roots, warnings) = roots::load(&config.tls.roots)?;
        for warning in warnings {
            warn!("{warning}");
        }
        let tls = TlsContext::new(store, config.tls.min_version).map_err(ServicesError::Tls)?;
        let listen = &config.listen;
        let own = [&listen.public, &listen.direct_tls, &listen.local];
        let own = OwnAddresses::new(own.into_iter().flatten().copied());
        let dns = OwnAddresses::new(listen.dns.iter().copied());
        let resolver = Resolver::new(&config.resolver, &dns)?;
        let rules = Self::rules(&config, &own);
        let fetcher = Fetcher::new(resolver.clone(), &roots, config.tls.min_version, rules);
        let fetcher = Arc::new(fetcher.map_err(ServicesError::Tls)?);
        let posh = config.posh.fetch.then(|| PoshClient::new(fetcher, config.posh));
        Ok(Self { config, tls, roots, resolver, posh, own })
    }

    /// What holds for every connection to an address that a stranger named.
    fn rules(config: &Arc<Config>, own: &OwnAddresses) -> Rules {
        let tcp_timeout = config.limits.tcp_connect;
        let config = Arc::clone(config);
        Rules {
            filter: Box::new(move |ip| config.policy.address(ip, Direction::Outbound)),
            own: own.clone(),
            tcp_timeout,
        }
    }
}
