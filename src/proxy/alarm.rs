//! Waiting for a time that moves on with nearly every event: the timer is set again only when it
//! has to ring earlier, or rang too early.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer for one task's deadlines.
#[derive(Debug)]
pub(super) struct Alarm {
    sleep: Pin<Box<Sleep>>,
}

impl Alarm {
    /// Set for `deadline`.
    pub(super) fn new(deadline: Instant) -> Self {
        Self { sleep: Box::pin(sleep_until(deadline)) }
    }

    /// Waits until `deadline`. Cancel-safe.
    pub(super) async fn at(&mut self, deadline: Instant) {
        if deadline < self.sleep.deadline() {
            self.sleep.as_mut().reset(deadline);
        }
        poll_fn(|cx| {
            while self.sleep.as_mut().poll(cx).is_ready() {
                if deadline <= Instant::now() {
                    return Poll::Ready(());
                }
                self.sleep.as_mut().reset(deadline);
            }
            Poll::Pending
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_rings_at_the_last_deadline_given_and_no_sooner() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut alarm = Alarm::new(after(10));
        for (deadline, rings) in [(20, 20), (25, 25), (5, 25), (400, 400), (30, 400), (401, 401)] {
            alarm.at(after(deadline)).await;
            assert_eq!(Instant::now(), after(rings), "{deadline}");
        }
        // given up, then for a later time, then for an earlier one
        assert!(timeout(Duration::from_secs(1), alarm.at(after(500))).await.is_err());
        assert!(timeout(Duration::from_secs(1), alarm.at(after(600))).await.is_err());
        alarm.at(after(410)).await;
        assert_eq!(Instant::now(), after(410));
    }
}
