//! From a TCP connection to what it was opened for: pumps it through an [`Initiating`] machine,
//! with TLS, the judgement of the certificate, and a deadline.

use tokio::{net::TcpStream, time::timeout_at};

use super::{Endpoint, FAREWELL, Job, Live, Reached};
use crate::{
    auth::{Proof, dane::Unproven},
    net::{
        targets::TargetTls,
        tls::{Connect, Secured},
        wire::{Event, Wire},
    },
    proxy::frames::Frames,
    stream::{Failure, FailureKind, Initiating, Step},
    xmpp::StreamCondition,
};

impl Job<'_> {
    /// Negotiates on a connection with a peer's endpoint, or else with the legacy server.
    pub(super) async fn attempt(
        &self,
        socket: TcpStream,
        endpoint: Option<&Endpoint>,
    ) -> Result<(Live, Reached), Failure> {
        let mut machine = Initiating::new(self.setup.clone());
        let mut steps = Vec::new();
        let is_direct = endpoint.is_some_and(|e| e.target.tls == TargetTls::Direct);
        let wire = if is_direct {
            let Secured { stream, facts } =
                self.gate.connect_tls(socket, &self.setup, Connect::Direct, self.deadline).await?;
            machine.tls_up(facts, &mut steps);
            Wire::tls(stream)
        } else {
            machine.connected(&mut steps);
            Wire::plain(socket)
        };
        let frames = Frames::new(&self.config.limits);
        let address = endpoint.map(|e| e.address.ip());
        let mut live = Live { wire, address, proof: None, shown: None, frames, machine };
        match self.negotiate(&mut live, endpoint, steps).await {
            Ok(reached) => Ok((live, reached)),
            Err(failure) => {
                let farewell = live.farewell(&failure);
                live.wire.put(&farewell);
                self.gate.tracker().spawn(live.wire.close(FAREWELL));
                Err(failure)
            }
        }
    }

    async fn negotiate(
        &self,
        live: &mut Live,
        endpoint: Option<&Endpoint>,
        mut steps: Vec<Step>,
    ) -> Result<Reached, Failure> {
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
                            let verdict = self.judge(&live.machine, endpoint)?;
                            live.machine.judged(verdict, &mut steps)?;
                        }
                        Step::Opened(authentication) => {
                            reached = Some(Reached::Opened(authentication));
                        }
                        Step::Verified(outcome) => reached = Some(Reached::Verified(outcome)),
                    }
                }
            }
            if let Some(reached) = reached {
                live.proof = live.machine.proof().cloned();
                live.frames.authenticated(&self.config.limits);
                return Ok(reached);
            }
            if let Some(frame) =
                live.frames.next(live.wire.input()).map_err(|f| Failure::malformed(&f))?
            {
                live.take(frame, &mut steps)?;
                continue;
            }
            match timeout_at(self.deadline, live.wire.event()).await {
                Ok(Ok(Event::Read | Event::Written)) => {}
                Ok(Ok(Event::Eof)) => {
                    let detail = format!("connection closed while {}", live.machine.stage());
                    return Err(Failure::new(FailureKind::Stream, detail));
                }
                Ok(Err(error)) => return Err(self.gate.broken(&error, live.machine.stage())),
                Err(_) => {
                    let detail = format!("no answer in time, {}", live.machine.stage());
                    let failure = Failure::new(FailureKind::Timeout, detail);
                    return Err(failure.telling(StreamCondition::ConnectionTimeout));
                }
            }
        }
    }

    async fn starttls(&self, live: &mut Live, steps: &mut Vec<Step>) -> Result<(), Failure> {
        live.wire.flush().await.map_err(|error| self.gate.broken(&error, "writing"))?;
        // Protocol TLS-4: bytes between <proceed/> and the handshake are an injection.
        let Some(socket) = live.wire.take_clean_socket() else {
            return Err(Failure::new(FailureKind::Tls, "clear text after <proceed/>"));
        };
        let Secured { stream, facts } =
            self.gate.connect_tls(socket, &self.setup, Connect::StartTls, self.deadline).await?;
        live.machine.tls_up(facts, steps);
        live.wire = Wire::tls(stream);
        live.frames = Frames::new(&self.config.limits);
        Ok(())
    }

    /// Whether the certificate of the endpoint proves the peer's domain; why not is final where
    /// DANE says so (RFC 7673 §4.2).
    fn judge(
        &self,
        machine: &Initiating,
        endpoint: Option<&Endpoint>,
    ) -> Result<Result<Proof, String>, Failure> {
        let (Some(tls), Some(endpoint)) = (machine.tls(), endpoint) else {
            return Ok(Err("no TLS".into()));
        };
        match self.gate.judge_endpoint(tls.peer_chain(), &self.setup.pair.target, endpoint) {
            Ok(proof) => Ok(Ok(proof)),
            Err(Unproven::Pkix(why)) => Ok(Err(why.to_string())),
            Err(Unproven::Dane(why)) => Err(Failure::new(FailureKind::NotProven, why.to_string())),
        }
    }
}
