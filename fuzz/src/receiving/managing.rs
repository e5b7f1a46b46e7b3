//! Stream management on an accepted stream: what has to come of each element, and what the gate does
//! when the machine wants it.

use std::net::IpAddr;

use fedgate::{
    config::policy::Query,
    stream::{Fault, Former, TooHigh},
    xml::{ElementName, writer},
    xmpp::{Direction, DomainPair, Side, StreamCondition},
};

use super::super::management::{self, Outgoing, Resumable};
use super::{End, Piece, ids};

/// What the machine may want of the gate in matters of stream management.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Managing {
    Enable { resumable: bool },
    Resume(Former),
    Tell,
    Acknowledge(u32),
}

/// What has to come of an element.
#[derive(Debug)]
pub(super) enum Expected {
    Nothing,
    Managing(Managing),
    Refusal(&'static str),
    BadFormat,
}

impl End {
    /// Who the peer is by SASL, as long as that is good for anything: only it may resume a stream.
    pub(super) fn identity(&self) -> Option<DomainPair> {
        let pair = DomainPair::new(self.external.clone()?, self.machine.addressed()?.clone());
        self.authorized.contains(&pair).then_some(pair)
    }

    /// What has to come of it, if it is of stream management (XEP-0198 §3 to §6).
    pub(super) fn expected(&self, piece: &Piece) -> Expected {
        let Piece::Element(name, element) = piece else { return Expected::Nothing };
        let wish = matches!(name, ElementName::SmEnable | ElementName::SmResume);
        let count = matches!(name, ElementName::SmRequest | ElementName::SmAnswer);
        if !(wish || count) || self.side == Side::Legacy || !self.tls {
            return Expected::Nothing;
        }
        let (h, id) = (management::h(element), management::id(element, "previd"));
        let lacks = match name {
            ElementName::SmResume => h.is_none() || id.is_none(),
            ElementName::SmAnswer => h.is_none(),
            _ => false,
        };
        if lacks {
            return Expected::BadFormat;
        }
        let (h, id) = (h.unwrap_or_default(), id.unwrap_or_default());
        let refused = self.machine.claimed().is_some_and(|remote| {
            let address = Some(IpAddr::from([192, 0, 2, 1]));
            let (local, direction) = (self.machine.addressed(), Direction::Inbound);
            let query = Query { local, remote, direction, address };
            !self.config.policy.decide(&query).stream_management()
        });
        match name {
            _ if wish && refused => Expected::Refusal("feature-not-implemented"),
            _ if wish && (self.managed || self.authorized.is_empty()) => {
                Expected::Refusal("unexpected-request")
            }
            ElementName::SmEnable => {
                let resumable = management::is_true(element, "resume") && self.identity().is_some();
                Expected::Managing(Managing::Enable { resumable })
            }
            ElementName::SmResume if self.identity().is_none() => {
                Expected::Refusal("item-not-found")
            }
            ElementName::SmResume => {
                Expected::Managing(Managing::Resume(Former { id: id.to_owned(), h }))
            }
            _ if !self.managed => Expected::Nothing,
            ElementName::SmRequest => Expected::Managing(Managing::Tell),
            _ => Expected::Managing(Managing::Acknowledge(h)),
        }
    }

    pub(super) fn as_expected(
        &self,
        expected: Expected,
        said: &[Vec<u8>],
        outcome: &Result<(), Fault>,
    ) {
        let managing = &self.managing[..];
        match (expected, outcome) {
            (Expected::BadFormat, Err(fault)) => {
                let early = fault.condition() == StreamCondition::NotAuthorized;
                assert!(early || fault.condition() == StreamCondition::BadFormat, "{fault}");
                assert_eq!(managing, []);
            }
            (Expected::BadFormat, Ok(())) => panic!("a malformed element passes"),
            // before the features, or once too often
            (_, Err(_)) => assert!(matches!(managing, [] | [Managing::Resume(_)])),
            (Expected::Nothing, Ok(())) => assert_eq!(managing, []),
            (Expected::Managing(wanted), Ok(())) => {
                assert_eq!((managing, said.len()), (&[wanted][..], 0));
            }
            (Expected::Refusal(condition), Ok(())) => {
                assert_eq!(managing, []);
                management::assert_failed(&self.said(said), condition);
            }
        }
    }

    /// The gate does what the machine wants.
    pub(super) fn manage(&mut self) -> Result<(), Fault> {
        for managing in std::mem::take(&mut self.managing) {
            let mut text = Vec::new();
            match managing {
                Managing::Enable { resumable } => {
                    let who = self.identity().filter(|_| resumable);
                    self.session = who.map(|pair| (ids(), pair.sender));
                    let session = self.session.as_ref().map(|(id, _)| (id.as_str(), 60));
                    writer::sm_enabled(&mut text, session);
                    (self.managed, self.received) = (true, 0);
                    self.outgoing = Outgoing::default();
                }
                Managing::Resume(Former { id, h }) => {
                    let who = self.identity().map(|pair| pair.sender);
                    let mut sessions = self.sessions.iter();
                    let found = sessions
                        .position(|(former, whose)| former.id == id && Some(whose) == who.as_ref());
                    match found.map(|at| self.sessions.remove(at)) {
                        None => writer::sm_failed(&mut text, "item-not-found"),
                        Some((mut former, whose)) => {
                            self.acknowledged(former.outgoing.acknowledge(h))?;
                            self.machine.resumed();
                            writer::sm_resumed(&mut text, &former.id, former.received);
                            (self.managed, self.received) = (true, former.received);
                            self.outgoing = Outgoing::resumed(h);
                            self.session = Some((former.id, whose));
                        }
                    }
                }
                Managing::Tell => writer::sm_answer(&mut text, self.received),
                Managing::Acknowledge(h) => {
                    let outcome = self.outgoing.acknowledge(h);
                    self.acknowledged(outcome)?;
                }
            }
            for (name, element) in self.ear.hear(&text) {
                let counts = matches!(name, ElementName::SmResumed | ElementName::SmAnswer);
                assert!(!counts || management::h(&element) == Some(self.received));
            }
        }
        self.look();
        Ok(())
    }

    fn acknowledged(&mut self, outcome: Result<(), TooHigh>) -> Result<(), Fault> {
        self.too_high = outcome.err();
        outcome.map_err(Fault::from)
    }

    /// The connection breaks: the peer may resume the stream, if it had said so, on the next one.
    pub(super) fn breaks(&mut self, unwritten: usize) {
        self.ear.end(b"");
        let mut next = Self::new(self.settings);
        next.sessions = std::mem::take(&mut self.sessions);
        if let Some((id, whose)) = self.session.take() {
            let mut outgoing = std::mem::take(&mut self.outgoing);
            outgoing.take_back(unwritten);
            next.sessions.push((Resumable { id, outgoing, received: self.received }, whose));
        }
        *self = next;
    }
}
