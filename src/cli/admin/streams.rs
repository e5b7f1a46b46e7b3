//! `fedgate streams` and `fedgate show`.

use std::io::{self, Write};

use clap::Args;
use fedgate::ops::report::{self, Stream};

use super::{
    Ask, OK,
    table::{Cell, Look, Paint, Table},
    text::{clean, size, span, time},
};

#[derive(Debug, Args)]
pub(in crate::cli) struct Streams {
    #[command(flatten)]
    ask: Ask,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Show {
    #[command(flatten)]
    ask: Ask,
    /// The number of the stream, as `streams` lists it.
    id: u64,
}

impl Streams {
    pub(super) fn execute(self) -> anyhow::Result<u8> {
        let (streams, json): (Vec<Stream>, _) = self.ask.client()?.get("/api/streams")?;
        if self.ask.json {
            self.ask.print_json(&json)?;
        } else {
            write_all(&mut io::stdout().lock(), Paint::of_stdout(), &streams)?;
        }
        Ok(OK)
    }
}

impl Show {
    pub(super) fn execute(self) -> anyhow::Result<u8> {
        let path = format!("/api/streams/{}", self.id);
        let (stream, json): (Stream, _) = self.ask.client()?.get(&path)?;
        if self.ask.json {
            self.ask.print_json(&json)?;
        } else {
            write_one(&mut io::stdout().lock(), Paint::of_stdout(), &stream)?;
        }
        Ok(OK)
    }
}

pub(super) fn write_all(
    out: &mut impl Write,
    paint: Paint,
    streams: &[Stream],
) -> anyhow::Result<()> {
    let now = report::now();
    let mut table = Table::new(&[
        "ID", "SIDE", "BY", "ADDRESS", "LEVEL", "PROOF", "TLS", "IN", "OUT", "AGE", "USED", "PAIRS",
    ]);
    for stream in streams {
        let first = stream.pairs.first();
        let pair =
            first.map_or("-".to_owned(), |pair| format!("{} > {}", pair.sender, pair.target));
        let more = match stream.pairs_total {
            0 | 1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        let look = if stream.level == "trusted" { Look::Good } else { Look::Plain };
        table.row(vec![
            Cell::number(stream.id),
            Cell::text(&stream.side),
            Cell::text(if stream.origin == "opened" { "us" } else { "them" }),
            Cell::text(stream.address.as_deref().unwrap_or("-")),
            Cell::text(&stream.level).look(look),
            Cell::text(first.map_or("-", |pair| &pair.proof)),
            Cell::text(stream.tls.as_deref().unwrap_or("-")),
            Cell::number(stream.stanzas_in),
            Cell::number(stream.stanzas_out),
            Cell::number(span(now.saturating_sub(stream.since))),
            Cell::number(span(now.saturating_sub(stream.used))),
            Cell::text(&format!("{pair}{more}")),
        ]);
    }
    table.write(out, paint)?;
    Ok(())
}

fn write_one(out: &mut impl Write, paint: Paint, stream: &Stream) -> anyhow::Result<()> {
    let by = if stream.origin == "opened" { "opened by fedgate" } else { "accepted" };
    let listener = stream.listener.as_deref().map(|name| format!(" on {name}")).unwrap_or_default();
    let head = format!("stream {}", stream.id);
    let address = stream.address.as_deref().unwrap_or("an unknown address");
    writeln!(
        out,
        "{}: {} side, {by}{listener}, {}",
        paint.strong(&head),
        clean(&stream.side),
        clean(address)
    )?;
    let mut line = |name: &str, text: String| writeln!(out, "  {name:<12} {}", clean(&text));
    line("level", stream.level.clone())?;
    line(
        "tls",
        match (&stream.tls, &stream.cipher) {
            (Some(tls), Some(cipher)) => format!("{tls} {cipher}"),
            _ => "none".to_owned(),
        },
    )?;
    if let Some(certificate) = &stream.certificate {
        line("certificate", format!("{}, by {}", certificate.names, certificate.issuer))?;
        line("expires", time(certificate.not_after))?;
        line("sha-256", certificate.fingerprint.clone())?;
    }
    line("since", time(stream.since))?;
    line("used", time(stream.used))?;
    line("in", format!("{} stanzas, {}", stream.stanzas_in, size(stream.bytes_in)))?;
    line("out", format!("{} stanzas, {}", stream.stanzas_out, size(stream.bytes_out)))?;
    let mut table = Table::new(&["FROM", "TO", "WAY", "PROOF", "STANZAS", "BYTES"]);
    for pair in &stream.pairs {
        table.row(vec![
            Cell::text(&pair.sender),
            Cell::text(&pair.target),
            Cell::text(&pair.direction),
            Cell::text(&pair.proof),
            Cell::number(pair.stanzas),
            Cell::number(pair.bytes),
        ]);
    }
    table.write(out, paint)?;
    Ok(())
}
