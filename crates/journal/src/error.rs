//! The error of everything the journal does.

use crate::BatchNumber;
use disk::{Cause, Class, Operation};

/// Result of a journal operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a journal operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A folder, file or disk failed.
    #[error("the journal {journal} failed while {doing}: {source}")]
    Storage {
        /// The journal's folder.
        journal: String,
        /// What was being done.
        doing: &'static str,
        /// The failure underneath.
        #[source]
        source: disk::Error,
    },
    /// Stored bytes are damaged.
    #[error(
        "the journal segment {segment} is damaged at byte {offset}: {what}; check the retention volume, then resync the item to start a new journal"
    )]
    Corrupt {
        /// The segment's file.
        segment: String,
        /// Where in the file.
        offset: u64,
        /// What was expected and what was found.
        what: String,
    },
    /// An earlier write or sync failed.
    #[error(
        "the journal {journal} accepts nothing more because {why}; open it again, which runs crash recovery"
    )]
    Fenced {
        /// The journal's folder.
        journal: String,
        /// What had failed.
        why: String,
    },
    /// The folder holds no journal.
    #[error("the folder {folder} holds no journal; create one, or point to the item's own folder")]
    Missing {
        /// The folder.
        folder: String,
    },
    /// The folder holds a journal already.
    #[error("the folder {folder} holds a journal already; open it, or use an empty folder")]
    Exists {
        /// The folder.
        folder: String,
    },
    /// The journal belongs to another item, or its disks have changed.
    #[error(
        "the journal segment {segment} belongs to {found}, not to {expected}; resync the item to start a new journal"
    )]
    Identity {
        /// The segment's file.
        segment: String,
        /// What the caller expects.
        expected: String,
        /// What the segment says.
        found: String,
    },
    /// A segment was written by a newer version.
    #[error(
        "the journal segment {segment} has format version {version}, this program knows version {known}; install the newer version"
    )]
    Version {
        /// The segment's file.
        segment: String,
        /// What it says.
        version: u32,
        /// What this program knows.
        known: u32,
    },
    /// The batch is not a recovery point.
    #[error("batch {batch} of {journal} is not a recovery point; choose one of the points that are listed")]
    NotAPoint {
        /// The journal's folder.
        journal: String,
        /// The batch asked for.
        batch: BatchNumber,
    },
    /// The point is no longer, or not yet, reachable.
    #[error("{journal} does not reach back to batch {batch}, only to batch {oldest}; choose a newer point")]
    OutOfReach {
        /// The journal's folder.
        journal: String,
        /// The batch asked for.
        batch: BatchNumber,
        /// The oldest boundary that can be reached.
        oldest: BatchNumber,
    },
    /// The caller handed in what a journal cannot hold.
    #[error("cannot journal a batch of {journal}: {what}")]
    Invalid {
        /// The journal's folder.
        journal: String,
        /// Which rule is broken.
        what: String,
    },
}

impl Error {
    /// What a caller should do about it.
    pub fn class(&self) -> Class {
        match self {
            Error::Storage { source, .. } => source.class(),
            Error::Corrupt { .. } => Class::Corrupt,
            Error::Fenced { .. }
            | Error::Missing { .. }
            | Error::Exists { .. }
            | Error::Identity { .. }
            | Error::Version { .. }
            | Error::NotAPoint { .. }
            | Error::OutOfReach { .. }
            | Error::Invalid { .. } => Class::Operator,
        }
    }

    /// The same as a disk's error, for a view that failed to read.
    pub(crate) fn into_disk(self, operation: Operation, object: &str, range: disk::ByteRange) -> disk::Error {
        match self {
            Error::Storage { source, .. } => source,
            Error::Corrupt { .. } => {
                disk::Error::new(operation, object, Some(range), Cause::Corrupt { what: self.to_string() })
            }
            other => {
                disk::Error::new(operation, object, Some(range), Cause::Io(std::io::Error::other(other)))
            }
        }
    }
}
