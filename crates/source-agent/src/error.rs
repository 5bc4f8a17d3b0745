//! What can go wrong in keeping track of changes.

use disk::Class;

/// Result of everything in the library.
pub type Result<T> = std::result::Result<T, Error>;

/// An operation on the source's own state that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The state folder or a disk failed.
    #[error(transparent)]
    Storage(#[from] disk::Error),
    /// A frame that may not be sent.
    #[error("a change cannot be recorded: {0}")]
    Frame(#[from] change_stream::Error),
    /// A bookmark was asked for while the target is not level.
    #[error(
        "bookmark {name:?} is not set: {why}, so no recovery point could bear it; wait until `mt-source status` \
         says level"
    )]
    NotLevel {
        /// The bookmark.
        name: String,
        /// What the replication is doing instead.
        why: &'static str,
    },
    /// More disks than a change stream can name.
    #[error("{count} disks are configured, an item has 1 to {limit}")]
    DiskCount {
        /// Configured.
        count: usize,
        /// The most there may be.
        limit: usize,
    },
}

impl Error {
    /// What a caller should do about it.
    pub fn class(&self) -> Class {
        match self {
            Error::Storage(error) => error.class(),
            Error::NotLevel { .. } => Class::Retry,
            Error::Frame(_) | Error::DiskCount { .. } => Class::Operator,
        }
    }
}
