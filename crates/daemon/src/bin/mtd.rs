//! `mtd`: the master target daemon.

use clap::Parser;
use daemon::config::{Config, DEFAULT_PATH};
use nix::sys::stat::{Mode, umask};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Receives the change streams of machines, applies them to their replicas and keeps every recovery point of the
/// retention window.
#[derive(Debug, Parser)]
#[command(name = "mtd", version)]
struct Arguments {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    config: PathBuf,
    /// Only check the configuration.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("mtd: {error}");
            return ExitCode::from(2);
        }
    };
    if arguments.check {
        println!("{}: {} items, nothing wrong", arguments.config.display(), config.items.len());
        return ExitCode::SUCCESS;
    }
    // Replicas, journals and sockets are nobody else's business.
    umask(Mode::from_bits_truncate(0o077));
    start_log(&config.log);
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // Jobs are limited by the configuration; the rest serves the local API and NBD clients.
        .max_blocking_threads(config.limits.jobs + 64)
        .thread_stack_size(512 << 10)
        .build()?;
    let outcome = runtime.block_on(daemon::run(config));
    // A disk that does not answer, or the check of a volume, is not waited for: everything else is closed.
    runtime.shutdown_timeout(Duration::from_secs(5));
    outcome
}

/// The journal of systemd adds the time by itself.
fn start_log(filter: &str) {
    let log = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match std::env::var_os("JOURNAL_STREAM") {
        Some(_) => log.without_time().init(),
        None => log.init(),
    }
}
