//! The threads that carry streams.

use std::{
    io,
    num::NonZeroUsize,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    runtime::{Builder, Handle},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

/// Tasks that run between two looks at the sockets, at most. One may be a TLS handshake, and who has
/// an open stream is not to wait for many of them.
const EVENTS: u32 = 8;

/// Less than nearly everything is waited for.
const TICK: Duration = Duration::from_secs(1);

/// Threads with a runtime each, as long as it lives.
#[derive(Debug, Default)]
pub(super) struct Threads {
    runtimes: Vec<Handle>,
    threads: Vec<JoinHandle<()>>,
    end: CancellationToken,
}

impl Threads {
    /// Starts as many, or else one for each two processors: the other half is the legacy server's, also
    /// when strangers keep all threads busy.
    ///
    /// # Errors
    /// A thread or a runtime cannot be had.
    pub(super) fn start(count: Option<NonZeroUsize>) -> io::Result<Self> {
        let count = count.map_or_else(
            || thread::available_parallelism().map_or(1, |all| all.get().div_ceil(2)),
            NonZeroUsize::get,
        );
        let mut all = Self::default();
        for n in 0..count {
            let runtime =
                Builder::new_current_thread().enable_all().event_interval(EVENTS).build()?;
            all.runtimes.push(runtime.handle().clone());
            let end = all.end.clone();
            let thread = thread::Builder::new().name(format!("streams-{n}"));
            let thread = thread.spawn(move || {
                runtime.block_on(tick(end));
                // Nobody is left whose work in the background matters.
                runtime.shutdown_background();
            })?;
            all.threads.push(thread);
        }
        Ok(all)
    }

    /// Their runtimes.
    pub(super) fn runtimes(&self) -> Vec<Handle> {
        self.runtimes.clone()
    }
}

/// Waits for the end, with a timer that rings before most others. For one that has to ring before all
/// those that a runtime has wakes the thread that waits for them, be it itself: a system call, and a
/// wait that ends for nothing, with each connection.
async fn tick(end: CancellationToken) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            _ = ticks.tick() => {}
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.end.cancel();
        for thread in self.threads.drain(..) {
            // Tasks that panic do not end a thread.
            let _ = thread.join();
        }
    }
}
