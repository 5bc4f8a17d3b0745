//! How long an administrator waits for the first byte of an old point.

use crate::Bench;
use crate::measure::{drop_caches, median, timed};
use crate::result::{Good, Measured};
use anyhow::Result;
use block_device::{Caching, FileDisk, HostFolder};
use disk::{Access, ByteRange, Bytes, Disk, Folder};
use journal::{
    BatchHeader, BatchKind, BatchNumber, Before, DiskIdentity, Identity, Journal, Options, PointView,
    UndoExtent,
};
use std::path::Path;
use std::sync::Arc;
use testkit::Rng;

const EXTENTS: u64 = 10_000_000;
const EXTENT: u64 = 512;
const BATCH: u64 = 4096;
const DAY: u64 = 86_400_000_000_000;

/// Seconds from opening a journal of ten million extents to the first byte of its oldest point.
pub(crate) fn open_point(bench: &Bench) -> Result<Vec<Measured>> {
    let extents = EXTENTS / bench.shrink;
    let folder = bench.dir.join("journal");
    std::fs::create_dir_all(&folder)?;
    let disk_size = Bytes(16 << 30);
    let live = bench.dir.join("live.raw");
    std::fs::File::create(&live)?.set_len(disk_size.0)?;
    let identity =
        Identity { item: "web01".into(), disks: vec![DiskIdentity { id: "disk0".into(), size: disk_size }] };
    let folder: Arc<dyn Folder> = Arc::new(HostFolder::open(&folder, Caching::PageCache)?);
    build(&folder, &identity, extents)?;
    let mut opened = Vec::new();
    let mut first_byte = Vec::new();
    for round in 0..bench.rounds {
        drop_caches()?;
        let (open, read) = read_oldest(&folder, &identity, &live, round as u64)?;
        opened.push(open);
        first_byte.push(read);
    }
    let (open, read) = (median(opened), median(first_byte));
    Ok(vec![Measured {
        name: "open-point",
        value: open + read,
        unit: "s",
        good: Good::AtMost,
        must: Some(1.0),
        aim: 0.1,
        detail: format!(
            "{extents} extents; opening the journal {open:.3} s, view and first byte {read:.3} s"
        ),
        memory: None,
    }])
}

/// A journal that spans 24 hours, of batches with extents all over the disk.
fn build(folder: &Arc<dyn Folder>, identity: &Identity, extents: u64) -> Result<()> {
    let journal = Journal::create(folder.clone(), identity, Options::default())?;
    let mut rng = Rng::new(1);
    let slots = identity.disks[0].size.0 / EXTENT;
    let mut data = vec![0; EXTENT as usize];
    rng.fill(&mut data);
    let batches = extents / BATCH;
    for n in 0..batches {
        let mut at: Vec<u64> = (0..BATCH).map(|_| rng.below(slots) * EXTENT).collect();
        at.sort_unstable();
        at.dedup();
        rng.fill(&mut data[..8]);
        let undo: Vec<_> = at
            .iter()
            .map(|at| UndoExtent {
                disk: 0,
                range: ByteRange::between(Bytes(*at), Bytes(*at + EXTENT)),
                before: Before::Data(&data),
                new_checksum: 0,
            })
            .collect();
        let time = DAY / batches * n;
        let header = BatchHeader {
            kind: BatchKind::Point,
            stream: [1; 16],
            first_sequence: n * BATCH + 1,
            last_sequence: (n + 1) * BATCH,
            source_time: time,
            receive_time: time,
            bookmark: None,
            undo: true,
        };
        let number = journal.append(&journal.encode(&header, &undo)?)?;
        journal.note_applied(number);
    }
    journal.record_applied()?;
    Ok(())
}

fn read_oldest(folder: &Arc<dyn Folder>, identity: &Identity, live: &Path, seed: u64) -> Result<(f64, f64)> {
    let live: Arc<dyn Disk> = Arc::new(FileDisk::open(live, Access::Read, Caching::PageCache)?);
    let mut journal = None;
    let open = timed(|| {
        journal = Some(Arc::new(Journal::open(folder.clone(), identity, Options::default())?));
        Ok(())
    })?;
    let journal = journal.expect("it was opened");
    let mut buffer = [0; EXTENT as usize];
    let offset = Rng::new(seed).below(live.size().0 / EXTENT) * EXTENT;
    let read = timed(|| {
        let view = PointView::new(journal.clone(), BatchNumber(1), 0, live)?;
        Ok(view.read_at(Bytes(offset), &mut buffer)?)
    })?;
    Ok((open.as_secs_f64(), read.as_secs_f64()))
}
