//! `fedgate records`: what the local domains have to publish, so that peers find this server and
//! can prove it by every prooftype (RFC 6120 §3.2, XEP-0368, RFC 7673, RFC 7711; DA-13, PO-11), and
//! what of it the world sees already.

mod lines;
mod posh;
pub mod report;
mod srv;
mod tlsa;

use std::{collections::BTreeMap, io, panic::resume_unwind, path::PathBuf, sync::Arc};

use tokio::task::JoinSet;

pub use self::report::Report;
use self::{
    report::{DomainReport, Item, Kind, Shown, State, VERSION},
    srv::Endpoint,
};
use super::Status;
use crate::{
    auth::{
        dane::Security,
        pkix::{CertificateInfo, PkixError},
    },
    config::model::{Config, Dnssec},
    net::{
        certificates::{CertificateError, PublishedKey},
        resolver::ResolveError,
        targets::TargetTls,
    },
    proxy::{ServicesError, services::Services},
    stream::Failure,
    xmpp::Domain,
};

/// What to look at, and what for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The local domains; none: all.
    pub domains: Vec<Domain>,
    /// The host that SRV records should name; none: those that they name now.
    pub target: Option<Domain>,
    /// Files of certificates or keys that are to come, PEM.
    pub next: Vec<PathBuf>,
    /// Where to write the documents of POSH.
    pub posh_dir: Option<PathBuf>,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// A certificate or key.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A domain that is none of ours.
    #[error("{0} is not served here")]
    NotLocal(Domain),
    /// A certificate in use that cannot be read.
    #[error("the certificate for {domain}: {source}")]
    Own {
        /// For which domain it is shown.
        domain: Domain,
        /// What is wrong with it.
        source: PkixError,
    },
    /// Certificates, trust roots, name servers.
    #[error(transparent)]
    Services(#[from] ServicesError),
    /// A document of POSH could not be written.
    #[error("write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Finds out what is to be published and what is there. Reads the files that the configuration
/// names, and writes none but the documents of POSH, if that is asked for.
///
/// # Errors
/// [`RecordsError`].
pub async fn records(config: Config, options: &Options) -> Result<Report, RecordsError> {
    let domains = match options.domains.is_empty() {
        true => config.local_domains.keys().cloned().collect(),
        false => options.domains.clone(),
    };
    if let Some(foreign) = domains.iter().find(|d| !config.local_domains.contains_key(d)) {
        return Err(RecordsError::NotLocal(foreign.clone()));
    }
    let next: Result<_, _> = options.next.iter().map(|path| PublishedKey::load(path)).collect();
    let services = Arc::new(Services::beside(Arc::new(config))?);
    let survey = Arc::new(Survey { services, options: options.clone(), next: next? });
    let mut reports = BTreeMap::new();
    let mut under_way = JoinSet::new();
    for domain in domains {
        if under_way.len() == AT_ONCE {
            one_done(&mut under_way, &mut reports).await?;
        }
        let survey = Arc::clone(&survey);
        under_way.spawn(async move {
            let report = survey.domain(&domain).await;
            (domain, report)
        });
    }
    while !under_way.is_empty() {
        one_done(&mut under_way, &mut reports).await?;
    }
    let domains: Vec<_> = reports.into_values().collect();
    let status = domains.iter().map(|domain| domain.status).max().unwrap_or(Status::Ok);
    Ok(Report { version: VERSION, status, domains })
}

/// The same for one domain, with services that are there already and nothing else wanted.
pub(super) async fn of_domain(
    services: &Arc<Services>,
    domain: &Domain,
) -> Result<DomainReport, RecordsError> {
    let services = Arc::clone(services);
    let survey = Survey { services, options: Options::default(), next: Vec::new() };
    survey.domain(domain).await
}

/// Waits for one of them.
async fn one_done(
    under_way: &mut JoinSet<(Domain, Result<DomainReport, RecordsError>)>,
    reports: &mut BTreeMap<Domain, DomainReport>,
) -> Result<(), RecordsError> {
    match under_way.join_next().await {
        Some(Ok((domain, report))) => {
            reports.insert(domain, report?);
        }
        Some(Err(error)) if error.is_panic() => resume_unwind(error.into_panic()),
        Some(Err(_)) | None => {}
    }
    Ok(())
}

struct Survey {
    services: Arc<Services>,
    options: Options,
    next: Vec<PublishedKey>,
}

impl Survey {
    async fn domain(&self, domain: &Domain) -> Result<DomainReport, RecordsError> {
        // what a peer sees that connects
        let shown = self.services.tls.store().for_domain(domain);
        let own = |source| RecordsError::Own { domain: domain.clone(), source };
        let leaf = shown.cert.first().ok_or_else(|| own(PkixError::NoCertificate))?;
        let info = CertificateInfo::of(leaf).map_err(own)?;
        let mut report = DomainReport {
            domain: domain.to_string(),
            status: Status::Ok,
            certificate: Shown {
                names: info.names,
                issuer: info.issuer,
                not_after: info.not_after.as_secs(),
                sha256: info.fingerprint.to_string(),
            },
            items: Vec::new(),
            notes: Vec::new(),
        };
        if !self.services.tls.store().names(domain) {
            report
                .notes
                .push(format!("no certificate names {domain}: peers cannot prove it by PKIX"));
        }
        let endpoints = self.srv(domain, &mut report).await;
        self.tlsa(domain, &shown.cert, &endpoints, &mut report).await?;
        self.posh(domain, &shown.cert, &mut report).await?;
        if self.options.domains.len() == 1 {
            self.subdomains(domain, &mut report).await;
        }
        report.status =
            report.items.iter().map(|item| item.state.status()).max().unwrap_or(Status::Ok);
        Ok(report)
    }

    /// Chat rooms and other components are forgotten most.
    async fn subdomains(&self, domain: &Domain, report: &mut DomainReport) {
        let locals = self.services.config.local_domains.keys();
        for below in locals.filter(|local| local.is_below(domain)) {
            let mut any = false;
            for tls in [TargetTls::StartTls, TargetTls::Direct] {
                let found = self.services.resolver.srv_records(below, tls).await;
                any |= found.is_ok_and(|found| !found.records.is_empty());
            }
            if !any {
                report.notes.push(format!(
                    "{below} is local too and has no SRV records: see `fedgate records {below}`"
                ));
            }
        }
    }

    /// Whether the answer counts for DANE, or that this is not known here.
    fn is_signed(&self, security: Security) -> Signed {
        match (&self.services.config.resolver.dnssec, security) {
            (Dnssec::Off, _) => Signed::Unchecked,
            (_, Security::Secure) => Signed::Yes,
            (_, Security::Insecure) => Signed::No,
        }
    }
}

/// Whether a zone is signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Signed {
    Yes,
    No,
    /// `resolver.dnssec` is off.
    Unchecked,
}

/// Something to be published of which nothing is known yet.
fn item(kind: Kind, name: impl Into<String>, value: Option<String>) -> Item {
    let name = name.into();
    Item { kind, name, value, key: None, state: State::Unknown, found: Vec::new(), why: None }
}

impl Item {
    /// How it is, and why.
    fn is(self, state: State, why: impl Into<String>) -> Self {
        let why = why.into();
        Self { state, why: (!why.is_empty()).then_some(why), ..self }
    }

    /// There was no answer, or none that counts.
    fn unresolved(self, error: ResolveError) -> Self {
        let state = match error {
            ResolveError::Bogus { .. } => State::Wrong,
            ResolveError::NotFound { .. } | ResolveError::Temporary { .. } => State::Unknown,
        };
        self.is(state, Failure::from(error).detail())
    }
}

/// Domains that are looked at at once.
const AT_ONCE: usize = 16;

#[cfg(test)]
mod tests;
