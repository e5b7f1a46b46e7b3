//! Bulk: as many stanzas as go through, over one or many streams.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use anyhow::{Context, anyhow, bail};
use tokio::{
    sync::{Mutex as AsyncMutex, Notify, mpsc},
    task::JoinSet,
    time::timeout,
};

use super::{
    conn::{Conn, PATIENCE, Packing},
    neighbours::join,
    report::Measured,
    stanzas::{Direction, Form, Sequence, peer_of},
    subject::{Extra, Running, Subject},
};

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) direction: Direction,
    pub(crate) form: Form,
    pub(crate) streams: usize,
    /// The domain pairs of all peers are on the stream of the first; so there is one only.
    pub(crate) joined: bool,
    pub(crate) packing: Packing,
    /// Stanzas of one run.
    pub(crate) count: u64,
}

/// A subject with its streams open.
pub(crate) struct Flow {
    running: Running,
    load: Load,
    /// A sender for each stream: how many it is to send next.
    orders: Vec<mpsc::UnboundedSender<u64>>,
    meter: Arc<Meter>,
    _tasks: JoinSet<()>,
}

/// What has arrived.
#[derive(Default)]
struct Meter {
    count: AtomicU64,
    /// What it is to be.
    due: AtomicU64,
    reached: Notify,
    failure: Mutex<Option<anyhow::Error>>,
}

/// Bytes that a sender writes at once, about.
const BATCH: usize = 64 * 1024;
/// The same with a record for each stanza: as much as waits in a TLS connection.
const BATCH_SINGLE: usize = 32 * 1024;
/// Streams that are opened at once.
const OPENING: usize = 16;

impl Flow {
    /// Starts a subject and opens the streams.
    pub(crate) async fn open(
        subject: &Subject,
        load: Load,
        directory: &Path,
        extra: &Extra,
    ) -> anyhow::Result<Self> {
        let mut running = subject.start(load.direction, directory, extra).await?;
        let meter = Arc::<Meter>::default();
        let mut tasks = JoinSet::new();
        let arrivals = running.take_arrivals(load.direction);
        tasks.spawn(receive_all(arrivals, load, Arc::clone(&meter)));
        let mut orders = Vec::new();
        let mut sends = |conn: &Arc<AsyncMutex<Conn>>, peer| {
            let (sender, receiver) = mpsc::unbounded_channel();
            tasks.spawn(send(Arc::clone(conn), peer, load, receiver, Arc::clone(&meter)));
            orders.push(sender);
        };
        if load.joined {
            let mut conn = running.open(load.direction, 0).await?;
            for peer in 1..load.streams {
                join(&mut conn, peer).await.with_context(|| running.log())?;
            }
            let conn = Arc::new(AsyncMutex::new(conn));
            (0..load.streams).for_each(|peer| sends(&conn, peer));
        }
        let separate = if load.joined { 0 } else { load.streams };
        let peers: Vec<usize> = (0..separate).collect();
        for some in peers.chunks(OPENING) {
            // A stream's negotiation is mostly waiting for the subject.
            let opening = some.iter().map(|peer| running.open(load.direction, *peer));
            for (conn, peer) in join_all(opening).await.into_iter().zip(some) {
                let conn = conn.with_context(|| running.log())?;
                sends(&Arc::new(AsyncMutex::new(conn)), *peer);
            }
        }
        let flow = Self { running, load, orders, meter, _tasks: tasks };
        // What more comes than a queue holds bounces until the stream to its target is open.
        flow.run(load.streams as u64).await?;
        Ok(flow)
    }

    /// Sends `count` stanzas over all streams together and waits until all have arrived.
    pub(crate) async fn run(&self, count: u64) -> anyhow::Result<Measured> {
        self.run_over(self.orders.len(), count).await
    }

    /// The same over the first `streams` only.
    pub(crate) async fn run_over(&self, streams: usize, count: u64) -> anyhow::Result<Measured> {
        let streams = streams.min(self.orders.len());
        let each = (count / streams as u64).max(1);
        self.measure(each * streams as u64, async {
            self.order(self.orders.iter().take(streams), each).await
        })
        .await
    }

    /// Sends about `count` stanzas in rounds: `each` on `streams` of them, then as many on the next,
    /// when those have arrived.
    pub(crate) async fn run_in_turns(
        &self,
        streams: usize,
        each: u64,
        count: u64,
    ) -> anyhow::Result<Measured> {
        let rounds = (count / each).div_ceil(streams as u64);
        let mut turns = self.orders.iter().cycle();
        self.measure(rounds * each * streams as u64, async {
            for _ in 0..rounds {
                self.order(turns.by_ref().take(streams), each).await?;
            }
            Ok(())
        })
        .await
    }

    /// Has these streams send so many each, and waits until all have arrived.
    async fn order(
        &self,
        streams: impl Iterator<Item = &mpsc::UnboundedSender<u64>>,
        each: u64,
    ) -> anyhow::Result<()> {
        let streams: Vec<_> = streams.collect();
        self.meter.due.fetch_add(each * streams.len() as u64, Ordering::SeqCst);
        for stream in streams {
            stream.send(each).map_err(|_| anyhow!("a sender is gone"))?;
        }
        self.meter.wait().await.with_context(|| self.running.log())
    }

    async fn measure(
        &self,
        stanzas: u64,
        work: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<Measured> {
        let (cpu, start) = (self.running.process.cpu()?, Instant::now());
        work.await?;
        Ok(Measured {
            wall: start.elapsed(),
            cpu: self.running.process.cpu()?.since(&cpu),
            stanzas,
            bytes: stanzas * self.load.form.size as u64,
            rss: self.running.process.rss()?,
            ..Measured::default()
        })
    }
}

impl Meter {
    fn arrived(&self, count: u64) {
        let before = self.count.fetch_add(count, Ordering::SeqCst);
        if before + count >= self.due.load(Ordering::SeqCst) {
            self.reached.notify_one();
        }
    }

    fn fail(&self, error: anyhow::Error) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.reached.notify_one();
    }

    /// Until all that is due has arrived; as long as something does.
    async fn wait(&self) -> anyhow::Result<()> {
        let mut last = self.count.load(Ordering::SeqCst);
        loop {
            let silent = timeout(PATIENCE, self.reached.notified()).await.is_err();
            let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(error) = failure {
                return Err(error);
            }
            let (count, due) = (self.count.load(Ordering::SeqCst), self.due.load(Ordering::SeqCst));
            if count >= due {
                return Ok(());
            }
            if silent && count == last {
                bail!("{count} of {due} stanzas arrived, and for {PATIENCE:?} none");
            }
            last = count;
        }
    }
}

/// Sends what is ordered.
async fn send(
    conn: Arc<AsyncMutex<Conn>>,
    peer: usize,
    load: Load,
    mut orders: mpsc::UnboundedReceiver<u64>,
    meter: Arc<Meter>,
) {
    let mut sequence = Sequence::new(load.direction, peer, load.form);
    let batch = match load.packing {
        Packing::Many => BATCH,
        Packing::Single => BATCH_SINGLE,
    };
    let batch = (batch / load.form.size).max(1) as u64;
    let mut buffer = Vec::with_capacity(BATCH + load.form.size);
    while let Some(mut left) = orders.recv().await {
        while left > 0 {
            let now = left.min(batch);
            buffer.clear();
            for _ in 0..now {
                sequence.write(&mut buffer);
            }
            let mut conn = conn.lock().await;
            if let Err(error) = conn.write(&buffer, load.form.size, load.packing).await {
                meter.fail(anyhow!(error).context(format!("send for peer {peer}")));
                return;
            }
            left -= now;
        }
    }
}

/// Takes all streams that come, and all that comes on them.
async fn receive_all(mut streams: mpsc::UnboundedReceiver<Conn>, load: Load, meter: Arc<Meter>) {
    let mut receivers = JoinSet::new();
    while let Some(conn) = streams.recv().await {
        let meter = Arc::clone(&meter);
        receivers.spawn(async move {
            if let Err(error) = receive(conn, load, &meter).await {
                meter.fail(error.context("receive"));
            }
        });
    }
    // The streams outlive the listener.
    while receivers.join_next().await.is_some() {}
}

async fn receive(mut conn: Conn, load: Load, meter: &Meter) -> anyhow::Result<()> {
    while conn.input.len() < load.form.size {
        if conn.read().await.is_err() && conn.input.is_empty() {
            // A relay carries on also the attempt whether it listens.
            return Ok(());
        }
    }
    let peer = peer_of(&conn.input).context("not a stanza of ours")?;
    let mut sequence = Sequence::new(load.direction, peer, load.form);
    loop {
        let count = sequence.check(&mut conn.input)?;
        if count > 0 {
            meter.arrived(count as u64);
        }
        conn.read().await?;
    }
}

/// All outcomes, in order.
async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        let mut pending = false;
        for (future, outcome) in futures.iter_mut().filter(|(_, outcome)| outcome.is_none()) {
            match future.as_mut().poll(cx) {
                std::task::Poll::Ready(value) => *outcome = Some(value),
                std::task::Poll::Pending => pending = true,
            }
        }
        if pending { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    futures.into_iter().filter_map(|(_, outcome)| outcome).collect()
}
