//! Sixteen bytes at a time: which of them end a run.

use wide::u8x16;

use super::chars::{IN_CDATA, IN_TEXT, LEAD_EF};

/// Bytes that are looked at together.
pub(super) type Block = [u8; 16];

/// A bit for every byte of the block that may end a run of `CLASS`, the first byte's lowest: for all
/// that do, and for some others. Of the quotes only `quote` has one.
#[inline]
pub(super) fn stops<const CLASS: u8>(block: &Block, quote: u8) -> u32 {
    let bytes = u8x16::new(*block);
    let always = at_most(bytes, b' ' - 1) | equal(bytes, LEAD_EF);
    let stops = match CLASS {
        IN_CDATA => always | equal(bytes, b'>'),
        // `<` and `>` differ in a single bit
        IN_TEXT => always | equal(bytes & u8x16::splat(!2), b'<') | equal(bytes, b'&'),
        _ => always | equal(bytes, b'<') | equal(bytes, b'&') | equal(bytes, quote),
    };
    stops.to_bitmask()
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
