//! A report as text.

use std::fmt::Write as _;

use super::report::{
    Certificate, Connection, Dns, Features, ProofResult, Report, Ruling, Stream, TargetReport,
};
use crate::diagnose::{Status, text::Lines};

impl Report {
    /// One line a step, with how long it took, in colours if they are wanted.
    #[must_use]
    pub fn to_text(&self, colour: bool) -> String {
        let mut lines = Lines::default();
        let (domain, from) = (&self.domain, &self.from);
        ruling(&mut lines, &self.policy.outbound, &format!("{from} → {domain}"));
        ruling(&mut lines, &self.policy.inbound, &format!("{domain} → {from}"));
        if let Some(dns) = &self.dns {
            resolution(&mut lines, dns, domain);
        }
        for found in &self.targets {
            target(&mut lines, found);
            for tried in &found.connections {
                connection(&mut lines, tried);
            }
        }
        lines.add("result", None, Some(self.status), format!("{}: {}", self.status, self.summary));
        for hint in &self.hints {
            lines.add("hint", None, None, hint.as_str());
        }
        lines.write(colour)
    }
}

fn ruling(lines: &mut Lines, ruling: &Ruling, pair: &str) {
    match &ruling.denied_by {
        Some(rule) => {
            let reason = ruling.reason.as_ref().map(|r| format!(", \"{r}\"")).unwrap_or_default();
            let text = format!("{pair}: denied ({rule}{reason})");
            lines.add("policy", None, Some(Status::Critical), text);
        }
        None => {
            let rule = ruling.level_rule.as_deref().unwrap_or("default");
            let text = format!("{pair}: allowed, level {} ({rule})", ruling.level);
            lines.add("policy", None, Some(Status::Ok), text);
        }
    }
}

fn resolution(lines: &mut Lines, dns: &Dns, domain: &str) {
    for service in &dns.services {
        let Some(dnssec) = service.dnssec else {
            let error = service.error.as_deref().unwrap_or("no answer");
            let text = format!("{}: {error}", service.name);
            lines.add("dns", Some(service.ms), Some(Status::Unknown), text);
            continue;
        };
        let mut text = format!("{}: ", service.name);
        if service.records.is_empty() {
            text.push_str("none");
        }
        for (n, srv) in service.records.iter().enumerate() {
            let separator = if n == 0 { "" } else { ", " };
            let _ = write!(
                text,
                "{separator}{} {} {} {}",
                srv.priority, srv.weight, srv.port, srv.target
            );
        }
        lines.add("dns", Some(service.ms), None, format!("{text}; {}", dnssec_words(dnssec)));
    }
    if dns.fallback && dns.error.is_none() {
        let text = format!("no SRV records: {domain} itself, port 5269");
        lines.add("dns", None, None, text);
    }
    if let Some(error) = &dns.error {
        let mark = if error.reason == "resolution" { Status::Unknown } else { Status::Critical };
        lines.add("dns", None, Some(mark), error.detail.as_str());
    }
}

fn dnssec_words(state: &str) -> &'static str {
    match state {
        "secure" => "DNSSEC secure",
        "insecure" => "no DNSSEC",
        _ => "DNSSEC not looked at",
    }
}

fn target(lines: &mut Lines, target: &TargetReport) {
    let kind = if target.tls == "direct" { "direct TLS" } else { "STARTTLS" };
    let mut text = format!("{}:{} {kind}", target.host, target.port);
    if let Some(error) = &target.error {
        let _ = write!(text, ": {}", error.detail);
        lines.add("target", Some(target.ms), Some(Status::Critical), text);
        return;
    }
    for (n, address) in target.addresses.iter().enumerate() {
        let _ = write!(text, "{} {address}", if n == 0 { ":" } else { "," });
    }
    if let Some(dnssec) = target.dnssec {
        let _ = write!(text, "; {}", dnssec_words(dnssec));
    }
    if let Some(alias) = &target.alias {
        let _ = write!(text, "; alias of {alias}");
    }
    lines.add("target", Some(target.ms), None, text);
    if let Some(tlsa) = &target.tlsa {
        for record in &tlsa.records {
            let base = tlsa.base.as_deref().unwrap_or_default();
            lines.add("tlsa", None, None, format!("_{}._tcp.{base} {record}", target.port));
        }
        if tlsa.records.is_empty() && tlsa.state == "secure" {
            lines.add("tlsa", None, None, "none; DNSSEC secure");
        }
    }
}

fn connection(lines: &mut Lines, connection: &Connection) {
    let address = connection.address.map(|address| address.to_string()).unwrap_or_default();
    match (&connection.error, connection.connect_ms) {
        (Some(error), None) => {
            let text = format!("{address} {}", error.detail);
            return lines.add("tcp", None, Some(Status::Critical), text.trim_start());
        }
        (_, ms) => lines.add("tcp", ms, Some(Status::Ok), format!("{address} connected")),
    }
    if let Some(found) = &connection.stream {
        stream(lines, "stream", found);
    }
    if let Some(why) = &connection.tls_failed {
        lines.add("tls", None, Some(Status::Warning), format!("{why}; again without TLS"));
    }
    if let Some(alert) = &connection.certificate_refused {
        lines.add("tls", None, Some(Status::Warning), format!("{alert}; again without it"));
    }
    if let Some(tls) = &connection.tls {
        let alpn = tls.alpn.as_ref().map(|alpn| format!("; ALPN {alpn}")).unwrap_or_default();
        let text = format!("{} {}; SNI {}{alpn}", tls.version, tls.cipher, tls.sni);
        lines.add("tls", Some(tls.ms), Some(Status::Ok), text);
    }
    for (n, found) in connection.certificates.iter().enumerate() {
        certificate(lines, found, n == 0);
    }
    if let Some(found) = &connection.secured {
        stream(lines, "features", found);
    }
    for proof in &connection.proofs {
        let mark = match proof.result {
            ProofResult::Holds => Some(Status::Ok),
            ProofResult::Fails => Some(Status::Critical),
            ProofResult::Absent | ProofResult::Untried => None,
            ProofResult::Unknown => Some(Status::Unknown),
        };
        let text = format!("{:<8} {:<7} {}", proof.prooftype, proof.result.as_str(), proof.why);
        lines.add("proof", None, mark, text);
    }
    if let Some(error) = &connection.error {
        lines.add("error", None, Some(Status::Critical), error.detail.as_str());
    }
}

fn stream(lines: &mut Lines, label: &'static str, stream: &Stream) {
    let version = stream.version.as_deref().unwrap_or("none");
    let mut parts = vec![format!("version {version}")];
    match &stream.features {
        Some(features) => parts.extend(offered(features)),
        None => parts.push("no features".to_owned()),
    }
    lines.add(label, Some(stream.ms), None, parts.join("; "));
}

fn offered(features: &Features) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some(starttls) = features.starttls {
        parts.push(format!("starttls {starttls}"));
    }
    if !features.sasl.is_empty() {
        parts.push(format!("sasl {}", features.sasl.join(" ")));
    }
    match features.dialback {
        Some("errors") => parts.push("dialback with errors".to_owned()),
        Some(_) => parts.push("dialback".to_owned()),
        None => {}
    }
    for (is, word) in [(features.bidi, "bidi"), (features.sm, "sm")] {
        if is {
            parts.push(word.to_owned());
        }
    }
    if let Some(bytes) = features.max_bytes {
        parts.push(format!("stanzas up to {bytes} bytes"));
    }
    if let Some(seconds) = features.idle_seconds {
        parts.push(format!("idle up to {seconds} s"));
    }
    parts.extend(features.other.iter().cloned());
    if parts.is_empty() {
        parts.push("nothing offered".to_owned());
    }
    parts
}

fn certificate(lines: &mut Lines, certificate: &Certificate, is_leaf: bool) {
    let issuer = match certificate.issuer.as_str() {
        "self-signed" => "self-signed".to_owned(),
        issuer => format!("issuer {issuer}"),
    };
    let dates = match certificate.days_left {
        ..0 => format!("EXPIRED {} days ago", -certificate.days_left),
        days => format!("{days} days left"),
    };
    if !is_leaf {
        let text = format!("{}; {issuer}; {dates}", certificate.subject);
        return lines.add("chain", None, None, text);
    }
    let domain = match certificate.names_domain {
        true => "names the domain",
        false => "does NOT name the domain",
    };
    let purposes = certificate.purposes.as_deref().unwrap_or("any purpose");
    let subject = match certificate.subject.as_str() {
        "" => "no subject",
        subject => subject,
    };
    let text =
        format!("{subject}; for {} ({domain}); {issuer}; {dates}; {purposes}", certificate.names);
    lines.add("cert", None, certificate.is_due.then_some(Status::Warning), text);
}
