//! Streams whose stanzas are acknowledged, in the model: one that is put is owed until the other end
//! says that it has it. When the connection breaks, what it may have goes back to the senders, and
//! what it was not sent goes over another stream; where the stream is resumed, all that it has not.

use std::collections::VecDeque;

use super::{Stream, Wire, World, stanzas, texts};
use crate::stream::{Sent, TooHigh};

/// Bytes that may be unacknowledged.
const MOST: usize = 1500;

/// A stanza, by its pair and its number there.
type Numbered = (usize, u32);

/// What is acknowledged on a stream.
pub(super) struct Managed {
    /// The counter of the last that is acknowledged.
    last: u32,
    /// How many are, since stanzas are counted on this connection.
    acknowledged: usize,
    /// Stanzas that are put and not acknowledged, in their order.
    pub(super) put: VecDeque<(usize, u32)>,
    /// How many were wholly written on this connection.
    pub(super) written: usize,
}

impl Managed {
    fn new(last: u32) -> Self {
        Self { last, acknowledged: 0, put: VecDeque::new(), written: 0 }
    }

    /// The counter behind so many of those that are not acknowledged.
    pub(super) fn h(&self, more: usize) -> u32 {
        self.last.wrapping_add(more as u32)
    }

    /// So many of them are.
    fn acknowledge(&mut self, more: usize) -> Vec<(usize, u32)> {
        self.last = self.h(more);
        self.acknowledged += more;
        self.put.drain(..more).collect()
    }

    /// The connection breaks: what the other end may have and has not acknowledged. Of that it says
    /// that it has the first so many.
    pub(super) fn interrupted(
        &mut self,
        got: Option<usize>,
    ) -> (Option<Vec<Numbered>>, Vec<Numbered>) {
        self.put.truncate(self.written.saturating_sub(self.acknowledged));
        let unknown: Vec<_> = self.put.iter().copied().collect();
        (got.map(|got| unknown.iter().take(got).copied().collect()), unknown)
    }
}

impl World {
    /// Stream management begins on the stream.
    pub(super) fn manages(&mut self, stream: usize, high: bool) {
        let Stream { lanes, wire, partial, managed, plain } = &mut self.streams[stream];
        if managed.is_some() {
            return;
        }
        let before = if high { u32::MAX - 3 } else { 0 };
        lanes.manage(Sent::resumed(before), MOST);
        let output = String::from_utf8(wire.output()).unwrap();
        *plain = stanzas(&format!("{partial}{output}")).len();
        *managed = Some(Managed::new(before));
    }

    /// It is refused, before anything was acknowledged: what is written is delivered.
    pub(super) fn unmanages(&mut self, stream: usize) {
        let Stream { lanes, wire, managed, .. } = &mut self.streams[stream];
        if let Some(mut refused) = managed.take_if(|managed| managed.acknowledged == 0) {
            lanes.unmanage();
            lanes.settle(wire.written_total());
            let written = refused.written;
            self.delivered(refused.put.drain(..written));
        }
    }

    /// The other end has handled more; who claims more than was sent loses its stream.
    pub(super) fn acknowledges(&mut self, stream: usize, more: usize, lies: bool) {
        let Stream { lanes, managed, plain, .. } = &mut self.streams[stream];
        let Some(managed) = managed else { return };
        let sent = managed.put.len();
        if lies {
            let h = managed.h(sent + 1 + more);
            assert_eq!(lanes.acknowledge(h), Err(TooHigh { h, sent: managed.h(sent) }));
            self.told += lanes.take_delivered();
            return self.stream_breaks(stream, None);
        }
        // also what is put and not yet written, for nobody here knows better; but not before others
        let more = more.min(if *plain == 0 { sent } else { 0 });
        assert_eq!(lanes.acknowledge(managed.h(more)), Ok(()));
        let these = managed.acknowledge(more);
        self.delivered(these);
    }

    /// The connection breaks, and the stream goes on over another one, where only that pair stays.
    pub(super) fn resumes(&mut self, stream: usize, pair: usize, got: Option<usize>) {
        let Stream { lanes, wire, partial, managed, plain } = &mut self.streams[stream];
        let Some(former) = managed else { return };
        lanes.interrupt(wire);
        let (got, unknown) = former.interrupted(got);
        let too_high = former.h(unknown.len() + 1);
        let outcome = lanes.resolve(Some(too_high)).map(drop);
        assert_eq!(outcome, Err(TooHigh { h: too_high, sent: former.h(unknown.len()) }));
        let h = got.as_ref().map(|got| former.h(got.len()));
        let uncertain = texts(lanes.resolve(h).unwrap());
        assert_eq!(uncertain, if h.is_none() { unknown } else { Vec::new() });
        let last = h.unwrap_or(0);
        lanes.manage(Sent::resumed(last), MOST);
        *managed = Some(Managed::new(last));
        let of = &self.pairs[pair].pair;
        let stays = lanes.carry_on(|lane| lane.route.pair() == of, None, None);
        assert!(stays.is_none_or(|id| lanes.len() == 1 && lanes.get(id).is_some()));
        self.told += lanes.take_delivered();
        *wire = Wire::unconnected();
        partial.clear();
        *plain = 0;
        self.delivered(got.unwrap_or_default());
        self.counts[3] += uncertain.len();
        self.goes_back(uncertain);
    }
}
