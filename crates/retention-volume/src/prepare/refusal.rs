//! Why a preparation was refused or stopped.

use super::BadPlace;
use crate::eligibility::Ineligible;
use crate::marker::FileSystemUuid;
use block_device::multipath::Conflict;
use std::path::PathBuf;

/// What a person has to decide or mend. What was done up to then stays, and the next run goes on from there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The folder cannot be the mount point.
    #[error("{} cannot be the mount point: {problem}", place.display())]
    MountPoint {
        /// The folder.
        place: PathBuf,
        /// Why.
        problem: BadPlace,
    },
    /// Something else is mounted there.
    #[error(
        "{device} ({kind}) is mounted at {}, which is not this disk: umount it, or give another --mount-point",
        place.display()
    )]
    Taken {
        /// The mount point.
        place: PathBuf,
        /// What is mounted.
        device: String,
        /// Its file system.
        kind: String,
    },
    /// It is mounted there, but this program does not see it.
    #[error(
        "the disk is mounted at {} on this machine, but not as this program sees it: run mtctl outside of containers and of \
         services with mounts of their own",
        place.display()
    )]
    OtherNamespace {
        /// The mount point.
        place: PathBuf,
    },
    /// Several file systems are mounted there, one over the other.
    #[error("{count} file systems are mounted at {0}, one over the other: umount {0} until one is left", place.display())]
    Stacked {
        /// The mount point.
        place: PathBuf,
        /// How many.
        count: usize,
    },
    /// The disk breaks rules.
    #[error(
        "the disk {disk} cannot be the retention volume: {}",
        broken.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    )]
    Ineligible {
        /// The disk.
        disk: String,
        /// Which rules.
        broken: Vec<Ineligible>,
    },
    /// The file system to erase is in use as the retention volume.
    #[error(
        "the file system {uuid} is mounted as the retention volume at {0}: to erase it with all recovery points on it, \
         stop the daemon (systemctl stop master-target), umount {0}, and run this again",
        place.display()
    )]
    ReformatMounted {
        /// Its UUID.
        uuid: String,
        /// The mount point.
        place: PathBuf,
    },
    /// It looks like a retention volume, and has no marker.
    #[error(
        "{device} holds an ext4 with the label of a retention volume and no marker, UUID {uuid}: to keep it, mount it at {} \
         and run this again; to erase it, give --reformat {uuid}",
        place.display()
    )]
    Unmarked {
        /// Its node.
        device: String,
        /// Its UUID.
        uuid: FileSystemUuid,
        /// The mount point.
        place: PathBuf,
    },
    /// The kernel stopped the file system.
    #[error(
        "the file system at {0} can only be read since an error (see dmesg): stop the daemon, umount {0}, repair it with \
         e2fsck -f {device}, and run this again",
        place.display()
    )]
    StoppedByError {
        /// The mount point.
        place: PathBuf,
        /// Its node.
        device: String,
    },
    /// Programs have files open on it.
    #[error(
        "{} is in use, so it cannot be mounted by its right name: stop the daemon with systemctl stop master-target, and \
         run this again ({said})",
        place.display()
    )]
    Busy {
        /// The mount point.
        place: PathBuf,
        /// What umount said.
        said: String,
    },
    /// The map has another name than the disk's id.
    #[error(
        "the multipath map of {id} gets the name {name}, not the SCSI id: {}; then run this again",
        match &conflicts[..] {
            [] => "find the setting that names it, with multipath -t".to_owned(),
            conflicts => conflicts.iter().map(|one| format!("in {} line {}: {}", one.file, one.line, one.advice)).collect::<Vec<_>>().join("; "),
        }
    )]
    Alias {
        /// The SCSI id.
        id: String,
        /// The name.
        name: String,
        /// Settings that cause it.
        conflicts: Vec<Conflict>,
    },
    /// Another disk stands behind the name.
    #[error(
        "{device} is not the disk {id} any more: nothing was erased; see mtctl disks, and run this again"
    )]
    OtherDevice {
        /// The node.
        device: String,
        /// The SCSI id.
        id: String,
    },
    /// mkfs.ext4 reported success, and what is there is something else.
    #[error(
        "mkfs.ext4 reported success, but {device} holds {found} and not the ext4 {uuid}: see dmesg, and run this again"
    )]
    NotMade {
        /// The node.
        device: String,
        /// The UUID that was asked for.
        uuid: FileSystemUuid,
        /// What is there.
        found: String,
    },
    /// The mount succeeded, and what is there is something else.
    #[error(
        "{} does not show {device} ({found}): see systemctl status and dmesg, and run this again",
        place.display()
    )]
    NotMounted {
        /// The mount point.
        place: PathBuf,
        /// What should be mounted.
        device: String,
        /// What is.
        found: String,
    },
    /// What was written comes back otherwise.
    #[error(
        "a test file on {} came back with other bytes than were written: do not use this disk; see dmesg",
        place.display()
    )]
    ReadsOtherwise {
        /// The mount point.
        place: PathBuf,
    },
    /// The machine is not as it was when the plan was shown.
    #[error("the machine has changed since the steps were shown, so nothing was done: run this again")]
    Changed,
    /// Another program prepares.
    #[error(
        "another mtctl retention prepare or mtctl check --fix is under way: wait for it, and run this again"
    )]
    Running,
}
