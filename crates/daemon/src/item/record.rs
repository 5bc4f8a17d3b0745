//! What the daemon remembers of an item outside its journal, as a small file in the state folder.

use block_device::durable_file;
use control_api::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The record of one item.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// Id of the retention volume that its journal was made on: from then on a missing journal is an error, and
    /// none is made in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) volume: Option<String>,
    /// UUID of the file system of that volume; only in what is common to all items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) file_system: Option<String>,
    /// Id of the run of the kernel in which the disk of that volume was away while it was mounted; `None` when it has been
    /// mounted anew since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) missed: Option<String>,
    /// Identity (SCSI id, or UUID of the VMDK) of each disk that has one, by its id in the change stream: the journal
    /// is of these disks, and must not be put back onto others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) disks: BTreeMap<String, String>,
    /// Set when a failover was committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) committed: Option<Committed>,
}

/// A failover without a way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Committed {
    /// The recovery point on the disks.
    pub(super) point: u64,
    /// When it was committed.
    pub(super) time: Time,
}

/// Where records are kept.
#[derive(Clone, Debug)]
pub(super) struct RecordFile {
    path: PathBuf,
}

impl RecordFile {
    pub(super) fn of_item(state_folder: &Path, item: &str) -> RecordFile {
        RecordFile { path: state_folder.join("items").join(format!("{item}.json")) }
    }

    /// What is common to all items: the retention volume.
    pub(super) fn of_volume(state_folder: &Path) -> RecordFile {
        RecordFile { path: state_folder.join("retention-volume.json") }
    }

    /// The record; an empty one when there is no file.
    pub(super) fn load(&self) -> Result<Record, RecordError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Record::default()),
            Err(cause) => return Err(self.error("read", cause)),
        };
        serde_json::from_slice(&bytes).map_err(|error| self.error("read", error.into()))
    }

    /// Replaces the record at once; durable when this returns.
    pub(super) fn save(&self, record: &Record) -> Result<(), RecordError> {
        self.try_save(record).map_err(|cause| self.error("write", cause))
    }

    /// Removes the record; durable when this returns. One that is not there is as good.
    pub(super) fn remove(&self) -> Result<(), RecordError> {
        durable_file::remove(&self.path).map_err(|cause| self.error("remove", cause))
    }

    fn try_save(&self, record: &Record) -> io::Result<()> {
        fs::create_dir_all(self.path.parent().unwrap_or(Path::new("/")))?;
        durable_file::replace(&self.path, &serde_json::to_vec(record)?, 0o644)
    }

    fn error(&self, doing: &'static str, cause: io::Error) -> RecordError {
        RecordError { doing, path: self.path.clone(), cause }
    }
}

/// A record that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} the item's record {}: {cause}; check the state folder", path.display())]
pub(crate) struct RecordError {
    doing: &'static str,
    path: PathBuf,
    cause: io::Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_and_damage_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let file = RecordFile::of_item(folder.path(), "web01");
        assert_eq!(file.load().unwrap(), Record::default());
        let record = Record {
            volume: Some("ab-12".into()),
            file_system: Some("01234567-89ab-cdef-0123-456789abcdef".into()),
            missed: Some("0a".into()),
            disks: [("disk0".into(), "36000c29a".into())].into(),
            committed: Some(Committed { point: 7, time: 9 }),
        };
        file.save(&record).unwrap();
        assert_eq!(file.load().unwrap(), record);
        fs::write(&file.path, b"{\"volume\":1}").unwrap();
        let error = file.load().unwrap_err().to_string();
        assert!(error.contains("web01.json") && error.contains("check the state folder"), "{error}");
    }
}
