//! A stream of a peer whose connection broke, as long as the peer may resume it (XEP-0198 §5): how
//! many stanzas came on it, and what went the other way.

use std::{pin::pin, sync::Arc};

use tokio::time::{Instant, sleep_until};

use super::returning::{Returning, call};
use crate::{
    proxy::{
        gate::{Gate, next_change},
        lanes::End,
        rules::{self, decide},
        sessions::{Parking, Session, Takeover},
    },
    stream::{Failure, FailureKind, Sent, TooHigh},
    xmpp::{Direction, DomainPair, Side},
};

/// What is left of it.
pub(super) struct Parked {
    pub(super) gate: Arc<Gate>,
    pub(super) session: Session,
    pub(super) _parking: Parking,
    pub(super) returning: Option<Box<Returning>>,
    /// What went to the peer, if nothing went on the last connection.
    pub(super) sent: Sent,
    /// How many stanzas came.
    pub(super) received: u32,
    pub(super) until: Instant,
}

impl Parked {
    /// Waits until the peer resumes the stream, or may no longer.
    pub(super) async fn wait(mut self) {
        let mut changed = pin!(next_change(self.gate.subscribe()));
        self.judge_return();
        let takeover = loop {
            tokio::select! {
                takeover = self.session.taken_over() => break Some(takeover),
                () = sleep_until(self.until) => break None,
                () = self.gate.draining().cancelled() => break None,
                generation = &mut changed => {
                    changed.set(next_change(generation));
                    self.judge_return();
                }
                Some(call) = call(&mut self.returning) => {
                    if let Some(returning) = &mut self.returning {
                        returning.lanes.put_aside(call);
                    }
                }
            }
        };
        let h = takeover.as_ref().map(|takeover| takeover.h);
        let outcome = match (self.returning, h) {
            (Some(returning), h) => end(&self.gate, *returning, h),
            (None, Some(h)) => self.sent.acknowledge(h).map(drop),
            (None, None) => Ok(()),
        };
        if let Some(Takeover { reply, .. }) = takeover {
            // Who no longer waits has its stream to lose.
            let _ = reply.send(outcome.map(|()| self.received));
        }
    }

    /// What may not go to the peer any more does not wait for it to come back.
    fn judge_return(&mut self) {
        let Some(returning) = &mut self.returning else { return };
        let config = self.gate.config();
        let denial = |pair: &DomainPair| {
            let decision = decide(&config, pair, Direction::Outbound);
            rules::allowed_by(&decision, &pair.target).err()
        };
        let denied: Vec<_> = returning
            .lanes
            .iter()
            .filter_map(|(id, lane)| Some((id, denial(lane.route.pair())?)))
            .collect();
        for (id, failure) in denied {
            returning.lanes.leave(id, End::Denied(failure));
        }
    }
}

/// What went the other way comes to its end, behind its interruption: the peer has handled `h`
/// stanzas of it, or nobody knows.
///
/// # Errors
/// So many were not sent.
pub(super) fn end(gate: &Arc<Gate>, returning: Returning, h: Option<u32>) -> Result<(), TooHigh> {
    let failure = Failure::new(FailureKind::Stream, "the peer's stream ended");
    let ended = returning.finish(&End::Broken(failure), h);
    let outcome = ended.too_high.map_or(Ok(()), Err);
    gate.settle(Side::Peer, ended);
    outcome
}
