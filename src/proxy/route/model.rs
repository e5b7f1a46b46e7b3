//! A model of routing, and random sequences of all that happens to pairs, against it: no stanza
//! enters over a pair that was not proven on its very stream, none goes on a stream that does not
//! carry its pair, none is lost or doubled, and those of a pair keep their order. Acknowledged
//! streams are in [`acked`].

mod acked;

use std::{
    cell::Cell,
    collections::{BTreeSet, VecDeque},
};

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};

use self::acked::Managed;
use super::*;
use crate::{
    auth::{
        Proof,
        ledger::{Inadmissible, Ledger},
    },
    net::wire::Wire,
    proxy::lanes::{Boarding, End, Lanes, Returned},
    xmpp::Domain,
};

/// Two senders with one target, one with two; and the way back of the first.
const PAIRS: [(&str, &str); 4] = [
    ("a.example", "l.example"),
    ("b.example", "l.example"),
    ("a.example", "m.example"),
    ("l.example", "a.example"),
];
const LEGS: usize = 2;
const STREAMS: usize = 2;
/// Bytes of a queue, and of all queues together, so that both are full now and then.
const QUEUE: usize = 2048;
const BACKLOG: usize = 6000;
/// A stanza whose number is a multiple of this is a long one.
const LONG: u32 = 5;

/// What happens, to a leg, a pair, a stream by number.
#[derive(Clone, Copy, Debug)]
enum Happening {
    /// The leg is granted the pair for a proof, which may be one of another domain.
    Granted { leg: usize, pair: usize, of_other: bool },
    /// A rule, an expiry or a distrusted certificate withdraws the pair from the leg.
    Withdrawn { leg: usize, pair: usize },
    /// The leg is closed, or its peer authenticates: it carries nothing any more.
    Reset { leg: usize },
    /// So many stanzas come in on the leg, as one batch.
    Stanzas { leg: usize, pair: usize, count: u32 },
    /// The pair's route has found the stream.
    Boards { pair: usize, stream: usize },
    /// The stream looks into its mailbox.
    Calls { stream: usize },
    /// The pair is asked for on the stream.
    Asked { pair: usize },
    /// It may be sent for; a stanza may be only so large.
    Opens { pair: usize, bounded: bool },
    /// It has to leave: idle, refused, denied, withdrawn.
    Leaves { pair: usize, why: usize },
    /// The proof of its target is looked at again.
    Doubted { stream: usize },
    /// The stream fills its output.
    Fills { stream: usize },
    /// So many bytes of it are written.
    Writes { stream: usize, bytes: usize },
    /// It comes to its end and writes all it has.
    Drains { stream: usize },
    /// It breaks.
    Breaks { stream: usize },
    /// From here on its stanzas are acknowledged; it is resumed, or its counter is about to go round.
    Manages { stream: usize, high: bool },
    /// The other end refuses that.
    Unmanages { stream: usize },
    /// The other end has handled so many more stanzas; if it lies, more than were sent.
    Acknowledges { stream: usize, more: usize, lies: bool },
    /// The connection breaks, and the stream goes on over another one with the pair, if that is on it:
    /// the other end has so many of what is not acknowledged, or does not say.
    Resumes { stream: usize, pair: usize, got: Option<usize> },
    /// The connection breaks and the other end says how much it has, but the stream does not go on.
    Closes { stream: usize, got: usize },
    /// No stream can be found for the pair: what waits goes back.
    Fails { pair: usize },
    /// Nothing waits for the pair any more.
    Ends { pair: usize },
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let (leg, pair, stream) = (0..LEGS, 0..PAIRS.len(), 0..STREAMS);
    let one = prop_oneof![
        4 => (leg.clone(), pair.clone(), prop::bool::weighted(0.2))
            .prop_map(|(leg, pair, of_other)| Happening::Granted { leg, pair, of_other }),
        1 => (leg.clone(), pair.clone()).prop_map(|(leg, pair)| Happening::Withdrawn { leg, pair }),
        1 => leg.clone().prop_map(|leg| Happening::Reset { leg }),
        16 => (leg, pair.clone(), 1..6_u32)
            .prop_map(|(leg, pair, count)| Happening::Stanzas { leg, pair, count }),
        12 => (pair.clone(), stream.clone()).prop_map(|(pair, stream)| Happening::Boards { pair, stream }),
        14 => stream.clone().prop_map(|stream| Happening::Calls { stream }),
        2 => pair.clone().prop_map(|pair| Happening::Asked { pair }),
        14 => (pair.clone(), prop::bool::weighted(0.3))
            .prop_map(|(pair, bounded)| Happening::Opens { pair, bounded }),
        2 => (pair.clone(), 0..4_usize).prop_map(|(pair, why)| Happening::Leaves { pair, why }),
        1 => stream.clone().prop_map(|stream| Happening::Doubted { stream }),
        14 => stream.clone().prop_map(|stream| Happening::Fills { stream }),
        14 => (stream.clone(), 0..600_usize)
            .prop_map(|(stream, bytes)| Happening::Writes { stream, bytes }),
        1 => stream.clone().prop_map(|stream| Happening::Drains { stream }),
        1 => stream.clone().prop_map(|stream| Happening::Breaks { stream }),
        3 => (stream.clone(), prop::bool::weighted(0.3))
            .prop_map(|(stream, high)| Happening::Manages { stream, high }),
        1 => stream.clone().prop_map(|stream| Happening::Unmanages { stream }),
        12 => (stream.clone(), 0..12_usize, prop::bool::weighted(0.01))
            .prop_map(|(stream, more, lies)| Happening::Acknowledges { stream, more, lies }),
        1 => (stream.clone(), pair.clone(), prop::option::weighted(0.8, 0..8_usize))
            .prop_map(|(stream, pair, got)| Happening::Resumes { stream, pair, got }),
        1 => (stream, 0..8_usize).prop_map(|(stream, got)| Happening::Closes { stream, got }),
        1 => pair.clone().prop_map(|pair| Happening::Fails { pair }),
        1 => pair.prop_map(|pair| Happening::Ends { pair }),
    ];
    // most of the time all pairs are proven and on their way to begin with
    let begun = (0..PAIRS.len()).flat_map(|pair| {
        let stream = pair % STREAMS;
        [
            Happening::Granted { leg: 0, pair, of_other: false },
            Happening::Boards { pair, stream },
            Happening::Calls { stream },
            Happening::Opens { pair, bounded: false },
        ]
    });
    let begun: Vec<_> = begun.collect();
    let beginning = prop_oneof![4 => Just(begun), 1 => Just(Vec::new())];
    (beginning, vec(one, 1..160)).prop_map(|(beginning, rest)| [beginning, rest].concat())
}

/// Where a pair is.
#[derive(Debug)]
enum At {
    /// Its route waits.
    Alone,
    /// In the mailbox of the stream, or on board, with its lane.
    Stream(usize, Option<LaneId>, oneshot::Receiver<Returned>),
}

/// A pair, its route, and what has to be true of them.
struct Pair {
    pair: DomainPair,
    route: Arc<Route>,
    at: At,
    /// Stanzas may be put on the wire.
    open: bool,
    /// The number of its next stanza.
    next: u32,
    /// Those that were taken and are neither written nor returned, in their order.
    owed: VecDeque<u32>,
}

struct Stream {
    lanes: Lanes,
    wire: Wire,
    /// The beginning of a stanza that was written.
    partial: String,
    /// Its stanzas are acknowledged, but for so many that were put before.
    managed: Option<Managed>,
    plain: usize,
}

struct World {
    legs: Vec<Ledger>,
    /// What each leg may carry.
    proven: BTreeSet<(usize, usize)>,
    backlog: Arc<Backlog>,
    pairs: Vec<Pair>,
    streams: Vec<Stream>,
    /// Stanzas delivered (written, or acknowledged), returned, not admitted, and those that went back
    /// because nobody knew of them.
    counts: [usize; 4],
    /// How many were delivered, as the streams say.
    told: u64,
}

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

fn text(pair: usize, number: u32) -> String {
    let body = if number.is_multiple_of(LONG) { "x".repeat(100) } else { String::new() };
    format!("<message id='{pair}.{number}' a='{body}'/>")
}

/// The pair and the number of each stanza in a text.
fn stanzas(text: &str) -> Vec<(usize, u32)> {
    let ids = text.split("id='").skip(1).map(|rest| rest.split('\'').next().unwrap());
    let ids = ids.map(|id| id.split_once('.').unwrap());
    ids.map(|(pair, number)| (pair.parse().unwrap(), number.parse().unwrap())).collect()
}

fn texts(queued: impl IntoIterator<Item = Routable>) -> Vec<(usize, u32)> {
    let mut all = Vec::new();
    for batch in queued {
        let found = stanzas(std::str::from_utf8(batch.bytes()).unwrap());
        assert_eq!(found.len(), batch.stanzas() as usize, "counted as it is");
        for (pair, _) in &found {
            let DomainPair { sender, target } = batch.pair();
            assert_eq!((sender.as_str(), target.as_str()), PAIRS[*pair]);
        }
        all.extend(found);
    }
    all
}

fn failure() -> Failure {
    Failure::new(FailureKind::Stream, "in a test")
}

impl Stream {
    fn new() -> Self {
        Self {
            lanes: Lanes::new(None),
            wire: Wire::unconnected(),
            partial: String::new(),
            managed: None,
            plain: 0,
        }
    }
}

impl World {
    fn new() -> Self {
        let backlog = Backlog::new(BACKLOG);
        let pairs = PAIRS.iter().map(|(sender, target)| {
            let pair = DomainPair::new(domain(sender), domain(target));
            let route = Self::route(&pair, &backlog);
            Pair { pair, route, at: At::Alone, open: false, next: 1, owed: VecDeque::new() }
        });
        Self {
            legs: (0..LEGS).map(|_| Ledger::default()).collect(),
            proven: BTreeSet::new(),
            pairs: pairs.collect(),
            streams: (0..STREAMS).map(|_| Stream::new()).collect(),
            counts: [0; 4],
            told: 0,
            backlog,
        }
    }

    fn route(pair: &DomainPair, backlog: &Arc<Backlog>) -> Arc<Route> {
        Arc::new(Route::new(Side::Peer, pair.clone(), None, QUEUE, Arc::clone(backlog)))
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Granted { leg, pair, of_other } => {
                let of = self.pairs[pair].pair.clone();
                let sender = if of_other { domain("z.example") } else { of.sender.clone() };
                let granted = self.legs[leg].authorize(of, Proof::dialback(sender, None));
                assert_eq!(granted.is_some(), !of_other);
                if granted.is_some() {
                    self.proven.insert((leg, pair));
                }
            }
            Happening::Withdrawn { leg, pair } => {
                let of = &self.pairs[pair].pair;
                let gone = self.legs[leg].retain(|grant| grant.pair() != of);
                assert_eq!(gone.contains(of), self.proven.remove(&(leg, pair)));
            }
            Happening::Reset { leg } => {
                self.legs[leg] = Ledger::default();
                self.proven.retain(|(of, _)| *of != leg);
            }
            Happening::Stanzas { leg, pair, count } => self.come(leg, pair, count),
            Happening::Boards { pair, stream } => self.board(pair, stream),
            Happening::Calls { stream } => self.calls(stream),
            Happening::Asked { pair } => {
                if let (At::Stream(stream, Some(id), _), false) =
                    (&self.pairs[pair].at, self.pairs[pair].open)
                {
                    self.streams[*stream].lanes.ask(*id);
                }
            }
            Happening::Opens { pair, bounded } => {
                let of = &mut self.pairs[pair];
                if let (At::Stream(stream, Some(id), _), false) = (&of.at, of.open) {
                    let lanes = &mut self.streams[*stream].lanes;
                    lanes.answered(&of.pair);
                    if bounded {
                        lanes.bound(*id, 60);
                    }
                    lanes.open(*id);
                    of.open = true;
                }
            }
            Happening::Leaves { pair, why } => {
                if let At::Stream(stream, Some(id), _) = &self.pairs[pair].at {
                    let end = match why {
                        0 => End::Done("idle"),
                        1 => End::Refused(failure()),
                        2 => End::Denied(failure()),
                        _ => End::Withdrawn(failure()),
                    };
                    self.streams[*stream].lanes.leave(*id, end);
                }
            }
            Happening::Doubted { stream } => self.streams[stream].lanes.doubt_all(),
            Happening::Fills { stream } => self.fill(stream, false),
            Happening::Writes { stream, bytes } => self.write(stream, bytes),
            Happening::Drains { stream } => {
                self.fill(stream, true);
                self.write(stream, usize::MAX);
            }
            Happening::Breaks { stream } => self.stream_breaks(stream, None),
            Happening::Manages { stream, high } => self.manages(stream, high),
            Happening::Unmanages { stream } => self.unmanages(stream),
            Happening::Acknowledges { stream, more, lies } => {
                self.acknowledges(stream, more, lies);
            }
            Happening::Resumes { stream, pair, got } => self.resumes(stream, pair, got),
            Happening::Closes { stream, got } => {
                if self.streams[stream].managed.is_some() {
                    self.stream_breaks(stream, Some(got));
                }
            }
            Happening::Fails { pair } => self.fails(pair),
            Happening::Ends { pair } => {
                let of = &mut self.pairs[pair];
                if matches!(of.at, At::Alone) {
                    let is_empty = of.route.close_if_empty(&Arc::new(failure()));
                    assert_eq!(is_empty, of.owed.is_empty());
                    if is_empty {
                        of.route = Self::route(&of.pair, &self.backlog);
                    }
                }
            }
        }
        self.look();
    }

    /// Stanzas come in on a leg: they enter if, and only if, the pair was proven on it.
    fn come(&mut self, leg: usize, pair: usize, count: u32) {
        let (sender, target) = PAIRS[pair];
        let (from, to) = (format!("u@{sender}/r"), format!("v@{target}"));
        let admitted = self.legs[leg].admit(&from, &to).cloned();
        assert_eq!(admitted.is_ok(), self.proven.contains(&(leg, pair)), "{admitted:?}");
        let grant = match admitted {
            Ok(grant) => grant,
            Err(why) => {
                let of_leg = |(of, other): &(usize, usize)| {
                    (*of == leg).then(|| self.pairs[*other].pair.sender.as_str())
                };
                let senders: BTreeSet<_> = self.proven.iter().filter_map(of_leg).collect();
                let expected = if senders.is_empty() {
                    Inadmissible::Unauthenticated
                } else if senders.contains(sender) {
                    Inadmissible::Pair
                } else {
                    Inadmissible::Sender
                };
                assert_eq!(why, expected);
                self.counts[2] += 1;
                return;
            }
        };
        let of = &mut self.pairs[pair];
        assert_eq!(*grant.pair(), of.pair);
        let numbers = of.next..of.next + count;
        of.next = numbers.end;
        let bytes: String = numbers.clone().map(|number| text(pair, number)).collect();
        let batch = Routable::new(&grant, bytes.into_bytes().into(), count);
        match of.route.try_send(batch) {
            Ok(()) => of.owed.extend(numbers),
            Err(NotTaken::Full(batch, _)) => {
                assert_eq!(texts([batch]), numbers.map(|n| (pair, n)).collect::<Vec<_>>());
                self.counts[1] += count as usize;
            }
            Err(NotTaken::Ended(_)) => panic!("a route that ended is replaced"),
        }
    }

    fn board(&mut self, pair: usize, stream: usize) {
        let of = &mut self.pairs[pair];
        if !matches!(of.at, At::Alone) {
            return;
        }
        let (back, returned) = oneshot::channel();
        let route = Arc::clone(&of.route);
        let boarding = Box::new(Boarding { route, proof: None, chain: None, trust: 0, back });
        self.streams[stream].lanes.handle().put(Call::Board(boarding)).unwrap();
        of.at = At::Stream(stream, None, returned);
    }

    fn calls(&mut self, stream: usize) {
        while let Some(call) = self.streams[stream].lanes.next_call() {
            match call {
                Call::Stanzas(id, queued) => self.streams[stream].lanes.push(id, queued),
                Call::Board(boarding) => {
                    let of = boarding.route.pair().clone();
                    let id = self.streams[stream].lanes.board(*boarding);
                    let of = self.pairs.iter_mut().find(|pair| pair.pair == of).unwrap();
                    match &mut of.at {
                        At::Stream(_, lane @ None, _) => *lane = Some(id),
                        at => panic!("{at:?}"),
                    }
                }
            }
        }
    }

    /// What is too large goes back; all else is of pairs that are open there.
    fn fill(&mut self, stream: usize, up: bool) {
        let Stream { lanes, wire, managed, .. } = &mut self.streams[stream];
        let before = wire.output().len();
        let large = if up { lanes.fill_up(wire) } else { lanes.fill(wire) };
        let put = stanzas(std::str::from_utf8(&wire.output()[before..]).unwrap());
        for (pair, _) in &put {
            let of = &self.pairs[*pair];
            let here = matches!(of.at, At::Stream(at, Some(_), _) if at == stream);
            assert!(here && of.open, "{} is not carried there", of.pair);
        }
        if let Some(managed) = managed {
            managed.put.extend(put);
        }
        self.goes_back(texts(large));
    }

    fn write(&mut self, stream: usize, bytes: usize) {
        let Stream { lanes, wire, partial, managed, plain } = &mut self.streams[stream];
        let bytes = bytes.min(wire.output().len());
        partial.push_str(std::str::from_utf8(&wire.output()[..bytes]).unwrap());
        wire.take(bytes);
        lanes.settle(wire.written_total());
        let whole = partial.rfind('>').map_or(0, |at| at + 1);
        let mut written = stanzas(&partial[..whole]);
        partial.drain(..whole);
        if let Some(managed) = managed {
            managed.written += written.split_off(written.len().min(*plain)).len();
            *plain -= written.len();
        }
        self.delivered(written);
    }

    /// They reached the other end, each the first of its pair that is owed.
    fn delivered(&mut self, these: impl IntoIterator<Item = (usize, u32)>) {
        for (pair, number) in these {
            assert_eq!(self.pairs[pair].owed.pop_front(), Some(number), "of pair {pair}");
            self.counts[0] += 1;
        }
    }

    /// They go back to their senders.
    fn goes_back(&mut self, these: Vec<(usize, u32)>) {
        for (pair, number) in these {
            let owed = &mut self.pairs[pair].owed;
            let at = owed.iter().position(|owed| *owed == number).expect("it was owed");
            owed.remove(at);
            self.counts[1] += 1;
        }
    }

    /// The connection breaks, and the stream with it; the other end says that it has so many of what
    /// is not acknowledged, or nothing.
    fn stream_breaks(&mut self, stream: usize, got: Option<usize>) {
        let Stream { mut lanes, mut wire, partial, mut managed, .. } =
            std::mem::replace(&mut self.streams[stream], Stream::new());
        let whole = lanes.interrupt(&mut wire);
        let left = String::from_utf8(wire.output()).unwrap();
        let (got, unknown) = match &mut managed {
            Some(managed) => {
                // nothing but what is acknowledged already, and a question, is still written
                let end = format!("{partial}{left}");
                assert!(!whole || end.is_empty() || end.ends_with('>'), "{end}");
                let again = |(pair, number): &(usize, u32)| self.pairs[*pair].owed.contains(number);
                assert!(!stanzas(&left).iter().any(again), "{left}");
                managed.interrupted(got)
            }
            None => {
                assert_eq!(whole, partial.is_empty(), "{partial}");
                assert_eq!(left, "", "nothing but stanzas was on it");
                (None, Vec::new())
            }
        };
        let h = managed.as_ref().zip(got.as_ref()).map(|(managed, got)| managed.h(got.len()));
        let ended = lanes.finish(&End::Broken(failure()), h);
        self.told += ended.delivered;
        assert_eq!(ended.too_high, None);
        self.delivered(got.unwrap_or_default());
        let uncertain = texts(ended.uncertain);
        assert_eq!(uncertain, if h.is_none() { unknown } else { Vec::new() });
        self.counts[3] += uncertain.len();
        self.goes_back(uncertain);
        self.look();
        let alone = |of: &Pair| !matches!(of.at, At::Stream(at, ..) if at == stream);
        assert!(self.pairs.iter().all(alone), "all of them are told");
    }

    fn fails(&mut self, pair: usize) {
        let of = &mut self.pairs[pair];
        if !matches!(of.at, At::Alone) {
            return;
        }
        let back = texts(of.route.close(&Arc::new(failure())).into_iter().map(|q| q.stanzas));
        assert!(back.iter().all(|(number, _)| *number == pair));
        assert!(back.iter().map(|(_, number)| number).eq(&of.owed), "{back:?}, {:?}", of.owed);
        self.counts[1] += back.len();
        of.owed.clear();
        of.route = Self::route(&of.pair, &self.backlog);
    }

    /// Pairs that left a stream wait; queues hold what is owed, and nothing when that is nothing.
    fn look(&mut self) {
        for of in &mut self.pairs {
            if let At::Stream(_, _, returned) = &mut of.at
                && returned.try_recv().is_ok()
            {
                (of.at, of.open) = (At::Alone, false);
            }
            let (waiting, _) = of.route.waiting();
            let owed = of.owed.len() as u64;
            assert!(waiting >= owed, "{waiting} wait and {owed} are owed");
            assert!(owed > 0 || waiting == 0, "{waiting} wait");
        }
        for (leg, ledger) in self.legs.iter().enumerate() {
            let grants: BTreeSet<_> = ledger.iter().map(|grant| grant.pair()).collect();
            let proven = self.proven.iter().filter(|(of, _)| *of == leg);
            let proven: BTreeSet<_> = proven.map(|(_, pair)| &self.pairs[*pair].pair).collect();
            assert_eq!(grants, proven);
        }
    }

    /// All streams break and no route finds another: what is owed goes back.
    fn end(&mut self) {
        for stream in 0..STREAMS {
            self.told += self.streams[stream].lanes.take_delivered();
            self.stream_breaks(stream, None);
        }
        (0..PAIRS.len()).for_each(|pair| self.fails(pair));
        self.look();
        assert_eq!(self.told, self.counts[0] as u64, "each counted once");
    }
}

#[test]
fn no_sequence_of_events_routes_what_was_not_proven_or_loses_doubles_or_reorders_stanzas() {
    let counts = Cell::new([0; 4]);
    let config = Config { cases: 1000, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&happenings(), |all| {
        let mut world = World::new();
        for one in all {
            world.happen(one);
        }
        world.end();
        let (before, these) = (counts.get(), world.counts);
        counts.set([0, 1, 2, 3].map(|n| before[n] + these[n]));
        Ok(())
    });
    result.unwrap();
    // it is no model of a gate where nothing ever goes anywhere
    let counts = counts.get();
    let least = [2000, 2000, 2000, 150];
    assert!(counts.iter().zip(least).all(|(count, least)| *count > least), "{counts:?}");
}
