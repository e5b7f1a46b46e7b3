//! How an accepted stream comes to its end: deadlines, last words, and the line in the log.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, info};

use super::{Closing, End, Leg, parked::Parked};
use crate::{
    ops::metrics::Origin,
    proxy::{
        CLOSE_WAIT, DRAIN_WAIT,
        events::About,
        failures::{self, Attempt, Key},
    },
    stream::{Blame, FailureKind, Fault},
    xml::writer,
    xmpp::{Direction, Side, StreamCondition},
};

/// What a deadline was for.
#[derive(Clone, Copy)]
pub(super) enum Deadline {
    Closing,
    Idle,
    /// Nothing ends: a space is due.
    Keepalive,
    /// Nothing ends: it is time to ask for acknowledgements, or to write what waited for the peer to
    /// want them.
    Ask,
    Unacknowledged,
    Negotiation,
    Partial,
    Stalled,
}

impl From<Deadline> for End {
    fn from(deadline: Deadline) -> Self {
        let timeout = |reason| Self::Fault(Fault::remote(StreamCondition::PolicyViolation, reason));
        match deadline {
            // Why it closes was said before.
            Deadline::Closing | Deadline::Idle | Deadline::Keepalive | Deadline::Ask => {
                Self::Done("idle")
            }
            Deadline::Unacknowledged => Self::Broken("the other end acknowledges nothing".into()),
            Deadline::Negotiation => timeout("not authenticated in time"),
            Deadline::Partial => timeout("an element took too long"),
            Deadline::Stalled => Self::Broken("the other end takes no bytes".into()),
        }
    }
}

impl Leg {
    /// When something must have happened, and what it means if not.
    pub(super) fn deadline(&self) -> (Instant, Deadline) {
        let limits = &self.gate.config().limits;
        let mut first = (self.used + FOREVER, Deadline::Idle);
        let mut at = |instant: Instant, why| {
            if instant < first.0 {
                first = (instant, why);
            }
        };
        if let Some(stalls) = self.wire.stalls_at(limits.write_stall) {
            at(stalls, Deadline::Stalled);
        }
        if let Some(returning) = &self.returning
            && let Some(acks) = returning.lanes.ack_deadline(limits.ack)
        {
            let dead = returning.lanes.is_unanswered(limits.ack);
            at(acks, if dead { Deadline::Unacknowledged } else { Deadline::Ask });
        }
        if let Some(quiet) = self.quiet {
            at(quiet, Deadline::Ask);
        }
        // What is not read from cannot be quicker.
        if let Some(partial) = self.partial.filter(|_| !self.intake.is_busy()) {
            at(partial + limits.negotiation, Deadline::Partial);
        }
        if !self.machine.is_authorized() {
            let waiting = self.machine.is_waiting();
            // Streams that only ask dialback questions never get further; they may come again.
            let since = match self.side {
                Side::Peer => self.accepted,
                Side::Legacy => self.used,
            };
            // The proof of a pair takes its time: a place, a question, the legacy server. But who
            // asks for one after the other that nobody proves does not stay for ever.
            let grace = if waiting { limits.connect * 3 } else { Duration::ZERO };
            at(since + limits.negotiation + grace, Deadline::Negotiation);
        } else if self.side == Side::Peer {
            if let (Some(keepalive), true) = (limits.keepalive, self.wire.is_flushed()) {
                at(self.wire.last_put() + keepalive, Deadline::Keepalive);
            }
            if self.intake.is_busy() {
                return first;
            }
            let returned = self.returning.as_ref().map(|returning| returning.lanes.used());
            let idle = self.machine.idle_limit();
            at(returned.map_or(self.used, |at| at.max(self.used)) + idle, Deadline::Idle);
        }
        first
    }

    /// fedgate ends: what waits is written, then the stream ends.
    ///
    /// # Errors
    /// As [`Self::part`].
    pub(super) async fn drain(&mut self) -> Result<(), End> {
        if let Some(returning) = &mut self.returning {
            returning.withdraw_offers();
        }
        // Who was not heard yet gets nothing: what waits for that finds another way, or goes back.
        if let (Some(returning), None) = (&mut self.returning, self.quiet) {
            let large = returning.lanes.fill_up(&mut self.wire);
            returning.lanes.ask_at_last(&mut self.wire);
            self.gate.too_large(self.side, &large);
        }
        let fault = Fault::us(StreamCondition::SystemShutdown, "shutting down");
        self.part(fault.into(), DRAIN_WAIT).await
    }

    /// The stream ends in order, and fedgate goes on: what waits goes over another one.
    ///
    /// # Errors
    /// As [`Self::part`]; and at once, where nothing could come that counts.
    pub(super) async fn close(&mut self, end: End) -> Result<(), End> {
        if !self.machine.is_authorized() {
            return Err(end);
        }
        if let Some(returning) = &mut self.returning {
            returning.leave(&mut self.wire);
        }
        self.part(end, CLOSE_WAIT).await
    }

    /// Says the last words, and has the stream read on: what comes until the other end closes still
    /// counts (RFC 6120 §4.4).
    ///
    /// # Errors
    /// It has ended by what came already.
    async fn part(&mut self, end: End, wait: Duration) -> Result<(), End> {
        self.last_answer().await;
        let farewell = match &end {
            End::Fault(fault) => self.machine.farewell(fault),
            _ => writer::FOOTER.into(),
        };
        self.wire.put(&farewell);
        self.intake.hurry();
        self.closing = Some(Box::new(Closing { until: Instant::now() + wait, end: Some(end) }));
        // What waited for a rate is here already.
        self.read().await
    }

    /// Tells watchers; and that a peer's stream was ended before anything was proven is a failure of
    /// its domain. One that the peer itself ends in order is none: it may only have had questions;
    /// nor is a stream error, unless it refuses one of the domains: servers restart, and tidy up.
    fn tell(&self, end: &End, reason: &str, rule: Option<&str>) {
        let (sender, target) = (self.machine.claimed(), self.machine.addressed());
        let mut about = About::stream(self.live.id(), self.direction());
        (about.remote, about.local) = match self.side {
            Side::Peer => (sender, target),
            Side::Legacy => (target, sender),
        };
        self.gate.events().tell("closed", about, || match end {
            End::Error(failure) => format!("{reason}: {failure}"),
            _ => reason.to_owned(),
        });
        let (Side::Peer, Some(remote), Some(local)) = (self.side, sender, target) else { return };
        let (stage, word) = match end {
            End::Fault(fault) if fault.blame() == Blame::Policy => {
                self.gate.memory().refused(remote, Direction::Inbound);
                ("policy", "denied")
            }
            End::Fault(fault) if fault.blame() == Blame::Us => return,
            End::Fault(_) => ("auth", "stream"),
            End::Error(failure) if failure.kind() != FailureKind::Stream => {
                (failures::stage(failure.kind()), failure.reason())
            }
            End::Broken(_) if self.machine.tls().is_none() => ("tls", "tls"),
            End::Broken(_)
            | End::Closed(_)
            | End::Finished
            | End::Done(_)
            | End::Refused
            | End::Error(_)
            | End::Resumed(_) => return,
        };
        if self.live.was_authorized() {
            return;
        }
        let rule = rule.map(|rule| format!(", {rule}")).unwrap_or_default();
        let reason = match end {
            End::Error(failure) => failure.detail(),
            _ => reason,
        };
        let detail = format!("{reason}{rule}, from {}", self.address.ip());
        let key = Key { local: local.clone(), remote: remote.clone() };
        self.gate.failures().failed(self.direction(), key, Attempt::new(stage, word, detail));
    }

    /// Last words, and the one line that tells the stream's story. What is left of it, if the peer
    /// may resume it.
    pub(super) async fn finish(mut self: Box<Self>, end: End) -> Option<Parked> {
        let stall = CLOSE_WAIT.min(self.gate.config().limits.write_stall);
        // Nobody comes aboard any more.
        if let Some(returning) = &mut self.returning {
            returning.withdraw_offers();
        }
        // What was admitted goes on its way.
        self.intake.finish(self.wire.input()).await;
        let mut whole = true;
        if let Some(returning) = &mut self.returning {
            whole = returning.interrupt(&mut self.wire);
        }
        let parked = self.park(&end);
        let parting = self.closing.as_mut().and_then(|closing| closing.end.take());
        let mut end = parting.unwrap_or(end);
        if let End::Resumed(takeover) = end {
            let h = takeover.h;
            let outcome = self.end_returning(Some(h)).map_or_else(Err, |()| Ok(self.received()));
            // Who no longer waits has its stream to lose.
            let _ = takeover.reply.send(outcome);
            let reason = "resumed over another connection";
            end = End::Fault(Fault::remote(StreamCondition::Conflict, reason));
        } else if parked.is_none() {
            // Nothing more comes that would make it known.
            let _ = self.end_returning(None);
        }
        if !whole {
            // Inside a stanza there is nothing more to say.
            self.closing = Some(Box::new(Closing { until: Instant::now(), end: None }));
        }
        if matches!(end, End::Fault(_) | End::Finished | End::Done(_) | End::Error(_)) {
            self.last_answer().await;
        }
        let (reason, blame, rule) = match &end {
            End::Fault(fault) => {
                let farewell = self.machine.farewell(fault);
                self.say(&farewell);
                (fault.reason(), fault.blame(), fault.rule())
            }
            End::Closed(reason) => (*reason, Blame::Remote, None),
            End::Finished => {
                self.say(writer::FOOTER.as_bytes());
                ("stream closed by the other end", Blame::Remote, None)
            }
            End::Done(reason) => {
                self.say(writer::FOOTER.as_bytes());
                (*reason, Blame::Policy, None)
            }
            End::Refused => ("refused", Blame::Policy, None),
            End::Error(failure) => {
                self.say(writer::FOOTER.as_bytes());
                (failure.reason(), Blame::Remote, None)
            }
            End::Broken(detail) => (detail.as_str(), Blame::Remote, None),
            End::Resumed(_) => ("resumed", Blame::Remote, None),
        };
        let (condition, detail) = match &end {
            End::Fault(fault) => (Some(fault.condition().as_str()), None),
            End::Error(failure) => (None, Some(failure.detail())),
            End::Closed(_)
            | End::Finished
            | End::Done(_)
            | End::Refused
            | End::Broken(_)
            | End::Resumed(_) => (None, None),
        };
        self.gate.metrics().closed(self.side, Origin::Accepted, condition);
        let in_order = matches!(end, End::Closed(_) | End::Finished);
        if self.intake.stanzas() == 0 && self.machine.claimed().is_none() && in_order {
            // Somebody looked whether anybody is there: health checks do, every few seconds.
            debug!(addr = %self.address.ip(), entry = self.entry.as_str(), reason, "stream closed");
            self.wire.close(stall).await;
            return parked;
        }
        self.tell(&end, reason, rule);
        info!(
            stream = self.live.id(),
            side = self.side.as_str(),
            addr = %self.address.ip(),
            domain = self.machine.claimed().map(tracing::field::display),
            reason,
            blame = blame.as_str(),
            rule,
            condition,
            detail,
            resumable = parked.is_some().then_some(true),
            stanzas = self.intake.stanzas(),
            seconds = self.accepted.elapsed().as_secs(),
            "stream closed"
        );
        self.jobs.shutdown().await;
        // A peer that may come back has its connection lost, and is not to wait for this one.
        if parked.is_none() {
            self.wire.close(stall).await;
        }
        parked
    }
}

/// No deadline at all.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
