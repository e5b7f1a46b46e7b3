//! References in text and attribute values (XML 1.0 §4.1, §4.6; RFC 6120 §11.1).

use std::borrow::Cow;

use super::{super::Fault, chars};

/// Reads on in a reference whose `&` stands before `start`; `pos` is the first byte not seen.
/// `true` when `pos` has come to stand behind its `;`, `false` when bytes are missing.
pub(super) fn scan(buf: &[u8], start: usize, pos: &mut usize) -> Result<bool, Fault> {
    let rest = buf.get(*pos..).unwrap_or_default();
    let run = rest.iter().take_while(|&&b| b == b'#' || chars::is(b, chars::REFERENCE)).count();
    *pos += run;
    let body = buf.get(start..*pos).unwrap_or_default();
    let names_entity = body.first().is_some_and(|&b| b != b'#' && chars::is(b, chars::NAME_START));
    let most = if body.first() == Some(&b'#') { MAX_LEN } else { MAX_NAME };
    if body.len() > most {
        return Err(if names_entity { Fault::ForeignEntity } else { Fault::BadReference });
    }
    if !may_become_one(body) {
        return Err(Fault::BadReference);
    }
    match buf.get(*pos) {
        None => Ok(false),
        Some(b';') if expand(body).is_some() => {
            *pos += 1;
            Ok(true)
        }
        Some(b';') if names_entity => Err(Fault::ForeignEntity),
        Some(_) => Err(Fault::BadReference),
    }
}

/// Whether what has come of a number is digits; names are looked at when they are whole.
fn may_become_one(body: &[u8]) -> bool {
    match body {
        [b'#', b'x', hex @ ..] => hex.iter().all(u8::is_ascii_hexdigit),
        [b'#', decimal @ ..] => decimal.iter().all(u8::is_ascii_digit),
        _ => true,
    }
}

/// The character that a reference stands for; `body` is what is between `&` and `;`.
pub(in crate::xml) fn expand(body: &[u8]) -> Option<char> {
    let number = match body {
        b"amp" => return Some('&'),
        b"lt" => return Some('<'),
        b"gt" => return Some('>'),
        b"quot" => return Some('"'),
        b"apos" => return Some('\''),
        [b'#', b'x', hex @ ..] => digits(hex, 16)?,
        [b'#', decimal @ ..] => digits(decimal, 10)?,
        _ => return None,
    };
    char::from_u32(number).filter(|&c| chars::is_char(c))
}

fn digits(digits: &[u8], radix: u32) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits
        .iter()
        .try_fold(0_u32, |n, &b| n.checked_mul(radix)?.checked_add(char::from(b).to_digit(radix)?))
}

/// The value of an attribute from what is between its quotes (XML 1.0 §2.11, §3.3.3). References
/// that were not checked before are left out.
pub(in crate::xml) fn normalise_value(raw: &str) -> Cow<'_, str> {
    if !raw.contains(['&', '\t', '\n', '\r']) {
        return Cow::Borrowed(raw);
    }
    let mut value = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find(['&', '\t', '\n', '\r']) {
        let (before, tail) = rest.split_at(at);
        value.push_str(before);
        rest = if let Some(reference) = tail.strip_prefix('&') {
            let (body, after) = reference.split_once(';').unwrap_or((reference, ""));
            value.extend(expand(body.as_bytes()));
            after
        } else {
            value.push(' ');
            tail.strip_prefix("\r\n").or_else(|| tail.get(1..)).unwrap_or_default()
        };
    }
    value.push_str(rest);
    Cow::Owned(value)
}

/// The bytes of a value, and whether they are written as in a tag or as they are meant.
pub(in crate::xml) type Written<'a> = (&'a [u8], bool);

/// Whether two values are the same. Copies nothing, and reads no more of either than they share.
pub(in crate::xml) fn same_value(one: Written<'_>, other: Written<'_>) -> bool {
    if !one.1 && !other.1 {
        return one.0 == other.0;
    }
    characters(one).eq(characters(other))
}

/// Those of [`normalise_value`] where the value is escaped.
fn characters((raw, escaped): Written<'_>) -> impl Iterator<Item = char> {
    let mut rest = std::str::from_utf8(raw).unwrap_or_default();
    std::iter::from_fn(move || {
        loop {
            let mut chars = rest.chars();
            let first = chars.next()?;
            let tail = chars.as_str();
            rest = tail;
            match first {
                '&' if escaped => {
                    let (body, after) = tail.split_once(';').unwrap_or((tail, ""));
                    rest = after;
                    if let Some(expanded) = expand(body.as_bytes()) {
                        return Some(expanded);
                    }
                }
                '\t' | '\n' | '\r' if escaped => {
                    if first == '\r' {
                        rest = tail.strip_prefix('\n').unwrap_or(tail);
                    }
                    return Some(' ');
                }
                _ => return Some(first),
            }
        }
    })
}

/// Bytes between `&` and `;` of a number: room for as many zeros as a sane writer pads with.
const MAX_LEN: usize = 32;

/// The same of a name: those of XML's own entities have no more.
const MAX_NAME: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_compared_as_they_are_meant() {
        let values =
            ["", "a", "&#97;", "&#x61;b", "ab", "&amp;lt;", "&lt;", "a\r\nb", "a b", "a\rb"];
        let values =
            values.into_iter().chain(["a\r\n", "a &#10;", "a  ", "&amp;", "\u{e9}", "&#233;"]);
        for one in values.clone() {
            for other in values.clone() {
                let (meant, other_meant) = (normalise_value(one), normalise_value(other));
                let same = meant == other_meant;
                let raw = (one.as_bytes(), true);
                assert_eq!(same_value(raw, (other.as_bytes(), true)), same, "{one:?} {other:?}");
                let literal = (other_meant.as_bytes(), false);
                assert_eq!(same_value(raw, literal), same, "{one:?} {other:?}");
                assert_eq!(
                    same_value((meant.as_bytes(), false), literal),
                    same,
                    "{one:?} {other:?}"
                );
            }
        }
    }
}
