//! Draws that are the same in every run.

use std::time::Duration;

/// A small generator (xorshift64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Less than `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }

    /// Less time than this, to the thousandth of it.
    pub(crate) fn moment(&mut self, within: Duration) -> Duration {
        within.mul_f64(self.below(1_000) as f64 / 1_000.0)
    }

    /// So many bytes of anything.
    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| u8::try_from(self.below(256)).expect("less than 256")).collect()
    }
}
