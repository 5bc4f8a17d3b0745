//! The index at the end of a closed segment: blocks of entries, of chunks and of batches, each checksummed in the
//! footer, which alone is read when the journal is opened. The trailer, the last bytes of the file, finds it.

use crate::codec::{Parsed, Put, Reader};
use crate::index::{ENTRY_SIZE, Key, MemoryIndex, PLACE_SIZE, Points, Span, Totals};
use std::collections::BTreeMap;

/// Bytes of the trailer.
pub(crate) const TRAILER: usize = 32;
/// Entries of a full block: just under 8 KiB of them.
pub(crate) const ENTRIES_PER_BLOCK: usize = 8192 / ENTRY_SIZE;
/// Chunks of a full block: just under 8 KiB of them.
pub(crate) const PLACES_PER_BLOCK: usize = 8192 / PLACE_SIZE;
/// A block of batches ends with the batch that reaches this many bytes.
const ROW_BLOCK: usize = 8192;
/// The longest block of batches that is read.
pub(crate) const MAX_ROW_BLOCK: u32 = 16 << 10;
/// The longest footer that is read.
const MAX_FOOTER: u32 = 256 << 20;

const MAGIC: &[u8; 8] = b"MTJINDEX";

/// The footer of a closed segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) totals: Totals,
    pub(crate) spans: BTreeMap<u16, Span>,
    /// First key and checksum of each block of entries.
    pub(crate) entry_blocks: Vec<(Key, u32)>,
    /// Checksum of each block of chunks.
    pub(crate) chunk_blocks: Vec<u32>,
    pub(crate) row_blocks: Vec<RowBlock>,
    /// Size of the segment's file.
    pub(crate) file_size: u64,
}

/// A block of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowBlock {
    /// Number of its first batch.
    pub(crate) first: u64,
    pub(crate) position: u64,
    pub(crate) length: u32,
    pub(crate) checksum: u32,
}

/// What the trailer says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trailer {
    pub(crate) position: u64,
    pub(crate) length: u32,
    pub(crate) checksum: u32,
}

impl Trailer {
    fn encode(&self, segment: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(TRAILER);
        out.put(MAGIC);
        out.put_u64(self.position);
        out.put_u32(self.length);
        out.put_u32(self.checksum);
        out.put_u32(segment);
        let checksum = crc32c::crc32c(&out);
        out.put_u32(checksum);
        out
    }

    /// Parses the last bytes of a file of `size` bytes.
    pub(crate) fn decode(bytes: &[u8], segment: u32, size: u64) -> Parsed<Trailer> {
        let mut reader = Reader::new(bytes);
        if reader.bytes(8)? != MAGIC {
            return Err("it does not end in a trailer");
        }
        let trailer = Trailer { position: reader.u64()?, length: reader.u32()?, checksum: reader.u32()? };
        let (of, checksum) = (reader.u32()?, reader.u32()?);
        reader.finish()?;
        let end = trailer.position.checked_add(u64::from(trailer.length) + TRAILER as u64);
        if checksum != crc32c::crc32c(&bytes[..TRAILER - 4]) || of != segment {
            return Err("the checksum of its trailer is wrong");
        }
        if end != Some(size) || trailer.length > MAX_FOOTER {
            return Err("its trailer points out of the file");
        }
        Ok(trailer)
    }
}

impl Footer {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let totals = &self.totals;
        out.put_u64(totals.end);
        out.put_u64(totals.last);
        out.put_u64(totals.applied);
        out.put_u64(totals.synced);
        out.put_u64(totals.extents);
        out.put_u64(totals.undo_bytes);
        out.put_u64(totals.stored_bytes);
        out.put_u64(totals.without_undo);
        out.put_u32(totals.chain);
        out.put_u32(totals.chunks);
        let points = totals.points.unwrap_or(Points::NONE);
        for number in points.fields() {
            out.put_u64(number);
        }
        out.put_u32(self.spans.len() as u32);
        for (disk, span) in &self.spans {
            out.put_u16(*disk);
            out.put_u64(span.start);
            out.put_u64(span.end);
            out.put_u32(span.longest);
        }
        out.put_u32(self.entry_blocks.len() as u32);
        for (key, checksum) in &self.entry_blocks {
            out.put_u64(key.offset);
            out.put_u32(key.batch);
            out.put_u16(key.disk);
            out.put_u32(*checksum);
        }
        out.put_u32(self.chunk_blocks.len() as u32);
        self.chunk_blocks.iter().for_each(|checksum| out.put_u32(*checksum));
        out.put_u32(self.row_blocks.len() as u32);
        for block in &self.row_blocks {
            out.put_u64(block.first);
            out.put_u64(block.position);
            out.put_u32(block.length);
            out.put_u32(block.checksum);
        }
        out
    }

    /// Parses a footer of a segment whose first batch is `first`, out of a file of `file_size` bytes.
    pub(crate) fn decode(bytes: &[u8], first: u64, file_size: u64) -> Parsed<Footer> {
        let mut reader = Reader::new(bytes);
        let totals = decode_totals(&mut reader)?;
        let count = reader.count(22)?;
        let mut spans = BTreeMap::new();
        for _ in 0..count {
            let disk = reader.u16()?;
            spans.insert(disk, Span { start: reader.u64()?, end: reader.u64()?, longest: reader.u32()? });
        }
        let count = reader.count(18)?;
        let mut entry_blocks = Vec::with_capacity(count);
        for _ in 0..count {
            let (offset, batch, disk) = (reader.u64()?, reader.u32()?, reader.u16()?);
            entry_blocks.push((Key { disk, offset, batch }, reader.u32()?));
        }
        let count = reader.count(4)?;
        let chunk_blocks = (0..count).map(|_| reader.u32()).collect::<Parsed<Vec<_>>>()?;
        let count = reader.count(24)?;
        let mut row_blocks = Vec::with_capacity(count);
        for _ in 0..count {
            let (first, position) = (reader.u64()?, reader.u64()?);
            row_blocks.push(RowBlock { first, position, length: reader.u32()?, checksum: reader.u32()? });
        }
        reader.finish()?;
        let footer = Footer { totals, spans, entry_blocks, chunk_blocks, row_blocks, file_size };
        footer.check(first)?;
        Ok(footer)
    }

    /// Geometry is checked before any arithmetic uses it.
    fn check(&self, first: u64) -> Parsed<()> {
        let totals = &self.totals;
        let counts_fit = self.entry_blocks.len() as u64 == totals.extents.div_ceil(ENTRIES_PER_BLOCK as u64)
            && self.chunk_blocks.len() == (totals.chunks as usize).div_ceil(PLACES_PER_BLOCK);
        let places_fit = self.chunk_end().is_some_and(|end| end <= self.file_size)
            && self.row_blocks.iter().all(|block| {
                block.length <= MAX_ROW_BLOCK
                    && block
                        .position
                        .checked_add(block.length.into())
                        .is_some_and(|end| end <= self.file_size)
            });
        let batches = first - 1..=totals.last;
        let numbers_fit = batches.contains(&totals.last)
            && totals.last - (first - 1) < u64::from(u32::MAX)
            && totals.applied <= totals.last
            && totals.without_undo <= totals.last
            && self.row_blocks.iter().all(|block| block.first >= first && batches.contains(&block.first))
            && self.row_blocks.is_sorted_by_key(|block| block.first)
            && self.row_blocks.is_empty() == (totals.last < first);
        let spans_fit = self
            .spans
            .values()
            .all(|span| span.start <= span.end && u64::from(span.longest) <= crate::MAX_EXTENT.0);
        if counts_fit && places_fit && numbers_fit && spans_fit && self.entry_blocks.is_sorted() {
            Ok(())
        } else {
            Err("its footer contradicts itself")
        }
    }

    fn chunk_end(&self) -> Option<u64> {
        let entries = self.totals.extents.checked_mul(ENTRY_SIZE as u64)?;
        let chunks = u64::from(self.totals.chunks) * PLACE_SIZE as u64;
        self.totals.end.checked_add(entries)?.checked_add(chunks)
    }

    /// Position and length of a block of entries that exists.
    pub(crate) fn entry_block(&self, block: usize) -> (u64, usize) {
        let before = (block * ENTRIES_PER_BLOCK) as u64;
        let entries = (self.totals.extents - before).min(ENTRIES_PER_BLOCK as u64);
        (self.totals.end + before * ENTRY_SIZE as u64, entries as usize * ENTRY_SIZE)
    }

    /// Position and length of a block of chunks that exists.
    pub(crate) fn chunk_block(&self, block: usize) -> (u64, usize) {
        let before = block * PLACES_PER_BLOCK;
        let places = (self.totals.chunks as usize - before).min(PLACES_PER_BLOCK);
        let start = self.totals.end + self.totals.extents * ENTRY_SIZE as u64;
        (start + (before * PLACE_SIZE) as u64, places * PLACE_SIZE)
    }
}

impl Points {
    const NONE: Points =
        Points { first: 0, last: 0, bookmarks: 0, min_source: 0, max_source: 0, max_receive: 0 };

    fn fields(&self) -> [u64; 6] {
        [self.first, self.last, self.bookmarks, self.min_source, self.max_source, self.max_receive]
    }
}

fn decode_totals(reader: &mut Reader<'_>) -> Parsed<Totals> {
    let (end, last, applied, synced) = (reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?);
    let (extents, undo_bytes, stored_bytes, without_undo) =
        (reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?);
    let (chain, chunks) = (reader.u32()?, reader.u32()?);
    let points = Points {
        first: reader.u64()?,
        last: reader.u64()?,
        bookmarks: reader.u64()?,
        min_source: reader.u64()?,
        max_source: reader.u64()?,
        max_receive: reader.u64()?,
    };
    // Batches count from one, so a first point of zero is none.
    let points = (points.first != 0).then_some(points);
    Ok(Totals {
        end,
        last,
        chain,
        applied,
        synced,
        extents,
        chunks,
        undo_bytes,
        stored_bytes,
        without_undo,
        points,
    })
}

/// Hands the bytes of the index that follows the records to `write`, piece by piece, and returns its footer.
pub(crate) fn write_index<E>(
    index: &MemoryIndex,
    segment: u32,
    mut write: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<Footer, E> {
    let mut position = index.totals.end;
    let mut put = |block: &[u8]| {
        let start = position;
        position += block.len() as u64;
        write(start, block).map(|()| start)
    };
    let mut blocks = Blocks::default();
    let mut entry_blocks = Vec::new();
    for (number, entry) in index.entries().enumerate() {
        if number % ENTRIES_PER_BLOCK == 0 {
            blocks.seal();
            entry_blocks.push(entry.key());
        }
        entry.encode(&mut blocks.filling);
        blocks.drain(&mut put)?;
    }
    let entry_blocks = entry_blocks.into_iter().zip(blocks.take_checksums()).collect();
    for (number, place) in index.chunks.iter().enumerate() {
        if number % PLACES_PER_BLOCK == 0 {
            blocks.seal();
        }
        place.encode(&mut blocks.filling);
        blocks.drain(&mut put)?;
    }
    let chunk_blocks = blocks.take_checksums();
    blocks.flush(&mut put)?;
    let row_blocks = write_rows(index, &mut put)?;
    let mut footer = Footer {
        totals: index.totals.clone(),
        spans: index.spans.clone(),
        entry_blocks,
        chunk_blocks,
        row_blocks,
        file_size: 0,
    };
    let bytes = footer.encode();
    let at = put(&bytes)?;
    let trailer = Trailer { position: at, length: bytes.len() as u32, checksum: crc32c::crc32c(&bytes) };
    put(&trailer.encode(segment))?;
    footer.file_size = position;
    Ok(footer)
}

/// Blocks on their way to the file: written in large pieces, checksummed one by one.
#[derive(Default)]
struct Blocks {
    done: Vec<u8>,
    filling: Vec<u8>,
    checksums: Vec<u32>,
}

impl Blocks {
    const PIECE: usize = 1 << 20;

    /// Ends the block that is being filled, if it holds anything.
    fn seal(&mut self) {
        if !self.filling.is_empty() {
            self.checksums.push(crc32c::crc32c(&self.filling));
            self.done.append(&mut self.filling);
        }
    }

    fn take_checksums(&mut self) -> Vec<u32> {
        self.seal();
        std::mem::take(&mut self.checksums)
    }

    fn drain<E>(&mut self, put: &mut impl FnMut(&[u8]) -> Result<u64, E>) -> Result<(), E> {
        if self.done.len() >= Blocks::PIECE { self.flush(put) } else { Ok(()) }
    }

    fn flush<E>(&mut self, put: &mut impl FnMut(&[u8]) -> Result<u64, E>) -> Result<(), E> {
        if !self.done.is_empty() {
            put(&self.done)?;
            self.done.clear();
        }
        Ok(())
    }
}

fn write_rows<E>(
    index: &MemoryIndex,
    put: &mut impl FnMut(&[u8]) -> Result<u64, E>,
) -> Result<Vec<RowBlock>, E> {
    let mut row_blocks = Vec::new();
    let mut block = Vec::new();
    let mut first = 0;
    for (number, row) in index.rows.iter().enumerate() {
        if block.is_empty() {
            first = row.number;
        }
        block.put(&row.encode());
        let (name, group) = row.texts();
        block.put(name.as_bytes());
        block.put(group.as_bytes());
        if block.len() >= ROW_BLOCK || number + 1 == index.rows.len() {
            let position = put(&block)?;
            let (length, checksum) = (block.len() as u32, crc32c::crc32c(&block));
            row_blocks.push(RowBlock { first, position, length, checksum });
            block.clear();
        }
    }
    Ok(row_blocks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::any_record;
    use crate::record::{Chunk, NO_CHUNK, TableExtent};
    use proptest::prelude::*;

    /// An index over records as a segment has them.
    fn any_index() -> impl Strategy<Value = MemoryIndex> {
        let extents = proptest::collection::vec((0..3u16, 0..50u64, 1..9000u32, any::<bool>()), 0..80);
        proptest::collection::vec((any_record(), extents), 0..40).prop_map(|records| {
            let mut index = MemoryIndex::new(5, 512, 1, 4);
            let records = records.into_iter().filter(|(record, _)| record.batch.is_some());
            for (number, (mut record, extents)) in records.enumerate() {
                record.number = 5 + number as u64;
                record.place.applied = 4;
                record.place.position = index.totals.end;
                record.place.first_chunk = index.totals.chunks;
                record.extents = extents.len() as u32;
                record.chunks = extents.len() as u32;
                let mut places: Vec<_> = extents.iter().map(|extent| (extent.0, extent.1)).collect();
                places.sort_unstable();
                places.dedup();
                let table = |((disk, slot), (_, _, length, zero)): (&(u16, u64), &(u16, u64, u32, bool))| {
                    TableExtent {
                        disk: *disk,
                        offset: slot * 10_000,
                        length: *length,
                        new_checksum: 0,
                        chunk: if *zero { NO_CHUNK } else { 0 },
                        position: 0,
                    }
                };
                let table: Vec<_> = places.iter().zip(&extents).map(table).collect();
                record.extents = table.len() as u32;
                let chunks = vec![Chunk { stored: 9, raw: 10, checksum: 11 }; record.chunks as usize];
                index.add(5, record, number as u32, &chunks, &table);
            }
            index
        })
    }

    proptest! {
        #[test]
        fn an_index_is_found_again_by_its_trailer(index in any_index()) {
            let mut file = vec![0; index.totals.end as usize];
            let footer = write_index::<()>(&index, 7, |position, bytes| {
                assert_eq!(position, file.len() as u64);
                file.extend_from_slice(bytes);
                Ok(())
            }).unwrap();
            let size = file.len() as u64;
            let trailer = Trailer::decode(&file[file.len() - TRAILER..], 7, size).unwrap();
            let start = trailer.position as usize;
            let bytes = &file[start..start + trailer.length as usize];
            prop_assert_eq!(crc32c::crc32c(bytes), trailer.checksum);
            prop_assert_eq!(Footer::decode(bytes, 5, size), Ok(footer.clone()));
            let mut entries = Vec::new();
            for (block, (first, checksum)) in footer.entry_blocks.iter().enumerate() {
                let (position, length) = footer.entry_block(block);
                let bytes = &file[position as usize..position as usize + length];
                prop_assert_eq!(crc32c::crc32c(bytes), *checksum);
                let mut reader = Reader::new(bytes);
                let from = entries.len();
                while !reader.is_empty() {
                    entries.push(crate::index::IndexEntry::decode(&mut reader, 99, index.totals.chunks).unwrap());
                }
                prop_assert_eq!(entries[from].key(), *first);
            }
            prop_assert!(entries.iter().copied().eq(index.entries()));
        }

        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in any::<Vec<u8>>()) {
            let _ = Footer::decode(&bytes, 1, 1 << 20);
            let _ = Trailer::decode(&bytes, 1, 1 << 20);
        }
    }
}
