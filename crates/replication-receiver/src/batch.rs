//! Batches: consecutive writes of one item, coalesced so that the last write of a byte wins.

use disk::{ByteRange, Bytes};
use journal::{BatchHeader, MAX_EXTENT};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a range is to hold.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Zeroes,
    /// Bytes of a received buffer, from `start` on. Buffers are shared, never copied, when a later write cuts one.
    Data {
        buffer: Arc<Vec<u8>>,
        start: usize,
    },
}

impl Content {
    fn skip(&self, bytes: u64) -> Content {
        match self {
            Content::Zeroes => Content::Zeroes,
            Content::Data { buffer, start } => {
                Content::Data { buffer: buffer.clone(), start: start + bytes as usize }
            }
        }
    }

    /// The bytes, or `None` for zeroes.
    pub(crate) fn bytes(&self, length: Bytes) -> Option<&[u8]> {
        match self {
            Content::Zeroes => None,
            Content::Data { buffer, start } => Some(&buffer[*start..*start + length.as_usize()]),
        }
    }
}

/// One change of a batch: this range of this disk holds that.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) disk: u16,
    pub(crate) range: ByteRange,
    pub(crate) content: Content,
}

impl Change {
    /// The change cut into parts of at most [`MAX_EXTENT`], the unit of a before-image.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Change> + '_ {
        let count = self.range.length().0.div_ceil(MAX_EXTENT.0);
        (0..count).map(move |n| {
            let skipped = n * MAX_EXTENT.0;
            let start = self.range.start() + Bytes(skipped);
            let end = (start + MAX_EXTENT).min(self.range.end());
            Change {
                disk: self.disk,
                range: ByteRange::between(start, end),
                content: self.content.skip(skipped),
            }
        })
    }

    /// CRC32C of the bytes the range is to hold.
    pub(crate) fn checksum(&self) -> u32 {
        static ZEROES: [u8; 1 << 16] = [0; 1 << 16];
        if let Some(bytes) = self.content.bytes(self.range.length()) {
            return crc32c::crc32c(bytes);
        }
        let (mut left, mut sum) = (self.range.length().as_usize(), 0);
        while left > 0 {
            let step = left.min(ZEROES.len());
            sum = crc32c::crc32c_append(sum, &ZEROES[..step]);
            left -= step;
        }
        sum
    }
}

/// A closed batch. Its changes are sorted by disk and offset and do not overlap.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) header: BatchHeader,
    pub(crate) changes: Vec<Change>,
    /// The session that sent it, and how many of its sync frames are in this batch or an earlier one.
    pub(crate) session: u64,
    pub(crate) sync_frames: u64,
    /// Bytes that the changes cover.
    pub(crate) bytes: u64,
    /// Nothing may be merged behind it: it ends at a bookmark or at the end of a sync.
    pub(crate) closed: bool,
}

impl Batch {
    /// Lays this batch's bytes over what `buffer` holds of a range.
    pub(crate) fn overlay(&self, disk: u16, range: ByteRange, buffer: &mut [u8]) {
        let from = self.changes.partition_point(|c| (c.disk, c.range.end()) <= (disk, range.start()));
        for change in &self.changes[from..] {
            if change.disk != disk {
                break;
            }
            let Some(common) = change.range.intersection(&range) else { break };
            let into =
                &mut buffer[(common.start() - range.start()).as_usize()..][..common.length().as_usize()];
            let skipped = (common.start() - change.range.start()).0;
            match change.content.skip(skipped).bytes(common.length()) {
                Some(bytes) => into.copy_from_slice(bytes),
                None => into.fill(0),
            }
        }
    }
}

#[derive(Clone, Debug)]
struct Piece {
    length: u64,
    content: Content,
}

/// The batch that is being filled.
#[derive(Debug, Default)]
pub(crate) struct BatchBuilder {
    disks: BTreeMap<u16, BTreeMap<u64, Piece>>,
    /// Bytes of data that were received into it, coalesced or not: what it may cost in memory.
    pub(crate) data_bytes: u64,
    /// Bytes that it zeroes: what their before-images may cost in memory.
    pub(crate) zero_bytes: u64,
    /// Writes that were received into it.
    pub(crate) writes: usize,
}

impl BatchBuilder {
    pub(crate) fn is_empty(&self) -> bool {
        self.writes == 0
    }

    /// Adds a write of data, which is not empty.
    pub(crate) fn write(&mut self, disk: u16, offset: u64, data: Vec<u8>) {
        let length = data.len() as u64;
        self.data_bytes += length;
        self.put(disk, offset, Piece { length, content: Content::Data { buffer: Arc::new(data), start: 0 } });
    }

    /// Adds a zeroing of a range that is not empty and fits into 64 bits.
    pub(crate) fn zero(&mut self, disk: u16, offset: u64, length: u64) {
        self.zero_bytes += length;
        self.put(disk, offset, Piece { length, content: Content::Zeroes });
    }

    fn put(&mut self, disk: u16, offset: u64, piece: Piece) {
        self.writes += 1;
        let pieces = self.disks.entry(disk).or_default();
        cut(pieces, offset, offset + piece.length);
        pieces.insert(offset, piece);
    }

    /// The changes so far, sorted, neighbours joined; the builder is empty afterwards.
    pub(crate) fn take(&mut self) -> Vec<Change> {
        let disks = std::mem::take(self).disks;
        let mut changes = Vec::new();
        for (disk, pieces) in disks {
            let mut run = Run::new(disk);
            for (offset, piece) in pieces {
                if !run.accepts(offset, &piece) {
                    run.close(&mut changes);
                }
                run.push(offset, piece);
            }
            run.close(&mut changes);
        }
        changes
    }
}

/// Removes the range from `start` to `end`, keeping what sticks out on both sides.
fn cut(pieces: &mut BTreeMap<u64, Piece>, start: u64, end: u64) {
    let mut tail = None;
    if let Some((&at, piece)) = pieces.range_mut(..start).next_back() {
        let piece_end = at + piece.length;
        if piece_end > end {
            tail = Some(Piece { length: piece_end - end, content: piece.content.skip(end - at) });
        }
        piece.length = piece.length.min(start - at);
    }
    while let Some((&at, _)) = pieces.range(start..end).next() {
        let Some(piece) = pieces.remove(&at) else { break };
        let piece_end = at + piece.length;
        if piece_end > end {
            tail = Some(Piece { length: piece_end - end, content: piece.content.skip(end - at) });
        }
    }
    if let Some(tail) = tail {
        pieces.insert(end, tail);
    }
}

/// Neighbouring pieces of one kind, to become one change.
struct Run {
    disk: u16,
    start: u64,
    length: u64,
    pieces: Vec<Piece>,
}

impl Run {
    fn new(disk: u16) -> Run {
        Run { disk, start: 0, length: 0, pieces: Vec::new() }
    }

    fn accepts(&self, offset: u64, piece: &Piece) -> bool {
        let Some(last) = self.pieces.last() else { return true };
        if offset != self.start + self.length {
            return false;
        }
        match (&last.content, &piece.content) {
            (Content::Zeroes, Content::Zeroes) => true,
            (Content::Data { .. }, Content::Data { .. }) => self.length + piece.length <= MAX_EXTENT.0,
            _ => false,
        }
    }

    fn push(&mut self, offset: u64, piece: Piece) {
        if self.pieces.is_empty() {
            (self.start, self.length) = (offset, 0);
        }
        self.length += piece.length;
        self.pieces.push(piece);
    }

    fn close(&mut self, changes: &mut Vec<Change>) {
        let pieces = std::mem::take(&mut self.pieces);
        let content = match pieces.as_slice() {
            [] => return,
            [only] => only.content.clone(),
            [first, ..] if matches!(first.content, Content::Zeroes) => Content::Zeroes,
            several => Content::Data { buffer: Arc::new(joined(several, self.length)), start: 0 },
        };
        let range = ByteRange::between(Bytes(self.start), Bytes(self.start + self.length));
        changes.push(Change { disk: self.disk, range, content });
    }
}

fn joined(pieces: &[Piece], length: u64) -> Vec<u8> {
    let mut joined = Vec::with_capacity(length as usize);
    for piece in pieces {
        if let Some(bytes) = piece.content.bytes(Bytes(piece.length)) {
            joined.extend_from_slice(bytes);
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn apply(changes: &[Change], disk: u16, image: &mut [u8]) {
        for change in changes.iter().filter(|change| change.disk == disk) {
            let into = &mut image[change.range.start().as_usize()..change.range.end().as_usize()];
            match change.content.bytes(change.range.length()) {
                Some(bytes) => into.copy_from_slice(bytes),
                None => into.fill(0),
            }
        }
    }

    proptest! {
        #[test]
        fn the_last_write_of_a_byte_wins(
            writes in prop::collection::vec((0u16..2, 0u64..200, 1u64..60, any::<bool>(), any::<u8>()), 1..40),
        ) {
            let mut oracle = [[0xee_u8; 300], [0xee; 300]];
            let mut builder = BatchBuilder::default();
            for (disk, offset, length, zero, byte) in writes {
                let into = &mut oracle[disk as usize][offset as usize..(offset + length) as usize];
                if zero {
                    into.fill(0);
                    builder.zero(disk, offset, length);
                } else {
                    into.fill(byte);
                    builder.write(disk, offset, vec![byte; length as usize]);
                }
            }
            let changes = builder.take();
            prop_assert!(builder.is_empty());
            for pair in changes.windows(2) {
                let ordered = pair[0].disk < pair[1].disk || pair[0].range.end() <= pair[1].range.start();
                prop_assert!(ordered);
            }
            for disk in 0..2 {
                let mut image = [0xee_u8; 300];
                apply(&changes, disk, &mut image);
                prop_assert_eq!(&image[..], &oracle[disk as usize][..]);
            }
        }

        #[test]
        fn an_overlay_is_what_the_batch_would_write(
            writes in prop::collection::vec((0u64..200, 1u64..60, any::<u8>()), 1..20),
            start in 0u64..250, length in 1u64..50,
        ) {
            let mut image = [0xee_u8; 300];
            let mut builder = BatchBuilder::default();
            for (offset, length, byte) in writes {
                builder.write(1, offset, vec![byte; length as usize]);
            }
            let batch = crate::tests::batch(builder.take());
            apply(&batch.changes, 1, &mut image);
            let range = ByteRange::between(Bytes(start), Bytes(start + length));
            let mut seen = vec![0xee; length as usize];
            batch.overlay(1, range, &mut seen);
            prop_assert_eq!(&seen[..], &image[start as usize..(start + length) as usize]);
            batch.overlay(0, range, &mut seen);
            prop_assert_eq!(&seen[..], &image[start as usize..(start + length) as usize]);
        }
    }

    #[test]
    fn a_long_zeroing_is_cut_into_parts() {
        let mut builder = BatchBuilder::default();
        builder.zero(0, 5, 2 * MAX_EXTENT.0 + 1);
        let changes = builder.take();
        assert_eq!(changes.len(), 1);
        let parts: Vec<u64> = changes[0].parts().map(|part| part.range.length().0).collect();
        assert_eq!(parts, [MAX_EXTENT.0, MAX_EXTENT.0, 1]);
        assert_eq!(
            changes[0].parts().next().unwrap().checksum(),
            crc32c::crc32c(&vec![0; MAX_EXTENT.as_usize()])
        );
    }
}
