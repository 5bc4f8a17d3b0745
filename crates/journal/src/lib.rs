//! The undo journal of a replicated item.

mod error;
mod journal;
mod recover;
mod types;
mod view;

pub use error::{Error, Result};
pub use journal::{EncodedBatch, Journal, Pin};
pub use recover::recover;
pub use types::{
    BatchHeader, BatchKind, BatchNumber, BatchSummary, Before, Bookmark, DiskIdentity, Identity,
    MAX_BATCH_DATA, MAX_BATCH_EXTENTS, MAX_DISKS, MAX_EXTENT, MAX_NAME, Options, PendingBatch, PendingExtent,
    PointQuery, PruneReport, RecoveryReport, UndoExtent, Usage,
};
pub use view::PointView;
