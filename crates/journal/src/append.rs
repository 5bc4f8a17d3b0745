//! Writing: appending batches, syncing, closing a segment and starting the next, cutting off the end.

use crate::encode::EncodedBatch;
use crate::footer::write_index;
use crate::header::SegmentHeader;
use crate::journal::{Journal, UNFINISHED};
use crate::record::{Chunk, Place, Record, TableExtent};
use crate::segment::{Index, Segment, file_name};
use crate::types::BatchNumber;
use crate::{Error, Result};
use disk::{Access, Bytes, Cause, File};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A batch costs the open segment's index as much memory as this many extents.
const EXTENTS_PER_BATCH: u64 = 4;
/// Before-images up to this size are written together with the tables before them.
const SMALL: usize = 64 << 10;

/// What the one who writes holds.
#[derive(Default)]
pub(crate) struct Writer {
    open: Option<Open>,
    /// A segment's name is not durable yet.
    names_changed: bool,
}

/// The open segment.
struct Open {
    segment: Arc<Segment>,
    file: Arc<dyn File>,
    /// Every byte before this offset is durable.
    synced: u64,
}

/// What a record adds to the index.
struct Added<'a> {
    record: Record,
    chunks: &'a [Chunk],
    extents: &'a [TableExtent],
}

impl Writer {
    /// Goes on writing a segment whose first `synced` bytes are durable.
    pub(crate) fn resume(&mut self, segment: Arc<Segment>, file: Arc<dyn File>, synced: u64) {
        self.open = Some(Open { segment, file, synced });
    }
}

impl Journal {
    /// Writes a batch and makes it visible to views; it is durable after the next [`Journal::sync`]. Without
    /// space the journal stays as it was, the error's class is `Full`, and the batch may be appended again.
    pub fn append(&self, batch: &EncodedBatch) -> Result<BatchNumber> {
        let mut writer = self.writer();
        self.check_fence()?;
        let open = self.open_segment(&mut writer)?;
        let number = open.segment.last() + 1;
        let record = Record {
            place: self.next_place(open),
            number,
            batch: Some(batch.header.clone()),
            extents: batch.extents.len() as u32,
            chunks: batch.chunks.len() as u32,
            body_checksum: batch.body_checksum,
            data_length: batch.data_length,
            undo_bytes: batch.undo_bytes,
        };
        let without_undo = !batch.header.undo;
        let newest = record.clone();
        let added = Added { record, chunks: &batch.chunks, extents: &batch.extents };
        self.write_record(open, added, &batch.body, &batch.data)?;
        self.change_state(|state| {
            state.newest = Some(newest);
            if without_undo {
                state.floor = number;
            }
        });
        Ok(BatchNumber(number))
    }

    /// Makes every batch whose append returned before this call durable.
    pub fn sync(&self) -> Result<()> {
        let mut writer = self.writer();
        self.check_fence()?;
        self.sync_all(&mut writer)
    }

    /// Writes what was noted as applied as a record of its own, and syncs.
    pub fn record_applied(&self) -> Result<()> {
        let mut writer = self.writer();
        self.check_fence()?;
        let open = self.open_segment(&mut writer)?;
        let record = Record {
            place: self.next_place(open),
            number: open.segment.last(),
            batch: None,
            extents: 0,
            chunks: 0,
            body_checksum: crc32c::crc32c(&[]),
            data_length: 0,
            undo_bytes: 0,
        };
        let padding = vec![0; record.length() as usize - crate::record::RECORD_HEADER];
        self.write_record(open, Added { record, chunks: &[], extents: &[] }, &[], &padding)?;
        self.sync_all(&mut writer)
    }

    /// Forgets every batch after `batch`; durable when this returns. Only crash recovery does this: no view may be
    /// in use.
    pub fn truncate_after(&self, batch: BatchNumber) -> Result<()> {
        let mut writer = self.writer();
        self.check_fence()?;
        let mut segments = self.segments().to_vec();
        let oldest = segments.first().map_or(0, |segment| segment.first() - 1);
        if batch.0 < oldest {
            let journal = self.store.name().to_owned();
            return Err(Error::OutOfReach { journal, batch, oldest: BatchNumber(oldest) });
        }
        if batch.0 >= self.state_with(|state| state.newest_number()) {
            return Ok(());
        }
        writer.open = None;
        while segments.len() > 1 && segments.last().is_some_and(|last| last.first() > batch.0) {
            if let Some(last) = segments.pop() {
                self.remove_segment(&last)?;
            }
        }
        if let Some(last) = segments.last_mut() {
            *last = self.cut_segment(&mut writer, last, batch)?;
        }
        self.applied.fetch_min(batch.0, Ordering::AcqRel);
        self.set_segments(segments)
    }

    /// Removes a segment's file, durably: no later removal can overtake it.
    pub(crate) fn remove_segment(&self, segment: &Segment) -> Result<()> {
        self.store.files.forget(segment.id);
        self.store.folder.remove(&segment.name).map_err(self.store.failed("removing a segment"))?;
        self.store.folder.sync().map_err(|error| self.fence("removing a segment", error))
    }

    /// Cuts off what follows a batch in what is now the last segment. The segment gets a new id: what is cached of
    /// the old one may not stand there any more.
    fn cut_segment(&self, writer: &mut Writer, old: &Segment, batch: BatchNumber) -> Result<Arc<Segment>> {
        let doing = "cutting off the end of the journal";
        let end = match old.last() > batch.0 {
            true => {
                let rows = old.rows_around(&self.store, batch.0 + 1)?;
                rows.iter().find(|row| row.number == batch.0 + 1).map(|row| row.place.position)
            }
            false => None,
        };
        self.store.files.forget(old.id);
        let file = self.store.folder.open(&old.name, Access::Write).map_err(self.store.failed(doing))?;
        if let Some(end) = end {
            file.set_size(Bytes(end)).map_err(|error| self.fence(doing, error))?;
            // The cut is durable before anything is written there: what stood behind it must not come back.
            file.sync().map_err(|error| self.fence(doing, error))?;
        }
        let segment = Segment::read_header(&self.store, &old.name, &*file)?;
        self.store.files.pin(segment.id, file.clone());
        let segment = Arc::new(segment);
        if segment.read_footer(&self.store, &*file)?.is_ok() {
            return Ok(segment);
        }
        let found = segment.scan(&self.store, &*file, false)?;
        let size = found.index.totals.end;
        if found.index.totals.last != batch.0 {
            return Err(self.store.corrupt(&segment.name, size, found.stop));
        }
        segment.set_index(Index::Memory(found.index));
        writer.resume(segment.clone(), file, size);
        Ok(segment)
    }

    pub(crate) fn sync_all(&self, writer: &mut Writer) -> Result<()> {
        if let Some(open) = &mut writer.open {
            open.file.sync().map_err(|error| self.fence("syncing a segment", error))?;
            open.synced = open.segment.totals(|totals| totals.end);
        }
        if writer.names_changed {
            self.store.folder.sync().map_err(|error| self.fence("syncing the folder", error))?;
            writer.names_changed = false;
        }
        Ok(())
    }

    fn next_place(&self, open: &Open) -> Place {
        open.segment.totals(|totals| Place {
            segment: open.segment.checksum,
            previous: totals.chain,
            position: totals.end,
            first_chunk: totals.chunks,
            applied: self.applied.load(Ordering::Acquire).clamp(totals.applied, totals.last),
            synced: open.synced,
        })
    }

    /// Writes a record at the end of the open segment and adds it to the index.
    fn write_record(&self, open: &Open, added: Added<'_>, body: &[u8], data: &[u8]) -> Result<()> {
        let start = added.record.place.position;
        let header = added.record.encode();
        let mut head = [&header[..], body].concat();
        let mut rest = data;
        if data.len() <= SMALL {
            head.extend_from_slice(data);
            rest = &[];
        }
        let written = open.file.write_at(Bytes(start), &head).and_then(|()| match rest {
            [] => Ok(()),
            rest => open.file.write_at(Bytes(start + head.len() as u64), rest),
        });
        written.map_err(|error| self.take_back(open, start, "appending a batch", error))?;
        self.appended.fetch_add((header.len() + body.len() + data.len()) as u64, Ordering::Relaxed);
        let chain = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        if let Index::Memory(index) = &mut *open.segment.write() {
            index.add(open.segment.first(), added.record, chain, added.chunks, added.extents);
        }
        Ok(())
    }

    /// After a write that failed for lack of space, cuts it off again; after any other, fences.
    fn take_back(&self, open: &Open, end: u64, doing: &'static str, error: disk::Error) -> Error {
        if !matches!(error.cause(), Cause::NoSpace) {
            return self.fence(doing, error);
        }
        match open.file.set_size(Bytes(end)) {
            Ok(()) => self.store.failed(doing)(error),
            Err(error) => self.fence("taking back a batch that did not fit", error),
        }
    }

    /// The open segment with room for a batch; closes a full one and starts another.
    fn open_segment<'a>(&self, writer: &'a mut Writer) -> Result<&'a mut Open> {
        if let Some(open) = writer.open.take_if(|open| self.is_full(&open.segment))
            && let Err(error) = self.close(&open)
        {
            writer.open = Some(open);
            return Err(error);
        }
        if writer.open.is_none() {
            self.start_segment(writer)?;
        }
        writer.open.as_mut().ok_or_else(|| self.store.invalid("no segment is open"))
    }

    fn is_full(&self, segment: &Segment) -> bool {
        let options = &self.store.options;
        segment.totals(|totals| {
            let batches = totals.last + 1 - segment.first();
            totals.end >= options.segment_bytes
                || totals.extents + batches * EXTENTS_PER_BATCH >= options.segment_extents as u64
        })
    }

    /// Writes the index of the open segment and makes it all durable: a segment with a successor is whole. The
    /// records are durable before the index is written, so that after a loss of power an index that is there speaks
    /// of records that are there.
    fn close(&self, open: &Open) -> Result<()> {
        let doing = "closing a segment";
        open.file.sync().map_err(|error| self.fence(doing, error))?;
        let (end, written) = match &*open.segment.read() {
            Index::Stored(_) => return Ok(()),
            Index::Memory(index) => {
                let write = |position, bytes: &[u8]| open.file.write_at(Bytes(position), bytes);
                (index.totals.end, write_index(index, open.segment.checksum, write))
            }
        };
        let footer = written.map_err(|error| self.take_back(open, end, doing, error))?;
        open.file.sync().map_err(|error| self.fence(doing, error))?;
        self.appended.fetch_add(footer.file_size - end, Ordering::Relaxed);
        open.segment.set_index(Index::Stored(footer));
        Ok(())
    }

    /// Starts a segment after the newest batch. Its header is durable before it gets its name, so that a file of
    /// such a name always has one.
    pub(crate) fn start_segment(&self, writer: &mut Writer) -> Result<()> {
        let doing = "starting a segment";
        let (mut segments, newest) = self.state_with(|state| (state.segments.to_vec(), state.newest.clone()));
        let header = SegmentHeader {
            first: newest.as_ref().map_or(1, |newest| newest.number + 1),
            previous: segments.last().map_or(0, |last| last.totals(|totals| totals.chain)),
            applied: self
                .applied
                .load(Ordering::Acquire)
                .min(newest.as_ref().map_or(0, |newest| newest.number)),
            identity: self.store.identity.clone(),
            anchor: newest,
        };
        let (bytes, checksum) = header.encode();
        let name = file_name(header.first);
        let folder = &self.store.folder;
        let created = folder.create(UNFINISHED).and_then(|file| {
            file.write_at(Bytes(0), &bytes)?;
            file.sync()?;
            folder.rename(UNFINISHED, &name)?;
            Ok(file)
        });
        let file = created.map_err(|error| {
            let undone = matches!(error.cause(), Cause::NoSpace)
                && match folder.remove(UNFINISHED) {
                    Ok(()) => true,
                    // There was no room for the file itself.
                    Err(missing) => matches!(missing.cause(), Cause::NotFound),
                };
            if undone { self.store.failed(doing)(error) } else { self.fence(doing, error) }
        })?;
        writer.names_changed = true;
        let end = bytes.len() as u64;
        let segment = Arc::new(Segment::new(&self.store, name, header, checksum, end));
        if let Some(last) = segments.last() {
            self.store.files.unpin(last.id);
        }
        self.store.files.pin(segment.id, file.clone());
        segments.push(segment.clone());
        self.change_state(|state| state.segments = Arc::new(segments));
        writer.resume(segment, file, end);
        Ok(())
    }
}
