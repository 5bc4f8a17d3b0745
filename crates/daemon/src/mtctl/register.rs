//! `mtctl register` and `mtctl unregister`.

use super::cli::{RegisterArguments, UnregisterArguments};
use super::run::{Outcome, ask};
use crate::config::{Config, DEFAULT_PATH, DEFAULT_STATE, Server};
use crate::identity::this_host;
use crate::preflight::{self, Machine, MachineOptions, Verdict};
use anyhow::{Context, Result, anyhow};
use registration::{Error, Explanation, Identity, Order, Registered, Step};
use serde_json::json;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

/// What must hold of the machine before it registers: else nobody finds it afterwards.
const NEEDED: [&str; 2] = ["ipv4-address", "hosts-file"];

/// Makes this machine known to a configuration server.
pub(super) fn register(arguments: &RegisterArguments, json: bool) -> Outcome {
    let mut steps = Steps { json, open: false };
    match register_stepwise(arguments, &mut steps) {
        Ok(Registered { registration, known }) => {
            if json {
                println!("{}", json!({ "registered": registration, "known": known }));
                return Outcome::Done;
            }
            let again = if known { ", which knew it before" } else { "" };
            println!(
                "{} is registered with {}{again}. The daemon lets sources in by itself; it renews the certificate.",
                registration.name, registration.server
            );
            Outcome::Done
        }
        Err(error) => {
            steps.fail();
            let outcome = report(&error, json);
            if !json {
                eprintln!("\n  This machine is as it was before.");
            }
            outcome
        }
    }
}

/// Tells what went wrong, in its parts where there are any.
fn report(error: &anyhow::Error, json: bool) -> Outcome {
    let explained = match error.downcast_ref::<Error>() {
        Some(error) => Some(error.explain()),
        None => error.downcast_ref::<Explanation>().cloned(),
    };
    match explained {
        Some(explained) if json => println!("{}", json!({ "failed": explained })),
        Some(explained) => eprint!("\n{}", explained.shown("mtctl")),
        None if json => println!("{}", json!({ "failed": { "what": format!("{error:#}") } })),
        None => eprintln!("mtctl: {error:#}"),
    }
    Outcome::Failed
}

fn register_stepwise(arguments: &RegisterArguments, steps: &mut Steps) -> Result<Registered> {
    let server = Server { port: arguments.port.unwrap_or(arguments.server.port), ..arguments.server.clone() };
    let state = state_folder(&arguments.config)?;
    let (passphrase, warning) = registration::passphrase(&arguments.passphrase)?;
    if let Some(warning) = warning {
        eprintln!("mtctl: warning: {warning}");
    }
    look_at_machine(&arguments.config, steps)?;
    let host = this_host(arguments.name.as_deref())?;
    let mut order =
        Order { server: &server, passphrase: &passphrase, host, state: &state, replace: arguments.yes };
    match registration::register(&order, &mut |step| steps.show(step)) {
        Err(error @ (Error::RegisteredElsewhere { .. } | Error::OtherAuthority { .. }))
            if !steps.json && std::io::stdin().is_terminal() =>
        {
            steps.fail();
            eprintln!("\n{}", error.explain().shown("mtctl"));
            ask("Register with this configuration server, and give up the other registration?")
                .map_err(|refusal| anyhow!(refusal))?;
            order.replace = true;
            Ok(registration::register(&order, &mut |step| steps.show(step))?)
        }
        outcome => Ok(outcome?),
    }
}

/// The state folder in the configuration, or the default where there is none.
fn state_folder(config: &Path) -> Result<PathBuf> {
    match config.exists() || config != Path::new(DEFAULT_PATH) {
        true => Ok(Config::load(config)?.state_folder),
        false => Ok(PathBuf::from(DEFAULT_STATE)),
    }
}

fn look_at_machine(config: &Path, steps: &mut Steps) -> Result<()> {
    let machine = Machine::new(MachineOptions::host(config, None));
    for id in NEEDED {
        let check = preflight::find(id).map_err(|why| anyhow!(why))?;
        steps.show(Step::Begins(check.title));
        let row = check.look(&machine);
        if row.verdict == Verdict::Failed {
            let mut next = vec![row.remedy.unwrap_or_else(|| check.needed.to_owned())];
            if check.fixable() {
                next.push(format!("or have that done: `mtctl check --fix --only {id}`"));
            }
            next.push("then register again".to_owned());
            let what = format!("this machine is not ready: {}: {}", check.title, row.found);
            return Err(Explanation::new(id, what, check.why, next).into());
        }
        steps.show(Step::Done(row.found));
    }
    Ok(())
}

/// Shows the steps of a registration as they go.
struct Steps {
    json: bool,
    /// A step was begun and has not ended.
    open: bool,
}

impl Steps {
    fn show(&mut self, step: Step) {
        if self.json {
            return;
        }
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
        let _ = std::io::stdout().flush();
    }

    /// Whatever goes on has failed.
    fn fail(&mut self) {
        if self.open {
            println!("failed");
            self.open = false;
        }
    }
}

/// Gives up the registration of this machine.
pub(super) fn unregister(arguments: &UnregisterArguments, json: bool) -> Outcome {
    match give_up(arguments, json) {
        Ok(outcome) => outcome,
        Err(error) => report(&error, json),
    }
}

fn give_up(arguments: &UnregisterArguments, json: bool) -> Result<Outcome> {
    let state = state_folder(&arguments.config)?;
    let Some(name) = registered_name(&state) else {
        match json {
            true => println!("{}", json!({ "unregistered": null })),
            false => println!("this machine is not registered"),
        }
        return Ok(Outcome::Done);
    };
    let question = format!("Give up the registration of {name}? No source is let in afterwards");
    if !arguments.yes
        && let Err(refusal) = ask(&question)
    {
        eprintln!("mtctl: {refusal}");
        return Ok(Outcome::Usage);
    }
    let host = this_host(None).or_else(|_| this_host(Some(&name))).context("nothing was done")?;
    let given_up = registration::unregister(&state, host)?;
    let server = given_up.registration.as_ref().map_or("the configuration server", |kept| &kept.server);
    let not_told = given_up.not_told.map(|why| why.to_string());
    match (json, not_told) {
        (true, not_told) => {
            println!("{}", json!({ "unregistered": given_up.registration, "not_told": not_told }));
        }
        (false, None) => println!("{name} is not registered any more; {server} has revoked its certificates"),
        (false, Some(why)) => println!(
            "{name} is not registered any more on this machine. {server} was not told: {why}\n\
             There, run: mt-configserver revoke {name}"
        ),
    }
    Ok(Outcome::Done)
}

/// The name that this machine is registered under; a damaged identity has none, and can be given up all the same.
fn registered_name(state: &Path) -> Option<String> {
    match Identity::open(state) {
        Ok(identity) => Some(identity?.registration.name),
        Err(_) => Some("this machine".to_owned()),
    }
}
