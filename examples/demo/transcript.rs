//! Tells what happened on the four legs between two legacy servers: the plain ones as the servers
//! recorded them, those between the fedgates as the fedgates logged them. Nothing is assumed.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::Duration,
};

use super::{
    legacy::{
        Record,
        xml::{DIALBACK, Element, Frame, STREAMS},
    },
    log_tap::Line,
};

/// One of the two ends.
#[derive(Clone, Copy)]
pub(crate) struct End<'a> {
    pub(crate) domain: &'a str,
    /// What its legacy server sent and received.
    pub(crate) wire: &'a [Record],
}

/// The way of stanzas from one end to the other.
pub(crate) struct Way<'a> {
    pub(crate) from: End<'a>,
    pub(crate) to: End<'a>,
    /// The log of both fedgates.
    pub(crate) log: &'a [Line],
    /// What the name server was asked, and said.
    pub(crate) said: &'a [String],
    /// Whether to show the bytes.
    pub(crate) verbose: bool,
}

impl Way<'_> {
    /// Writes what was seen, leg by leg.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let (from, to) = (self.from.domain, self.to.domain);
        row(out, ["leg", "", "wire", "authenticated by", "proof", "took"])?;
        self.leg(out, "1", &format!("{from}: server → fedgate"), ["legacy", "outbound"])?;
        self.leg(out, "2", &format!("{from}: fedgate → Internet"), ["peer", "outbound"])?;
        self.leg(out, "3", &format!("{to}: Internet → fedgate"), ["peer", "inbound"])?;
        self.leg(out, "4", &format!("{to}: fedgate → server"), ["legacy", "inbound"])?;

        writeln!(out, "\n  leg 1, as {from}'s server saw it (> sent, < received):")?;
        for stream in streams(self.from.wire, |records| records.iter().any(|r| r.opened)) {
            self.plain(&stream, out)?;
        }
        for stream in streams(self.from.wire, |records| came(records, "verify", to)) {
            writeln!(out, "  on a stream of its own the fedgate asks whether the key is real:")?;
            self.plain(&stream, out)?;
        }
        writeln!(out, "  leg 2, what the name server said of {to}:")?;
        for said in self.said.iter().filter(|said| said.contains(to)) {
            writeln!(out, "{:14}{said}", "")?;
        }
        writeln!(out, "  leg 4, as {to}'s server saw it:")?;
        for stream in streams(self.to.wire, |records| came(records, "result", from)) {
            self.plain(&stream, out)?;
        }
        Ok(())
    }

    /// What the fedgates say of the streams of one leg.
    fn leg(
        &self,
        out: &mut impl Write,
        number: &str,
        name: &str,
        [side, direction]: [&str; 2],
    ) -> io::Result<()> {
        let pair = format!("{}→{}", self.from.domain, self.to.domain);
        let mut lines = self.log.iter().filter(|line| {
            line.message == "stream negotiated"
                && (line.field("side"), line.field("direction")) == (side, direction)
                && line.field("pair") == pair
        });
        let Some(mut line) = lines.next() else {
            return row(out, [number, name, "no stream came about", "", "", ""]);
        };
        loop {
            let wire = match line.field("tls") {
                "" => "plain TCP".to_owned(),
                tls => {
                    format!("{tls} {}", line.field("cipher").trim_start_matches("TLS13_"))
                }
            };
            let auth = match line.field("auth") {
                "external" => "SASL EXTERNAL",
                "dialback" => "server dialback",
                other => other,
            };
            let ms = format!("{} ms", line.field("ms"));
            row(out, [number, name, &wire, auth, line.field("proof"), &ms])?;
            // A second stream is one too many, or the first one broke.
            let Some(next) = lines.next() else { return Ok(()) };
            line = next;
        }
    }

    /// A plain stream: what the old server sent (`>`) and received (`<`), stanzas counted.
    fn plain(&self, stream: &[&Record], out: &mut impl Write) -> io::Result<()> {
        for records in stream.chunk_by(|a, b| counted(a).is_some() && counted(a) == counted(b)) {
            let [first, ..] = records else { continue };
            let text = match (&first.frame, records.len()) {
                (Frame::Element(stanza), count) if stanza.is_stanza() => stanzas(stanza, count),
                (Frame::Header(element), _) => header(element),
                (Frame::Element(element), _) => describe(element),
                (Frame::Footer, _) => "end of stream".to_owned(),
            };
            let mark = if first.sent { '>' } else { '<' };
            writeln!(out, "  {}  {mark} {text}", time(first.at))?;
            for record in records.iter().filter(|_| self.verbose) {
                match &record.frame {
                    Frame::Header(element) | Frame::Element(element) => {
                        writeln!(out, "               {}", element.raw)?;
                    }
                    Frame::Footer => writeln!(out, "               </stream:stream>")?,
                }
            }
        }
        Ok(())
    }
}

/// A row of the table of legs.
fn row(out: &mut impl Write, [leg, name, wire, auth, proof, took]: [&str; 6]) -> io::Result<()> {
    let line = format!("  {leg:3}  {name:36}  {wire:26}  {auth:16}  {proof:8}  {took:>6}");
    writeln!(out, "{}", line.trim_end())
}

/// The streams on a wire that fit, in order of opening.
fn streams(wire: &[Record], fits: impl Fn(&[&Record]) -> bool) -> Vec<Vec<&Record>> {
    let mut all = BTreeMap::<usize, Vec<&Record>>::new();
    for record in wire {
        all.entry(record.stream).or_default().push(record);
    }
    all.into_values().filter(|records| fits(records)).collect()
}

/// Whether, on a stream that the server accepted, a dialback request came from a domain.
fn came(records: &[&Record], name: &str, from: &str) -> bool {
    records.iter().any(|record| match &record.frame {
        Frame::Element(element) => {
            !record.opened
                && !record.sent
                && element.is(DIALBACK, name)
                && element.attribute("from") == Some(from)
        }
        Frame::Header(_) | Frame::Footer => false,
    })
}

/// What makes stanzas one line: the same kind in the same direction.
fn counted(record: &Record) -> Option<(bool, &str, Option<&str>)> {
    match &record.frame {
        Frame::Element(stanza) if stanza.is_stanza() => {
            Some((record.sent, &stanza.name, stanza.attribute("type")))
        }
        Frame::Element(_) | Frame::Header(_) | Frame::Footer => None,
    }
}

fn stanzas(stanza: &Element, count: usize) -> String {
    let kind = stanza.attribute("type").filter(|_| stanza.name == "iq").unwrap_or_default();
    let plural = if count > 1 { "s" } else { "" };
    format!("{count} {}{plural} {kind}", stanza.name).trim_end().to_owned()
}

fn header(element: &Element) -> String {
    let told = ["version", "from", "to"].map(|name| match element.attribute(name) {
        Some(value) => format!("{name} {value}"),
        None => format!("no {name}"),
    });
    let id = element.attribute("id").map(|id| format!(", id {}", short(id)));
    format!("stream header: {}{}", told.join(", "), id.unwrap_or_default())
}

fn describe(element: &Element) -> String {
    let attribute = |name| element.attribute(name).unwrap_or_default();
    if element.namespace == DIALBACK {
        let what = match element.attribute("type") {
            Some(kind) => kind.to_owned(),
            None => format!("key {}", short(&element.text)),
        };
        let id = element.attribute("id").map(|id| format!(" for stream {}", short(id)));
        let (from, to, id) = (attribute("from"), attribute("to"), id.unwrap_or_default());
        return format!("db:{} {from} → {to}: {what}{id}", element.name);
    }
    if element.namespace == STREAMS {
        let inner: Vec<_> = element.children.iter().map(|child| &*child.name).collect();
        return format!("stream {}: {}", element.name, inner.join(", "));
    }
    element.name.clone()
}

/// The beginning of long random text.
fn short(text: &str) -> String {
    let mut short: String = text.chars().take(24).collect();
    if short.len() < text.len() {
        short = short.chars().take(8).chain(['…']).collect();
    }
    short
}

/// Milliseconds, in a column.
pub(crate) fn time(at: Duration) -> String {
    format!("{:>8.1} ms", at.as_secs_f64() * 1000.0)
}
