//! What waits to be written. Small pieces are put together, so that they share a record and a
//! write; large ones wait as they are and are never copied.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes, BytesMut};

/// Pieces of fewer bytes are copied: cheaper than one more piece.
const SMALL: usize = 4 * 1024;
/// How many pieces one write takes at most.
pub(super) const SLICES: usize = 16;

/// Bytes in the order in which they are to be written.
#[derive(Default, Debug)]
pub(super) struct Output {
    pieces: VecDeque<Bytes>,
    /// Behind them.
    tail: BytesMut,
    len: usize,
}

impl Output {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts a copy of the bytes behind all others.
    pub(super) fn copy(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Puts the bytes behind all others.
    pub(super) fn push(&mut self, bytes: &Bytes) {
        if bytes.len() < SMALL {
            return self.copy(bytes);
        }
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
        self.pieces.push_back(bytes.clone());
        self.len += bytes.len();
    }

    /// The first pieces; how many of `slices` they fill.
    pub(super) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES]) -> usize {
        let tail = (!self.tail.is_empty()).then_some(&self.tail[..]);
        let pieces = self.pieces.iter().map(|piece| &piece[..]).chain(tail);
        let mut filled = 0;
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece);
            filled += 1;
        }
        filled
    }

    /// Lets go of the first `bytes`, which are written.
    pub(super) fn advance(&mut self, mut bytes: usize) {
        self.len = self.len.saturating_sub(bytes);
        while let Some(first) = self.pieces.front_mut() {
            if bytes < first.len() {
                return first.advance(bytes);
            }
            bytes -= first.len();
            self.pieces.pop_front();
        }
        self.tail.advance(bytes.min(self.tail.len()));
        if self.len == 0 {
            *self = Self::default();
        }
    }

    /// Lets go of all.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
impl Output {
    /// All of it.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.pieces.iter().flatten().chain(&self.tail).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// What the slices hold, at most `most` bytes of it.
    fn written(output: &Output, most: usize) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let filled = output.slices(&mut slices);
        slices[..filled].iter().flat_map(|slice| slice.iter().copied()).take(most).collect()
    }

    proptest! {
        #[test]
        fn bytes_come_out_in_order_however_they_are_put_and_taken(
            steps in vec((any::<bool>(), 0..3 * SMALL, 0..4 * SMALL), 1..40),
        ) {
            let (mut output, mut put, mut got) = (Output::default(), Vec::new(), Vec::new());
            for (n, (copied, len, most)) in steps.into_iter().enumerate() {
                let bytes: Vec<u8> = (0..len).map(|at| (at / 7 + n) as u8).collect();
                put.extend_from_slice(&bytes);
                if copied { output.copy(&bytes) } else { output.push(&bytes.into()) }
                let taken = written(&output, most);
                output.advance(taken.len());
                got.extend(taken);
                prop_assert_eq!(output.len(), put.len() - got.len());
                prop_assert_eq!(&output.bytes()[..], &put[got.len()..]);
            }
            while !output.is_empty() {
                let taken = written(&output, usize::MAX);
                prop_assert!(!taken.is_empty());
                output.advance(taken.len());
                got.extend(taken);
            }
            prop_assert!(got == put);
        }
    }

    #[test]
    fn large_pieces_are_not_copied_and_small_ones_share() {
        let large = Bytes::from(vec![b'x'; SMALL]);
        let mut output = Output::default();
        output.push(&Bytes::from_static(b"a"));
        output.copy(b"b");
        output.push(&large);
        output.push(&Bytes::from_static(b"c"));
        let mut slices = [IoSlice::new(&[]); SLICES];
        assert_eq!(output.slices(&mut slices), 3);
        assert_eq!(slices[1].as_ptr(), large.as_ptr());
        assert_eq!((&slices[0][..], &slices[2][..]), (&b"ab"[..], &b"c"[..]));
    }
}
