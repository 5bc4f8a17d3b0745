//! Records: what the journal appends. A record is a batch with its before-images, or a mark that only says how far
//! batches have been applied.
//!
//! A header of fixed size, checksummed on its own, says how long everything is and ties the record to its place:
//! to its segment, to its position in it, and to the record before it. So nothing that was left over from a
//! truncated tail, and no journal inside a before-image, is ever taken for a record of this journal.

use crate::codec::{Parsed, Put, Reader, padded};
use crate::types::{
    BatchHeader, BatchKind, BatchNumber, BatchSummary, Bookmark, MAX_BATCH_DATA, MAX_BATCH_EXTENTS,
    MAX_EXTENT, MAX_NAME,
};
use crate::{DiskIdentity, PendingExtent};
use disk::{ByteRange, Bytes};

/// Bytes of a record's header.
pub(crate) const RECORD_HEADER: usize = 144;
/// Bytes of an extent in a record's table.
pub(crate) const EXTENT_SIZE: usize = 24;
/// Bytes of a chunk in a record's table.
pub(crate) const CHUNK_SIZE: usize = 12;
/// The most bytes of before-images in one chunk: the unit of compression, of checksums and of reading.
pub(crate) const CHUNK: usize = 64 << 10;
/// Chunk number of an extent that held zeroes.
pub(crate) const NO_CHUNK: u32 = u32::MAX;

const MAGIC: u32 = u32::from_le_bytes(*b"MTJR");
const UNDO: u8 = 1;
const BOOKMARK: u8 = 2;
const APPLICATION_CONSISTENT: u8 = 4;
const GROUP: u8 = 8;

/// Where a record stands, and how far things were when it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Checksum of the segment's header.
    pub(crate) segment: u32,
    /// Checksum of the header before: of the previous record, or of the segment.
    pub(crate) previous: u32,
    /// Its offset in the segment's file.
    pub(crate) position: u64,
    /// Chunks in the segment before it.
    pub(crate) first_chunk: u32,
    /// Every batch up to this one was durable on the disks.
    pub(crate) applied: u64,
    /// Every byte of the segment before this offset was durable.
    pub(crate) synced: u64,
}

/// A record, without its tables and data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) place: Place,
    pub(crate) number: u64,
    /// `None` for a mark.
    pub(crate) batch: Option<BatchHeader>,
    pub(crate) extents: u32,
    pub(crate) chunks: u32,
    pub(crate) body_checksum: u32,
    pub(crate) data_length: u64,
    pub(crate) undo_bytes: u64,
}

/// A chunk of before-images: stored as it is where both lengths are equal, otherwise compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) stored: u32,
    pub(crate) raw: u32,
    /// CRC32C of the stored bytes.
    pub(crate) checksum: u32,
}

/// An extent and where its before-image starts. One that does not fit into the rest of its chunk starts at the
/// beginning of one, fills it and goes on in the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableExtent {
    pub(crate) disk: u16,
    pub(crate) offset: u64,
    pub(crate) length: u32,
    pub(crate) new_checksum: u32,
    /// Number within the batch, or [`NO_CHUNK`].
    pub(crate) chunk: u32,
    pub(crate) position: u16,
}

/// Lengths of what follows a header.
struct Texts {
    name: usize,
    group: usize,
}

impl Record {
    /// The header's bytes; its checksum stands at offset 4 and names the record in the next one.
    pub(crate) fn encode(&self) -> [u8; RECORD_HEADER] {
        let (kind, rollback_to) = kind_code(self.batch.as_ref().map(|batch| batch.kind));
        let mut out = Vec::with_capacity(RECORD_HEADER);
        out.put_u32(MAGIC);
        out.put_u32(0);
        out.put_u32(self.place.segment);
        out.put_u32(self.place.previous);
        out.put_u64(self.place.position);
        out.put_u64(self.number);
        out.put_u8(kind);
        out.put_u8(self.flags());
        let (name, group) = self.texts();
        out.put_u16(name.len() as u16);
        out.put_u16(group.len() as u16);
        out.put_u16(0);
        let none = BatchHeader::mark();
        let batch = self.batch.as_ref().unwrap_or(&none);
        out.put(&batch.stream);
        for number in [batch.first_sequence, batch.last_sequence, batch.source_time, batch.receive_time] {
            out.put_u64(number);
        }
        for number in [rollback_to, self.place.applied, self.place.synced] {
            out.put_u64(number);
        }
        for number in [self.extents, self.chunks, self.place.first_chunk, self.body_checksum] {
            out.put_u32(number);
        }
        out.put_u64(self.data_length);
        out.put_u64(self.undo_bytes);
        let checksum = crc32c::crc32c(&out[8..]);
        out[4..8].copy_from_slice(&checksum.to_le_bytes());
        out.try_into().expect("the fields above add up to the header's size")
    }

    /// Name of the bookmark and of its group, as they follow the header.
    pub(crate) fn texts(&self) -> (&str, &str) {
        let bookmark = self.batch.as_ref().and_then(|batch| batch.bookmark.as_ref());
        let group = bookmark.and_then(|bookmark| bookmark.group.as_deref());
        (bookmark.map_or("", |bookmark| &bookmark.name), group.unwrap_or(""))
    }

    /// Bytes of texts and tables after the header.
    pub(crate) fn body_length(&self) -> u64 {
        let (name, group) = self.texts();
        body_length(name.len() + group.len(), self.chunks, self.extents)
    }

    /// Bytes that the record takes in its segment.
    pub(crate) fn length(&self) -> u64 {
        record_length(self.body_length(), self.data_length)
    }

    fn flags(&self) -> u8 {
        let Some(batch) = &self.batch else { return 0 };
        let mut flags = if batch.undo { UNDO } else { 0 };
        if let Some(bookmark) = &batch.bookmark {
            flags |= BOOKMARK;
            flags |= if bookmark.application_consistent { APPLICATION_CONSISTENT } else { 0 };
            flags |= if bookmark.group.is_some() { GROUP } else { 0 };
        }
        flags
    }

    /// Parses a header and the texts that follow it; returns how many bytes both took.
    pub(crate) fn decode_with_texts(bytes: &[u8]) -> Parsed<(Record, usize)> {
        let (mut record, texts) = Record::decode_fixed(bytes)?;
        let end = RECORD_HEADER + texts.name + texts.group;
        let body = bytes.get(RECORD_HEADER..end).ok_or("it ends too early")?;
        record.set_texts(&mut Reader::new(body), &texts)?;
        Ok((record, end))
    }

    /// Parses a header alone, and says how long the texts and tables after it are; the texts are left empty.
    pub(crate) fn decode(bytes: &[u8]) -> Parsed<(Record, u64)> {
        let (record, texts) = Record::decode_fixed(bytes)?;
        let body = body_length(texts.name + texts.group, record.chunks, record.extents);
        Ok((record, body))
    }

    fn decode_fixed(bytes: &[u8]) -> Parsed<(Record, Texts)> {
        let bytes = bytes.get(..RECORD_HEADER).ok_or("it ends too early")?;
        let mut reader = Reader::new(bytes);
        if reader.u32()? != MAGIC {
            return Err("no record starts here");
        }
        if reader.u32()? != crc32c::crc32c(&bytes[8..]) {
            return Err("the checksum of a record's header is wrong");
        }
        let (segment, previous, position, number) =
            (reader.u32()?, reader.u32()?, reader.u64()?, reader.u64()?);
        let (kind, flags) = (reader.u8()?, reader.u8()?);
        let texts = Texts { name: reader.u16()?.into(), group: reader.u16()?.into() };
        reader.u16()?;
        let stream = reader.array()?;
        let (first_sequence, last_sequence) = (reader.u64()?, reader.u64()?);
        let (source_time, receive_time) = (reader.u64()?, reader.u64()?);
        let (rollback_to, applied, synced) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let (extents, chunks, first_chunk) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let (body_checksum, data_length, undo_bytes) = (reader.u32()?, reader.u64()?, reader.u64()?);
        reader.finish()?;
        let kind = kind_of(kind, BatchNumber(rollback_to))?;
        let bookmark = (flags & BOOKMARK != 0).then(|| Bookmark {
            application_consistent: flags & APPLICATION_CONSISTENT != 0,
            name: String::new(),
            group: (flags & GROUP != 0).then(String::new),
        });
        let undo = flags & UNDO != 0;
        let batch = kind.map(|kind| BatchHeader {
            kind,
            stream,
            first_sequence,
            last_sequence,
            source_time,
            receive_time,
            bookmark,
            undo,
        });
        let place = Place { segment, previous, position, first_chunk, applied, synced };
        let record = Record { place, number, batch, extents, chunks, body_checksum, data_length, undo_bytes };
        record.check_limits(&texts)?;
        Ok((record, texts))
    }

    fn check_limits(&self, texts: &Texts) -> Parsed<()> {
        let most_chunks = MAX_BATCH_EXTENTS as u64 + MAX_BATCH_DATA / CHUNK as u64;
        let within = texts.name <= MAX_NAME
            && texts.group <= MAX_NAME
            && self.extents as usize <= MAX_BATCH_EXTENTS
            && u64::from(self.chunks) <= most_chunks
            && self.data_length <= MAX_BATCH_DATA
            && self.undo_bytes <= u64::from(self.extents) * MAX_EXTENT.0
            && self.place.first_chunk.checked_add(self.chunks).is_some_and(|end| end < NO_CHUNK)
            && self.place.applied <= self.number
            && self.number < u64::MAX;
        if within { Ok(()) } else { Err("a record exceeds the limits of the format") }
    }

    fn set_texts(&mut self, reader: &mut Reader<'_>, texts: &Texts) -> Parsed<()> {
        let (name, group) = (reader.text(texts.name)?, reader.text(texts.group)?);
        match self.batch.as_mut().and_then(|batch| batch.bookmark.as_mut()) {
            Some(bookmark) => {
                bookmark.name = name;
                bookmark.group = bookmark.group.is_some().then_some(group);
                Ok(())
            }
            None if name.is_empty() && group.is_empty() => Ok(()),
            None => Err("a record without a bookmark has a name"),
        }
    }

    /// Parses what follows the header: texts, chunks and extents, each checked against the others and the disks.
    pub(crate) fn decode_body(
        &mut self,
        header: &[u8],
        body: &[u8],
        disks: &[DiskIdentity],
    ) -> Parsed<(Vec<Chunk>, Vec<TableExtent>)> {
        let (_, texts) = Record::decode_fixed(header)?;
        if crc32c::crc32c(body) != self.body_checksum {
            return Err("the checksum of a record's tables is wrong");
        }
        let mut reader = Reader::new(body);
        self.set_texts(&mut reader, &texts)?;
        let chunks = self.decode_chunks(&mut reader)?;
        let extents = self.decode_extents(&mut reader, &chunks, disks)?;
        reader.finish()?;
        Ok((chunks, extents))
    }

    fn decode_chunks(&self, reader: &mut Reader<'_>) -> Parsed<Vec<Chunk>> {
        let mut chunks = Vec::with_capacity(self.chunks as usize);
        let mut stored = 0;
        for _ in 0..self.chunks {
            let chunk = Chunk { stored: reader.u32()?, raw: reader.u32()?, checksum: reader.u32()? };
            if chunk.raw == 0 || chunk.raw as usize > CHUNK || chunk.stored > chunk.raw {
                return Err("a chunk has an impossible length");
            }
            stored += u64::from(chunk.stored);
            chunks.push(chunk);
        }
        if stored == self.data_length { Ok(chunks) } else { Err("the chunks do not add up to the data") }
    }

    fn decode_extents(
        &self,
        reader: &mut Reader<'_>,
        chunks: &[Chunk],
        disks: &[DiskIdentity],
    ) -> Parsed<Vec<TableExtent>> {
        let mut extents: Vec<TableExtent> = Vec::with_capacity(self.extents as usize);
        let mut covered = 0;
        for _ in 0..self.extents {
            let extent = TableExtent::decode(reader)?;
            extent.check(chunks, disks)?;
            let last = extents.last().map(|last| (last.disk, last.offset + u64::from(last.length)));
            if last.is_some_and(|last| last > (extent.disk, extent.offset)) {
                return Err("the extents of a batch overlap or are out of order");
            }
            covered += u64::from(extent.length);
            extents.push(extent);
        }
        if covered == self.undo_bytes { Ok(extents) } else { Err("the extents do not add up") }
    }

    /// The batch, as callers see it.
    pub(crate) fn summary(&self) -> Option<BatchSummary> {
        self.batch.as_ref().map(|header| BatchSummary {
            number: BatchNumber(self.number),
            header: header.clone(),
            extents: self.extents,
            bytes: self.undo_bytes,
            stored_bytes: self.data_length,
        })
    }
}

impl BatchHeader {
    /// What a mark carries in a batch's place.
    fn mark() -> BatchHeader {
        BatchHeader {
            kind: BatchKind::Point,
            stream: [0; 16],
            first_sequence: 0,
            last_sequence: 0,
            source_time: 0,
            receive_time: 0,
            bookmark: None,
            undo: false,
        }
    }
}

impl TableExtent {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.offset);
        out.put_u32(self.length);
        out.put_u32(self.new_checksum);
        out.put_u32(self.chunk);
        out.put_u16(self.position);
        out.put_u16(self.disk);
    }

    fn decode(reader: &mut Reader<'_>) -> Parsed<TableExtent> {
        let (offset, length, new_checksum) = (reader.u64()?, reader.u32()?, reader.u32()?);
        let (chunk, position, disk) = (reader.u32()?, reader.u16()?, reader.u16()?);
        Ok(TableExtent { disk, offset, length, new_checksum, chunk, position })
    }

    fn check(&self, chunks: &[Chunk], disks: &[DiskIdentity]) -> Parsed<()> {
        let disk = disks.get(usize::from(self.disk)).ok_or("an extent names a disk that the item lacks")?;
        let range = ByteRange::new(Bytes(self.offset), Bytes(self.length.into()));
        if self.length == 0 || u64::from(self.length) > MAX_EXTENT.0 {
            return Err("an extent has an impossible length");
        }
        if range.is_none_or(|range| range.end() > disk.size) {
            return Err("an extent leaves its disk");
        }
        if self.chunk == NO_CHUNK {
            return Ok(());
        }
        let mut left = u64::from(self.position) + u64::from(self.length);
        for chunk in chunks.get(self.chunk as usize..).unwrap_or(&[]) {
            if left <= u64::from(chunk.raw) {
                return Ok(());
            }
            if chunk.raw as usize != CHUNK {
                break;
            }
            left -= CHUNK as u64;
        }
        Err("an extent's before-image leaves the data")
    }

    pub(crate) fn pending(&self) -> PendingExtent {
        let range = ByteRange::of_buffer(Bytes(self.offset), self.length as usize);
        PendingExtent { disk: self.disk, range, new_checksum: self.new_checksum }
    }
}

impl Chunk {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.stored);
        out.put_u32(self.raw);
        out.put_u32(self.checksum);
    }
}

/// Bytes that a record takes in its segment.
pub(crate) fn record_length(body: u64, data: u64) -> u64 {
    padded(RECORD_HEADER as u64 + body + data)
}

fn body_length(texts: usize, chunks: u32, extents: u32) -> u64 {
    texts as u64 + u64::from(chunks) * CHUNK_SIZE as u64 + u64::from(extents) * EXTENT_SIZE as u64
}

fn kind_code(kind: Option<BatchKind>) -> (u8, u64) {
    match kind {
        Some(BatchKind::Point) => (1, 0),
        Some(BatchKind::Syncing) => (2, 0),
        Some(BatchKind::Rollback { to, finished: false }) => (3, to.0),
        Some(BatchKind::Rollback { to, finished: true }) => (4, to.0),
        None => (5, 0),
    }
}

fn kind_of(code: u8, to: BatchNumber) -> Parsed<Option<BatchKind>> {
    Ok(match code {
        1 => Some(BatchKind::Point),
        2 => Some(BatchKind::Syncing),
        3 => Some(BatchKind::Rollback { to, finished: false }),
        4 => Some(BatchKind::Rollback { to, finished: true }),
        5 => None,
        _ => return Err("a record is of an unknown kind"),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn any_record() -> impl Strategy<Value = Record> {
        let text = || "[a-zä]{0,9}";
        let bookmark = (any::<bool>(), text(), proptest::option::of(text()));
        let bookmark = bookmark.prop_map(|(application_consistent, name, group)| Bookmark {
            application_consistent,
            name,
            group,
        });
        let batch = (0..4u8, any::<[u64; 5]>(), any::<bool>(), proptest::option::of(bookmark));
        let batch = batch.prop_map(|(kind, numbers, undo, bookmark)| BatchHeader {
            kind: kind_of(kind + 1, BatchNumber(if kind < 2 { 0 } else { numbers[4] })).unwrap().unwrap(),
            stream: [kind; 16],
            first_sequence: numbers[0],
            last_sequence: numbers[1],
            source_time: numbers[2],
            receive_time: numbers[3],
            bookmark,
            undo,
        });
        (any::<[u64; 2]>(), any::<[u32; 3]>(), 1..u64::MAX, proptest::option::of(batch), 0..99u32).prop_map(
            |(places, checksums, number, batch, count)| Record {
                place: Place {
                    segment: checksums[0],
                    previous: checksums[1],
                    position: places[0],
                    first_chunk: count,
                    applied: number / 2,
                    synced: places[1],
                },
                number,
                batch,
                extents: count,
                chunks: count / 2,
                body_checksum: checksums[2],
                data_length: u64::from(count) * 77,
                undo_bytes: u64::from(count) * 512,
            },
        )
    }

    proptest! {
        #[test]
        fn a_record_reads_as_it_was_written(record in any_record()) {
            let mut bytes = record.encode().to_vec();
            let (name, group) = record.texts();
            bytes.put(name.as_bytes());
            bytes.put(group.as_bytes());
            let length = bytes.len();
            bytes.push(0);
            prop_assert_eq!(Record::decode_with_texts(&bytes), Ok((record, length)));
        }

        #[test]
        fn a_flipped_bit_in_a_header_is_found(record in any_record(), bit in 0..RECORD_HEADER * 8) {
            let mut bytes = record.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Record::decode(&bytes).is_err());
        }

        #[test]
        fn any_tables_are_parsed_or_refused(mut record in any_record(), body in any::<Vec<u8>>()) {
            record.body_checksum = crc32c::crc32c(&body);
            let disks = [DiskIdentity { id: "a".into(), size: Bytes(u64::MAX) }];
            let _ = record.clone().decode_body(&record.encode(), &body, &disks);
        }
    }
}
