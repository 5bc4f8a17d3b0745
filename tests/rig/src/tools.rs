//! The judges: programs that we did not write.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs a program to its end; its failure is an error with what it said. Gives what it printed.
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}; `cargo xtask setup` installs it"))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        bail!("{program} {} ended with {}: {}", arguments.join(" "), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Compares two images byte for byte by `qemu-img compare`; a difference is an error that says where.
pub fn compare(first: &str, first_format: &str, second: &str, second_format: &str) -> Result<()> {
    run("qemu-img", &["compare", "-f", first_format, "-F", second_format, first, second]).map(|_| ())
}

/// A copy of an image that a running program holds locked, with all files that belong to it: those in its folder
/// whose names begin as its own does. Gives the path of the copy; nothing may change the image meanwhile.
pub fn copy_of_held(image: &Path, into: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(into)?;
    let folder = image.parent().context("an image is in a folder")?;
    let stem = image.file_stem().context("an image has a name")?.to_string_lossy().into_owned();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&stem) && entry.file_type()?.is_file() {
            copy(&entry.path(), &into.join(entry.file_name()))?;
        }
    }
    Ok(into.join(image.file_name().context("an image has a name")?))
}

/// The format that qemu calls what we call `createType`.
pub fn qemu_format(create_type: &str) -> &'static str {
    if create_type == "raw" { "raw" } else { "vmdk" }
}

/// A copy of a file that keeps its holes.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let (from, to) = (from.to_string_lossy(), to.to_string_lossy());
    run("cp", &["--sparse=always", "--reflink=auto", &from, &to]).map(|_| ())
}
