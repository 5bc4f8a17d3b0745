//! Files and folders made into archives that are the same whenever they are made.

use super::packages::Package;
use super::{Build, control};
use crate::command::run as run_command;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Scripts of the installer's archive.
const INSTALLER: [&str; 2] = ["install", "ApplyCustomChanges.sh"];

/// The package of what is laid out at `root`; dpkg 1.18 of Ubuntu 16.04 reads xz, not zstd.
pub(super) fn package(build: &Build<'_>, package: &Package, root: &Path) -> Result<PathBuf> {
    let version = control::version(build)?;
    let file = build.target.join(format!("{}_{version}_amd64.deb", package.name));
    let mut command = Command::new("dpkg-deb");
    command.args(["--root-owner-group", "-Zxz", "--uniform-compression", "--build"]).arg(root).arg(&file);
    run_command(command.env("SOURCE_DATE_EPOCH", build.time.to_string()))?;
    Ok(file)
}

/// The archive with the installer that runbooks for the old product know, and with the packages that it installs.
pub(super) fn installer(build: &Build<'_>, packages: &[PathBuf]) -> Result<PathBuf> {
    let name = format!("master-target_{}_installer", control::version(build)?);
    let folder = build.target.join(&name);
    for script in INSTALLER {
        let from = build.workspace.join("packaging/runbooks").join(script);
        let content = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
        super::tree::write(&folder, script, &content, 0o755)?;
    }
    for package in packages {
        let name = package.file_name().unwrap_or_default().to_string_lossy();
        super::tree::write(&folder, &format!("packages/{name}"), &fs::read(package)?, 0o644)?;
    }
    let file = build.target.join(format!("{name}.tar.gz"));
    let script = "tar --sort=name --owner=0 --group=0 --numeric-owner --format=gnu --mtime=\"@$2\" -C \"$0\" -c . | \
                  gzip --no-name >\"$1\"";
    let mut command = Command::new("bash");
    command.args(["-o", "pipefail", "-c", script]).arg(&folder).arg(&file).arg(build.time.to_string());
    run_command(&mut command)?;
    Ok(file)
}
