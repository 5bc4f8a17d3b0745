//! Programs with clocks of their own, by libfaketime.

use anyhow::{Context, Result};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

const PRELOAD: &str = "faketime/libfaketimeMT.so.1";
/// Our programs.
pub(crate) const PROGRAMS: [&str; 4] = ["mtd", "mtctl", "mt-source", "mt-configserver"];

/// A folder with our programs, some of which read their clock off a file: `mtd.clock` holds `+3d`, for example.
pub struct Clocks {
    folder: PathBuf,
}

impl Clocks {
    /// Makes the folder, with the programs that are in `real`; those with these names get a clock, which is right at
    /// first.
    pub fn make(folder: &Path, real: &Path, names: &[&str]) -> Result<Clocks> {
        std::fs::create_dir_all(folder)?;
        let (library, clocks) = (preload()?, Clocks { folder: folder.to_owned() });
        for name in PROGRAMS.into_iter().filter(|name| real.join(name).exists()) {
            let (path, program) = (folder.join(name), real.join(name).canonicalize()?);
            if !names.contains(&name) {
                symlink(program, path)?;
                continue;
            }
            clocks.set(name, "+0")?;
            let script = format!(
                "#!/bin/sh\nexport LD_PRELOAD='{}' FAKETIME_TIMESTAMP_FILE='{}' FAKETIME_NO_CACHE=1 \
                 FAKETIME_DONT_FAKE_MONOTONIC=1\nexec '{}' \"$@\"\n",
                library.display(),
                folder.join(format!("{name}.clock")).display(),
                program.display()
            );
            std::fs::write(&path, script)?;
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?;
        }
        Ok(clocks)
    }

    /// Sets the clock of a program, also while it runs: `+3d`, `-1h`, `+0`.
    pub fn set(&self, name: &str, offset: &str) -> Result<()> {
        Ok(std::fs::write(self.folder.join(format!("{name}.clock")), offset)?)
    }

    /// Where the programs are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

fn preload() -> Result<PathBuf> {
    let found = std::fs::read_dir("/usr/lib")?
        .filter_map(|entry| Some(entry.ok()?.path().join(PRELOAD)))
        .find(|library| library.exists());
    found.with_context(|| format!("no {PRELOAD}; `cargo xtask setup` installs it"))
}
