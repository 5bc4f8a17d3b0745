//! `mt-configserver failover`, `cancel-failover` and `commit`: the failover of an item, from the choice of a recovery point to
//! its end.

use super::items;
use super::order::{Clerk, Waiting, ensure_agreed};
use crate::config::Config;
use crate::server::actions::jobs;
use crate::server::actions::words::{self, Words};
use crate::server::actions::workflows::{self, Wanted};
use crate::store::items::{Item, by_id};
use anyhow::Result;
use clap::{Args, Subcommand};
use control_api::agent::JobKind;
use control_api::{ItemState, PointSelector};
use rusqlite::Connection;

/// What to do about the failover of an item. An item is named as `items` shows it, or as MASTER-TARGET/NAME.
#[derive(Debug, Subcommand)]
pub enum FailoverCommand {
    /// Fail an item over, or change the recovery point of one that is failed over
    Failover(FailoverArguments),
    /// Go back from a failover that is not committed: the item follows its source again, which takes writes again
    CancelFailover {
        /// The item.
        item: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        /// Whether the end is waited for.
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Give up the way back from a failover: the disks are released, and the source stops replicating
    Commit {
        /// The item.
        item: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        /// Whether the end is waited for.
        #[command(flatten)]
        waiting: Waiting,
    },
}

/// Which item, and to which recovery point.
#[derive(Debug, Args)]
pub struct FailoverArguments {
    /// The item.
    pub item: String,
    /// Bring the source to rest first, and fail over to the end of its changes: nothing is lost.
    #[arg(long, required_unless_present = "point", conflicts_with = "point")]
    pub planned: bool,
    /// latest, latest-app-consistent, a point's number, a time (RFC 3339) or a bookmark's name. The source is not asked.
    #[arg(long)]
    pub point: Option<PointSelector>,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    /// Whether the end is waited for.
    #[command(flatten)]
    pub waiting: Waiting,
}

pub(super) fn run(config: &Config, command: &FailoverCommand) -> Result<()> {
    let mut clerk = Clerk::new(config)?;
    match command {
        FailoverCommand::Failover(arguments) => fail_over(&mut clerk, arguments),
        FailoverCommand::CancelFailover { item, yes, waiting } => {
            let question = |name: &str| format!("Cancel the failover of {name}?");
            let words = words::CANCEL_FAILOVER;
            order(&mut clerk, item, Wanted::CancelFailover, question, words, *yes, *waiting)
        }
        FailoverCommand::Commit { item, yes, waiting } => {
            let question = |name: &str| format!("Commit the failover of {name}?");
            order(&mut clerk, item, Wanted::Commit, question, words::COMMIT, *yes, *waiting)
        }
    }
}

fn fail_over(clerk: &mut Clerk, arguments: &FailoverArguments) -> Result<()> {
    let FailoverArguments { item, point, yes, waiting, .. } = arguments;
    let item = items::found(&clerk.store, item)?;
    let (question, words) = match (item.state, point) {
        (ItemState::FailedOver, Some(point)) => {
            (format!("Change the recovery point of {} to {point}?", item.name), words::CHANGE_POINT)
        }
        (_, Some(point)) => (format!("Fail over {} to {point}?", item.name), words::FAILOVER),
        (_, None) => (format!("Fail over {}, planned?", item.name), words::FAILOVER),
    };
    ensure_agreed(&item.name, &question, words, *yes)?;
    clerk.order_until(*waiting, is_told(&[item.id], ItemState::FailedOver), |store, by, now| match point {
        None => workflows::order(store, item.id, Wanted::PlannedFailover, by, now),
        Some(point) => {
            let job = JobKind::Failover { item: item.name.clone(), point: point.clone() };
            jobs::order(store, &item.host, job, by.to_owned(), now)
        }
    })
}

fn order(
    clerk: &mut Clerk,
    item: &str,
    wanted: Wanted,
    question: impl Fn(&str) -> String,
    words: Words,
    yes: bool,
    waiting: Waiting,
) -> Result<()> {
    let item = items::found(&clerk.store, item)?;
    ensure_agreed(&item.name, &question(&item.name), words, yes)?;
    let end = match wanted {
        Wanted::Commit => ItemState::Committed,
        _ => ItemState::Protected,
    };
    clerk.order_until(waiting, is_told(&[item.id], end), |store, by, now| {
        workflows::order(store, item.id, wanted, by, now)
    })
}

/// Whether master targets tell that these items are failed over, committed or, with any other state, followed again.
pub(super) fn is_told(items: &[i64], wanted: ItemState) -> impl Fn(&Connection) -> rusqlite::Result<bool> {
    let is_so = move |item: &Item| match wanted {
        ItemState::FailedOver => item.state == ItemState::FailedOver,
        ItemState::Committed => item.state == ItemState::Committed || item.gone.is_some(),
        _ => !matches!(item.state, ItemState::FailedOver | ItemState::FailingOver),
    };
    let items = items.to_owned();
    move |store| {
        for item in &items {
            if by_id(store, *item)?.is_some_and(|item| !is_so(&item)) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
