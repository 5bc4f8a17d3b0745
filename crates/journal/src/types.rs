//! The words of the interface: batches, points, what is asked and what is answered.

use disk::{ByteRange, Bytes};
use std::fmt;

/// The longest extent: data or zeroes, one extent covers at most this many bytes. The caller splits longer ones.
pub const MAX_EXTENT: Bytes = Bytes(1 << 20);

/// The most extents that one batch holds.
pub const MAX_BATCH_EXTENTS: usize = 1 << 20;

/// The most bytes of before-images that are not zero in one batch.
pub const MAX_BATCH_DATA: u64 = 1 << 30;

/// The most disks of an item.
pub const MAX_DISKS: usize = 1024;

/// The longest name of an item, disk, bookmark or replication group, in bytes.
pub const MAX_NAME: usize = 1024;

/// Number of a batch of an item: 1, 2, 3, …; as a recovery point, the boundary after that batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchNumber(pub u64);

impl BatchNumber {
    /// The boundary before the first batch.
    pub const ZERO: BatchNumber = BatchNumber(0);

    /// The batch that follows.
    pub fn next(self) -> BatchNumber {
        BatchNumber(self.0 + 1)
    }
}

impl fmt::Display for BatchNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One disk of an item, as the journal remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskIdentity {
    /// Its id, unique within the item.
    pub id: String,
    /// Its size.
    pub size: Bytes,
}

/// Whose journal it is. Every segment carries it, and opening compares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Name of the replicated item.
    pub item: String,
    /// Its disks, in the order in which extents number them.
    pub disks: Vec<DiskIdentity>,
}

/// Sizes and limits of a journal. They may differ from one opening to the next.
#[derive(Clone, Debug)]
pub struct Options {
    /// A segment is closed when its records reach this many bytes.
    pub segment_bytes: u64,
    /// A segment is closed when its extents and batches together reach this number. It bounds the memory of the
    /// open segment's index, about 50 bytes each.
    pub segment_extents: usize,
    /// Memory for blocks of indexes and chunks of before-images that were read.
    pub cache_bytes: usize,
    /// Closed segments whose files are held open at the same time.
    pub open_files: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { segment_bytes: 256 << 20, segment_extents: 128 << 10, cache_bytes: 8 << 20, open_files: 32 }
    }
}

/// What the boundary after a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchKind {
    /// A consistent state: a recovery point.
    Point,
    /// Part of an initial sync or resync: the boundary after it is not consistent.
    Syncing,
    /// Part of a rollback.
    Rollback {
        /// The point whose contents are written.
        to: BatchNumber,
        /// True for the last batch of the rollback: the boundary after it is a recovery point again.
        finished: bool,
    },
}

impl BatchKind {
    /// True when the boundary after the batch is a consistent state.
    pub fn is_consistent(self) -> bool {
        match self {
            BatchKind::Point => true,
            BatchKind::Syncing => false,
            BatchKind::Rollback { finished, .. } => finished,
        }
    }
}

/// A bookmark of the change stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bookmark {
    /// The application was quiet, not only the disks.
    pub application_consistent: bool,
    /// Its name.
    pub name: String,
    /// The replication group that set it, if one did.
    pub group: Option<String>,
}

/// What a batch says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// What the boundary after it is.
    pub kind: BatchKind,
    /// The change stream it came from.
    pub stream: [u8; 16],
    /// First sequence number it holds.
    pub first_sequence: u64,
    /// Last sequence number it holds.
    pub last_sequence: u64,
    /// Source time of its last write, in nanoseconds since the epoch.
    pub source_time: u64,
    /// When it was received, in nanoseconds since the epoch.
    pub receive_time: u64,
    /// The bookmark that closes it.
    pub bookmark: Option<Bookmark>,
    /// False: it was written without before-images. Such a batch carries no extents, is journaled only after its
    /// writes are durable on the disks, and ends the reach of every point before it.
    pub undo: bool,
}

/// What a range held before a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before<'a> {
    /// Zeroes.
    Zero,
    /// These bytes, as many as the range is long.
    Data(&'a [u8]),
}

/// One range that a batch overwrites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UndoExtent<'a> {
    /// Which disk of the item.
    pub disk: u16,
    /// Where; at most [`MAX_EXTENT`] long, not empty.
    pub range: ByteRange,
    /// What was there.
    pub before: Before<'a>,
    /// CRC32C of the new bytes, by which recovery tells whether they reached the disk.
    pub new_checksum: u32,
}

/// A batch in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchSummary {
    /// Its number.
    pub number: BatchNumber,
    /// What it says about itself.
    pub header: BatchHeader,
    /// How many extents it overwrote.
    pub extents: u32,
    /// How many bytes those cover.
    pub bytes: u64,
    /// How many bytes its before-images take in the journal.
    pub stored_bytes: u64,
}

/// A batch that may not have reached the disks whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingBatch {
    /// Its number.
    pub number: BatchNumber,
    /// What it says about itself.
    pub header: BatchHeader,
    /// The ranges it overwrites.
    pub extents: Vec<PendingExtent>,
}

/// One range of a pending batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingExtent {
    /// Which disk of the item.
    pub disk: u16,
    /// Where.
    pub range: ByteRange,
    /// CRC32C of the new bytes.
    pub new_checksum: u32,
}

/// Which recovery points are asked for. The default asks for all of them, oldest first.
#[derive(Clone, Debug, Default)]
pub struct PointQuery {
    /// Source time not before this.
    pub from: Option<u64>,
    /// Source time not after this.
    pub to: Option<u64>,
    /// Only points with a bookmark.
    pub only_bookmarks: bool,
    /// Only points with an application-consistent bookmark.
    pub only_application_consistent: bool,
    /// Only states that came from the source, and not those that a rollback came back to.
    pub only_received: bool,
    /// At most this many; zero means no limit.
    pub limit: usize,
    /// Newest first instead of oldest first.
    pub newest_first: bool,
}

/// What pruning did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Segments removed.
    pub segments: u64,
    /// Bytes freed.
    pub bytes: u64,
    /// The oldest recovery point that there was before.
    pub before: Option<BatchNumber>,
    /// The oldest recovery point that is left.
    pub oldest: Option<BatchSummary>,
    /// The oldest pinned point that was given up: its views can no longer be read.
    pub lost_pin: Option<BatchNumber>,
}

impl PruneReport {
    /// True when points of a window were given up that reaches back to `keep_from`: the newest point that was received
    /// not after that belongs to it too.
    pub fn shrank(&self, keep_from: u64) -> bool {
        self.oldest.as_ref().is_some_and(|oldest| {
            self.before != Some(oldest.number) && oldest.header.receive_time > keep_from
        })
    }

    /// What this and a later pruning did together.
    pub fn followed_by(self, later: PruneReport) -> PruneReport {
        PruneReport {
            segments: self.segments + later.segments,
            bytes: self.bytes + later.bytes,
            before: self.before,
            oldest: later.oldest,
            lost_pin: self.lost_pin.or(later.lost_pin),
        }
    }
}

/// How much the journal holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of all segments.
    pub bytes: u64,
    /// Segments.
    pub segments: u64,
    /// Bytes of the largest segment: pruning may free so many more than it is asked to.
    pub largest: u64,
    /// Extents.
    pub extents: u64,
    /// Bytes that the extents cover: what was overwritten.
    pub undo_bytes: u64,
    /// Bytes that their before-images take.
    pub stored_bytes: u64,
    /// Closed segments whose index was damaged and had to be rebuilt from their records.
    pub rebuilt_indexes: u64,
}

/// What crash recovery found and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The boundary at which every disk now stands.
    pub boundary: BatchNumber,
    /// Batches that might not have reached the disks.
    pub pending: u64,
    /// How many of those were undone.
    pub undone: u64,
    /// Bytes written back to the disks.
    pub restored_bytes: u64,
}
