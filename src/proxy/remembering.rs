//! What remote domains have reached so far, kept beside the running gate and in a file: peers that
//! come back weaker, or with another key, are let in, told of or refused as the rules say.
//!
//! Where DNS or a web server gave no answer nobody knows what a peer could have proven: that never
//! lowers what is remembered, and a refusal for it is one for now.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use tracing::{debug, info, warn};

use super::{gate::Gate, judge::Silence, rules::decide};
use crate::{
    auth::{
        Proof, Prooftype, Strength,
        memory::{Change, Forgotten, Memory, Reached, Shown},
        pkix,
    },
    config::{model::TlsVersion, policy::Downgrade},
    net::memory::MemoryFile,
    ops::{report, seldom::Seldom},
    stream::{Failure, FailureKind},
    xmpp::{Direction, Domain, DomainPair},
};

/// The memory and its file.
#[derive(Debug)]
pub(super) struct Remembering {
    memory: Mutex<Memory>,
    file: MemoryFile,
    news: Notify,
    /// When the log told that there was no more room.
    full: Mutex<Seldom>,
}

/// A stream, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sight<'a> {
    /// The pair whose stanzas it carries, or is to carry,
    pub(super) pair: &'a DomainPair,
    /// and which way they go.
    pub(super) direction: Direction,
    /// Its TLS version.
    pub(super) tls: Option<TlsVersion>,
    /// The proof of the remote domain.
    pub(super) proof: Option<&'a Proof>,
    /// The certificates of the other end.
    pub(super) chain: &'a [CertificateDer<'static>],
}

/// A peer is refused since it is not what it was before.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{detail}")]
pub(super) struct Downgraded {
    detail: String,
    /// Some answer is missing by which it might have been as before.
    pub(super) is_unanswered: bool,
}

impl From<Downgraded> for Failure {
    fn from(why: Downgraded) -> Self {
        let kind = if why.is_unanswered { FailureKind::Resolution } else { FailureKind::NotProven };
        Self::new(kind, why.to_string())
    }
}

impl Remembering {
    /// Takes up what the state directory keeps; what cannot be read is put aside.
    pub(super) fn new(state_dir: &Path) -> Self {
        let file = MemoryFile::of(state_dir);
        let memory = file.load().unwrap_or_else(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            match file.put_aside() {
                Ok(aside) => warn!(
                    %error, cause, aside = %aside.display(),
                    "memory of remote domains cannot be read: put aside, and begun anew"
                ),
                Err(failed) => warn!(
                    %error, cause, aside = %failed,
                    "memory of remote domains cannot be read: begun anew"
                ),
            }
            None
        });
        let memory = Mutex::new(memory.unwrap_or_default());
        Self { memory, file, news: Notify::new(), full: Mutex::default() }
    }

    /// A panic elsewhere leaves no half a fact.
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A rule refused a domain.
    pub(super) fn refused(&self, remote: &Domain, direction: Direction) {
        if self.memory().was_refused(remote, direction, UnixTime::now()) {
            self.news.notify_one();
        }
    }

    /// What is remembered, of one domain or of all.
    pub(super) fn report(&self, domain: Option<&Domain>) -> Vec<report::Remembered> {
        let memory = self.memory();
        let reached = |reached: &Reached| report::Reached {
            level: reached.level().as_str().to_owned(),
            tls: reached.tls.map(|tls| tls.as_str().to_owned()),
            strength: reached.strength.map(|strength| strength.as_str().to_owned()),
            at: reached.at,
        };
        let is_wanted = |of: &Domain| domain.is_none_or(|domain| domain == of);
        let seen = memory.records().filter(|(of, ..)| is_wanted(of)).map(|(of, way, record)| {
            report::Remembered {
                best: Some(reached(&record.best)),
                last: Some(reached(&record.last)),
                keys: record.keys().map(|key| key.to_string()).collect(),
                ..nothing_of(of, way)
            }
        });
        let refused = memory.refused().filter(|(of, ..)| is_wanted(of));
        let refused = refused
            .map(|(of, way, at)| report::Remembered { refused: Some(at), ..nothing_of(of, way) });
        let mut all: Vec<_> = seen.chain(refused).collect();
        all.sort_by(|a, b| (&a.domain, &a.direction).cmp(&(&b.domain, &b.direction)));
        all
    }

    /// Forgets a domain, in both directions; how many records that were.
    pub(super) fn forget(&self, domain: &Domain) -> usize {
        let forgotten = self.memory().forget(domain);
        if forgotten > 0 {
            info!(%domain, "what the remote domain has reached is forgotten");
            self.news.notify_one();
        }
        forgotten
    }

    fn saw(&self, sight: &Sight<'_>, follow: bool) {
        let seen = self.memory().saw(sight.remote(), sight.direction, &sight.shown(), follow);
        if seen.is_news {
            self.news.notify_one();
        }
        let Some(Forgotten { records, trusted, crowd, of_crowd }) = seen.forgotten else { return };
        let again = self.full.lock().unwrap_or_else(PoisonError::into_inner).again(Instant::now());
        // who comes weaker then is not known for it
        if let Some(times) = again {
            warn!(
                records,
                trusted,
                crowd,
                of_crowd,
                times,
                "memory of remote domains is full: some are forgotten"
            );
        }
    }
}

impl Sight<'_> {
    fn remote(&self) -> &Domain {
        match self.direction {
            Direction::Inbound => &self.pair.sender,
            Direction::Outbound => &self.pair.target,
        }
    }

    fn shown(&self) -> Shown {
        Shown::new(self.tls, self.proof, self.chain.first(), UnixTime::now())
    }
}

impl Gate {
    /// A stream carries a pair: what it has shown is remembered.
    pub(super) fn remember(&self, sight: &Sight<'_>) {
        self.memory().saw(sight, false);
    }

    /// Whether what a stream shows is what its peer has shown before, before it may carry a pair;
    /// tells the operator if not. `silence`: whose answer is missing, by which it might be.
    ///
    /// # Errors
    /// [`Downgraded`] where the rules refuse it then.
    pub(super) fn recall(
        &self,
        sight: &Sight<'_>,
        silence: Option<Silence>,
    ) -> Result<(), Downgraded> {
        let (remote, direction) = (sight.remote(), sight.direction.as_str());
        // without a look into the certificate of who was never here
        if self.memory().memory().get(remote, sight.direction).is_none() {
            return Ok(());
        }
        let shown = sight.shown();
        let change = self.memory().memory().compare(remote, sight.direction, &shown);
        let (best, is_weaker) = match change {
            None => return Ok(()),
            Some(Change::Renewed) => {
                debug!(domain = %remote, direction, "peer shows another key, proven as before");
                return Ok(());
            }
            Some(Change::Weaker(best)) => (best, true),
            Some(Change::OtherKey(best)) => (best, false),
        };
        let before = best.strong.unwrap_or(Prooftype::Dialback);
        let is_unanswered = silence.is_some_and(|silence| silence.hides(before));
        let config = self.config();
        let decision = decide(&config, sight.pair, sight.direction);
        let rule = decision.downgrade_rule();
        let detail = described(sight, &shown, &best, is_weaker);
        match decision.downgrade() {
            Downgrade::Allow => {
                debug!(domain = %remote, direction, detail, "peer is not what it was");
                if is_weaker && !is_unanswered {
                    self.memory().saw(sight, true);
                }
            }
            Downgrade::Alert if decision.downgrade_wanted() == Downgrade::Refuse => info!(
                pair = %sight.pair, direction, detail, rule = rule.map(tracing::field::display),
                "would be refused, but the mode is report"
            ),
            // strangers do not raise alarms, unless the operator wants to hear of them
            Downgrade::Alert => match rule {
                Some(rule) => warn!(
                    pair = %sight.pair, direction, detail, rule = %rule, is_unanswered,
                    "peer is not what it was"
                ),
                None => info!(
                    pair = %sight.pair, direction, detail, is_unanswered,
                    "peer is not what it was"
                ),
            },
            Downgrade::Refuse => {
                let rule = rule.map(|rule| format!(" (rule at {rule})")).unwrap_or_default();
                return Err(Downgraded { detail: format!("{detail}{rule}"), is_unanswered });
            }
        }
        Ok(())
    }

    /// Why a stream may not go on, by what its peer was before and by the rules of now.
    pub(super) fn is_downgraded(&self, sight: &Sight<'_>) -> Option<Downgraded> {
        let config = self.config();
        let decision = decide(&config, sight.pair, sight.direction);
        if decision.downgrade() < Downgrade::Refuse {
            return None;
        }
        let shown = sight.shown();
        let change = self.memory().memory().compare(sight.remote(), sight.direction, &shown);
        let (best, is_weaker) = match change? {
            Change::Weaker(best) => (best, true),
            Change::OtherKey(best) => (best, false),
            Change::Renewed => return None,
        };
        let rule = decision.downgrade_rule();
        let rule = rule.map(|rule| format!(" (rule at {rule})")).unwrap_or_default();
        let detail = format!("{}{rule}", described(sight, &shown, &best, is_weaker));
        Some(Downgraded { detail, is_unanswered: false })
    }
}

fn nothing_of(domain: &Domain, direction: Direction) -> report::Remembered {
    report::Remembered {
        domain: domain.to_unicode(),
        direction: direction.as_str().to_owned(),
        best: None,
        last: None,
        keys: Vec::new(),
        refused: None,
    }
}

fn described(sight: &Sight<'_>, shown: &Shown, best: &Reached, is_weaker: bool) -> String {
    let proof = |strength: Option<Strength>| match strength {
        Some(strength) => format!(" by {}", strength.as_str()),
        None => String::new(),
    };
    let date = pkix::utc(UnixTime::since_unix_epoch(Duration::from_secs(best.at)));
    if is_weaker {
        let now = proof(sight.proof.map(Proof::strength));
        let (level, was) = (shown.level().as_str(), best.level().as_str());
        return format!("{level}{now}, but was {was}{} on {date}", proof(best.strength));
    }
    let what = if sight.chain.is_empty() { "no certificate" } else { "an unproven certificate" };
    format!("{what} with another key than the self-signed one seen until {date}")
}

/// Writes the memory down when there is news, and at the end.
pub(super) async fn keep(gate: Arc<Gate>) {
    let mut is_failing = false;
    loop {
        tokio::select! {
            () = gate.memory().news.notified() => {}
            () = gate.ending().cancelled() => {}
        }
        tokio::select! {
            () = sleep(if is_failing { AGAIN } else { EVERY }) => {}
            () = gate.ending().cancelled() => {}
        }
        let is_last = gate.ending().is_cancelled();
        match write(&gate).await {
            Ok(()) if is_failing => {
                info!("memory of remote domains is written again");
                is_failing = false;
            }
            Ok(()) => {}
            Err(error) => {
                if !is_failing {
                    let path = gate.memory().file.path().display();
                    warn!(%error, %path, "memory of remote domains not written: tried again");
                }
                is_failing = true;
                gate.memory().news.notify_one();
            }
        }
        if is_last {
            return;
        }
    }
}

async fn write(gate: &Arc<Gate>) -> io::Result<()> {
    let gate = Arc::clone(gate);
    let written = tokio::task::spawn_blocking(move || {
        let remembering = gate.memory();
        let memory = remembering.memory().clone();
        remembering.file.save(&memory.to_lines())
    });
    written.await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// How long news may wait.
const EVERY: Duration = Duration::from_secs(5);
/// The same after a failure.
const AGAIN: Duration = Duration::from_mins(1);
