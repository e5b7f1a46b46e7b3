//! The identifiers that a certificate presents, and when one of them is a domain
//! (RFC 9525 §6, RFC 6120 §13.7.1, RFC 4985; PK-2 to PK-5).
//!
//! An identifier with anything odd in it is left out, not repaired: NUL, control, space,
//! non-ASCII in an IA5String, empty label, dot at an end, `*` anywhere but as the whole left-most
//! label. The others of the same certificate still count.

use std::fmt;

use x509_parser::{
    asn1_rs::{Any, Class, FromDer, Tag},
    extensions::GeneralName,
    prelude::X509Certificate,
};

use super::{PkixError, summary::MAX_SHOWN};
use crate::xmpp::Domain;

/// The usable identifiers of one certificate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Presented {
    identifiers: Vec<Identifier>,
}

/// How closely a certificate names a domain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Match {
    /// By its name.
    Exact,
    /// By a wildcard for its left-most label.
    Wildcard,
}

#[derive(Clone, Debug)]
enum Identifier {
    /// dNSName.
    Dns(Pattern),
    /// otherName SRVName for `_xmpp-server`.
    Srv(Pattern),
    /// otherName XmppAddr that is a bare domain; knows no wildcards.
    XmppAddr(Domain),
}

/// A host name in lower case, or all names of one more label under it.
#[derive(Clone, Debug)]
struct Pattern {
    wildcard: bool,
    name: Box<str>,
}

impl Presented {
    /// Collects the subject alternative names; the subject's CN is not among them.
    pub(crate) fn of(certificate: &X509Certificate<'_>) -> Result<Self, PkixError> {
        let names = certificate.subject_alternative_name().map_err(|_| PkixError::Malformed)?;
        let names = names.map(|extension| extension.value.general_names.as_slice());
        let identifiers = names.unwrap_or_default().iter().filter_map(Identifier::parse).collect();
        Ok(Self { identifiers })
    }

    /// Whether, and how closely, the certificate names this domain.
    pub(crate) fn matches(&self, domain: &Domain) -> Option<Match> {
        self.identifiers.iter().filter_map(|identifier| identifier.matches(domain)).min()
    }

    /// Whether a DNS-ID names this host, given as an A-label name in lower case. An SRV-ID of a
    /// host is no identifier (RFC 9525 §6.5).
    pub(super) fn names_host(&self, host: &str) -> bool {
        self.identifiers.iter().any(|identifier| match identifier {
            Identifier::Dns(pattern) => pattern.matches(host).is_some(),
            Identifier::Srv(_) | Identifier::XmppAddr(_) => false,
        })
    }
}

impl fmt::Display for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.identifiers.is_empty() {
            return f.write_str("no usable name");
        }
        for (i, identifier) in self.identifiers.iter().take(MAX_SHOWN).enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            match identifier {
                Identifier::Dns(pattern) => write!(f, "{separator}{pattern}")?,
                Identifier::Srv(pattern) => write!(f, "{separator}{SERVICE}.{pattern}")?,
                Identifier::XmppAddr(domain) => write!(f, "{separator}xmpp:{domain}")?,
            }
        }
        match self.identifiers.len().checked_sub(MAX_SHOWN) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, " and {more} more"),
        }
    }
}

impl Identifier {
    fn parse(name: &GeneralName<'_>) -> Option<Self> {
        match name {
            GeneralName::DNSName(text) => Pattern::parse(text).map(Self::Dns),
            GeneralName::OtherName(oid, value) if oid.as_bytes() == SRV_NAME => {
                let (service, name) = string(value, Tag::Ia5String)?.split_once('.')?;
                let is_ours = service.eq_ignore_ascii_case(SERVICE);
                is_ours.then(|| Pattern::parse(name)).flatten().map(Self::Srv)
            }
            GeneralName::OtherName(oid, value) if oid.as_bytes() == XMPP_ADDR => {
                let text = string(value, Tag::Utf8String)?;
                // `Domain` forgives a trailing dot, which has no place in a JID
                if text.len() > MAX_DOMAINPART || text.ends_with('.') {
                    return None;
                }
                Domain::parse(text).ok().map(Self::XmppAddr)
            }
            _ => None,
        }
    }

    fn matches(&self, domain: &Domain) -> Option<Match> {
        match self {
            Self::Dns(pattern) | Self::Srv(pattern) => pattern.matches(domain.as_str()),
            Self::XmppAddr(name) => (name == domain).then_some(Match::Exact),
        }
    }
}

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        let (wildcard, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        let labels = name.split('.');
        // `*.com` would be everybody (PK-4); a domain has two labels at least
        if name.len() > MAX_NAME || labels.clone().count() < 2 || !labels.clone().all(is_label) {
            return None;
        }
        Some(Self { wildcard, name: name.to_ascii_lowercase().into() })
    }

    fn matches(&self, name: &str) -> Option<Match> {
        if !self.wildcard {
            return (*self.name == *name).then_some(Match::Exact);
        }
        let (_, parent) = name.split_once('.')?;
        (*self.name == *parent).then_some(Match::Wildcard)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.wildcard { "*." } else { "" }, self.name)
    }
}

fn is_label(label: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=63).contains(&label.len())
        && label.bytes().all(inside)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// The string inside `[0] EXPLICIT`, if it has this type and nothing follows.
fn string(value: &[u8], tag: Tag) -> Option<&str> {
    let (rest, explicit) = Any::from_der(value).ok()?;
    if !rest.is_empty() || explicit.class() != Class::ContextSpecific || explicit.tag() != Tag(0) {
        return None;
    }
    let (rest, inner) = Any::from_der(explicit.data).ok()?;
    if !rest.is_empty() || inner.class() != Class::Universal || inner.tag() != tag {
        return None;
    }
    std::str::from_utf8(inner.data).ok()
}

/// The service of server-to-server streams in an SRV-ID; `_xmpps-server` is none (PK-3).
const SERVICE: &str = "_xmpp-server";

/// id-on-dnsSRV, 1.3.6.1.5.5.7.8.7 (RFC 4985).
pub(super) const SRV_NAME: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x08, 0x07];

/// id-on-xmppAddr, 1.3.6.1.5.5.7.8.5 (RFC 6120 §13.7.1.4).
pub(super) const XMPP_ADDR: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x08, 0x05];

/// Bytes of a host name.
const MAX_NAME: usize = 253;

/// Bytes of a domainpart (RFC 7622 §3.2).
const MAX_DOMAINPART: usize = 1023;
