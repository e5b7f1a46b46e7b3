//! What was done to open a stream, step by step, so that an operator can read why it failed.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use crate::ops::report::Step;

/// Steps of one attempt that are kept.
const KEPT: usize = 24;

/// The steps of one attempt.
#[derive(Clone, Debug)]
pub(super) struct Steps {
    began: Instant,
    taken: Arc<Mutex<Vec<Step>>>,
}

impl Steps {
    /// An attempt begins now.
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), taken: Arc::default() }
    }

    /// Something was done, or found.
    pub(super) fn say(&self, text: impl Into<String>) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.len() < KEPT {
            let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            taken.push(Step { ms, text: text.into() });
        }
    }

    /// When the attempt began.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// The steps until now.
    pub(super) fn so_far(&self) -> Vec<Step> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All steps, in order.
    pub(super) fn into_steps(self) -> Vec<Step> {
        self.so_far()
    }
}
