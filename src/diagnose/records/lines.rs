//! A report as text, and as lines of a zone file.

use std::{collections::BTreeSet, fmt::Write as _, time::Duration};

use rustls::pki_types::UnixTime;

use super::report::{Kind, Report, State};
use crate::{
    auth::pkix,
    diagnose::{Status, text::Lines},
};

impl Report {
    /// Domain by domain, one line for each thing to publish, in colours if they are wanted.
    #[must_use]
    pub fn to_text(&self, colour: bool) -> String {
        let mut out = String::new();
        for (n, domain) in self.domains.iter().enumerate() {
            if n > 0 {
                out.push('\n');
            }
            let mut lines = Lines::default();
            lines.add("domain", None, None, domain.domain.as_str());
            let shown = &domain.certificate;
            let issuer = match shown.issuer.as_str() {
                "self-signed" => "self-signed".to_owned(),
                issuer => format!("issuer {issuer}"),
            };
            let until = UnixTime::since_unix_epoch(Duration::from_secs(shown.not_after));
            let until = pkix::utc(until);
            lines.add("cert", None, None, format!("for {}; {issuer}; until {until}", shown.names));
            for item in &domain.items {
                let mark = match item.state {
                    State::Optional | State::Useless => None,
                    state => Some(state.status()),
                };
                let value = match (item.kind, &item.value) {
                    (Kind::Srv, Some(value)) => format!(" IN SRV {value}"),
                    (Kind::Tlsa, Some(value)) => format!(" IN TLSA {value}"),
                    (Kind::Host | Kind::Posh, _) | (_, None) => String::new(),
                };
                let key = item.key.map(|key| format!(" ({key} key)")).unwrap_or_default();
                let why = item.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
                let dot = if matches!(item.kind, Kind::Srv | Kind::Tlsa) { "." } else { "" };
                let text =
                    format!("{:<8} {}{dot}{value}{key}{why}", item.state.as_str(), item.name);
                lines.add(item.kind.as_str(), None, mark, text);
                if matches!(item.state, State::Wrong | State::Differs) {
                    for found in &item.found {
                        lines.add(item.kind.as_str(), None, None, format!("   found {found}"));
                    }
                }
                let is_due = !matches!(item.state, State::Optional | State::Present);
                if let (Kind::Posh, true, Some(document)) = (item.kind, is_due, &item.value) {
                    for line in document.lines() {
                        lines.add("posh", None, None, format!("   {line}"));
                    }
                }
            }
            for note in &domain.notes {
                lines.add("note", None, None, note.as_str());
            }
            lines.add("result", None, Some(domain.status), result(domain.status));
            out.push_str(&lines.write(colour));
        }
        out
    }

    /// The records alone, each once, as lines of a zone file.
    #[must_use]
    pub fn to_zone(&self) -> String {
        let mut out = String::new();
        let mut written = BTreeSet::new();
        for item in self.domains.iter().flat_map(|domain| &domain.items) {
            let (kind, Some(value)) = (item.kind, &item.value) else { continue };
            let kind = match kind {
                Kind::Srv => "SRV",
                Kind::Tlsa => "TLSA",
                Kind::Host | Kind::Posh => continue,
            };
            if written.insert((item.name.as_str(), kind, value.as_str())) {
                // writing to a string does not fail
                let _ = writeln!(out, "{}. IN {kind} {value}", item.name);
            }
        }
        out
    }
}

fn result(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok: all that is needed is there",
        Status::Warning => "warning: something is missing, or other than expected",
        Status::Critical => "critical: something is wrong that keeps peers from federating",
        Status::Unknown => "unknown: not everything could be found out",
    }
}
