//! What of ours goes into the guest: the programs, built for the oldest C library that the product supports, their units
//! and configuration, the scenarios and their library.
//!
//! A compiler that links against an old glibc comes from PyPI, with versions and hashes pinned in
//! `tests/vm/zig-requirements.txt`.

use crate::command::{cargo, output, run as run_command, workspace};
use crate::python;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Ubuntu 16.04's.
const GLIBC: (u32, u32) = (2, 23);
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
const PACKAGES: [&str; 3] = ["daemon", "source-agent", "configuration-server"];
const PROGRAMS: [&str; 4] = ["mtd", "mtctl", "mt-source", "mt-configserver"];
const SCRIPTS: [&str; 7] = [
    "start.sh",
    "lib.sh",
    "retention.sh",
    "replication.sh",
    "checks.sh",
    "configuration-server.sh",
    "history.py",
];
const CONFIGURATION: [(&str, &str); 4] = [
    ("systemd", "master-target.service"),
    ("systemd", "master-target-configserver.service"),
    ("packaging", "mtd.toml"),
    ("packaging", "configserver.toml"),
];

/// Builds the programs and lays everything out in the folder that the guest sees.
pub(super) fn payload(cache: &Path, target: &Path) -> Result<PathBuf> {
    build(&python::install("zig", "tests/vm/zig-requirements.txt", cache)?, target)?;
    let folder = cache.join("payload");
    if folder.exists() {
        fs::remove_dir_all(&folder).context("cannot remove the last payload")?;
    }
    let programs = folder.join("bin");
    fs::create_dir_all(&programs).context("cannot make a folder for the payload")?;
    let built = target.join(TRIPLE).join("release");
    for program in PROGRAMS {
        check_symbols(&built.join(program))?;
        // Debug information is nine tenths of them, and the guest reads them slowly.
        let mut strip = Command::new("strip");
        run_command(strip.arg("-o").arg(programs.join(program)).arg(built.join(program)))?;
    }
    let tests = workspace().join("tests/vm");
    let scripts = SCRIPTS.map(|name| (tests.join(name), name));
    let configuration = CONFIGURATION.map(|(folder, name)| (workspace().join(folder).join(name), name));
    for (file, name) in scripts.into_iter().chain(configuration) {
        fs::copy(&file, folder.join(name)).with_context(|| format!("cannot copy {}", file.display()))?;
    }
    copy_folder(&tests.join("scenarios"), &folder.join("scenarios"))?;
    Ok(folder)
}

fn build(tools: &Path, target: &Path) -> Result<()> {
    let triple = format!("{TRIPLE}.{}.{}", GLIBC.0, GLIBC.1);
    let mut command = Command::new(tools.join("bin/cargo-zigbuild"));
    command.args(["zigbuild", "--release", "--locked", "--bins", "--target", &triple]);
    command.args(PACKAGES.iter().flat_map(|package| ["-p", package]));
    command.current_dir(workspace()).env("CARGO_TARGET_DIR", target);
    command.env("CARGO", cargo(&[]).get_program());
    run_command(command.env("CARGO_ZIGBUILD_ZIG_PATH", tools.join("ziglang/zig")))
}

/// A program that asks for a newer C library does not start where the product must run.
fn check_symbols(program: &Path) -> Result<()> {
    let symbols = output(Command::new("objdump").arg("-T").arg(program))?;
    match newest_glibc(&symbols) {
        Some(newest) if newest > GLIBC => {
            bail!(
                "{} needs glibc {}.{}, which is newer than {GLIBC:?}",
                program.display(),
                newest.0,
                newest.1
            )
        }
        _ => Ok(()),
    }
}

fn newest_glibc(symbols: &str) -> Option<(u32, u32)> {
    let versions = symbols.split("GLIBC_").skip(1).filter_map(|rest| {
        let mut numbers = rest.split(|byte: char| !byte.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    });
    versions.max()
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let entry = entry.with_context(|| format!("cannot list {}", from.display()))?;
        fs::copy(entry.path(), to.join(entry.file_name()))
            .with_context(|| format!("cannot copy {}", entry.path().display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_symbol_counts() {
        let symbols =
            "0 DF *UND* 0 (GLIBC_2.2.5) open\n0 DF *UND* 0 (GLIBC_2.18) x\n0 DF *UND* 0 (GLIBC_2.9) y";
        assert_eq!(newest_glibc(symbols), Some((2, 18)));
        assert_eq!(newest_glibc("nothing"), None);
    }
}
