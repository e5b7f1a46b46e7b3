//! What is told of the steps of opening a stream.

use crate::net::targets::{Delegation, Target, TargetTls};

/// Servers of a domain that a step names.
const TARGETS_SHOWN: usize = 4;

/// What DNS says of a domain's servers, in words.
pub(super) fn found(targets: &[Target]) -> String {
    let shown = targets.iter().take(TARGETS_SHOWN).map(|target| {
        let kind = match target.tls {
            TargetTls::Direct => "direct TLS",
            TargetTls::StartTls => "STARTTLS",
        };
        let security = match target.delegation {
            Delegation::None => "no SRV record",
            Delegation::Insecure => "insecure",
            Delegation::Secure { .. } => "secure",
        };
        format!("{}:{} ({kind}, {security})", target.host, target.port)
    });
    let more = match targets.len().saturating_sub(TARGETS_SHOWN) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    format!("DNS names {}{more}", shown.collect::<Vec<_>>().join(", "))
}
