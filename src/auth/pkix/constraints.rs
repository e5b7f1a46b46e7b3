//! Name constraints of CAs, applied to the domain that is to be proven (RFC 5280 §4.2.1.10, PK-6).
//!
//! webpki applies them to every dNSName of a certificate. SRV-ID and XmppAddr are otherNames,
//! which dNSName constraints do not reach, so that a constrained CA could certify anybody: here
//! the domain itself has to lie inside, by whichever identifier it is proven (RFC 9525 §7.6).
//! What cannot be read forbids. Read by hand, because x509-parser drops a list that it cannot
//! parse.

use x509_parser::{
    asn1_rs::{Any, Class, Tag},
    extensions::GeneralName,
    oid_registry::OID_X509_EXT_NAME_CONSTRAINTS,
    prelude::{FromDer, X509Certificate},
};

use crate::xmpp::Domain;

/// Whether the constraints in a CA's certificate, if any, let it speak for `domain`.
pub(super) fn permits(ca: &X509Certificate<'_>, domain: &Domain) -> bool {
    match ca.get_extension_unique(&OID_X509_EXT_NAME_CONSTRAINTS) {
        Ok(Some(extension)) => match Any::from_der(extension.value) {
            Ok(([], constraints)) => subtrees_permit(constraints.data, domain),
            _ => false,
        },
        Ok(None) => true,
        Err(_) => false,
    }
}

/// The same for `NameConstraints` without their outer tag, as a trust anchor keeps them.
pub(super) fn subtrees_permit(subtrees: &[u8], domain: &Domain) -> bool {
    evaluate(subtrees, domain).unwrap_or(false)
}

fn evaluate(mut lists: &[u8], domain: &Domain) -> Option<bool> {
    let mut is_permitted = None;
    while !lists.is_empty() {
        let (rest, list) = Any::from_der(lists).ok()?;
        lists = rest;
        let permitting = match (list.class(), list.tag()) {
            (Class::ContextSpecific, Tag(0)) => true,
            (Class::ContextSpecific, Tag(1)) => false,
            _ => return None,
        };
        let mut subtrees = list.data;
        while !subtrees.is_empty() {
            let (rest, subtree) = Any::from_der(subtrees).ok()?;
            subtrees = rest;
            // nothing but the base: RFC 5280 does not use minimum and maximum
            let Ok(([], base)) = GeneralName::from_der(subtree.data) else { return None };
            let GeneralName::DNSName(base) = base else {
                if let GeneralName::Invalid(..) = base {
                    return None;
                }
                continue;
            };
            let is_inside = is_within(domain, base)?;
            match permitting {
                true => is_permitted = Some(is_permitted.unwrap_or(false) || is_inside),
                false if is_inside => return Some(false),
                false => {}
            }
        }
    }
    Some(is_permitted.unwrap_or(true))
}

/// `example.com` holds itself and all below; `.example.com` all below; nothing holds everything.
fn is_within(domain: &Domain, base: &str) -> Option<bool> {
    if base.is_empty() {
        return Some(true);
    }
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let base = base.to_ascii_lowercase();
    if !base.strip_prefix('.').unwrap_or(&base).split('.').all(is_label) {
        return None;
    }
    Some(match domain.as_str().strip_suffix(&base) {
        Some(rest) if base.starts_with('.') => !rest.is_empty(),
        Some(rest) => rest.is_empty() || rest.ends_with('.'),
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DER of less than 128 bytes.
    fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
        [&[tag, u8::try_from(value.len()).unwrap()], value].concat()
    }

    fn list(tag: u8, names: &[&[u8]]) -> Vec<u8> {
        tlv(tag, &names.iter().flat_map(|name| tlv(0x30, name)).collect::<Vec<_>>())
    }

    fn dns(name: &str) -> Vec<u8> {
        tlv(0x82, name.as_bytes())
    }

    #[test]
    fn the_domain_must_lie_inside_and_what_cannot_be_read_forbids() {
        let domain = Domain::parse("a.good.example").unwrap();
        let permitted = |name: &str| list(0xa0, &[&dns(name)]);
        let excluded = |name: &str| list(0xa1, &[&dns(name)]);
        let mail = list(0xa0, &[&tlv(0x81, b"good.example")]);
        for (subtrees, expected) in [
            (vec![], true),
            (permitted("good.example"), true),
            (permitted("GOOD.example"), true),
            (permitted(".good.example"), true),
            (permitted(".a.good.example"), false),
            (permitted("a.good.example"), true),
            (permitted("ood.example"), false),
            (permitted(""), true),
            (list(0xa0, &[&dns("evil.example"), &dns("good.example")]), true),
            (excluded("good.example"), false),
            (excluded("ood.example"), true),
            (excluded(""), false),
            ([permitted("good.example"), excluded("a.good.example")].concat(), false),
            ([permitted("good.example"), excluded("b.good.example")].concat(), true),
            (mail.clone(), true),
            ([mail, excluded("evil.example")].concat(), true),
            // what cannot be read
            (excluded("."), false),
            (excluded("evil.example."), false),
            (excluded("évil.example"), false),
            (list(0xa1, &[&tlv(0x82, b"\xff")]), false),
            (list(0xa1, &[&[dns("evil.example"), tlv(0x80, &[1])].concat()]), false),
            (tlv(0xa2, &[]), false),
            (vec![0xa0, 0x7f], false),
            ([permitted("good.example"), vec![0xa1, 0x05, 0x30]].concat(), false),
        ] {
            assert_eq!(subtrees_permit(&subtrees, &domain), expected, "{subtrees:?}");
        }
    }
}
