//! Damaged bytes are found and reported, or do no harm; they are never applied or served.

mod common;

use common::{Item, header, identity, small};
use disk::{Bytes, Class, Disk};
use journal::{BatchNumber, Error, Journal, PointView, recover};
use std::sync::Arc;
use testkit::Rng;

/// A run over several segments that was shut down in order.
fn finished_run(seed: u64) -> Item {
    let mut rng = Rng::new(seed);
    let mut item = Item::new(small());
    item.run_random(&mut rng, 24);
    item.journal.record_applied().unwrap();
    item
}

fn files(item: &Item) -> Vec<String> {
    use disk::Folder;
    let mut names = item.folder.list().unwrap();
    names.sort();
    names
}

/// Opens, recovers and reads every point: all as the oracle has it, or an error that stands for damage. Says how many
/// reads found damage.
fn read_everything(item: &Item, what: &str) -> Result<usize, Error> {
    let folder = Arc::new(item.folder.clone());
    let journal = Arc::new(Journal::open(folder, &identity(), item.options.clone())?);
    let report = recover(&journal, &item.lives())?;
    let newest = item.history.len() as u64 - 1;
    assert_eq!(report.boundary.0, newest, "{what}: batches were lost without a word");
    assert_eq!(journal.points(&Default::default())?.len() as u64, newest, "{what}: points were lost");
    let mut damaged = 0;
    for point in 1..=newest {
        for disk in 0..item.disks.len() {
            let view =
                PointView::new(journal.clone(), BatchNumber(point), disk as u16, item.live(disk as u16))?;
            let mut contents = vec![0; view.size().as_usize()];
            if let Err(error) = view.read_at(Bytes(0), &mut contents) {
                assert_eq!(error.class(), Class::Corrupt, "{what}: {error}");
                damaged += 1;
                continue;
            }
            assert!(contents == item.history[point as usize][disk], "{what}: point {point} was served wrong");
        }
    }
    Ok(damaged)
}

#[test]
fn invariant_5_a_flipped_bit_in_the_journal_is_found_or_harmless() {
    let mut item = finished_run(1);
    item.journal = Item::new(small()).journal;
    let whole: Vec<(String, Vec<u8>)> =
        files(&item).into_iter().map(|name| (name.clone(), contents(&item, &name))).collect();
    assert_eq!(read_everything(&item, "untouched").unwrap(), 0);
    restore(&item, &whole);
    let (mut flips, mut refused, mut reported) = (0, 0, 0);
    for (name, bytes) in &whole {
        for offset in (0..bytes.len()).step_by(31) {
            let bit = 1 << (offset % 8);
            let what = format!("{name}, byte {offset}, bit {bit:#x}");
            item.folder.file(name).unwrap().corrupt(offset, bit);
            flips += 1;
            match read_everything(&item, &what) {
                Ok(0) => {}
                Ok(_) => reported += 1,
                Err(error) => {
                    assert_eq!(error.class(), Class::Corrupt, "{what}: {error}");
                    assert!(error.to_string().contains("segment-"), "{what}: {error}");
                    refused += 1;
                }
            }
            restore(&item, &whole);
        }
    }
    // A flip in an index does no harm: it is rebuilt from the records.
    assert!(
        flips > 1000 && refused > 20 && reported > 300,
        "{refused} refused, {reported} found by reads, of {flips}"
    );
    eprintln!("{flips} flips: {refused} refused at opening, {reported} found by reads, the rest did no harm");
}

fn contents(item: &Item, name: &str) -> Vec<u8> {
    item.folder.file(name).unwrap().contents()
}

/// The folder as it was: opening may have written to it, and begun a segment.
fn restore(item: &Item, whole: &[(String, Vec<u8>)]) {
    use disk::{File, Folder};
    for name in files(item) {
        if !whole.iter().any(|(known, _)| *known == name) {
            item.folder.remove(&name).unwrap();
        }
    }
    for (name, bytes) in whole {
        if contents(item, name) != *bytes {
            let file = item.folder.file(name).unwrap();
            file.set_size(Bytes(bytes.len() as u64)).unwrap();
            file.write_at(Bytes(0), bytes).unwrap();
            file.sync().unwrap();
        }
    }
}

#[test]
fn a_damaged_index_is_rebuilt_from_the_records() {
    for from_end in [5, 40, 300, 900, 1700] {
        let item = finished_run(2);
        let name = files(&item)[1].clone();
        let file = item.folder.file(&name).unwrap();
        file.corrupt(file.size().as_usize() - from_end, 0x20);
        let item = item.reopen();
        item.check_points(&format!("{from_end} bytes before the end"));
        assert_eq!(item.journal.usage().rebuilt_indexes, 1, "{from_end} bytes before the end");
    }
}

#[test]
fn a_damaged_record_behind_the_synced_mark_is_reported_with_its_place() {
    let mut item = Item::new(Default::default());
    item.run_random(&mut Rng::new(3), 10);
    item.journal.record_applied().unwrap();
    let name = files(&item)[0].clone();
    item.folder.file(&name).unwrap().corrupt(512 + 30, 1);
    let Item { folder, journal, options, .. } = item;
    drop(journal);
    let error = Journal::open(Arc::new(folder), &identity(), options).err().unwrap();
    assert!(matches!(&error, Error::Corrupt { offset: 512, .. }), "{error}");
    assert!(error.to_string().starts_with("the journal segment /retention/web01/segment-"), "{error}");
}

#[test]
fn a_missing_segment_is_reported() {
    use disk::Folder;
    let item = finished_run(4);
    let Item { folder, journal, options, .. } = item;
    drop(journal);
    let mut names = folder.list().unwrap();
    names.sort();
    folder.remove(&names[1]).unwrap();
    let error = Journal::open(Arc::new(folder), &identity(), options).err().unwrap();
    assert!(matches!(&error, Error::Corrupt { segment, .. } if segment.ends_with(&names[2])), "{error}");
}

#[test]
fn another_items_journal_is_refused() {
    let item = finished_run(5);
    let Item { folder, journal, options, .. } = item;
    drop(journal);
    let mut other = identity();
    other.disks[1].size = Bytes(512);
    let error = Journal::open(Arc::new(folder.clone()), &other, options.clone()).err().unwrap();
    assert!(matches!(error, Error::Identity { .. }), "{error}");
    assert!(matches!(
        Journal::create(Arc::new(folder.clone()), &identity(), options.clone()),
        Err(Error::Exists { .. })
    ));
    let empty = Arc::new(testkit::SimFolder::new("empty"));
    assert!(matches!(Journal::open(empty, &identity(), options), Err(Error::Missing { .. })));
}

#[test]
fn a_second_opener_is_refused() {
    let item = finished_run(6);
    let error =
        Journal::open(Arc::new(item.folder.clone()), &identity(), item.options.clone()).err().unwrap();
    assert_eq!(error.class(), Class::Operator, "{error}");
}

#[test]
fn invariant_6_after_a_failed_sync_nothing_is_written_until_it_is_opened_again() {
    let mut item = Item::new(small());
    item.run_random(&mut Rng::new(7), 5);
    let batch = item.random_batch(&mut Rng::new(8));
    let encoded = item.encode(&batch).unwrap();
    item.journal.append(&encoded).unwrap();
    item.power.cut_after(0);
    assert!(item.journal.sync().is_err());
    item.power.restore();
    let fenced = |result: Result<(), Error>| matches!(result, Err(Error::Fenced { .. }));
    assert!(fenced(item.journal.sync()));
    assert!(fenced(item.journal.append(&encoded).map(|_| ())));
    assert!(fenced(item.journal.record_applied()));
    assert!(fenced(item.journal.truncate_after(BatchNumber(1))));
    assert!(fenced(item.journal.prune(0, None).map(|_| ())));
    assert!(fenced(item.journal.make_room(1).map(|_| ())));
    let mut item = item.reopen();
    item.journal.truncate_after(BatchNumber(5)).unwrap();
    item.run_random(&mut Rng::new(9), 5);
    item.check_points("after opening again");
}

#[test]
fn a_batch_that_breaks_the_rules_is_refused() {
    use disk::ByteRange;
    use journal::{Before, UndoExtent};
    let item = Item::new(small());
    let extent = |disk, start, length| UndoExtent {
        disk,
        range: ByteRange::new(Bytes(start), Bytes(length)).unwrap(),
        before: Before::Zero,
        new_checksum: 0,
    };
    let cases: [&[UndoExtent<'_>]; 6] = [
        &[extent(2, 0, 1)],
        &[extent(0, 0, 0)],
        &[extent(0, 70_000, 2)],
        &[extent(0, 10, 10), extent(0, 19, 1)],
        &[extent(1, 0, 1), extent(0, 0, 1)],
        &[UndoExtent { before: Before::Data(b"ab"), ..extent(0, 0, 3) }],
    ];
    for case in cases {
        let error = item.journal.encode(&header(1), case).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
    }
}
