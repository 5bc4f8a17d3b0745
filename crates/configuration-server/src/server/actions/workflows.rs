//! Workflows: what is done to an item in several steps, on its master target and at its source.
//!
//! What speaks against one and is known here is refused before anything is ordered; all else the hosts find out.

use super::jobs::{busy, noted};
use super::{Changed, conflict, group_workflows, items as actions_of_items, missing};
use crate::store::hosts::Known;
use crate::store::items::{self, Item};
use crate::store::jobs::Job;
use crate::store::reports::{self, Report};
use crate::store::workflows::{self, Place, Plan};
use control_api::time::{self, Time};
use control_api::{ApiError, ItemState};
use rusqlite::{Connection, Result};

/// What is to be done to an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    PlannedFailover,
    CancelFailover,
    Commit,
}

/// Orders a workflow of an item.
pub(crate) fn order(connection: &Connection, id: i64, wanted: Wanted, by: &str, now: Time) -> Changed<Job> {
    let Some(item) = items::by_id(connection, id)?.filter(|item| item.gone.is_none()) else {
        return Ok(Err(missing(actions_of_items::KIND, &id.to_string())));
    };
    if let Some(open) = workflows::moves_item(connection, id)? {
        return Ok(Err(busy(&item.name, &open)));
    }
    if wanted == Wanted::PlannedFailover
        && let Some(refused) = group_workflows::not_alone(connection, &item, None)?
    {
        return Ok(Err(refused));
    }
    let plan = match wanted {
        Wanted::PlannedFailover => planned_failover(connection, &item, now)?,
        Wanted::CancelFailover => Ok(cancel_failover(connection, &item)?),
        Wanted::Commit => Ok(commit(connection, &item)?),
    };
    match plan {
        Ok(plan) => {
            let ordered = workflows::order(connection, &plan, Some(id), by, now)?;
            Ok(ordered.map(|job| noted(job, "workflow ordered")))
        }
        Err(refused) => Ok(Err(refused)),
    }
}

pub(super) fn target(item: &Item) -> Place {
    Place { host: item.host_row, name: item.host_name.clone() }
}

/// The source of an item that can be brought to rest, or why none can be.
pub(crate) fn source_at_hand(
    connection: &Connection,
    item: &Item,
) -> Result<std::result::Result<Known, ApiError>> {
    let refused = |why: String, next: &str| {
        Ok(Err(conflict(&*item.name, "no planned failover of it can be ordered", why, next)))
    };
    match item.state {
        ItemState::FailingOver | ItemState::FailedOver => {
            return refused(
                format!("it is {} already", item.state),
                "choose another recovery point for it, or cancel its failover first",
            );
        }
        ItemState::Committed | ItemState::Fenced | ItemState::InitialSyncRequired => {
            return refused(format!("it is {}", item.state), "look at the item, and at what it tells");
        }
        _ => {}
    }
    let unplanned =
        "look at the source machine: mt-source status; or fail over without it, to a point that is there";
    let Some(source) = items::source(connection, item)? else {
        return refused("no source agent that is registered here sends its changes now".into(), unplanned);
    };
    let Some(Report { connected: true, heartbeat, .. }) = reports::of(connection, source.row)? else {
        return refused(format!("its source, {}, is not connected", source.name), unplanned);
    };
    if heartbeat.protection.is_some_and(|protection| protection.quiesced) {
        return refused(
            format!("the disks of its source, {}, are at rest already", source.name),
            "nothing is written there: fail over to the latest point; or order unquiesce first",
        );
    }
    Ok(Ok(source))
}

fn planned_failover(
    connection: &Connection,
    item: &Item,
    now: Time,
) -> Result<std::result::Result<Plan, ApiError>> {
    let source = source_at_hand(connection, item)?;
    let bookmark = format!("planned-failover-{}", time::format(now));
    Ok(source
        .map(|source| Plan::planned_failover(&item.name, &target(item), &Place::from(&source), &bookmark)))
}

fn cancel_failover(connection: &Connection, item: &Item) -> Result<Plan> {
    let source = source_at_rest(connection, item)?;
    Ok(Plan::cancel_failover(&item.name, &target(item), source.as_ref().map(Place::from).as_ref()))
}

/// A source that says that it is at rest, or was brought to rest for this item and may not have been heard since, is let
/// go on when a failover is cancelled; one that is not at rest has nothing to do then.
pub(super) fn source_at_rest(connection: &Connection, item: &Item) -> Result<Option<Known>> {
    let Some(known) = items::known_source(connection, item)? else { return Ok(None) };
    let told = reports::of(connection, known.row)?.and_then(|report| report.heartbeat.protection);
    let at_rest = told.is_some_and(|protection| protection.quiesced);
    let rested = at_rest || workflows::last_source(connection, item.id)?.as_ref() == Some(&known.id);
    Ok(Some(known).filter(|_| rested))
}

fn commit(connection: &Connection, item: &Item) -> Result<Plan> {
    let source = items::known_source(connection, item)?;
    Ok(Plan::commit(&item.name, &target(item), source.as_ref().map(Place::from).as_ref()))
}

#[cfg(test)]
mod tests;
