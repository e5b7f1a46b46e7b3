//! Ping-pong: one stanza at a time goes in, and the legacy server answers it.

use std::{path::Path, time::Instant};

use anyhow::{Context, anyhow};
use tokio::{
    sync::{mpsc::UnboundedReceiver, oneshot},
    task::JoinSet,
    time::timeout,
};

use super::{
    conn::{Conn, PATIENCE, Packing},
    neighbours::Way,
    report::{Measured, percentiles},
    stanzas::{Direction, Form, Sequence},
    subject::{Extra, Running, Subject},
};

/// A subject with a peer and the legacy server at its ends.
pub(crate) struct PingPong {
    running: Running,
    /// What the peer sends on.
    there: Conn,
    back: Back,
    pings: Sequence,
    pongs: Sequence,
    /// Why the legacy server stopped.
    failure: oneshot::Receiver<anyhow::Error>,
    _task: JoinSet<()>,
}

/// What the answers come on.
enum Back {
    /// What the peer sends on.
    Same,
    /// Another connection, to come.
    Due(UnboundedReceiver<Conn>),
    /// Another connection.
    Other(Box<Conn>),
}

impl PingPong {
    /// Starts a subject and opens the streams: that of the peer in both directions, if `bidi`.
    pub(crate) async fn open(
        subject: &Subject,
        form: Form,
        bidi: bool,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let mut running = subject.start(Direction::In, directory, &Extra::default()).await?;
        let there = running.open_with(Direction::In, 0, Way { bidi, ..Way::USUAL }).await?;
        // fedgate has streams of its own for each direction; the one to the peer comes when it is
        // needed.
        let answering =
            if subject.is_fedgate() { Some(running.open(Direction::Out, 0).await?) } else { None };
        let back = if subject.is_fedgate() && !bidi {
            Back::Due(running.take_arrivals(Direction::Out))
        } else {
            Back::Same
        };
        let streams = running.take_arrivals(Direction::In);
        let (failed, failure) = oneshot::channel();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let Err(error) = answer(streams, answering, form).await;
            let _ = failed.send(error);
        });
        let [pings, pongs] =
            [Direction::In, Direction::Out].map(|direction| Sequence::new(direction, 0, form));
        Ok(Self { running, there, back, pings, pongs, failure, _task: task })
    }

    /// So many, one after the other.
    pub(crate) async fn run(&mut self, count: u64) -> anyhow::Result<Measured> {
        let mut times = Vec::new();
        let mut buffer = Vec::new();
        let (cpu, start) = (self.running.process.cpu()?, Instant::now());
        for _ in 0..count {
            buffer.clear();
            self.pings.write(&mut buffer);
            let sent = Instant::now();
            self.there.write(&buffer, buffer.len(), Packing::Many).await?;
            if let Back::Due(streams) = &mut self.back {
                let opened = timeout(PATIENCE, streams.recv()).await?;
                self.back = Back::Other(Box::new(opened.context("no stream to the peer")?));
            }
            let back = match &mut self.back {
                Back::Other(back) => &mut **back,
                Back::Same | Back::Due(_) => &mut self.there,
            };
            loop {
                let read = tokio::select! {
                    read = timeout(PATIENCE, back.read()) => read,
                    failed = &mut self.failure => {
                        return Err(failed?.context(self.running.log()));
                    }
                };
                read.map_err(|_| anyhow!("no answer"))??;
                if self.pongs.check(&mut back.input)? > 0 {
                    break;
                }
            }
            times.push(sent.elapsed());
        }
        Ok(Measured {
            wall: start.elapsed(),
            cpu: self.running.process.cpu()?.since(&cpu),
            stanzas: count,
            bytes: count * buffer.len() as u64,
            rss: self.running.process.rss()?,
            latency: Some(percentiles(times)),
        })
    }
}

/// The legacy server answers each stanza, on the stream that it came on or another.
async fn answer(
    mut streams: UnboundedReceiver<Conn>,
    mut answering: Option<Conn>,
    form: Form,
) -> anyhow::Result<std::convert::Infallible> {
    let mut conn = streams.recv().await.context("no stream to the legacy server")?;
    let [mut pings, mut pongs] =
        [Direction::In, Direction::Out].map(|direction| Sequence::new(direction, 0, form));
    let mut buffer = Vec::new();
    loop {
        conn.read().await?;
        buffer.clear();
        for _ in 0..pings.check(&mut conn.input)? {
            pongs.write(&mut buffer);
        }
        if !buffer.is_empty() {
            answering
                .as_mut()
                .unwrap_or(&mut conn)
                .write(&buffer, form.size, Packing::Many)
                .await?;
        }
    }
}
