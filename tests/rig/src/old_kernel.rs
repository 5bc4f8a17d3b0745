//! Programs that run as on Linux 4.4, by a filter of system calls.

use crate::clocks::PROGRAMS;
use anyhow::Result;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What puts the filter in place, and becomes the program.
const LAUNCHER: &str = include_str!("old_kernel.py");
const PYTHON: &str = "/usr/bin/python3";

/// A folder with our programs, each of which runs as on Linux 4.4, with all that it starts: calls that this kernel does not
/// have are answered ENOSYS.
pub struct OldKernel {
    folder: PathBuf,
}

impl OldKernel {
    /// Makes the folder, for the programs that are in `real`.
    pub fn make(folder: &Path, real: &Path) -> Result<OldKernel> {
        std::fs::create_dir_all(folder)?;
        let kernel = OldKernel { folder: folder.canonicalize()? };
        std::fs::write(kernel.launcher(), LAUNCHER)?;
        for name in PROGRAMS.into_iter().filter(|name| real.join(name).exists()) {
            let (path, program) = (kernel.folder.join(name), real.join(name).canonicalize()?);
            let (launcher, program) = (kernel.launcher(), program.display().to_string());
            let script = format!("#!/bin/sh\nexec {PYTHON} -I '{}' '{program}' \"$@\"\n", launcher.display());
            std::fs::write(&path, script)?;
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?;
        }
        Ok(kernel)
    }

    /// Where the programs are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A command that runs another program in the same way.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(PYTHON);
        command.arg("-I").arg(self.launcher()).arg(program);
        command
    }

    fn launcher(&self) -> PathBuf {
        self.folder.join("old_kernel.py")
    }
}
