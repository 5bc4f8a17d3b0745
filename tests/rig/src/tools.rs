//! The judges: programs that we did not write.

use anyhow::{Context, Result, bail};
use std::path::Path;
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
/// Images that a running program holds may be compared while nothing changes them.
pub fn compare(first: &str, first_format: &str, second: &str, second_format: &str) -> Result<()> {
    run("qemu-img", &["compare", "-U", "-f", first_format, "-F", second_format, first, second]).map(|_| ())
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
