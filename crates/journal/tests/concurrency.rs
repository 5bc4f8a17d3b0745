//! Views that are read by threads while replication goes on.

mod common;

use common::{Item, random_data, small};
use disk::{ByteRange, Bytes, Disk, MemoryDisk};
use journal::{BatchNumber, Before, PointView, UndoExtent};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use testkit::Rng;

#[test]
fn invariant_3_views_stay_right_while_replication_goes_on() {
    const SIZE: usize = 40_000;
    let item = Item::with_sizes(small(), &[SIZE as u64]);
    let journal = item.journal.clone();
    let live = Arc::new(MemoryDisk::new("live", Bytes(SIZE as u64)));
    let mut rng = Rng::new(1);
    let mut contents = vec![0; SIZE];
    let mut replicate = |number: u64, contents: &mut Vec<u8>| {
        let start = rng.below(SIZE as u64 - 6000) as usize;
        let length = 1 + rng.below(6000) as usize;
        let data = random_data(&mut rng, length);
        let extent = UndoExtent {
            disk: 0,
            range: ByteRange::of_buffer(Bytes(start as u64), length),
            before: Before::Data(&contents[start..start + length]),
            new_checksum: crc32c::crc32c(&data),
        };
        let encoded = journal.encode(&common::header(number), &[extent]).unwrap();
        let appended = journal.append(&encoded).unwrap();
        live.write_at(Bytes(start as u64), &data).unwrap();
        journal.note_applied(appended);
        contents[start..start + length].copy_from_slice(&data);
    };
    let mut points = Vec::new();
    for number in 1..=20 {
        replicate(number, &mut contents);
        points.push((number, contents.clone()));
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..3 {
            let (points, done, live, journal) = (&points, &done, live.clone(), journal.clone());
            scope.spawn(move || {
                let mut rng = Rng::new(reader);
                while !done.load(Ordering::Relaxed) {
                    let (number, expected) = rng.pick(points);
                    let view =
                        PointView::new(journal.clone(), BatchNumber(*number), 0, live.clone()).unwrap();
                    let start = rng.below(SIZE as u64) as usize;
                    let length = (rng.below(9000) as usize).min(SIZE - start);
                    let mut seen = vec![0; length];
                    view.read_at(Bytes(start as u64), &mut seen).unwrap();
                    assert!(seen == expected[start..start + length], "reader {reader}, point {number}");
                }
            });
        }
        for number in 21..=600 {
            replicate(number, &mut contents);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(journal.usage().segments > 5);
}
