//! Stanzas that come in on a stream, on their way to a route: those of one pair that stand one
//! behind the other go as one batch, the bytes as they came.

mod pairs;

use std::{
    fmt,
    future::{Future, pending},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use tokio::time::{Instant, sleep_until};

use self::pairs::{Pair, Pairs};
use super::{
    alarm::Alarm, features::Guards, gate::Gate, live::LiveStream, rates::Pause, receipts::Receipts,
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
    /// What the rules refuse for what it carries.
    guards: Guards,
    batch: Option<Batch>,
    pairs: Pairs,
    /// A batch that waits for room in its route.
    delivery: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Until when nothing more is read for the sake of that route, which has much to write.
    press: Option<Instant>,
    /// For how long it is waited for.
    alarm: Option<Alarm>,
    /// Until when nothing more is taken, for too much came.
    pause: Option<Instant>,
    /// The stream comes to its end: what still comes is taken as it comes.
    hurried: bool,
    /// With stream management: what came, and is not handled yet.
    receipts: Option<Receipts>,
    stanzas: u64,
    /// What the operator sees of the stream.
    live: Option<LiveStream>,
}

/// How long a stream reads nothing at most for the sake of a route that has much to write. Who takes
/// nothing for so long is slow, and has the room of its queue.
const EASE_WAIT: Duration = Duration::from_millis(100);

/// What has come about meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    /// More may be taken.
    Ready,
    /// So many stanzas are handled, which the other end has to be told.
    Handled(u32),
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
            guards: Guards::new(&gate.config(), onward),
            batch: None,
            pairs: Pairs::default(),
            delivery: None,
            press: None,
            alarm: None,
            pause: None,
            hurried: false,
            receipts: None,
            stanzas: 0,
            live,
        }
    }

    /// The configuration changed.
    pub(super) fn reconfigure(&mut self) {
        self.guards.reconfigure(&self.gate.config());
        self.pairs.reconfigure();
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

    /// From here on stanzas are acknowledged (XEP-0198); so many came before.
    pub(super) fn acknowledge(&mut self, received: u32) {
        self.receipts = Some(Receipts::new(received));
    }

    /// What came since then, if stanzas are acknowledged.
    pub(super) fn receipts(&mut self) -> Option<&mut Receipts> {
        self.receipts.as_mut()
    }

    /// Stanzas are not acknowledged any more.
    pub(super) fn forget(&mut self) {
        self.receipts = None;
    }

    /// The stream goes on as another one for the operator.
    pub(super) fn show(&mut self, live: Option<LiveStream>) {
        (self.live, self.pairs) = (live, Pairs::default());
    }

    /// Whether the other end has to be told when more stanzas are handled.
    pub(super) fn owes(&self) -> bool {
        self.receipts.as_ref().is_some_and(Receipts::owes)
    }

    /// Where the next token stands in the input.
    pub(super) fn offset(&self) -> usize {
        self.batch.as_ref().map_or(0, |batch| batch.end)
    }

    /// Whether nothing more may be taken from the input until [`Self::progress`] says so.
    pub(super) fn is_busy(&self) -> bool {
        self.delivery.is_some() || self.press.is_some() || self.pause.is_some()
    }

    /// Waits until more may be taken: what waits for room has found it, or was bounced, a route has
    /// written much of what it has, and no rate is exceeded; or until what is handled has to be told.
    /// Cancel-safe; for ever when it is neither busy nor owes anything.
    pub(super) async fn progress(&mut self) -> Progress {
        let (busy, owes) = (self.is_busy(), self.owes());
        let Self { pairs, delivery, press, alarm, pause, receipts, .. } = self;
        let ready = async {
            if let Some(waits) = delivery {
                waits.await;
                *delivery = None;
            }
            let route = pairs.last().and_then(Pair::route);
            if let (Some(until), Some(route)) = (*press, route) {
                let alarm = alarm.get_or_insert_with(|| Alarm::new(until));
                tokio::select! {
                    () = route.eased() => {}
                    () = alarm.at(until) => route.set_slow(),
                }
            }
            *press = None;
            if let Some(until) = *pause {
                sleep_until(until).await;
                *pause = None;
            }
        };
        let paid = async {
            match receipts {
                Some(receipts) => receipts.paid().await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = ready, if busy => Progress::Ready,
            handled = paid, if owes => Progress::Handled(handled),
            else => pending().await,
        }
    }

    /// The stream has ended: hands over what was admitted, and waits for nothing but room.
    pub(super) async fn finish(&mut self, input: &mut BytesMut) {
        loop {
            if let Some(delivery) = self.delivery.take() {
                delivery.await;
            }
            self.hand_over(input);
            if self.delivery.is_none() {
                return;
            }
        }
    }

    /// From now on nothing waits for a rate.
    pub(super) fn hurry(&mut self) {
        self.hurried = true;
        self.pause = None;
    }

    /// Takes nothing more for a while.
    pub(super) fn pause(&mut self, (time, limit): Pause, who: impl fmt::Display) {
        if self.hurried {
            return;
        }
        self.gate.limit_reached(limit, who);
        let until = Instant::now() + time;
        self.pause = Some(self.pause.map_or(until, |pause| pause.max(until)));
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
        let at = self.offset();
        let stanza = input.get(at..at + len).unwrap_or_default();
        if let Some(class) = self.guards.judge(&self.gate, grant, stanza, tag, header) {
            self.hand_over(input);
            let refused = Routable::new(grant, input.split_to(len).freeze(), 1);
            let refused = self.take(refused);
            self.count(grant, &refused);
            self.gate.refuse(self.onward, &refused, tag, class);
            return;
        }
        if let Some(batch) = &mut self.batch
            && batch.grant.is(grant)
            && relay::is_verbatim(tag, header, batch.stamp.as_deref())
        {
            batch.end += len;
            batch.stanzas += 1;
            return;
        }
        self.hand_over(input);
        let route = self.route_of(grant);
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
        self.deliver(grant, route, Routable::new(grant, bytes, 1));
    }

    /// Takes an admitted stanza that stands at [`Self::offset`] of the input, and gives it back to
    /// its sender.
    pub(super) fn give_back(
        &mut self,
        input: &mut BytesMut,
        tag: &Tag,
        len: usize,
        grant: &AuthorizedPair,
        failure: &Failure,
    ) {
        self.stanzas += 1;
        self.hand_over(input);
        let stanza = self.take(Routable::new(grant, input.split_to(len).freeze(), 1));
        self.count(grant, &stanza);
        self.gate.bounce_one(self.onward, &stanza, tag, failure);
    }

    /// The live route of a pair, or one that ended since its last batch.
    fn route_of(&mut self, grant: &AuthorizedPair) -> Result<Arc<Route>, Arc<Failure>> {
        let known = self.pairs.of(grant).route().map(Ok);
        known.unwrap_or_else(|| {
            self.gate.routes().get(&self.gate, self.onward, grant.pair(), self.lang.as_ref())
        })
    }

    /// Hands the batch to its route, and the input begins behind it.
    pub(super) fn hand_over(&mut self, input: &mut BytesMut) {
        let Some(batch) = self.batch.take() else { return };
        let bytes = input.split_to(batch.end).freeze();
        let stanzas = Routable::new(&batch.grant, bytes, batch.stanzas);
        self.deliver(&batch.grant, batch.route, stanzas);
    }

    /// With stream management, they are to be acknowledged when they are handled.
    fn take(&mut self, stanzas: Routable) -> Routable {
        match &mut self.receipts {
            Some(receipts) => receipts.issue(stanzas),
            None => stanzas,
        }
    }

    /// Stanzas are counted, and those of a remote domain count against its rates.
    fn count(&mut self, grant: &AuthorizedPair, stanzas: &Routable) {
        let (n, bytes) = (stanzas.stanzas(), stanzas.bytes().len());
        self.gate.metrics().accepted(self.onward.other(), n, bytes);
        let pair = self.pairs.of(grant);
        if let Some(live) = &self.live {
            pair.meter(live).count(n, bytes);
        }
        if self.onward == Side::Peer {
            return;
        }
        let config = self.gate.config();
        let (rates, burst) = (pair.rates(&config), config.limits.burst);
        let sender = &grant.pair().sender;
        let pause = self.gate.rates().stanzas(sender, (bytes, n), rates, burst, Instant::now());
        if let Some(pause) = pause {
            self.pause(pause, sender);
        }
    }

    fn deliver(
        &mut self,
        grant: &AuthorizedPair,
        route: Result<Arc<Route>, Arc<Failure>>,
        stanzas: Routable,
    ) {
        let stanzas = self.take(stanzas);
        self.count(grant, &stanzas);
        let all = stanzas.stanzas();
        let for_legacy = match self.onward {
            Side::Legacy => self.gate.pings().catch_answers(stanzas),
            Side::Peer => Some(stanzas),
        };
        let left = for_legacy.as_ref().map_or(0, Routable::stanzas);
        if left < all {
            // Answers to our own pings have reached whom they were for.
            self.gate.metrics().delivered(self.onward, (all - left).into());
        }
        let Some(stanzas) = for_legacy else { return };
        let before = self.delivery.take();
        let route = match (&before, route) {
            (None, Ok(route)) => match route.try_send_now(stanzas) {
                Ok(()) => {
                    if route.is_pressed() {
                        self.press = Some(Instant::now() + EASE_WAIT);
                    }
                    self.pairs.of(grant).goes_by(&route);
                    return;
                }
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
