//! Benchmarks of the whole product. Each figure is a ratio to a peer that does comparable work in the same run, on
//! the same file system; of five rounds the median is told. `docs/benchmarks.md` says what each of them does.

mod data;
mod journal_reads;
mod measure;
mod replication;
mod result;
mod resync;
mod rollback;

use anyhow::{Context, Result};
use clap::Parser;
use result::{Measured, Results};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Parser)]
struct Arguments {
    /// One round instead of five, on smaller disks: shows that it works, not how fast it is.
    #[arg(long)]
    quick: bool,
    /// Rounds whose median counts.
    #[arg(long, value_name = "N", default_value_t = 5, conflicts_with = "quick",
        value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// Writes the results as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only benchmarks whose name begins so.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Folder to work in; its file system is what is measured.
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    dir: PathBuf,
    /// Folder with mtd, mtctl and mt-source.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

/// What a benchmark needs to know.
pub(crate) struct Bench {
    pub(crate) dir: PathBuf,
    pub(crate) programs: PathBuf,
    pub(crate) rounds: usize,
    /// Sizes are divided by this.
    pub(crate) shrink: u64,
}

type Benchmark = fn(&Bench) -> Result<Vec<Measured>>;

const BENCHMARKS: [(&str, Benchmark); 7] = [
    ("initial-sync-sparse", replication::initial_sync_sparse),
    ("initial-sync-flat", replication::initial_sync_flat),
    ("random-4k", replication::random_4k),
    ("journal-bytes", replication::journal_bytes),
    ("rollback", rollback::rollback),
    ("open-point", journal_reads::open_point),
    ("resync", resync::resync),
];

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("The benchmark failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    let beside_us = || -> Result<PathBuf> {
        let own = std::env::current_exe()?;
        Ok(own.parent().context("a program is in a folder")?.to_owned())
    };
    let bench = Bench {
        dir: fresh(&arguments.dir)?,
        programs: arguments.programs.clone().map_or_else(beside_us, Ok)?,
        rounds: if arguments.quick { 1 } else { arguments.rounds.into() },
        shrink: if arguments.quick { 8 } else { 1 },
    };
    let mut results = Results::new(measure::machine()?);
    for (name, benchmark) in BENCHMARKS {
        if arguments.only.as_ref().is_none_or(|only| name.starts_with(only.as_str())) {
            eprintln!("{name} …");
            fresh(&bench.dir)?;
            results.add(benchmark(&bench).with_context(|| name.to_owned())?);
        }
    }
    fresh(&bench.dir)?;
    results.add_memory();
    results.print();
    if let Some(file) = &arguments.json {
        std::fs::write(file, results.json()?).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(results.all_hold())
}

/// An empty folder of this name.
fn fresh(dir: &Path) -> Result<PathBuf> {
    if dir.exists() {
        std::fs::remove_dir_all(dir)?;
    }
    std::fs::create_dir_all(dir)?;
    Ok(dir.canonicalize()?)
}
