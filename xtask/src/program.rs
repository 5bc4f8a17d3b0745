//! The programs that show and measure the product: built in release form with the product, then run.

use crate::command::{cargo, run as run_command, shown, target};
use crate::test;
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Runs the demo, as it is built with the tests, with the programs in the folder `programs`.
pub(crate) fn demo_of(programs: &Path) -> Result<()> {
    test::build()?;
    run_command(Command::new(target().join("debug/demo")).arg("--programs").arg(programs))
}

/// Builds the package `name` with the product, and runs its program in our place: Ctrl-C is for it alone, and whoever waits for
/// us waits for it.
pub(crate) fn become_it(name: &str, arguments: &[OsString]) -> Result<()> {
    let mut command = built(name, arguments)?;
    Err(command.exec()).with_context(|| format!("cannot start {}", shown(&command)))
}

fn built(name: &str, arguments: &[OsString]) -> Result<Command> {
    let packages = ["-p", "daemon", "-p", "source-agent", "-p", "configuration-server", "-p", name];
    run_command(cargo(&["build", "--release", "--locked", "--bins"]).args(packages))?;
    let mut command = Command::new(target().join("release").join(name));
    command.args(arguments);
    Ok(command)
}
