//! The error of the retention volume.

use crate::fstab::Conflict;
use crate::marker::MARKER;
use crate::prepare::Refusal;
use crate::{FileSystemUuid, VolumeId};
use disk::Class;
use std::path::PathBuf;

/// Result of an operation on the retention volume.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong with the retention volume.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing is mounted at the folder.
    #[error(
        "nothing is mounted at {}, so journals would fill the disk below it: mount the retention volume there, \
         or allow a plain folder in the configuration (trial_folder = true)",
        path.display()
    )]
    NotMounted {
        /// The folder.
        path: PathBuf,
    },
    /// What is mounted was never made a retention volume.
    #[error(
        "what is mounted at {0} was never prepared as a retention volume: run mtctl retention prepare DISK \
         --mount-point {0}, which keeps what is on it",
        path.display()
    )]
    NotPrepared {
        /// The folder.
        path: PathBuf,
    },
    /// The marker was written into another file system.
    #[error(
        "the file system at {} is not the one with the UUID {expected} that its marker was written into, so its files \
         are a copy: mount the retention volume itself there",
        path.display()
    )]
    OtherFileSystem {
        /// The folder.
        path: PathBuf,
        /// UUID of the file system that the marker was written into.
        expected: FileSystemUuid,
    },
    /// The volume has no marker, but it should have one.
    #[error(
        "the volume at {} has no marker file {MARKER}, but the one used so far had the id {expected}: mount that \
         one, or start afresh with a resync",
        path.display()
    )]
    NoMarker {
        /// The folder.
        path: PathBuf,
        /// Id of the volume used so far.
        expected: VolumeId,
    },
    /// Another volume is there.
    #[error(
        "the volume at {} has the id {found}, but the one used so far had {expected}: mount that one, or start \
         afresh with a resync",
        path.display()
    )]
    OtherVolume {
        /// The folder.
        path: PathBuf,
        /// Id of the volume used so far.
        expected: VolumeId,
        /// Id of the volume that is there.
        found: VolumeId,
    },
    /// The marker cannot be understood.
    #[error(
        "{}/{MARKER} is no marker of a retention volume ({what}): restore it, or remove it if the volume is new",
        path.display()
    )]
    BadMarker {
        /// The folder.
        path: PathBuf,
        /// What was found.
        what: &'static str,
    },
    /// The name of an item cannot be the name of its folder.
    #[error(
        "{name:?} cannot be the name of an item: use up to 64 letters, digits, '.', '_' and '-', and begin with a \
         letter or digit"
    )]
    BadItemName {
        /// The name.
        name: String,
    },
    /// The device that is to be mounted holds another file system.
    #[error(
        "{} holds {}, not the file system with the UUID {expected} of the retention volume, so it was left alone: attach \
         the right disk, or correct /etc/fstab",
        device.display(),
        found.map_or("no ext4".to_owned(), |found| format!("one with the UUID {found}"))
    )]
    OtherDevice {
        /// Its node.
        device: PathBuf,
        /// UUID of the file system that is wanted.
        expected: FileSystemUuid,
        /// UUID of the ext4 that is there.
        found: Option<FileSystemUuid>,
    },
    /// The file system is damaged beyond what is repaired without asking.
    #[error(
        "the file system on {} is damaged ({said}), so it was not mounted: repair it by e2fsck -f {}, then mount {}",
        device.display(), device.display(), path.display()
    )]
    NeedsRepair {
        /// Its node.
        device: PathBuf,
        /// Where it belongs.
        path: PathBuf,
        /// What e2fsck said.
        said: String,
    },
    /// A step of mounting it again failed, which may pass.
    #[error("cannot {doing} {}: {said}", object.display())]
    NotRestored {
        /// read, unmount, check, mount
        doing: &'static str,
        /// The device or the folder.
        object: PathBuf,
        /// What the system or the program said.
        said: String,
    },
    /// A preparation was refused or stopped.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// fstab is another one than the edit was planned for.
    #[error("/etc/fstab was changed by someone else in this moment, so it was left alone: run this again")]
    FstabChanged,
    /// fstab holds what cannot be joined with the entry of the retention volume.
    #[error(transparent)]
    Fstab(#[from] Conflict),
    /// Something on this machine failed.
    #[error(transparent)]
    Machine(#[from] block_device::Error),
    /// A file or folder failed.
    #[error(transparent)]
    Storage(#[from] disk::Error),
}

impl Error {
    /// What a caller should do about it.
    pub fn class(&self) -> Class {
        match self {
            // The volume may only be late, or away for a while.
            Error::NotMounted { .. }
            | Error::NotPrepared { .. }
            | Error::NoMarker { .. }
            | Error::OtherDevice { .. }
            | Error::NotRestored { .. }
            | Error::FstabChanged => Class::Retry,
            Error::OtherVolume { .. }
            | Error::OtherFileSystem { .. }
            | Error::NeedsRepair { .. }
            | Error::BadItemName { .. }
            | Error::Refused(_)
            | Error::Fstab(_) => Class::Operator,
            Error::BadMarker { .. } => Class::Corrupt,
            Error::Machine(error) => error.class(),
            Error::Storage(error) => error.class(),
        }
    }
}
