//! An open item: its engine, its connections and its jobs.

use super::link::{ConnectionId, Link};
use super::open::{Opened, Problem, close_images};
use super::status::{Condition, Snapshot};
use super::{Input, Order, Surroundings};
use crate::alerts::Alerts;
use crate::clock::nanos;
use crate::config;
use crate::retention::Allowance;
use change_stream::{Frame, Limits, RefusalCode};
use control_api::time::{self, Time};
use control_api::{AlertKind, Failure, StartReport};
use disk::{Bytes, Class};
use journal::PruneReport;
use replication_receiver::{
    Action, Command, Event, Item, ItemConfig, Job, JobDone, Notice, Progress, Stage, Storage,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinError, JoinSet};
use vmdk::Image;

/// What a source is told of the limits that it has to keep.
const LIMITS: Limits = Limits { bulk_window: 32 << 20, hash_requests: 8, heartbeat_seconds: 5 };

/// How long closing waits for readers of the item's disks, such as exports.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the running of an item ended.
#[derive(Debug)]
pub(super) enum Ended {
    Fenced(Problem),
    Committed { point: u64 },
    Stopped,
}

/// An item that is open.
pub(super) struct Running {
    config: Arc<config::Item>,
    surroundings: Surroundings,
    item: Item,
    storage: Arc<Storage>,
    images: Vec<Arc<Image>>,
    report: StartReport,
    /// How much the journal may take.
    allowance: Allowance,
    /// When the oldest point left was received, after points of the window were last given up.
    shrunk_to: Option<Time>,
    links: HashMap<ConnectionId, Link>,
    jobs: JoinSet<Result<JobDone, JoinError>>,
    wake: Option<Time>,
    pub(super) ended: Option<Ended>,
    rate: Rate,
    /// How fast the work under way gets on.
    pace: Rate,
    /// The stage that was published last.
    published: Option<Stage>,
}

impl Running {
    pub(super) fn new(
        config: Arc<config::Item>,
        surroundings: Surroundings,
        opened: Opened,
        allowance: Allowance,
    ) -> Result<Running, Problem> {
        let now = surroundings.clock.now();
        let settings = ItemConfig {
            blank: opened.blank,
            window: nanos(config.policy.window),
            max_journal_bytes: allowance.bytes(),
            limits: LIMITS,
        };
        let item = Item::new(settings, &opened.storage, now)?;
        Ok(Running {
            config,
            surroundings,
            item,
            storage: opened.storage,
            images: opened.images,
            report: opened.report,
            allowance,
            shrunk_to: None,
            links: HashMap::new(),
            jobs: JoinSet::new(),
            wake: Some(now),
            ended: None,
            rate: Rate::default(),
            pace: Rate::default(),
            published: None,
        })
    }

    /// When [`Running::tick`] is due.
    pub(super) fn wake(&self) -> Option<tokio::time::Instant> {
        self.wake.map(|time| self.surroundings.clock.instant(time))
    }

    /// Waits for the end of a job; never ends while none runs.
    pub(super) async fn job_end(&mut self) -> Result<JobDone, Problem> {
        match self.jobs.join_next().await {
            None => std::future::pending().await,
            Some(Ok(Ok(done))) => Ok(done),
            Some(Ok(Err(error)) | Err(error)) => Err(panicked(&error)),
        }
    }

    pub(super) fn job_done(&mut self, done: Result<JobDone, Problem>, alerts: &mut Alerts) {
        match done {
            Ok(done) => self.step(Event::JobDone(done), alerts),
            Err(problem) => self.fence(problem),
        }
    }

    pub(super) fn tick(&mut self, alerts: &mut Alerts) {
        self.wake = None;
        self.step(Event::Tick, alerts);
    }

    /// The journal may take so much from now on.
    pub(super) fn allow(&mut self, allowance: Allowance, alerts: &mut Alerts) {
        let changed = allowance.bytes() != self.allowance.bytes();
        self.allowance = allowance;
        if changed {
            let command = Command::LimitJournal { bytes: allowance.bytes() };
            self.step(Event::Command(command), alerts);
        }
    }

    /// Another policy holds from now on.
    pub(super) fn configure(&mut self, config: Arc<config::Item>, alerts: &mut Alerts) {
        self.config = config;
        let nanos = nanos(self.config.policy.window);
        self.step(Event::Command(Command::SetWindow { nanos }), alerts);
    }

    /// Notes what came from a connection; [`Running::take_waiting`] hands it in.
    pub(super) fn input(&mut self, input: Input, alerts: &mut Alerts) {
        match input {
            Input::Connected { connection, hello, link } => {
                self.links.insert(connection, link);
                let peer = self.config.source.clone();
                self.step(Event::Connected { connection, peer, hello }, alerts);
            }
            Input::Frames { connection, frames, drained } => {
                if let Some(link) = self.links.get_mut(&connection) {
                    link.waiting.extend(frames);
                    link.drained = drained;
                }
            }
            Input::Disconnected { connection } => {
                // Frames that were not taken yet are lost with it; the source sends them again.
                self.links.remove(&connection);
                self.step(Event::Disconnected { connection }, alerts);
            }
        }
    }

    /// Hands in frames as long as they are wanted, and opens or shuts each connection accordingly.
    pub(super) fn take_waiting(&mut self, alerts: &mut Alerts) {
        while let Some((connection, frame)) = self.next_wanted() {
            self.step(Event::Frame { connection, frame }, alerts);
        }
        let quiet = self.links.values().all(|link| link.drained && link.waiting.is_empty());
        if quiet && !self.links.is_empty() {
            self.step(Event::Drained, alerts);
        }
        for (connection, link) in &self.links {
            link.set_open(link.waiting.is_empty() && self.item.wants_input(*connection));
        }
    }

    fn next_wanted(&mut self) -> Option<(ConnectionId, Frame)> {
        let item = &self.item;
        let wanted =
            |(id, link): &(&ConnectionId, &mut Link)| !link.waiting.is_empty() && item.wants_input(**id);
        let (connection, link) = self.links.iter_mut().find(wanted)?;
        link.waiting.pop_front().map(|frame| (*connection, frame))
    }

    /// Accepts an order that fits where the item stands.
    pub(super) fn order(&mut self, order: Order, alerts: &mut Alerts) -> Result<(), Failure> {
        let stage = self.item.status().stage;
        let command = self.command(order, &stage)?;
        self.step(Event::Command(command), alerts);
        Ok(())
    }

    fn command(&self, order: Order, stage: &Stage) -> Result<Command, Failure> {
        let name = &self.config.name;
        let refuse = |what: &str, why: &str, next: String| Err(Failure::new(name, what, why, next));
        let failed_over = matches!(stage, Stage::FailedOver { .. });
        let failing_over = matches!(stage, Stage::FailingOver { .. });
        match order {
            Order::ShutDown => Ok(Command::ShutDown),
            Order::Failover(_) if failing_over => {
                refuse("cannot fail over", "a failover is under way", "wait until it is done".into())
            }
            Order::Failover(point) => match self.item.check_point(point) {
                Ok(()) => Ok(Command::Failover { point }),
                Err(error) => refuse("cannot fail over", &error.to_string(), "choose another point".into()),
            },
            Order::CancelFailover if failed_over => Ok(Command::CancelFailover),
            Order::CancelFailover => {
                refuse("cannot cancel a failover", "it is not failed over", format!("see mtctl items {name}"))
            }
            Order::Commit if failed_over => Ok(Command::Commit),
            Order::Commit => refuse(
                "cannot commit",
                "it is not failed over",
                format!("fail it over first: mtctl failover {name} --point latest"),
            ),
            Order::Resync if failed_over || failing_over => refuse(
                "cannot resync",
                "it is failed over",
                format!("go back first: mtctl cancel-failover {name}"),
            ),
            Order::Resync => Ok(Command::Resync { reason: "it was ordered by mtctl".into() }),
            Order::Resume => {
                refuse("cannot be resumed", "it is not fenced: it runs", format!("see mtctl items {name}"))
            }
        }
    }

    fn step(&mut self, event: Event, alerts: &mut Alerts) {
        let mut actions = Vec::new();
        self.item.step(self.surroundings.clock.now(), event, &mut actions);
        for action in actions {
            self.act(action, alerts);
        }
    }

    fn act(&mut self, action: Action, alerts: &mut Alerts) {
        match action {
            Action::Send { connection, frame } => self.send(connection, frame),
            Action::Close { connection } => drop(self.links.remove(&connection)),
            Action::Run(job) => self.run(job),
            Action::Notice(notice) => self.notice(notice, alerts),
            Action::WakeAt(time) => self.wake = Some(self.wake.map_or(time, |wake| wake.min(time))),
        }
    }

    fn send(&mut self, connection: ConnectionId, frame: Frame) {
        let Some(link) = self.links.get(&connection) else { return };
        if link.frames.try_send(frame).is_err() {
            tracing::warn!(connection, "the source does not read what it is sent; its connection is closed");
            self.links.remove(&connection);
        }
    }

    /// Runs a job on a blocking thread, when one of those that all items share is free.
    fn run(&mut self, job: Job) {
        let (jobs, storage) = (self.surroundings.jobs.clone(), self.storage.clone());
        self.jobs.spawn(async move {
            let permit = jobs.acquire_owned().await;
            tokio::task::spawn_blocking(move || {
                let done = job.run(&storage);
                drop((storage, permit));
                done
            })
            .await
        });
    }

    /// Turns its sources away and ends.
    pub(super) fn fence(&mut self, problem: Problem) {
        for link in self.links.values() {
            let message = format!("item {} has stopped: {problem}", self.config.name);
            let _ = link.frames.try_send(Frame::Refused { code: RefusalCode::Fenced, message });
        }
        self.ended = Some(Ended::Fenced(problem));
    }

    fn notice(&mut self, notice: Notice, alerts: &mut Alerts) {
        let now = self.surroundings.clock.now();
        match notice {
            Notice::Connected { peer, agent } => tracing::info!(%peer, %agent, "source connected"),
            Notice::Refused { peer, why } => tracing::warn!(%peer, "source refused: {why}"),
            Notice::Disconnected => tracing::info!("source disconnected"),
            Notice::SyncStarted(mode) => tracing::info!(?mode, "sync started"),
            Notice::SyncFinished => tracing::info!("sync finished: the replica is level with its source"),
            Notice::BookmarkDropped { name } => {
                tracing::warn!(bookmark = %name, "a bookmark set during a sync marks no recovery point");
            }
            Notice::Pruned(report) => pruned(&report),
            Notice::WindowShrunk(report) => {
                pruned(&report);
                let oldest = report.oldest.map_or(now, |point| point.header.receive_time);
                self.shrunk_to = Some(oldest);
                alerts.raise(AlertKind::WindowShrunk, now, self.window_shrunk(oldest, now));
            }
            Notice::NoRoom => tracing::error!("the retention volume is full and nothing can be given up"),
            Notice::Fenced { why, class, journal } => {
                let problem = Problem::new(class, why);
                let problem = if journal { problem.of_journal() } else { problem };
                self.ended = Some(Ended::Fenced(problem));
            }
            Notice::FailedOver { point } => tracing::info!(point = point.0, "failed over"),
            Notice::CommandFailed { why } => tracing::warn!("an order was not followed: {why}"),
            Notice::FailoverCancelled => tracing::info!("failover cancelled"),
            Notice::Committed => {
                let point = self.storage.journal().newest().map_or(0, |newest| rolled_back_to(&newest));
                tracing::info!(point, "committed");
                self.ended = Some(Ended::Committed { point });
            }
            Notice::Stopped => self.ended = Some(Ended::Stopped),
        }
    }

    fn window_shrunk(&self, oldest: Time, now: Time) -> String {
        let wanted = time::format_duration(nanos(self.config.policy.window));
        let (why, next) = match self.allowance {
            Allowance::Maximum(most) => (
                format!("its journal may take {} (max_journal)", Bytes(most)),
                match self.config.taken {
                    true => "raise max_journal or shorten the window (mtctl policy)",
                    false => "raise max_journal or shorten the window in mtd.toml",
                },
            ),
            Allowance::Free | Allowance::Shortage(_) => (
                "the retention volume is short of room".to_owned(),
                "mtctl retention status tells how large a disk the windows need; give it one, or shorten a window",
            ),
        };
        format!(
            "recovery points reach back {} only, to {}, and not the {wanted} wanted: {why}, and the oldest were given \
             up; {next}",
            time::format_duration(now.saturating_sub(oldest)),
            time::format(oldest)
        )
    }

    /// Once points reach back all the way again, the window is whole.
    fn check_window(&self, now: Time, alerts: &mut Alerts) {
        let Some(since) = alerts.since(AlertKind::WindowShrunk) else { return };
        let oldest = self.shrunk_to.unwrap_or(since);
        if now > oldest.saturating_add(nanos(self.config.policy.window)) {
            alerts.clear(AlertKind::WindowShrunk);
        } else {
            alerts.raise(AlertKind::WindowShrunk, now, self.window_shrunk(oldest, now));
        }
    }

    /// True when the item stands elsewhere than it was said to.
    pub(super) fn stage_changed(&mut self) -> bool {
        let stage = Some(self.item.stage());
        let changed = stage != self.published;
        self.published = stage;
        changed
    }

    /// Brings the alerts up to date and says how the item stands.
    pub(super) fn snapshot(&mut self, alerts: &mut Alerts) -> Snapshot {
        let now = self.surroundings.clock.now();
        let status = self.item.status();
        self.check_rpo(&status, now, alerts);
        self.check_level(&status.stage, now, alerts);
        self.check_window(now, alerts);
        let bytes_per_second = self.rate.at(now, status.received_bytes);
        let seconds_left = self.seconds_left(now, status.progress);
        Snapshot {
            condition: Condition::Open(Box::new(status)),
            storage: Some(self.storage.clone()),
            start: Some(self.report.clone()),
            alerts: alerts.list(),
            bytes_per_second,
            seconds_left,
        }
    }

    fn seconds_left(&mut self, now: Time, progress: Option<Progress>) -> Option<u64> {
        let Some(Progress { done, total }) = progress else {
            self.pace = Rate::default();
            return None;
        };
        total.saturating_sub(done).checked_div(self.pace.at(now, done))
    }

    fn check_rpo(&self, status: &replication_receiver::ItemStatus, now: Time, alerts: &mut Alerts) {
        let replicates =
            !matches!(status.stage, Stage::FailingOver { .. } | Stage::FailedOver { .. } | Stage::Committed);
        let threshold = nanos(self.config.policy.rpo_threshold);
        let rpo = status.protected_until.map(|until| now.saturating_sub(until));
        match rpo.filter(|rpo| replicates && *rpo > threshold) {
            None => alerts.clear(AlertKind::RpoExceeded),
            Some(rpo) => {
                let message = format!(
                    "the newest recovery point is {} old, more than the threshold of {}; {}",
                    time::format_duration(rpo),
                    time::format_duration(threshold),
                    if status.session.is_some() {
                        "the connection or the disks are too slow for the changes of the source"
                    } else {
                        "its source is not connected"
                    }
                );
                alerts.raise(AlertKind::RpoExceeded, now, message);
            }
        }
    }

    fn check_level(&self, stage: &Stage, now: Time, alerts: &mut Alerts) {
        match stage {
            Stage::NeedsResync { reason } => {
                let message = format!("a resync is required: {reason}; it begins when the source connects");
                alerts.raise(AlertKind::ResyncRequired, now, message);
            }
            _ => alerts.clear(AlertKind::ResyncRequired),
        }
    }

    /// Lets running jobs end, then gives the disks and the journal back. A clean end closes the images.
    pub(super) async fn close(mut self, ended: &Ended) -> Result<(), Problem> {
        self.links.clear();
        while self.jobs.join_next().await.is_some() {}
        let Running { item, storage, images, .. } = self;
        drop(item);
        let clean = !matches!(ended, Ended::Fenced(_));
        let closed = run_blocking(move || if clean { close_images(&images) } else { Ok(()) }).await;
        let patience = tokio::time::Instant::now() + PATIENCE;
        while Arc::strong_count(&storage) > 1 && tokio::time::Instant::now() < patience {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let _ = tokio::task::spawn_blocking(move || drop(storage)).await;
        closed
    }
}

fn pruned(report: &PruneReport) {
    tracing::debug!(bytes = report.bytes, segments = report.segments, "journal pruned");
    if let Some(point) = report.lost_pin {
        tracing::warn!(
            point = point.0,
            "room ran short, and a recovery point that a test failover or an export shows was given up: what reads it gets \
             errors; stop it, and start it again at a newer point"
        );
    }
}

fn rolled_back_to(newest: &journal::BatchSummary) -> u64 {
    match newest.header.kind {
        journal::BatchKind::Rollback { to, .. } => to.0,
        _ => newest.number.0,
    }
}

/// Runs what blocks on a thread for it; a panic there becomes an error.
pub(super) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(panicked(&error)),
    }
}

fn panicked(error: &JoinError) -> Problem {
    let why = format!("a defect in the master target stopped its work ({error}); report it with the log");
    Problem::new(Class::Operator, why)
}

/// Bytes a second, smoothed over a few seconds.
#[derive(Debug, Default)]
struct Rate {
    last: Option<(Time, u64)>,
    value: f64,
}

impl Rate {
    fn at(&mut self, now: Time, bytes: u64) -> u64 {
        let Some((since, before)) = self.last else {
            self.last = Some((now, bytes));
            return 0;
        };
        let elapsed = now.saturating_sub(since);
        if elapsed >= time::SECOND {
            let seconds = elapsed as f64 / time::SECOND as f64;
            let current = bytes.saturating_sub(before) as f64 / seconds;
            self.value += (current - self.value) * (seconds / 4.0).min(1.0);
            self.last = Some((now, bytes));
        }
        self.value as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_follows_the_last_seconds() {
        let mut rate = Rate::default();
        let megabyte = 1 << 20;
        for second in 0..20 {
            rate.at(second * time::SECOND, second * megabyte);
        }
        let steady = rate.at(20 * time::SECOND, 20 * megabyte);
        assert!(steady.abs_diff(megabyte) < megabyte / 50, "{steady}");
        assert_eq!(rate.at(40 * time::SECOND, 20 * megabyte), 0);
    }
}
