//! Failures of name resolution, of connecting and of policy, as failures of a stream.

use crate::{
    config::policy::Denied,
    net::{
        connector::{ConnectError, ConnectFailure},
        resolver::ResolveError,
    },
    stream::{Failure, FailureKind},
    xmpp::StanzaCondition,
};

/// A rule says no to `what`; the senders are told `error`, if a rule chooses that.
pub(super) fn denied(
    what: impl std::fmt::Display,
    denied: &Denied,
    error: Option<StanzaCondition>,
) -> Failure {
    let reason = denied.reason.as_deref().map(|r| format!(" ({r})")).unwrap_or_default();
    let detail = format!("{what} is denied by {}{reason}", denied.rule);
    let failure = Failure::new(FailureKind::Denied, detail);
    match error {
        Some(error) => failure.with_condition(error),
        None => failure,
    }
}

impl From<ResolveError> for Failure {
    fn from(error: ResolveError) -> Self {
        match &error {
            ResolveError::NotFound { .. } => Self::new(FailureKind::NotFound, error.to_string()),
            ResolveError::Bogus { .. } => Self::new(FailureKind::Resolution, error.to_string()),
            ResolveError::Temporary { cause, .. } => {
                Self::new(FailureKind::Resolution, format!("{error}: {cause}"))
            }
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let kind = match error.condition() {
            StanzaCondition::Forbidden => FailureKind::Denied,
            StanzaCondition::RemoteServerNotFound => FailureKind::NotFound,
            _ if error.failures.is_empty() => FailureKind::Unreachable,
            _ if error.failures.iter().all(ConnectFailure::is_unanswered) => {
                FailureKind::Resolution
            }
            _ => FailureKind::Unreachable,
        };
        Self::new(kind, error.to_string())
    }
}
