//! The test programs, as cargo built them.

use crate::command::{cargo, is_root, shown, target};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A program that runs tests.
pub(crate) struct Program {
    /// Its package, and its source in there.
    pub(super) name: String,
    pub(super) command: Command,
}

/// A message of cargo's about something that it has built:
/// <https://doc.rust-lang.org/cargo/reference/external-tools.html#artifact-messages>.
#[derive(Deserialize)]
struct Artifact {
    manifest_path: PathBuf,
    target: Target,
    profile: Profile,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    src_path: PathBuf,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Where the product's programs lie, which are built with the tests.
pub(super) fn folder() -> PathBuf {
    target().join("debug")
}

/// Builds all tests, and the programs that they run.
pub(crate) fn build() -> Result<Vec<Program>> {
    let words = ["test", "--workspace", "--locked", "--no-run", "--message-format=json-render-diagnostics"];
    let mut command = cargo(&words);
    let built = command.stderr(Stdio::inherit()).output();
    let built = built.with_context(|| format!("cannot start {}", shown(&command)))?;
    ensure!(built.status.success(), "{} failed ({})", shown(&command), built.status);
    let messages = String::from_utf8(built.stdout).context("cargo's messages are no text")?;
    let apart = is_root()?;
    messages.lines().filter_map(|line| program(line, apart).transpose()).collect()
}

/// Runs a test program. `apart` is with mounts of its own, for which it takes root: mkfs and others look at every mount of the
/// machine, and fail on one whose file system another test has killed. They go with the program, however it ends.
fn command(executable: PathBuf, apart: bool) -> Command {
    if !apart {
        return Command::new(executable);
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]).arg(executable);
    command
}

/// The test program that a message tells of, if it tells of one.
fn program(message: &str, apart: bool) -> Result<Option<Program>> {
    let message: serde_json::Value = serde_json::from_str(message).context("a message of cargo's")?;
    if message["reason"] != "compiler-artifact" {
        return Ok(None);
    }
    let artifact: Artifact = serde_json::from_value(message).context("a message of cargo's")?;
    let (true, Some(executable)) = (artifact.profile.test, artifact.executable) else { return Ok(None) };
    let folder = artifact.manifest_path.parent().context("a manifest lies in a folder")?;
    let package = folder.file_name().unwrap_or_default();
    let source = artifact.target.src_path.strip_prefix(folder).unwrap_or(Path::new("?"));
    let mut command = command(executable, apart);
    command.current_dir(folder);
    Ok(Some(Program { name: format!("{} {}", package.display(), source.display()), command }))
}
