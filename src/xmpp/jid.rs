//! Addresses, split only as far as routing needs: the domainpart exact, the rest opaque but to
//! those who compare localparts.

use std::{borrow::Cow, ops::Range};

use icu_normalizer::uts46::Uts46MapperBorrowed;

/// The longest localpart, domainpart or resourcepart in bytes (RFC 7622 §3.1).
const PART_MAX: usize = 1023;

/// The domainpart of an address, cut out before any normalisation (RFC 7622 §3.2): what is behind
/// the first `/` goes, then what is before the first `@`. `None` for what is not an address.
#[must_use]
pub fn domainpart(jid: &str) -> Option<&str> {
    let domain = domainpart_of(jid.as_bytes())?;
    jid.get(domain)
}

/// Where the domainpart of an address stands, whose bytes need not be looked at as text for that.
#[must_use]
pub fn domainpart_of(jid: &[u8]) -> Option<Range<usize>> {
    let slash = memchr::memchr(b'/', jid);
    let end = slash.unwrap_or(jid.len());
    let at = memchr::memchr(b'@', jid.get(..end)?);
    let start = at.map_or(0, |at| at + 1);
    let fits = |len: usize| (1..=PART_MAX).contains(&len);
    let is_address = fits(end - start)
        && at.is_none_or(fits)
        && slash.is_none_or(|slash| fits(jid.len() - slash - 1));
    is_address.then_some(start..end)
}

/// The localpart of an address, as it is written; none if it has none.
#[must_use]
pub fn localpart(jid: &str) -> Option<&str> {
    let bare = jid.split_once('/').map_or(jid, |(bare, _)| bare);
    bare.split_once('@').map(|(local, _)| local).filter(|local| !local.is_empty())
}

/// A localpart in the form in which two that an old server takes for one are equal: case folded
/// and compatibility characters replaced, as nodeprep has it (RFC 6122 Appendix A) and, but for the
/// latter, RFC 7622 §3.3. For comparing only.
#[must_use]
pub fn folded(localpart: &str) -> Cow<'_, str> {
    if localpart.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase()) {
        return Cow::Borrowed(localpart);
    }
    if localpart.is_ascii() {
        return Cow::Owned(localpart.to_ascii_lowercase());
    }
    // UTS 46 maps as nodeprep does, but for these (deviation characters). They go first, for a mark
    // behind one may become one character with what it is mapped to.
    let text = localpart.replace(['ß', 'ẞ'], "ss").replace('ς', "σ");
    Cow::Owned(Uts46MapperBorrowed::new().map_normalize(text.chars()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localparts_are_cut_out_and_compared_as_old_servers_do() {
        for (jid, local) in [
            ("a.example", None),
            ("a.example/b@c", None),
            ("@a.example", None),
            ("ann@a.example", Some("ann")),
            ("ann@a.example/b@c", Some("ann")),
        ] {
            assert_eq!(localpart(jid), local, "{jid}");
        }
        for spelling in ["guest", "GuEsT", "ｇｕｅｓｔ", "gu\u{ad}est", "ⓖuest", "𝓰uest", "gueſt"]
        {
            assert_eq!(folded(spelling), "guest", "{spelling}");
        }
        for (a, b) in [
            ("Jürgen", "ju\u{308}rgen"),
            ("STRASSE", "straße"),
            ("STRASSE", "STRAẞE"),
            ("ΣΑΣ", "σας"),
            // the mark goes with the letter that the sharp s became
            ("asś", "aß\u{301}"),
            ("asṣ", "aẞ\u{ad}\u{323}"),
        ] {
            assert_eq!(folded(a), folded(b));
        }
        assert_ne!(folded("guest"), folded("guest1"));
        assert_ne!(folded("jurgen"), folded("jürgen"));
    }

    #[test]
    fn what_is_folded_stays_as_it_is() {
        for c in '\u{80}'..='\u{1ffff}' {
            for text in [format!("{c}"), format!("{c}\u{301}")] {
                let once = folded(&text);
                assert_eq!(folded(&once), once, "{text:?}");
            }
        }
    }

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
