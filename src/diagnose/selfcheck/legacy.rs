//! The legacy server behind a local domain: whether it accepts streams, for this domain, and
//! whether it answers questions about dialback keys (XEP-0220 §2.1.2).

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{
    SelfcheckError,
    report::{Item, Topic},
};
use crate::{
    config::{
        model::{Config, HeaderVersion, Legacy},
        policy::Level,
    },
    diagnose::{Status, check},
    net::{
        connector::connect_legacy,
        wire::{Event, Wire},
    },
    proxy::frames::{Frame, Frames},
    stream::{Failure, FailureKind, Initiating, Purpose, Setup, Step, VerifyOutcome},
    xml::writer,
    xmpp::{Domain, DomainPair, Side},
};

/// Asks the server whether it made a key that it did not make.
pub(super) async fn probe(
    config: &Config,
    server: &Legacy,
    domain: &Domain,
    prober: &Domain,
) -> Result<Item, SelfcheckError> {
    let about = |status, text| Item::new(Topic::Legacy, Some(domain), status, text);
    let at = format!("{} at {}, for {domain}", server.name, server.address);
    let limit = config.limits.tcp_connect.min(PATIENCE);
    let socket = match connect_legacy(&server.address, limit).await {
        Ok(socket) => socket,
        Err(error) => return Ok(about(Status::Critical, format!("{at}: {error}"))),
    };
    let setup = Setup {
        side: Side::Legacy,
        pair: DomainPair::new(prober.clone(), domain.clone()),
        purpose: Purpose::Verify {
            id: "selfcheck".to_owned(),
            key: "0".repeat(64),
            spelling: None,
        },
        version: server.header == HeaderVersion::V1,
        level: Level::Verified,
        external: false,
        bidi: None,
        management: false,
        resumption: false,
        former: None,
        secret: check::unused_keys()?.public().clone(),
        lang: None,
    };
    let mut machine = Initiating::new(setup);
    let mut wire = Wire::plain(socket);
    let answer = ask(config, &mut machine, &mut wire).await;
    let farewell = match &answer {
        Ok(_) => writer::FOOTER.as_bytes().to_vec(),
        Err(failure) => machine.farewell(failure),
    };
    wire.put(&farewell);
    wire.close(FAREWELL).await;
    Ok(match answer {
        Ok(VerifyOutcome::Invalid | VerifyOutcome::Error(_)) => {
            about(Status::Ok, format!("{at}: connected, answers dialback"))
        }
        Ok(VerifyOutcome::Valid) => about(
            Status::Critical,
            format!("{at}: calls a dialback key valid that it never made: is it the right server?"),
        ),
        Err(failure) => about(Status::Critical, format!("{at}: {}", failure.detail())),
    })
}

async fn ask(
    config: &Config,
    machine: &mut Initiating,
    wire: &mut Wire,
) -> Result<VerifyOutcome, Failure> {
    let deadline = Instant::now() + PATIENCE;
    let mut frames = Frames::new(&config.limits);
    let mut steps = Vec::new();
    machine.connected(&mut steps);
    loop {
        for step in std::mem::take(&mut steps) {
            match step {
                Step::Send(text) => wire.put(&text),
                Step::Verified(outcome) => return Ok(outcome),
                // none of these is part of a question to a legacy server
                Step::StartTls
                | Step::Restart
                | Step::Judge
                | Step::Opened(_)
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
        match frames.next(wire.input()).map_err(|fault| Failure::malformed(&fault))? {
            Some(Frame::Header(header)) => {
                machine.header(&header, &mut steps)?;
                continue;
            }
            Some(Frame::Element(name, element)) => {
                machine.element(name, &element, &mut steps)?;
                continue;
            }
            Some(Frame::Stanza) => {
                machine.early_stanza()?;
                continue;
            }
            Some(Frame::Footer) => return Err(machine.footer()),
            None => {}
        }
        let stage = machine.stage();
        match timeout_at(deadline, wire.event()).await {
            Ok(Ok(Event::Read | Event::Written)) => {}
            Ok(Ok(Event::Eof)) => {
                let detail = format!("connection closed while {stage}");
                return Err(Failure::new(FailureKind::Stream, detail));
            }
            Ok(Err(error)) => {
                return Err(Failure::new(FailureKind::Stream, format!("{error}, {stage}")));
            }
            Err(_) => {
                let detail = format!("no answer in time, {stage}");
                return Err(Failure::new(FailureKind::Timeout, detail));
            }
        }
    }
}

/// How long the server may take to accept, and to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the last words may take.
const FAREWELL: Duration = Duration::from_secs(1);
