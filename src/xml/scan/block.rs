//! Sixteen bytes at a time: which of them end a run; and sixty-four: whether any does.

use wide::u8x16;

use super::chars::{IN_CDATA, IN_TEXT, LEAD_EF};

/// Bytes that are looked at together.
pub(super) type Block = [u8; 16];

/// Four blocks.
pub(super) type Stretch = [u8; 64];

/// A bit for every byte of the block that may end a run of `CLASS`, the first byte's lowest: for all
/// that do, and for some others. Of the quotes only `quote` has one.
#[inline]
pub(super) fn stops<const CLASS: u8>(block: &Block, quote: u8) -> u32 {
    let bytes = u8x16::new(*block);
    (at_most(bytes, CONTROL) | marks::<CLASS>(bytes, quote)).to_bitmask()
}

/// The same for a stretch.
#[inline]
pub(super) fn stretch_stops<const CLASS: u8>(stretch: &Stretch, quote: u8) -> u64 {
    let ([a, b, c, d], _) = stretch.as_chunks() else { return 0 };
    let [a, b, c, d] = [a, b, c, d].map(|block| u8x16::new(*block));
    let least = a.min(b).min(c.min(d));
    let [p, q, r, s] = [a, b, c, d].map(|bytes| marks::<CLASS>(bytes, quote));
    // most have none
    if ((p | q) | (r | s) | at_most(least, CONTROL)).to_bitmask() == 0 {
        return 0;
    }
    let bits = |found: u8x16, bytes| u64::from((found | at_most(bytes, CONTROL)).to_bitmask());
    bits(p, a) | bits(q, b) << 16 | bits(r, c) << 32 | bits(s, d) << 48
}

/// The last of the control characters at the beginning of ASCII.
const CONTROL: u8 = b' ' - 1;

/// All bits of the bytes that may end a run of `CLASS`, control characters aside.
#[inline]
fn marks<const CLASS: u8>(bytes: u8x16, quote: u8) -> u8x16 {
    let lead = equal(bytes, LEAD_EF);
    match CLASS {
        IN_CDATA => lead | equal(bytes, b'>'),
        // `<` and `>` differ in a single bit
        IN_TEXT => lead | equal(bytes & u8x16::splat(!2), b'<') | equal(bytes, b'&'),
        _ => lead | equal(bytes, b'<') | equal(bytes, b'&') | equal(bytes, quote),
    }
}

/// A bit for every byte of the block that is no name character of ASCII.
#[inline]
pub(super) fn no_name(block: &Block) -> u32 {
    let bytes = u8x16::new(*block);
    let letters = at_most((bytes | u8x16::splat(0x20)) - u8x16::splat(b'a'), b'z' - b'a');
    let digits = at_most(bytes - u8x16::splat(b'0'), b'9' - b'0');
    // `-` and `.` stand beside each other
    let marks = at_most(bytes - u8x16::splat(b'-'), 1) | equal(bytes, b'_');
    (!(letters | digits | marks)).to_bitmask()
}

#[inline]
fn equal(bytes: u8x16, b: u8) -> u8x16 {
    bytes.simd_eq(u8x16::splat(b))
}

#[inline]
fn at_most(bytes: u8x16, b: u8) -> u8x16 {
    bytes.min(u8x16::splat(b)).simd_eq(bytes)
}

#[cfg(test)]
mod tests {
    use super::{
        super::chars::{self, IN_VALUE, NAME},
        *,
    };

    /// Whether every byte that ends a run has its bit, wherever it stands, and no other does that a
    /// run often holds.
    fn check<const CLASS: u8>(quote: u8) {
        for b in 0..=u8::MAX {
            for at in 0..16 {
                let mut block = [b'x'; 16];
                block[at] = b;
                let other = CLASS == IN_VALUE && matches!(b, b'\'' | b'"') && b != quote;
                let bits = stops::<CLASS>(&block, quote);
                for place in 0..4 {
                    let mut stretch = [b'x'; 64];
                    stretch[16 * place + at] = b;
                    let found = stretch_stops::<CLASS>(&stretch, quote);
                    assert_eq!(found, u64::from(bits) << (16 * place), "{b:#x} at {at}");
                }
                if chars::is(b, CLASS) && !other {
                    assert_eq!(bits, 1 << at, "{b:#x} at {at}");
                } else if b >= b' ' && !matches!(b, b'<' | b'>') {
                    assert_eq!(bits, 0, "{b:#x} at {at}");
                }
            }
        }
    }

    #[test]
    fn what_ends_a_run_is_found_wherever_it_stands() {
        check::<IN_TEXT>(0);
        check::<IN_CDATA>(0);
        check::<IN_VALUE>(b'\'');
        check::<IN_VALUE>(b'"');
    }

    #[test]
    fn what_ends_a_name_is_found_wherever_it_stands() {
        for b in 0..=u8::MAX {
            for at in 0..16 {
                let mut block = [b'x'; 16];
                block[at] = b;
                let bit = u32::from(!chars::is(b, NAME)) << at;
                assert_eq!(no_name(&block), bit, "{b:#x} at {at}");
            }
        }
    }
}
