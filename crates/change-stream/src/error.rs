//! What can be wrong with a frame.

use crate::FrameType;

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The other end of the connection sent what it must not: end the session.
    Peer,
    /// The caller tried to send what must not be sent.
    Caller,
}

/// What is wrong, with what was expected and what was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The bytes are not a frame at all.
    #[error("it begins with {found:08x}, not with the magic {expected:08x}; is the peer a source agent?")]
    Magic {
        /// The magic.
        expected: u32,
        /// The first four bytes.
        found: u32,
    },
    /// A layout that this version does not read.
    #[error(
        "its layout is version {found}, this side reads {expected}; bring both sides to the same release"
    )]
    Version {
        /// The version read here.
        expected: u16,
        /// The frame's.
        found: u16,
    },
    /// The header's checksum does not fit it.
    #[error("the header's checksum is {expected:08x} and its bytes give {found:08x}: damaged on the way")]
    HeaderChecksum {
        /// As the header says.
        expected: u32,
        /// As calculated.
        found: u32,
    },
    /// The payload's checksum does not fit it.
    #[error("the payload's checksum is {expected:08x} and its bytes give {found:08x}: damaged on the way")]
    PayloadChecksum {
        /// As the header says.
        expected: u32,
        /// As calculated.
        found: u32,
    },
    /// A code that means nothing.
    #[error("its {field} is {found}, which means nothing in this version")]
    Unknown {
        /// The field.
        field: &'static str,
        /// Its code.
        found: u64,
    },
    /// A value over its limit.
    #[error("its {field} is {found}, the limit is {limit}")]
    TooLarge {
        /// The field.
        field: &'static str,
        /// Its value.
        found: u64,
        /// The most it may be.
        limit: u64,
    },
    /// A value that contradicts another, or may not be zero.
    #[error("its {field} is {found}, expected {expected}")]
    Unexpected {
        /// The field.
        field: &'static str,
        /// What it had to be.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// A length or number that is zero.
    #[error("its {field} is zero")]
    Zero {
        /// The field.
        field: &'static str,
    },
    /// A range whose end does not fit into 64 bits.
    #[error("{length} bytes at offset {offset} end past the largest offset there is")]
    Range {
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
    },
    /// The payload ends before its fields do.
    #[error("its payload ends inside its {field}: {expected} bytes expected, {found} left")]
    Short {
        /// The field.
        field: &'static str,
        /// Bytes it needs.
        expected: u64,
        /// Bytes left.
        found: u64,
    },
    /// The payload goes on after its fields.
    #[error("its payload has {found} bytes too many")]
    Trailing {
        /// How many.
        found: u64,
    },
    /// A text that is not UTF-8.
    #[error("its {field} is not UTF-8")]
    NotText {
        /// The field.
        field: &'static str,
    },
    /// Data that does not decompress to what the header says.
    #[error("its {expected} bytes of data do not decompress: {cause}")]
    Decompression {
        /// Bytes of data the header announced.
        expected: u64,
        /// The decompressor's words.
        cause: String,
    },
    /// Data that could not be compressed.
    #[error("its data cannot be compressed: {cause}")]
    Compression {
        /// The compressor's words.
        cause: String,
    },
}

/// A frame that cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot send a {frame} frame: {fault}")]
pub struct Error {
    /// The frame's type.
    pub frame: FrameType,
    /// What is wrong with it.
    pub fault: Fault,
}

impl Error {
    /// Whose fault it is.
    pub fn class(&self) -> Class {
        Class::Caller
    }
}

/// Received bytes that are no frame. The stream cannot be read on after it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad {} at byte {offset} of the stream: {fault}", name(.frame))]
pub struct DecodeError {
    /// Where the frame begins, in bytes since the connection began.
    pub offset: u64,
    /// The frame's type, where the header was good enough to tell.
    pub frame: Option<FrameType>,
    /// What is wrong with it.
    pub fault: Fault,
}

impl DecodeError {
    /// Whose fault it is.
    pub fn class(&self) -> Class {
        Class::Peer
    }
}

fn name(frame: &Option<FrameType>) -> String {
    frame.map_or_else(|| "frame header".to_owned(), |frame| format!("{frame} frame"))
}
