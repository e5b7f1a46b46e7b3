//! Waiting for a time that moves on with nearly every event: the timer is set again only when it
//! has to ring earlier, or rang too early. What is due already needs no timer: one that has to ring
//! before all others wakes the thread that waits for them.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer for one task's deadlines.
#[derive(Default, Debug)]
pub(super) struct Alarm {
    /// None before the first deadline that is not over yet. In the box, so that who has no alarm
    /// needs no more room for that.
    sleep: Pin<Box<Option<Sleep>>>,
}

impl Alarm {
    /// Set for `deadline`.
    pub(super) fn new(deadline: Instant) -> Self {
        Self { sleep: Box::pin(Some(sleep_until(deadline))) }
    }

    /// Waits until `deadline`. Cancel-safe.
    pub(super) fn at(&mut self, deadline: Instant) -> impl Future<Output = ()> {
        poll_fn(move |cx| self.poll_at(deadline, cx))
    }

    fn poll_at(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.sleep.as_mut().as_pin_mut() {
                Some(mut sleep) if sleep.deadline() <= deadline => {
                    ready!(sleep.as_mut().poll(cx));
                    if deadline <= Instant::now() {
                        return Poll::Ready(());
                    }
                    sleep.reset(deadline);
                }
                _ if deadline <= Instant::now() => return Poll::Ready(()),
                Some(sleep) => sleep.reset(deadline),
                None => self.sleep.set(Some(sleep_until(deadline))),
            }
        }
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
        let mut alarm = Alarm::default();
        alarm.at(start).await;
        assert!(alarm.sleep.is_none(), "for what is due already");
        alarm.at(after(10)).await;
        for (deadline, rings) in
            [(9, 10), (20, 20), (25, 25), (5, 25), (400, 400), (30, 400), (401, 401)]
        {
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
