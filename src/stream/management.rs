//! Stream management (XEP-0198), as far as it needs no stream: what its elements say, and how many
//! stanzas are sent, acknowledged and handled, modulo 2^32 (protocol SM-1 to SM-7).

use std::time::Duration;

use crate::{
    xml::{Element, ElementName},
    xmpp::ns,
};

/// Bytes that an SM-ID may have (XEP-0198 §3).
const ID_MAX: usize = 4000;

/// How many stanzas one end has sent since stream management began on a stream, and of how many
/// the other end has said that it handled them.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sent {
    sent: u32,
    acknowledged: u32,
}

/// More stanzas are acknowledged than were sent (XEP-0198 §6).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the other end acknowledged {h} stanzas, but {sent} were sent")]
pub struct TooHigh {
    /// What the other end said.
    pub h: u32,
    /// What was sent, modulo 2^32.
    pub sent: u32,
}

impl Sent {
    /// The stream is resumed, and the other end has handled `h` stanzas of it: what it has not is
    /// sent, and counted, again (XEP-0198 §5).
    #[must_use]
    pub fn resumed(h: u32) -> Self {
        Self { sent: h, acknowledged: h }
    }

    /// So many more are sent.
    pub fn put(&mut self, stanzas: u32) {
        self.sent = self.sent.wrapping_add(stanzas);
    }

    /// So many of the last ones were never sent after all.
    pub fn take_back(&mut self, stanzas: u32) {
        self.sent = self.sent.wrapping_sub(stanzas);
    }

    /// How many are sent and not acknowledged.
    #[must_use]
    pub fn outstanding(&self) -> u32 {
        self.sent.wrapping_sub(self.acknowledged)
    }

    /// The other end has handled `h` stanzas. How many of them are news.
    ///
    /// # Errors
    /// [`TooHigh`] if so many were not sent, or if more are said to be handled already.
    pub fn acknowledge(&mut self, h: u32) -> Result<u32, TooHigh> {
        let news = h.wrapping_sub(self.acknowledged);
        if news > self.outstanding() {
            return Err(TooHigh { h, sent: self.sent });
        }
        self.acknowledged = h;
        Ok(news)
    }
}

/// A stream can be resumed, as the end that accepted it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resumption {
    /// The SM-ID.
    pub id: String,
    /// How long after its connection broke, if that is said.
    pub max: Option<Duration>,
}

/// A stream that is to be resumed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Former {
    /// Its SM-ID.
    pub id: String,
    /// How many stanzas came on it.
    pub h: u32,
}

/// What came of the wish to resume a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resumed {
    /// It is resumed; the other end has handled so many stanzas.
    Yes(u32),
    /// It is not; the other end may still know how many stanzas it has handled.
    No(Option<u32>),
}

/// What an element of stream management says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Said {
    /// Stream management is wanted, and that the stream can be resumed.
    Enable { resume: bool },
    /// It is on.
    Enabled(Option<Resumption>),
    /// It is not, or the former stream is not resumed.
    Failed(Option<u32>),
    /// This former stream is to be resumed.
    Resume(Former),
    /// It is.
    Resumed(Former),
    /// How many stanzas are handled?
    Request,
    /// So many.
    Answer(u32),
}

impl Said {
    /// Reads an element of `urn:xmpp:sm:3`. `None` if it does not say what it has to.
    pub(super) fn parse(name: ElementName, element: &Element) -> Option<Self> {
        let flag = |name| matches!(element.attr(name), Some("true" | "1"));
        let h = || element.attr("h").and_then(count);
        let id = |name| element.attr(name).filter(|id| (1..=ID_MAX).contains(&id.len()));
        let former = || Some(Former { id: id("previd")?.to_owned(), h: h()? });
        Some(match name {
            ElementName::SmEnable => Self::Enable { resume: flag("resume") },
            ElementName::SmEnabled => {
                Self::Enabled(id("id").filter(|_| flag("resume")).map(|id| {
                    let max = element.attr("max").and_then(count);
                    Resumption {
                        id: id.to_owned(),
                        max: max.map(|s| Duration::from_secs(s.into())),
                    }
                }))
            }
            ElementName::SmFailed => Self::Failed(h()),
            ElementName::SmResume => Self::Resume(former()?),
            ElementName::SmResumed => Self::Resumed(former()?),
            ElementName::SmRequest => Self::Request,
            ElementName::SmAnswer => Self::Answer(h()?),
            _ => return None,
        })
    }
}

/// Whether these features offer stream management.
pub(super) fn is_offered(features: &Element) -> bool {
    features.child(ns::SM, "sm").is_some()
}

/// An `xs:unsignedInt`.
fn count(text: &str) -> Option<u32> {
    let digits = text.trim_matches([' ', '\t', '\r', '\n']);
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    let is_number = digits.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests;
