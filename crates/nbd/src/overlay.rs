//! A writable disk over one that must not change.

use disk::{ByteRange, Bytes, Cause, Disk, Error, Extent, File, Operation, Result, check_bounds};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Granules are as small as the bitmap's limit of 4 MiB allows, and not smaller than this.
const SMALLEST_GRANULE: u64 = 4096;
const MAX_GRANULES: u64 = 32 << 20;
/// One word of the bitmap: what is locked and filled together.
const GRANULES_PER_WORD: u64 = u64::BITS as u64;
const LOCKS: usize = 64;
/// Most words of the bitmap that one lookup walks over.
const MAX_WALK: u64 = 4096;

/// A copy-on-write disk: reads come from the base until something was written, and what is written goes to a
/// scratch file. The base is never written.
///
/// Space is tracked in granules of a power of two, 4 KiB for disks up to 128 GiB. Which granules are in the scratch
/// file is known in memory only, so an overlay lives no longer than its process and [`Disk::sync`] has nothing to
/// make durable. Writes that need a granule's other bytes from the base take one of a few locks, by place.
pub struct Overlay {
    name: String,
    base: Arc<dyn Disk>,
    scratch: Arc<dyn File>,
    granule: u64,
    /// A bit for each granule that is in the scratch file. It is set after the granule is whole there.
    present: Vec<AtomicU64>,
    locks: Vec<Mutex<()>>,
}

impl Overlay {
    /// An overlay over `base` as it is; whatever `scratch` holds is thrown away.
    pub fn new(base: Arc<dyn Disk>, scratch: Arc<dyn File>) -> Result<Overlay> {
        scratch.set_size(Bytes::ZERO)?;
        scratch.set_size(base.size())?;
        let granule = granule_of(base.size());
        let words = base.size().0.div_ceil(granule).div_ceil(GRANULES_PER_WORD);
        Ok(Overlay {
            name: format!("overlay of {}", base.name()),
            base,
            scratch,
            granule,
            present: (0..words).map(|_| AtomicU64::new(0)).collect(),
            locks: (0..LOCKS).map(|_| Mutex::new(())).collect(),
        })
    }

    /// Bytes of the scratch file that are in use, in whole granules.
    pub fn written(&self) -> Bytes {
        let granules: u64 =
            self.present.iter().map(|word| u64::from(word.load(Ordering::Relaxed).count_ones())).sum();
        Bytes(granules * self.granule)
    }

    fn is_present(&self, granule: u64) -> bool {
        let word = &self.present[(granule / GRANULES_PER_WORD) as usize];
        word.load(Ordering::Acquire) & (1 << (granule % GRANULES_PER_WORD)) != 0
    }

    /// The longest known stretch from `offset` on, at most up to `end`, that is wholly in the scratch file or
    /// wholly not.
    fn run(&self, offset: Bytes, end: Bytes) -> (ByteRange, bool) {
        let first = offset.0 / self.granule;
        let last = (end.0 - 1) / self.granule;
        let present = self.is_present(first);
        let stop = last.min(first + MAX_WALK * GRANULES_PER_WORD);
        let mut granule = first + 1;
        while granule <= stop {
            let word = self.present[(granule / GRANULES_PER_WORD) as usize].load(Ordering::Acquire);
            let others = if present { !word } else { word } >> (granule % GRANULES_PER_WORD);
            if others != 0 {
                granule += u64::from(others.trailing_zeros());
                break;
            }
            granule = (granule / GRANULES_PER_WORD + 1) * GRANULES_PER_WORD;
        }
        let reached = granule.saturating_mul(self.granule).min(end.0);
        (ByteRange::between(offset, Bytes(reached)), present)
    }

    /// Does `put` for `range` in pieces of one word of the bitmap at most, each with the granules at its edges
    /// completed from the base.
    fn change(&self, range: ByteRange, put: impl Fn(ByteRange) -> Result<()>) -> Result<()> {
        check_bounds(self, Operation::Write, range)?;
        let word_bytes = self.granule * GRANULES_PER_WORD;
        let mut offset = range.start();
        while offset < range.end() {
            let word = offset.0 / word_bytes;
            let end = Bytes((word + 1).saturating_mul(word_bytes)).min(range.end());
            self.change_piece(word, ByteRange::between(offset, end), &put)?;
            offset = end;
        }
        Ok(())
    }

    fn change_piece(&self, word: u64, piece: ByteRange, put: impl Fn(ByteRange) -> Result<()>) -> Result<()> {
        let bits = self.bits(piece);
        let present = &self.present[word as usize];
        if present.load(Ordering::Acquire) & bits == bits {
            return put(piece);
        }
        let _filling =
            self.locks[word as usize % LOCKS].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let already = present.load(Ordering::Acquire);
        let (head, tail) = self.edges(piece);
        if !head.is_empty() && already & self.bits(head) == 0 {
            self.copy_up(head)?;
        }
        if !tail.is_empty() && already & self.bits(tail) == 0 {
            self.copy_up(tail)?;
        }
        put(piece)?;
        present.fetch_or(bits, Ordering::Release);
        Ok(())
    }

    /// The bits of a piece within its word.
    fn bits(&self, piece: ByteRange) -> u64 {
        let first = piece.start().0 / self.granule % GRANULES_PER_WORD;
        let last = (piece.end().0 - 1) / self.granule % GRANULES_PER_WORD;
        (u64::MAX << first) & (u64::MAX >> (GRANULES_PER_WORD - 1 - last))
    }

    /// What the first and last granule of a piece hold before and after it.
    fn edges(&self, piece: ByteRange) -> (ByteRange, ByteRange) {
        let start = piece.start().0 / self.granule * self.granule;
        let end = piece.end().0.checked_next_multiple_of(self.granule).unwrap_or(u64::MAX).min(self.size().0);
        let head = ByteRange::between(Bytes(start), piece.start());
        (head, ByteRange::between(piece.end(), Bytes(end)))
    }

    fn copy_up(&self, range: ByteRange) -> Result<()> {
        let mut data = vec![0; range.length().as_usize()];
        self.base.read_at(range.start(), &mut data)?;
        self.scratch.write_at(range.start(), &data)
    }
}

fn granule_of(size: Bytes) -> u64 {
    size.0.div_ceil(MAX_GRANULES).next_power_of_two().max(SMALLEST_GRANULE)
}

impl Disk for Overlay {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> Bytes {
        self.base.size()
    }

    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> Result<()> {
        let range = ByteRange::of_buffer(offset, buffer.len());
        check_bounds(self, Operation::Read, range)?;
        let mut rest = buffer;
        let mut offset = range.start();
        while !rest.is_empty() {
            let (run, present) = self.run(offset, range.end());
            let (part, after) = rest.split_at_mut(run.length().as_usize());
            if present {
                self.scratch.read_at(offset, part)?;
            } else {
                self.base.read_at(offset, part)?;
            }
            (rest, offset) = (after, run.end());
        }
        Ok(())
    }

    fn write_at(&self, offset: Bytes, data: &[u8]) -> Result<()> {
        self.change(ByteRange::of_buffer(offset, data.len()), |piece| {
            let start = (piece.start() - offset).as_usize();
            self.scratch.write_at(piece.start(), &data[start..start + piece.length().as_usize()])
        })
    }

    fn write_zeroes(&self, range: ByteRange) -> Result<()> {
        self.change(range, |piece| self.scratch.write_zeroes(piece))
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn extent_at(&self, offset: Bytes) -> Result<Extent> {
        if offset >= self.size() {
            let cause = Cause::OutOfBounds { size: self.size() };
            return Err(Error::new(Operation::Read, &self.name, None, cause));
        }
        let (run, present) = self.run(offset, self.size());
        let Extent { length, allocation } =
            if present { self.scratch.extent_at(offset)? } else { self.base.extent_at(offset)? };
        Ok(Extent { length: length.min(run.length()), allocation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use disk::{Fault, FaultDisk, FaultPlan, Folder, MemoryDisk};
    use proptest::prelude::*;
    use testkit::SimFolder;

    fn scratch() -> Arc<dyn File> {
        SimFolder::new("volume").create("scratch").unwrap()
    }

    fn base(size: usize) -> Arc<MemoryDisk> {
        let bytes = (0..size).map(|at| (at / 7) as u8 | 1).collect();
        Arc::new(MemoryDisk::with_contents("base", bytes))
    }

    fn contents(disk: &dyn Disk) -> Vec<u8> {
        let mut bytes = vec![0; disk.size().as_usize()];
        disk.read_at(Bytes(0), &mut bytes).unwrap();
        bytes
    }

    #[derive(Clone, Debug)]
    enum Change {
        Write(u8),
        Zero,
    }

    proptest! {
        #[test]
        fn an_overlay_is_a_disk_and_its_base_stays_as_it_was(
            size in 1usize..700_000,
            changes in prop::collection::vec(
                (any::<prop::sample::Index>(), 0usize..300_000,
                 prop_oneof![any::<u8>().prop_map(Change::Write), Just(Change::Zero)]),
                0..12,
            ),
        ) {
            let base = base(size);
            let before = base.contents();
            let overlay = Overlay::new(base.clone(), scratch()).unwrap();
            let mut oracle = before.clone();
            for (start, length, change) in changes {
                let start = start.index(size);
                let length = length.min(size - start);
                let range = ByteRange::of_buffer(Bytes(start as u64), length);
                let byte = match change {
                    Change::Write(byte) => {
                        overlay.write_at(range.start(), &vec![byte; length]).unwrap();
                        byte
                    }
                    Change::Zero => {
                        overlay.write_zeroes(range).unwrap();
                        0
                    }
                };
                oracle[start..start + length].fill(byte);
            }
            prop_assert!(contents(&overlay) == oracle);
            prop_assert!(base.contents() == before);
            let mut offset = Bytes(0);
            while offset < overlay.size() {
                let extent = overlay.extent_at(offset).unwrap();
                prop_assert!(extent.length > Bytes(0));
                offset += extent.length;
            }
            prop_assert_eq!(offset, overlay.size());
        }
    }

    #[test]
    fn threads_that_share_granules_lose_nothing() {
        const THREADS: usize = 4;
        let overlay = Overlay::new(base(1 << 18), scratch()).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let overlay = &overlay;
                scope.spawn(move || {
                    for at in (thread..1 << 12).step_by(THREADS) {
                        overlay.write_at(Bytes(at as u64 * 64), &[thread as u8 + 100; 64]).unwrap();
                    }
                });
            }
        });
        let seen = contents(&overlay);
        assert!(seen.chunks(64).enumerate().all(|(at, bytes)| bytes == [(at % THREADS) as u8 + 100; 64]));
    }

    #[test]
    fn a_write_that_failed_leaves_the_base_visible() {
        let broken = FaultDisk::new(base(8192), FaultPlan::none().at(Operation::Read, 0, Fault::Fail));
        let overlay = Overlay::new(Arc::new(broken), scratch()).unwrap();
        assert!(overlay.write_at(Bytes(100), b"new").is_err());
        assert!(contents(&overlay) == base(8192).contents());
        assert_eq!(overlay.written(), Bytes(0));
    }

    #[test]
    fn the_bitmap_is_bounded() {
        assert_eq!(granule_of(Bytes(1)), 4096);
        assert_eq!(granule_of(Bytes(128 << 30)), 4096);
        assert_eq!(granule_of(Bytes(62 << 40)), 2 << 20);
        assert!((u64::MAX).div_ceil(granule_of(Bytes(u64::MAX))) <= MAX_GRANULES);
    }
}
