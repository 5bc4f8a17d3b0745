//! Reading a segment's records one after the other: to open the segment that was being written, and to rebuild an
//! index.
//!
//! Headers and tables are read, before-images are not: each record says up to where the segment had been synced
//! when it was written, and what was synced is whole, or its damage is found when it is read. Only the records
//! after the last such mark are verified to their last byte.
//!
//! Where the records end, the rest of the file is either the torn end of what was never synced, or damage. It is
//! damage when some record behind it says that this place had been synced; a record ties itself to its segment
//! and position, so nothing else can look like that.

use crate::Result;
use crate::codec::{Parsed, SECTOR};
use crate::header::SegmentHeader;
use crate::index::MemoryIndex;
use crate::record::{Chunk, RECORD_HEADER, Record, TableExtent};
use crate::store::{Store, Window, read_vec};
use disk::File;

/// A segment to be scanned.
pub(crate) struct Scanned<'a> {
    pub(crate) store: &'a Store,
    pub(crate) name: &'a str,
    pub(crate) file: &'a dyn File,
    pub(crate) header: &'a SegmentHeader,
    /// Checksum of the header, and where it ends.
    pub(crate) checksum: u32,
    pub(crate) header_end: u64,
}

/// What was found.
pub(crate) struct Found {
    pub(crate) index: MemoryIndex,
    /// Why the records end where they end.
    pub(crate) stop: &'static str,
}

impl Scanned<'_> {
    /// All records that are valid, each following the one before.
    pub(crate) fn records(&self) -> Result<Found> {
        self.records_before(u64::MAX)
    }

    /// The records of the segment that was being written: the last ones verified with their data, and damage told
    /// from a torn end.
    pub(crate) fn open_records(&self) -> Result<Found> {
        let mut found = self.records()?;
        let bad = self.first_bad_data(&found.index)?;
        if let Some(position) = bad {
            found = self.records_before(position)?;
            found.stop = "the checksum of a before-image is wrong";
        }
        let end = found.index.totals.end;
        if self.synced_later(end)? {
            return Err(self.store.corrupt(self.name, end, found.stop));
        }
        Ok(found)
    }

    fn records_before(&self, limit: u64) -> Result<Found> {
        let header = self.header;
        let mut index = MemoryIndex::new(header.first, self.header_end, self.checksum, header.applied);
        let mut window = Window::new(self.file);
        let stop = loop {
            if index.totals.end >= limit {
                break "a record is damaged";
            }
            match self.next(&mut window, &index).map_err(self.store.failed("reading a segment"))? {
                Ok((record, chunks, extents)) => {
                    let chain = u32::from_le_bytes(record.encode()[4..8].try_into().expect("four bytes"));
                    index.add(header.first, record, chain, &chunks, &extents);
                }
                Err(stop) => break stop,
            }
        };
        Ok(Found { index, stop })
    }

    #[allow(clippy::type_complexity, reason = "an I/O failure around a parser's answer, used once")]
    fn next(
        &self,
        window: &mut Window<'_>,
        index: &MemoryIndex,
    ) -> disk::Result<Parsed<(Record, Vec<Chunk>, Vec<TableExtent>)>> {
        let position = index.totals.end;
        let Some(bytes) = window.get(position, RECORD_HEADER as u64)? else {
            return Ok(Err("the file ends"));
        };
        let (mut record, body_length) = match Record::decode(bytes) {
            Ok(decoded) => decoded,
            Err(stop) => return Ok(Err(stop)),
        };
        let header = bytes.to_vec();
        if let Err(stop) = self.follows(&record, index) {
            return Ok(Err(stop));
        }
        let end = position + crate::record::record_length(body_length, record.data_length);
        if end > window.size() {
            return Ok(Err("the file ends within a record"));
        }
        let Some(body) = window.get(position + RECORD_HEADER as u64, body_length)? else {
            return Ok(Err("the file ends within a record"));
        };
        Ok(record
            .decode_body(&header, body, &self.store.identity.disks)
            .map(|(chunks, extents)| (record, chunks, extents)))
    }

    /// Checks that a record stands where it says, and follows what was read so far.
    fn follows(&self, record: &Record, index: &MemoryIndex) -> Parsed<()> {
        let totals = &index.totals;
        let number = if record.batch.is_some() { totals.last + 1 } else { totals.last };
        let place = &record.place;
        if place.segment != self.checksum || place.position != totals.end {
            return Err("a record of another place stands here");
        }
        if place.previous != totals.chain || record.number != number || place.first_chunk != totals.chunks {
            return Err("a record does not follow the one before");
        }
        Ok(())
    }

    /// Position of the first record whose before-images are damaged, among those that may not have been synced.
    fn first_bad_data(&self, index: &MemoryIndex) -> Result<Option<u64>> {
        let failed = || self.store.failed("reading a segment");
        let synced = index.totals.synced;
        let from = index.rows.partition_point(|row| row.place.position < synced);
        for row in &index.rows[from..] {
            let first = row.place.first_chunk as usize;
            for place in &index.chunks[first..first + row.chunks as usize] {
                let stored =
                    read_vec(self.file, place.position, place.chunk.stored as usize).map_err(failed())?;
                if crc32c::crc32c(&stored) != place.chunk.checksum {
                    return Ok(Some(row.place.position));
                }
            }
        }
        Ok(None)
    }

    /// True when a record after `end` says that something from `end` on had been synced.
    fn synced_later(&self, end: u64) -> Result<bool> {
        let mut window = Window::new(self.file);
        let mut position = end;
        while let Some(bytes) =
            window.get(position, RECORD_HEADER as u64).map_err(self.store.failed("reading a segment"))?
        {
            if let Ok((record, _)) = Record::decode(bytes) {
                let place = &record.place;
                let own = place.segment == self.checksum && place.position == position;
                if own && place.synced > end {
                    return Ok(true);
                }
            }
            position += SECTOR;
        }
        Ok(false)
    }
}
