use crate::batch::{Batch, Change};
use journal::{BatchHeader, BatchKind};

/// A batch of these changes, as an overlay needs it.
pub(crate) fn batch(changes: Vec<Change>) -> Batch {
    let header = BatchHeader {
        kind: BatchKind::Point,
        stream: [0; 16],
        first_sequence: 1,
        last_sequence: 1,
        source_time: 0,
        receive_time: 0,
        bookmark: None,
        undo: true,
    };
    Batch { header, changes, session: 0, sync_frames: 0, bytes: 0, closed: false }
}
