//! One open file or block device: locked, fenced after a failure, cached or direct.

use crate::bounce::{self, ALIGNMENT};
use crate::inventory::DeviceNumber;
use crate::{holder, lock};
use disk::{Access, Allocation, ByteRange, Bytes, Cause, Error, Extent, Operation, Result};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::unistd::{Whence, lseek};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Whether reads and writes go through the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// They do.
    PageCache,
    /// Large ones go to the medium directly in their aligned parts, where the file system can do that; small ones go
    /// through the page cache, which writes many of them at once. A write is durable only after a sync either way.
    Direct,
}

/// From this length on an aligned part goes past the page cache: copying and writing back costs more then than
/// waiting for the medium.
const LARGE: usize = 64 << 10;

/// Refuses everything that changes the medium after one failure to do so.
#[derive(Debug, Default)]
pub(crate) struct Fence {
    closed: AtomicBool,
    /// Held during a sync: the kernel reports a lost write to one of two concurrent syncs only.
    syncing: Mutex<()>,
}

impl Fence {
    /// An error once the fence is closed.
    pub(crate) fn check(&self, operation: Operation, name: &str, range: Option<ByteRange>) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(operation, name, range, Cause::Fenced));
        }
        Ok(())
    }

    /// Passes on the outcome of a change, and closes the fence when it leaves the medium in an unknown state.
    pub(crate) fn watch<T>(&self, outcome: Result<T>) -> Result<T> {
        if outcome.as_ref().is_err_and(|error| matches!(error.cause(), Cause::Io(_) | Cause::ReadOnly)) {
            self.closed.store(true, Ordering::Release);
        }
        outcome
    }

    /// Runs a sync alone, unless the fence is closed; any failure closes it.
    pub(crate) fn sync(&self, name: &str, sync: impl FnOnce() -> io::Result<()>) -> Result<()> {
        let _alone = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        self.check(Operation::Sync, name, None)?;
        sync().map_err(|error| {
            self.closed.store(true, Ordering::Release);
            Error::from_io(Operation::Sync, name, None, error)
        })
    }
}

/// Ways to zero without writing, best first; each is tried until it is refused once.
const ZEROING: [FallocateFlags; 2] =
    [FallocateFlags::FALLOC_FL_PUNCH_HOLE, FallocateFlags::FALLOC_FL_ZERO_RANGE];
/// The first of them that leaves a file the room that it has.
const KEEPS_ROOM: usize = 1;

/// An open file or block device. Its callers know its size and check bounds.
#[derive(Debug)]
pub(crate) struct Handle {
    name: String,
    /// Goes through the page cache and carries the locks.
    file: File,
    /// The same without the page cache.
    direct: Option<File>,
    access: Access,
    fence: Fence,
    /// Index into [`ZEROING`].
    zeroing: AtomicUsize,
}

impl Handle {
    /// Locks an open file and takes it over.
    pub(crate) fn new(name: String, file: File, access: Access, caching: Caching) -> Result<Handle> {
        lock::take(&file, access).map_err(|refusal| {
            let cause = match refusal {
                lock::Refusal::Held(process) => Cause::InUse { holder: holder::of_locked(&file, process) },
                lock::Refusal::Failed(errno) => Cause::Io(errno.into()),
            };
            lock::release(&file);
            Error::new(Operation::Open, &name, None, cause)
        })?;
        let direct = match caching {
            Caching::PageCache => None,
            Caching::Direct => reopen_direct(&name, &file, access)?,
        };
        Ok(Handle { name, file, direct, access, fence: Fence::default(), zeroing: AtomicUsize::new(0) })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The number of a block device; `None` for a file.
    pub(crate) fn device_number(&self) -> Option<DeviceNumber> {
        let metadata = self.file.metadata().ok().filter(|metadata| metadata.file_type().is_block_device())?;
        Some(DeviceNumber::of_node(metadata.rdev()))
    }

    /// Size of the file or device now.
    pub(crate) fn length(&self) -> Result<Bytes> {
        // The end is asked for by seeking, since a device has no length among its metadata.
        match lseek(&self.file, 0, Whence::SeekEnd) {
            Ok(end) => Ok(Bytes(end as u64)),
            Err(errno) => Err(Error::from_io(Operation::Open, &self.name, None, errno.into())),
        }
    }

    pub(crate) fn read(&self, offset: Bytes, buffer: &mut [u8]) -> Result<()> {
        let length = buffer.len();
        let outcome = match &self.direct {
            Some(direct) if length >= LARGE => read_direct(direct, buffer, offset.0),
            _ => self.file.read_exact_at(buffer, offset.0),
        };
        outcome.map_err(|error| {
            let range = Some(ByteRange::of_buffer(offset, length));
            match error.kind() {
                io::ErrorKind::UnexpectedEof => {
                    let what = "it became shorter while it was open".to_owned();
                    Error::new(Operation::Read, &self.name, range, Cause::Corrupt { what })
                }
                _ => Error::from_io(Operation::Read, &self.name, range, error),
            }
        })
    }

    pub(crate) fn write(&self, offset: Bytes, data: &[u8]) -> Result<()> {
        let range = Some(ByteRange::of_buffer(offset, data.len()));
        self.check_writable(Operation::Write, range)?;
        let outcome = self.write_unfenced(offset, data);
        self.fence.watch(outcome.map_err(|error| Error::from_io(Operation::Write, &self.name, range, error)))
    }

    fn write_unfenced(&self, offset: Bytes, data: &[u8]) -> io::Result<()> {
        let Some(direct) = self.direct.as_ref().filter(|_| data.len() >= LARGE) else {
            return self.file.write_all_at(data, offset.0);
        };
        let [head, middle, tail] = split(offset, data.len());
        let (middle_at, tail_at) = (offset.0 + middle.start as u64, offset.0 + tail.start as u64);
        self.file.write_all_at(&data[head], offset.0)?;
        write_direct(direct, &data[middle], middle_at)?;
        self.file.write_all_at(&data[tail], tail_at)
    }

    /// Zeroes a range, by freeing its storage where the file system or device can.
    pub(crate) fn zero(&self, range: ByteRange) -> Result<()> {
        self.check_writable(Operation::Write, Some(range))?;
        let outcome = self.zero_unfenced(range);
        self.fence
            .watch(outcome.map_err(|error| Error::from_io(Operation::Write, &self.name, Some(range), error)))
    }

    fn zero_unfenced(&self, range: ByteRange) -> io::Result<()> {
        // Devices take whole blocks only, so the edges are written.
        let start = range.start().0.next_multiple_of(ALIGNMENT as u64).min(range.end().0);
        let end = (range.end().0 / ALIGNMENT as u64 * ALIGNMENT as u64).max(start);
        self.write_zero_bytes(range.start().0..start)?;
        if start < end && !self.zero_by_allocation(start, end - start)? {
            self.write_zero_bytes(start..end)?;
        }
        self.write_zero_bytes(end..range.end().0)
    }

    /// Whether the file system or the device did it. `fallocate` keeps the page cache coherent on both, where the
    /// ioctl BLKZEROOUT leaves stale pages on kernels before 4.8.
    fn zero_by_allocation(&self, start: u64, length: u64) -> io::Result<bool> {
        loop {
            let way = self.zeroing.load(Ordering::Relaxed);
            let Some(flags) = ZEROING.get(way) else { return Ok(false) };
            let flags = *flags | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            match fallocate(&self.file, flags, start as i64, length as i64) {
                Ok(()) => return Ok(true),
                Err(Errno::EINTR) => {}
                Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::ENODEV | Errno::EINVAL) => {
                    self.zeroing.fetch_max(way + 1, Ordering::Relaxed);
                }
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn write_zero_bytes(&self, range: Range<u64>) -> io::Result<()> {
        let zeroes = bounce::zeroes();
        let mut at = range.start;
        while at < range.end {
            let length = (range.end - at).min(zeroes.len() as u64);
            self.write_unfenced(Bytes(at), &zeroes[..length as usize])?;
            at += length;
        }
        Ok(())
    }

    pub(crate) fn set_length(&self, length: Bytes) -> Result<()> {
        self.check_writable(Operation::Resize, None)?;
        let outcome = self.file.set_len(length.0);
        self.fence.watch(outcome.map_err(|error| Error::from_io(Operation::Resize, &self.name, None, error)))
    }

    /// Extends a file, and takes the room for all of it where its file system can.
    pub(crate) fn allocate(&self, length: Bytes) -> Result<()> {
        self.check_writable(Operation::Resize, None)?;
        let outcome = loop {
            match fallocate(&self.file, FallocateFlags::empty(), 0, length.0 as i64) {
                Err(Errno::EINTR) => {}
                Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => return self.set_length(length),
                outcome => break outcome,
            }
        };
        let outcome =
            outcome.map_err(|errno| Error::from_io(Operation::Resize, &self.name, None, errno.into()));
        self.fence.watch(outcome)
    }

    /// From now on nothing is zeroed in a way that gives room back.
    pub(crate) fn keep_room(&self) {
        self.zeroing.fetch_max(KEEPS_ROOM, Ordering::Relaxed);
    }

    pub(crate) fn sync(&self) -> Result<()> {
        match self.access {
            Access::Read => Ok(()),
            Access::Write => self.fence.sync(&self.name, || self.file.sync_data()),
        }
    }

    /// What the file system says about the stretch from `offset` on; a device says that all is data.
    pub(crate) fn extent(&self, offset: Bytes, size: Bytes) -> Result<Extent> {
        let data = |end: Bytes| Extent { length: end - offset, allocation: Allocation::Data };
        let hole = |end: Bytes| Extent { length: end - offset, allocation: Allocation::Hole };
        let found = match self.seek(offset, Whence::SeekData) {
            Ok(at) if at >= size => hole(size),
            Ok(at) if at > offset => hole(at),
            Ok(_) => match self.seek(offset, Whence::SeekHole) {
                Ok(at) if at > offset => data(at.min(size)),
                // What was data a moment ago is a hole now: to call it data is true of both.
                Ok(_) | Err(Errno::ENXIO) => data(size),
                Err(errno) => return Err(self.seek_failed(errno)),
            },
            Err(Errno::ENXIO) => hole(size),
            Err(Errno::EINVAL | Errno::EOPNOTSUPP) => data(size),
            Err(errno) => return Err(self.seek_failed(errno)),
        };
        Ok(found)
    }

    fn seek(&self, offset: Bytes, whence: Whence) -> nix::Result<Bytes> {
        lseek(&self.file, offset.0 as i64, whence).map(|at| Bytes(at as u64))
    }

    fn seek_failed(&self, errno: Errno) -> Error {
        Error::from_io(Operation::Read, &self.name, None, errno.into())
    }

    fn check_writable(&self, operation: Operation, range: Option<ByteRange>) -> Result<()> {
        match self.access {
            Access::Write => self.fence.check(operation, &self.name, range),
            Access::Read => Err(Error::new(operation, &self.name, range, Cause::ReadOnly)),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        lock::release(&self.file);
        let _ = self.file.unlock();
    }
}

/// Opens the same file once more without the page cache; `None` where its file system cannot do that.
fn reopen_direct(name: &str, file: &File, access: Access) -> Result<Option<File>> {
    let outcome = OpenOptions::new()
        .read(true)
        .write(access == Access::Write)
        .custom_flags(nix::libc::O_DIRECT)
        .open(format!("/proc/self/fd/{}", file.as_raw_fd()));
    match outcome {
        Ok(direct) => Ok(Some(direct)),
        Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => Ok(None),
        Err(error) => Err(Error::from_io(Operation::Open, name, None, error)),
    }
}

/// The unaligned head, the aligned middle and the unaligned tail of a buffer at `offset`.
fn split(offset: Bytes, length: usize) -> [Range<usize>; 3] {
    let into_block = (offset.0 % ALIGNMENT as u64) as usize;
    let head = ((ALIGNMENT - into_block) % ALIGNMENT).min(length);
    let tail = head + (length - head) / ALIGNMENT * ALIGNMENT;
    [0..head, head..tail, tail..length]
}

fn read_direct(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let block = ALIGNMENT as u64;
    if bounce::is_aligned(buffer) && offset.is_multiple_of(block) && buffer.len().is_multiple_of(ALIGNMENT) {
        return file.read_exact_at(buffer, offset);
    }
    bounce::with_buffer(|bounce| {
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            let skip = (at % block) as usize;
            let wanted = (skip + buffer.len() - done).min(bounce.len());
            // The blocks around it are read too: one request instead of three. The last block may end early.
            let enclosing = &mut bounce[..wanted.next_multiple_of(ALIGNMENT)];
            read_at_least(file, enclosing, at - skip as u64, wanted)?;
            buffer[done..done + wanted - skip].copy_from_slice(&bounce[skip..wanted]);
            done += wanted - skip;
        }
        Ok(())
    })
}

/// Fills the first `wanted` bytes of whole blocks; a file may end between there and the end of the last block.
fn read_at_least(file: &File, blocks: &mut [u8], offset: u64, wanted: usize) -> io::Result<()> {
    let mut read = 0;
    while read < wanted {
        match file.read_at(&mut blocks[read..], offset + read as u64) {
            // An end within a block is the end of the file, and it came too early.
            Ok(count) if read + count < wanted && count < ALIGNMENT => {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(count) if read + count < wanted => read += count / ALIGNMENT * ALIGNMENT,
            Ok(count) => read += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn write_direct(file: &File, data: &[u8], offset: u64) -> io::Result<()> {
    if bounce::is_aligned(data) {
        return file.write_all_at(data, offset);
    }
    bounce::with_buffer(|bounce| {
        let mut at = offset;
        for piece in data.chunks(bounce.len()) {
            bounce[..piece.len()].copy_from_slice(piece);
            file.write_all_at(&bounce[..piece.len()], at)?;
            at += piece.len() as u64;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_splits_at_block_boundaries() {
        assert_eq!(split(Bytes(0), 8192), [0..0, 0..8192, 8192..8192]);
        assert_eq!(split(Bytes(4095), 4098), [0..1, 1..4097, 4097..4098]);
        assert_eq!(split(Bytes(100), 50), [0..50, 50..50, 50..50]);
        assert_eq!(split(Bytes(4096), 10), [0..0, 0..0, 0..10]);
    }

    fn failed(cause: Cause) -> Result<()> {
        Err(Error::new(Operation::Write, "f", None, cause))
    }

    /// Invariant 6: a failed fsync is never retried as if it had worked.
    #[test]
    fn invariant_6_after_a_failed_sync_or_write_nothing_is_written_or_synced() {
        let fence = Fence::default();
        assert!(fence.sync("f", || Err(io::Error::from_raw_os_error(5))).is_err());
        let refused = fence.sync("f", || panic!("not reached")).unwrap_err();
        assert!(matches!(refused.cause(), Cause::Fenced), "{refused}");
        let fence = Fence::default();
        assert!(fence.watch(failed(Cause::Io(io::Error::from_raw_os_error(5)))).is_err());
        assert!(fence.check(Operation::Write, "f", None).is_err());
    }

    #[test]
    fn a_full_volume_does_not_fence_a_write_but_a_sync() {
        let fence = Fence::default();
        assert!(fence.watch(failed(Cause::NoSpace)).is_err());
        assert!(fence.check(Operation::Write, "f", None).is_ok());
        assert!(fence.sync("f", || Err(io::Error::from_raw_os_error(nix::libc::ENOSPC))).is_err());
        assert!(fence.check(Operation::Write, "f", None).is_err());
    }
}
