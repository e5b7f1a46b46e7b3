//! Who gets an answer. A pure matter of what a request says and how it came in.
//!
//! The danger over TCP on loopback is the operator's own browser: any page on the Internet can make
//! it send requests here. Such a page cannot name this host by an address in `Host` without being of
//! another origin, which `Origin` and `Sec-Fetch-Site` then tell; and a name that was made to point
//! here (DNS rebinding) stands in `Host`, where only addresses and `localhost` are good.

use std::{
    fmt, fs, io,
    net::IpAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use hyper::{
    HeaderMap, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, ORIGIN},
};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::net::secret::read_wiped;

/// The shortest token, in bytes.
const TOKEN_MIN: usize = 16;
/// The longest.
const TOKEN_MAX: usize = 4096;
/// Bytes of its file, with what is around it.
const FILE_MAX: u64 = 8192;

/// How a request came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Via {
    /// By the socket, whose file says who may.
    Socket,
    /// By TCP.
    Tcp,
}

/// What a request wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wants {
    /// Nothing but whether fedgate lives, or a page without any facts.
    Nothing,
    /// To read.
    Read,
    /// To change something.
    Write,
}

/// What the configuration says of requests by TCP.
#[derive(Default)]
pub(super) struct Access {
    /// What they have to show.
    token: Option<Zeroizing<Vec<u8>>>,
    /// Whether they may change something.
    write: bool,
}

/// Why a request gets no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Denied {
    /// `Host` is the name of another host, or of none.
    Host,
    /// A page of another site sent it.
    Origin,
    /// Not as JSON, which pages of other sites cannot send unasked.
    NotJson,
    /// Without the token.
    Token,
    /// Nothing may be changed.
    ReadOnly,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("read {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// Others can read it.
    #[error("{} can be read by others: chmod it to 0640", .0.display())]
    Exposed(PathBuf),
    /// What stands in it is none.
    #[error("{} does not hold one line of {TOKEN_MIN} to {TOKEN_MAX} visible characters", .0.display())]
    Malformed(PathBuf),
}

impl Access {
    /// Reads the token, if there is one.
    pub(super) fn new(token_file: Option<&Path>, write: bool) -> Result<Self, TokenError> {
        Ok(Self { token: token_file.map(read).transpose()?, write })
    }

    /// Whether those may read here who may there.
    pub(super) fn asks_the_same(&self, other: &Self) -> bool {
        self.token == other.token
    }

    /// Whether a request gets an answer.
    pub(super) fn check(&self, via: Via, wants: Wants, headers: &HeaderMap) -> Result<(), Denied> {
        if via == Via::Socket {
            return Ok(());
        }
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let shown = text(AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        let knows = match (&self.token, shown) {
            (Some(token), Some(shown)) => bool::from(token.ct_eq(shown.as_bytes())),
            (Some(_) | None, _) => false,
        };
        let host = text(HOST).unwrap_or_default();
        // Who knows the token is no page that was led here.
        if !knows && !is_here(host) {
            return Err(Denied::Host);
        }
        if is_foreign(host, headers) {
            return Err(Denied::Origin);
        }
        if wants != Wants::Nothing && self.token.is_some() && !knows {
            return Err(Denied::Token);
        }
        if wants == Wants::Write {
            if !self.write {
                return Err(Denied::ReadOnly);
            }
            if text(CONTENT_TYPE).is_none_or(|kind| kind.split(';').next() != Some(JSON)) {
                return Err(Denied::NotJson);
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("write", &self.write).finish_non_exhaustive()
    }
}

impl Denied {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::Origin | Self::ReadOnly => StatusCode::FORBIDDEN,
            Self::NotJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Token => StatusCode::UNAUTHORIZED,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Host => "the Host of the request is neither an address nor localhost",
            Self::Origin => "the request comes from a page of another site",
            Self::NotJson => "the body has to be application/json",
            Self::Token => "the request needs the token, as \"Authorization: Bearer TOKEN\"",
            Self::ReadOnly => "nothing can be changed by TCP: \"admin.write\" is not set",
        }
    }
}

/// Whether `Host` is an address or `localhost`, with or without a port.
fn is_here(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

/// Whether a page of another origin sent it.
fn is_foreign(host: &str, headers: &HeaderMap) -> bool {
    let origin = headers.get(ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
    let fetched = headers.get("sec-fetch-site").map(|site| site.to_str().unwrap_or_default());
    let of_here = |origin: &str| {
        let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host))
    };
    origin.is_some_and(|origin| !of_here(origin))
        || fetched.is_some_and(|site| !matches!(site, "same-origin" | "none"))
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TokenError> {
    let fail = |error| TokenError::Read(path.to_owned(), error);
    let file = fs::File::open(path).map_err(fail)?;
    let mode = file.metadata().map_err(fail)?.permissions().mode();
    if mode & 0o007 != 0 {
        return Err(TokenError::Exposed(path.to_owned()));
    }
    let text = read_wiped(&file, FILE_MAX).map_err(fail)?;
    let token = text.trim_ascii();
    let is_good =
        (TOKEN_MIN..=TOKEN_MAX).contains(&token.len()) && token.iter().all(u8::is_ascii_graphic);
    if !is_good {
        return Err(TokenError::Malformed(path.to_owned()));
    }
    Ok(Zeroizing::new(token.to_vec()))
}

const JSON: &str = "application/json";

#[cfg(test)]
mod tests;
