//! todo
use super::{DomainReport, RecordsError, Survey};
use crate::xmpp::Domain;
use rustls::pki_types::CertificateDer;
impl Survey<'_> {
    pub(super) async fn posh(
        &self,
        _domain: &Domain,
        _leaf: &CertificateDer<'static>,
        _report: &mut DomainReport,
    ) -> Result<(), RecordsError> {
        Ok(())
    }
}
