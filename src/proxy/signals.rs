//! What a stream seldom hears: that the configuration changed, that it is to end. It is asked for
//! after each of the stream's events, and each of these waits costs locks to be asked; so they are
//! only when one of them has woken the stream.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::gate::next_change;

/// What was heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Signal {
    /// The configuration changed.
    Changed,
    /// The operator wants the stream closed; heard once.
    Closed,
    /// Its side comes to its end; heard once.
    Stopped,
}

/// The signals of one stream.
pub(super) struct Signals {
    wait: Pin<Box<dyn Future<Output = (Signal, Wait)> + Send>>,
    flag: Arc<Flag>,
    /// `flag` as `wait` knows it.
    waker: Waker,
    /// Whom `flag` wakes.
    stream: Option<Waker>,
}

/// What is waited for.
struct Wait {
    generation: watch::Receiver<u64>,
    close: Option<CancellationToken>,
    stop: Option<CancellationToken>,
}

/// Notes that a signal is there, and wakes the stream.
struct Flag {
    raised: AtomicBool,
    stream: Mutex<Option<Waker>>,
}

impl Signals {
    /// Changes are told from the present value of `generation` on.
    pub(super) fn new(
        generation: watch::Receiver<u64>,
        close: CancellationToken,
        stop: CancellationToken,
    ) -> Self {
        let wait = Wait { generation, close: Some(close), stop: Some(stop) };
        let flag = Arc::new(Flag { raised: AtomicBool::new(true), stream: Mutex::default() });
        let waker = Waker::from(Arc::clone(&flag));
        Self { wait: Box::pin(wait.next()), flag, waker, stream: None }
    }

    /// The next signal. Cancel-safe.
    pub(super) async fn next(&mut self) -> Signal {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Signal> {
        if !self.stream.as_ref().is_some_and(|stream| stream.will_wake(cx.waker())) {
            self.stream = Some(cx.waker().clone());
            *self.flag.stream.lock().unwrap_or_else(PoisonError::into_inner) = self.stream.clone();
        }
        // Behind the above: who raises it from here on wakes the right one.
        if !self.flag.raised.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        match self.wait.as_mut().poll(&mut Context::from_waker(&self.waker)) {
            Poll::Pending => Poll::Pending,
            Poll::Ready((signal, wait)) => {
                self.wait = Box::pin(wait.next());
                self.flag.raised.store(true, Ordering::Release);
                Poll::Ready(signal)
            }
        }
    }
}

impl Wait {
    async fn next(mut self) -> (Signal, Self) {
        let told = async |token: &Option<CancellationToken>| match token {
            Some(token) => token.cancelled().await,
            None => std::future::pending().await,
        };
        let signal = tokio::select! {
            biased;
            () = told(&self.close) => Signal::Closed,
            () = told(&self.stop) => Signal::Stopped,
            generation = next_change(self.generation.clone()) => {
                self.generation = generation;
                Signal::Changed
            }
        };
        match signal {
            Signal::Changed => {}
            Signal::Closed => self.close = None,
            Signal::Stopped => self.stop = None,
        }
        (signal, self)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.raised.store(true, Ordering::Release);
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(stream) = stream {
            stream.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    async fn silent(signals: &mut Signals) -> bool {
        timeout(Duration::from_millis(20), signals.next()).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn each_is_heard_in_whatever_order_they_come() {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let generation = watch::Sender::new(0);
            let (close, stop) = (CancellationToken::new(), CancellationToken::new());
            let mut signals = Signals::new(generation.subscribe(), close.clone(), stop.clone());
            assert!(silent(&mut signals).await);
            for signal in order {
                let expected = match signal {
                    0 => {
                        generation.send_modify(|generation| *generation += 1);
                        Signal::Changed
                    }
                    1 => {
                        close.cancel();
                        Signal::Closed
                    }
                    _ => {
                        stop.cancel();
                        Signal::Stopped
                    }
                };
                assert_eq!(signals.next().await, expected, "{order:?}");
                assert!(silent(&mut signals).await, "{order:?}");
            }
            generation.send_modify(|generation| *generation += 1);
            assert_eq!(signals.next().await, Signal::Changed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_at_once_is_heard_one_by_one() {
        let generation = watch::Sender::new(0);
        let (close, stop) = (CancellationToken::new(), CancellationToken::new());
        let mut signals = Signals::new(generation.subscribe(), close.clone(), stop.clone());
        generation.send_modify(|generation| *generation += 1);
        close.cancel();
        stop.cancel();
        assert_eq!(signals.next().await, Signal::Closed);
        assert_eq!(signals.next().await, Signal::Stopped);
        assert_eq!(signals.next().await, Signal::Changed);
        assert!(silent(&mut signals).await);
    }

    #[tokio::test]
    async fn who_waits_is_woken_also_where_another_one_waited_before() {
        let generation = watch::Sender::new(0);
        let tokens = || (CancellationToken::new(), CancellationToken::new());
        let (close, stop) = tokens();
        let mut signals = Signals::new(generation.subscribe(), close, stop);
        let mut elsewhere = Context::from_waker(Waker::noop());
        assert!(signals.poll_next(&mut elsewhere).is_pending());
        let waiting = tokio::spawn(async move { signals.next().await });
        tokio::task::yield_now().await;
        generation.send_modify(|generation| *generation += 1);
        let heard = timeout(Duration::from_secs(30), waiting).await.unwrap().unwrap();
        assert_eq!(heard, Signal::Changed);
    }
}
