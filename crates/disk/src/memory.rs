//! A disk in memory.

use crate::{ByteRange, Bytes, Disk, Operation, Result, check_bounds};
use std::sync::RwLock;

/// A disk in memory; its sync does nothing, because nothing survives the process anyway.
#[derive(Debug)]
pub struct MemoryDisk {
    name: String,
    bytes: RwLock<Vec<u8>>,
}

impl MemoryDisk {
    /// A disk of `size` zero bytes.
    pub fn new(name: impl Into<String>, size: Bytes) -> MemoryDisk {
        MemoryDisk::with_contents(name, vec![0; size.as_usize()])
    }

    /// A disk that holds `bytes`.
    pub fn with_contents(name: impl Into<String>, bytes: Vec<u8>) -> MemoryDisk {
        MemoryDisk { name: name.into(), bytes: RwLock::new(bytes) }
    }

    /// A copy of all that the disk holds.
    pub fn contents(&self) -> Vec<u8> {
        self.read().clone()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Vec<u8>> {
        self.bytes.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Vec<u8>> {
        self.bytes.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Disk for MemoryDisk {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> Bytes {
        Bytes(self.read().len() as u64)
    }

    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> Result<()> {
        check_bounds(self, Operation::Read, ByteRange::of_buffer(offset, buffer.len()))?;
        let start = offset.as_usize();
        buffer.copy_from_slice(&self.read()[start..start + buffer.len()]);
        Ok(())
    }

    fn write_at(&self, offset: Bytes, data: &[u8]) -> Result<()> {
        check_bounds(self, Operation::Write, ByteRange::of_buffer(offset, data.len()))?;
        let start = offset.as_usize();
        self.write()[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn write_zeroes(&self, range: ByteRange) -> Result<()> {
        check_bounds(self, Operation::Write, range)?;
        self.write()[range.start().as_usize()..range.end().as_usize()].fill(0);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cause;

    #[test]
    fn reads_what_was_written_and_nothing_past_the_end() {
        let disk = MemoryDisk::new("m", Bytes(16));
        disk.write_at(Bytes(4), b"abcd").unwrap();
        disk.write_zeroes(ByteRange::between(Bytes(5), Bytes(6))).unwrap();
        let mut buffer = [0xff; 6];
        disk.read_at(Bytes(3), &mut buffer).unwrap();
        assert_eq!(&buffer, b"\0a\0cd\0");
        let error = disk.read_at(Bytes(12), &mut buffer).unwrap_err();
        assert!(matches!(error.cause(), Cause::OutOfBounds { size: Bytes(16) }));
    }
}
