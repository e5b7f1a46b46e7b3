//! The stanzas of one stream that came and are not handled yet (XEP-0198 §4). A batch holds on to
//! its receipt on whatever way it takes; it is handled when nothing does any more: then each of its
//! stanzas is written to the other side, bounced or refused (protocol SM-5).
//!
//! The other end is told of the first so many that are handled, as they came. A batch costs one
//! allocation, and its end one load while no answer is owed.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering, fence},
    },
};

use tokio::sync::Notify;

use crate::auth::ledger::Routable;

/// What came on a stream since stanzas are counted on it.
#[derive(Debug)]
pub(super) struct Receipts {
    debt: Arc<Debt>,
    /// Batches that are not known to be handled, in the order in which they came, and how many
    /// stanzas each had. Bounded by the queues that the batches stand in.
    open: VecDeque<(Weak<Receipt>, u32)>,
    /// How many stanzas came, modulo 2^32.
    received: u32,
    /// How many of them are handled, with all before them.
    handled: u32,
    /// An answer said less than what had come by then: one more is due when so many are handled.
    owed: Option<u32>,
}

/// Whether somebody waits for stanzas to be handled.
#[derive(Debug, Default)]
struct Debt {
    is_owed: AtomicBool,
    paid: Notify,
}

/// What a batch holds on to.
#[derive(Debug)]
struct Receipt(Arc<Debt>);

impl Drop for Receipt {
    fn drop(&mut self) {
        // Either this load sees the flag, or who set it sees that nothing holds the receipt.
        fence(Ordering::SeqCst);
        if self.0.is_owed.load(Ordering::Relaxed) {
            self.0.paid.notify_one();
        }
    }
}

impl Receipts {
    /// So many stanzas came so far.
    pub(super) fn new(received: u32) -> Self {
        Self {
            debt: Arc::default(),
            open: VecDeque::new(),
            received,
            handled: received,
            owed: None,
        }
    }

    /// A batch came: it counts as handled when nothing is left of it.
    pub(super) fn issue(&mut self, batch: Routable) -> Routable {
        // What is handled meanwhile is let go of, though nobody asks.
        self.settle();
        let receipt = Arc::new(Receipt(Arc::clone(&self.debt)));
        self.enter(Arc::downgrade(&receipt), batch.stanzas());
        batch.holding(receipt)
    }

    /// A stanza came that means nothing.
    pub(super) fn skip(&mut self) {
        self.settle();
        self.enter(Weak::new(), 1);
        self.settle();
    }

    fn enter(&mut self, receipt: Weak<Receipt>, stanzas: u32) {
        self.received = self.received.wrapping_add(stanzas);
        match self.open.back_mut() {
            // Handled, but behind others that are not: so what is refused behind them takes no room.
            Some((last, sum)) if last.strong_count() == 0 => {
                *last = receipt;
                *sum = sum.wrapping_add(stanzas);
            }
            Some(_) | None => {
                if self.open.len() == self.open.capacity() {
                    self.compact();
                }
                self.open.push_back((receipt, stanzas));
            }
        }
    }

    /// Batches that are handled, though others before them are not, take one place together.
    fn compact(&mut self) {
        let mut kept: VecDeque<(Weak<Receipt>, u32)> = VecDeque::new();
        for (receipt, stanzas) in self.open.drain(..) {
            match kept.back_mut() {
                Some((last, sum)) if last.strong_count() == 0 && receipt.strong_count() == 0 => {
                    *sum = sum.wrapping_add(stanzas);
                }
                Some(_) | None => kept.push_back((receipt, stanzas)),
            }
        }
        // Not again before as many have come.
        kept.reserve(kept.len());
        self.open = kept;
    }

    /// How many stanzas came.
    pub(super) fn received(&self) -> u32 {
        self.received
    }

    /// The other end asks: how many stanzas are handled. If that is less than came, one more answer
    /// is owed.
    pub(super) fn answer(&mut self) -> u32 {
        self.owed = None;
        self.settle();
        if self.handled != self.received {
            self.debt.is_owed.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            self.settle();
        }
        if self.handled == self.received {
            self.debt.is_owed.store(false, Ordering::Relaxed);
        } else {
            self.owed = Some(self.received);
        }
        self.handled
    }

    /// Whether an answer is owed.
    pub(super) fn owes(&self) -> bool {
        self.owed.is_some()
    }

    /// Waits until the answer that is owed can be given. Cancel-safe.
    pub(super) async fn paid(&mut self) -> u32 {
        while let Some(target) = self.owed {
            self.settle();
            // Behind it by less than half a round of the counter.
            if self.handled.wrapping_sub(target) < 1 << 31 {
                break;
            }
            self.debt.paid.notified().await;
        }
        self.owed = None;
        self.debt.is_owed.store(false, Ordering::Relaxed);
        self.handled
    }

    fn settle(&mut self) {
        while let Some((receipt, stanzas)) = self.open.front()
            && receipt.strong_count() == 0
        {
            self.handled = self.handled.wrapping_add(*stanzas);
            self.open.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
