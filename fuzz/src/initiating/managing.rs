//! Stream management on a stream that we open: what is asked for and when, that each consent is one
//! that came, and what the gate makes of them.

use fedgate::{
    stream::{Purpose, Resumed, Resumption},
    xml::{Element, ElementName, writer},
    xmpp::Side,
};

use super::super::management::{self, Outgoing, Resumable};
use super::End;

impl End {
    /// `<enable/>` is said: when the stream is as good as open, once, and for a stream that can be
    /// resumed only by who is authenticated (XEP-0198 §3, §5).
    pub(super) fn asks_to_manage(&mut self, element: &Element) {
        self.may_manage();
        assert!(!self.managed && !self.counting);
        self.resumable = management::is_true(element, "resume");
        assert!(!self.resumable || self.setup.resumption && self.authenticated);
        (self.managed, self.outgoing) = (true, Outgoing::default());
    }

    /// `<resume/>` is said: once, for what was to be resumed, behind authentication.
    pub(super) fn asks_to_resume(&mut self, element: &Element) {
        self.may_manage();
        assert!(self.authenticated && self.proven && !self.resuming);
        let former = self.former.as_ref().expect("a former stream");
        assert_eq!(element.attr("previd"), Some(former.id.as_str()));
        assert_eq!(management::h(element), Some(former.received));
        self.resuming = true;
    }

    fn may_manage(&self) {
        let Self { setup, .. } = self;
        assert!(setup.management && setup.side == Side::Peer && setup.purpose == Purpose::Send);
        assert!(self.offered && self.tls && !self.opened);
    }

    /// The stream opens: a former one is resumed if the other end just said so, and no pair comes
    /// or goes on it that is not proven on this connection.
    pub(super) fn is_resumed(&mut self) {
        assert!(self.inbound.is_empty());
        let resumed = self.machine.resumed();
        let Some(former) = &mut self.former else {
            assert_eq!(resumed, None);
            return;
        };
        match resumed.expect("what came of it") {
            Resumed::Yes(h) => {
                let (name, answer) = self.came.as_ref().expect("the consent");
                assert!(self.resuming && *name == ElementName::SmResumed);
                assert_eq!(answer.attr("previd"), Some(former.id.as_str()));
                assert_eq!(management::h(answer), Some(h));
                assert!(!self.managed);
                self.too_high = former.outgoing.acknowledge(h).err();
                (self.outgoing, self.received) = (Outgoing::resumed(h), former.received);
                (self.managed, self.counting) = (true, true);
                self.resumption = Some(Resumption { id: former.id.clone(), max: None });
            }
            Resumed::No(h) if self.resuming => {
                let (name, answer) = self.came.as_ref().expect("the refusal");
                assert_eq!((*name, management::h(answer)), (ElementName::SmFailed, h));
                // what it claims of a stream that it has let go of ends nothing
                let _ = h.map(|h| former.outgoing.acknowledge(h));
            }
            Resumed::No(h) => assert_eq!(h, None),
        }
    }

    /// Stanzas that come are counted from here on.
    pub(super) fn is_managed(&mut self, resumption: Option<Resumption>) {
        let (name, answer) = self.came.as_ref().expect("the consent");
        assert!(*name == ElementName::SmEnabled && self.managed && !self.counting);
        if let Some(Resumption { id, max }) = &resumption {
            assert!(self.resumable, "nobody asked for that");
            assert!(management::is_true(answer, "resume"));
            assert_eq!(management::id(answer, "id"), Some(id.as_str()));
            let seconds = max.map(|max| max.as_secs());
            assert_eq!(answer.attr("max").and_then(management::number).map(u64::from), seconds);
        }
        (self.counting, self.received) = (true, 0);
        self.resumption = resumption;
    }

    pub(super) fn is_unmanaged(&mut self) {
        let (name, _) = self.came.as_ref().expect("the refusal");
        assert!(*name == ElementName::SmFailed && self.managed && !self.counting);
        self.managed = false;
    }

    /// The other end wants to know how many stanzas came.
    pub(super) fn tell(&mut self) {
        assert!(self.managed && self.opened);
        assert!(matches!(self.came, Some((ElementName::SmRequest, _))));
        let mut text = Vec::new();
        writer::sm_answer(&mut text, if self.counting { self.received } else { 0 });
        self.ear.hear(&text);
    }

    /// It has handled so many of ours.
    pub(super) fn acknowledged(&mut self, h: u32) {
        let (name, answer) = self.came.as_ref().expect("an answer");
        assert!(*name == ElementName::SmAnswer && self.managed && self.opened);
        assert_eq!(management::h(answer), Some(h));
        self.too_high = self.outgoing.acknowledge(h).err();
    }

    /// The connection breaks, and so many stanzas were never written: the stream goes on over
    /// another connection, if the other end has said that it can.
    pub(super) fn breaks(&mut self, unwritten: usize) {
        self.ear.end(b"");
        let Some(Resumption { id, .. }) = self.resumption.take() else {
            self.closed = true;
            return;
        };
        let mut outgoing = std::mem::take(&mut self.outgoing);
        outgoing.take_back(unwritten);
        let former = Resumable { id, outgoing, received: self.received };
        *self = Self::new(self.settings, Some(former));
    }
}
