//! Rules as they were written: what they match, where they stand, what they say.

use std::{fmt, sync::Arc};

use ipnet::IpNet;

use super::terms::{Allow, Terms};
use crate::{
    config::civil::Instant,
    xmpp::{Direction, Domain},
};

/// Where a rule stands, for logs: `conf.d/20-rules.yaml:12`, with the column in `{:#}`; or words
/// for a rule of no file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    file: Arc<str>,
    line: u32,
    column: u32,
}

impl Place {
    /// A place in a file; line and column count from 1.
    #[must_use]
    pub fn new(file: impl Into<Arc<str>>, line: usize, column: usize) -> Self {
        let number = |n| u32::try_from(n).unwrap_or(u32::MAX);
        Self { file: file.into(), line: number(line), column: number(column) }
    }

    /// Words for what stands in no file.
    #[must_use]
    pub fn words(words: impl Into<Arc<str>>) -> Self {
        Self::new(words, 0, 0)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line if f.alternate() => write!(f, "{}:{line}:{}", self.file, self.column),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

/// A refusal by rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Denied {
    /// The operator's reason, if the rule gives one. For our own logs, not for the peer.
    pub reason: Option<Arc<str>>,
    /// The rule's place.
    pub rule: Place,
}

/// A pattern of remote domains.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(in crate::config) enum Pattern {
    /// This name alone.
    Exact(Domain),
    /// The names below this one, which may be a single label.
    Below(Arc<str>),
    /// What a named list has.
    List(Arc<str>),
    /// All names.
    Any,
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(domain) => write!(f, "{domain}"),
            Self::Below(suffix) => write!(f, "*.{suffix}"),
            Self::List(name) => write!(f, "list({name})"),
            Self::Any => f.write_str("*"),
        }
    }
}

/// Until when a rule holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::config) struct Expiry(pub(in crate::config) Instant);

/// A rule for remote domains.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::config) struct Rule {
    /// What it matches; none in the defaults.
    pub(in crate::config) patterns: Vec<Pattern>,
    /// The local domains that it is for; empty: all.
    pub(in crate::config) local: Vec<Domain>,
    /// The direction of stanzas that it is for; none: both.
    pub(in crate::config) direction: Option<Direction>,
    pub(in crate::config) terms: Terms,
    pub(in crate::config) reason: Option<Arc<str>>,
    pub(in crate::config) expires: Option<Expiry>,
    pub(in crate::config) place: Place,
}

impl Rule {
    pub(in crate::config) fn denied(&self) -> Denied {
        Denied { reason: self.reason.clone(), rule: self.place.clone() }
    }
}

/// A rule for addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::config) struct AddressRule {
    pub(in crate::config) networks: Vec<IpNet>,
    pub(in crate::config) allow: Allow,
    pub(in crate::config) reason: Option<Arc<str>>,
    pub(in crate::config) expires: Option<Expiry>,
    pub(in crate::config) place: Place,
}

impl AddressRule {
    pub(in crate::config) fn denied(&self) -> Denied {
        Denied { reason: self.reason.clone(), rule: self.place.clone() }
    }
}

/// Of two refusals, the one whose words stand for both, whatever their order: one with a reason,
/// then the first by its text.
pub(super) fn speaks_first(a: &Denied, b: &Denied) -> bool {
    let rank = |d: &Denied| (d.reason.is_none(), d.reason.clone(), d.rule.clone());
    rank(a) < rank(b)
}
