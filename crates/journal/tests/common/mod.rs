//! An item under test: its journal and disks on one power supply, and a full copy of every disk at every boundary
//! as the slow, obvious oracle.

#![allow(dead_code, reason = "each test binary uses a part")]

use disk::{ByteRange, Bytes, Disk};
use journal::{
    BatchHeader, BatchKind, BatchNumber, Before, DiskIdentity, EncodedBatch, Identity, Journal, Options,
    PointView, UndoExtent,
};
use std::sync::Arc;
use testkit::{Power, Rng, SimFile, SimFolder};

/// Sizes of the item's disks: odd ones, so that nothing aligns.
pub(crate) const SIZES: [u64; 2] = [70_001, 12_345];

/// Contents of every disk.
pub(crate) type Contents = Vec<Vec<u8>>;

/// One write of a batch.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) disk: u16,
    pub(crate) offset: u64,
    pub(crate) data: Vec<u8>,
}

/// A batch as the apply engine holds it.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) header: BatchHeader,
    pub(crate) writes: Vec<Write>,
}

pub(crate) struct Item {
    pub(crate) folder: SimFolder,
    pub(crate) power: Arc<Power>,
    pub(crate) disks: Vec<Arc<SimFile>>,
    pub(crate) journal: Arc<Journal>,
    /// Contents at each boundary, from zero on.
    pub(crate) history: Vec<Contents>,
    pub(crate) headers: Vec<BatchHeader>,
    pub(crate) options: Options,
}

/// Small segments, so that a short run has many.
pub(crate) fn small() -> Options {
    Options { segment_bytes: 48 << 10, segment_extents: 60, cache_bytes: 64 << 10, open_files: 2 }
}

pub(crate) fn identity() -> Identity {
    identity_of(&SIZES)
}

fn identity_of(sizes: &[u64]) -> Identity {
    let disk =
        |(number, size): (usize, &u64)| DiskIdentity { id: format!("disk{number}"), size: Bytes(*size) };
    Identity { item: "web01".to_owned(), disks: sizes.iter().enumerate().map(disk).collect() }
}

pub(crate) fn header(number: u64) -> BatchHeader {
    BatchHeader {
        kind: BatchKind::Point,
        stream: [7; 16],
        first_sequence: number * 10,
        last_sequence: number * 10 + 9,
        source_time: number * 1000,
        receive_time: number * 1000 + 5,
        bookmark: None,
        undo: true,
    }
}

impl Item {
    pub(crate) fn new(options: Options) -> Item {
        Item::with_sizes(options, &SIZES)
    }

    /// An item with disks of other sizes.
    pub(crate) fn with_sizes(options: Options, sizes: &[u64]) -> Item {
        let folder = SimFolder::new("/retention/web01");
        let power = folder.power().clone();
        let disk =
            |(number, size): (usize, &u64)| SimFile::disk(format!("disk{number}"), Bytes(*size), &power);
        let disks: Vec<_> = sizes.iter().enumerate().map(disk).collect();
        let identity = identity_of(sizes);
        let journal = Journal::create(Arc::new(folder.clone()), &identity, options.clone()).unwrap();
        let blank = sizes.iter().map(|size| vec![0; *size as usize]).collect();
        Item {
            folder,
            power,
            disks,
            journal: Arc::new(journal),
            history: vec![blank],
            headers: Vec::new(),
            options,
        }
    }

    pub(crate) fn live(&self, disk: u16) -> Arc<dyn Disk> {
        self.disks[usize::from(disk)].clone()
    }

    pub(crate) fn lives(&self) -> Vec<Arc<dyn Disk>> {
        (0..self.disks.len()).map(|disk| self.live(disk as u16)).collect()
    }

    /// A batch of a few random writes, in order and disjoint.
    pub(crate) fn random_batch(&self, rng: &mut Rng) -> Batch {
        let number = self.history.len() as u64;
        let mut writes = Vec::new();
        for disk in 0..SIZES.len() as u16 {
            let size = SIZES[usize::from(disk)];
            let mut offset = 0;
            for _ in 0..rng.below(4) {
                offset += rng.below(size / 2);
                let most = *rng.pick(&[8, 512, 4096, 20_000]);
                let length = 1 + rng.below(most);
                if offset + length > size {
                    break;
                }
                writes.push(Write { disk, offset, data: random_data(rng, length as usize) });
                offset += length;
            }
        }
        Batch { header: header(number), writes }
    }

    /// Encodes a batch with the before-images of the newest boundary.
    pub(crate) fn encode(&self, batch: &Batch) -> journal::Result<EncodedBatch> {
        let before = self.history.last().unwrap();
        let extents: Vec<UndoExtent<'_>> = batch
            .writes
            .iter()
            .map(|write| {
                let (start, end) = (write.offset as usize, write.offset as usize + write.data.len());
                UndoExtent {
                    disk: write.disk,
                    range: ByteRange::of_buffer(Bytes(write.offset), write.data.len()),
                    before: Before::Data(&before[usize::from(write.disk)][start..end]),
                    new_checksum: crc32c::crc32c(&write.data),
                }
            })
            .collect();
        self.journal.encode(&batch.header, &extents)
    }

    /// Adds the boundary after a batch to the history.
    pub(crate) fn remember(&mut self, batch: &Batch) {
        let mut contents = self.history.last().unwrap().clone();
        for write in &batch.writes {
            let start = write.offset as usize;
            contents[usize::from(write.disk)][start..start + write.data.len()].copy_from_slice(&write.data);
        }
        self.history.push(contents);
        self.headers.push(batch.header.clone());
    }

    pub(crate) fn write_disks(&self, batch: &Batch) -> disk::Result<()> {
        batch
            .writes
            .iter()
            .try_for_each(|write| self.live(write.disk).write_at(Bytes(write.offset), &write.data))
    }

    pub(crate) fn sync_disks(&self) -> disk::Result<()> {
        self.disks.iter().try_for_each(|disk| disk.sync())
    }

    /// A batch through all lanes, one after the other.
    pub(crate) fn run(&mut self, batch: &Batch) -> BatchNumber {
        let encoded = self.encode(batch).unwrap();
        let number = self.journal.append(&encoded).unwrap();
        self.remember(batch);
        self.journal.sync().unwrap();
        self.write_disks(batch).unwrap();
        self.sync_disks().unwrap();
        self.journal.note_applied(number);
        assert_eq!(number.0, self.history.len() as u64 - 1);
        number
    }

    pub(crate) fn run_random(&mut self, rng: &mut Rng, batches: u64) {
        for _ in 0..batches {
            let batch = self.random_batch(rng);
            self.run(&batch);
        }
    }

    /// The batch that writes boundary `to` over everything that was touched since.
    pub(crate) fn rollback_batch(&self, to: u64) -> Result<Batch, Box<dyn std::error::Error>> {
        let number = self.history.len() as u64;
        let newest = BatchNumber(number - 1);
        let mut header = header(number);
        header.kind = BatchKind::Rollback { to: BatchNumber(to), finished: true };
        let mut writes = Vec::new();
        for disk in 0..SIZES.len() as u16 {
            let view = PointView::new(self.journal.clone(), BatchNumber(to), disk, self.live(disk))?;
            let mut from = Bytes(0);
            loop {
                let budget = Bytes(10_000);
                let ranges = self.journal.touched_after(BatchNumber(to), newest, disk, from, budget)?;
                let Some(last) = ranges.last() else { break };
                from = last.end();
                for range in ranges {
                    let mut data = vec![0; range.length().as_usize()];
                    view.read_at(range.start(), &mut data)?;
                    writes.push(Write { disk, offset: range.start().0, data });
                }
            }
        }
        Ok(Batch { header, writes })
    }

    pub(crate) fn view(&self, point: u64, disk: u16) -> PointView {
        PointView::new(self.journal.clone(), BatchNumber(point), disk, self.live(disk)).unwrap()
    }

    /// What all views at a point show.
    pub(crate) fn contents_at(&self, point: u64) -> Contents {
        let read = |disk| {
            let view = self.view(point, disk as u16);
            let mut contents = vec![0; view.size().as_usize()];
            view.read_at(Bytes(0), &mut contents).unwrap();
            contents
        };
        (0..SIZES.len()).map(read).collect()
    }

    /// Compares every point that can be reached with the oracle.
    pub(crate) fn check_points(&self, what: &str) {
        let points = self.journal.points(&Default::default()).unwrap();
        for point in &points {
            let number = point.number.0;
            assert!(
                self.contents_at(number) == self.history[number as usize],
                "{what}: point {number} differs"
            );
            assert_eq!(point.header, self.headers[number as usize - 1], "{what}: point {number}");
        }
    }

    /// Compares small random reads with the oracle.
    pub(crate) fn check_reads(&self, rng: &mut Rng, reads: u64, what: &str) {
        let points = self.journal.points(&Default::default()).unwrap();
        for _ in 0..reads {
            let number = rng.pick(&points).number.0;
            let disk = rng.below(SIZES.len() as u64) as u16;
            let contents = &self.history[number as usize][usize::from(disk)];
            let start = rng.below(contents.len() as u64) as usize;
            let length = (rng.below(9000) as usize).min(contents.len() - start);
            let mut seen = vec![0; length];
            self.view(number, disk).read_at(Bytes(start as u64), &mut seen).unwrap();
            assert!(
                seen == contents[start..start + length],
                "{what}: point {number}, {length} bytes at {start}"
            );
        }
    }

    pub(crate) fn live_contents(&self) -> Contents {
        self.disks.iter().map(|disk| disk.contents()).collect()
    }

    /// Closes the journal and opens it again.
    pub(crate) fn reopen(self) -> Item {
        let Item { folder, power, disks, journal, history, headers, options } = self;
        drop(journal);
        let journal = Journal::open(Arc::new(folder.clone()), &identity(), options.clone()).unwrap();
        Item { folder, power, disks, journal: Arc::new(journal), history, headers, options }
    }
}

/// Noise, text or zeroes.
pub(crate) fn random_data(rng: &mut Rng, length: usize) -> Vec<u8> {
    let mut data = vec![0; length];
    match rng.below(3) {
        0 => rng.fill(&mut data),
        1 => data.iter_mut().zip(b"the quick brown fox ".iter().cycle()).for_each(|(to, from)| *to = *from),
        _ => {}
    }
    data
}
