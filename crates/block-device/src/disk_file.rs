//! A raw image or a block device as a disk.

use crate::handle::{Caching, Handle};
use crate::holder;
use crate::inventory::DeviceNumber;
use disk::{Access, ByteRange, Bytes, Cause, Disk, Error, Extent, Operation, Result, check_bounds};
use std::fs::{self, File, FileType, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// A raw image file or a block device, of the size that it had when it was opened.
#[derive(Debug)]
pub struct FileDisk {
    handle: Handle,
    size: Bytes,
}

impl FileDisk {
    /// Opens and locks the file or device at `path`.
    pub fn open(path: impl AsRef<Path>, access: Access, caching: Caching) -> Result<FileDisk> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let failed = |error| Error::from_io(Operation::Open, &name, None, error);
        // Before it is opened: to open a pipe is to wait for its other end.
        check_kind(fs::metadata(path).map_err(failed)?.file_type()).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.read(true).write(access == Access::Write);
        if access == Access::Write {
            // On a device, without creating: refused when it is mounted or part of another one. Files do not heed it.
            options.custom_flags(nix::libc::O_EXCL);
        }
        let file = options.open(path).map_err(|error| match error.kind() {
            io::ErrorKind::ResourceBusy if access == Access::Write => {
                Error::new(Operation::Open, &name, None, Cause::InUse { holder: holder::of_device(path) })
            }
            _ => failed(error),
        })?;
        let kind = file.metadata().map_err(failed)?.file_type();
        check_kind(kind).map_err(failed)?;
        let claimed = kind.is_block_device() && access == Access::Write;
        if claimed {
            keep_udev_away(&file, &name)?;
        }
        let handle = Handle::new(name, file, access, caching)?;
        let size = handle.length()?;
        Ok(FileDisk { handle, size })
    }

    /// Its device number; `None` for a file.
    pub fn device_number(&self) -> Option<DeviceNumber> {
        self.handle.device_number()
    }

    /// An error when the medium has become shorter: what was written beyond its new end is gone.
    fn check_size(&self) -> Result<()> {
        let now = self.handle.length()?;
        if now >= self.size {
            return Ok(());
        }
        let what = format!(
            "it had {} bytes when it was opened and has {} now: bring it back to its size, then resync the item",
            self.size.0, now.0
        );
        Err(Error::new(Operation::Sync, self.name(), None, Cause::Corrupt { what }))
    }
}

fn check_kind(kind: FileType) -> io::Result<()> {
    if kind.is_file() || kind.is_block_device() {
        return Ok(());
    }
    Err(io::Error::other("it is neither a file nor a block device; name one of these"))
}

/// How long udev may take to look at a device.
const UDEV_PATIENCE: Duration = Duration::from_secs(10);

/// Takes the lock by which udev knows that a device is being changed, so that it neither looks at what is half written
/// nor starts other programs on it. It locks what it looks at itself, for a moment.
fn keep_udev_away(file: &File, name: &str) -> Result<()> {
    let end = Instant::now() + UDEV_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < end => thread::sleep(Duration::from_millis(20)),
            Err(TryLockError::WouldBlock) => {
                let holder = "another program holds the lock against udev (flock)".to_owned();
                return Err(Error::new(Operation::Open, name, None, Cause::InUse { holder }));
            }
            Err(TryLockError::Error(error)) => {
                return Err(Error::from_io(Operation::Open, name, None, error));
            }
        }
    }
}

impl Disk for FileDisk {
    fn name(&self) -> &str {
        self.handle.name()
    }

    fn size(&self) -> Bytes {
        self.size
    }

    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> Result<()> {
        check_bounds(self, Operation::Read, ByteRange::of_buffer(offset, buffer.len()))?;
        self.handle.read(offset, buffer)
    }

    fn write_at(&self, offset: Bytes, data: &[u8]) -> Result<()> {
        check_bounds(self, Operation::Write, ByteRange::of_buffer(offset, data.len()))?;
        self.handle.write(offset, data)
    }

    fn write_zeroes(&self, range: ByteRange) -> Result<()> {
        check_bounds(self, Operation::Write, range)?;
        self.handle.zero(range)
    }

    fn sync(&self) -> Result<()> {
        self.handle.sync()?;
        self.check_size()
    }

    fn extent_at(&self, offset: Bytes) -> Result<Extent> {
        self.handle.extent(offset, self.size)
    }
}
