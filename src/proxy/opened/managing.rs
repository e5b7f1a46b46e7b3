//! Acknowledgements on a stream that we opened (XEP-0198; protocol SM-3 to SM-5).

use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;

use super::Opened;
use crate::{
    config::model::Limits,
    proxy::live::LiveStream,
    stream::{Failure, Step},
    xml::writer,
    xmpp::Direction,
};

impl Opened {
    /// Does what the machine says of acknowledgements, and all else.
    pub(super) fn manage(&mut self, step: Step) -> Result<(), Failure> {
        match step {
            Step::Managed(resumption) => {
                self.intake.acknowledge(0);
                if let Some(shown) = &self.live.shown {
                    shown.managed(resumption.is_some());
                }
                debug!(
                    stream = self.live.shown.as_ref().map(LiveStream::id),
                    direction = Direction::Outbound.as_str(),
                    pair = %self.first,
                    resumable = resumption.is_some(),
                    "stanzas are acknowledged"
                );
                self.resumption = resumption;
            }
            Step::Unmanaged => self.lanes.unmanage(),
            Step::AckWanted => {
                let handled = self.intake.receipts().map_or(0, |receipts| receipts.answer());
                self.answer(handled);
            }
            Step::Acknowledged(h) => {
                self.lanes
                    .acknowledge(h)
                    .map_err(|too_high| Failure::malformed(&too_high.into()))?;
            }
            step => self.step(step),
        }
        Ok(())
    }

    /// Tells the other end how many stanzas are handled.
    pub(super) fn answer(&mut self, handled: u32) {
        let mut text = Vec::new();
        writer::sm_answer(&mut text, handled);
        self.live.wire.put(&text);
    }

    /// Until when stanzas wait for the peer to say that the stream can be resumed; none if they do not.
    pub(super) fn awaits(&self) -> Option<Instant> {
        let awaits = self.live.machine.awaits_resumption() && self.consents_by > Instant::now();
        awaits.then_some(self.consents_by)
    }

    /// How long the other end may take to acknowledge when it is asked.
    pub(super) fn patience(&self, limits: &Limits) -> Duration {
        self.in_time(limits.ack)
    }

    /// How long the other end may take no bytes.
    pub(super) fn write_stall(&self, limits: &Limits) -> Duration {
        self.in_time(limits.write_stall)
    }

    /// Less when fedgate ends, so that what is not delivered or stays uncertain still goes back.
    fn in_time(&self, limit: Duration) -> Duration {
        if self.stopping { limit.min(self.gate.config().shutdown_timeout / 2) } else { limit }
    }

    /// Whether the stream stays, though no pair is on it.
    pub(super) fn holds(&self) -> bool {
        self.lanes.len() == 0 && self.hold.is_some_and(|until| until > Instant::now())
    }

    /// The operator wants the stream closed: it is when all is acknowledged.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
        self.hold = None;
        self.registered = None;
        self.leave_all("closed by the operator");
    }
}
