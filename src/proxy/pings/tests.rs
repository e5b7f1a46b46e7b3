use std::collections::BTreeMap;

use super::*;
use crate::{
    auth::{
        Proof,
        ledger::{AuthorizedPair, Ledger},
    },
    stream::FailureKind,
    xmpp::Domain,
};

fn pair(sender: &str, target: &str) -> DomainPair {
    DomainPair::new(Domain::parse(sender).unwrap(), Domain::parse(target).unwrap())
}

fn ping(number: u8) -> Ping {
    let locals = BTreeMap::from([(Domain::parse("l.example").unwrap(), ())]);
    Ping::new(pair("l.example", "a.example"), &locals, [number; 16]).unwrap()
}

fn grant(sender: &str) -> AuthorizedPair {
    let proof = Proof::dialback(Domain::parse(sender).unwrap(), None);
    Ledger::default().authorize(pair(sender, "l.example"), proof).unwrap()
}

fn batch(sender: &str, stanzas: &[&str]) -> Routable {
    let number = u32::try_from(stanzas.len()).unwrap();
    Routable::new(&grant(sender), stanzas.concat().into(), number)
}

const MESSAGE: &str = "<message from='u@a.example' to='v@l.example'><body>x</body></message>";

fn result(id: &str) -> String {
    format!("<iq type='result' id='{id}' from='a.example' to='l.example'/>")
}

#[test]
fn the_answer_is_caught_and_all_else_goes_on() {
    let pings = Pings::default();
    let ping = ping(1);
    let mut answer = pings.out(&ping).unwrap();
    let caught = result(ping.id());
    let others =
        [MESSAGE, &result("fedgate-ping-2"), "<presence from='a.example' to='l.example'/>"];
    for at in 0..=others.len() {
        let mut answer = pings.out(&ping).unwrap();
        let mut all = others.to_vec();
        all.insert(at, &caught);
        let rest = pings.catch_answers(batch("a.example", &all)).unwrap();
        assert_eq!(rest.stanzas(), 3);
        assert_eq!(std::str::from_utf8(rest.bytes()).unwrap(), others.concat());
        assert_eq!(answer.try_recv(), Ok(Answer::Came(Ok(()))));
    }
    // the first one was replaced by that of the same id
    assert!(answer.try_recv().is_err());
    assert_eq!(pings.known.load(Ordering::Relaxed), 0);
    let whole = pings.catch_answers(batch("a.example", &[&caught])).unwrap();
    assert_eq!(whole.bytes().as_ref(), caught.as_bytes(), "only once");
}

#[test]
fn an_error_is_an_answer_with_its_condition() {
    let pings = Pings::default();
    let ping = ping(1);
    let mut answer = pings.out(&ping).unwrap();
    let error = format!(
        "<iq type='error' id='{}' from='a.example' to='l.example'><ping xmlns='urn:xmpp:ping'/>\
         <error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>\
         <text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>no</text></error></iq>",
        ping.id()
    );
    assert!(pings.catch_answers(batch("a.example", &[&error])).is_none());
    assert_eq!(answer.try_recv(), Ok(Answer::Came(Err("service-unavailable".to_owned()))));
}

#[test]
fn nobody_else_answers() {
    let pings = Pings::default();
    let ping = ping(1);
    let mut answer = pings.out(&ping).unwrap();
    let from_other = result(ping.id()).replace("a.example", "b.example");
    let no_answer = result(ping.id()).replace("result", "get");
    let message =
        MESSAGE.replace("<message ", &format!("<message id='{}' type='error' ", ping.id()));
    for (sender, stanza) in
        [("b.example", &from_other), ("a.example", &no_answer), ("a.example", &message)]
    {
        let rest = pings.catch_answers(batch(sender, &[stanza])).unwrap();
        assert_eq!(rest.bytes().as_ref(), stanza.as_bytes());
    }
    assert!(answer.try_recv().is_err());
}

#[test]
fn what_was_not_delivered_is_told_and_not_bounced() {
    let pings = Pings::default();
    let ping = ping(1);
    let mut answer = pings.out(&ping).unwrap();
    let failure = Failure::new(FailureKind::Unreachable, "refused");
    assert!(pings.catch_undelivered(Routable::ping(&ping), &failure).is_none());
    assert_eq!(answer.try_recv(), Ok(Answer::Failed(failure)));
}

#[tokio::test(start_paused = true)]
async fn few_are_out_and_late_answers_are_caught_for_a_while() {
    let pings = Pings::default();
    let mut waiters: Vec<_> = (0..OUT_MAX as u8).map(|n| pings.out(&ping(n)).unwrap()).collect();
    assert!(pings.out(&ping(99)).is_none());
    waiters.pop();
    let last = pings.out(&ping(99)).unwrap();
    drop((waiters, last));
    assert!(pings.catch_answers(batch("a.example", &[&result(ping(3).id())])).is_none());
    tokio::time::advance(LINGER).await;
    let late = result(ping(4).id());
    assert!(pings.catch_answers(batch("a.example", &[MESSAGE, &late])).is_some());
    assert_eq!(pings.known.load(Ordering::Relaxed), 0, "forgotten");
}
