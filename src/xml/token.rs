//! What the framer finds in a stream: header, first-level elements, footer (RFC 6120 §4.2, §4.8).
//!
//! Positions are byte offsets from the start of the token that they belong to.

use std::{borrow::Cow, fmt, sync::Arc};

use super::{fault::Fault, scan::reference};
use crate::xmpp::ns;

/// A complete piece of the stream at the start of the buffer.
#[derive(Clone, Debug)]
pub struct Token {
    /// Bytes from the start of the buffer that the token takes.
    pub len: usize,
    /// What it is.
    pub kind: TokenKind,
}

/// The pieces that a stream consists of.
#[derive(Clone, Debug)]
pub enum TokenKind {
    /// The XML declaration before the header (RFC 6120 §11.5).
    Declaration,
    /// A complete first-level element.
    Element(Tag),
    /// The stream's end tag.
    Footer,
    /// The stream's start tag.
    Header(Arc<Header>),
    /// Whitespace between first-level elements, as much as has come (RFC 6120 §11.7).
    Space,
}

/// The start tag of a stream (RFC 6120 §4.7, §4.8).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// The domain that the sender wants to speak with.
    pub to: Option<String>,
    /// The domain that the sender speaks for, unproven.
    pub from: Option<String>,
    /// The stream's identifier, opaque.
    pub id: Option<String>,
    /// `xml:lang`.
    pub lang: Option<String>,
    /// The XMPP version; `None` when absent or not of the form `1.0`.
    pub version: Option<Version>,
    /// What an unprefixed element without `xmlns` belongs to.
    pub default_namespace: DefaultNamespace,
    /// Prefix and namespace of every declaration with a prefix, in the order written, without a
    /// redundant one of `xml`.
    pub prefixes: Vec<(Box<str>, Box<str>)>,
    /// The name as written, prefix included, that the stream's end tag has to repeat.
    pub(super) name: Box<str>,
    /// Bits of `prefixes` that mean something else, or nothing, in a header of ours.
    pub(super) foreign: u64,
    /// For each of `prefixes` the index of the first with the same namespace.
    pub(super) same: Box<[u16]>,
}

/// The default namespace of a stream (protocol rule XML-9).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DefaultNamespace {
    /// None declared: elements have to declare their own.
    None,
    /// `jabber:server`, as is usual.
    Server,
    /// The namespace of streams: elements have to declare their own ("prefix-free
    /// canonicalization", RFC 6120 §4.8.5).
    Stream,
}

/// A stream version (RFC 6120 §4.7.5).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Version {
    /// Before the dot.
    pub major: u32,
    /// After the dot.
    pub minor: u32,
}

/// The start tag of a first-level element, as far as the gate needs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag {
    /// What element it is.
    pub name: ElementName,
    /// The value of `from`.
    pub from: Option<Span>,
    /// The value of `to`.
    pub to: Option<Span>,
    /// The value of `id`.
    pub id: Option<Span>,
    /// The value of `type`.
    pub type_: Option<Span>,
    /// Whether it has an `xml:lang`, be it empty.
    pub has_lang: bool,
    /// Whether the element consists of an empty-element tag alone.
    pub empty: bool,
    /// Where attributes may be inserted: just behind the element's name.
    pub insert_at: u32,
    /// The first limit that the element is beyond, where there is [grace](super::Limits::grace).
    pub excess: Option<Fault>,
    /// Bits of [`Header::prefixes`]: those that names anywhere in the element resolve to.
    pub(super) used: u64,
    /// Bits of [`Header::prefixes`]: those that this very tag declares anew.
    pub(super) own: u64,
}

/// The first-level elements that are told apart, by namespace and local name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ElementName {
    /// `bidi` (XEP-0288 §2.2).
    Bidi,
    /// `compress` (XEP-0138), to be refused.
    Compress,
    /// `result` of dialback (XEP-0220 §2.1.1).
    DbResult,
    /// `verify` of dialback (XEP-0220 §2.1.2).
    DbVerify,
    /// `iq`.
    Iq,
    /// `message`.
    Message,
    /// An element outside the content namespace that is none of these.
    Other,
    /// `presence`.
    Presence,
    /// `abort` of SASL.
    SaslAbort,
    /// `auth` of SASL.
    SaslAuth,
    /// `challenge` of SASL.
    SaslChallenge,
    /// `failure` of SASL.
    SaslFailure,
    /// `response` of SASL.
    SaslResponse,
    /// `success` of SASL.
    SaslSuccess,
    /// `starttls`.
    StartTls,
    /// `a` of stream management: how much is handled (XEP-0198 §4).
    SmAnswer,
    /// `enable` of stream management.
    SmEnable,
    /// `enabled` of stream management.
    SmEnabled,
    /// `failed` of stream management.
    SmFailed,
    /// `r` of stream management: how much is handled?
    SmRequest,
    /// `resume` of stream management (XEP-0198 §5).
    SmResume,
    /// `resumed` of stream management.
    SmResumed,
    /// `error` of streams.
    StreamError,
    /// `features` of streams.
    StreamFeatures,
    /// `failure` of STARTTLS.
    TlsFailure,
    /// `proceed` of STARTTLS.
    TlsProceed,
    /// An element of `jabber:server` that is no stanza.
    UnknownStanza,
}

/// The place of an attribute's value in its element.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// First byte of the value.
    pub start: u32,
    /// Byte behind the value.
    pub end: u32,
    /// Whether references or white space stand in it, so that the bytes are not the value.
    pub escaped: bool,
}

// === impl Header ===

impl Header {
    /// Whether it declares the namespace of dialback under any prefix (XEP-0220 §2.4.1).
    #[must_use]
    pub fn declares_dialback(&self) -> bool {
        self.dialback_prefix().is_some()
    }

    /// The prefix that it declares for the namespace of dialback, if any.
    #[must_use]
    pub fn dialback_prefix(&self) -> Option<&str> {
        self.prefixes.iter().find(|(_, uri)| &**uri == ns::DIALBACK).map(|(prefix, _)| &**prefix)
    }

    /// The index of a prefix among [`Self::prefixes`].
    pub(super) fn prefix(&self, prefix: &[u8]) -> Option<usize> {
        self.prefixes.iter().position(|(p, _)| p.as_bytes() == prefix)
    }
}

// === impl Version ===

impl Version {
    /// The only version there is (RFC 6120).
    pub const V1_0: Self = Self { major: 1, minor: 0 };

    /// Reads a version; components are numbers, leading zeros mean nothing (RFC 6120 §4.7.5).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        let number =
            |s: &str| s.bytes().all(|b| b.is_ascii_digit()).then(|| s.parse().ok()).flatten();
        Some(Self { major: number(major)?, minor: number(minor)? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

// === impl ElementName ===

impl ElementName {
    /// Whether it is a stanza: message, presence or iq (RFC 6120 §8).
    #[must_use]
    pub fn is_stanza(self) -> bool {
        matches!(self, Self::Iq | Self::Message | Self::Presence)
    }

    /// The element of a local name in the content namespace.
    pub(super) fn content(local: &[u8]) -> Self {
        match local {
            b"message" => Self::Message,
            b"presence" => Self::Presence,
            b"iq" => Self::Iq,
            _ => Self::UnknownStanza,
        }
    }

    /// The element of a local name in a namespace other than a content namespace.
    pub(super) fn extension(namespace: &str, local: &[u8]) -> Self {
        match (namespace, local) {
            (ns::DIALBACK, b"result") => Self::DbResult,
            (ns::DIALBACK, b"verify") => Self::DbVerify,
            (ns::STREAM, b"error") => Self::StreamError,
            (ns::STREAM, b"features") => Self::StreamFeatures,
            (ns::TLS, b"starttls") => Self::StartTls,
            (ns::TLS, b"proceed") => Self::TlsProceed,
            (ns::TLS, b"failure") => Self::TlsFailure,
            (ns::SASL, b"auth") => Self::SaslAuth,
            (ns::SASL, b"challenge") => Self::SaslChallenge,
            (ns::SASL, b"response") => Self::SaslResponse,
            (ns::SASL, b"abort") => Self::SaslAbort,
            (ns::SASL, b"success") => Self::SaslSuccess,
            (ns::SASL, b"failure") => Self::SaslFailure,
            (ns::SM, b"r") => Self::SmRequest,
            (ns::SM, b"a") => Self::SmAnswer,
            (ns::SM, b"enable") => Self::SmEnable,
            (ns::SM, b"enabled") => Self::SmEnabled,
            (ns::SM, b"failed") => Self::SmFailed,
            (ns::SM, b"resume") => Self::SmResume,
            (ns::SM, b"resumed") => Self::SmResumed,
            (ns::BIDI, b"bidi") => Self::Bidi,
            (ns::COMPRESS, b"compress") => Self::Compress,
            _ => Self::Other,
        }
    }
}

// === impl Span ===

impl Span {
    /// The value: references replaced, white space normalised (XML 1.0 §3.3.3), from the bytes of
    /// the element that the span was found in.
    #[must_use]
    pub fn text(self, element: &[u8]) -> Cow<'_, str> {
        let raw = std::str::from_utf8(self.raw(element)).unwrap_or_default();
        if self.escaped { reference::normalise_value(raw) } else { Cow::Borrowed(raw) }
    }

    /// The value as bytes.
    pub(super) fn value(self, element: &[u8]) -> Cow<'_, [u8]> {
        if !self.escaped {
            return Cow::Borrowed(self.raw(element));
        }
        Cow::Owned(self.text(element).into_owned().into_bytes())
    }

    /// The value as bytes, if it stands there as it is.
    #[must_use]
    pub fn plain(self, element: &[u8]) -> Option<&[u8]> {
        (!self.escaped).then(|| self.raw(element))
    }

    /// The value for a comparison.
    pub(super) fn written(self, element: &[u8]) -> reference::Written<'_> {
        (self.raw(element), self.escaped)
    }

    /// The bytes of the value as written.
    fn raw(self, element: &[u8]) -> &[u8] {
        element.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}
