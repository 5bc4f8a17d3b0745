//! The header of a segment: whose journal it is, where in the history the segment starts, and the batch before
//! it, so that the newest point keeps its summary even when its own segment has been removed.

use crate::codec::{Parsed, Put, Reader, padded};
use crate::record::Record;
use crate::types::{DiskIdentity, Identity, MAX_DISKS, MAX_NAME};
use disk::Bytes;

/// The version that this program writes, and the newest it reads.
pub(crate) const VERSION: u32 = 1;
/// Bytes before the identity.
pub(crate) const FIXED: usize = 48;
/// The longest header there can be.
pub(crate) const MAX_HEADER: usize = FIXED + (MAX_DISKS + 4) * (MAX_NAME + 16);

const MAGIC: &[u8; 8] = b"MTJSEGMT";

/// The header of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// Number of the first batch of the segment.
    pub(crate) first: u64,
    /// Checksum of the last header of the segment before: of a record or of the segment itself.
    pub(crate) previous: u32,
    /// Every batch up to this one was durable on the disks.
    pub(crate) applied: u64,
    pub(crate) identity: Identity,
    /// The batch before the first one.
    pub(crate) anchor: Option<Record>,
}

/// What the first bytes of a segment say.
pub(crate) struct Prefix {
    pub(crate) checksum: u32,
    pub(crate) length: usize,
    pub(crate) version: u32,
}

impl SegmentHeader {
    /// The header's bytes, padded to whole sectors, and its checksum, which names the segment in its records.
    pub(crate) fn encode(&self) -> (Vec<u8>, u32) {
        let mut out = Vec::new();
        out.put(MAGIC);
        out.put_u32(0);
        out.put_u32(0);
        out.put_u32(VERSION);
        out.put_u32(self.previous);
        out.put_u64(self.first);
        out.put_u64(self.applied);
        out.put_u16(self.identity.disks.len() as u16);
        out.put_u16(self.identity.item.len() as u16);
        out.put_u32(u32::from(self.anchor.is_some()));
        out.put(self.identity.item.as_bytes());
        for disk in &self.identity.disks {
            out.put_u64(disk.size.0);
            out.put_u16(disk.id.len() as u16);
            out.put(disk.id.as_bytes());
        }
        if let Some(anchor) = &self.anchor {
            out.put(&anchor.encode());
            let (name, group) = anchor.texts();
            out.put(name.as_bytes());
            out.put(group.as_bytes());
        }
        let length = out.len() as u32;
        out[12..16].copy_from_slice(&length.to_le_bytes());
        let checksum = crc32c::crc32c(&out[12..]);
        out[8..12].copy_from_slice(&checksum.to_le_bytes());
        out.resize(padded(out.len() as u64) as usize, 0);
        (out, checksum)
    }

    /// Parses `bytes`, which are exactly as long as their prefix says and have its checksum.
    pub(crate) fn decode(bytes: &[u8]) -> Parsed<SegmentHeader> {
        let mut reader = Reader::new(bytes);
        reader.bytes(Prefix::SIZE)?;
        let (previous, first, applied) = (reader.u32()?, reader.u64()?, reader.u64()?);
        let (disks, name, anchor) = (reader.u16()?, reader.u16()?, reader.u32()?);
        if usize::from(disks) > MAX_DISKS || applied >= first {
            return Err("the segment's header exceeds the limits of the format");
        }
        let item = reader.text(name.into())?;
        let disks = (0..disks).map(|_| decode_disk(&mut reader)).collect::<Parsed<Vec<_>>>()?;
        let anchor = match anchor {
            0 => None,
            1 => Some(decode_anchor(&mut reader)?),
            _ => return Err("the segment's header is of an unknown form"),
        };
        reader.finish()?;
        Ok(SegmentHeader { first, previous, applied, identity: Identity { item, disks }, anchor })
    }
}

impl Prefix {
    /// Bytes that a prefix takes.
    pub(crate) const SIZE: usize = 20;

    pub(crate) fn decode(bytes: &[u8]) -> Parsed<Prefix> {
        let mut reader = Reader::new(bytes);
        if reader.bytes(8)? != MAGIC {
            return Err("this is no journal segment");
        }
        let (checksum, length, version) = (reader.u32()?, reader.u32()? as usize, reader.u32()?);
        if !(FIXED..=MAX_HEADER).contains(&length) {
            return Err("the segment's header has an impossible length");
        }
        Ok(Prefix { checksum, length, version })
    }
}

fn decode_disk(reader: &mut Reader<'_>) -> Parsed<DiskIdentity> {
    let (size, length) = (Bytes(reader.u64()?), reader.u16()?);
    Ok(DiskIdentity { id: reader.text(length.into())?, size })
}

fn decode_anchor(reader: &mut Reader<'_>) -> Parsed<Record> {
    let rest = reader.rest();
    let (record, length) = Record::decode_with_texts(rest)?;
    reader.bytes(length)?;
    if record.batch.is_none() {
        return Err("the batch before the segment is none");
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::any_record;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_header_reads_as_it_was_written(
            anchor in proptest::option::of(any_record().prop_filter("a batch", |record| record.batch.is_some())),
            sizes in proptest::collection::vec(any::<u64>(), 0..5),
            (first, previous, applied) in (8..u64::MAX, any::<u32>(), 0..8u64),
        ) {
            let disk = |size| DiskIdentity { id: format!("disk of {size}"), size: Bytes(size) };
            let identity = Identity { item: "web01".into(), disks: sizes.into_iter().map(disk).collect() };
            let header = SegmentHeader { first, previous, applied, identity, anchor };
            let (bytes, checksum) = header.encode();
            let prefix = Prefix::decode(&bytes).unwrap();
            prop_assert_eq!((prefix.checksum, prefix.version), (checksum, VERSION));
            prop_assert_eq!(SegmentHeader::decode(&bytes[..prefix.length]), Ok(header));
        }

        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in any::<Vec<u8>>()) {
            let _ = Prefix::decode(&bytes);
            let _ = SegmentHeader::decode(&bytes);
        }
    }
}
