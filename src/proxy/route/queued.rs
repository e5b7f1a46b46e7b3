//! What waits in a route's queue, the room that it takes there, and who waits for it to be written.

use std::{
    convert::Infallible,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};

use crate::{auth::ledger::Routable, proxy::backlog::Share};

/// Above so many bytes that an open stream has not written its senders read nothing more for it: what
/// is written soon after it was read is still in the processor's cache.
const AHEAD_MAX: u64 = 64 * 1024;

/// A batch smaller than this does not keep the buffer that it came in, which may be larger by far
/// than what counts of it, where it may have to wait for long.
const DETACHED_MAX: usize = 16 * 1024;

/// Stanzas in the queue, with the share of its bytes that they take.
#[derive(Debug)]
pub(in crate::proxy) struct Queued {
    pub(in crate::proxy) stanzas: Routable,
    place: Place,
}

/// A share of the queue, and of all queues together; it is free again when this is dropped.
#[derive(Debug)]
struct Place {
    room: Option<OwnedSemaphorePermit>,
    share: Option<Share>,
    stanzas: u64,
    bytes: u64,
    /// Senders wait for it to be written.
    is_ahead: bool,
    waiting: Arc<Waiting>,
    /// Dropped with it, for who wants to know when that is.
    told: Option<oneshot::Sender<Infallible>>,
}

/// What waits in a queue.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Half of what the queue may hold, in bytes.
    half: u64,
    stanzas: AtomicU64,
    bytes: AtomicU64,
    /// Those of the bytes that senders wait for to be written, when they are many.
    ahead: AtomicU64,
    /// These became few.
    eased: Notify,
    /// They did not in time: nobody waits for it any more until they do.
    slow: AtomicBool,
    /// Room was waited for in vain: nobody waits for it any more until half of the queue is written.
    stuck: AtomicBool,
}

impl Waiting {
    /// Of a queue that may hold `capacity` bytes.
    pub(super) fn new(capacity: u32) -> Self {
        Self { half: u64::from(capacity) / 2, ..Self::default() }
    }

    /// Stanzas, and their bytes.
    pub(super) fn count(&self) -> (u64, u64) {
        (self.stanzas.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// Whether so much waits that senders should wait, too.
    pub(super) fn is_pressed(&self) -> bool {
        self.ahead.load(Ordering::Relaxed) > AHEAD_MAX && !self.is_slow()
    }

    /// Waits until it is pressed no more.
    pub(super) async fn eased(&self) {
        let mut eased = pin!(self.eased.notified());
        // What eases it from here on wakes us.
        eased.as_mut().enable();
        if self.is_pressed() {
            eased.await;
        }
    }

    /// Whether it was pressed for too long, and nothing was written since.
    pub(super) fn is_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
    }

    /// It was pressed for too long.
    pub(super) fn set_slow(&self) {
        self.slow.store(true, Ordering::Relaxed);
    }

    /// Whether room was waited for in vain, and not much was written since.
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Relaxed)
    }

    /// Room was waited for in vain.
    pub(super) fn set_stuck(&self) {
        self.stuck.store(true, Ordering::Relaxed);
    }

    /// Stanzas have left the queue.
    fn left(&self, stanzas: u64, bytes: u64) {
        self.stanzas.fetch_sub(stanzas, Ordering::Relaxed);
        let before = self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if before.saturating_sub(bytes) <= self.half && self.is_stuck() {
            self.stuck.store(false, Ordering::Relaxed);
        }
    }

    /// So many bytes are waited for no more.
    fn ease(&self, bytes: u64) {
        let before = self.ahead.fetch_sub(bytes, Ordering::Relaxed);
        if before > AHEAD_MAX && before.saturating_sub(bytes) <= AHEAD_MAX {
            self.slow.store(false, Ordering::Relaxed);
            self.eased.notify_waiters();
        }
    }
}

impl Queued {
    /// Stanzas that have found room in the queue; `told` is dropped when they have left it.
    pub(super) fn new(
        stanzas: Routable,
        (room, share): (OwnedSemaphorePermit, Option<Share>),
        waiting: &Arc<Waiting>,
        told: Option<oneshot::Sender<Infallible>>,
    ) -> Self {
        let place = Place {
            room: Some(room),
            share,
            stanzas: stanzas.stanzas().into(),
            bytes: stanzas.bytes().len() as u64,
            is_ahead: true,
            waiting: Arc::clone(waiting),
            told,
        };
        waiting.stanzas.fetch_add(place.stanzas, Ordering::Relaxed);
        waiting.bytes.fetch_add(place.bytes, Ordering::Relaxed);
        waiting.ahead.fetch_add(place.bytes, Ordering::Relaxed);
        Self { stanzas, place }
    }

    /// They may have to wait for long.
    pub(super) fn settle_in(&mut self) {
        if self.stanzas.bytes().len() < DETACHED_MAX {
            self.stanzas = self.stanzas.detached();
        }
    }

    /// Nobody needs to wait for them to be written.
    pub(in crate::proxy) fn ease(&mut self) {
        self.place.ease();
    }

    /// Some of the stanzas, in place of all; the others are done with.
    pub(in crate::proxy) fn only(mut self: Box<Self>, stanzas: Routable) -> Box<Self> {
        let gone = self.stanzas.stanzas().saturating_sub(stanzas.stanzas());
        let bytes = self.stanzas.bytes().len().saturating_sub(stanzas.bytes().len());
        drop(self.place.split(gone, bytes));
        self.stanzas = stanzas;
        self
    }

    /// The first of the stanzas and the others, each with their place.
    pub(in crate::proxy) fn split(
        mut self: Box<Self>,
        first: Routable,
        others: Routable,
    ) -> (Box<Self>, Box<Self>) {
        let mut place = self.place.split(others.stanzas(), others.bytes().len());
        place.told = self.place.told.take();
        self.stanzas = first;
        (self, Box::new(Self { stanzas: others, place }))
    }
}

impl Place {
    fn ease(&mut self) {
        if std::mem::take(&mut self.is_ahead) {
            self.waiting.ease(self.bytes);
        }
    }

    /// The part of it that so many stanzas take.
    fn split(&mut self, stanzas: u32, bytes: usize) -> Self {
        let stanzas = u64::from(stanzas).min(self.stanzas);
        let size = (bytes as u64).min(self.bytes);
        self.stanzas -= stanzas;
        self.bytes -= size;
        let part = |room: &mut OwnedSemaphorePermit| room.split(bytes.min(room.num_permits()));
        Self {
            room: self.room.as_mut().and_then(part),
            share: self.share.as_mut().map(|share| share.split(bytes)),
            stanzas,
            bytes: size,
            is_ahead: self.is_ahead,
            waiting: Arc::clone(&self.waiting),
            told: None,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.ease();
        self.waiting.left(self.stanzas, self.bytes);
    }
}
