//! The thread that asks for jobs, and those that run them.

use super::hub::Lane;
use super::job::{Active, End, Job};
use super::ledger::Taken;
use super::line::Line;
use super::session::Session;
use super::{Shared, spawn, turns};
use crate::error::{Error, Result};
use control_api::Failure;
use control_api::agent::{JOBS_PATH, JobOrder, JobsRequest, is_job_id};
use serde::Deserialize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the server is asked to wait for something to tell, in seconds.
const WAIT: u64 = 25;
/// Two questions are so far apart: an order is repeated until its first report is there.
const APART: Duration = Duration::from_millis(200);
/// Jobs that run at once; further ones wait.
pub(super) const AT_ONCE: usize = 8;
/// A job that this program did not survive so often is not begun again.
const ATTEMPTS: u32 = 5;

/// What the server answers. An order of a kind that this version does not know is told apart, and refused.
#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    orders: Vec<serde_json::Value>,
    #[serde(default)]
    cancel: Vec<String>,
}

pub(super) fn run(shared: &Arc<Shared>) {
    let hub = &shared.hub;
    let turn = |session: &Arc<Session>, line: &mut Line| {
        let begun = Instant::now();
        ask(shared, session, line)?;
        Ok(begun)
    };
    turns::take(shared, Lane::Jobs, turn, |session, begun| {
        hub.well(Lane::Jobs);
        hub.until_retry(session, APART.saturating_sub(begun.elapsed()))
    });
}

fn ask(shared: &Arc<Shared>, session: &Arc<Session>, line: &mut Line) -> Result<()> {
    let running = shared.active().iter().map(|active| active.order.id.clone()).collect();
    let request = JobsRequest { host: shared.host(session)?, running, wait_seconds: WAIT };
    let reply: Reply = line.post(session, JOBS_PATH, &request, Duration::from_secs(WAIT))?;
    for order in reply.orders {
        take(shared, session, order)?;
    }
    for id in &reply.cancel {
        shared.cancel(id);
    }
    Ok(())
}

/// Takes an order: begins it when it is new, and has it reported again when it has ended.
fn take(shared: &Arc<Shared>, session: &Session, order: serde_json::Value) -> Result<()> {
    let id = order.get("id").and_then(|id| id.as_str()).unwrap_or_default().to_owned();
    if !is_job_id(&id) {
        tracing::warn!("an order of the configuration server has no id, so it is left alone");
        return Ok(());
    }
    let order = match serde_json::from_value::<JobOrder>(order) {
        Ok(order) => order,
        Err(error) => {
            shared.refuse_order(&id, &error.to_string());
            return Ok(());
        }
    };
    let taken =
        shared.ledger().take(&session.registration.authority, &order).map_err(|cause| Error::File {
            path: shared.state.join("jobs"),
            what: "an order of the configuration server cannot be written down, so it is not begun",
            cause,
        })?;
    match taken {
        Taken::New => {
            tracing::info!(job = order.id, "ordered by the configuration server: {}", order.job.title());
            shared.queue(Active::new(order));
            shared.hub.report();
            fill(shared);
        }
        Taken::Ended => shared.hub.report(),
        Taken::Open => {}
        Taken::Full => tracing::debug!(job = order.id, "too many jobs; it is taken later"),
    }
    Ok(())
}

/// Takes up the jobs that were not ended when this program was.
pub(super) fn continue_open(shared: &Arc<Shared>, open: Vec<String>) {
    for id in open {
        let order = shared.ledger().get(&id).map(|entry| entry.order.clone());
        if let Some(order) = order {
            tracing::info!(job = order.id, "goes on after a restart: {}", order.job.title());
            shared.queue(Active::new(order));
        }
    }
    fill(shared);
}

/// Begins jobs as long as there is room.
fn fill(shared: &Arc<Shared>) {
    while let Some(active) = shared.next_to_run() {
        run_now(shared, active);
    }
}

pub(super) fn run_now(shared: &Arc<Shared>, active: Arc<Active>) {
    let name = format!("job {}", active.order.id);
    spawn(shared, &name, move |shared| {
        run_one(shared, active);
        fill(shared);
    });
}

fn run_one(shared: &Arc<Shared>, active: Arc<Active>) {
    let id = active.order.id.clone();
    let ended = match begin(shared, &active) {
        Ok(job) => catch_unwind(AssertUnwindSafe(|| shared.embedder.run(&job))).unwrap_or_else(|_| {
            Err(End::Failed(Failure::new(
                active.order.job.title(),
                "it ended in the middle",
                "a defect",
                "report it with the log of this host; look what came of it before it is ordered again",
            )))
        }),
        Err(end) => Err(end),
    };
    let Some(report) = active.last_report(ended) else {
        // To be stopped in good order is no failed attempt.
        let _ = shared.ledger().change(&id, |entry| entry.attempts = entry.attempts.min(1));
        return shared.ended(&id);
    };
    let said =
        report.failure.as_ref().map(ToString::to_string).or(report.outcome.clone()).unwrap_or_default();
    tracing::info!(job = id, state = %report.state, "{}: {said}", active.order.job.title());
    // It is told all the same; after a restart the job would go on, and find what it has done.
    if let Err(error) = shared.ledger().change(&id, |entry| entry.report = Some(report)) {
        tracing::error!(job = id, "what came of it cannot be written down: {error}");
    }
    shared.ended(&id);
    shared.hub.report();
    // Whatever it has changed is worth telling.
    shared.hub.hurry();
}

/// Writes down that a job begins.
fn begin(shared: &Arc<Shared>, active: &Arc<Active>) -> std::result::Result<Job, End> {
    if shared.hub.is_stopping() {
        return Err(End::Stopped);
    }
    let id = &active.order.id;
    let entry = shared.ledger().get(id).map(|entry| (entry.attempts, entry.note.clone()));
    let (attempts, note) = entry.unwrap_or_default();
    if attempts == 0 && active.is_cancelled() {
        return Err(End::Cancelled);
    }
    let title = active.order.job.title();
    if attempts >= ATTEMPTS {
        let why = format!("this program has ended {attempts} times while it was at it");
        let next = "look into the log of this host, and order it again";
        return Err(End::Failed(Failure::new(title, "it is given up", why, next)));
    }
    shared.ledger().change(id, |entry| entry.attempts += 1).map_err(|error| {
        let next = "make room on the volume of the state folder, and order it again";
        Failure::new(title, "it was not begun", format!("it cannot be written down: {error}"), next)
    })?;
    Ok(Job { active: active.clone(), shared: shared.clone(), continued: attempts > 0, note })
}
