use crate::batch::{Batch, Change};
use crate::job::{Job, Work};
use crate::{Action, Command, Event, Item, ItemConfig, Notice, Stage, Storage};
use change_stream::Limits;
use disk::{Bytes, Disk, MemoryDisk};
use journal::{BatchHeader, BatchKind, BatchNumber, Before, DiskIdentity, Identity, UndoExtent};
use std::sync::Arc;
use testkit::SimFolder;

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

const SECOND: u64 = 1_000_000_000;
const EXTENT: u64 = 4096;
const EXTENTS: u64 = 8;

/// An item whose disk was written twice, full of ones and then of twos, each time as a recovery point.
fn written_twice(folder: &SimFolder) -> (Storage, Arc<MemoryDisk>) {
    let size = Bytes(EXTENT * EXTENTS);
    let disk = Arc::new(MemoryDisk::new("disk", size));
    let identity = Identity { item: "web01".into(), disks: vec![DiskIdentity { id: "d".into(), size }] };
    let storage =
        Storage::create(Arc::new(folder.clone()), identity, vec![disk.clone()], journal::Options::default());
    let storage = storage.unwrap();
    for (number, byte) in [(1, 1u8), (2, 2)] {
        let before = vec![byte - 1; EXTENT as usize];
        let data = vec![byte; EXTENT as usize];
        let extents: Vec<_> = (0..EXTENTS)
            .map(|n| UndoExtent {
                disk: 0,
                range: disk::ByteRange::of_buffer(Bytes(n * EXTENT), EXTENT as usize),
                before: Before::Data(&before),
                new_checksum: crc32c::crc32c(&data),
            })
            .collect();
        let sequence =
            BatchHeader { first_sequence: number, last_sequence: number, ..batch(Vec::new()).header };
        let journal = storage.journal();
        let number = journal.append(&journal.encode(&sequence, &extents).unwrap()).unwrap();
        for n in 0..EXTENTS {
            disk.write_at(Bytes(n * EXTENT), &data).unwrap();
        }
        journal.note_applied(number);
    }
    (storage, disk)
}

/// Hands an event in and runs every job that follows from it; what the item told meanwhile.
fn run(item: &mut Item, storage: &Storage, now: u64, event: Event) -> Vec<Notice> {
    let (mut events, mut notices) = (vec![event], Vec::new());
    while let Some(event) = events.pop() {
        let mut actions = Vec::new();
        item.step(now, event, &mut actions);
        for action in actions {
            match action {
                Action::Run(job) => events.push(Event::JobDone(job.run(storage))),
                Action::Notice(notice) => notices.push(notice),
                _ => {}
            }
        }
    }
    notices
}

/// Invariants 4 and 7: a rollback that finds the retention volume full gives up no recovery point and does not stop
/// the item; at each of its records it waits for room, and then goes on.
#[test]
fn invariant_7_a_rollback_on_a_full_volume_waits_for_room_at_every_record() {
    let limits = Limits { bulk_window: 1 << 20, hash_requests: 1, heartbeat_seconds: 10 };
    let config = ItemConfig { blank: false, window: u64::MAX, max_journal_bytes: None, limits };
    let mut waited_at = Vec::new();
    for room in (0..40 << 10).step_by(512) {
        let folder = SimFolder::new("retention");
        let (storage, disk) = written_twice(&folder);
        let used = storage.journal().usage().bytes;
        let mut item = Item::new(config.clone(), &storage, 0).unwrap();
        folder.power().set_room(Some(used + room));
        let mut notices =
            run(&mut item, &storage, SECOND, Event::Command(Command::Failover { point: BatchNumber(1) }));
        let waits = item.status().lacks_room;
        assert!(!matches!(item.stage(), Stage::Fenced { .. }), "{room}: {:?}", item.stage());
        assert_eq!(waits, notices.iter().any(|notice| matches!(notice, Notice::NoRoom)), "{room}");
        let oldest = storage.journal().oldest_point().unwrap().unwrap();
        assert_eq!(oldest.number, BatchNumber(1), "{room}: the point was given up");
        if waits {
            waited_at.push(disk.contents()[0]);
            notices.extend(run(&mut item, &storage, 2 * SECOND, Event::Tick));
            assert!(item.status().lacks_room, "{room}: nothing made room");
            folder.power().set_room(None);
            notices.extend(run(&mut item, &storage, 3 * SECOND, Event::Tick));
        }
        assert_eq!(item.stage(), Stage::FailedOver { point: BatchNumber(1) }, "{room}: {notices:?}");
        assert!(disk.contents().iter().all(|byte| *byte == 1), "{room}");
    }
    assert!(waited_at.contains(&2), "none waited before the disk was put back");
    assert!(waited_at.contains(&1), "none waited for the last record");
}

/// An item with a recovery point in each of many segments, one an hour.
fn hourly(points: u64) -> Storage {
    let size = Bytes(1 << 20);
    let identity = Identity { item: "web01".into(), disks: vec![DiskIdentity { id: "d".into(), size }] };
    let options = journal::Options { segment_extents: 4, ..Default::default() };
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new("disk", size));
    let storage = Storage::create(Arc::new(SimFolder::new("retention")), identity, vec![disk], options);
    let storage = storage.unwrap();
    let journal = storage.journal();
    for number in 1..=points {
        let header = BatchHeader {
            first_sequence: number,
            last_sequence: number,
            receive_time: number * HOUR,
            ..batch(Vec::new()).header
        };
        journal.note_applied(journal.append(&journal.encode(&header, &[]).unwrap()).unwrap());
        journal.sync().unwrap();
    }
    storage
}

const HOUR: u64 = 3600 * SECOND;

/// Invariant 4: a limit takes effect at once, points inside the window are given up only with a notice of it, those
/// outside without one, and the newest stays whatever the limit is.
#[test]
fn invariant_4_a_lower_limit_prunes_at_once_and_tells_when_the_window_shrinks() {
    let limits = Limits { bulk_window: 1 << 20, hash_requests: 1, heartbeat_seconds: 10 };
    let config = ItemConfig { blank: false, window: 24 * HOUR, max_journal_bytes: None, limits };
    let storage = hourly(100);
    let journal = storage.journal();
    let mut item = Item::new(config, &storage, 100 * HOUR).unwrap();
    let notices = run(&mut item, &storage, 100 * HOUR, Event::Tick);
    assert!(matches!(notices[..], [Notice::Pruned(_)]), "{notices:?}");
    let oldest = || journal.oldest_point().unwrap().unwrap().header.receive_time / HOUR;
    assert_eq!(oldest(), 76);
    let limit = |bytes| Event::Command(Command::LimitJournal { bytes });
    let (used, now) = (journal.usage().bytes, 100 * HOUR + 1);
    assert!(run(&mut item, &storage, now, limit(Some(used))).is_empty());
    let notices = run(&mut item, &storage, now, limit(Some(used / 2)));
    assert!(
        matches!(&notices[..], [Notice::WindowShrunk(report)] if report.bytes >= used / 2),
        "{notices:?}"
    );
    assert!(oldest() > 76 && journal.usage().bytes <= used / 2);
    // Lifted again, nothing more goes.
    assert!(run(&mut item, &storage, now, limit(None)).is_empty());
    assert!(run(&mut item, &storage, now + 60 * SECOND, Event::Tick).is_empty());
    let notices = run(&mut item, &storage, now, limit(Some(0)));
    assert!(matches!(notices[..], [Notice::WindowShrunk(_)]), "{notices:?}");
    // The segment that is being written begins after the point before.
    assert_eq!(oldest(), 99);
    assert!(!matches!(item.stage(), Stage::Fenced { .. }));
}

/// A limit that is passed while batches come is kept within seconds, not only when points are next pruned for age.
#[test]
fn a_journal_above_its_limit_is_pruned_at_the_next_tick() {
    let limits = Limits { bulk_window: 1 << 20, hash_requests: 1, heartbeat_seconds: 10 };
    let storage = hourly(10);
    let used = storage.journal().usage().bytes;
    let config = ItemConfig { blank: false, window: u64::MAX, max_journal_bytes: Some(used), limits };
    let mut item = Item::new(config, &storage, 10 * HOUR).unwrap();
    assert!(run(&mut item, &storage, 10 * HOUR, Event::Tick).is_empty());
    let journal = storage.journal();
    let header = BatchHeader { receive_time: 10 * HOUR, ..batch(Vec::new()).header };
    for _ in 0..3 {
        journal.append(&journal.encode(&header, &[]).unwrap()).unwrap();
    }
    journal.sync().unwrap();
    let notices = run(&mut item, &storage, 10 * HOUR + SECOND, Event::Tick);
    assert!(matches!(notices[..], [Notice::WindowShrunk(_)]), "{notices:?}");
    assert!(journal.usage().bytes <= used);
}

/// Invariant 4: a volume without any room holds up also what is written without before-images, and stops nothing.
#[test]
fn invariant_4_a_boundary_waits_for_room_on_a_full_volume() {
    let size = Bytes(EXTENT);
    let identity = Identity { item: "web01".into(), disks: vec![DiskIdentity { id: "d".into(), size }] };
    let folder = SimFolder::new("retention");
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new("disk", size));
    let storage =
        Storage::create(Arc::new(folder.clone()), identity, vec![disk], journal::Options::default()).unwrap();
    let limits = Limits { bulk_window: 1 << 20, hash_requests: 1, heartbeat_seconds: 10 };
    let config = ItemConfig { blank: true, window: u64::MAX, max_journal_bytes: None, limits };
    let mut item = Item::new(config, &storage, 0).unwrap();
    let header = BatchHeader { undo: false, ..batch(Vec::new()).header };
    item.pipeline.push(Batch { header, closed: true, ..batch(Vec::new()) });
    folder.power().set_room(Some(storage.journal().usage().bytes));
    let notices = run(&mut item, &storage, SECOND, Event::Tick);
    assert!(notices.iter().any(|notice| matches!(notice, Notice::NoRoom)), "{notices:?}");
    assert!(item.status().lacks_room && storage.journal().newest().is_none());
    run(&mut item, &storage, 2 * SECOND, Event::Tick);
    assert!(item.status().lacks_room, "nothing made room");
    folder.power().set_room(None);
    run(&mut item, &storage, 3 * SECOND, Event::Tick);
    assert_eq!(storage.journal().newest().map(|newest| newest.number), Some(BatchNumber(1)));
    assert!(!item.status().lacks_room);
}

/// A shorter window lets points go at the next step; a longer one keeps what is there.
#[test]
fn another_window_takes_effect_at_once() {
    let limits = Limits { bulk_window: 1 << 20, hash_requests: 1, heartbeat_seconds: 10 };
    let config = ItemConfig { blank: false, window: 24 * HOUR, max_journal_bytes: None, limits };
    let storage = hourly(100);
    let mut item = Item::new(config, &storage, 100 * HOUR).unwrap();
    let oldest = || storage.journal().oldest_point().unwrap().unwrap().header.receive_time / HOUR;
    run(&mut item, &storage, 100 * HOUR, Event::Tick);
    assert_eq!(oldest(), 76);
    let window = |hours| Event::Command(Command::SetWindow { nanos: hours * HOUR });
    let notices = run(&mut item, &storage, 100 * HOUR + 1, window(12));
    assert!(matches!(notices[..], [Notice::Pruned(_)]), "{notices:?}");
    assert_eq!(oldest(), 88);
    assert!(run(&mut item, &storage, 100 * HOUR + 2, window(48)).is_empty());
    assert_eq!(oldest(), 88);
}
