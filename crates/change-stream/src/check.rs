//! The rules that a frame has to keep, whoever made it.

use crate::{Fault, Frame, MAX_DATA, MAX_DISKS, MAX_HASHES, MAX_TEXT, Need, Position};

impl Frame {
    pub(crate) fn check(&self) -> Result<(), Fault> {
        if let Some(at) = self.position() {
            not_zero("sequence number", at.sequence)?;
        }
        match self {
            Frame::Hello { item, disks, agent, next_sequence, oldest_held, .. } => {
                not_zero("oldest held sequence number", *oldest_held)?;
                at_most("oldest held sequence number", *oldest_held, *next_sequence)?;
                not_zero("number of disks", disks.len() as u64)?;
                at_most("number of disks", disks.len() as u64, MAX_DISKS as u64)?;
                disks.iter().try_for_each(|disk| text("disk id", &disk.id))?;
                text("item", item)?;
                text("agent", agent)
            }
            Frame::BulkHello { item, .. } => text("item", item),
            Frame::Write { at, disk, offset, data } => write(*at, *disk, *offset, data.len()),
            Frame::SyncData { disk, offset, data: bytes } => data(*disk, *offset, bytes.len()),
            Frame::WriteZeroes { disk, offset, length, .. }
            | Frame::Discard { disk, offset, length, .. }
            | Frame::SyncZeroes { disk, offset, length } => place(*disk, *offset, *length),
            Frame::SyncReference { disk, offset, length: bytes, .. } => {
                length("length", u64::from(*bytes))?;
                place(*disk, *offset, u64::from(*bytes))
            }
            Frame::BulkData { data: bytes, .. } => data(0, 0, bytes.len()),
            Frame::Bookmark { name, group, .. } => {
                text("name", name)?;
                group.iter().try_for_each(|group| text("group", group))
            }
            Frame::HashBlocks { disk, offset, block_size, length, hashes, .. } => {
                not_zero("block size", u64::from(*block_size))?;
                at_most("number of hashes", hashes.len() as u64, MAX_HASHES as u64)?;
                place(*disk, *offset, *length)?;
                let (expected, found) = (length.div_ceil(u64::from(*block_size)), hashes.len() as u64);
                match expected == found {
                    true => Ok(()),
                    false => Err(Fault::Unexpected { field: "number of hashes", expected, found }),
                }
            }
            Frame::Goodbye { reason } => text("reason", reason),
            Frame::Welcome { need: Need::Resync { reason }, .. } => text("reason", reason),
            Frame::HashReply { differs, .. } => {
                at_most("bitmap length", differs.len() as u64, MAX_HASHES as u64 / 8)
            }
            Frame::Refused { message, .. } => text("message", message),
            Frame::Flush { .. }
            | Frame::Heartbeat { .. }
            | Frame::SyncBegin { .. }
            | Frame::SyncEnd { .. }
            | Frame::Welcome { .. }
            | Frame::Ack { .. } => Ok(()),
        }
    }
}

/// The rules of a `Write`.
pub(crate) fn write(at: Position, disk: u16, offset: u64, length: usize) -> Result<(), Fault> {
    not_zero("sequence number", at.sequence)?;
    data(disk, offset, length)
}

/// The rules of data at a place.
pub(crate) fn data(disk: u16, offset: u64, bytes: usize) -> Result<(), Fault> {
    length("data length", bytes as u64)?;
    place(disk, offset, bytes as u64)
}

fn at_most(field: &'static str, found: u64, limit: u64) -> Result<(), Fault> {
    if found <= limit { Ok(()) } else { Err(Fault::TooLarge { field, found, limit }) }
}

fn not_zero(field: &'static str, found: u64) -> Result<(), Fault> {
    if found != 0 { Ok(()) } else { Err(Fault::Zero { field }) }
}

fn text(field: &'static str, text: &str) -> Result<(), Fault> {
    at_most(field, text.len() as u64, MAX_TEXT as u64)
}

fn length(field: &'static str, length: u64) -> Result<(), Fault> {
    not_zero(field, length)?;
    at_most(field, length, MAX_DATA as u64)
}

fn place(disk: u16, offset: u64, length: u64) -> Result<(), Fault> {
    at_most("disk number", u64::from(disk), MAX_DISKS as u64 - 1)?;
    not_zero("length", length)?;
    match offset.checked_add(length) {
        Some(_) => Ok(()),
        None => Err(Fault::Range { offset, length }),
    }
}
