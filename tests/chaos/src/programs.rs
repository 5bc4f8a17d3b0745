//! The programs under test, built from the sources that are being tested.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Folder of `mtd`, `mtctl` and `mt-source`. Cargo builds the programs of other packages for nobody's tests, so the
/// first call has it build them, in the profile of these tests.
pub fn programs() -> Result<&'static Path> {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    if PROGRAMS.get().is_none() {
        let built = build()?;
        return Ok(PROGRAMS.get_or_init(|| built));
    }
    PROGRAMS.get().map(PathBuf::as_path).context("the programs are built")
}

fn build() -> Result<PathBuf> {
    // TARGET/PROFILE/deps/chaos-0123
    let own = std::env::current_exe()?;
    let folder = own.ancestors().nth(2).context("a test runs in the target folder")?;
    let target = folder.parent().context("a profile has a folder in the target folder")?;
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--locked", "--bins", "-p", "daemon", "-p", "source-agent"])
        .args(["--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("the programs cannot be built: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(folder.to_owned())
}
