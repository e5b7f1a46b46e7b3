//! Memory of idle connections: each is a peer's TLS connection and the stream to the legacy server
//! behind it, with one stanza relayed.

use std::{
    ops::Range,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use bytes::BytesMut;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    conn::{Conn, PATIENCE, Packing},
    report::{Figure, Measured, Row, count},
    stanzas::{Direction, Form, Sequence},
    subject::{Extra, Running, Subject},
};

/// The first stanza of each.
const FIRST: Form = Form::TEXT;
/// That of the burst.
const BURST: Form = Form::BURST;
/// Streams that are opened, or send, at once.
const AT_ONCE: usize = 64;
/// How often memory is looked at until it stays the same.
const LOOKS: u32 = 15;

/// A subject with its connections.
struct Idle {
    running: Arc<Running>,
    /// Those that are open, by peer.
    conns: Vec<(usize, Conn)>,
    /// Bytes that have arrived.
    received: Arc<AtomicU64>,
    due: usize,
    _task: JoinSet<()>,
}

/// Opens `connections`, then sends 100 kB on each. Memory that does not change for a `pause` has
/// settled.
pub(crate) async fn measure(
    scenario: &str,
    subject: &Subject,
    connections: usize,
    pause: Duration,
    directory: &Path,
) -> anyhow::Result<Row> {
    let mut idlers = Idle::start(subject, directory).await?;
    // What the first one takes is there once.
    idlers.open(0..1).await?;
    let first = idlers.settled(pause).await?;
    let (before, start) = (idlers.running.process.cpu()?, Instant::now());
    idlers.open(1..connections).await?;
    let (wall, cpu) = (start.elapsed(), idlers.running.process.cpu()?.since(&before));
    let idle = idlers.settled(pause).await?;
    let peak = idlers.burst().await?;
    let after = idlers.settled(pause).await?;

    let stanzas = connections as u64 - 1;
    let measured = Measured { cpu, wall, stanzas, rss: idle, ..Measured::default() };
    let mut row = Row::new(scenario, subject.label(), vec![measured]);
    let each = |rss: u64| count(rss.saturating_sub(first)) / 1e3 / count(stanzas);
    // Of few connections the allocator's rounding is as much as what they take.
    let is_promised = connections > 5_000 && subject.is_fedgate();
    let mut add = |what, value, target: Option<f64>| {
        row.figures.push(Figure { what, value, target: target.filter(|_| is_promised) });
    };
    add("kB a connection", each(idle), Some(25.0));
    add("after the burst, of that", each(after) / each(idle), Some(1.2));
    add("MB at most in it", count(peak) / 1e6, None);
    Ok(row)
}

impl Idle {
    async fn start(subject: &Subject, directory: &Path) -> anyhow::Result<Self> {
        let mut running = subject.start(Direction::In, directory, &Extra::default()).await?;
        let received = Arc::<AtomicU64>::default();
        let mut task = JoinSet::new();
        let mut streams = running.take_arrivals(Direction::In);
        let counter = Arc::clone(&received);
        task.spawn(async move {
            let mut readers = JoinSet::new();
            while let Some(conn) = streams.recv().await {
                readers.spawn(read(conn, Arc::clone(&counter)));
            }
            // The streams outlive the listener.
            while readers.join_next().await.is_some() {}
        });
        let (running, conns) = (Arc::new(running), Vec::new());
        Ok(Self { running, conns, received, due: 0, _task: task })
    }

    /// Opens streams of these peers, with a stanza on each, which arrives.
    async fn open(&mut self, peers: Range<usize>) -> anyhow::Result<()> {
        self.due += peers.len() * FIRST.size;
        let mut peers = peers.into_iter();
        while !peers.is_empty() {
            let mut opening = JoinSet::new();
            for peer in peers.by_ref().take(AT_ONCE) {
                let running = Arc::clone(&self.running);
                opening.spawn(async move {
                    let conn = running.open(Direction::In, peer).await?;
                    send(conn, peer, FIRST).await
                });
            }
            self.collect(opening).await?;
        }
        self.arrived().await
    }

    /// Sends a large stanza on each, which arrives. The most memory that was seen meanwhile.
    async fn burst(&mut self) -> anyhow::Result<u64> {
        self.due += self.conns.len() * BURST.size;
        let mut peak = 0;
        let mut conns = std::mem::take(&mut self.conns).into_iter();
        while conns.len() > 0 {
            let mut sending = JoinSet::new();
            for (peer, conn) in conns.by_ref().take(AT_ONCE) {
                sending.spawn(send(conn, peer, BURST));
            }
            self.collect(sending).await?;
            peak = peak.max(self.running.process.rss()?);
        }
        self.arrived().await?;
        Ok(peak)
    }

    async fn collect(
        &mut self,
        mut tasks: JoinSet<anyhow::Result<(usize, Conn)>>,
    ) -> anyhow::Result<()> {
        while let Some(done) = tasks.join_next().await {
            self.conns.push(done?.with_context(|| self.running.log())?);
        }
        Ok(())
    }

    /// Waits until all bytes have come.
    async fn arrived(&self) -> anyhow::Result<()> {
        let due = self.due as u64;
        let mut last = (0, Instant::now());
        loop {
            let now = self.received.load(Ordering::SeqCst);
            if now == due {
                return Ok(());
            }
            if now != last.0 {
                last = (now, Instant::now());
            }
            if now > due || last.1.elapsed() > PATIENCE {
                bail!("{now} of {due} bytes arrived{}", self.running.log());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Resident memory when it has stayed the same for a pause, or does not come to rest.
    async fn settled(&self, pause: Duration) -> anyhow::Result<u64> {
        let mut last = self.running.process.rss()?;
        for _ in 0..LOOKS {
            sleep(pause).await;
            let now = self.running.process.rss()?;
            if now.abs_diff(last) < now / 500 {
                return Ok(now);
            }
            last = now;
        }
        Ok(last)
    }
}

async fn send(mut conn: Conn, peer: usize, form: Form) -> anyhow::Result<(usize, Conn)> {
    let mut buffer = Vec::with_capacity(form.size);
    Sequence::new(Direction::In, peer, form).write(&mut buffer);
    timeout(PATIENCE, conn.write(&buffer, form.size, Packing::Many)).await??;
    Ok((peer, conn))
}

/// Counts what comes.
async fn read(mut conn: Conn, received: Arc<AtomicU64>) {
    while let Ok(bytes) = conn.read().await {
        received.fetch_add(bytes as u64, Ordering::SeqCst);
        conn.input = BytesMut::new();
    }
}
