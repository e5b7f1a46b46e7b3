//! Pings that are out: the answers to them are caught on their way to the legacy server, which
//! never asked.
//!
//! As long as none is out, batches pass for the price of one relaxed load.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use super::pieces;
use crate::{
    auth::{ledger::Routable, ping::Ping},
    stream::Failure,
    xml::{ElementName, Span, Tag},
    xmpp::DomainPair,
};

/// Pings out at once.
const OUT_MAX: usize = 8;
/// How long the answer to a ping that nobody waits for any more is still caught.
const LINGER: Duration = Duration::from_secs(120);
/// Ids remembered, with those that nobody waits for.
const REMEMBERED: usize = 64;

/// The pings of one fedgate.
#[derive(Debug, Default)]
pub(super) struct Pings {
    known: AtomicUsize,
    out: Mutex<HashMap<String, Out>>,
}

#[derive(Debug)]
struct Out {
    pair: DomainPair,
    sent: Instant,
    waiter: oneshot::Sender<Answer>,
}

/// What came of a ping.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// The peer's server answered: with a result, or with the condition of its error. Either proves
    /// the way, both ways.
    Came(Result<(), String>),
    /// It could not be delivered.
    Failed(Failure),
}

impl Pings {
    /// A ping goes out; the answer comes where this returns. `None`: there are too many already.
    pub(super) fn out(&self, ping: &Ping) -> Option<oneshot::Receiver<Answer>> {
        let mut out = self.table();
        let now = Instant::now();
        out.retain(|_, out| now.duration_since(out.sent) < LINGER);
        let waited_for = out.values().filter(|out| !out.waiter.is_closed()).count();
        if waited_for >= OUT_MAX || out.len() >= REMEMBERED {
            self.known.store(out.len(), Ordering::Relaxed);
            return None;
        }
        let (waiter, answer) = oneshot::channel();
        out.insert(ping.id().to_owned(), Out { pair: ping.pair().clone(), sent: now, waiter });
        self.known.store(out.len(), Ordering::Relaxed);
        Some(answer)
    }

    /// Stanzas of a peer: what of them is for the legacy server, once answers to pings are taken
    /// out.
    pub(super) fn catch_answers(&self, batch: Routable) -> Option<Routable> {
        if self.known.load(Ordering::Relaxed) == 0 {
            return Some(batch);
        }
        let pair = batch.pair().reversed();
        self.take_out(batch, &pair, |stanza, tag| {
            let is = |word: &str| tag.type_.is_some_and(|span| span.text(stanza) == word);
            match (is("result"), is("error")) {
                (true, _) => Some(Answer::Came(Ok(()))),
                (_, true) => Some(Answer::Came(Err(pieces::condition(stanza)))),
                _ => None,
            }
        })
    }

    /// Stanzas that a peer did not get: those to be answered with an error; pings are not.
    pub(super) fn catch_undelivered(&self, batch: Routable, failure: &Failure) -> Option<Routable> {
        if self.known.load(Ordering::Relaxed) == 0 {
            return Some(batch);
        }
        let pair = batch.pair().clone();
        self.take_out(batch, &pair, |stanza, tag| {
            let is_get = tag.type_.is_some_and(|span| span.text(stanza) == "get");
            is_get.then(|| Answer::Failed(failure.clone()))
        })
    }

    fn take_out(
        &self,
        batch: Routable,
        pair: &DomainPair,
        answer: impl Fn(&[u8], &Tag) -> Option<Answer>,
    ) -> Option<Routable> {
        let mut out = self.table();
        let rest = pieces::without(batch, |stanza, tag| {
            let id = |span: Span| span.text(stanza);
            let known = tag.id.map(id).filter(|id| {
                tag.name == ElementName::Iq && out.get(&**id).is_some_and(|out| out.pair == *pair)
            });
            let (Some(id), Some(answer)) = (known, answer(stanza, tag)) else { return false };
            if let Some(out) = out.remove(&*id) {
                // it may be that nobody waits any more
                let _ = out.waiter.send(answer);
            }
            true
        });
        let now = Instant::now();
        out.retain(|_, out| now.duration_since(out.sent) < LINGER);
        self.known.store(out.len(), Ordering::Relaxed);
        rest
    }

    /// A panic elsewhere leaves no half an entry.
    fn table(&self) -> MutexGuard<'_, HashMap<String, Out>> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
