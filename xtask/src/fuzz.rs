//! Fuzzing each parser that reads what someone else wrote.

use crate::command::{find_program, output, run as run_command, workspace};
use anyhow::{Context, Result, bail};
use std::process::Command;

const CARGO_FUZZ: &str = "0.13.2";

/// Runs the named targets, or all, for `seconds` each; goes on after a finding and reports all of them.
pub(crate) fn run(targets: &[String], seconds: u64) -> Result<()> {
    install()?;
    let known = output(cargo_fuzz().arg("list")).context("cannot list the fuzz targets")?;
    let known: Vec<&str> = known.lines().collect();
    if let Some(unknown) = targets.iter().find(|target| !known.contains(&target.as_str())) {
        bail!("there is no fuzz target {unknown}; there are {}", known.join(", "));
    }
    let mut failed = Vec::new();
    for target in known.into_iter().filter(|name| targets.is_empty() || targets.iter().any(|one| one == name))
    {
        println!("== {target}, {seconds} s");
        let limits =
            [format!("-max_total_time={seconds}"), "-rss_limit_mb=2048".to_owned(), "-timeout=20".to_owned()];
        if run_command(cargo_fuzz().args(["run", target, "--"]).args(limits)).is_err() {
            failed.push(target);
        }
    }
    if !failed.is_empty() {
        bail!("{} failed: inputs that did it, if any, are in fuzz/artifacts", failed.join(", "));
    }
    println!("no finding");
    Ok(())
}

fn cargo_fuzz() -> Command {
    // Named by the toolchain's proxy, since the cargo that runs us is of another toolchain.
    let mut command = Command::new("cargo");
    command
        .args(["+nightly", "fuzz"])
        .current_dir(workspace())
        .env_remove("CARGO")
        .env_remove("RUSTUP_TOOLCHAIN");
    command
}

fn install() -> Result<()> {
    if output(Command::new("rustup").args(["run", "nightly", "rustc", "--version"])).is_err() {
        run_command(Command::new("rustup").args([
            "toolchain",
            "install",
            "nightly",
            "--profile",
            "minimal",
        ]))?;
    }
    if find_program("cargo-fuzz").is_none() {
        run_command(Command::new("cargo").args([
            "install",
            "cargo-fuzz",
            "--version",
            CARGO_FUZZ,
            "--locked",
        ]))?;
    }
    Ok(())
}
