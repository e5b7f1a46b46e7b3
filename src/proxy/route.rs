//! One domain pair's way to one side: a bounded queue, and the task that sees to it that a stream
//! carries the pair, again when one breaks, and bounces what cannot be delivered.

#[cfg(test)]
mod model;
mod queued;
mod task;

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch},
    time::timeout,
};

pub(super) use self::queued::Queued;
use self::{queued::Waiting, task::Task};
use super::{
    backlog::{Backlog, Share},
    berths::Berth,
    gate::Gate,
    lanes::{Call, LaneId, Mailbox},
    reached::Limit,
    routes::RouteId,
    rules::decide,
    shared_task::Turn,
    steps::Steps,
};
use crate::{
    auth::ledger::Routable,
    stream::{Failure, FailureKind},
    xmpp::{Direction, DomainPair, Side},
};

/// How long a sender waits for room in the queue of an open stream before its stanzas bounce.
const ROOM_WAIT: Duration = Duration::from_secs(5);
/// What a batch counts at least, in bytes: it takes memory of its own.
const SHARE_MIN: usize = 256;

/// Where a route is in its life.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// No stream carries the pair yet; stanzas wait.
    Opening,
    /// Stanzas flow.
    Open,
    /// It came to its end: nothing more is taken.
    Ended(Arc<Failure>),
}

/// A pair's way.
#[derive(Debug)]
pub(super) struct Route {
    side: Side,
    pair: DomainPair,
    lang: Option<Arc<str>>,
    room: Arc<Semaphore>,
    /// The room that all routes have together.
    backlog: Arc<Backlog>,
    /// What `room` had in the beginning, in bytes.
    capacity: u32,
    waiting: Arc<Waiting>,
    entrance: Mutex<Entrance>,
    state: watch::Sender<State>,
    /// Of the attempt that is under way, or that opened the stream.
    steps: Mutex<Option<Steps>>,
}

/// Where stanzas that are sent now come to stand.
#[derive(Debug)]
enum Entrance {
    /// In the route, for no stream carries the pair.
    Waiting(VecDeque<Box<Queued>>),
    /// In the mailbox of the stream that does.
    Aboard(LaneId, Mailbox),
    /// Nowhere: the route has ended.
    Closed,
}

/// Stanzas that a route did not take.
#[derive(Debug)]
pub(super) enum NotTaken {
    /// The route has ended: ask for the pair's next one.
    Ended(Routable),
    /// There is no room for them.
    Full(Routable, Limit),
}

impl NotTaken {
    /// The stanzas.
    pub(super) fn into_stanzas(self) -> Routable {
        match self {
            Self::Ended(stanzas) | Self::Full(stanzas, _) => stanzas,
        }
    }
}

impl Route {
    /// Starts the task of a route; it begins at once to find a stream. The berth is held until it
    /// has ended.
    pub(super) fn start(
        gate: &Arc<Gate>,
        (id, berth): (RouteId, Option<Arc<Berth>>),
        side: Side,
        pair: DomainPair,
        lang: Option<Arc<str>>,
    ) -> Arc<Self> {
        let config = gate.config();
        let direction = match side {
            Side::Peer => Direction::Outbound,
            Side::Legacy => Direction::Inbound,
        };
        let capacity = decide(&config, &pair, direction).queue_limit(&config.limits);
        let backlog = Arc::clone(gate.backlog());
        let route = Arc::new(Self::new(side, pair, lang, capacity, backlog));
        let task = Task::new(Arc::clone(gate), (id, berth), Arc::clone(&route));
        gate.routes_to(side).spawn_on(task.run(), gate.workers().near());
        route
    }

    /// A route that no stream carries yet; its queue holds `capacity` bytes.
    pub(super) fn new(
        side: Side,
        pair: DomainPair,
        lang: Option<Arc<str>>,
        capacity: usize,
        backlog: Arc<Backlog>,
    ) -> Self {
        let capacity = u32::try_from(capacity).unwrap_or(u32::MAX);
        Self {
            side,
            pair,
            lang,
            room: Arc::new(Semaphore::new(capacity as usize)),
            backlog,
            capacity,
            waiting: Arc::new(Waiting::new(capacity)),
            entrance: Mutex::new(Entrance::Waiting(VecDeque::new())),
            state: watch::Sender::new(State::Opening),
            steps: Mutex::default(),
        }
    }

    /// The side that it leads to.
    pub(super) fn side(&self) -> Side {
        self.side
    }

    /// The pair.
    pub(super) fn pair(&self) -> &DomainPair {
        &self.pair
    }

    /// The language that the stream's header declares.
    pub(super) fn lang(&self) -> Option<&Arc<str>> {
        self.lang.as_ref()
    }

    /// Puts stanzas into the queue. Waits a moment for room while the stream is open; while it is
    /// being opened, or after that was in vain, a full queue bounces at once, for the reader may serve
    /// other pairs too (attack A-79).
    pub(super) async fn send(&self, stanzas: Routable) -> Result<(), NotTaken> {
        let (stanzas, limit) = match self.try_send(stanzas) {
            Ok(()) => return Ok(()),
            Err(NotTaken::Full(stanzas, limit)) if self.is_open() && !self.waiting.is_stuck() => {
                (stanzas, limit)
            }
            Err(not_taken) => return Err(not_taken),
        };
        let size = self.share(&stanzas);
        let room = async {
            let room = Arc::clone(&self.room).acquire_many_owned(size).await.ok()?;
            Some((room, self.backlog.take(size as usize).await))
        };
        match timeout(ROOM_WAIT, room).await {
            Ok(Some((room, share))) => {
                self.enter(self.queued(stanzas, room, Some(share), None)).map(drop)
            }
            Ok(None) => Err(NotTaken::Ended(stanzas)),
            Err(_) => {
                self.waiting.set_stuck();
                Err(NotTaken::Full(stanzas, limit))
            }
        }
    }

    /// Puts stanzas into the queue if there is room now.
    pub(super) fn try_send(&self, stanzas: Routable) -> Result<(), NotTaken> {
        self.try_send_telling(stanzas, None)
    }

    /// The same, and runs the task of the stream that carries the pair. No lock may be held that it
    /// could want.
    pub(super) fn try_send_now(&self, stanzas: Routable) -> Result<(), NotTaken> {
        self.put_shared(stanzas, None).map(Turn::run)
    }

    /// The same; `told` is dropped when they have left the queue, written or not.
    pub(super) fn try_send_telling(
        &self,
        stanzas: Routable,
        told: Option<oneshot::Sender<Infallible>>,
    ) -> Result<(), NotTaken> {
        self.put_shared(stanzas, told).map(drop)
    }

    fn put_shared(
        &self,
        stanzas: Routable,
        told: Option<oneshot::Sender<Infallible>>,
    ) -> Result<Turn, NotTaken> {
        match self.backlog.try_take(self.share(&stanzas) as usize) {
            Some(share) => self.put(stanzas, Some(share), told),
            None => Err(NotTaken::Full(stanzas, Limit::QueueTotal)),
        }
    }

    /// The same for errors: those have room also where all queues together are full, or nobody
    /// would learn of that.
    pub(super) fn try_return(&self, errors: Routable) -> Result<(), NotTaken> {
        self.put(errors, None, None).map(drop)
    }

    fn put(
        &self,
        stanzas: Routable,
        share: Option<Share>,
        told: Option<oneshot::Sender<Infallible>>,
    ) -> Result<Turn, NotTaken> {
        match Arc::clone(&self.room).try_acquire_many_owned(self.share(&stanzas)) {
            Ok(room) => self.enter(self.queued(stanzas, room, share, told)),
            Err(_) if self.room.is_closed() => Err(NotTaken::Ended(stanzas)),
            Err(_) => Err(NotTaken::Full(stanzas, Limit::Queue)),
        }
    }

    fn queued(
        &self,
        stanzas: Routable,
        room: OwnedSemaphorePermit,
        share: Option<Share>,
        told: Option<oneshot::Sender<Infallible>>,
    ) -> Box<Queued> {
        let room = (room, share);
        Box::new(Queued::new(stanzas, room, &self.waiting, told))
    }

    fn enter(&self, mut queued: Box<Queued>) -> Result<Turn, NotTaken> {
        let mut entrance = self.entrance();
        match &mut *entrance {
            Entrance::Closed => return Err(NotTaken::Ended(queued.stanzas)),
            Entrance::Waiting(queue) => {
                queued.settle_in();
                queue.push_back(queued);
            }
            Entrance::Aboard(lane, calls) => {
                if self.waiting.is_slow() {
                    queued.settle_in();
                }
                // A stream that is gone without having said so: the task of the route will see.
                match calls.put(Call::Stanzas(*lane, queued)) {
                    Ok(turn) => return Ok(turn),
                    Err(Call::Stanzas(_, queued)) => {
                        *entrance = Entrance::Waiting([queued].into());
                    }
                    Err(Call::Board(_)) => {}
                }
            }
        }
        Ok(Turn::default())
    }

    /// Whether an open stream has so much to write that nothing more should be read for it until it
    /// is [eased](Self::eased).
    pub(super) fn is_pressed(&self) -> bool {
        self.waiting.is_pressed() && self.is_open()
    }

    /// Waits until it is pressed no more.
    pub(super) async fn eased(&self) {
        self.waiting.eased().await;
    }

    /// It was pressed for too long: it is not any more until it has written something.
    pub(super) fn set_slow(&self) {
        self.waiting.set_slow();
    }

    /// Waits until a stream carries the pair, or none can.
    pub(super) async fn opened(&self) -> Result<(), Arc<Failure>> {
        let mut state = self.state.subscribe();
        let outcome = match state.wait_for(|state| !matches!(state, State::Opening)).await {
            Ok(state) => state.clone(),
            Err(_) => return Err(Arc::new(shutdown())),
        };
        match outcome {
            State::Ended(failure) => Err(failure),
            State::Open | State::Opening => Ok(()),
        }
    }

    /// A stream carries the pair from now on and takes over what waits.
    pub(super) fn board(&self, lane: LaneId, calls: Mailbox) -> VecDeque<Box<Queued>> {
        let mut entrance = self.entrance();
        let waiting = match std::mem::replace(&mut *entrance, Entrance::Aboard(lane, calls)) {
            Entrance::Waiting(queue) => queue,
            Entrance::Aboard(..) => VecDeque::new(),
            Entrance::Closed => {
                *entrance = Entrance::Closed;
                return VecDeque::new();
            }
        };
        drop(entrance);
        self.state.send_replace(State::Open);
        waiting
    }

    /// The stream carries the pair no more: from now on stanzas wait in the route.
    pub(super) fn disembark(&self) {
        self.requeue(VecDeque::new());
        self.state.send_if_modified(|state| {
            let was_open = matches!(state, State::Open);
            if was_open {
                *state = State::Opening;
            }
            was_open
        });
    }

    /// Puts back what was taken out, before all that came since.
    pub(super) fn requeue(&self, mut unsent: VecDeque<Box<Queued>>) {
        let mut entrance = self.entrance();
        match &mut *entrance {
            Entrance::Waiting(queue) => {
                unsent.append(queue);
                *queue = unsent;
            }
            Entrance::Aboard(..) => *entrance = Entrance::Waiting(unsent),
            Entrance::Closed => {}
        }
    }

    /// Whether nothing waits in the route itself.
    fn is_empty(&self) -> bool {
        matches!(&*self.entrance(), Entrance::Waiting(queue) if queue.is_empty())
    }

    /// Ends the route unless stanzas wait in it.
    fn close_if_empty(&self, failure: &Arc<Failure>) -> bool {
        let mut entrance = self.entrance();
        if matches!(&*entrance, Entrance::Waiting(queue) if !queue.is_empty()) {
            return false;
        }
        *entrance = Entrance::Closed;
        drop(entrance);
        self.ended(failure);
        true
    }

    /// Ends the route: what waits in it.
    fn close(&self, failure: &Arc<Failure>) -> VecDeque<Box<Queued>> {
        let entrance = std::mem::replace(&mut *self.entrance(), Entrance::Closed);
        self.ended(failure);
        match entrance {
            Entrance::Waiting(queue) => queue,
            Entrance::Aboard(..) | Entrance::Closed => VecDeque::new(),
        }
    }

    fn ended(&self, failure: &Arc<Failure>) {
        self.room.close();
        self.state.send_replace(State::Ended(Arc::clone(failure)));
    }

    /// Stanzas that wait, and their bytes.
    pub(super) fn waiting(&self) -> (u64, u64) {
        self.waiting.count()
    }

    /// An attempt to find a stream begins.
    fn attempts(&self, steps: &Steps) {
        *self.steps.lock().unwrap_or_else(PoisonError::into_inner) = Some(steps.clone());
    }

    /// What is done to open the stream, or was.
    pub(super) fn steps(&self) -> Option<Steps> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether stanzas flow.
    pub(super) fn is_open(&self) -> bool {
        matches!(*self.state.borrow(), State::Open)
    }

    /// A batch larger than the whole queue takes all of it.
    fn share(&self, stanzas: &Routable) -> u32 {
        let bytes = stanzas.bytes().len().max(SHARE_MIN);
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.capacity)
    }

    fn entrance(&self) -> MutexGuard<'_, Entrance> {
        self.entrance.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shutdown() -> Failure {
    Failure::new(FailureKind::Shutdown, "fedgate is shutting down")
}
