//! Namespaces that the operator names: exact ones, and beginnings that end with `*`.

use std::fmt;

use crate::xmpp::ns;

/// What is said of payloads, by namespace; the longest pattern that fits a namespace counts, and an
/// exact one before all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Payloads {
    /// The longest first, and of equal length an exact one.
    patterns: Vec<Pattern>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Pattern {
    /// Without the `*`.
    text: Box<str>,
    is_exact: bool,
    is_denied: bool,
}

/// Why a text is no pattern of namespaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PatternError {
    /// Nothing there, too long, or with characters that no namespace has.
    #[error("not a namespace")]
    Invalid,
    /// A `*` elsewhere than at the end.
    #[error("a \"*\" elsewhere than at the end")]
    Star,
    /// The namespace of stanzas themselves, which are no payloads.
    #[error("the namespace of stanzas themselves")]
    Stanzas,
    /// One more than there may be.
    #[error("too many namespaces")]
    TooMany,
}

impl Payloads {
    /// Says whether payloads of a namespace, or of all that begin so (with a `*`), are refused.
    ///
    /// # Errors
    /// [`PatternError`]; nothing is changed then.
    pub fn add(&mut self, pattern: &str, is_denied: bool) -> Result<(), PatternError> {
        let (text, is_exact) = match pattern.strip_suffix('*') {
            Some(beginning) => (beginning, false),
            None => (pattern, true),
        };
        if text.contains('*') {
            return Err(PatternError::Star);
        }
        let is_good = |c: char| !c.is_whitespace() && !c.is_control();
        if (is_exact && text.is_empty()) || text.len() > PATTERN_MAX || !text.chars().all(is_good) {
            return Err(PatternError::Invalid);
        }
        if is_exact && is_of_stanzas(text) {
            return Err(PatternError::Stanzas);
        }
        if self.patterns.len() >= PATTERNS_MAX {
            return Err(PatternError::TooMany);
        }
        let key = (std::cmp::Reverse(text.len()), !is_exact);
        let at = self
            .patterns
            .partition_point(|p| (std::cmp::Reverse(p.text.len()), !p.is_exact) <= key);
        self.patterns.insert(at, Pattern { text: text.into(), is_exact, is_denied });
        Ok(())
    }

    /// Whether any pattern is refused.
    #[must_use]
    pub fn deny_any(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.is_denied)
    }

    /// Whether a payload of this namespace is refused. Elements of stanzas themselves, such as
    /// `body`, and those in no namespace are no payloads.
    #[must_use]
    pub fn denies(&self, namespace: &str) -> bool {
        if namespace.is_empty() || is_of_stanzas(namespace) {
            return false;
        }
        let fits = |pattern: &&Pattern| match pattern.is_exact {
            true => *pattern.text == *namespace,
            false => namespace.starts_with(&*pattern.text),
        };
        self.patterns.iter().find(fits).is_some_and(|pattern| pattern.is_denied)
    }

    /// The patterns as they are written, and whether each is refused.
    pub fn iter(&self) -> impl Iterator<Item = (String, bool)> {
        self.patterns.iter().map(|pattern| (pattern.to_string(), pattern.is_denied))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if self.is_exact { Ok(()) } else { f.write_str("*") }
    }
}

/// Whether it is a namespace of stanzas: of servers, or of clients where one is quoted.
fn is_of_stanzas(namespace: &str) -> bool {
    matches!(namespace, ns::SERVER | ns::CLIENT)
}

/// Bytes of a pattern.
const PATTERN_MAX: usize = 500;
/// Patterns of one rule: each element of a stanza is held against all of them.
const PATTERNS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn payloads(patterns: &[(&str, bool)]) -> Payloads {
        let mut payloads = Payloads::default();
        for (pattern, is_denied) in patterns {
            payloads.add(pattern, *is_denied).unwrap();
        }
        payloads
    }

    #[test]
    fn the_longest_pattern_counts_wherever_it_stands() {
        let mut patterns = [
            ("urn:xmpp:jingle:*", true),
            ("*", false),
            ("urn:xmpp:jingle:apps:rtp:1", false),
            ("urn:xmpp:jingle:apps:rtp:1*", true),
            ("urn:xmpp:jingle:apps:*", true),
            ("x", true),
        ];
        for _ in 0..patterns.len() {
            patterns.rotate_left(1);
            let payloads = payloads(&patterns);
            for (namespace, denied) in [
                ("urn:xmpp:jingle:1", true),
                ("urn:xmpp:jingle:", true),
                ("urn:xmpp:jingle", false),
                ("urn:xmpp:jingle:apps:rtp:1", false),
                ("urn:xmpp:jingle:apps:rtp:1:x", true),
                ("urn:xmpp:jingle:apps:rtp:0", true),
                ("URN:xmpp:jingle:1", false),
                (" urn:xmpp:jingle:1", false),
                ("x", true),
                ("x*", false),
                ("xy", false),
                ("", false),
            ] {
                assert_eq!(payloads.denies(namespace), denied, "{namespace}");
            }
        }
    }

    #[test]
    fn stanzas_themselves_are_no_payloads() {
        let payloads = payloads(&[("*", true)]);
        for namespace in ["jabber:server", "jabber:client", ""] {
            assert!(!payloads.denies(namespace), "{namespace}");
        }
        assert!(payloads.denies("jabber:x:data"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        use PatternError as E;
        let mut payloads = Payloads::default();
        let long = "x".repeat(PATTERN_MAX + 1);
        for (pattern, error) in [
            ("", E::Invalid),
            ("a b", E::Invalid),
            ("a\n*", E::Invalid),
            (&long, E::Invalid),
            ("**", E::Star),
            ("a*b", E::Star),
            ("*:jingle", E::Star),
            ("jabber:server", E::Stanzas),
            ("jabber:client", E::Stanzas),
        ] {
            assert_eq!(payloads.add(pattern, true), Err(error), "{pattern}");
        }
        assert_eq!(payloads, Payloads::default());
        for n in 0..PATTERNS_MAX {
            payloads.add(&format!("urn:{n}"), false).unwrap();
        }
        assert!(!payloads.deny_any());
        assert_eq!(payloads.add("urn:x", true), Err(E::TooMany));
    }

    #[test]
    fn patterns_are_given_back_as_they_were_written() {
        let given = payloads(&[("b*", true), ("b", false), ("abc*", true), ("*", false)]);
        let back: Vec<_> = given.iter().collect();
        let back: Vec<_> = back.iter().map(|(pattern, denied)| (&**pattern, *denied)).collect();
        assert_eq!(back, [("abc*", true), ("b", false), ("b*", true), ("*", false)]);
        assert_eq!(payloads(&back), given);
    }
}
