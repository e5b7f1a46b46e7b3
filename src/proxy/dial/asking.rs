//! Dialback questions (XEP-0220 §2.1.2). Old servers open their streams in crowds, as after a restart:
//! so the stream on which a legacy server has answered one is kept for a moment for the next.

use std::{
    collections::HashMap,
    mem,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    runtime::{Handle, Id},
    time::{Instant, sleep_until, timeout},
};
use tracing::debug;

use super::{FAREWELL, Job, Live, Outcome, Reached};
use crate::{
    auth::Proof,
    config::model::Legacy,
    proxy::{gate::Gate, judge::Silence, steps::Steps},
    stream::{Failure, FailureKind, Purpose, VerifyOutcome},
    xml::writer,
    xmpp::{DomainPair, Side},
};

/// How long a stream is kept.
const KEPT: Duration = Duration::from_secs(5);
/// Streams that are kept at once.
const KEPT_MAX: usize = 16;
/// How long an answer on one of them may take before it is asked for on another.
const AGAIN: Duration = Duration::from_secs(2);
/// How long a server that answers one question only has a stream for each.
const UNWILLING: Duration = Duration::from_mins(10);

/// What came of a dialback question.
#[derive(Debug)]
pub(in crate::proxy) struct Asked {
    /// What the authoritative server says.
    pub(in crate::proxy) outcome: VerifyOutcome,
    /// What proves that it is the authoritative server.
    pub(in crate::proxy) proof: Option<Proof>,
    /// Whether DNSSEC-secure records led to it.
    pub(in crate::proxy) found_securely: bool,
    /// Whose answer is missing, by which more might be proven.
    pub(in crate::proxy) silence: Option<Silence>,
}

/// Streams to legacy servers on which a question was answered.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Kept(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    streams: Vec<Stream>,
    /// A task sees to it that they end.
    is_swept: bool,
    /// Servers, by name, that answered only the first question of a stream, and until when that
    /// counts.
    unwilling: HashMap<String, Instant>,
}

#[derive(Debug)]
struct Stream {
    legacy: Arc<Legacy>,
    /// The one that has the socket.
    runtime: Id,
    until: Instant,
    live: Box<Live>,
}

/// Asks the server that is authoritative for the pair's target what `purpose` says, since whoever is
/// at the address `asker` wants it to be asked.
pub(in crate::proxy) async fn ask(
    gate: &Arc<Gate>,
    (side, asker): (Side, IpAddr),
    pair: &DomainPair,
    purpose: Purpose,
) -> Result<Asked, Failure> {
    let steps = Steps::new();
    let mut job = Job::new(gate, side, pair, purpose, None, &steps)?;
    job.asker = (side == Side::Peer).then_some(asker);
    let legacy = job.config.local_domains.get(&pair.target).filter(|_| side == Side::Legacy);
    let legacy = legacy.cloned();
    let kept = legacy.as_ref().and_then(|legacy| gate.kept().take(legacy));
    let was_kept = kept.is_some();
    if let (Some(mut live), Some(legacy)) = (kept, &legacy) {
        if job.is_valid_again(&mut live).await {
            gate.keep(live, Arc::clone(legacy));
            let outcome = VerifyOutcome::Valid;
            return Ok(Asked { outcome, proof: None, found_securely: false, silence: None });
        }
        gate.let_go(live);
    }
    // Opening takes memory that a question on a kept stream need not hold.
    let Outcome::Reached(mut live, reached) = Box::pin(job.run(None)).await? else {
        return Err(Failure::new(FailureKind::Stream, "joined in place of verified"));
    };
    let (proof, silence) = (live.proof.take(), live.silence);
    let found_securely =
        live.endpoint.as_ref().is_some_and(|endpoint| endpoint.is_found_securely());
    match legacy {
        Some(legacy) => {
            if was_kept && matches!(reached, Reached::Verified(VerifyOutcome::Valid)) {
                gate.kept().give_up(&legacy);
            }
            gate.keep(live, legacy);
        }
        None => gate.let_go(live),
    }
    match reached {
        Reached::Verified(outcome) => Ok(Asked { outcome, proof, found_securely, silence }),
        Reached::Opened(_) => Err(Failure::new(FailureKind::Stream, "opened in place of verified")),
    }
}

impl Job<'_> {
    /// Asks on a stream that was kept whether the key is valid. That it is not may be because of the
    /// stream.
    async fn is_valid_again(&self, live: &mut Live) -> bool {
        let mut steps = Vec::new();
        if !live.machine.ask_again(&self.setup, &mut steps) {
            return false;
        }
        let outcome = timeout(AGAIN, self.negotiate(live, None, steps)).await;
        matches!(outcome, Ok(Ok(Reached::Verified(VerifyOutcome::Valid))))
    }
}

impl Gate {
    /// Keeps a stream on which a question was answered, or else ends it.
    fn keep(self: &Arc<Self>, live: Box<Live>, legacy: Arc<Legacy>) {
        let stops = self.is_stopping(Side::Legacy) || self.ending().is_cancelled();
        let mut state = self.kept().state();
        let is_willing = !state.is_unwilling(&legacy.name);
        if stops || !is_willing || state.streams.len() >= KEPT_MAX {
            drop(state);
            return self.let_go(live);
        }
        let (runtime, until) = (Handle::current().id(), Instant::now() + KEPT);
        state.streams.push(Stream { legacy, runtime, until, live });
        if !mem::replace(&mut state.is_swept, true) {
            self.tracker().spawn(sweep(Arc::clone(self)));
        }
    }

    /// Ends a stream in the background.
    fn let_go(&self, mut live: Box<Live>) {
        live.wire.put(writer::FOOTER.as_bytes());
        self.tracker().spawn(live.wire.close(FAREWELL));
    }
}

/// Ends the streams that nobody has used for long enough; until there is none.
async fn sweep(gate: Arc<Gate>) {
    while let Some(next) = gate.kept().next() {
        let stops = gate.stop_of(Side::Legacy);
        tokio::select! {
            () = sleep_until(next) => {}
            () = stops.cancelled() => {}
        }
        let now = if stops.is_cancelled() { None } else { Some(Instant::now()) };
        for stream in gate.kept().over(now) {
            gate.let_go(stream.live);
        }
    }
}

impl Kept {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stream to that server, as it is configured now; the one that was used last.
    fn take(&self, legacy: &Arc<Legacy>) -> Option<Box<Live>> {
        let here = Handle::current().id();
        let mut state = self.state();
        let fits = |stream: &Stream| stream.runtime == here && Arc::ptr_eq(&stream.legacy, legacy);
        let at = state.streams.iter().rposition(fits)?;
        Some(state.streams.remove(at).live)
    }

    /// The server has answered a question only on a stream of its own.
    fn give_up(&self, legacy: &Legacy) {
        debug!(
            legacy = legacy.name,
            "a second dialback question was answered on another stream only"
        );
        self.state().unwilling.insert(legacy.name.clone(), Instant::now() + UNWILLING);
    }

    /// When the next stream is to end; none if there is no stream, and nobody sees to it any more.
    fn next(&self) -> Option<Instant> {
        let mut state = self.state();
        let next = state.streams.iter().map(|stream| stream.until).min();
        state.is_swept = next.is_some();
        next
    }

    /// The streams whose time is over; all without a time.
    fn over(&self, now: Option<Instant>) -> Vec<Stream> {
        let mut state = self.state();
        let (over, kept) = mem::take(&mut state.streams)
            .into_iter()
            .partition(|stream| now.is_none_or(|now| stream.until <= now));
        state.streams = kept;
        over
    }
}

impl State {
    fn is_unwilling(&mut self, server: &str) -> bool {
        match self.unwilling.get(server) {
            Some(until) if *until > Instant::now() => true,
            Some(_) => {
                self.unwilling.remove(server);
                false
            }
            None => false,
        }
    }
}
