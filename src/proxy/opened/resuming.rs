//! A stream whose connection broke goes on over another one (XEP-0198 §5; protocol SM-6, SM-7): the
//! peer says what it has got, the rest is sent again, in order and once. Only the pair that the
//! stream was opened for stays aboard, for the new connection proves it; the others come again as
//! they came first.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, info};

use super::{CONSENT_WAIT, Opened, largest};
use crate::{
    net::targets::Target,
    ops::metrics::Origin,
    proxy::{
        dial::{self, Live},
        gate::{Gate, next_change},
        rules,
        sharing::Registered,
    },
    stream::{Failure, Former, Resumed, Resumption, Sent},
    xmpp::{Direction, DomainPair, Side},
};

/// How long to wait before the second attempt; twice as long before each that follows.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long a resumed stream without a pair waits for those that were on it.
const HOLD: Duration = Duration::from_secs(10);

impl Opened {
    /// The connection broke, as `failure` says: the stream goes on over another one, as the same, or
    /// as a new stream if the peer does not know the former any more.
    ///
    /// # Errors
    /// Why the stream ends.
    pub(super) async fn resume(&mut self, failure: Failure) -> Result<(), Failure> {
        let (Some(resumption), Some(patience)) =
            (self.resumption.take(), self.gate.config().limits.resumption)
        else {
            return Err(failure);
        };
        if self.stopping || self.is_closed || self.lanes.is_leaving() && !self.holds() {
            return Err(failure);
        }
        let until = Instant::now() + resumption.max.map_or(patience, |max| max.min(patience));
        // Nobody joins meanwhile.
        self.registered = None;
        self.renewals.shutdown().await;
        self.intake.finish(self.live.wire.input()).await;
        self.lanes.interrupt(&mut self.live.wire);
        self.live.wire.cut();
        // Those that were not answered yet have sent nothing: they need not wait for this peer.
        self.drop_unanswered();
        let h = self.intake.receipts().map_or(0, |receipts| receipts.received());
        info!(pair = %self.first, detail = %failure, "connection lost, the stream is to be resumed");
        let former = Former { id: resumption.id.clone(), h };
        let (gate, pair) = (Arc::clone(&self.gate), self.first.clone());
        let closed = self.live.shown.as_ref().map(|shown| shown.end().clone()).unwrap_or_default();
        let lang = self.lang.clone();
        let server = self.live.endpoint.as_ref().map(|endpoint| endpoint.target.clone());
        let mut changed = Box::pin(next_change(gate.subscribe()));
        let mut reopened = Box::pin(timeout_at(until, reopen(&gate, &pair, lang, former, server)));
        // What is denied meanwhile does not wait for the peer to come back.
        self.judge();
        let reopened = loop {
            if self.lanes.is_leaving() && !self.holds() || !self.may_go_on() {
                break None;
            }
            tokio::select! {
                reopened = &mut reopened => break reopened.ok(),
                generation = &mut changed => {
                    changed.set(next_change(generation));
                    self.judge();
                }
                Some(call) = self.lanes.call() => self.lanes.put_aside(call),
                () = gate.stopping(Side::Peer) => break None,
                () = closed.cancelled() => break None,
            }
        };
        let Some((live, trust)) = reopened else {
            gate.metrics().resumption(Origin::Opened, "given-up");
            return Err(failure);
        };
        self.trust = trust;
        self.go_on(live, resumption)
    }

    /// Whether a new connection for the pair that the stream was opened for may be opened at all.
    fn may_go_on(&self) -> bool {
        let (config, pair) = (self.gate.config(), &self.first);
        config.local_domains.contains_key(&pair.sender)
            && rules::allowed(&config, pair, Direction::Outbound).is_ok()
    }

    /// The stream goes on over this connection.
    fn go_on(&mut self, live: Box<Live>, resumption: Resumption) -> Result<(), Failure> {
        let gate = Arc::clone(&self.gate);
        let resumed = live.machine.resumed().unwrap_or(Resumed::No(None));
        self.live = live;
        let sent = match resumed {
            Resumed::Yes(h) => {
                if let Err(too_high) = self.lanes.resolve(Some(h)) {
                    // What it has got in truth nobody knows.
                    let uncertain = self.lanes.resolve(None).unwrap_or_default();
                    gate.uncertain(Side::Peer, &uncertain);
                    return Err(Failure::malformed(&too_high.into()));
                }
                let received = self.intake.receipts().map_or(0, |receipts| receipts.received());
                self.intake.acknowledge(received);
                self.resumption = Some(resumption);
                gate.metrics().resumption(Origin::Opened, "resumed");
                Sent::resumed(h)
            }
            // What the peer says it has got of a stream that it has let go of is as good: the rest
            // it never got.
            Resumed::No(h) => {
                let uncertain = self.lanes.resolve(h).or_else(|_| self.lanes.resolve(None));
                gate.uncertain(Side::Peer, &uncertain.unwrap_or_default());
                self.intake.forget();
                gate.metrics().resumption(Origin::Opened, "refused");
                info!(pair = %self.first, "the peer has not resumed the stream: it is a new one");
                Sent::default()
            }
        };
        if self.live.machine.is_managed() {
            self.lanes.manage(sent, gate.config().limits.unacknowledged);
        }
        if let Some(header) = self.live.frames.framer().header() {
            self.intake.set_lang(header);
        }
        self.intake.show(self.live.shown.clone());
        self.unasked.clear();
        self.came = Instant::now();
        let calls = self.lanes.handle().clone();
        self.registered = Registered::new(&gate, &self.live, &self.first, &self.identity, calls);
        let first = self.first.clone();
        let (proof, shown) = (self.live.proof.clone(), self.live.shown.clone());
        let lane = self.lanes.carry_on(|lane| *lane.route.pair() == first, proof, shown);
        if let Some(lane) = lane {
            let most = largest(&gate.config(), self.side, &first, &self.live);
            self.lanes.bound(lane, most);
        }
        gate.opened(self.side, &first);
        let now = Instant::now();
        self.consents_by = now + CONSENT_WAIT;
        self.hold = Some(now + HOLD);
        self.check = now;
        self.count();
        Ok(())
    }
}

/// A connection on which the former stream of the pair is resumed, or else a new one; tried again
/// and again until somebody stops it. And what its certificates were judged by; see `Gate::trust`.
async fn reopen(
    gate: &Arc<Gate>,
    pair: &DomainPair,
    lang: Option<Arc<str>>,
    former: Former,
    server: Option<Target>,
) -> (Box<Live>, u64) {
    let mut pause = PAUSE_FIRST;
    loop {
        let trust = gate.trust();
        match dial::resume(gate, pair, lang.clone(), former.clone(), server.clone()).await {
            Ok(live) => return (live, trust),
            Err(failure) => debug!(pair = %pair, detail = %failure, "stream not resumed yet"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
