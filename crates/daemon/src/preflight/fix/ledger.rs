//! The ledger of changes: written before each one.

use super::{Change, FixError, change::make_folder};
use crate::preflight::Machine;
use block_device::durable_file;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::Duration;

/// Its name in the state folder.
pub(super) const FILE: &str = "fixes.json";

const FORMAT: u32 = 1;

/// How far a change got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Stage {
    /// It may have been made, or not.
    Begun,
    /// It was made.
    Done,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) check: String,
    /// Seconds since the epoch.
    pub(super) time: u64,
    pub(super) stage: Stage,
    pub(super) change: Change,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    format: u32,
    fixes: Vec<Entry>,
}

/// The ledger, held by this program alone.
#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    content: Content,
    /// The state folder, locked.
    _lock: File,
}

impl Ledger {
    /// Locks and reads it.
    ///
    /// It lies in the state folder, which is made first when it is missing. That is the one change that is made before
    /// it is written down: a crash between the two leaves an empty folder that only root can enter.
    pub(super) fn open(machine: &Machine) -> Result<Ledger, FixError> {
        let state = machine.state_folder();
        let folder = machine.system().path(&state);
        let path = folder.join(FILE);
        let failed = |doing| {
            let path = path.display().to_string();
            move |cause: io::Error| FixError::Ledger { doing, path, cause }
        };
        let was_missing = !folder.exists();
        make_folder(&folder, 0o700).map_err(failed("write"))?;
        let lock = File::open(&folder).map_err(failed("lock"))?;
        match locked(&lock) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(FixError::Busy),
            Err(TryLockError::Error(cause)) => return Err(failed("lock")(cause)),
        }
        let content = match fs::read(&path) {
            Ok(bytes) => parse(&bytes).map_err(failed("read"))?,
            Err(cause) if cause.kind() == ErrorKind::NotFound => {
                Content { format: FORMAT, fixes: Vec::new() }
            }
            Err(cause) => return Err(failed("read")(cause)),
        };
        let mut ledger = Ledger { path, content, _lock: lock };
        if was_missing {
            let change = Change::MakeFolder { path: state.display().to_string(), mode: 0o700 };
            let (check, time) = ("state-folders".to_owned(), machine.options.now);
            ledger.push(Entry { check, time, stage: Stage::Done, change })?;
        }
        Ok(ledger)
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.content.fixes
    }

    /// Whether this very folder is in the ledger already: that of the ledger is, as soon as it is opened.
    pub(super) fn has_made(&self, change: &Change) -> bool {
        let is_folder = matches!(change, Change::MakeFolder { .. });
        is_folder
            && self.content.fixes.iter().any(|entry| entry.stage == Stage::Done && entry.change == *change)
    }

    /// Writes down a change that is about to be made. One that is there already, from a try that failed, stays.
    pub(super) fn push(&mut self, entry: Entry) -> Result<(), FixError> {
        self.content.fixes.retain(|other| other.change != entry.change || other.stage == Stage::Done);
        self.content.fixes.push(entry);
        self.save()
    }

    /// The last change was made.
    pub(super) fn done(&mut self) -> Result<(), FixError> {
        if let Some(last) = self.content.fixes.last_mut() {
            last.stage = Stage::Done;
        }
        self.save()
    }

    /// The last change was taken back.
    pub(super) fn pop(&mut self) -> Result<(), FixError> {
        self.content.fixes.pop();
        self.save()
    }

    /// A ledger without entries is no file.
    fn save(&self) -> Result<(), FixError> {
        let write = || {
            if self.content.fixes.is_empty() {
                return durable_file::remove(&self.path);
            }
            durable_file::replace(&self.path, &serde_json::to_vec_pretty(&self.content)?, 0o600)
        };
        let path = self.path.display().to_string();
        write().map_err(|cause| FixError::Ledger { doing: "write", path, cause })
    }
}

/// Takes the lock. A program that is just being started has a copy of the last holder's descriptor for a moment.
fn locked(folder: &File) -> Result<(), TryLockError> {
    const TRIES: u32 = 20;
    for _ in 1..TRIES {
        match folder.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(50)),
            outcome => return outcome,
        }
    }
    folder.try_lock()
}

fn parse(bytes: &[u8]) -> io::Result<Content> {
    let content: Content = serde_json::from_slice(bytes)?;
    match content.format {
        FORMAT => Ok(content),
        other => Err(io::Error::other(format!("its format {other} is unknown to this version"))),
    }
}
