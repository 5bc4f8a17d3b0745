//! Jobs: orders of the configuration server to a host.

use super::item_order::ItemOrder;
use crate::local::{Failure, Progress};
use crate::point::PointSelector;
use crate::registration::{Host, HostKind};
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a host is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum JobKind {
    /// A master target looks whether it is ready, as `mtctl check` does.
    Check,
    /// A source agent sets a bookmark.
    Bookmark {
        /// Its name.
        name: String,
        /// Bring the applications to rest by the agent's hooks.
        application_consistent: bool,
    },
    /// A source agent sets a bookmark that the items of a group share: at one moment with the other members of the meeting.
    GroupBookmark {
        /// What its name begins with; the round of the meeting in which it is set follows.
        name: String,
        /// Name of the group.
        group: String,
        /// Id of the meeting.
        meeting: String,
        /// Bring the applications to rest by the agent's hooks.
        application_consistent: bool,
    },
    /// A master target has the source of an item compare all disks with the replica.
    Resync {
        /// The item.
        item: String,
    },
    /// A master target opens a fenced item again.
    Resume {
        /// The item.
        item: String,
    },
    /// A master target serves a writable view of a recovery point.
    TestFailoverStart {
        /// The item.
        item: String,
        /// The point.
        point: PointSelector,
    },
    /// It ends that.
    TestFailoverStop {
        /// The item.
        item: String,
        /// Number of the test failover.
        id: u64,
    },
    /// A master target writes a recovery point to the disks of an item and stops its replication. Of an item that is
    /// failed over: to another point.
    Failover {
        /// The item.
        item: String,
        /// The point.
        point: PointSelector,
    },
    /// It goes back from a failover that was not committed.
    CancelFailover {
        /// The item.
        item: String,
    },
    /// It gives up the way back from a failover, and releases the disks.
    Commit {
        /// The item.
        item: String,
    },
    /// A master target takes an item.
    Protect {
        /// The item.
        item: ItemOrder,
    },
    /// It lets go of an item: its disks stay as they are, its recovery points go.
    Release {
        /// The item.
        item: String,
    },
    /// A source agent replicates its disks to a master target from now on; to another one than before, or as another
    /// item, all that was replicated is compared anew.
    Replicate {
        /// What the master target calls them.
        item: String,
        /// Host and port of the master target.
        target: String,
        /// Name that the master target's certificate is for; the host of `target` when missing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        server_name: Option<String>,
    },
    /// A source agent forgets where it replicated to, and goes on serving its disks.
    StopReplicating,
    /// A source agent brings its disks to rest for a planned failover: nothing is written any more, and the master target
    /// has everything, with this bookmark at its end.
    Quiesce {
        /// Name of the bookmark.
        bookmark: String,
    },
    /// A source agent lets its disks be written to again.
    Unquiesce,
}

impl JobKind {
    /// Which kind of host does it.
    pub fn done_by(&self) -> HostKind {
        match self {
            JobKind::Bookmark { .. }
            | JobKind::GroupBookmark { .. }
            | JobKind::Replicate { .. }
            | JobKind::StopReplicating
            | JobKind::Quiesce { .. }
            | JobKind::Unquiesce => HostKind::SourceAgent,
            _ => HostKind::MasterTarget,
        }
    }

    /// The names in it, of which none may be empty or have control characters.
    pub fn names(&self) -> Vec<&str> {
        match self {
            JobKind::Bookmark { name, .. }
            | JobKind::GroupBookmark { name, .. }
            | JobKind::Quiesce { bookmark: name } => vec![name],
            JobKind::Replicate { item, target, server_name } => {
                [item, target].into_iter().chain(server_name).map(String::as_str).collect()
            }
            other => other.item().into_iter().collect(),
        }
    }

    /// What people call it.
    pub fn title(&self) -> String {
        match self {
            JobKind::Check => "check the machine".to_owned(),
            JobKind::Bookmark { name, application_consistent: false } => format!("bookmark {name}"),
            JobKind::Bookmark { name, application_consistent: true } => {
                format!("application-consistent bookmark {name}")
            }
            JobKind::GroupBookmark { name, group, application_consistent: false, .. } => {
                format!("bookmark {name} of group {group}")
            }
            JobKind::GroupBookmark { name, group, application_consistent: true, .. } => {
                format!("application-consistent bookmark {name} of group {group}")
            }
            JobKind::Resync { item } => format!("resync {item}"),
            JobKind::Resume { item } => format!("resume {item}"),
            JobKind::TestFailoverStart { item, point } => {
                format!("test failover of {item} to {}", in_words(point))
            }
            JobKind::TestFailoverStop { item, id } => format!("end test failover {id} of {item}"),
            JobKind::Failover { item, point } => format!("fail over {item} to {}", in_words(point)),
            JobKind::CancelFailover { item } => format!("cancel the failover of {item}"),
            JobKind::Commit { item } => format!("commit the failover of {item}"),
            JobKind::Protect { item } => format!("protect {}", item.name),
            JobKind::Release { item } => format!("release {item}"),
            JobKind::Replicate { item, target, .. } => format!("replicate to {target} as {item}"),
            JobKind::StopReplicating => "stop replicating".to_owned(),
            JobKind::Quiesce { bookmark } => format!("quiesce with bookmark {bookmark}"),
            JobKind::Unquiesce => "unquiesce".to_owned(),
        }
    }

    /// The item of a master target that it is about.
    pub fn item(&self) -> Option<&str> {
        match self {
            JobKind::Check
            | JobKind::Bookmark { .. }
            | JobKind::GroupBookmark { .. }
            | JobKind::Replicate { .. }
            | JobKind::StopReplicating
            | JobKind::Quiesce { .. }
            | JobKind::Unquiesce => None,
            JobKind::Resync { item }
            | JobKind::Resume { item }
            | JobKind::TestFailoverStart { item, .. }
            | JobKind::TestFailoverStop { item, .. }
            | JobKind::Failover { item, .. }
            | JobKind::CancelFailover { item }
            | JobKind::Commit { item }
            | JobKind::Release { item } => Some(item),
            JobKind::Protect { item } => Some(&item.name),
        }
    }

    /// The recovery point that it names.
    pub fn point(&self) -> Option<&PointSelector> {
        match self {
            JobKind::TestFailoverStart { point, .. } | JobKind::Failover { point, .. } => Some(point),
            _ => None,
        }
    }
}

/// A recovery point in a title: a bare number would say nothing.
fn in_words(point: &PointSelector) -> String {
    match point {
        PointSelector::Number(number) => format!("recovery point {number}"),
        other => other.to_string(),
    }
}

/// Whether a text is a host (a name, an IPv4 address, an IPv6 address in brackets) and a port, at most 255 bytes.
pub fn is_target(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let (host, more): (&str, &[u8]) = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) if !address.contains(|c: char| c.is_ascii_alphabetic() && !c.is_ascii_hexdigit()) => {
            (address, b":.")
        }
        _ => (host, b".-_"),
    };
    let good =
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte));
    let canonical = port.bytes().all(|byte| byte.is_ascii_digit()) && !port.starts_with('0');
    good && text.len() <= 255 && canonical && port.parse::<u16>().is_ok()
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum JobState {
    /// The host has not taken it yet.
    Queued,
    /// The host is at it.
    Running,
    /// It is done.
    Succeeded,
    /// It could not be done.
    Failed,
    /// It was given up before it had done anything, or where giving up is safe.
    Cancelled,
}

impl JobState {
    /// Whether nothing more will become of it.
    pub fn has_ended(self) -> bool {
        matches!(self, JobState::Succeeded | JobState::Failed | JobState::Cancelled)
    }

    /// As it stands in JSON.
    pub fn id(self) -> &'static str {
        match self {
            JobState::Queued => "queued",
            JobState::Running => "running",
            JobState::Succeeded => "succeeded",
            JobState::Failed => "failed",
            JobState::Cancelled => "cancelled",
        }
    }

    /// The state that [`JobState::id`] calls so.
    pub fn parse(text: &str) -> Option<JobState> {
        use JobState::{Cancelled, Failed, Queued, Running, Succeeded};
        [Queued, Running, Succeeded, Failed, Cancelled].into_iter().find(|state| state.id() == text)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.id())
    }
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobOrder {
    /// Id of the job: 32 hexadecimal digits.
    pub id: String,
    /// What is to be done.
    pub job: JobKind,
    /// When it was ordered.
    pub ordered: Time,
}

/// Asks for jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobsRequest {
    /// Who asks.
    pub host: Host,
    /// Ids of the jobs that it is at.
    pub running: Vec<String>,
    /// Seconds that the answer may wait for something to tell, at most 30.
    pub wait_seconds: u64,
}

/// What there is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobsReply {
    /// Jobs that no report has come for, the oldest first.
    pub orders: Vec<JobOrder>,
    /// Running jobs that are to be given up where that is safe.
    pub cancel: Vec<String>,
}

/// A step of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStep {
    /// What it does.
    pub name: String,
    /// Where it stands.
    pub state: StepState,
    /// What came of it, where that needs saying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Time>,
}

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum StepState {
    /// Its turn has not come.
    Waiting,
    /// It goes on.
    Running,
    /// It is done.
    Done,
    /// It could not be done.
    Failed,
}

/// What becomes of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobReport {
    /// Id of the job.
    pub id: String,
    /// Where it stands.
    pub state: JobState,
    /// When the host began.
    pub started: Time,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Time>,
    /// Its steps, at most [`JobReport::MAX_STEPS`].
    pub steps: Vec<JobStep>,
    /// How far the running step has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Seconds that it will take from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
    /// Whether it can still be given up.
    pub can_cancel: bool,
    /// What came of it, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

impl JobReport {
    /// Steps that a report may have.
    pub const MAX_STEPS: usize = 100;
}

/// Tells what becomes of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportRequest {
    /// Who tells it.
    pub host: Host,
    /// What it tells.
    pub report: JobReport,
}

/// The report is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportReply {
    /// True when the job is to be given up where that is safe.
    pub cancel: bool,
}
