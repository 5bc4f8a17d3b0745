//! One request: what it asks for, and carrying it out.

use crate::reply::Reply;
use crate::wire::{Errno, Fields, command};
use crate::{Export, MAX_PAYLOAD};
use disk::{Allocation, ByteRange, Bytes, Cause, Disk, Extent};
use std::sync::Arc;

/// A hole shorter than this is sent as zeroes: looking for it would cost more than it saves.
const SMALLEST_HOLE: u64 = 16 << 10;
/// Most extents in one answer about allocation, and most looked up for it.
const MAX_EXTENTS: usize = 4096;
const MAX_LOOKUPS: usize = 4 * MAX_EXTENTS;
/// Zeroes that are written where a client forbids holes, at once.
const ZEROES: &[u8] = &[0; 64 << 10];

/// The fixed part of a request.
#[derive(Clone, Copy)]
pub(crate) struct Header {
    pub(crate) flags: u16,
    pub(crate) command: u16,
    pub(crate) cookie: u64,
    pub(crate) offset: u64,
    pub(crate) length: u32,
}

impl Header {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Header> {
        Some(Header {
            flags: fields.u16()?,
            command: fields.u16()?,
            cookie: fields.u64()?,
            offset: fields.u64()?,
            length: fields.u32()?,
        })
    }

    fn range_on(&self, disk: &dyn Disk) -> Option<ByteRange> {
        ByteRange::new(Bytes(self.offset), Bytes(u64::from(self.length)))
            .filter(|range| range.end() <= disk.size())
    }

    fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// A request that was understood. [`Request::run`] carries it out and makes the answer; requests of a connection
/// may be run in any order and at the same time, on any thread.
pub struct Request {
    cookie: u64,
    work: Work,
    export: Arc<Export>,
    structured: bool,
}

enum Work {
    Read { range: ByteRange, in_one_piece: bool },
    Write { offset: Bytes, data: Vec<u8>, durable: bool },
    Zero { range: ByteRange, keep_allocated: bool, durable: bool },
    Flush,
    Status { range: ByteRange, one: bool },
    Refuse { errno: Errno, why: &'static str },
}

type Refusal = (Errno, &'static str);

impl Request {
    /// Any request but a write.
    pub(crate) fn new(header: Header, export: &Arc<Export>, structured: bool, status: bool) -> Request {
        let work = work(&header, export, structured, status)
            .unwrap_or_else(|(errno, why)| Work::Refuse { errno, why });
        Request { cookie: header.cookie, work, export: export.clone(), structured }
    }

    /// The refusal of a write that cannot be carried out, whatever its payload is.
    pub(crate) fn refusal_of_write(
        header: &Header,
        export: &Arc<Export>,
        structured: bool,
    ) -> Option<Request> {
        let (errno, why) =
            limited(header).and_then(|()| writable(header, export, command::FUA, Errno::NoSpace)).err()?;
        let work = Work::Refuse { errno, why };
        Some(Request { cookie: header.cookie, work, export: export.clone(), structured })
    }

    /// A write that was not refused, with its payload.
    pub(crate) fn write(header: Header, data: Vec<u8>, export: &Arc<Export>, structured: bool) -> Request {
        let work = Work::Write { offset: Bytes(header.offset), data, durable: header.has(command::FUA) };
        Request { cookie: header.cookie, work, export: export.clone(), structured }
    }

    /// Bytes of data that it holds now, or that its answer will.
    pub fn bytes(&self) -> usize {
        match &self.work {
            Work::Read { range, .. } => range.length().as_usize(),
            Work::Write { data, .. } => data.len(),
            Work::Status { one: false, .. } => MAX_EXTENTS * size_of::<u64>(),
            _ => 0,
        }
    }

    /// Carries the request out and appends the answer to `answer`.
    pub fn run(self, answer: &mut Vec<u8>) {
        let mut reply = Reply::new(answer, self.cookie, self.structured);
        if self.export.is_withdrawn() {
            return reply.error(Errno::Shutdown, "the export is being withdrawn");
        }
        let disk = &**self.export.disk();
        let done = match self.work {
            Work::Read { range, in_one_piece } => read(&self.export, range, in_one_piece, &mut reply),
            Work::Write { offset, data, durable } => {
                disk.write_at(offset, &data).and_then(|()| finish(disk, durable, &mut reply))
            }
            Work::Zero { range, keep_allocated, durable } => {
                let zeroed = zero(disk, range, keep_allocated);
                self.export.forget_known_data();
                zeroed.and_then(|()| finish(disk, durable, &mut reply))
            }
            Work::Flush => finish(disk, true, &mut reply),
            Work::Status { range, one } => status(disk, range, one, &mut reply),
            Work::Refuse { errno, why } => return reply.error(errno, why),
        };
        if let Err(error) = done {
            reply.error(errno_of(&error), &error.to_string());
        }
    }
}

fn work(header: &Header, export: &Export, structured: bool, status: bool) -> Result<Work, Refusal> {
    let disk = &**export.disk();
    let durable = header.has(command::FUA);
    match header.command {
        command::READ => {
            let fragment = if structured { command::DONT_FRAGMENT } else { 0 };
            known_flags(header, command::FUA | fragment)?;
            limited(header)?;
            let range = header.range_on(disk).ok_or(PAST_THE_END)?;
            Ok(Work::Read { range, in_one_piece: header.has(command::DONT_FRAGMENT) })
        }
        command::FLUSH => known_flags(header, command::FUA).map(|()| Work::Flush),
        command::TRIM => {
            let range = writable(header, export, command::FUA, Errno::Invalid)?;
            Ok(Work::Zero { range, keep_allocated: false, durable })
        }
        command::WRITE_ZEROES => {
            let range = writable(header, export, command::FUA | command::NO_HOLE, Errno::NoSpace)?;
            Ok(Work::Zero { range, keep_allocated: header.has(command::NO_HOLE), durable })
        }
        command::BLOCK_STATUS if status => {
            known_flags(header, command::FUA | command::REQUEST_ONE)?;
            let range = header.range_on(disk).filter(|range| !range.is_empty()).ok_or(PAST_THE_END)?;
            Ok(Work::Status { range, one: header.has(command::REQUEST_ONE) })
        }
        command::BLOCK_STATUS => Err((Errno::Invalid, "block status was not negotiated")),
        _ => Err((Errno::Invalid, "this server does not know the command")),
    }
}

const PAST_THE_END: Refusal = (Errno::Invalid, "the range is empty or leaves the disk");

fn known_flags(header: &Header, known: u16) -> Result<(), Refusal> {
    match header.flags & !known {
        0 => Ok(()),
        _ => Err((Errno::Invalid, "the command has a flag that was not offered")),
    }
}

fn limited(header: &Header) -> Result<(), Refusal> {
    match header.length {
        0..=MAX_PAYLOAD => Ok(()),
        _ => Err((Errno::Invalid, "the length is over the limit of 32 MiB")),
    }
}

/// The range of a command that changes the disk, if it may. `outside` is what a range past the end is called.
fn writable(header: &Header, export: &Export, flags: u16, outside: Errno) -> Result<ByteRange, Refusal> {
    if export.is_read_only() {
        return Err((Errno::NotPermitted, "the export is read-only"));
    }
    known_flags(header, flags)?;
    header.range_on(&**export.disk()).ok_or((outside, "the range leaves the disk"))
}

fn errno_of(error: &disk::Error) -> Errno {
    match error.cause() {
        Cause::NoSpace => Errno::NoSpace,
        Cause::ReadOnly => Errno::NotPermitted,
        Cause::OutOfBounds { .. } => Errno::Invalid,
        _ => Errno::Io,
    }
}

fn finish(disk: &dyn Disk, durable: bool, reply: &mut Reply<'_>) -> disk::Result<()> {
    if durable {
        disk.sync()?;
    }
    reply.done();
    Ok(())
}

fn zero(disk: &dyn Disk, range: ByteRange, keep_allocated: bool) -> disk::Result<()> {
    if !keep_allocated {
        return disk.write_zeroes(range);
    }
    let mut offset = range.start();
    while offset < range.end() {
        let length = (range.end() - offset).0.min(ZEROES.len() as u64);
        disk.write_at(offset, &ZEROES[..length as usize])?;
        offset += Bytes(length);
    }
    Ok(())
}

fn read(export: &Export, range: ByteRange, in_one_piece: bool, reply: &mut Reply<'_>) -> disk::Result<()> {
    let disk = &**export.disk();
    let pieces = reply.is_structured() && !in_one_piece && range.length() >= Bytes(SMALLEST_HOLE);
    if !pieces {
        disk.read_at(range.start(), reply.data(range, true))?;
        return Ok(());
    }
    let mut offset = range.start();
    while offset < range.end() {
        let rest = ByteRange::between(offset, range.end());
        let (piece, allocation) = piece(export, rest)?;
        let last = piece.end() == range.end();
        match allocation {
            Allocation::Hole => reply.hole(piece, last),
            Allocation::Data => disk.read_at(piece.start(), reply.data(piece, last))?,
        }
        offset = piece.end();
    }
    Ok(())
}

/// The stretch at the front of `rest` that is one hole, or data up to the next hole that is worth telling.
fn piece(export: &Export, rest: ByteRange) -> disk::Result<(ByteRange, Allocation)> {
    let mut end = rest.start();
    while end < rest.end() {
        let left = rest.end() - end;
        let Extent { length, allocation } = export.stretch_at(end)?;
        let length = length.min(left).max(Bytes(1));
        let worth_telling = allocation == Allocation::Hole && length >= Bytes(SMALLEST_HOLE);
        if worth_telling && end == rest.start() {
            return Ok((ByteRange::between(end, end + length), Allocation::Hole));
        }
        if worth_telling {
            break;
        }
        end += length;
    }
    Ok((ByteRange::between(rest.start(), end), Allocation::Data))
}

fn status(disk: &dyn Disk, range: ByteRange, one: bool, reply: &mut Reply<'_>) -> disk::Result<()> {
    let most = if one { 1 } else { MAX_EXTENTS };
    let mut extents: Vec<Extent> = Vec::new();
    let mut offset = range.start();
    for _ in 0..MAX_LOOKUPS {
        if offset == range.end() {
            break;
        }
        let found = disk.extent_at(offset)?;
        let length = found.length.min(range.end() - offset).max(Bytes(1));
        let full = extents.len() == most;
        match extents.last_mut() {
            Some(last) if last.allocation == found.allocation => last.length += length,
            _ if full => break,
            _ => extents.push(Extent { length, allocation: found.allocation }),
        }
        offset += length;
    }
    reply.status(&extents);
    Ok(())
}
