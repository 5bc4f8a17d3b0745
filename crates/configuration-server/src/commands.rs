//! The commands that are typed on the configuration server itself.

mod notify;
mod user;

use crate::authority::Authority;
use crate::config::{Config, DEFAULT_PATH};
use crate::server::now;
use crate::store::{audit, hosts, schema};
use crate::{Environment, backup, server, state};
use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use comfy_table::{Table, presets};
use control_api::registration::Hex;
use control_api::time;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
pub use notify::NotifyCommand;
use rusqlite::{Connection, TransactionBehavior};
use serde_json::json;
use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
pub use user::UserCommand;

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
    let config = Config::load(&arguments.config)?;
    match &arguments.command {
        _ if arguments.check => {
            notify::check(&config)?;
            println!("{}: nothing wrong", arguments.config.display());
            Ok(())
        }
        None => serve(config),
        Some(Command::Passphrase(command)) => passphrase(&config, *command),
        Some(Command::Hosts { json }) => list_hosts(&store(&config)?, *json),
        Some(Command::Revoke { host, yes }) => revoke(&mut store(&config)?, host, *yes),
        Some(Command::User(command)) => user::run(&config, command),
        Some(Command::Notify(command)) => notify::run(&config, command),
        Some(Command::Backup { file, yes }) => backup(&config, file, *yes),
        Some(Command::Restore { file, yes }) => restore(&config, file, *yes),
        Some(Command::Audit { limit, json }) => list_audit(&store(&config)?, *limit, *json),
    }
}

fn serve(config: Config) -> Result<()> {
    start_log(&config.log);
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

fn list_hosts(store: &Connection, json: bool) -> Result<()> {
    let hosts = hosts::all(store)?;
    if json {
        println!("{}", json!({ "hosts": hosts }));
        return Ok(());
    }
    let now = now();
    let mut table = table(&["NAME", "KIND", "VERSION", "ADDRESS", "STATE", "REGISTERED", "ID"]);
    for host in &hosts {
        let state = match host.revoked {
            Some(since) => format!("revoked {}", time::format(since)),
            None if host.is_live(now) => {
                format!("certificate valid for {}", time::format_duration(host.valid_until - now))
            }
            None => format!("certificate expired {}", time::format(host.valid_until)),
        };
        let registered = time::format(host.registered);
        table.add_row([
            &host.name,
            &host.kind.to_string(),
            &host.version,
            &host.address,
            &state,
            &registered,
            &host.id,
        ]);
    }
    println!("{table}");
    Ok(())
}

fn revoke(store: &mut Connection, wanted: &str, yes: bool) -> Result<()> {
    let hosts = hosts::all(store)?;
    let meant = |host: &&hosts::Known| host.name.eq_ignore_ascii_case(wanted) || host.id == wanted;
    let host = match hosts.iter().filter(meant).collect::<Vec<_>>()[..] {
        [] => bail!("{wanted}: no host of this name or id is known; mt-configserver hosts lists them"),
        [one] => one,
        _ => bail!("{wanted}: several hosts have this name; give the id that mt-configserver hosts shows"),
    };
    if host.revoked.is_some() {
        println!("{} {}: it was revoked before", host.kind, host.name);
        return Ok(());
    }
    let question = format!(
        "Let the certificates of {} {} count no more? It has to register again to be let in",
        host.kind, host.name
    );
    ensure!(yes || agreed(&question)?, "{}: nothing was done", host.name);
    let (transaction, now) = (store.transaction_with_behavior(TransactionBehavior::Immediate)?, now());
    hosts::revoke(&transaction, host, now)?;
    let entry = audit::Entry {
        time: now,
        address: "console".into(),
        host: host.name.clone(),
        outcome: "revoked".into(),
        detail: format!("{} {}", host.kind, host.id),
    };
    audit::add(&transaction, &entry)?;
    transaction.commit()?;
    println!(
        "{} {}: revoked. It can register again with the passphrase; to keep it out: mt-configserver passphrase rotate",
        host.kind, host.name
    );
    Ok(())
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
