//! Writing a stream-optimised image, once, from front to back.

use crate::create::{CreateOptions, check_request};
use crate::descriptor::{NewDescriptor, NewExtent, compose};
use crate::header::{GRAIN_SECTORS, Header, TABLE_ENTRIES};
use crate::stream_reader::MARKER_FOOTER;
use crate::tables::entry_bytes;
use crate::{Error, Format, Result};
use disk::{Bytes, File, Folder, SECTOR_SIZE};
use flate2::{Compress, Compression, FlushCompress, Status};
use std::sync::Arc;

const MARKER_TABLE: u32 = 1;
const MARKER_DIRECTORY: u32 = 2;
const GRAIN_BYTES: usize = (GRAIN_SECTORS * SECTOR_SIZE) as usize;
/// The descriptor's room, as everyone reserves it.
const DESCRIPTOR_SECTORS: u64 = 20;
/// The first grain starts here.
const OVERHEAD: u64 = 128;
/// Bytes gathered before they are written.
const BUFFER: usize = 1 << 20;

/// Writes a stream-optimised image: version 3, its tables behind the grains they describe, its directory and
/// footer at the end. Until [`StreamWriter::finish`] has succeeded the file is not an image that anyone can open.
pub struct StreamWriter {
    folder: Arc<dyn Folder>,
    file: Arc<dyn File>,
    header: Header,
    capacity: Bytes,
    /// Everything before it is written, or a hole.
    reached: Bytes,
    /// The grain that is being filled, from its first byte to `reached` as far as it is not zero.
    grain: Vec<u8>,
    table: Vec<u32>,
    directory: Vec<u32>,
    /// What was not written to the file yet, and where it goes.
    pending: Vec<u8>,
    pending_at: u64,
    deflate: Compress,
}

impl StreamWriter {
    /// Begins an image in a new file of the folder. The options' format must be [`Format::StreamOptimized`].
    pub fn create(folder: &Arc<dyn Folder>, name: &str, options: &CreateOptions) -> Result<StreamWriter> {
        let options = CreateOptions { format: Format::StreamOptimized, ..options.clone() };
        check_request(name, &options)?;
        let sectors = options.capacity.to_sectors_rounded_up();
        let header = Header {
            descriptor_at: 1,
            descriptor_size: DESCRIPTOR_SECTORS,
            overhead: OVERHEAD,
            ..Header::stream(sectors)
        };
        let extents = [NewExtent { file: name.to_owned(), size: options.capacity }];
        let text = compose(&NewDescriptor::of(&options, &extents));
        let mut pending = header.encode().to_vec();
        pending.extend(text.as_bytes());
        pending.resize((OVERHEAD * SECTOR_SIZE) as usize, 0);
        let mut writer = StreamWriter {
            folder: folder.clone(),
            file: folder.create(name)?,
            header,
            capacity: options.capacity,
            reached: Bytes::ZERO,
            grain: Vec::with_capacity(GRAIN_BYTES),
            table: Vec::new(),
            directory: Vec::new(),
            pending,
            pending_at: 0,
            deflate: Compress::new(Compression::fast(), true),
        };
        // So that what an interrupted writer leaves can be told from anything else.
        writer.flush()?;
        Ok(writer)
    }

    /// Bytes of the disk that are written or skipped so far.
    pub fn reached(&self) -> Bytes {
        self.reached
    }

    /// Appends the disk's bytes at `offset`, which is not before what was written last; what lies between is a hole.
    pub fn write(&mut self, offset: Bytes, mut data: &[u8]) -> Result<()> {
        let end = offset.checked_add(Bytes(data.len() as u64)).filter(|end| *end <= self.capacity);
        if offset < self.reached || end.is_none() {
            let reached = if end.is_none() { self.capacity } else { self.reached };
            let object = self.file.name().to_owned();
            return Err(Error::OutOfOrder { object, offset, reached });
        }
        self.skip_to(offset)?;
        while !data.is_empty() {
            let room = GRAIN_BYTES - (self.reached.0 % GRAIN_BYTES as u64) as usize;
            let (now, later) = data.split_at(room.min(data.len()));
            self.grain.resize(GRAIN_BYTES - room, 0);
            self.grain.extend(now);
            self.reached += Bytes(now.len() as u64);
            if now.len() == room {
                self.end_grain()?;
            }
            data = later;
        }
        Ok(())
    }

    /// Leaves a hole up to `offset`, ending every grain on the way.
    fn skip_to(&mut self, offset: Bytes) -> Result<()> {
        let grain = |at: Bytes| at.0 / GRAIN_BYTES as u64;
        while grain(self.reached) < grain(offset) {
            self.reached = Bytes((grain(self.reached) + 1) * GRAIN_BYTES as u64);
            self.end_grain()?;
        }
        self.reached = offset;
        Ok(())
    }

    /// The grain that ends where writing stands is complete.
    fn end_grain(&mut self) -> Result<()> {
        let sector = if self.grain.iter().all(|byte| *byte == 0) { 0 } else { self.append_grain()? };
        self.grain.clear();
        self.table.push(sector);
        if self.table.len() == TABLE_ENTRIES as usize {
            self.end_table()?;
        }
        Ok(())
    }

    fn append_grain(&mut self) -> Result<u32> {
        self.grain.resize(GRAIN_BYTES, 0);
        let first_sector = (self.reached.0.div_ceil(GRAIN_BYTES as u64) - 1) * GRAIN_SECTORS;
        // Room for what deflate makes of bytes that do not compress, so one call always ends the stream.
        let mut compressed = Vec::with_capacity(GRAIN_BYTES + GRAIN_BYTES / 8 + 64);
        self.deflate.reset();
        let status = self.deflate.compress_vec(&self.grain, &mut compressed, FlushCompress::Finish);
        if !matches!(status, Ok(Status::StreamEnd)) {
            let what = std::io::Error::other("deflate did not end");
            let cause = disk::Cause::Io(what);
            return Err(disk::Error::new(disk::Operation::Write, self.file.name(), None, cause).into());
        }
        let sector = self.next_sector()?;
        self.pending.extend(first_sector.to_le_bytes());
        self.pending.extend((compressed.len() as u32).to_le_bytes());
        self.pending.extend(compressed);
        self.end_sector()?;
        Ok(sector)
    }

    /// Writes the table of the last grains, unless there are none.
    fn end_table(&mut self) -> Result<()> {
        let mut table = std::mem::take(&mut self.table);
        if table.iter().all(|entry| *entry == 0) {
            self.directory.push(0);
            return Ok(());
        }
        table.resize(TABLE_ENTRIES as usize, 0);
        let sector = self.append_metadata(MARKER_TABLE, &entry_bytes(&table))?;
        self.directory.push(sector);
        Ok(())
    }

    /// Appends metadata behind its marker, and tells where it is.
    fn append_metadata(&mut self, kind: u32, bytes: &[u8]) -> Result<u32> {
        let sectors = (bytes.len() as u64).div_ceil(SECTOR_SIZE);
        self.next_sector()?;
        self.pending.extend(sectors.to_le_bytes());
        self.pending.extend(0u32.to_le_bytes());
        self.pending.extend(kind.to_le_bytes());
        self.end_sector()?;
        let sector = self.next_sector()?;
        self.pending.extend(bytes);
        self.end_sector()?;
        Ok(sector)
    }

    /// The sector that the next thing goes to.
    fn next_sector(&self) -> Result<u32> {
        let sector = (self.pending_at + self.pending.len() as u64) / SECTOR_SIZE;
        u32::try_from(sector).map_err(|_| Error::SparseFull { object: self.file.name().to_owned() })
    }

    fn end_sector(&mut self) -> Result<()> {
        self.pending.resize(self.pending.len().next_multiple_of(SECTOR_SIZE as usize), 0);
        if self.pending.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.file.write_at(Bytes(self.pending_at), &self.pending)?;
        self.pending_at += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Writes what ends an image, and makes it durable. What was not written of the disk is a hole.
    pub fn finish(mut self) -> Result<()> {
        self.skip_to(self.capacity)?;
        if !self.capacity.0.is_multiple_of(GRAIN_BYTES as u64) {
            self.end_grain()?;
        }
        if !self.table.is_empty() {
            self.end_table()?;
        }
        let directory = entry_bytes(&std::mem::take(&mut self.directory));
        let directory_at = self.append_metadata(MARKER_DIRECTORY, &directory)?;
        let footer = Header { directory_at: directory_at.into(), ..self.header.clone() };
        self.append_metadata(MARKER_FOOTER, &footer.encode())?;
        self.pending.extend([0; SECTOR_SIZE as usize]);
        self.flush()?;
        self.file.sync()?;
        Ok(self.folder.sync()?)
    }
}
