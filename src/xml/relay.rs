//! Carrying a stanza from one stream to another (RFC 6120 §4.8.5, §4.7.4; protocol rules XML-8 to
//! XML-11).
//!
//! A stanza's bytes mean what they mean inside the stream they came on. In the common case they
//! mean the same inside a stream of ours, and are passed on as they are, not even copied. Else the
//! declarations and the language that they took from their own stream's header are written into
//! the stanza's start tag. Nothing else is ever changed.

use bytes::Bytes;

use super::{
    token::{Header, Tag},
    writer,
};

/// The bytes of a stanza for a stream whose header is one of ours (see [`writer::StreamHeader`]).
///
/// `stanza`, `tag` and `header` are what the framer found on the inbound stream; the stanza has to
/// be in the content namespace without a prefix, which the framer sees to. `lang` is the language
/// to stamp on a stanza that names none: that of the inbound header.
#[must_use]
pub fn outgoing(stanza: &Bytes, tag: &Tag, header: &Header, lang: Option<&str>) -> Bytes {
    let missing = missing(tag, header);
    let lang = lang.filter(|_| !tag.has_lang);
    if missing == 0 && lang.is_none() {
        return stanza.clone();
    }
    let Some((name, rest)) = stanza.split_at_checked(tag.insert_at as usize) else {
        return stanza.clone();
    };
    let mut out = Vec::with_capacity(stanza.len() + ROOM);
    out.extend_from_slice(name);
    for (index, (prefix, uri)) in header.prefixes.iter().enumerate() {
        if missing.checked_shr(index as u32).is_some_and(|bits| bits & 1 == 1) {
            out.extend_from_slice(b" xmlns:");
            out.extend_from_slice(prefix.as_bytes());
            out.extend_from_slice(b"='");
            writer::escape(&mut out, uri);
            out.push(b'\'');
        }
    }
    if let Some(lang) = lang {
        writer::attribute(&mut out, "xml:lang", lang);
    }
    out.extend_from_slice(rest);
    out.into()
}

/// Whether [`outgoing`] would return the stanza's bytes as they are.
#[must_use]
pub fn is_verbatim(tag: &Tag, header: &Header, lang: Option<&str>) -> bool {
    missing(tag, header) == 0 && (lang.is_none() || tag.has_lang)
}

/// Bits of the header's prefixes whose declarations the stanza needs and does not bring.
fn missing(tag: &Tag, header: &Header) -> u64 {
    // names show which prefixes are used, values do not (QNames in content): if there is any that
    // our headers do not declare just so, all of them go along
    (tag.used | header.foreign) & !tag.own
}

/// Bytes to spare for what is inserted, so that most copies need one allocation.
const ROOM: usize = 128;

#[cfg(test)]
mod tests;
