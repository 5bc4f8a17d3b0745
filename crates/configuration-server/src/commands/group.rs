//! `mt-configserver group`: machines that belong together, and what is done to all of them.

use super::failover::is_told;
use super::order::{Clerk, Waiting, ensure_agreed};
use super::policy::parse_name;
use super::{agreed, items, store, table};
use crate::config::Config;
use crate::server::actions::group_workflows::{self, Wanted};
use crate::server::actions::words::{self, Words};
use crate::server::actions::{groups as actions, items as actions_of_items};
use crate::server::{MAX_GROUP_BOOKMARK, now};
use crate::store::groups::{self, CommonPoint, Group};
use crate::store::items::Query;
use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use control_api::ItemState;
use control_api::time::{self, Time};
use rusqlite::Connection;
use serde_json::json;

/// What to do about replication groups.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// Show them with their items
    List {
        /// Print JSON for programs.
        #[arg(long)]
        json: bool,
    },
    /// Add one without items
    Add {
        /// Its name.
        #[arg(value_parser = parse_name)]
        name: String,
    },
    /// Give one another name
    Rename {
        /// Which.
        name: String,
        /// The other name.
        #[arg(value_parser = parse_name)]
        new_name: String,
    },
    /// Remove one without items
    Remove {
        /// Which.
        name: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Put an item into a group, or take it out of the one that it is in
    Assign {
        /// The item, as `items` shows it, or MASTER-TARGET/NAME.
        item: String,
        /// The group.
        #[arg(required_unless_present = "none", conflicts_with = "none")]
        name: Option<String>,
        /// Into no group.
        #[arg(long)]
        none: bool,
    },
    /// The recovery points that all items of a group share, the newest first
    Points {
        /// The group.
        name: String,
        /// Print JSON for programs.
        #[arg(long)]
        json: bool,
    },
    /// Set a bookmark at one moment of all machines of a group
    Bookmark {
        /// The group.
        name: String,
        /// Of this moment, such as before-the-upgrade. What tells it from every other bookmark is added to it.
        #[arg(value_parser = parse_bookmark)]
        bookmark: String,
        /// The hooks of each machine bring its applications to rest first.
        #[arg(long)]
        app_consistent: bool,
        /// Whether the end is waited for.
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Fail all items of a group over to one moment, or change their recovery point when they are
    Failover(FailoverArguments),
    /// Go back from a failover that is not committed: the items follow their sources again, which take writes again
    CancelFailover {
        /// The group.
        name: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        /// Whether the end is waited for.
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Give up the way back of all items: the disks are released, and the sources stop replicating
    Commit {
        /// The group.
        name: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        /// Whether the end is waited for.
        #[command(flatten)]
        waiting: Waiting,
    },
}

/// Which group, and to which recovery point.
#[derive(Debug, Args)]
pub struct FailoverArguments {
    /// The group.
    pub name: String,
    /// Bring all sources to rest first, and fail over to the end of their changes: nothing is lost.
    #[arg(long, required_unless_present = "point", conflicts_with = "point")]
    pub planned: bool,
    /// latest, latest-app-consistent, or a bookmark's name, of the points that all items share. The sources are not asked.
    #[arg(long)]
    pub point: Option<String>,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    /// Whether the end is waited for.
    #[command(flatten)]
    pub waiting: Waiting,
}

pub(super) fn run(config: &Config, command: &GroupCommand) -> Result<()> {
    let clerk = || Clerk::new(config);
    match command {
        GroupCommand::List { json } => list(&store(config)?, *json),
        GroupCommand::Add { name } => {
            clerk()?.change(|store, _, _| actions::add(store, name))?;
            println!("group {name}: added");
            Ok(())
        }
        GroupCommand::Rename { name, new_name } => rename(&mut clerk()?, name, new_name),
        GroupCommand::Remove { name, yes } => remove(&mut clerk()?, name, *yes),
        GroupCommand::Assign { item, name, .. } => assign(&mut clerk()?, item, name.as_deref()),
        GroupCommand::Points { name, json } => points(&store(config)?, name, *json),
        GroupCommand::Bookmark { name, bookmark, app_consistent, waiting } => {
            let mut clerk = clerk()?;
            let group = found(&clerk.store, name)?;
            let (name, application_consistent) = (bookmark.clone(), *app_consistent);
            order(
                &mut clerk,
                &group,
                &Wanted::Bookmark { name, application_consistent, regular: false },
                *waiting,
            )
        }
        GroupCommand::Failover(arguments) => fail_over(&mut clerk()?, arguments),
        GroupCommand::CancelFailover { name, yes, waiting } => {
            let question = format!("Cancel the failover of group {name}?");
            ask_and_order(
                &mut clerk()?,
                name,
                &Wanted::CancelFailover,
                (&question, words::GROUP_CANCEL_FAILOVER, *yes),
                *waiting,
            )
        }
        GroupCommand::Commit { name, yes, waiting } => {
            let question = format!("Commit the failover of group {name}?");
            ask_and_order(
                &mut clerk()?,
                name,
                &Wanted::Commit,
                (&question, words::GROUP_COMMIT, *yes),
                *waiting,
            )
        }
    }
}

/// The group of this name.
pub(super) fn found(store: &Connection, name: &str) -> Result<Group> {
    let found = groups::list(store)?.into_iter().find(|group| group.name == name);
    found.with_context(|| {
        format!("group {name}: there is none of this name; mt-configserver group list shows all")
    })
}

fn list(store: &Connection, json: bool) -> Result<()> {
    let mut listed = Vec::new();
    for group in groups::list(store)? {
        listed.push((groups::members(store, group.id)?, group));
    }
    if json {
        let groups = listed.iter().map(|(members, group)| {
            json!({ "id": group.id, "name": group.name, "items": group.items, "members": members })
        });
        println!("{}", json!({ "groups": groups.collect::<Vec<_>>() }));
        return Ok(());
    }
    let mut table = table(&["NAME", "MASTER TARGET", "ITEMS"]);
    for (members, group) in &listed {
        let target = members.first().map_or("", |member| &member.host_name);
        let names: Vec<&str> = members.iter().map(|member| &*member.name).collect();
        table.add_row([&*group.name, target, &names.join(", ")]);
    }
    println!("{table}");
    Ok(())
}

fn rename(clerk: &mut Clerk, name: &str, new_name: &str) -> Result<()> {
    let group = found(&clerk.store, name)?;
    clerk.change(|store, _, _| actions::rename(store, group.id, new_name))?;
    println!("group {name}: it is called {new_name} now");
    Ok(())
}

fn remove(clerk: &mut Clerk, name: &str, yes: bool) -> Result<()> {
    let group = found(&clerk.store, name)?;
    ensure!(yes || agreed(&format!("Remove the group {name}?"))?, "group {name}: nothing was done");
    clerk.change(|store, _, _| actions::remove(store, group.id))?;
    println!("group {name}: removed");
    Ok(())
}

fn assign(clerk: &mut Clerk, item: &str, name: Option<&str>) -> Result<()> {
    let item = items::found(&clerk.store, item)?;
    let group = name.map(|name| found(&clerk.store, name)).transpose()?.map(|group| group.id);
    let wanted = actions_of_items::Wanted { policy: None, group: Some(group) };
    clerk.change(|store, _, _| actions_of_items::assign(store, item.id, &wanted))?;
    match name {
        Some(name) => println!("item {}: in group {name}", item.name),
        None => println!("item {}: in no group", item.name),
    }
    Ok(())
}

fn points(store: &Connection, name: &str, json: bool) -> Result<()> {
    let points = groups::common(store, found(store, name)?.id)?;
    if json {
        println!("{}", json!({ "points": points }));
        return Ok(());
    }
    let now = now();
    let mut table = table(&["BOOKMARK", "KIND", "AT THE SOURCES", "AGO"]);
    for point in &points {
        let kind = if point.application_consistent { "application-consistent" } else { "crash-consistent" };
        table.add_row([&*point.name, kind, &time::format(point.source_time), &ago(point, now)]);
    }
    println!("{table}");
    Ok(())
}

fn ago(point: &CommonPoint, now: Time) -> String {
    time::format_duration(now.saturating_sub(point.source_time))
}

fn fail_over(clerk: &mut Clerk, arguments: &FailoverArguments) -> Result<()> {
    let FailoverArguments { name, point, yes, waiting, .. } = arguments;
    let group = found(&clerk.store, name)?;
    let wanted = match point {
        None => Wanted::PlannedFailover,
        Some(point) => Wanted::Failover { bookmark: chosen(&clerk.store, &group, point)? },
    };
    let (question, words) = match (&wanted, is_over(&clerk.store, &group)?) {
        (Wanted::Failover { bookmark }, true) => {
            (format!("Change the recovery point of group {name} to {bookmark}?"), words::GROUP_CHANGE_POINT)
        }
        (Wanted::Failover { bookmark }, false) => {
            (format!("Fail over group {name} to {bookmark}?"), words::GROUP_FAILOVER)
        }
        _ => (format!("Fail over group {name}, planned?"), words::GROUP_FAILOVER),
    };
    ask_and_order(clerk, name, &wanted, (&question, words, *yes), *waiting)
}

/// Whether some of its items are failed over.
fn is_over(store: &Connection, group: &Group) -> Result<bool> {
    let (state, gone) = (Some(ItemState::FailedOver), Some(false));
    let query = Query { group: Some(group.id), state, gone, limit: 1, ..Query::default() };
    Ok(crate::store::items::list(store, &query)?.1 > 0)
}

/// The bookmark that is meant; one of this name need not be shared, which is found out when it is ordered.
fn chosen(store: &Connection, group: &Group, point: &str) -> Result<String> {
    let newest = |is_good: fn(&CommonPoint) -> bool| {
        let found = groups::common(store, group.id)?.into_iter().find(is_good);
        let found = found.with_context(|| {
            format!(
                "group {0}: it cannot fail over to {point}: its items share no such recovery point yet; set one: \
                 mt-configserver group bookmark {0} NAME",
                group.name
            )
        });
        Ok(found?.name)
    };
    match point {
        "latest" => newest(|_| true),
        "latest-app-consistent" => newest(|point| point.application_consistent),
        name => Ok(name.strip_prefix("bookmark:").unwrap_or(name).to_owned()),
    }
}

/// Orders something of a group, after a question in these words unless it is answered already.
fn ask_and_order(
    clerk: &mut Clerk,
    name: &str,
    wanted: &Wanted,
    (question, words, yes): (&str, Words, bool),
    waiting: Waiting,
) -> Result<()> {
    let group = found(&clerk.store, name)?;
    ensure_agreed(&format!("group {name}"), question, words, yes)?;
    order(clerk, &group, wanted, waiting)
}

fn order(clerk: &mut Clerk, group: &Group, wanted: &Wanted, waiting: Waiting) -> Result<()> {
    let end = match wanted {
        Wanted::Bookmark { .. } => None,
        Wanted::Failover { .. } | Wanted::PlannedFailover => Some(ItemState::FailedOver),
        Wanted::CancelFailover => Some(ItemState::Protected),
        Wanted::Commit => Some(ItemState::Committed),
    };
    let members: Vec<i64> =
        groups::members(&clerk.store, group.id)?.into_iter().map(|member| member.id).collect();
    let is_told = |store: &Connection| end.map_or(Ok(true), |end| is_told(&members, end)(store));
    clerk.order_until(waiting, is_told, |store, by, now| {
        group_workflows::order(store, group.id, wanted, by, now)
    })
}

fn parse_bookmark(text: &str) -> Result<String, String> {
    let fits = (1..=MAX_GROUP_BOOKMARK).contains(&text.chars().count()) && !text.contains(char::is_control);
    fits.then(|| text.to_owned())
        .ok_or_else(|| format!("expected 1 to {MAX_GROUP_BOOKMARK} characters, no control characters"))
}
