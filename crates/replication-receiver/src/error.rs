//! The error of the receiver.

use disk::Class;

/// Result of the receiver's operations.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the receiver could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A target disk failed.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// The disks handed in are not those of the item.
    #[error(
        "item {item}: disk {disk} has {found} bytes where {wanted} are needed; give it a disk of that size"
    )]
    WrongSize {
        /// The item.
        item: String,
        /// The disk's id.
        disk: String,
        /// Its size in bytes.
        found: u64,
        /// The size its source has, in bytes.
        wanted: u64,
    },
    /// The item has another number of disks.
    #[error(
        "item {item} has {wanted} disks, but {found} were opened; name each of them in the configuration"
    )]
    WrongCount {
        /// The item.
        item: String,
        /// How many were handed in.
        found: usize,
        /// How many the item has.
        wanted: usize,
    },
    /// The point does not exist or is no longer kept.
    #[error("item {item} has no recovery point {point}; `mtctl points {item}` lists those it has")]
    NoSuchPoint {
        /// The item.
        item: String,
        /// The number asked for.
        point: u64,
    },
}

impl Error {
    /// Whether it was the journal that failed.
    pub fn is_of_journal(&self) -> bool {
        matches!(self, Error::Journal(_))
    }

    /// What the caller should do about it.
    pub fn class(&self) -> Class {
        match self {
            Error::Disk(error) => error.class(),
            Error::Journal(error) => error.class(),
            Error::WrongSize { .. } | Error::WrongCount { .. } | Error::NoSuchPoint { .. } => Class::Operator,
        }
    }
}
