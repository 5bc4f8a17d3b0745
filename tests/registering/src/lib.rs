//! What the tests of this package stand on: real configuration servers, and machines to register with them.
//!
//! A [`Machine`] is this computer under another name, with another BIOS, machine id, `/etc/hosts` and, where a test wants
//! it, network: the real `mtctl` runs in namespaces of its own and notices nothing. [`tools`] are servers and relays that
//! other people wrote: openssl and socat.

mod machine;
pub mod tools;

pub use machine::{Machine, Said, View};

use anyhow::{Context, Result};
use rig::Rig;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Folder of our programs; the first call has them built.
pub fn programs() -> Result<&'static Path> {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    if PROGRAMS.get().is_none() {
        let built = rig::build()?;
        return Ok(PROGRAMS.get_or_init(|| built));
    }
    PROGRAMS.get().map(PathBuf::as_path).context("the programs are built")
}

/// A folder for a configuration server, with our programs.
pub fn rig(folder: &Path) -> Result<Rig> {
    Rig::new(folder, programs()?)
}

/// False, loudly, where we are not root; a failure where runs must be complete.
pub fn is_root(what: &str) -> bool {
    let root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if !root {
        assert!(std::env::var_os("MASTER_TARGET_NO_SKIPS").is_none(), "{what} needs root");
        // Written past the test harness, which keeps back what passing tests print.
        let _ = writeln!(std::io::stderr(), "SKIPPED: {what}, which needs root");
    }
    root
}
