//! A disk as it was at a recovery point.
//!
//! A byte at point T is the before-image of the oldest batch after T that touched it, else what the live disk
//! holds. A view reads in that order: first the journal, then the live disk for what the journal did not have,
//! then the journal again for just those gaps, looking only at batches that came meanwhile. This stays right
//! while replication goes on, because a batch is in the journal before any of its bytes reach a disk: whatever
//! changed under the live read belongs to a batch that the second look finds, and its before-image replaces what
//! was read. What the second look does not find had not been touched when the live disk was read.

use crate::lookup::{Target, Wanted};
use crate::types::BatchNumber;
use crate::{Error, Journal, Result};
use disk::{ByteRange, Bytes, Cause, Disk, Operation};
use std::sync::Arc;

/// One disk of an item as it was at a recovery point. It can only be read, and stays right while replication
/// goes on.
pub struct PointView {
    name: String,
    journal: Arc<Journal>,
    point: BatchNumber,
    disk: u16,
    live: Arc<dyn Disk>,
}

impl PointView {
    /// The view of disk number `disk` at `point`, over the live disk.
    pub fn new(
        journal: Arc<Journal>,
        point: BatchNumber,
        disk: u16,
        live: Arc<dyn Disk>,
    ) -> Result<PointView> {
        let summary = journal.summary(point)?.filter(|_| point <= journal.noted_applied());
        if !summary.is_some_and(|summary| summary.header.kind.is_consistent()) {
            return Err(Error::NotAPoint { journal: journal.store.name().to_owned(), batch: point });
        }
        PointView::at_boundary(journal, point, disk, live)
    }

    /// The view at any boundary that can be reached, consistent or not: for those who put one back, not for people.
    pub fn at_boundary(
        journal: Arc<Journal>,
        point: BatchNumber,
        disk: u16,
        live: Arc<dyn Disk>,
    ) -> Result<PointView> {
        if point < journal.floor() {
            return Err(journal.out_of_reach(point));
        }
        let expected = journal.identity().disks.get(usize::from(disk)).map(|disk| disk.size);
        if expected != Some(live.size()) {
            let what = format!("{} is not disk {disk} of the item, its size differs", live.name());
            return Err(journal.store.invalid(what));
        }
        let name = format!("{} at point {point}", live.name());
        Ok(PointView { name, journal, point, disk, live })
    }

    /// The point that it shows.
    pub fn point(&self) -> BatchNumber {
        self.point
    }

    fn read(&self, range: ByteRange, buffer: &mut [u8]) -> disk::Result<()> {
        let mut target = Target { start: range.start(), buffer };
        let failed = |error: Error| error.into_disk(Operation::Read, &self.name, range);
        let mut wanted = Wanted { disk: self.disk, point: self.point, after: self.point };
        let (gaps, newest) = self.journal.fill(&wanted, vec![range], &mut target).map_err(failed)?;
        for gap in &gaps {
            self.live.read_at(gap.start(), target.part(*gap))?;
        }
        if !gaps.is_empty() {
            wanted.after = newest.max(self.point);
            self.journal.fill(&wanted, gaps, &mut target).map_err(failed)?;
        }
        Ok(())
    }
}

impl Disk for PointView {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> Bytes {
        self.live.size()
    }

    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> disk::Result<()> {
        let range = ByteRange::of_buffer(offset, buffer.len());
        disk::check_bounds(self, Operation::Read, range)?;
        if buffer.is_empty() { Ok(()) } else { self.read(range, buffer) }
    }

    fn write_at(&self, offset: Bytes, data: &[u8]) -> disk::Result<()> {
        self.refuse(ByteRange::of_buffer(offset, data.len()))
    }

    fn write_zeroes(&self, range: ByteRange) -> disk::Result<()> {
        self.refuse(range)
    }

    fn sync(&self) -> disk::Result<()> {
        Ok(())
    }
}

impl PointView {
    fn refuse(&self, range: ByteRange) -> disk::Result<()> {
        Err(disk::Error::new(Operation::Write, &self.name, Some(range), Cause::ReadOnly))
    }
}
