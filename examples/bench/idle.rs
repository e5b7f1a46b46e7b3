//! Memory of idle connections: each is a peer's TLS connection and the stream to the legacy server
//! behind it, with one stanza relayed.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    conn::{Conn, PATIENCE, Packing},
    process::Process,
    report::{Figure, Measured, Row, count},
    stanzas::{Direction, Form, Sequence},
    subject::{Extra, Running, Subject},
};

/// The first stanza, and that of the burst.
const FORMS: [Form; 2] = [Form::TEXT, Form::BURST];
/// Streams that are opened, or send, at once.
const AT_ONCE: usize = 64;
/// How long memory may take to settle.
const SETTLE: Duration = Duration::from_secs(45);

/// Opens `connections`, then sends 100 kB on each.
pub(crate) async fn measure(
    scenario: &str,
    subject: &Subject,
    connections: usize,
    directory: &Path,
) -> anyhow::Result<Row> {
    let mut running = subject.start(Direction::In, directory, &Extra::default()).await?;
    let received = Arc::<AtomicU64>::default();
    let mut tasks = JoinSet::new();
    let mut streams = running.take_arrivals(Direction::In);
    let counter = Arc::clone(&received);
    tasks.spawn(async move {
        let mut readers = JoinSet::new();
        while let Some(conn) = streams.recv().await {
            readers.spawn(read(conn, Arc::clone(&counter)));
        }
        while readers.join_next().await.is_some() {}
    });
    let running = Arc::new(running);
    let (cpu, start) = (running.process.cpu()?, Instant::now());
    let mut conns = Vec::new();
    // What the first one takes is there once.
    let mut first = 0;
    let peers: Vec<usize> = (0..connections).collect();
    let (one, others) = peers.split_at(1);
    for some in [one].into_iter().chain(others.chunks(AT_ONCE)) {
        if some.first() == Some(&1) {
            first = settled(&running.process).await?;
        }
        let mut opening = JoinSet::new();
        for peer in some.iter().copied() {
            let running = Arc::clone(&running);
            opening.spawn(async move {
                let mut conn = running.open(Direction::In, peer).await?;
                send(&mut conn, peer, FORMS[0]).await?;
                anyhow::Ok((peer, conn))
            });
        }
        while let Some(opened) = opening.join_next().await {
            conns.push(opened?.with_context(|| running.log())?);
        }
    }
    arrived(&running, &received, connections * FORMS[0].size).await?;
    let (wall, cpu) = (start.elapsed(), running.process.cpu()?.since(&cpu));
    let idle = settled(&running.process).await?;
    let mut peak = idle;
    let mut burst = conns.into_iter();
    let mut conns = Vec::new();
    loop {
        let mut sending = JoinSet::new();
        for (peer, mut conn) in burst.by_ref().take(AT_ONCE) {
            sending.spawn(async move {
                send(&mut conn, peer, FORMS[1]).await?;
                anyhow::Ok((peer, conn))
            });
        }
        if sending.is_empty() {
            break;
        }
        while let Some(sent) = sending.join_next().await {
            conns.push(sent?.with_context(|| running.log())?);
        }
        peak = peak.max(running.process.rss()?);
    }
    arrived(&running, &received, connections * (FORMS[0].size + FORMS[1].size)).await?;
    let after = settled(&running.process).await?;
    let each = |rss: u64| count(rss.saturating_sub(first)) / 1e3 / count(connections as u64 - 1);
    let latency = None;
    let stanzas = connections as u64;
    let measured = Measured { cpu, wall, stanzas, bytes: 0, rss: idle, latency };
    let mut row = Row::new(scenario, subject.label(), vec![measured]);
    // Of few connections what was there before is as much as what they take.
    let targets = (connections > 5_000 && subject.is_fedgate()).then_some(());
    let figure = |what, value, target: f64| row_figure(what, value, targets.map(|()| target));
    row.figures.extend([
        figure("kB a connection", each(idle), 25.0),
        figure("after the burst, of that", each(after) / each(idle), 1.2),
        row_figure("MB at most in it", count(peak) / 1e6, None),
    ]);
    Ok(row)
}

fn row_figure(what: &'static str, value: f64, target: Option<f64>) -> Figure {
    Figure { what, value, target }
}

async fn send(conn: &mut Conn, peer: usize, form: Form) -> anyhow::Result<()> {
    let mut buffer = Vec::with_capacity(form.size);
    Sequence::new(Direction::In, peer, form).write(&mut buffer);
    Ok(timeout(PATIENCE, conn.write(&buffer, form.size, Packing::Many)).await??)
}

/// Counts what comes.
async fn read(mut conn: Conn, received: Arc<AtomicU64>) {
    while let Ok(bytes) = conn.read().await {
        received.fetch_add(bytes as u64, Ordering::SeqCst);
        conn.input = bytes::BytesMut::new();
    }
}

/// Waits until so many bytes have come.
async fn arrived(running: &Running, received: &AtomicU64, due: usize) -> anyhow::Result<()> {
    let mut last = (0, Instant::now());
    loop {
        let now = received.load(Ordering::SeqCst);
        if now == due as u64 {
            return Ok(());
        }
        if now != last.0 {
            last = (now, Instant::now());
        }
        if now > due as u64 || last.1.elapsed() > PATIENCE {
            bail!("{now} of {due} bytes arrived{}", running.log());
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Resident memory when it has stayed the same for a while.
async fn settled(process: &Process) -> anyhow::Result<u64> {
    let start = Instant::now();
    let mut last = process.rss()?;
    loop {
        sleep(Duration::from_secs(3)).await;
        let now = process.rss()?;
        if now.abs_diff(last) < now / 500 || start.elapsed() > SETTLE {
            return Ok(now);
        }
        last = now;
    }
}
