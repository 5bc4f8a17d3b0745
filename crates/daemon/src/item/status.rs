//! How an item stands, as the rest of the daemon and people see it.

use crate::config;
use crate::retention::ItemReport;
use change_stream::SyncMode;
use control_api::time::{self, Time};
use control_api::{Alert, DiskStatus, ItemState, ItemStatus, Point, Progress, StartReport, Work};
use disk::Class;
use journal::BatchSummary;
use replication_receiver::{Stage, Storage};
use std::sync::Arc;

/// What the actor publishes.
#[derive(Clone)]
pub(crate) struct Snapshot {
    pub(crate) condition: Condition,
    /// Disks and journal, while they are open.
    pub(crate) storage: Option<Arc<Storage>>,
    pub(crate) start: Option<StartReport>,
    pub(crate) alerts: Vec<Alert>,
    pub(crate) bytes_per_second: u64,
    pub(crate) seconds_left: Option<u64>,
}

/// Where an item stands in its life within the daemon.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    /// Disks and journal are being opened and recovered.
    Starting { since: Time },
    /// The engine runs.
    Open(Box<replication_receiver::ItemStatus>),
    /// An error closed it.
    Closed(Closed),
    /// A failover was committed.
    Committed { point: u64, time: Time },
    /// It was shut down.
    Stopped,
}

/// Why an item is closed, and what happens next.
#[derive(Clone, Debug)]
pub(crate) struct Closed {
    pub(crate) why: String,
    pub(crate) class: Class,
    pub(crate) again: Again,
}

/// When a closed item is opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// By itself, at this time.
    At(Time),
    /// By itself, as soon as the retention volume can be used.
    WithVolume,
    /// When it is ordered.
    ByOrder,
}

impl Closed {
    /// What to do about it.
    pub(crate) fn next(&self, item: &str) -> String {
        match self.again {
            Again::At(time) => {
                let time = time::format(time);
                return format!("it is opened again at {time}, or at once by mtctl resume {item}");
            }
            Again::WithVolume => return "it goes on by itself as soon as the volume can be used".to_owned(),
            Again::ByOrder => {}
        }
        match self.class {
            Class::Full => format!("make room on the volume of its disks, then mtctl resume {item}"),
            Class::Corrupt => format!(
                "check the volume, then mtctl resume {item}; mtctl resync {item} makes a new journal where the old \
                 one is damaged, without its recovery points"
            ),
            _ => format!("put it right, then mtctl resume {item}"),
        }
    }
}

impl Condition {
    /// Why there is no storage, and what to do.
    pub(crate) fn closed_because(&self, item: &str) -> (String, String) {
        match self {
            Condition::Starting { .. } => ("they are being opened".into(), "ask again in a moment".into()),
            Condition::Closed(closed) => (closed.why.clone(), closed.next(item)),
            Condition::Committed { .. } => (
                "its failover was committed".into(),
                format!("mtctl resync {item} starts to replicate onto its disks again"),
            ),
            Condition::Open(_) | Condition::Stopped => {
                ("the daemon is shutting down".into(), "ask again when it has started".into())
            }
        }
    }

    fn state(&self) -> ItemState {
        match self {
            Condition::Starting { .. } => ItemState::Starting,
            Condition::Closed(_) | Condition::Stopped => ItemState::Fenced,
            Condition::Committed { .. } => ItemState::Committed,
            Condition::Open(status) => match &status.stage {
                Stage::NeedsInitialSync => ItemState::InitialSyncRequired,
                Stage::NeedsResync { .. } => ItemState::ResyncRequired,
                Stage::Syncing { mode: SyncMode::Initial } => ItemState::InitialSync,
                Stage::Syncing { mode: SyncMode::Resync } => ItemState::Resync,
                Stage::Protected => ItemState::Protected,
                Stage::FailingOver { .. } => ItemState::FailingOver,
                Stage::FailedOver { .. } => ItemState::FailedOver,
                Stage::Committed => ItemState::Committed,
                Stage::Fenced { .. } | Stage::Stopped => ItemState::Fenced,
            },
        }
    }

    fn detail(&self, item: &str) -> Option<String> {
        match self {
            Condition::Starting { since } => Some(format!(
                "disks and journal are being opened and recovered since {}",
                time::format(*since)
            )),
            Condition::Closed(closed) => Some(format!("{}; {}", closed.why, closed.next(item))),
            Condition::Committed { point, time } => Some(format!(
                "recovery point {point} was committed at {}; its disks are released",
                time::format(*time)
            )),
            Condition::Stopped => Some("the daemon is shutting down".into()),
            Condition::Open(status) => match &status.stage {
                Stage::NeedsResync { reason } => {
                    Some(format!("{reason}; it begins when the source connects"))
                }
                Stage::FailedOver { point } => Some(format!(
                    "its disks hold recovery point {}; mtctl commit {item} releases them, mtctl cancel-failover \
                     {item} goes back",
                    point.0
                )),
                Stage::Fenced { why, .. } => Some(why.clone()),
                _ if status.lacks_room => {
                    Some("the retention volume is full and nothing can be given up; make room on it".into())
                }
                _ => None,
            },
        }
    }

    fn progress(&self) -> Option<Progress> {
        let Condition::Open(status) = self else { return None };
        let work = match &status.stage {
            Stage::Syncing { mode: SyncMode::Initial } => Work::InitialSync,
            Stage::Syncing { mode: SyncMode::Resync } => Work::Resync,
            Stage::FailingOver { .. } => Work::Failover,
            _ => return None,
        };
        status.progress.map(|progress| Progress { work, done: progress.done, total: Some(progress.total) })
    }
}

impl Snapshot {
    pub(super) fn starting(now: Time) -> Snapshot {
        Snapshot {
            condition: Condition::Starting { since: now },
            storage: None,
            start: None,
            alerts: Vec::new(),
            bytes_per_second: 0,
            seconds_left: None,
        }
    }

    /// Where the item stands.
    pub(crate) fn state(&self) -> ItemState {
        self.condition.state()
    }

    /// Progress of the work under way.
    pub(crate) fn progress(&self) -> Option<Progress> {
        self.condition.progress()
    }

    /// Where the engine stands, while it runs.
    pub(crate) fn stage(&self) -> Option<&Stage> {
        match &self.condition {
            Condition::Open(status) => Some(&status.stage),
            _ => None,
        }
    }

    /// The item as the local API shows it. This asks the journal, so it runs on a thread that may block.
    pub(crate) fn describe(&self, config: &config::Item, report: Option<ItemReport>) -> ItemStatus {
        let engine = match &self.condition {
            Condition::Open(status) => Some(status),
            _ => None,
        };
        let journal = self.storage.as_ref().map(|storage| storage.journal());
        let size = |n: usize| self.storage.as_ref().map_or(0, |storage| storage.identity().disks[n].size.0);
        let disks = config.disks.iter().enumerate().map(|(n, disk)| DiskStatus {
            id: disk.id.clone(),
            target: disk.target.display().to_string(),
            size: size(n),
        });
        // Of the same moment as the room on the volume, as soon as that is known.
        let bytes = match &report {
            Some(report) => report.bytes,
            None => journal.map_or(0, |journal| journal.usage().bytes),
        };
        let report = report.unwrap_or_default();
        ItemStatus {
            name: config.name.clone(),
            state: self.condition.state(),
            detail: self.condition.detail(&config.name),
            peer: engine.and_then(|status| status.session.as_ref()).map(|session| session.peer.clone()),
            progress: self.condition.progress(),
            seconds_left: self.seconds_left,
            protected_until: engine.and_then(|status| status.protected_until),
            newest_point: journal.and_then(|journal| newest_point(journal)),
            oldest_point: journal.and_then(|journal| journal.oldest_point().ok().flatten()).map(point),
            holds_point: match self.stage() {
                Some(Stage::FailedOver { point }) => Some(point.0),
                _ => None,
            },
            policy: Some(crate::items::told(&config.policy)),
            taken: config.taken,
            journal_bytes: bytes,
            journal_bytes_per_second: report.bytes_per_second,
            min_journal_bytes: report.min_bytes,
            max_journal_bytes: report.max_bytes,
            window_wanted: crate::clock::nanos(config.policy.window),
            window_projected: report.window_projected,
            received_bytes: engine.map_or(0, |status| status.received_bytes),
            bytes_per_second: self.bytes_per_second,
            disks: disks.collect(),
            alerts: [self.alerts.clone(), report.alerts].concat(),
            start: self.start.clone(),
        }
    }
}

fn newest_point(journal: &journal::Journal) -> Option<Point> {
    let newest = journal::PointQuery { limit: 1, newest_first: true, ..Default::default() };
    journal.points(&newest).ok()?.pop().map(point)
}

/// A recovery point as the local API shows it.
pub(crate) fn point(batch: BatchSummary) -> Point {
    Point {
        number: batch.number.0,
        source_time: batch.header.source_time,
        receive_time: batch.header.receive_time,
        bookmark: batch.header.bookmark.map(|bookmark| control_api::Bookmark {
            name: bookmark.name,
            application_consistent: bookmark.application_consistent,
            group: bookmark.group,
        }),
        tested: None,
        journal_bytes: batch.stored_bytes,
    }
}
