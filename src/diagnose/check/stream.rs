//! One connection with the peer: drives the same machine that opens streams, writes down what is
//! seen on the way, and stops before anything is asserted.

use std::{net::SocketAddr, time::Duration};

use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::{
    Endpoint, Walk, connection, elapsed, features, proofs,
    report::{Certificate, Connection, Stream, Tls},
    trouble,
};
use crate::{
    auth::{
        Proof, TlsFacts,
        pkix::{self, CertificateInfo, Presented},
    },
    config::{
        model::TlsVersion,
        policy::{Level, Missing, Shortfall},
    },
    net::{
        targets::TargetTls,
        tls::{ClientCertificate, Connect, HandshakeError, Secured, is_certificate_alert},
        wire::{Event, Wire},
    },
    proxy::frames::{Frame, Frames},
    stream::{Failure, FailureKind, Initiating, Purpose, Setup, Step},
    xml::{ElementName, writer},
    xmpp::{Direction, Domain, Side, StreamCondition, ns},
};

/// Speaks with the peer on a new connection; `certificate`: whether ours is shown; `level`: that by
/// which the machine goes on without TLS, or does not.
pub(super) async fn explore(
    walk: &Walk<'_>,
    socket: TcpStream,
    address: SocketAddr,
    endpoint: &Endpoint,
    certificate: bool,
    level: Level,
) -> Connection {
    let setup = Setup {
        side: Side::Peer,
        pair: walk.pair.clone(),
        purpose: Purpose::Send,
        version: true,
        // not what is required: also of a peer that is not proven the features are worth seeing
        level,
        // EXTERNAL would assert the local domain; what is asked for is dialback
        external: false,
        bidi: None,
        management: false,
        resumption: false,
        former: None,
        secret: walk.secret.clone(),
        lang: None,
    };
    let exploration = Exploration {
        walk,
        endpoint,
        certificate,
        level,
        machine: Initiating::new(setup),
        frames: Frames::new(&walk.services.config.limits),
        report: connection(Some(address)),
        missing: None,
        began: Instant::now(),
    };
    exploration.run(socket).await
}

struct Exploration<'a> {
    walk: &'a Walk<'a>,
    endpoint: &'a Endpoint,
    certificate: bool,
    level: Level,
    machine: Initiating,
    frames: Frames,
    report: Connection,
    /// What outbound stanzas would need beyond what is there.
    missing: Option<Shortfall>,
    /// When what is under way began.
    began: Instant,
}

impl Exploration<'_> {
    async fn run(mut self, socket: TcpStream) -> Connection {
        let mut wire = None;
        let outcome = self.speak(socket, &mut wire).await;
        let farewell = match &outcome {
            Ok(()) => writer::FOOTER.as_bytes().to_vec(),
            Err(failure) => self.machine.farewell(failure),
        };
        if let Some(mut wire) = wire {
            wire.put(&farewell);
            wire.close(FAREWELL).await;
        }
        self.report.error = outcome.err().map(|failure| trouble(&failure));
        let is_clear = self.report.level == Some(Level::Verified.as_str());
        let last = if is_clear { &self.report.stream } else { &self.report.secured };
        if let Some(features) = last.as_ref().and_then(|stream| stream.features.as_ref()) {
            self.report.proofs.push(proofs::dialback(features, self.report.dialback));
        }
        self.report
    }

    /// `at` is the connection, as long as there is one.
    async fn speak(&mut self, socket: TcpStream, at: &mut Option<Wire>) -> Result<(), Failure> {
        let mut steps = Vec::new();
        let is_direct = self.endpoint.target.tls == TargetTls::Direct;
        let wire = match is_direct {
            true => at.insert(self.handshake(socket, Connect::Direct, &mut steps).await?),
            false => {
                self.machine.connected(&mut steps);
                at.insert(Wire::plain(socket))
            }
        };
        let first = self.walk.deadline;
        let mut until = first;
        loop {
            while !steps.is_empty() {
                for step in std::mem::take(&mut steps) {
                    match step {
                        Step::Send(text) => wire.put(&text),
                        Step::StartTls => {
                            wire.flush().await.map_err(|error| self.broken(&error))?;
                            // Protocol TLS-4: bytes between <proceed/> and the handshake are an
                            // injection.
                            let Some(socket) = wire.take_clean_socket() else {
                                let detail = "clear text after <proceed/>";
                                return Err(Failure::new(FailureKind::Tls, detail));
                            };
                            *wire = self.handshake(socket, Connect::StartTls, &mut steps).await?;
                        }
                        Step::Restart => {
                            self.frames = Frames::new(&self.walk.services.config.limits);
                        }
                        Step::Judge => self.judge(&mut steps).await?,
                        Step::Opened(_) => {
                            self.report.dialback = Some(true);
                            return Ok(());
                        }
                        Step::Verified(_)
                        | Step::Answered(..)
                        | Step::Managed(_)
                        | Step::Unmanaged
                        | Step::AckWanted
                        | Step::Acknowledged(_) => {
                            let detail = "an answer to what was not asked";
                            return Err(Failure::new(FailureKind::Stream, detail));
                        }
                    }
                }
            }
            if let Some(frame) =
                self.frames.next(wire.input()).map_err(|fault| Failure::malformed(&fault))?
            {
                if self.take(frame, &mut steps)? {
                    return self.level_reached();
                }
                continue;
            }
            match timeout_at(until, wire.event()).await {
                Ok(Ok(Event::Read | Event::Written)) => {}
                Ok(Ok(Event::Eof)) => {
                    let detail = format!("connection closed while {}", self.machine.stage());
                    return Err(Failure::new(FailureKind::Stream, detail));
                }
                Ok(Err(error)) => return Err(self.broken(&error)),
                // As where stanzas wait: it asks others, and has more time for that.
                Err(_) if self.machine.is_checked() && until == first && until < self.walk.over => {
                    until += (self.walk.over - until) / 2;
                }
                Err(_) => {
                    let detail = format!("no answer in time, {}", self.machine.stage());
                    return Err(Failure::new(FailureKind::Timeout, detail)
                        .telling(StreamCondition::ConnectionTimeout));
                }
            }
        }
    }

    /// Handles one piece of the stream; whether all is seen.
    fn take(&mut self, frame: Frame, steps: &mut Vec<Step>) -> Result<bool, Failure> {
        match frame {
            Frame::Header(header) => {
                let stream = Stream {
                    version: header.version.map(|version| version.to_string()),
                    dialback_declared: header.declares_dialback(),
                    features: None,
                    ms: elapsed(self.began),
                };
                *self.layer() = Some(stream);
                let is_old = header.version.is_none_or(|version| version.major == 0);
                if is_old && self.machine.tls().is_none() && !self.level.needs_tls() {
                    return self.stays_clear(|machine| machine.header(&header, steps));
                }
                self.machine.header(&header, steps)?;
            }
            Frame::Element(ElementName::StreamFeatures, element) => {
                let ms = elapsed(self.began);
                if let Some(stream) = self.layer() {
                    stream.features = Some(features::read(&element));
                    stream.ms = ms;
                }
                let is_offered = element.child(ns::TLS, "starttls").is_some();
                let goes_on_clear = match self.level {
                    Level::Permissive => true,
                    Level::Verified => !is_offered,
                    Level::Encrypted | Level::Trusted => false,
                };
                if self.machine.tls().is_none() && goes_on_clear {
                    let name = ElementName::StreamFeatures;
                    return self.stays_clear(|machine| machine.element(name, &element, steps));
                }
                if self.machine.tls().is_some() && !self.walk.options.dialback {
                    return Ok(true);
                }
                if self.machine.tls().is_some() {
                    self.level_reached()?;
                }
                self.machine.element(ElementName::StreamFeatures, &element, steps)?;
            }
            Frame::Element(name, element) => {
                let asked = name == ElementName::DbResult;
                self.machine.element(name, &element, steps).inspect_err(|_| {
                    if asked {
                        self.report.dialback = Some(false);
                    }
                })?;
            }
            Frame::Stanza => self.machine.early_stanza()?,
            Frame::Footer => return Err(self.machine.footer()),
        }
        Ok(false)
    }

    /// There is no TLS, and need not be. What comes next would assert the local domain.
    fn stays_clear(
        &mut self,
        next: impl FnOnce(&mut Initiating) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        self.report.level = Some(Level::Verified.as_str());
        self.suffices(None, None);
        if !self.walk.options.dialback {
            return Ok(true);
        }
        self.level_reached()?;
        next(&mut self.machine)?;
        Ok(false)
    }

    /// Notes what is missing in either direction.
    fn suffices(&mut self, tls: Option<TlsVersion>, proof: Option<&Proof>) {
        let missing = |direction| self.walk.decision(direction).suffices(tls, proof).err();
        let (outbound, inbound) = (missing(Direction::Outbound), missing(Direction::Inbound));
        self.report.missing_outbound = outbound.as_ref().map(ToString::to_string);
        self.report.missing_inbound = inbound.as_ref().map(ToString::to_string);
        self.missing = outbound;
    }

    /// Where to write what is seen of the stream.
    fn layer(&mut self) -> &mut Option<Stream> {
        match self.machine.tls() {
            None => &mut self.report.stream,
            Some(_) => &mut self.report.secured,
        }
    }

    async fn handshake(
        &mut self,
        socket: TcpStream,
        how: Connect,
        steps: &mut Vec<Step>,
    ) -> Result<Wire, Failure> {
        let Walk { services, pair, deadline, .. } = self.walk;
        let began = Instant::now();
        let certificate = match self.certificate {
            true => ClientCertificate::For(&pair.sender),
            false => ClientCertificate::Withheld,
        };
        let handshake = services.tls.connect(socket, &pair.target, how, certificate);
        let Secured { stream, facts } = match timeout_at(*deadline, handshake).await {
            Ok(Ok(secured)) => secured,
            Ok(Err(error @ HandshakeError::CertificateAlert(_))) => {
                return Err(Failure::new(FailureKind::Certificate, error.to_string()));
            }
            Ok(Err(error)) => return Err(Failure::new(FailureKind::Tls, error.to_string())),
            Err(_) => {
                let detail = "the TLS handshake took too long";
                return Err(Failure::new(FailureKind::Timeout, detail));
            }
        };
        self.report.tls = Some(Tls {
            version: facts.version_str(),
            cipher: facts.cipher_suite(),
            sni: facts.sni().unwrap_or_default().to_owned(),
            alpn: facts.alpn().map(|alpn| String::from_utf8_lossy(alpn).into_owned()),
            ms: elapsed(began),
        });
        self.certificates(&facts);
        self.frames = Frames::new(&services.config.limits);
        self.machine.tls_up(facts, steps);
        self.began = Instant::now();
        Ok(Wire::tls(stream))
    }

    fn certificates(&mut self, facts: &TlsFacts) {
        let read = |der| certificate(der, &self.walk.pair.target);
        self.report.certificates = facts.peer_chain().iter().filter_map(read).collect();
    }

    /// Every prooftype, and what they come to.
    async fn judge(&mut self, steps: &mut Vec<Step>) -> Result<(), Failure> {
        let Some(facts) = self.machine.tls() else {
            return Err(Failure::new(FailureKind::Tls, "no TLS"));
        };
        let version = facts.version();
        let judgement = proofs::judge(self.walk, facts.peer_chain(), self.endpoint).await;
        self.report.proofs = judgement.proofs;
        self.began = Instant::now();
        let verdict = judgement.verdict?;
        self.suffices(Some(version), verdict.as_ref().ok());
        match &verdict {
            Ok(proof) => {
                self.report.level = Some(Level::Trusted.as_str());
                self.report.proven_by = Some(proof.prooftype().as_str());
                self.report.proven_until = proof.expires().map(|time| time.as_secs());
            }
            Err(_) => self.report.level = Some(Level::Encrypted.as_str()),
        }
        self.machine.judged(verdict, steps)
    }

    /// As when it is dialled: whether what was proven is enough.
    fn level_reached(&self) -> Result<(), Failure> {
        let Some(short) = &self.missing else { return Ok(()) };
        let kind = match short.missing {
            Missing::Tls | Missing::TlsVersion(_) => FailureKind::Tls,
            Missing::Pin | Missing::Proof => FailureKind::NotProven,
        };
        Err(Failure::new(kind, short.to_string()))
    }

    fn broken(&self, error: &std::io::Error) -> Failure {
        match is_certificate_alert(error) {
            Some(alert) => Failure::new(FailureKind::Certificate, alert),
            None => Failure::new(FailureKind::Stream, format!("{error}, {}", self.machine.stage())),
        }
    }
}

/// What a certificate claims; none if it cannot be read.
fn certificate(der: &CertificateDer<'_>, domain: &Domain) -> Option<Certificate> {
    let info = CertificateInfo::of(der).ok()?;
    let presented = Presented::of(&pkix::parse(der).ok()?).ok()?;
    let now = UnixTime::now();
    let seconds = |time: UnixTime| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let left = seconds(info.not_after) - seconds(now);
    Some(Certificate {
        is_due: info.is_due(now),
        subject: info.subject,
        names: info.names,
        names_domain: presented.matches(domain).is_some(),
        issuer: info.issuer,
        not_before: info.not_before.as_secs(),
        not_after: info.not_after.as_secs(),
        days_left: left.div_euclid(DAY),
        purposes: info.purposes,
        sha256: info.fingerprint.to_string(),
    })
}

/// How long the last words may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// In seconds.
const DAY: i64 = 24 * 60 * 60;
