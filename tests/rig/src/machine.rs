//! This machine as `mtctl register` wants it: with its own name in `/etc/hosts`.
//!
//! A master target that others cannot find by its name is refused, and rightly so; but the machine that a demo or test
//! runs on need not be changed for that. Where its `/etc/hosts` would not do, the command sees another one, in a view
//! of the file system of its own.

use anyhow::{Context, Result};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// `mtctl`, on a machine whose name is in `/etc/hosts`; a file for that is put into `folder` when it is needed.
pub(crate) fn mtctl(program: &Path, folder: &Path) -> Result<Command> {
    let checked = Command::new(program)
        .args(["check", "--only", "hosts-file"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .with_context(|| format!("cannot run {}", program.display()))?;
    if checked.success() {
        return Ok(Command::new(program));
    }
    let hosts = folder.join("hosts");
    fs::write(&hosts, fs::read_to_string("/etc/hosts").unwrap_or_default() + &own_lines()?)?;
    let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if fs::metadata("/proc/self")?.uid() != 0 {
        command.arg("--map-root-user");
    }
    command.args([OsStr::new("sh"), OsStr::new("-c"), OsStr::new(script)]).arg(hosts).arg(program);
    Ok(command)
}

/// Lines that give this machine's name all of its addresses.
fn own_lines() -> Result<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").context("this machine has no name")?;
    let listed = crate::tools::run("ip", &["-o", "-4", "addr"])?;
    let addresses = listed.lines().filter_map(|line| line.split_whitespace().nth(3)?.split('/').next());
    Ok(addresses.map(|address| format!("{address} {}\n", name.trim())).collect())
}
