//! `fedgate failures`.

use std::io::{self, Write};

use clap::Args;
use fedgate::{
    ops::report::{self, Failure},
    xmpp::Domain,
};

use super::{
    Ask, OK, WARNING,
    table::{Cell, Look, Paint, Table},
    text::{clean, span, time},
};

#[derive(Debug, Args)]
pub(in crate::cli) struct Failures {
    #[command(flatten)]
    ask: Ask,
    /// A domain, local or remote, of which every attempt is shown.
    domain: Option<Domain>,
}

impl Failures {
    pub(super) fn execute(self) -> anyhow::Result<u8> {
        let (mut failures, mut json): (Vec<Failure>, _) =
            self.ask.client()?.get("/api/failures")?;
        if let Some(domain) = &self.domain {
            let name = domain.to_unicode();
            failures.retain(|failure| failure.remote == name || failure.local == name);
            json = serde_json::to_string(&failures)? + "\n";
        }
        if self.ask.json {
            self.ask.print_json(&json)?;
        } else {
            let (mut out, paint) = (io::stdout().lock(), Paint::of_stdout());
            match (&self.domain, failures.is_empty()) {
                (_, true) => writeln!(out, "nothing fails")?,
                (None, false) => write_all(&mut out, paint, &failures)?,
                (Some(_), false) => {
                    for failure in &failures {
                        write_one(&mut out, paint, failure)?;
                    }
                }
            }
        }
        Ok(if failures.is_empty() { OK } else { WARNING })
    }
}

fn write_all(out: &mut impl Write, paint: Paint, failures: &[Failure]) -> anyhow::Result<()> {
    let now = report::now();
    let mut table = Table::new(&[
        "WAY", "LOCAL", "REMOTE", "TIMES", "LAST", "SINCE", "WAITING", "RETRY", "STAGE", "WHY",
    ]);
    for failure in failures {
        let retry = match failure.retry.map(|at| at.saturating_sub(now)) {
            Some(0) | None => "-".to_owned(),
            Some(seconds) => span(seconds),
        };
        table.row(vec![
            Cell::text(if failure.direction == "inbound" { "in" } else { "out" }),
            Cell::text(&failure.local),
            Cell::text(&failure.remote),
            Cell::number(failure.count),
            Cell::number(span(now.saturating_sub(failure.last))),
            Cell::number(span(now.saturating_sub(failure.first))),
            Cell::number(failure.waiting),
            Cell::number(retry),
            Cell::text(&failure.stage),
            Cell::text(&format!("{}: {}", failure.reason, failure.detail)).look(Look::Bad),
        ]);
    }
    table.write(out, paint)?;
    Ok(())
}

pub(super) fn write_one(
    out: &mut impl Write,
    paint: Paint,
    failure: &Failure,
) -> anyhow::Result<()> {
    let (from, to) = match &*failure.direction {
        "inbound" => (&failure.remote, &failure.local),
        _ => (&failure.local, &failure.remote),
    };
    let pair = format!("{} > {}", clean(from), clean(to));
    writeln!(out, "{} ({})", paint.strong(&pair), clean(&failure.direction))?;
    let mut line = |name: &str, text: String| writeln!(out, "  {name:<9} {text}");
    let why = format!("{} ({}): {}", failure.reason, failure.stage, failure.detail);
    line("why", paint.bad(&clean(&why)))?;
    line(
        "failed",
        match failure.count {
            1 => format!("once, {}", time(failure.last)),
            n => format!("{n} times, first {}, last {}", time(failure.first), time(failure.last)),
        },
    )?;
    line(
        "stanzas",
        format!("{} waiting, {} returned the last time", failure.waiting, failure.returned),
    )?;
    if let Some(retry) = failure.retry {
        line("retry", format!("with the first stanza after {}", time(retry)))?;
    }
    for attempt in &failure.attempts {
        let why = format!("{} ({}): {}", attempt.reason, attempt.stage, attempt.detail);
        writeln!(out, "  {}  {}", paint.faint(&time(attempt.at)), clean(&why))?;
        for step in &attempt.steps {
            writeln!(out, "    {:>6} ms  {}", step.ms, clean(&step.text))?;
        }
    }
    Ok(())
}
