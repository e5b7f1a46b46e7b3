//! HTTPS as far as fedgate needs it: `GET` of a small body, from hosts that strangers may name
//! (RFC 7711 §3 and §10, RFC 9110 §4.3.4; protocol rules PO-1, PO-2, PO-10).
//!
//! Promises: a host is proven by a certificate of a trusted CA for its own name and by nothing
//! else; no address is connected to that the rules for connections to peers forbid, on no hop, and
//! the address that was checked is the one that is used; `https` only, without credentials, cookies
//! and proxies; redirects, bytes, time, and fetches at once are bounded. All futures here may be
//! dropped at any point, which closes the connection.

mod error;
#[cfg(test)]
mod tests;

use std::{fmt, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::{Body, Incoming},
    client::conn::http1,
    header::{
        ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, HOST, HeaderName, LOCATION, USER_AGENT,
    },
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, client::Resumption, pki_types::ServerName};
use tokio::{
    net::TcpStream,
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use url::{Host, Position, Url};

use super::{
    connector::{Rules, connect_host},
    resolver::Resolver,
    tls,
};
use crate::{auth::pkix::TrustRoots, config::model::TlsVersion};

pub use error::{FetchError, UrlProblem};

/// Fetches over HTTPS; shared by all who do.
pub struct Fetcher {
    resolver: Resolver,
    rules: Rules,
    tls: TlsConnector,
    slots: Semaphore,
}

/// What one fetch may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a body.
    pub size: usize,
    /// All of it: waiting for its turn, DNS, connections, redirects.
    pub time: Duration,
    /// The ports that may be connected to, on every hop; none: any.
    pub ports: Option<[u16; 2]>,
}

/// Fetches that belong together and share their bounds.
#[derive(Debug)]
pub struct Visit<'f> {
    fetcher: &'f Fetcher,
    limits: Limits,
    deadline: Instant,
    /// Requests that may still be made.
    requests: usize,
    _slot: SemaphorePermit<'f>,
}

/// What one request brought.
enum Answer {
    Body(Bytes),
    Moved(Url),
}

impl Fetcher {
    /// Trusts `roots`, and connects where `rules` allow.
    ///
    /// # Errors
    /// Those of rustls, for a provider without suites of these versions; ours has them.
    pub fn new(
        resolver: Resolver,
        roots: &TrustRoots,
        min_version: TlsVersion,
        rules: Rules,
    ) -> Result<Self, rustls::Error> {
        let roots = RootCertStore { roots: roots.anchors().to_vec() };
        let mut config = ClientConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&tls::versions(min_version))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let tls = TlsConnector::from(Arc::new(config));
        Ok(Self { resolver, rules, tls, slots: Semaphore::new(AT_ONCE) })
    }

    /// Fetches one URL.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn get(&self, url: &Url, limits: Limits) -> Result<Bytes, FetchError> {
        self.visit(limits).await?.get(url, None).await
    }

    /// Begins fetches that belong together; waits while too many are under way.
    ///
    /// # Errors
    /// [`FetchError::Busy`] when that took all of the time.
    pub async fn visit(&self, limits: Limits) -> Result<Visit<'_>, FetchError> {
        let deadline = Instant::now() + limits.time;
        match timeout_at(deadline, self.slots.acquire()).await {
            Ok(Ok(slot)) => {
                Ok(Visit { fetcher: self, limits, deadline, requests: MAX_HOPS + 1, _slot: slot })
            }
            Ok(Err(_)) | Err(_) => Err(FetchError::Busy),
        }
    }

    async fn request(&self, url: &Url, limits: &Limits) -> Result<Answer, FetchError> {
        let (host, port, name) =
            destination(url, limits.ports).map_err(|problem| FetchError::url(url, problem))?;
        let connecting = connect_host(&self.resolver, host, port, &self.rules).await;
        let socket = connecting.map_err(|source| FetchError::Connect {
            host: host.into(),
            source: Box::new(source),
        })?;
        let stream =
            self.tls.connect(name, socket).await.map_err(|source| FetchError::tls(host, source))?;
        exchange(stream, url, host, limits.size).await
    }
}

impl Visit<'_> {
    /// Fetches a body that came with a status of success, over a few redirects, each of which has
    /// to keep the text `label` in its path if there is one.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn get(&mut self, url: &Url, label: Option<&str>) -> Result<Bytes, FetchError> {
        let deadline = self.deadline;
        match timeout_at(deadline, self.follow(url, label)).await {
            Ok(result) => result,
            Err(_) => Err(FetchError::Timeout(self.limits.time)),
        }
    }

    async fn follow(&mut self, url: &Url, label: Option<&str>) -> Result<Bytes, FetchError> {
        let mut url = url.clone();
        let mut seen = Vec::new();
        loop {
            let Some(requests) = self.requests.checked_sub(1) else {
                return Err(FetchError::TooManyHops);
            };
            self.requests = requests;
            let next = match self.fetcher.request(&url, &self.limits).await? {
                Answer::Body(body) => return Ok(body),
                Answer::Moved(next) => next,
            };
            if label.is_some_and(|label| !next.path().contains(label)) {
                return Err(FetchError::url(&next, UrlProblem::Label));
            }
            seen.push(url);
            if seen.contains(&next) {
                return Err(FetchError::Loop(error::shown(&next)));
            }
            if seen.len() > MAX_REDIRECTS {
                return Err(FetchError::TooManyRedirects);
            }
            url = next;
        }
    }
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher").field("slots", &self.slots).finish_non_exhaustive()
    }
}

/// Where a URL leads, if it is one that may be fetched, from one of these ports or else from any.
///
/// # Errors
/// Why it may not.
pub(crate) fn destination(
    url: &Url,
    ports: Option<[u16; 2]>,
) -> Result<(&str, u16, ServerName<'static>), UrlProblem> {
    if url.as_str().len() > MAX_URL {
        return Err(UrlProblem::TooLong);
    }
    if url.scheme() != "https" {
        return Err(UrlProblem::NotHttps);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlProblem::Credentials);
    }
    let Some(Host::Domain(host)) = url.host() else { return Err(UrlProblem::Address) };
    let name = ServerName::try_from(host.to_owned()).map_err(|_| UrlProblem::Host)?;
    let port = url.port_or_known_default().unwrap_or(HTTPS);
    if ports.is_some_and(|ports| !ports.contains(&port)) {
        return Err(UrlProblem::Port);
    }
    Ok((host, port, name))
}

/// One request and its answer (RFC 9112), on a connection for it alone.
async fn exchange(
    stream: TlsStream<TcpStream>,
    url: &Url,
    host: &str,
    size: usize,
) -> Result<Answer, FetchError> {
    let http = |source| FetchError::Http { host: host.into(), source };
    let request = Request::get(&url[Position::BeforePath..Position::AfterQuery])
        .header(HOST, &url[Position::BeforeHost..Position::AfterPort])
        .header(USER_AGENT, "fedgate")
        .header(ACCEPT_ENCODING, IDENTITY)
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| FetchError::url(url, UrlProblem::Host))?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(http)?;
    let mut connection = pin!(connection);
    let mut answer = pin!(async move {
        let response = sender.send_request(request).await.map_err(http)?;
        read(response, url, host, size).await
    });
    tokio::select! {
        biased;
        answer = &mut answer => return answer,
        // what went wrong with it, the answer says too
        _ = &mut connection => {}
    }
    answer.await
}

async fn read(
    response: Response<Incoming>,
    url: &Url,
    host: &str,
    size: usize,
) -> Result<Answer, FetchError> {
    let header = |name: HeaderName| {
        let value = response.headers().get(name);
        value.map(|value| value.to_str().unwrap_or_default())
    };
    let status = response.status();
    if is_redirect(status) {
        let next = header(LOCATION).and_then(|location| url.join(location).ok());
        return next.map(Answer::Moved).ok_or_else(|| FetchError::Location(error::shown(url)));
    }
    if !status.is_success() {
        return Err(FetchError::Status { url: error::shown(url), status: status.as_u16() });
    }
    if header(CONTENT_ENCODING).is_some_and(|coding| !coding.eq_ignore_ascii_case(IDENTITY)) {
        return Err(FetchError::Encoding(error::shown(url)));
    }
    let too_large = || FetchError::TooLarge { url: error::shown(url), most: size };
    // what is announced as too large is not read at all
    if response.body().size_hint().lower() > u64::try_from(size).unwrap_or(u64::MAX) {
        return Err(too_large());
    }
    match Limited::new(response.into_body(), size).collect().await {
        Ok(body) => Ok(Answer::Body(body.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(error) => match error.downcast::<hyper::Error>() {
            Ok(source) => Err(FetchError::Http { host: host.into(), source: *source }),
            Err(_) => Err(too_large()),
        },
    }
}

/// RFC 9110 §15.4, those that name another place for the same thing.
fn is_redirect(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    )
}

/// The port of `https`.
pub(super) const HTTPS: u16 = 443;
const IDENTITY: &str = "identity";
/// Fetches at once (PO-10).
const AT_ONCE: usize = 16;
/// Redirects of one fetch (PO-10),
const MAX_REDIRECTS: usize = 3;
/// and requests after the first of all that belong together.
const MAX_HOPS: usize = 5;
/// Bytes of an answer's head.
const MAX_HEAD: usize = 16 << 10;
/// Header fields of an answer.
const MAX_HEADERS: usize = 64;
/// Bytes of a URL.
const MAX_URL: usize = 2048;
