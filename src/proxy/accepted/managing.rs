//! Acknowledgements on an accepted stream, and the wish of its peer to resume a former one
//! (XEP-0198; protocol SM-1 to SM-7).

use std::{future::pending, sync::Arc, time::Duration};

use tokio::time::Instant;
use tracing::{debug, info};

use super::{
    End, Leg,
    parked::{self, Parked},
    stream_id,
};
use crate::{
    ops::metrics::Origin,
    proxy::sessions::{Session, Takeover},
    stream::{Former, Sent, TooHigh},
    xml::writer,
    xmpp::Side,
};

/// How long a peer that can ask for stream management may say nothing behind the last features before
/// anything goes back to it. What does is not acknowledged, so it would be lost if the peer is silent
/// because no packets come any more, and it would come in between where a stream is resumed. Who
/// opened a stream has something to say, so that nobody waits as long on a connection that works.
pub(super) const SPEAKS_WITHIN: Duration = Duration::from_secs(5);

/// Stream management on an accepted stream.
pub(super) struct Managing {
    /// The stream can be resumed.
    session: Option<Session>,
    /// What went to the peer before anything could: on a former connection.
    sent: Sent,
}

impl Managing {
    /// How many stanzas went to the peer on former connections.
    pub(super) fn sent(&self) -> Sent {
        self.sent
    }
}

/// Waits until another stream takes the place of this one. Cancel-safe; for ever if none can.
pub(super) async fn taken_over(managing: &mut Option<Managing>) -> Takeover {
    match managing.as_mut().and_then(|managing| managing.session.as_mut()) {
        Some(session) => session.taken_over().await,
        None => pending().await,
    }
}

impl Leg {
    /// The peer has asked for stream management: it is on, and both ends count from here on.
    pub(super) fn manage(&mut self, resumable: bool) {
        if self.closing.is_some() {
            return;
        }
        let patience = self.gate.config().limits.resumption.filter(|_| resumable);
        let identity = self.machine.identity().map(|(peer, us)| (peer.clone(), us.clone()));
        let session = identity
            .filter(|_| patience.is_some())
            .map(|identity| self.gate.sessions().open(stream_id(), identity));
        let seconds = patience.map_or(0, |patience| patience.as_secs());
        let mut text = Vec::new();
        writer::sm_enabled(&mut text, session.as_ref().map(|session| (session.id(), seconds)));
        self.say(&text);
        debug!(
            stream = self.live.id(),
            direction = self.direction().as_str(),
            domain = self.machine.claimed().map(tracing::field::display),
            resumable = session.is_some(),
            "stanzas are acknowledged"
        );
        self.begin(session, Sent::default(), 0);
    }

    /// From here on stanzas are counted; so many came before.
    fn begin(&mut self, session: Option<Session>, sent: Sent, received: u32) {
        self.live.managed(session.is_some());
        self.intake.acknowledge(received);
        if let Some(returning) = &mut self.returning {
            returning.lanes.manage(sent, self.gate.config().limits.unacknowledged);
        }
        self.managing = Some(Managing { session, sent });
    }

    /// The peer wants to go on with a former stream over this connection.
    ///
    /// # Errors
    /// It claims to have got more of it than was sent.
    pub(super) async fn resume(&mut self, former: Former) -> Result<(), End> {
        let identity = self.machine.identity().map(|(peer, us)| (peer.clone(), us.clone()));
        let gate = Arc::clone(&self.gate);
        let count = |result| gate.metrics().resumption(Origin::Accepted, result);
        let known = match (&identity, self.gate.config().limits.resumption) {
            (Some(identity), Some(_)) => {
                self.gate.sessions().take_over(&former.id, identity, former.h).await
            }
            (None, _) | (_, None) => None,
        };
        let mut text = Vec::new();
        let (Some(known), Some(identity)) = (known, identity) else {
            count("refused");
            writer::sm_failed(&mut text, "item-not-found");
            self.say(&text);
            return Ok(());
        };
        let received = known.map_err(|too_high| End::Fault(too_high.into()))?;
        count("resumed");
        info!(
            stream = self.live.id(),
            domain = %identity.0,
            addr = %self.address.ip(),
            received,
            "stream resumed"
        );
        self.machine.resumed();
        writer::sm_resumed(&mut text, &former.id, received);
        self.say(&text);
        let session = self.gate.sessions().open(former.id, identity);
        self.begin(Some(session), Sent::resumed(former.h), received);
        Ok(())
    }

    /// Tells the peer how many stanzas are handled.
    pub(super) fn answer(&mut self, handled: u32) {
        let mut text = Vec::new();
        writer::sm_answer(&mut text, handled);
        self.say(&text);
    }

    /// The stream ends, and all that came is ours to answer for (XEP-0198 §4). Nobody resumes it.
    pub(super) async fn last_answer(&mut self) {
        let Some(managing) = &mut self.managing else { return };
        managing.session = None;
        self.intake.finish(self.wire.input()).await;
        let received = self.received();
        self.answer(received);
    }

    /// How many stanzas came, modulo 2^32, since they are counted.
    pub(super) fn received(&mut self) -> u32 {
        self.intake.receipts().map_or(0, |receipts| receipts.received())
    }

    /// The peer has handled so many of our stanzas.
    ///
    /// # Errors
    /// So many were not sent.
    pub(super) fn acknowledged(&mut self, h: u32) -> Result<(), End> {
        let outcome = match (&mut self.returning, &mut self.managing) {
            (Some(returning), _) => returning.lanes.acknowledge(h),
            (None, Some(managing)) => managing.sent.acknowledge(h).map(drop),
            (None, None) => Ok(()),
        };
        outcome.map_err(|too_high| End::Fault(too_high.into()))
    }

    /// What went the other way comes to its end: the peer has handled `h` stanzas of it, or nobody
    /// knows.
    ///
    /// # Errors
    /// So many were not sent.
    pub(super) fn end_returning(&mut self, h: Option<u32>) -> Result<(), TooHigh> {
        match (self.returning.take(), h) {
            (Some(returning), h) => parked::end(&self.gate, *returning, h),
            (None, Some(h)) => {
                let mut sent = self.managing.as_ref().map_or(Sent::default(), Managing::sent);
                sent.acknowledge(h).map(drop)
            }
            (None, None) => Ok(()),
        }
    }

    /// If the connection broke and the peer may resume the stream: what is left of that.
    pub(super) fn park(&mut self, end: &End) -> Option<Parked> {
        let is_lost = matches!(end, End::Broken(_) | End::Closed(_)) && self.closing.is_none();
        let patience = self.gate.config().limits.resumption.filter(|_| is_lost)?;
        if self.side == Side::Legacy || self.gate.draining().is_cancelled() {
            return None;
        }
        let received = self.received();
        let managing = self.managing.as_mut()?;
        let parking = managing.session.as_ref()?.park()?;
        let session = managing.session.take()?;
        if let Some(returning) = &mut self.returning {
            returning.lanes.hide();
        }
        Some(Parked {
            gate: Arc::clone(&self.gate),
            session,
            _parking: parking,
            returning: self.returning.take(),
            sent: managing.sent,
            received,
            until: Instant::now() + patience,
        })
    }
}
