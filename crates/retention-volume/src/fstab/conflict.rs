//! What in fstab cannot be joined with our entry.

use std::path::PathBuf;

/// Why fstab was not edited. Each says which line to look at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Several entries mount something there.
    #[error(
        "/etc/fstab has several entries for {} (lines {}): leave the one that is right, or none, and run this again",
        place.display(),
        lines.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    Several {
        /// The mount point.
        place: PathBuf,
        /// Their lines.
        lines: Vec<usize>,
    },
    /// The entry for the mount point is that of something else.
    #[error(
        "line {line} of /etc/fstab mounts {device} at {}, which is not this disk: remove the line if that is wanted no \
         longer, or give another --mount-point",
        place.display()
    )]
    OtherDevice {
        /// Its line.
        line: usize,
        /// What it mounts.
        device: String,
        /// The mount point.
        place: PathBuf,
    },
    /// The entry for the mount point is for another kind of file system.
    #[error(
        "line {line} of /etc/fstab mounts a file system of type {kind:?} at {}, and the retention volume is ext4: remove \
         the line if that is wanted no longer, or give another --mount-point",
        place.display()
    )]
    OtherKind {
        /// Its line.
        line: usize,
        /// Its type.
        kind: String,
        /// The mount point.
        place: PathBuf,
    },
    /// The disk is mounted somewhere else.
    #[error(
        "line {line} of /etc/fstab uses this disk ({device}) for {}: remove the line if that is wanted no longer, or name \
         another disk",
        place.display()
    )]
    UsedElsewhere {
        /// Its line.
        line: usize,
        /// What it calls the disk.
        device: String,
        /// Where it mounts it; `none` for swap.
        place: PathBuf,
    },
    /// Something is mounted within the volume.
    #[error(
        "line {line} of /etc/fstab mounts {device} at {}, within the retention volume, which must be free of other mounts: \
         mount it elsewhere, or give another --mount-point",
        place.display()
    )]
    Below {
        /// Its line.
        line: usize,
        /// What it mounts.
        device: String,
        /// Where.
        place: PathBuf,
    },
}
