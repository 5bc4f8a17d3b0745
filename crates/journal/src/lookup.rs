//! Finding and reading before-images: which batch touched a range first after a point, and what was there.

use crate::Result;
use crate::cache::Part;
use crate::index::{IndexEntry, Key};
use crate::journal::Journal;
use crate::record::{CHUNK, NO_CHUNK};
use crate::segment::Segment;
use crate::store::{Store, read_vec};
use crate::types::BatchNumber;
use disk::{ByteRange, Bytes};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What is to be filled from the journal.
pub(crate) struct Wanted {
    pub(crate) disk: u16,
    /// The point that is being read.
    pub(crate) point: BatchNumber,
    /// Batches up to this one, not before the point, are known not to have touched it.
    pub(crate) after: BatchNumber,
}

/// A buffer and where on the disk it starts.
pub(crate) struct Target<'a> {
    pub(crate) start: Bytes,
    pub(crate) buffer: &'a mut [u8],
}

impl Target<'_> {
    pub(crate) fn part(&mut self, range: ByteRange) -> &mut [u8] {
        let from = (range.start() - self.start).as_usize();
        &mut self.buffer[from..from + range.length().as_usize()]
    }
}

/// A range that one before-image fills.
struct Piece {
    range: ByteRange,
    entry: IndexEntry,
}

impl Journal {
    /// Fills the parts of `gaps` that batches after `wanted.after` touched with what was there before the first of
    /// them. Returns the parts that none touched, and the newest batch that was surely looked at.
    pub(crate) fn fill(
        &self,
        wanted: &Wanted,
        mut gaps: Vec<ByteRange>,
        target: &mut Target<'_>,
    ) -> Result<(Vec<ByteRange>, BatchNumber)> {
        let (segments, newest, floor) =
            self.state_with(|state| (state.segments.clone(), state.newest_number(), state.floor));
        if wanted.point.0 < floor {
            return Err(self.out_of_reach(wanted.point));
        }
        let after = segments.partition_point(|segment| segment.first() <= wanted.after.0.saturating_add(1));
        for segment in &segments[after.saturating_sub(1)..] {
            if gaps.is_empty() {
                break;
            }
            let mut pieces = Vec::new();
            gaps = self.cover(segment, wanted, gaps, &mut pieces)?;
            for piece in pieces {
                self.read_piece(segment, &piece, target)
                    .map_err(|error| self.explain(wanted.point, error))?;
            }
        }
        Ok((gaps, BatchNumber(newest)))
    }

    /// A read that failed because the segment was pruned meanwhile is told as that.
    fn explain(&self, point: BatchNumber, error: crate::Error) -> crate::Error {
        if point < self.floor() { self.out_of_reach(point) } else { error }
    }

    /// Splits gaps into pieces that a segment's batches touched, the oldest batch first, and what is left.
    fn cover(
        &self,
        segment: &Segment,
        wanted: &Wanted,
        gaps: Vec<ByteRange>,
        pieces: &mut Vec<Piece>,
    ) -> Result<Vec<ByteRange>> {
        let Some(span) = segment.span(wanted.disk) else { return Ok(gaps) };
        let span_range = ByteRange::between(Bytes(span.start), Bytes(span.end));
        let mut left = Vec::new();
        for gap in gaps {
            if !gap.overlaps(&span_range) {
                left.push(gap);
                continue;
            }
            let from = gap.start().0.saturating_sub(span.longest.into());
            let mut cursor = Cursor::new(segment, wanted.disk, from);
            let mut touching = Vec::new();
            while let Some(entry) =
                cursor.next(&self.store).map_err(|error| self.explain(wanted.point, error))?
            {
                if entry.offset >= gap.end().0 {
                    break;
                }
                let number = segment.first() + u64::from(entry.batch);
                if entry.end() > gap.start().0 && number > wanted.after.0 {
                    touching.push(entry);
                }
            }
            touching.sort_by_key(|entry| entry.batch);
            left.append(&mut carve(gap, &touching, pieces));
        }
        Ok(left)
    }

    fn read_piece(&self, segment: &Segment, piece: &Piece, target: &mut Target<'_>) -> Result<()> {
        let out = target.part(piece.range);
        if piece.entry.chunk == NO_CHUNK {
            out.fill(0);
            return Ok(());
        }
        let skip = piece.range.start().0 - piece.entry.offset;
        let mut place = u64::from(piece.entry.position) + skip;
        let mut done = 0;
        while done < out.len() {
            let chunk = piece.entry.chunk + (place / CHUNK as u64) as u32;
            let from = (place % CHUNK as u64) as usize;
            let length = (CHUNK - from).min(out.len() - done);
            read_chunk(&self.store, segment, chunk, from, &mut out[done..done + length])?;
            done += length;
            place += length as u64;
        }
        Ok(())
    }

    /// The ranges of a disk, from an offset on, that batches after `point` up to `up_to` overwrote: merged,
    /// ascending, not much more than `budget` bytes of them. To go on, ask from the end of the last one; none
    /// means that there are no more.
    pub fn touched_after(
        &self,
        point: BatchNumber,
        up_to: BatchNumber,
        disk: u16,
        from: Bytes,
        budget: Bytes,
    ) -> Result<Vec<ByteRange>> {
        let (segments, floor) = self.state_with(|state| (state.segments.clone(), state.floor));
        if point.0 < floor {
            return Err(self.out_of_reach(point));
        }
        let mut cursors = Vec::new();
        let mut heads = BinaryHeap::new();
        for segment in
            segments.iter().filter(|segment| segment.first() <= up_to.0 && segment.last() > point.0)
        {
            let Some(span) = segment.span(disk).filter(|span| span.end > from.0) else { continue };
            let mut cursor = Cursor::new(segment, disk, from.0.saturating_sub(span.longest.into()));
            if let Some(entry) = cursor.next(&self.store)? {
                heads.push(Reverse((entry.offset, cursors.len())));
                cursors.push((cursor, entry));
            }
        }
        let mut touched = Touched { ranges: Vec::new(), bytes: 0 };
        while let Some(Reverse((_, number))) = heads.pop() {
            let (cursor, entry) = &mut cursors[number];
            let batch = cursor.segment.first() + u64::from(entry.batch);
            if batch > point.0 && batch <= up_to.0 && entry.end() > from.0 {
                if touched.bytes >= budget.0.max(1) {
                    break;
                }
                touched.add(entry.offset.max(from.0), entry.end());
            }
            if let Some(next) = cursor.next(&self.store)? {
                *entry = next;
                heads.push(Reverse((next.offset, number)));
            }
        }
        Ok(touched.ranges)
    }
}

/// Ranges that arrive by ascending start.
struct Touched {
    ranges: Vec<ByteRange>,
    bytes: u64,
}

impl Touched {
    fn add(&mut self, start: u64, end: u64) {
        match self.ranges.last_mut() {
            Some(last) if start <= last.end().0 => {
                if end > last.end().0 {
                    self.bytes += end - last.end().0;
                    *last = ByteRange::between(last.start(), Bytes(end));
                }
            }
            _ => {
                self.bytes += end - start;
                self.ranges.push(ByteRange::between(Bytes(start), Bytes(end)));
            }
        }
    }
}

/// Takes from a gap what each entry covers, in the order given; returns what no entry covers.
fn carve(gap: ByteRange, entries: &[IndexEntry], pieces: &mut Vec<Piece>) -> Vec<ByteRange> {
    let mut left = vec![gap];
    for entry in entries {
        if left.is_empty() {
            break;
        }
        let covered = ByteRange::of_buffer(Bytes(entry.offset), entry.length as usize);
        let from = left.partition_point(|range| range.end() <= covered.start());
        let to = left.partition_point(|range| range.start() < covered.end());
        if from >= to {
            continue;
        }
        let mut rest = Vec::new();
        for range in &left[from..to] {
            if let Some(common) = range.intersection(&covered) {
                pieces.push(Piece { range: common, entry: *entry });
            }
            if range.start() < covered.start() {
                rest.push(ByteRange::between(range.start(), covered.start()));
            }
            if covered.end() < range.end() {
                rest.push(ByteRange::between(covered.end(), range.end()));
            }
        }
        left.splice(from..to, rest);
    }
    left
}

/// Walks the entries of one disk in a segment.
struct Cursor<'a> {
    segment: &'a Segment,
    next: Option<Key>,
    page: std::vec::IntoIter<IndexEntry>,
}

impl<'a> Cursor<'a> {
    fn new(segment: &'a Segment, disk: u16, from: u64) -> Cursor<'a> {
        let first = Key { disk, offset: from, batch: 0 };
        Cursor { segment, next: Some(first), page: Vec::new().into_iter() }
    }

    fn next(&mut self, store: &Store) -> Result<Option<IndexEntry>> {
        if self.page.as_slice().is_empty() {
            let Some(key) = self.next else { return Ok(None) };
            let page = self.segment.entries(store, key)?;
            self.next = page.last().map(|last| Key { batch: last.batch + 1, ..last.key() });
            self.page = page.into_iter();
        }
        Ok(self.page.next())
    }
}

/// Reads a part of a chunk, after its checksum has been found right.
fn read_chunk(store: &Store, segment: &Segment, chunk: u32, from: usize, out: &mut [u8]) -> Result<()> {
    let place = segment.chunk_place(store, chunk)?;
    let damaged = |what: &str| store.corrupt(&segment.name, place.position, what);
    let (stored, raw) = (place.chunk.stored as usize, place.chunk.raw as usize);
    if from + out.len() > raw {
        return Err(damaged("a before-image is shorter than its extent"));
    }
    let whole = |bytes: &[u8]| {
        if crc32c::crc32c(bytes) == place.chunk.checksum {
            Ok(())
        } else {
            Err(damaged("the checksum of a before-image is wrong"))
        }
    };
    if stored == raw && out.len() == raw {
        let file = segment.file(store)?;
        file.read_at(Bytes(place.position), out).map_err(store.failed("reading a before-image"))?;
        return whole(out);
    }
    let bytes = store.cache.get((segment.id, Part::Chunk, chunk), || {
        let file = segment.file(store)?;
        let bytes =
            read_vec(&*file, place.position, stored).map_err(store.failed("reading a before-image"))?;
        whole(&bytes)?;
        if stored == raw {
            return Ok(bytes.into());
        }
        match zstd::bulk::decompress(&bytes, raw) {
            Ok(bytes) if bytes.len() == raw => Ok(bytes.into()),
            _ => Err(damaged("a before-image cannot be decompressed")),
        }
    })?;
    let part = bytes.get(from..from + out.len());
    out.copy_from_slice(part.ok_or_else(|| damaged("a before-image is shorter than its extent"))?);
    Ok(())
}
