//! The memory of domain pairs that did not come about, in either direction: since when, how often,
//! why, and what was done the last times. A success wipes a pair out. Bounded: of each direction
//! those are kept that failed last, so that strangers cannot wipe out what local users met.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::daily::Daily;
use crate::{
    ops::report,
    stream::FailureKind,
    xmpp::{Direction, Domain, DomainPair},
};

/// Pairs remembered, of each direction.
const REMEMBERED: usize = 500;
/// Attempts remembered of one pair.
const ATTEMPTS: usize = 20;
/// The latest attempts of which the steps are kept too.
const WITH_STEPS: usize = 3;
/// Bytes of a text that are kept.
const TEXT: usize = 400;

/// All failures of one fedgate.
#[derive(Debug, Default)]
pub(super) struct Failures {
    inbound: Mutex<Table>,
    outbound: Mutex<Table>,
    daily: Daily,
}

/// A domain pair as the operator sees it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Key {
    pub(super) local: Domain,
    pub(super) remote: Domain,
}

/// One attempt that came to nothing.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    /// How far it came.
    pub(super) stage: &'static str,
    /// Why, in one word.
    pub(super) reason: &'static str,
    /// Why, in words.
    pub(super) detail: String,
    /// What was done.
    pub(super) steps: Vec<report::Step>,
    /// Stanzas that waited and were returned.
    pub(super) returned: u64,
}

impl Key {
    /// A pair whose stanzas go that way.
    pub(super) fn of(pair: &DomainPair, direction: Direction) -> Self {
        let (local, remote) = match direction {
            Direction::Inbound => (&pair.target, &pair.sender),
            Direction::Outbound => (&pair.sender, &pair.target),
        };
        Self { local: local.clone(), remote: remote.clone() }
    }
}

impl Attempt {
    /// An attempt without steps, for which nothing waited.
    pub(super) fn new(stage: &'static str, reason: &'static str, detail: String) -> Self {
        Self { stage, reason, detail, steps: Vec::new(), returned: 0 }
    }
}

type Table = HashMap<Key, Record>;

#[derive(Debug)]
struct Record {
    first: u64,
    last: u64,
    count: u64,
    returned: u64,
    attempts: VecDeque<report::Attempt>,
}

impl Failures {
    /// An attempt failed.
    pub(super) fn failed(&self, direction: Direction, key: Key, attempt: Attempt) {
        self.failed_at(direction, key, attempt, report::now());
    }

    /// A pair was refused; unless that is the same failure which its route has told already.
    pub(super) fn refused(&self, direction: Direction, key: Key, attempt: Attempt) {
        let now = report::now();
        let latest = |record: &Record| record.attempts.back().cloned();
        let told = self.table(direction).get(&key).and_then(latest);
        if told.is_none_or(|told| told.at + 1 < now || told.detail != attempt.detail) {
            self.failed_at(direction, key, attempt, now);
        }
    }

    fn failed_at(&self, direction: Direction, key: Key, attempt: Attempt, now: u64) {
        self.daily.failed(direction, &key, &attempt);
        let mut table = self.table(direction);
        if table.len() >= REMEMBERED && !table.contains_key(&key) {
            let oldest = table.iter().min_by_key(|(_, record)| record.last);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                table.remove(&oldest);
            }
        }
        let record = table.entry(key).or_insert_with(|| Record {
            first: now,
            last: now,
            count: 0,
            returned: 0,
            attempts: VecDeque::new(),
        });
        record.last = now;
        record.count += 1;
        record.returned = attempt.returned;
        if record.attempts.len() >= ATTEMPTS {
            record.attempts.pop_front();
        }
        record.attempts.push_back(report::Attempt {
            at: now,
            stage: attempt.stage.to_owned(),
            reason: attempt.reason.to_owned(),
            detail: short(attempt.detail),
            steps: attempt
                .steps
                .into_iter()
                .map(|step| report::Step { text: short(step.text), ..step })
                .collect(),
        });
        if let Some(at) = record.attempts.len().checked_sub(WITH_STEPS + 1)
            && let Some(older) = record.attempts.get_mut(at)
        {
            older.steps = Vec::new();
        }
    }

    /// The pair came about: what was before does not matter any more.
    pub(super) fn succeeded(&self, direction: Direction, key: &Key) {
        self.table(direction).remove(key);
    }

    /// What the daily report counts.
    pub(super) fn daily(&self) -> &Daily {
        &self.daily
    }

    /// Forgets what concerns a domain, or all; returns how many pairs that were.
    pub(super) fn forget(&self, domain: Option<&Domain>) -> usize {
        let mut gone = 0;
        for direction in [Direction::Inbound, Direction::Outbound] {
            let mut table = self.table(direction);
            let before = table.len();
            table.retain(|key, _| {
                domain.is_some_and(|domain| key.remote != *domain && key.local != *domain)
            });
            gone += before - table.len();
        }
        gone
    }

    /// How many pairs fail in that direction.
    pub(super) fn count(&self, direction: Direction) -> usize {
        self.table(direction).len()
    }

    /// All of them, those that failed last first, with the keys.
    pub(super) fn report(&self) -> Vec<(Direction, Key, report::Failure)> {
        let mut all = Vec::new();
        for direction in [Direction::Outbound, Direction::Inbound] {
            let table = self.table(direction);
            all.extend(table.iter().map(|(key, record)| {
                let last = record.attempts.back();
                let text = |of: fn(&report::Attempt) -> &String| {
                    last.map(|last| of(last).clone()).unwrap_or_default()
                };
                let failure = report::Failure {
                    direction: direction.as_str().to_owned(),
                    local: key.local.to_unicode(),
                    remote: key.remote.to_unicode(),
                    first: record.first,
                    last: record.last,
                    count: record.count,
                    stage: text(|attempt| &attempt.stage),
                    reason: text(|attempt| &attempt.reason),
                    detail: text(|attempt| &attempt.detail),
                    returned: record.returned,
                    waiting: 0,
                    retry: None,
                    attempts: record.attempts.iter().cloned().collect(),
                };
                (direction, key.clone(), failure)
            }));
        }
        all.sort_by(|(_, a, x), (_, b, y)| {
            y.last.cmp(&x.last).then_with(|| (&a.remote, &a.local).cmp(&(&b.remote, &b.local)))
        });
        all
    }

    /// A panic elsewhere leaves no half a record.
    fn table(&self, direction: Direction) -> MutexGuard<'_, Table> {
        let table = match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
        };
        table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far an attempt came that ended in a failure of that kind.
pub(super) fn stage(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Denied
        | FailureKind::Resource
        | FailureKind::Shutdown
        | FailureKind::TooLarge => "policy",
        FailureKind::NotFound | FailureKind::Resolution => "dns",
        FailureKind::Unreachable => "tcp",
        FailureKind::Tls | FailureKind::Certificate => "tls",
        FailureKind::NotProven => "proof",
        FailureKind::Rejected | FailureKind::HostUnknown => "auth",
        FailureKind::Stream | FailureKind::Timeout => "stream",
    }
}

fn short(mut text: String) -> String {
    if text.len() > TEXT {
        text.truncate(text.floor_char_boundary(TEXT));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(remote: &str) -> Key {
        Key { local: Domain::parse("old.example").unwrap(), remote: Domain::parse(remote).unwrap() }
    }

    fn attempt(detail: &str) -> Attempt {
        let step = report::Step { ms: 1, text: format!("step of {detail}") };
        let steps = vec![step];
        Attempt { stage: "tcp", reason: "unreachable", detail: detail.into(), steps, returned: 2 }
    }

    #[test]
    fn a_record_tells_the_first_and_the_last_and_the_steps_of_the_latest() {
        let failures = Failures::default();
        for n in 0..25 {
            let attempt = attempt(&format!("attempt {n}"));
            failures.failed_at(Direction::Outbound, key("a.example"), attempt, 1000 + n);
        }
        let (direction, _, failure) = failures.report().pop().unwrap();
        assert_eq!(direction, Direction::Outbound);
        assert_eq!((failure.first, failure.last, failure.count), (1000, 1024, 25));
        assert_eq!((&*failure.detail, failure.returned), ("attempt 24", 2));
        let ats: Vec<_> = failure.attempts.iter().map(|attempt| attempt.at).collect();
        assert_eq!(ats, (1005..=1024).collect::<Vec<_>>());
        let with_steps: Vec<_> = failure.attempts.iter().filter(|a| !a.steps.is_empty()).collect();
        assert_eq!(with_steps.len(), WITH_STEPS);
        assert_eq!(with_steps[0].at, 1022);
    }

    #[test]
    fn a_success_wipes_out_its_own_direction() {
        let failures = Failures::default();
        for direction in [Direction::Inbound, Direction::Outbound] {
            failures.failed(direction, key("a.example"), attempt("x"));
        }
        failures.succeeded(Direction::Outbound, &key("a.example"));
        assert_eq!(failures.count(Direction::Outbound), 0);
        assert_eq!(failures.count(Direction::Inbound), 1);
    }

    #[test]
    fn of_each_direction_the_latest_are_kept() {
        let failures = Failures::default();
        failures.failed_at(Direction::Outbound, key("a.example"), attempt("x"), 1);
        for n in 0..REMEMBERED as u64 + 10 {
            let key = key(&format!("d{n}.example"));
            failures.failed_at(Direction::Inbound, key, attempt("x"), 100 + n);
        }
        assert_eq!(failures.count(Direction::Outbound), 1, "strangers do not wipe it out");
        assert_eq!(failures.count(Direction::Inbound), REMEMBERED);
        assert!(failures.report().iter().all(|(_, key, _)| key.remote.as_str() != "d9.example"));
    }

    #[test]
    fn a_domain_can_be_forgotten_and_so_can_all() {
        let failures = Failures::default();
        for remote in ["a.example", "b.example", "c.example"] {
            failures.failed(Direction::Outbound, key(remote), attempt("x"));
        }
        failures.failed(Direction::Inbound, key("a.example"), attempt("x"));
        assert_eq!(failures.forget(Some(&key("a.example").remote)), 2);
        assert_eq!(failures.forget(None), 2);
        assert!(failures.report().is_empty());
    }

    #[test]
    fn what_the_route_has_told_is_not_told_again_by_the_stream_that_waited_for_it() {
        let failures = Failures::default();
        failures.failed(Direction::Inbound, key("a.example"), attempt("connect: refused"));
        failures.refused(Direction::Inbound, key("a.example"), attempt("connect: refused"));
        failures.failed(Direction::Inbound, key("a.example"), attempt("connect: refused"));
        failures.refused(Direction::Inbound, key("a.example"), attempt("something else"));
        assert_eq!(failures.report().pop().unwrap().2.count, 3);
    }

    #[test]
    fn texts_are_bounded() {
        let failures = Failures::default();
        failures.failed(Direction::Inbound, key("a.example"), attempt(&"ä".repeat(1000)));
        let failure = failures.report().pop().unwrap().2;
        assert!(failure.detail.len() <= TEXT + '…'.len_utf8());
    }
}
