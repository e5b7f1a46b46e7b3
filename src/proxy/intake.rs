//! Stanzas that come in on a stream, on their way to a route: those of one pair that stand one
//! behind the other go as one batch, the bytes as they came.

use std::{future::Future, pin::Pin, sync::Arc};

use bytes::BytesMut;

use super::{
    gate::Gate,
    live::{LiveStream, Meter},
    route::Route,
};
use crate::{
    auth::ledger::{AuthorizedPair, Routable},
    stream::Failure,
    xml::{Header, Tag, relay},
    xmpp::Side,
};

/// The stanzas of one stream.
pub(super) struct Intake {
    gate: Arc<Gate>,
    /// The side that they go to.
    onward: Side,
    /// The language that the stream's header declares.
    lang: Option<Arc<str>>,
    batch: Option<Batch>,
    /// A batch that waits for room in its route.
    delivery: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    stanzas: u64,
    /// What the operator sees of the stream.
    live: Option<LiveStream>,
    /// Of the pair whose stanzas came last.
    meter: Option<Arc<Meter>>,
}

/// Stanzas of one pair, one behind the other in the input, that go as they are.
struct Batch {
    grant: AuthorizedPair,
    route: Result<Arc<Route>, Arc<Failure>>,
    /// The route's stream declares another language than ours: stanzas have to say theirs.
    stamp: Option<Arc<str>>,
    /// The batch is the input up to here.
    end: usize,
    stanzas: u32,
}

impl Intake {
    /// Nothing came yet.
    pub(super) fn new(gate: &Arc<Gate>, onward: Side, live: Option<LiveStream>) -> Self {
        Self {
            gate: Arc::clone(gate),
            onward,
            lang: None,
            batch: None,
            delivery: None,
            stanzas: 0,
            live,
            meter: None,
        }
    }

    /// The side that stanzas go to.
    pub(super) fn onward(&self) -> Side {
        self.onward
    }

    /// The language of the stanzas, unless they say another.
    pub(super) fn lang(&self) -> Option<&Arc<str>> {
        self.lang.as_ref()
    }

    /// The stream has a new header.
    pub(super) fn set_lang(&mut self, header: &Header) {
        self.lang = header.lang.as_deref().map(Into::into);
    }

    /// How many stanzas were admitted.
    pub(super) fn stanzas(&self) -> u64 {
        self.stanzas
    }

    /// Where the next token stands in the input.
    pub(super) fn offset(&self) -> usize {
        self.batch.as_ref().map_or(0, |batch| batch.end)
    }

    /// Whether nothing more may be taken from the input until [`Self::delivered`].
    pub(super) fn is_busy(&self) -> bool {
        self.delivery.is_some()
    }

    /// Waits until what waits for room has found it, or was bounced. Cancel-safe; at once when
    /// nothing waits.
    pub(super) async fn delivered(&mut self) {
        if let Some(delivery) = &mut self.delivery {
            delivery.await;
            self.delivery = None;
        }
    }

    /// Takes an admitted stanza that stands at [`Self::offset`] of the input.
    pub(super) fn stanza(
        &mut self,
        input: &mut BytesMut,
        header: &Header,
        tag: &Tag,
        len: usize,
        grant: &AuthorizedPair,
    ) {
        self.stanzas += 1;
        if let Some(batch) = &mut self.batch
            && batch.grant.is(grant)
            && relay::is_verbatim(tag, header, batch.stamp.as_deref())
        {
            batch.end += len;
            batch.stanzas += 1;
            return;
        }
        self.hand_over(input);
        let route =
            self.gate.routes().get(&self.gate, self.onward, grant.pair(), self.lang.as_ref());
        let stamp = match &route {
            Ok(route) if route.lang() != self.lang.as_ref() => self.lang.clone(),
            Ok(_) | Err(_) => None,
        };
        if relay::is_verbatim(tag, header, stamp.as_deref()) {
            self.batch = Some(Batch { grant: grant.clone(), route, stamp, end: len, stanzas: 1 });
            return;
        }
        let bytes = input.split_to(len).freeze();
        let bytes = relay::outgoing(&bytes, tag, header, stamp.as_deref());
        self.deliver(route, Routable::new(grant, bytes, 1));
    }

    /// Hands the batch to its route, and the input begins behind it.
    pub(super) fn hand_over(&mut self, input: &mut BytesMut) {
        let Some(batch) = self.batch.take() else { return };
        let bytes = input.split_to(batch.end).freeze();
        let stanzas = Routable::new(&batch.grant, bytes, batch.stanzas);
        self.deliver(batch.route, stanzas);
    }

    fn count(&mut self, stanzas: &Routable) {
        let (pair, n, bytes) = (stanzas.pair(), stanzas.stanzas(), stanzas.bytes().len());
        self.gate.metrics().accepted(self.onward.other(), n, bytes);
        let Some(live) = &self.live else { return };
        let meter = self.meter.take().filter(|meter| meter.is_for(pair));
        self.meter.insert(meter.unwrap_or_else(|| live.meter(pair))).count(n, bytes);
    }

    fn deliver(&mut self, route: Result<Arc<Route>, Arc<Failure>>, stanzas: Routable) {
        self.count(&stanzas);
        let for_legacy = match self.onward {
            Side::Legacy => self.gate.pings().catch_answers(stanzas),
            Side::Peer => Some(stanzas),
        };
        let Some(stanzas) = for_legacy else { return };
        let before = self.delivery.take();
        let route = match (&before, route) {
            (None, Ok(route)) => match route.try_send(stanzas) {
                Ok(()) => return,
                Err(not_taken) => (Ok(route), not_taken.into_stanzas()),
            },
            (_, route) => (route, stanzas),
        };
        let (route, stanzas) = route;
        let (gate, onward, lang) = (Arc::clone(&self.gate), self.onward, self.lang.clone());
        self.delivery = Some(Box::pin(async move {
            if let Some(before) = before {
                before.await;
            }
            gate.deliver(route, onward, stanzas, lang.as_ref()).await;
        }));
    }
}
