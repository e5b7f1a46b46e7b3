//! Turns, order, and what comes back when a stream breaks anywhere.

use std::thread;

use bytes::Bytes;
use tokio::sync::oneshot::error::TryRecvError;

use super::*;
use crate::{
    auth::ledger::{Ledger, Routable},
    proxy::{backlog::Backlog, route::NotTaken},
    stream::FailureKind,
    xmpp::{Domain, Side},
};

const QUEUE: usize = 1 << 20;

/// A pair with its route and what it sends.
struct Pair {
    name: char,
    route: Arc<Route>,
    grant: crate::auth::ledger::AuthorizedPair,
}

impl Pair {
    fn new(name: char) -> Self {
        let sender = Domain::parse(&format!("{name}.example")).unwrap();
        let pair = DomainPair::new(sender.clone(), Domain::parse("l.example").unwrap());
        let proof = Proof::dialback(sender, None);
        let grant = Ledger::default().authorize(pair.clone(), proof).unwrap();
        Self {
            name,
            route: Arc::new(Route::new(Side::Peer, pair, None, QUEUE, Backlog::new(QUEUE))),
            grant,
        }
    }

    fn text(&self, number: usize) -> String {
        format!("<message id='{}{number}'/>", self.name)
    }

    /// Stanzas with these numbers, as one batch.
    fn batch(&self, numbers: std::ops::Range<usize>) -> Routable {
        let count = u32::try_from(numbers.len()).unwrap();
        let text: String = numbers.map(|number| self.text(number)).collect();
        Routable::new(&self.grant, text.into_bytes().into(), count)
    }

    fn send(&self, numbers: std::ops::Range<usize>) {
        self.route.try_send(self.batch(numbers)).unwrap();
    }

    fn boarding(&self) -> (Box<Boarding>, oneshot::Receiver<Returned>) {
        let (back, returned) = oneshot::channel();
        (
            Box::new(Boarding {
                route: Arc::clone(&self.route),
                proof: None,
                chain: None,
                trust: 0,
                back,
            }),
            returned,
        )
    }

    /// Its lane, open.
    fn open(&self, lanes: &mut Lanes) -> (LaneId, oneshot::Receiver<Returned>) {
        let (boarding, returned) = self.boarding();
        let id = lanes.board(*boarding);
        lanes.open(id);
        (id, returned)
    }

    /// What waits in its route, which a stream takes.
    fn waiting(&self) -> String {
        let gone = Lanes::new(None).handle().clone();
        let waiting = self.route.board(LaneId(u64::MAX), gone);
        let text = |queued: &Queued| String::from_utf8(queued.stanzas.bytes().to_vec()).unwrap();
        let stanzas: u32 = waiting.iter().map(|queued| queued.stanzas.stanzas()).sum();
        let found: String = waiting.iter().map(|queued| text(queued)).collect();
        assert_eq!(found.matches("<message").count(), stanzas as usize, "{found}");
        found
    }

    fn texts(&self, numbers: std::ops::Range<usize>) -> String {
        numbers.map(|number| self.text(number)).collect()
    }
}

fn broken() -> End {
    End::Broken(Failure::new(FailureKind::Stream, "broken in a test"))
}

/// The stream breaks; whether its output did not end inside a stanza.
fn over(lanes: Lanes, wire: &mut Wire) -> bool {
    let (whole, ended) = lanes.end(wire, &broken());
    assert!(ended.uncertain.is_empty(), "what is written is delivered");
    whole
}

/// Takes everything out of the mailbox, as the task of a stream does.
fn calls(lanes: &mut Lanes) {
    while let Some(call) = lanes.next_call() {
        match call {
            Call::Stanzas(id, queued) => lanes.push(id, queued),
            Call::Board(_) => panic!("nobody boards"),
        }
    }
}

fn output(wire: &Wire) -> String {
    String::from_utf8(wire.output().to_vec()).unwrap()
}

/// The ids of the stanzas in a text, in order.
fn ids(text: &str) -> Vec<&str> {
    text.split("id='").skip(1).map(|rest| rest.split('\'').next().unwrap()).collect()
}

#[test]
fn what_may_wait_for_long_does_not_keep_the_buffer_that_it_came_in() {
    let a = Pair::new('a');
    let keeps = |len: usize| {
        let buffer = Bytes::from(vec![b' '; 64 << 10]);
        a.route.try_send(Routable::new(&a.grant, buffer.slice(..len), 1)).unwrap();
        !buffer.is_unique()
    };
    assert!(!keeps(100), "no stream carries it");
    assert!(keeps(60 << 10), "nearly all of it is needed");
    let mut lanes = Lanes::new(None);
    let _returned = a.open(&mut lanes);
    assert!(keeps(100), "it is written at once");
    a.route.set_slow();
    assert!(!keeps(100), "nothing is written");
}

#[test]
fn a_busy_pair_does_not_hold_up_the_others() {
    let [a, b, c] = ['a', 'b', 'c'].map(Pair::new);
    let (mut lanes, mut wire) = (Lanes::new(None), Wire::unconnected());
    for number in 0..1000 {
        a.send(number..number + 1);
    }
    b.send(0..1);
    let _returned = [&a, &b, &c].map(|pair| pair.open(&mut lanes));
    for number in 0..3 {
        c.send(number..number + 1);
    }
    b.send(1..2);
    calls(&mut lanes);
    assert!(lanes.fill(&mut wire).is_empty());
    let text = output(&wire);
    let found = ids(&text);
    assert_eq!(found[..9], ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "c2", "a3"]);
    assert_eq!(found.len(), 1005, "all of it has room");
}

#[tokio::test]
async fn who_sends_now_has_the_stream_run_at_once() {
    let (a, task) = (Pair::new('a'), SharedTask::new());
    let mut lanes = Lanes::new(None).carried_by(&task);
    let _returned = a.open(&mut lanes);
    let (seen, mut sees) = tokio::sync::mpsc::unbounded_channel();
    let carry = async move {
        while let Some(Call::Stanzas(_, queued)) = lanes.call().await {
            seen.send(queued.stanzas.stanzas()).unwrap();
        }
    };
    let host = tokio::spawn(task.host(Box::pin(carry)));
    a.send(0..2);
    assert!(sees.try_recv().is_err(), "the runtime will run it");
    a.route.try_send_now(a.batch(2..5)).unwrap();
    assert_eq!((sees.try_recv(), sees.try_recv()), (Ok(2), Ok(3)));
    a.send(5..6);
    assert_eq!(sees.recv().await, Some(1));
    host.abort();
}

#[test]
fn the_wire_is_filled_as_far_as_there_is_room() {
    let [a, b] = ['a', 'b'].map(Pair::new);
    let (mut lanes, mut wire) = (Lanes::new(None), Wire::unconnected());
    for number in 0..100 {
        a.send(100 * number..100 * number + 100);
    }
    let _returned = [&a, &b].map(|pair| pair.open(&mut lanes));
    assert!(lanes.fill(&mut wire).is_empty());
    let before = output(&wire);
    assert!(!wire.has_room());
    let put = ids(&before).len();
    assert!(put < 10_000, "{put}");
    // who comes later is next, although much of the other waits
    b.send(0..1);
    calls(&mut lanes);
    wire.take(before.len());
    lanes.settle(wire.written_total());
    assert!(lanes.fill(&mut wire).is_empty());
    let after = output(&wire);
    let found = ids(&after);
    let first = format!("a{put}");
    assert_eq!((found[0], found[100]), (first.as_str(), "b0"));
    // the end of the stream takes all
    assert!(lanes.fill_up(&mut wire).is_empty());
    let all = before + &output(&wire);
    let of_a: Vec<_> = ids(&all).into_iter().filter(|id| id.starts_with('a')).collect();
    assert!(of_a.iter().enumerate().all(|(n, id)| *id == format!("a{n}")));
    assert_eq!(of_a.len(), 10_000);
}

#[test]
fn what_is_cut_at_any_byte_comes_back_exactly() {
    let answer = "<db:result type='valid'/>";
    let mut cut = 0;
    loop {
        let [a, b] = ['a', 'b'].map(Pair::new);
        let (mut lanes, mut wire) = (Lanes::new(None), Wire::unconnected());
        a.send(0..2);
        let (_, mut of_a) = a.open(&mut lanes);
        let (_, mut of_b) = b.open(&mut lanes);
        assert!(lanes.fill(&mut wire).is_empty());
        wire.put(answer.as_bytes());
        b.send(0..3);
        a.send(2..3);
        calls(&mut lanes);
        assert!(lanes.fill(&mut wire).is_empty());
        wire.put(answer.as_bytes());
        // these are not on the wire: one is in the lane, one in the mailbox
        a.send(3..4);
        calls(&mut lanes);
        b.send(3..4);
        let all = output(&wire);
        let expected = [&a.texts(0..2), answer, &b.texts(0..3), &a.texts(2..3), answer].concat();
        assert_eq!(all, expected);
        if cut > all.len() {
            assert!(cut > 100);
            return;
        }
        wire.take(cut);
        let whole = over(lanes, &mut wire);
        a.send(4..5);
        let gone = |pair: &Pair| {
            let done = |n: &usize| all.find(&pair.text(*n)).unwrap() + pair.text(*n).len() <= cut;
            (0..3).filter(|n| all.contains(&pair.text(*n))).take_while(done).count()
        };
        let (gone_a, gone_b) = (gone(&a), gone(&b));
        assert_eq!(a.waiting(), a.texts(gone_a..5), "at {cut}");
        assert_eq!(b.waiting(), b.texts(gone_b..4), "at {cut}");
        for (returned, gone) in [(&mut of_a, gone_a), (&mut of_b, gone_b)] {
            let Returned { end, progress } = returned.try_recv().unwrap();
            assert!(matches!(end, End::Broken(_)));
            assert_eq!(progress, gone > 0, "at {cut}");
        }
        let inside = all[..cut]
            .rfind('<')
            .is_some_and(|open| !all[open..cut].contains('>') && !all[open..].starts_with("<db"));
        assert!(!(whole && inside), "at {cut}, inside a stanza");
        if gone_a == 3 {
            assert!(whole && output(&wire) == all[cut..], "answers that wait are still written");
        } else {
            assert_eq!(output(&wire), "", "at {cut}");
            let next = all[cut..].starts_with("<message");
            assert_eq!(whole, next, "at {cut}");
        }
        cut += 1;
    }
}

#[test]
fn a_lane_that_leaves_comes_back_when_its_bytes_are_written() {
    let [a, b] = ['a', 'b'].map(Pair::new);
    let (mut lanes, mut wire) = (Lanes::new(None), Wire::unconnected());
    a.send(0..2);
    let (id, mut of_a) = a.open(&mut lanes);
    let (_, mut of_b) = b.open(&mut lanes);
    assert!(lanes.fill(&mut wire).is_empty());
    a.send(2..3);
    calls(&mut lanes);
    a.send(3..4);
    b.send(0..1);
    lanes.leave(id, End::Done("left in a test"));
    a.send(4..5);
    assert_eq!(of_a.try_recv().unwrap_err(), TryRecvError::Empty, "bytes are on their way");
    assert!(!lanes.is_leaving() && !lanes.is_idle(id));
    assert!(lanes.fill(&mut wire).is_empty());
    assert_eq!(output(&wire), a.texts(0..2) + &b.texts(0..1));
    wire.take(a.texts(0..2).len() - 1);
    lanes.settle(wire.written_total());
    assert_eq!(of_a.try_recv().unwrap_err(), TryRecvError::Empty, "one byte is left");
    wire.take(1);
    lanes.settle(wire.written_total());
    let Returned { end, progress } = of_a.try_recv().unwrap();
    assert!(matches!(end, End::Done("left in a test")) && progress);
    assert_eq!(a.waiting(), a.texts(2..5));
    assert_eq!(of_b.try_recv().unwrap_err(), TryRecvError::Empty);
    assert!(lanes.get(id).is_none() && lanes.len() == 1);
}

#[test]
fn a_lane_that_leaves_while_the_stream_breaks_gets_all_back_in_order() {
    let a = Pair::new('a');
    let (mut lanes, mut wire) = (Lanes::new(None), Wire::unconnected());
    a.send(0..3);
    let (id, mut of_a) = a.open(&mut lanes);
    assert!(lanes.fill(&mut wire).is_empty());
    a.send(3..4);
    lanes.leave(id, End::Done("left in a test"));
    a.send(4..5);
    assert!(lanes.is_leaving());
    wire.take(a.texts(0..1).len() + 4);
    assert!(!over(lanes, &mut wire), "inside a stanza");
    let Returned { end, progress } = of_a.try_recv().unwrap();
    assert!(matches!(end, End::Done("left in a test")) && progress, "its own reason: {end:?}");
    assert_eq!(a.waiting(), a.texts(1..5));
}

#[test]
fn who_boards_while_another_leaves_is_not_overlooked() {
    let [a, b, c] = ['a', 'b', 'c'].map(Pair::new);
    let (mut lanes, mut wire) = (Lanes::new(None), Wire::unconnected());
    let (id, mut of_a) = a.open(&mut lanes);
    let [(b_boards, mut of_b), (c_boards, mut of_c)] = [b.boarding(), c.boarding()];
    b.send(0..1);
    lanes.handle().put(Call::Board(b_boards)).unwrap();
    a.send(0..1);
    lanes.handle().put(Call::Board(c_boards)).unwrap();
    lanes.leave(id, End::Done("left in a test"));
    assert!(matches!(of_a.try_recv().unwrap().end, End::Done(_)));
    assert_eq!(a.waiting(), a.texts(0..1));
    let Some(Call::Board(boarding)) = lanes.next_call() else { panic!("no call") };
    assert_eq!(boarding.route.pair(), b.route.pair());
    let id = lanes.board(*boarding);
    lanes.ask(id);
    assert_eq!((lanes.outstanding(), lanes.answered(b.route.pair())), (1, Some(id)));
    assert_eq!(lanes.answered(b.route.pair()), None, "once");
    lanes.open(id);
    assert!(lanes.fill(&mut wire).is_empty());
    assert_eq!(output(&wire), b.texts(0..1));
    wire.take(wire.output().len());
    assert!(over(lanes, &mut wire));
    assert!(matches!(of_b.try_recv().unwrap().end, End::Broken(_)));
    // the other never got aboard
    let Returned { end, progress } = of_c.try_recv().unwrap();
    assert!(matches!(end, End::Missed) && !progress, "{end:?}");
}

#[test]
fn pairs_that_were_not_yet_taken_come_back_with_the_reason() {
    let [a, b] = ['a', 'b'].map(Pair::new);
    let (mut lanes, mut wire) = (Lanes::new(None), Wire::unconnected());
    let [(waits, mut of_a), (asked, mut of_b)] = [a.boarding(), b.boarding()];
    lanes.board(*waits);
    let id = lanes.board(*asked);
    lanes.ask(id);
    a.send(0..1);
    b.send(0..1);
    assert!(over(lanes, &mut wire));
    assert!(matches!(of_a.try_recv().unwrap().end, End::Missed), "it was never asked for");
    assert!(matches!(of_b.try_recv().unwrap().end, End::Broken(_)));
    assert_eq!((a.waiting(), b.waiting()), (a.texts(0..1), b.texts(0..1)));
}

#[test]
fn a_request_that_left_is_not_answered_any_more() {
    let a = Pair::new('a');
    let mut lanes = Lanes::new(None);
    let (boarding, mut of_a) = a.boarding();
    let id = lanes.board(*boarding);
    lanes.ask(id);
    lanes.leave(id, End::Missed);
    assert!(matches!(of_a.try_recv().unwrap().end, End::Missed));
    assert_eq!((lanes.outstanding(), lanes.answered(a.route.pair())), (0, None));
}

#[test]
fn nothing_is_lost_or_doubled_that_comes_while_lanes_come_and_go() {
    const COUNT: usize = 30_000;
    let a = Arc::new(Pair::new('a'));
    let sender = thread::spawn({
        let a = Arc::clone(&a);
        move || {
            for number in 0..COUNT {
                let mut stanza = a.batch(number..number + 1);
                while let Err(not_taken) = a.route.try_send(stanza) {
                    assert!(matches!(not_taken, NotTaken::Full(..)), "the queue is full");
                    stanza = not_taken.into_stanzas();
                    thread::yield_now();
                }
            }
        }
    });
    let (mut lanes, mut wire) = (Lanes::new(None), Wire::unconnected());
    let mut received = String::new();
    loop {
        let is_last = sender.is_finished();
        let (id, mut returned) = a.open(&mut lanes);
        calls(&mut lanes);
        assert!(lanes.fill(&mut wire).is_empty());
        let came = output(&wire);
        received += &came;
        wire.take(wire.output().len());
        lanes.settle(wire.written_total());
        lanes.leave(id, End::Missed);
        assert!(returned.try_recv().is_ok());
        if is_last && received.ends_with(&a.text(COUNT - 1)) {
            break;
        }
        assert!(!is_last || !came.is_empty(), "only {} came", ids(&received).len());
    }
    sender.join().unwrap();
    assert!(ids(&received).iter().enumerate().all(|(n, id)| *id == format!("a{n}")));
    assert_eq!(a.waiting(), "");
}

mod managed;

#[tokio::test]
async fn who_sends_in_bulk_waits_until_it_is_written_but_not_for_long() {
    let [a, b] = ['a', 'b'].map(Pair::new);
    let (mut lanes, mut wire) = (Lanes::new(None), Wire::unconnected());
    a.send(0..10_000);
    assert!(!a.route.is_pressed(), "no stream carries it");
    let _returned = [&a, &b].map(|pair| pair.open(&mut lanes));
    assert!(a.route.is_pressed() && !b.route.is_pressed());
    let eased = tokio::spawn({
        let route = Arc::clone(&a.route);
        async move { route.eased().await }
    });
    tokio::task::yield_now().await;
    assert!(lanes.fill(&mut wire).is_empty());
    tokio::task::yield_now().await;
    assert!(!eased.is_finished(), "what is put is not written");
    wire.take(output(&wire).len());
    lanes.settle(wire.written_total());
    eased.await.unwrap();
    assert!(!a.route.is_pressed());

    a.send(0..10_000);
    assert!(a.route.is_pressed());
    a.route.set_slow();
    a.send(0..10_000);
    assert!(!a.route.is_pressed(), "the queue has room, and others may wait for the same sender");
    calls(&mut lanes);
    assert!(lanes.fill_up(&mut wire).is_empty());
    wire.take(output(&wire).len());
    lanes.settle(wire.written_total());
    a.send(0..10_000);
    assert!(a.route.is_pressed(), "it takes something again");
}

#[tokio::test(start_paused = true)]
async fn room_that_was_waited_for_in_vain_is_not_waited_for_again() {
    let a = Pair::new('a');
    let (mut lanes, mut wire) = (Lanes::new(None), Wire::unconnected());
    let _returned = a.open(&mut lanes);
    let mut sent = 0;
    while a.route.try_send(a.batch(sent..sent + 1000)).is_ok() {
        sent += 1000;
    }
    // who reads for this pair reads for others, too
    let waits = async || {
        let start = tokio::time::Instant::now();
        let outcome = a.route.send(a.batch(0..1000)).await;
        assert!(matches!(outcome, Err(NotTaken::Full(..))), "{outcome:?}");
        !start.elapsed().is_zero()
    };
    assert!(waits().await);
    assert!(!waits().await);
    let mut write = |lanes: &mut Lanes, least: u64| {
        while a.route.waiting().1 > least {
            calls(lanes);
            assert!(lanes.fill(&mut wire).is_empty());
            wire.take(output(&wire).len().min(1000));
            lanes.settle(wire.written_total());
        }
    };
    let fills = || while a.route.try_send(a.batch(0..1000)).is_ok() {};
    write(&mut lanes, QUEUE as u64 * 3 / 4);
    fills();
    assert!(!waits().await, "a peer that takes little by little is no better");
    write(&mut lanes, QUEUE as u64 / 4);
    fills();
    assert!(waits().await);
}
