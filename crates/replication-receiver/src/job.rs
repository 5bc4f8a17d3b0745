//! The plain code of the pipeline: what runs on a thread, and what came of it.

use crate::batch::{Batch, Change, Content};
use crate::{Error, Result, Storage};
use disk::{ByteRange, Bytes, Disk};
use journal::{
    BatchHeader, BatchKind, BatchNumber, Before, EncodedBatch, PointView, PruneReport, UndoExtent,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Most bytes that one batch of a rollback puts back.
const ROLLBACK_BATCH: Bytes = Bytes(4 << 20);

/// Bytes that are read together to be hashed, in whole blocks.
const HASH_READ: usize = 1 << 20;

/// What is freed on a full volume: room for some batches, so that it is not asked for again at each of them.
const ROOM_FOR_BATCHES: u64 = 64 << 20;

/// A piece of work on an item's storage. Jobs of one item may run at the same time, each on a thread of its own.
#[derive(Debug)]
pub struct Job(pub(crate) Work);

/// What came of a job. It goes back into [`crate::Item::step`].
#[derive(Debug)]
pub struct JobDone(pub(crate) Outcome);

#[derive(Debug)]
pub(crate) enum Work {
    Prepare { batch: Arc<Batch>, unapplied: Vec<Arc<Batch>> },
    Journal { prepared: Prepared },
    Apply { batch: Arc<Batch>, number: Option<BatchNumber>, sync: Vec<u16> },
    Record { header: BatchHeader, sync: Vec<u16> },
    Hash { request: HashRequest },
    ReadPoint { step: RollbackStep },
    FinishRollback { step: RollbackStep, stand: bool },
    Prune { keep_from: u64, max_bytes: Option<u64> },
    RecordApplied,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    Prepared(Prepared),
    Journaled {
        batch: Arc<Batch>,
        number: BatchNumber,
        room: Option<PruneReport>,
    },
    /// The retention volume is full and nothing could be given up; the batch waits.
    NoRoom {
        prepared: Prepared,
    },
    Applied {
        bytes: u64,
    },
    Recorded,
    Hashed {
        connection: u64,
        request: u64,
        differs: Vec<u8>,
    },
    /// The next changes of a rollback; none when it is complete.
    PointRead {
        step: RollbackStep,
        changes: Vec<Change>,
    },
    RollbackFinished {
        step: RollbackStep,
    },
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

impl Job {
    /// Does the work.
    pub fn run(self, storage: &Storage) -> JobDone {
        let outcome = match self.0 {
            Work::Prepare { batch, unapplied } => prepare(storage, batch, &unapplied).map(Outcome::Prepared),
            Work::Journal { prepared } => append(storage, prepared),
            Work::Apply { batch, number, sync } => apply(storage, &batch, number, &sync),
            Work::Record { header, sync } => record(storage, &header, &sync),
            Work::Hash { request } => compare_hashes(storage, &request),
            Work::ReadPoint { step } => read_point(storage, step),
            Work::FinishRollback { step, stand } => finish_rollback(storage, step, stand),
            Work::Prune { keep_from, max_bytes } => {
                storage.journal().prune(keep_from, max_bytes).map(Outcome::Pruned).map_err(Error::from)
            }
            Work::RecordApplied => {
                storage.journal().record_applied().map(|()| Outcome::AppliedRecorded).map_err(Error::from)
            }
        };
        JobDone(outcome.unwrap_or_else(Outcome::Failed))
    }
}

/// Before-images of a set of changes, gathered in one buffer.
#[derive(Default)]
struct BeforeImages {
    bytes: Vec<u8>,
    extents: Vec<(Change, usize)>,
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

    fn encode(&self, storage: &Storage, header: &BatchHeader) -> Result<EncodedBatch> {
        let extents: Vec<UndoExtent<'_>> = self
            .extents
            .iter()
            .map(|(change, at)| UndoExtent {
                disk: change.disk,
                range: change.range,
                before: Before::Data(&self.bytes[*at..*at + change.range.length().as_usize()]),
                new_checksum: change.checksum(),
            })
            .collect();
        Ok(storage.journal().encode(header, &extents)?)
    }

    fn into_changes(self) -> Vec<Change> {
        self.extents.into_iter().map(|(change, _)| change).collect()
    }
}

/// Reads the before-images of a batch. What an earlier batch has yet to write, or is writing now, is that batch's
/// data, whatever the disk says at this moment. Changes that alter nothing are dropped.
fn prepare(storage: &Storage, batch: Arc<Batch>, unapplied: &[Arc<Batch>]) -> Result<Prepared> {
    let mut images = BeforeImages::default();
    images.bytes.reserve_exact(batch.bytes as usize);
    for change in batch.changes.iter().flat_map(Change::parts) {
        let (disk, range) = (change.disk, change.range);
        images.take(change, |before| {
            storage.disks()[usize::from(disk)].read_at(range.start(), before)?;
            for earlier in unapplied {
                earlier.overlay(disk, range, before);
            }
            Ok(())
        })?;
    }
    let encoded = images.encode(storage, &batch.header)?;
    let changes = images.into_changes();
    let bytes = changes.iter().map(|change| change.range.length().0).sum();
    let batch = Batch {
        header: batch.header.clone(),
        changes,
        bytes,
        session: batch.session,
        sync_frames: batch.sync_frames,
        closed: batch.closed,
    };
    Ok(Prepared { batch: Arc::new(batch), encoded })
}

/// Appends a batch and makes it durable. On a full volume the oldest points are given up for it (invariant 4).
fn append(storage: &Storage, prepared: Prepared) -> Result<Outcome> {
    let Prepared { batch, encoded } = prepared;
    let mut room: Option<PruneReport> = None;
    loop {
        match storage.journal().append(&encoded) {
            Ok(number) => {
                storage.journal().sync()?;
                return Ok(Outcome::Journaled { batch, number, room });
            }
            Err(error) if error.class() == disk::Class::Full => {
                // A rollback waits for room: what would be given up may be the point that it restores.
                if let BatchKind::Rollback { .. } = batch.header.kind {
                    return Ok(Outcome::NoRoom { prepared: Prepared { batch, encoded } });
                }
                let freed = storage.journal().make_room(ROOM_FOR_BATCHES)?;
                if freed.bytes == 0 {
                    return Ok(Outcome::NoRoom { prepared: Prepared { batch, encoded } });
                }
                room = Some(freed);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes a batch to the disks and syncs those named. `number` is its place in the journal when it has one.
fn apply(storage: &Storage, batch: &Batch, number: Option<BatchNumber>, sync: &[u16]) -> Result<Outcome> {
    for change in &batch.changes {
        let disk = &storage.disks()[usize::from(change.disk)];
        match &change.content {
            Content::Zeroes => disk.write_zeroes(change.range)?,
            content => {
                if let Some(bytes) = content.bytes(change.range.length()) {
                    disk.write_at(change.range.start(), bytes)?;
                }
            }
        }
    }
    sync_disks(storage, sync)?;
    if let Some(number) = number {
        storage.journal().note_applied(number);
    }
    Ok(Outcome::Applied { bytes: batch.bytes })
}

/// Makes what was written without before-images durable, and records the boundary.
fn record(storage: &Storage, header: &BatchHeader, sync: &[u16]) -> Result<Outcome> {
    sync_disks(storage, sync)?;
    let journal = storage.journal();
    let number = journal.append(&journal.encode(header, &[])?)?;
    journal.note_applied(number);
    journal.sync()?;
    Ok(Outcome::Recorded)
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

/// Reads the next bounded part of what was touched after the point. It is put back as a batch like any other:
/// journaled first, so that a rollback can be rolled back itself (invariant 7).
fn read_point(storage: &Storage, mut step: RollbackStep) -> Result<Outcome> {
    let journal = storage.journal();
    let ranges = loop {
        let ranges = journal.touched_after(step.to, step.base, step.disk, step.from, ROLLBACK_BATCH)?;
        if !ranges.is_empty() || usize::from(step.disk) + 1 >= storage.disks().len() {
            break ranges;
        }
        (step.disk, step.from) = (step.disk + 1, Bytes::ZERO);
    };
    step.from = ranges.last().map_or(step.from, ByteRange::end);
    let live = storage.disks()[usize::from(step.disk)].clone();
    // A failover in the middle of a sync goes forward again to a boundary that is no point.
    let view = PointView::at_boundary(journal.clone(), step.to, step.disk, live)?;
    let mut changes = Vec::with_capacity(ranges.len());
    for range in ranges {
        let mut buffer = vec![0; range.length().as_usize()];
        view.read_at(range.start(), &mut buffer)?;
        let content = Content::Data { buffer: Arc::new(buffer), start: 0 };
        changes.push(Change { disk: step.disk, range, content });
    }
    Ok(Outcome::PointRead { step, changes })
}

/// The last record of a rollback. It carries the sequence that the disks stand at now: when they are to `stand`
/// there as the end of a rollback, and otherwise as the boundary that replication goes on from.
fn finish_rollback(storage: &Storage, step: RollbackStep, stand: bool) -> Result<Outcome> {
    let mut header = step.header.clone();
    if stand {
        header.kind = BatchKind::Rollback { to: step.to, finished: true };
    }
    let journal = storage.journal();
    let number = journal.append(&journal.encode(&header, &[])?)?;
    journal.note_applied(number);
    journal.record_applied()?;
    Ok(Outcome::RollbackFinished { step })
}

/// The disks that a batch writes to.
pub(crate) fn touched_disks(batch: &Batch) -> Vec<u16> {
    let disks: BTreeSet<u16> = batch.changes.iter().map(|change| change.disk).collect();
    disks.into_iter().collect()
}
