//! What the master target tells about itself and its items.

use crate::agent::ItemPolicy;
use crate::local::Progress;
use crate::point::Point;
use crate::severity::Severity;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The whole master target at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// When it started.
    pub started: Time,
    /// The moment all of this was true.
    pub now: Time,
    /// Address that sources connect to.
    pub listen: String,
    /// The conversation with the configuration server; `None` while this machine is not registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<LinkStatus>,
    /// The retention volume.
    pub retention: RetentionStatus,
    /// Each replicated item, in the order of the configuration.
    pub items: Vec<ItemStatus>,
}

/// How the conversation of a registered machine with its configuration server goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// Address and port of the configuration server.
    pub server: String,
    /// Name of this machine there.
    pub name: String,
    /// Since when heartbeats are answered; `None` while they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected_since: Option<Time>,
    /// When the last heartbeat was answered, since the daemon started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_heartbeat: Option<Time>,
    /// What is wrong, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem_since: Option<Time>,
    /// Seconds that the configuration server's clock was ahead of this machine's, less than 0 when it was behind.
    #[serde(default)]
    pub clock_ahead_seconds: i64,
}

/// The volume that holds the journals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetentionStatus {
    /// Where it is mounted.
    pub folder: String,
    /// Whether it can be used.
    pub state: RetentionState,
    /// Why it cannot, and what to do or to wait for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// UUID of its file system; `None` in a trial folder and while it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_system: Option<String>,
    /// Size of the volume in bytes; `None` when it cannot be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_bytes: Option<u64>,
    /// Bytes that can still be written to it; `None` when it cannot be asked.
    pub available_bytes: Option<u64>,
    /// Bytes that the journals of all items grow by in a second, over the last minutes.
    pub journal_bytes_per_second: u64,
    /// Seconds until it is full at this rate, if pruning did not hold it; `None` while nothing is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_in_seconds: Option<u64>,
    /// Bytes that a volume needs for the windows of all policies at this rate: sizing help for the next disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed_bytes: Option<u64>,
    /// Bytes that it needs at this rate for windows of 24 hours, whatever the policies say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed_for_24_h_bytes: Option<u64>,
    /// What needs attention.
    pub alerts: Vec<Alert>,
}

/// Whether the retention volume can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RetentionState {
    /// Mounted, writable, and the prepared one.
    Ready,
    /// The same, a plain folder that the configuration allows for trials.
    Trial,
    /// Nothing is mounted at the folder.
    NotMounted,
    /// What is mounted there was never prepared, or is another volume than before.
    NotOurs,
    /// It was made read-only.
    ReadOnly,
    /// Its disk went away, or the kernel stopped the file system after an error.
    Lost,
}

impl fmt::Display for RetentionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            RetentionState::Ready => "ready",
            RetentionState::Trial => "trial folder",
            RetentionState::NotMounted => "not mounted",
            RetentionState::NotOurs => "not ours",
            RetentionState::ReadOnly => "read-only",
            RetentionState::Lost => "lost",
        })
    }
}

/// Where a replicated item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ItemState {
    /// Its disks and journal are being opened and recovered.
    Starting,
    /// Its source has never been level with it.
    InitialSyncRequired,
    /// The first copy is under way.
    InitialSync,
    /// It no longer follows its source.
    ResyncRequired,
    /// It is being brought level by hashes.
    Resync,
    /// It follows its source.
    Protected,
    /// A recovery point is being written to its disks.
    FailingOver,
    /// Its disks hold a recovery point and change no more.
    FailedOver,
    /// It was failed over for good.
    Committed,
    /// An error stopped it; its disks and journal are closed.
    Fenced,
}

impl ItemState {
    /// All of them, in the order of an item's life.
    pub const ALL: [ItemState; 10] = [
        ItemState::Starting,
        ItemState::InitialSyncRequired,
        ItemState::InitialSync,
        ItemState::ResyncRequired,
        ItemState::Resync,
        ItemState::Protected,
        ItemState::FailingOver,
        ItemState::FailedOver,
        ItemState::Committed,
        ItemState::Fenced,
    ];

    /// As it stands in JSON.
    pub fn id(self) -> &'static str {
        match self {
            ItemState::Starting => "starting",
            ItemState::InitialSyncRequired => "initial-sync-required",
            ItemState::InitialSync => "initial-sync",
            ItemState::ResyncRequired => "resync-required",
            ItemState::Resync => "resync",
            ItemState::Protected => "protected",
            ItemState::FailingOver => "failing-over",
            ItemState::FailedOver => "failed-over",
            ItemState::Committed => "committed",
            ItemState::Fenced => "fenced",
        }
    }

    /// The state that [`ItemState::id`] calls so.
    pub fn parse(text: &str) -> Option<ItemState> {
        ItemState::ALL.into_iter().find(|state| state.id() == text)
    }

    /// How bad it is to be in this state, whatever else an item tells.
    pub fn severity(self) -> Severity {
        match self {
            ItemState::Fenced | ItemState::ResyncRequired => Severity::Critical,
            ItemState::InitialSyncRequired => Severity::Warning,
            ItemState::Starting
            | ItemState::InitialSync
            | ItemState::Resync
            | ItemState::Protected
            | ItemState::FailingOver
            | ItemState::FailedOver
            | ItemState::Committed => Severity::Info,
        }
    }
}

impl fmt::Display for ItemState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ItemState::Starting => "starting",
            ItemState::InitialSyncRequired => "initial sync required",
            ItemState::InitialSync => "initial sync",
            ItemState::ResyncRequired => "resync required",
            ItemState::Resync => "resync",
            ItemState::Protected => "protected",
            ItemState::FailingOver => "failing over",
            ItemState::FailedOver => "failed over",
            ItemState::Committed => "committed",
            ItemState::Fenced => "fenced",
        })
    }
}

/// One replicated item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ItemStatus {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: ItemState,
    /// Why it stands there, where that needs saying, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Address of the connected source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// How far the work under way has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Seconds that it will take from now on, at the pace of the last few.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
    /// Source time of the newest durable recovery point, moved on by heartbeats while the source is idle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protected_until: Option<Time>,
    /// The newest recovery point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest_point: Option<Point>,
    /// The oldest recovery point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_point: Option<Point>,
    /// Number of the recovery point that its disks hold, once it is failed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds_point: Option<u64>,
    /// The policy in effect; `None` when it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<ItemPolicy>,
    /// Whether it was taken while the daemon ran. Any other stands in `mtd.toml`, with its policy.
    #[serde(default)]
    pub taken: bool,
    /// Bytes of the journal.
    pub journal_bytes: u64,
    /// Bytes that it grows by in a second, over the last minutes.
    pub journal_bytes_per_second: u64,
    /// Bytes that it keeps when the retention volume is short of room.
    pub min_journal_bytes: u64,
    /// Bytes that it takes at most; `None` for what the volume has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_journal_bytes: Option<u64>,
    /// How far back recovery points are to reach, in nanoseconds.
    pub window_wanted: u64,
    /// How far back they will reach at the present rate of change, in nanoseconds, at most as far as wanted; `None`
    /// while nothing is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_projected: Option<u64>,
    /// Bytes received from the source since the daemon started.
    pub received_bytes: u64,
    /// Bytes received a second, over the last few seconds.
    pub bytes_per_second: u64,
    /// Its disks.
    pub disks: Vec<DiskStatus>,
    /// What needs attention.
    pub alerts: Vec<Alert>,
    /// What the last opening of its disks and journal found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartReport>,
}

impl ItemStatus {
    /// An item of this name in this state, of which nothing else is known.
    pub fn new(name: &str, state: ItemState) -> ItemStatus {
        ItemStatus {
            name: name.to_owned(),
            state,
            detail: None,
            peer: None,
            progress: None,
            seconds_left: None,
            protected_until: None,
            newest_point: None,
            oldest_point: None,
            holds_point: None,
            policy: None,
            taken: false,
            journal_bytes: 0,
            journal_bytes_per_second: 0,
            min_journal_bytes: 0,
            max_journal_bytes: None,
            window_wanted: 0,
            window_projected: None,
            received_bytes: 0,
            bytes_per_second: 0,
            disks: Vec::new(),
            alerts: Vec::new(),
            start: None,
        }
    }

    /// Age of the newest durable recovery point, in nanoseconds.
    pub fn rpo(&self, now: Time) -> Option<u64> {
        self.protected_until.map(|time| now.saturating_sub(time))
    }

    /// How far back recovery points reach, in nanoseconds.
    pub fn window(&self, now: Time) -> Option<u64> {
        self.oldest_point.as_ref().map(|point| now.saturating_sub(point.source_time))
    }
}

/// One disk of an item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskStatus {
    /// Its id in the change stream.
    pub id: String,
    /// The VMDK or device that holds the replica.
    pub target: String,
    /// Size in bytes.
    pub size: u64,
}

/// What an alert is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AlertKind {
    /// The newest durable recovery point is older than the threshold.
    RpoExceeded,
    /// Space ran short, so recovery points inside the window were given up.
    WindowShrunk,
    /// The retention volume is nearly full.
    RetentionFilling,
    /// The retention volume cannot be used.
    RetentionLost,
    /// The newest application-consistent recovery point is older than the policy wants.
    ApplicationConsistentOverdue,
    /// An error stopped the item.
    Fenced,
    /// The item no longer follows its source.
    ResyncRequired,
    /// A test failover has been running for long.
    TestFailoverLeft,
    /// What waits at the source takes more than half an hour to be sent.
    BacklogSlow,
    /// It takes more than three quarters of an hour, or is not sent at all.
    BacklogStuck,
}

impl AlertKind {
    /// All of them.
    pub const ALL: [AlertKind; 10] = [
        AlertKind::RpoExceeded,
        AlertKind::WindowShrunk,
        AlertKind::RetentionFilling,
        AlertKind::RetentionLost,
        AlertKind::ApplicationConsistentOverdue,
        AlertKind::Fenced,
        AlertKind::ResyncRequired,
        AlertKind::TestFailoverLeft,
        AlertKind::BacklogSlow,
        AlertKind::BacklogStuck,
    ];

    /// How bad it is: critical means that recovery points are being lost, or no new ones are made.
    pub fn severity(self) -> Severity {
        match self {
            AlertKind::RetentionLost
            | AlertKind::Fenced
            | AlertKind::ResyncRequired
            | AlertKind::BacklogStuck => Severity::Critical,
            AlertKind::RpoExceeded
            | AlertKind::WindowShrunk
            | AlertKind::RetentionFilling
            | AlertKind::ApplicationConsistentOverdue
            | AlertKind::TestFailoverLeft
            | AlertKind::BacklogSlow => Severity::Warning,
        }
    }

    /// As it stands in JSON.
    pub fn id(self) -> &'static str {
        match self {
            AlertKind::RpoExceeded => "rpo-exceeded",
            AlertKind::WindowShrunk => "window-shrunk",
            AlertKind::RetentionFilling => "retention-filling",
            AlertKind::RetentionLost => "retention-lost",
            AlertKind::ApplicationConsistentOverdue => "application-consistent-overdue",
            AlertKind::Fenced => "fenced",
            AlertKind::ResyncRequired => "resync-required",
            AlertKind::TestFailoverLeft => "test-failover-left",
            AlertKind::BacklogSlow => "backlog-slow",
            AlertKind::BacklogStuck => "backlog-stuck",
        }
    }
}

/// Something that needs attention.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// What it is about.
    pub kind: AlertKind,
    /// Since when.
    pub since: Time,
    /// What happened and what to do.
    pub message: String,
}

/// What opening an item's disks and journal found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartReport {
    /// When it was opened.
    pub time: Time,
    /// True when it had not been closed cleanly.
    pub recovered: bool,
    /// In words.
    pub summary: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_kinds_of_alerts_are_called_as_in_json() {
        for state in ItemState::ALL {
            assert_eq!(ItemState::parse(state.id()), Some(state));
            assert_eq!(serde_json::to_string(&state).unwrap(), format!("\"{}\"", state.id()));
        }
        for kind in AlertKind::ALL {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{}\"", kind.id()));
        }
    }
}
