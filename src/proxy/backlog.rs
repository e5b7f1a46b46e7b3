//! What waits in the queues of all domain pairs together. Errors on their way back do not count.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

/// The bytes that wait, and how many may.
#[derive(Debug)]
pub(super) struct Backlog {
    bytes: AtomicUsize,
    most: AtomicUsize,
    freed: Notify,
}

/// Bytes that wait; they do no more when this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    backlog: Arc<Backlog>,
    bytes: usize,
}

impl Backlog {
    /// Nothing waits, and `most` bytes may.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes: AtomicUsize::new(0),
            most: AtomicUsize::new(most),
            freed: Notify::new(),
        })
    }

    /// From now on `most` bytes may wait.
    pub(super) fn resize(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
        self.freed.notify_waiters();
    }

    /// A share of so many bytes, if there is room now. When nothing else waits there is.
    pub(super) fn try_take(self: &Arc<Self>, bytes: usize) -> Option<Share> {
        let most = self.most.load(Ordering::Relaxed);
        let more = |waiting: usize| {
            let all = waiting.saturating_add(bytes);
            (waiting == 0 || all <= most).then_some(all)
        };
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Share { backlog: Arc::clone(self), bytes })
    }

    /// The same, as soon as there is room. Cancel-safe.
    pub(super) async fn take(self: &Arc<Self>, bytes: usize) -> Share {
        loop {
            let mut freed = pin!(self.freed.notified());
            // What is freed from here on wakes us.
            freed.as_mut().enable();
            if let Some(share) = self.try_take(bytes) {
                return share;
            }
            freed.await;
        }
    }
}

impl Share {
    /// A part of it, of at most so many bytes.
    pub(super) fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { backlog: Arc::clone(&self.backlog), bytes }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.backlog.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.backlog.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_more_waits_than_may_and_who_waits_for_room_gets_it() {
        let backlog = Backlog::new(100);
        let first = backlog.try_take(60).unwrap();
        assert!(backlog.try_take(41).is_none());
        let second = backlog.try_take(40).unwrap();
        let waiting = tokio::spawn({
            let backlog = Arc::clone(&backlog);
            async move { backlog.take(50).await }
        });
        tokio::task::yield_now().await;
        drop(second);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        let third = waiting.await.unwrap();
        assert!(backlog.try_take(51).is_none());
        drop(third);
        assert_eq!(backlog.bytes.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn more_room_wakes_who_waits_and_less_takes_nothing_away() {
        let backlog = Backlog::new(100);
        let _first = backlog.try_take(100).unwrap();
        let waiting = tokio::spawn({
            let backlog = Arc::clone(&backlog);
            async move { backlog.take(50).await }
        });
        tokio::task::yield_now().await;
        backlog.resize(150);
        let second = waiting.await.unwrap();
        backlog.resize(10);
        assert!(backlog.try_take(1).is_none());
        drop((second, _first));
        assert!(backlog.try_take(11).is_some(), "alone it finds room, however large");
    }
}
