//! Running all tests, and summing them up.
//!
//! Everything is built once, and then the test programs run, one more at a time than there are processors: most of them wait
//! more than they compute. What a program prints is shown when it has ended, so that it stays together.

mod programs;
mod summary;

use crate::command::cargo;
use anyhow::{Context, Result, bail, ensure};
use programs::Program;
use std::collections::VecDeque;
use std::io::Read;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use summary::Summary;

pub(crate) use programs::build;

/// Told to tests that would rather be skipped, without root for example: fail instead.
const NO_SKIPS: &str = "MASTER_TARGET_NO_SKIPS";

/// Tells tests where the product's programs lie, built already.
const PROGRAMS: &str = "MASTER_TARGET_PROGRAMS";

/// How many worlds each simulation lives through, unless the caller says so.
const RUNS: (&str, &str) = ("SIMULATION_RUNS", "100000");

/// These take longest, and the last one to end should not be one that began last.
const FIRST: [&str; 3] = [
    "replication-receiver tests/simulation.rs",
    "simulation tests/worlds.rs",
    "configuration-server tests/suite/main.rs",
];

/// It measures how quick answers are, on a machine that does nothing else.
const ALONE: &str = "fleet tests/scale.rs";

/// Runs all tests. With `no_skips` a test that was skipped or ignored is a failure.
pub(crate) fn run(no_skips: bool) -> Result<()> {
    let begun = Instant::now();
    let mut programs = programs::build()?;
    for name in FIRST.into_iter().chain([ALONE]) {
        ensure!(programs.iter().any(|program| program.name == name), "there is no test program {name}");
    }
    programs
        .sort_by_key(|program| FIRST.iter().position(|name| *name == program.name).unwrap_or(FIRST.len()));
    programs.push(Program { name: "documents' examples".to_owned(), command: examples() });
    let (alone, together) = programs.into_iter().partition(|program| program.name == ALONE);
    let ran = Mutex::new(Ran::default());
    let lanes = std::thread::available_parallelism().map_or(1, usize::from) + 1;
    run_all(together, lanes, no_skips, &ran)?;
    run_all(alone, 1, no_skips, &ran)?;
    let ran = ran.into_inner().unwrap_or_else(PoisonError::into_inner);
    print!("{}", ran.summary.text(begun.elapsed()));
    ensure!(ran.failed.is_empty(), "these test programs failed: {}", ran.failed.join(", "));
    if no_skips && (ran.summary.ignored > 0 || !ran.summary.skipped.is_empty()) {
        bail!("tests were skipped or ignored, which is not allowed here");
    }
    Ok(())
}

/// The tests in the documentation, which only cargo can build.
fn examples() -> Command {
    cargo(&["test", "--workspace", "--doc", "--no-fail-fast", "--locked"])
}

/// What came of the programs that have ended.
#[derive(Default)]
struct Ran {
    summary: Summary,
    failed: Vec<String>,
}

/// Runs programs, so many at a time.
fn run_all(programs: Vec<Program>, lanes: usize, no_skips: bool, ran: &Mutex<Ran>) -> Result<()> {
    let folder = programs::folder();
    let waiting = Mutex::new(VecDeque::from(programs));
    let lane = || -> Result<()> {
        loop {
            // In a statement of its own: the lock is not held while the program runs.
            let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(Program { name, mut command }) = next else { return Ok(()) };
            command.env(PROGRAMS, &folder);
            if no_skips {
                command.env(NO_SKIPS, "1");
            }
            if std::env::var_os(RUNS.0).is_none() {
                command.env(RUNS.0, RUNS.1);
            }
            println!("     Running {name}");
            let (printed, succeeded) = carry_out(command).with_context(|| format!("cannot run {name}"))?;
            let mut ran = ran.lock().unwrap_or_else(PoisonError::into_inner);
            println!("      Of {name}:\n{printed}");
            ran.summary.add(&name, &printed);
            if !succeeded {
                ran.failed.push(name);
            }
        }
    };
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().try_for_each(|lane| lane.join().expect("it does not panic"))
    })
}

/// What a program prints, and whether it succeeded.
fn carry_out(mut command: Command) -> Result<(String, bool)> {
    // One pipe for both: what a test prints and what it logs stay in their order.
    let (mut reader, writer) = std::io::pipe()?;
    let mut child = command.stdout(writer.try_clone()?).stderr(writer).spawn()?;
    // The command holds ends of the pipe: while they are open, the pipe does not end.
    drop(command);
    let mut printed = Vec::new();
    reader.read_to_end(&mut printed)?;
    let succeeded = child.wait()?.success();
    Ok((String::from_utf8_lossy(&printed).into_owned(), succeeded))
}
