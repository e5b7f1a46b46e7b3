//! `GET /api/watch`: what is so, every few seconds, and what happens, as it happens; as server-sent
//! events (WHATWG HTML §9.2). The state of things is put together once for all who watch, and not at
//! all while nobody does.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use hyper::Response;
use serde::Serialize;
use tokio::{
    sync::{Semaphore, broadcast, watch},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::api::{Api, Body, head};
use crate::{
    ops::report::{Domain, Event, Failure, Status},
    proxy::Monitor,
};

/// Who watches at once.
const WATCHERS: usize = 32;
/// Domains and failures in one state; the rest is counted.
const ROWS: usize = 500;
/// Messages that may wait for a watcher.
const WAITING: usize = 4;
/// A watcher that takes nothing for this long is gone.
const STALL: Duration = Duration::from_secs(20);

/// All who watch.
#[derive(Debug)]
pub(super) struct Watchers {
    state: watch::Sender<Bytes>,
    places: Arc<Semaphore>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

/// What ends watching before who watches has enough.
#[derive(Debug)]
pub(super) struct Until {
    /// Of the listener by which the watcher came.
    pub(super) stop: CancellationToken,
    /// Of the leave that the watcher was given.
    pub(super) over: CancellationToken,
}

/// What is so, as a watcher gets it.
#[derive(Serialize)]
struct State {
    status: Status,
    /// Those that were used or failed last.
    domains: Vec<Domain>,
    /// Those that happened last, without their attempts.
    failures: Vec<Failure>,
}

impl Watchers {
    pub(super) fn new(tracker: TaskTracker, stop: CancellationToken) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(WATCHERS));
        Arc::new(Self { state: watch::Sender::new(Bytes::new()), places, tracker, stop })
    }

    /// Takes samples, and puts the state of things together while somebody watches.
    pub(super) async fn run(self: Arc<Self>, monitor: Monitor) {
        let mut ticks = interval(Duration::from_secs(Monitor::SAMPLE_SECONDS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.stop.cancelled() => return,
            }
            monitor.sample();
            if self.state.receiver_count() > 0 {
                let state = state(&monitor).await;
                self.state.send_replace(state);
            }
        }
    }
}

/// The answer that goes on until either end has enough; none if too many watch.
pub(super) async fn answer(api: &Api, events_only: bool, until: Until) -> Option<Response<Body>> {
    let watchers = Arc::clone(&api.watchers);
    let place = Arc::clone(&watchers.places).try_acquire_owned().ok()?;
    let events = api.monitor.watch();
    let states = (!events_only).then(|| watchers.state.subscribe());
    let first =
        if events_only { Bytes::from_static(b": watching\n\n") } else { state(&api.monitor).await };
    let (sender, body) = Channel::<Bytes, Infallible>::new(WAITING);
    watchers.tracker.spawn(async move {
        tokio::select! {
            () = until.stop.cancelled() => {}
            () = until.over.cancelled() => {}
            () = tell(sender, first, states, events) => {}
        }
        drop(place);
    });
    let mut answer = Response::new(Body::Right(body));
    head(&mut answer, "text/event-stream");
    Some(answer)
}

async fn tell(
    mut to: Sender<Bytes>,
    first: Bytes,
    mut states: Option<watch::Receiver<Bytes>>,
    mut events: broadcast::Receiver<Event>,
) {
    let mut next = first;
    let mut beat = interval(STALL);
    loop {
        match timeout(STALL, to.send_data(next)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
        next = tokio::select! {
            changed = changed(&mut states) => match changed {
                Some(state) => state,
                None => return,
            },
            event = events.recv() => match event {
                Ok(event) => message("event", &event),
                Err(broadcast::error::RecvError::Lagged(n)) => message("missed", &n),
                Err(broadcast::error::RecvError::Closed) => return,
            },
            // By this a watcher that has gone is noticed.
            _ = beat.tick() => Bytes::from_static(b":\n\n"),
        };
    }
}

/// The next state; never one for who wants none.
async fn changed(states: &mut Option<watch::Receiver<Bytes>>) -> Option<Bytes> {
    match states {
        None => std::future::pending().await,
        Some(states) => {
            states.changed().await.ok()?;
            Some(states.borrow_and_update().clone())
        }
    }
}

async fn state(monitor: &Monitor) -> Bytes {
    let mut domains = monitor.domains();
    domains.sort_by_key(|domain| {
        std::cmp::Reverse(domain.used.max(domain.failure.as_ref().map_or(0, |f| f.last)))
    });
    domains.truncate(ROWS);
    let mut failures = monitor.failures();
    failures.truncate(ROWS);
    for failure in &mut failures {
        failure.attempts = Vec::new();
    }
    message("state", &State { status: monitor.status().await, domains, failures })
}

fn message(event: &str, data: &impl Serialize) -> Bytes {
    // JSON of one line; what cannot be written is not told.
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {event}\ndata: {data}\n\n").into()
}
