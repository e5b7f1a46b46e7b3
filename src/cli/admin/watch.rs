//! `fedgate watch`.

use std::io::{self, Write};

use anyhow::Context;
use clap::Args;
use fedgate::{ops::report::Event, xmpp::Domain};

use super::{
    Ask, OK,
    table::Paint,
    text::{clean, time},
};

#[derive(Debug, Args)]
pub(in crate::cli) struct Watch {
    #[command(flatten)]
    ask: Ask,
    /// Only what concerns this domain, local or remote.
    domain: Option<Domain>,
}

impl Watch {
    pub(super) fn execute(self) -> anyhow::Result<u8> {
        let paint = Paint::of_stdout();
        let name = self.domain.as_ref().map(Domain::to_unicode);
        self.ask.client()?.watch("/api/watch?events", |kind, data| {
            let mut out = io::stdout().lock();
            if kind == "missed" {
                writeln!(out, "{}", paint.warn(&format!("{} events missed", clean(data))))?;
                return Ok(true);
            }
            if kind != "event" {
                return Ok(true);
            }
            let event: Event = serde_json::from_str(data).context("read what happens")?;
            let concerns = |domain: &Option<String>| domain.as_ref() == name.as_ref();
            if name.is_some() && !concerns(&event.local) && !concerns(&event.remote) {
                return Ok(true);
            }
            if self.ask.json {
                writeln!(out, "{data}")?;
            } else {
                writeln!(out, "{}", line(paint, &event))?;
            }
            out.flush()?;
            Ok(true)
        })?;
        Ok(OK)
    }
}

fn line(paint: Paint, event: &Event) -> String {
    let what = format!("{:<10}", clean(&event.what));
    let what = match &*event.what {
        "authorized" | "opened" | "reloaded" => paint.good(&what),
        "refused" | "failed" => paint.bad(&what),
        _ => what,
    };
    let local = event.local.as_deref().unwrap_or("-");
    let remote = event.remote.as_deref().unwrap_or("-");
    let pair = match event.direction.as_deref() {
        Some("inbound") => format!("{remote} > {local}"),
        Some(_) => format!("{local} > {remote}"),
        None => String::new(),
    };
    let stream = event.stream.map(|id| format!("#{id}")).unwrap_or_default();
    let at = paint.faint(&time(event.at));
    format!("{at}  {what}  {stream:>6}  {}  {}", clean(&pair), clean(&event.detail))
}
