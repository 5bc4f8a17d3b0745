//! Frames to bytes.

use crate::compression::Compressor;
use crate::header::Header;
use crate::{
    BookmarkKind, Compression, Error, Fault, Frame, FrameType, HEADER_SIZE, MAX_PAYLOAD, Need, Position,
    SyncMode,
};

/// Appends one whole frame to `out`, which is left as it was when the frame may not be sent.
///
/// Compression touches the data of data frames only, and only where it makes them shorter. Who encodes many frames
/// keeps an [`Encoder`] instead.
pub fn encode(frame: &Frame, compression: Compression, out: &mut Vec<u8>) -> Result<(), Error> {
    Encoder::new(compression).encode(frame, out)
}

/// Turns frames into bytes, keeping its compression context from frame to frame.
pub struct Encoder {
    compression: Compression,
    compressor: Compressor,
}

impl Encoder {
    /// An encoder whose data frames are compressed as said.
    pub fn new(compression: Compression) -> Encoder {
        Encoder { compression, compressor: Compressor::default() }
    }

    /// Appends one whole frame to `out`, which is left as it was when the frame may not be sent.
    pub fn encode(&mut self, frame: &Frame, out: &mut Vec<u8>) -> Result<(), Error> {
        let frame_type = frame.frame_type();
        let data = match frame {
            Frame::Write { data, .. } | Frame::SyncData { data, .. } | Frame::BulkData { data, .. } => data,
            _ => &[][..],
        };
        frame.check().map_err(|fault| Error { frame: frame_type, fault })?;
        self.put(frame_type, data, out, |out| fields(frame, out))
    }

    /// Appends a `Write` frame without owning its data.
    pub fn encode_write(
        &mut self,
        at: Position,
        disk: u16,
        offset: u64,
        data: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let frame = FrameType::Write;
        crate::check::write(at, disk, offset, data.len()).map_err(|fault| Error { frame, fault })?;
        self.put(frame, data, out, |out| {
            position(out, at);
            place(out, disk, offset);
        })
    }

    /// Appends a `SyncData` frame without owning its data.
    pub fn encode_sync_data(
        &mut self,
        disk: u16,
        offset: u64,
        data: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let frame = FrameType::SyncData;
        crate::check::data(disk, offset, data.len()).map_err(|fault| Error { frame, fault })?;
        self.put(frame, data, out, |out| place(out, disk, offset))
    }

    /// Appends a `BulkData` frame without owning its data.
    pub fn encode_bulk_data(&mut self, bulk: u64, data: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let frame = FrameType::BulkData;
        crate::check::data(0, 0, data.len()).map_err(|fault| Error { frame, fault })?;
        self.put(frame, data, out, |out| u64(out, bulk))
    }

    /// Appends a frame that is encoded already, compressing its data if it is not compressed yet. The payload is
    /// trusted: it is this side's own, and its checksum is the peer's to verify.
    pub fn append_encoded(&mut self, frame: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let Some((header, payload)) = frame.split_first_chunk::<HEADER_SIZE>() else {
            let (expected, found) = (HEADER_SIZE as u64, frame.len() as u64);
            let fault = Fault::Short { field: "header", expected, found };
            return Err(Error { frame: FrameType::Write, fault });
        };
        let header = Header::read(header)
            .map_err(|(frame, fault)| Error { frame: frame.unwrap_or(FrameType::Write), fault })?;
        let data = payload.len().checked_sub(header.data_length);
        match data {
            Some(start) if self.compression != Compression::None && header.is_plain(payload) => {
                let (fields, data) = payload.split_at(start);
                self.put(header.frame, data, out, |out| out.extend_from_slice(fields))
            }
            _ => {
                out.extend_from_slice(frame);
                Ok(())
            }
        }
    }

    fn put(
        &mut self,
        frame: FrameType,
        data: &[u8],
        out: &mut Vec<u8>,
        fields: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Error> {
        let start = out.len();
        let result = self.append(frame, data, out, fields).map_err(|fault| Error { frame, fault });
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    fn append(
        &mut self,
        frame: FrameType,
        data: &[u8],
        out: &mut Vec<u8>,
        fields: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Fault> {
        let start = out.len();
        let payload = start + HEADER_SIZE;
        out.resize(payload, 0);
        fields(out);
        let compression = match self.compressor.compress(self.compression, data)? {
            Some(compressed) => {
                out.extend_from_slice(compressed);
                self.compression
            }
            None => {
                out.extend_from_slice(data);
                Compression::None
            }
        };
        let payload_length = out.len() - payload;
        if payload_length > MAX_PAYLOAD {
            let (found, limit) = (payload_length as u64, MAX_PAYLOAD as u64);
            return Err(Fault::TooLarge { field: "payload length", found, limit });
        }
        let header = Header {
            frame,
            compression,
            payload_length,
            data_length: data.len(),
            payload_checksum: crc32c::crc32c(&out[payload..]),
        };
        header.write(&mut out[start..payload]);
        Ok(())
    }
}

/// Everything but the data at the end of a data frame.
fn fields(frame: &Frame, out: &mut Vec<u8>) {
    match frame {
        Frame::Hello { .. } | Frame::BulkHello { .. } | Frame::Goodbye { .. } => session_fields(frame, out),
        Frame::Write { .. }
        | Frame::WriteZeroes { .. }
        | Frame::Discard { .. }
        | Frame::Flush { .. }
        | Frame::Bookmark { .. }
        | Frame::Heartbeat { .. } => differential_fields(frame, out),
        Frame::Welcome { .. } | Frame::Ack { .. } | Frame::HashReply { .. } | Frame::Refused { .. } => {
            answer_fields(frame, out);
        }
        _ => sync_fields(frame, out),
    }
}

fn session_fields(frame: &Frame, out: &mut Vec<u8>) {
    match frame {
        Frame::Hello { version, item, stream, disks, oldest_held, next_sequence, agent } => {
            u16(out, *version);
            out.extend_from_slice(&stream.0);
            u64(out, *oldest_held);
            u64(out, *next_sequence);
            text(out, item);
            text(out, agent);
            u16(out, disks.len() as u16);
            for disk in disks {
                u64(out, disk.size);
                text(out, &disk.id);
            }
        }
        Frame::BulkHello { version, item, stream, session } => {
            u16(out, *version);
            out.extend_from_slice(&stream.0);
            u64(out, *session);
            text(out, item);
        }
        Frame::Goodbye { reason } => text(out, reason),
        _ => {}
    }
}

fn differential_fields(frame: &Frame, out: &mut Vec<u8>) {
    if let Some(at) = frame.position() {
        position(out, at);
    }
    match frame {
        Frame::Write { disk, offset, .. } => place(out, *disk, *offset),
        Frame::WriteZeroes { disk, offset, length, .. } | Frame::Discard { disk, offset, length, .. } => {
            place(out, *disk, *offset);
            u64(out, *length);
        }
        Frame::Bookmark { kind, name, group, .. } => {
            out.push(match kind {
                BookmarkKind::CrashConsistent => 0,
                BookmarkKind::ApplicationConsistent => 1,
            });
            text(out, name);
            out.push(u8::from(group.is_some()));
            if let Some(group) = group {
                text(out, group);
            }
        }
        Frame::Heartbeat { time, newest_sequence } => {
            u64(out, *time);
            u64(out, *newest_sequence);
        }
        _ => {}
    }
}

fn sync_fields(frame: &Frame, out: &mut Vec<u8>) {
    match frame {
        Frame::SyncBegin { mode, stream, base_sequence } => {
            out.push(match mode {
                SyncMode::Initial => 0,
                SyncMode::Resync => 1,
            });
            out.extend_from_slice(&stream.0);
            u64(out, *base_sequence);
        }
        Frame::SyncData { disk, offset, .. } => place(out, *disk, *offset),
        Frame::SyncZeroes { disk, offset, length } => {
            place(out, *disk, *offset);
            u64(out, *length);
        }
        Frame::SyncReference { disk, offset, length, bulk } => {
            place(out, *disk, *offset);
            u32(out, *length);
            u64(out, *bulk);
        }
        Frame::SyncEnd { time, consistent } => {
            u64(out, *time);
            out.push(u8::from(*consistent));
        }
        Frame::BulkData { bulk, .. } => u64(out, *bulk),
        Frame::HashBlocks { request, disk, offset, block_size, length, hashes } => {
            u64(out, *request);
            place(out, *disk, *offset);
            u32(out, *block_size);
            u64(out, *length);
            out.extend_from_slice(hashes.as_flattened());
        }
        _ => {}
    }
}

fn answer_fields(frame: &Frame, out: &mut Vec<u8>) {
    match frame {
        Frame::Welcome { version, session, durable_sequence, need, limits } => {
            u16(out, *version);
            u64(out, *session);
            u64(out, *durable_sequence);
            u64(out, limits.bulk_window);
            u32(out, limits.hash_requests);
            u32(out, limits.heartbeat_seconds);
            match need {
                Need::Nothing => out.push(0),
                Need::InitialSync => out.push(1),
                Need::Resync { reason } => {
                    out.push(2);
                    text(out, reason);
                }
            }
        }
        Frame::Ack { durable_sequence, durable_sync } => {
            u64(out, *durable_sequence);
            u64(out, *durable_sync);
        }
        Frame::HashReply { request, differs } => {
            u64(out, *request);
            out.extend_from_slice(differs);
        }
        Frame::Refused { code, message } => {
            out.push(*code as u8);
            text(out, message);
        }
        _ => {}
    }
}

fn position(out: &mut Vec<u8>, at: Position) {
    u64(out, at.sequence);
    u64(out, at.time);
}

fn place(out: &mut Vec<u8>, disk: u16, offset: u64) {
    u16(out, disk);
    u64(out, offset);
}

/// A text's length is checked to be at most `MAX_TEXT`, which fits.
fn text(out: &mut Vec<u8>, text: &str) {
    u16(out, text.len() as u16);
    out.extend_from_slice(text.as_bytes());
}

fn u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}
