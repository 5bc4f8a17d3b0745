//! Jobs that consist of steps on several hosts.
//!
//! A workflow is a job, and each of its steps is a job of one host, the child of the workflow. Which steps there are, in
//! which order, and what undoes which of them, is its plan ([`plan`]); it is written down with the order and never
//! changes. All that a workflow has come to is read from its plan and its children, so there is nothing that could say
//! something else.
//!
//! The [`engine`] orders one child after the other, in the transaction that ends the one before; steps that are to be done
//! beside each other, for the items of a [`group`], are ordered together, and the next ones when all of them have ended. So
//! whenever the server is killed, a workflow that has not ended waits for exactly one such stage, and no step is ordered
//! twice. A child that fails or is cancelled has what was done before undone, by children again; what a [`report`] tells of a
//! workflow is put together from those of its children.
//!
//! A host that is silent may be so for good, and a workflow must not wait for that where it need not: what tidies up or
//! undoes is left to a silent host. It is ordered, takes effect when the host is back, and the workflow says so and goes on.

mod engine;
mod group;
mod plan;
mod report;

pub(super) use engine::failed_before;
pub(super) use engine::{cancel, child_ended, tell};
pub(crate) use engine::{
    fell_silent, forget_regular, is_let_go, last_source, moves_group, moves_item, open_at, open_of_group,
    open_of_item, open_of_source, order,
};
pub(crate) use group::{Member, Shared};
pub(crate) use plan::{Place, Plan, Reprotect};

use control_api::agent::JobKind;
use serde::{Deserialize, Serialize};

/// What a job is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Task {
    /// Something that its host does.
    Order(JobKind),
    /// Steps on several hosts; its own host is the master target.
    Workflow(Workflow),
}

/// What is done in several steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "workflow", rename_all = "kebab-case")]
pub(crate) enum Workflow {
    /// The source is brought to rest, and the item fails over to the last bookmark: nothing is lost.
    PlannedFailover {
        item: String,
        /// The bookmark at the end of the change stream.
        bookmark: String,
    },
    /// The item follows its source again, which is let go on.
    CancelFailover { item: String },
    /// The way back is given up, and the source stops replicating.
    Commit { item: String },
    /// A master target takes a machine's disks as an item, and the machine replicates to it.
    Reprotect {
        item: String,
        /// Id of the source agent.
        source: String,
        /// Number of the policy that the item gets.
        policy: i64,
        /// Number of its group.
        group: Option<i64>,
    },
    /// The source agents of a group set a bookmark at one moment.
    GroupBookmark {
        /// Number of the group.
        group: i64,
        group_name: String,
        /// What the name of the bookmark begins with.
        bookmark: String,
        /// Nobody ordered it: it is set from time to time.
        regular: bool,
    },
    /// All items of a group fail over to a bookmark that they share.
    GroupFailover { group: i64, group_name: String, bookmark: String },
    /// All sources of a group are brought to rest, and the items fail over to the bookmarks at the ends: nothing is lost.
    GroupPlannedFailover { group: i64, group_name: String, bookmark: String },
    /// The items of a group that are failed over follow their sources again, which are let go on.
    GroupCancelFailover { group: i64, group_name: String },
    /// The way back of all items of a group is given up, and their sources stop replicating.
    GroupCommit { group: i64, group_name: String },
}

impl Task {
    /// Whether nobody ordered it: then it is told only where something changes.
    pub(super) fn is_regular(&self) -> bool {
        matches!(self, Task::Workflow(Workflow::GroupBookmark { regular: true, .. }))
    }

    /// What people call it.
    pub(crate) fn title(&self) -> String {
        match self {
            Task::Order(job) => job.title(),
            Task::Workflow(Workflow::PlannedFailover { item, .. }) => format!("planned failover of {item}"),
            Task::Workflow(Workflow::CancelFailover { item }) => format!("cancel the failover of {item}"),
            Task::Workflow(Workflow::Commit { item }) => format!("commit the failover of {item}"),
            Task::Workflow(Workflow::Reprotect { item, .. }) => format!("reprotect {item}"),
            Task::Workflow(Workflow::GroupBookmark { group_name, bookmark, .. }) => {
                format!("bookmark {bookmark} of group {group_name}")
            }
            Task::Workflow(Workflow::GroupFailover { group_name, bookmark, .. }) => {
                format!("fail over group {group_name} to bookmark:{bookmark}")
            }
            Task::Workflow(Workflow::GroupPlannedFailover { group_name, .. }) => {
                format!("planned failover of group {group_name}")
            }
            Task::Workflow(Workflow::GroupCancelFailover { group_name, .. }) => {
                format!("cancel the failover of group {group_name}")
            }
            Task::Workflow(Workflow::GroupCommit { group_name, .. }) => {
                format!("commit the failover of group {group_name}")
            }
        }
    }

    /// The one item of a master target that it is about.
    pub(crate) fn item(&self) -> Option<&str> {
        match self {
            Task::Order(job) => job.item(),
            Task::Workflow(
                Workflow::PlannedFailover { item, .. }
                | Workflow::CancelFailover { item }
                | Workflow::Commit { item }
                | Workflow::Reprotect { item, .. },
            ) => Some(item),
            Task::Workflow(
                Workflow::GroupBookmark { .. }
                | Workflow::GroupFailover { .. }
                | Workflow::GroupPlannedFailover { .. }
                | Workflow::GroupCancelFailover { .. }
                | Workflow::GroupCommit { .. },
            ) => None,
        }
    }

    /// What its host does, unless it is a workflow.
    pub(crate) fn order(&self) -> Option<&JobKind> {
        match self {
            Task::Order(job) => Some(job),
            Task::Workflow(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
