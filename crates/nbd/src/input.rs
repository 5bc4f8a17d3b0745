//! Bytes that have arrived and are not understood yet.

/// Room for many small requests, and for the largest option with its header.
const CAPACITY: usize = 256 << 10;

/// A buffer of fixed size that a socket reads into and a parser takes from.
pub(crate) struct Input {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    pub(crate) fn new() -> Input {
        Input { buffer: vec![0; CAPACITY], start: 0, end: 0 }
    }

    pub(crate) fn unread(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub(crate) fn consume(&mut self, length: usize) {
        debug_assert!(length <= self.end - self.start);
        self.start += length;
    }

    /// Where the next bytes go. It is empty only when the buffer is full of unread bytes.
    pub(crate) fn free(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.buffer.len() - self.end < CAPACITY / 2 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.buffer[self.end..]
    }

    pub(crate) fn advance(&mut self, length: usize) {
        assert!(length <= self.buffer.len() - self.end, "more was read than the buffer holds");
        self.end += length;
    }
}
