//! Reading the file, and writing an edit.

use super::{Edit, Fstab};
use crate::{Error, Result};
use block_device::{System, durable_file};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Where the file is.
pub const PATH: &str = "/etc/fstab";

/// The file as it was before the first edit; later ones have a number behind.
pub const BACKUP: &str = "/etc/fstab.before-master-target";

/// Every edit leaves a backup, so that many are more than anyone made.
const MAX_BACKUPS: u32 = 1000;

/// How long another command may take to edit it.
const PATIENCE: Duration = Duration::from_secs(10);

impl Fstab {
    /// The file of the machine; a machine without one mounts nothing by it.
    pub fn read(system: &System) -> Result<Fstab> {
        match system.bytes(PATH) {
            Ok(bytes) => Ok(Fstab { bytes }),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(Fstab::default()),
            Err(cause) => Err(failed("read", PATH, cause)),
        }
    }
}

impl Edit {
    /// Makes the edit, and says where the file is kept as it was. The file is whole at every moment, also when the
    /// power fails, and keeps its mode and owner.
    ///
    /// # Errors
    /// [`Error::FstabChanged`] when the file is not the one that the edit was planned for.
    pub fn write(&self, system: &System) -> Result<Option<PathBuf>> {
        let _lock = lock(system)?;
        if Fstab::read(system)?.bytes != self.before {
            return Err(Error::FstabChanged);
        }
        if !self.is_needed() {
            return Ok(None);
        }
        let backup = self.back_up(system)?;
        durable_file::replace(&system.path(PATH), &self.after, 0o644)
            .map_err(|cause| failed("write", PATH, cause))?;
        Ok(backup)
    }

    /// Keeps the file as it is in the first name that is free, or has these bytes already from a run that was cut off.
    fn back_up(&self, system: &System) -> Result<Option<PathBuf>> {
        if !system.path(PATH).exists() {
            return Ok(None);
        }
        let names = (1..=MAX_BACKUPS).map(|n| if n == 1 { BACKUP.into() } else { format!("{BACKUP}.{n}") });
        for name in names {
            match fs::read(system.path(&name)) {
                Ok(kept) if kept == self.before => return Ok(Some(name.into())),
                Ok(_) => {}
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                    durable_file::replace(&system.path(&name), &self.before, 0o644)
                        .map_err(|cause| failed("write", &name, cause))?;
                    return Ok(Some(name.into()));
                }
                Err(cause) => return Err(failed("read", &name, cause)),
            }
        }
        Err(failed("write", BACKUP, io::Error::other("there are too many backups: remove old ones")))
    }
}

/// Two commands at once would lose the edit of one. The lock is on the folder, since the file is replaced.
fn lock(system: &System) -> Result<File> {
    let folder = File::open(system.path("/etc")).map_err(|cause| failed("lock", "/etc", cause))?;
    let end = Instant::now() + PATIENCE;
    loop {
        match folder.try_lock() {
            Ok(()) => return Ok(folder),
            Err(TryLockError::WouldBlock) if Instant::now() < end => thread::sleep(Duration::from_millis(20)),
            Err(TryLockError::WouldBlock) => {
                let cause = io::Error::other("another program holds it; try again when that has ended");
                return Err(failed("lock", "/etc", cause));
            }
            Err(TryLockError::Error(cause)) => return Err(failed("lock", "/etc", cause)),
        }
    }
}

fn failed(doing: &'static str, path: impl AsRef<Path>, cause: io::Error) -> Error {
    block_device::Error::File { doing, path: path.as_ref().to_owned(), cause }.into()
}
