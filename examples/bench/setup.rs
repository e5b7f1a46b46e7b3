//! Set-up: from nothing to the first relayed stanza, each time with a peer that was not there
//! before.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use tokio::{sync::oneshot, task::JoinSet, time::timeout};

use super::{
    conn::{Conn, PATIENCE, Packing},
    neighbours::Way,
    report::{Measured, percentiles},
    stanzas::{Direction, Form, Sequence, peer_of},
    subject::{Extra, Running, Subject},
};

/// A subject, and the peers that it has seen.
pub(crate) struct SetUp {
    running: Arc<Running>,
    direction: Direction,
    way: Way,
    /// Nothing is sent, since nobody carries it on.
    handshake_only: bool,
    peers: usize,
    waiting: Arc<Waiting>,
    _task: JoinSet<()>,
}

/// Who waits for a peer's stanza.
#[derive(Default)]
struct Waiting(Mutex<Vec<(usize, oneshot::Sender<()>)>>);

/// Set-ups under way at once.
const AT_ONCE: usize = 8;
/// What is sent.
const FORM: Form = Form::TEXT;

impl SetUp {
    /// Starts a subject.
    pub(crate) async fn open(
        subject: &Subject,
        direction: Direction,
        way: Way,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let extra = Extra { direct_tls: way.direct_tls, ..Extra::default() };
        let mut running = subject.start(direction, directory, &extra).await?;
        let waiting = Arc::<Waiting>::default();
        let mut task = JoinSet::new();
        let mut streams = running.take_arrivals(direction);
        let arrived = Arc::clone(&waiting);
        task.spawn(async move {
            let mut held = JoinSet::new();
            while let Some(conn) = streams.recv().await {
                let arrived = Arc::clone(&arrived);
                held.spawn(async move { receive(conn, direction, &arrived).await });
                while held.try_join_next().is_some() {}
            }
            // The streams outlive the listener.
            while held.join_next().await.is_some() {}
        });
        let handshake_only = *subject == Subject::TlsAccept;
        let running = Arc::new(running);
        Ok(Self { running, direction, way, handshake_only, peers: 0, waiting, _task: task })
    }

    /// So many.
    pub(crate) async fn run(&mut self, count: u64) -> anyhow::Result<Measured> {
        let mut tasks = JoinSet::new();
        let mut times = Vec::new();
        let (cpu, start) = (self.running.process.cpu()?, Instant::now());
        for _ in 0..count {
            if tasks.len() >= AT_ONCE {
                times.push(self.one_of(&mut tasks).await?);
            }
            let (running, waiting) = (Arc::clone(&self.running), Arc::clone(&self.waiting));
            let (direction, way, only) = (self.direction, self.way, self.handshake_only);
            let peer = self.peers;
            self.peers += 1;
            tasks.spawn(async move { one(&running, direction, way, only, peer, &waiting).await });
        }
        while !tasks.is_empty() {
            times.push(self.one_of(&mut tasks).await?);
        }
        Ok(Measured {
            wall: start.elapsed(),
            cpu: self.running.process.cpu()?.since(&cpu),
            stanzas: count,
            bytes: 0,
            rss: self.running.process.rss()?,
            latency: Some(percentiles(times)),
        })
    }

    async fn one_of(
        &self,
        tasks: &mut JoinSet<anyhow::Result<Duration>>,
    ) -> anyhow::Result<Duration> {
        let outcome = tasks.join_next().await.context("no set-up is under way")?;
        outcome?.with_context(|| self.running.log())
    }
}

/// Opens, sends one stanza, and closes when it has arrived.
async fn one(
    running: &Running,
    direction: Direction,
    way: Way,
    handshake_only: bool,
    peer: usize,
    waiting: &Waiting,
) -> anyhow::Result<Duration> {
    let start = Instant::now();
    if handshake_only {
        let mut conn = running.open(direction, peer).await?;
        // In TLS 1.3 the client is done before the server is.
        conn.say("!").await?;
        conn.until("!").await?;
        return Ok(start.elapsed());
    }
    let arrival = waiting.expect(peer);
    let mut conn = running.open_with(direction, peer, way).await?;
    let mut buffer = Vec::new();
    Sequence::new(direction, peer, FORM).write(&mut buffer);
    conn.write(&buffer, FORM.size, Packing::Many).await?;
    timeout(PATIENCE, arrival).await.map_err(|_| anyhow!("peer {peer}: no stanza"))??;
    Ok(start.elapsed())
}

/// Takes what comes on a stream, and holds it until the other end closes.
async fn receive(mut conn: Conn, direction: Direction, waiting: &Waiting) {
    while conn.read().await.is_ok() {
        if conn.input.len() >= FORM.size
            && let Some(peer) = peer_of(&conn.input)
            && Sequence::new(direction, peer, FORM).check(&mut conn.input).is_ok()
        {
            waiting.arrived(peer);
        }
    }
}

impl Waiting {
    fn expect(&self, peer: usize) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((peer, sender));
        receiver
    }

    fn arrived(&self, peer: usize) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = waiting.iter().position(|(number, _)| *number == peer) {
            // Who gave up does not wait any more.
            let _ = waiting.swap_remove(at).1.send(());
        }
    }
}
