//! Which bytes and characters may stand where (XML 1.0, fifth edition, §2.2 and §2.3), and the
//! search for the next byte that matters.
//!
//! All functions take bytes that are known to be UTF-8 and to end with a whole character.

use super::block;

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

/// The offset of the first byte of `CLASS`, one of the `IN_` classes, at or behind `pos`; or the
/// end. `quote` is the one that ends a value; the other one is passed over.
#[inline]
pub(super) fn find<const CLASS: u8>(buf: &[u8], pos: usize, quote: u8) -> usize {
    // most runs end soon
    let Some(block) = buf.get(pos..).and_then(|rest| rest.first_chunk()) else {
        return find_in_rest::<CLASS>(buf, pos, quote);
    };
    let stops = block::stops::<CLASS>(block, quote);
    match first::<CLASS>(block, stops.into()) {
        Some(at) => pos.wrapping_add(at),
        None => find_far::<CLASS>(buf, pos.wrapping_add(block.len()), quote),
    }
}

/// The same for a run that may be long.
#[inline(never)]
fn find_far<const CLASS: u8>(buf: &[u8], mut pos: usize, quote: u8) -> usize {
    while let Some(stretch) = buf.get(pos..).and_then(|rest| rest.first_chunk()) {
        let stops = block::stretch_stops::<CLASS>(stretch, quote);
        if let Some(at) = first::<CLASS>(stretch, stops) {
            return pos.wrapping_add(at);
        }
        pos = pos.wrapping_add(stretch.len());
    }
    while let Some(block) = buf.get(pos..).and_then(|rest| rest.first_chunk()) {
        let stops = block::stops::<CLASS>(block, quote);
        if let Some(at) = first::<CLASS>(block, stops.into()) {
            return pos.wrapping_add(at);
        }
        pos = pos.wrapping_add(block.len());
    }
    find_in_rest::<CLASS>(buf, pos, quote)
}

/// The first byte of `CLASS` among those at which `stops` has a bit.
#[inline]
fn first<const CLASS: u8>(bytes: &[u8], mut stops: u64) -> Option<usize> {
    while stops != 0 {
        let at = stops.trailing_zeros() as usize;
        if bytes.get(at).is_some_and(|&b| is(b, CLASS)) {
            return Some(at);
        }
        stops &= stops.wrapping_sub(1);
    }
    None
}

/// The same among the last bytes of the buffer, one by one.
#[inline(never)]
fn find_in_rest<const CLASS: u8>(buf: &[u8], pos: usize, quote: u8) -> usize {
    let rest = buf.get(pos..).unwrap_or_default();
    let stops = |b: u8| is(b, CLASS) && (b == quote || !matches!(b, b'\'' | b'"'));
    rest.iter().position(|&b| stops(b)).map_or(buf.len(), |at| pos + at)
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
#[inline]
pub(super) fn skip_name(buf: &[u8], pos: usize) -> usize {
    let mut pos = pos + 1;
    while let Some(block) = buf.get(pos..).and_then(|rest| rest.first_chunk()) {
        let others = block::no_name(block);
        if others != 0 {
            return pos.wrapping_add(others.trailing_zeros() as usize);
        }
        pos = pos.wrapping_add(block.len());
    }
    let rest = buf.get(pos..).unwrap_or_default();
    rest.iter().position(|&b| !is(b, NAME)).map_or(buf.len(), |at| pos + at)
}

/// The length of the name at `pos` if it is whole and as most are: of ASCII, below sixteen bytes,
/// without a colon.
#[inline]
pub(super) fn short_name(buf: &[u8], pos: usize) -> Option<usize> {
    let block = buf.get(pos..)?.first_chunk()?;
    let len = block::no_name(block).trailing_zeros() as usize;
    let behind = *block.get(len)?;
    (is(block[0], NAME_START) && behind.is_ascii() && behind != b':').then_some(len)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a run of `CLASS` ends, byte by byte.
    fn end<const CLASS: u8>(buf: &[u8], pos: usize, quote: u8) -> usize {
        let stops = |b: u8| is(b, CLASS) && (b == quote || !matches!(b, b'\'' | b'"'));
        buf[pos..].iter().position(|&b| stops(b)).map_or(buf.len(), |at| pos + at)
    }

    fn check<const CLASS: u8>(quote: u8) {
        for len in [0, 15, 16, 63, 64, 65, 127, 128, 200, 300] {
            for at in 0..=len {
                for (b, other) in [(b'<', b'>'), (b'&', LEAD_EF), (b'\'', b'"'), (1, 0xc3)] {
                    let mut buf = vec![b'x'; len];
                    if let Some(place) = buf.get_mut(at) {
                        *place = b;
                    }
                    if let Some(place) = buf.get_mut(at / 2) {
                        *place = other;
                    }
                    for pos in [0, 1, at / 2, at].into_iter().filter(|pos| *pos <= len) {
                        let found = find::<CLASS>(&buf, pos, quote);
                        assert_eq!(found, end::<CLASS>(&buf, pos, quote), "{len} {at} {pos} {b}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_end_of_a_run_is_found_however_long_it_is() {
        check::<IN_TEXT>(0);
        check::<IN_CDATA>(0);
        check::<IN_VALUE>(b'\'');
        check::<IN_VALUE>(b'"');
    }
}
