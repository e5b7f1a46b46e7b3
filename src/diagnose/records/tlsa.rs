//! TLSA records: `3 1 1` for each key, at each endpoint (RFC 7671 §5.1 and §8.1, RFC 7673; DA-13).

use std::{path::Path, time::Duration};

use rustls::pki_types::{CertificateDer, UnixTime};

use super::{DomainReport, Endpoint, Item, Kind, RecordsError, Signed, State, Survey, item};
use crate::{
    auth::{
        dane::{self, TlsaRecord, TlsaSet},
        pkix::ReferenceIds,
    },
    net::certificates::PublishedKey,
    xmpp::Domain,
};

impl Survey {
    /// Says what TLSA records there are to be at the endpoints, for the key of `chain` and those
    /// that come.
    pub(super) async fn tlsa(
        &self,
        domain: &Domain,
        chain: &[CertificateDer<'static>],
        endpoints: &[Endpoint],
        report: &mut DomainReport,
    ) -> Result<(), RecordsError> {
        let Some(leaf) = chain.first() else { return Ok(()) };
        let current = PublishedKey::of(leaf, Path::new("the certificate in use"))?;
        let current = TlsaRecord::of_key(&current.key);
        let next: Vec<_> = self.next.iter().map(|next| TlsaRecord::of_key(&next.key)).collect();
        let mut unsigned = Vec::new();
        for endpoint in endpoints {
            let Endpoint { host, port, is_delegated } = endpoint;
            let name = format!("_{port}._tcp.{host}");
            let of = |record: &TlsaRecord, key| Item {
                key: Some(key),
                ..item(Kind::Tlsa, &*name, Some(record.to_string()))
            };
            let found = match self.services.resolver.tlsa_records(host, *port).await {
                Ok(found) => found,
                Err(error) => {
                    report.items.push(of(&current, "current").unresolved(error));
                    continue;
                }
            };
            let signed = self.is_signed(found.security);
            let texts: Vec<_> = found.records.iter().map(ToString::to_string).collect();
            let of = |record: &TlsaRecord, key| Item { found: texts.clone(), ..of(record, key) };
            let all = || {
                let coming = next.iter().filter(|next| **next != current);
                std::iter::once((&current, "current")).chain(coming.map(|next| (next, "next")))
            };
            if signed == Signed::No || !is_delegated {
                let zone = if signed == Signed::No { host.as_str() } else { domain.as_str() };
                if !unsigned.contains(&zone) {
                    unsigned.push(zone);
                }
                let why = format!("the zone of {zone} is not signed");
                report.items.extend(all().map(|(r, key)| of(r, key).is(State::Useless, &*why)));
                continue;
            }
            let verdict = (!found.records.is_empty()).then(|| {
                let expires = Duration::from_secs(UnixTime::now().as_secs() + 1);
                let expires = UnixTime::since_unix_epoch(expires);
                let base = host.as_str().into();
                let set = TlsaSet { base, records: found.records.clone(), expires };
                let ids = ReferenceIds::of(domain).delegated([Some(host), None], expires);
                dane::verify(chain, &set, &self.services.roots, ids, UnixTime::now())
            });
            for (record, key) in all() {
                let is_there = found.records.contains(record);
                let item = of(record, key);
                report.items.push(match (&verdict, key) {
                    (Some(dane::Outcome::Mismatch(why)), "current") => item
                        .is(State::Wrong, format!("peers that use DANE refuse this server: {why}")),
                    _ if is_there => item.is(State::Present, ""),
                    (Some(dane::Outcome::Match(_)), "current") => {
                        item.is(State::Present, format!("by another record: {}", texts.join(", ")))
                    }
                    _ => item.is(State::Missing, ""),
                });
            }
            let foreign: Vec<_> = found
                .records
                .iter()
                .filter(|found| found.usage == current.usage && found.selector == current.selector)
                .filter(|found| **found != current && !next.contains(found))
                .map(ToString::to_string)
                .collect();
            if !foreign.is_empty() && !matches!(verdict, Some(dane::Outcome::Mismatch(_))) {
                report.notes.push(format!(
                    "{name} also has {}: the key of another server, or one to be removed",
                    foreign.join(", ")
                ));
            }
            if signed == Signed::Unchecked {
                unsigned.push("");
            }
        }
        if unsigned.contains(&"") {
            report.notes.push(
                "resolver.dnssec is off: whether the zones are signed was not looked at, and TLSA records count only if they are".to_owned(),
            );
        } else if !unsigned.is_empty() {
            report.notes.push(format!(
                "not signed with DNSSEC: {}; without, TLSA records count for nothing, and SRV records can be forged",
                unsigned.join(", ")
            ));
        }
        Ok(())
    }
}
