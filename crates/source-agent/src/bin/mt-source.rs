//! `mt-source`, the source agent: replicates disks to a master target.

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};
use control_api::agent::JobKind;
use registration::command::agreed;
use service::LogsArguments;
use source_agent::agent::config::{self, CompressionName, Config, DiskConfig, Tls};
use source_agent::agent::control::{Answer, Request, ask};
use source_agent::agent::{self, ScanOptions};
use source_agent::register::{RegisterArguments, UnregisterArguments};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

const UNIT: &str = "mt-source.service";

/// Replicates the disks of a machine to a master target.
#[derive(Parser)]
#[command(name = "mt-source", disable_version_flag = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the disks over NBD and replicate every change of them, until stopped. With --item and --target: tell the
    /// running agent where to replicate to.
    Replicate(ReplicateArguments),
    /// Have the running agent forget where it replicates to, and serve its disks on.
    StopReplicating {
        #[command(flatten)]
        agent: RunningAgent,
    },
    /// Compare disks or images with the target and send what differs.
    Scan(ScanArguments),
    /// Bring the disks to rest for a planned failover: nothing is written to them any more, and the master target has
    /// everything, with a bookmark at its end.
    Quiesce {
        /// Name of the bookmark.
        #[arg(long, default_value = "quiesced")]
        bookmark: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        agent: RunningAgent,
    },
    /// Let the disks be written to again.
    Unquiesce {
        #[command(flatten)]
        agent: RunningAgent,
    },
    /// Set a bookmark in the running replication.
    Bookmark {
        /// Its name.
        name: String,
        /// Quiesce applications by the configured hooks.
        #[arg(long)]
        app_consistent: bool,
        #[command(flatten)]
        agent: RunningAgent,
    },
    /// Show what the running agent is doing.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        agent: RunningAgent,
    },
    /// Show what the agent has written into the journal of systemd.
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
struct ReplicateArguments {
    /// What the master target calls the disks.
    #[arg(long, requires = "target")]
    item: Option<String>,
    /// Host and port of the master target.
    #[arg(long, value_name = "HOST:PORT", requires = "item")]
    target: Option<String>,
    /// Name that the master target's certificate is for; the host of --target by default.
    #[arg(long, value_name = "NAME", requires = "target")]
    server_name: Option<String>,
    /// Socket of the running agent; that of the configuration file by default.
    #[arg(long, requires = "target")]
    socket: Option<PathBuf>,
    /// Configuration file.
    #[arg(long)]
    config: Option<PathBuf>,
}

/// Which running agent to ask.
#[derive(Args)]
struct RunningAgent {
    /// Socket of the running agent; that of the configuration file by default.
    #[arg(long)]
    socket: Option<PathBuf>,
    /// Configuration file of the running agent.
    #[arg(long)]
    config: Option<PathBuf>,
}

impl RunningAgent {
    fn socket(self) -> Result<PathBuf> {
        match (self.socket, self.config) {
            (Some(socket), _) => Ok(socket),
            (None, Some(path)) => Ok(Config::load(&path)?.socket),
            (None, None) => match Path::new(config::DEFAULT_PATH) {
                path if path.exists() => Ok(Config::load(path)?.socket),
                _ => Ok(config::DEFAULT_SOCKET.into()),
            },
        }
    }
}

#[derive(Args)]
struct ScanArguments {
    /// Configuration file; what is given on the command line goes before it.
    #[arg(long)]
    config: Option<PathBuf>,
    /// A disk or image, as ID=PATH; once for each.
    #[arg(long = "disk", value_name = "ID=PATH")]
    disks: Vec<String>,
    /// The item.
    #[arg(long, required_unless_present = "config")]
    item: Option<String>,
    /// Host and port of the master target.
    #[arg(long, required_unless_present = "config")]
    target: Option<String>,
    /// Certificate file.
    #[arg(long, required_unless_present = "config")]
    certificate: Option<PathBuf>,
    /// File of its key.
    #[arg(long, required_unless_present = "config")]
    key: Option<PathBuf>,
    /// File of the authority.
    #[arg(long, required_unless_present = "config")]
    ca: Option<PathBuf>,
    /// Folder of the agent's own state.
    #[arg(long, required_unless_present = "config")]
    state_folder: Option<PathBuf>,
    /// Nothing writes to the disks: end level, with a bookmark.
    #[arg(long)]
    quiet: bool,
    /// How many passes.
    #[arg(long, default_value_t = 1)]
    passes: u64,
    /// Seconds between the beginnings of two passes.
    #[arg(long, default_value_t = 60)]
    interval: u64,
    /// Name of the bookmark at the end of a quiet pass.
    #[arg(long, default_value = "scan")]
    bookmark: String,
}

impl ScanArguments {
    fn config(&self) -> Result<Config> {
        let mut config = match &self.config {
            Some(path) => Config::load(path)?,
            None => self.without_file(),
        };
        if let Some(item) = &self.item {
            config.item = Some(item.clone());
        }
        if let Some(target) = &self.target {
            config.target = Some(target.clone());
        }
        if let Some(folder) = &self.state_folder {
            config.state_folder.clone_from(folder);
        }
        if !self.disks.is_empty() {
            config.disks = self.disks.iter().map(|disk| parse_disk(disk)).collect::<Result<_>>()?;
        }
        config.check()?;
        Ok(config)
    }

    /// The parser has seen to it that what is needed is there.
    fn without_file(&self) -> Config {
        Config {
            item: None,
            target: None,
            server_name: None,
            state_folder: PathBuf::new(),
            socket: config::DEFAULT_SOCKET.into(),
            log: "info".to_owned(),
            compression: CompressionName::None,
            tls: Some(Tls {
                certificate: self.certificate.clone().unwrap_or_default(),
                key: self.key.clone().unwrap_or_default(),
                ca: self.ca.clone().unwrap_or_default(),
            }),
            nbd: config::Nbd::default(),
            limits: config::Limits::default(),
            hooks: config::Hooks::default(),
            disks: Vec::new(),
        }
    }
}

fn parse_disk(text: &str) -> Result<DiskConfig> {
    let (id, path) = text.split_once('=').with_context(|| format!("--disk {text:?} is not ID=PATH"))?;
    ensure!(!id.is_empty() && !path.is_empty(), "--disk {text:?} is not ID=PATH");
    Ok(DiskConfig { id: id.to_owned(), path: path.into(), format: None })
}

fn main() -> ExitCode {
    let cli: Cli = manual::arguments();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match error.downcast_ref::<registration::Error>() {
                Some(error) => eprint!("\n{}", error.explain().shown("mt-source")),
                None => eprintln!("mt-source: {error:#}"),
            }
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Replicate(arguments) => match (arguments.item, arguments.target) {
            (Some(item), Some(target)) => {
                let agent = RunningAgent { socket: arguments.socket, config: arguments.config };
                order(agent, JobKind::Replicate { item, target, server_name: arguments.server_name })
            }
            _ => {
                let config = Config::load(&arguments.config.unwrap_or(config::DEFAULT_PATH.into()))?;
                start_log(&config.log)?;
                runtime()?.block_on(agent::replicate(config))
            }
        },
        Command::StopReplicating { agent } => order(agent, JobKind::StopReplicating),
        Command::Quiesce { bookmark, yes, agent } => {
            let question = "Refuse everything that would be written to the disks, until mt-source unquiesce";
            ensure!(yes || agreed(question)?, "nothing was done");
            order(agent, JobKind::Quiesce { bookmark })
        }
        Command::Unquiesce { agent } => order(agent, JobKind::Unquiesce),
        Command::Scan(arguments) => {
            let config = arguments.config()?;
            let options = ScanOptions {
                quiet: arguments.quiet,
                passes: arguments.passes,
                interval: Duration::from_secs(arguments.interval),
                bookmark: arguments.bookmark,
            };
            agent::check_scan(&options)?;
            start_log(&config.log)?;
            runtime()?.block_on(agent::scan(config, &options))
        }
        Command::Bookmark { name, app_consistent, agent } => {
            let request = Request::Bookmark { name: name.clone(), app_consistent };
            runtime()?.block_on(ask(&agent.socket()?, &request, |_| {}))?;
            println!("bookmark {name:?} is set");
            Ok(())
        }
        Command::Status { json, agent } => {
            let answer = runtime()?.block_on(ask(&agent.socket()?, &Request::Status, |_| {}))?;
            if let Answer::Status(report) = answer {
                let text = if json { serde_json::to_string_pretty(&report)? } else { report.to_string() };
                println!("{text}");
            }
            Ok(())
        }
        Command::Logs { which, json } => Err(which.show(UNIT, &[], json).into()),
        Command::Register(arguments) => source_agent::register::register(&arguments),
        Command::Unregister(arguments) => source_agent::register::unregister(&arguments),
        Command::Version => {
            println!("mt-source {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    }
}

/// Has the running agent do something; the steps are shown on a terminal.
fn order(agent: RunningAgent, job: JobKind) -> Result<()> {
    let shown = std::io::stderr().is_terminal();
    let told = |answer: &Answer| match answer {
        Answer::Step { name } if shown => eprintln!("  {name}"),
        Answer::Detail { text } if shown => eprintln!("    {text}"),
        _ => {}
    };
    if let Answer::Done { outcome } =
        runtime()?.block_on(ask(&agent.socket()?, &Request::Order { job }, told))?
    {
        println!("{outcome}");
    }
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

fn start_log(filter: &str) -> Result<()> {
    ensure!(service::is_filter(filter), "log is {filter:?}; give a level such as \"info\" or \"debug\"");
    service::start_log("mt-source", filter);
    Ok(())
}
