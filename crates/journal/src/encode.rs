//! Making a batch ready to be appended: before-images go into chunks, which are compressed where that pays, and
//! everything is checksummed. No lock is held and no file is touched.

use crate::codec::Put;
use crate::record::{CHUNK, Chunk, NO_CHUNK, RECORD_HEADER, TableExtent, record_length};
use crate::types::{
    BatchHeader, BatchKind, Before, Identity, MAX_BATCH_DATA, MAX_BATCH_EXTENTS, MAX_EXTENT, MAX_NAME,
    UndoExtent,
};
use std::borrow::Cow;

/// A chunk is stored compressed only when that saves at least one part in this many.
const WORTH_SAVING: usize = 16;
const LEVEL: i32 = 1;

/// A batch ready to be appended: compressed and checksummed.
#[derive(Debug)]
pub struct EncodedBatch {
    pub(crate) header: BatchHeader,
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) extents: Vec<TableExtent>,
    pub(crate) undo_bytes: u64,
    /// Texts and tables, as they follow the record's header.
    pub(crate) body: Vec<u8>,
    pub(crate) body_checksum: u32,
    pub(crate) data_length: u64,
    /// The chunks, padded so that the record fills whole sectors.
    pub(crate) data: Vec<u8>,
}

impl EncodedBatch {
    /// Bytes that the batch takes in the journal.
    pub fn length(&self) -> u64 {
        record_length(self.body.len() as u64, self.data_length)
    }
}

/// Encodes a batch, or says which rule it breaks.
pub(crate) fn encode(
    identity: &Identity,
    header: &BatchHeader,
    extents: &[UndoExtent<'_>],
) -> Result<EncodedBatch, Cow<'static, str>> {
    check(identity, header, extents)?;
    let mut packer = Packer::new(compresses(header))?;
    let mut table = Vec::with_capacity(extents.len());
    for extent in extents {
        let (chunk, position) = match extent.before {
            Before::Data(bytes) if !is_zero(bytes) => packer.place(bytes),
            _ => (NO_CHUNK, 0),
        };
        table.push(TableExtent {
            disk: extent.disk,
            offset: extent.range.start().0,
            length: extent.range.length().0 as u32,
            new_checksum: extent.new_checksum,
            chunk,
            position,
        });
    }
    packer.flush();
    let Packer { chunks, mut data, .. } = packer;
    let body = encode_body(header, &chunks, &table);
    let data_length = data.len() as u64;
    let tail = record_length(body.len() as u64, data_length) as usize - RECORD_HEADER - body.len();
    data.resize(tail, 0);
    Ok(EncodedBatch {
        header: header.clone(),
        chunks,
        undo_bytes: table.iter().map(|extent| u64::from(extent.length)).sum(),
        extents: table,
        body_checksum: crc32c::crc32c(&body),
        body,
        data_length,
        data,
    })
}

/// What a rollback replaces is stored as it is: people wait for a rollback, and space costs them less than time.
fn compresses(header: &BatchHeader) -> bool {
    !matches!(header.kind, BatchKind::Rollback { .. })
}

fn encode_body(header: &BatchHeader, chunks: &[Chunk], extents: &[TableExtent]) -> Vec<u8> {
    let mut body = Vec::new();
    if let Some(bookmark) = &header.bookmark {
        body.put(bookmark.name.as_bytes());
        body.put(bookmark.group.as_deref().unwrap_or("").as_bytes());
    }
    chunks.iter().for_each(|chunk| chunk.encode(&mut body));
    extents.iter().for_each(|extent| extent.encode(&mut body));
    body
}

fn check(
    identity: &Identity,
    header: &BatchHeader,
    extents: &[UndoExtent<'_>],
) -> Result<(), Cow<'static, str>> {
    let names = header.bookmark.iter().flat_map(|bookmark| [Some(&bookmark.name), bookmark.group.as_ref()]);
    if names.flatten().any(|name| name.len() > MAX_NAME) {
        return Err(format!("a bookmark's name or group is longer than {MAX_NAME} bytes").into());
    }
    if !header.undo && !extents.is_empty() {
        return Err("a batch without before-images carries no extents".into());
    }
    if extents.len() > MAX_BATCH_EXTENTS {
        return Err(format!("it has more than {MAX_BATCH_EXTENTS} extents").into());
    }
    let mut last = (0, 0);
    let mut data = 0;
    for extent in extents {
        let (start, length) = (extent.range.start().0, extent.range.length().0);
        let place = format_args!("disk {}, {}", extent.disk, extent.range);
        let Some(disk) = identity.disks.get(usize::from(extent.disk)) else {
            return Err(format!("the item has no such disk: {place}").into());
        };
        if length == 0 || length > MAX_EXTENT.0 || extent.range.end() > disk.size {
            return Err(format!("an extent is empty, too long, or leaves its disk: {place}").into());
        }
        if (extent.disk, start) < last {
            return Err(format!("extents overlap or are out of order: {place}").into());
        }
        if let Before::Data(bytes) = extent.before {
            data += length;
            if bytes.len() as u64 != length {
                return Err(format!("a before-image is not as long as its range: {place}").into());
            }
        }
        last = (extent.disk, start + length);
    }
    if data > MAX_BATCH_DATA {
        return Err(format!("its before-images are longer than {MAX_BATCH_DATA} bytes").into());
    }
    Ok(())
}

/// Collects before-images into chunks.
struct Packer {
    compresses: bool,
    compressor: zstd::bulk::Compressor<'static>,
    scratch: Vec<u8>,
    filling: Vec<u8>,
    chunks: Vec<Chunk>,
    data: Vec<u8>,
}

impl Packer {
    fn new(compresses: bool) -> Result<Packer, Cow<'static, str>> {
        let compressor = zstd::bulk::Compressor::new(LEVEL).map_err(|error| error.to_string())?;
        Ok(Packer {
            compresses,
            compressor,
            scratch: vec![0; CHUNK],
            filling: Vec::with_capacity(CHUNK),
            chunks: Vec::new(),
            data: Vec::new(),
        })
    }

    /// Adds a before-image and says where it starts.
    fn place(&mut self, mut bytes: &[u8]) -> (u32, u16) {
        if self.filling.len() + bytes.len() > CHUNK {
            self.flush();
        }
        let start = (self.chunks.len() as u32, self.filling.len() as u16);
        while bytes.len() >= CHUNK {
            let (chunk, rest) = bytes.split_at(CHUNK);
            self.store(chunk);
            bytes = rest;
        }
        self.filling.extend_from_slice(bytes);
        if self.filling.len() == CHUNK {
            self.flush();
        }
        start
    }

    fn flush(&mut self) {
        if !self.filling.is_empty() {
            let chunk = std::mem::take(&mut self.filling);
            self.store(&chunk);
            self.filling = chunk;
            self.filling.clear();
        }
    }

    fn store(&mut self, raw: &[u8]) {
        let limit = raw.len() - raw.len().div_ceil(WORTH_SAVING);
        let compressed = if !self.compresses || looks_random(raw) {
            None
        } else {
            // It fails when the result does not fit into the scratch, that is, when it does not pay.
            self.compressor.compress_to_buffer(raw, &mut self.scratch[..limit]).ok()
        };
        let stored = compressed.map_or(raw, |length| &self.scratch[..length]);
        self.chunks.push(Chunk {
            stored: stored.len() as u32,
            raw: raw.len() as u32,
            checksum: crc32c::crc32c(stored),
        });
        self.data.extend_from_slice(stored);
    }
}

/// True for bytes that nothing but zeroes make up.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

/// A cheap guess whether compressing is in vain: in a sample, all byte values occur about equally often. The sum
/// of squared counts of random bytes is close to n²/256 + n; text and structures lie far above.
fn looks_random(bytes: &[u8]) -> bool {
    const SAMPLES: usize = 2048;
    if bytes.len() < SAMPLES {
        return false;
    }
    let step = bytes.len() / SAMPLES;
    let mut counts = [0u32; 256];
    for byte in bytes.iter().step_by(step).take(SAMPLES) {
        counts[usize::from(*byte)] += 1;
    }
    let squares: usize = counts.iter().map(|count| (count * count) as usize).sum();
    squares < (SAMPLES * SAMPLES / 256 + SAMPLES) * 5 / 4
}
