//! `mtd`: the master target daemon.

use clap::Parser;
use daemon::config::{Config, DEFAULT_PATH};
use nix::sys::stat::{Mode, umask};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Receives the change streams of machines, applies them to their replicas and keeps every recovery point of the
/// retention window.
#[derive(Debug, Parser)]
#[command(name = "mtd", version, long_version = long_version())]
struct Arguments {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    config: PathBuf,
    /// Only check the configuration.
    #[arg(long)]
    check: bool,
}

/// What packages are made by, too.
fn long_version() -> &'static str {
    format!("{}\nstate format {}", env!("CARGO_PKG_VERSION"), daemon::STATE_FORMAT).leak()
}

fn main() -> ExitCode {
    let arguments: Arguments = manual::arguments();
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("mtd: {error}");
            return ExitCode::from(2);
        }
    };
    if arguments.check {
        for unreadable in &config.unreadable {
            eprintln!("mtd: item {} is left alone: {}", unreadable.item, unreadable.error);
        }
        println!("{}: {} items, nothing wrong", arguments.config.display(), config.items.len());
        return ExitCode::SUCCESS;
    }
    // Replicas, journals and sockets are nobody else's business.
    umask(Mode::from_bits_truncate(0o077));
    service::start_log("mtd", &config.log);
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            // Neither does a state get better by itself that a later version wrote.
            let is_newer = matches!(error.downcast_ref(), Some(daemon::StateError::Newer { .. }));
            if is_newer { ExitCode::from(2) } else { ExitCode::FAILURE }
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
