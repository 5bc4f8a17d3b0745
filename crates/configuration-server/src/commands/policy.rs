//! `mt-configserver policy`: what is wanted of items.

use super::order::Clerk;
use super::{agreed, items, store, table};
use crate::config::Config;
use crate::server::actions::items as actions_of_items;
use crate::server::actions::policies as actions;
use crate::server::{EVERY, MAX_NAME, THRESHOLD, WINDOW, is_name};
use crate::store::policies::{self, Policy, Wanted};
use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use control_api::time::{SECOND, format_duration};
use rusqlite::Connection;
use serde_json::json;

/// What to do about policies.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Show them
    List {
        /// Print JSON for programs.
        #[arg(long)]
        json: bool,
    },
    /// Add one
    Add(AddArguments),
    /// Change one; what is not given stays as it is. Its items have the changed one from then on
    Set {
        /// Which.
        name: String,
        /// What is to be different.
        #[command(flatten)]
        changes: Changes,
    },
    /// Remove one that no item has
    Remove {
        /// Which.
        name: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Give an item a policy
    Assign {
        /// The item, as `items` shows it, or MASTER-TARGET/NAME.
        item: String,
        /// The policy.
        name: String,
    },
}

/// A new policy.
#[derive(Debug, Args)]
pub struct AddArguments {
    /// Its name.
    #[arg(value_parser = parse_name)]
    pub name: String,
    /// How far recovery points are to reach back.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_window)]
    pub window: u64,
    /// RPO above which there is an alert.
    #[arg(long, value_name = "TIME", default_value = "15min", value_parser = parse_threshold)]
    pub rpo: u64,
    /// How often there should be an application-consistent point, or never.
    #[arg(long, value_name = "TIME", default_value = "60min", value_parser = parse_frequency)]
    pub application_consistent: u64,
}

/// What is to be different in a policy.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct Changes {
    /// Another name.
    #[arg(long = "name", value_name = "NAME", value_parser = parse_name)]
    pub new_name: Option<String>,
    /// How far recovery points are to reach back.
    #[arg(long, value_name = "TIME", value_parser = parse_window)]
    pub window: Option<u64>,
    /// RPO above which there is an alert.
    #[arg(long, value_name = "TIME", value_parser = parse_threshold)]
    pub rpo: Option<u64>,
    /// How often there should be an application-consistent point, or never.
    #[arg(long, value_name = "TIME", value_parser = parse_frequency)]
    pub application_consistent: Option<u64>,
}

pub(super) fn run(config: &Config, command: &PolicyCommand) -> Result<()> {
    match command {
        PolicyCommand::List { json } => list(&store(config)?, *json),
        PolicyCommand::Add(arguments) => add(&mut Clerk::new(config)?, arguments),
        PolicyCommand::Set { name, changes } => set(&mut Clerk::new(config)?, name, changes),
        PolicyCommand::Remove { name, yes } => remove(&mut Clerk::new(config)?, name, *yes),
        PolicyCommand::Assign { item, name } => assign(&mut Clerk::new(config)?, item, name),
    }
}

/// The policy of this name.
pub(super) fn found(store: &Connection, name: &str) -> Result<Policy> {
    let found = policies::list(store)?.into_iter().find(|policy| policy.name == name);
    found.with_context(|| {
        format!("policy {name}: there is none of this name; mt-configserver policy list shows all")
    })
}

fn list(store: &Connection, json: bool) -> Result<()> {
    let policies = policies::list(store)?;
    if json {
        println!("{}", json!({ "policies": policies }));
        return Ok(());
    }
    let mut table = table(&["NAME", "WINDOW", "RPO", "APPLICATION-CONSISTENT", "ITEMS"]);
    for policy in &policies {
        let (window, rpo, every) = values(policy);
        table.add_row([&policy.name, &window, &rpo, &every, &policy.items.to_string()]);
    }
    println!("{table}");
    Ok(())
}

fn values(policy: &Policy) -> (String, String, String) {
    let time = |seconds: u64| format_duration(seconds * SECOND);
    let every = policy.application_consistent_every_seconds.map_or("never".to_owned(), time);
    (time(policy.window_seconds), time(policy.rpo_threshold_seconds), every)
}

fn say(policy: &Policy, what: &str) {
    let (window, rpo, every) = values(policy);
    println!("policy {}: {what}: window {window}, RPO {rpo}, application-consistent {every}", policy.name);
}

fn add(clerk: &mut Clerk, arguments: &AddArguments) -> Result<()> {
    let wanted = Wanted {
        name: arguments.name.clone(),
        window_seconds: arguments.window,
        rpo_threshold_seconds: arguments.rpo,
        application_consistent_every_seconds: Some(arguments.application_consistent)
            .filter(|every| *every > 0),
    };
    let policy = clerk.change(|store, _, now| actions::add(store, &wanted, now))?;
    say(&policy, "added");
    Ok(())
}

fn set(clerk: &mut Clerk, name: &str, changes: &Changes) -> Result<()> {
    let before = found(&clerk.store, name)?;
    let every = changes.application_consistent.map(|every| Some(every).filter(|every| *every > 0));
    let wanted = Wanted {
        name: changes.new_name.clone().unwrap_or(before.name),
        window_seconds: changes.window.unwrap_or(before.window_seconds),
        rpo_threshold_seconds: changes.rpo.unwrap_or(before.rpo_threshold_seconds),
        application_consistent_every_seconds: every.unwrap_or(before.application_consistent_every_seconds),
    };
    let policy = clerk.change(|store, _, now| actions::change(store, before.id, &wanted, now))?;
    say(&policy, "changed");
    Ok(())
}

fn remove(clerk: &mut Clerk, name: &str, yes: bool) -> Result<()> {
    let policy = found(&clerk.store, name)?;
    ensure!(yes || agreed(&format!("Remove the policy {name}?"))?, "policy {name}: nothing was done");
    clerk.change(|store, _, now| actions::remove(store, policy.id, now))?;
    println!("policy {name}: removed");
    Ok(())
}

fn assign(clerk: &mut Clerk, item: &str, name: &str) -> Result<()> {
    let (item, policy) = (items::found(&clerk.store, item)?, found(&clerk.store, name)?);
    let wanted = actions_of_items::Wanted { policy: Some(policy.id), group: None };
    clerk.change(|store, _, _| actions_of_items::assign(store, item.id, &wanted))?;
    println!("item {}: policy {name}", item.name);
    Ok(())
}

/// A name that people give.
pub(super) fn parse_name(text: &str) -> Result<String, String> {
    is_name(text).then(|| text.to_owned()).ok_or_else(|| {
        format!("expected 1 to {MAX_NAME} characters, no control characters, and no blank at either end")
    })
}

fn parse_window(text: &str) -> Result<u64, String> {
    parse_seconds(text, WINDOW, "from a minute to a year")
}

fn parse_threshold(text: &str) -> Result<u64, String> {
    parse_seconds(text, THRESHOLD, "up to a week")
}

/// Seconds, 0 for never.
fn parse_frequency(text: &str) -> Result<u64, String> {
    match text {
        "never" => Ok(0),
        text => parse_seconds(text, EVERY, "from a minute to a week, or never"),
    }
}

fn parse_seconds(text: &str, (least, most): (u64, u64), range: &str) -> Result<u64, String> {
    seconds(text)
        .filter(|seconds| (least..=most).contains(seconds))
        .ok_or_else(|| format!("expected a time such as 24h, 15min or 90s, {range}"))
}

/// `24h`, `15min`, `90s`, `7d`; there may be a blank.
fn seconds(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim_start() {
        "s" => 1,
        "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        "weeks" => 604_800,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_policies_may_have_them() {
        assert_eq!(parse_window("24h"), Ok(86_400));
        assert_eq!(parse_window("52 weeks"), Ok(52 * 604_800));
        assert_eq!(parse_threshold("90 s"), Ok(90));
        assert_eq!(parse_frequency("never"), Ok(0));
        for text in ["", "h", "24", "24 hours", "30s", "400d", "99999999999999999999h", "-1h"] {
            assert!(parse_window(text).unwrap_err().contains("from a minute to a year"), "{text}");
        }
        assert!(parse_frequency("0min").is_err());
    }
}
