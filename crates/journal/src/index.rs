//! What a segment knows about its batches: which ranges they touched, where their before-images are, and what
//! they say about themselves. [`MemoryIndex`] is the form in memory: of the open segment, and of a closed one
//! whose stored index turned out to be damaged.

use crate::codec::{Parsed, Put, Reader};
use crate::record::{Chunk, NO_CHUNK, RECORD_HEADER, Record, TableExtent};
use crate::types::MAX_EXTENT;
use std::collections::BTreeMap;

/// Bytes of an [`IndexEntry`] in a block.
pub(crate) const ENTRY_SIZE: usize = 24;
/// Bytes of a [`ChunkPlace`] in a block.
pub(crate) const PLACE_SIZE: usize = 20;
/// Entries of a page of the index in memory.
const PAGE: usize = 512;
/// Rows of a page of the index in memory.
const ROWS: usize = 256;

/// An extent in an index. Entries are sorted by disk, offset and batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) disk: u16,
    pub(crate) offset: u64,
    pub(crate) length: u32,
    /// Counted from the first batch of the segment.
    pub(crate) batch: u32,
    /// Number within the segment, or [`NO_CHUNK`].
    pub(crate) chunk: u32,
    pub(crate) position: u16,
}

/// The order of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) disk: u16,
    pub(crate) offset: u64,
    pub(crate) batch: u32,
}

/// Where a chunk is in the segment's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkPlace {
    pub(crate) position: u64,
    pub(crate) chunk: Chunk,
}

/// The stretch of a disk within which a segment touched anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// The longest extent: how far before a range an extent can start and still reach into it.
    pub(crate) longest: u32,
}

/// The consistent batches of a segment, to skip segments by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Points {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) bookmarks: u64,
    pub(crate) min_source: u64,
    pub(crate) max_source: u64,
    pub(crate) max_receive: u64,
}

/// Sums over the records of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Where the next record would start.
    pub(crate) end: u64,
    /// Number of the last batch; one less than the first when there is none.
    pub(crate) last: u64,
    /// Checksum of the last header.
    pub(crate) chain: u32,
    /// Every batch up to this one was durable on the disks.
    pub(crate) applied: u64,
    /// Every byte before this offset was durable when the last record was written.
    pub(crate) synced: u64,
    pub(crate) extents: u64,
    pub(crate) chunks: u32,
    pub(crate) undo_bytes: u64,
    pub(crate) stored_bytes: u64,
    /// The newest batch without before-images, or zero.
    pub(crate) without_undo: u64,
    pub(crate) points: Option<Points>,
}

/// The index of a segment in memory.
#[derive(Debug)]
pub(crate) struct MemoryIndex {
    pub(crate) totals: Totals,
    pub(crate) spans: BTreeMap<u16, Span>,
    extents: BTreeMap<Key, (u32, u32, u16)>,
    pub(crate) chunks: Vec<ChunkPlace>,
    pub(crate) rows: Vec<Record>,
}

impl IndexEntry {
    pub(crate) fn key(&self) -> Key {
        Key { disk: self.disk, offset: self.offset, batch: self.batch }
    }

    pub(crate) fn end(&self) -> u64 {
        self.offset + u64::from(self.length)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.offset);
        out.put_u32(self.length);
        out.put_u32(self.batch);
        out.put_u32(self.chunk);
        out.put_u16(self.position);
        out.put_u16(self.disk);
    }

    /// Parses an entry of a segment of so many batches and chunks.
    pub(crate) fn decode(reader: &mut Reader<'_>, batches: u64, chunks: u32) -> Parsed<IndexEntry> {
        let (offset, length, batch) = (reader.u64()?, reader.u32()?, reader.u32()?);
        let (chunk, position, disk) = (reader.u32()?, reader.u16()?, reader.u16()?);
        let possible = (1..=MAX_EXTENT.0).contains(&length.into())
            && offset.checked_add(length.into()).is_some()
            && u64::from(batch) < batches
            && (chunk == NO_CHUNK || chunk < chunks);
        if !possible {
            return Err("an entry of its index is impossible");
        }
        Ok(IndexEntry { disk, offset, length, batch, chunk, position })
    }
}

impl ChunkPlace {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.position);
        self.chunk.encode(out);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Parsed<ChunkPlace> {
        let position = reader.u64()?;
        let chunk = Chunk { stored: reader.u32()?, raw: reader.u32()?, checksum: reader.u32()? };
        if chunk.raw as usize > crate::record::CHUNK || chunk.stored > chunk.raw {
            return Err("a chunk has an impossible length");
        }
        Ok(ChunkPlace { position, chunk })
    }
}

impl Totals {
    fn new(first: u64, end: u64, chain: u32, applied: u64) -> Totals {
        Totals {
            end,
            last: first - 1,
            chain,
            applied,
            synced: end,
            extents: 0,
            chunks: 0,
            undo_bytes: 0,
            stored_bytes: 0,
            without_undo: 0,
            points: None,
        }
    }

    fn add(&mut self, record: &Record, chain: u32) {
        self.end = record.place.position + record.length();
        self.chain = chain;
        self.applied = self.applied.max(record.place.applied);
        self.synced = self.synced.max(record.place.synced);
        let Some(batch) = &record.batch else { return };
        self.last = record.number;
        self.extents += u64::from(record.extents);
        self.chunks += record.chunks;
        self.undo_bytes += record.undo_bytes;
        self.stored_bytes += record.data_length;
        if !batch.undo {
            self.without_undo = record.number;
        }
        if batch.kind.is_consistent() {
            let mut points = self.points.unwrap_or(Points {
                first: record.number,
                last: record.number,
                bookmarks: 0,
                min_source: batch.source_time,
                max_source: batch.source_time,
                max_receive: batch.receive_time,
            });
            points.last = record.number;
            points.bookmarks += u64::from(batch.bookmark.is_some());
            points.min_source = points.min_source.min(batch.source_time);
            points.max_source = points.max_source.max(batch.source_time);
            points.max_receive = points.max_receive.max(batch.receive_time);
            self.points = Some(points);
        }
    }
}

impl Span {
    fn add(&mut self, entry: &IndexEntry) {
        self.start = self.start.min(entry.offset);
        self.end = self.end.max(entry.end());
        self.longest = self.longest.max(entry.length);
    }
}

impl MemoryIndex {
    /// The index of a segment without records, whose header ends at `end`.
    pub(crate) fn new(first: u64, end: u64, chain: u32, applied: u64) -> MemoryIndex {
        MemoryIndex {
            totals: Totals::new(first, end, chain, applied),
            spans: BTreeMap::new(),
            extents: BTreeMap::new(),
            chunks: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Adds a record that follows all others; `chain` is the checksum of its header.
    pub(crate) fn add(
        &mut self,
        first: u64,
        record: Record,
        chain: u32,
        chunks: &[Chunk],
        extents: &[TableExtent],
    ) {
        self.totals.add(&record, chain);
        let mut position = record.place.position + RECORD_HEADER as u64 + record.body_length();
        for chunk in chunks {
            self.chunks.push(ChunkPlace { position, chunk: *chunk });
            position += u64::from(chunk.stored);
        }
        let batch = (record.number - first.min(record.number)) as u32;
        for extent in extents {
            let chunk = match extent.chunk {
                NO_CHUNK => NO_CHUNK,
                chunk => record.place.first_chunk + chunk,
            };
            self.insert(IndexEntry {
                disk: extent.disk,
                offset: extent.offset,
                length: extent.length,
                batch,
                chunk,
                position: extent.position,
            });
        }
        if record.batch.is_some() {
            self.rows.push(record);
        }
    }

    fn insert(&mut self, entry: IndexEntry) {
        self.spans
            .entry(entry.disk)
            .or_insert(Span { start: entry.offset, end: entry.end(), longest: entry.length })
            .add(&entry);
        self.extents.insert(entry.key(), (entry.length, entry.chunk, entry.position));
    }

    /// All entries in their order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = IndexEntry> + '_ {
        self.entries_from(Key { disk: 0, offset: 0, batch: 0 })
    }

    fn entries_from(&self, key: Key) -> impl Iterator<Item = IndexEntry> + '_ {
        self.extents.range(key..).map(|(key, (length, chunk, position))| IndexEntry {
            disk: key.disk,
            offset: key.offset,
            length: *length,
            batch: key.batch,
            chunk: *chunk,
            position: *position,
        })
    }

    /// Some entries of the key's disk from the key on; none when there are no more.
    pub(crate) fn page(&self, key: Key) -> Vec<IndexEntry> {
        self.entries_from(key).take_while(|entry| entry.disk == key.disk).take(PAGE).collect()
    }

    /// Some rows around the one at `index`, which exists.
    pub(crate) fn rows_around(&self, index: usize) -> Vec<Record> {
        let start = index / ROWS * ROWS;
        self.rows[start..self.rows.len().min(start + ROWS)].to_vec()
    }
}
