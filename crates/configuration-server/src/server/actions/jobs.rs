//! Jobs.

use super::{Changed, Note, conflict, hosts as actions_of_hosts, items as actions_of_items, missing};
use crate::server::changes::Topic;
use crate::store::jobs::{self, Job, NewJob};
use crate::store::{hosts, items};
use control_api::agent::JobKind;
use control_api::registration::HostKind;
use control_api::time::Time;
use rusqlite::Connection;

pub(in crate::server) const KIND: &str = "job";

/// What a cancelled job changes: one that no host has yet ends at once, and tells it.
pub(in crate::server) const CANCELLED: [Topic; 2] = [Topic::Jobs, Topic::Events];

/// Orders a job of a host that can do it; when this is committed, it is durable and runs once.
pub(in crate::server) fn order(
    connection: &Connection,
    host: &str,
    job: JobKind,
    by: String,
    now: Time,
) -> Changed<Job> {
    let Some(known) = hosts::by_uuid(connection, host)? else {
        return Ok(Err(missing(actions_of_hosts::KIND, host)));
    };
    let does_it = match job {
        JobKind::Bookmark { .. } => HostKind::SourceAgent,
        _ => HostKind::MasterTarget,
    };
    if known.kind != does_it {
        let why = format!("it is a {}, and only a {does_it} does this", known.kind);
        let what = format!("it cannot be ordered to {}", job.title());
        return Ok(Err(conflict(known.name, &what, why, "choose another host")));
    }
    let mut item = None;
    if let Some(name) = job.item() {
        let here = items::of_host(connection, known.row)?;
        let Some(found) = here.into_iter().find(|item| item.name == name && !item.gone) else {
            return Ok(Err(missing(&format!("the item on {}:", known.name), name)));
        };
        item = Some(found.id);
    }
    let new = NewJob { host: known.row, item, job, by, now };
    Ok(jobs::add(connection, &new)?.map(|job| noted(job, "job ordered")))
}

/// Orders a bookmark in the change stream of an item, of the source agent that sends it.
pub(in crate::server) fn bookmark(
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
pub(in crate::server) fn cancel(connection: &Connection, id: &str, by: &str, now: Time) -> Changed<Job> {
    Ok(jobs::cancel(connection, id, by, now)?.map(|job| noted(job, "job cancelled")))
}

fn noted(job: Job, outcome: &'static str) -> (Job, Note) {
    let note = Note::new(outcome, format!("{} {}", job.id, job.job.title())).about(&job.host_name);
    (job, note)
}
