//! A task that whoever gives it work may run on the spot: no thread has to be woken for it, and what
//! is worked on is still in the processor's cache.

use std::{
    any::Any,
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

/// Somebody runs it, or is about to.
const TAKEN: u8 = 1;
/// There is something to do that no run has begun to look at.
const WOKEN: u8 = 2;

/// A task that is run by the runtime, or by who gives it work.
pub(super) struct SharedTask {
    state: AtomicU8,
    /// Locked by who has taken it.
    work: Mutex<Work>,
    /// Wakes the runtime's task.
    host: Mutex<Option<Waker>>,
}

enum Work {
    Pending(Pin<Box<dyn Future<Output = ()> + Send>>),
    Panicked(Box<dyn Any + Send>),
    Done,
}

/// What the runtime has of it: resolves when it has come to its end, and ends it when dropped.
pub(super) struct Host(Arc<SharedTask>);

/// The right to run the task once. While it lasts nobody is woken for the task; dropped without
/// being used, it leaves what there is to do to the runtime.
#[derive(Default)]
pub(super) struct Turn(Option<Arc<SharedTask>>);

impl SharedTask {
    /// A task with nothing to do.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: AtomicU8::new(0),
            work: Mutex::new(Work::Done),
            host: Mutex::default(),
        })
    }

    /// What it has to do; the runtime is to be given what is returned.
    pub(super) fn host(self: Arc<Self>, work: Pin<Box<dyn Future<Output = ()> + Send>>) -> Host {
        *self.work.lock().unwrap_or_else(PoisonError::into_inner) = Work::Pending(work);
        Host(self)
    }

    /// A turn, unless somebody else has it.
    pub(super) fn turn(task: &Weak<Self>) -> Turn {
        let task = task.upgrade();
        Turn(task.filter(|task| task.state.fetch_or(TAKEN, Ordering::AcqRel) & TAKEN == 0))
    }

    /// Takes it, or else has who has taken it look again.
    fn take_or_tell(&self) -> bool {
        self.state.fetch_or(TAKEN | WOKEN, Ordering::AcqRel) & TAKEN == 0
    }

    /// One run by who has taken it.
    fn run(self: &Arc<Self>) -> Poll<()> {
        let waker = Waker::from(Arc::clone(self));
        self.state.fetch_and(!WOKEN, Ordering::AcqRel);
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        if let Work::Pending(future) = &mut *work {
            let mut context = Context::from_waker(&waker);
            // It is the runtime's to know of.
            match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context))) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(())) => *work = Work::Done,
                Err(panic) => *work = Work::Panicked(panic),
            }
        }
        Poll::Ready(())
    }

    /// Who has taken it needs it no more.
    fn give_back(&self) {
        if self.state.fetch_and(!TAKEN, Ordering::AcqRel) & WOKEN != 0 {
            self.wake_host();
        }
    }

    fn wake_host(&self) {
        let host = self.host.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waker) = &*host {
            waker.wake_by_ref();
        }
    }
}

impl Wake for SharedTask {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.fetch_or(WOKEN, Ordering::AcqRel) == 0 {
            self.wake_host();
        }
    }
}

impl Turn {
    /// Runs the task until it waits for something.
    pub(super) fn run(self) {
        if let Some(task) = &self.0
            && task.run().is_ready()
        {
            // The runtime is told, as whoever else has given it work meanwhile.
            task.state.fetch_or(WOKEN, Ordering::AcqRel);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.give_back();
        }
    }
}

impl Future for Host {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let task = &self.0;
        {
            let mut host = task.host.lock().unwrap_or_else(PoisonError::into_inner);
            if !host.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *host = Some(cx.waker().clone());
            }
        }
        if !task.take_or_tell() {
            return Poll::Pending;
        }
        let turn = Turn(Some(Arc::clone(task)));
        let polled = task.run();
        drop(turn);
        if polled.is_ready() {
            let mut work = task.work.lock().unwrap_or_else(PoisonError::into_inner);
            if let Work::Panicked(panic) = std::mem::replace(&mut *work, Work::Done) {
                drop(work);
                resume_unwind(panic);
            }
        }
        polled
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It holds wakers of itself.
        let mut work = self.0.work.lock().unwrap_or_else(PoisonError::into_inner);
        *work = Work::Done;
    }
}

impl fmt::Debug for SharedTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedTask").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicUsize, time::Duration};

    use futures_channel::mpsc::{self, UnboundedSender};
    use tokio::{spawn, task::JoinHandle, time::timeout};

    use super::*;

    /// A task that counts what it is given, until it is given 0 or panics at `usize::MAX`.
    struct Counter {
        task: Weak<SharedTask>,
        given: UnboundedSender<usize>,
        sum: Arc<AtomicUsize>,
        host: JoinHandle<()>,
    }

    impl Counter {
        fn start() -> Self {
            let (given, mut numbers) = mpsc::unbounded();
            let sum = Arc::new(AtomicUsize::new(0));
            let work = {
                let sum = Arc::clone(&sum);
                Box::pin(async move {
                    while let Ok(number @ 1..) = numbers.recv().await {
                        assert_ne!(number, usize::MAX, "as wished");
                        sum.fetch_add(number, Ordering::SeqCst);
                    }
                })
            };
            let task = SharedTask::new();
            let weak = Arc::downgrade(&task);
            Self { task: weak, given, sum, host: spawn(task.host(work)) }
        }

        fn give(&self, number: usize) -> Turn {
            let turn = SharedTask::turn(&self.task);
            self.given.unbounded_send(number).unwrap();
            turn
        }

        fn sum(&self) -> usize {
            self.sum.load(Ordering::SeqCst)
        }

        async fn comes_to(&self, sum: usize) {
            let comes = async {
                while self.sum() != sum {
                    tokio::task::yield_now().await;
                }
            };
            timeout(Duration::from_secs(30), comes).await.unwrap();
        }
    }

    #[tokio::test]
    async fn who_gives_it_work_runs_it_or_leaves_that_to_the_runtime() {
        let counter = Counter::start();
        counter.give(1).run();
        assert_eq!(counter.sum(), 1, "before the runtime has seen it");
        let turn = counter.give(2);
        // who comes meanwhile has no turn, and what he gives is not forgotten
        counter.give(3).run();
        assert_eq!(counter.sum(), 1);
        turn.run();
        assert_eq!(counter.sum(), 6);
        drop(counter.give(4));
        assert_eq!(counter.sum(), 6);
        counter.comes_to(10).await;
        counter.give(5).run();
        assert_eq!(counter.sum(), 15);
    }

    #[tokio::test]
    async fn what_is_given_while_somebody_has_the_turn_is_seen_after_it() {
        let counter = Counter::start();
        counter.give(1).run();
        let turn = SharedTask::turn(&counter.task);
        for _ in 0..10 {
            // the runtime tries in vain meanwhile
            tokio::task::yield_now().await;
        }
        counter.give(2).run();
        assert_eq!(counter.sum(), 1);
        drop(turn);
        counter.comes_to(3).await;
    }

    #[tokio::test]
    async fn the_runtime_sees_its_end_wherever_it_came() {
        let counter = Counter::start();
        counter.give(0).run();
        assert!(SharedTask::turn(&counter.task).0.is_some(), "nothing to do is no harm");
        timeout(Duration::from_secs(30), counter.host).await.unwrap().unwrap();
        assert!(counter.task.upgrade().is_none());
        assert!(SharedTask::turn(&counter.task).0.is_none());
    }

    #[tokio::test]
    async fn a_panic_is_the_runtimes_to_see() {
        let counter = Counter::start();
        counter.give(1).run();
        counter.give(usize::MAX).run();
        let ended = timeout(Duration::from_secs(30), counter.host).await.unwrap();
        assert!(ended.unwrap_err().is_panic());
        assert!(counter.task.upgrade().is_none());
    }

    #[tokio::test]
    async fn it_ends_with_the_runtimes_task() {
        let counter = Counter::start();
        counter.give(1).run();
        counter.host.abort();
        assert!(counter.host.await.unwrap_err().is_cancelled());
        assert!(counter.given.is_closed());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_is_forgotten_when_many_give_at_once() {
        const EACH: usize = 20_000;
        let counter = Arc::new(Counter::start());
        let givers: Vec<_> = (0..3)
            .map(|giver| {
                let counter = Arc::clone(&counter);
                std::thread::spawn(move || {
                    for n in 0..EACH {
                        let turn = counter.give(1);
                        if (n + giver) % 3 != 0 {
                            turn.run();
                        }
                    }
                })
            })
            .collect();
        counter.comes_to(3 * EACH).await;
        givers.into_iter().for_each(|giver| giver.join().unwrap());
        drop(counter.give(1));
        counter.comes_to(3 * EACH + 1).await;
    }
}
