//! The threads that carry streams. Each has a runtime of its own, where an accepted stream stays with
//! all that is done for it, wherever the connection was accepted: none wakes another to share work.

use std::{
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{net::TcpStream, runtime::Handle};
use tokio_util::task::TaskTracker;

/// So many tasks more, those of a few streams, are no reason to hand a connection over: one thread that
/// is awake carries them sooner than two that wake each other.
const SLACK: usize = 6;

/// The runtimes that carry streams, at least one.
#[derive(Clone, Debug)]
pub struct Workers {
    runtimes: Arc<[Handle]>,
    /// Who got the last connection.
    last: Arc<AtomicUsize>,
}

impl Workers {
    /// Those of `runtimes`; where there is none, that of the caller.
    ///
    /// # Panics
    /// Outside of a tokio runtime, if there is none.
    #[must_use]
    pub fn new(mut runtimes: Vec<Handle>) -> Self {
        if runtimes.is_empty() {
            runtimes.push(Handle::current());
        }
        Self { runtimes: runtimes.into(), last: Arc::default() }
    }

    /// The one that accepts.
    pub(super) fn first(&self) -> &Handle {
        &self.runtimes[0]
    }

    /// The one that the caller runs on; for others, such as who watches the gate, the one with the
    /// fewest tasks.
    pub(super) fn near(&self) -> &Handle {
        let here = Handle::current().id();
        self.runtimes.iter().find(|runtime| runtime.id() == here).unwrap_or_else(|| self.least())
    }

    /// Has a connection served by who accepted it, unless another has clearly fewer tasks.
    ///
    /// # Errors
    /// The socket cannot go over to it.
    pub(super) fn serve<F>(
        &self,
        socket: TcpStream,
        owner: &TaskTracker,
        serve: impl FnOnce(TcpStream) -> F,
    ) -> io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if self.runtimes.len() == 1 {
            owner.spawn(serve(socket));
            return Ok(());
        }
        let here = Handle::current();
        let least = self.least();
        let runtime = if tasks(&here) <= tasks(least) + SLACK { &here } else { least };
        let socket = if runtime.id() == here.id() {
            socket
        } else {
            let socket = socket.into_std()?;
            let _there = runtime.enter();
            TcpStream::from_std(socket)?
        };
        owner.spawn_on(serve(socket), runtime);
        Ok(())
    }

    /// Who has the fewest tasks; of several the next in turn.
    fn least(&self) -> &Handle {
        let count = self.runtimes.len();
        let last = self.last.load(Ordering::Relaxed);
        let next = (1..=count).map(|n| (last + n) % count);
        let least = next.min_by_key(|n| tasks(&self.runtimes[*n]));
        let least = least.unwrap_or_default();
        self.last.store(least, Ordering::Relaxed);
        &self.runtimes[least]
    }

    /// How many tasks there are, with those of the caller's runtime.
    pub(super) fn tasks(&self) -> usize {
        let here = Handle::current();
        let others = self.runtimes.iter().filter(|runtime| runtime.id() != here.id());
        others.chain([&here]).map(tasks).sum()
    }
}

fn tasks(runtime: &Handle) -> usize {
    runtime.metrics().num_alive_tasks()
}
