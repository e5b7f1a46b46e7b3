//! Name constraints of CAs, applied to the domain that is to be proven (RFC 5280 §4.2.1.10, PK-6).
//!
//! webpki applies them to every dNSName of a certificate. SRV-ID and XmppAddr are otherNames,
//! which dNSName constraints do not reach, so that a constrained CA could certify anybody: here
//! the domain itself has to lie inside, by whichever identifier it is proven (RFC 9525 §7.6).

use x509_parser::{
    asn1_rs::{Sequence, ToDer},
    extensions::{GeneralName, GeneralSubtree, NameConstraints},
    prelude::FromDer,
};

use crate::xmpp::Domain;

/// The same for the subtrees of a trust anchor, DER without the outer tag.
pub(super) fn anchor_permits(subtrees: &[u8], domain: &Domain) -> bool {
    let Ok(der) = Sequence::new(subtrees.into()).to_der_vec() else { return false };
    match NameConstraints::from_der(&der) {
        Ok(([], constraints)) => permits(&constraints, domain),
        _ => false,
    }
}

/// Whether the dNSName subtrees let a CA speak for `domain`. What cannot be read forbids.
pub(super) fn permits(constraints: &NameConstraints<'_>, domain: &Domain) -> bool {
    let permitted = constraints.permitted_subtrees.as_deref().unwrap_or_default();
    let excluded = constraints.excluded_subtrees.as_deref().unwrap_or_default();
    if !permitted.iter().chain(excluded).all(is_readable) {
        return false;
    }
    let mut permitted = permitted.iter().filter_map(dns_name).peekable();
    let is_inside = permitted.peek().is_none() || permitted.any(|base| is_within(domain, base));
    is_inside && !excluded.iter().filter_map(dns_name).any(|base| is_within(domain, base))
}

fn dns_name<'a>(subtree: &'a GeneralSubtree<'_>) -> Option<&'a str> {
    match subtree.base {
        GeneralName::DNSName(base) => Some(base),
        _ => None,
    }
}

fn is_readable(subtree: &GeneralSubtree<'_>) -> bool {
    match subtree.base {
        GeneralName::DNSName("") => true,
        GeneralName::DNSName(base) => {
            base.strip_prefix('.').unwrap_or(base).split('.').all(|label| {
                !label.is_empty()
                    && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
            })
        }
        GeneralName::Invalid(..) => false,
        _ => true,
    }
}

/// `example.com` holds itself and all below; `.example.com` all below; nothing holds everything.
fn is_within(domain: &Domain, base: &str) -> bool {
    let base = base.to_ascii_lowercase();
    if base.is_empty() {
        return true;
    }
    match domain.as_str().strip_suffix(&base) {
        Some(rest) if base.starts_with('.') => !rest.is_empty(),
        Some(rest) => rest.is_empty() || rest.ends_with('.'),
        None => false,
    }
}
