//! One domain pair's way to one side: a bounded queue, and the task that opens the stream, writes
//! in order, opens it again when it breaks, and bounces what cannot be delivered.

mod task;

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::timeout,
};

use self::task::Task;
use super::{gate::Gate, routes::RouteId};
use crate::{
    auth::ledger::Routable,
    stream::{Failure, FailureKind},
    xmpp::{DomainPair, Side},
};

/// Batches in one queue; the bytes in it are bounded by `limits.queue`.
const BATCHES: usize = 1024;
/// How long a sender waits for room in the queue of an open stream before its stanzas bounce.
const ROOM_WAIT: Duration = Duration::from_secs(5);
/// Where a route is in its life.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// The stream is being opened; stanzas wait.
    Opening,
    /// Stanzas flow.
    Open,
    /// It came to its end: nothing more is taken.
    Ended(Arc<Failure>),
}

/// The sending end of a route.
#[derive(Debug)]
pub(super) struct Route {
    queue: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
    /// What `room` had in the beginning, in bytes.
    capacity: u32,
    /// Stanzas in the queue.
    waiting: Arc<AtomicU64>,
    state: watch::Receiver<State>,
    lang: Option<Arc<str>>,
}

/// Stanzas in the queue, with the share of its bytes that they take.
#[derive(Debug)]
struct Queued {
    stanzas: Routable,
    _place: Place,
}

/// A share of the queue; it is free again when this is dropped.
#[derive(Debug)]
struct Place {
    _room: OwnedSemaphorePermit,
    stanzas: u64,
    waiting: Arc<AtomicU64>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.stanzas, Ordering::Relaxed);
    }
}

/// Stanzas that a route did not take.
#[derive(Debug)]
pub(super) enum NotTaken {
    /// The route has ended: ask for the pair's next one.
    Ended(Routable),
    /// They will not be delivered.
    Failed(Routable, Arc<Failure>),
}

impl Route {
    /// Starts the task of a route; it begins to open its stream at once.
    pub(super) fn start(
        gate: &Arc<Gate>,
        id: RouteId,
        side: Side,
        pair: DomainPair,
        lang: Option<Arc<str>>,
    ) -> Arc<Self> {
        let limits = gate.config().limits.clone();
        let (queue, receiver) = mpsc::channel(BATCHES);
        let (state_sender, state) = watch::channel(State::Opening);
        let capacity = u32::try_from(limits.queue).unwrap_or(u32::MAX);
        let route = Arc::new(Self {
            queue,
            room: Arc::new(Semaphore::new(capacity as usize)),
            capacity,
            waiting: Arc::default(),
            state,
            lang: lang.clone(),
        });
        let task = Task {
            gate: Arc::clone(gate),
            id,
            side,
            pair,
            lang,
            queue: receiver,
            state: state_sender,
            unsent: VecDeque::new(),
            meter: None,
            progress: false,
            limits,
        };
        gate.routes_to(side).spawn(task.run());
        route
    }

    /// The language that the stream's header declares.
    pub(super) fn lang(&self) -> Option<&str> {
        self.lang.as_deref()
    }

    /// Puts stanzas into the queue. Waits a moment for room while the stream is open; while it is
    /// being opened a full queue bounces at once, for the reader may serve other pairs too.
    pub(super) async fn send(&self, stanzas: Routable) -> Result<(), NotTaken> {
        let stanzas = match self.try_send(stanzas) {
            Ok(()) => return Ok(()),
            Err(NotTaken::Failed(stanzas, _)) if self.is_open() => stanzas,
            Err(not_taken) => return Err(not_taken),
        };
        let size = self.share(&stanzas);
        let room = timeout(ROOM_WAIT, Arc::clone(&self.room).acquire_many_owned(size)).await;
        let Ok(Ok(room)) = room else { return Err(NotTaken::Failed(stanzas, Arc::new(full()))) };
        let queued = self.queued(stanzas, room);
        match timeout(ROOM_WAIT, self.queue.reserve()).await {
            Ok(Ok(slot)) => {
                slot.send(queued);
                Ok(())
            }
            Ok(Err(_)) => Err(NotTaken::Ended(queued.stanzas)),
            Err(_) => Err(NotTaken::Failed(queued.stanzas, Arc::new(full()))),
        }
    }

    /// Puts stanzas into the queue if there is room now.
    pub(super) fn try_send(&self, stanzas: Routable) -> Result<(), NotTaken> {
        let size = self.share(&stanzas);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(size) else {
            return Err(if self.queue.is_closed() {
                NotTaken::Ended(stanzas)
            } else {
                NotTaken::Failed(stanzas, Arc::new(full()))
            });
        };
        match self.queue.try_send(self.queued(stanzas, room)) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(queued)) => Err(NotTaken::Ended(queued.stanzas)),
            Err(mpsc::error::TrySendError::Full(queued)) => {
                Err(NotTaken::Failed(queued.stanzas, Arc::new(full())))
            }
        }
    }

    /// Waits until the stream is open or cannot be opened.
    pub(super) async fn opened(&self) -> Result<(), Arc<Failure>> {
        let mut state = self.state.clone();
        let outcome = match state.wait_for(|state| !matches!(state, State::Opening)).await {
            Ok(state) => state.clone(),
            Err(_) => return Err(Arc::new(shutdown())),
        };
        match outcome {
            State::Ended(failure) => Err(failure),
            State::Open | State::Opening => Ok(()),
        }
    }

    /// Stanzas that wait, and their bytes.
    pub(super) fn waiting(&self) -> (u64, u64) {
        let bytes = (self.capacity as usize).saturating_sub(self.room.available_permits());
        (self.waiting.load(Ordering::Relaxed), bytes as u64)
    }

    /// Whether stanzas flow.
    pub(super) fn is_open(&self) -> bool {
        matches!(*self.state.borrow(), State::Open)
    }

    fn queued(&self, stanzas: Routable, room: OwnedSemaphorePermit) -> Queued {
        let (n, waiting) = (stanzas.stanzas().into(), Arc::clone(&self.waiting));
        waiting.fetch_add(n, Ordering::Relaxed);
        Queued { stanzas, _place: Place { _room: room, stanzas: n, waiting } }
    }

    /// A batch larger than the whole queue takes all of it.
    fn share(&self, stanzas: &Routable) -> u32 {
        u32::try_from(stanzas.bytes().len()).unwrap_or(u32::MAX).min(self.capacity)
    }
}

fn full() -> Failure {
    Failure::new(FailureKind::Resource, "the queue for this pair is full")
}

fn shutdown() -> Failure {
    Failure::new(FailureKind::Shutdown, "fedgate is shutting down")
}
