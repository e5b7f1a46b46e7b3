//! What follows from a judgement: whether refusals are carried out, and what becomes of who comes back
//! weaker.

/// Whether refusals are carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// They are.
    #[default]
    Enforce,
    /// What the rules refuse beyond the defaults is logged only: everyone may at level
    /// `encrypted`. Networks of `deny_out` stay shut.
    Report,
}

/// What becomes of a remote domain that reaches less than it has reached before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Downgrade {
    /// Nothing, and from then on the less is what is expected of it.
    Allow,
    /// It is logged.
    #[default]
    Alert,
    /// Its stanzas are refused.
    Refuse,
}

impl Downgrade {
    /// The words of the configuration.
    pub(in crate::config) const WORDS: [(&'static str, Self); 3] =
        [("allow", Self::Allow), ("alert", Self::Alert), ("refuse", Self::Refuse)];

    pub(in crate::config) fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Alert => "alert",
            Self::Refuse => "refuse",
        }
    }
}
