//! A ping from a local domain to a remote one, over the way that stanzas take: the route that is
//! there, or one that is opened for it.

use std::time::Duration;

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    monitor::Monitor,
    pings::Answer,
    route::{NotTaken, Route},
};
use crate::{
    auth::{ledger::Routable, ping::Ping},
    ops::report,
    xmpp::{Domain, DomainPair, Side},
};

/// How long a ping may take in all; less than an answer of the admin interface.
const PATIENCE: Duration = Duration::from_secs(25);

/// Why no ping was sent.
#[derive(Debug, thiserror::Error)]
pub enum PingRefused {
    /// The sender is not local, or the target is.
    #[error("a ping goes from a local domain to a remote one, not from {} to {}", .0.sender, .0.target)]
    Pair(DomainPair),
    /// There is a bound.
    #[error("too many pings are out already")]
    TooMany,
    /// No random numbers.
    #[error("draw a random id")]
    Random(#[source] getrandom::Error),
}

impl Monitor {
    /// Pings `remote` in the name of `local` (XEP-0199) and waits for the answer, half a minute at
    /// most. Stanzas of the pair that wait for a stream get one by it too. May be dropped at any
    /// time.
    ///
    /// # Errors
    /// [`PingRefused`]: nothing was sent.
    pub async fn ping(&self, local: &Domain, remote: &Domain) -> Result<report::Ping, PingRefused> {
        let began = Instant::now();
        let pair = DomainPair::new(local.clone(), remote.clone());
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(PingRefused::Random)?;
        let config = self.gate().config();
        let ping = Ping::new(pair.clone(), &config.local_domains, random)
            .ok_or_else(|| PingRefused::Pair(pair.clone()))?;
        let answer = self.gate().pings().out(&ping).ok_or(PingRefused::TooMany)?;
        let mut report = report::Ping {
            ok: false,
            local: local.to_unicode(),
            remote: remote.to_unicode(),
            was_open: false,
            steps: Vec::new(),
            opened_ms: None,
            written_ms: None,
            answered_ms: None,
            answer: None,
            failure: None,
        };
        let (told, left_queue) = oneshot::channel();
        let route = match self.gate().routes().get(self.gate(), Side::Peer, &pair, None) {
            Ok(route) => route,
            Err(failure) => {
                report.failure =
                    Some(format!("{failure}; it is not tried again yet (`fedgate retry`)"));
                return Ok(report);
            }
        };
        report.was_open = route.is_open();
        match route.try_send_telling(Routable::ping(&ping), Some(told)) {
            // while the turn lasts nobody else runs the stream
            Ok(turn) => turn.run(),
            Err(not_taken) => {
                report.failure = Some(match not_taken {
                    NotTaken::Ended(_) => "the route ended just now: ping again".to_owned(),
                    NotTaken::Full(_, limit) => {
                        format!("the queue is full (limits.{})", limit.as_str())
                    }
                });
                return Ok(report);
            }
        }
        let followed = follow(&route, left_queue, answer, began, &mut report);
        if timeout_at(began + PATIENCE, followed).await.is_err() {
            report.failure = Some(
                match (report.opened_ms, report.written_ms) {
                    (_, Some(_)) => "no answer in time",
                    (Some(_), None) => "not written in time",
                    (None, None) => "no stream in time",
                }
                .to_owned(),
            );
        }
        if !report.was_open
            && let Some(steps) = route.steps()
        {
            let before = ms(began, steps.began());
            let later = |step: report::Step| report::Step { ms: before + step.ms, ..step };
            report.steps = steps.so_far().into_iter().map(later).collect();
        }
        Ok(report)
    }
}

/// Notes each milestone when it is reached, until there is an answer.
async fn follow(
    route: &Route,
    mut left_queue: oneshot::Receiver<std::convert::Infallible>,
    mut answer: oneshot::Receiver<Answer>,
    began: Instant,
    report: &mut report::Ping,
) {
    let opened = route.opened();
    tokio::pin!(opened);
    let (mut is_settled, mut has_left) = (report.was_open, false);
    let answer = loop {
        tokio::select! {
            biased;
            outcome = &mut opened, if !is_settled => {
                is_settled = true;
                if outcome.is_ok() {
                    report.opened_ms = Some(ms(began, Instant::now()));
                }
            }
            _ = &mut left_queue, if !has_left => {
                has_left = true;
                // what was bounced has its answer already
                if let Ok(bounced) = answer.try_recv() {
                    break Ok(bounced);
                }
                report.written_ms = Some(ms(began, Instant::now()));
            }
            came = &mut answer => break came,
        }
    };
    match answer {
        Ok(Answer::Came(outcome)) => {
            report.ok = true;
            report.answered_ms = Some(ms(began, Instant::now()));
            report.answer = Some(match outcome {
                Ok(()) => "result".to_owned(),
                Err(condition) => condition,
            });
        }
        Ok(Answer::Failed(failure)) => report.failure = Some(failure.to_string()),
        Err(_) => report.failure = Some("nobody waits for the answer any more".to_owned()),
    }
}

fn ms(began: Instant, at: Instant) -> u64 {
    let passed = at.saturating_duration_since(began).as_millis();
    u64::try_from(passed).unwrap_or(u64::MAX)
}
