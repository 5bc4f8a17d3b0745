//! `mt-process-server`, the process server: relays change streams to master targets.

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use process_server::config::{Config, DEFAULT_PATH};
use process_server::register::{self, RegisterArguments, UnregisterArguments};
use process_server::status;
use service::LogsArguments;
use std::path::PathBuf;
use std::process::ExitCode;

const UNIT: &str = "mt-process-server.service";

/// Relays change streams between source agents and master targets, without opening them.
#[derive(Parser)]
#[command(name = "mt-process-server", disable_version_flag = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Relay until stopped.
    Relay {
        #[command(flatten)]
        file: ConfigFile,
        /// Only check the configuration.
        #[arg(long)]
        check: bool,
    },
    /// Show what the running process server is doing.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Show what the process server has written into the journal of systemd.
    Logs {
        #[command(flatten)]
        which: LogsArguments,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make this machine known to a configuration server.
    Register(RegisterArguments),
    /// Give that up again, also when the configuration server is gone.
    Unregister(UnregisterArguments),
    /// Show the version.
    Version,
}

#[derive(Args)]
struct ConfigFile {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    config: PathBuf,
}

fn main() -> ExitCode {
    let cli: Cli = manual::arguments();
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            match error.downcast_ref::<registration::Error>() {
                Some(error) => eprint!("\n{}", error.explain().shown("mt-process-server")),
                None => eprintln!("mt-process-server: {error:#}"),
            }
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Relay { file, check } => return relay(&file, check),
        Command::Status { json, file } => {
            let status = status::ask(&Config::load(&file.config)?.socket)?;
            let text = if json { serde_json::to_string_pretty(&status)? } else { status.to_string() };
            println!("{text}");
        }
        Command::Logs { which, json } => return Err(which.show(UNIT, &[], json).into()),
        Command::Register(arguments) => register::register(&arguments)?,
        Command::Unregister(arguments) => register::unregister(&arguments)?,
        Command::Version => println!("mt-process-server {}", env!("CARGO_PKG_VERSION")),
    }
    Ok(ExitCode::SUCCESS)
}

/// A configuration that cannot be used does not get better by itself, which systemd is told by status 2.
fn relay(file: &ConfigFile, check: bool) -> Result<ExitCode> {
    let config = match Config::load(&file.config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("mt-process-server: {error:#}");
            return Ok(ExitCode::from(2));
        }
    };
    if check {
        let targets = config.master_targets.len();
        println!("{}: {targets} master targets, nothing wrong", file.config.display());
        return Ok(ExitCode::SUCCESS);
    }
    service::start_log("mt-process-server", &config.log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(process_server::run(config))?;
    Ok(ExitCode::SUCCESS)
}
