//! Stream management as the end that opened the stream (XEP-0198; protocol SM-1, SM-2, SM-6).

use super::{Initiating, Outcome, State, Step, fail, say};
use crate::{
    stream::{
        FailureKind,
        management::{Resumed, Said},
        receiving::Authentication,
    },
    xml::{Element, ElementName, writer},
    xmpp::StreamCondition,
};

impl Initiating {
    /// Authenticated by SASL: the stream goes on where a former one was broken off, if it can, or
    /// is a new one. A former one needs the same identity, which only SASL shows.
    pub(super) fn resume_or_open(&mut self, out: &mut Vec<Step>) {
        match &self.setup.former {
            Some(former) if self.management.is_offered && self.setup.management => {
                out.push(say(|out| writer::sm_resume(out, &former.id, former.h)));
                self.state = State::Resume;
            }
            _ => self.opened(Authentication::External, out),
        }
    }

    /// The stream is open: stream management is asked for, and what is sent from here on counts
    /// (XEP-0198 §4, note).
    pub(super) fn manage(&mut self, how: Authentication, out: &mut Vec<Step>) {
        if self.setup.former.is_some() && self.management.resumed.is_none() {
            self.management.resumed = Some(Resumed::No(None));
        }
        if self.management.is_on || !self.management.is_offered || !self.setup.management {
            return;
        }
        let resumable = self.setup.resumption && how == Authentication::External;
        out.push(say(|out| writer::sm_enable(out, resumable)));
        self.management.is_wanted = true;
        self.management.is_resumable = resumable;
    }

    pub(super) fn managed(
        &mut self,
        name: ElementName,
        element: &Element,
        out: &mut Vec<Step>,
    ) -> Outcome {
        let Some(said) = Said::parse(name, element) else {
            let failure = fail(FailureKind::Stream, "malformed element of stream management");
            return Err(failure.telling(StreamCondition::BadFormat));
        };
        let is_asked = self.management.is_wanted && !self.management.is_on;
        match (self.state, said) {
            (State::Resume, Said::Resumed(former))
                if self.setup.former.as_ref().is_some_and(|ours| ours.id == former.id) =>
            {
                self.management.resumed = Some(Resumed::Yes(former.h));
                (self.management.is_wanted, self.management.is_on) = (true, true);
                self.opened(Authentication::External, out);
                Ok(())
            }
            (State::Resume, Said::Failed(h)) => {
                self.management.resumed = Some(Resumed::No(h));
                self.opened(Authentication::External, out);
                Ok(())
            }
            (State::Open, Said::Enabled(resumption)) if is_asked => {
                self.management.is_on = true;
                out.push(Step::Managed(resumption.filter(|_| self.management.is_resumable)));
                Ok(())
            }
            (State::Open, Said::Failed(_)) if is_asked => {
                self.management.is_wanted = false;
                out.push(Step::Unmanaged);
                Ok(())
            }
            // What the other end answers it has asked for: it may do so behind our request at once.
            (State::Open, Said::Request) if self.management.is_wanted => {
                out.push(Step::AckWanted);
                Ok(())
            }
            (State::Open, Said::Answer(h)) if self.management.is_wanted => {
                out.push(Step::Acknowledged(h));
                Ok(())
            }
            _ => self.ignore(),
        }
    }

    /// Whether stanzas that are sent from here on are to be acknowledged (XEP-0198).
    #[must_use]
    pub fn is_managed(&self) -> bool {
        self.management.is_wanted
    }

    /// Whether the other end may still say that the stream can be resumed. What is sent before, and
    /// on a connection that breaks before, nobody will know of.
    #[must_use]
    pub fn awaits_resumption(&self) -> bool {
        self.management.is_wanted && self.management.is_resumable && !self.management.is_on
    }

    /// What came of the wish to resume a former stream; none if there was no such wish.
    #[must_use]
    pub fn resumed(&self) -> Option<Resumed> {
        self.management.resumed
    }
}
