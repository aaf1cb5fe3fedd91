//! A byte string as a row of choices: whoever fuzzes writes the bytes, and so chooses.

/// The bytes that are left. After the last of them every choice is the first.
#[derive(Debug)]
pub(crate) struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u8) -> u8 {
        self.byte() % limit
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub(crate) fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// The next bytes, at most `length` of them.
    pub(crate) fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A number near `middle`, near 0, or near the largest that the wire takes.
    pub(crate) fn number(&mut self, middle: u64) -> u64 {
        const LARGEST: u64 = i64::MAX as u64 - 1;
        let byte = self.byte();
        let near = u64::from(byte % 16);
        match byte / 16 {
            0..8 => (middle + near).saturating_sub(8),
            8..15 => near,
            _ => LARGEST - near,
        }
    }
}
