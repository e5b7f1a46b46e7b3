//! The four dialback elements as values (XEP-0220 §2), because two element names carry four
//! meanings:
//!
//! ```text
//! initiating server        receiving server         authoritative server
//!        | 1 db:result key ------->|                        |
//!        |                         | 2 db:verify key ------>|
//!        |                         |<------ 3 db:verify type|
//!        |<------- 4 db:result type|                        |
//! ```

use crate::{
    xml::Element,
    xmpp::{Domain, DomainPair, StanzaCondition, ns},
};

/// The longest key and id that are taken from others (protocol DB-1, ST-2), in bytes.
const TEXT_MAX: usize = 1024;
/// The longest domain as others spell it (RFC 7622 §3.2), in bytes: some write what counts for nothing.
const SPELLING_MAX: usize = 1023;

/// Steps 1 and 2: a request, from the server that asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct DialbackRequest {
    /// `from` and `to` as they stand in the element.
    pub pair: DomainPair,
    /// The same as they are spelled there.
    pub spelling: Spelling,
    /// The stream id, in step 2.
    pub id: Option<String>,
    /// The key, opaque unless it is ours.
    pub key: String,
}

/// `from` and `to` of a request as they came. By that the server that asks knows the answer: old ones
/// compare names that they have not brought into one form, such as `example.org` and `example.org.`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spelling {
    /// A spelling of the sender.
    pub from: Box<str>,
    /// A spelling of the target.
    pub to: Box<str>,
}

impl Spelling {
    /// That of the pair of the answers.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self { from: self.to, to: self.from }
    }
}

/// Steps 3 and 4: what the other server says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VerifyOutcome {
    /// The key holds, the pair is accepted.
    Valid,
    /// It does not.
    Invalid,
    /// It could not be found out (XEP-0220 §2.5), with the condition if we know it.
    Error(Option<StanzaCondition>),
}

/// Steps 3 and 4: an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Answer {
    /// `from` and `to` as they stand in the element.
    pub pair: DomainPair,
    /// The stream id, in step 3.
    pub id: Option<String>,
    /// What it says.
    pub outcome: VerifyOutcome,
}

/// A dialback element that is neither a request nor an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum DialbackError {
    /// `from` or `to` is missing, or `from` is no domain or too long for one (protocol DB-3).
    #[error("a dialback element without a valid from and to")]
    Addressing,
    /// `to` is no domain, or too long for one.
    #[error("a dialback element to what is no domain")]
    Target,
    /// No key, or one that is too long.
    #[error("a dialback element without a usable key")]
    Key,
    /// No id, or one that is too long.
    #[error("a dialback element without a usable id")]
    Id,
    /// A `type` that XEP-0220 does not know.
    #[error("a dialback element of unknown type")]
    Type,
}

/// A `db:result` or `db:verify`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Dialback {
    /// Without `type`.
    Request(DialbackRequest),
    /// With `type`.
    Answer(Answer),
}

impl Dialback {
    /// Reads a `db:result` (`with_id` false) or `db:verify` (`with_id` true).
    ///
    /// # Errors
    /// [`DialbackError`].
    pub(super) fn parse(element: &Element, with_id: bool) -> Result<Self, DialbackError> {
        let name = |name| element.attr(name).ok_or(DialbackError::Addressing);
        let (from, to) = (name("from")?, name("to")?);
        let sender = domain(from).ok_or(DialbackError::Addressing)?;
        let target = domain(to).ok_or(DialbackError::Target)?;
        let pair = DomainPair::new(sender, target);
        let id = match element.attr("id") {
            _ if !with_id => None,
            Some(id) if !id.is_empty() && id.len() <= TEXT_MAX => Some(id.to_owned()),
            _ => return Err(DialbackError::Id),
        };
        let outcome = match element.attr("type") {
            None => {
                let key = element.text().trim();
                if key.is_empty() || key.len() > TEXT_MAX {
                    return Err(DialbackError::Key);
                }
                let spelling = Spelling { from: from.into(), to: to.into() };
                let key = key.to_owned();
                return Ok(Self::Request(DialbackRequest { pair, spelling, id, key }));
            }
            Some("valid") => VerifyOutcome::Valid,
            Some("invalid") => VerifyOutcome::Invalid,
            Some("error") => VerifyOutcome::Error(error_condition(element)),
            Some(_) => return Err(DialbackError::Type),
        };
        Ok(Self::Answer(Answer { pair, id, outcome }))
    }
}

fn domain(text: &str) -> Option<Domain> {
    Domain::parse(text).ok().filter(|_| text.len() <= SPELLING_MAX)
}

/// The condition inside the `<error/>` child, whatever namespace that is in (protocol DB-2).
fn error_condition(element: &Element) -> Option<StanzaCondition> {
    element
        .children()
        .iter()
        .filter(|child| child.name == "error")
        .flat_map(Element::children)
        .filter(|condition| condition.namespace == ns::STANZA_ERRORS)
        .find_map(|condition| StanzaCondition::from_wire(&condition.name))
}
