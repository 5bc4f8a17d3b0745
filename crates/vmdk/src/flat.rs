//! An extent whose bytes are in a file as they are.

use crate::Result;
use crate::sync_gate::SyncGate;
use disk::{ByteRange, Bytes, Disk, Extent, File};
use std::sync::Arc;

/// A range of a file. Offsets are within the extent, and were checked against its length.
pub(crate) struct FlatExtent {
    file: Arc<dyn File>,
    start: Bytes,
    length: Bytes,
    gate: SyncGate,
}

impl FlatExtent {
    pub(crate) fn new(file: Arc<dyn File>, start: Bytes, length: Bytes) -> FlatExtent {
        FlatExtent { file, start, length, gate: SyncGate::default() }
    }

    pub(crate) fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> Result<()> {
        Ok(self.file.read_at(self.start + offset, buffer)?)
    }

    pub(crate) fn write_at(&self, offset: Bytes, data: &[u8]) -> Result<()> {
        self.file.write_at(self.start + offset, data)?;
        self.gate.note_write();
        Ok(())
    }

    pub(crate) fn write_zeroes(&self, range: ByteRange) -> Result<()> {
        let (start, end) = (self.start + range.start(), self.start + range.end());
        self.file.write_zeroes(ByteRange::between(start, end))?;
        self.gate.note_write();
        Ok(())
    }

    pub(crate) fn sync(&self) -> Result<()> {
        self.gate.pass(|| Ok(self.file.sync()?))
    }

    pub(crate) fn extent_at(&self, offset: Bytes) -> Result<Extent> {
        let extent = self.file.extent_at(self.start + offset)?;
        Ok(Extent { length: extent.length.min(self.length - offset), ..extent })
    }
}
