//! Measures a configuration server with a fleet of simulated hosts, for docs/benchmarks.md. `cargo xtask fleet` runs it.

use anyhow::{Context, Result, bail};
use clap::Parser;
use fleet::agent::Habits;
use fleet::trial::{Plan, Trial};
use fleet::{machine, report};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Parser)]
struct Arguments {
    /// Master targets.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=2000))]
    hosts: u32,
    /// Replicated items of each.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    items: u32,
    /// Seconds that are measured.
    #[arg(long, value_name = "N", default_value_t = 180, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Pages and questions to the API in a second.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// Decides all that is random.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Folder with mt-configserver.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fleet: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let beside_us = || -> Result<PathBuf> {
        let own = std::env::current_exe()?;
        Ok(own.parent().context("a program is in a folder")?.to_owned())
    };
    let programs = arguments.programs.clone().map_or_else(beside_us, Ok)?;
    let folder = tempfile::tempdir()?;
    let plan = Plan {
        hosts: arguments.hosts,
        habits: Habits { items: arguments.items, ..Habits::default() },
        rate: arguments.rate,
        order_every: Duration::from_millis(500),
        followers: 10,
        window: Duration::from_secs(arguments.seconds),
        seed: arguments.seed,
    };
    eprintln!("{} hosts register …", arguments.hosts);
    let mut trial = Trial::start(folder.path(), &programs, plan)?;
    eprintln!("measuring for {} s …", arguments.seconds);
    let figures = trial.measure()?;
    println!("{}\n{}", machine::description()?, report::text(&trial, &figures));
    figures.check()?;
    let missed = figures.missed();
    if !missed.is_empty() {
        bail!("{}", missed.join("; "));
    }
    Ok(())
}
