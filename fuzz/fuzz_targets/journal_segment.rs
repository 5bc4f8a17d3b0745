//! Journals that someone else wrote, or that were damaged: every one is opened, recovered and read, or refused.
//!
//! Input: a first byte that chooses a form. 0: the rest is a segment as it is. Otherwise: edits (where, 2 bytes;
//! value, 1 byte) to a sound journal of two segments, after which the checksums are made right again, so that
//! what is behind them is reached.

#![no_main]

use disk::{ByteRange, Bytes, Disk, Folder, MemoryDisk};
use journal::{
    BatchHeader, BatchKind, BatchNumber, Before, Bookmark, DiskIdentity, Identity, Journal, Options, PointView,
    UndoExtent, recover,
};
use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, OnceLock};
use testkit::{Rng, SimFolder};

const SIZE: u64 = 100_000;

fuzz_target!(|input: &[u8]| {
    let Some((form, rest)) = input.split_first() else { return };
    let folder = SimFolder::new("fuzz");
    match form {
        0 => put(&folder, "segment-00000000000000000001.journal", rest),
        _ => {
            for (number, (name, bytes)) in sound().iter().enumerate() {
                let mut bytes = bytes.clone();
                if number == usize::from(*form) % 2 {
                    edit(&mut bytes, rest);
                }
                mend(&mut bytes);
                put(&folder, name, &bytes);
            }
        }
    }
    read(&folder);
});

fn options() -> Options {
    Options { segment_extents: 40, ..Options::default() }
}

fn identity() -> Identity {
    Identity { item: "web01".into(), disks: vec![DiskIdentity { id: "a".into(), size: Bytes(SIZE) }] }
}

fn put(folder: &SimFolder, name: &str, bytes: &[u8]) {
    let file = folder.create(name).expect("a new file");
    file.write_at(Bytes(0), bytes).expect("in memory");
}

fn read(folder: &SimFolder) {
    let Ok(journal) = Journal::open(Arc::new(folder.clone()), &identity(), options()) else { return };
    let journal = Arc::new(journal);
    let live: Arc<dyn Disk> = Arc::new(MemoryDisk::new("live", Bytes(SIZE)));
    let _ = recover(&journal, &[live.clone()]);
    let mut contents = vec![0; SIZE as usize];
    for point in journal.points(&Default::default()).unwrap_or_default() {
        if let Ok(view) = PointView::new(journal.clone(), point.number, 0, live.clone()) {
            let _ = view.read_at(Bytes(0), &mut contents);
        }
        let _ = journal.touched_after(point.number, BatchNumber(u64::MAX), 0, Bytes(0), Bytes(u64::MAX));
    }
    let _ = journal.prune(u64::MAX, Some(0));
    let _ = journal.make_room(u64::MAX);
}

fn edit(bytes: &mut [u8], edits: &[u8]) {
    for edit in edits.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]]));
        let length = bytes.len();
        bytes[at % length] = edit[2];
    }
}

/// A journal of two segments, the first of them closed.
fn sound() -> &'static [(String, Vec<u8>)] {
    static SOUND: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
    SOUND.get_or_init(|| {
        let folder = SimFolder::new("sound");
        let journal = Journal::create(Arc::new(folder.clone()), &identity(), options()).expect("a new journal");
        let mut rng = Rng::new(1);
        for number in 1..=8u64 {
            let mut noise = vec![0; 700];
            rng.fill(&mut noise);
            let befores = [Before::Zero, Before::Data(&noise), Before::Data(&[7; 700])];
            let extent = |slot: u64| UndoExtent {
                disk: 0,
                range: ByteRange::of_buffer(Bytes(slot * 9000 + number * 300), 700),
                before: befores[slot as usize % 3],
                new_checksum: number as u32,
            };
            let extents: Vec<_> = (0..4).map(extent).collect();
            let name = format!("bookmark {number}");
            let header = BatchHeader {
                kind: BatchKind::Point,
                stream: [1; 16],
                first_sequence: number,
                last_sequence: number,
                source_time: number,
                receive_time: number,
                bookmark: Some(Bookmark { application_consistent: true, name, group: Some("g".into()) }),
                undo: true,
            };
            let batch = journal.encode(&header, &extents).expect("a sound batch");
            journal.append(&batch).expect("in memory");
            journal.sync().expect("in memory");
        }
        journal.note_applied(BatchNumber(6));
        journal.record_applied().expect("in memory");
        let mut names = folder.list().expect("in memory");
        names.sort();
        let bytes = |name: &String| folder.file(name).expect("it was listed").contents();
        names.iter().map(|name| (name.clone(), bytes(name))).collect()
    })
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?) as usize)
}

fn set(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// Makes the checksums right again, as far as the lengths make sense.
fn mend(bytes: &mut [u8]) -> Option<()> {
    let length = number(bytes, 12)?;
    let header = crc32c::crc32c(bytes.get(12..length)?);
    set(bytes, 8, header);
    mend_trailer(bytes, header);
    let (mut position, mut previous) = (length.next_multiple_of(512), header);
    while bytes.get(position..position + 4)? == b"MTJR" {
        let names = number(bytes, position + 34)?;
        let (extents, chunks) = (number(bytes, position + 112)?, number(bytes, position + 116)?);
        let data = number(bytes, position + 128)?;
        let tables = (names & 0xffff) + (names >> 16) + chunks.checked_mul(12)? + extents.checked_mul(24)?;
        let body = position + 144..(position + 144).checked_add(tables)?;
        let checksum = crc32c::crc32c(bytes.get(body)?);
        set(bytes, position + 124, checksum);
        set(bytes, position + 8, header);
        set(bytes, position + 12, previous);
        previous = crc32c::crc32c(bytes.get(position + 8..position + 144)?);
        set(bytes, position + 4, previous);
        position += (144 + tables + data).next_multiple_of(512);
    }
    Some(())
}

fn mend_trailer(bytes: &mut [u8], header: u32) -> Option<()> {
    let trailer = bytes.len().checked_sub(32)?;
    if bytes.get(trailer..trailer + 8)? != b"MTJINDEX" {
        return None;
    }
    let (position, length) = (number(bytes, trailer + 8)?, number(bytes, trailer + 16)?);
    let checksum = crc32c::crc32c(bytes.get(position..position.checked_add(length)?)?);
    set(bytes, trailer + 20, checksum);
    set(bytes, trailer + 24, header);
    let checksum = crc32c::crc32c(&bytes[trailer..trailer + 28]);
    set(bytes, trailer + 28, checksum);
    Some(())
}
