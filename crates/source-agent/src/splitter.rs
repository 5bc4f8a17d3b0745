//! A disk that records every change of another one on its way.

use crate::gate::Gate;
use crate::range_lock::RangeLocks;
use crate::tracker::{Change, Place, Tracker};
use change_stream::{MAX_DATA, Time};
use disk::{ByteRange, Bytes, Cause, Disk, Extent, Operation, Result, check_bounds};
use std::sync::Arc;

/// A clock that is handed in: nanoseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> Time + Send + Sync>;

/// Passes everything on to the disk behind it, and records each change before it is made.
///
/// Changes that overlap are made one after the other, in the order in which they are recorded; so replaying the
/// stream onto a copy gives the same disk. The writer waits for its own disk and for the state folder, never for the
/// target.
pub struct SplitterDisk {
    disk: Arc<dyn Disk>,
    number: u16,
    tracker: Arc<Tracker>,
    locks: RangeLocks,
    clock: Clock,
    gate: Arc<Gate>,
}

impl SplitterDisk {
    /// Wraps the disk that has this number in the item.
    pub fn new(disk: Arc<dyn Disk>, number: u16, tracker: Arc<Tracker>, clock: Clock) -> SplitterDisk {
        SplitterDisk { disk, number, tracker, locks: RangeLocks::default(), clock, gate: Arc::default() }
    }

    /// Has every change go through this gate first.
    pub fn behind_gate(self, gate: Arc<Gate>) -> SplitterDisk {
        SplitterDisk { gate, ..self }
    }

    /// Lets `read` look at the disk while no change of `range` is under way, and gives the place in the stream where
    /// what it saw is true.
    pub fn read_for_sync<T>(
        &self,
        range: ByteRange,
        read: impl FnOnce(&dyn Disk) -> Result<T>,
    ) -> Result<(T, Place)> {
        let _held = self.locks.lock(range);
        let seen = read(&*self.disk)?;
        Ok((seen, self.tracker.hold_place()))
    }

    /// The disk behind: reads of it take no lock.
    pub fn behind(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// The newest change that was recorded: nothing newer can be seen in what was read before.
    pub(crate) fn newest(&self) -> u64 {
        self.tracker.standing().next_sequence - 1
    }

    fn change(&self, range: ByteRange, change: Change<'_>, make: impl FnOnce() -> Result<()>) -> Result<()> {
        let _held = self.locks.lock(range);
        let recorded = |error| self.not_recorded(range, error);
        let ticket = self.tracker.begin(self.number, range, change, (self.clock)()).map_err(recorded)?;
        let made = make();
        let noted = self.tracker.complete(&ticket, made.is_ok()).map_err(recorded);
        made.and(noted)
    }

    fn refused(&self, range: ByteRange) -> disk::Error {
        disk::Error::new(Operation::Write, self.disk.name(), Some(range), Cause::ReadOnly)
    }

    fn not_recorded(&self, range: ByteRange, error: crate::Error) -> disk::Error {
        let cause = Cause::Io(std::io::Error::other(format!("the change could not be recorded: {error}")));
        disk::Error::new(Operation::Write, self.disk.name(), Some(range), cause)
    }
}

impl Disk for SplitterDisk {
    fn name(&self) -> &str {
        self.disk.name()
    }

    fn size(&self) -> Bytes {
        self.disk.size()
    }

    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> Result<()> {
        self.disk.read_at(offset, buffer)
    }

    fn write_at(&self, offset: Bytes, data: &[u8]) -> Result<()> {
        let whole = ByteRange::of_buffer(offset, data.len());
        check_bounds(self, Operation::Write, whole)?;
        let _inside = self.gate.enter().ok_or_else(|| self.refused(whole))?;
        let mut offset = offset;
        for part in data.chunks(MAX_DATA) {
            let range = ByteRange::of_buffer(offset, part.len());
            self.change(range, Change::Write(part), || self.disk.write_at(offset, part))?;
            offset = range.end();
        }
        Ok(())
    }

    fn write_zeroes(&self, range: ByteRange) -> Result<()> {
        check_bounds(self, Operation::Write, range)?;
        if range.is_empty() {
            return Ok(());
        }
        let _inside = self.gate.enter().ok_or_else(|| self.refused(range))?;
        self.change(range, Change::Zeroes(range.length().0), || self.disk.write_zeroes(range))
    }

    fn sync(&self) -> Result<()> {
        self.disk.sync()?;
        let range = ByteRange::between(Bytes::ZERO, Bytes::ZERO);
        self.tracker.flush((self.clock)()).map_err(|error| self.not_recorded(range, error))
    }

    fn extent_at(&self, offset: Bytes) -> Result<Extent> {
        self.disk.extent_at(offset)
    }
}
