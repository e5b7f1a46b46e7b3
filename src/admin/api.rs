//! What can be asked for, and the answers.

use std::sync::Arc;

use bytes::Bytes;
use hyper::{
    Method, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE},
};
use serde::{Deserialize, Serialize};

use super::{
    control::{Command, Control},
    guard::{Denied, Wants},
    page, ping,
    watch::{self, Until, Watchers},
};
use crate::{ops::report::Done, proxy::Monitor, xmpp::Domain};

/// The body of an answer: a text, or what is told as it happens.
pub(super) type Body = http_body_util::Either<
    http_body_util::Full<Bytes>,
    http_body_util::channel::Channel<Bytes, std::convert::Infallible>,
>;

/// What a request asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Call {
    Page,
    Live,
    Ready,
    Metrics,
    Status,
    Streams { domain: Option<String> },
    Stream(u64),
    Routes,
    Domains,
    Failures,
    Certificates,
    Listeners,
    Memory { domain: Option<String> },
    Config,
    Watch { events_only: bool },
    Ping,
    Do(Deed),
}

/// What can be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Deed {
    Reload,
    Drain,
    Retry,
    Forget,
    ForgetMemory,
    Close,
    LogLevel,
}

/// What a deed is done to.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct To {
    /// A domain; without one, all.
    domain: Option<String>,
    /// The number of a stream.
    stream: Option<u64>,
    /// A filter of the log.
    level: Option<String>,
}

/// Why a request asks for nothing that there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NoCall {
    /// Nothing of that name.
    NotFound,
    /// It is there, for this method.
    Method(&'static str),
}

impl Call {
    /// What stands at a path.
    pub(super) fn of(method: &Method, path: &str, query: &str) -> Result<Self, NoCall> {
        let (call, with) = match path {
            "/" => (Self::Page, GET),
            "/livez" | "/healthz" => (Self::Live, GET),
            "/readyz" => (Self::Ready, GET),
            "/metrics" => (Self::Metrics, GET),
            "/api/status" => (Self::Status, GET),
            "/api/streams" => (Self::Streams { domain: domain_of(query) }, GET),
            "/api/routes" => (Self::Routes, GET),
            "/api/domains" => (Self::Domains, GET),
            "/api/failures" => (Self::Failures, GET),
            "/api/certificates" => (Self::Certificates, GET),
            "/api/listeners" => (Self::Listeners, GET),
            "/api/memory" => (Self::Memory { domain: domain_of(query) }, GET),
            "/api/config" => (Self::Config, GET),
            "/api/watch" => {
                (Self::Watch { events_only: query.split('&').any(|key| key == "events") }, GET)
            }
            "/api/ping" => (Self::Ping, POST),
            "/api/reload" => (Self::Do(Deed::Reload), POST),
            "/api/drain" => (Self::Do(Deed::Drain), POST),
            "/api/retry" => (Self::Do(Deed::Retry), POST),
            "/api/forget" => (Self::Do(Deed::Forget), POST),
            "/api/memory/forget" => (Self::Do(Deed::ForgetMemory), POST),
            "/api/close" => (Self::Do(Deed::Close), POST),
            "/api/log-level" => (Self::Do(Deed::LogLevel), POST),
            _ => {
                let id = path.strip_prefix("/api/streams/").and_then(|id| id.parse().ok());
                (Self::Stream(id.ok_or(NoCall::NotFound)?), GET)
            }
        };
        if method.as_str() == with || (with == GET && method == Method::HEAD) {
            Ok(call)
        } else {
            Err(NoCall::Method(with))
        }
    }

    /// What it wants.
    pub(super) fn wants(&self) -> Wants {
        match self {
            Self::Page | Self::Live | Self::Ready => Wants::Nothing,
            Self::Ping | Self::Do(_) => Wants::Write,
            Self::Metrics
            | Self::Status
            | Self::Streams { .. }
            | Self::Stream(_)
            | Self::Routes
            | Self::Domains
            | Self::Failures
            | Self::Certificates
            | Self::Listeners
            | Self::Memory { .. }
            | Self::Config
            | Self::Watch { .. } => Wants::Read,
        }
    }
}

/// What answers are made from.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) monitor: Monitor,
    pub(super) control: Control,
    pub(super) watchers: Arc<Watchers>,
}

impl Api {
    /// Answers a call. `may_read` says whether who asks may know more than yes and no.
    /// `until` is for what goes on.
    pub(super) async fn answer(
        &self,
        call: Call,
        may_read: bool,
        body: &[u8],
        until: Until,
    ) -> Response<Body> {
        let monitor = &self.monitor;
        match call {
            Call::Page => page::answer(),
            Call::Live => text(StatusCode::OK, PLAIN, "ok\n".into()),
            Call::Ready => {
                let checks = monitor.ready().await;
                let is_ready = checks.iter().all(|check| check.ok);
                let status =
                    if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                match (may_read, is_ready) {
                    (true, _) => json(status, &checks),
                    (false, true) => text(status, PLAIN, "ready\n".into()),
                    (false, false) => text(status, PLAIN, "not ready\n".into()),
                }
            }
            Call::Metrics => text(StatusCode::OK, OPENMETRICS, monitor.metrics().await),
            Call::Status => json(StatusCode::OK, &monitor.status().await),
            Call::Streams { domain } => match named(domain.as_deref()) {
                Ok(None) => json(StatusCode::OK, &monitor.streams()),
                Ok(Some(domain)) => json(StatusCode::OK, &monitor.streams_with(&domain)),
                Err(why) => refusal(StatusCode::BAD_REQUEST, &why),
            },
            Call::Stream(id) => match monitor.stream(id) {
                Some(stream) => json(StatusCode::OK, &stream),
                None => refusal(StatusCode::NOT_FOUND, "no open stream has that number"),
            },
            Call::Routes => json(StatusCode::OK, &monitor.routes()),
            Call::Domains => json(StatusCode::OK, &monitor.domains()),
            Call::Failures => json(StatusCode::OK, &monitor.failures()),
            Call::Certificates => json(StatusCode::OK, &monitor.certificates()),
            Call::Listeners => json(StatusCode::OK, &monitor.listeners()),
            Call::Memory { domain } => match named(domain.as_deref()) {
                Ok(domain) => json(StatusCode::OK, &monitor.remembered(domain.as_ref())),
                Err(why) => refusal(StatusCode::BAD_REQUEST, &why),
            },
            Call::Config => match monitor.config() {
                Ok(config) => text(StatusCode::OK, YAML, config),
                Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
            },
            Call::Watch { events_only } => match watch::answer(self, events_only, until).await {
                Some(answer) => answer,
                None => refusal(StatusCode::SERVICE_UNAVAILABLE, "too many watch already"),
            },
            Call::Ping => ping::answer(monitor, body).await,
            Call::Do(deed) => match self.carry_out(deed, body).await {
                Ok(done) => {
                    let status = if done.ok { StatusCode::OK } else { StatusCode::CONFLICT };
                    json(status, &done)
                }
                Err(why) => refusal(StatusCode::BAD_REQUEST, &why),
            },
        }
    }

    async fn carry_out(&self, deed: Deed, body: &[u8]) -> Result<Done, String> {
        let to: To = if body.trim_ascii().is_empty() {
            To::default()
        } else {
            serde_json::from_slice(body).map_err(|error| format!("the body: {error}"))?
        };
        let domain = to.domain.as_deref().map(|name| {
            Domain::parse(name).map_err(|error| format!("the domain {name:?}: {error}"))
        });
        let domain = domain.transpose()?;
        let done = |ok, detail: String| Done { ok, detail, problems: Vec::new() };
        Ok(match (deed, to.stream, to.level) {
            (Deed::Reload, None, None) => self.control.order(Command::Reload).await,
            (Deed::Drain, None, None) => self.control.order(Command::Drain).await,
            (Deed::LogLevel, None, Some(level)) => {
                self.control.order(Command::LogLevel(level)).await
            }
            (Deed::Retry, None, None) => {
                let n = self.monitor.retry(domain.as_ref());
                done(true, format!("{n} tried again"))
            }
            (Deed::Forget, None, None) => {
                let n = self.monitor.forget(domain.as_ref());
                done(true, format!("{n} forgotten"))
            }
            (Deed::ForgetMemory, None, None) => {
                let domain = domain.ok_or("of what? it needs a \"domain\"")?;
                match self.monitor.forget_remembered(&domain) {
                    0 => done(false, format!("nothing is remembered of {}", domain.to_unicode())),
                    _ => done(true, format!("{} forgotten", domain.to_unicode())),
                }
            }
            (Deed::Close, Some(id), None) if domain.is_none() => {
                let is_open = self.monitor.close(id);
                let detail = if is_open { "1 closed" } else { "no open stream has that number" };
                done(is_open, detail.to_owned())
            }
            (Deed::Close, None, None) => {
                let domain = domain.ok_or("what is to be closed? a \"stream\" or a \"domain\"")?;
                let n = self.monitor.close_domain(&domain);
                done(n > 0, format!("{n} closed"))
            }
            (Deed::LogLevel, ..) => return Err("the body needs \"level\" alone".to_owned()),
            _ => return Err("the body has a key that does not belong to this".to_owned()),
        })
    }
}

/// The domain that a query names.
fn domain_of(query: &str) -> Option<String> {
    let mut keys = url::form_urlencoded::parse(query.as_bytes());
    keys.find_map(|(key, value)| (key == "domain").then(|| value.into_owned()))
}

/// The domain of that name, or why there can be none.
fn named(domain: Option<&str>) -> Result<Option<Domain>, String> {
    domain.map(Domain::parse).transpose().map_err(|error| format!("the domain: {error}"))
}

/// An answer in JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    match serde_json::to_string(value) {
        Ok(json) => text(status, JSON, json + "\n"),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, format!("{error}\n")),
    }
}

/// That it is not done, and why.
pub(super) fn refusal(status: StatusCode, why: &str) -> Response<Body> {
    json(status, &Done { ok: false, detail: why.to_owned(), problems: Vec::new() })
}

impl From<NoCall> for Response<Body> {
    fn from(why: NoCall) -> Self {
        match why {
            NoCall::NotFound => refusal(StatusCode::NOT_FOUND, "there is nothing of that name"),
            NoCall::Method(with) => {
                let mut answer =
                    refusal(StatusCode::METHOD_NOT_ALLOWED, &format!("it needs {with}"));
                answer.headers_mut().insert(ALLOW, HeaderValue::from_static(with));
                answer
            }
        }
    }
}

impl From<Denied> for Response<Body> {
    fn from(why: Denied) -> Self {
        let mut answer = refusal(why.status(), why.as_str());
        if why == Denied::Token {
            let scheme = HeaderValue::from_static("Bearer realm=\"fedgate\"");
            answer.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        }
        answer
    }
}

/// An answer of text.
pub(super) fn text(status: StatusCode, kind: &'static str, text: String) -> Response<Body> {
    let full = http_body_util::Full::new(Bytes::from(text));
    let mut answer = Response::new(Body::Left(full));
    *answer.status_mut() = status;
    head(&mut answer, kind);
    answer
}

/// The headers of all answers: they are of this moment, and what they say they are.
pub(super) fn head(answer: &mut Response<Body>, kind: &'static str) {
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
}

const GET: &str = "GET";
const POST: &str = "POST";
const JSON: &str = "application/json";
const PLAIN: &str = "text/plain; charset=utf-8";
const YAML: &str = "application/yaml";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stands_for_one_call_and_one_method() {
        let call = |method: Method, path| Call::of(&method, path, "");
        assert_eq!(call(Method::GET, "/api/streams/17"), Ok(Call::Stream(17)));
        assert_eq!(call(Method::HEAD, "/metrics"), Ok(Call::Metrics));
        assert_eq!(call(Method::POST, "/api/drain"), Ok(Call::Do(Deed::Drain)));
        for path in ["/api/streams/", "/api/streams/x", "/api/streams/-1", "/x", "/api", "//"] {
            assert_eq!(call(Method::GET, path), Err(NoCall::NotFound), "{path}");
        }
        assert_eq!(call(Method::GET, "/api/reload"), Err(NoCall::Method("POST")));
        assert_eq!(call(Method::HEAD, "/api/reload"), Err(NoCall::Method("POST")));
        assert_eq!(call(Method::POST, "/metrics"), Err(NoCall::Method("GET")));
        assert_eq!(call(Method::OPTIONS, "/api/drain"), Err(NoCall::Method("POST")));
    }

    #[test]
    fn a_query_names_a_domain_as_browsers_write_it() {
        for (query, expected) in [
            ("", None),
            ("domains=a.example", None),
            ("x&domain=a.example", Some("a.example")),
            ("domain=b%C3%BCcher.example", Some("bücher.example")),
        ] {
            let domain = expected.map(str::to_owned);
            let call = |path| Call::of(&Method::GET, path, query).unwrap();
            assert_eq!(call("/api/memory"), Call::Memory { domain: domain.clone() }, "{query}");
            assert_eq!(call("/api/streams"), Call::Streams { domain }, "{query}");
        }
    }

    #[test]
    fn only_health_and_the_empty_page_are_for_everyone() {
        let free = ["/", "/livez", "/healthz", "/readyz"];
        for path in ["/", "/livez", "/healthz", "/readyz", "/metrics", "/api/status", "/api/config"]
        {
            let call = Call::of(&Method::GET, path, "").unwrap();
            let wants = if free.contains(&path) { Wants::Nothing } else { Wants::Read };
            assert_eq!(call.wants(), wants, "{path}");
        }
        let call = Call::of(&Method::POST, "/api/close", "").unwrap();
        assert_eq!(call.wants(), Wants::Write);
    }

    #[test]
    fn what_a_deed_is_done_to_has_no_unknown_keys() {
        assert!(serde_json::from_str::<To>("{\"domain\": \"a.example\"}").is_ok());
        assert!(serde_json::from_str::<To>("{\"domains\": \"a.example\"}").is_err());
    }
}
