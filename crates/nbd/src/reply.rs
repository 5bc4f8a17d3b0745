//! Answers to requests, as simple or structured replies.

use crate::wire::{ALLOCATION_ID, CHUNK_MAGIC, Errno, Put, SIMPLE_REPLY_MAGIC, STATE_HOLE_AND_ZERO, chunk};
use disk::{Allocation, ByteRange, Extent};

/// Longest text in an error.
const MAX_MESSAGE: usize = 1000;

/// Appends the answer to one request. An error may be reported at any time before the answer is sent: it takes
/// the place of what was appended so far.
pub(crate) struct Reply<'a> {
    answer: &'a mut Vec<u8>,
    /// Where this answer begins.
    start: usize,
    cookie: u64,
    structured: bool,
}

impl Reply<'_> {
    pub(crate) fn new(answer: &mut Vec<u8>, cookie: u64, structured: bool) -> Reply<'_> {
        let start = answer.len();
        Reply { answer, start, cookie, structured }
    }

    pub(crate) fn is_structured(&self) -> bool {
        self.structured
    }

    /// Success without data.
    pub(crate) fn done(&mut self) {
        if self.structured {
            self.chunk(chunk::DONE, chunk::NONE, 0);
        } else {
            self.simple(0);
        }
    }

    /// Room for the data of a range, to be filled in by the caller.
    pub(crate) fn data(&mut self, range: ByteRange, last: bool) -> &mut [u8] {
        let length = range.length().as_usize();
        if self.structured && length == 0 {
            self.done();
        } else if self.structured {
            self.chunk(flags(last), chunk::OFFSET_DATA, size_of::<u64>() + length);
            self.answer.put_u64(range.start().0);
        } else {
            self.simple(0);
        }
        let start = self.answer.len();
        self.answer.resize(start + length, 0);
        &mut self.answer[start..]
    }

    /// A range that reads as zeroes.
    pub(crate) fn hole(&mut self, range: ByteRange, last: bool) {
        self.chunk(flags(last), chunk::OFFSET_HOLE, size_of::<u64>() + size_of::<u32>());
        self.answer.put_u64(range.start().0);
        self.answer.put_u32(range.length().0 as u32);
    }

    /// What is allocated, from the start of the request on.
    pub(crate) fn status(&mut self, extents: &[Extent]) {
        self.chunk(chunk::DONE, chunk::BLOCK_STATUS, size_of::<u32>() + 2 * size_of::<u32>() * extents.len());
        self.answer.put_u32(ALLOCATION_ID);
        for extent in extents {
            let state = match extent.allocation {
                Allocation::Data => 0,
                Allocation::Hole => STATE_HOLE_AND_ZERO,
            };
            self.answer.put_u32(extent.length.0 as u32);
            self.answer.put_u32(state);
        }
    }

    /// Failure.
    pub(crate) fn error(&mut self, errno: Errno, why: &str) {
        self.answer.truncate(self.start);
        if !self.structured {
            return self.simple(errno as u32);
        }
        let why = &why[..why.floor_char_boundary(MAX_MESSAGE)];
        self.chunk(chunk::DONE, chunk::ERROR, size_of::<u32>() + size_of::<u16>() + why.len());
        self.answer.put_u32(errno as u32);
        self.answer.put_u16(why.len() as u16);
        self.answer.extend_from_slice(why.as_bytes());
    }

    fn simple(&mut self, errno: u32) {
        self.answer.put_u32(SIMPLE_REPLY_MAGIC);
        self.answer.put_u32(errno);
        self.answer.put_u64(self.cookie);
    }

    fn chunk(&mut self, flags: u16, kind: u16, length: usize) {
        self.answer.put_u32(CHUNK_MAGIC);
        self.answer.put_u16(flags);
        self.answer.put_u16(kind);
        self.answer.put_u64(self.cookie);
        self.answer.put_u32(length as u32);
    }
}

fn flags(last: bool) -> u16 {
    if last { chunk::DONE } else { 0 }
}
