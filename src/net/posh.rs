//! The POSH client: what domains publish about their certificates at their own HTTPS servers, and
//! for how long it is known (RFC 7711 §3 and §6; protocol rules PO-1 to PO-3, PO-10, PO-12).
//!
//! Promises: one fetch of a domain at a time, whoever asks; what is known is used until it expires
//! and never after; "there is nothing" comes only from a server that is proven to be the domain's;
//! a failure says nothing of the domain, and is not tried again at once.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustls::pki_types::UnixTime;
use tokio::{sync::Mutex as Turn, time::Instant};
use url::Url;

use super::{
    cache::Cache,
    fetch::{FetchError, Fetcher, HTTPS, Limits, UrlProblem, Visit},
};
use crate::{
    auth::posh::{Document, MAX_SIZE, Material, PoshError},
    config::model,
    xmpp::Domain,
};

/// Fetches and remembers what domains publish.
pub struct PoshClient {
    fetcher: Arc<Fetcher>,
    config: model::Posh,
    known: Cache<Domain, Known>,
    turns: Mutex<HashMap<Domain, Arc<Turn<()>>>>,
}

/// Why it is not known what a domain publishes.
#[derive(Debug, thiserror::Error)]
pub enum PoshUnknown {
    /// It came, and is not as it should be.
    #[error(transparent)]
    Document(#[from] PoshError),
    /// It did not come.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

/// What is known of a domain.
#[derive(Clone)]
enum Known {
    /// It publishes nothing.
    Nothing,
    Material(Material),
    Failed {
        error: Arc<PoshUnknown>,
        /// When it may be tried again.
        again: Instant,
        /// How often it failed, one time after another.
        times: u32,
    },
}

/// Where a document may be, and how it is read.
struct Place {
    path: String,
    parse: fn(&[u8]) -> Result<Document, PoshError>,
    /// What every redirect has to keep.
    label: Option<&'static str>,
}

impl PoshClient {
    /// A client that knows nothing yet.
    #[must_use]
    pub fn new(fetcher: Arc<Fetcher>, config: model::Posh) -> Self {
        Self { fetcher, config, known: Cache::new(DOMAINS), turns: Mutex::default() }
    }

    /// What the domain publishes; none if it publishes nothing. May be dropped at any time: whoever
    /// else waits for the same domain then fetches.
    ///
    /// # Errors
    /// [`PoshUnknown`]: nobody knows for now, which says nothing of the domain.
    pub async fn material(&self, domain: &Domain) -> Result<Option<Material>, Arc<PoshUnknown>> {
        self.material_within(domain, TIME).await
    }

    /// The same for who can wait for `most` of a fetch at most.
    ///
    /// # Errors
    /// [`PoshUnknown`].
    pub async fn material_within(
        &self,
        domain: &Domain,
        most: Duration,
    ) -> Result<Option<Material>, Arc<PoshUnknown>> {
        if let Some(known) = self.known_by_now(domain) {
            return known;
        }
        let flight = self.flight(domain);
        let _turn = flight.turn.lock().await;
        if let Some(known) = self.known_by_now(domain) {
            return known;
        }
        let result = self.fetch(domain, most.min(TIME)).await;
        self.learn(domain, result)
    }

    /// What needs no fetch, if anything does not.
    fn known_by_now(&self, domain: &Domain) -> Option<Result<Option<Material>, Arc<PoshUnknown>>> {
        let now = Instant::now();
        match self.known.get(domain, now.into_std())? {
            Known::Nothing => Some(Ok(None)),
            // to the second: who asks because it has just expired wants another
            Known::Material(material) if material.expires() <= UnixTime::now() => None,
            Known::Material(material) => Some(Ok(Some(material))),
            Known::Failed { error, again, .. } => (now < again).then_some(Err(error)),
        }
    }

    fn learn(
        &self,
        domain: &Domain,
        result: Result<Option<Material>, PoshUnknown>,
    ) -> Result<Option<Material>, Arc<PoshUnknown>> {
        let result = result.map_err(Arc::new);
        let now = Instant::now();
        let (known, until) = match &result {
            Ok(None) => (Known::Nothing, now + NEGATIVE),
            Ok(Some(material)) => {
                let left = material.expires().as_secs().saturating_sub(UnixTime::now().as_secs());
                (Known::Material(material.clone()), now + Duration::from_secs(left))
            }
            Err(error) => {
                // that is our trouble
                if matches!(**error, PoshUnknown::Fetch(FetchError::Busy)) {
                    return result;
                }
                let before = match self.known.get(domain, now.into_std()) {
                    Some(Known::Failed { times, .. }) => times,
                    Some(Known::Nothing | Known::Material(_)) | None => 0,
                };
                let pause = FAILED.saturating_mul(2u32.saturating_pow(before)).min(FAILED_MOST);
                let (error, again) = (Arc::clone(error), now + pause);
                let times = before.saturating_add(1);
                (Known::Failed { error, again, times }, again + FAILED_MOST)
            }
        };
        self.known.put(domain.clone(), known, until.into_std(), now.into_std());
        result
    }

    async fn fetch(
        &self,
        domain: &Domain,
        time: Duration,
    ) -> Result<Option<Material>, PoshUnknown> {
        let limits = Limits { size: MAX_SIZE, time, ports: Some([HTTPS, self.config.port]) };
        let mut visit = self.fetcher.visit(limits).await?;
        let fetched = UnixTime::now();
        let Some(document) = self.find(&mut visit, domain).await? else { return Ok(None) };
        let reference = match document {
            Document::Fingerprints(list) => return Ok(Some(list.material(None, fetched))),
            Document::Reference(reference) => reference,
        };
        let body = visit.get(&reference.url, None).await?;
        match Document::parse(&body)? {
            Document::Fingerprints(list) => Ok(Some(list.material(Some(&reference), fetched))),
            Document::Reference(_) => Err(PoshError::Nested.into()),
        }
    }

    /// The domain's own document; none if it has none.
    async fn find(
        &self,
        visit: &mut Visit<'_>,
        domain: &Domain,
    ) -> Result<Option<Document>, PoshUnknown> {
        for place in places(domain, self.config.older_forms) {
            let url = self.url(domain, &place.path)?;
            match visit.get(&url, place.label).await {
                Ok(body) => return Ok(Some((place.parse)(&body)?)),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    fn url(&self, domain: &Domain, path: &str) -> Result<Url, FetchError> {
        let text = format!("https://{domain}:{}{path}", self.config.port);
        Url::parse(&text)
            .map_err(|_| FetchError::Url { url: text.into(), problem: UrlProblem::Host })
    }

    /// The fetch of a domain that is under way, or a new one.
    fn flight(&self, domain: &Domain) -> Flight<'_> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = Arc::clone(turns.entry(domain.clone()).or_default());
        Flight { client: self, domain: domain.clone(), turn }
    }
}

/// Somebody's share in a fetch; the last takes it off the list.
struct Flight<'c> {
    client: &'c PoshClient,
    domain: Domain,
    turn: Arc<Turn<()>>,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut turns = self.client.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // the list's own and ours
        if Arc::strong_count(&self.turn) <= 2 {
            turns.remove(&self.domain);
        }
    }
}

impl fmt::Debug for PoshClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoshClient").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Today's place first; those of the drafts only where that is known to be empty (PO-12).
fn places(domain: &Domain, older_forms: bool) -> Vec<Place> {
    let mut places = vec![Place { path: PATH.into(), parse: Document::parse, label: None }];
    if older_forms {
        // draft-miller-xmpp-posh-prooftype-02, draft-ietf-xmpp-posh-05
        places.push(Place {
            path: "/.well-known/posh._xmpp-server._tcp.json".into(),
            parse: Document::parse_older,
            label: Some(LABEL),
        });
        // draft-miller-xmpp-dna-00 §5.3
        places.push(Place {
            path: format!("/.well-known/tls/_xmpp-server._tcp.{domain}.cer"),
            parse: Document::parse_certificate,
            label: Some(LABEL),
        });
    }
    places
}

/// Where a domain's document is on its HTTPS server (PO-1).
pub const PATH: &str = "/.well-known/posh/xmpp-server.json";
/// What the drafts want in the path of every redirect.
const LABEL: &str = "_xmpp-server";
/// Domains remembered.
const DOMAINS: usize = 4096;
/// All that a fetch may take (PO-10).
pub const TIME: Duration = Duration::from_secs(5);
/// How long "there is nothing" holds (PO-3).
const NEGATIVE: Duration = Duration::from_secs(3600);
/// How long a failure is not tried again; each further one doubles it,
const FAILED: Duration = Duration::from_secs(60);
/// up to this.
const FAILED_MOST: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests;
