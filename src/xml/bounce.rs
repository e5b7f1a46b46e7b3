//! Stanza errors for stanzas that cannot be delivered (RFC 6120 §8.3; protocol rule 12.6).
//!
//! An error is never answered with an error, and what was sent is not sent back.

use super::{
    token::{ElementName, Tag},
    writer,
};
use crate::xmpp::StanzaCondition;

/// The answer to a stanza: addresses swapped, the same `id`, and why. `text` is for people and
/// should name no server.
///
/// `None` for what must not be answered: errors, answers to requests, presence other than about
/// subscriptions, elements that are no stanzas, and stanzas without an address to answer to.
#[must_use]
pub fn error_reply(
    stanza: &[u8],
    tag: &Tag,
    condition: StanzaCondition,
    text: Option<&str>,
) -> Option<Vec<u8>> {
    let kind = tag.type_.map(|span| span.text(stanza));
    let name = match (tag.name, kind.as_deref()) {
        (ElementName::Iq, Some("get" | "set")) => "iq",
        (ElementName::Message, kind) if kind != Some("error") => "message",
        (
            ElementName::Presence,
            Some("subscribe" | "subscribed" | "unsubscribe" | "unsubscribed"),
        ) => "presence",
        _ => return None,
    };
    let (from, to) = (tag.from?.text(stanza), tag.to?.text(stanza));
    let mut out = Vec::new();
    out.push(b'<');
    out.extend_from_slice(name.as_bytes());
    writer::attribute(&mut out, "from", &to);
    writer::attribute(&mut out, "to", &from);
    if let Some(id) = tag.id {
        writer::attribute(&mut out, "id", &id.text(stanza));
    }
    writer::attribute(&mut out, "type", "error");
    out.push(b'>');
    writer::stanza_error(&mut out, condition, text);
    out.extend_from_slice(b"</");
    out.extend_from_slice(name.as_bytes());
    out.push(b'>');
    Some(out)
}

#[cfg(test)]
mod tests;
