//! The programs that show and measure the product: built in release form with the product, then run.

use crate::command::{cargo, run as run_command, workspace};
use anyhow::Result;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

/// Builds the package `name` with the product and runs its program.
pub(crate) fn run(name: &str, arguments: &[OsString]) -> Result<()> {
    let packages = ["-p", "daemon", "-p", "source-agent", "-p", name];
    run_command(cargo(&["build", "--release", "--locked", "--bins"]).args(packages))?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    run_command(Command::new(target.join("release").join(name)).args(arguments))
}
