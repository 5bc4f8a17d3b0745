//! What an NBD server serves, as a file of the kernel.

use anyhow::Result;
use rig::tools::run;
use rig::{Process, wait_for};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A file through nbdfuse, until it is dropped.
///
/// It is written through: a write has been answered by the server when it returns, and fsync asks the server for a flush.
pub struct FuseFile {
    path: PathBuf,
    // Dropped after the file was unmounted.
    process: Process,
}

impl FuseFile {
    /// Mounts at `path` what nbdfuse reaches by `words`: a URI, or a server's command in brackets. Waits until it has this
    /// size.
    pub fn mount(path: &Path, words: &[&str], size: u64) -> Result<FuseFile> {
        std::fs::File::create(path)?;
        let mut command = Command::new("nbdfuse");
        command.arg(path).args(words);
        let process = Process::start(command, &path.with_extension("nbdfuse.log"))?;
        let mut file = FuseFile { path: path.to_owned(), process };
        wait_for("nbdfuse to serve the file", Duration::from_secs(30), || {
            file.process.check_running()?;
            Ok((std::fs::metadata(&file.path)?.len() == size).then_some(()))
        })?;
        Ok(file)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for FuseFile {
    fn drop(&mut self) {
        // nbdfuse ends with its mount; killing it, as dropping the process does, would leave the mount behind.
        if let Err(error) = run("umount", &["--lazy", &self.path.to_string_lossy()]) {
            eprintln!("{} stays mounted: {error}", self.path.display());
        }
    }
}
