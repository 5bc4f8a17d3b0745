//! Bytes as they arrive to frames.

use crate::compression::Decompressor;
use crate::header::Header;
use crate::{DecodeError, Fault, Frame, FrameType, HEADER_SIZE, MAX_PAYLOAD, decode};

/// Bytes that a socket is offered at least, where no limit is in the way.
const READ_SIZE: usize = 64 << 10;
/// First size of the buffer; larger frames make it grow, up to `MAX_BUFFER`.
const FIRST_BUFFER: usize = 256 << 10;
const MAX_BUFFER: usize = HEADER_SIZE + MAX_PAYLOAD + READ_SIZE;

/// Takes the bytes of a connection as they arrive and gives out its frames.
///
/// A socket reads into [`Decoder::read_buffer`], says how much with [`Decoder::advance`], and then takes frames
/// with [`Decoder::next`] until there is none. The buffer grows only for a frame whose header was found good, never
/// past the longest frame there may be. After an error the connection is of no more use, and the same error comes
/// again.
pub struct Decoder {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that have arrived and have not been given out.
    start: usize,
    end: usize,
    /// Bytes that the frame at `start` needs, as far as is known.
    wanted: usize,
    /// Place of `start` in the connection.
    offset: u64,
    decompressor: Decompressor,
    failed: Option<DecodeError>,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder::new()
    }
}

impl Decoder {
    /// A decoder of a new connection. It allocates nothing before the first byte.
    pub fn new() -> Decoder {
        Decoder {
            buffer: Vec::new(),
            start: 0,
            end: 0,
            wanted: HEADER_SIZE,
            offset: 0,
            decompressor: Decompressor::default(),
            failed: None,
        }
    }

    /// Where to put the bytes that arrive next. It is empty only while whole frames wait for [`Decoder::next`].
    pub fn read_buffer(&mut self) -> &mut [u8] {
        let held = self.end - self.start;
        let missing = self.wanted.saturating_sub(held);
        let room = (held + missing.max(READ_SIZE)).min(MAX_BUFFER).max(held);
        if self.start + room > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, held);
        }
        if room > self.buffer.len() {
            self.buffer.resize(room.max(FIRST_BUFFER), 0);
        }
        // A read that stops soon after a large frame leaves little of the next one to be moved.
        let stop = if missing > READ_SIZE { self.start + room } else { self.buffer.len() };
        &mut self.buffer[self.end..stop]
    }

    /// Says that `length` bytes have been put at the front of the read buffer.
    ///
    /// # Panics
    /// When that is more than the buffer holds.
    pub fn advance(&mut self, length: usize) {
        assert!(length <= self.buffer.len() - self.end, "more was read than the buffer holds");
        self.end += length;
    }

    /// Copies bytes in and says how many were taken: fewer than all when frames have to be taken out first.
    #[must_use]
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() {
            let buffer = self.read_buffer();
            let length = buffer.len().min(bytes.len() - taken);
            if length == 0 {
                break;
            }
            buffer[..length].copy_from_slice(&bytes[taken..taken + length]);
            self.advance(length);
            taken += length;
        }
        taken
    }

    /// The next frame, or `None` until more bytes arrive.
    #[allow(clippy::should_implement_trait)] // an iterator would end where this one waits
    pub fn next(&mut self) -> Result<Option<Frame>, DecodeError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.take().map_err(|(frame, fault)| {
            let error = DecodeError { offset: self.offset, frame, fault };
            self.failed = Some(error.clone());
            error
        })
    }

    /// Bytes that have arrived and have not been given out: not zero when a connection ends inside a frame.
    pub fn pending(&self) -> usize {
        self.end - self.start
    }

    fn take(&mut self) -> Result<Option<Frame>, (Option<FrameType>, Fault)> {
        let held = &self.buffer[self.start..self.end];
        let Some((header, rest)) = held.split_first_chunk::<HEADER_SIZE>() else {
            self.wanted = HEADER_SIZE;
            return Ok(None);
        };
        let header = Header::read(header)?;
        let length = HEADER_SIZE + header.payload_length;
        let Some(payload) = rest.get(..header.payload_length) else {
            self.wanted = length;
            return Ok(None);
        };
        let fail = |fault| (Some(header.frame), fault);
        let (expected, found) = (header.payload_checksum, crc32c::crc32c(payload));
        if expected != found {
            return Err(fail(Fault::PayloadChecksum { expected, found }));
        }
        let frame = decode::payload(&header, payload, &mut self.decompressor).map_err(fail)?;
        self.start += length;
        self.offset += length as u64;
        self.wanted = HEADER_SIZE;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        Ok(Some(frame))
    }
}
