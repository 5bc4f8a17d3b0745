//! The format, byte for byte. When this fails, either a change broke the format, or the format has a new version
//! and `docs/formats/journal.md` and the golden file change with it.

mod common;

use common::{Item, header};
use disk::{ByteRange, Bytes, Disk, Folder};
use journal::{BatchHeader, BatchKind, BatchNumber, Before, Bookmark, Options, UndoExtent};
use std::fmt::Write as _;
use testkit::Rng;

/// A journal of two segments: the first closed, with a zero and a data extent, a bookmark and a mark.
fn sample() -> Item {
    let item = Item::new(Options { segment_extents: 10, ..Options::default() });
    let mut noise = [0; 100];
    Rng::new(1).fill(&mut noise);
    let extent = |disk, start, length, before, new_checksum| UndoExtent {
        disk,
        range: ByteRange::new(Bytes(start), Bytes(length)).unwrap(),
        before,
        new_checksum,
    };
    let first = [
        extent(0, 4096, 8192, Before::Zero, 0x1111_1111),
        extent(1, 512, 100, Before::Data(&noise), 0x2222_2222),
    ];
    let bookmark =
        Bookmark { application_consistent: true, name: "before-upgrade".into(), group: Some("shop".into()) };
    let second = BatchHeader {
        kind: BatchKind::Rollback { to: BatchNumber(1), finished: true },
        bookmark: Some(bookmark),
        ..header(2)
    };
    let last = [extent(0, 4096, 50, Before::Data(&noise[..50]), 0x3333_3333)];
    item.journal.append(&item.journal.encode(&header(1), &first).unwrap()).unwrap();
    item.journal.sync().unwrap();
    item.journal.note_applied(BatchNumber(1));
    item.journal.record_applied().unwrap();
    item.journal.append(&item.journal.encode(&second, &last).unwrap()).unwrap();
    item.journal.append(&item.journal.encode(&header(3), &[]).unwrap()).unwrap();
    item.journal.sync().unwrap();
    item
}

fn dump(item: &Item) -> String {
    let mut names = item.folder.list().unwrap();
    names.sort();
    let mut out = String::new();
    for name in names {
        let bytes = item.folder.file(&name).unwrap().contents();
        writeln!(out, "{name}, {} bytes", bytes.len()).unwrap();
        for (number, line) in bytes.chunks(16).enumerate() {
            if line.iter().all(|byte| *byte == 0) {
                continue;
            }
            let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(out, "{:06x}: {}", number * 16, hex.join(" ")).unwrap();
        }
    }
    out
}

#[test]
fn the_bytes_of_a_journal_are_golden() {
    let found = dump(&sample());
    let golden = include_str!("golden/journal.hex");
    if found != golden {
        let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/journal.hex");
        std::fs::write(path, &found).unwrap();
        panic!("the bytes differ from tests/golden/journal.hex; what was found is in {path}");
    }
}

#[test]
fn incompressible_data_costs_little_more_than_itself_and_text_less_than_half() {
    let size = 4 << 20;
    let ratio = |data: &[u8]| {
        let options = Options { segment_bytes: 16 << 20, ..Options::default() };
        let item = common::Item::with_sizes(options, &[size]);
        let extents: Vec<UndoExtent<'_>> = data
            .chunks(4096)
            .enumerate()
            .map(|(number, block)| UndoExtent {
                disk: 0,
                range: ByteRange::of_buffer(Bytes(number as u64 * 4096), block.len()),
                before: Before::Data(block),
                new_checksum: 0,
            })
            .collect();
        // Enough batches to close the segment, so that its index is counted.
        let mut bytes = 0;
        for number in 1..200 {
            item.journal.append(&item.journal.encode(&header(number), &extents).unwrap()).unwrap();
            bytes += size;
            let usage = item.journal.usage();
            if usage.segments == 2 {
                bytes -= size;
                let closed = item.folder.list().unwrap().into_iter().min().unwrap();
                return item.folder.file(&closed).unwrap().size().0 as f64 / bytes as f64;
            }
        }
        panic!("no segment was closed");
    };
    let mut noise = vec![0; size as usize];
    Rng::new(1).fill(&mut noise);
    let noise = ratio(&noise);
    assert!(noise < 1.02, "noise costs {noise}");
    let text = ratio(&text(size as usize));
    assert!(text < 0.5, "text costs {text}");
    let zeroes = ratio(&vec![0; size as usize]);
    assert!(zeroes < 0.02, "zeroes cost {zeroes}");
}

/// Words as a log file has them: few often, many seldom, with numbers that differ from line to line.
fn text(length: usize) -> Vec<u8> {
    let mut rng = Rng::new(7);
    let mut text = String::new();
    while text.len() < length {
        let words = ["request", "from", "served", "in", "error", "user", "session", "closed", "GET", "cache"];
        let (word, other) = (*rng.pick(&words), *rng.pick(&words));
        writeln!(text, "{} {word} {other} {} ms, id {:x}", text.len(), rng.below(900), rng.below(1 << 16))
            .unwrap();
    }
    text.into_bytes()[..length].to_vec()
}
