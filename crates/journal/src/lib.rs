//! The undo journal of a replicated item: before-images of every batch, and any recovery point read back.
//!
//! Replication overwrites the disks of an item batch by batch. Before a batch touches them, the journal stores what
//! the touched ranges held; that is all it takes to go back: a byte at recovery point T is the before-image in the
//! oldest batch after T that touched it, or what the live disk holds when none did. [`PointView`] is that rule as a
//! [`disk::Disk`]. A rollback writes the view as further batches, journaled like all others, so history stays
//! linear and rolling forward again is one more rollback.
//!
//! **On disk** a journal is a folder of segments, appended to and then closed by an index; `docs/formats/journal.md`
//! draws every byte. Before-images are packed into chunks of 64 KiB, compressed where that pays and checksummed;
//! zeroes take no space. Opening reads headers and footers, and the records of the one segment that was being
//! written; looking up a byte reads a block of an index here and there, through a small cache. So memory does not
//! grow with the window: the open segment's index and a fence of 18 bytes per 341 extents are all that is held.
//!
//! **Crashes** are met by order and checksums alone. Every record names its segment, its place and its predecessor,
//! and says up to where the segment was durable, so a torn end is told from damage; every extent carries the
//! checksum of the data that replaces it, so [`recover`] can tell which batches reached the disks. After a failed
//! write or sync nothing more is written until the journal is opened again; only a lack of space is taken back
//! cleanly, and [`Journal::make_room`] then shortens the window from its old end.
//!
//! | at the same time | append, sync, prune, … | view reads |
//! |---|---|---|
//! | **append, sync, prune, …** | one after the other, by a lock | at any time; a view whose point is pruned fails and says so |
//! | **encode** | at any time, holds no lock | at any time |
//! | **view reads** | hold no lock that writing waits for while they read files or disks | at any time |
//! | **`truncate_after`, [`recover`]** | alone | alone |

mod append;
mod cache;
mod codec;
mod encode;
mod error;
mod files;
mod footer;
mod header;
mod index;
mod journal;
mod lookup;
mod points;
mod prune;
mod record;
mod recover;
mod scan;
mod segment;
mod store;
mod types;
mod view;

pub use encode::EncodedBatch;
pub use error::{Error, Result};
pub use journal::{Journal, Pin};
pub use recover::recover;
pub use types::{
    BatchHeader, BatchKind, BatchNumber, BatchSummary, Before, Bookmark, DiskIdentity, Identity,
    MAX_BATCH_DATA, MAX_BATCH_EXTENTS, MAX_DISKS, MAX_EXTENT, MAX_NAME, Options, PendingBatch, PendingExtent,
    PointQuery, PruneReport, RecoveryReport, UndoExtent, Usage,
};
pub use view::PointView;
