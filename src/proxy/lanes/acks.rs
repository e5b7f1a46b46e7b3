//! Acknowledgements on a stream that has stream management (XEP-0198): a stanza is delivered when
//! the other end says so, not when it is written (protocol SM-5).

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{LaneId, Lanes};
use crate::{
    net::wire::Wire,
    proxy::route::Queued,
    stream::{Sent, TooHigh},
    xml::writer,
};

/// How long stanzas wait, after the first that nobody asked about, for others to be asked about too.
const ASK_AFTER: Duration = Duration::from_millis(100);
/// The same, for stanzas that the other end has got, but not handled when it was asked.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// So many bytes are asked about at once.
const ASK_BYTES: usize = 64 << 10;
/// Who answers for so many times the time of one answer, and handles nothing, is dead too. What
/// waits for the server behind a gate is handled, or bounced, sooner.
const STUCK: u32 = 5;
/// Batches on one stream that may be unacknowledged; each takes memory of its own.
const BATCHES_MAX: usize = 16_384;

/// What is put on the wire and not acknowledged.
#[derive(Debug)]
pub(super) struct Acks {
    sent: Sent,
    pub(super) unacked: VecDeque<Unacked>,
    bytes: usize,
    /// Above this many bytes nothing more is put.
    most: usize,
    /// The question that is not answered: where it ends in the output, and since when it is written.
    asked: Option<(u64, Option<Instant>)>,
    /// When to ask about what nobody asked about yet, and its bytes.
    due: Option<Instant>,
    unasked: usize,
    /// When something was last acknowledged, or put where all was.
    progress: Instant,
    /// Since when the other end is not read from, if it is not.
    deaf: Option<Instant>,
}

/// A batch that is not wholly acknowledged.
#[derive(Debug)]
pub(super) struct Unacked {
    /// Where it ends in the output.
    pub(super) end: u64,
    pub(super) lane: LaneId,
    pub(super) queued: Box<Queued>,
    /// How many of its stanzas are acknowledged.
    pub(super) known: u32,
}

impl Acks {
    fn new(sent: Sent, most: usize) -> Self {
        Self {
            sent,
            unacked: VecDeque::new(),
            bytes: 0,
            most,
            asked: None,
            due: None,
            unasked: 0,
            progress: Instant::now(),
            deaf: None,
        }
    }

    /// Whether more may be put.
    pub(super) fn has_room(&self) -> bool {
        self.bytes < self.most && self.unacked.len() < BATCHES_MAX
    }

    /// A batch is put, and ends there in the output.
    pub(super) fn put(&mut self, end: u64, lane: LaneId, queued: Box<Queued>, now: Instant) {
        let bytes = queued.stanzas.bytes().len();
        if self.unacked.is_empty() {
            self.progress = now;
        }
        self.sent.put(queued.stanzas.stanzas());
        self.bytes += bytes;
        self.unasked += bytes;
        self.due = Some(self.due.map_or(now + ASK_AFTER, |due| due.min(now + ASK_AFTER)));
        self.unacked.push_back(Unacked { end, lane, queued, known: 0 });
        if self.unasked >= ASK_BYTES || !self.has_room() {
            self.hurry();
        }
    }

    /// Asks as soon as may be.
    pub(super) fn hurry(&mut self) {
        self.due = Some(Instant::now());
    }

    /// The output is written so far.
    pub(super) fn written(&mut self, written: u64) {
        if let Some((end, since @ None)) = &mut self.asked
            && *end <= written
        {
            *since = Some(Instant::now());
        }
    }

    /// When the other end is dead, if it says nothing until then: it has not answered, or it answers
    /// and handles nothing.
    fn dies_at(&self, patience: Duration) -> Option<Instant> {
        if self.deaf.is_some() {
            return None;
        }
        let unanswered = self.asked.and_then(|(_, since)| Some(since? + patience));
        let stuck = self.progress + patience * STUCK;
        let stuck = (!self.unacked.is_empty()).then_some(stuck);
        unanswered.into_iter().chain(stuck).min()
    }

    /// Some of the last stanzas were never sent after all.
    pub(super) fn take_back(&mut self, stanzas: u32) {
        self.sent.take_back(stanzas);
    }
}

impl Lanes {
    /// From here on stanzas are acknowledged; so many count as sent before. No more is put than
    /// `most` bytes, until some are.
    pub(in crate::proxy) fn manage(&mut self, sent: Sent, most: usize) {
        self.acks = Some(Box::new(Acks::new(sent, most)));
        self.show_unacknowledged();
    }

    /// The other end will not acknowledge anything: what is written is delivered.
    pub(in crate::proxy) fn unmanage(&mut self) {
        let Some(acks) = self.acks.take() else { return };
        let put = acks.unacked.into_iter();
        self.writing.extend(put.map(|put| (put.end, put.lane, put.queued)));
    }

    /// Whether stanzas are acknowledged.
    pub(in crate::proxy) fn is_managed(&self) -> bool {
        self.acks.is_some()
    }

    /// The other end has handled `h` stanzas.
    ///
    /// # Errors
    /// So many were not sent.
    pub(in crate::proxy) fn acknowledge(&mut self, h: u32) -> Result<(), TooHigh> {
        let Some(acks) = &mut self.acks else { return Ok(()) };
        let mut news = acks.sent.acknowledge(h)?;
        acks.asked = None;
        if news > 0 {
            acks.progress = Instant::now();
        }
        let mut done = Vec::new();
        while news > 0
            && let Some(first) = acks.unacked.front_mut()
        {
            let left = first.queued.stanzas.stanzas() - first.known;
            if news < left {
                first.known += news;
                break;
            }
            news -= left;
            acks.bytes -= first.queued.stanzas.bytes().len();
            done.extend(acks.unacked.pop_front());
        }
        if acks.unacked.is_empty() {
            (acks.due, acks.unasked) = (None, 0);
        } else if acks.due.is_none() {
            acks.due = Some(Instant::now() + ASK_AGAIN);
        }
        for Unacked { lane, queued, .. } in done {
            self.done(lane, &queued);
        }
        self.show_unacknowledged();
        Ok(())
    }

    /// Asks the other end how much it has handled, when it is time to and no answer is waited for.
    pub(super) fn ask_for_acks(&mut self, wire: &mut Wire) {
        let Some(acks) = &self.acks else { return };
        if acks.asked.is_none() && acks.due.is_some_and(|due| due <= Instant::now()) {
            self.put_request(wire);
        }
    }

    /// The same behind all that was put, before the last words: an answer that is waited for may not
    /// cover all of it.
    pub(in crate::proxy) fn ask_at_last(&mut self, wire: &mut Wire) {
        if self.acks.as_ref().is_some_and(|acks| !acks.unacked.is_empty()) {
            self.put_request(wire);
        }
    }

    fn put_request(&mut self, wire: &mut Wire) {
        let Some(acks) = &mut self.acks else { return };
        let mut text = Vec::new();
        writer::sm_request(&mut text);
        wire.put_stanzas(&text.into());
        acks.asked = Some((wire.put_total(), None));
        (acks.due, acks.unasked) = (None, 0);
        self.show_unacknowledged();
    }

    /// When to ask, or else when the other end will not have answered for `patience`.
    pub(in crate::proxy) fn ack_deadline(&self, patience: Duration) -> Option<Instant> {
        let acks = self.acks.as_ref()?;
        let dead = acks.dies_at(patience);
        let ask = if acks.asked.is_none() { acks.due } else { None };
        dead.into_iter().chain(ask).min()
    }

    /// Whether the other end is read from: while it is not, it cannot acknowledge, and that time is not
    /// held against it.
    pub(in crate::proxy) fn listens(&mut self, listens: bool) {
        let Some(acks) = &mut self.acks else { return };
        match (listens, acks.deaf) {
            (false, None) => acks.deaf = Some(Instant::now()),
            (true, Some(since)) => {
                let now = Instant::now();
                let later = |at: Instant| (at + (now - since)).min(now);
                acks.progress = later(acks.progress);
                if let Some((_, Some(asked))) = &mut acks.asked {
                    *asked = later(*asked);
                }
                acks.deaf = None;
            }
            (false, Some(_)) | (true, None) => {}
        }
    }

    /// Whether the other end has yet to acknowledge something.
    pub(in crate::proxy) fn is_owed(&self) -> bool {
        self.acks.as_ref().is_some_and(|acks| !acks.unacked.is_empty())
    }

    /// Whether the other end has not answered for `patience`.
    pub(in crate::proxy) fn is_unanswered(&self, patience: Duration) -> bool {
        let dead = self.acks.as_ref().and_then(|acks| acks.dies_at(patience));
        dead.is_some_and(|at| at <= Instant::now())
    }

    fn show_unacknowledged(&self) {
        if let (Some(acks), Some(live)) = (&self.acks, &self.live) {
            live.unacknowledged(acks.sent.outstanding());
        }
    }
}
