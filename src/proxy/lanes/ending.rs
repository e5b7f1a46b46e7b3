//! What becomes of the stanzas of a stream that comes to its end, or whose connection breaks: those
//! that were not wholly written were never received, for their stream ended inside them or before;
//! of those that were written and not acknowledged, or that TLS was writing when it failed, only the
//! other end knows.

use std::collections::{BTreeMap, VecDeque};

use super::{Call, End, Lane, LaneId, Lanes, Queued, Returned, Stage, acks::Unacked};
use crate::{
    auth::{Proof, ledger::Routable},
    net::wire::Wire,
    proxy::{
        expiry,
        live::{Flow, LiveStream},
        pieces,
    },
    stream::TooHigh,
};

/// What is left of a stream's stanzas when its routes have got back theirs.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Ended {
    /// Sent, and perhaps received: they go back to their senders, for sent again they could arrive
    /// twice.
    pub(in crate::proxy) uncertain: Vec<Routable>,
    /// Stanzas of others that were delivered and are not counted yet.
    pub(in crate::proxy) delivered: u64,
    /// The other end claims more than was sent.
    pub(in crate::proxy) too_high: Option<TooHigh>,
}

impl Lanes {
    /// The connection ends: what was not wholly written waits again, before all else; the part of
    /// `wire` that was not written is discarded. Says whether the output did not end inside a
    /// stanza.
    pub(in crate::proxy) fn interrupt(&mut self, wire: &mut Wire) -> bool {
        let (written, most) = (wire.written_total(), wire.written_at_most());
        self.settle(written);
        let mut unsent: BTreeMap<LaneId, VecDeque<Box<Queued>>> = BTreeMap::new();
        let mut cut = None;
        let mut put_back = |end: u64, id: LaneId, rest: Box<Queued>| {
            cut.get_or_insert(end - rest.stanzas.bytes().len() as u64);
            unsent.entry(id).or_default().push_back(rest);
        };
        for (end, id, queued) in std::mem::take(&mut self.writing) {
            let (done, rest) = divide(queued, end, 0, written);
            if let Some(lane) = self.lanes.get_mut(&id) {
                lane.progress |= done.is_some();
                lane.in_flight -= 1;
            }
            if let Some(done) = done {
                self.count(&done.stanzas, done.stanzas.stanzas());
            }
            let (doubtful, rest) = match rest {
                Some(rest) => divide(rest, end, 0, most),
                None => (None, None),
            };
            self.uncertain.extend(doubtful.map(|doubtful| doubtful.stanzas));
            if let Some(rest) = rest {
                put_back(end, id, rest);
            }
        }
        if let Some(mut acks) = self.acks.take() {
            for Unacked { end, lane: id, queued, known } in std::mem::take(&mut acks.unacked) {
                self.count(&queued.stanzas, known);
                let (sent, rest) = divide(queued, end, known, most);
                let lane = self.lanes.get_mut(&id);
                match sent {
                    Some(queued) => {
                        let cut = rest.as_ref().map_or(0, |rest| rest.stanzas.bytes().len());
                        let end = end - cut as u64;
                        acks.unacked.push_back(Unacked { end, lane: id, queued, known: 0 });
                    }
                    None => {
                        if let Some(lane) = lane {
                            lane.in_flight -= 1;
                        }
                    }
                }
                if let Some(rest) = rest {
                    acks.take_back(rest.stanzas.stanzas());
                    put_back(end, id, rest);
                }
            }
            self.acks = Some(acks);
        }
        // Answers that wait are still written; a stanza that was cut ends all. What waits goes over
        // the next stream, or back to its senders, so not over this one too.
        if cut.is_some() {
            wire.discard();
        }
        self.put_back(unsent);
        self.turns.clear();
        most == written && cut.is_none_or(|at| at == written)
    }

    /// Behind [`Self::interrupt`]: the other end has handled `h` stanzas, and what it has not waits
    /// again; or nobody knows, and what is uncertain is returned. Nothing is acknowledged any more.
    ///
    /// # Errors
    /// So many were not sent. Nothing is changed.
    pub(in crate::proxy) fn resolve(&mut self, h: Option<u32>) -> Result<Vec<Routable>, TooHigh> {
        if let Some(h) = h {
            self.acknowledge(h)?;
        }
        let mut uncertain = std::mem::take(&mut self.uncertain);
        let Some(acks) = self.acks.take() else { return Ok(uncertain) };
        let mut unsent: BTreeMap<LaneId, VecDeque<Box<Queued>>> = BTreeMap::new();
        for Unacked { lane: id, queued, known, .. } in acks.unacked {
            if let Some(lane) = self.lanes.get_mut(&id) {
                lane.in_flight -= 1;
                lane.progress |= known > 0;
            }
            self.count(&queued.stanzas, known);
            let (left, _) = pieces::divided(&queued.stanzas, known, usize::MAX);
            let Some(left) = left else { continue };
            match h {
                Some(_) => unsent.entry(id).or_default().push_back(queued.only(left)),
                None => uncertain.push(left),
            }
        }
        self.put_back(unsent);
        let idle: Vec<_> = self.lanes.keys().copied().collect();
        for id in idle {
            self.release(id);
        }
        Ok(uncertain)
    }

    /// Puts stanzas back before all that wait; those of a lane that leaves, into its route.
    fn put_back(&mut self, unsent: BTreeMap<LaneId, VecDeque<Box<Queued>>>) {
        for (id, mut queue) in unsent {
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            if matches!(lane.stage, Stage::Leaving(_)) {
                lane.route.requeue(queue);
            } else {
                queue.append(&mut lane.waiting);
                lane.waiting = queue;
            }
        }
    }

    /// The stream goes on over another connection: all its pairs but one leave it, for they have to
    /// be proven again there. Returns that one, if it is still aboard.
    pub(in crate::proxy) fn carry_on(
        &mut self,
        is_first: impl Fn(&Lane) -> bool,
        proof: Option<Proof>,
        live: Option<LiveStream>,
    ) -> Option<LaneId> {
        let first =
            self.lanes.iter().find(|(_, lane)| matches!(lane.stage, Stage::Open) && is_first(lane));
        let first = first.map(|(id, _)| *id);
        let others: Vec<_> = self.lanes.keys().copied().filter(|id| Some(*id) != first).collect();
        for id in others {
            if let Some(lane) = self.lanes.get_mut(&id) {
                // That the stream goes on is progress.
                lane.progress = true;
                if !matches!(lane.stage, Stage::Leaving(_)) {
                    self.leave(id, End::Missed);
                }
            }
        }
        // Their proofs are of the former connection.
        std::mem::take(&mut self.boarding).into_iter().for_each(|boarding| boarding.miss());
        self.live = live;
        self.turns.clear();
        if let Some(id) = first
            && let Some(lane) = self.lanes.get_mut(&id)
        {
            lane.proof = proof;
            (lane.doubted, lane.unanswered) = (false, 0);
            lane.renewal = lane.proof.as_ref().and_then(Proof::expires).map(expiry::look_at);
            if let Some(live) = &self.live {
                live.authorized(lane.route.pair(), Flow::Out, lane.proof.as_ref());
                lane.meter = Some(live.meter(lane.route.pair()));
            }
            if !lane.waiting.is_empty() {
                self.turns.push_back(id);
            }
        }
        first
    }

    /// The operator is not shown the stream any more.
    pub(in crate::proxy) fn hide(&mut self) {
        self.live = None;
        self.lanes.values_mut().for_each(|lane| lane.meter = None);
    }

    /// The stream ends: every route gets back what was not wholly written, the part of `wire` that
    /// was not written is discarded. Also says whether the output did not end inside a stanza.
    pub(in crate::proxy) fn end(mut self, wire: &mut Wire, end: &End) -> (bool, Ended) {
        let whole = self.interrupt(wire);
        (whole, self.finish(end, None))
    }

    /// Behind [`Self::interrupt`]: the stream is over. The other end has handled `h` stanzas, or
    /// nobody knows.
    pub(in crate::proxy) fn finish(mut self, end: &End, h: Option<u32>) -> Ended {
        for lane in self.lanes.values_mut() {
            if !matches!(lane.stage, Stage::Leaving(_)) {
                // From here on stanzas wait in the route again.
                lane.route.disembark();
            }
        }
        self.calls.close();
        while let Ok(call) = self.calls.try_recv() {
            match call {
                Call::Stanzas(id, queued) => self.push(id, queued),
                Call::Board(boarding) => self.boarding.push_back(boarding),
            }
        }
        for boarding in std::mem::take(&mut self.boarding) {
            // A route that is gone needs no answer.
            let _ = boarding.back.send(Returned { end: End::Missed, progress: false });
        }
        let mut ended = Ended::default();
        let outcome = self.resolve(h).or_else(|too_high| {
            ended.too_high = Some(too_high);
            self.resolve(None)
        });
        ended.uncertain = outcome.unwrap_or_default();
        ended.delivered = self.take_delivered();
        for (_, mut lane) in std::mem::take(&mut self.lanes) {
            lane.route.requeue(std::mem::take(&mut lane.waiting));
            lane.give_back(end.clone());
        }
        ended
    }
}

/// The stanzas of a batch that ended at `end` of the output, behind the first `known`: those that
/// were wholly written, and those that were not.
fn divide(
    queued: Box<Queued>,
    end: u64,
    known: u32,
    written: u64,
) -> (Option<Box<Queued>>, Option<Box<Queued>>) {
    let begin = end - queued.stanzas.bytes().len() as u64;
    let sent = usize::try_from(written.saturating_sub(begin)).unwrap_or(usize::MAX);
    match pieces::divided(&queued.stanzas, known, sent) {
        (Some(first), Some(rest)) => {
            let (first, rest) = queued.split(first, rest);
            (Some(first), Some(rest))
        }
        (Some(first), None) => (Some(queued.only(first)), None),
        (None, Some(rest)) => (None, Some(queued.only(rest))),
        (None, None) => (None, None),
    }
}
