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
    reply(name, stanza, tag, condition, text)
}

/// The answer to a stanza that is refused for what it carries. As [`error_reply`], but there is one
/// to presence without a type too: who joins a room waits for it (XEP-0045 §7.2). There is none to
/// a headline, to which no reply is expected (RFC 6121 §5.2.2).
#[must_use]
pub fn refusal(
    stanza: &[u8],
    tag: &Tag,
    condition: StanzaCondition,
    text: &str,
) -> Option<Vec<u8>> {
    let kind = tag.type_.map(|span| span.text(stanza));
    match (tag.name, kind.as_deref()) {
        (ElementName::Message, Some("headline")) => None,
        (ElementName::Presence, None) => reply("presence", stanza, tag, condition, Some(text)),
        _ => error_reply(stanza, tag, condition, Some(text)),
    }
}

fn reply(
    name: &str,
    stanza: &[u8],
    tag: &Tag,
    condition: StanzaCondition,
    text: Option<&str>,
) -> Option<Vec<u8>> {
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
