//! The fixed header of every frame.
//!
//! ```text
//!  0 u32 magic          4 u16 layout version    6 u8 type    7 u8 compression
//!  8 u32 payload bytes on the wire             12 u32 data bytes after decompression
//! 16 u32 CRC32C of the payload                 20 u32 CRC32C of bytes 0..20
//! ```

use crate::{Compression, Fault, FrameType, MAX_DATA, MAX_PAYLOAD};

/// Bytes of a frame before its payload.
pub const HEADER_SIZE: usize = 24;
/// First four bytes of every frame: `MTCS`.
pub const MAGIC: u32 = u32::from_le_bytes(*b"MTCS");
/// Version of the layout of frames.
pub const FRAME_VERSION: u16 = 1;

/// What a header says about its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outline {
    /// The frame's type.
    pub frame: FrameType,
    /// Bytes of the whole frame, header and payload.
    pub length: usize,
    /// Bytes of data in it after decompression.
    pub data_length: usize,
}

/// Reads the header of an encoded frame without its payload: for who stores frames and hands them on.
pub fn outline(header: &[u8; HEADER_SIZE]) -> Result<Outline, Fault> {
    let header = Header::read(header).map_err(|(_, fault)| fault)?;
    let length = HEADER_SIZE + header.payload_length;
    Ok(Outline { frame: header.frame, length, data_length: header.data_length })
}

/// Bytes that the header's own checksum covers.
const CHECKED: usize = HEADER_SIZE - 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) frame: FrameType,
    pub(crate) compression: Compression,
    pub(crate) payload_length: usize,
    pub(crate) data_length: usize,
    pub(crate) payload_checksum: u32,
}

impl Header {
    pub(crate) fn write(&self, out: &mut [u8]) {
        out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[4..6].copy_from_slice(&FRAME_VERSION.to_le_bytes());
        out[6] = self.frame as u8;
        out[7] = self.compression as u8;
        out[8..12].copy_from_slice(&(self.payload_length as u32).to_le_bytes());
        out[12..16].copy_from_slice(&(self.data_length as u32).to_le_bytes());
        out[16..20].copy_from_slice(&self.payload_checksum.to_le_bytes());
        let checksum = crc32c::crc32c(&out[..CHECKED]);
        out[CHECKED..HEADER_SIZE].copy_from_slice(&checksum.to_le_bytes());
    }

    /// Reads a header, with the frame's type beside the fault where the type can be trusted.
    pub(crate) fn read(bytes: &[u8; HEADER_SIZE]) -> Result<Header, (Option<FrameType>, Fault)> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if word(0) != MAGIC {
            return Err((None, Fault::Magic { expected: MAGIC, found: word(0) }));
        }
        let (expected, found) = (word(CHECKED), crc32c::crc32c(&bytes[..CHECKED]));
        if expected != found {
            return Err((None, Fault::HeaderChecksum { expected, found }));
        }
        let version = u16::from_le_bytes([bytes[4], bytes[5]]);
        if version != FRAME_VERSION {
            return Err((None, Fault::Version { expected: FRAME_VERSION, found: version }));
        }
        let unknown = |field, code: u8| Fault::Unknown { field, found: u64::from(code) };
        let frame = FrameType::from_code(bytes[6]).ok_or((None, unknown("type", bytes[6])))?;
        let compression = Compression::from_code(bytes[7])
            .ok_or_else(|| (Some(frame), unknown("compression", bytes[7])))?;
        let header = Header {
            frame,
            compression,
            payload_length: word(8) as usize,
            data_length: word(12) as usize,
            payload_checksum: word(16),
        };
        header.check().map_err(|fault| (Some(frame), fault))?;
        Ok(header)
    }

    /// True when the payload is whole and ends in data that is not compressed.
    pub(crate) fn is_plain(&self, payload: &[u8]) -> bool {
        self.compression == Compression::None && self.data_length > 0 && payload.len() == self.payload_length
    }

    fn check(&self) -> Result<(), Fault> {
        let at_most = |field, found: usize, limit: usize| match found <= limit {
            true => Ok(()),
            false => Err(Fault::TooLarge { field, found: found as u64, limit: limit as u64 }),
        };
        at_most("payload length", self.payload_length, MAX_PAYLOAD)?;
        if self.frame.carries_data() {
            return at_most("data length", self.data_length, MAX_DATA);
        }
        at_most("data length", self.data_length, 0)?;
        at_most("compression", self.compression as usize, Compression::None as usize)
    }
}
