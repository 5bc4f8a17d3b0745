//! What the commands `register` and `unregister` of the programs have in common: their arguments, how the steps are shown, and
//! the question before something is given up.

use crate::error::Result;
use crate::register::{Order, Registered, Step, register};
use crate::server::{Server, parse_address};
use crate::{Identity, Unregistered, passphrase};
use clap::Args;
use control_api::registration::{Host, Passphrase};
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Port of a configuration server.
const CONTROL_PORT: u16 = 443;

/// Which configuration server, and who this machine is to it.
#[derive(Debug, Args)]
pub struct RegistrationArguments {
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
    /// Take the place of a registration with another configuration server, without asking.
    #[arg(long)]
    pub yes: bool,
}

/// The server that somebody named, for an argument.
///
/// # Errors
/// What can be given.
pub fn parse_server(text: &str) -> std::result::Result<Server, String> {
    parse_address(text, CONTROL_PORT).ok_or_else(|| {
        "give a DNS name or an IP address, with or without a port: cs.example, 10.0.0.9:8443".into()
    })
}

impl RegistrationArguments {
    /// Which server it is.
    pub fn server(&self) -> Server {
        Server { port: self.port.unwrap_or(self.server.port), ..self.server.clone() }
    }

    /// The passphrase; `program` warns when others can read it.
    ///
    /// # Errors
    /// When the file cannot be read, or holds none.
    pub fn passphrase(&self, program: &str) -> Result<Passphrase> {
        let (passphrase, warning) = passphrase(&self.passphrase)?;
        if let Some(warning) = warning {
            eprintln!("{program}: warning: {warning}");
        }
        Ok(passphrase)
    }

    /// Registers, and shows each step. The identity is written below `state`.
    ///
    /// # Errors
    /// As [`register`].
    pub fn register(&self, passphrase: &Passphrase, host: Host, state: &Path) -> Result<Registered> {
        let order = Order { server: &self.server(), passphrase, host, state, replace: self.yes };
        let mut steps = Steps::default();
        let outcome = register(&order, &mut |step| steps.show(step));
        if outcome.is_err() {
            steps.fail();
        }
        outcome
    }
}

/// Shows the steps of a registration as they go.
#[derive(Debug, Default)]
pub struct Steps {
    /// A step was begun and has not ended.
    open: bool,
}

impl Steps {
    /// A step begins, or has ended well.
    pub fn show(&mut self, step: Step) {
        match step {
            Step::Begins(what) => {
                self.fail();
                print!("  {what:<40} ");
                self.open = true;
            }
            Step::Done(detail) => {
                println!("ok  {detail}");
                self.open = false;
            }
        }
        let _ = io::stdout().flush();
    }

    /// Whatever goes on has failed.
    pub fn fail(&mut self) {
        if std::mem::take(&mut self.open) {
            println!("failed");
        }
    }
}

/// The name that this machine is registered under; a damaged identity has none, and can be given up all the same. `None`
/// when it is not registered.
pub fn registered_name(state: &Path) -> Option<String> {
    match Identity::open(state) {
        Ok(identity) => Some(identity?.registration.name),
        Err(_) => Some("this machine".to_owned()),
    }
}

impl Unregistered {
    /// What became of it, for people; `name` is what it was registered under.
    pub fn shown(&self, name: &str) -> String {
        let server = self.registration.as_ref().map_or("the configuration server", |kept| &kept.server);
        match &self.not_told {
            None => format!("{name} is not registered any more; {server} has revoked its certificates"),
            Some(why) => format!(
                "{name} is not registered any more on this machine. {server} was not told: {why}\n\
                 There, run: mt-configserver revoke {name}"
            ),
        }
    }
}

/// Asks a person on the terminal.
///
/// # Errors
/// Where nobody is there to ask.
pub fn agreed(question: &str) -> io::Result<bool> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(io::Error::other("nobody is there to ask; give --yes to do it"));
    }
    eprint!("{question} [y/N] ");
    let mut line = String::new();
    stdin.lock().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}
