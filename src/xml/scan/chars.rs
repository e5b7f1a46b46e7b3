//! Which bytes and characters may stand where (XML 1.0, fifth edition, §2.2 and §2.3), and the
//! search for the next byte that matters.
//!
//! All functions take bytes that are known to be UTF-8 and to end with a whole character.

/// White space: tab, line feed, carriage return, space.
pub(super) const SPACE: u8 = 1;
/// ASCII that may begin a name, without the colon.
pub(super) const NAME_START: u8 = 1 << 1;
/// ASCII that may stand in a name, without the colon.
pub(super) const NAME: u8 = 1 << 2;
/// Bytes that may stand between `&` and `;`, `#` aside, right or wrong.
pub(super) const REFERENCE: u8 = 1 << 3;
/// Bytes that text cannot run over unseen.
pub(super) const IN_TEXT: u8 = 1 << 4;
/// Bytes that an attribute value cannot run over unseen.
pub(super) const IN_VALUE: u8 = 1 << 5;
/// Bytes that a CDATA section cannot run over unseen.
pub(super) const IN_CDATA: u8 = 1 << 6;

/// The first byte of U+FFFE and U+FFFF, which XML forbids, and of many that it allows.
pub(super) const LEAD_EF: u8 = 0xef;

/// Whether `byte` is of the class.
#[inline]
pub(super) fn is(byte: u8, class: u8) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}

/// The offset of the first byte at or behind `pos` that is not white space, or the end.
#[inline]
pub(super) fn skip_space(buf: &[u8], pos: usize) -> usize {
    let mut pos = pos;
    while buf.get(pos).is_some_and(|&b| is(b, SPACE)) {
        pos = pos.wrapping_add(1);
    }
    pos
}

/// The offset of the first byte behind `pos` that is no name character of ASCII, or the end.
pub(super) fn skip_name(buf: &[u8], pos: usize) -> usize {
    let rest = buf.get(pos..).unwrap_or_default();
    let others = rest.iter().skip(1).position(|&b| !is(b, NAME));
    others.map_or(buf.len(), |at| pos.wrapping_add(1).wrapping_add(at))
}

/// The length of the character at `pos` if XML allows it; `pos` is at a byte that one of the `IN_`
/// classes stopped at.
#[inline]
pub(super) fn allowed(buf: &[u8], pos: usize) -> Option<usize> {
    match buf.get(pos..)? {
        [LEAD_EF, 0xbf, 0xbe | 0xbf, ..] => None,
        [LEAD_EF, ..] => Some(3),
        [b, ..] => (*b >= b' ' || is(*b, SPACE)).then_some(1),
        [] => None,
    }
}

/// The character at `pos`, outside ASCII.
pub(super) fn decode(buf: &[u8], pos: usize) -> Option<char> {
    let rest = buf.get(pos..)?;
    let len = match rest.first()? {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return None,
    };
    std::str::from_utf8(rest.get(..len)?).ok()?.chars().next()
}

/// The Char production (§2.2).
pub(super) fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

/// The NameStartChar production (§2.3) outside ASCII.
pub(super) fn is_name_start(c: char) -> bool {
    matches!(c,
        '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}' | '\u{370}'..='\u{37d}'
        | '\u{37f}'..='\u{1fff}' | '\u{200c}'..='\u{200d}' | '\u{2070}'..='\u{218f}'
        | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}' | '\u{f900}'..='\u{fdcf}'
        | '\u{fdf0}'..='\u{fffd}' | '\u{10000}'..='\u{effff}')
}

/// The NameChar production (§2.3) outside ASCII.
pub(super) fn is_name(c: char) -> bool {
    is_name_start(c) || matches!(c, '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}')
}

const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut i = 0;
    while i < 256 {
        #[allow(clippy::cast_possible_truncation, reason = "below 256")]
        let b = i as u8;
        let mut class = 0;
        if matches!(b, b'\t' | b'\n' | b'\r' | b' ') {
            class |= SPACE;
        }
        if b.is_ascii_alphabetic() || b == b'_' {
            class |= NAME_START | NAME | REFERENCE;
        }
        if b.is_ascii_digit() || b == b'-' || b == b'.' {
            class |= NAME | REFERENCE;
        }
        if b >= 0x80 || b == b':' {
            class |= REFERENCE;
        }
        if (b < b' ' && class & SPACE == 0) || b == LEAD_EF {
            class |= IN_TEXT | IN_VALUE | IN_CDATA;
        }
        if matches!(b, b'\t' | b'\n' | b'\r' | b'\'' | b'"') {
            class |= IN_VALUE;
        }
        if matches!(b, b'<' | b'&') {
            class |= IN_TEXT | IN_VALUE;
        }
        if b == b'>' {
            class |= IN_TEXT | IN_CDATA;
        }
        classes[i] = class;
        i += 1;
    }
    classes
};
