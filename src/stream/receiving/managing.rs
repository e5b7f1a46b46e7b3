//! Stream management as the end that accepted the stream (XEP-0198; protocol SM-1, SM-2, SM-7).

use super::{Action, Outcome, Receiving, say};
use crate::{
    stream::{Fault, management::Said},
    xml::{Element, ElementName, writer},
    xmpp::{Domain, DomainPair, Side, StreamCondition},
};

impl Receiving {
    pub(super) fn managing(
        &mut self,
        name: ElementName,
        element: &Element,
        out: &mut Vec<Action>,
    ) -> Outcome {
        let Some(said) = Said::parse(name, element) else {
            let reason = "malformed element of stream management";
            return Err(Fault::remote(StreamCondition::BadFormat, reason));
        };
        match said {
            Said::Enable { .. } | Said::Resume(_) if !self.offers_management() => {
                out.push(say(|out| writer::sm_failed(out, "feature-not-implemented")));
                self.ignore()
            }
            // XEP-0198 §3: not before authentication, and once.
            Said::Enable { .. } | Said::Resume(_) if self.managed || self.ledger.is_empty() => {
                out.push(say(|out| writer::sm_failed(out, "unexpected-request")));
                self.ignore()
            }
            Said::Enable { resume } => {
                self.managed = true;
                let resumable = resume && self.identity().is_some();
                out.push(Action::Manage { resumable });
                Ok(())
            }
            // Only SASL shows that it is who opened the former stream (attack A-23).
            Said::Resume(_) if self.identity().is_none() => {
                out.push(say(|out| writer::sm_failed(out, "item-not-found")));
                self.ignore()
            }
            Said::Resume(former) => {
                out.push(Action::Resume(former));
                self.ignore()
            }
            Said::Request if self.managed => {
                out.push(Action::AckWanted);
                Ok(())
            }
            Said::Answer(h) if self.managed => {
                out.push(Action::Acknowledged(h));
                Ok(())
            }
            Said::Request
            | Said::Answer(_)
            | Said::Enabled(_)
            | Said::Failed(_)
            | Said::Resumed(_) => self.ignore(),
        }
    }

    /// The stream goes on where a former one was broken off.
    pub fn resumed(&mut self) {
        self.managed = true;
    }

    /// Whether stanzas are acknowledged (XEP-0198).
    #[must_use]
    pub fn is_managed(&self) -> bool {
        self.managed
    }

    /// Whether the peer may still ask that stanzas of the other direction be acknowledged.
    #[must_use]
    pub fn may_be_managed(&self) -> bool {
        self.bidi && !self.managed && self.offers_management()
    }

    /// Who the peer is by SASL EXTERNAL, and whom it speaks to, as long as that pair is authorized:
    /// only the same may resume the stream.
    #[must_use]
    pub fn identity(&self) -> Option<(&Domain, &Domain)> {
        let (peer, us) = (self.external.as_ref()?.proof.domain(), self.names.to.as_ref()?);
        let pair = DomainPair::new(peer.clone(), us.clone());
        self.ledger.get(&pair).map(|_| (peer, us))
    }

    /// Whether the peer may have its stanzas acknowledged.
    pub(super) fn offers_management(&self) -> bool {
        let may = |from| self.decision(self.names.to.as_ref(), from).stream_management();
        self.side == Side::Peer && self.names.from.as_ref().is_none_or(may)
    }
}
