//! A disk as it was at a recovery point (in progress: the interface first).
#![allow(unused_variables, clippy::unimplemented)]

use crate::{BatchNumber, Journal, Result};
use disk::{ByteRange, Bytes, Disk};
use std::sync::Arc;

/// One disk of an item as it was at a recovery point. It can only be read, and stays right while replication
/// goes on.
pub struct PointView {}

impl PointView {
    /// The view of disk number `disk` at `point`, over the live disk.
    pub fn new(
        journal: Arc<Journal>,
        point: BatchNumber,
        disk: u16,
        live: Arc<dyn Disk>,
    ) -> Result<PointView> {
        unimplemented!()
    }
}

impl Disk for PointView {
    fn name(&self) -> &str {
        unimplemented!()
    }
    fn size(&self) -> Bytes {
        unimplemented!()
    }
    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> disk::Result<()> {
        unimplemented!()
    }
    fn write_at(&self, offset: Bytes, data: &[u8]) -> disk::Result<()> {
        unimplemented!()
    }
    fn write_zeroes(&self, range: ByteRange) -> disk::Result<()> {
        unimplemented!()
    }
    fn sync(&self) -> disk::Result<()> {
        unimplemented!()
    }
}
