//! Addresses, split only as far as routing needs: the domainpart exact, the rest opaque.

/// The longest localpart, domainpart or resourcepart in bytes (RFC 7622 §3.1).
const PART_MAX: usize = 1023;

/// The domainpart of an address, cut out before any normalisation (RFC 7622 §3.2): what is behind
/// the first `/` goes, then what is before the first `@`. `None` for what is not an address.
#[must_use]
pub fn domainpart(jid: &str) -> Option<&str> {
    let (bare, resource) = match memchr::memchr(b'/', jid.as_bytes()) {
        Some(at) => (&jid[..at], Some(&jid[at + 1..])),
        None => (jid, None),
    };
    let (local, domain) = match memchr::memchr(b'@', bare.as_bytes()) {
        Some(at) => (Some(&bare[..at]), &bare[at + 1..]),
        None => (None, bare),
    };
    let fits = |part: &str| !part.is_empty() && part.len() <= PART_MAX;
    (fits(domain) && local.is_none_or(fits) && resource.is_none_or(fits)).then_some(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_domain_is_cut_out_as_rfc_7622_says() {
        for (jid, domain) in [
            ("good.example", Some("good.example")),
            ("user@good.example", Some("good.example")),
            ("good@evil.example/x@good.example", Some("evil.example")),
            ("evil.example/@good.example", Some("evil.example")),
            ("evil.example/a@good.example/b", Some("evil.example")),
            ("a@b@c.example", Some("b@c.example")), // no domain: Domain::parse refuses it
            ("@good.example", None),
            ("user@", None),
            ("", None),
            ("/x", None),
            ("good.example/", None),
        ] {
            assert_eq!(domainpart(jid), domain, "{jid:?}");
        }
    }

    #[test]
    fn over_long_parts_are_no_address() {
        let long = "x".repeat(PART_MAX);
        assert!(domainpart(&format!("{long}@a.example/{long}")).is_some());
        assert!(domainpart(&format!("{long}x@a.example")).is_none());
        assert!(domainpart(&format!("a.example/{long}x")).is_none());
    }
}
