//! The task of a route: sees to it that a stream carries the pair, again when one breaks, and
//! bounces what cannot be delivered.

use std::sync::Arc;

use tracing::{info, warn};

use super::{Route, shutdown};
use crate::{
    ops::metrics::Origin,
    proxy::{
        berths::Berth,
        embark,
        events::About,
        failures::{self, Attempt, Key},
        gate::Gate,
        lanes::{End, Returned},
        live::{self, Flow},
        routes::RouteId,
        steps::Steps,
    },
    stream::{Failure, FailureKind},
    xmpp::Side,
};

/// Streams that break with stanzas unsent are opened again so often in a row without progress.
const REDIALS: u32 = 2;

pub(super) struct Task {
    gate: Arc<Gate>,
    id: RouteId,
    route: Arc<Route>,
    _berth: Option<Arc<Berth>>,
}

impl Task {
    pub(super) fn new(
        gate: Arc<Gate>,
        (id, berth): (RouteId, Option<Arc<Berth>>),
        route: Arc<Route>,
    ) -> Self {
        Self { gate, id, route, _berth: berth }
    }

    pub(super) async fn run(self) {
        let mut redials = 0;
        let mut alone = false;
        loop {
            let steps = Steps::new();
            self.route.attempts(&steps);
            let embarked = tokio::select! {
                // Opening takes memory that the long life after it need not hold.
                embarked = Box::pin(embark::embark(&self.gate, &self.route, alone, &steps)) => embarked,
                () = self.given_up() => Err(shutdown()),
            };
            let back = match embarked {
                Ok(back) => back,
                Err(failure) => return self.fail(failure, steps),
            };
            let Ok(Returned { end, progress }) = back.await else {
                let failure = Failure::new(FailureKind::Stream, "the stream's task broke down");
                return self.fail(failure, steps);
            };
            if progress {
                redials = 0;
            }
            let failure = match end {
                End::Done(_) => {
                    // What came while it closed goes over one more stream of this same route:
                    // with another one beside it the pair's order would be lost.
                    if self.finish() {
                        return;
                    }
                    continue;
                }
                End::Denied(failure) => return self.fail(failure, steps),
                End::Refused(failure) if failure.kind() == FailureKind::Resource && !alone => {
                    alone = true;
                    failure
                }
                End::Refused(failure) => return self.fail(failure, steps),
                End::Missed => Failure::new(FailureKind::Stream, "the stream ended too early"),
                End::Broken(failure) | End::Withdrawn(failure) => {
                    if self.route.is_empty() && self.finish() {
                        return;
                    }
                    failure
                }
            };
            redials += 1;
            if redials > REDIALS {
                return self.fail(failure, steps);
            }
        }
    }

    /// Resolves when the pair need not be carried any more, for fedgate ends. What a peer would
    /// get goes back then; but what the legacy server is to get has nowhere else to go.
    async fn given_up(&self) {
        self.gate.stopping(self.route.side).await;
        if self.route.side == Side::Legacy && !self.route.is_empty() {
            std::future::pending().await
        }
    }

    /// The route ends with nothing to say. False if stanzas slipped in at the last moment.
    fn finish(&self) -> bool {
        let failure = Arc::new(Failure::new(FailureKind::Stream, "the stream was closed"));
        let closed = self.route.close_if_empty(&failure);
        if closed {
            self.gate.routes().ended(self.id, self.route.side, &self.route.pair, None);
        }
        closed
    }

    /// Remembers for the operator that the pair did not come about.
    fn record(&self, failure: &Failure, waiting: u32, steps: Steps) {
        if failure.kind() == FailureKind::Shutdown {
            return;
        }
        let Route { side, pair, .. } = &*self.route;
        let direction = live::direction(*side, Flow::Out);
        let reason = failure.reason();
        self.gate.metrics().not_negotiated(*side, Origin::Opened, reason);
        let about = About::pair(pair, direction);
        self.gate.events().tell("failed", about, || format!("{reason}: {failure}"));
        let attempt = Attempt {
            returned: waiting.into(),
            steps: steps.into_steps(),
            ..Attempt::new(failures::stage(failure.kind()), reason, failure.detail().to_owned())
        };
        self.gate.failures().failed(direction, Key::of(pair, direction), attempt);
    }

    /// The route ends: what waits goes back to its senders.
    fn fail(self, failure: Failure, steps: Steps) {
        let Route { side, pair, .. } = &*self.route;
        let failure = Arc::new(failure);
        self.gate.routes().ended(self.id, *side, pair, Some(&failure));
        let unsent = self.route.close(&failure);
        let waiting: u32 = unsent.iter().map(|queued| queued.stanzas.stanzas()).sum();
        let (reason, detail) = (failure.reason(), failure.detail());
        match side {
            Side::Legacy if is_out_of_reach(failure.kind()) => {
                warn!(pair = %pair, reason, detail, waiting, "legacy server not reached");
            }
            Side::Legacy => {
                info!(pair = %pair, reason, detail, waiting, "legacy server did not take the pair");
            }
            Side::Peer => info!(pair = %pair, reason, detail, waiting, "peer not reached"),
        }
        self.record(&failure, waiting, steps);
        for queued in unsent {
            self.gate.bounce(*side, &queued.stanzas, &failure);
        }
    }
}

/// Whether the other end did not answer. What it says to a pair, the peer that asks for the pair may
/// have brought about.
fn is_out_of_reach(kind: FailureKind) -> bool {
    match kind {
        FailureKind::NotFound
        | FailureKind::Resolution
        | FailureKind::Unreachable
        | FailureKind::Timeout => true,
        FailureKind::Denied
        | FailureKind::Tls
        | FailureKind::Certificate
        | FailureKind::NotProven
        | FailureKind::Rejected
        | FailureKind::HostUnknown
        | FailureKind::Stream
        | FailureKind::Resource
        | FailureKind::TooLarge
        | FailureKind::Shutdown => false,
    }
}
