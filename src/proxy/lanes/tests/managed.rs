//! The same with stream management: what is acknowledged, what is uncertain, and what was never sent.

use std::time::Duration;

use super::*;
use crate::stream::{Sent, TooHigh};

const PLENTY: usize = 1 << 20;
const R: &str = "<r xmlns='urn:xmpp:sm:3'/>";

fn managed(most: usize) -> (Lanes, Wire) {
    let mut lanes = Lanes::new(None);
    lanes.manage(Sent::default(), most);
    (lanes, Wire::unconnected())
}

/// Everything that is put is written.
fn write(lanes: &mut Lanes, wire: &mut Wire) -> String {
    let text = output(wire);
    wire.take(text.len());
    lanes.settle(wire.written_total());
    text
}

#[tokio::test(start_paused = true)]
async fn what_is_written_is_delivered_when_it_is_acknowledged() {
    let a = Pair::new('a');
    let (mut lanes, mut wire) = managed(PLENTY);
    a.send(0..3);
    let (id, mut returned) = a.open(&mut lanes);
    assert!(lanes.fill(&mut wire).is_empty());
    assert_eq!(write(&mut lanes, &mut wire), a.texts(0..3), "others may come to be asked about");
    assert_eq!((lanes.take_delivered(), lanes.is_idle(id)), (0, false));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(lanes.fill(&mut wire).is_empty());
    assert_eq!(write(&mut lanes, &mut wire), R);
    lanes.acknowledge(2).unwrap();
    assert!(!lanes.is_idle(id), "a part is none of it");
    lanes.leave(id, End::Done("left in a test"));
    assert_eq!(returned.try_recv().unwrap_err(), TryRecvError::Empty);
    lanes.acknowledge(3).unwrap();
    assert_eq!((lanes.take_delivered(), lanes.len()), (3, 0));
    assert!(returned.try_recv().unwrap().progress);
    assert_eq!(lanes.acknowledge(4), Err(TooHigh { h: 4, sent: 3 }));
}

#[tokio::test(start_paused = true)]
async fn no_more_is_put_than_may_be_unacknowledged() {
    let a = Pair::new('a');
    let (mut lanes, mut wire) = managed(a.texts(0..10).len());
    let (_, _returned) = a.open(&mut lanes);
    for number in 0..100 {
        a.send(number..number + 1);
    }
    calls(&mut lanes);
    assert!(lanes.fill(&mut wire).is_empty());
    // the question goes out at once
    assert_eq!(write(&mut lanes, &mut wire), a.texts(0..10) + R);
    assert!(lanes.fill(&mut wire).is_empty());
    assert_eq!(output(&wire), "");
    lanes.acknowledge(1).unwrap();
    assert!(lanes.fill(&mut wire).is_empty());
    assert_eq!(write(&mut lanes, &mut wire), a.text(10) + R);
    // the end takes all
    assert!(lanes.fill_up(&mut wire).is_empty());
    assert_eq!(output(&wire), a.texts(11..100));
}

#[test]
fn who_sends_in_bulk_does_not_wait_for_acknowledgements() {
    let a = Pair::new('a');
    let (mut lanes, mut wire) = managed(PLENTY);
    let (_, _returned) = a.open(&mut lanes);
    a.send(0..10_000);
    assert!(a.route.is_pressed());
    calls(&mut lanes);
    assert!(lanes.fill(&mut wire).is_empty());
    assert!(!a.route.is_pressed());
    assert_ne!(a.route.waiting(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_answers_nothing_or_handles_nothing_is_dead() {
    let a = Pair::new('a');
    let patience = Duration::from_secs(60);
    let (mut lanes, mut wire) = managed(PLENTY);
    let (_, _returned) = a.open(&mut lanes);
    assert_eq!(lanes.ack_deadline(patience), None, "there is nothing to ask about");
    a.send(0..2);
    calls(&mut lanes);
    assert!(lanes.fill(&mut wire).is_empty());
    let ask = lanes.ack_deadline(patience).unwrap();
    tokio::time::advance(ask - Instant::now()).await;
    assert!(lanes.fill(&mut wire).is_empty());
    // the time of an answer begins when the question is written
    tokio::time::advance(patience).await;
    assert!(!lanes.is_unanswered(patience));
    write(&mut lanes, &mut wire);
    tokio::time::advance(patience - Duration::from_millis(1)).await;
    assert!(!lanes.is_unanswered(patience));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(lanes.is_unanswered(patience));
    // it answers after all, and is asked again and again what it has not handled
    for n in 0..10 {
        lanes.acknowledge(1).unwrap();
        if lanes.is_unanswered(patience) {
            assert!(n > 3, "{n}");
            return;
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(lanes.fill(&mut wire).is_empty());
        assert_eq!(write(&mut lanes, &mut wire), R, "{n}");
        tokio::time::advance(patience - Duration::from_secs(1)).await;
    }
    panic!("it may handle nothing for ever");
}

#[tokio::test(start_paused = true)]
async fn the_time_in_which_nobody_listens_is_not_held_against_who_should_answer() {
    let a = Pair::new('a');
    let patience = Duration::from_secs(60);
    let (mut lanes, mut wire) = managed(PLENTY);
    let (_, _returned) = a.open(&mut lanes);
    a.send(0..2);
    calls(&mut lanes);
    assert!(lanes.fill(&mut wire).is_empty());
    tokio::time::advance(patience).await;
    assert!(lanes.fill(&mut wire).is_empty());
    write(&mut lanes, &mut wire);
    for listened in [20, 20, 19] {
        tokio::time::advance(Duration::from_secs(listened)).await;
        lanes.listens(false);
        tokio::time::advance(10 * patience).await;
        lanes.listens(false);
        assert_eq!((lanes.ack_deadline(patience), lanes.is_unanswered(patience)), (None, false));
        lanes.listens(true);
        lanes.listens(true);
    }
    assert!(!lanes.is_unanswered(patience));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(lanes.is_unanswered(patience));
}

#[test]
fn a_break_at_every_byte_leaves_each_stanza_in_one_place() {
    let texts = [Pair::new('a').texts(0..5), Pair::new('b').texts(0..3)].concat();
    for cut in 0..=texts.len() {
        for h in 0..=8u32 {
            let [a, b] = ['a', 'b'].map(Pair::new);
            let (mut lanes, mut wire) = managed(PLENTY);
            a.send(0..2);
            a.send(2..5);
            b.send(0..3);
            let [(_, mut of_a), (_, mut of_b)] = [&a, &b].map(|pair| pair.open(&mut lanes));
            assert!(lanes.fill(&mut wire).is_empty());
            let all = output(&wire);
            let order: Vec<_> = ids(&all).into_iter().map(str::to_owned).collect();
            assert_eq!(order, ["a0", "a1", "b0", "b1", "b2", "a2", "a3", "a4"]);
            wire.take(cut);
            let written = all[..cut].matches("/>").count();
            if h as usize > written {
                continue;
            }
            lanes.acknowledge(h).unwrap();
            let whole = lanes.interrupt(&mut wire);
            assert_eq!(whole, cut == 0 || all[..cut].ends_with("/>"), "at {cut}");
            // what comes meanwhile stands behind all
            a.send(5..6);
            // a second look changes nothing
            lanes.interrupt(&mut wire);
            let ended = lanes.finish(&broken(), None);
            assert_eq!((ended.delivered, ended.too_high), (h.into(), None), "{h} at {cut}");
            let uncertain: String = ended
                .uncertain
                .iter()
                .map(|stanzas| std::str::from_utf8(stanzas.bytes()).unwrap())
                .collect();
            assert_eq!(ids(&uncertain), order[h as usize..written], "{h} at {cut}");
            let left = |name| {
                let left = order[written..].iter().filter(move |id| id.starts_with(name));
                left.map(|id| format!("<message id='{id}'/>")).collect::<String>()
            };
            assert_eq!(a.waiting(), left('a') + &a.text(5), "{h} at {cut}");
            assert_eq!(b.waiting(), left('b'), "{h} at {cut}");
            assert!(of_a.try_recv().is_ok() && of_b.try_recv().is_ok());
        }
    }
}

#[test]
fn what_the_other_end_says_it_has_got_is_not_sent_again() {
    let texts = [Pair::new('a').texts(0..5), Pair::new('b').texts(0..3)].concat();
    for cut in 0..=texts.len() {
        let [a, b] = ['a', 'b'].map(Pair::new);
        let (mut lanes, mut wire) = managed(PLENTY);
        a.send(0..2);
        a.send(2..5);
        b.send(0..3);
        let [(first, mut of_a), (_, mut of_b)] = [&a, &b].map(|pair| pair.open(&mut lanes));
        assert!(lanes.fill(&mut wire).is_empty());
        let all = output(&wire);
        let order: Vec<_> = ids(&all).into_iter().map(str::to_owned).collect();
        wire.take(cut);
        let written = all[..cut].matches("/>").count();
        lanes.interrupt(&mut wire);
        a.send(5..6);
        b.send(3..4);
        // it has got one less than was written, if anything
        let h = written.saturating_sub(1);
        let known = u32::try_from(h).unwrap();
        let too_many = u32::try_from(written + 1).unwrap();
        assert!(lanes.resolve(Some(too_many)).is_err(), "at {cut}");
        assert!(lanes.resolve(Some(known)).unwrap().is_empty());
        lanes.manage(Sent::resumed(known), PLENTY);
        assert_eq!(lanes.take_delivered(), h as u64);
        let stays = lanes.carry_on(|lane| lane.route.pair() == a.route.pair(), None, None);
        assert_eq!(stays, Some(first));
        let Returned { end, progress } = of_b.try_recv().unwrap();
        assert!(matches!(end, End::Missed) && progress, "it comes again, on a new proof");
        let left = |name| {
            let left = order[h..].iter().filter(move |id| id.starts_with(name));
            left.map(|id| format!("<message id='{id}'/>")).collect::<String>()
        };
        assert_eq!(b.waiting(), left('b') + &b.text(3), "at {cut}");
        // the first pair goes on, over the next connection
        let mut wire = Wire::unconnected();
        calls(&mut lanes);
        assert!(lanes.fill(&mut wire).is_empty());
        assert_eq!(output(&wire), left('a') + &a.text(5), "at {cut}");
        let more = u32::try_from(ids(&output(&wire)).len()).unwrap();
        wire.take(output(&wire).len());
        lanes.acknowledge(known + more).unwrap();
        assert_eq!(lanes.take_delivered(), u64::from(more));
        assert_eq!(of_a.try_recv().unwrap_err(), TryRecvError::Empty);
        assert!(lanes.is_idle(first));
    }
}

#[test]
fn a_lane_that_leaves_gets_back_what_was_not_received() {
    let a = Pair::new('a');
    let (mut lanes, mut wire) = managed(PLENTY);
    a.send(0..4);
    let (id, mut returned) = a.open(&mut lanes);
    assert!(lanes.fill(&mut wire).is_empty());
    lanes.leave(id, End::Done("left in a test"));
    a.send(4..5);
    wire.take(a.texts(0..3).len());
    lanes.interrupt(&mut wire);
    assert!(lanes.resolve(Some(1)).unwrap().is_empty());
    assert!(matches!(returned.try_recv().unwrap().end, End::Done("left in a test")));
    assert_eq!((a.waiting(), lanes.len()), (a.texts(1..5), 0));
}

#[test]
fn without_consent_what_is_written_is_delivered() {
    let a = Pair::new('a');
    let (mut lanes, mut wire) = managed(PLENTY);
    a.send(0..2);
    let (id, _returned) = a.open(&mut lanes);
    assert!(lanes.fill(&mut wire).is_empty());
    write(&mut lanes, &mut wire);
    lanes.unmanage();
    lanes.settle(wire.written_total());
    assert_eq!((lanes.take_delivered(), lanes.is_idle(id)), (2, true));
    assert!(lanes.acknowledge(7).is_ok(), "it means nothing any more");
}

#[test]
fn what_tls_was_given_when_it_failed_may_have_arrived() {
    for doubtful in 0..Pair::new('a').texts(0..5).len() {
        for with_acks in [false, true] {
            let a = Pair::new('a');
            let (mut lanes, mut wire) =
                if with_acks { managed(PLENTY) } else { (Lanes::new(None), Wire::unconnected()) };
            a.send(0..2);
            a.send(2..5);
            let (_, _returned) = a.open(&mut lanes);
            assert!(lanes.fill(&mut wire).is_empty());
            let all = output(&wire);
            wire.take(a.text(0).len());
            wire.fail(doubtful.min(wire.output().len()));
            let gone = all[..wire.written_at_most() as usize].matches("/>").count();
            let whole = lanes.interrupt(&mut wire);
            assert_eq!(whole, doubtful == 0, "{doubtful}");
            let ended = lanes.finish(&broken(), None);
            // without acknowledgements what is surely written is delivered
            let first = usize::from(!with_acks);
            assert_eq!(ended.delivered, first as u64);
            let uncertain: u32 = ended.uncertain.iter().map(Routable::stanzas).sum();
            assert_eq!(uncertain as usize, gone - first, "{doubtful}");
            assert_eq!(a.waiting(), a.texts(gone..5), "{doubtful}");
        }
    }
}

#[test]
fn what_arrived_although_tls_failed_is_not_sent_again() {
    let a = Pair::new('a');
    let (mut lanes, mut wire) = managed(PLENTY);
    a.send(0..5);
    let (_, _returned) = a.open(&mut lanes);
    assert!(lanes.fill(&mut wire).is_empty());
    wire.take(a.text(0).len());
    wire.fail(a.texts(1..4).len());
    lanes.interrupt(&mut wire);
    let ended = lanes.finish(&broken(), Some(3));
    assert_eq!((ended.too_high, ended.uncertain.len(), ended.delivered), (None, 0, 3));
    assert_eq!(a.waiting(), a.texts(3..5));
}
