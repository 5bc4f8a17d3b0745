//! An extent of compressed grains, read through its tables.

use crate::header::{Geometry, HEADER_SIZE, Header};
use crate::tables::{Place, Tables, place};
use crate::{Error, Problem, Result, lock};
use disk::{Allocation, Bytes, Disk, Extent, File, SECTOR_SIZE};
use flate2::{Decompress, FlushDecompress, Status};
use std::sync::{Arc, Mutex};

/// Bytes of a grain's marker before its data: the grain's first sector, and the length of the data.
pub(crate) const MARKER_SIZE: usize = 12;
/// What the marker before the footer says it is.
pub(crate) const MARKER_FOOTER: u32 = 3;

pub(crate) struct StreamExtent {
    file: Arc<dyn File>,
    geometry: Geometry,
    tables: Mutex<Tables>,
    /// The grain that was decompressed last, for readers of less than a grain.
    last: Mutex<Option<(u64, Arc<Vec<u8>>)>>,
}

/// The header that tells where the grain directory is: the footer, where the first one leaves it open.
pub(crate) fn complete_header(file: &dyn Disk, first: &Header) -> Result<Header> {
    if !first.has_footer() {
        return Ok(first.clone());
    }
    let size = file.size().0;
    let missing = |at: u64, part| Error::damaged(file.name(), Bytes(at), Problem::Footer { part });
    // Marker, footer, end-of-stream marker: one sector each.
    let Some(start) = size.checked_sub(3 * SECTOR_SIZE).filter(|start| start % SECTOR_SIZE == 0) else {
        return Err(missing(size, "footer"));
    };
    let mut end = [0; 3 * HEADER_SIZE];
    file.read_at(Bytes(start), &mut end)?;
    let (marker, rest) = end.split_at(HEADER_SIZE);
    let (footer, last) = rest.split_at(HEADER_SIZE);
    if last.iter().any(|byte| *byte != 0) {
        return Err(missing(start + 2 * SECTOR_SIZE, "end-of-stream marker"));
    }
    if marker[8..12] != [0; 4] || marker[12..16] != MARKER_FOOTER.to_le_bytes() {
        return Err(missing(start, "footer's marker"));
    }
    let footer_at = start + SECTOR_SIZE;
    let bytes = footer.try_into().map_err(|_| missing(footer_at, "footer"))?;
    let footer = Header::decode(bytes).ok_or_else(|| missing(footer_at, "footer"))?;
    let shape = |header: &Header| {
        let Header { version, flags, capacity, grain, table_entries, compression, .. } = *header;
        (version, flags, capacity, grain, table_entries, compression)
    };
    if shape(&footer) != shape(first) || footer.has_footer() {
        return Err(missing(footer_at, "footer, which should repeat the header,"));
    }
    Ok(footer)
}

impl StreamExtent {
    pub(crate) fn open(file: &Arc<dyn File>, header: &Header) -> Result<StreamExtent> {
        let header = complete_header(&**file, header)?;
        let geometry = header.geometry(file.name(), file.size())?;
        let tables = Mutex::new(Tables::load(file, geometry, false)?);
        Ok(StreamExtent { file: file.clone(), geometry, tables, last: Mutex::default() })
    }

    pub(crate) fn read_at(&self, offset: Bytes, mut buffer: &mut [u8]) -> Result<()> {
        let grain_bytes = self.geometry.grain_bytes();
        let mut at = offset.0;
        while !buffer.is_empty() {
            let (grain, within) = (at / grain_bytes, at % grain_bytes);
            let length = (grain_bytes - within).min(buffer.len() as u64);
            let (now, later) = buffer.split_at_mut(length as usize);
            match self.place(grain)? {
                Place::Hole => now.fill(0),
                Place::At(sector) => {
                    let data = self.grain(grain, sector)?;
                    now.copy_from_slice(&data[within as usize..(within + length) as usize]);
                }
            }
            at += length;
            buffer = later;
        }
        Ok(())
    }

    fn place(&self, grain: u64) -> Result<Place> {
        let (index, entry) = self.geometry.locate(grain);
        let end = self.file.size().0 / SECTOR_SIZE;
        let mut tables = lock(&self.tables);
        let Some(table) = tables.table(index)? else {
            return Ok(Place::Hole);
        };
        place(&self.geometry, grain, table[entry], end).map_err(|problem| {
            let table_at = u64::from(tables.directories().primary[index as usize]) * SECTOR_SIZE;
            Error::damaged(self.file.name(), Bytes(table_at + 4 * entry as u64), problem)
        })
    }

    fn grain(&self, grain: u64, sector: u32) -> Result<Arc<Vec<u8>>> {
        if let Some((last, data)) = &*lock(&self.last)
            && *last == grain
        {
            return Ok(data.clone());
        }
        let data = Arc::new(read_grain(&*self.file, &self.geometry, grain, sector)?);
        *lock(&self.last) = Some((grain, data.clone()));
        Ok(data)
    }

    pub(crate) fn extent_at(&self, offset: Bytes) -> Result<Extent> {
        let grain_bytes = self.geometry.grain_bytes();
        let first = offset.0 / grain_bytes;
        let first_is_hole = self.place(first)? == Place::Hole;
        let (table, _) = self.geometry.locate(first);
        let table_end = (u64::from(table) + 1) * u64::from(self.geometry.entries);
        let limit = table_end.min(self.geometry.grains());
        let mut end = first + 1;
        while end < limit && (self.place(end)? == Place::Hole) == first_is_hole {
            end += 1;
        }
        let end = (end * grain_bytes).min(self.geometry.capacity.0 * SECTOR_SIZE);
        let allocation = if first_is_hole { Allocation::Hole } else { Allocation::Data };
        Ok(Extent { length: Bytes(end - offset.0), allocation })
    }
}

/// Reads and decompresses one grain, and makes sure that it is the one that was asked for.
pub(crate) fn read_grain(file: &dyn Disk, geometry: &Geometry, grain: u64, sector: u32) -> Result<Vec<u8>> {
    let start = u64::from(sector) * SECTOR_SIZE;
    let damaged = |problem| Error::damaged(file.name(), Bytes(start), problem);
    let mut marker = [0; MARKER_SIZE];
    file.read_at(Bytes(start), &mut marker)?;
    let [lba @ .., s0, s1, s2, s3] = marker;
    let found = u64::from_le_bytes(lba);
    if found != grain * geometry.grain {
        return Err(damaged(Problem::WrongMarker { grain, found }));
    }
    let size = u64::from(u32::from_le_bytes([s0, s1, s2, s3]));
    let data_at = start + MARKER_SIZE as u64;
    // Nothing that deflate does makes a grain twice as long.
    if size > 2 * geometry.grain_bytes() || data_at + size > file.size().0 {
        return Err(damaged(Problem::Compression { grain }));
    }
    let mut compressed = vec![0; size as usize];
    file.read_at(Bytes(data_at), &mut compressed)?;
    let mut data = vec![0; geometry.grain_bytes() as usize];
    let mut inflate = Decompress::new(true);
    let status = inflate.decompress(&compressed, &mut data, FlushDecompress::Finish);
    let whole = matches!(status, Ok(Status::StreamEnd)) && inflate.total_out() >= geometry.used_bytes(grain);
    if whole { Ok(data) } else { Err(damaged(Problem::Compression { grain })) }
}
