//! The change stream: what a source agent and a master target say to each other.
//!
//! A source tracks one item, that is all disks of one machine, and sends every change of them as one ordered
//! sequence of *differential* frames ([`Frame::Write`] and its siblings), numbered from 1 without gaps. The master
//! target answers with the newest number that is durable, and that is where the source resumes after a lost
//! connection. What the target does not have yet when tracking starts, or what the source could not hold for it,
//! travels as *sync* frames that ride in the same order without a number. The whole conversation, state by state, is
//! described in `docs/formats/change-stream.md`; this crate knows only frames.
//!
//! A frame is a fixed header and a payload, little endian, laid out by hand. The header carries a magic, the
//! version of the layout, the frame's type, how its data is compressed, the lengths, and a CRC32C each of itself and
//! of the payload, so a flipped bit anywhere is found before anything is believed. Only the data at the end of a
//! data frame is compressed; it is decompressed straight into the vector that the frame hands on.
//!
//! [`encode`] appends a frame to a buffer. [`Decoder`] takes bytes as they arrive, in a buffer that a socket can
//! read into, and gives out frames. Both refuse the same things: a text, list or length over its limit, an empty
//! write, a range whose end does not fit into 64 bits, a byte too few or too many. A decoder never panics and never
//! allocates more than [`MAX_PAYLOAD`] for a frame, whatever arrives.

mod check;
mod compression;
mod decode;
mod decoder;
mod encode;
mod error;
mod frame;
mod header;
mod reader;

pub use compression::Compression;
pub use decoder::Decoder;
pub use encode::{Encoder, encode};
pub use error::{Class, DecodeError, Error, Fault};
pub use frame::{
    BookmarkKind, DiskDescription, Frame, FrameType, Limits, Need, Position, RefusalCode, StreamId, SyncMode,
    Time,
};
pub use header::{FRAME_VERSION, HEADER_SIZE, MAGIC, Outline, outline};

/// Version of the conversation, offered in `Hello` and `BulkHello` and answered in `Welcome`.
pub const PROTOCOL_VERSION: u16 = 1;
/// Longest payload, on the wire and after decompression.
pub const MAX_PAYLOAD: usize = 4 << 20;
/// Most data bytes in one write, sync or bulk frame.
pub const MAX_DATA: usize = 1 << 20;
/// Most disks of one item.
pub const MAX_DISKS: usize = 256;
/// Longest id, name, group, reason or message, in bytes.
pub const MAX_TEXT: usize = 4096;
/// Most hashes in one `HashBlocks`.
pub const MAX_HASHES: usize = 1 << 15;
