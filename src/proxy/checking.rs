//! Which pairs the legacy server is checking right now.
//!
//! jabberd2 and jabberd 1.4 check a key of ours by a stream of their own, on which they first want
//! the reverse pair to be valid. If that answer waited for a peer that in turn waits for our
//! answer, both would wait for ever; so it is given at once while the check is on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::xmpp::DomainPair;

/// The pairs for which a dialback request of ours lies with the legacy server.
#[derive(Debug)]
pub(super) struct Checking {
    pairs: Mutex<HashMap<DomainPair, usize>>,
    changed: watch::Sender<()>,
}

/// The pair is being checked until this is dropped.
#[derive(Debug)]
pub(super) struct Guard {
    checking: Arc<Checking>,
    pair: DomainPair,
}

impl Checking {
    /// Nothing is being checked.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { pairs: Mutex::default(), changed: watch::Sender::new(()) })
    }

    /// The legacy server will be asked for `pair`.
    pub(super) fn enter(self: &Arc<Self>, pair: DomainPair) -> Guard {
        *self.lock().entry(pair.clone()).or_insert(0) += 1;
        self.changed.send_replace(());
        Guard { checking: Arc::clone(self), pair }
    }

    /// Waits until `pair` is being checked.
    pub(super) async fn started(&self, pair: &DomainPair) {
        let mut changed = self.changed.subscribe();
        while !self.lock().contains_key(pair) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<DomainPair, usize>> {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut pairs = self.checking.lock();
        if let Some(count) = pairs.get_mut(&self.pair) {
            *count -= 1;
            if *count == 0 {
                pairs.remove(&self.pair);
            }
        }
    }
}
