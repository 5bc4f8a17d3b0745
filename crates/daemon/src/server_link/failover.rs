//! The jobs of a failover: to write a recovery point to the disks of an item, to go back, and to give up the way back.
//!
//! Which point "the latest" is, is decided once and noted, so that a job that a crash stopped goes on to the same one. A
//! rollback that was under way goes on by itself when the item is opened; the job waits for that before it looks where
//! the item stands, and orders only what is still missing.

use super::Teller;
use crate::item::{Condition, ItemHandle, Snapshot};
use crate::local::stopped;
use crate::views::resolve;
use control_api::{Answer, Call, PointSelector, time};
use journal::BatchNumber;
use registration::link::{End, Job};
use replication_receiver::Stage;
use std::time::Duration;

/// How often the item is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

const CHOOSE: &str = "Choose the recovery point";
const WRITE: &str = "Write it to the disks";
const GO_BACK: &str = "Go back to the newest changes";
const COMMIT: &str = "Give up the way back, and release the disks";

pub(super) fn start(
    teller: &Teller,
    job: &Job,
    item: &ItemHandle,
    point: &PointSelector,
) -> Result<String, End> {
    job.plan(&[CHOOSE, WRITE]);
    job.begin(CHOOSE);
    settle(teller, job, item)?;
    let (number, shown) = chosen(job, item, point)?;
    job.detail(&shown);
    if stands_at(&item.snapshot()) != Some(number) || !job.is_continued() {
        if !job.commit() {
            return Err(End::Cancelled);
        }
        job.begin(WRITE);
        let point = PointSelector::Number(number.0);
        teller.call(job, Call::Failover { item: item.name().to_owned(), point })?;
    }
    Ok(format!(
        "the disks of {} hold {shown}; commit it, change the recovery point, or cancel the failover",
        item.name()
    ))
}

/// The point of the job, and what people call it. An earlier run has noted it.
fn chosen(job: &Job, item: &ItemHandle, wanted: &PointSelector) -> Result<(BatchNumber, String), End> {
    let noted = job.noted().and_then(|noted| noted.parse().ok());
    let wanted = noted.map_or_else(|| wanted.clone(), PointSelector::Number);
    let point = resolve(item.storage()?.as_ref(), &wanted)?;
    if noted.is_none() {
        job.note(&point.number.0.to_string())?;
    }
    let named =
        point.header.bookmark.map_or_else(String::new, |bookmark| format!(", bookmark {}", bookmark.name));
    let moment = time::format(point.header.source_time);
    Ok((point.number, format!("recovery point {} of {moment}{named}", point.number)))
}

pub(super) fn cancel(teller: &Teller, job: &Job, item: &ItemHandle) -> Result<String, End> {
    job.begin(GO_BACK);
    settle(teller, job, item)?;
    let is_back = job.is_continued() && stands_at(&item.snapshot()).is_none();
    if !is_back {
        if !job.commit() {
            return Err(End::Cancelled);
        }
        teller.call(job, Call::CancelFailover { item: item.name().to_owned() })?;
    }
    Ok(format!("{} stands at its newest changes again, and follows its source", item.name()))
}

pub(super) fn commit(teller: &Teller, job: &Job, item: &ItemHandle) -> Result<String, End> {
    job.begin(COMMIT);
    settle(teller, job, item)?;
    let is_committed = matches!(item.snapshot().condition, Condition::Committed { .. });
    if !(job.is_continued() && is_committed) {
        if !job.commit() {
            return Err(End::Cancelled);
        }
        let answer = teller.call(job, Call::Commit { item: item.name().to_owned() })?;
        // What there is to know before the disks are detached.
        if let Answer::Items(items) = answer
            && let Some(detail) = items.into_iter().find_map(|item| item.detail)
        {
            return Ok(format!("{}: {detail}", item.name()));
        }
    }
    Ok(committed(item.name()))
}

/// What came of a commit.
pub(super) fn committed(item: &str) -> String {
    format!("the failover of {item} is committed: its disks are released")
}

/// Waits until the item is open or is not, and until a rollback that goes on by itself has ended.
fn settle(teller: &Teller, job: &Job, item: &ItemHandle) -> Result<(), End> {
    loop {
        teller.wait_until_started(job, item)?;
        let snapshot = item.snapshot();
        match (&snapshot.condition, snapshot.stage()) {
            (_, Some(Stage::FailingOver { .. })) => job.progress(snapshot.progress(), snapshot.seconds_left),
            (Condition::Open(_) | Condition::Committed { .. }, _) => return Ok(()),
            (closed, _) => return Err(End::Failed(stopped(item, "the failover cannot go on", closed))),
        }
        std::thread::sleep(LOOK_EVERY);
        if job.is_stopping() {
            return Err(End::Stopped);
        }
    }
}

/// The point that the disks hold, when the item is failed over.
fn stands_at(snapshot: &Snapshot) -> Option<BatchNumber> {
    match snapshot.stage() {
        Some(Stage::FailedOver { point }) => Some(*point),
        _ => None,
    }
}
