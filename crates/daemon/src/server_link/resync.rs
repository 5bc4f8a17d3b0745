//! The job that has a source compare all its disks with the replica.
//!
//! The item writes the order into its journal: a batch of no stream at all, after which it takes changes only once it
//! was compared. Before ordering, the job notes which batch is the newest one; so after a crash it can be told whether
//! the order is in the journal, and it is given once, not twice and not never.

use super::Teller;
use crate::item::{Again, Condition, ItemHandle, Snapshot};
use crate::local::stopped;
use control_api::{Call, Failure};
use journal::BatchNumber;
use registration::link::{End, Job};
use replication_receiver::{Stage, Storage};
use std::time::{Duration, Instant};

/// How long the source may take to connect.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// How long the order may take to get into the journal.
const RECORDED_WITHIN: Duration = Duration::from_secs(60);
/// Batches that are looked at for the order.
const LOOK_BACK: u64 = 4096;
/// How often the item is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

const ORDER: &str = "Order the resync";
const WAIT: &str = "Wait for the source";
const COMPARE: &str = "Compare with the source";
/// What is noted once the order is in the journal.
const ORDERED: &str = "ordered";

pub(super) fn run(teller: &Teller, job: &Job, item: &ItemHandle) -> Result<String, End> {
    job.plan(&[ORDER, WAIT, COMPARE]);
    job.begin(ORDER);
    let ordered = job.is_continued() && {
        teller.wait_until_started(job, item)?;
        is_ordered(job.noted(), &item.snapshot())
    };
    if !job.commit() && !ordered {
        return Err(End::Cancelled);
    }
    if !ordered {
        let newest = newest(&item.snapshot());
        job.note(&newest.map_or_else(|| "closed".to_owned(), |newest| format!("after {newest}")))?;
        teller.call(job, Call::Resync { item: item.name().to_owned() })?;
        wait_until_recorded(job, item, newest.unwrap_or(0))?;
        job.note(ORDERED)?;
    }
    follow(job, item)?;
    Ok(format!("{} is level with its source", item.name()))
}

/// Whether an earlier run of the job has given the order, by what it noted and what the item is like now.
fn is_ordered(noted: Option<&str>, snapshot: &Snapshot) -> bool {
    let after = match noted {
        None => return false,
        Some(ORDERED) => return true,
        Some(noted) => noted.strip_prefix("after ").and_then(|number| number.parse().ok()),
    };
    match snapshot.stage() {
        Some(Stage::Protected) => {
            after.zip(snapshot.storage.as_ref()).is_some_and(|(after, storage)| is_recorded(storage, after))
        }
        Some(Stage::NeedsInitialSync | Stage::NeedsResync { .. } | Stage::Syncing { .. }) => true,
        _ => false,
    }
}

fn newest(snapshot: &Snapshot) -> Option<u64> {
    let storage = snapshot.storage.as_ref()?;
    Some(storage.journal().newest().map_or(0, |batch| batch.number.0))
}

/// Whether the journal holds an order that was given after this batch.
fn is_recorded(storage: &Storage, after: u64) -> bool {
    let journal = storage.journal();
    let newest = journal.newest().map_or(0, |batch| batch.number.0);
    let oldest = after.max(newest.saturating_sub(LOOK_BACK)) + 1;
    (oldest..=newest).rev().any(|number| {
        let batch = journal.summary(BatchNumber(number)).ok().flatten();
        batch.is_some_and(|batch| batch.header.stream == [0; 16])
    })
}

/// The order counts once it is in the journal.
fn wait_until_recorded(job: &Job, item: &ItemHandle, after: u64) -> Result<(), End> {
    let begun = Instant::now();
    while begun.elapsed() < RECORDED_WITHIN {
        let snapshot = item.snapshot();
        // An item that was closed has a new journal, with new numbers.
        let after = after.min(newest(&snapshot).map_or(0, |newest| newest.saturating_sub(1)));
        if snapshot.storage.as_ref().is_some_and(|storage| is_recorded(storage, after)) {
            return Ok(());
        }
        if matches!(snapshot.condition, Condition::Closed(_)) {
            return Err(End::Failed(stopped(item, "the resync did not begin", &snapshot.condition)));
        }
        pause(job)?;
    }
    Err(End::Failed(Failure::new(
        item.name(),
        "the resync did not begin",
        "the order did not get into its journal within a minute",
        "look at the retention volume, and order it again",
    )))
}

/// Until the item is level with its source.
fn follow(job: &Job, item: &ItemHandle) -> Result<(), End> {
    let (mut step, mut waiting) = (ORDER, None);
    let mut go_to = |name: &'static str| {
        if step != name {
            step = name;
            job.begin(name);
        }
    };
    loop {
        let snapshot = item.snapshot();
        let waits = match (&snapshot.condition, snapshot.stage()) {
            (Condition::Open(_), Some(Stage::Protected)) => return Ok(()),
            (Condition::Open(_), Some(Stage::Syncing { .. })) => {
                go_to(COMPARE);
                job.progress(snapshot.progress(), snapshot.seconds_left);
                false
            }
            (Condition::Open(_), Some(Stage::NeedsInitialSync | Stage::NeedsResync { .. })) => {
                go_to(WAIT);
                true
            }
            (Condition::Starting { .. }, _) => false,
            (Condition::Closed(closed), _) if closed.again != Again::ByOrder => false,
            (Condition::Stopped, _) => return Err(End::Stopped),
            (Condition::Open(_), _) => {
                let why = format!("it is {} now", snapshot.state());
                let next = "order it again when it follows its source again";
                return Err(End::Failed(Failure::new(item.name(), "the resync did not end", why, next)));
            }
            (closed, _) => return Err(End::Failed(stopped(item, "the resync did not end", closed))),
        };
        waiting = if waits { waiting.or(Some(Instant::now())) } else { None };
        if waiting.is_some_and(|since| since.elapsed() >= PATIENCE) {
            return Err(End::Failed(Failure::new(
                item.name(),
                "the resync has not begun",
                "its source did not connect within 15 min",
                "look at the source agent; the resync begins by itself as soon as that connects",
            )));
        }
        pause(job)?;
    }
}

fn pause(job: &Job) -> Result<(), End> {
    std::thread::sleep(LOOK_EVERY);
    if job.is_stopping() { Err(End::Stopped) } else { Ok(()) }
}
