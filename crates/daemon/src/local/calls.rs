//! What each call does.

use crate::export::{self, Format};
use crate::item::{Condition, ItemHandle, Order, Snapshot, point};
use crate::items::{PolicyChange, Portion, with_notes};
use crate::master_target::MasterTarget;
use crate::test_failover;
use crate::views::{HeldView, resolve};
use control_api::{
    API_VERSION, Answer, Call, Failure, ItemStatus, Point, PointSelector, Progress, RetentionStatus, Status,
    VersionInfo, Work,
};
use journal::PointQuery;
use replication_receiver::Stage;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// How often progress is told.
const REPORT_EVERY: Duration = Duration::from_millis(200);

impl MasterTarget {
    /// Does what a client asks for, telling `report` how far it has come.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        call: Call,
        report: mpsc::Sender<Progress>,
    ) -> Result<Answer, Failure> {
        match call {
            Call::Version => Ok(Answer::Version(version())),
            Call::Status => Ok(Answer::Status(Box::new(self.status().await?))),
            Call::Items { item: None } => Ok(Answer::Items(self.describe_all().await?)),
            Call::Items { item: Some(item) } => {
                let item = self.item(&item)?;
                Ok(Answer::Items(self.reminded(describe(std::slice::from_ref(&item)).await?)))
            }
            Call::Points { item, from, to, bookmarks, limit } => {
                let query = PointQuery {
                    from,
                    to,
                    only_bookmarks: bookmarks,
                    limit: limit.clamp(1, 10_000) as usize,
                    newest_first: true,
                    ..PointQuery::default()
                };
                let mut found = points(&*self.item(&item)?, query).await?;
                self.test_failovers.tested.tell(&item, &mut found);
                Ok(Answer::Points(found))
            }
            Call::TestFailoverStart { item, point, listen } => {
                let now = self.clock.now();
                let started = self.test_failovers.start(&*self.item(&item)?, point, listen, now).await?;
                Ok(Answer::TestFailover(started))
            }
            Call::TestFailoverStop { id } => {
                self.test_failovers.stop(id).await?;
                Ok(Answer::Message(format!("test failover {id} has ended")))
            }
            Call::TestFailoverList => Ok(Answer::TestFailovers(self.test_failovers.all())),
            Call::Failover { item, point } => failover(&self.item(&item)?, point, &report).await,
            Call::CancelFailover { item } => cancel_failover(&self.item(&item)?, &report).await,
            Call::Commit { item } => self.commit(&self.item(&item)?).await,
            Call::Export { item, disk, point, format, to } => {
                let wanted = Export { disk, point, format: Format::parse(&format)?, to: to.into() };
                export(&*self.item(&item)?, wanted, report).await
            }
            Call::Resume { item } => {
                let item = self.item(&item)?;
                follow_opening(&item, Order::Resume).await?;
                one(&item).await
            }
            Call::Resync { item } => {
                let item = self.item(&item)?;
                follow_opening(&item, Order::Resync).await?;
                one(&item).await
            }
            Call::Protect { item } => {
                let (nobody, _) = mpsc::channel(1);
                self.take(item, nobody).await.map(Answer::Message)
            }
            Call::Release { item } => self.release(&item).await.map(Answer::Message),
            Call::SetPolicy {
                item,
                window_seconds,
                rpo_threshold_seconds,
                application_consistent_every_seconds,
                min_journal,
                max_journal,
            } => {
                let portion = |text: Option<String>| {
                    let portion = text.map(|text| Portion::parse(&item, &text));
                    portion.transpose()
                };
                let change = PolicyChange {
                    window_seconds,
                    rpo_threshold_seconds,
                    application_consistent_every_seconds,
                    min_journal: portion(min_journal)?,
                    max_journal: portion(max_journal)?,
                };
                self.set_policy(&item, change).await.map(Answer::Message)
            }
            _ => Err(Failure::new("local API", "cannot do this", "the call is not known", "update mtd")),
        }
    }

    /// An item that was taken leaves with this, and is shown as it was.
    async fn commit(self: &Arc<Self>, item: &Arc<ItemHandle>) -> Result<Answer, Failure> {
        commit(item).await?;
        let mut committed = describe(std::slice::from_ref(item)).await?;
        let notes = self.leave_after_commit(item).await?;
        for status in &mut committed {
            let detail = status.detail.take().unwrap_or_default();
            status.detail = Some(with_notes(detail, &notes));
        }
        Ok(Answer::Items(committed))
    }

    async fn status(&self) -> Result<Status, Failure> {
        let (volume, report) = (self.volume.now(), self.retention.borrow().clone());
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_string(),
            started: self.clock.started(),
            now: self.clock.now(),
            listen: self.listen.to_string(),
            link: self.hub.status(),
            retention: RetentionStatus {
                folder: volume.folder.display().to_string(),
                state: volume.state,
                detail: volume.detail,
                file_system: volume.file_system,
                capacity_bytes: report.space.map(|space| space.capacity.0),
                available_bytes: report.space.map(|space| space.available.0),
                journal_bytes_per_second: report.bytes_per_second,
                full_in_seconds: report.full_in_seconds,
                needed_bytes: report.needed_bytes,
                needed_for_24_h_bytes: report.needed_for_24_h_bytes,
                alerts: volume.alerts.into_iter().chain(report.alerts).collect(),
            },
            items: self.describe_all().await?,
        })
    }

    /// Adds what there is to say of their test failovers.
    fn reminded(&self, mut items: Vec<ItemStatus>) -> Vec<ItemStatus> {
        let tests = self.test_failovers.all();
        for item in &mut items {
            item.alerts.extend(test_failover::reminder(&item.name, &tests, self.clock.now()));
        }
        items
    }

    /// All items, with those that are left alone.
    async fn describe_all(&self) -> Result<Vec<ItemStatus>, Failure> {
        let mut items = self.reminded(describe(&self.items.all()).await?);
        items.extend(self.items.left_alone());
        Ok(items)
    }
}

fn version() -> VersionInfo {
    VersionInfo {
        version: env!("CARGO_PKG_VERSION").to_string(),
        api: API_VERSION,
        change_stream: change_stream::PROTOCOL_VERSION,
    }
}

/// Runs what asks a journal or a disk on a thread that may block.
async fn blocking<T: Send + 'static>(
    object: &str,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Failure::new(
            object,
            "cannot do this",
            format!("a defect: {error}"),
            "report it with the log",
        )),
    }
}

async fn describe(items: &[Arc<ItemHandle>]) -> Result<Vec<ItemStatus>, Failure> {
    let items: Vec<_> = items.iter().map(|item| (item.config(), item.snapshot(), item.report())).collect();
    let describe = |(config, snapshot, report): (Arc<_>, Snapshot, _)| snapshot.describe(&config, report);
    blocking("items", move || Ok(items.into_iter().map(describe).collect())).await
}

async fn one(item: &Arc<ItemHandle>) -> Result<Answer, Failure> {
    describe(std::slice::from_ref(item)).await.map(Answer::Items)
}

async fn points(item: &ItemHandle, query: PointQuery) -> Result<Vec<Point>, Failure> {
    let storage = item.storage()?;
    let found = blocking(item.name(), move || {
        storage.journal().points(&query).map_err(|error| {
            let next = "check the retention volume";
            Failure::new(&storage.identity().item, "cannot list its recovery points", error, next)
        })
    });
    Ok(found.await?.into_iter().map(point).collect())
}

/// Waits until `done` says what came of an order, handing on progress.
async fn follow<T>(
    mut watch: watch::Receiver<Snapshot>,
    report: Option<&mpsc::Sender<Progress>>,
    mut done: impl FnMut(&Snapshot) -> Option<T>,
) -> Option<T> {
    loop {
        watch.changed().await.ok()?;
        let (outcome, progress) = {
            let snapshot = watch.borrow_and_update();
            (done(&snapshot), snapshot.progress())
        };
        if outcome.is_some() {
            return outcome;
        }
        if let (Some(report), Some(progress)) = (report, progress) {
            // A client that went away does not stop what it ordered.
            let _ = report.try_send(progress);
        }
    }
}

pub(crate) fn stopped(item: &ItemHandle, what: &str, condition: &Condition) -> Failure {
    let (why, next) = condition.closed_because(item.name());
    Failure::new(item.name(), what, why, next)
}

async fn failover(
    item: &Arc<ItemHandle>,
    selector: PointSelector,
    report: &mpsc::Sender<Progress>,
) -> Result<Answer, Failure> {
    let storage = item.storage()?;
    let point = blocking(item.name(), move || resolve(&storage, &selector)).await?.number;
    let mut watch = item.watch();
    watch.borrow_and_update();
    item.order(Order::Failover(point)).await?;
    let reached = follow(watch, Some(report), |snapshot| match (&snapshot.condition, snapshot.stage()) {
        (Condition::Open(_), Some(Stage::FailedOver { point: at })) if *at == point => Some(Ok(())),
        (Condition::Open(_), _) => None,
        (closed, _) => Some(Err(stopped(item, "the failover did not end", closed))),
    });
    reached.await.unwrap_or_else(|| Err(stopped(item, "the failover did not end", &Condition::Stopped)))?;
    one(item).await
}

async fn cancel_failover(item: &Arc<ItemHandle>, report: &mpsc::Sender<Progress>) -> Result<Answer, Failure> {
    let mut watch = item.watch();
    watch.borrow_and_update();
    item.order(Order::CancelFailover).await?;
    let back = follow(watch, Some(report), |snapshot| match (&snapshot.condition, snapshot.stage()) {
        (Condition::Open(_), Some(Stage::FailedOver { .. } | Stage::FailingOver { .. })) => None,
        (Condition::Open(_), _) => Some(Ok(())),
        (closed, _) => Some(Err(stopped(item, "going back did not end", closed))),
    });
    back.await.unwrap_or_else(|| Err(stopped(item, "going back did not end", &Condition::Stopped)))?;
    one(item).await
}

async fn commit(item: &ItemHandle) -> Result<(), Failure> {
    let mut watch = item.watch();
    watch.borrow_and_update();
    item.order(Order::Commit).await?;
    let committed = follow(watch, None, |snapshot| match &snapshot.condition {
        Condition::Committed { .. } => Some(Ok(())),
        closed @ Condition::Closed(_) => Some(Err(stopped(item, "the commit did not end", closed))),
        _ => None,
    });
    committed.await.unwrap_or_else(|| Err(stopped(item, "the commit did not end", &Condition::Stopped)))
}

/// Gives an order that opens a closed item, and waits for the outcome of that.
async fn follow_opening(item: &ItemHandle, order: Order) -> Result<(), Failure> {
    let mut watch = item.watch();
    let was_open = matches!(watch.borrow_and_update().condition, Condition::Open(_));
    item.order(order).await?;
    if was_open {
        return Ok(());
    }
    let opened = follow(watch, None, |snapshot| match &snapshot.condition {
        Condition::Open(_) => Some(Ok(())),
        Condition::Starting { .. } => None,
        closed => Some(Err(stopped(item, "cannot be opened", closed))),
    });
    opened.await.unwrap_or_else(|| Err(stopped(item, "cannot be opened", &Condition::Stopped)))
}

/// What is to be exported.
struct Export {
    disk: String,
    point: PointSelector,
    format: Format,
    to: PathBuf,
}

async fn export(
    item: &ItemHandle,
    wanted: Export,
    report: mpsc::Sender<Progress>,
) -> Result<Answer, Failure> {
    let storage = item.storage()?;
    let watch = item.watch();
    let message = blocking(item.name(), move || {
        let identity = storage.identity();
        let Some(number) = identity.disks.iter().position(|disk| disk.id == wanted.disk) else {
            let known: Vec<&str> = identity.disks.iter().map(|disk| disk.id.as_str()).collect();
            let why = format!("item {} has the disks {}", identity.item, known.join(", "));
            return Err(Failure::new(&wanted.disk, "there is no such disk", why, "give one of those"));
        };
        let point = resolve(&storage, &wanted.point)?;
        let mut views = HeldView::all(&storage, point.number).map_err(|error| {
            Failure::new(&identity.item, "cannot open the recovery point", error, "choose a newer one")
        })?;
        drop(storage);
        let view = views.swap_remove(number);
        let mut reporter = Reporter { report, watch, last: None };
        export::export(&view, &wanted.to, wanted.format, |progress| reporter.go_on(progress))?;
        Ok(format!("disk {} at recovery point {} is in {}", wanted.disk, point.number, wanted.to.display()))
    });
    message.await.map(Answer::Message)
}

/// Tells progress from a blocking thread, and finds out when nobody wants the work any more.
struct Reporter {
    report: mpsc::Sender<Progress>,
    watch: watch::Receiver<Snapshot>,
    last: Option<Instant>,
}

impl Reporter {
    fn go_on(&mut self, progress: Progress) -> bool {
        debug_assert!(progress.work == Work::Export);
        if self.last.is_none_or(|last| last.elapsed() >= REPORT_EVERY) {
            self.last = Some(Instant::now());
            let _ = self.report.try_send(progress);
        }
        !self.report.is_closed() && self.watch.borrow().storage.is_some()
    }
}
