//! The document of POSH, one for each domain (RFC 7711 §3.1, RFC 7712 §5.2; PO-11).

use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};

use super::{DomainReport, Item, Kind, RecordsError, State, Survey, item};
use crate::{
    auth::{
        pkix::{self, ReferenceIds},
        posh::{self, Outcome},
    },
    net::{posh::PATH, whole_file::replace},
    xmpp::Domain,
};

impl Survey {
    /// Says what the document is to be, writes it where that is asked for, and looks at the one
    /// that is there.
    pub(super) async fn posh(
        &self,
        domain: &Domain,
        chain: &[CertificateDer<'static>],
        report: &mut DomainReport,
    ) -> Result<(), RecordsError> {
        let Some(leaf) = chain.first() else { return Ok(()) };
        let mut listed = vec![leaf.clone()];
        for next in self.next.iter().filter_map(|next| next.certificate.as_ref()) {
            if !listed.contains(next) {
                listed.push(next.clone());
            }
        }
        if self.next.iter().any(|next| next.certificate.is_none()) {
            report.notes.push(
                "--next names a key: POSH lists certificates, so give the next one too when it is there".to_owned(),
            );
        }
        let document = posh::write(&listed, EXPIRES);
        if let Some(directory) = &self.options.posh_dir {
            let path = directory.join(domain.as_str()).join(PATH.trim_start_matches('/'));
            replace(&path, &document, 0o666)
                .map_err(|source| RecordsError::Write { path: path.clone(), source })?;
            report.notes.push(format!("written: {}", path.display()));
        }
        let url = format!("https://{domain}{PATH}");
        let item = item(Kind::Posh, url, Some(document));
        // POSH is for domains that nothing else proves
        let ids = ReferenceIds::of(domain);
        let by_pkix = pkix::verify(chain, &self.services.roots, ids, UnixTime::now()).is_ok();
        let is_there = |item: &Item| item.kind == Kind::Tlsa && item.state == State::Present;
        let by_dane = report.items.iter().any(is_there);
        let none = |item: Item, why: String| match by_pkix || by_dane {
            true => item.is(State::Optional, why),
            false => item.is(
                State::Missing,
                format!("{why}; neither a CA that is trusted here nor DANE proves the certificate"),
            ),
        };
        let Some(client) = &self.services.posh else {
            report.items.push(none(item, "not looked at: posh.fetch is off".into()));
            return Ok(());
        };
        let found = client.material(domain).await;
        let verify = |certificate: &CertificateDer<'static>| match &found {
            Ok(Some(material)) => {
                let chain = [certificate.clone()];
                Some(posh::verify(&chain, material, domain, UnixTime::now()))
            }
            _ => None,
        };
        let next_missing = listed.iter().skip(1).any(|next| {
            // one that is not valid yet is listed all the same
            matches!(verify(next), Some(Outcome::Mismatch(posh::Mismatch::NotListed(_))))
        });
        report.items.push(match (&found, verify(leaf)) {
            (_, Some(Outcome::Match(_))) if next_missing => {
                item.is(State::Missing, "the next certificate is not listed yet")
            }
            (_, Some(Outcome::Match(_))) => item.is(State::Present, ""),
            (_, Some(Outcome::Mismatch(why))) => {
                item.is(State::Wrong, format!("peers that use POSH refuse this server: {why}"))
            }
            (_, Some(Outcome::NoUsableMaterial)) => {
                item.is(State::Missing, "what is there cannot be used")
            }
            (Err(error), None) => none(item, error.to_string()),
            (Ok(_), None) => none(item, "not there".into()),
        });
        Ok(())
    }
}

/// How long others may rely on the document: short enough for a key that has to be withdrawn.
const EXPIRES: Duration = Duration::from_secs(24 * 60 * 60);
