//! Crash recovery (in progress: the interface first).
#![allow(unused_variables, clippy::unimplemented)]

use crate::{Journal, RecoveryReport, Result};
use disk::Disk;
use std::sync::Arc;

/// Brings every disk to one batch boundary after a crash.
pub fn recover(journal: &Arc<Journal>, disks: &[Arc<dyn Disk>]) -> Result<RecoveryReport> {
    unimplemented!()
}
