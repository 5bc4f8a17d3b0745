//! The undo journal of a replicated item.

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
