//! From an empty disk to a retention volume that is mounted, comes back after a restart, and is proved to work.
//!
//! [`plan`] looks at the machine and lists the [`Step`]s that are missing; it changes nothing. What is done already is no
//! step, so a second run has none. [`carry_out`] looks again, refuses when the machine is not the one that was planned
//! for, and takes the steps one after the other:
//!
//! ```text
//! unmount ─▶ unmap ─▶ map ─▶ make file system ─▶ make folder ─▶ fstab ─▶ reload ─▶ mount ─▶ mark ─▶ read back
//! └─ only of a volume that is mounted by a name ─┘
//!    that may be another disk's tomorrow
//! ```
//!
//! *What is never erased.* A file system is made only on a disk that holds nothing known, on one whose file system a person
//! named by its UUID (`--reformat`), and on one where our own was begun, was not finished and was never mounted. Right
//! before, all rules of [`crate::eligibility`] are looked at once more, and the device is proved to be the disk.
//!
//! *What is kept.* An ext4 that is mounted at the mount point is adopted: whoever mounted it there meant it. One with
//! our label that is not mounted, as after a new installation of the system, is adopted when its marker belongs to it.
//!
//! *A crash anywhere* leaves a ledger, which is written before the first step: the disk, the UUID of the
//! file system, whether it stands, and what fstab called it. By it the next run knows what is ours and goes on. It is
//! removed when the volume has been read back. In between, fstab is either as it was or as it will be.

mod carry_out;
mod ledger;
mod look;
mod place;
mod read_back;
mod refusal;

pub use carry_out::carry_out;
pub(crate) use ledger::begun;
pub use look::plan;
pub use place::BadPlace;
pub use refusal::Refusal;

use crate::fstab::{Edit, PATH};
use crate::marker::FileSystemUuid;
use block_device::ScsiId;
use disk::Bytes;
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// A name of the disk, as [`block_device::Inventory::find`] takes it.
    pub disk: String,
    /// Where the volume is to be mounted.
    pub mount_point: PathBuf,
    /// UUID of the file system that may be erased.
    pub reformat: Option<String>,
    /// Folder of the ledger.
    pub state_folder: PathBuf,
    /// What items write to.
    pub targets: Vec<String>,
}

/// The disk, in words for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChosenDisk {
    /// Kernel name.
    pub name: String,
    /// Its SCSI id.
    pub scsi_id: ScsiId,
    /// Vendor and model.
    pub model: String,
    /// Size in bytes.
    #[serde(rename = "bytes", serialize_with = "bytes")]
    pub size: Bytes,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn bytes<S: serde::Serializer>(size: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(size.0)
}

impl ChosenDisk {
    /// The node by which it is used.
    pub fn device(&self) -> String {
        format!("/dev/mapper/{}", self.scsi_id)
    }
}

/// What is missing until the disk is the retention volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The disk.
    pub disk: ChosenDisk,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// UUID of its file system: that which is kept, or that which will be made.
    pub file_system: FileSystemUuid,
    /// What is missing, in order.
    pub steps: Vec<Step>,
    /// What one should know before.
    pub notes: Vec<String>,
    edit: Edit,
}

impl Plan {
    /// What will be erased: `Some(None)` for a disk that is empty.
    pub fn erases(&self) -> Option<Option<&str>> {
        self.steps.iter().find_map(|step| match step {
            Step::MakeFileSystem { erases, .. } => Some(erases.as_deref()),
            _ => None,
        })
    }

    /// The change of /etc/fstab, as `diff -u` shows it; empty without one.
    pub fn fstab_difference(&self) -> String {
        self.edit.difference()
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "step")]
pub enum Step {
    /// Unmounts a volume that is to be mounted by its WWID.
    Unmount {
        /// By what it is mounted now.
        device: String,
        /// Where.
        place: PathBuf,
    },
    /// Removes a multipath map that has another name.
    Unmap {
        /// Its name.
        map: String,
    },
    /// Makes the multipath map, now and after a restart.
    Map {
        /// Its node.
        device: String,
    },
    /// Makes the ext4.
    MakeFileSystem {
        /// Where.
        device: String,
        /// Its UUID.
        #[serde(serialize_with = "text")]
        uuid: FileSystemUuid,
        /// What is there and will be gone.
        erases: Option<String>,
    },
    /// Makes the mount point.
    MakeFolder {
        /// The folder.
        place: PathBuf,
    },
    /// Edits /etc/fstab.
    EditFstab {
        /// By what name it mounts the volume now.
        moved_from: Option<String>,
    },
    /// Has systemd read /etc/fstab.
    Reload,
    /// Mounts by the entry in /etc/fstab.
    Mount {
        /// The mount point.
        place: PathBuf,
    },
    /// Writes the marker file.
    Mark {
        /// The mount point.
        place: PathBuf,
    },
    /// Proves that the volume is what it should be, and keeps what is written.
    ReadBack {
        /// The mount point.
        place: PathBuf,
    },
}

fn text<S: serde::Serializer>(text: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(text)
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Unmount { device, place } => {
                write!(f, "unmount {}, which is mounted as {device}", place.display())
            }
            Step::Unmap { map } => write!(f, "remove the multipath map {map}"),
            Step::Map { device } => write!(f, "map the disk by its SCSI id: {device}"),
            Step::MakeFileSystem { erases: None, .. } => f.write_str("make an ext4 on the empty disk"),
            Step::MakeFileSystem { erases: Some(erased), .. } => {
                write!(f, "ERASE {erased}, and make an ext4")
            }
            Step::MakeFolder { place } => write!(f, "make the folder {}", place.display()),
            Step::EditFstab { moved_from: None } => write!(f, "add the entry to {PATH}, after a backup"),
            Step::EditFstab { moved_from: Some(from) } => {
                write!(f, "change the entry for {from} in {PATH}, after a backup")
            }
            Step::Reload => f.write_str("have systemd read it: systemctl daemon-reload"),
            Step::Mount { place } => write!(f, "mount {}, by that entry", place.display()),
            Step::Mark { place } => write!(f, "mark it: {}/{}", place.display(), crate::marker::MARKER),
            Step::ReadBack { .. } => {
                f.write_str("read back: device, UUID, marker, and a file past the cache")
            }
        }
    }
}

/// How far [`carry_out`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// The step with this number, from 1, begins.
    Begun(usize, &'a Step),
    /// It is done; with what there is to tell of it.
    Done(usize, &'a Step, Option<String>),
}
