//! Why a fetch brought nothing, in words for the operator. Text that a stranger chose is bounded
//! and printable before it gets in here.

use std::{io, time::Duration};

use rustls::{CertificateError, Error};
use url::Url;

use crate::net::connector::ConnectError;

/// Why a fetch brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Others were fetching all the time.
    #[error("too many HTTPS fetches are under way")]
    Busy,
    /// No connection: DNS, a rule, or TCP.
    #[error("connect to {host}: {source}")]
    Connect {
        /// The host of the URL.
        host: Box<str>,
        /// Every address's failure.
        source: Box<ConnectError>,
    },
    /// A compressed body, which was not asked for.
    #[error("{0} came in a content coding that was not asked for")]
    Encoding(Box<str>),
    /// The answer is no HTTP, or broke off.
    #[error("HTTP with {host}: {source}")]
    Http {
        /// The host of the URL.
        host: Box<str>,
        /// What is wrong with it.
        source: hyper::Error,
    },
    /// A redirect to nowhere.
    #[error("{0} is redirected, and not to another URL")]
    Location(Box<str>),
    /// A redirect back to where another came from.
    #[error("redirects lead back to {0}")]
    Loop(Box<str>),
    /// Any other status than success and redirects.
    #[error("{url} was answered with status {status}")]
    Status {
        /// What was asked for.
        url: Box<str>,
        /// The HTTP status.
        status: u16,
    },
    /// No answer in time.
    #[error("no complete answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The host is not proven, or speaks no TLS.
    #[error("TLS with {host}: {why}")]
    Tls {
        /// The host of the URL.
        host: Box<str>,
        /// What is wrong.
        why: Box<str>,
    },
    /// More bytes than are taken.
    #[error("{url} has more than {most} bytes")]
    TooLarge {
        /// What was asked for.
        url: Box<str>,
        /// How many are taken.
        most: usize,
    },
    /// Redirects and references together.
    #[error("too many redirects and references")]
    TooManyHops,
    /// Redirects of one fetch.
    #[error("too many redirects")]
    TooManyRedirects,
    /// A URL that is not fetched.
    #[error("{url}: {problem}")]
    Url {
        /// The URL.
        url: Box<str>,
        /// Why not.
        problem: UrlProblem,
    },
}

/// Why a URL is not fetched.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UrlProblem {
    /// An address in place of a host name: no certificate of the Web is for it.
    #[error("an address in place of a host name")]
    Address,
    /// User name or password.
    #[error("a user name or password in the URL")]
    Credentials,
    /// Not a name of DNS.
    #[error("not a host name")]
    Host,
    /// A redirect to something else than was asked for (PO-12).
    #[error("redirected to something else")]
    Label,
    /// Not `https`.
    #[error("not https")]
    NotHttps,
    /// A port that is not allowed.
    #[error("a port that is not allowed")]
    Port,
    /// More bytes than are sent to anybody.
    #[error("too long")]
    TooLong,
}

impl FetchError {
    /// Whether the server says that there is no such thing.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { status: 404, .. })
    }

    pub(super) fn url(url: &Url, problem: UrlProblem) -> Self {
        Self::Url { url: shown(url), problem }
    }

    pub(super) fn tls(host: &str, error: io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        let why = match inner {
            Some(Error::InvalidCertificate(why)) => certificate(why),
            // rustls quotes nothing of what came
            _ => error.to_string().into(),
        };
        Self::Tls { host: host.into(), why }
    }
}

fn certificate(why: &CertificateError) -> Box<str> {
    use CertificateError as C;
    match why {
        C::Expired | C::ExpiredContext { .. } => "its certificate has expired".into(),
        C::NotValidYet | C::NotValidYetContext { .. } => "its certificate is not valid yet".into(),
        C::NotValidForName | C::NotValidForNameContext { .. } => {
            "its certificate is for another name".into()
        }
        C::InvalidPurpose | C::InvalidPurposeContext { .. } => {
            "its certificate is not for servers".into()
        }
        C::UnknownIssuer => "its certificate's issuer is not trusted".into(),
        other => {
            let mut text = format!("its certificate is not good: {other:?}");
            text.truncate(text.floor_char_boundary(MAX_TEXT));
            text.into()
        }
    }
}

/// A URL as it may be logged; it is ASCII without control characters.
pub(super) fn shown(url: &Url) -> Box<str> {
    let text = url.as_str();
    let end = text.floor_char_boundary(MAX_TEXT);
    let more = if end < text.len() { "…" } else { "" };
    format!("{}{more}", &text[..end]).into()
}

/// Bytes of a text shown.
const MAX_TEXT: usize = 200;
