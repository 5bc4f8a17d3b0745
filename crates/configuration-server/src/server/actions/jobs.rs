//! Jobs.

use super::{
    Changed, Note, conflict, group_workflows, hosts as actions_of_hosts, items as actions_of_items, missing,
};
use crate::server::changes::Topic;
use crate::store::jobs::{self, Job, NewJob};
use crate::store::{hosts, items, workflows};
use control_api::ApiError;
use control_api::agent::JobKind;
use control_api::time::Time;
use rusqlite::Connection;

pub(crate) const KIND: &str = "job";

/// What a cancelled job changes: one that no host has yet ends at once, and tells it.
pub(crate) const CANCELLED: [Topic; 2] = [Topic::Jobs, Topic::Events];

/// Orders a job of a host that can do it; when this is committed, it is durable and runs once.
pub(crate) fn order(
    connection: &Connection,
    host: &str,
    job: JobKind,
    by: String,
    now: Time,
) -> Changed<Job> {
    let Some(known) = hosts::by_uuid(connection, host)? else {
        return Ok(Err(missing(actions_of_hosts::KIND, host)));
    };
    let does_it = job.done_by();
    if known.kind != does_it {
        let why = format!("it is a {}, and only a {does_it} does this", known.kind);
        let what = format!("it cannot be ordered to {}", job.title());
        return Ok(Err(conflict(known.name, &what, why, "choose another host")));
    }
    if brings_to_rest_or_back(&job)
        && let Some(open) = workflows::open_at(connection, known.row)?
    {
        return Ok(Err(busy(&known.name, &open)));
    }
    let mut item = None;
    let is_there = !matches!(job, JobKind::Protect { .. });
    if let Some(name) = job.item().filter(|_| is_there) {
        let here = items::of_host(connection, known.row)?;
        let Some(found) = here.into_iter().find(|item| item.name == name && !item.gone) else {
            return Ok(Err(missing(&format!("the item on {}:", known.name), name)));
        };
        if moves(&job)
            && let Some(open) = workflows::open_of_item(connection, found.id)?
        {
            return Ok(Err(busy(name, &open)));
        }
        if let JobKind::Failover { point, .. } = &job
            && let Some(known) = items::by_id(connection, found.id)?
            && let Some(refused) = group_workflows::not_alone(connection, &known, Some(point))?
        {
            return Ok(Err(refused));
        }
        item = Some(found.id);
    }
    let new = NewJob { host: known.row, item, job, by, now };
    Ok(jobs::add(connection, &new)?.map(|job| noted(job, "job ordered")))
}

/// Orders a bookmark in the change stream of an item, of the source agent that sends it.
pub(crate) fn bookmark(
    connection: &Connection,
    item: i64,
    job: JobKind,
    by: String,
    now: Time,
) -> Changed<Job> {
    let Some(item) = items::by_id(connection, item)? else {
        return Ok(Err(missing(actions_of_items::KIND, &item.to_string())));
    };
    let Some(source) = items::source(connection, &item)? else {
        let why = "no source agent that is registered here sends its changes now";
        let next = "look at the source machine: mt-source status";
        return Ok(Err(conflict(item.name, "no bookmark can be set", why, next)));
    };
    let new = NewJob { host: source.row, item: Some(item.id), job, by, now };
    Ok(jobs::add(connection, &new)?.map(|job| noted(job, "job ordered")))
}

/// Gives up a job where that is safe.
pub(crate) fn cancel(connection: &Connection, id: &str, by: &str, now: Time) -> Changed<Job> {
    Ok(jobs::cancel(connection, id, by, now)?.map(|job| noted(job, "job cancelled")))
}

/// Whether a job moves an item from one stage of its life to another, which is not done beside a workflow that does.
fn moves(job: &JobKind) -> bool {
    matches!(
        job,
        JobKind::Failover { .. }
            | JobKind::CancelFailover { .. }
            | JobKind::Commit { .. }
            | JobKind::Release { .. }
    )
}

/// Whether a source takes writes, or replicates, otherwise than before: a workflow relies on what it has ordered of that.
fn brings_to_rest_or_back(job: &JobKind) -> bool {
    matches!(
        job,
        JobKind::Quiesce { .. } | JobKind::Unquiesce | JobKind::Replicate { .. } | JobKind::StopReplicating
    )
}

/// The refusal while a workflow of the item, or at the host, goes on.
pub(super) fn busy(item: &str, open: &Job) -> ApiError {
    let why = format!("{} goes on (job {})", open.job.title(), open.id);
    conflict(item, "it is not ordered beside another workflow", why, "wait for its end, or cancel it first")
}

pub(super) fn noted(job: Job, outcome: &'static str) -> (Job, Note) {
    let note = Note::new(outcome, format!("{} {}", job.id, job.job.title())).about(&job.host_name);
    (job, note)
}
