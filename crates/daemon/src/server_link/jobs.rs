//! What each job does. How each goes on after this program was stopped or killed in the middle:
//!
//! | job | goes on by |
//! |---|---|
//! | check | looking again; it changes nothing |
//! | resync | looking whether the order is in the item's journal; if not, ordering it (see `resync`) |
//! | resume | looking whether the item is open, which a start tries by itself; if not, opening it |
//! | test failover | starting it again: what there was of it ended with the program |
//! | end of a test failover | nothing: it ended with the program |
//! | failover, its end, commit | looking where the item stands, and ordering what is missing (see `failover`) |
//! | protect | looking whether the item is there as it was ordered; if not, taking it (see `item_jobs`) |
//! | release | looking whether the item is gone; if not, letting go of it |
//! | policy | setting it again |

use super::{Teller, failover, item_jobs, resync};
use crate::item::{Condition, ItemHandle};
use crate::preflight::{self, Group, Machine, MachineOptions, Report, Verdict};
use control_api::agent::JobKind;
use control_api::{Answer, Call, Failure, PointSelector, TestFailover};
use registration::link::{End, Job};
use std::time::Duration;
use tokio::sync::mpsc;

/// How soon a job notices that the program ends.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(super) fn run(teller: &Teller, job: &Job) -> Result<String, End> {
    match &job.order().job {
        JobKind::Check => check(teller, job),
        JobKind::Resync { item } => resync::run(teller, job, &*teller.target.item(item)?),
        JobKind::Resume { item } => resume(teller, job, &*teller.target.item(item)?),
        JobKind::TestFailoverStart { item, point } => start_test_failover(teller, job, item, point),
        JobKind::TestFailoverStop { item, id } => stop_test_failover(teller, job, item, *id),
        JobKind::Failover { item, point } => failover::start(teller, job, &*teller.target.item(item)?, point),
        JobKind::CancelFailover { item } => failover::cancel(teller, job, &*teller.target.item(item)?),
        JobKind::Commit { item } if job.is_continued() && teller.target.has_left(item) => {
            Ok(failover::committed(item))
        }
        JobKind::Commit { item } => failover::commit(teller, job, &*teller.target.item(item)?),
        JobKind::Protect { item } => item_jobs::protect(teller, job, item),
        JobKind::Release { item } => item_jobs::release(teller, job, item),
        other => Err(End::Failed(Failure::new(
            other.title(),
            "it is not carried out",
            "a master target does nothing of this kind",
            "order it from the source agent",
        ))),
    }
}

impl Teller {
    /// Waits for something; when the program ends, no longer.
    pub(super) fn wait<T>(&self, job: &Job, work: impl Future<Output = T>) -> Result<T, End> {
        self.runtime.block_on(async {
            tokio::pin!(work);
            loop {
                tokio::select! {
                    done = &mut work => return Ok(done),
                    () = tokio::time::sleep(LOOK_EVERY) => {
                        if job.is_stopping() {
                            return Err(End::Stopped);
                        }
                    }
                }
            }
        })
    }

    /// Does what the local API would do.
    pub(super) fn call(&self, job: &Job, call: Call) -> Result<Answer, End> {
        let (report, mut reported) = mpsc::channel(1);
        let target = self.target.clone();
        let answer = async move {
            let answer = target.answer(call, report);
            tokio::pin!(answer);
            loop {
                tokio::select! {
                    answer = &mut answer => return answer,
                    Some(progress) = reported.recv() => job.progress(Some(progress), None),
                }
            }
        };
        Ok(self.wait(job, answer)??)
    }

    /// Waits until an item that is being opened is open, or is not.
    pub(super) fn wait_until_started(&self, job: &Job, item: &ItemHandle) -> Result<(), End> {
        let mut watch = item.watch();
        let started = watch.wait_for(|snapshot| !matches!(snapshot.condition, Condition::Starting { .. }));
        // An actor that is gone has said why.
        self.wait(job, started).map(drop)
    }
}

fn check(teller: &Teller, job: &Job) -> Result<String, End> {
    let machine = Machine::new(MachineOptions::host(&teller.target.config.file, None));
    let mut groups: Vec<Group> = preflight::all().map(|check| check.group).collect();
    groups.dedup();
    let titles: Vec<String> = groups.iter().map(ToString::to_string).collect();
    job.plan(&titles.iter().map(String::as_str).collect::<Vec<_>>());
    let mut all = Report { rows: Vec::new() };
    for (group, title) in groups.into_iter().zip(&titles) {
        if job.is_cancelled() {
            return Err(End::Cancelled);
        }
        if job.is_stopping() {
            return Err(End::Stopped);
        }
        job.begin(title);
        let checks: Vec<_> = preflight::all().filter(|check| check.group == group).collect();
        let report = preflight::run(&machine, &checks);
        job.detail(&in_words(&report));
        job.end(report.count(Verdict::Failed) == 0);
        all.rows.extend(report.rows);
    }
    let count = |verdict| all.count(verdict);
    let summary = format!(
        "{} checks passed, {} failed, {} warnings, {} could not tell",
        count(Verdict::Passed),
        count(Verdict::Failed),
        count(Verdict::Warning),
        count(Verdict::CannotTell)
    );
    if count(Verdict::Failed) == 0 {
        return Ok(summary);
    }
    let failed: Vec<&str> =
        all.rows.iter().filter(|row| row.verdict == Verdict::Failed).map(|row| row.check.title).collect();
    Err(End::Failed(Failure::new(
        "the master target",
        "it is not ready",
        format!("{summary}: {}", failed.join(", ")),
        "on it, mtctl check tells what mends each of them, and mtctl check --fix mends most",
    )))
}

/// What was found, the worst first.
fn in_words(report: &Report) -> String {
    let told = |verdict, word: &str| {
        let rows = report.rows.iter().filter(move |row| row.verdict == verdict);
        rows.map(|row| format!("{word}: {}: {}", row.check.title, row.found)).collect::<Vec<_>>()
    };
    let worst = [told(Verdict::Failed, "failed"), told(Verdict::Warning, "warning")].concat();
    let passed = format!("{} of {} passed", report.count(Verdict::Passed), report.rows.len());
    if worst.is_empty() { passed } else { format!("{passed}; {}", worst.join("; ")) }
}

fn resume(teller: &Teller, job: &Job, item: &ItemHandle) -> Result<String, End> {
    job.begin("Open disks and journal");
    teller.wait_until_started(job, item)?;
    let is_open = matches!(item.snapshot().condition, Condition::Open(_));
    if !(job.is_continued() && is_open) {
        if !job.commit() {
            return Err(End::Cancelled);
        }
        teller.call(job, Call::Resume { item: item.name().to_owned() })?;
    }
    Ok(format!("{} is open: {}", item.name(), item.snapshot().state()))
}

fn start_test_failover(teller: &Teller, job: &Job, item: &str, point: &PointSelector) -> Result<String, End> {
    job.begin("Open the recovery point");
    if job.is_continued() {
        teller.wait_until_started(job, &*teller.target.item(item)?)?;
    }
    if !job.commit() {
        return Err(End::Cancelled);
    }
    let call = Call::TestFailoverStart { item: item.to_owned(), point: point.clone(), listen: None };
    let Answer::TestFailover(started) = teller.call(job, call)? else {
        return Err(End::Failed(Failure::new(item, "no test failover", "a defect", "report it")));
    };
    Ok(shown(&started))
}

fn shown(test: &TestFailover) -> String {
    let exports: Vec<String> =
        test.exports.iter().map(|export| format!("{} at {}", export.disk, export.uri)).collect();
    format!(
        "test failover {} of {} at recovery point {}: {}",
        test.id,
        test.item,
        test.point.number,
        exports.join(", ")
    )
}

fn stop_test_failover(teller: &Teller, job: &Job, item: &str, id: u64) -> Result<String, End> {
    job.begin("End the test failover");
    let known = teller.target.test_failovers.all().into_iter().find(|test| test.id == id);
    if known.is_none() && job.is_continued() {
        return Ok(format!("test failover {id} ended when the master target was restarted"));
    }
    if known.as_ref().is_some_and(|test| test.item != item) {
        return Err(End::Failed(Failure::new(
            format!("test failover {id}"),
            "it is not ended",
            format!("it is none of {item}"),
            "look at the test failovers there are: mtctl test-failover list",
        )));
    }
    if !job.commit() {
        return Err(End::Cancelled);
    }
    teller.call(job, Call::TestFailoverStop { id })?;
    Ok(format!("test failover {id} of {item} has ended"))
}
