//! The programs under test, built from the sources that are being tested.

use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// Packages with programs that tests start. Always all of them: another choice would have other features of what they
/// have in common, and all that built once more.
const PACKAGES: [&str; 4] = ["daemon", "source-agent", "configuration-server", "process-server"];

/// Where `cargo xtask test` says that they lie, built with all tests.
const BUILT: &str = "MASTER_TARGET_PROGRAMS";

/// Builds the product's programs in the profile of the test that runs, unless they are, and gives their folder: cargo builds
/// the programs of other packages for nobody's tests.
pub fn build() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os(BUILT) {
        return Ok(folder.into());
    }
    // TARGET/PROFILE/deps/test-0123
    let own = std::env::current_exe()?;
    let folder = own.ancestors().nth(2).context("a test runs in the target folder")?;
    let target = folder.parent().context("a profile has a folder in the target folder")?;
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo told the test about its own package would have build scripts of others run again, here and the next
    // time without it.
    let of_package = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"];
    for (name, _) in std::env::vars_os() {
        if of_package.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    let output = command
        .args(["build", "--quiet", "--locked", "--bins", "--profile", profile, "--target-dir"])
        .arg(target)
        .args(PACKAGES.iter().flat_map(|package| ["-p", package]))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("the programs cannot be built: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(folder.to_owned())
}
