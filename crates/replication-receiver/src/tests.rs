use crate::batch::{Batch, Change};
use crate::job::{Job, Work};
use crate::{Action, Event, Item, ItemConfig, Storage};
use change_stream::Limits;
use disk::{Bytes, Disk, MemoryDisk};
use journal::{BatchHeader, BatchKind, DiskIdentity, Identity};
use std::sync::Arc;

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

/// Invariant 4: neither a clock that is days ahead when the item is opened nor a source that fell silent takes a
/// recovery point out of the window.
#[test]
fn invariant_4_a_clock_that_jumped_and_a_silent_source_age_no_recovery_point() {
    const HOUR: u64 = 3_600_000_000_000;
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new("disk", Bytes(4096)));
    let identity =
        Identity { item: "web01".into(), disks: vec![DiskIdentity { id: "d".into(), size: Bytes(4096) }] };
    let folder = Arc::new(testkit::SimFolder::new("retention"));
    let storage = Storage::create(folder, identity, vec![disk], journal::Options::default()).unwrap();
    let header = BatchHeader { receive_time: 100 * HOUR, ..batch(Vec::new()).header };
    let journal = storage.journal();
    journal.append(&journal.encode(&header, &[]).unwrap()).unwrap();
    let limits = Limits { bulk_window: 1 << 20, hash_requests: 1, heartbeat_seconds: 10 };
    let config = ItemConfig { blank: false, window: 24 * HOUR, max_journal_bytes: None, limits };
    let kept_from = |opened: u64, now: u64| {
        let mut item = Item::new(config.clone(), &storage, opened * HOUR).unwrap();
        let mut actions = Vec::new();
        item.step(now * HOUR, Event::Tick, &mut actions);
        actions.into_iter().find_map(|action| match action {
            Action::Run(Job(Work::Prune { keep_from, .. })) => Some(keep_from / HOUR),
            _ => None,
        })
    };
    assert_eq!(kept_from(1000, 1000), Some(76));
    assert_eq!(kept_from(1000, 1030), Some(76));
    assert_eq!(kept_from(50, 60), Some(36));
}
