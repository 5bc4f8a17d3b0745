//! Bytes, sectors and ranges of bytes.

use std::fmt;
use std::ops::{Add, AddAssign, Sub, SubAssign};

/// Bytes in a sector, as VMDK and SCSI tables count them, whatever the device's own block size.
pub const SECTOR_SIZE: u64 = 512;

/// A count of bytes, or an offset in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// A count of 512-byte sectors, or an offset in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sectors(pub u64);

impl Bytes {
    /// No bytes, or the start of a disk.
    pub const ZERO: Bytes = Bytes(0);

    /// The sum, or `None` where it does not fit into 64 bits.
    pub fn checked_add(self, other: Bytes) -> Option<Bytes> {
        self.0.checked_add(other.0).map(Bytes)
    }

    /// The sectors that hold this many bytes; a part of a sector counts as one.
    pub fn to_sectors_rounded_up(self) -> Sectors {
        Sectors(self.0.div_ceil(SECTOR_SIZE))
    }

    /// As an index into memory.
    ///
    /// # Panics
    /// Where memory cannot be that large: lengths from outside are limited before they come here.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).expect("a length in memory fits into usize")
    }
}

impl Sectors {
    /// The same in bytes, or `None` where it does not fit into 64 bits.
    pub fn to_bytes(self) -> Option<Bytes> {
        self.0.checked_mul(SECTOR_SIZE).map(Bytes)
    }
}

impl Add for Bytes {
    type Output = Bytes;
    fn add(self, other: Bytes) -> Bytes {
        Bytes(self.0 + other.0)
    }
}

impl AddAssign for Bytes {
    fn add_assign(&mut self, other: Bytes) {
        self.0 += other.0;
    }
}

impl Sub for Bytes {
    type Output = Bytes;
    fn sub(self, other: Bytes) -> Bytes {
        Bytes(self.0 - other.0)
    }
}

impl SubAssign for Bytes {
    fn sub_assign(&mut self, other: Bytes) {
        self.0 -= other.0;
    }
}

impl fmt::Display for Bytes {
    /// In the largest binary unit that leaves at least one before the point: `1.5 GiB`, `512 B`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let power = (self.0.ilog2() / 10) as usize;
        let unit = 1u64 << (10 * power);
        if self.0.is_multiple_of(unit) {
            write!(f, "{} {}", self.0 / unit, UNITS[power - 1])
        } else {
            write!(f, "{:.1} {}", self.0 as f64 / unit as f64, UNITS[power - 1])
        }
    }
}

impl fmt::Display for Sectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sectors", self.0)
    }
}

/// A range of bytes on a disk. Its end is known to fit into 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteRange {
    start: Bytes,
    length: Bytes,
}

impl ByteRange {
    /// The range, or `None` where its end does not fit into 64 bits.
    pub fn new(start: Bytes, length: Bytes) -> Option<ByteRange> {
        start.checked_add(length).map(|_| ByteRange { start, length })
    }

    /// The range that a buffer of `length` bytes covers at `start`, cut off at the end of the 64-bit space.
    pub fn of_buffer(start: Bytes, length: usize) -> ByteRange {
        ByteRange { start, length: Bytes((length as u64).min(u64::MAX - start.0)) }
    }

    /// The range between two offsets.
    ///
    /// # Panics
    /// When `end` lies before `start`.
    pub fn between(start: Bytes, end: Bytes) -> ByteRange {
        ByteRange { start, length: end - start }
    }

    /// First byte.
    pub fn start(&self) -> Bytes {
        self.start
    }

    /// One past the last byte.
    pub fn end(&self) -> Bytes {
        self.start + self.length
    }

    /// Length in bytes.
    pub fn length(&self) -> Bytes {
        self.length
    }

    /// True when it holds no byte.
    pub fn is_empty(&self) -> bool {
        self.length == Bytes::ZERO
    }

    /// True when both have a byte in common.
    pub fn overlaps(&self, other: &ByteRange) -> bool {
        self.start.max(other.start) < self.end().min(other.end())
    }

    /// The bytes that both have, or `None` where they share none.
    pub fn intersection(&self, other: &ByteRange) -> Option<ByteRange> {
        let (start, end) = (self.start.max(other.start), self.end().min(other.end()));
        (start < end).then(|| ByteRange::between(start, end))
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes at offset {}", self.length.0, self.start.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_as_people_write_them() {
        let shown = [0, 1023, 1024, 1536, 1 << 30, (1 << 30) + (1 << 29)].map(|n| Bytes(n).to_string());
        assert_eq!(shown, ["0 B", "1023 B", "1 KiB", "1.5 KiB", "1 GiB", "1.5 GiB"]);
    }

    #[test]
    fn a_range_that_would_overflow_does_not_exist() {
        assert!(ByteRange::new(Bytes(u64::MAX), Bytes(1)).is_none());
        assert_eq!(ByteRange::new(Bytes(u64::MAX), Bytes(0)).unwrap().end(), Bytes(u64::MAX));
        assert!(Sectors(u64::MAX / 512 + 1).to_bytes().is_none());
    }

    #[test]
    fn intersection_is_the_common_bytes() {
        let range = |start, end| ByteRange::between(Bytes(start), Bytes(end));
        assert_eq!(range(0, 10).intersection(&range(5, 20)), Some(range(5, 10)));
        assert_eq!(range(0, 10).intersection(&range(10, 20)), None);
        assert!(!range(0, 10).overlaps(&range(10, 20)));
        assert!(!range(5, 5).overlaps(&range(0, 10)));
    }
}
