//! The table of workflows: their steps, and what undoes them.

use super::Workflow;
use crate::store::hosts::Known;
use control_api::PointSelector;
use control_api::agent::{ItemOrder, JobKind};
use serde::{Deserialize, Serialize};

/// A workflow with its steps, as it is ordered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) workflow: Workflow,
    /// Row of the host that it is listed with: the master target.
    pub(crate) host: i64,
    pub(crate) steps: Vec<Step>,
}

/// A step. Those that undo stand at the end, in the order in which they are taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(super) place: Place,
    pub(super) job: JobKind,
    pub(super) role: Role,
    /// It is ordered together with the step before it.
    #[serde(default)]
    pub(super) beside: bool,
    /// Number of the item that it is about, where that is not the item of the workflow.
    #[serde(default)]
    pub(super) item: Option<i64>,
}

/// Where a step is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// Row of the host.
    pub(crate) host: i64,
    pub(crate) name: String,
}

impl From<&Known> for Place {
    fn from(known: &Known) -> Place {
        Place { host: known.row, name: known.name.clone() }
    }
}

/// What a step is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Role {
    /// When it fails, what was done before is undone.
    Needed,
    /// It follows once the step of this number is done, whatever becomes of the steps beside that one. It may be left to a
    /// silent host; when it fails, the workflow fails, unless it is a courtesy.
    Following { step: usize, courtesy: bool },
    /// It undoes the step of this number, when the workflow fails or is cancelled.
    Undo { step: usize, when: When },
}

impl Role {
    /// Whether it comes after what is needed, and has to succeed.
    pub(super) fn comes_after(self) -> bool {
        matches!(self, Role::Following { courtesy: false, .. })
    }
}

/// What has to have become of a step for it to be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum When {
    /// It is done.
    Done,
    /// It is done, or may yet be done by a host that is silent.
    DoneOrLeft,
    /// It was ordered, since part of it stays when it fails.
    Ordered,
}

pub(super) fn step(place: &Place, job: JobKind, role: Role) -> Step {
    Step { place: place.clone(), job, role, beside: false, item: None }
}

impl Plan {
    /// Brings a source to rest, and fails its item over to the last bookmark.
    pub(crate) fn planned_failover(item: &str, target: &Place, source: &Place, bookmark: &str) -> Plan {
        let point = PointSelector::Bookmark(bookmark.to_owned());
        let (item, bookmark) = (item.to_owned(), bookmark.to_owned());
        let undo = Role::Undo { step: 0, when: When::DoneOrLeft };
        let steps = vec![
            step(source, JobKind::Quiesce { bookmark: bookmark.clone() }, Role::Needed),
            step(target, JobKind::Failover { item: item.clone(), point }, Role::Needed),
            step(source, JobKind::Unquiesce, undo),
        ];
        Plan { workflow: Workflow::PlannedFailover { item, bookmark }, host: target.host, steps }
    }

    /// Takes a failover back; a source that is at rest is let go on then.
    pub(crate) fn cancel_failover(item: &str, target: &Place, at_rest: Option<&Place>) -> Plan {
        let item = item.to_owned();
        let back = step(target, JobKind::CancelFailover { item: item.clone() }, Role::Needed);
        let free = at_rest
            .map(|source| step(source, JobKind::Unquiesce, Role::Following { step: 0, courtesy: false }));
        let steps = [back].into_iter().chain(free).collect();
        Plan { workflow: Workflow::CancelFailover { item }, host: target.host, steps }
    }

    /// Commits a failover; its source, where there is one, is told to stop replicating. The source machine is shut down
    /// by then, as a rule, so nothing hangs on that.
    pub(crate) fn commit(item: &str, target: &Place, source: Option<&Place>) -> Plan {
        let item = item.to_owned();
        let commit = step(target, JobKind::Commit { item: item.clone() }, Role::Needed);
        let stop = source.map(|source| {
            step(source, JobKind::StopReplicating, Role::Following { step: 0, courtesy: true })
        });
        let steps = [commit].into_iter().chain(stop).collect();
        Plan { workflow: Workflow::Commit { item }, host: target.host, steps }
    }

    /// Has a master target take an item, and its source replicate to it. A source that was not accepted in time would go on
    /// trying, so it is told to stop.
    pub(crate) fn reprotect(wanted: Reprotect, target: &Place, source: &Place) -> Plan {
        let Reprotect { workflow, item, address, server_name } = wanted;
        let name = item.name.clone();
        let server_name = Some(server_name);
        let replicate = JobKind::Replicate { item: name.clone(), target: address, server_name };
        let steps = vec![
            step(target, JobKind::Protect { item }, Role::Needed),
            step(source, replicate, Role::Needed),
            step(source, JobKind::StopReplicating, Role::Undo { step: 1, when: When::Ordered }),
            step(target, JobKind::Release { item: name }, Role::Undo { step: 0, when: When::Done }),
        ];
        Plan { workflow, host: target.host, steps }
    }
}

/// What is to be reprotected, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reprotect {
    pub(crate) workflow: Workflow,
    pub(crate) item: ItemOrder,
    /// Host and port of the master target, for the source.
    pub(crate) address: String,
    /// Name in the certificate of the master target.
    pub(crate) server_name: String,
}
