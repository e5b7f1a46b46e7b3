//! What is made from one configuration: TLS material, trust roots, the resolver. A reload makes a
//! new one, whole, before the old one is let go.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use tracing::{info, warn};

use super::questions::Questions;
use crate::{
    auth::pkix::TrustRoots,
    config::{
        model::{CertificateFiles, Config, Roots},
        policy::{Decision, Place},
    },
    net::{
        certificates::{CertificateError, CertificateStore, CertificateWarning, Unsaved},
        connector::Rules,
        fetch::Fetcher,
        own::OwnAddresses,
        posh::PoshClient,
        resolver::{Resolver, ServersError},
        roots::{self, RootsError, Unread},
        tls::TlsContext,
    },
    xmpp::{Direction, Domain},
};

/// Everything that a configuration turns into.
#[derive(Debug)]
pub(crate) struct Services {
    pub(crate) config: Arc<Config>,
    pub(crate) tls: TlsContext,
    /// A self-signed certificate that is not on the disk yet.
    unsaved: Option<Unsaved>,
    /// The trust roots for all.
    pub(crate) roots: TrustRoots,
    /// Those that rules name in their place, by where they come from.
    of_rules: BTreeMap<Arc<[Roots]>, TrustRoots>,
    pub(crate) resolver: Resolver,
    /// What domains publish over HTTPS; none: it is not asked for.
    pub(crate) posh: Option<PoshClient>,
    /// The fetches of it that strangers cause.
    pub(super) fetches: Arc<Questions>,
    /// Fetches by HTTPS.
    pub(crate) fetcher: Arc<Fetcher>,
    /// The addresses that fedgate itself listens on, which are never dialled.
    pub(crate) own: OwnAddresses,
    /// Another number wherever certificates prove something else than by those before. It stands here
    /// so that nobody sees it without them.
    trust: u64,
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
    /// Trust roots of a rule.
    #[error("trust roots of the rule at {0:#}")]
    RuleRoots(Place, #[source] RootsError),
    /// Name servers.
    #[error(transparent)]
    Servers(#[from] ServersError),
    /// TLS itself.
    #[error("set up TLS")]
    Tls(#[source] rustls::Error),
}

impl Services {
    /// Reads certificates and roots; says in the log what an operator should look at. `before` is
    /// what it is to take the place of.
    pub(super) fn new(config: Arc<Config>, before: Option<&Self>) -> Result<Self, ServicesError> {
        let unread = match before {
            Some(before) if before.trusts_anybody() => Unread::Error,
            Some(_) | None => Unread::Warning,
        };
        Self::with(config, CertificateStore::load, unread)
    }

    /// The same for a command beside the running fedgate: makes no files.
    pub(crate) fn beside(config: Arc<Config>) -> Result<Self, ServicesError> {
        Self::with(config, CertificateStore::load_existing, Unread::Warning)
    }

    fn with(
        config: Arc<Config>,
        load: LoadCertificates,
        unread: Unread,
    ) -> Result<Self, ServicesError> {
        let domains: Vec<_> = config.local_domains.keys().cloned().collect();
        let (mut store, warnings) = load(&config.certificates, &domains, &config.state_dir)?;
        for warning in warnings {
            warn!("{warning}");
        }
        let (roots, warnings) = roots::load(&config.tls.roots, unread)?;
        for warning in warnings {
            warn!("{warning}");
        }
        let mut of_rules = BTreeMap::new();
        for (sources, rule) in config.policy.roots() {
            let (roots, warnings) = roots::load(&sources, unread)
                .map_err(|error| ServicesError::RuleRoots(rule.clone(), error))?;
            for warning in warnings {
                warn!(%rule, "{warning}");
            }
            of_rules.insert(sources, roots);
        }
        let unsaved = store.take_unsaved();
        let tls = TlsContext::new(store, config.tls.min_version).map_err(ServicesError::Tls)?;
        let listen = &config.listen;
        let own = [&listen.public, &listen.direct_tls, &listen.local];
        let own = OwnAddresses::new(own.into_iter().flatten().copied());
        let dns = OwnAddresses::new(listen.dns.iter().copied());
        let resolver = Resolver::new(&config.resolver, &dns)?;
        let rules = Self::rules(&config, &own);
        let fetcher = Fetcher::new(resolver.clone(), &roots, config.tls.min_version, rules);
        let fetcher = Arc::new(fetcher.map_err(ServicesError::Tls)?);
        let posh = config.posh.fetch.then(|| PoshClient::new(Arc::clone(&fetcher), config.posh));
        let fetches = Questions::new();
        let trust = 0;
        Ok(Self {
            config,
            tls,
            unsaved,
            roots,
            of_rules,
            resolver,
            posh,
            fetches,
            fetcher,
            own,
            trust,
        })
    }

    /// Writes down what has to outlast fedgate, once nothing else can go wrong.
    ///
    /// # Errors
    /// [`ServicesError::Certificate`]; the certificate is as before then.
    pub(super) fn keep(&mut self) -> Result<(), ServicesError> {
        if let Some(unsaved) = self.unsaved.take() {
            unsaved.save()?;
            let key = if unsaved.has_new_key() { "new" } else { "as before" };
            info!(key, domains = self.config.local_domains.len(), "self-signed certificate made");
        }
        Ok(())
    }

    fn trusts_anybody(&self) -> bool {
        [&self.roots].into_iter().chain(self.of_rules.values()).any(|roots| !roots.is_empty())
    }

    /// These come after `old`.
    pub(super) fn in_place_of(self, old: &Self) -> Self {
        let trust = if old.trust_like(&self) { old.trust } else { old.trust + 1 };
        Self { trust, ..self }
    }

    /// The number of what certificates prove.
    pub(super) fn trust(&self) -> u64 {
        self.trust
    }

    /// Whether certificates prove the same under both.
    fn trust_like(&self, other: &Self) -> bool {
        let same = |(one, other): ((_, &TrustRoots), (_, &TrustRoots))| one.1.is(other.1);
        self.roots.is(&other.roots)
            && self.of_rules.keys().eq(other.of_rules.keys())
            && self.of_rules.iter().zip(&other.of_rules).all(same)
            && self.config.policy.trusts_like(&other.config.policy)
            && self.config.posh == other.config.posh
            && self.config.resolver.dnssec == other.config.resolver.dnssec
    }

    /// The trust roots by which a decision has certificates judged; none if it is of another
    /// configuration.
    pub(crate) fn roots_for(&self, decision: &Decision<'_>) -> Option<&TrustRoots> {
        match decision.roots() {
            None => Some(&self.roots),
            Some(sources) => self.of_rules.get(sources),
        }
    }

    /// What holds for every connection to an address that a stranger named.
    pub(super) fn rules(config: &Arc<Config>, own: &OwnAddresses) -> Rules {
        let tcp_timeout = config.limits.tcp_connect;
        let config = Arc::clone(config);
        Rules {
            filter: Box::new(move |ip| config.policy.address(ip, Direction::Outbound)),
            own: own.clone(),
            tcp_timeout,
        }
    }
}
