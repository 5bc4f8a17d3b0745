//! `mt-source register` and `mt-source unregister`.

use crate::agent::config::DEFAULT_STATE;
use anyhow::{Context, Result, ensure};
use block_device::System;
use clap::Args;
use control_api::registration::{Host, HostKind};
use registration::server::{Server, parse_address};
use registration::{Identity, Order, Step};
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Port of a configuration server.
const CONTROL_PORT: u16 = 443;

/// Which configuration server, and who this machine is to it.
#[derive(Debug, Args)]
pub struct RegisterArguments {
    /// The configuration server: its name or address.
    #[arg(short = 'i', long = "server", value_name = "ADDRESS", value_parser = parse_server)]
    pub server: Server,
    /// Its port, unless that is 443.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// A file with the passphrase, which `mt-configserver passphrase show` prints.
    #[arg(short = 'P', long = "passphrase", value_name = "FILE")]
    pub passphrase: PathBuf,
    /// Name of this machine there; its host name by default. Items are assigned to it by this name.
    #[arg(long)]
    pub name: Option<String>,
    /// Take the place of a registration with another configuration server.
    #[arg(long)]
    pub yes: bool,
    /// Folder of the agent's own state.
    #[arg(long, value_name = "FOLDER", default_value = DEFAULT_STATE)]
    pub state_folder: PathBuf,
}

/// What to give up.
#[derive(Debug, Args)]
pub struct UnregisterArguments {
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    /// Folder of the agent's own state.
    #[arg(long, value_name = "FOLDER", default_value = DEFAULT_STATE)]
    pub state_folder: PathBuf,
}

fn parse_server(text: &str) -> Result<Server, String> {
    parse_address(text, CONTROL_PORT).ok_or_else(|| {
        "give a DNS name or an IP address, with or without a port: cs.example, 10.0.0.9:8443".into()
    })
}

/// Makes this machine known to a configuration server.
pub fn register(arguments: &RegisterArguments) -> Result<()> {
    let server = Server { port: arguments.port.unwrap_or(arguments.server.port), ..arguments.server.clone() };
    let (passphrase, warning) = registration::passphrase(&arguments.passphrase)?;
    if let Some(warning) = warning {
        eprintln!("mt-source: warning: {warning}");
    }
    let order = Order {
        server: &server,
        passphrase: &passphrase,
        host: this_host(arguments.name.as_deref())?,
        state: &arguments.state_folder,
        replace: arguments.yes,
    };
    let mut open = false;
    let outcome = registration::register(&order, &mut |step| show(&step, &mut open));
    if open && outcome.is_err() {
        println!("failed");
    }
    let registered = outcome?.registration;
    let identity = arguments.state_folder.join(registration::IDENTITY);
    println!(
        "{} is registered with {}. Its certificate and key are in {}, where [tls] of mt-source.toml has to name them.",
        registered.name,
        registered.server,
        identity.display()
    );
    Ok(())
}

fn show(step: &Step, open: &mut bool) {
    match step {
        Step::Begins(what) => print!("  {what:<40} "),
        Step::Done(detail) => println!("ok  {detail}"),
    }
    *open = matches!(step, Step::Begins(_));
    let _ = std::io::stdout().flush();
}

/// Gives up the registration of this machine.
pub fn unregister(arguments: &UnregisterArguments) -> Result<()> {
    let name = match Identity::open(&arguments.state_folder) {
        Ok(None) => {
            println!("this machine is not registered");
            return Ok(());
        }
        Ok(Some(identity)) => identity.registration.name,
        // What is damaged can be given up all the same.
        Err(_) => "this machine".to_owned(),
    };
    ensure!(arguments.yes || agreed(&name)?, "nothing was done");
    let host = this_host(None).or_else(|_| this_host(Some(&name))).context("nothing was done")?;
    let given_up = registration::unregister(&arguments.state_folder, host)?;
    match given_up.not_told {
        None => println!("{name} is not registered any more; its certificates are revoked"),
        Some(why) => println!(
            "{name} is not registered any more on this machine. The configuration server was not told: {why}\n\
             There, run: mt-configserver revoke {name}"
        ),
    }
    Ok(())
}

fn agreed(name: &str) -> Result<bool> {
    let stdin = std::io::stdin();
    ensure!(stdin.is_terminal(), "nobody is there to ask; give --yes to do it");
    eprint!("Give up the registration of {name}? No master target takes its changes afterwards [y/N] ");
    let mut line = String::new();
    stdin.lock().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

/// Renews the certificate in a state folder whenever a third of its life is left. Connections that are made later use the
/// new one.
pub(crate) async fn keep_valid(state: PathBuf) {
    /// How often it is looked at.
    const EVERY: Duration = Duration::from_secs(3600);
    loop {
        let folder = state.clone();
        match tokio::task::spawn_blocking(move || renew_if_due(&folder)).await {
            Ok(Ok(true)) => tracing::info!("the certificate of this machine was renewed"),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => tracing::warn!("the certificate of this machine was not renewed: {error:#}"),
            Err(error) => tracing::error!("the certificate of this machine was not renewed: {error}"),
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn renew_if_due(state: &Path) -> Result<bool> {
    let Some(identity) = Identity::open(state)? else { return Ok(false) };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    if !registration::is_due(&identity.registration, u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)) {
        return Ok(false);
    }
    registration::renew(state, this_host(Some(&identity.registration.name))?)?;
    Ok(true)
}

/// This machine, as it describes itself to a configuration server.
pub(crate) fn this_host(name: Option<&str>) -> registration::Result<Host> {
    let version = env!("CARGO_PKG_VERSION");
    registration::host(&System::host(), HostKind::SourceAgent, name, version, Vec::new())
}
