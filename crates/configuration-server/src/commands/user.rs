//! `mt-configserver user`: who may use the portal. It works while the server runs and while it does not.

use super::{agreed, store, table};
use crate::access::{Password, Role, first};
use crate::config::Config;
use crate::server::now;
use crate::store::audit;
use crate::store::users::{self, User};
use anyhow::{Context, Result, anyhow, ensure};
use clap::Subcommand;
use control_api::{ApiError, time};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use rusqlite::{Connection, TransactionBehavior};
use serde_json::json;
use std::io::{self, BufRead, IsTerminal, Stdin};
use zeroize::Zeroizing;

/// What to do about users.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Show them
    List {
        /// Print JSON for programs.
        #[arg(long)]
        json: bool,
    },
    /// Add one; the password is asked for, or read from the standard input
    Add {
        /// How he logs in.
        name: String,
        /// What he may do: look, order jobs as well, or manage everything.
        #[arg(long, value_parser = ROLES)]
        role: String,
        /// Make a password, and print it.
        #[arg(long)]
        generate: bool,
    },
    /// Give one a new password, which is asked for, or read from the standard input; his sessions end
    Password {
        /// Who.
        name: String,
        /// Make a password, and print it.
        #[arg(long)]
        generate: bool,
    },
    /// Give one another role; his sessions end
    Role {
        /// Who.
        name: String,
        /// What he may do from now on.
        #[arg(value_parser = ROLES)]
        role: String,
    },
    /// Remove one; his sessions end
    Remove {
        /// Who.
        name: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

const ROLES: [&str; 3] = ["reader", "operator", "administrator"];

pub(super) fn run(config: &Config, command: &UserCommand) -> Result<()> {
    let mut store = store(config)?;
    match command {
        UserCommand::List { json } => list(&store, *json),
        UserCommand::Add { name, role, generate } => add(&mut store, name, parsed(role)?, *generate),
        UserCommand::Password { name, generate } => password(&mut store, config, name, *generate),
        UserCommand::Role { name, role } => set_role(&mut store, name, parsed(role)?),
        UserCommand::Remove { name, yes } => remove(&mut store, name, *yes),
    }
}

fn parsed(role: &str) -> Result<Role> {
    Role::parse(role).with_context(|| format!("{role} is no role"))
}

fn list(store: &Connection, json: bool) -> Result<()> {
    let users = users::list(store)?;
    if json {
        println!("{}", json!({ "users": users }));
        return Ok(());
    }
    let mut table = table(&["NAME", "ROLE", "MADE", "LAST LOG-IN"]);
    for user in &users {
        let seen = user.seen.map_or("never".into(), time::format);
        table.add_row([&user.name, user.role.id(), &time::format(user.made), &seen]);
    }
    println!("{table}");
    Ok(())
}

fn add(store: &mut Connection, name: &str, role: Role, generate: bool) -> Result<()> {
    let taken = users::by_name(store, name)?;
    ensure!(taken.is_none(), "user {name}: there is one already; mt-configserver user list shows all");
    let new = NewPassword::take(name, generate)?;
    let hash = new.password.hashed()?;
    change(store, "user added", format!("{name}, {role}"), |store| {
        Ok(users::add(store, name, role, &hash, now())?.map(drop))
    })?;
    new.show();
    eprintln!("user {name}: added, {role}");
    Ok(())
}

fn password(store: &mut Connection, config: &Config, name: &str, generate: bool) -> Result<()> {
    let user = known(store, name)?;
    let new = NewPassword::take(&user.name, generate)?;
    let hash = new.password.hashed()?;
    change(store, "password changed", user.name.clone(), |store| users::set_password(store, user.id, &hash))?;
    if user.name == first::NAME {
        first::forget(&config.state_folder)?;
    }
    new.show();
    eprintln!("user {}: has a new password, and has to log in again", user.name);
    Ok(())
}

fn set_role(store: &mut Connection, name: &str, role: Role) -> Result<()> {
    let user = known(store, name)?;
    change(store, "role changed", format!("{}, {role}", user.name), |store| {
        users::set_role(store, user.id, role)
    })?;
    eprintln!("user {}: {role}", user.name);
    Ok(())
}

fn remove(store: &mut Connection, name: &str, yes: bool) -> Result<()> {
    let user = known(store, name)?;
    ensure!(yes || agreed(&format!("Remove user {}?", user.name))?, "user {}: nothing was done", user.name);
    change(store, "user removed", user.name.clone(), |store| users::remove(store, user.id))?;
    eprintln!("user {}: removed", user.name);
    Ok(())
}

fn known(store: &Connection, name: &str) -> Result<User> {
    users::by_name(store, name)?.with_context(|| {
        format!("user {name}: there is none of this name; mt-configserver user list shows all")
    })
}

/// Makes a change and writes it into the audit, both or neither.
fn change(
    store: &mut Connection,
    outcome: &str,
    detail: String,
    work: impl FnOnce(&Connection) -> rusqlite::Result<Result<(), ApiError>>,
) -> Result<()> {
    let transaction = store.transaction_with_behavior(TransactionBehavior::Immediate)?;
    work(&transaction)?.map_err(|refused| anyhow!("{refused}"))?;
    let (address, outcome) = (audit::CONSOLE.into(), outcome.to_owned());
    audit::add(&transaction, &audit::Entry { time: now(), address, host: String::new(), outcome, detail })?;
    Ok(transaction.commit()?)
}

/// A password that somebody is to have.
struct NewPassword {
    password: Password,
    /// What to print, when it was made here.
    generated: Option<Zeroizing<String>>,
}

impl NewPassword {
    /// Makes one, or takes it from the terminal, or, where there is none, from the standard input.
    fn take(name: &str, generate: bool) -> Result<NewPassword> {
        let generated = generate.then(|| Zeroizing::new(first::generated().reveal().to_owned()));
        let text = match &generated {
            Some(text) => text.clone(),
            None if io::stdin().is_terminal() => asked(name)?,
            None => line()?,
        };
        let password = Password::from(text.to_string());
        password.check_new().map_err(|refused| anyhow!("{refused}"))?;
        Ok(NewPassword { password, generated })
    }

    /// What was made alone goes to the standard output, so that it can be sent into a file.
    fn show(&self) {
        if let Some(text) = &self.generated {
            println!("{}", **text);
        }
    }
}

/// Asks twice, and shows nothing of what is typed.
fn asked(name: &str) -> Result<Zeroizing<String>> {
    let silent = Silent::begin()?;
    eprint!("New password of {name}: ");
    let first = line()?;
    eprint!("\nThe same again: ");
    let again = line()?;
    eprintln!();
    drop(silent);
    ensure!(first == again, "the two are not the same; nothing was done");
    Ok(first)
}

fn line() -> Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::with_capacity(2048));
    io::stdin().lock().read_line(&mut line).context("cannot read the password")?;
    let length = line.trim_end_matches(['\n', '\r']).len();
    line.truncate(length);
    Ok(line)
}

/// A terminal that does not show what is typed, until this is dropped.
struct Silent {
    terminal: Stdin,
    before: Termios,
}

impl Silent {
    fn begin() -> Result<Silent> {
        let terminal = io::stdin();
        let before = tcgetattr(&terminal).context("cannot ask for the password")?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(&terminal, SetArg::TCSAFLUSH, &silent).context("cannot ask for the password")?;
        Ok(Silent { terminal, before })
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}
