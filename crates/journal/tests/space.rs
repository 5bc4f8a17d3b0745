//! Pruning by time and by space, and what happens when there is no room.

mod common;

use common::{Item, header, small};
use disk::{ByteRange, Bytes, Class};
use journal::{BatchHeader, BatchKind, BatchNumber, Before, Bookmark, Error, PointQuery, UndoExtent};
use testkit::Rng;

fn oldest(item: &Item) -> u64 {
    item.journal.oldest_point().unwrap().unwrap().number.0
}

#[test]
fn invariant_4_pruning_keeps_every_point_of_the_window() {
    for seed in 0..10 {
        let mut rng = Rng::new(seed);
        let mut item = Item::new(small());
        let mut removed = 0;
        for round in 1..12 {
            item.run_random(&mut rng, 8);
            // Batch n is received at n * 1000 + 5.
            let keep = rng.below(8 * round) + 1;
            let before = oldest(&item);
            let report = item.journal.prune(keep * 1000 + 5, None).unwrap();
            removed += report.segments;
            assert!(oldest(&item) <= keep.max(before), "seed {seed}: point {keep} is gone");
            assert_eq!(report.oldest.map(|oldest| oldest.number.0), Some(oldest(&item)));
            item.check_points(&format!("seed {seed}, round {round}"));
        }
        assert!(removed > 0, "seed {seed}");
        item.reopen().check_points(&format!("seed {seed}, opened again"));
    }
}

#[test]
fn a_pinned_point_outlives_pruning_by_time_but_not_by_space() {
    let mut item = Item::new(small());
    item.run_random(&mut Rng::new(1), 60);
    let pin = item.journal.pin(BatchNumber(7));
    item.journal.prune(u64::MAX, None).unwrap();
    assert!(oldest(&item) <= 7 && oldest(&item) > 0);
    let view = item.view(7, 0);
    let report = item.journal.prune(0, Some(0)).unwrap();
    assert!(report.segments > 0 && oldest(&item) > 7);
    assert_eq!(report.lost_pin, Some(BatchNumber(7)));
    let error = disk::Disk::read_at(&view, Bytes(0), &mut [0; 10]).unwrap_err();
    assert!(error.to_string().contains("does not reach back to batch 7"), "{error}");
    item.check_points("after pruning by space");
    drop(pin);
}

/// The oracle: the points of a window are those received after its beginning, and the newest one before.
#[test]
fn invariant_4_pruning_tells_whether_the_window_shrank() {
    let (mut shrank, mut kept) = (0, 0);
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let mut item = Item::new(small());
        for round in 1..12 {
            item.run_random(&mut rng, 8);
            // Batch n is received at n * 1000 + 5.
            let wanted = rng.below(8 * round) + 1;
            let keep_from = wanted * 1000 + 5;
            let before = oldest(&item);
            let most = rng.one_in(2).then(|| rng.below(item.journal.usage().bytes));
            let report = item.journal.prune(keep_from, most).unwrap();
            assert_eq!(report.before, Some(BatchNumber(before)));
            let lost = oldest(&item) > wanted.max(before);
            assert_eq!(report.shrank(keep_from), lost, "seed {seed}, round {round}: {report:?}");
            if lost { shrank += 1 } else { kept += 1 }
        }
    }
    assert!(shrank > 20 && kept > 20, "{shrank} {kept}");
}

#[test]
fn what_is_appended_is_counted_whether_it_is_pruned_or_not() {
    let mut item = Item::new(small());
    let before = item.journal.usage().bytes;
    item.run_random(&mut Rng::new(1), 60);
    let headers = item.journal.usage().segments - 1;
    let grown = item.journal.usage().bytes - before;
    let appended = item.journal.appended().0;
    // The headers of segments are not appended.
    assert!(appended <= grown && grown - appended <= headers * 512, "{appended} of {grown}");
    item.journal.prune(u64::MAX, Some(0)).unwrap();
    assert_eq!(item.journal.appended().0, appended);
    assert_eq!(item.reopen().journal.appended().0, 0);
}

#[test]
fn invariant_4_without_room_the_window_shrinks_and_replication_goes_on() {
    for seed in 0..10 {
        let mut rng = Rng::new(seed);
        let mut item = Item::new(small());
        item.power.set_room(Some(150 << 10));
        let mut refused = 0;
        for _ in 0..120 {
            let batch = item.random_batch(&mut rng);
            let encoded = item.encode(&batch).unwrap();
            let mut attempts = 0;
            while let Err(error) = item.journal.append(&encoded) {
                assert_eq!(error.class(), Class::Full, "seed {seed}: {error}");
                attempts += 1;
                assert!(attempts < 5, "seed {seed}: no room is made");
                refused += 1;
                item.check_points(&format!("seed {seed}, refused"));
                item.journal.make_room(encoded.length() + (32 << 10)).unwrap();
                let newest = item.history.len() as u64 - 1;
                assert!(
                    item.contents_at(newest) == item.history[newest as usize],
                    "seed {seed}: newest lost"
                );
            }
            item.journal.sync().unwrap();
            item.write_disks(&batch).unwrap();
            item.sync_disks().unwrap();
            item.remember(&batch);
            item.journal.note_applied(BatchNumber(item.history.len() as u64 - 1));
        }
        assert!(refused > 0, "seed {seed}");
        item.reopen().check_points(&format!("seed {seed}, opened again"));
    }
}

#[test]
fn invariant_4_even_the_only_segment_gives_way_but_not_the_newest_point() {
    let mut item = Item::new(Default::default());
    item.run_random(&mut Rng::new(3), 10);
    let before = item.journal.usage().bytes;
    // While others have taken every byte it cannot: that is no failure, the caller waits.
    item.power.set_room(Some(before));
    let report = item.journal.make_room(1).unwrap();
    assert_eq!((report.segments, report.bytes), (0, 0));
    item.power.set_room(None);
    item.power.set_no_more_files(true);
    let report = item.journal.make_room(1).unwrap();
    assert_eq!((report.segments, report.bytes), (0, 0));
    item.power.set_no_more_files(false);
    item.check_points("without any room");
    let report = item.journal.make_room(1).unwrap();
    assert_eq!((report.segments, report.bytes), (1, before));
    let newest = item.journal.newest().unwrap();
    assert_eq!(newest.number, BatchNumber(10));
    assert_eq!(report.oldest.as_ref(), Some(&newest));
    let mut item = item.reopen();
    assert_eq!(item.journal.newest().unwrap(), newest);
    item.run_random(&mut Rng::new(4), 5);
    item.check_points("gone on");
    assert_eq!(oldest(&item), 10);
}

#[test]
fn what_may_not_be_on_the_disks_yet_is_never_pruned() {
    let mut item = Item::new(small());
    item.run_random(&mut Rng::new(5), 3);
    for seed in 0..20 {
        let batch = item.random_batch(&mut Rng::new(seed));
        let encoded = item.encode(&batch).unwrap();
        item.journal.append(&encoded).unwrap();
        item.remember(&batch);
    }
    item.journal.prune(u64::MAX, Some(0)).unwrap();
    item.journal.make_room(u64::MAX).unwrap();
    assert_eq!(item.journal.pending().unwrap().last().unwrap().number, BatchNumber(23));
    assert!(oldest(&item) <= 3);
}

fn run(item: &mut Item, header: BatchHeader) -> BatchNumber {
    let extents: Vec<UndoExtent<'_>> = match header.undo {
        false => Vec::new(),
        true => vec![UndoExtent {
            disk: 0,
            range: ByteRange::new(Bytes(0), Bytes(4)).unwrap(),
            before: Before::Data(b"abcd"),
            new_checksum: 0,
        }],
    };
    let encoded = item.journal.encode(&header, &extents).unwrap();
    let number = item.journal.append(&encoded).unwrap();
    item.journal.sync().unwrap();
    number
}

#[test]
fn points_are_found_by_time_and_bookmark() {
    let mut item = Item::new(small());
    for number in 1..=200 {
        let mut header = header(number);
        header.bookmark = number.is_multiple_of(10).then(|| Bookmark {
            application_consistent: number % 20 == 0,
            name: format!("mark {number}"),
            group: (number % 30 == 0).then(|| "shop".to_owned()),
        });
        assert_eq!(run(&mut item, header), BatchNumber(number));
    }
    let item = item.reopen();
    item.journal.note_applied(BatchNumber(200));
    let numbers = |query: PointQuery| -> Vec<u64> {
        item.journal.points(&query).unwrap().iter().map(|point| point.number.0).collect()
    };
    let all = PointQuery::default();
    assert_eq!(numbers(all.clone()), (1..=200).collect::<Vec<_>>());
    let between = PointQuery { from: Some(50_000), to: Some(99_999), ..all.clone() };
    assert_eq!(numbers(between.clone()), (50..=99).collect::<Vec<_>>());
    assert_eq!(numbers(PointQuery { only_bookmarks: true, ..between.clone() }), [50, 60, 70, 80, 90]);
    let consistent = PointQuery { only_application_consistent: true, ..between };
    assert_eq!(numbers(PointQuery { newest_first: true, limit: 2, ..consistent }), [80, 60]);
    let at = |time| item.journal.point_at_time(time).unwrap().map(|point| point.number.0);
    assert_eq!(
        [at(0), at(1000), at(1999), at(150_500), at(u64::MAX)],
        [None, Some(1), Some(1), Some(150), Some(200)]
    );
    let summary = item.journal.summary(BatchNumber(30)).unwrap().unwrap();
    assert_eq!(summary.header.bookmark.unwrap().group.as_deref(), Some("shop"));
    assert_eq!((summary.extents, summary.bytes), (1, 4));
    assert_eq!(item.journal.summary(BatchNumber(201)).unwrap(), None);
}

#[test]
fn only_consistent_boundaries_after_the_last_batch_without_undo_are_points() {
    let mut item = Item::new(small());
    run(&mut item, header(1));
    run(&mut item, BatchHeader { kind: BatchKind::Syncing, undo: false, ..header(2) });
    run(&mut item, BatchHeader { kind: BatchKind::Point, undo: false, ..header(3) });
    run(&mut item, BatchHeader { kind: BatchKind::Syncing, ..header(4) });
    let to = BatchNumber(3);
    run(&mut item, BatchHeader { kind: BatchKind::Rollback { to, finished: false }, ..header(5) });
    run(&mut item, BatchHeader { kind: BatchKind::Rollback { to, finished: true }, ..header(6) });
    let item = item.reopen();
    item.journal.note_applied(BatchNumber(6));
    let points: Vec<u64> =
        item.journal.points(&Default::default()).unwrap().iter().map(|point| point.number.0).collect();
    assert_eq!(points, [3, 6]);
    assert_eq!(oldest(&item), 3);
    let view = |point| {
        journal::PointView::new(item.journal.clone(), BatchNumber(point), 0, item.live(0)).map(|_| ())
    };
    assert!(matches!(view(1), Err(Error::OutOfReach { oldest: BatchNumber(3), .. })));
    assert!(matches!(view(5), Err(Error::NotAPoint { .. })));
    assert!(view(3).is_ok());
    assert_eq!(item.journal.pending().unwrap().len(), 3, "a batch without undo was applied before");
}

#[test]
fn invariant_3_a_batch_is_no_point_before_the_disks_have_it() {
    let mut item = Item::new(small());
    run(&mut item, header(1));
    let view = || journal::PointView::new(item.journal.clone(), BatchNumber(1), 0, item.live(0));
    assert!(item.journal.points(&Default::default()).unwrap().is_empty());
    assert!(matches!(view(), Err(Error::NotAPoint { .. })));
    item.journal.note_applied(BatchNumber(1));
    assert_eq!(oldest(&item), 1);
    assert!(view().is_ok());
}

#[test]
fn a_clock_that_jumps_back_does_not_shorten_the_window() {
    let mut item = Item::new(small());
    for number in 1..=60 {
        let time = if number > 40 { number } else { number * 1000 };
        run(&mut item, BatchHeader { receive_time: time, source_time: time, ..header(number) });
    }
    item.journal.note_applied(BatchNumber(60));
    item.journal.prune(20_000, None).unwrap();
    assert!(oldest(&item) <= 20);
}
