//! What the tracker tells of bookmarks after the fact.

use change_stream::{BookmarkKind, DiskDescription, StreamId, SyncMode};
use disk::{ByteRange, Bytes, Folder};
use source_agent::{BacklogLimits, Change, Sought, Tracker, TrackerConfig};
use std::sync::Arc;

const SIZE: u64 = 1 << 20;

fn open(folder: &Arc<dyn Folder>) -> Arc<Tracker> {
    let config = TrackerConfig {
        disks: vec![DiskDescription { id: "system".into(), size: SIZE }],
        backlog: BacklogLimits { bytes: 1 << 20, segment: 4096, cache: 4096 },
        boot: [1; 16],
        fresh_stream: StreamId([2; 16]),
        on_change: Box::new(|| {}),
    };
    Tracker::open(folder.clone(), config).unwrap().0
}

fn write(tracker: &Tracker, offset: u64) {
    let range = ByteRange::new(Bytes(offset), Bytes(2048)).unwrap();
    let ticket = tracker.begin(0, range, Change::Write(&[7; 2048]), offset).unwrap();
    tracker.complete(&ticket, true).unwrap();
}

fn bookmark(tracker: &Tracker, name: &str) -> u64 {
    tracker.bookmark(1, BookmarkKind::CrashConsistent, name, None).unwrap()
}

#[test]
fn a_bookmark_is_found_in_what_is_kept_also_after_a_kill() {
    let folder: Arc<dyn Folder> = Arc::new(testkit::SimFolder::new("state"));
    let tracker = open(&folder);
    let start = tracker.begin_sync(SyncMode::Initial, true, None, 0).unwrap();
    tracker.clear(start.epoch, 0, ByteRange::new(Bytes::ZERO, Bytes(SIZE)).unwrap()).unwrap();
    tracker.end_sync().unwrap();
    let before = tracker.standing().next_sequence;
    write(&tracker, 0);
    let one = bookmark(&tracker, "one");
    assert_eq!(tracker.find_bookmark("one", before).unwrap(), Sought::Set(one));
    assert_eq!(tracker.find_bookmark("one", one + 1).unwrap(), Sought::NotSet);
    assert_eq!(tracker.find_bookmark("two", before).unwrap(), Sought::NotSet);
    drop(tracker);
    let tracker = open(&folder);
    assert_eq!(tracker.find_bookmark("one", before).unwrap(), Sought::Set(one));
    for number in 0..10 {
        write(&tracker, number * 4096);
    }
    tracker.acknowledge(tracker.standing().next_sequence - 1).unwrap();
    assert_eq!(tracker.find_bookmark("one", before).unwrap(), Sought::Unknown);
}

#[test]
fn a_bookmark_that_the_target_gets_during_a_sync_is_passed_over() {
    let folder: Arc<dyn Folder> = Arc::new(testkit::SimFolder::new("state"));
    let tracker = open(&folder);
    let start = tracker.begin_sync(SyncMode::Initial, true, None, 0).unwrap();
    tracker.clear(start.epoch, 0, ByteRange::new(Bytes::ZERO, Bytes(SIZE)).unwrap()).unwrap();
    tracker.end_sync().unwrap();
    let there = bookmark(&tracker, "there");
    tracker.acknowledge(there).unwrap();
    let late = bookmark(&tracker, "late");
    assert!(!tracker.is_passed_over(late));
    tracker.begin_sync(SyncMode::Resync, false, None, there).unwrap();
    tracker.end_sync().unwrap();
    let after = bookmark(&tracker, "after");
    assert_eq!([there, late, after].map(|number| tracker.is_passed_over(number)), [false, true, false]);
}
