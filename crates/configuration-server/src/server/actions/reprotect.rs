//! Reprotecting: a master target takes a machine's disks as an item, and the machine replicates to it.
//!
//! What a master target alone can know (room, snapshots, sizes of what is there) it finds out itself when it takes the item.
//! What is known here is refused at once.

use super::jobs::{busy, noted};
use super::policies as actions_of_policies;
use super::{Changed, conflict, groups as actions_of_groups, hosts as actions_of_hosts, missing};
use crate::store::groups::{self, MAX_MEMBERS, Refused};
use crate::store::hosts::{self, Known};
use crate::store::jobs::Job;
use crate::store::reports::{self, Report};
use crate::store::workflows::{self, Place, Plan, Reprotect, Workflow};
use crate::store::{events, items, policies};
use control_api::ApiError;
use control_api::agent::{DiskOrder, ItemOrder, ProtectedDisk, TargetOrder};
use control_api::registration::HostKind;
use control_api::time::Time;
use rusqlite::{Connection, Result};

/// Port at which master targets take change streams, unless they tell another.
const PORT: u16 = 9443;

/// What is to be protected, and how.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Id of the source agent.
    pub(crate) source: String,
    /// Id of the master target.
    pub(crate) target: String,
    /// Name of the item.
    pub(crate) name: String,
    pub(crate) policy: i64,
    pub(crate) group: Option<i64>,
    /// Host and port of the master target, as the source reaches it; where it comes from itself when missing.
    pub(crate) address: Option<String>,
    /// Each disk of the source, by its id.
    pub(crate) disks: Vec<(String, TargetOrder)>,
}

type Checked<T> = Result<std::result::Result<T, ApiError>>;

/// Orders it.
pub(crate) fn order(connection: &Connection, wanted: Wanted, by: &str, now: Time) -> Changed<Job> {
    let plan = match plan(connection, wanted)? {
        Ok(found) => found,
        Err(refused) => return Ok(Err(refused)),
    };
    let ordered = workflows::order(connection, &plan, None, by, now)?;
    Ok(ordered.map(|job| noted(job, "workflow ordered")))
}

fn plan(connection: &Connection, wanted: Wanted) -> Checked<Plan> {
    let (source, told) = match at_hand(connection, &wanted.source, HostKind::SourceAgent)? {
        Ok(found) => found,
        Err(refused) => return Ok(Err(refused)),
    };
    let (target, tells) = match at_hand(connection, &wanted.target, HostKind::MasterTarget)? {
        Ok(found) => found,
        Err(refused) => return Ok(Err(refused)),
    };
    if let Some(refused) = not_free(connection, &source, &told)? {
        return Ok(Err(refused));
    }
    if let Some(refused) = not_taken_by(connection, &target, &wanted)? {
        return Ok(Err(refused));
    }
    let Some(policy) = policies::by_id(connection, wanted.policy)? else {
        return Ok(Err(missing(actions_of_policies::KIND, &wanted.policy.to_string())));
    };
    let policy = policy.values();
    let disks = told.heartbeat.protection.map(|protection| protection.disks).unwrap_or_default();
    let disks = match paired(&source, &disks, wanted.disks) {
        Ok(found) => found,
        Err(refused) => return Ok(Err(refused)),
    };
    let item = ItemOrder { name: wanted.name.clone(), source: source.name.clone(), policy, disks };
    let (id, number, group) = (source.id.clone(), wanted.policy, wanted.group);
    let reprotect = Reprotect {
        workflow: Workflow::Reprotect { item: wanted.name, source: id, policy: number, group },
        item,
        address: wanted.address.unwrap_or_else(|| at(&target.address, &tells)),
        server_name: target.name.clone(),
    };
    Ok(Ok(Plan::reprotect(reprotect, &Place::from(&target), &Place::from(&source))))
}

/// A host of this kind that is connected, and what it told last.
fn at_hand(connection: &Connection, id: &str, kind: HostKind) -> Checked<(Known, Report)> {
    let known = hosts::by_uuid(connection, id)?.filter(|known| known.revoked.is_none());
    let Some(known) = known else { return Ok(Err(missing(actions_of_hosts::KIND, id))) };
    if known.kind != kind {
        let why = format!("it is a {}, and a {kind} is needed", known.kind);
        return Ok(Err(conflict(known.name, NOT_ORDERED, why, "choose another host")));
    }
    match reports::of(connection, known.row)? {
        Some(report) if report.connected => Ok(Ok((known, report))),
        _ => {
            let next = "look at the machine: whether it runs, and reaches this server";
            Ok(Err(conflict(known.name, NOT_ORDERED, "it is not connected", next)))
        }
    }
}

const NOT_ORDERED: &str = "it cannot be reprotected like this";

/// Why a source cannot be replicated: it is already, or was brought to rest.
fn not_free(connection: &Connection, source: &Known, told: &Report) -> Result<Option<ApiError>> {
    let refused = |why: String, next: &str| Ok(Some(conflict(source.name.clone(), NOT_ORDERED, why, next)));
    if let Some(open) = workflows::open_of_source(connection, &source.id)? {
        return Ok(Some(busy(&source.name, &open)));
    }
    let Some(protection) = &told.heartbeat.protection else {
        return refused("it has not told of its disks".into(), "look at it: mt-source status");
    };
    if !protection.item.is_empty() {
        return refused(
            format!("it replicates to {} as {} already", protection.target, protection.item),
            "have it stop that first: commit or release the item, then stop-replicating",
        );
    }
    if protection.quiesced {
        return refused("its disks are at rest".into(), "let it go on first: order unquiesce");
    }
    Ok(None)
}

/// Why a master target does not take an item of this name.
fn not_taken_by(connection: &Connection, target: &Known, wanted: &Wanted) -> Result<Option<ApiError>> {
    let newer = format!("host/{}/version-too-new", target.id);
    if !events::raised_below(connection, &newer)?.is_empty() {
        let why = format!("it is of version {}, newer than this configuration server", target.version);
        let next = "update the configuration server first";
        return Ok(Some(conflict(target.name.clone(), NOT_ORDERED, why, next)));
    }
    let here = items::of_host(connection, target.row)?;
    if here.iter().any(|item| item.name == wanted.name && !item.gone) {
        let why = format!("{} has an item of this name", target.name);
        return Ok(Some(conflict(wanted.name.clone(), NOT_ORDERED, why, "choose another name")));
    }
    let Some(group) = wanted.group else { return Ok(None) };
    if groups::by_id(connection, group)?.is_none() {
        return Ok(Some(missing(actions_of_groups::KIND, &group.to_string())));
    }
    let members = groups::members(connection, group)?;
    let full = (members.len() >= MAX_MEMBERS).then_some(Refused::Full);
    let elsewhere = members.into_iter().find(|member| member.host != target.id);
    let why = elsewhere.map(|member| Refused::OtherHost(member.host_name)).or(full);
    let name = actions_of_groups::name(connection, group)?;
    Ok(why.map(|why| actions_of_groups::refusal(why, group, &name)))
}

/// The disks of a source with where each goes: all of them, each once.
fn paired(
    source: &Known,
    disks: &[ProtectedDisk],
    mut wanted: Vec<(String, TargetOrder)>,
) -> std::result::Result<Vec<DiskOrder>, ApiError> {
    let refused = |why: String| {
        let ids: Vec<&str> = disks.iter().map(|disk| disk.id.as_str()).collect();
        let next = format!("give a target for each of its disks, once: {}", ids.join(", "));
        Err(conflict(source.name.clone(), NOT_ORDERED, why, &next))
    };
    let mut paired = Vec::with_capacity(disks.len());
    for disk in disks {
        let Some(place) = wanted.iter().position(|(id, _)| *id == disk.id) else {
            return refused(format!("its disk {} is left out", disk.id));
        };
        let (id, target) = wanted.swap_remove(place);
        paired.push(DiskOrder { id, size: disk.size, target });
    }
    match wanted.first() {
        Some((id, _)) => refused(format!("it has no disk {id}, or that is given twice")),
        None if paired.is_empty() => refused("it has no disks".into()),
        None => Ok(paired),
    }
}

/// Host and port of a master target that came from this address and told this.
pub(crate) fn at(address: &str, told: &Report) -> String {
    let port = told.heartbeat.data_port.unwrap_or(PORT);
    match address.contains(':') {
        true => format!("[{address}]:{port}"),
        false => format!("{address}:{port}"),
    }
}

#[cfg(test)]
mod tests;
