//! The commands that are typed on the configuration server itself.

mod failover;
mod group;
mod hosts;
mod items;
mod jobs;
mod notify;
mod order;
mod plain;
mod policy;
mod reprotect;
mod user;

use crate::authority::Authority;
use crate::config::{Config, DEFAULT_PATH};
use crate::server::now;
use crate::store::{audit, schema};
use crate::{Environment, backup, server, state};
use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use comfy_table::{Table, presets};
use control_api::registration::Hex;
use control_api::time;
pub use failover::FailoverCommand;
pub use group::GroupCommand;
pub use jobs::JobsCommand;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
pub use notify::NotifyCommand;
pub use policy::PolicyCommand;
pub use reprotect::ReprotectArguments;
use rusqlite::Connection;
use serde_json::json;
use service::LogsArguments;
use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
pub use user::UserCommand;

const UNIT: &str = "master-target-configserver.service";

/// Files that the server may have open: all connections that it takes, and what it reads.
const OPEN_FILES: u64 = 8192;

/// Knows the master targets and source agents, and signs their certificates. Without a command it serves them.
#[derive(Debug, Parser)]
#[command(name = "mt-configserver", version)]
pub struct Arguments {
    /// The configuration.
    #[arg(long, global = true, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
    /// Only check the configuration.
    #[arg(long)]
    pub check: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The passphrase that hosts register with
    #[command(subcommand)]
    Passphrase(PassphraseCommand),
    /// The hosts that are or were registered
    Hosts {
        /// Print JSON for programs.
        #[arg(long)]
        json: bool,
    },
    /// Let the certificates of a host count no more
    Revoke {
        /// Its name or id, as `hosts` shows it.
        host: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// The replicated items
    Items {
        /// Print JSON for programs.
        #[arg(long)]
        json: bool,
    },
    /// A master target takes the disks of a machine as a replicated item, and the machine replicates to it
    Reprotect(ReprotectArguments),
    /// Orders about the failover of an item.
    #[command(flatten)]
    Failover(FailoverCommand),
    /// Machines that belong together: they share recovery points, and are failed over together
    #[command(subcommand)]
    Group(GroupCommand),
    /// What is wanted of items: how far back they can be recovered, and how much may be lost
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// What was ordered.
    #[command(flatten)]
    Jobs(JobsCommand),
    /// Who may use the portal
    #[command(subcommand)]
    User(UserCommand),
    /// The channels that events are delivered to
    #[command(subcommand)]
    Notify(NotifyCommand),
    /// Write everything that this server is into one file, also while it runs. Keep it as safe as a key: it holds one
    Backup {
        /// The file; it must not exist.
        file: PathBuf,
        /// Replace a file that exists.
        #[arg(long)]
        yes: bool,
    },
    /// Become what a backup holds; the server must not run. What there is now is kept beside it
    Restore {
        /// The backup.
        file: PathBuf,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// What the server has written into the journal of systemd
    Logs {
        /// Which part of it.
        #[command(flatten)]
        which: LogsArguments,
        /// Print JSON for programs.
        #[arg(long)]
        json: bool,
    },
    /// What was asked for, from where, and what came of it, the newest first
    Audit {
        /// At most so many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
        /// Print JSON for programs.
        #[arg(long)]
        json: bool,
    },
}

/// What to do about the passphrase.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum PassphraseCommand {
    /// Print it
    Show,
    /// Replace it by a new one and print that; registered hosts stay registered
    Rotate,
}

/// Carries out a command, or serves.
pub fn run(arguments: &Arguments) -> Result<()> {
    if let Some(Command::Logs { which, json }) = &arguments.command {
        return Err(which.show(UNIT, &[], *json).into());
    }
    let config = Config::load(&arguments.config)?;
    match &arguments.command {
        _ if arguments.check => {
            notify::check(&config)?;
            println!("{}: nothing wrong", arguments.config.display());
            Ok(())
        }
        None => serve(config),
        Some(Command::Passphrase(command)) => passphrase(&config, *command),
        Some(Command::Hosts { json }) => hosts::list(&store(&config)?, *json),
        Some(Command::Revoke { host, yes }) => hosts::revoke(&mut store(&config)?, host, *yes),
        Some(Command::Items { json }) => items::list(&store(&config)?, *json),
        Some(Command::Reprotect(arguments)) => reprotect::run(&config, arguments),
        Some(Command::Failover(command)) => failover::run(&config, command),
        Some(Command::Group(command)) => group::run(&config, command),
        Some(Command::Policy(command)) => policy::run(&config, command),
        Some(Command::Jobs(command)) => jobs::run(&config, command),
        Some(Command::User(command)) => user::run(&config, command),
        Some(Command::Notify(command)) => notify::run(&config, command),
        Some(Command::Backup { file, yes }) => backup(&config, file, *yes),
        Some(Command::Restore { file, yes }) => restore(&config, file, *yes),
        Some(Command::Logs { .. }) => unreachable!("shown without the configuration"),
        Some(Command::Audit { limit, json }) => list_audit(&store(&config)?, *limit, *json),
    }
}

fn serve(config: Config) -> Result<()> {
    service::start_log("mt-configserver", &config.log);
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
        let listener = TcpListener::bind(config.listen).await.with_context(|| {
            format!(
                "cannot listen at {}; change listen in configserver.toml, or end what listens there",
                config.listen
            )
        })?;
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        server::serve(config, Environment::host(), listener, stop).await
    })
}

/// Hundreds of hosts have a few connections each, and the soft limit is for a thousand files. Without more the server
/// works, for fewer hosts.
fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard.min(OPEN_FILES), hard));
    if let Err(error) = raised {
        tracing::warn!("cannot raise the limit of open files: {error}");
    }
}

/// The passphrase alone goes to the standard output, so that it can be sent into a file.
fn passphrase(config: &Config, command: PassphraseCommand) -> Result<()> {
    ensure_started(config)?;
    let passphrase = match command {
        PassphraseCommand::Rotate => state::rotate_passphrase(&config.state_folder)?,
        PassphraseCommand::Show => state::passphrase(&config.state_folder)?,
    };
    println!("{}", passphrase.reveal());
    let authority = Authority::open(&config.state_folder, now())?;
    eprintln!("authority of this configuration server, SHA-256: {}", Hex(authority.fingerprint()));
    Ok(())
}

/// What the first start makes belongs to the server's user, so no command makes it.
fn ensure_started(config: &Config) -> Result<()> {
    ensure!(
        !backup::is_pending(&config.state_folder),
        "a restore was cut short; type it again, or start the server, to complete it"
    );
    let path = config.store();
    ensure!(
        path.exists(),
        "{} does not exist: the configuration server has never been started; run systemctl start \
         master-target-configserver",
        path.display()
    );
    Ok(())
}

fn backup(config: &Config, file: &Path, replace: bool) -> Result<()> {
    ensure_started(config)?;
    let length = backup::create(config, file, replace, now())?;
    println!(
        "{}: {} KiB, with the key of the authority; keep it as safe as that",
        file.display(),
        length.div_ceil(1024)
    );
    Ok(())
}

fn restore(config: &Config, file: &Path, yes: bool) -> Result<()> {
    let folder = &config.state_folder;
    let prepared = backup::prepare(folder, file, now())?;
    let question = format!(
        "Become what the backup of {} holds? Hosts, users, jobs and policies of now count no more; they are kept in {}",
        time::format(prepared.made),
        folder.display()
    );
    let agreed = !config.store().exists() || yes || agreed(&question).unwrap_or(false);
    if !agreed {
        prepared.give_up();
        bail!("nothing was done; give --yes to restore without being asked");
    }
    let when = time::format(prepared.made);
    let kept = prepared.commit(now())?;
    println!("restored from the backup of {when}");
    if let Some(kept) = kept {
        println!("what was there before is in {}; remove it when it is not needed", kept.display());
    }
    println!("start the server now: systemctl start master-target-configserver");
    Ok(())
}

fn store(config: &Config) -> Result<Connection> {
    ensure_started(config)?;
    schema::open(&config.store())
}

fn agreed(question: &str) -> Result<bool> {
    let stdin = std::io::stdin();
    ensure!(stdin.is_terminal(), "nobody is there to ask; give --yes to do it");
    eprint!("{question} [y/N] ");
    let mut line = String::new();
    stdin.lock().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

fn list_audit(store: &Connection, limit: u32, json: bool) -> Result<()> {
    let entries = audit::newest(store, limit)?;
    if json {
        println!("{}", json!({ "entries": entries }));
        return Ok(());
    }
    let mut table = table(&["TIME", "ADDRESS", "HOST", "OUTCOME", "DETAIL"]);
    for entry in &entries {
        table.add_row([
            &time::format(entry.time),
            &entry.address,
            &entry.host,
            &entry.outcome,
            &entry.detail,
        ]);
    }
    println!("{table}");
    Ok(())
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }
}
