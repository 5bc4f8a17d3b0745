//! A disk with a switch: while it is on, every write fails with an I/O error.

use anyhow::{Context, Result};
use rig::tools::run;
use rig::{Process, wait_for};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A file served by nbdkit with its error filter, seen as a file of the kernel through nbdfuse.
pub struct FaultyDisk {
    /// Path of the disk.
    pub path: PathBuf,
    switch: PathBuf,
    process: Process,
}

impl FaultyDisk {
    /// A disk of so many bytes, all zero, in a folder that is made for it.
    pub fn new(folder: &Path, size: u64) -> Result<FaultyDisk> {
        std::fs::create_dir_all(folder)?;
        let [image, switch, path] = ["image", "broken", "disk"].map(|name| folder.join(name));
        std::fs::File::create(&image)?.set_len(size)?;
        std::fs::File::create(&path)?;
        let mut command = Command::new("nbdfuse");
        command
            .arg(&path)
            .args(["--command", "nbdkit", "-s", "--exit-with-parent", "--filter=error", "file"])
            .arg(&image)
            .args(["error=EIO", "error-pwrite-rate=1", "error-zero-rate=1"])
            .arg(format!("error-file={}", switch.display()));
        let process = Process::start(command, &folder.join("nbdfuse.log"))?;
        let mut disk = FaultyDisk { path, switch, process };
        wait_for("nbdfuse to serve the disk", Duration::from_secs(10), || {
            disk.process.check_running()?;
            Ok((std::fs::metadata(&disk.path)?.len() == size).then_some(()))
        })?;
        Ok(disk)
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

impl Drop for FaultyDisk {
    fn drop(&mut self) {
        // nbdfuse ends with its mount; killing it, as dropping the process does, would leave the mount behind.
        if let Err(error) = run("umount", &["--lazy", &self.path.to_string_lossy()]) {
            eprintln!("{} stays mounted: {error}", self.path.display());
        }
    }
}
