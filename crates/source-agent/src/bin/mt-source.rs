//! `mt-source`, the source agent: replicates disks to a master target.

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};
use source_agent::agent::config::{self, CompressionName, Config, DiskConfig, Tls};
use source_agent::agent::control::{Answer, Request, ask};
use source_agent::agent::{self, ScanOptions};
use source_agent::register::{RegisterArguments, UnregisterArguments};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Replicates the disks of a machine to a master target.
#[derive(Parser)]
#[command(name = "mt-source", disable_version_flag = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the disks over NBD and replicate every change of them, until stopped.
    Replicate {
        /// Configuration file.
        #[arg(long, default_value = config::DEFAULT_PATH)]
        config: PathBuf,
    },
    /// Compare disks or images with the target and send what differs.
    Scan(ScanArguments),
    /// Set a bookmark in the running replication.
    Bookmark {
        /// Its name.
        name: String,
        /// Quiesce applications by the configured hooks.
        #[arg(long)]
        app_consistent: bool,
        /// Replication group that the bookmark belongs to.
        #[arg(long)]
        group: Option<String>,
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
    /// Make this machine known to a configuration server.
    Register(RegisterArguments),
    /// Give that up again, also when the configuration server is gone.
    Unregister(UnregisterArguments),
    /// Show the version.
    Version,
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
            config.item.clone_from(item);
        }
        if let Some(target) = &self.target {
            config.target.clone_from(target);
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
            item: String::new(),
            target: String::new(),
            server_name: None,
            state_folder: PathBuf::new(),
            socket: config::DEFAULT_SOCKET.into(),
            log: "info".to_owned(),
            compression: CompressionName::None,
            tls: Tls {
                certificate: self.certificate.clone().unwrap_or_default(),
                key: self.key.clone().unwrap_or_default(),
                ca: self.ca.clone().unwrap_or_default(),
            },
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
    let cli = Cli::parse();
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
        Command::Replicate { config } => {
            let config = Config::load(&config)?;
            start_log(&config.log)?;
            runtime()?.block_on(agent::replicate(config))
        }
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
        Command::Bookmark { name, app_consistent, group, agent } => {
            let request = Request::Bookmark { name: name.clone(), app_consistent, group };
            runtime()?.block_on(ask(&agent.socket()?, &request))?;
            println!("bookmark {name:?} is set");
            Ok(())
        }
        Command::Status { json, agent } => {
            let answer = runtime()?.block_on(ask(&agent.socket()?, &Request::Status))?;
            if let Answer::Status(report) = answer {
                let text = if json { serde_json::to_string_pretty(&report)? } else { report.to_string() };
                println!("{text}");
            }
            Ok(())
        }
        Command::Register(arguments) => source_agent::register::register(&arguments),
        Command::Unregister(arguments) => source_agent::register::unregister(&arguments),
        Command::Version => {
            println!("mt-source {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

fn start_log(filter: &str) -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .with_context(|| format!("log is {filter:?}; give a level such as \"info\" or \"debug\""))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    Ok(())
}
