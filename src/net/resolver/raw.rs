//! What stands in DNS as it is, before anything is decided from it: for reports to an operator.
//! Answers come from the same memory as those that federation rests on.

use std::{fmt, net::IpAddr, sync::Arc};

use hickory_resolver::proto::rr::{RData, RecordType};

use super::{Chain, ResolveError, Resolver, address, service_name, tlsa};
use crate::{
    auth::dane::{Security, TlsaRecord},
    net::targets::TargetTls,
    xmpp::Domain,
};

/// All records of one type at a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Records<T> {
    /// The records, in the order of the answer; none if it is known that there are none.
    pub records: Vec<T>,
    /// The least of all steps that led to them, or to the denial.
    pub security: Security,
    /// What the name is an alias of, securely or not, if it is.
    pub alias: Option<Arc<str>>,
}

/// An SRV record as it came (RFC 2782).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SrvRecord {
    /// Lower is tried first.
    pub priority: u16,
    /// The share among those of one priority.
    pub weight: u16,
    /// The TCP port.
    pub port: u16,
    /// The host, lower case; `.` where the service is decidedly not there.
    pub target: Box<str>,
}

impl Resolver {
    /// The SRV records of a domain's service.
    ///
    /// # Errors
    /// [`ResolveError::Temporary`] or [`ResolveError::Bogus`]; that there are none is no error.
    pub async fn srv_records(
        &self,
        domain: &Domain,
        tls: TargetTls,
    ) -> Result<Records<SrvRecord>, ResolveError> {
        let name = service_name(tls, domain);
        self.records(&name, RecordType::SRV, |data| match data {
            RData::SRV(srv) => Some(SrvRecord {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: plain(&srv.target.to_ascii()).into(),
            }),
            _ => None,
        })
        .await
    }

    /// The TLSA records of a port, be they usable or not.
    ///
    /// # Errors
    /// As those of [`srv_records`](Self::srv_records).
    pub async fn tlsa_records(
        &self,
        host: &str,
        port: u16,
    ) -> Result<Records<TlsaRecord>, ResolveError> {
        self.records(&format!("_{port}._tcp.{host}"), RecordType::TLSA, tlsa::record).await
    }

    /// The addresses of a host, of both families.
    ///
    /// # Errors
    /// As those of [`srv_records`](Self::srv_records), for either family.
    pub async fn host_records(&self, host: &str) -> Result<Records<IpAddr>, ResolveError> {
        let (v6, v4) = tokio::try_join!(
            self.records(host, RecordType::AAAA, address),
            self.records(host, RecordType::A, address),
        )?;
        let security = v6.security.min(v4.security);
        let alias = v6.alias.or(v4.alias);
        Ok(Records { records: [v6.records, v4.records].concat(), security, alias })
    }

    async fn records<T>(
        &self,
        name: &str,
        kind: RecordType,
        read: impl Fn(&RData) -> Option<T>,
    ) -> Result<Records<T>, ResolveError> {
        let chain = match self.ask(name, kind).await {
            // No record can stand where no name can.
            Err(ResolveError::NotFound { .. }) => {
                let security = Security::Insecure;
                return Ok(Records { records: Vec::new(), security, alias: None });
            }
            answer => answer?,
        };
        let Chain { records, security, end, .. } = chain;
        let end = end.to_ascii();
        let end = plain(&end);
        Ok(Records {
            records: records.iter().filter_map(read).collect(),
            security,
            alias: (end != name).then(|| end.into()),
        })
    }
}

/// Lower case, without the dot at the end; the root is `.`.
fn plain(name: &str) -> String {
    match name.strip_suffix('.') {
        Some("") | None => name.to_ascii_lowercase(),
        Some(name) => name.to_ascii_lowercase(),
    }
}

impl fmt::Display for SrvRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { priority, weight, port, target } = self;
        write!(f, "{priority} {weight} {port} {target}")
    }
}
