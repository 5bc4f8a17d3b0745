//! This machine as `mtctl register` wants it: with its own name in `/etc/hosts`.
//!
//! A master target that others cannot find by its name is refused, and rightly so; but the machine that a demo or test
//! runs on need not be changed for that. Where its `/etc/hosts` would not do, the command sees another one, in a view
//! of the file system of its own. In the same way one machine can be several.

use crate::Rig;
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// `mtctl`, on a machine whose name is in `/etc/hosts`; a file for that is put into `folder` when it is needed.
pub(crate) fn mtctl(rig: &Rig, folder: &Path) -> Result<Command> {
    let (program, there) = (rig.program("mtctl")?, command(rig, "mtctl")?);
    let checked = Command::new(&program)
        .args(["check", "--only", "hosts-file"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .with_context(|| format!("cannot run {}", program.display()))?;
    if checked.success() {
        return Ok(there);
    }
    let hosts = folder.join("hosts");
    fs::write(&hosts, fs::read_to_string("/etc/hosts").unwrap_or_default() + &own_lines()?)?;
    let mut command = in_view("mount --bind \"$0\" /etc/hosts && exec \"$@\"")?;
    command.arg(hosts).arg(there.get_program()).args(there.get_args());
    Ok(command)
}

/// A program of ours, on the machine that a rig has it on.
pub(crate) fn command(rig: &Rig, program: &str) -> Result<Command> {
    let program = rig.program(program)?;
    let Some(id) = &rig.other_machine else { return Ok(Command::new(program)) };
    let folder = rig.folder.join("machine");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("id"), format!("{id}\n"))?;
    let (first, rest) = id.split_at_checked(8).context("a machine id has 32 digits")?;
    let uuid = [first, &rest[..4], &rest[4..8], &rest[8..12], &rest[12..]].join("-");
    fs::write(folder.join("uuid"), format!("{uuid}\n"))?;
    // Not every machine has a BIOS that tells a UUID.
    let script = "mount --bind \"$0/id\" /etc/machine-id && \
                  { [ ! -e /sys/class/dmi/id/product_uuid ] || \
                  mount --bind \"$0/uuid\" /sys/class/dmi/id/product_uuid; } && exec \"$@\"";
    let mut command = in_view(script)?;
    command.arg(folder).arg(program);
    Ok(command)
}

/// A script in a view of the file system of its own; what follows are its `$0`, `$1` and so on.
fn in_view(script: &str) -> Result<Command> {
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if fs::metadata("/proc/self")?.uid() != 0 {
        command.arg("--map-root-user");
    }
    command.args(["sh", "-c", script]);
    Ok(command)
}

/// Lines that give this machine's name all of its addresses.
fn own_lines() -> Result<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").context("this machine has no name")?;
    let listed = crate::tools::run("ip", &["-o", "-4", "addr"])?;
    let addresses = listed.lines().filter_map(|line| line.split_whitespace().nth(3)?.split('/').next());
    Ok(addresses.map(|address| format!("{address} {}\n", name.trim())).collect())
}
