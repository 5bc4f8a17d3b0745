//! What takes time: reading, hashing and encoding, as plain functions for any thread.

use crate::splitter::SplitterDisk;
use crate::tracker::Place;
use change_stream::{Compression, Encoder, Frame};
use disk::{Allocation, ByteRange, Bytes, Disk, File};
use std::sync::Arc;

/// Bytes that are looked at together for zeroes, and in which data and zeroes are told apart.
const ZERO_UNIT: usize = 64 << 10;
/// Bytes that are read together to be hashed, in whole blocks.
const HASH_READ: u32 = 1 << 20;
/// Data shorter than this travels in the session's own connection: a reference would not be worth it.
const BULK_MINIMUM: usize = 64 << 10;

static ZEROES: [u8; ZERO_UNIT] = [0; ZERO_UNIT];

/// A piece of work that the sender wants done; any thread may run it, several at once.
pub struct Job {
    pub(crate) session: u64,
    pub(crate) task: Task,
}

pub(crate) enum Task {
    /// Reads stored frames of the backlog.
    ReadBacklog { file: Arc<dyn File>, at: Bytes, length: usize },
    /// Hashes blocks of a disk without holding back its writers.
    Hash { request: u64, splitter: Arc<SplitterDisk>, range: ByteRange, block_size: u32 },
    /// Reads parts of a block for the target, with writers held back.
    Read(ReadTask),
}

pub(crate) struct ReadTask {
    pub(crate) block: u64,
    pub(crate) disk: u16,
    pub(crate) splitter: Arc<SplitterDisk>,
    /// Ascending, of at most 1 MiB from first to last byte.
    pub(crate) ranges: Vec<ByteRange>,
    pub(crate) compression: Compression,
    /// Number of the first `BulkData` this job may make, where data travels over extra connections.
    pub(crate) bulk: Option<u64>,
}

/// What became of a job.
pub struct JobDone {
    pub(crate) session: u64,
    pub(crate) outcome: Outcome,
}

pub(crate) enum Outcome {
    Backlog(disk::Result<Vec<u8>>),
    Hashed { request: u64, result: disk::Result<Hashes> },
    Read { block: u64, result: crate::Result<ReadBlock> },
}

/// What a range held while changes went on.
pub(crate) struct Hashes {
    pub(crate) hashes: Vec<[u8; 32]>,
    /// Newest change of which something may have been seen.
    pub(crate) newest: u64,
}

/// What was read of a block.
pub(crate) struct ReadBlock {
    pub(crate) place: Place,
    pub(crate) pieces: Vec<Piece>,
    /// Bytes that were asked for.
    pub(crate) bytes: u64,
}

/// One sync frame, encoded, and the bulk frame that goes with it.
pub(crate) struct Piece {
    pub(crate) frame: Vec<u8>,
    pub(crate) bulk: Option<Vec<u8>>,
    /// Bytes of data, 0 for zeroes.
    pub(crate) data_length: u64,
}

impl Job {
    /// Does the work. It may block on disks and on overlapping writers, never on the target.
    pub fn run(self) -> JobDone {
        let outcome = match self.task {
            Task::ReadBacklog { file, at, length } => {
                let mut bytes = vec![0; length];
                Outcome::Backlog(file.read_at(at, &mut bytes).map(|()| bytes))
            }
            Task::Hash { request, splitter, range, block_size } => {
                let hashed = hash(splitter.behind(), range, block_size);
                let newest = splitter.newest();
                Outcome::Hashed { request, result: hashed.map(|hashes| Hashes { hashes, newest }) }
            }
            Task::Read(task) => Outcome::Read { block: task.block, result: read(&task) },
        };
        JobDone { session: self.session, outcome }
    }
}

fn hash(disk: &Arc<dyn Disk>, range: ByteRange, block_size: u32) -> disk::Result<Vec<[u8; 32]>> {
    // Small blocks are read together, so that the medium sees long reads.
    let unit = Bytes((HASH_READ / block_size).max(1) as u64 * u64::from(block_size));
    let mut buffer = Vec::new();
    let mut hashes = Vec::new();
    let mut of_zeroes: Option<(usize, [u8; 32])> = None;
    let mut at = range.start();
    while at < range.end() {
        let part = ByteRange::between(at, (at + unit).min(range.end()));
        let zero = read_unless_hole(disk, part, &mut buffer)?;
        if zero {
            buffer.clear();
            buffer.resize(part.length().as_usize(), 0);
        }
        for block in buffer.chunks(block_size as usize) {
            hashes.push(match of_zeroes {
                Some((of, hash)) if zero && of == block.len() => hash,
                _ => {
                    let hash = *blake3::hash(block).as_bytes();
                    of_zeroes = if zero { Some((block.len(), hash)) } else { of_zeroes };
                    hash
                }
            });
        }
        at = part.end();
    }
    Ok(hashes)
}

/// Fills the buffer with a range; true when it is a hole, and the buffer was left alone.
fn read_unless_hole(disk: &Arc<dyn Disk>, range: ByteRange, buffer: &mut Vec<u8>) -> disk::Result<bool> {
    let extent = disk.extent_at(range.start())?;
    if extent.allocation == Allocation::Hole && extent.length >= range.length() {
        return Ok(true);
    }
    buffer.resize(range.length().as_usize(), 0);
    disk.read_at(range.start(), buffer)?;
    Ok(false)
}

fn read(task: &ReadTask) -> crate::Result<ReadBlock> {
    let Some((first, last)) = task.ranges.first().zip(task.ranges.last()) else {
        let empty = ByteRange::between(Bytes::ZERO, Bytes::ZERO);
        let ((), place) = task.splitter.read_for_sync(empty, |_| Ok(()))?;
        return Ok(ReadBlock { place, pieces: Vec::new(), bytes: 0 });
    };
    let block = ByteRange::between(first.start(), last.end());
    let (parts, place) = task.splitter.read_for_sync(block, |disk| {
        task.ranges.iter().map(|range| read_part(disk, *range)).collect::<disk::Result<Vec<_>>>()
    })?;
    // Encoding happens after the writers were let go.
    let mut maker = PieceMaker::new(task);
    for (range, data) in task.ranges.iter().zip(&parts) {
        maker.add(*range, data.as_deref())?;
    }
    let bytes = task.ranges.iter().map(|range| range.length().0).sum();
    Ok(ReadBlock { place, pieces: maker.pieces, bytes })
}

/// A range's bytes, or `None` for a hole.
fn read_part(disk: &dyn Disk, range: ByteRange) -> disk::Result<Option<Vec<u8>>> {
    let extent = disk.extent_at(range.start())?;
    if extent.allocation == Allocation::Hole && extent.length >= range.length() {
        return Ok(None);
    }
    let mut data = vec![0; range.length().as_usize()];
    disk.read_at(range.start(), &mut data)?;
    Ok(Some(data))
}

struct PieceMaker<'a> {
    task: &'a ReadTask,
    encoder: Encoder,
    next_bulk: Option<u64>,
    pieces: Vec<Piece>,
}

impl PieceMaker<'_> {
    fn new(task: &ReadTask) -> PieceMaker<'_> {
        PieceMaker { task, encoder: Encoder::new(task.compression), next_bulk: task.bulk, pieces: Vec::new() }
    }

    /// Cuts a range into runs of zeroes and runs of data.
    fn add(&mut self, range: ByteRange, data: Option<&[u8]>) -> crate::Result<()> {
        let Some(data) = data else { return self.zeroes(range.start().0, range.length().0) };
        let mut at = 0;
        while at < data.len() {
            let zero = unit_is_zero(data, at);
            let mut end = at;
            while end < data.len() && unit_is_zero(data, end) == zero {
                end = (end + ZERO_UNIT).min(data.len());
            }
            let offset = range.start().0 + at as u64;
            match zero {
                true => self.zeroes(offset, (end - at) as u64)?,
                false => self.data(offset, &data[at..end])?,
            }
            at = end;
        }
        Ok(())
    }

    fn zeroes(&mut self, offset: u64, length: u64) -> crate::Result<()> {
        let mut frame = Vec::new();
        self.encoder.encode(&Frame::SyncZeroes { disk: self.task.disk, offset, length }, &mut frame)?;
        self.pieces.push(Piece { frame, bulk: None, data_length: 0 });
        Ok(())
    }

    fn data(&mut self, offset: u64, data: &[u8]) -> crate::Result<()> {
        let disk = self.task.disk;
        let mut frame = Vec::new();
        let Some(bulk) = self.next_bulk.filter(|_| data.len() >= BULK_MINIMUM) else {
            frame.reserve(data.len() + 64);
            self.encoder.encode_sync_data(disk, offset, data, &mut frame)?;
            self.pieces.push(Piece { frame, bulk: None, data_length: data.len() as u64 });
            return Ok(());
        };
        let length = data.len() as u32;
        self.encoder.encode(&Frame::SyncReference { disk, offset, length, bulk }, &mut frame)?;
        let mut bytes = Vec::with_capacity(data.len() + 64);
        self.encoder.encode_bulk_data(bulk, data, &mut bytes)?;
        self.next_bulk = Some(bulk + 1);
        self.pieces.push(Piece { frame, bulk: Some(bytes), data_length: u64::from(length) });
        Ok(())
    }
}

fn unit_is_zero(data: &[u8], at: usize) -> bool {
    let unit = &data[at..(at + ZERO_UNIT).min(data.len())];
    *unit == ZEROES[..unit.len()]
}
