//! How an accepted stream comes to its end: deadlines, last words, and the line in the log.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, info};

use super::{End, Leg};
use crate::{
    ops::metrics::Origin,
    proxy::{
        events::About,
        failures::{Attempt, Key},
        lanes,
    },
    stream::{Blame, Failure, FailureKind, Fault},
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
    Negotiation,
    Partial,
    Stalled,
}

impl From<Deadline> for End {
    fn from(deadline: Deadline) -> Self {
        let timeout = |reason| Self::Fault(Fault::remote(StreamCondition::PolicyViolation, reason));
        match deadline {
            Deadline::Closing => Self::Closed("drained"),
            Deadline::Idle | Deadline::Keepalive => {
                Self::Fault(Fault::policy(StreamCondition::ConnectionTimeout, "idle", None))
            }
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

    /// Tells watchers; and that a peer's stream was ended before anything was proven is a failure of
    /// its domain. One that the peer itself ends in order is none: it may only have had questions.
    fn tell(&self, end: &End, reason: &str, rule: Option<&str>) {
        let (sender, target) = (self.machine.claimed(), self.machine.addressed());
        let mut about = About::stream(self.live.id(), self.direction());
        (about.remote, about.local) = match self.side {
            Side::Peer => (sender, target),
            Side::Legacy => (target, sender),
        };
        self.gate.events().tell("closed", about, || reason.to_owned());
        let (Side::Peer, Some(remote), Some(local)) = (self.side, sender, target) else { return };
        let (stage, word) = match end {
            End::Fault(fault) if fault.blame() == Blame::Policy => {
                self.gate.memory().refused(remote, Direction::Inbound);
                ("policy", "denied")
            }
            End::Fault(fault) if fault.blame() == Blame::Us => return,
            End::Fault(_) => ("auth", "stream"),
            End::Broken(_) if self.machine.tls().is_none() => ("tls", "tls"),
            End::Broken(_) | End::Closed(_) | End::Finished | End::Refused => return,
        };
        if self.live.was_authorized() {
            return;
        }
        let rule = rule.map(|rule| format!(", {rule}")).unwrap_or_default();
        let detail = format!("{reason}{rule}, from {}", self.address.ip());
        let key = Key { local: local.clone(), remote: remote.clone() };
        self.gate.failures().failed(self.direction(), key, Attempt::new(stage, word, detail));
    }

    /// Last words, and the one line that tells the stream's story.
    pub(super) async fn finish(mut self, end: End) {
        let stall = CLOSE_WAIT.min(self.gate.config().limits.write_stall);
        // What was admitted goes on its way.
        self.intake.finish(self.wire.input()).await;
        if let Some(returning) = self.returning.take() {
            let failure = Failure::new(FailureKind::Stream, "the peer's stream ended");
            if !returning.end(&mut self.wire, &lanes::End::Broken(failure)) {
                // Inside a stanza there is nothing more to say.
                self.closing = Some(Instant::now());
            }
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
            End::Refused => ("refused", Blame::Policy, None),
            End::Broken(detail) => (detail.as_str(), Blame::Remote, None),
        };
        let condition = match &end {
            End::Fault(fault) => Some(fault.condition().as_str()),
            End::Closed(_) | End::Finished | End::Refused | End::Broken(_) => None,
        };
        self.gate.metrics().closed(self.side, Origin::Accepted, condition);
        let in_order = matches!(end, End::Closed(_) | End::Finished);
        if self.intake.stanzas() == 0 && self.machine.claimed().is_none() && in_order {
            // Somebody looked whether anybody is there: health checks do, every few seconds.
            debug!(addr = %self.address.ip(), entry = self.entry.as_str(), reason, "stream closed");
            self.wire.close(stall).await;
            return;
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
            stanzas = self.intake.stanzas(),
            seconds = self.accepted.elapsed().as_secs(),
            "stream closed"
        );
        self.jobs.shutdown().await;
        self.wire.close(stall).await;
    }
}

/// No deadline at all.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// How long, when fedgate ends, the other end may take to close its stream.
pub(super) const DRAIN_WAIT: Duration = Duration::from_secs(1);
/// How long last words may take.
pub(super) const CLOSE_WAIT: Duration = Duration::from_secs(2);
