//! A directory of this machine as a folder, and its files.

use crate::handle::{Caching, Fence, Handle};
use disk::{
    Access, ByteRange, Bytes, Cause, Disk, Error, Extent, File, Folder, Operation, Result, check_bounds,
    valid_name,
};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::sys::statvfs::{Statvfs, fstatvfs};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The largest offset that the kernel takes.
const MAX_SIZE: Bytes = Bytes(i64::MAX as u64);

/// A directory. It is held open: what happens to its path later does not lead elsewhere.
#[derive(Debug)]
pub struct HostFolder {
    name: String,
    directory: fs::File,
    caching: Caching,
    fence: Fence,
}

impl HostFolder {
    /// Opens the directory at `path`; its files will be read and written as `caching` says.
    pub fn open(path: impl AsRef<Path>, caching: Caching) -> Result<HostFolder> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let failed = |error| Error::from_io(Operation::Open, &name, None, error);
        let directory = fs::File::open(path).map_err(failed)?;
        if !directory.metadata().map_err(failed)?.is_dir() {
            return Err(failed(io::ErrorKind::NotADirectory.into()));
        }
        Ok(HostFolder { name, directory, caching, fence: Fence::default() })
    }

    /// Opens the directory called `name` in this one; `None` where there is none.
    pub fn subfolder(&self, name: &str) -> Result<Option<HostFolder>> {
        self.check_name(Operation::Open, name)?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&self.directory, name, flags, Mode::empty()) {
            Ok(directory) => Ok(Some(HostFolder {
                name: self.path_of(name),
                directory: directory.into(),
                caching: self.caching,
                fence: Fence::default(),
            })),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.failed(Operation::Open, name, errno)),
        }
    }

    /// Creates a directory called `name` in this one, for its owner only, unless it is there; durable on return.
    pub fn create_subfolder(&self, name: &str) -> Result<HostFolder> {
        self.check_name(Operation::Create, name)?;
        self.fence.check(Operation::Create, &self.name, None)?;
        match mkdirat(&self.directory, name, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return self.fence.watch(Err(self.failed(Operation::Create, name, errno))),
        }
        self.sync()?;
        let missing = || Error::new(Operation::Open, self.path_of(name), None, Cause::NotFound);
        self.subfolder(name)?.ok_or_else(missing)
    }

    /// Removes the empty directory called `name` in this one; durable on return.
    pub fn remove_subfolder(&self, name: &str) -> Result<()> {
        self.check_name(Operation::Remove, name)?;
        self.fence.check(Operation::Remove, &self.name, None)?;
        let outcome = unlinkat(&self.directory, name, UnlinkatFlags::RemoveDir);
        self.fence.watch(outcome.map_err(|errno| self.failed(Operation::Remove, name, errno)))?;
        self.sync()
    }

    /// Size of the volume behind the folder, as its file system states it.
    pub fn capacity(&self) -> Result<Bytes> {
        let volume = self.volume()?;
        Ok(Bytes(volume.blocks().saturating_mul(volume.fragment_size())))
    }

    /// What statfs(2) calls the id of the file system behind the folder: ext4 makes it of its UUID.
    pub fn file_system_id(&self) -> Result<u64> {
        Ok(self.volume()?.filesystem_id())
    }

    fn volume(&self) -> Result<Statvfs> {
        fstatvfs(&self.directory)
            .map_err(|errno| Error::from_io(Operation::List, &self.name, None, errno.into()))
    }

    fn path_of(&self, name: &str) -> String {
        format!("{}/{name}", self.name)
    }

    fn check_name(&self, operation: Operation, name: &str) -> Result<()> {
        if valid_name(name) {
            return Ok(());
        }
        Err(Error::new(operation, self.path_of(&name.escape_debug().to_string()), None, Cause::BadName))
    }

    fn failed(&self, operation: Operation, name: &str, errno: Errno) -> Error {
        let error = match errno {
            Errno::ELOOP => io::Error::other(
                "it is a symbolic link, which is not followed; put the file itself into the folder",
            ),
            errno => errno.into(),
        };
        Error::from_io(operation, self.path_of(name), None, error)
    }

    fn open_file(
        &self,
        operation: Operation,
        name: &str,
        access: Access,
        create: OFlag,
    ) -> Result<Arc<dyn File>> {
        let direction = match access {
            Access::Read => OFlag::O_RDONLY,
            Access::Write => OFlag::O_RDWR,
        };
        // A pipe in the place of a file must not make the open wait for its other end.
        let flags = direction | create | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let opened = openat(&self.directory, name, flags, Mode::S_IRUSR | Mode::S_IWUSR);
        let file = fs::File::from(opened.map_err(|errno| self.failed(operation, name, errno))?);
        let kind =
            file.metadata().map_err(|error| Error::from_io(operation, self.path_of(name), None, error))?;
        if !kind.is_file() {
            let error = io::Error::other("it is not a regular file; put a file in its place");
            return Err(Error::from_io(operation, self.path_of(name), None, error));
        }
        let handle = Handle::new(self.path_of(name), file, access, self.caching)?;
        let size = AtomicU64::new(handle.length()?.0);
        Ok(Arc::new(HostFile { handle, size }))
    }
}

impl Folder for HostFolder {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&self, name: &str, access: Access) -> Result<Arc<dyn File>> {
        self.check_name(Operation::Open, name)?;
        self.open_file(Operation::Open, name, access, OFlag::empty())
    }

    fn create(&self, name: &str) -> Result<Arc<dyn File>> {
        self.check_name(Operation::Create, name)?;
        self.fence.check(Operation::Create, &self.name, None)?;
        self.fence.watch(self.open_file(
            Operation::Create,
            name,
            Access::Write,
            OFlag::O_CREAT | OFlag::O_EXCL,
        ))
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.check_name(Operation::Rename, from)?;
        self.check_name(Operation::Rename, to)?;
        self.fence.check(Operation::Rename, &self.name, None)?;
        let outcome = renameat(&self.directory, from, &self.directory, to);
        self.fence.watch(outcome.map_err(|errno| self.failed(Operation::Rename, from, errno)))
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.check_name(Operation::Remove, name)?;
        self.fence.check(Operation::Remove, &self.name, None)?;
        let outcome = unlinkat(&self.directory, name, UnlinkatFlags::NoRemoveDir);
        self.fence.watch(outcome.map_err(|errno| self.failed(Operation::Remove, name, errno)))
    }

    fn list(&self) -> Result<Vec<String>> {
        let failed = |error| Error::from_io(Operation::List, &self.name, None, error);
        let mut names = Vec::new();
        let entries =
            fs::read_dir(format!("/proc/self/fd/{}", self.directory.as_raw_fd())).map_err(failed)?;
        for entry in entries {
            let entry = entry.map_err(failed)?;
            // Names that are not UTF-8 were not given by a folder, nor can they be opened through one.
            if entry.file_type().map_err(failed)?.is_file() {
                names.extend(entry.file_name().into_string().ok());
            }
        }
        Ok(names)
    }

    fn sync(&self) -> Result<()> {
        self.fence.sync(&self.name, || self.directory.sync_all())
    }

    fn available(&self) -> Result<Bytes> {
        let volume = self.volume()?;
        Ok(Bytes(volume.blocks_available().saturating_mul(volume.fragment_size())))
    }
}

/// A file of a folder.
#[derive(Debug)]
struct HostFile {
    handle: Handle,
    /// Kept here, since the lock lets nobody else change it.
    size: AtomicU64,
}

impl HostFile {
    /// Refuses what no file can hold, before it becomes a signed offset.
    fn check_end(&self, range: ByteRange) -> Result<()> {
        if range.end() > MAX_SIZE {
            let cause = Cause::OutOfBounds { size: MAX_SIZE };
            return Err(Error::new(Operation::Write, self.name(), Some(range), cause));
        }
        Ok(())
    }

    /// After a write: its end if it was done, else what the file system made of it.
    fn note_end(&self, end: Bytes, outcome: Result<()>) -> Result<()> {
        if outcome.is_ok() {
            self.size.fetch_max(end.0, Ordering::AcqRel);
        } else if let Ok(length) = self.handle.length() {
            self.size.fetch_max(length.0, Ordering::AcqRel);
        }
        outcome
    }
}

impl Disk for HostFile {
    fn name(&self) -> &str {
        self.handle.name()
    }

    fn size(&self) -> Bytes {
        Bytes(self.size.load(Ordering::Acquire))
    }

    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> Result<()> {
        check_bounds(self, Operation::Read, ByteRange::of_buffer(offset, buffer.len()))?;
        self.handle.read(offset, buffer)
    }

    fn write_at(&self, offset: Bytes, data: &[u8]) -> Result<()> {
        let range = ByteRange::of_buffer(offset, data.len());
        self.check_end(range)?;
        if range.is_empty() {
            return Ok(());
        }
        self.note_end(range.end(), self.handle.write(offset, data))
    }

    fn write_zeroes(&self, range: ByteRange) -> Result<()> {
        self.check_end(range)?;
        let size = self.size();
        if let Some(inside) = range.intersection(&ByteRange::between(Bytes::ZERO, size)) {
            self.handle.zero(inside)?;
        }
        if range.end() <= size || range.is_empty() {
            return Ok(());
        }
        // One byte lets the file grow; to set its size could cut off what another thread writes behind it.
        self.write_at(range.end() - Bytes(1), &[0])
    }

    fn sync(&self) -> Result<()> {
        self.handle.sync()
    }

    fn extent_at(&self, offset: Bytes) -> Result<Extent> {
        self.handle.extent(offset, self.size())
    }
}

impl File for HostFile {
    fn set_size(&self, size: Bytes) -> Result<()> {
        self.check_end(ByteRange::between(Bytes::ZERO, size))?;
        self.handle.set_length(size)?;
        self.size.store(size.0, Ordering::Release);
        Ok(())
    }

    fn allocate(&self, size: Bytes) -> Result<()> {
        self.check_end(ByteRange::between(Bytes::ZERO, size))?;
        self.handle.allocate(size)?;
        self.size.store(size.0, Ordering::Release);
        Ok(())
    }

    fn keep_room(&self) {
        self.handle.keep_room();
    }
}
