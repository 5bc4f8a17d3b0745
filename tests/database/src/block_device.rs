//! An NBD export as a block device of the kernel.

use anyhow::Result;
use chaos::FuseFile;
use rig::tools::run;
use std::path::Path;

/// A loop device on a file of nbdfuse.
///
/// The loop device passes flushes on as fsync, and nbdfuse those as flushes; writes are answered only when the server has
/// answered them. So what ext4 and PostgreSQL take for durable was flushed at the server, which a test holds against it.
pub struct BlockDevice {
    device: String,
    // Dropped after the device was detached.
    _file: FuseFile,
}

impl BlockDevice {
    /// Attaches what nbdfuse reaches by `words`, which has this size; `file` is where its file is put.
    pub fn attach(file: &Path, words: &[&str], size: u64) -> Result<BlockDevice> {
        let file = FuseFile::mount(file, words, size)?;
        let device = run("losetup", &["--find", "--show", "--direct-io=on", &file.path().to_string_lossy()])?;
        Ok(BlockDevice { device: device.trim().to_owned(), _file: file })
    }

    /// Path of the device.
    pub fn path(&self) -> &str {
        &self.device
    }
}

impl Drop for BlockDevice {
    fn drop(&mut self) {
        // A device that is still used goes away with its last user.
        if let Err(error) = run("losetup", &["--detach", &self.device]) {
            eprintln!("{} stays: {error}", self.device);
        }
    }
}
