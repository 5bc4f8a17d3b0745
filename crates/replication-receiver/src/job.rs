//! The plain code of the pipeline: what runs on a thread, and what came of it.

use crate::batch::{Batch, Change, Content};
use crate::{Error, Result, Storage};
use disk::{ByteRange, Bytes, Disk};
use journal::{
    BatchHeader, BatchKind, BatchNumber, Before, EncodedBatch, MAX_EXTENT, PointView, PruneReport, UndoExtent,
};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Most bytes that one batch of a rollback puts back.
const ROLLBACK_BATCH: Bytes = Bytes(4 << 20);

/// What a rollback has to put back is looked up for about so many bytes at once.
const FOUND_TOGETHER: Bytes = Bytes(64 << 20);

/// Parts of a batch that are worked on at the same time, so that the medium has several requests at hand.
const MOST_PARTS: usize = 8;

/// Fewer changes are not worth a thread.
const CHANGES_PER_PART: usize = 2;

/// Bytes that are read together to be hashed, in whole blocks.
const HASH_READ: usize = 1 << 20;

/// What is freed on a full volume: room for some batches, so that it is not asked for again at each of them; but no more
/// than this part of the journal, so that a small one does not lose its whole window at once.
const ROOM_FOR_BATCHES: u64 = 64 << 20;
const PART_OF_JOURNAL: u64 = 16;

/// A piece of work on an item's storage. Jobs of one item may run at the same time, each on a thread of its own.
#[derive(Debug)]
pub struct Job(pub(crate) Work);

/// What came of a job. It goes back into [`crate::Item::step`].
#[derive(Debug)]
pub struct JobDone(pub(crate) Outcome);

#[derive(Debug)]
pub(crate) enum Work {
    Prepare { task: Arc<Prepare>, part: Part },
    Journal { prepared: Prepared },
    Apply { task: Arc<Apply>, part: Part },
    Record { header: BatchHeader, sync: Vec<u16> },
    Hash { request: HashRequest },
    FindTouched { step: RollbackStep },
    Restore { task: Arc<Restore>, part: Part },
    FinishRollback { step: RollbackStep, stand: bool },
    Prune { keep_from: u64, max_bytes: Option<u64> },
    RecordApplied,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    /// Other parts of the same work are still running.
    PartDone,
    Prepared(Prepared),
    Journaled {
        batch: Arc<Batch>,
        number: BatchNumber,
        room: Option<PruneReport>,
    },
    /// The retention volume is full and nothing could be given up; the batch waits.
    NoRoom {
        prepared: Prepared,
        /// What was given up, and was not enough.
        room: Option<Box<PruneReport>>,
    },
    Applied {
        bytes: u64,
    },
    Recorded {
        room: Option<PruneReport>,
    },
    /// The retention volume is full, and the boundary of what was written without before-images waits.
    NoRoomToRecord,
    Hashed {
        connection: u64,
        request: u64,
        differs: Vec<u8>,
    },
    /// What a rollback has to put back next; nothing when that was all.
    TouchedFound {
        step: RollbackStep,
        batches: Vec<RollbackBatch>,
    },
    /// A batch of a rollback, ready to be journaled.
    Restored(Prepared),
    RollbackFinished {
        step: RollbackStep,
    },
    /// Everything was put back, but the retention volume has no room for the record of it.
    NoRoomToFinish,
    Pruned(PruneReport),
    AppliedRecorded,
    Failed(Error),
}

/// A batch with its before-images read and encoded.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) batch: Arc<Batch>,
    pub(crate) encoded: EncodedBatch,
}

/// Blocks whose hashes are compared with those of the source.
#[derive(Debug)]
pub(crate) struct HashRequest {
    pub(crate) connection: u64,
    pub(crate) request: u64,
    pub(crate) disk: u16,
    pub(crate) range: ByteRange,
    pub(crate) block_size: u32,
    pub(crate) hashes: Vec<[u8; 32]>,
}

/// Where a rollback stands.
#[derive(Clone, Debug)]
pub(crate) struct RollbackStep {
    /// The point that the disks go to.
    pub(crate) to: BatchNumber,
    /// The newest batch when the rollback began: what was touched up to here is put back.
    pub(crate) base: BatchNumber,
    pub(crate) header: BatchHeader,
    pub(crate) disk: u16,
    pub(crate) from: Bytes,
}

/// What one batch of a rollback puts back.
#[derive(Debug)]
pub(crate) struct RollbackBatch {
    pub(crate) to: BatchNumber,
    pub(crate) header: BatchHeader,
    pub(crate) disk: u16,
    /// Ascending and apart, each of at most [`journal::MAX_EXTENT`].
    pub(crate) ranges: Vec<ByteRange>,
}

impl Job {
    /// Does the work.
    pub fn run(self, storage: &Storage) -> JobDone {
        let outcome = match self.0 {
            Work::Prepare { task, part } => prepare(storage, &task, part),
            Work::Journal { prepared } => append(storage, prepared),
            Work::Apply { task, part } => apply(storage, &task, part),
            Work::Record { header, sync } => record(storage, &header, &sync),
            Work::Hash { request } => compare_hashes(storage, &request),
            Work::FindTouched { step } => find_touched(storage, step),
            Work::Restore { task, part } => restore(storage, &task, part),
            Work::FinishRollback { step, stand } => finish_rollback(storage, step, stand),
            Work::Prune { keep_from, max_bytes } => {
                storage.journal().prune(keep_from, max_bytes).map(Outcome::Pruned).map_err(Error::from)
            }
            Work::RecordApplied => record_applied(storage).map(|()| Outcome::AppliedRecorded),
        };
        JobDone(outcome.unwrap_or_else(Outcome::Failed))
    }
}

/// Some consecutive changes of a batch. The parts of a batch are worked on at the same time.
#[derive(Debug)]
pub(crate) struct Part {
    number: usize,
    changes: Range<usize>,
}

/// Deals so many changes to parts.
fn parts_of(changes: usize) -> Vec<Part> {
    let count = changes.div_ceil(CHANGES_PER_PART).clamp(1, MOST_PARTS);
    let bound = |number| number * changes / count;
    (0..count).map(|number| Part { number, changes: bound(number)..bound(number + 1) }).collect()
}

/// What the parts came to. Whoever hands in the last one gets all of them, in order.
#[derive(Debug)]
struct Gathered<T>(Mutex<Vec<Option<T>>>);

impl<T> Gathered<T> {
    fn new(parts: usize) -> Gathered<T> {
        Gathered(Mutex::new((0..parts).map(|_| None).collect()))
    }

    fn hand_in(&self, part: usize, result: T) -> Option<Vec<T>> {
        let mut results = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        results[part] = Some(result);
        if results.iter().any(Option::is_none) {
            return None;
        }
        Some(std::mem::take(&mut *results).into_iter().flatten().collect())
    }
}

/// Reading the before-images of a batch.
#[derive(Debug)]
pub(crate) struct Prepare {
    batch: Arc<Batch>,
    /// Batches that may not have reached the disks yet, oldest first.
    unapplied: Vec<Arc<Batch>>,
    images: Gathered<BeforeImages>,
}

impl Prepare {
    pub(crate) fn jobs(batch: Arc<Batch>, unapplied: Vec<Arc<Batch>>) -> impl Iterator<Item = Work> {
        let parts = parts_of(batch.changes.len());
        let task = Arc::new(Prepare { batch, unapplied, images: Gathered::new(parts.len()) });
        parts.into_iter().map(move |part| Work::Prepare { task: task.clone(), part })
    }
}

/// Writing a batch to the disks.
#[derive(Debug)]
pub(crate) struct Apply {
    batch: Arc<Batch>,
    /// Its place in the journal, when it has one.
    number: Option<BatchNumber>,
    /// Disks to be synced at the end.
    sync: Vec<u16>,
    written: Gathered<()>,
}

impl Apply {
    pub(crate) fn jobs(
        batch: Arc<Batch>,
        number: Option<BatchNumber>,
        sync: Vec<u16>,
    ) -> impl Iterator<Item = Work> {
        let parts = parts_of(batch.changes.len());
        let task = Arc::new(Apply { batch, number, sync, written: Gathered::new(parts.len()) });
        parts.into_iter().map(move |part| Work::Apply { task: task.clone(), part })
    }
}

/// Reading one batch of a rollback: what stood there at the point, and what stands there now.
#[derive(Debug)]
pub(crate) struct Restore {
    batch: RollbackBatch,
    images: Gathered<BeforeImages>,
}

impl Restore {
    pub(crate) fn jobs(batch: RollbackBatch) -> impl Iterator<Item = Work> {
        let parts = parts_of(batch.ranges.len());
        let task = Arc::new(Restore { batch, images: Gathered::new(parts.len()) });
        parts.into_iter().map(move |part| Work::Restore { task: task.clone(), part })
    }
}

/// Before-images of a set of changes, gathered in one buffer.
#[derive(Debug)]
struct BeforeImages {
    bytes: Vec<u8>,
    extents: Vec<(Change, usize)>,
}

/// Memory with room for so many bytes, which start at a page so that direct I/O need not copy them.
fn aligned(bytes: usize) -> Vec<u8> {
    const PAGE: usize = 4096;
    let mut memory: Vec<u8> = Vec::with_capacity(bytes + PAGE);
    let before = memory.as_ptr().align_offset(PAGE).min(PAGE);
    memory.resize(before, 0);
    memory
}

impl BeforeImages {
    /// Takes the before-image of a change that `read` fills in, unless the change alters nothing.
    fn take(&mut self, change: Change, read: impl FnOnce(&mut [u8]) -> Result<()>) -> Result<()> {
        let at = self.bytes.len();
        let length = change.range.length();
        self.bytes.resize(at + length.as_usize(), 0);
        let before = &mut self.bytes[at..];
        read(before)?;
        let same = match change.content.bytes(length) {
            Some(bytes) => bytes == before,
            None => before.iter().all(|byte| *byte == 0),
        };
        if same {
            self.bytes.truncate(at);
        } else {
            self.extents.push((change, at));
        }
        Ok(())
    }

    fn undo_extents(&self) -> impl Iterator<Item = UndoExtent<'_>> {
        self.extents.iter().map(|(change, at)| UndoExtent {
            disk: change.disk,
            range: change.range,
            before: Before::Data(&self.bytes[*at..*at + change.range.length().as_usize()]),
            new_checksum: change.checksum(),
        })
    }
}

/// The batch reduced to the changes that alter something, ready to be journaled.
fn encode(storage: &Storage, batch: &Batch, images: Vec<BeforeImages>) -> Result<Prepared> {
    let extents: Vec<UndoExtent<'_>> = images.iter().flat_map(BeforeImages::undo_extents).collect();
    let encoded = storage.journal().encode(&batch.header, &extents)?;
    let changes: Vec<Change> =
        images.into_iter().flat_map(|images| images.extents).map(|(change, _)| change).collect();
    let bytes = changes.iter().map(|change| change.range.length().0).sum();
    let header = batch.header.clone();
    let Batch { session, sync_frames, closed, .. } = *batch;
    let batch = Batch { header, changes, session, sync_frames, bytes, closed };
    Ok(Prepared { batch: Arc::new(batch), encoded })
}

/// Reads before-images. What an earlier batch has yet to write, or is writing now, is that batch's data, whatever the
/// disk says at this moment. Changes that alter nothing are dropped.
fn prepare(storage: &Storage, task: &Prepare, part: Part) -> Result<Outcome> {
    let changes = &task.batch.changes[part.changes];
    let bytes = aligned(changes.iter().map(|change| change.range.length().as_usize()).sum());
    let mut images = BeforeImages { bytes, extents: Vec::new() };
    for change in changes.iter().flat_map(Change::parts) {
        let (disk, range) = (change.disk, change.range);
        images.take(change, |before| {
            storage.disks()[usize::from(disk)].read_at(range.start(), before)?;
            for earlier in &task.unapplied {
                earlier.overlay(disk, range, before);
            }
            Ok(())
        })?;
    }
    match task.images.hand_in(part.number, images) {
        Some(images) => encode(storage, &task.batch, images).map(Outcome::Prepared),
        None => Ok(Outcome::PartDone),
    }
}

/// Appends a batch and makes it durable.
fn append(storage: &Storage, prepared: Prepared) -> Result<Outcome> {
    let Prepared { batch, encoded } = prepared;
    // A rollback waits for room: what would be given up may be the point that it restores.
    let gives = !matches!(batch.header.kind, BatchKind::Rollback { .. });
    let (number, room) = append_or_make_room(storage, &encoded, gives)?;
    let Some(number) = number else {
        let prepared = Prepared { batch, encoded };
        return Ok(Outcome::NoRoom { prepared, room: room.map(Box::new) });
    };
    storage.journal().sync()?;
    Ok(Outcome::Journaled { batch, number, room })
}

/// Appends a batch. On a full volume the oldest points are given up for it when `gives` (invariant 4), and reported; there
/// is no number when that was not enough.
fn append_or_make_room(
    storage: &Storage,
    encoded: &EncodedBatch,
    gives: bool,
) -> Result<(Option<BatchNumber>, Option<PruneReport>)> {
    let journal = storage.journal();
    let mut room: Option<PruneReport> = None;
    loop {
        match journal.append(encoded) {
            Ok(number) => return Ok((Some(number), room)),
            Err(error) if error.class() == disk::Class::Full && gives => {
                let part = journal.usage().bytes / PART_OF_JOURNAL;
                let freed = journal.make_room(part.clamp(1, ROOM_FOR_BATCHES))?;
                let nothing = freed.bytes == 0;
                room = Some(match room {
                    Some(before) => before.followed_by(freed),
                    None => freed,
                });
                if nothing {
                    return Ok((None, room));
                }
            }
            Err(error) if error.class() == disk::Class::Full => return Ok((None, room)),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes to the disks, and syncs them once the whole batch is written.
fn apply(storage: &Storage, task: &Apply, part: Part) -> Result<Outcome> {
    for change in &task.batch.changes[part.changes] {
        let disk = &storage.disks()[usize::from(change.disk)];
        match change.content.bytes(change.range.length()) {
            Some(bytes) => disk.write_at(change.range.start(), bytes)?,
            None => disk.write_zeroes(change.range)?,
        }
    }
    if task.written.hand_in(part.number, ()).is_none() {
        return Ok(Outcome::PartDone);
    }
    sync_disks(storage, &task.sync)?;
    if let Some(number) = task.number {
        storage.journal().note_applied(number);
    }
    Ok(Outcome::Applied { bytes: task.batch.bytes })
}

/// Makes what was written without before-images durable, and records the boundary.
fn record(storage: &Storage, header: &BatchHeader, sync: &[u16]) -> Result<Outcome> {
    sync_disks(storage, sync)?;
    let journal = storage.journal();
    let (number, room) = append_or_make_room(storage, &journal.encode(header, &[])?, true)?;
    let Some(number) = number else { return Ok(Outcome::NoRoomToRecord) };
    journal.note_applied(number);
    journal.sync()?;
    Ok(Outcome::Recorded { room })
}

fn sync_disks(storage: &Storage, disks: &[u16]) -> Result<()> {
    for disk in disks {
        storage.disks()[usize::from(*disk)].sync()?;
    }
    Ok(())
}

fn compare_hashes(storage: &Storage, request: &HashRequest) -> Result<Outcome> {
    let disk = &storage.disks()[usize::from(request.disk)];
    let block_size = request.block_size as usize;
    // Small blocks are read together, so that the medium sees long reads.
    let unit = Bytes((HASH_READ / block_size).max(1) as u64 * u64::from(request.block_size));
    let mut differs = vec![0; request.hashes.len().div_ceil(8)];
    let mut buffer = vec![0; unit.min(request.range.length()).as_usize()];
    let mut hashes = request.hashes.iter().enumerate();
    let mut start = request.range.start();
    while start < request.range.end() {
        let length = unit.min(request.range.end() - start).as_usize();
        disk.read_at(start, &mut buffer[..length])?;
        for (block, (n, hash)) in buffer[..length].chunks(block_size).zip(&mut hashes) {
            if blake3::hash(block).as_bytes() != hash {
                differs[n / 8] |= 1 << (n % 8);
            }
        }
        start += Bytes(length as u64);
    }
    Ok(Outcome::Hashed { connection: request.connection, request: request.request, differs })
}

/// Finds the next bounded part of what was touched after the point, cut into batches.
fn find_touched(storage: &Storage, mut step: RollbackStep) -> Result<Outcome> {
    let ranges = loop {
        let ranges =
            storage.journal().touched_after(step.to, step.base, step.disk, step.from, FOUND_TOGETHER)?;
        if !ranges.is_empty() || usize::from(step.disk) + 1 >= storage.disks().len() {
            break ranges;
        }
        (step.disk, step.from) = (step.disk + 1, Bytes::ZERO);
    };
    step.from = ranges.last().map_or(step.from, ByteRange::end);
    let mut header = step.header.clone();
    header.kind = BatchKind::Rollback { to: step.to, finished: false };
    let batch = |ranges| RollbackBatch { to: step.to, header: header.clone(), disk: step.disk, ranges };
    let batches = cut(&ranges, ROLLBACK_BATCH).into_iter().map(batch).collect();
    Ok(Outcome::TouchedFound { step, batches })
}

/// Deals ranges out, cut into extents, so that none gets more than `most` bytes.
fn cut(ranges: &[ByteRange], most: Bytes) -> Vec<Vec<ByteRange>> {
    let mut shares: Vec<Vec<ByteRange>> = Vec::new();
    let mut room = Bytes::ZERO;
    for range in ranges {
        let mut start = range.start();
        while start < range.end() {
            let length = (range.end() - start).min(MAX_EXTENT);
            if length > room {
                shares.push(Vec::new());
                room = most;
            }
            room -= length;
            if let Some(share) = shares.last_mut() {
                share.push(ByteRange::between(start, start + length));
            }
            start += length;
        }
    }
    shares
}

/// Reads what some ranges held at the point, and what they hold now. They are put back as a batch like any other:
/// journaled first, so that a rollback can be rolled back itself (invariant 7). Ranges may be read in any order and at
/// the same time: a rollback touches no byte twice, and nothing else writes to the disks meanwhile.
fn restore(storage: &Storage, task: &Restore, part: Part) -> Result<Outcome> {
    let RollbackBatch { to, header, disk, ranges } = &task.batch;
    let ranges = &ranges[part.changes];
    let live = &storage.disks()[usize::from(*disk)];
    // A failover in the middle of a sync goes forward again to a boundary that is no point.
    let view = PointView::at_boundary(storage.journal().clone(), *to, *disk, live.clone())?;
    let bytes = ranges.iter().map(|range| range.length().as_usize()).sum();
    let mut point = aligned(bytes);
    let mut start = point.len();
    for range in ranges {
        let at = point.len();
        point.resize(at + range.length().as_usize(), 0);
        view.read_at(range.start(), &mut point[at..])?;
    }
    let point = Arc::new(point);
    let mut images = BeforeImages { bytes: aligned(bytes), extents: Vec::new() };
    for range in ranges {
        let content = Content::Data { buffer: point.clone(), start };
        let change = Change { disk: *disk, range: *range, content };
        images.take(change, |before| Ok(live.read_at(range.start(), before)?))?;
        start += range.length().as_usize();
    }
    let Some(images) = task.images.hand_in(part.number, images) else { return Ok(Outcome::PartDone) };
    let header = header.clone();
    let batch = Batch { header, changes: Vec::new(), session: 0, sync_frames: 0, bytes: 0, closed: true };
    encode(storage, &batch, images).map(Outcome::Restored)
}

/// The last record of a rollback. It carries the sequence that the disks stand at now: when they are to `stand`
/// there as the end of a rollback, and otherwise as the boundary that replication goes on from.
fn finish_rollback(storage: &Storage, step: RollbackStep, stand: bool) -> Result<Outcome> {
    let mut header = step.header.clone();
    if stand {
        header.kind = BatchKind::Rollback { to: step.to, finished: true };
    }
    let journal = storage.journal();
    let number = match journal.append(&journal.encode(&header, &[])?) {
        Err(error) if error.class() == disk::Class::Full => return Ok(Outcome::NoRoomToFinish),
        appended => appended?,
    };
    journal.note_applied(number);
    journal.sync()?;
    record_applied(storage)?;
    Ok(Outcome::RollbackFinished { step })
}

/// Spares the next start the search for what was applied. On a full volume it is left out: the search will find it.
fn record_applied(storage: &Storage) -> Result<()> {
    match storage.journal().record_applied() {
        Err(error) if error.class() == disk::Class::Full => Ok(()),
        recorded => Ok(recorded?),
    }
}

/// The disks that a batch writes to.
pub(crate) fn touched_disks(batch: &Batch) -> Vec<u16> {
    let disks: BTreeSet<u16> = batch.changes.iter().map(|change| change.disk).collect();
    disks.into_iter().collect()
}
