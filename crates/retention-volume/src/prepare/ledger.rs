//! What a run that was cut off leaves for the next: `retention-prepare.json` in the state folder.
//!
//! It is written before the first step and removed after the last, and durable each time. While it is there, its disk
//! and file system are known to be ours.

use super::Refusal;
use crate::error::{Error, Result};
use crate::marker::FileSystemUuid;
use block_device::{ScsiId, System, durable_file};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

const FILE: &str = "retention-prepare.json";
const FORMAT: u32 = 1;

/// How often the lock is tried, and how long after each try.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(50);

/// What is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    format: u32,
    /// SCSI id of the disk.
    pub(super) disk: String,
    pub(super) mount_point: PathBuf,
    /// UUID of the file system, made or to be made.
    file_system: String,
    /// Whether that file system stands; while it does not, it may be made again.
    pub(super) made: bool,
    /// What fstab called the disk, when that name may be lost on the way.
    pub(super) fstab_device: Option<String>,
}

impl Record {
    pub(super) fn new(
        disk: &ScsiId,
        mount_point: &Path,
        file_system: FileSystemUuid,
        made: bool,
        fstab_device: Option<&str>,
    ) -> Record {
        Record {
            format: FORMAT,
            disk: disk.to_string(),
            mount_point: mount_point.to_owned(),
            file_system: file_system.to_string(),
            made,
            fstab_device: fstab_device.map(str::to_owned),
        }
    }

    pub(super) fn file_system(&self) -> Option<FileSystemUuid> {
        FileSystemUuid::parse(&self.file_system)
    }
}

/// What the last run left, if it was cut off.
pub(super) fn read(system: &System, state_folder: &Path) -> Result<Option<Record>> {
    let path = state_folder.join(FILE);
    let bytes = match system.bytes(&path) {
        Ok(bytes) => bytes,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(failed("read", &path, cause)),
    };
    let damaged = |why: String| {
        let advice = format!("{why}; remove it if no preparation of a retention volume was cut off");
        failed("read", &path, io::Error::other(advice))
    };
    let record: Record = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    match (record.format, record.file_system()) {
        (FORMAT, Some(_)) => Ok(Some(record)),
        (FORMAT, None) => Err(damaged("it holds no UUID".to_owned())),
        (other, _) => Err(damaged(format!("its format {other} is unknown to this version"))),
    }
}

/// UUID of the file system that a run which was cut off made on this disk, or was to make.
pub(crate) fn begun(system: &System, state_folder: &Path, disk: &ScsiId) -> Option<FileSystemUuid> {
    let record = read(system, state_folder).ok().flatten()?;
    record.file_system().filter(|_| record.disk == disk.as_str())
}

/// The ledger, held by this program alone.
pub(super) struct Ledger {
    path: PathBuf,
    /// The state folder, locked: `mtctl check --fix` takes the same lock.
    _lock: File,
}

impl Ledger {
    /// Locks the state folder; it is made when it is missing.
    pub(super) fn open(system: &System, state_folder: &Path) -> Result<Ledger> {
        let folder = system.path(state_folder);
        let above = folder.parent().unwrap_or(Path::new("/"));
        let made = DirBuilder::new().recursive(true).mode(0o755).create(above);
        let made = made.and_then(|()| match DirBuilder::new().mode(0o700).create(&folder) {
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            outcome => outcome,
        });
        made.map_err(|cause| failed("make", state_folder, cause))?;
        let lock = File::open(&folder).map_err(|cause| failed("lock", state_folder, cause))?;
        match locked(&lock) {
            Ok(()) => Ok(Ledger { path: folder.join(FILE), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Refusal::Running.into()),
            Err(TryLockError::Error(cause)) => Err(failed("lock", state_folder, cause)),
        }
    }

    /// Writes down what is under way, whatever was before.
    pub(super) fn write(&self, record: &Record) -> Result<()> {
        let write = || durable_file::replace(&self.path, &serde_json::to_vec_pretty(record)?, 0o600);
        write().map_err(|cause| failed("write", &self.path, cause))
    }

    /// Nothing is under way any more.
    pub(super) fn close(self) -> Result<()> {
        match fs::exists(&self.path) {
            Ok(false) => Ok(()),
            _ => durable_file::remove(&self.path).map_err(|cause| failed("remove", &self.path, cause)),
        }
    }
}

/// Takes the lock. A program that is just being started has a copy of the last holder's descriptor for a moment.
fn locked(folder: &File) -> std::result::Result<(), TryLockError> {
    for _ in 1..TRIES {
        match folder.try_lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(PAUSE),
            outcome => return outcome,
        }
    }
    folder.try_lock()
}

fn failed(doing: &'static str, path: &Path, cause: io::Error) -> Error {
    block_device::Error::File { doing, path: path.to_owned(), cause }.into()
}
