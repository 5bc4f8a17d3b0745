//! A segment: a file of records whose header says where it belongs, and the index over them.

use crate::cache::Part;
use crate::codec::{Parsed, Reader};
use crate::footer::{ENTRIES_PER_BLOCK, Footer, PLACES_PER_BLOCK, TRAILER, Trailer};
use crate::header::{Prefix, SegmentHeader, VERSION};
use crate::index::{ChunkPlace, IndexEntry, Key, MemoryIndex, Span, Totals};
use crate::record::Record;
use crate::scan::{Found, Scanned};
use crate::store::{Store, read_vec};
use crate::{Error, Result};
use disk::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

const PREFIX: &str = "segment-";
const SUFFIX: &str = ".journal";

/// A segment of the journal.
pub(crate) struct Segment {
    /// Unique in this process, see [`Store::new_id`].
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) header: SegmentHeader,
    pub(crate) checksum: u32,
    pub(crate) header_end: u64,
    index: RwLock<Index>,
    rebuilt: AtomicBool,
}

/// Where the index is.
pub(crate) enum Index {
    /// In memory: the segment is open, or its index had to be rebuilt.
    Memory(MemoryIndex),
    /// In the file; here is what finds its blocks.
    Stored(Footer),
}

/// Name of the file of the segment that starts with batch `first`.
pub(crate) fn file_name(first: u64) -> String {
    format!("{PREFIX}{first:020}{SUFFIX}")
}

/// The first batch of the segment in a file of this name, or `None` for other files.
pub(crate) fn first_of_name(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let plain = digits.len() == 20 && digits.bytes().all(|digit| digit.is_ascii_digit());
    plain.then(|| digits.parse().ok())?
}

impl Segment {
    /// A segment whose header was just written.
    pub(crate) fn new(
        store: &Store,
        name: String,
        header: SegmentHeader,
        checksum: u32,
        end: u64,
    ) -> Segment {
        let index = Index::Memory(MemoryIndex::new(header.first, end, checksum, header.applied));
        Segment {
            id: store.new_id(),
            name,
            checksum,
            header_end: end,
            index: RwLock::new(index),
            header,
            rebuilt: AtomicBool::new(false),
        }
    }

    /// Reads the header of a segment that exists; its index is still empty.
    pub(crate) fn read_header(store: &Store, name: &str, file: &dyn File) -> Result<Segment> {
        let failed = || store.failed("reading a segment's header");
        let corrupt = |what: &str| store.corrupt(name, 0, what);
        let size = file.size().0;
        if size < Prefix::SIZE as u64 {
            return Err(corrupt("the file is too short for a header"));
        }
        let start = read_vec(file, 0, size.min(4096) as usize).map_err(failed())?;
        let prefix = Prefix::decode(&start).map_err(corrupt)?;
        if prefix.length as u64 > size {
            return Err(corrupt("the file is too short for its header"));
        }
        let bytes = match start.get(..prefix.length) {
            Some(bytes) => bytes.to_vec(),
            None => read_vec(file, 0, prefix.length).map_err(failed())?,
        };
        if crc32c::crc32c(&bytes[12..]) != prefix.checksum {
            return Err(corrupt("the checksum of the segment's header is wrong"));
        }
        if prefix.version > VERSION {
            let segment = format!("{}/{name}", store.name());
            return Err(Error::Version { segment, version: prefix.version, known: VERSION });
        }
        let header = SegmentHeader::decode(&bytes).map_err(corrupt)?;
        if header.identity != store.identity {
            return Err(Error::Identity {
                segment: format!("{}/{name}", store.name()),
                expected: describe(&store.identity),
                found: describe(&header.identity),
            });
        }
        if Some(header.first) != first_of_name(name) {
            return Err(corrupt("its name does not say which batch it starts with"));
        }
        let end = crate::codec::padded(prefix.length as u64);
        Ok(Segment::new(store, name.to_owned(), header, prefix.checksum, end))
    }

    /// Reads the footer that a closed segment ends in; says what is wrong when it has none.
    pub(crate) fn read_footer(&self, store: &Store, file: &dyn File) -> Result<Parsed<()>> {
        let failed = || store.failed("reading a segment's footer");
        let size = file.size().0;
        if size < self.header_end + TRAILER as u64 {
            return Ok(Err("it is too short for a footer"));
        }
        let bytes = read_vec(file, size - TRAILER as u64, TRAILER).map_err(failed())?;
        let trailer = match Trailer::decode(&bytes, self.checksum, size) {
            Ok(trailer) => trailer,
            Err(what) => return Ok(Err(what)),
        };
        let bytes = read_vec(file, trailer.position, trailer.length as usize).map_err(failed())?;
        if crc32c::crc32c(&bytes) != trailer.checksum {
            return Ok(Err("the checksum of its footer is wrong"));
        }
        Ok(Footer::decode(&bytes, self.header.first, size)
            .map(|footer| self.set_index(Index::Stored(footer))))
    }

    pub(crate) fn scan(&self, store: &Store, file: &dyn File, open: bool) -> Result<Found> {
        let scanned = Scanned {
            store,
            name: &self.name,
            file,
            header: &self.header,
            checksum: self.checksum,
            header_end: self.header_end,
        };
        if open { scanned.open_records() } else { scanned.records() }
    }

    pub(crate) fn set_index(&self, index: Index) {
        *self.write() = index;
    }

    /// Takes an index that was rebuilt from the records.
    pub(crate) fn set_rebuilt(&self, index: MemoryIndex) {
        self.set_index(Index::Memory(index));
        self.rebuilt.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_rebuilt(&self) -> bool {
        self.rebuilt.load(Ordering::Relaxed)
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Looks at the sums over the records.
    pub(crate) fn totals<T>(&self, look: impl FnOnce(&Totals) -> T) -> T {
        match &*self.read() {
            Index::Memory(index) => look(&index.totals),
            Index::Stored(footer) => look(&footer.totals),
        }
    }

    pub(crate) fn first(&self) -> u64 {
        self.header.first
    }

    /// Number of the last batch; one less than the first when there is none.
    pub(crate) fn last(&self) -> u64 {
        self.totals(|totals| totals.last)
    }

    /// Bytes that its file takes.
    pub(crate) fn file_size(&self) -> u64 {
        match &*self.read() {
            Index::Memory(index) => index.totals.end,
            Index::Stored(footer) => footer.file_size,
        }
    }

    pub(crate) fn span(&self, disk: u16) -> Option<Span> {
        match &*self.read() {
            Index::Memory(index) => index.spans.get(&disk).copied(),
            Index::Stored(footer) => footer.spans.get(&disk).copied(),
        }
    }

    pub(crate) fn file(&self, store: &Store) -> Result<Arc<dyn File>> {
        store.files.get(self.id, &self.name).map_err(store.failed("opening a segment"))
    }

    /// Some entries of the key's disk from the key on, in order; none when there are no more.
    pub(crate) fn entries(&self, store: &Store, key: Key) -> Result<Vec<IndexEntry>> {
        self.on_index(store, |index| match index {
            Index::Memory(index) => Ok(index.page(key)),
            Index::Stored(footer) => self.stored_entries(store, footer, key),
        })
    }

    fn stored_entries(&self, store: &Store, footer: &Footer, key: Key) -> Result<Vec<IndexEntry>> {
        let after = footer.entry_blocks.partition_point(|(first, _)| *first <= key);
        for block in after.saturating_sub(1)..footer.entry_blocks.len() {
            let (first, checksum) = footer.entry_blocks[block];
            if first.disk > key.disk {
                break;
            }
            let place = footer.entry_block(block);
            let bytes = self.block(store, (Part::Entries, block), place, checksum)?;
            let batches = footer.totals.last + 1 - self.first();
            let mut reader = Reader::new(&bytes);
            let mut entries = Vec::with_capacity(ENTRIES_PER_BLOCK);
            while !reader.is_empty() {
                let entry = IndexEntry::decode(&mut reader, batches, footer.totals.chunks);
                entries.push(entry.map_err(|what| store.corrupt(&self.name, place.0, what))?);
            }
            entries.retain(|entry| entry.disk == key.disk && entry.key() >= key);
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
        Ok(Vec::new())
    }

    /// Where a chunk is.
    pub(crate) fn chunk_place(&self, store: &Store, chunk: u32) -> Result<ChunkPlace> {
        let missing = || store.corrupt(&self.name, self.header_end, "its index names a chunk that it lacks");
        self.on_index(store, |index| match index {
            Index::Memory(index) => index.chunks.get(chunk as usize).copied().ok_or_else(missing),
            Index::Stored(footer) => {
                let (block, at) = (chunk as usize / PLACES_PER_BLOCK, chunk as usize % PLACES_PER_BLOCK);
                let checksum = *footer.chunk_blocks.get(block).ok_or_else(missing)?;
                let place = footer.chunk_block(block);
                let bytes = self.block(store, (Part::Places, block), place, checksum)?;
                let start = at * crate::index::PLACE_SIZE;
                let mut reader = Reader::new(bytes.get(start..).ok_or_else(missing)?);
                ChunkPlace::decode(&mut reader).map_err(|what| store.corrupt(&self.name, place.0, what))
            }
        })
    }

    /// Some batches in order, among them the one of this number, which the segment holds.
    pub(crate) fn rows_around(&self, store: &Store, number: u64) -> Result<Vec<Record>> {
        self.on_index(store, |index| match index {
            Index::Memory(index) => Ok(index.rows_around((number - self.first()) as usize)),
            Index::Stored(footer) => self.stored_rows(store, footer, number),
        })
    }

    fn stored_rows(&self, store: &Store, footer: &Footer, number: u64) -> Result<Vec<Record>> {
        let at = footer.row_blocks.partition_point(|block| block.first <= number).saturating_sub(1);
        let Some(block) = footer.row_blocks.get(at) else {
            return Err(store.corrupt(&self.name, footer.totals.end, "its index lacks a batch"));
        };
        let place = (block.position, block.length as usize);
        let bytes = self.block(store, (Part::Rows, at), place, block.checksum)?;
        let mut rest = &bytes[..];
        let mut rows = Vec::new();
        while !rest.is_empty() {
            let (row, length) = Record::decode_with_texts(rest)
                .map_err(|what| store.corrupt(&self.name, block.position, what))?;
            rest = &rest[length..];
            rows.push(row);
        }
        let numbers = rows.iter().map(|row| row.number);
        if numbers.eq(block.first..block.first + rows.len() as u64)
            && rows.iter().any(|row| row.number == number)
        {
            Ok(rows)
        } else {
            Err(store.corrupt(&self.name, block.position, "its index lacks a batch"))
        }
    }

    /// A block of the stored index, from the cache or the file.
    fn block(
        &self,
        store: &Store,
        (part, number): (Part, usize),
        (position, length): (u64, usize),
        checksum: u32,
    ) -> Result<Arc<[u8]>> {
        store.cache.get((self.id, part, number as u32), || {
            let file = self.file(store)?;
            let bytes = read_vec(&*file, position, length).map_err(store.failed("reading an index"))?;
            if crc32c::crc32c(&bytes) != checksum {
                return Err(store.corrupt(
                    &self.name,
                    position,
                    "the checksum of a block of its index is wrong",
                ));
            }
            Ok(bytes.into())
        })
    }

    /// Reads the index; when its stored form is damaged, rebuilds it from the records and reads again.
    fn on_index<T>(&self, store: &Store, read: impl Fn(&Index) -> Result<T>) -> Result<T> {
        let damage = {
            let index = self.read();
            match (read(&index), &*index) {
                (Err(damage @ Error::Corrupt { .. }), Index::Stored(_)) => damage,
                (result, _) => return result,
            }
        };
        match self.rebuild(store) {
            Ok(()) => read(&self.read()),
            Err(Error::Corrupt { .. }) => Err(damage),
            Err(error) => Err(error),
        }
    }

    fn rebuild(&self, store: &Store) -> Result<()> {
        let file = self.file(store)?;
        let found = self.scan(store, &*file, false)?;
        let (end, whole) = self.totals(|totals| (totals.end, *totals == found.index.totals));
        if !whole {
            return Err(store.corrupt(&self.name, found.index.totals.end.min(end), found.stop));
        }
        self.set_rebuilt(found.index);
        Ok(())
    }
}

fn describe(identity: &crate::Identity) -> String {
    let disks: Vec<String> =
        identity.disks.iter().map(|disk| format!("{} of {} bytes", disk.id, disk.size.0)).collect();
    format!("item {} with disks [{}]", identity.item, disks.join(", "))
}
