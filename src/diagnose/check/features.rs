//! Stream features as an operator wants to read them (RFC 6120 §4.3.2).

use super::report::Features;
use crate::{stream::printable, xml::Element, xmpp::ns};

/// Reads a features element.
pub(super) fn read(element: &Element) -> Features {
    let mut features = Features::default();
    for child in element.children() {
        match (child.namespace.as_str(), child.name.as_str()) {
            (ns::TLS, "starttls") => {
                let is_required = child.child(ns::TLS, "required").is_some();
                features.starttls = Some(if is_required { "required" } else { "offered" });
            }
            (ns::SASL, "mechanisms") => {
                let names = child.children().iter().map(|m| printable(m.text().trim()));
                features.sasl.extend(names.take(MAX_SHOWN));
            }
            (ns::DIALBACK_FEATURE, "dialback") => {
                let has_errors = child.child(ns::DIALBACK_FEATURE, "errors").is_some();
                features.dialback = Some(if has_errors { "errors" } else { "offered" });
            }
            (ns::BIDI_FEATURE, "bidi") => features.bidi = true,
            (SM, "sm") => features.sm = true,
            (ns::LIMITS, "limits") => {
                let number = |name| child.child(ns::LIMITS, name)?.text().trim().parse().ok();
                features.max_bytes = number("max-bytes");
                features.idle_seconds = number("idle-seconds");
            }
            (namespace, _) if features.other.len() < MAX_SHOWN => {
                features.other.push(printable(namespace));
            }
            _ => {}
        }
    }
    features
}

/// XEP-0198.
const SM: &str = "urn:xmpp:sm:3";
/// Items of a list.
const MAX_SHOWN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::{Framer, Limits, TokenKind};

    #[test]
    fn what_is_known_is_named_and_all_else_by_its_namespace() {
        let text = "<stream:stream xmlns='jabber:server' \
            xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>\
            <stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>\
            <mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism> EXTERNAL </mechanism>\
            <mechanism>X&#9;Y</mechanism></mechanisms>\
            <dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>\
            <bidi xmlns='urn:xmpp:features:bidi'/><sm xmlns='urn:xmpp:sm:3'/>\
            <limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>262144</max-bytes>\
            <idle-seconds>soon</idle-seconds></limits><x xmlns='urn:x'/></stream:features>";
        let limits = Limits { header: 4096, element: 4096, depth: 9, attributes: 9, grace: 1 };
        let mut framer = Framer::new(limits);
        let mut input = text.as_bytes();
        let features = loop {
            let token = framer.next(input).unwrap().unwrap();
            if let TokenKind::Element(_) = token.kind {
                let header = framer.header().unwrap();
                break read(&Element::parse(&input[..token.len], header).unwrap());
            }
            input = &input[token.len..];
        };
        assert_eq!(
            features,
            Features {
                starttls: Some("required"),
                sasl: vec!["EXTERNAL".into(), "X\u{fffd}Y".into()],
                dialback: Some("errors"),
                bidi: true,
                sm: true,
                max_bytes: Some(262_144),
                idle_seconds: None,
                other: vec!["urn:x".into()],
            }
        );
    }
}
