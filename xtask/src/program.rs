//! The programs that show and measure the product: built in release form with the product, then run.

use crate::command::{cargo, run as run_command, target};
use anyhow::Result;
use std::ffi::OsString;
use std::process::Command;

/// Builds the package `name` with the product and runs its program.
pub(crate) fn run(name: &str, arguments: &[OsString]) -> Result<()> {
    let packages = ["-p", "daemon", "-p", "source-agent", "-p", name];
    run_command(cargo(&["build", "--release", "--locked", "--bins"]).args(packages))?;
    run_command(Command::new(target().join("release").join(name)).args(arguments))
}
