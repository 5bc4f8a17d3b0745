//! Payloads to frames.

use crate::compression::Decompressor;
use crate::header::Header;
use crate::reader::Reader;
use crate::{
    BookmarkKind, DiskDescription, Fault, Frame, FrameType, Limits, MAX_DISKS, MAX_HASHES, Need, Position,
    RefusalCode, StreamId, SyncMode,
};

/// The frame of a payload whose checksum has been verified.
pub(crate) fn payload(
    header: &Header,
    payload: &[u8],
    decompressor: &mut Decompressor,
) -> Result<Frame, Fault> {
    let mut reader = Reader::new(payload);
    let mut data = |reader: &mut Reader<'_>| {
        decompressor.decompress(header.compression, reader.rest(), header.data_length)
    };
    let r = &mut reader;
    let frame = match header.frame {
        FrameType::Hello => hello(r)?,
        FrameType::BulkHello => bulk_hello(r)?,
        FrameType::Write => {
            let (at, (disk, offset)) = (position(r)?, place(r)?);
            Frame::Write { at, disk, offset, data: data(r)? }
        }
        FrameType::WriteZeroes => {
            let (at, (disk, offset)) = (position(r)?, place(r)?);
            Frame::WriteZeroes { at, disk, offset, length: r.u64("length")? }
        }
        FrameType::Discard => {
            let (at, (disk, offset)) = (position(r)?, place(r)?);
            Frame::Discard { at, disk, offset, length: r.u64("length")? }
        }
        FrameType::Flush => Frame::Flush { at: position(r)? },
        FrameType::Bookmark => bookmark(r)?,
        FrameType::Heartbeat => {
            Frame::Heartbeat { time: r.u64("time")?, newest_sequence: r.u64("newest sequence number")? }
        }
        FrameType::SyncBegin => sync_begin(r)?,
        FrameType::SyncData => {
            let (disk, offset) = place(r)?;
            Frame::SyncData { disk, offset, data: data(r)? }
        }
        FrameType::SyncZeroes => {
            let (disk, offset) = place(r)?;
            Frame::SyncZeroes { disk, offset, length: r.u64("length")? }
        }
        FrameType::SyncReference => {
            let (disk, offset) = place(r)?;
            Frame::SyncReference { disk, offset, length: r.u32("length")?, bulk: r.u64("bulk number")? }
        }
        FrameType::SyncEnd => Frame::SyncEnd { time: r.u64("time")?, consistent: r.flag("consistency")? },
        FrameType::BulkData => Frame::BulkData { bulk: r.u64("bulk number")?, data: data(r)? },
        FrameType::HashBlocks => hash_blocks(r)?,
        FrameType::Goodbye => Frame::Goodbye { reason: r.text("reason")? },
        FrameType::Welcome => welcome(r)?,
        FrameType::Ack => Frame::Ack {
            durable_sequence: r.u64("durable sequence number")?,
            durable_sync: r.u64("durable sync count")?,
        },
        FrameType::HashReply => Frame::HashReply { request: r.u64("request")?, differs: r.rest().to_vec() },
        FrameType::Refused => Frame::Refused { code: refusal(r)?, message: r.text("message")? },
    };
    reader.finish()?;
    frame.check()?;
    Ok(frame)
}

fn position(r: &mut Reader<'_>) -> Result<Position, Fault> {
    Ok(Position { sequence: r.u64("sequence number")?, time: r.u64("time")? })
}

fn place(r: &mut Reader<'_>) -> Result<(u16, u64), Fault> {
    Ok((r.u16("disk number")?, r.u64("offset")?))
}

fn stream(r: &mut Reader<'_>) -> Result<StreamId, Fault> {
    r.array("stream id").map(StreamId)
}

fn hello(r: &mut Reader<'_>) -> Result<Frame, Fault> {
    let version = r.u16("version")?;
    let stream = stream(r)?;
    let oldest_held = r.u64("oldest held sequence number")?;
    let next_sequence = r.u64("next sequence number")?;
    let item = r.text("item")?;
    let agent = r.text("agent")?;
    let count = usize::from(r.u16("number of disks")?);
    if count > MAX_DISKS {
        let (found, limit) = (count as u64, MAX_DISKS as u64);
        return Err(Fault::TooLarge { field: "number of disks", found, limit });
    }
    let disks = (0..count)
        .map(|_| Ok(DiskDescription { size: r.u64("disk size")?, id: r.text("disk id")? }))
        .collect::<Result<_, Fault>>()?;
    Ok(Frame::Hello { version, item, stream, disks, oldest_held, next_sequence, agent })
}

fn bulk_hello(r: &mut Reader<'_>) -> Result<Frame, Fault> {
    let version = r.u16("version")?;
    let stream = stream(r)?;
    let session = r.u64("session")?;
    Ok(Frame::BulkHello { version, item: r.text("item")?, stream, session })
}

fn bookmark(r: &mut Reader<'_>) -> Result<Frame, Fault> {
    let at = position(r)?;
    let kind = match r.u8("kind")? {
        0 => BookmarkKind::CrashConsistent,
        1 => BookmarkKind::ApplicationConsistent,
        code => return Err(Fault::Unknown { field: "kind", found: u64::from(code) }),
    };
    let name = r.text("name")?;
    let group = if r.flag("group mark")? { Some(r.text("group")?) } else { None };
    Ok(Frame::Bookmark { at, kind, name, group })
}

fn sync_begin(r: &mut Reader<'_>) -> Result<Frame, Fault> {
    let mode = match r.u8("mode")? {
        0 => SyncMode::Initial,
        1 => SyncMode::Resync,
        code => return Err(Fault::Unknown { field: "mode", found: u64::from(code) }),
    };
    Ok(Frame::SyncBegin { mode, stream: stream(r)?, base_sequence: r.u64("base sequence number")? })
}

fn hash_blocks(r: &mut Reader<'_>) -> Result<Frame, Fault> {
    let request = r.u64("request")?;
    let (disk, offset) = place(r)?;
    let block_size = r.u32("block size")?;
    let length = r.u64("length")?;
    let (blocks, partial) = r.rest().as_chunks::<32>();
    if !partial.is_empty() {
        return Err(Fault::Short { field: "hash", expected: 32, found: partial.len() as u64 });
    }
    if blocks.len() > MAX_HASHES {
        let (found, limit) = (blocks.len() as u64, MAX_HASHES as u64);
        return Err(Fault::TooLarge { field: "number of hashes", found, limit });
    }
    Ok(Frame::HashBlocks { request, disk, offset, block_size, length, hashes: blocks.to_vec() })
}

fn welcome(r: &mut Reader<'_>) -> Result<Frame, Fault> {
    let version = r.u16("version")?;
    let session = r.u64("session")?;
    let durable_sequence = r.u64("durable sequence number")?;
    let limits = Limits {
        bulk_window: r.u64("bulk window")?,
        hash_requests: r.u32("hash requests")?,
        heartbeat_seconds: r.u32("heartbeat seconds")?,
    };
    let need = match r.u8("need")? {
        0 => Need::Nothing,
        1 => Need::InitialSync,
        2 => Need::Resync { reason: r.text("reason")? },
        code => return Err(Fault::Unknown { field: "need", found: u64::from(code) }),
    };
    Ok(Frame::Welcome { version, session, durable_sequence, need, limits })
}

fn refusal(r: &mut Reader<'_>) -> Result<RefusalCode, Fault> {
    let code = r.u8("code")?;
    RefusalCode::from_code(code).ok_or(Fault::Unknown { field: "code", found: u64::from(code) })
}
