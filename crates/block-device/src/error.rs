//! What can be wrong with the machine's disks and the programs that tend them.

use crate::inventory::{DuplicateKind, Duplicates, Use};
use disk::Class;
use std::io;
use std::path::{Path, PathBuf};

/// Result of asking the machine for something.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong with the machine. Each message names the object and what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the machine could not be read or written.
    #[error("cannot {doing} {}: {cause}", path.display())]
    File {
        /// read, write, remove, …
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's word.
        cause: io::Error,
    },
    /// A program is not installed.
    #[error(
        "the program {program} is not installed; install it with: apt-get install {}",
        package_of(program)
    )]
    NoProgram {
        /// Its name.
        program: String,
    },
    /// A program could not be started or waited for.
    #[error("cannot run {command}: {cause}")]
    ProgramFailed {
        /// The command as one would type it.
        command: String,
        /// The system's word.
        cause: io::Error,
    },
    /// A program did not end in time.
    #[error(
        "{command} did not end within {seconds} s and was stopped; a disk that does not answer can be the cause, or \
         udev that does not run: see dmesg, then try again"
    )]
    ProgramHangs {
        /// The command as one would type it.
        command: String,
        /// What it was given.
        seconds: u64,
    },
    /// A program reported a failure.
    #[error("{command} failed: {said}")]
    ProgramRefused {
        /// The command as one would type it.
        command: String,
        /// What it said.
        said: String,
    },
    /// A program printed something that cannot be understood.
    #[error("{command} printed what cannot be understood ({what}); check its version, then try again")]
    ProgramGarbled {
        /// The command as one would type it.
        command: String,
        /// What was expected and what was found.
        what: String,
    },
    /// No disk has this name or id.
    #[error("there is no disk {disk:?} in this machine; mtctl disks lists those that are there")]
    NoDisk {
        /// What was asked for.
        disk: String,
    },
    /// The name stands for something that is no whole disk.
    #[error("{disk} is not a disk: {what}; mtctl disks lists the disks")]
    NotADisk {
        /// What was asked for.
        disk: String,
        /// What it is instead.
        what: String,
    },
    /// Several disks have one SCSI id, so it is not known which is meant, or a map joins different disks.
    #[error("{duplicates}")]
    Ambiguous {
        /// Which, and what they are.
        duplicates: Box<Duplicates>,
    },
    /// multipath is to claim the disk, and has not done so.
    #[error(
        "the disk {id} has no multipath map yet, though multipath is told to make one; mtctl check names what keeps it \
         from that"
    )]
    NotMapped {
        /// Its SCSI id.
        id: String,
    },
    /// The disk has no SCSI id, so there is no way to be sure of it.
    #[error(
        "the disk {disk} has no SCSI id, so it cannot be told from others after a restart: shut this machine down, \
         set disk.EnableUUID = TRUE in its configuration parameters, and start it"
    )]
    NoScsiId {
        /// Kernel name.
        disk: String,
    },
    /// The name may stand for another disk after a restart.
    #[error(
        "{disk} is a name that can stand for another disk after a restart: name the disk by its SCSI id, {stable}"
    )]
    UnstableName {
        /// The name that was given.
        disk: String,
        /// The name to give instead.
        stable: String,
    },
    /// The device that was opened has another SCSI id than the one wanted.
    #[error(
        "{disk} has the SCSI id {found}, not {expected}: another disk stands in its place; nothing was written"
    )]
    OtherDisk {
        /// What was opened.
        disk: String,
        /// The id that was asked for.
        expected: String,
        /// The id that it has, or "none".
        found: String,
    },
    /// The disk is used by something else.
    #[error("the disk {disk} is in use: {}", uses.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    InUse {
        /// Kernel or map name.
        disk: String,
        /// By what, each with what to do.
        uses: Vec<Use>,
    },
    /// What is stored on a disk contradicts itself.
    #[error("the {what} on {disk} cannot be used: {problem}")]
    Damaged {
        /// Kernel or map name.
        disk: String,
        /// partition table, …
        what: &'static str,
        /// What was found.
        problem: String,
    },
    /// Something did not happen in time, though the program that was to do it reported success.
    #[error("{what} did not happen within {seconds} s; {advice}")]
    Waited {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
        /// What to do next.
        advice: &'static str,
    },
    /// A name or uuid that device-mapper cannot take, or a map that cannot be.
    #[error("device-mapper cannot make the map {name:?}: {problem}")]
    BadName {
        /// The name or uuid.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A map of this name is there, and it is none that may be replaced.
    #[error("a map with the name {name} is there and does not belong to this disk; see dmsetup info {name}")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// multipath was to claim the disk that this machine runs from.
    #[error("{id} is a disk that this machine runs from; multipath must not claim it: name another disk")]
    SystemDisk {
        /// Its SCSI id.
        id: String,
    },
    /// A file that this program writes has been changed by someone else.
    #[error(
        "{} was changed by hand, so it is neither believed nor overwritten; move it elsewhere, run multipathd \
         reconfigure, and map the disks again with mtctl disks --map",
        path.display()
    )]
    ChangedByHand {
        /// The file.
        path: PathBuf,
    },
    /// multipathd does not run, or does not do what it is told.
    #[error(
        "multipathd did not take the new configuration ({}); start it with systemctl start multipathd \
         (multipath-tools on Ubuntu 16.04), then try again",
        if said.is_empty() { "it does not answer" } else { said }
    )]
    NoMultipathd {
        /// What it said.
        said: String,
    },
    /// Opening or locking the device failed.
    #[error(transparent)]
    Storage(#[from] disk::Error),
}

impl Error {
    pub(crate) fn file(doing: &'static str, path: impl AsRef<Path>, cause: io::Error) -> Error {
        Error::File { doing, path: path.as_ref().to_owned(), cause }
    }

    /// What a caller should do about it.
    pub fn class(&self) -> Class {
        match self {
            // A disk may only be late, or away for a while; so may a program's answer.
            Error::NoDisk { .. }
            | Error::NotMapped { .. }
            | Error::ProgramHangs { .. }
            | Error::Waited { .. } => Class::Retry,
            // multipathd may join them yet.
            Error::Ambiguous { duplicates } if duplicates.kind == DuplicateKind::UnjoinedPaths => {
                Class::Retry
            }
            Error::Damaged { .. } => Class::Corrupt,
            Error::File { cause, .. } if cause.kind() == io::ErrorKind::StorageFull => Class::Full,
            Error::Storage(error) => error.class(),
            _ => Class::Operator,
        }
    }
}

/// The Debian package that brings a program.
fn package_of(program: &str) -> &str {
    match program {
        "multipath" | "multipathd" => "multipath-tools",
        "pvs" | "lvmconfig" => "lvm2",
        "mkfs.ext4" | "mke2fs" => "e2fsprogs",
        "udevadm" => "udev",
        other => other,
    }
}
