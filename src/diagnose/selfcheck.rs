//! `fedgate selfcheck`: whether all is well on this side: what DNS says of the local domains, the
//! certificates, the way that peers come, the legacy servers behind, and the machine itself.
//!
//! What the Internet sees can be seen from here only in part: a router may treat connections from
//! inside to its own outer address in another way (hairpin NAT), so that what is not reached from
//! here is a warning and no proof.

mod domain;
mod host;
mod legacy;
pub mod report;

use std::{collections::BTreeMap, panic::resume_unwind, sync::Arc};

use tokio::task::JoinSet;

pub use self::report::Report;
use self::report::{Item, Topic, VERSION};
use super::{Status, check::CheckError};
use crate::{
    config::model::Config,
    ops::report::Check,
    proxy::{ServicesError, services::Services},
    xmpp::{Domain, DomainError},
};

/// What to look at.
#[derive(Clone, Debug)]
pub struct Options {
    /// The local domain, with those below it; none: all.
    pub domain: Option<Domain>,
    /// What the running fedgate says of itself, or why it says nothing; none: there is no admin
    /// socket to ask it by.
    pub running: Option<Result<Vec<Check>, String>>,
}

/// Why nothing could be looked at.
#[derive(Debug, thiserror::Error)]
pub enum SelfcheckError {
    /// A domain that is none of ours.
    #[error("{0} is not served here")]
    NotLocal(Domain),
    /// There is nothing to look at.
    #[error("no local domain is configured")]
    NoLocal,
    /// A piece of the check of domains.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// The name that peers are played by.
    #[error(transparent)]
    Domain(#[from] DomainError),
}

/// Looks at everything. Reads the files that the configuration names, and writes none but a trial
/// file in the state directory, which it removes.
///
/// # Errors
/// [`SelfcheckError`].
pub async fn selfcheck(config: Config, options: &Options) -> Result<Report, SelfcheckError> {
    let domains: Vec<Domain> = match &options.domain {
        Some(domain) if !config.local_domains.contains_key(domain) => {
            return Err(SelfcheckError::NotLocal(domain.clone()));
        }
        Some(domain) => {
            let locals = config.local_domains.keys();
            locals.filter(|local| *local == domain || local.is_below(domain)).cloned().collect()
        }
        None => config.local_domains.keys().cloned().collect(),
    };
    if domains.is_empty() {
        return Err(SelfcheckError::NoLocal);
    }
    let prober = Domain::parse(PROBER)?;
    let config = Arc::new(config);
    let mut items = Vec::new();
    match Services::beside(Arc::clone(&config)) {
        Ok(services) => {
            let services = Arc::new(services);
            items.extend(by_domain(&services, domains.clone(), &prober).await?);
        }
        Err(error) => {
            let topic = match &error {
                ServicesError::Certificate(_) => Topic::Certificate,
                ServicesError::Roots(_)
                | ServicesError::RuleRoots(..)
                | ServicesError::Servers(_)
                | ServicesError::Tls(_) => Topic::Config,
            };
            items.push(Item::new(topic, None, Status::Critical, Chain(&error).to_string()));
        }
    }
    for domain in &domains {
        if let Some(server) = config.local_domains.get(domain) {
            items.push(legacy::probe(&config, server, domain, &prober).await?);
        }
    }
    items.extend(host::steering(&config, &prober).await);
    items.push(host::clock());
    items.extend(host::state_dir(&config));
    items.extend(host::running(options.running.as_ref()));
    let status = items.iter().map(|item| item.status).max().unwrap_or(Status::Ok);
    Ok(Report { version: VERSION, status, items })
}

/// What is found of each domain, in order; several are looked at at once.
async fn by_domain(
    services: &Arc<Services>,
    domains: Vec<Domain>,
    prober: &Domain,
) -> Result<Vec<Item>, SelfcheckError> {
    let mut found: BTreeMap<usize, Vec<Item>> = BTreeMap::new();
    let mut under_way = JoinSet::new();
    let mut waiting = domains.into_iter().enumerate();
    loop {
        while under_way.len() < AT_ONCE
            && let Some((n, domain)) = waiting.next()
        {
            let (services, prober) = (Arc::clone(services), prober.clone());
            under_way.spawn(async move { (n, domain::look_at(&services, &domain, &prober).await) });
        }
        match under_way.join_next().await {
            Some(Ok((n, items))) => {
                found.insert(n, items?);
            }
            Some(Err(error)) if error.is_panic() => resume_unwind(error.into_panic()),
            Some(Err(_)) => {}
            None => return Ok(found.into_values().flatten().collect()),
        }
    }
}

/// An error with all its causes, in one line.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// The peer that is played: a name that belongs to nobody (RFC 2606 §2).
const PROBER: &str = "selfcheck.example";
/// Domains that are looked at at once.
const AT_ONCE: usize = 8;
