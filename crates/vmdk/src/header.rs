//! The first sector of a sparse extent, and the geometry that it declares.

use crate::{Error, Problem, Result};
use disk::{Bytes, SECTOR_SIZE, Sectors};

/// Bytes of a header.
pub(crate) const HEADER_SIZE: usize = 512;
/// The first bytes of a hosted sparse extent.
pub(crate) const MAGIC: [u8; 4] = *b"KDMV";
/// Offset of the unclean-shutdown byte.
pub(crate) const UNCLEAN_AT: Bytes = Bytes(72);
/// Offset of the newline bytes.
pub(crate) const NEWLINE_AT: Bytes = Bytes(73);
/// What transfers in text mode would change.
pub(crate) const NEWLINE_BYTES: [u8; 4] = *b"\n \r\n";
/// The grain directory's offset when it is at the end of the file, and a footer tells where.
pub(crate) const AT_END: u64 = u64::MAX;
/// Sectors of a grain in what we create: 64 KiB, as everyone else's.
pub(crate) const GRAIN_SECTORS: u64 = 128;
/// Entries of a grain table in what we create.
pub(crate) const TABLE_ENTRIES: u32 = 512;

/// 8 MiB of directory: with usual grains, 64 TiB of disk.
pub(crate) const MAX_TABLES: u64 = 2 << 20;
/// Larger grains than 16 MiB do not occur, and a compressed one is held in memory.
const MAX_GRAIN_SECTORS: u64 = 32 << 10;

const FLAG_NEWLINE: u32 = 1;
const FLAG_REDUNDANT: u32 = 1 << 1;
const FLAG_ZERO_GRAINS: u32 = 1 << 2;
const FLAG_COMPRESSED: u32 = 1 << 16;
const FLAG_MARKERS: u32 = 1 << 17;
const DEFLATE: u16 = 1;

/// A header as it is stored. Numbers in it are not to be trusted; [`Header::geometry`] checks them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) version: u32,
    pub(crate) flags: u32,
    pub(crate) capacity: u64,
    pub(crate) grain: u64,
    pub(crate) descriptor_at: u64,
    pub(crate) descriptor_size: u64,
    pub(crate) table_entries: u32,
    pub(crate) redundant_at: u64,
    pub(crate) directory_at: u64,
    pub(crate) overhead: u64,
    pub(crate) unclean: bool,
    pub(crate) newline: [u8; 4],
    pub(crate) compression: u16,
}

/// What a header declares, after every number was found to be possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) capacity: Sectors,
    /// Sectors of a grain, a power of two.
    pub(crate) grain: u64,
    /// Entries of a table, at most 512.
    pub(crate) entries: u32,
    /// How many tables, so how many entries of a directory.
    pub(crate) tables: u32,
    pub(crate) directory: Sectors,
    pub(crate) redundant: Option<Sectors>,
    /// Sectors of the header, and of the descriptor where it follows.
    pub(crate) start: u64,
    /// No grain starts before this sector.
    pub(crate) overhead: u64,
    /// Entry 1 means a grain of zeroes.
    pub(crate) zero_grains: bool,
    pub(crate) compressed: bool,
}

impl Header {
    /// The header of a new extent that grows in place.
    pub(crate) fn growing(capacity: Sectors) -> Header {
        Header {
            version: 1,
            flags: FLAG_NEWLINE | FLAG_REDUNDANT,
            capacity: capacity.0,
            grain: GRAIN_SECTORS,
            descriptor_at: 0,
            descriptor_size: 0,
            table_entries: TABLE_ENTRIES,
            redundant_at: 0,
            directory_at: 0,
            overhead: 0,
            unclean: false,
            newline: NEWLINE_BYTES,
            compression: 0,
        }
    }

    /// The header of a new compressed stream, whose directory will be at the end.
    pub(crate) fn stream(capacity: Sectors) -> Header {
        Header {
            version: 3,
            flags: FLAG_NEWLINE | FLAG_COMPRESSED | FLAG_MARKERS,
            directory_at: AT_END,
            compression: DEFLATE,
            ..Header::growing(capacity)
        }
    }

    /// The bytes of the first sector.
    pub(crate) fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &MAGIC);
        put(4, &self.version.to_le_bytes());
        put(8, &self.flags.to_le_bytes());
        put(12, &self.capacity.to_le_bytes());
        put(20, &self.grain.to_le_bytes());
        put(28, &self.descriptor_at.to_le_bytes());
        put(36, &self.descriptor_size.to_le_bytes());
        put(44, &self.table_entries.to_le_bytes());
        put(48, &self.redundant_at.to_le_bytes());
        put(56, &self.directory_at.to_le_bytes());
        put(64, &self.overhead.to_le_bytes());
        put(UNCLEAN_AT.as_usize(), &[u8::from(self.unclean)]);
        put(NEWLINE_AT.as_usize(), &self.newline);
        put(77, &self.compression.to_le_bytes());
        bytes
    }

    /// The header in these bytes, or `None` where the magic is another one.
    pub(crate) fn decode(bytes: &[u8; HEADER_SIZE]) -> Option<Header> {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        bytes.starts_with(&MAGIC).then(|| Header {
            version: u32_at(4),
            flags: u32_at(8),
            capacity: u64_at(12),
            grain: u64_at(20),
            descriptor_at: u64_at(28),
            descriptor_size: u64_at(36),
            table_entries: u32_at(44),
            redundant_at: u64_at(48),
            directory_at: u64_at(56),
            overhead: u64_at(64),
            unclean: bytes[UNCLEAN_AT.as_usize()] != 0,
            newline: std::array::from_fn(|i| bytes[NEWLINE_AT.as_usize() + i]),
            compression: u16_at(77),
        })
    }

    /// True when only the footer tells where the grain directory is.
    pub(crate) fn has_footer(&self) -> bool {
        self.directory_at == AT_END
    }

    /// True when the newline bytes are declared to be there, and are not.
    pub(crate) fn newline_broken(&self) -> bool {
        self.flags & FLAG_NEWLINE != 0 && self.newline != NEWLINE_BYTES
    }

    /// The geometry, if every number of it is possible in a file of `size`.
    pub(crate) fn geometry(&self, object: &str, size: Bytes) -> Result<Geometry> {
        let sectors = size.0 / SECTOR_SIZE;
        let bad = |at: u64, field, value| {
            Err(Error::damaged(object, Bytes(at), Problem::HeaderField { field, value }))
        };
        if !(1..=3).contains(&self.version) {
            return bad(4, "version", self.version.into());
        }
        let compressed = self.flags & FLAG_COMPRESSED != 0;
        if compressed != (self.compression != 0) || compressed && self.compression != DEFLATE {
            return bad(77, "compression", self.compression.into());
        }
        if compressed && self.flags & FLAG_MARKERS == 0 {
            return bad(8, "set of flags", self.flags.into());
        }
        if self.capacity == 0 || Sectors(self.capacity).to_bytes().is_none() {
            return bad(12, "capacity", self.capacity);
        }
        if !self.grain.is_power_of_two() || self.grain <= 8 || self.grain > MAX_GRAIN_SECTORS {
            return bad(20, "grain size", self.grain);
        }
        if !(1..=TABLE_ENTRIES).contains(&self.table_entries) {
            return bad(44, "number of entries of a grain table", self.table_entries.into());
        }
        let tables = self.capacity.div_ceil(self.grain * u64::from(self.table_entries));
        if tables > MAX_TABLES {
            return bad(12, "capacity", self.capacity);
        }
        let fits = |at: u64| {
            at > 0 && at.checked_add((tables * 4).div_ceil(SECTOR_SIZE)).is_some_and(|end| end <= sectors)
        };
        if !fits(self.directory_at) {
            return bad(56, "grain directory offset", self.directory_at);
        }
        let redundant = self.flags & FLAG_REDUNDANT != 0;
        if redundant && (!fits(self.redundant_at) || self.redundant_at == self.directory_at) {
            return bad(48, "redundant grain directory offset", self.redundant_at);
        }
        if self.overhead > sectors {
            return bad(64, "overhead", self.overhead);
        }
        Ok(Geometry {
            capacity: Sectors(self.capacity),
            grain: self.grain,
            entries: self.table_entries,
            tables: tables as u32,
            directory: Sectors(self.directory_at),
            redundant: redundant.then_some(Sectors(self.redundant_at)),
            start: if self.descriptor_at == 1 { self.descriptor_size.saturating_add(1) } else { 1 },
            overhead: self.overhead.max(1),
            zero_grains: self.flags & FLAG_ZERO_GRAINS != 0,
            compressed,
        })
    }
}

impl Geometry {
    pub(crate) fn grain_bytes(&self) -> u64 {
        self.grain * SECTOR_SIZE
    }

    /// Grains of the disk; the last may be only partly used.
    pub(crate) fn grains(&self) -> u64 {
        self.capacity.0.div_ceil(self.grain)
    }

    /// Sectors of a table.
    pub(crate) fn table_sectors(&self) -> u64 {
        (u64::from(self.entries) * 4).div_ceil(SECTOR_SIZE)
    }

    /// Sectors of a directory.
    pub(crate) fn directory_sectors(&self) -> u64 {
        (u64::from(self.tables) * 4).div_ceil(SECTOR_SIZE)
    }

    /// The table of a grain, and its entry there.
    pub(crate) fn locate(&self, grain: u64) -> (u32, usize) {
        let entries = u64::from(self.entries);
        ((grain / entries) as u32, (grain % entries) as usize)
    }

    /// Bytes of a grain that belong to the disk: all but for the last one.
    pub(crate) fn used_bytes(&self, grain: u64) -> u64 {
        (self.capacity.0 * SECTOR_SIZE - grain * self.grain_bytes()).min(self.grain_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_stored_as_drawn() {
        let header = Header {
            descriptor_at: 1,
            descriptor_size: 20,
            redundant_at: 24,
            directory_at: 32,
            overhead: 128,
            unclean: true,
            ..Header::growing(Sectors(0x1234))
        };
        let bytes = header.encode();
        let mut expected = [0; HEADER_SIZE];
        expected[..79].copy_from_slice(
            b"KDMV\x01\0\0\0\x03\0\0\0\x34\x12\0\0\0\0\0\0\x80\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\
              \x14\0\0\0\0\0\0\0\0\x02\0\0\x18\0\0\0\0\0\0\0\x20\0\0\0\0\0\0\0\x80\0\0\0\0\0\0\0\
              \x01\n \r\n\0\0",
        );
        assert_eq!(bytes, expected);
        assert_eq!(Header::decode(&bytes), Some(header));
    }

    #[test]
    fn impossible_numbers_are_named() {
        let good =
            Header { redundant_at: 24, directory_at: 32, overhead: 64, ..Header::growing(Sectors(4096)) };
        let geometry = good.geometry("x", Bytes(1 << 20)).unwrap();
        assert_eq!((geometry.tables, geometry.grains(), geometry.table_sectors()), (1, 32, 4));
        let problem = |header: Header| header.geometry("x", Bytes(1 << 20)).unwrap_err().to_string();
        assert!(problem(Header { version: 4, ..good.clone() }).contains("version is 4"));
        assert!(problem(Header { grain: 96, ..good.clone() }).contains("grain size"));
        assert!(problem(Header { grain: 0, ..good.clone() }).contains("grain size"));
        assert!(problem(Header { table_entries: 513, ..good.clone() }).contains("entries"));
        assert!(problem(Header { capacity: u64::MAX, ..good.clone() }).contains("capacity"));
        assert!(problem(Header { capacity: 1 << 54, ..good.clone() }).contains("capacity"));
        assert!(problem(Header { directory_at: 2048, ..good.clone() }).contains("directory offset"));
        assert!(problem(Header { redundant_at: u64::MAX, ..good.clone() }).contains("redundant"));
        assert!(problem(Header { compression: 1, ..good.clone() }).contains("compression"));
        assert!(problem(Header { overhead: 1 << 40, ..good }).contains("overhead"));
    }
}
