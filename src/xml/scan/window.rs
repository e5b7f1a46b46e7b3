//! Sixty-four bytes at a time, with the widest vectors that the processor has: where in them runs of
//! text, values and names may end.
//!
//! Functions with a `simd` are inlined into `dispatch`, which makes a copy of them for each kind of
//! vectors: all that looks at a window, too, or each look would be a call.

use fearless_simd::{Level, dispatch, prelude::*, u8x64};

use super::chars::{self, IN_CDATA, IN_TEXT, LEAD_EF};

/// Bytes that are looked at together.
const WIDTH: usize = 64;
/// Text of so many bytes is likely to have many more.
const LONG: usize = 4 * WIDTH;

/// A bit for each of sixty-four bytes, the first byte's lowest.
#[derive(Clone, Copy, Default)]
struct Marks {
    /// Those that are no name characters of ASCII.
    no_name: u64,
    /// All that may end a run of text or a value, and control characters.
    special: u64,
}

/// The bytes around the place that a scanner has come to, which only moves forward. Where they begin
/// depends on that place as seldom as can be, so that the processor can look at them before it is
/// known. Behind the end of the buffer all bytes end every run.
pub(super) struct Window<'a, S> {
    simd: S,
    buf: &'a [u8],
    /// Where it begins in the buffer.
    base: usize,
    near: Marks,
    /// Those behind them.
    next: Marks,
    /// What is behind both.
    ahead: &'a [u8],
}

impl<'a, S: Simd> Window<'a, S> {
    /// What follows `pos`.
    #[inline(always)]
    pub(super) fn new(simd: S, buf: &'a [u8], pos: usize) -> Self {
        let mut ahead = buf.get(pos..).unwrap_or_default();
        let near = take_marks(simd, &mut ahead);
        let next = take_marks(simd, &mut ahead);
        Self { simd, buf, base: pos, near, next, ahead }
    }

    /// The same, for what is seldom.
    #[cold]
    #[inline(never)]
    fn anew(simd: S, buf: &'a [u8], pos: usize) -> Self {
        simd.vectorize(
            #[inline(always)]
            || Self::new(simd, buf, pos),
        )
    }

    /// Has `pos` in the first half; its place there.
    #[inline(always)]
    fn reach(&mut self, pos: usize) -> usize {
        let at = pos.wrapping_sub(self.base);
        if at < WIDTH {
            return at;
        }
        if at < 2 * WIDTH {
            self.slide();
        } else {
            *self = Self::anew(self.simd, self.buf, pos);
        }
        pos.wrapping_sub(self.base)
    }

    /// Moves on by one half.
    #[inline(always)]
    fn slide(&mut self) {
        self.base = self.base.wrapping_add(WIDTH);
        self.near = self.next;
        self.next = take_marks(self.simd, &mut self.ahead);
    }

    /// How many bytes from `pos` on may stand in a name; no more than the window has are counted.
    #[inline(always)]
    pub(super) fn name_len(&mut self, pos: usize) -> usize {
        let at = self.reach(pos);
        match self.near.no_name >> at {
            0 => (WIDTH - at).wrapping_add(self.next.no_name.trailing_zeros() as usize),
            no_name => no_name.trailing_zeros() as usize,
        }
    }

    /// Where the value in `quote` that begins at `pos` ends. `None` if something is in it that has to
    /// be looked at.
    #[inline(always)]
    pub(super) fn value_end(&mut self, pos: usize, quote: u8) -> Option<usize> {
        let mut pos = pos;
        let at = self.reach(pos);
        let mut specials = self.near.special >> at;
        loop {
            while specials != 0 {
                let end = pos.wrapping_add(specials.trailing_zeros() as usize);
                match *self.buf.get(end)? {
                    b if b == quote => return Some(end),
                    b'\'' | b'"' | b'>' => specials &= specials.wrapping_sub(1),
                    _ => return None,
                }
            }
            self.slide();
            (pos, specials) = (self.base, self.near.special);
        }
    }

    /// The first byte at or behind `pos` that text cannot run over unseen, or the end.
    #[inline(always)]
    pub(super) fn text_end(&mut self, pos: usize) -> usize {
        let mut pos = pos;
        let at = self.reach(pos);
        let mut specials = self.near.special >> at;
        let long = pos.wrapping_add(LONG);
        loop {
            while specials != 0 {
                let end = pos.wrapping_add(specials.trailing_zeros() as usize);
                match self.buf.get(end) {
                    Some(b'<') => return end,
                    Some(&b) if chars::is(b, IN_TEXT) => return end,
                    None => return self.buf.len(),
                    Some(_) => specials &= specials.wrapping_sub(1),
                }
            }
            if pos < long {
                self.slide();
            } else {
                let far = far::<IN_TEXT>(self.buf, self.base.wrapping_add(WIDTH), 0);
                *self = Self::anew(self.simd, self.buf, far);
            }
            (pos, specials) = (self.base, self.near.special);
        }
    }
}

/// The offset of the first byte of `CLASS`, one of the `IN_` classes, at or behind `pos`; or the
/// end. `quote` is the one that ends a value; the other one is passed over.
pub(super) fn find<const CLASS: u8>(buf: &[u8], mut pos: usize, quote: u8) -> usize {
    loop {
        pos = far::<CLASS>(buf, pos, quote);
        let rest = buf.get(pos..).unwrap_or_default();
        let ends = |b: u8| chars::is(b, CLASS) && (b == quote || !matches!(b, b'\'' | b'"'));
        if let Some(at) = rest.iter().take(WIDTH).position(|&b| ends(b)) {
            return pos.wrapping_add(at);
        }
        if rest.len() <= WIDTH {
            return buf.len();
        }
        pos = pos.wrapping_add(WIDTH);
    }
}

/// The first sixty-four bytes from `pos` on among which one may end a run of `CLASS`; the end may
/// be nearer.
#[inline(never)]
fn far<const CLASS: u8>(buf: &[u8], pos: usize, quote: u8) -> usize {
    dispatch!(Level::new(), simd => far_with::<_, CLASS>(simd, buf, pos, quote))
}

#[inline(always)]
fn far_with<S: Simd, const CLASS: u8>(simd: S, buf: &[u8], mut pos: usize, quote: u8) -> usize {
    while let Some(bytes) = buf.get(pos..).and_then(|rest| rest.first_chunk()) {
        if stops::<S, CLASS>(simd, bytes, quote) != 0 {
            break;
        }
        pos = pos.wrapping_add(WIDTH);
    }
    pos
}

/// Whether the namespace name from `start` to `end` is one that no other rule than that of its length
/// has to look at: short, and of such characters as may stand in it.
pub(super) fn is_plain_uri(buf: &[u8], start: usize, end: usize) -> bool {
    let len = end.wrapping_sub(start);
    let Some(bytes) = buf.get(start..).and_then(|rest| rest.first_chunk()) else { return false };
    let odd = dispatch!(Level::new(), simd => no_uri(simd, bytes));
    len < WIDTH && odd & !(u64::MAX << len) == 0
}

/// A bit for every byte that may not stand in a namespace name.
#[inline(always)]
fn no_uri<S: Simd>(simd: S, bytes: &[u8; WIDTH]) -> u64 {
    let bytes = u8x64::load_array_ref(simd, bytes);
    (bytes.simd_le(b' ') | bytes.simd_eq(b'|') | bytes.simd_eq(0x7f)).to_bitmask()
}

/// The last of the control characters at the beginning of ASCII.
const CONTROL: u8 = b' ' - 1;

/// The marks of the first bytes of `ahead`, which are taken off it.
#[inline(always)]
fn take_marks<S: Simd>(simd: S, ahead: &mut &[u8]) -> Marks {
    match ahead.split_first_chunk() {
        Some((bytes, rest)) => {
            *ahead = rest;
            marks(simd, bytes)
        }
        None => last_marks(simd.level(), std::mem::take(ahead)),
    }
}

/// The same where there are fewer than sixty-four.
#[cold]
#[inline(never)]
fn last_marks(level: Level, rest: &[u8]) -> Marks {
    let mut bytes = [0; WIDTH];
    if let Some(to) = bytes.get_mut(..rest.len()) {
        to.copy_from_slice(rest);
    }
    dispatch!(level, simd => marks(simd, &bytes))
}

/// The marks, in the way that is the quicker one with such vectors.
#[inline(always)]
fn marks<S: Simd>(simd: S, bytes: &[u8; WIDTH]) -> Marks {
    match simd.level() {
        // it can't look bytes up
        #[cfg(target_arch = "x86_64")]
        Level::Sse2(_) => compared(simd, bytes),
        _ => looked_up(simd, bytes),
    }
}

/// The marks by comparisons.
#[inline(always)]
fn compared<S: Simd>(simd: S, bytes: &[u8; WIDTH]) -> Marks {
    let bytes = u8x64::load_array_ref(simd, bytes);
    let letters = ((bytes | 0x20) - b'a').simd_le(b'z' - b'a');
    let digits = (bytes - b'0').simd_le(b'9' - b'0');
    // `-` and `.` stand beside each other
    let marks = (bytes - b'-').simd_le(1) | bytes.simd_eq(b'_');
    // `<` and `>`, `"` and `&` differ in a single bit
    let special = (bytes & !2).simd_eq(b'<') | (bytes & !4).simd_eq(b'"') | bytes.simd_eq(b'\'');
    let rare = bytes.simd_le(CONTROL) | bytes.simd_eq(LEAD_EF);
    Marks {
        no_name: !(letters | digits | marks).to_bitmask(),
        special: (special | rare).to_bitmask(),
    }
}

/// The marks by two tables.
#[inline(always)]
fn looked_up<S: Simd>(simd: S, bytes: &[u8; WIDTH]) -> Marks {
    let bytes = u8x64::load_array_ref(simd, bytes);
    let low = u8x64::load_array_ref(simd, &LOW).swizzle_dyn_within_blocks(bytes & 15);
    let high = u8x64::load_array_ref(simd, &HIGH).swizzle_dyn_within_blocks(bytes >> 4);
    let groups = low & high;
    let plain = (groups & SPECIAL).simd_eq(0) & bytes.simd_gt(CONTROL);
    Marks { no_name: (groups & NAME).simd_eq(0).to_bitmask(), special: !plain.to_bitmask() }
}

/// Groups of bytes that are told apart by their lower four bits and their upper four.
const GROUPS: [(&[u8], &[u8]); 8] = [
    // letters
    (&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], &[4, 6]),
    (&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], &[5, 7]),
    // `_`
    (&[15], &[5]),
    // digits
    (&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], &[3]),
    // `-` and `.`
    (&[13, 14], &[2]),
    // `"`, `&` and `'`
    (&[2, 6, 7], &[2]),
    // `<` and `>`
    (&[12, 14], &[3]),
    // what U+FFFE begins with
    (&[15], &[14]),
];
/// The first five groups.
const NAME: u8 = 0b0001_1111;
/// The others.
const SPECIAL: u8 = !NAME;
/// The groups that have bytes with these lower bits.
const LOW: [u8; WIDTH] = groups(true);
/// The groups that have bytes with these upper bits.
const HIGH: [u8; WIDTH] = groups(false);

const fn groups(low: bool) -> [u8; WIDTH] {
    let mut groups = [0; WIDTH];
    let mut group = 0;
    while group < GROUPS.len() {
        let nibbles = if low { GROUPS[group].0 } else { GROUPS[group].1 };
        let mut i = 0;
        while i < nibbles.len() {
            let mut block = 0;
            while block < WIDTH {
                groups[block + nibbles[i] as usize] |= 1 << group;
                block += 16;
            }
            i += 1;
        }
        group += 1;
    }
    groups
}

/// A bit for every byte that may end a run of `CLASS`: for all that do, and for some others. Of the
/// quotes only `quote` has one.
#[inline(always)]
fn stops<S: Simd, const CLASS: u8>(simd: S, bytes: &[u8; WIDTH], quote: u8) -> u64 {
    let bytes = u8x64::load_array_ref(simd, bytes);
    let odd = bytes.simd_le(CONTROL) | bytes.simd_eq(LEAD_EF);
    let marks = match CLASS {
        IN_CDATA => bytes.simd_eq(b'>'),
        // `<` and `>` differ in a single bit
        IN_TEXT => (bytes & !2).simd_eq(b'<') | bytes.simd_eq(b'&'),
        _ => bytes.simd_eq(b'<') | bytes.simd_eq(b'&') | bytes.simd_eq(quote),
    };
    (odd | marks).to_bitmask()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::{
        super::chars::{IN_VALUE, NAME},
        *,
    };

    /// All kinds of vectors that this processor has.
    fn levels() -> Vec<Level> {
        let widest = Level::new();
        #[cfg(target_arch = "x86_64")]
        let narrower = [
            widest.as_avx2().map(Level::Avx2),
            widest.as_sse4_2().map(Level::Sse4_2),
            widest.as_sse2().map(Level::Sse2),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let narrower = [];
        narrower.into_iter().flatten().chain([widest]).collect()
    }

    /// Where a run of `CLASS` ends, byte by byte.
    fn end<const CLASS: u8>(buf: &[u8], pos: usize, quote: u8) -> usize {
        let stops = |b: u8| chars::is(b, CLASS) && (b == quote || !matches!(b, b'\'' | b'"'));
        buf[pos..].iter().position(|&b| stops(b)).map_or(buf.len(), |at| pos + at)
    }

    #[test]
    fn each_byte_has_its_marks_wherever_it_stands() {
        for level in levels() {
            for b in 0..=u8::MAX {
                for at in 0..WIDTH {
                    let mut bytes = [b'x'; WIDTH];
                    bytes[at] = b;
                    let marks = dispatch!(level, simd => marks(simd, &bytes));
                    let bit = |is: bool| u64::from(is) << at;
                    let special = b < b' ' || b"\"&'<>\xef".contains(&b);
                    assert_eq!(marks.no_name, bit(!chars::is(b, NAME)), "{level:?} {b:#x} {at}");
                    assert_eq!(marks.special, bit(special), "{level:?} {b:#x} {at}");
                    let uri = dispatch!(level, simd => no_uri(simd, &bytes));
                    let in_uri = b > b' ' && b != b'|' && b != 0x7f;
                    assert_eq!(uri, bit(!in_uri), "{level:?} {b:#x} {at}");
                }
            }
        }
    }

    fn check_stops<const CLASS: u8>(level: Level, quote: u8) {
        for b in 0..=u8::MAX {
            for at in 0..WIDTH {
                let mut bytes = [b'x'; WIDTH];
                bytes[at] = b;
                let found = dispatch!(level, simd => stops::<_, CLASS>(simd, &bytes, quote));
                let other = CLASS == IN_VALUE && matches!(b, b'\'' | b'"') && b != quote;
                if chars::is(b, CLASS) && !other {
                    assert_eq!(found, 1 << at, "{level:?} {b:#x} {at}");
                } else if b >= b' ' && !matches!(b, b'<' | b'>') {
                    assert_eq!(found, 0, "{level:?} {b:#x} {at}");
                }
            }
        }
    }

    #[test]
    fn what_ends_a_run_stops_the_search_and_no_other_byte_that_a_run_often_holds() {
        for level in levels() {
            check_stops::<IN_TEXT>(level, 0);
            check_stops::<IN_CDATA>(level, 0);
            check_stops::<IN_VALUE>(level, b'\'');
            check_stops::<IN_VALUE>(level, b'"');
        }
    }

    fn check_find<const CLASS: u8>(quote: u8) {
        for len in [0, 15, 63, 64, 65, 127, 128, 200, 300, 700] {
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
                        let expected = end::<CLASS>(&buf, pos, quote);
                        let found = find::<CLASS>(&buf, pos, quote);
                        assert_eq!(found, expected, "{len} {at} {pos} {b}");
                        if CLASS == IN_TEXT {
                            let found = dispatch!(Level::new(), simd => {
                                Window::new(simd, &buf, pos / 2).text_end(pos)
                            });
                            assert_eq!(found, expected, "{len} {at} {pos} {b}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_end_of_a_run_is_found_however_long_it_is() {
        check_find::<IN_TEXT>(0);
        check_find::<IN_CDATA>(0);
        check_find::<IN_VALUE>(b'\'');
        check_find::<IN_VALUE>(b'"');
    }

    proptest! {
        #[test]
        fn a_window_that_moves_on_sees_what_is_there(
            runs in vec((select(&b"xxxx.A1:= >'\"<&\t\n\x01\xef\xc3"[..]), 1..90_usize), 0..20),
            steps in vec((0..3, 0..150_usize), 1..40),
            from in 0..100_usize,
        ) {
            let buf: Vec<u8> =
                runs.iter().flat_map(|(b, len)| [*b].into_iter().chain(vec![b'y'; *len])).collect();
            for level in levels() {
                dispatch!(level, simd => walk(simd, &buf, from, &steps))?;
            }
        }
    }

    fn walk<S: Simd>(
        simd: S,
        buf: &[u8],
        from: usize,
        steps: &[(i32, usize)],
    ) -> Result<(), TestCaseError> {
        let mut pos = from.min(buf.len());
        let mut window = Window::new(simd, buf, pos);
        for (what, step) in steps {
            pos = (pos + step).min(buf.len());
            match what {
                0 => {
                    let len = buf[pos..].iter().position(|&b| !chars::is(b, NAME));
                    let len = len.unwrap_or(buf.len() - pos).min(64);
                    prop_assert_eq!(window.name_len(pos).min(64), len);
                }
                1 => prop_assert_eq!(window.text_end(pos), end::<IN_TEXT>(buf, pos, 0)),
                _ => {
                    let quote = if step % 2 == 0 { b'\'' } else { b'"' };
                    let end = end::<IN_VALUE>(buf, pos, quote);
                    let end = Some(end).filter(|&end| buf.get(end) == Some(&quote));
                    prop_assert_eq!(window.value_end(pos, quote), end);
                }
            }
        }
        Ok(())
    }
}
