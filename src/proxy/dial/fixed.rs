//! A peer where a rule says that it is, whatever DNS says. The operator has named the place, so
//! it may be in a network that is shut to what strangers name; the certificate has to be for the
//! peer's own domain.

use super::{Job, Outcome};
use crate::{
    auth::dane::{DanePlan, Security},
    config::policy::Connect,
    net::{
        connector::{Connected, connect_legacy},
        targets::{Delegation, Target, TargetTls},
    },
    stream::{Failure, FailureKind},
};

impl Job<'_> {
    /// Opens a stream there.
    pub(super) async fn fixed(&mut self, connect: &Connect) -> Result<Outcome, Failure> {
        let limit = self.config.limits.tcp_connect;
        let stream = connect_legacy(&connect.address, limit).await.map_err(|error| {
            let detail = format!("connect to {}, as a rule says: {error}", connect.address);
            Failure::new(FailureKind::Unreachable, detail)
        })?;
        let address = stream
            .peer_addr()
            .map_err(|error| Failure::new(FailureKind::Unreachable, format!("connect: {error}")))?;
        let target = Target {
            host: connect.address.host.as_str().into(),
            port: connect.address.port,
            tls: if connect.direct_tls { TargetTls::Direct } else { TargetTls::StartTls },
            priority: 0,
            delegation: Delegation::Insecure,
        };
        let plan = DanePlan::NotApplicable;
        let security = Security::Insecure;
        self.target(Connected { stream, target, address, plan, security }).await
    }
}
