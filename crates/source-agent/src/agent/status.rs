//! What the agent is doing, for people and programs.

use super::assignment::Assignment;
use super::quiescence::Quiescence;
use crate::{Notice, Stage, Standing};
use change_stream::{SyncMode, Time};
use disk::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// The answer to `mt-source status --json`.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct StatusReport {
    /// The item; none while the agent is not assigned to one.
    pub item: Option<String>,
    /// Host and port of the master target; likewise.
    pub target: Option<String>,
    /// What says so: `configuration`, or `order` of the configuration server or of `mt-source replicate`.
    pub assigned_by: Option<String>,
    /// `not-assigned`, `offline`, `connecting`, `initial-sync`, `resync`, `level` or `stopped`.
    pub state: String,
    /// Why it is offline.
    pub why: Option<String>,
    /// The stream, in hexadecimal.
    pub stream: String,
    /// Number of the next change.
    pub next_sequence: u64,
    /// Newest change that is durable at the target.
    pub acknowledged_sequence: u64,
    /// Bytes of changes that the target has not acknowledged.
    pub backlog_bytes: u64,
    /// Bytes of disk that may differ at the target.
    pub dirty_bytes: u64,
    /// How often the backlog overflowed since start.
    pub overflows: u64,
    /// The sync under way.
    pub sync: Option<SyncReport>,
    /// Where a quiesce stands, if there is one.
    pub quiescence: Option<Quiescence>,
    /// Where NBD clients connect; each disk is an export of its id.
    pub nbd: Option<String>,
}

/// How far a sync is.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct SyncReport {
    /// Bytes of disk done.
    pub done_bytes: u64,
    /// Bytes of disk in all.
    pub total_bytes: u64,
    /// Bytes of data that had to be sent.
    pub sent_bytes: u64,
    /// Bytes of disk a second, since it began.
    pub bytes_per_second: u64,
    /// Seconds left at this rate.
    pub eta_seconds: Option<u64>,
}

impl StatusReport {
    /// What a sender is doing, if there is one, and where the stream stands.
    pub(crate) fn new(stage: Option<Stage>, standing: &Standing, now: Time) -> StatusReport {
        let (state, why, sync) = match stage {
            None => ("not-assigned", None, None),
            Some(Stage::Offline { why }) => ("offline", why, None),
            Some(Stage::Connecting) => ("connecting", None, None),
            Some(Stage::Syncing { mode, progress }) => {
                let name = match mode {
                    SyncMode::Initial => "initial-sync",
                    SyncMode::Resync => "resync",
                };
                (name, None, Some(SyncReport::new(progress, now)))
            }
            Some(Stage::Level) => ("level", None, None),
            Some(Stage::Stopped) => ("stopped", None, None),
        };
        StatusReport {
            item: None,
            target: None,
            assigned_by: None,
            state: state.to_owned(),
            why,
            stream: standing.stream.to_string(),
            next_sequence: standing.next_sequence,
            acknowledged_sequence: standing.acknowledged,
            backlog_bytes: standing.backlog,
            dirty_bytes: standing.dirty,
            overflows: standing.overflows,
            sync,
            quiescence: None,
            nbd: None,
        }
    }

    /// Adds where the disks are replicated to.
    pub(crate) fn place(&mut self, assignment: Option<Assignment>, in_file: bool) {
        let Some(Assignment { item, target, .. }) = assignment else { return };
        (self.item, self.target) = (Some(item), Some(target));
        self.assigned_by = Some(if in_file { "configuration" } else { "order" }.to_owned());
    }
}

impl SyncReport {
    fn new(progress: crate::Progress, now: Time) -> SyncReport {
        let nanos = u128::from(now.saturating_sub(progress.since)).max(1);
        let rate = (u128::from(progress.done) * 1_000_000_000 / nanos) as u64;
        let left = progress.total.saturating_sub(progress.done);
        SyncReport {
            done_bytes: progress.done,
            total_bytes: progress.total,
            sent_bytes: progress.sent,
            bytes_per_second: rate,
            eta_seconds: (rate > 0).then(|| left.div_ceil(rate)),
        }
    }
}

impl fmt::Display for SyncReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {}, {} sent, {}/s",
            Bytes(self.done_bytes),
            Bytes(self.total_bytes),
            Bytes(self.sent_bytes),
            Bytes(self.bytes_per_second)
        )?;
        self.eta_seconds.map_or(Ok(()), |seconds| write!(f, ", {} left", show_seconds(seconds)))
    }
}

impl fmt::Display for StatusReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(item), Some(target), Some(by)) = (&self.item, &self.target, &self.assigned_by) {
            writeln!(f, "item      {item} at {target}, by {by}")?;
        }
        write!(f, "state     {}", self.state.replace('-', " "))?;
        self.why.iter().try_for_each(|why| write!(f, ": {why}"))?;
        self.sync.iter().try_for_each(|sync| write!(f, ": {sync}"))?;
        writeln!(f)?;
        let behind = (self.next_sequence - 1).saturating_sub(self.acknowledged_sequence);
        writeln!(f, "changes   {} recorded, {behind} not yet durable at the target", self.next_sequence - 1)?;
        writeln!(f, "backlog   {}, overflowed {} times", Bytes(self.backlog_bytes), self.overflows)?;
        write!(f, "dirty     {} may differ at the target", Bytes(self.dirty_bytes))?;
        match &self.quiescence {
            Some(Quiescence::Beginning { bookmark }) => {
                write!(
                    f,
                    "\nwrites    go on; the disks are to be brought to rest, with bookmark {bookmark}"
                )?;
            }
            Some(Quiescence::Draining { bookmark, .. }) => {
                write!(
                    f,
                    "\nwrites    are refused: the master target gets what it lacks, up to bookmark {bookmark}"
                )?;
            }
            Some(Quiescence::Quiesced { bookmark, since }) => {
                let since = control_api::time::format(*since);
                write!(f, "\nwrites    are refused since {since}: quiesced, with bookmark {bookmark}")?;
            }
            Some(Quiescence::GivenUp { bookmark, why, .. }) => {
                write!(
                    f,
                    "\nwrites    go on; bringing the disks to rest with bookmark {bookmark} was given up: {why}"
                )?;
            }
            None => {}
        }
        self.nbd.iter().try_for_each(|nbd| write!(f, "\nnbd       {nbd}"))
    }
}

fn show_seconds(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

fn show_wait(nanos: Time) -> String {
    match nanos.div_ceil(1_000_000_000) {
        0 => "at once".to_owned(),
        seconds => format!("in {}", show_seconds(seconds)),
    }
}

/// Writes a notice into the log.
pub(crate) fn log(notice: &Notice) {
    match notice {
        Notice::Connected => tracing::info!("connected"),
        Notice::Lost { why, retry_in } => {
            tracing::warn!("{why}; the next attempt is made {}", show_wait(*retry_in));
        }
        Notice::Refused { code, message, retry_in } => tracing::error!(
            "the master target refuses ({code:?}): {message}; the next attempt is made {}",
            show_wait(*retry_in)
        ),
        Notice::SyncStarted { mode: SyncMode::Initial, why, .. } => tracing::info!("initial sync: {why}"),
        Notice::SyncStarted { why, .. } => tracing::info!("resync: {why}"),
        Notice::SyncFinished { consistent: true } => tracing::info!("level: the target has every change"),
        Notice::SyncFinished { consistent: false } => tracing::info!("the pass is done"),
        Notice::Overflowed { cause } => tracing::warn!(
            "the backlog was given up ({cause}); writers go on, and what it held is compared when the target is \
             reached; raise limits.backlog_mib if this happens often"
        ),
        Notice::Failed { what } => tracing::error!("{what}"),
        Notice::Stopped => tracing::info!("stopped"),
    }
}

/// How long after a status a new one is worth showing.
pub(crate) const REFRESH: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_time_left_follow_from_what_is_done() {
        let progress = crate::Progress { done: 1 << 30, total: 3 << 30, sent: 1 << 20, since: 0 };
        let report = SyncReport::new(progress, 10_000_000_000);
        assert_eq!(report.eta_seconds, Some(21));
        assert_eq!(report.to_string(), "1 GiB of 3 GiB, 1 MiB sent, 102.4 MiB/s, 21 s left");
        assert_eq!(SyncReport::new(crate::Progress::default(), 5).eta_seconds, None);
        assert_eq!(show_seconds(3 * 3600 + 62), "3 h 1 min");
    }
}
