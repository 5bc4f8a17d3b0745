//! The error of everything that touches storage.

use crate::{ByteRange, Bytes};
use std::fmt;

/// Result of a storage operation.
pub type Result<T> = std::result::Result<T, Error>;

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Opening a disk or file that exists.
    Open,
    /// Creating a file.
    Create,
    /// Reading bytes.
    Read,
    /// Writing bytes or zeroes.
    Write,
    /// Making writes durable.
    Sync,
    /// Changing the size of a file.
    Resize,
    /// Renaming a file.
    Rename,
    /// Removing a file.
    Remove,
    /// Listing a folder or asking for its free space.
    List,
}

/// Why it failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The range leaves the disk.
    #[error("the disk ends at byte {}", size.0)]
    OutOfBounds {
        /// Size of the disk.
        size: Bytes,
    },
    /// It was opened for reading only, or can only be read.
    #[error("it is open for reading only")]
    ReadOnly,
    /// Someone else holds it.
    #[error("it is in use: {holder}; close the other program first")]
    InUse {
        /// Who holds it, or which lock is taken.
        holder: String,
    },
    /// No file or disk has this name.
    #[error("there is no such file or disk")]
    NotFound,
    /// A file of this name exists already.
    #[error("it exists already")]
    AlreadyExists,
    /// The name is not one that a folder can hold.
    #[error("this is not a plain file name in the folder")]
    BadName,
    /// The volume has no room.
    #[error("no space is left on the volume")]
    NoSpace,
    /// An earlier write or sync failed, so what is on the medium is unknown until recovery.
    #[error("an earlier write or sync failed, so its state is unknown until it is opened again")]
    Fenced,
    /// What is stored contradicts itself.
    #[error("{what}")]
    Corrupt {
        /// What was expected and what was found.
        what: String,
    },
    /// The operating system's word.
    #[error(transparent)]
    Io(std::io::Error),
}

/// What a caller should do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Try again later: the volume or disk went away and may come back.
    Retry,
    /// The target no longer follows its source: bring it level again by a resync.
    Resync,
    /// Make room.
    Full,
    /// Stored bytes are damaged: stop and say so.
    Corrupt,
    /// The other end of a connection broke the protocol.
    Peer,
    /// The person in charge has to change something.
    Operator,
}

/// A storage operation that failed: what was done to which object, where, and why.
#[derive(Debug)]
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    operation: Operation,
    object: String,
    range: Option<ByteRange>,
    cause: Cause,
}

impl Error {
    /// An error of `operation` on the disk or file called `object`.
    pub fn new(
        operation: Operation,
        object: impl Into<String>,
        range: Option<ByteRange>,
        cause: Cause,
    ) -> Error {
        Error { inner: Box::new(Inner { operation, object: object.into(), range, cause }) }
    }

    /// The same from the operating system's error, sorted into a cause of its own where there is one.
    pub fn from_io(
        operation: Operation,
        object: impl Into<String>,
        range: Option<ByteRange>,
        error: std::io::Error,
    ) -> Error {
        use std::io::ErrorKind;
        let cause = match error.kind() {
            ErrorKind::NotFound => Cause::NotFound,
            ErrorKind::AlreadyExists => Cause::AlreadyExists,
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Cause::NoSpace,
            ErrorKind::ReadOnlyFilesystem => Cause::ReadOnly,
            _ => Cause::Io(error),
        };
        Error::new(operation, object, range, cause)
    }

    /// What was being done.
    pub fn operation(&self) -> Operation {
        self.inner.operation
    }

    /// The disk or file.
    pub fn object(&self) -> &str {
        &self.inner.object
    }

    /// Where on it, if the operation has a place.
    pub fn range(&self) -> Option<ByteRange> {
        self.inner.range
    }

    /// Why it failed.
    pub fn cause(&self) -> &Cause {
        &self.inner.cause
    }

    /// What a caller should do about it.
    pub fn class(&self) -> Class {
        match &self.inner.cause {
            Cause::NoSpace => Class::Full,
            Cause::Corrupt { .. } => Class::Corrupt,
            Cause::NotFound => Class::Retry,
            Cause::Io(error) if went_away(error) => Class::Retry,
            Cause::Io(_)
            | Cause::Fenced
            | Cause::OutOfBounds { .. }
            | Cause::ReadOnly
            | Cause::InUse { .. }
            | Cause::AlreadyExists
            | Cause::BadName => Class::Operator,
        }
    }
}

/// True when the medium is gone, and may be back later as it was. One that is there and fails is not: nobody but an
/// operator knows when it can be trusted again.
fn went_away(error: &std::io::Error) -> bool {
    // Numbers of Linux, for which the standard library has no kinds.
    const NO_SUCH_DEVICE_OR_ADDRESS: i32 = 6;
    const NO_SUCH_DEVICE: i32 = 19;
    use std::io::ErrorKind::{NotConnected, StaleNetworkFileHandle, TimedOut};
    matches!(error.raw_os_error(), Some(NO_SUCH_DEVICE_OR_ADDRESS | NO_SUCH_DEVICE))
        || matches!(error.kind(), NotConnected | StaleNetworkFileHandle | TimedOut)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { operation, object, range, cause } = &*self.inner;
        write!(f, "cannot {} {object}", operation.verb())?;
        if let Some(range) = range {
            write!(f, " ({range})")?;
        }
        write!(f, ": {cause}")
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.inner.cause {
            Cause::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl Operation {
    fn verb(self) -> &'static str {
        match self {
            Operation::Open => "open",
            Operation::Create => "create",
            Operation::Read => "read",
            Operation::Write => "write",
            Operation::Sync => "sync",
            Operation::Resize => "resize",
            Operation::Rename => "rename",
            Operation::Remove => "remove",
            Operation::List => "list",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_operation_object_place_and_cause() {
        let range = ByteRange::new(Bytes(4096), Bytes(512));
        let error = Error::new(Operation::Write, "web01.vmdk", range, Cause::NoSpace);
        assert_eq!(
            error.to_string(),
            "cannot write web01.vmdk (512 bytes at offset 4096): no space is left on the volume"
        );
        assert_eq!(error.class(), Class::Full);
    }

    #[test]
    fn the_operating_systems_errors_are_sorted() {
        let sorted =
            |kind: std::io::ErrorKind| Error::from_io(Operation::Open, "x", None, kind.into()).class();
        assert_eq!(sorted(std::io::ErrorKind::StorageFull), Class::Full);
        assert_eq!(sorted(std::io::ErrorKind::AlreadyExists), Class::Operator);
        assert_eq!(sorted(std::io::ErrorKind::TimedOut), Class::Retry);
    }

    #[test]
    fn a_disk_that_went_away_is_tried_again_and_one_that_fails_is_not() {
        let class = |number| {
            Error::new(Operation::Write, "x", None, Cause::Io(std::io::Error::from_raw_os_error(number)))
                .class()
        };
        let (eio, enxio, enodev) = (5, 6, 19);
        assert_eq!([eio, enxio, enodev].map(class), [Class::Operator, Class::Retry, Class::Retry]);
        assert_eq!(Error::new(Operation::Sync, "x", None, Cause::Fenced).class(), Class::Operator);
    }
}
