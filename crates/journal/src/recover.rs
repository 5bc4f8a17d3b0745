//! Crash recovery: every disk of an item is brought to one batch boundary.
//!
//! A batch is journaled and synced before any of its bytes reach a disk, and the next batch touches the disks only
//! after this one is durable on them. So after a crash some batches after the applied mark are whole on the disks,
//! at most one is there in part, and later ones not at all. A batch is taken as applied when each of its extents,
//! seen through the view at its end, has the checksum of the new data. The boundary B is the last batch up to
//! which all are; the view at B is written over everything that was touched after the applied mark, the disks are
//! synced, and only then does the journal forget the batches after B.
//!
//! What is judged applied is written again too: if the sync that should have made it durable failed, it may have
//! been read from a memory that the next loss of power empties.
//!
//! A crash in the middle of recovery repeats it and loses nothing. Bytes touched after B are, in every view up to
//! B, served by the journal, so writing some of them back changes no such view; and when the next attempt finds a
//! later boundary, then because everything up to it reads right.

use crate::types::{BatchNumber, PendingBatch, RecoveryReport};
use crate::view::PointView;
use crate::{Journal, Result};
use disk::{ByteRange, Bytes, Disk};
use std::sync::Arc;

/// Bytes of ranges that are asked for at a time.
const BUDGET: Bytes = Bytes(64 << 20);
/// Bytes that are copied at a time.
const PIECE: u64 = 1 << 20;

/// Brings every disk to one batch boundary after a crash. `disks` are the live disks in the order of the item's
/// identity. Nothing else may use the journal or the disks meanwhile.
pub fn recover(journal: &Arc<Journal>, disks: &[Arc<dyn Disk>]) -> Result<RecoveryReport> {
    if disks.len() != journal.identity().disks.len() {
        return Err(journal.store.invalid("recovery needs every disk of the item"));
    }
    let applied = journal.recorded_applied();
    let pending = journal.pending()?;
    let mut boundary = applied;
    for batch in &pending {
        if !is_applied(journal, disks, batch)? {
            break;
        }
        boundary = batch.number;
    }
    let mut restored_bytes = 0;
    if !pending.is_empty() {
        for (number, disk) in disks.iter().enumerate() {
            restored_bytes += restore(journal, (applied, boundary), number as u16, disk)?;
        }
        for disk in disks {
            disk.sync().map_err(journal.store.failed("syncing a disk that was recovered"))?;
        }
    }
    let undone = pending.iter().filter(|batch| batch.number > boundary).count() as u64;
    journal.truncate_after(boundary)?;
    journal.note_applied(boundary);
    journal.record_applied()?;
    Ok(RecoveryReport { boundary, pending: pending.len() as u64, undone, restored_bytes })
}

/// True when every extent of the batch reads as the batch wrote it.
fn is_applied(journal: &Arc<Journal>, disks: &[Arc<dyn Disk>], batch: &PendingBatch) -> Result<bool> {
    let failed = || journal.store.failed("comparing a batch with the disks");
    let mut buffer = Vec::new();
    for extent in &batch.extents {
        let live = disks[usize::from(extent.disk)].clone();
        let view = PointView::at_boundary(journal.clone(), batch.number, extent.disk, live)?;
        buffer.resize(extent.range.length().as_usize(), 0);
        view.read_at(extent.range.start(), &mut buffer).map_err(failed())?;
        if crc32c::crc32c(&buffer) != extent.new_checksum {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Writes the view at `boundary` over everything on a disk that was touched after `applied`.
fn restore(
    journal: &Arc<Journal>,
    (applied, boundary): (BatchNumber, BatchNumber),
    number: u16,
    live: &Arc<dyn Disk>,
) -> Result<u64> {
    let view = PointView::at_boundary(journal.clone(), boundary, number, live.clone())?;
    let newest = journal.newest().map_or(applied, |newest| newest.number);
    let mut from = Bytes::ZERO;
    let mut restored = 0;
    loop {
        let ranges = journal.touched_after(applied, newest, number, from, BUDGET)?;
        let Some(last) = ranges.last() else { return Ok(restored) };
        from = last.end();
        for range in ranges {
            copy(&view, live, range).map_err(journal.store.failed("writing back what a batch overwrote"))?;
            restored += range.length().0;
        }
    }
}

fn copy(view: &PointView, live: &Arc<dyn Disk>, range: ByteRange) -> disk::Result<()> {
    let mut start = range.start();
    let mut buffer = Vec::new();
    while start < range.end() {
        let piece = (range.end() - start).0.min(PIECE);
        buffer.resize(piece as usize, 0);
        view.read_at(start, &mut buffer)?;
        if crate::encode::is_zero(&buffer) {
            live.write_zeroes(ByteRange::of_buffer(start, buffer.len()))?;
        } else {
            live.write_at(start, &buffer)?;
        }
        start += Bytes(piece);
    }
    Ok(())
}
