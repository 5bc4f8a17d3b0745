//! A raw image or a block device as a disk.

use crate::handle::{Caching, Handle};
use crate::holder;
use disk::{Access, ByteRange, Bytes, Cause, Disk, Error, Extent, Operation, Result, check_bounds};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

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
        let kind = fs::metadata(path).map_err(failed)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(failed(io::Error::other(
                "it is neither a file nor a block device; name one of these",
            )));
        }
        let mut options = OpenOptions::new();
        options.read(true).write(access == Access::Write);
        let claimed = kind.is_block_device() && access == Access::Write;
        if claimed {
            // On a device, without creating: refused when it is mounted or part of another one.
            options.custom_flags(nix::libc::O_EXCL);
        }
        let file = options.open(path).map_err(|error| match error.kind() {
            io::ErrorKind::ResourceBusy if claimed => {
                Error::new(Operation::Open, &name, None, Cause::InUse { holder: holder::of_device(path) })
            }
            _ => failed(error),
        })?;
        let handle = Handle::new(name, file, access, caching)?;
        let size = handle.length()?;
        Ok(FileDisk { handle, size })
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
        self.handle.sync()
    }

    fn extent_at(&self, offset: Bytes) -> Result<Extent> {
        self.handle.extent(offset, self.size)
    }
}
