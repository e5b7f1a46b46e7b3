//! A known peer's second domain pair: what it takes on the wire until its first stanza has arrived.

use std::{path::Path, time::Instant};

use anyhow::{Context, bail};
use tokio::time::timeout;

use super::{
    conn::{Conn, PATIENCE},
    names::LEGACY,
    neighbours::{attribute, open_legacy_to},
    report::{Figure, Measured, Row, count, median, percentiles},
    stanzas::Direction,
    subject::{Extra, Subject},
};

/// Opens a stream to one domain of a server, then asks for further ones `count` times. Gives the
/// medians of round trips and of connections for one of them.
pub(crate) async fn measure(
    scenario: &str,
    subject: &Subject,
    pairs: usize,
    directory: &Path,
) -> anyhow::Result<Row> {
    let mut running = subject.start(Direction::Out, directory, &Extra::default()).await?;
    let mut streams = vec![open_legacy_to(running.local, &domain(0)).await?];
    say(&mut streams, 0).await?;
    let opened = timeout(PATIENCE, running.peers.streams.recv()).await?;
    let mut conn = opened.context("no stream to the peer")?;
    arrival(&mut conn).await?;
    let (mut times, mut trips, mut connections) = (Vec::new(), Vec::new(), Vec::new());
    let (cpu, start) = (running.process.cpu()?, Instant::now());
    for number in 1..=pairs {
        let begin = Instant::now();
        let name = domain(number);
        // The legacy server's side opens and says its stanza; the peer's side answers and counts.
        let asking = async {
            streams.push(open_legacy_to(running.local, &name).await?);
            say(&mut streams, number).await
        };
        let (asked, answered) = tokio::join!(asking, arrival(&mut conn));
        asked.with_context(|| running.log())?;
        trips.push(count(answered.with_context(|| running.log())?));
        times.push(begin.elapsed());
        let mut further = 0;
        while running.peers.streams.try_recv().is_ok() {
            further += 1;
        }
        connections.push(count(further));
    }
    let measured = Measured {
        wall: start.elapsed(),
        cpu: running.process.cpu()?.since(&cpu),
        stanzas: pairs as u64,
        bytes: 0,
        rss: running.process.rss()?,
        latency: Some(percentiles(times)),
    };
    let mut row = Row::new(scenario, subject.label(), vec![measured]);
    let figure =
        |what, values, target| Figure { what, value: median(values), target: Some(target) };
    row.figures.push(figure("round trips", trips, 1.0));
    row.figures.push(figure("further connections", connections, 0.0));
    Ok(row)
}

/// Domains of one server, all of which its certificate proves.
fn domain(number: usize) -> String {
    format!("d{number:05}.shared.test")
}

async fn say(streams: &mut [Conn], number: usize) -> anyhow::Result<()> {
    let conn = streams.last_mut().context("no stream")?;
    let to = domain(number);
    let message =
        format!("<message from='romeo@{LEGACY}' to='juliet@{to}'><body>hi</body></message>");
    Ok(conn.say(message).await?)
}

/// Answers until a stanza comes; how many answers it took.
async fn arrival(conn: &mut Conn) -> anyhow::Result<u64> {
    let mut answers = 0;
    loop {
        let element = conn.until(">").await?;
        if element.starts_with("<message") {
            conn.until("</message>").await?;
            return Ok(answers);
        }
        if !element.starts_with("<db:result") {
            bail!("{element} came to the peer");
        }
        conn.until("</db:result>").await?;
        let pair = attribute(&element, "to").zip(attribute(&element, "from"));
        let (from, to) = pair.context("no domain pair")?;
        conn.say(format!("<db:result from='{from}' to='{to}' type='valid'/>")).await?;
        answers += 1;
    }
}
