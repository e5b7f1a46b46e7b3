//! One local domain: its records, its certificate, and what peers find at its addresses.

use std::sync::Arc;

use rustls::pki_types::UnixTime;

use super::{
    SelfcheckError,
    report::{Item, Topic},
};
use crate::{
    auth::pkix::{self, CertificateInfo, ReferenceIds},
    config::model::Dnssec,
    diagnose::{
        Status,
        check::{
            own::{self, Reached},
            report::{Connection, ProofResult},
        },
        records::{
            self,
            report::{Kind, State},
        },
    },
    net::targets::TargetTls,
    proxy::{rules::decide, services::Services},
    stream::Failure,
    xmpp::{Direction, Domain, DomainPair},
};

/// Everything there is to be said of a domain.
pub(super) async fn look_at(
    services: &Arc<Services>,
    domain: &Domain,
    prober: &Domain,
) -> Result<Vec<Item>, SelfcheckError> {
    let mut items = published(services, domain).await;
    items.extend(certificate(services, domain));
    let about = |topic, status, text: String| Item::new(topic, Some(domain), status, text);
    match own::reach(services, domain, prober).await? {
        Err(error) => {
            let why = Failure::from(error).detail().to_owned();
            items.push(about(Topic::Reach, Status::Unknown, why));
        }
        Ok(reached) => {
            for one in &reached {
                let (status, text) = place(services, domain, one);
                items.push(about(Topic::Reach, status, text));
            }
            // peers see the same at each address, but for what `place` told of it
            let mut connections = reached.iter().map(|one| &one.connection);
            if let Some(connection) = connections.find(|c| c.connect_ms.is_some()) {
                let (status, text) = seen(services, domain, prober, connection);
                items.push(about(Topic::Seen, status, text));
            }
        }
    }
    Ok(items)
}

/// What stands in DNS and on the web, as `fedgate records` finds it.
async fn published(services: &Arc<Services>, domain: &Domain) -> Vec<Item> {
    let about = |status, text: String| Item::new(Topic::Dns, Some(domain), status, text);
    let report = match records::of_domain(services, domain).await {
        Ok(report) => report,
        Err(error) => return vec![about(Status::Critical, error.to_string())],
    };
    let needed = report.items.iter().filter(|item| {
        // all of it is for `fedgate records`; here is only what is there, or has to be: nobody who
        // does not look at DNSSEC is to be told of TLSA records every day
        match item.state {
            State::Optional | State::Useless => false,
            State::Missing if item.kind == Kind::Tlsa => {
                services.config.resolver.dnssec != Dnssec::Off
            }
            State::Present | State::Missing | State::Differs | State::Wrong | State::Unknown => {
                true
            }
        }
    });
    needed
        .map(|item| {
            let kind = match item.kind {
                Kind::Srv => "SRV ",
                Kind::Tlsa => "TLSA ",
                Kind::Host | Kind::Posh => "",
            };
            let mut text = format!("{} {kind}{}", item.state.as_str(), item.name);
            if let (Kind::Srv | Kind::Tlsa, Some(value)) = (item.kind, &item.value) {
                text = format!("{text} {value}");
            }
            if let Some(why) = &item.why {
                text = format!("{text}: {why}");
            }
            about(item.state.status(), text)
        })
        .collect()
}

/// The certificate by itself: names, days, and the chain up to a trusted root. That the key fits was
/// found when the files were read.
fn certificate(services: &Services, domain: &Domain) -> Vec<Item> {
    let about = |status, text: String| Item::new(Topic::Certificate, Some(domain), status, text);
    let store = services.tls.store();
    let shown = store.for_domain(domain);
    let Some(leaf) = shown.cert.first() else {
        return vec![about(Status::Critical, "no certificate".into())];
    };
    let info = match CertificateInfo::of(leaf) {
        Ok(info) => info,
        Err(error) => return vec![about(Status::Critical, error.to_string())],
    };
    let now = UnixTime::now();
    let seconds = |time: UnixTime| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let days = (seconds(info.not_after) - seconds(now)).div_euclid(DAY);
    let mut items = vec![match store.names(domain) {
        true => about(Status::Ok, format!("names {domain} (for {}), its key fits", info.names)),
        false => about(
            Status::Warning,
            format!("does not name {domain} (for {}): peers cannot prove it by PKIX", info.names),
        ),
    }];
    let until = pkix::utc(info.not_after);
    items.push(match days {
        ..0 => about(Status::Critical, format!("EXPIRED on {until}")),
        _ if now.as_secs() < info.not_before.as_secs() => {
            let from = pkix::utc(info.not_before);
            about(Status::Critical, format!("not valid before {from}: is the clock right?"))
        }
        _ if info.is_due(now) => about(Status::Warning, format!("{days} days left, until {until}")),
        _ => about(Status::Ok, format!("{days} days left, until {until}")),
    });
    items.push(match pkix::verify(&shown.cert, &services.roots, ReferenceIds::of(domain), now) {
        Ok(_) => about(Status::Ok, format!("chain of a trusted CA, issuer {}", info.issuer)),
        Err(_) if services.roots.is_empty() => {
            about(Status::Ok, "chain not looked at: there are no trust roots".into())
        }
        Err(why) => about(Status::Warning, format!("no PKIX: {why}")),
    });
    items
}

/// Whether there is somebody at an address, and whether it is this fedgate.
fn place(services: &Services, domain: &Domain, reached: &Reached) -> (Status, String) {
    let Reached { target, connection } = reached;
    let kind = match target.tls {
        TargetTls::Direct => "direct TLS",
        TargetTls::StartTls => "STARTTLS",
    };
    let why = connection.error.as_ref().map_or("", |error| error.detail.as_str());
    let Some(address) = connection.address else {
        return (Status::Critical, format!("{}:{} {kind}: {why}", target.host, target.port));
    };
    let at = format!("{address} {kind}");
    let is_here = services.own.contains(address);
    if connection.connect_ms.is_none() {
        return match is_here {
            true => (Status::Critical, format!("{at}: {why}; it is an address of this machine")),
            false => (
                Status::Warning,
                format!(
                    "{at}: {why}; from outside it may be reached all the same (hairpin NAT): \
                     try it from there"
                ),
            ),
        };
    }
    let ours = services.tls.store().for_domain(domain);
    let ours = ours.cert.first().and_then(|leaf| CertificateInfo::of(leaf).ok());
    match (connection.certificates.first(), ours) {
        (Some(shown), Some(ours)) if shown.sha256 != ours.fingerprint.to_string() => (
            Status::Critical,
            format!(
                "{at}: another certificate answers, for {}: another server, or a fedgate that \
                 was not reloaded",
                shown.names
            ),
        ),
        (Some(_), _) => (Status::Ok, format!("{at}: our certificate answers")),
        (None, _) if is_here => (Status::Ok, format!("{at}: connected, on this machine")),
        (None, _) => (Status::Ok, format!("{at}: connected")),
    }
}

/// What a stranger gets to see.
fn seen(
    services: &Services,
    domain: &Domain,
    prober: &Domain,
    connection: &Connection,
) -> (Status, String) {
    let pair = DomainPair::new(prober.clone(), domain.clone());
    let decision = decide(&services.config, &pair, Direction::Inbound);
    if let (Some(denied), Some(error)) = (decision.denied(), &connection.error) {
        let text = format!("strangers are let no further ({}): {}", denied.rule, error.detail);
        return (Status::Ok, text);
    }
    let mut parts = Vec::new();
    if let Some(tls) = &connection.tls {
        parts.push(format!("{} {}", tls.version, tls.cipher));
    }
    let offered = connection.secured.as_ref().and_then(|stream| stream.features.as_ref());
    if let Some(features) = offered {
        if !features.sasl.is_empty() {
            parts.push(format!("sasl {}", features.sasl.join(" ")));
        }
        parts.extend(features.dialback.is_some().then(|| "dialback".to_owned()));
        parts.extend(features.bidi.then(|| "bidi".to_owned()));
    }
    let by_certificate = connection.proofs.iter().filter(|proof| proof.prooftype != "dialback");
    for proof in by_certificate.filter(|proof| proof.result != ProofResult::Untried) {
        parts.push(format!("{} {}", proof.prooftype, proof.result.as_str()));
    }
    if let Some(error) = &connection.error {
        parts.push(error.detail.clone());
        return (Status::Critical, parts.join("; "));
    }
    let status = match (&connection.tls, connection.proven_by) {
        (Some(_), Some(by)) => {
            parts.push(format!("proven by {by}"));
            Status::Ok
        }
        (Some(_), None) => {
            parts.push("no certificate proves the domain: dialback only".to_owned());
            Status::Warning
        }
        (None, _) => {
            parts.push("no TLS".to_owned());
            Status::Critical
        }
    };
    (status, parts.join("; "))
}

/// In seconds.
const DAY: i64 = 24 * 60 * 60;
