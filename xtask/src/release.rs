//! The programs as they are delivered: built for the oldest C library that the product supports.
//!
//! A compiler that links against an old glibc comes from PyPI, with versions and hashes pinned in
//! `packaging/zig-requirements.txt`. What is built is looked at before anybody gets it: a program that asks for a newer C
//! library, or for a library that the oldest system lacks, does not start where the product must run.

use crate::command::{cargo, output, run as run_command};
use crate::python;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Ubuntu 16.04's.
const GLIBC: (u32, u32) = (2, 23);
/// What is built for.
pub(crate) const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// Of glibc, which is all that the packages depend on.
const LIBRARIES: [&str; 7] = [
    "ld-linux-x86-64.so.2",
    "libc.so.6",
    "libdl.so.2",
    "libm.so.6",
    "libpthread.so.0",
    "librt.so.1",
    "libutil.so.1",
];

/// Builds these programs, of these crates, from the sources in `workspace`, and puts them into the folder `into`, stripped.
pub(crate) fn build(
    workspace: &Path,
    target: &Path,
    crates: &[&str],
    programs: &[&str],
    into: &Path,
) -> Result<()> {
    let tools = python::install("zig", "packaging/zig-requirements.txt", &target.join("tools"))?;
    let mut command = Command::new(tools.join("bin/cargo-zigbuild"));
    let triple = format!("{TRIPLE}.{}.{}", GLIBC.0, GLIBC.1);
    command.args(["zigbuild", "--release", "--locked", "--bins", "--target", &triple]);
    command.args(crates.iter().flat_map(|one| ["-p", one]));
    command.current_dir(workspace).env("CARGO_TARGET_DIR", target).env("CARGO", cargo(&[]).get_program());
    command.env("RUSTFLAGS", remapped()?).env("CARGO_ZIGBUILD_ZIG_PATH", tools.join("ziglang/zig"));
    run_command(&mut command)?;
    fs::create_dir_all(into).with_context(|| format!("cannot create {}", into.display()))?;
    for program in programs {
        let built = target.join(TRIPLE).join("release").join(program);
        check(&built)?;
        strip(&built, &into.join(program))?;
    }
    Ok(())
}

/// Where the sources of dependencies lie on this machine stands in no program.
fn remapped() -> Result<String> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let home = home.context("neither CARGO_HOME nor HOME is set")?;
    Ok(format!("--remap-path-prefix={}=/cargo", home.display()))
}

fn strip(from: &Path, to: &Path) -> Result<()> {
    let mut strip = Command::new("strip");
    strip.args(["--remove-section=.comment", "--remove-section=.note", "-o"]);
    run_command(strip.arg(to).arg(from))
}

fn check(program: &Path) -> Result<()> {
    let symbols = output(Command::new("objdump").arg("-T").arg(program))?;
    let newest = newest_glibc(&symbols).unwrap_or(GLIBC);
    let name = program.display();
    ensure!(newest <= GLIBC, "{name} needs glibc {}.{}, which is newer than {GLIBC:?}", newest.0, newest.1);
    let headers = output(Command::new("objdump").arg("-p").arg(program))?;
    for library in needed(&headers) {
        ensure!(LIBRARIES.contains(&library), "{name} needs {library}, which Ubuntu 16.04 may lack");
    }
    Ok(())
}

fn newest_glibc(symbols: &str) -> Option<(u32, u32)> {
    let versions = symbols.split("GLIBC_").skip(1).filter_map(|rest| {
        let mut numbers = rest.split(|byte: char| !byte.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    });
    versions.max()
}

fn needed(headers: &str) -> impl Iterator<Item = &str> {
    headers.lines().filter_map(|line| line.trim().strip_prefix("NEEDED")).map(str::trim)
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

    #[test]
    fn every_library_is_found() {
        let headers =
            "Dynamic Section:\n  NEEDED               libm.so.6\n  NEEDED   libudev.so.1\n  INIT 0x1\n";
        assert_eq!(needed(headers).collect::<Vec<_>>(), ["libm.so.6", "libudev.so.1"]);
    }

    #[test]
    fn a_program_of_this_machine_that_is_too_new_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (source, program) = (folder.path().join("new.c"), folder.path().join("new"));
        // The symbol has had a new version since 2.34.
        fs::write(&source, "int main(void) { return 0; }\n").unwrap();
        run_command(Command::new("cc").arg("-o").arg(&program).arg(&source)).unwrap();
        let error = check(&program).unwrap_err().to_string();
        assert!(error.contains("needs glibc 2.34"), "{error}");
    }
}
