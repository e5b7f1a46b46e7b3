//! What one stanza carries, as classes.
//!
//! ```text
//!   presence (no type) ........ presence; with muc or muc#user: muc
//!   presence subscribe ........ subscriptions
//!   message groupchat ......... muc
//!   message ................... muc#user/invite, x:conference: muc; pubsub#event: pubsub
//!                               ibb data, jingle-message propose of a file: file_transfer
//!   iq get, set ............... muc*: muc; pubsub*: pubsub
//!                               si, bytestreams, ibb, upload, jingle of a file: file_transfer
//!   any of these .............. a namespace that the operator names, at any depth: payloads
//! ```

use std::ops::ControlFlow;

use super::{Class, Classes, Payloads};
use crate::{
    xml::{
        ElementError, ElementName, Header, Tag,
        walk::{self, Inner},
    },
    xmpp::ns,
};

/// A stanza that asks for something, by what can be told without its content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Carried {
    kind: Kind,
    classes: Classes,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Iq,
    Message,
    Presence,
}

impl Carried {
    /// Looks at a stanza's own attributes. None: it answers, ends something or takes leave, and
    /// passes whatever it carries.
    #[must_use]
    pub fn by(stanza: &[u8], tag: &Tag) -> Option<Self> {
        let of_type = tag.type_.map(|span| span.text(stanza));
        let of_type = of_type.as_deref();
        let mut classes = Classes::default();
        // types that nobody knows are looked at as if they were none: who gets them may do so too
        let kind = match (tag.name, of_type) {
            (ElementName::Iq, Some("error" | "result")) => return None,
            (ElementName::Iq, _) => Kind::Iq,
            (ElementName::Message, Some("error")) => return None,
            (ElementName::Message, of_type) => {
                if of_type == Some("groupchat") {
                    classes.insert(Class::Muc);
                }
                Kind::Message
            }
            (
                ElementName::Presence,
                Some("error" | "probe" | "unavailable" | "unsubscribe" | "unsubscribed"),
            ) => return None,
            (ElementName::Presence, of_type) => {
                match of_type {
                    Some("subscribe") => classes.insert(Class::Subscriptions),
                    Some("subscribed") => {}
                    _ => classes.insert(Class::Presence),
                }
                Kind::Presence
            }
            _ => return None,
        };
        Some(Self { kind, classes })
    }

    /// The classes that can be told without its content.
    #[must_use]
    pub fn classes(self) -> Classes {
        self.classes
    }

    /// All classes of the stanza, whose element and stream header these are; `payloads` are those
    /// that the operator names.
    ///
    /// # Errors
    /// [`ElementError::Malformed`] for what never went through the framer.
    pub fn inside(
        self,
        stanza: &[u8],
        header: &Header,
        payloads: Option<&Payloads>,
    ) -> Result<Classes, ElementError> {
        let mut search = Search { kind: self.kind, found: self.classes, within: Within::Other };
        walk::elements(stanza, header, |inner| {
            search.visit(inner);
            if payloads.is_some_and(|payloads| payloads.denies(&inner.namespace)) {
                search.found.insert(Class::Payloads);
            }
            ControlFlow::Continue(())
        })?;
        Ok(search.found)
    }
}

struct Search {
    kind: Kind,
    found: Classes,
    within: Within,
}

/// The child of the stanza that is walked through.
enum Within {
    /// An offer by Jingle, which is of a file if a description says so.
    Jingle,
    /// `x` of muc#user.
    MucUser,
    Pubsub,
    Other,
}

impl Search {
    fn visit(&mut self, inner: &Inner<'_>) {
        if inner.depth == 1 {
            self.within = Within::Other;
            if let Some(class) = self.child(inner) {
                self.found.insert(class);
            }
            return;
        }
        match self.within {
            Within::Jingle
                if inner.namespace.starts_with(FILE_TRANSFER) && inner.name() == "description" =>
            {
                self.found.insert(Class::FileTransfer);
            }
            Within::MucUser if inner.depth == 2 && inner.name() == "invite" => {
                self.found.insert(Class::Muc);
            }
            // nobody is held in a subscription
            Within::Pubsub if inner.depth == 2 && inner.name() != "unsubscribe" => {
                self.found.insert(Class::Pubsub);
            }
            Within::Jingle | Within::MucUser | Within::Pubsub | Within::Other => {}
        }
    }

    /// The class of a child of the stanza, if it is plain without what is in it.
    fn child(&mut self, child: &Inner<'_>) -> Option<Class> {
        let name = child.name();
        let namespace = &*child.namespace;
        match (self.kind, namespace) {
            (Kind::Presence, ns::MUC | ns::MUC_USER) => Some(Class::Muc),
            (Kind::Presence, _) => None,
            (Kind::Message, ns::MUC_USER) => {
                self.within = Within::MucUser;
                None
            }
            (Kind::Message, ns::CONFERENCE) => Some(Class::Muc),
            (Kind::Message, ns::PUBSUB_EVENT) => Some(Class::Pubsub),
            (Kind::Message, ns::IBB) => Some(Class::FileTransfer),
            (Kind::Message, _) => {
                if name == "propose" && namespace.starts_with(JINGLE_MESSAGE) {
                    self.within = Within::Jingle;
                }
                None
            }
            (Kind::Iq, ns::SI | ns::BYTESTREAMS) => Some(Class::FileTransfer),
            (Kind::Iq, ns::IBB) => (name != "close").then_some(Class::FileTransfer),
            (Kind::Iq, ns::PUBSUB) => {
                self.within = Within::Pubsub;
                None
            }
            (Kind::Iq, _) if is_or_below(namespace, ns::MUC, '#') => Some(Class::Muc),
            (Kind::Iq, _) if is_or_below(namespace, ns::PUBSUB, '#') => Some(Class::Pubsub),
            (Kind::Iq, _) if is_or_below(namespace, ns::UPLOAD, ':') => Some(Class::FileTransfer),
            (Kind::Iq, _) => {
                let offers = || !child.attr("action").is_some_and(|a| ENDINGS.contains(&&*a));
                if name == "jingle" && namespace.starts_with(JINGLE) && offers() {
                    self.within = Within::Jingle;
                }
                None
            }
        }
    }
}

fn is_or_below(namespace: &str, base: &str, separator: char) -> bool {
    namespace.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with(separator))
}

/// How the namespaces of Jingle begin (XEP-0166), whatever the version.
const JINGLE: &str = "urn:xmpp:jingle:";
/// How those of its offers by message begin (XEP-0353).
const JINGLE_MESSAGE: &str = "urn:xmpp:jingle-message:";
/// How those of its file transfer begin (XEP-0234).
const FILE_TRANSFER: &str = "urn:xmpp:jingle:apps:file-transfer:";
/// What answers an offer, or ends what came of one (XEP-0166 §7.2).
const ENDINGS: [&str; 5] =
    ["content-accept", "content-reject", "content-remove", "session-accept", "session-terminate"];

#[cfg(test)]
mod tests;
