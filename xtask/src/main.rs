//! What developers and CI run: `cargo xtask <command>`.
//!
//! Each command first installs what this machine lacks, so that one command does everything. The steps of `ci` are
//! the other commands; nothing is checked there that cannot be run by hand.

mod ci;
mod command;
mod fuzz;
mod layers;
mod program;
mod python;
mod setup;
mod test;
mod vm;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;

/// Builds, checks and tests the master target.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Installs what this machine lacks for the other commands, which all call it first.
    Setup,
    /// Registers both ends, replicates a disk into a VMDK on this machine and proves it; with `--keep` everything is left
    /// running to be looked at. `-- --help` tells the options.
    Demo {
        /// Passed on to the demo.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Measures the product against its peers; `-- --help` tells the options.
    Bench {
        /// Passed on to the benchmarks.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Measures a configuration server with a fleet of simulated hosts; `-- --help` tells the options.
    Fleet {
        /// Passed on to the fleet.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Runs all tests and sums them up.
    Test {
        /// Fail when a test was skipped or ignored.
        #[arg(long)]
        no_skips: bool,
    },
    /// Checks the crates against the layer table, and lists long files.
    Layers,
    /// Runs each fuzz target for a while.
    Fuzz {
        /// Targets; all without any.
        targets: Vec<String>,
        /// Seconds for each target.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Runs scenarios in a virtual machine that looks like a master target on VMware.
    VmTest(vm::Options),
    /// Everything that must hold before a change is taken.
    Ci,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = setup::run().and_then(|()| run(arguments.command));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Setup => {
            println!("everything is installed");
            Ok(())
        }
        Task::Demo { arguments } => program::become_it("demo", &arguments),
        Task::Bench { arguments } => program::become_it("bench", &arguments),
        Task::Fleet { arguments } => program::become_it("fleet", &arguments),
        Task::Test { no_skips } => test::run(no_skips),
        Task::Layers => layers::run(),
        Task::Fuzz { targets, seconds } => fuzz::run(&targets, seconds),
        Task::VmTest(options) => vm::run(&options),
        Task::Ci => ci::run(),
    }
}
