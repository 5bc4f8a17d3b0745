//! What a disk is, for every other crate.
//!
//! The product moves bytes between disks: from the disk of a protected machine into a VMDK or a SCSI disk, and
//! from a journal back into it. [`Disk`] is the one door to all of them: a size, positioned reads and writes,
//! zeroing, and a sync that is believed only when it succeeds. [`File`] is a disk that can change its size, and
//! [`Folder`] is a set of named files whose names have a durability of their own; the VMDK code and the journal
//! are written against these two and so run unchanged on ext4 and on a simulated folder that loses power.
//!
//! Nothing here opens a file, reads a clock or draws a random number. Real files live in `block-device`;
//! [`MemoryDisk`] is the plain in-memory form, and [`FaultDisk`] and [`DelayDisk`] are decorators that make any
//! disk fail or wait on a schedule which a seed decides, so that a failing run can be replayed.
//!
//! Units are types: [`Bytes`] and [`Sectors`] do not mix, and a [`ByteRange`] that exists has an end that fits
//! into 64 bits.

mod decorators;
mod error;
mod folder;
mod memory;
mod units;

pub use decorators::{DelayDisk, Fault, FaultDisk, FaultPlan};
pub use error::{Cause, Class, Error, Operation, Result};
pub use folder::{Access, File, Folder, valid_name};
pub use memory::MemoryDisk;
pub use units::{ByteRange, Bytes, SECTOR_SIZE, Sectors};

/// What a stretch of a disk holds, as far as can be told without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// Bytes are stored here; they may still all be zero.
    Data,
    /// Nothing is stored here: it reads as zeroes.
    Hole,
}

/// A stretch of equal [`Allocation`], starting where it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Length in bytes, never zero.
    pub length: Bytes,
    /// What the stretch holds.
    pub allocation: Allocation,
}

/// A disk: a fixed number of bytes that can be read and written in place, by many threads at once.
///
/// Offsets and lengths are in bytes and need no alignment. Every call either does all that it was asked or
/// returns an error; after an error the range it was given may hold old bytes, new bytes, or a mixture.
/// Two calls on overlapping ranges that run at the same time have no defined order.
pub trait Disk: Send + Sync {
    /// What to call this disk in a message: a path, a device name or an id.
    fn name(&self) -> &str;

    /// Size in bytes.
    fn size(&self) -> Bytes;

    /// Fills `buffer` from `offset` on. Reading past the end is [`Cause::OutOfBounds`].
    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> Result<()>;

    /// Writes `data` at `offset`. It is durable only after a later [`Disk::sync`] succeeded.
    fn write_at(&self, offset: Bytes, data: &[u8]) -> Result<()>;

    /// Makes `range` read as zeroes, freeing its storage where that is cheap. Durable after a sync, as a write is.
    fn write_zeroes(&self, range: ByteRange) -> Result<()>;

    /// Makes every write that returned before this call durable. After one failure nothing may be assumed about
    /// any write since the last success, and calling again must not be taken as having mended it.
    fn sync(&self) -> Result<()>;

    /// The longest stretch known to be of one kind from `offset` (below the size) on. The default knows nothing:
    /// all is data.
    fn extent_at(&self, offset: Bytes) -> Result<Extent> {
        Ok(Extent { length: self.size() - offset, allocation: Allocation::Data })
    }
}

impl<D: Disk + ?Sized> Disk for std::sync::Arc<D> {
    fn name(&self) -> &str {
        (**self).name()
    }
    fn size(&self) -> Bytes {
        (**self).size()
    }
    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> Result<()> {
        (**self).read_at(offset, buffer)
    }
    fn write_at(&self, offset: Bytes, data: &[u8]) -> Result<()> {
        (**self).write_at(offset, data)
    }
    fn write_zeroes(&self, range: ByteRange) -> Result<()> {
        (**self).write_zeroes(range)
    }
    fn sync(&self) -> Result<()> {
        (**self).sync()
    }
    fn extent_at(&self, offset: Bytes) -> Result<Extent> {
        (**self).extent_at(offset)
    }
}

/// Refuses a range that leaves the disk: the bounds check that every implementation starts with.
pub fn check_bounds(disk: &(impl Disk + ?Sized), operation: Operation, range: ByteRange) -> Result<()> {
    if range.end() > disk.size() {
        return Err(Error::new(
            operation,
            disk.name(),
            Some(range),
            Cause::OutOfBounds { size: disk.size() },
        ));
    }
    Ok(())
}
