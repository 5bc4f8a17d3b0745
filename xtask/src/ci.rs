//! Everything that must hold before a change is taken.

use crate::command::{cargo, output, run as run_command};
use crate::{deb, deny, layers, program, test, vm};
use anyhow::{Context, Result};
use std::time::{Duration, Instant};

type Step = (&'static str, fn() -> Result<()>);

const STEPS: [Step; 9] = [
    ("format", format),
    ("clippy", clippy),
    ("layers", layers::run),
    ("deny", || deny::run(false)),
    ("tests", || test::run(true)),
    ("documents", documents),
    ("deb", || deb::run(&deb::Options { twice: false })),
    ("demo", demo),
    ("vm-test", || vm::run(&vm::Options::all())),
];

/// Runs each step; the first that fails ends the run.
pub(crate) fn run() -> Result<()> {
    add_components()?;
    let mut times: Vec<(&str, Duration)> = Vec::new();
    for (name, step) in STEPS {
        println!("== {name}");
        let begun = Instant::now();
        step().with_context(|| format!("the step {name} of ci failed"))?;
        times.push((name, begun.elapsed()));
    }
    println!("== all steps passed");
    for (name, time) in times {
        println!("{name:>10} {:>6} s", time.as_secs());
    }
    Ok(())
}

/// A minimal toolchain has neither of the two.
fn add_components() -> Result<()> {
    let present = |tool: &str| output(&mut cargo(&[tool, "--version"])).is_ok();
    if present("fmt") && present("clippy") {
        return Ok(());
    }
    run_command(std::process::Command::new("rustup").args(["component", "add", "rustfmt", "clippy"]))
}

fn format() -> Result<()> {
    run_command(&mut cargo(&["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    run_command(&mut cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))
}

fn documents() -> Result<()> {
    run_command(cargo(&["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "-D warnings"))
}

/// With the programs of the packages.
fn demo() -> Result<()> {
    program::demo_of(&deb::programs())
}
