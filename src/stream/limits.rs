//! What the other end says that it takes on a stream (XEP-0478).

use crate::{xml::Element, xmpp::ns};

/// No server may take less of a stanza, in bytes (RFC 6120 §13.12 item 4).
const LEAST: u32 = 10_000;

/// Bytes of the largest stanza that the other end takes, as it says in the features of a stream or
/// in its request for a bidirectional one. None if it does not say.
pub(super) fn largest_stanza(announcement: &Element) -> Option<u32> {
    let limits = announcement.child(ns::LIMITS, "limits")?;
    let bytes: u32 = limits.child(ns::LIMITS, "max-bytes")?.text().trim().parse().ok()?;
    Some(bytes.max(LEAST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::{Framer, Limits, writer};

    fn largest(content: &str) -> Option<u32> {
        let mut text = Vec::new();
        writer::StreamHeader::default().write(&mut text);
        let mut framer = Framer::new(Limits {
            header: 1000,
            element: 1000,
            depth: 10,
            attributes: 10,
            grace: 1,
        });
        let mut rest = text.as_slice();
        while let Some(token) = framer.next(rest).unwrap() {
            rest = &rest[token.len..];
            if rest.is_empty() {
                break;
            }
        }
        let bidi = format!("<bidi xmlns='urn:xmpp:bidi'>{content}</bidi>");
        let element = Element::parse(bidi.as_bytes(), framer.header().unwrap()).unwrap();
        largest_stanza(&element)
    }

    #[test]
    fn a_limit_is_a_number_of_bytes_that_the_rfc_allows() {
        let of = |max: &str| {
            let max = format!("<max-bytes>{max}</max-bytes><idle-seconds>1</idle-seconds>");
            largest(&format!("<limits xmlns='urn:xmpp:stream-limits:0'>{max}</limits>"))
        };
        assert_eq!(of("262144"), Some(262_144));
        assert_eq!(of(" 10001\n"), Some(10_001));
        assert_eq!(of("0"), Some(LEAST));
        for nonsense in ["", "-1", "many", "4294967296", "1e6", "<x xmlns='x'/>"] {
            assert_eq!(of(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn who_says_nothing_has_no_limit() {
        assert_eq!(largest(""), None);
        assert_eq!(largest("<limits xmlns='urn:xmpp:stream-limits:0'/>"), None);
        assert_eq!(largest("<limits xmlns='other'><max-bytes>20000</max-bytes></limits>"), None);
    }
}
