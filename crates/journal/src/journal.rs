//! The journal (in progress: the interface first).
#![allow(unused_variables, clippy::unimplemented)]

use crate::*;
use disk::{ByteRange, Bytes, Folder};
use std::sync::Arc;

/// The journal of one item. All methods may be called by many threads; appending ones run one after the other.
pub struct Journal {}

/// A batch ready to be appended: compressed and checksummed.
#[derive(Debug)]
pub struct EncodedBatch {}

/// Keeps a point from being pruned by time while it exists. Pruning for space does not look at it.
pub struct Pin {}

impl Journal {
    /// Creates a journal in a folder that holds none. It is durable when this returns.
    pub fn create(folder: Arc<dyn Folder>, identity: &Identity, options: Options) -> Result<Journal> {
        unimplemented!()
    }
    /// Opens the journal in a folder.
    pub fn open(folder: Arc<dyn Folder>, identity: &Identity, options: Options) -> Result<Journal> {
        unimplemented!()
    }
    /// Compresses and checksums a batch, without any lock. The extents ascend by disk and offset and do not
    /// overlap.
    pub fn encode(&self, header: &BatchHeader, extents: &[UndoExtent<'_>]) -> Result<EncodedBatch> {
        unimplemented!()
    }
    /// Writes a batch and makes it visible to views; it is durable after the next [`Journal::sync`]. Without
    /// space the journal stays as it was, the error's class is `Full`, and the batch may be appended again.
    pub fn append(&self, batch: &EncodedBatch) -> Result<BatchNumber> {
        unimplemented!()
    }
    /// Makes every batch whose append returned before this call durable.
    pub fn sync(&self) -> Result<()> {
        unimplemented!()
    }
    /// Notes that a batch and all before it are durable on the disks; the next record carries it.
    pub fn note_applied(&self, batch: BatchNumber) {
        unimplemented!()
    }
    /// Writes what was noted as applied as a record of its own, and syncs.
    pub fn record_applied(&self) -> Result<()> {
        unimplemented!()
    }
    /// The newest batch.
    pub fn newest(&self) -> Option<BatchSummary> {
        unimplemented!()
    }
    /// The oldest recovery point that can be reached.
    pub fn oldest_point(&self) -> Result<Option<BatchSummary>> {
        unimplemented!()
    }
    /// The batches after the recorded applied mark.
    pub fn pending(&self) -> Result<Vec<PendingBatch>> {
        unimplemented!()
    }
    /// Forgets every batch after `batch`; durable when this returns.
    pub fn truncate_after(&self, batch: BatchNumber) -> Result<()> {
        unimplemented!()
    }
    /// A batch by its number, if the journal still knows it.
    pub fn summary(&self, batch: BatchNumber) -> Result<Option<BatchSummary>> {
        unimplemented!()
    }
    /// The recovery points that a query asks for.
    pub fn points(&self, query: &PointQuery) -> Result<Vec<BatchSummary>> {
        unimplemented!()
    }
    /// The newest point whose source time is not after this.
    pub fn point_at_time(&self, source_time: u64) -> Result<Option<BatchSummary>> {
        unimplemented!()
    }
    /// The ranges of a disk, from an offset on, that batches after `point` up to `up_to` overwrote: merged,
    /// ascending, about `budget` bytes of them at most. Go on from the end of the last one; none means the end.
    pub fn touched_after(
        &self,
        point: BatchNumber,
        up_to: BatchNumber,
        disk: u16,
        from: Bytes,
        budget: Bytes,
    ) -> Result<Vec<ByteRange>> {
        unimplemented!()
    }
    /// Removes whole segments that no point in the window needs: the newest point received not after `keep_from`
    /// stays the oldest; then the oldest segments, until all take at most `max_bytes`.
    pub fn prune(&self, keep_from: u64, max_bytes: Option<u64>) -> Result<PruneReport> {
        unimplemented!()
    }
    /// Removes the oldest segments until `bytes` are freed or only the newest point is left.
    pub fn make_room(&self, bytes: u64) -> Result<PruneReport> {
        unimplemented!()
    }
    /// Keeps a point from pruning by time as long as the pin lives.
    pub fn pin(self: &Arc<Self>, point: BatchNumber) -> Pin {
        unimplemented!()
    }
    /// How much the journal holds.
    pub fn usage(&self) -> Usage {
        unimplemented!()
    }
}
