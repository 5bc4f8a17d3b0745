//! The error of everything about VMDKs.

use crate::Format;
use disk::{Bytes, Class, Sectors};

/// Result of an operation on a VMDK.
pub type Result<T> = std::result::Result<T, Error>;

/// An operation on a VMDK that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the image could not be read, written or locked.
    #[error(transparent)]
    Storage(#[from] disk::Error),
    /// What is stored contradicts the format or itself.
    #[error("{object} is damaged at byte {}: {problem}; check the image, and repair it or restore a copy", offset.0)]
    Damaged {
        /// The file.
        object: String,
        /// Where in the file.
        offset: Bytes,
        /// What was found.
        problem: Problem,
    },
    /// The image is of a kind that must not, or cannot, be used as was asked.
    #[error("{object} was refused: {found}")]
    Refused {
        /// The file.
        object: String,
        /// What was found, and what to do.
        found: Refusal,
    },
    /// An image cannot be made as was asked.
    #[error("cannot create {object}: {problem}")]
    Options {
        /// The image that was to be.
        object: String,
        /// What is wrong with the request.
        problem: OptionProblem,
    },
    /// A stream-optimised image is written front to back.
    #[error(
        "cannot write {object} at byte {}: a streamOptimized image is written front to back, and byte {} was reached",
        offset.0, reached.0
    )]
    OutOfOrder {
        /// The image.
        object: String,
        /// Where was to be written.
        offset: Bytes,
        /// What is written already, or the capacity.
        reached: Bytes,
    },
    /// A sparse extent addresses its grains with 32-bit sector numbers.
    #[error(
        "{object} is full: a sparse extent holds at most 2 TiB of data; convert the image to twoGbMaxExtentSparse or to a flat format"
    )]
    SparseFull {
        /// The extent's file.
        object: String,
    },
}

/// What is wrong with stored bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Neither a descriptor nor a sparse header.
    #[error("this is not a VMDK: neither a descriptor nor a sparse header was found")]
    NotVmdk,
    /// The file ends too early.
    #[error("the file holds {} bytes where {} are needed", found.0, needed.0)]
    TooShort {
        /// Size of the file.
        found: Bytes,
        /// Size it must have.
        needed: Bytes,
    },
    /// A number in a header that cannot be.
    #[error("the header's {field} is {value}, which cannot be")]
    HeaderField {
        /// Which number.
        field: &'static str,
        /// What it is.
        value: u64,
    },
    /// The line-end bytes were converted by a transfer in text mode.
    #[error("the header's newline bytes are {found:02x?}, as after a transfer in text mode")]
    NewlineBytes {
        /// Bytes 73 to 76.
        found: [u8; 4],
    },
    /// A line of the descriptor that cannot be understood.
    #[error("line {line} of the descriptor: {what}")]
    DescriptorLine {
        /// Counted from one.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The descriptor lacks something.
    #[error("the descriptor has no {what}")]
    DescriptorLacks {
        /// The missing key or line.
        what: &'static str,
    },
    /// The descriptor is longer than any real one.
    #[error("the descriptor is longer than {} bytes", limit.0)]
    DescriptorTooLong {
        /// The limit.
        limit: Bytes,
    },
    /// Descriptor and header disagree.
    #[error("the descriptor says {} sectors, the header {}", descriptor.0, header.0)]
    CapacityMismatch {
        /// In the extent line.
        descriptor: Sectors,
        /// In the sparse header.
        header: Sectors,
    },
    /// A grain table where none can be.
    #[error("entry {index} of the {directory} points to sector {sector}, where no grain table can be")]
    TablePlace {
        /// Which directory.
        directory: Directory,
        /// Entry, counted from zero.
        index: u32,
        /// Where it points.
        sector: u32,
    },
    /// Two directory entries share a table.
    #[error("two entries of the grain directories share the table at sector {sector}")]
    SharedTable {
        /// The later of the overlapping tables.
        sector: u32,
    },
    /// Only one of the two directories has a table.
    #[error("grain table {index} is in only one of the two directories")]
    DirectoriesDiffer {
        /// The table.
        index: u32,
    },
    /// Both copies of a table entry are there, and differ.
    #[error("grain {grain} is at sector {primary} by the grain table and at sector {redundant} by its copy")]
    TablesDiffer {
        /// The grain.
        grain: u64,
        /// Entry in the primary table.
        primary: u32,
        /// Entry in the redundant table.
        redundant: u32,
    },
    /// A grain outside of the part of the file where data is.
    #[error("grain {grain} is at sector {sector}, in the metadata or past the end of the file")]
    GrainPlace {
        /// The grain.
        grain: u64,
        /// Its table entry.
        sector: u32,
    },
    /// Two grains that overlap.
    #[error("grains {first} and {second} share sector {sector}")]
    SharedGrain {
        /// A grain.
        first: u64,
        /// Another.
        second: u64,
        /// Where the second starts.
        sector: u32,
    },
    /// A compressed grain that belongs elsewhere.
    #[error("the marker found for grain {grain} is of sector {found}")]
    WrongMarker {
        /// The grain that was looked up.
        grain: u64,
        /// The sector that the marker names.
        found: u64,
    },
    /// A compressed grain that does not decompress to a grain.
    #[error("grain {grain} does not decompress")]
    Compression {
        /// The grain.
        grain: u64,
    },
    /// A stream-optimised image without its end.
    #[error("the {part} is missing or wrong, as when writing the image was interrupted")]
    Footer {
        /// Which part of the end.
        part: &'static str,
    },
    /// Two extent lines use the same bytes.
    #[error("two extents share bytes of this file")]
    SharedExtent,
    /// The image was not closed.
    #[error("the unclean-shutdown byte is set: the last writer did not close the image")]
    Unclean,
    /// Space of the file that no table entry points to.
    #[error("{grains} grains of the file are used by nothing")]
    Leaked {
        /// How many.
        grains: u64,
    },
    /// A hypervisor tracks changed blocks, and cannot see what is written here.
    #[error("changed-block tracking is on ({path}): backups made with it miss what is written here")]
    ChangeTracking {
        /// The file of the tracker.
        path: String,
    },
}

/// One of the two grain directories of a sparse extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directory {
    /// The one that is read.
    Primary,
    /// Its copy.
    Redundant,
}

impl std::fmt::Display for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Directory::Primary => "grain directory",
            Directory::Redundant => "redundant grain directory",
        })
    }
}

/// Why an image that may be whole was refused, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A snapshot's delta, or an extent of one.
    #[error("it is a snapshot delta ({found}); delete or consolidate the snapshots, then use the base disk")]
    SnapshotDelta {
        /// The createType, extent type or magic.
        found: String,
    },
    /// A raw device mapping, or a descriptor of a physical disk.
    #[error("it maps a raw device ({found}); use the device itself, or convert the disk to a virtual one")]
    RawDevice {
        /// The createType or extent type.
        found: String,
    },
    /// A createType or extent type that nobody here knows.
    #[error("its type {found:?} is not supported; convert it, for instance to monolithicSparse or vmfs")]
    UnknownType {
        /// The createType or extent type.
        found: String,
    },
    /// The disk has a parent.
    #[error(
        "it is a child of {parent} (parentCID {cid:08x}); consolidate the snapshots, or convert it to a disk of its own"
    )]
    Parent {
        /// The parent's file name, as far as the descriptor tells.
        parent: String,
        /// The parent's content id.
        cid: u32,
    },
    /// The disk has a child, which any write would break.
    #[error(
        "{child} is a snapshot on top of it, and any write would break that; consolidate or delete the snapshot first"
    )]
    Child {
        /// The file name of the child's descriptor.
        child: String,
    },
    /// An extent outside of the image's own folder.
    #[error(
        "its extent {extent:?} is not a plain file name in the same folder; move the extent there and edit the descriptor"
    )]
    ExtentName {
        /// The name in the descriptor.
        extent: String,
    },
    /// An extent that may not even be read.
    #[error("line {line} of the descriptor declares an extent NOACCESS; remove the access restriction first")]
    NoAccess {
        /// Line of the descriptor.
        line: usize,
    },
    /// One file of an image that has several.
    #[error("it is one extent of a larger image; name the image's descriptor instead")]
    ExtentAlone,
    /// An image that cannot be changed in place.
    #[error("a streamOptimized image cannot be written in place; convert it to another format first")]
    StreamInPlace,
}

/// Why an image cannot be created as was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionProblem {
    /// Not a size that a VMDK can have.
    #[error("a capacity of {} bytes is not a multiple of 512, zero, or larger than {}", capacity.0, limit)]
    Capacity {
        /// What was asked for.
        capacity: Bytes,
        /// The largest that is possible.
        limit: Bytes,
    },
    /// Not a name that a descriptor can quote.
    #[error("the name must be a plain file name that ends in .vmdk, without quotes or control characters")]
    Name,
    /// More extents than a descriptor can list.
    #[error(
        "{extents} extents do not fit into a descriptor; choose a format with one extent, or a shorter name"
    )]
    TooManyExtents {
        /// How many there would be.
        extents: usize,
    },
    /// A format that is created another way.
    #[error("{format} is written front to back, by a stream writer")]
    Stream {
        /// The format.
        format: Format,
    },
}

impl Error {
    /// What a caller should do about it.
    pub fn class(&self) -> Class {
        match self {
            Error::Storage(error) => error.class(),
            Error::Damaged { .. } => Class::Corrupt,
            Error::SparseFull { .. } => Class::Full,
            Error::Refused { .. } | Error::Options { .. } | Error::OutOfOrder { .. } => Class::Operator,
        }
    }

    pub(crate) fn damaged(object: impl Into<String>, offset: Bytes, problem: Problem) -> Error {
        Error::Damaged { object: object.into(), offset, problem }
    }

    pub(crate) fn refused(object: impl Into<String>, found: Refusal) -> Error {
        Error::Refused { object: object.into(), found }
    }

    /// The same as an error of a disk operation on the image called `image`.
    pub(crate) fn into_disk(self, operation: disk::Operation, image: &str) -> disk::Error {
        let cause = match self {
            Error::Storage(error) => return error,
            Error::Damaged { .. } => disk::Cause::Corrupt { what: self.to_string() },
            other => disk::Cause::Io(std::io::Error::other(other)),
        };
        disk::Error::new(operation, image, None, cause)
    }
}
