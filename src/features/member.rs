//! Who belongs to a role: local addresses, alone or as all accounts of a domain.

use std::fmt;

use crate::xmpp::{Domain, jid};

/// Local addresses that a role names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Member {
    who: Who,
    domain: Domain,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Who {
    /// The account of this localpart, folded.
    Account(Box<str>),
    /// All accounts of the domain; for a service of rooms, its rooms.
    Accounts,
    /// The domain itself: the server, a component.
    Domain,
}

/// Why a text names no local address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MemberError {
    /// With a resource: roles are of accounts.
    #[error("an address with a resource")]
    Resource,
    /// No localpart, or one that no account has (RFC 7622 §3.3.1).
    #[error("not a localpart")]
    Localpart,
    /// The domain.
    #[error(transparent)]
    Domain(#[from] crate::xmpp::DomainError),
}

impl Member {
    /// Reads `account@domain`, `*@domain` or `domain`.
    ///
    /// # Errors
    /// [`MemberError`] for anything else.
    pub fn parse(text: &str) -> Result<Self, MemberError> {
        if text.contains('/') {
            return Err(MemberError::Resource);
        }
        let (who, domain) = match text.split_once('@') {
            None => (Who::Domain, text),
            Some(("*", domain)) => (Who::Accounts, domain),
            Some((local, domain)) => {
                let is_bad = |c: char| c.is_whitespace() || c.is_control() || BAD.contains(&c);
                let is_none = |part: &str| {
                    part.is_empty() || part.len() > LOCALPART_MAX || part.chars().any(is_bad)
                };
                // a wide star is a star when it is folded, and a soft hyphen nothing
                let folded = jid::folded(local);
                if is_none(local) || is_none(&folded) {
                    return Err(MemberError::Localpart);
                }
                (Who::Account(folded.into()), domain)
            }
        };
        Ok(Self { who, domain: Domain::parse(domain)? })
    }

    /// The domain.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Whether an address of `domain` is meant; `localpart` is folded, none that of the domain itself.
    #[must_use]
    pub fn is(&self, localpart: Option<&str>, domain: &Domain) -> bool {
        self.domain == *domain
            && match (&self.who, localpart) {
                (Who::Account(own), Some(local)) => **own == *local,
                (Who::Accounts, Some(_)) | (Who::Domain, None) => true,
                (Who::Account(_) | Who::Accounts, None) | (Who::Domain, Some(_)) => false,
            }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.who {
            Who::Account(local) => write!(f, "{local}@{}", self.domain),
            Who::Accounts => write!(f, "*@{}", self.domain),
            Who::Domain => write!(f, "{}", self.domain),
        }
    }
}

/// What is in no localpart (RFC 7622 §3.3.1), and the star that stands for all.
const BAD: [char; 9] = ['"', '&', '\'', '/', ':', '<', '>', '@', '*'];
/// Bytes of a localpart (RFC 7622 §3.3).
const LOCALPART_MAX: usize = 1023;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_accounts_all_accounts_or_the_domain_itself() {
        let domain = Domain::parse("legacy.example").unwrap();
        for (member, ann, bob, itself) in [
            ("ann@legacy.example", true, false, false),
            ("Ann@LEGACY.example", true, false, false),
            ("*@legacy.example", true, true, false),
            ("legacy.example", false, false, true),
            ("*@rooms.legacy.example", false, false, false),
            ("rooms.legacy.example", false, false, false),
        ] {
            let member = Member::parse(member).unwrap();
            let found = [Some("ann"), Some("bob"), None].map(|local| member.is(local, &domain));
            assert_eq!(found, [ann, bob, itself], "{member}");
            assert_eq!(Member::parse(&member.to_string()).unwrap(), member);
        }
    }

    #[test]
    fn what_names_nobody_is_refused() {
        for text in ["", "@a.example", "ann@", "ann@a.example/x", "a b@a.example", "an*@a.example"]
        {
            assert!(Member::parse(text).is_err(), "{text}");
        }
        for text in ["\u{ff0a}@a.example", "a\u{ff0f}b@a.example", "\u{ad}@a.example"] {
            assert!(Member::parse(text).is_err(), "{text}");
        }
        for text in ["ann@bob@a.example", "*", "ann@*", "ann@localhost", "a:b@a.example"] {
            assert!(Member::parse(text).is_err(), "{text}");
        }
    }
}
