//! Challenges of an accepted stream: finding out what they ask, and telling the machine what came of it.

use std::{
    future::Future,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::{End, Leg};
use crate::{
    auth::TlsFacts,
    proxy::prover::{self, Asker},
    stream::{Challenge, Question},
    xmpp::Side,
};

impl Leg {
    /// Tells the machine what was found out. What it decides then may ask for more.
    pub(super) async fn tell_verdicts(&mut self) -> Result<(), End> {
        // who waits keeps no room for them
        while !self.verdicts.is_empty() {
            for (trust, verdict) in std::mem::take(&mut self.verdicts) {
                let verdict = self.place(verdict);
                let placed = match verdict.question() {
                    Question::Pair { pair, .. } if self.side == Side::Peer => Some(pair.clone()),
                    _ => None,
                };
                let mut actions = Vec::new();
                let mut outcome = self.machine.verdict(verdict, &mut actions);
                if trust != self.gate.trust() && outcome.is_ok() {
                    outcome = self.machine.distrust(&mut actions);
                }
                self.act(actions).await?;
                outcome?;
                if let Some(pair) = placed {
                    self.free_place(&pair);
                }
            }
        }
        Ok(())
    }

    /// Finds out what a challenge asks: at once if nobody has to be waited for, as with most
    /// certificates, or else in a task of its own.
    pub(super) fn prove(&mut self, challenge: Challenge) {
        let tls = self.machine.tls();
        let asker = Asker {
            side: self.side,
            address: self.address.ip(),
            tls: tls.map(TlsFacts::version),
            chain: tls.map(|tls| Arc::clone(tls.peer_chain())).unwrap_or_default(),
            lang: self.intake.lang().cloned(),
        };
        let (trust, gate) = (self.gate.trust(), Arc::clone(&self.gate));
        let mut job = Box::pin(prover::prove(gate, asker, challenge));
        match job.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(verdict) => self.verdicts.push((trust, verdict)),
            // the task polls it again, and by that is woken
            Poll::Pending => {
                self.jobs.spawn(async move { (trust, job.await) });
            }
        }
    }
}
