//! `fedgate status`.

use std::io::{self, Write};

use clap::Args;
use fedgate::{
    ops::report::{self, Certificate, Failure, Status, Stream},
    xmpp::Domain,
};

use super::{
    Ask, CRITICAL, NoSuch, OK, WARNING, failures, streams,
    table::{Cell, Look, Paint, Table},
    text::{clean, span},
};

#[derive(Debug, Args)]
pub(in crate::cli) struct Show {
    #[command(flatten)]
    ask: Ask,
    /// A remote domain, of which everything is shown.
    domain: Option<Domain>,
}

impl Show {
    pub(super) fn execute(self) -> anyhow::Result<u8> {
        let client = self.ask.client()?;
        if let Some(domain) = &self.domain {
            return self.of_domain(&client, domain);
        }
        let (status, json): (Status, _) = client.get("/api/status")?;
        if self.ask.json {
            self.ask.print_json(&json)?;
            return Ok(verdict(&status));
        }
        let (domains, _): (Vec<report::Domain>, _) = client.get("/api/domains")?;
        let paint = Paint::of_stdout();
        let mut out = io::stdout().lock();
        write_status(&mut out, paint, &status)?;
        if !domains.is_empty() {
            writeln!(out)?;
            write_domains(&mut out, paint, &domains, status.now)?;
        }
        Ok(verdict(&status))
    }

    fn of_domain(&self, client: &super::Client, domain: &Domain) -> anyhow::Result<u8> {
        let name = domain.to_unicode();
        let (domains, _): (Vec<report::Domain>, _) = client.get("/api/domains")?;
        let of_domain = format!("/api/streams?domain={domain}");
        let (streams, _): (Vec<Stream>, _) = client.get(&of_domain)?;
        let (all, _): (Vec<Failure>, _) = client.get("/api/failures")?;
        let fails: Vec<_> =
            all.into_iter().filter(|f| f.remote == name || f.local == name).collect();
        let domain = domains.into_iter().find(|domain| domain.domain == name);
        if domain.is_none() && streams.is_empty() && fails.is_empty() {
            let text = format!("nothing is known of {name}: no stream, no failure");
            return Err(NoSuch(text).into());
        }
        if self.ask.json {
            let all =
                serde_json::json!({ "domain": domain, "streams": streams, "failures": fails });
            self.ask.print_json(&format!("{all}\n"))?;
        } else {
            let paint = Paint::of_stdout();
            let mut out = io::stdout().lock();
            if let Some(domain) = &domain {
                write_domains(&mut out, paint, std::slice::from_ref(domain), report::now())?;
            }
            if !streams.is_empty() {
                writeln!(out)?;
                streams::write_all(&mut out, paint, &streams)?;
            }
            for failure in &fails {
                writeln!(out)?;
                failures::write_one(&mut out, paint, failure)?;
            }
        }
        Ok(if fails.is_empty() { OK } else { WARNING })
    }
}

fn verdict(status: &Status) -> u8 {
    let is_near = |c: &Certificate| c.is_due || !c.ok;
    if status.ready.iter().any(|check| !check.ok) {
        CRITICAL
    } else if status.failing > 0
        || status.config.error.is_some()
        || status.certificates.iter().any(is_near)
    {
        WARNING
    } else {
        OK
    }
}

fn write_status(out: &mut impl Write, paint: Paint, status: &Status) -> anyhow::Result<()> {
    let Status { streams, stanzas, config, .. } = status;
    let up = span(status.now.saturating_sub(status.started));
    let name = paint.strong(&format!("fedgate {}", clean(&status.version)));
    writeln!(out, "{name}, up {up}")?;
    for check in &status.ready {
        let word = if check.ok { paint.good("ok ") } else { paint.bad("BAD") };
        writeln!(out, "  {word}  {:<13} {}", clean(&check.name), clean(&check.detail))?;
    }
    let loaded = span(status.now.saturating_sub(config.loaded));
    match &config.error {
        None => writeln!(out, "  {}  configuration loaded {loaded} ago", paint.good("ok "))?,
        Some(error) => {
            let word = paint.warn("OLD");
            writeln!(out, "  {word}  configuration of {loaded} ago stays: {}", clean(error))?;
        }
    }
    writeln!(
        out,
        "streams  peers {} in, {} out; legacy servers {} in, {} out",
        streams.peer_accepted, streams.peer_opened, streams.legacy_opened, streams.legacy_accepted
    )?;
    writeln!(
        out,
        "stanzas  {} in, {} out, {} bounced, {} dropped, {} errors lost; {} waiting",
        stanzas.inbound,
        stanzas.outbound,
        stanzas.bounced,
        stanzas.dropped,
        stanzas.errors_lost,
        status.queued
    )?;
    writeln!(out)?;
    let mut table = Table::new(&["LOCAL DOMAIN", "DAYS LEFT", "ISSUER"]);
    for certificate in &status.certificates {
        let look = match certificate {
            Certificate { ok: false, .. } => Look::Bad,
            Certificate { is_due: true, .. } => Look::Warn,
            Certificate { .. } => Look::Good,
        };
        let days = certificate.days_left.map_or("none".to_owned(), |days| days.to_string());
        table.row(vec![
            Cell::text(&certificate.domain),
            Cell::number(days).look(look),
            Cell::text(certificate.issuer.as_deref().unwrap_or("no certificate names it")),
        ]);
    }
    table.write(out, paint)?;
    Ok(())
}

fn write_domains(
    out: &mut impl Write,
    paint: Paint,
    domains: &[report::Domain],
    now: u64,
) -> anyhow::Result<()> {
    let mut table = Table::new(&[
        "DOMAIN", "WAY", "LEVEL", "PROOF", "TLS", "IN", "OUT", "WAITING", "USED", "FAILURE",
    ]);
    for domain in domains {
        let way = match (domain.inbound, domain.outbound) {
            (true, true) => "both",
            (true, false) => "in",
            (false, true) => "out",
            (false, false) => "-",
        };
        let look = match &*domain.level {
            "trusted" => Look::Good,
            "none" => Look::Faint,
            _ => Look::Plain,
        };
        let list = |words: &[String]| {
            if words.is_empty() { "-".to_owned() } else { words.join(" ") }
        };
        let used = match domain.used {
            0 => "-".to_owned(),
            used => span(now.saturating_sub(used)),
        };
        let failure = domain.failure.as_ref().map_or(String::new(), |failure| {
            format!("{} {}: {}", failure.direction, failure.reason, failure.detail)
        });
        table.row(vec![
            Cell::text(&domain.domain),
            Cell::text(way),
            Cell::text(&domain.level).look(look),
            Cell::text(&list(&domain.proofs)),
            Cell::text(&list(&domain.tls)),
            Cell::number(domain.stanzas_in),
            Cell::number(domain.stanzas_out),
            Cell::number(domain.queued),
            Cell::number(used),
            Cell::text(&failure).look(Look::Bad),
        ]);
    }
    table.write(out, paint)?;
    Ok(())
}
