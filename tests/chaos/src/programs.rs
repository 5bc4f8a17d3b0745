//! The programs under test.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Folder of `mtd`, `mtctl` and `mt-source`; the first call builds them.
pub fn programs() -> Result<&'static Path> {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    if PROGRAMS.get().is_none() {
        let built = rig::build()?;
        return Ok(PROGRAMS.get_or_init(|| built));
    }
    PROGRAMS.get().map(PathBuf::as_path).context("the programs are built")
}
