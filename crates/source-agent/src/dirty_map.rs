//! Which granules of a disk may differ from the target's.
//!
//! One bit for each 64 KiB, in memory and in a file of the state folder. A set bit is in the file before the call
//! returns, so a killed process loses none; a cleared one may come back, which costs a comparison and nothing else.
//! After a loss of power the file is not trusted at all: the tracker sets every bit.
//!
//! ```text
//!  0 8 bytes "MTSDIRTY"   8 u32 version 1   12 u32 granule   16 u64 size of the disk   24 u32 CRC32C of 0..24
//! 512 the bits, least significant first, u64 words
//! ```

use disk::{Access, ByteRange, Bytes, Disk, File, Folder, Result};
use std::sync::Arc;

/// Bytes that one bit stands for.
pub const GRANULE: u64 = 64 << 10;

const MAGIC: &[u8; 8] = b"MTSDIRTY";
const VERSION: u32 = 1;
const HEADER: u64 = 512;
/// Words written at once.
const CHUNK: usize = 8192;

/// The dirty bits of one disk.
pub(crate) struct DirtyMap {
    file: Arc<dyn File>,
    size: u64,
    words: Vec<u64>,
    count: u64,
}

impl DirtyMap {
    /// Opens the map of a disk of `size` bytes; one that is missing or not of this disk is made anew with every bit
    /// set, and the flag says so.
    pub(crate) fn open(folder: &Arc<dyn Folder>, name: &str, size: Bytes) -> Result<(DirtyMap, bool)> {
        let granules = size.0.div_ceil(GRANULE);
        let words = vec![0; granules.div_ceil(64) as usize];
        let exists = folder.list()?.iter().any(|found| found == name);
        let file = if exists { folder.open(name, Access::Write)? } else { folder.create(name)? };
        let mut map = DirtyMap { file, size: size.0, words, count: 0 };
        let good = exists && map.load()?;
        if !good {
            map.file.set_size(Bytes(HEADER + map.words.len() as u64 * 8))?;
            map.file.write_at(Bytes::ZERO, &map.header())?;
            map.set_all()?;
        }
        Ok((map, !good))
    }

    /// Sets the bits of all granules that `range` touches. They are set in memory even when the file fails.
    pub(crate) fn set(&mut self, range: ByteRange) -> Result<()> {
        let (first, last) = self.set_in_memory(range);
        self.store(first, last)
    }

    /// Sets the bits of many ranges, writing the file once.
    pub(crate) fn set_many(&mut self, ranges: impl Iterator<Item = ByteRange>) -> Result<()> {
        let mut window = (usize::MAX, 0);
        for range in ranges {
            let (first, last) = self.set_in_memory(range);
            window = (window.0.min(first), window.1.max(last));
        }
        self.store(window.0, window.1)
    }

    /// Sets every bit.
    pub(crate) fn set_all(&mut self) -> Result<()> {
        self.set(ByteRange::between(Bytes::ZERO, Bytes(self.size)))?;
        self.store(0, self.words.len())
    }

    /// Clears the bits of the granules that lie in `range` wholly.
    pub(crate) fn clear(&mut self, range: ByteRange) -> Result<()> {
        let first = range.start().0.div_ceil(GRANULE);
        let end = if range.end().0 == self.size { self.granules() } else { range.end().0 / GRANULE };
        let mut window = (usize::MAX, 0);
        for granule in first..end {
            let (word, bit) = ((granule / 64) as usize, 1u64 << (granule % 64));
            if self.words[word] & bit != 0 {
                self.words[word] &= !bit;
                self.count -= 1;
                window = (window.0.min(word), word + 1);
            }
        }
        self.store(window.0, window.1)
    }

    /// The first run of dirty granules at or after `from`, cut off at `limit` bytes, in bytes of the disk.
    pub(crate) fn next_run(&self, from: u64, limit: u64) -> Option<ByteRange> {
        let first = self.first_set(from.div_ceil(GRANULE))?;
        let most = first.saturating_add((limit / GRANULE).max(1)).min(self.granules());
        let end = (first..most).find(|granule| !self.is_set(*granule)).unwrap_or(most);
        Some(ByteRange::between(Bytes(first * GRANULE), Bytes((end * GRANULE).min(self.size))))
    }

    /// Bytes in dirty granules; the last granule counts whole.
    pub(crate) fn dirty_bytes(&self) -> u64 {
        (self.count * GRANULE).min(self.size)
    }

    /// Makes the file durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync()
    }

    fn granules(&self) -> u64 {
        self.size.div_ceil(GRANULE)
    }

    fn is_set(&self, granule: u64) -> bool {
        self.words[(granule / 64) as usize] & (1 << (granule % 64)) != 0
    }

    fn first_set(&self, from: u64) -> Option<u64> {
        let start = (from / 64) as usize;
        let head = self.words.get(start)? & (u64::MAX << (from % 64));
        if head != 0 {
            return Some(start as u64 * 64 + u64::from(head.trailing_zeros()));
        }
        let more = self.words[start + 1..].iter().position(|word| *word != 0)?;
        let word = start + 1 + more;
        Some(word as u64 * 64 + u64::from(self.words[word].trailing_zeros()))
    }

    /// The window of words that changed, empty when all bits were set before.
    fn set_in_memory(&mut self, range: ByteRange) -> (usize, usize) {
        let end = range.end().0.min(self.size).div_ceil(GRANULE);
        let mut window = (usize::MAX, 0);
        let mut granule = range.start().0 / GRANULE;
        while granule < end {
            let (word, shift) = ((granule / 64) as usize, granule % 64);
            let bits = (end - granule).min(64 - shift);
            let mask = (u64::MAX >> (64 - bits)) << shift;
            let added = (mask & !self.words[word]).count_ones();
            if added > 0 {
                self.words[word] |= mask;
                self.count += u64::from(added);
                window = (window.0.min(word), word + 1);
            }
            granule += bits;
        }
        window
    }

    fn store(&self, first: usize, end: usize) -> Result<()> {
        let mut at = first;
        while at < end {
            let stop = (at + CHUNK).min(end);
            let bytes: Vec<u8> = self.words[at..stop].iter().flat_map(|word| word.to_le_bytes()).collect();
            self.file.write_at(Bytes(HEADER + at as u64 * 8), &bytes)?;
            at = stop;
        }
        Ok(())
    }

    fn header(&self) -> [u8; 28] {
        let mut header = [0; 28];
        header[..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[12..16].copy_from_slice(&(GRANULE as u32).to_le_bytes());
        header[16..24].copy_from_slice(&self.size.to_le_bytes());
        let checksum = crc32c::crc32c(&header[..24]);
        header[24..].copy_from_slice(&checksum.to_le_bytes());
        header
    }

    fn load(&mut self) -> Result<bool> {
        let length = Bytes(HEADER + self.words.len() as u64 * 8);
        let mut header = [0; 28];
        if self.file.size() != length {
            return Ok(false);
        }
        self.file.read_at(Bytes::ZERO, &mut header)?;
        if header != self.header() {
            return Ok(false);
        }
        let mut bytes = vec![0; CHUNK * 8];
        for (index, words) in self.words.chunks_mut(CHUNK).enumerate() {
            let bytes = &mut bytes[..words.len() * 8];
            self.file.read_at(Bytes(HEADER + (index * CHUNK * 8) as u64), bytes)?;
            for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
                *word = u64::from_le_bytes(*bytes);
            }
        }
        if let (Some(last), rest @ 1..) = (self.words.last_mut(), self.size.div_ceil(GRANULE) % 64) {
            *last &= u64::MAX >> (64 - rest);
        }
        self.count = self.words.iter().map(|word| u64::from(word.count_ones())).sum();
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use testkit::{Rng, SimFolder};

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange::between(Bytes(start), Bytes(end))
    }

    fn runs(map: &DirtyMap) -> Vec<(u64, u64)> {
        let mut from = 0;
        let mut runs = Vec::new();
        while let Some(run) = map.next_run(from, u64::MAX) {
            runs.push((run.start().0 / GRANULE, run.end().0.div_ceil(GRANULE)));
            from = run.end().0;
        }
        runs
    }

    #[test]
    fn it_agrees_with_a_set_of_granules_and_survives_being_reopened() {
        let folder: Arc<dyn Folder> = Arc::new(SimFolder::new("state"));
        let size = 1000 * GRANULE - 5000;
        let (mut map, fresh) = DirtyMap::open(&folder, "dirty", Bytes(size)).unwrap();
        assert!(fresh);
        assert_eq!(runs(&map), [(0, 1000)]);
        let mut expected: BTreeSet<u64> = (0..1000).collect();
        let mut rng = Rng::new(1);
        for round in 0..400 {
            let start = rng.below(size);
            let end = (start + 1 + rng.below(40 * GRANULE)).min(size);
            if rng.one_in(2) {
                map.set(range(start, end)).unwrap();
                expected.extend(start / GRANULE..end.div_ceil(GRANULE));
            } else {
                map.clear(range(start, end)).unwrap();
                let last = if end == size { 1000 } else { end / GRANULE };
                expected.retain(|granule| !(start.div_ceil(GRANULE)..last).contains(granule));
            }
            if round % 50 == 0 {
                drop(map);
                let fresh;
                (map, fresh) = DirtyMap::open(&folder, "dirty", Bytes(size)).unwrap();
                assert!(!fresh);
            }
            let granules: BTreeSet<u64> = runs(&map).into_iter().flat_map(|(a, b)| a..b).collect();
            assert_eq!(granules, expected, "round {round}");
            assert_eq!(map.count, expected.len() as u64);
        }
    }

    #[test]
    fn a_map_of_another_disk_is_not_believed() {
        let folder: Arc<dyn Folder> = Arc::new(SimFolder::new("state"));
        let (mut map, _) = DirtyMap::open(&folder, "dirty", Bytes(10 * GRANULE)).unwrap();
        map.clear(range(0, 10 * GRANULE)).unwrap();
        drop(map);
        let (map, fresh) = DirtyMap::open(&folder, "dirty", Bytes(11 * GRANULE)).unwrap();
        assert!(fresh);
        assert_eq!(map.dirty_bytes(), 11 * GRANULE);
    }
}
