//! The only way text becomes a domain: canonical, comparable, safe as a map key.
//!
//! One name has one form here, the lower-case A-label form without a trailing dot, whatever
//! spelling it came in (RFC 7622 §3.2, UTS 46 non-transitional). Names on which old servers
//! (IDNA 2003, nameprep) and new ones disagree are refused: the legacy server would see another
//! domain than the one that was proven (protocol rule ID-4).

use std::{fmt, sync::Arc};

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

/// A fully qualified domain name in canonical form: lower case, A-labels, no trailing dot.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(Arc<str>);

/// Why a text is not a domain that can federate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DomainError {
    /// Nothing there.
    #[error("empty domain name")]
    Empty,
    /// An IP address, in any of the spellings that resolvers accept (RFC 9525 §7.4).
    #[error("an IP address, not a domain name")]
    IpAddress,
    /// Not a name by UTS 46, IDNA 2008 and the length limits of DNS.
    #[error("not a valid domain name")]
    Invalid,
    /// No dot: such a name can have no SRV record (RFC 7622 §3.2).
    #[error("a name of a single label cannot federate")]
    SingleLabel,
    /// IDNA 2003 and IDNA 2008 disagree on what it names (ß, ς, ZWJ, ZWNJ, and five ideographs whose
    /// decomposition Unicode has corrected since).
    #[error("a name that IDNA 2003 and IDNA 2008 read differently")]
    Ambiguous,
}

/// By Unicode 3.2, which nameprep stands on, they are others than by every later one (Unicode
/// Corrigendum 4).
const CORRECTED: [char; 5] = ['\u{2f868}', '\u{2f874}', '\u{2f91f}', '\u{2f95f}', '\u{2f9bf}'];

impl Domain {
    /// Parses and canonicalises a domain.
    ///
    /// # Errors
    /// [`DomainError`] for everything that is not a multi-label DNS host name.
    pub fn parse(text: &str) -> Result<Self, DomainError> {
        if is_canonical(text.as_bytes()) {
            return Ok(Self(text.into()));
        }
        if text.is_empty() {
            return Err(DomainError::Empty);
        }
        if text.contains(CORRECTED) {
            return Err(DomainError::Ambiguous);
        }
        let ascii = Uts46::new()
            .to_ascii(
                text.as_bytes(),
                AsciiDenyList::STD3,
                Hyphens::Check,
                DnsLength::VerifyAllowRootDot,
            )
            .map_err(|_| DomainError::Invalid)?;
        let ascii = ascii.strip_suffix('.').unwrap_or(&ascii);
        if ascii.is_empty() || ascii.len() > 253 {
            return Err(DomainError::Invalid);
        }
        let Some((_, last)) = ascii.rsplit_once('.') else {
            return Err(if looks_numeric(ascii) {
                DomainError::IpAddress
            } else {
                DomainError::SingleLabel
            });
        };
        if looks_numeric(last) {
            return Err(DomainError::IpAddress);
        }
        let domain = Self(ascii.into());
        if domain.to_unicode().contains(['ß', 'ς', '\u{200c}', '\u{200d}']) {
            return Err(DomainError::Ambiguous);
        }
        Ok(domain)
    }

    /// What a server of IDNA 2003 takes a text for that [`Self::parse`] may refuse as ambiguous or for
    /// characters that nameprep leaves out (RFC 3454 B.1). It may have meant this domain, no more.
    #[must_use]
    pub fn as_nameprep(text: &str) -> Option<Self> {
        let is_left_out = |c| {
            matches!(c, '\u{34f}' | '\u{1806}' | '\u{180b}'..='\u{180d}' | '\u{200c}' | '\u{200d}')
        };
        let text = text.replace(['ß', 'ẞ'], "ss").replace('ς', "σ").replace(is_left_out, "");
        Self::parse(&text).ok()
    }

    /// The canonical form: A-labels, lower case, no trailing dot. For DNS, SNI, keys and logs.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The U-label form that stands in XML (RFC 7622 §3.2.1).
    #[must_use]
    pub fn to_unicode(&self) -> String {
        if self.0.contains("xn--") {
            Uts46::new().to_unicode(self.0.as_bytes(), AsciiDenyList::STD3, Hyphens::Check).0.into()
        } else {
            self.0.to_string()
        }
    }

    /// Whether this is a name below `parent`, at a label boundary; not `parent` itself.
    #[must_use]
    pub fn is_below(&self, parent: &Self) -> bool {
        self.0
            .strip_suffix(parent.as_str())
            .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
    }
}

/// Whether `text` is in canonical form already, which nearly all are: plain LDH labels with no
/// punycode. Anything else takes the long way.
fn is_canonical(text: &[u8]) -> bool {
    if text.is_empty() || text.len() > 253 {
        return false;
    }
    let mut labels = 0;
    let mut last: &[u8] = text;
    for label in text.split(|&b| b == b'.') {
        let ldh = label.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        let hyphens = label.starts_with(b"-")
            || label.ends_with(b"-")
            || label.get(2..4).is_some_and(|h| h == b"--");
        if label.is_empty() || label.len() > 63 || !ldh || hyphens {
            return false;
        }
        labels += 1;
        last = label;
    }
    labels > 1 && last.first().is_some_and(u8::is_ascii_alphabetic)
}

fn looks_numeric(label: &str) -> bool {
    label.bytes().all(|b| b.is_ascii_digit())
        || label.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Domain {
    type Err = DomainError;

    fn from_str(s: &str) -> Result<Self, DomainError> {
        Self::parse(s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, DomainError> {
        Domain::parse(text).map(|d| d.as_str().to_owned())
    }

    #[test]
    fn every_spelling_of_a_name_is_one_key() {
        for spelling in [
            "evil.example",
            "EVIL.example",
            "evil.example.",
            "evil。example",
            "ｅｖｉｌ.example",
            "evil\u{ad}.example",
        ] {
            assert_eq!(parse(spelling), Ok("evil.example".into()), "{spelling:?}");
        }
    }

    #[test]
    fn a_label_and_u_label_are_equal_and_shown_as_u_label() {
        let a = Domain::parse("XN--BCHER-KVA.example").unwrap();
        assert_eq!(a, Domain::parse("bücher.example").unwrap());
        assert_eq!(a.as_str(), "xn--bcher-kva.example");
        assert_eq!(a.to_unicode(), "bücher.example");
    }

    #[test]
    fn names_that_the_idna_versions_read_differently_are_refused() {
        for name in
            ["straße.example", "xn--strae-oqa.example", "βόλος.example", "a\u{200d}b.example"]
        {
            assert!(parse(name).is_err(), "{name}");
        }
        assert_eq!(parse("strasse.example"), Ok("strasse.example".into()));
        for name in CORRECTED.map(|ideograph| format!("{ideograph}.example")) {
            assert_eq!(parse(&name), Err(DomainError::Ambiguous), "{name}");
        }
        assert!(parse("\u{36fc}.example").is_ok(), "what one of them became");
    }

    #[test]
    fn what_old_servers_read_in_such_names_is_known() {
        for (name, read) in [
            ("straße.example", Some("strasse.example")),
            ("STRAẞE.example", Some("strasse.example")),
            ("βόλος.example", Some("βόλοσ.example")),
            ("a\u{200d}b.exa\u{1806}mple", Some("ab.example")),
            ("a.example", Some("a.example")),
            ("foo_bar.example", None),
            ("localhost", None),
        ] {
            let read = read.map(|read| Domain::parse(read).unwrap());
            assert_eq!(Domain::as_nameprep(name), read, "{name}");
        }
    }

    #[test]
    fn what_cannot_federate_is_refused() {
        use DomainError as E;
        for (name, why) in [
            ("", E::Empty),
            (".", E::Invalid),
            ("localhost", E::SingleLabel),
            ("1.2.3.4", E::IpAddress),
            ("127.1", E::IpAddress),
            ("a.0x7f", E::IpAddress),
            ("2130706433", E::IpAddress),
            ("[::1]", E::Invalid),
            ("_x.example", E::Invalid),
            ("a..example", E::Invalid),
            ("a b.example", E::Invalid),
            ("user@a.example", E::Invalid),
            ("a.example/x", E::Invalid),
            ("a.example\0", E::Invalid),
            ("%65vil.example", E::Invalid),
            ("xn--example-.com", E::Invalid),
            ("-a.example", E::Invalid),
        ] {
            assert_eq!(parse(name), Err(why), "{name:?}");
        }
        let label = "a".repeat(63);
        assert!(parse(&format!("{label}.{label}.{label}.{}", "a".repeat(61))).is_ok());
        assert!(parse(&format!("{label}.{label}.{label}.{}", "a".repeat(62))).is_err());
    }

    #[test]
    fn below_is_judged_at_label_boundaries() {
        let d = |s| Domain::parse(s).unwrap();
        assert!(d("a.b.example.com").is_below(&d("example.com")));
        assert!(!d("example.com").is_below(&d("example.com")));
        assert!(!d("evil-example.com").is_below(&d("example.com")));
    }
}
