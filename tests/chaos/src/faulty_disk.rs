//! A disk with a switch: while it is on, every write fails with an I/O error.

use crate::FuseFile;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// A file served by nbdkit with its error filter, seen as a file of the kernel through nbdfuse.
pub struct FaultyDisk {
    /// Path of the disk.
    pub path: PathBuf,
    switch: PathBuf,
    _file: FuseFile,
}

impl FaultyDisk {
    /// A disk of so many bytes, all zero, in a folder that is made for it.
    pub fn new(folder: &Path, size: u64) -> Result<FaultyDisk> {
        std::fs::create_dir_all(folder)?;
        let [image, switch, path] = ["image", "broken", "disk"].map(|name| folder.join(name));
        std::fs::File::create(&image)?.set_len(size)?;
        let (server, error_file) = (
            ["--command", "nbdkit", "-s", "--exit-with-parent", "--filter=error", "file"],
            format!("error-file={}", switch.display()),
        );
        let image = image.to_string_lossy();
        let words = [&image, "error=EIO", "error-pwrite-rate=1", "error-zero-rate=1", &error_file];
        let words: Vec<&str> = server.into_iter().chain(words).collect();
        let file = FuseFile::mount(&path, &words, size)?;
        Ok(FaultyDisk { path, switch, _file: file })
    }

    /// From now on writes fail, or work again.
    pub fn set_broken(&self, broken: bool) -> Result<()> {
        if broken {
            std::fs::write(&self.switch, "").context("the switch cannot be turned on")
        } else {
            std::fs::remove_file(&self.switch).context("the switch cannot be turned off")
        }
    }
}
