//! From a TCP connection to what it was opened for: pumps it through an [`Initiating`] machine,
//! with TLS, the judgement of the certificate, and a deadline.

use std::pin::pin;

use tokio::{net::TcpStream, time::sleep_until};
use tracing::{debug, info};

use super::{Endpoint, FAREWELL, Job, Live, Outcome, Reached};
use crate::{
    auth::Proof,
    net::{
        targets::TargetTls,
        tls::{Connect, Secured},
        tune::tune,
        wire::{Event, Wire},
    },
    proxy::{
        frames::Frames,
        judge::{Errand, Silence, Unproven},
        remembering::Sight,
        rules,
    },
    stream::{Failure, FailureKind, Initiating, Purpose, Step},
    xmpp::{Side, StreamCondition},
};

impl Job<'_> {
    /// Negotiates on a connection with a peer's endpoint, or else with the legacy server.
    pub(super) async fn attempt(
        &self,
        socket: TcpStream,
        endpoint: Option<&Endpoint>,
    ) -> Result<Outcome, Failure> {
        if let Err(error) = tune(&socket, self.config.limits.write_stall) {
            debug!(%error, "socket options");
        }
        let mut setup = self.setup.clone();
        setup.level = endpoint.map_or(setup.level, |endpoint| endpoint.plan.level(setup.level));
        let mut machine = Initiating::new(setup);
        let mut steps = Vec::new();
        let is_direct = endpoint.is_some_and(|e| e.target.tls == TargetTls::Direct);
        let wire = if is_direct {
            let Secured { stream, facts } =
                self.gate.connect_tls(socket, &self.setup, Connect::Direct, self.until).await?;
            self.steps.secured("direct TLS", &facts);
            machine.tls_up(facts, &mut steps);
            Wire::tls(stream)
        } else {
            machine.connected(&mut steps);
            Wire::plain(socket)
        };
        let frames = Frames::new(&self.config.limits);
        let mut live = Live {
            wire,
            endpoint: endpoint.cloned().map(Box::new),
            legacy: None,
            proof: None,
            silence: None,
            shown: None,
            frames,
            machine,
        };
        match self.negotiate(&mut live, endpoint, steps).await {
            Ok(reached) => Ok(Outcome::Reached(Box::new(live), reached)),
            Err(failure) => {
                let farewell = live.farewell(&failure);
                live.wire.put(&farewell);
                let is_clear = live.machine.tls().is_none();
                self.gate.tracker().spawn(live.wire.close(FAREWELL));
                Err(match endpoint.and_then(|endpoint| endpoint.plan.asks_for_tls()) {
                    // Who reads it may wonder, for no rule wants TLS.
                    Some(base) if is_clear && !self.decision().level().needs_tls() => {
                        failure.because(format!("the TLSA records of {base} ask for TLS"))
                    }
                    Some(_) | None => failure,
                })
            }
        }
    }

    pub(super) async fn negotiate(
        &self,
        live: &mut Live,
        endpoint: Option<&Endpoint>,
        mut steps: Vec<Step>,
    ) -> Result<Reached, Failure> {
        // over all events: each timer costs a lock to set up
        let mut late = pin!(sleep_until(self.until));
        let mut extended = self.until >= self.deadline;
        loop {
            let mut reached = None;
            while !steps.is_empty() {
                let batch = std::mem::take(&mut steps);
                for step in batch {
                    match step {
                        Step::Send(text) => live.wire.put(&text),
                        Step::StartTls => self.starttls(live, &mut steps).await?,
                        Step::Restart => live.frames = Frames::new(&self.config.limits),
                        Step::Judge => {
                            let verdict = self.judge_first(live, endpoint).await?;
                            live.silence = verdict.as_ref().err().and_then(Unproven::silence);
                            let verdict = verdict.map_err(|why| why.to_string());
                            live.machine.judged(verdict, &mut steps)?;
                        }
                        Step::Opened(authentication) => {
                            reached = Some(Reached::Opened(authentication));
                        }
                        Step::Verified(outcome) => reached = Some(Reached::Verified(outcome)),
                        // Only open streams are asked for more pairs, and have stanzas to count.
                        Step::Answered(..)
                        | Step::Managed(_)
                        | Step::Unmanaged
                        | Step::AckWanted
                        | Step::Acknowledged(_) => {}
                    }
                }
            }
            if let Some(reached) = reached {
                live.proof = live.machine.proof().cloned();
                if live.machine.tls().is_none() {
                    self.recall(&live.sight(&self.setup.pair, self.way), None)?;
                }
                live.frames.authenticated(&self.config.limits, self.config.limits.stanza);
                return Ok(reached);
            }
            if let Some(frame) =
                live.frames.next(live.wire.input()).map_err(|f| Failure::malformed(&f))?
            {
                live.take(frame, &mut steps)?;
                continue;
            }
            let event = tokio::select! {
                biased;
                event = live.wire.event() => Some(event),
                () = &mut late => None,
            };
            match event {
                Some(Ok(Event::Read | Event::Written)) => {}
                Some(Ok(Event::Eof)) => {
                    let detail = format!("connection closed while {}", live.machine.stage());
                    return Err(Failure::new(FailureKind::Stream, detail));
                }
                Some(Err(error)) => return Err(self.gate.broken(&error, live.machine.stage())),
                // It asks whoever is authoritative for us, and another server would ask the same.
                None if live.machine.is_checked() && !extended => {
                    extended = true;
                    late.as_mut().reset(self.until + (self.deadline - self.until) / 2);
                }
                None => {
                    let detail = format!("no answer in time, {}", live.machine.stage());
                    let failure = Failure::new(FailureKind::Timeout, detail);
                    return Err(failure.telling(StreamCondition::ConnectionTimeout));
                }
            }
        }
    }

    /// Whether the peer is what it was, if stanzas are to be sent to it: those of a question are
    /// judged by what comes of that.
    fn recall(&self, sight: &Sight<'_>, silence: Option<Silence>) -> Result<(), Failure> {
        match (self.setup.side, &self.setup.purpose) {
            (Side::Peer, Purpose::Send) => self.gate.recall(sight, silence).map_err(Failure::from),
            (Side::Legacy, _) | (_, Purpose::Verify { .. }) => Ok(()),
        }
    }

    async fn starttls(&self, live: &mut Live, steps: &mut Vec<Step>) -> Result<(), Failure> {
        live.wire.flush().await.map_err(|error| self.gate.broken(&error, "writing"))?;
        // Protocol TLS-4: bytes between <proceed/> and the handshake are an injection.
        let Some(socket) = live.wire.take_clean_socket() else {
            return Err(Failure::new(FailureKind::Tls, "clear text after <proceed/>"));
        };
        let Secured { stream, facts } =
            self.gate.connect_tls(socket, &self.setup, Connect::StartTls, self.until).await?;
        self.steps.secured("STARTTLS", &facts);
        live.machine.tls_up(facts, steps);
        live.wire = Wire::tls(stream);
        live.frames = Frames::new(&self.config.limits);
        Ok(())
    }

    /// Judges before the handshake's last words are written, so that our header goes with them, unless
    /// that takes its time.
    async fn judge_first(
        &self,
        live: &mut Live,
        endpoint: Option<&Endpoint>,
    ) -> Result<Result<Proof, Unproven>, Failure> {
        let Live { machine, wire, .. } = live;
        let mut judging = pin!(self.judge(machine, endpoint));
        tokio::select! {
            biased;
            verdict = &mut judging => return verdict,
            flushed = wire.flush() => flushed.map_err(|error| self.gate.broken(&error, "writing"))?,
        }
        judging.await
    }

    /// Whether the certificate of the endpoint proves the peer's domain; why not is final where
    /// the domain says that it has other certificates.
    async fn judge(
        &self,
        machine: &Initiating,
        endpoint: Option<&Endpoint>,
    ) -> Result<Result<Proof, Unproven>, Failure> {
        let (Some(tls), Some(endpoint)) = (machine.tls(), endpoint) else {
            return Ok(Err(Unproven::Open("no TLS".into())));
        };
        let (chain, remote) = (tls.peer_chain(), &self.setup.pair.target);
        let decision = self.decision();
        // whom we reach may have DNS point many names to it
        let causer = self.asker.unwrap_or(endpoint.address.ip());
        let errand = Errand::of(causer, self.until);
        let judged = self.gate.accept_endpoint(chain, &decision, remote, endpoint, errand).await;
        match &judged {
            Ok(proof) => self.steps.proven(proof.prooftype()),
            Err(unproven) => self.steps.say(format!("not proven: {unproven}")),
        }
        let verdict = match judged {
            Ok(proof) => Ok(proof),
            Err(Unproven::Contradicted(why)) => {
                return Err(Failure::new(FailureKind::NotProven, why));
            }
            Err(why) => {
                let addr = endpoint.address.ip();
                info!(pair = %self.setup.pair, detail = %why, addr = %addr, "peer not proven by its certificate");
                Err(why)
            }
        };
        let enough = rules::sufficient(&decision, Some(tls.version()), verdict.as_ref().ok());
        match (enough, &verdict) {
            (Ok(()), _) => {
                let (pair, direction, proof) = (&self.setup.pair, self.way, verdict.as_ref().ok());
                let sight = Sight { pair, direction, tls: Some(tls.version()), proof, chain };
                self.recall(&sight, verdict.as_ref().err().and_then(Unproven::silence))?;
                Ok(verdict)
            }
            (Err(short), Ok(_)) => Err(short),
            (Err(short), Err(why)) => {
                Err(Failure::new(FailureKind::NotProven, format!("{short}: {why}")))
            }
        }
    }
}
