//! What hosts were ordered to do, and what became of it.
//!
//! A job is queued until its host reports of it, then running, then ended, and never goes back. As long as its order was
//! handed to nobody, it can be given up here at once; from then on only its host knows whether it has begun, so giving it
//! up means to ask the host for it.
//!
//! A job can also be one of several steps of a workflow ([`workflows`]), which is a job itself that no host is told of.
//! The end of a step is what the workflow goes on from, in the same transaction.

mod handing;
mod meetings;

pub(crate) use handing::{due, tell, untold, waited_for};
pub(crate) use meetings::{Seat, seat};

use super::events::{self, Event};
use super::hosts::Known;
use super::json;
use super::workflows::{self, Task};
use control_api::agent::{JobKind, JobReport, JobState};
use control_api::registration::{Hex, HostKind};
use control_api::time::Time;
use control_api::{ApiError, ErrorCode, Failure, Severity};
use rand_core::{OsRng, RngCore};
use rusqlite::{Connection, OptionalExtension, Result, Row, params};
use serde::Serialize;

/// Jobs of one host that have not ended.
pub(crate) const MAX_OPEN: u32 = 64;

/// Jobs that have ended and are kept.
const MAX_ENDED: u32 = 10_000;

/// The longest text in an order, in bytes.
const MAX_TEXT: usize = 255;

/// Children that a workflow may have.
const MAX_CHILDREN: u32 = 128;

/// Something that was refused, or done.
pub(super) type Outcome<T> = Result<std::result::Result<T, ApiError>>;

/// What is ordered.
#[derive(Clone, Debug)]
pub(crate) struct NewJob {
    /// Row of the host.
    pub(crate) host: i64,
    /// Number of the item that it is about; when missing, it is looked for by the name in the order.
    pub(crate) item: Option<i64>,
    pub(crate) job: JobKind,
    /// Who orders it.
    pub(crate) by: String,
    pub(crate) now: Time,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Job {
    /// A later job has a greater one; for lists.
    pub(crate) number: i64,
    pub(crate) id: String,
    #[serde(skip)]
    pub(crate) host_row: i64,
    /// Id of its host.
    pub(crate) host: String,
    pub(crate) host_name: String,
    /// Number of the item that it is about, when that is known here.
    pub(crate) item: Option<i64>,
    pub(crate) job: Task,
    pub(crate) state: JobState,
    pub(crate) ordered: Time,
    pub(crate) ordered_by: String,
    /// When the order was first handed to the host.
    pub(crate) told: Option<Time>,
    pub(crate) ended: Option<Time>,
    /// Who wants it to be given up.
    pub(crate) cancelled_by: Option<String>,
    /// What its host last reported; of a workflow, what is put together from its steps.
    pub(crate) report: Option<JobReport>,
    /// Id of the workflow that it is a step of.
    pub(crate) parent: Option<String>,
    #[serde(skip)]
    pub(crate) parent_number: Option<i64>,
    /// Which step of that.
    #[serde(skip)]
    pub(crate) step: Option<usize>,
}

impl Job {
    /// What people call it, with its host; a workflow calls its steps so.
    pub(crate) fn title(&self) -> String {
        format!("{} ({})", self.job.title(), self.host_name)
    }
}

/// Which jobs are wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    /// Of the host with this id.
    pub(crate) host: Option<String>,
    /// About the item of this number.
    pub(crate) item: Option<i64>,
    /// True for those that go on, false for those that have ended.
    pub(crate) open: Option<bool>,
    /// Steps of the workflow with this id.
    pub(crate) parent: Option<String>,
    /// No steps of workflows, but those that were left to a host when their workflow had ended, and of an item those of its
    /// group's workflows.
    pub(crate) whole: bool,
    /// Older than the job of this number.
    pub(crate) before: Option<i64>,
    /// At most so many.
    pub(crate) limit: u32,
}

const SELECT: &str = "SELECT job.id, job.uuid, job.host, host.uuid, host.name, job.item, job.body, job.state, \
     job.ordered, job.ordered_by, job.told, job.ended, job.cancelled_by, job.report, workflow.uuid, job.parent, job.step \
     FROM job JOIN host ON host.id = job.host LEFT JOIN job AS workflow ON workflow.id = job.parent";

fn job(row: &Row<'_>) -> Result<Job> {
    Ok(Job {
        number: row.get(0)?,
        id: row.get(1)?,
        host_row: row.get(2)?,
        host: row.get(3)?,
        host_name: row.get(4)?,
        item: row.get(5)?,
        job: json::column(row, 6)?,
        state: json::word(row, 7, JobState::parse)?,
        ordered: row.get(8)?,
        ordered_by: row.get(9)?,
        told: row.get(10)?,
        ended: row.get(11)?,
        cancelled_by: row.get(12)?,
        report: json::optional(row, 13)?,
        parent: row.get(14)?,
        parent_number: row.get(15)?,
        step: row.get(16)?,
    })
}

/// Jobs, the newest first.
pub(crate) fn list(connection: &Connection, query: &Query) -> Result<Vec<Job>> {
    let sql = format!(
        "{SELECT} WHERE (?1 IS NULL OR host.uuid = ?1) AND (?2 IS NULL OR job.item = ?2) \
         AND (?3 IS NULL OR (job.ended IS NULL) = ?3) AND (?4 IS NULL OR job.id < ?4) \
         AND (?5 IS NULL OR workflow.uuid = ?5) AND (NOT ?6 OR job.parent IS NULL \
         OR (job.ended IS NULL AND workflow.ended IS NOT NULL) OR (?2 IS NOT NULL AND workflow.item IS NULL)) \
         ORDER BY job.id DESC LIMIT ?7"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let Query { host, item, open, parent, whole, before, limit } = query;
    statement.query_map(params![host, item, open, before, parent, whole, limit], job)?.collect()
}

/// The children of a workflow, the newest first.
pub(super) fn children(connection: &Connection, workflow: i64) -> Result<Vec<Job>> {
    let sql = format!("{SELECT} WHERE job.parent = ? ORDER BY job.id DESC LIMIT {MAX_CHILDREN}");
    connection.prepare_cached(&sql)?.query_map([workflow], job)?.collect()
}

/// The job of this number.
pub(super) fn by_number(connection: &Connection, number: i64) -> Result<Option<Job>> {
    connection.prepare_cached(&format!("{SELECT} WHERE job.id = ?"))?.query_row([number], job).optional()
}

/// The job with this id.
pub(crate) fn by_uuid(connection: &Connection, id: &str) -> Result<Option<Job>> {
    connection.prepare_cached(&format!("{SELECT} WHERE job.uuid = ?"))?.query_row([id], job).optional()
}

/// Adds a job for a host that is registered.
pub(crate) fn add(connection: &Connection, new: &NewJob) -> Outcome<Job> {
    if let Some(refused) = refused(connection, new.host, &new.job)? {
        return Ok(Err(refused));
    }
    let item = match (new.item, new.job.item()) {
        (None, Some(item)) => connection
            .query_row("SELECT id FROM item WHERE host = ? AND name = ?", params![new.host, item], |row| {
                row.get(0)
            })
            .optional()?,
        (item, _) => item,
    };
    let task = Task::Order(new.job.clone());
    let number =
        insert(connection, &NewRow { host: new.host, item, task: &task, by: &new.by, now: new.now })?;
    found(connection, number)
}

/// A job as it is written down first.
pub(super) struct NewRow<'a> {
    pub(super) host: i64,
    pub(super) item: Option<i64>,
    pub(super) task: &'a Task,
    pub(super) by: &'a str,
    pub(super) now: Time,
}

/// Writes a job down, and gives its number.
pub(super) fn insert(connection: &Connection, new: &NewRow<'_>) -> Result<i64> {
    let mut id = [0; 16];
    OsRng.fill_bytes(&mut id);
    let id = Hex::from(id.as_slice()).to_string();
    connection.execute(
        "INSERT INTO job (uuid, host, item, body, state, ordered, ordered_by) VALUES (?, ?, ?, ?, ?, ?, ?)",
        params![id, new.host, new.item, json::text(new.task)?, JobState::Queued.id(), new.now, new.by],
    )?;
    Ok(connection.last_insert_rowid())
}

/// The job of this number, which was there a moment ago.
pub(super) fn found(connection: &Connection, number: i64) -> Outcome<Job> {
    Ok(by_number(connection, number)?.ok_or_else(|| unknown(&number.to_string())))
}

/// Why a host is not ordered to do this.
pub(super) fn refused(connection: &Connection, host: i64, job: &JobKind) -> Result<Option<ApiError>> {
    let sql = "SELECT kind, name, revoked IS NOT NULL, \
         (SELECT count(*) FROM job WHERE job.host = host.id AND ended IS NULL AND plan IS NULL) FROM host WHERE id = ?";
    connection.query_row(sql, [host], |row| {
        let (kind, name): (HostKind, String) = (json::word(row, 0, HostKind::parse)?, row.get(1)?);
        Ok(refusal(job, kind, &name, row.get(2)?, row.get(3)?))
    })
}

/// Why a job is not added.
fn refusal(job: &JobKind, kind: HostKind, host: &str, revoked: bool, open: u32) -> Option<ApiError> {
    let refused = |code, why: String, next: &str| {
        Some(ApiError::new(code, job.title(), format!("{host} is not ordered to do it"), why, next))
    };
    let does_it = job.done_by();
    let bad = |text: &str| text.is_empty() || text.len() > MAX_TEXT || text.contains(char::is_control);
    if job.names().into_iter().any(bad) {
        let why = format!("a name in it is empty, longer than {MAX_TEXT} bytes, or has control characters");
        return refused(ErrorCode::BadRequest, why, "give another name");
    }
    if kind != does_it {
        return refused(
            ErrorCode::BadRequest,
            format!("it is a {kind}, and only a {does_it} does that"),
            "choose another host",
        );
    }
    if revoked {
        return refused(ErrorCode::Conflict, "its registration was revoked".into(), "register it again");
    }
    if open >= MAX_OPEN {
        return refused(
            ErrorCode::Conflict,
            format!("{open} jobs of it have not ended"),
            "wait for them, or cancel some of them",
        );
    }
    None
}

fn unknown(id: &str) -> ApiError {
    let shown: String = id.chars().take(64).collect();
    ApiError::new(
        ErrorCode::NotFound,
        format!("job {shown}"),
        "there is no such job",
        "it was never ordered, it is another host's, or it ended so long ago that it was forgotten",
        "look at the list of jobs",
    )
}

/// Gives a job up: at once when its host was never told of it, otherwise the host is asked to.
pub(crate) fn cancel(connection: &Connection, id: &str, by: &str, now: Time) -> Outcome<Job> {
    let Some(job) = by_uuid(connection, id)? else { return Ok(Err(unknown(id))) };
    let refused = |why: String| {
        let title = job.title();
        let next = "wait for its end, or look at what came of it";
        Ok(Err(ApiError::new(ErrorCode::Conflict, title, "it cannot be cancelled", why, next)))
    };
    if job.state.has_ended() {
        return refused(format!("it has ended: {}", job.state));
    }
    if job.report.as_ref().is_some_and(|report| report.state == JobState::Running && !report.can_cancel) {
        return refused("it has come so far that stopping it would not be safe".into());
    }
    if job.job.order().is_none() {
        return workflows::cancel(connection, &job, by, now);
    }
    if job.cancelled_by.is_none() {
        connection.execute("UPDATE job SET cancelled_by = ? WHERE uuid = ?", params![by, id])?;
    }
    if job.told.is_none() {
        end(connection, &job, JobState::Cancelled, None, &cancelled(&job, by), now)?;
    }
    found(connection, job.number)
}

/// Ends a job, tells of it, and has its workflow go on.
fn end(
    connection: &Connection,
    job: &Job,
    state: JobState,
    report: Option<&JobReport>,
    event: &Event,
    now: Time,
) -> Result<()> {
    connection.execute(
        "UPDATE job SET state = ?, ended = ?, report = ifnull(?, report) WHERE id = ?",
        params![state.id(), now, report.map(json::text).transpose()?, job.number],
    )?;
    // A workflow that has not ended is read from its children.
    connection.execute(
        "DELETE FROM job WHERE id IN \
         (SELECT id FROM job WHERE ended IS NOT NULL ORDER BY ended DESC, id DESC LIMIT -1 OFFSET ?) \
         AND (parent IS NULL OR parent NOT IN (SELECT id FROM job WHERE ended IS NULL AND plan IS NOT NULL))",
        [MAX_ENDED],
    )?;
    // What becomes of a step that a workflow waits for is told by the workflow.
    let waits = "SELECT EXISTS (SELECT 1 FROM job WHERE id = ? AND ended IS NULL)";
    let told = connection.query_row(waits, [job.parent_number], |row| row.get(0))?
        || is_no_news(connection, job, state)?;
    if !told {
        events::add(connection, &Event { time: now, ..event.clone() })?;
    }
    workflows::child_ended(connection, job, state, now)
}

/// Whether a job that nobody ordered has done what it is to do, or failed as the one before has.
fn is_no_news(connection: &Connection, job: &Job, state: JobState) -> Result<bool> {
    if !job.job.is_regular() {
        return Ok(false);
    }
    let failed_before = workflows::failed_before(connection, job)?;
    Ok((state == JobState::Succeeded && !failed_before) || (state == JobState::Failed && failed_before))
}

/// Ends a job as its report says.
pub(super) fn end_told(connection: &Connection, job: &Job, report: &JobReport, now: Time) -> Result<()> {
    end(connection, job, report.state, Some(report), &told(job, report), now)
}

/// Ends a job that nobody will report of as failed.
pub(super) fn fail(connection: &Connection, job: &Job, failure: Failure, now: Time) -> Result<()> {
    let last = job.report.clone().unwrap_or_else(|| JobReport {
        id: job.id.clone(),
        state: JobState::Failed,
        started: now,
        ended: None,
        steps: Vec::new(),
        progress: None,
        seconds_left: None,
        can_cancel: false,
        outcome: None,
        failure: None,
    });
    let (state, ended) = (JobState::Failed, Some(now));
    end_told(
        connection,
        job,
        &JobReport { state, ended, can_cancel: false, failure: Some(failure), ..last },
        now,
    )
}

fn event(job: &Job, kind: &str, severity: Severity, what: &str, cause: String, next: String) -> Event {
    Event {
        id: 0,
        time: 0,
        severity,
        kind: kind.into(),
        object: job.title(),
        what: what.into(),
        cause,
        next,
        host: Some(job.host_row),
        item: job.item,
    }
}

fn cancelled(job: &Job, by: &str) -> Event {
    let cause = format!("{by} cancelled it");
    event(job, "job-cancelled", Severity::Info, "the job was cancelled", cause, String::new())
}

/// What the report of a job's end is told as.
fn told(job: &Job, report: &JobReport) -> Event {
    let outcome = report.outcome.clone().unwrap_or_default();
    let failure = report.failure.as_ref();
    match (report.state, failure) {
        (JobState::Failed, Some(failure)) => event(
            job,
            "job-failed",
            Severity::Warning,
            &format!("the job failed: {}: {}", failure.object, failure.what),
            failure.why.clone(),
            failure.next.clone(),
        ),
        (JobState::Failed, None) => {
            let next = format!("look into the log of {}", job.host_name);
            event(job, "job-failed", Severity::Warning, "the job failed", outcome, next)
        }
        (JobState::Cancelled, _) => match &job.cancelled_by {
            Some(by) => cancelled(job, by),
            None => {
                event(job, "job-cancelled", Severity::Info, "the job was given up", outcome, String::new())
            }
        },
        _ => event(job, "job-succeeded", Severity::Info, "the job is done", outcome, String::new()),
    }
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Noted {
    /// Whether the job is to be given up where that is safe.
    pub(crate) cancel: bool,
    /// Whether the report told anything new.
    pub(crate) changed: bool,
}

/// Writes down what the host in row `host` reports. A job that has ended stays as it is, and no job goes back.
pub(crate) fn report(connection: &Connection, host: i64, report: &JobReport, now: Time) -> Outcome<Noted> {
    // What becomes of a workflow is known here alone.
    let reports = |job: &Job| job.host_row == host && job.job.order().is_some();
    let Some(job) = by_uuid(connection, &report.id)?.filter(reports) else {
        return Ok(Err(unknown(&report.id)));
    };
    let rank = |state: JobState| match state {
        JobState::Queued => 0,
        state if state.has_ended() => 2,
        _ => 1,
    };
    if job.state.has_ended() {
        return Ok(Ok(Noted { cancel: false, changed: false }));
    }
    let cancel = job.cancelled_by.is_some();
    if rank(report.state) < rank(job.state) || job.report.as_ref() == Some(report) {
        return Ok(Ok(Noted { cancel, changed: false }));
    }
    if report.state.has_ended() {
        end_told(connection, &job, report, now)?;
        return Ok(Ok(Noted { cancel: false, changed: true }));
    }
    // It may have been told in a transaction that a loss of power took.
    connection.execute(
        "UPDATE job SET state = ?1, report = ?2, told = ifnull(told, ?3) WHERE id = ?4",
        params![report.state.id(), json::text(report)?, now, job.number],
    )?;
    workflows::tell(connection, &job)?;
    Ok(Ok(Noted { cancel, changed: true }))
}

/// The open jobs of a host whose registration was revoked fail: nobody will ever report of them. Workflows go on from
/// those of their steps.
pub(crate) fn fail_all(connection: &Connection, host: &Known, now: Time) -> Result<()> {
    let limit = u32::MAX;
    let query = Query { host: Some(host.id.clone()), open: Some(true), limit, ..Query::default() };
    for job in list(connection, &query)?.iter().filter(|job| job.job.order().is_some()) {
        let failure = Failure::new(
            job.job.title(),
            "nobody tells any more what becomes of it",
            format!("the registration of {} was revoked before the job had ended", host.name),
            format!("register {} again, look how far it came, and order it anew", host.name),
        );
        fail(connection, job, failure, now)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
