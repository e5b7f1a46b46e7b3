//! What a report comes to: whether the domain federates, and what to do about it, on which side.

use rustls::pki_types::UnixTime;

use super::report::{Connection, Outcome, ProofReport, ProofResult, Report, TargetReport};
use crate::{
    auth::pkix::{self, CertificateInfo},
    config::{model::Dnssec, policy::Level},
    diagnose::Status,
    proxy::services::Services,
};

/// Fills in outcome, status, summary and hints.
pub(super) fn conclude(report: &mut Report, services: &Services) {
    let good = good(report).cloned();
    let seen = good.as_ref().or_else(|| connections(report).rev().find(|c| c.level.is_some()));
    let level = seen.and_then(|connection| connection.level);
    let proven_by = seen.and_then(|connection| connection.proven_by);
    let outbound = match (&good, report.policy.outbound.allowed) {
        (_, false) => Some(false),
        (Some(_), true) => Some(true),
        (None, true) => (!is_unresolved(report)).then_some(false),
    };
    let inbound = match (seen, report.policy.inbound.allowed) {
        (_, false) => Some(false),
        (Some(seen), true) => Some(seen.missing_inbound.is_none()),
        (None, true) => None,
    };
    report.outcome = Outcome { outbound, inbound, level, proven_by };
    let mut advice = Advice { report, services, hints: Vec::new(), status: Status::Ok };
    advice.rules();
    advice.dns();
    advice.targets();
    if let Some(good) = &good {
        advice.stream(good);
    } else {
        advice.nothing_good();
    }
    let Advice { hints, status, .. } = advice;
    let known = match (outbound, inbound) {
        (Some(false), _) | (_, Some(false)) => Status::Critical,
        (None, _) => Status::Unknown,
        // the other direction rests on the same certificate, or it is dialled back
        (Some(true), _) => Status::Ok,
    };
    let mut all: Vec<String> = Vec::new();
    for hint in hints {
        if !all.contains(&hint) {
            all.push(hint);
        }
    }
    report.hints = all;
    report.status = known.max(status);
    report.summary = summary(report);
}

fn connections(report: &Report) -> impl DoubleEndedIterator<Item = &Connection> {
    report.targets.iter().flat_map(|target| &target.connections)
}

fn good(report: &Report) -> Option<&Connection> {
    connections(report).find(|connection| connection.error.is_none())
}

/// Whether nothing is known, for there was no answer from the DNS.
fn is_unresolved(report: &Report) -> bool {
    let Some(dns) = &report.dns else { return false };
    let mut all = dns.error.iter().chain(report.targets.iter().filter_map(|t| t.error.as_ref()));
    let is_all = |reason: &str| reason == "resolution" || reason == "timeout";
    let tried = connections(report).next().is_some();
    !tried && all.next().is_some_and(|first| is_all(first.reason)) && all.all(|e| is_all(e.reason))
}

fn summary(report: &Report) -> String {
    let Outcome { outbound, inbound, level, proven_by } = &report.outcome;
    let level = match (level, proven_by) {
        (Some(level), Some(proof)) => format!("level {level}, proven by {proof}"),
        (Some(level), None) => format!("level {level}, not proven by any certificate"),
        (None, _) => first_error(report).unwrap_or_else(|| "a rule denies it".to_owned()),
    };
    match (outbound, inbound) {
        (Some(true), Some(false)) => format!("would federate outbound only: {level}"),
        (Some(true), _) => format!("would federate: {level}"),
        (Some(false), Some(true)) => format!("would not federate outbound: {level}"),
        (Some(false), _) => format!("would not federate: {level}"),
        (None, _) => "could not be found out".to_owned(),
    }
}

/// Where the way ended first.
fn first_error(report: &Report) -> Option<String> {
    if let Some(error) = report.dns.as_ref().and_then(|dns| dns.error.as_ref()) {
        return Some(error.detail.clone());
    }
    report.targets.iter().find_map(|target| {
        let of_connection = |connection: &Connection| {
            let detail = &connection.error.as_ref()?.detail;
            Some(match connection.address {
                Some(address) => format!("{address}: {detail}"),
                None => detail.clone(),
            })
        };
        let of_target = target.error.as_ref().map(|error| error.detail.clone());
        of_target.or_else(|| target.connections.iter().find_map(of_connection))
    })
}

struct Advice<'a> {
    report: &'a Report,
    services: &'a Services,
    hints: Vec<String>,
    status: Status,
}

impl Advice<'_> {
    fn hint(&mut self, status: Status, text: impl Into<String>) {
        self.status = self.status.max(status);
        self.hints.push(text.into());
    }

    fn rules(&mut self) {
        let policy = &self.report.policy;
        for (direction, ruling) in [("outbound", &policy.outbound), ("inbound", &policy.inbound)] {
            if let Some(rule) = &ruling.reported {
                self.hint(
                    Status::Warning,
                    format!("in mode enforce a rule would deny it {direction}: {rule}"),
                );
            }
            if let Some(rule) = &ruling.denied_by {
                self.hint(
                    Status::Critical,
                    format!("a rule denies it {direction}: change {rule} if that is not meant"),
                );
            }
        }
    }

    fn dns(&mut self) {
        let Some(dns) = &self.report.dns else { return };
        let domain = &self.report.domain;
        match dns.error.as_ref().map(|error| error.reason) {
            None => {}
            Some("not-found") => self.hint(
                Status::Ok,
                format!("the DNS of {domain} names no XMPP server: is the name spelled right?"),
            ),
            Some("bogus") => self.hint(Status::Ok, bogus(domain)),
            Some(_) => self.hint(Status::Ok, NO_ANSWER),
        }
    }

    fn targets(&mut self) {
        let is_good = good(self.report).is_some();
        for target in &self.report.targets {
            let name = format!("{}:{}", target.host, target.port);
            match target.error.as_ref().map(|error| error.reason) {
                None => {}
                Some("bogus") => self.hint(Status::Warning, bogus(&target.host)),
                Some("not-found") => {
                    let is_fallback = self.report.dns.as_ref().is_some_and(|dns| dns.fallback);
                    let text = match is_fallback {
                        true => format!(
                            "{} has neither SRV records nor an address: is the name spelled right?",
                            target.host
                        ),
                        false => format!("{name} has no address: its SRV record is wrong"),
                    };
                    self.hint(Status::Warning, text);
                }
                Some(_) => self.hint(Status::Warning, NO_ANSWER),
            }
            for connection in &target.connections {
                let Some(error) = &connection.error else { continue };
                match error.reason {
                    "own" => self.hint(
                        Status::Warning,
                        format!("{name} is this fedgate: add the domain to legacy.*.domains, or have its SRV record corrected"),
                    ),
                    "denied" => self.hint(
                        Status::Warning,
                        "an address of the peer is in a forbidden network: a rule for it with allow: both, or networks.deny_out, decides",
                    ),
                    "unreachable" if is_good => self.hint(
                        Status::Warning,
                        format!("not every address of {name} answers: its administrator should know"),
                    ),
                    _ => {}
                }
                self.failed(target, connection, error.reason);
            }
        }
    }

    /// A stream that did not come about.
    fn failed(&mut self, target: &TargetReport, connection: &Connection, reason: &str) {
        let name = format!("{}:{}", target.host, target.port);
        match reason {
            "tls" => self.hint(
                Status::Warning,
                format!("{name} gives no TLS as fedgate wants it: its administrator has to enable TLS 1.2 or 1.3 with ECDHE suites"),
            ),
            "certificate" => self.hint(
                Status::Warning,
                "the peer ends TLS over our certificate and takes none either",
            ),
            "host-unknown" => self.hint(
                Status::Warning,
                format!("{name} does not serve the domain: its SRV record or its virtual hosts are wrong"),
            ),
            "rejected" => self.hint(
                Status::Warning,
                "the peer refuses our domain: a block list there, or it could not check our key; is _xmpp-server of our domain right (fedgate records)?",
            ),
            "not-proven" => self.unproven(connection, Status::Warning),
            _ => {}
        }
    }

    /// A stream that came about.
    fn stream(&mut self, good: &Connection) {
        if good.level == Some(Level::Encrypted.as_str()) {
            self.unproven(good, Status::Warning);
        }
        if good.level == Some(Level::Verified.as_str()) {
            self.hint(
                Status::Warning,
                "nothing is encrypted, and everybody on the way can read and change it: the rules allow that",
            );
        }
        if let Some(leaf) = good.certificates.first()
            && leaf.is_due
        {
            let days = leaf.days_left;
            let when = match days {
                ..0 => "has expired".to_owned(),
                0 => "expires within a day".to_owned(),
                _ => format!("expires in {days} days"),
            };
            self.hint(
                Status::Warning,
                format!("the peer's certificate {when}: it has to be renewed there"),
            );
        }
        if good.certificate_refused.is_some() {
            self.hint(
                Status::Warning,
                "the peer ends TLS over our certificate: it wants clientAuth in it, or does not know its CA; dialback is left",
            );
        }
        self.ours(good);
    }

    /// What the peer makes of us.
    fn ours(&mut self, good: &Connection) {
        let Some(features) = good.secured.as_ref().and_then(|stream| stream.features.as_ref())
        else {
            return;
        };
        if features.sasl.iter().any(|mechanism| mechanism == "EXTERNAL")
            || good.dialback == Some(true)
        {
            return;
        }
        let from = &self.report.from;
        let ours = self.our_certificate();
        if features.dialback.is_some() {
            self.hint(
                Status::Ok,
                format!(
                    "the peer does not offer to take our certificate ({ours}): dialback decides"
                ),
            );
        } else {
            self.hint(
                Status::Warning,
                format!("the peer offers neither SASL EXTERNAL nor dialback: it does not take our certificate ({ours}) and will likely refuse {from}; --dialback tells"),
            );
        }
    }

    /// What a peer may have against our certificate.
    fn our_certificate(&self) -> String {
        let from = &self.report.from;
        let store = self.services.tls.store();
        let shown = from.parse().ok().map(|from| (store.names(&from), store.for_domain(&from)));
        let Some((names_it, shown)) = shown else { return "there is none".to_owned() };
        let info = shown.cert.first().and_then(|leaf| CertificateInfo::of(leaf).ok());
        match info {
            Some(info) if info.issuer == "self-signed" => "ours is self-signed".to_owned(),
            Some(info) if info.not_after < UnixTime::now() => {
                format!("ours expired on {}", pkix::utc(info.not_after))
            }
            Some(_) if !names_it => format!("none of ours names {from}"),
            Some(info) => format!("ours is of {}", info.issuer),
            None => "there is none".to_owned(),
        }
    }

    /// Why nothing proves the domain, and who can change it.
    fn unproven(&mut self, connection: &Connection, status: Status) {
        let domain = &self.report.domain;
        let of = |name: &str| {
            let mut proofs = connection.proofs.iter();
            proofs.find(|proof| proof.prooftype == name)
        };
        if let Some(pin) = of("pin")
            && pin.result == ProofResult::Fails
        {
            self.hint(
                status,
                "the peer shows another certificate than the rules pin: ask its administrator whether that is meant, then change the pin",
            );
            return;
        }
        if let Some(dane) = of("dane")
            && dane.result == ProofResult::Fails
        {
            self.hint(status, "the peer's TLSA records are not those of its certificate: its administrator has to publish the new key, nothing here may pass it over");
            return;
        }
        if let Some(posh) = of("posh")
            && posh.result == ProofResult::Fails
        {
            self.hint(status, "the peer publishes other certificates by POSH than it shows: its administrator has to publish this one, nothing here may pass it over");
            return;
        }
        let holds = |proof: &&ProofReport| {
            proof.result == ProofResult::Holds && proof.prooftype != "dialback"
        };
        if let Some(proof) = connection.proofs.iter().find(holds) {
            let text =
                format!("a proof by {} is there, but the rules do not count it", proof.prooftype);
            return self.hint(status, text);
        }
        let pkix = of("pkix").and_then(|proof: &ProofReport| proof.reason).unwrap_or_default();
        let what = match pkix {
            "expired" => "the peer's certificate has expired: it has to be renewed there".to_owned(),
            "not-yet-valid" => "the peer's certificate is not valid yet: is the clock right, here and there?".to_owned(),
            "name-mismatch" => format!("the peer would reach \"trusted\" with a certificate that also names {domain}"),
            "self-signed" => format!("the peer would reach \"trusted\" with a certificate of a public CA, or TLSA records in a signed zone, or POSH, for {domain}"),
            "unknown-issuer" => "the chain ends at a CA that is not trusted here: the peer has to send its intermediate certificates, or tls.roots, that of its rule if there is one, lacks a CA".to_owned(),
            _ => "the peer's certificate chain has to be put right there".to_owned(),
        };
        self.hint(status, what);
        if self.services.config.resolver.dnssec == Dnssec::Off {
            self.hint(status, "with resolver.dnssec its TLSA records would count, if it has any");
        }
        if self.report.policy.outbound.level == TRUSTED
            || self.report.policy.inbound.level == TRUSTED
        {
            let rule = [&self.report.policy.outbound, &self.report.policy.inbound]
                .into_iter()
                .find_map(|ruling| ruling.level_rule.clone());
            let place = rule.map(|rule| format!(" (now: {rule})")).unwrap_or_default();
            self.hint(
                status,
                format!("until then a rule \"match: {domain}, level: encrypted\" would let dialback decide{place}"),
            );
        }
    }

    fn nothing_good(&mut self) {
        let all: Vec<_> = connections(self.report).filter_map(|c| c.error.as_ref()).collect();
        if !all.is_empty() && all.iter().all(|error| error.reason == "unreachable") {
            self.hint(
                Status::Warning,
                "no address takes connections: the peer is down, or a firewall is in the way; if it is so for all peers, look at your own outgoing ports 5269 and 5270",
            );
        }
    }
}

const TRUSTED: &str = "trusted";

const NO_ANSWER: &str =
    "the name servers gave no answer that can be used: look at resolver.servers, and try again";

fn bogus(name: &str) -> String {
    format!(
        "DNSSEC of {name} is broken, or broken on the way here: its administrator has to sign it anew; compare with another validating resolver"
    )
}
