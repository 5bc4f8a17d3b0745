//! `mtctl register` and `mtctl unregister`.

use super::cli::{RegisterArguments, UnregisterArguments};
use super::run::{Outcome, ask};
use crate::config::{Config, DEFAULT_PATH, DEFAULT_STATE};
use crate::identity::this_host;
use crate::preflight::{self, Machine, MachineOptions, Verdict};
use anyhow::{Context, Result, anyhow};
use registration::command::{Steps, registered_name};
use registration::{Error, Explanation, Order, Registered, Step};
use serde_json::json;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// What must hold of the machine before it registers: else nobody finds it afterwards.
const NEEDED: [&str; 2] = ["ipv4-address", "hosts-file"];

/// Makes this machine known to a configuration server.
pub(super) fn register(arguments: &RegisterArguments, json: bool) -> Outcome {
    // Programs are told the end alone.
    let mut steps = (!json).then(Steps::default);
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
            fail(&mut steps);
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

fn register_stepwise(arguments: &RegisterArguments, steps: &mut Option<Steps>) -> Result<Registered> {
    let state = state_folder(&arguments.config)?;
    let passphrase = arguments.order.passphrase("mtctl")?;
    look_at_machine(&arguments.config, steps)?;
    let host = this_host(arguments.order.name.as_deref())?;
    let (server, replace) = (arguments.order.server(), arguments.order.yes);
    let mut order = Order { server: &server, passphrase: &passphrase, host, state: &state, replace };
    match registration::register(&order, &mut |step| show(steps, step)) {
        Err(error @ (Error::RegisteredElsewhere { .. } | Error::OtherAuthority { .. }))
            if steps.is_some() && std::io::stdin().is_terminal() =>
        {
            fail(steps);
            eprintln!("\n{}", error.explain().shown("mtctl"));
            ask("Register with this configuration server, and give up the other registration?")
                .map_err(|refusal| anyhow!(refusal))?;
            order.replace = true;
            Ok(registration::register(&order, &mut |step| show(steps, step))?)
        }
        outcome => Ok(outcome?),
    }
}

fn show(steps: &mut Option<Steps>, step: Step) {
    if let Some(steps) = steps {
        steps.show(step);
    }
}

fn fail(steps: &mut Option<Steps>) {
    if let Some(steps) = steps {
        steps.fail();
    }
}

/// The state folder in the configuration, or the default where there is none.
fn state_folder(config: &Path) -> Result<PathBuf> {
    match config.exists() || config != Path::new(DEFAULT_PATH) {
        true => Ok(Config::load(config)?.state_folder),
        false => Ok(PathBuf::from(DEFAULT_STATE)),
    }
}

fn look_at_machine(config: &Path, steps: &mut Option<Steps>) -> Result<()> {
    let machine = Machine::new(MachineOptions::host(config, None));
    for id in NEEDED {
        let check = preflight::find(id).map_err(|why| anyhow!(why))?;
        show(steps, Step::Begins(check.title));
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
        show(steps, Step::Done(row.found));
    }
    Ok(())
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
    match json {
        true => {
            let not_told = given_up.not_told.map(|why| why.to_string());
            println!("{}", json!({ "unregistered": given_up.registration, "not_told": not_told }));
        }
        false => println!("{}", given_up.shown(&name)),
    }
    Ok(Outcome::Done)
}
