//! What developers and CI run: `cargo xtask <command>`.
//!
//! Each command first installs what this machine lacks, so that one command does everything. The steps of `ci` are
//! the other commands; nothing is checked there that cannot be run by hand.

mod apt_repo;
mod ci;
mod command;
mod copyright;
mod crates;
mod deb;
mod deny;
mod fuzz;
mod layers;
mod program;
mod python;
mod release;
mod sbom;
mod setup;
mod source_date;
mod test;
mod vm;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;
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
    /// Registers both ends, replicates a disk into a VMDK on this machine and proves it; with `--keep` the protected machine is
    /// left running, to play a failback on in the portal. `-- --help` tells the options.
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
    /// Checks the dependencies against deny.toml: licences, bans, sources, advisories.
    Deny {
        /// Fail when the database of advisories cannot be fetched, instead of saying so and checking the rest.
        #[arg(long)]
        advisories: bool,
    },
    /// Prints the file `copyright` of a package: the licences of all that is in its programs.
    Copyright {
        /// The crate with the programs: daemon, for example.
        #[arg(value_name = "CRATE")]
        name: String,
    },
    /// Makes a signed repository of packages, as apt takes it.
    AptRepo(apt_repo::Options),
    /// Writes a bill of materials (CycloneDX) for each package.
    Sbom {
        /// Folder to write them into; without it, `sbom` in the target folder.
        #[arg(long)]
        output: Option<PathBuf>,
    },
    /// Runs each fuzz target for a while.
    Fuzz {
        /// Targets; all without any.
        targets: Vec<String>,
        /// Seconds for each target.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Builds the Debian packages, for Ubuntu 16.04 and later, and checks them.
    Deb(deb::Options),
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
        Task::Deny { advisories } => deny::run(advisories),
        Task::Sbom { output } => sbom::run(output.as_deref()),
        Task::Copyright { name } => {
            print!("{}", copyright::copyright(&name)?);
            Ok(())
        }
        Task::AptRepo(options) => apt_repo::run(&options),
        Task::Fuzz { targets, seconds } => fuzz::run(&targets, seconds),
        Task::Deb(options) => deb::run(&options),
        Task::VmTest(options) => vm::run(&options),
        Task::Ci => ci::run(),
    }
}
