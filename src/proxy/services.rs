//! What is made from one configuration: TLS material, trust roots, the resolver. A reload makes a
//! new one, whole, before the old one is let go.

use std::{path::Path, sync::Arc};

use tracing::warn;

use crate::{
    auth::pkix::TrustRoots,
    config::model::{CertificateFiles, Config},
    net::{
        certificates::{CertificateError, CertificateStore, CertificateWarning},
        own::OwnAddresses,
        resolver::{Resolver, ServersError},
        roots::{self, RootsError},
        tls::TlsContext,
    },
    xmpp::Domain,
};

/// Everything that a configuration turns into.
#[derive(Debug)]
pub(crate) struct Services {
    pub(crate) config: Arc<Config>,
    pub(crate) tls: TlsContext,
    pub(crate) roots: TrustRoots,
    pub(crate) resolver: Resolver,
    /// The addresses that fedgate itself listens on, which are never dialled.
    pub(crate) own: OwnAddresses,
}

type LoadCertificates = fn(
    &[CertificateFiles],
    &[Domain],
    &Path,
)
    -> Result<(CertificateStore, Vec<CertificateWarning>), CertificateError>;

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
        Self::with(config, CertificateStore::load)
    }

    /// The same for a command beside the running fedgate: makes no files.
    pub(crate) fn beside(config: Arc<Config>) -> Result<Self, ServicesError> {
        Self::with(config, CertificateStore::load_existing)
    }

    fn with(config: Arc<Config>, load: LoadCertificates) -> Result<Self, ServicesError> {
        let domains: Vec<_> = config.local_domains.keys().cloned().collect();
        let (store, warnings) = load(&config.certificates, &domains, &config.state_dir)?;
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
        Ok(Self { config, tls, roots, resolver, own })
    }
}
