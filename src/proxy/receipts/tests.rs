//! What counts as handled, and when an answer is due.

use tokio::{task::yield_now, time::Duration};

use super::*;
use crate::{
    auth::{Proof, ledger::Ledger},
    xmpp::{Domain, DomainPair},
};

fn batch(stanzas: u32) -> Routable {
    let [a, l] = ["a.example", "l.example"].map(|name| Domain::parse(name).unwrap());
    let proof = Proof::dialback(a.clone(), None);
    let grant = Ledger::default().authorize(DomainPair::new(a, l), proof).unwrap();
    Routable::new(&grant, "<message/>".repeat(stanzas as usize).into(), stanzas)
}

#[test]
fn a_batch_is_handled_when_its_last_piece_is() {
    let mut receipts = Receipts::new(0);
    let whole = receipts.issue(batch(3));
    assert_eq!((receipts.received(), receipts.answer()), (3, 0));
    let first = whole.part("<message/>".into(), 1);
    let error = whole.reply("<message/>".into(), 1);
    drop(whole);
    assert_eq!(receipts.answer(), 0);
    drop(first);
    // the error that goes back is no piece of it
    assert_eq!(receipts.answer(), 3);
    drop(error);
}

#[test]
fn what_is_handled_counts_as_far_as_all_before_it_is() {
    let mut receipts = Receipts::new(u32::MAX);
    let [first, second, third] = [1, 2, 4].map(|n| receipts.issue(batch(n)));
    drop(second);
    assert_eq!(receipts.answer(), u32::MAX);
    drop(first);
    assert_eq!(receipts.answer(), 2, "the counter goes round");
    receipts.skip();
    assert_eq!((receipts.answer(), receipts.received()), (2, 7));
    drop(third);
    assert_eq!(receipts.answer(), 7);
    assert!(!receipts.owes());
}

#[test]
fn what_nobody_asks_for_does_not_pile_up() {
    let mut receipts = Receipts::new(0);
    for _ in 0..1000 {
        drop(receipts.issue(batch(1)));
        receipts.skip();
    }
    assert!(receipts.open.len() <= 1, "{}", receipts.open.len());
    assert_eq!(receipts.answer(), 2000);
    // nor behind what takes its time
    let slow = receipts.issue(batch(1));
    for _ in 0..1000 {
        drop(receipts.issue(batch(1)));
        receipts.skip();
    }
    assert!(receipts.open.len() <= 2, "{}", receipts.open.len());
    assert_eq!(receipts.answer(), 2000);
    // nor where there was always one more
    for _ in 0..1000 {
        let pair = [1, 2].map(|stanzas| receipts.issue(batch(stanzas)));
        pair.into_iter().for_each(drop);
    }
    assert!(receipts.open.len() <= 16, "{}", receipts.open.len());
    drop(slow);
    assert_eq!(receipts.answer(), 7001);
}

#[tokio::test]
async fn an_answer_that_said_too_little_is_made_good() {
    let mut receipts = Receipts::new(0);
    let (first, second) = (receipts.issue(batch(2)), receipts.issue(batch(3)));
    assert_eq!(receipts.answer(), 0);
    assert!(receipts.owes());
    // what comes after the question need not be handled for it
    let third = receipts.issue(batch(1));
    let waiting = tokio::spawn(async move {
        let handled = receipts.paid().await;
        (handled, receipts)
    });
    yield_now().await;
    drop(first);
    yield_now().await;
    assert!(!waiting.is_finished());
    drop(second);
    let (handled, mut receipts) =
        tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap();
    assert_eq!((handled, receipts.owes()), (5, false));
    drop(third);
    assert_eq!(receipts.answer(), 6);
}

#[tokio::test]
async fn what_is_handled_just_now_is_not_missed() {
    for _ in 0..200 {
        let mut receipts = Receipts::new(0);
        let held = receipts.issue(batch(1));
        let other = tokio::task::spawn_blocking(move || drop(held));
        if receipts.answer() == 0 {
            let paid = tokio::time::timeout(Duration::from_secs(10), receipts.paid()).await;
            assert_eq!(paid.unwrap(), 1);
        }
        other.await.unwrap();
    }
}
