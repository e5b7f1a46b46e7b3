//! The elements that fedgate itself says: stream headers and errors (RFC 6120 §4), dialback
//! (XEP-0220), STARTTLS (RFC 6120 §5), SASL (§6), features.
//!
//! Everything is appended to a buffer of bytes as UTF-8. Stanza and dialback elements rely on the
//! header of ours that they follow: it declares `jabber:server` as the default namespace, the
//! prefixes `stream` and `db`, and nothing else (protocol rule ST-1). Values may be any text: what
//! markup would be made of is escaped, and characters that XML forbids become U+FFFD.

use super::token::Version;
use crate::xmpp::{StanzaCondition, StreamCondition, ns};

/// The end of a stream.
pub const FOOTER: &str = "</stream:stream>";

/// A stream header, initial or in response (RFC 6120 §4.7).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct StreamHeader<'a> {
    /// The domain that is spoken to, as U-label.
    pub to: Option<&'a str>,
    /// The domain that is spoken for, as U-label.
    pub from: Option<&'a str>,
    /// The stream's identifier, in responses.
    pub id: Option<&'a str>,
    /// The XMPP version; none for servers from before 1.0.
    pub version: Option<Version>,
    /// `xml:lang`.
    pub lang: Option<&'a str>,
}

/// What a dialback request is answered with (XEP-0220 §2.1, §2.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DialbackAnswer<'a> {
    /// It cannot be decided, for this reason and with this text.
    Error(StanzaCondition, Option<&'a str>),
    /// The key is wrong.
    Invalid,
    /// The key is right.
    Valid,
}

/// Stream features to advertise (RFC 6120 §4.3.2).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Features {
    /// STARTTLS.
    pub starttls: bool,
    /// STARTTLS may be left out.
    pub tls_optional: bool,
    /// SASL EXTERNAL.
    pub external: bool,
    /// Dialback, with support for errors (XEP-0220 §2.4.2).
    pub dialback: bool,
    /// Stanzas may go both ways (XEP-0288).
    pub bidi: bool,
    /// Stanzas may be acknowledged (XEP-0198).
    pub sm: bool,
    /// The limits of the stream (XEP-0478).
    pub limits: Option<StreamLimits>,
}

/// An application-specific condition of a stream error (RFC 6120 §4.9.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Application {
    /// One of `urn:xmpp:errors`.
    Named(&'static str),
    /// More stanzas were acknowledged than sent (XEP-0198 §6).
    HandledTooHigh {
        /// What was said.
        h: u32,
        /// What was sent, modulo 2^32.
        sent: u32,
    },
}

/// What a stream is limited to (XEP-0478).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct StreamLimits {
    /// Bytes of a first-level element.
    pub max_bytes: Option<u64>,
    /// Seconds of silence after which the stream may be ended.
    pub idle_seconds: Option<u64>,
}

// === impl StreamHeader ===

impl StreamHeader<'_> {
    /// Writes the XML declaration and the header.
    pub fn write(&self, out: &mut Vec<u8>) {
        raw(out, "<?xml version='1.0'?><stream:stream");
        attribute(out, "xmlns", ns::SERVER);
        attribute(out, "xmlns:stream", ns::STREAM);
        attribute(out, "xmlns:db", ns::DIALBACK);
        optional(out, "id", self.id);
        optional(out, "from", self.from);
        optional(out, "to", self.to);
        optional(out, "xml:lang", self.lang);
        if let Some(version) = self.version {
            attribute(out, "version", &version.to_string());
        }
        raw(out, ">");
    }
}

/// Writes a stream error (RFC 6120 §4.9). The [`FOOTER`] has to follow.
pub fn stream_error(
    out: &mut Vec<u8>,
    condition: StreamCondition,
    text: Option<&str>,
    application: Option<Application>,
) {
    raw(out, "<stream:error>");
    empty(out, condition.as_str(), ns::STREAM_ERRORS);
    error_text(out, ns::STREAM_ERRORS, text);
    match application {
        Some(Application::Named(name)) => empty(out, name, ns::APP_ERRORS),
        Some(Application::HandledTooHigh { h, sent }) => {
            raw(out, "<handled-count-too-high");
            attribute(out, "xmlns", ns::SM);
            attribute(out, "h", &h.to_string());
            attribute(out, "send-count", &sent.to_string());
            raw(out, "/>");
        }
        None => {}
    }
    raw(out, "</stream:error>");
}

/// Writes a dialback request: `from` wants to send to `to` on this stream (XEP-0220 §2.1.1).
pub fn dialback_result(out: &mut Vec<u8>, from: &str, to: &str, key: &str) {
    raw(out, "<db:result");
    attribute(out, "from", from);
    attribute(out, "to", to);
    raw(out, ">");
    escape(out, key);
    raw(out, "</db:result>");
}

/// Writes the answer to a dialback request, from the target to the sender.
pub fn dialback_result_answer(out: &mut Vec<u8>, from: &str, to: &str, answer: DialbackAnswer<'_>) {
    dialback_answer(out, "db:result", from, to, None, answer);
}

/// Writes a question to the authoritative server: whether `key` is right for the stream `id`
/// (XEP-0220 §2.1.2).
pub fn dialback_verify(out: &mut Vec<u8>, from: &str, to: &str, id: &str, key: &str) {
    raw(out, "<db:verify");
    attribute(out, "from", from);
    attribute(out, "to", to);
    attribute(out, "id", id);
    raw(out, ">");
    escape(out, key);
    raw(out, "</db:verify>");
}

/// Writes the authoritative server's answer, from the sender's domain to the target's.
pub fn dialback_verify_answer(
    out: &mut Vec<u8>,
    from: &str,
    to: &str,
    id: &str,
    answer: DialbackAnswer<'_>,
) {
    dialback_answer(out, "db:verify", from, to, Some(id), answer);
}

/// Writes a ping (XEP-0199 §4.1).
pub fn ping(out: &mut Vec<u8>, from: &str, to: &str, id: &str) {
    raw(out, "<iq");
    attribute(out, "from", from);
    attribute(out, "to", to);
    attribute(out, "id", id);
    raw(out, " type='get'><ping xmlns='urn:xmpp:ping'/></iq>");
}

/// Writes the stream features.
pub fn features(out: &mut Vec<u8>, features: &Features) {
    raw(out, "<stream:features>");
    if features.starttls {
        raw(out, "<starttls");
        attribute(out, "xmlns", ns::TLS);
        raw(out, if features.tls_optional { "/>" } else { "><required/></starttls>" });
    }
    if features.external {
        raw(out, "<mechanisms");
        attribute(out, "xmlns", ns::SASL);
        raw(out, "><mechanism>EXTERNAL</mechanism></mechanisms>");
    }
    if features.dialback {
        raw(out, "<dialback");
        attribute(out, "xmlns", ns::DIALBACK_FEATURE);
        raw(out, "><errors/></dialback>");
    }
    if features.bidi {
        empty(out, "bidi", ns::BIDI_FEATURE);
    }
    if features.sm {
        empty(out, "sm", ns::SM);
    }
    if let Some(limits) = features.limits {
        stream_limits(out, limits);
    }
    raw(out, "</stream:features>");
}

/// Writes the request that stanzas go both ways (XEP-0288 §2.2), with what we take (XEP-0478 §3.2).
pub fn bidi(out: &mut Vec<u8>, limits: StreamLimits) {
    raw(out, "<bidi");
    attribute(out, "xmlns", ns::BIDI);
    raw(out, ">");
    stream_limits(out, limits);
    raw(out, "</bidi>");
}

/// Writes the request for stream management (XEP-0198 §3), and that the stream may be resumed.
pub fn sm_enable(out: &mut Vec<u8>, resume: bool) {
    raw(out, "<enable");
    attribute(out, "xmlns", ns::SM);
    raw(out, if resume { " resume='true'/>" } else { "/>" });
}

/// Writes the consent to it; `resumption` is the SM-ID, and the seconds for which it is kept.
pub fn sm_enabled(out: &mut Vec<u8>, resumption: Option<(&str, u64)>) {
    raw(out, "<enabled");
    attribute(out, "xmlns", ns::SM);
    if let Some((id, max)) = resumption {
        attribute(out, "id", id);
        attribute(out, "resume", "true");
        attribute(out, "max", &max.to_string());
    }
    raw(out, "/>");
}

/// Writes the refusal of `enable` or `resume`, with a stanza error condition (XEP-0198 §6).
pub fn sm_failed(out: &mut Vec<u8>, condition: &'static str) {
    raw(out, "<failed");
    attribute(out, "xmlns", ns::SM);
    raw(out, ">");
    empty(out, condition, ns::STANZA_ERRORS);
    raw(out, "</failed>");
}

/// Writes the request to resume a stream of which `h` stanzas came (XEP-0198 §5).
pub fn sm_resume(out: &mut Vec<u8>, id: &str, h: u32) {
    sm_resumption(out, "<resume", id, h);
}

/// Writes the consent to it.
pub fn sm_resumed(out: &mut Vec<u8>, id: &str, h: u32) {
    sm_resumption(out, "<resumed", id, h);
}

fn sm_resumption(out: &mut Vec<u8>, name: &'static str, id: &str, h: u32) {
    raw(out, name);
    attribute(out, "xmlns", ns::SM);
    attribute(out, "previd", id);
    attribute(out, "h", &h.to_string());
    raw(out, "/>");
}

/// Writes the question how many stanzas are handled (XEP-0198 §4).
pub fn sm_request(out: &mut Vec<u8>) {
    empty(out, "r", ns::SM);
}

/// Writes how many are.
pub fn sm_answer(out: &mut Vec<u8>, h: u32) {
    raw(out, "<a");
    attribute(out, "xmlns", ns::SM);
    attribute(out, "h", &h.to_string());
    raw(out, "/>");
}

/// Writes the request for TLS (RFC 6120 §5.4.2.1).
pub fn starttls(out: &mut Vec<u8>) {
    empty(out, "starttls", ns::TLS);
}

/// Writes the consent to TLS (RFC 6120 §5.4.2.3).
pub fn tls_proceed(out: &mut Vec<u8>) {
    empty(out, "proceed", ns::TLS);
}

/// Writes the refusal of TLS (RFC 6120 §5.4.2.2).
pub fn tls_failure(out: &mut Vec<u8>) {
    empty(out, "failure", ns::TLS);
}

/// Writes the request for SASL EXTERNAL; `initial` is base64, or `=` for an empty response
/// (RFC 6120 §6.4.2).
pub fn sasl_auth_external(out: &mut Vec<u8>, initial: &str) {
    raw(out, "<auth");
    attribute(out, "xmlns", ns::SASL);
    attribute(out, "mechanism", "EXTERNAL");
    raw(out, ">");
    escape(out, initial);
    raw(out, "</auth>");
}

/// Writes an empty challenge, to a client that sent no initial response (RFC 6120 §6.4.3).
pub fn sasl_challenge(out: &mut Vec<u8>) {
    empty(out, "challenge", ns::SASL);
}

/// Writes a response; `response` is base64, empty for an empty one (RFC 6120 §6.4.3).
pub fn sasl_response(out: &mut Vec<u8>, response: &str) {
    raw(out, "<response");
    attribute(out, "xmlns", ns::SASL);
    raw(out, ">");
    escape(out, response);
    raw(out, "</response>");
}

/// Writes that the peer is authenticated (RFC 6120 §6.4.6).
pub fn sasl_success(out: &mut Vec<u8>) {
    empty(out, "success", ns::SASL);
}

/// Writes that it is not, with one of the conditions of RFC 6120 §6.5.
pub fn sasl_failure(out: &mut Vec<u8>, condition: &'static str) {
    raw(out, "<failure");
    attribute(out, "xmlns", ns::SASL);
    raw(out, "><");
    raw(out, condition);
    raw(out, "/></failure>");
}

/// Writes the refusal of stream compression (XEP-0138 §4).
pub fn compress_failure(out: &mut Vec<u8>) {
    raw(out, "<failure");
    attribute(out, "xmlns", ns::COMPRESS);
    raw(out, "><unsupported-method/></failure>");
}

/// Writes the `error` child of a stanza or of a dialback answer (RFC 6120 §8.3.2).
pub(super) fn stanza_error(out: &mut Vec<u8>, condition: StanzaCondition, text: Option<&str>) {
    raw(out, "<error");
    attribute(out, "type", condition.error_type());
    raw(out, ">");
    empty(out, condition.as_str(), ns::STANZA_ERRORS);
    error_text(out, ns::STANZA_ERRORS, text);
    raw(out, "</error>");
}

/// Writes ` name='value'`.
pub(super) fn attribute(out: &mut Vec<u8>, name: &'static str, value: &str) {
    raw(out, " ");
    raw(out, name);
    raw(out, "='");
    escape(out, value);
    raw(out, "'");
}

/// Writes text so that it stands for itself, in content as in a value between either quotes.
pub(super) fn escape(out: &mut Vec<u8>, text: &str) {
    if is_plain(text) {
        return raw(out, text);
    }
    let mut rest = text;
    while let Some(at) = rest.find(is_special) {
        let (plain, tail) = rest.split_at(at);
        raw(out, plain);
        let mut tail = tail.chars();
        raw(
            out,
            match tail.next() {
                Some('&') => "&amp;",
                Some('<') => "&lt;",
                Some('>') => "&gt;",
                Some('\'') => "&apos;",
                Some('"') => "&quot;",
                Some('\t') => "&#9;",
                Some('\n') => "&#10;",
                Some('\r') => "&#13;",
                _ => "\u{fffd}",
            },
        );
        rest = tail.as_str();
    }
    raw(out, rest);
}

/// Whether there is surely nothing special in the text; as most is, byte by byte.
fn is_plain(text: &str) -> bool {
    let special = |b| matches!(b, b'&' | b'<' | b'>' | b'\'' | b'"' | 0..=0x1f | 0xef);
    !text.bytes().fold(false, |found, b| found | special(b))
}

fn is_special(c: char) -> bool {
    matches!(c, '&' | '<' | '>' | '\'' | '"' | '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}')
}

fn dialback_answer(
    out: &mut Vec<u8>,
    name: &'static str,
    from: &str,
    to: &str,
    id: Option<&str>,
    answer: DialbackAnswer<'_>,
) {
    raw(out, "<");
    raw(out, name);
    attribute(out, "from", from);
    attribute(out, "to", to);
    optional(out, "id", id);
    let kind = match answer {
        DialbackAnswer::Error(..) => "error",
        DialbackAnswer::Invalid => "invalid",
        DialbackAnswer::Valid => "valid",
    };
    attribute(out, "type", kind);
    let DialbackAnswer::Error(condition, text) = answer else {
        raw(out, "/>");
        return;
    };
    raw(out, ">");
    stanza_error(out, condition, text);
    raw(out, "</");
    raw(out, name);
    raw(out, ">");
}

fn stream_limits(out: &mut Vec<u8>, limits: StreamLimits) {
    raw(out, "<limits");
    attribute(out, "xmlns", ns::LIMITS);
    raw(out, ">");
    number(out, "max-bytes", limits.max_bytes);
    number(out, "idle-seconds", limits.idle_seconds);
    raw(out, "</limits>");
}

fn error_text(out: &mut Vec<u8>, namespace: &'static str, text: Option<&str>) {
    let Some(text) = text else { return };
    raw(out, "<text");
    attribute(out, "xmlns", namespace);
    attribute(out, "xml:lang", "en");
    raw(out, ">");
    escape(out, text);
    raw(out, "</text>");
}

fn number(out: &mut Vec<u8>, name: &'static str, value: Option<u64>) {
    let Some(value) = value else { return };
    raw(out, "<");
    raw(out, name);
    raw(out, ">");
    raw(out, &value.to_string());
    raw(out, "</");
    raw(out, name);
    raw(out, ">");
}

fn empty(out: &mut Vec<u8>, name: &'static str, namespace: &'static str) {
    raw(out, "<");
    raw(out, name);
    attribute(out, "xmlns", namespace);
    raw(out, "/>");
}

fn optional(out: &mut Vec<u8>, name: &'static str, value: Option<&str>) {
    if let Some(value) = value {
        attribute(out, name, value);
    }
}

fn raw(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests;
