//! What hosts were ordered to do, and what became of it.
//!
//! A job is queued until its host reports of it, then running, then ended, and never goes back. As long as its order was
//! handed to nobody, it can be given up here at once; from then on only its host knows whether it has begun, so giving it
//! up means to ask the host for it.

use super::events::{self, Event};
use super::hosts::Known;
use super::json;
use control_api::agent::{JobKind, JobOrder, JobReport, JobState, JobsReply};
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

/// Something that was refused, or done.
type Outcome<T> = Result<std::result::Result<T, ApiError>>;

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
    pub(crate) job: JobKind,
    pub(crate) state: JobState,
    pub(crate) ordered: Time,
    pub(crate) ordered_by: String,
    /// When the order was first handed to the host.
    pub(crate) told: Option<Time>,
    pub(crate) ended: Option<Time>,
    /// Who wants it to be given up.
    pub(crate) cancelled_by: Option<String>,
    /// What its host last reported.
    pub(crate) report: Option<JobReport>,
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
    /// Older than the job of this number.
    pub(crate) before: Option<i64>,
    /// At most so many.
    pub(crate) limit: u32,
}

const SELECT: &str = "SELECT job.id, job.uuid, job.host, host.uuid, host.name, job.item, job.body, job.state, \
     job.ordered, job.ordered_by, job.told, job.ended, job.cancelled_by, job.report \
     FROM job JOIN host ON host.id = job.host";

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
    })
}

/// Jobs, the newest first.
pub(crate) fn list(connection: &Connection, query: &Query) -> Result<Vec<Job>> {
    let sql = format!(
        "{SELECT} WHERE (?1 IS NULL OR host.uuid = ?1) AND (?2 IS NULL OR job.item = ?2) \
         AND (?3 IS NULL OR (job.ended IS NULL) = ?3) AND (?4 IS NULL OR job.id < ?4) \
         ORDER BY job.id DESC LIMIT ?5"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    statement
        .query_map(params![query.host, query.item, query.open, query.before, query.limit], job)?
        .collect()
}

/// The job with this id.
pub(crate) fn by_uuid(connection: &Connection, id: &str) -> Result<Option<Job>> {
    connection.prepare_cached(&format!("{SELECT} WHERE job.uuid = ?"))?.query_row([id], job).optional()
}

/// Adds a job for a host that is registered.
pub(crate) fn add(connection: &Connection, new: &NewJob) -> Outcome<Job> {
    let sql = "SELECT kind, name, revoked IS NOT NULL, \
         (SELECT count(*) FROM job WHERE job.host = host.id AND ended IS NULL) FROM host WHERE id = ?";
    let (kind, name, revoked, open): (HostKind, String, bool, u32) =
        connection.query_row(sql, [new.host], |row| {
            Ok((json::word(row, 0, HostKind::parse)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?;
    if let Some(refused) = refusal(&new.job, kind, &name, revoked, open) {
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
    let mut id = [0; 16];
    OsRng.fill_bytes(&mut id);
    let id = Hex::from(id.as_slice()).to_string();
    connection.execute(
        "INSERT INTO job (uuid, host, item, body, state, ordered, ordered_by) VALUES (?, ?, ?, ?, ?, ?, ?)",
        params![id, new.host, item, json::text(&new.job)?, JobState::Queued.id(), new.now, new.by],
    )?;
    found(connection, &id)
}

fn found(connection: &Connection, id: &str) -> Outcome<Job> {
    Ok(by_uuid(connection, id)?.ok_or_else(|| unknown(id)))
}

/// Why a job is not added.
fn refusal(job: &JobKind, kind: HostKind, host: &str, revoked: bool, open: u32) -> Option<ApiError> {
    let refused = |code, why: String, next: &str| {
        Some(ApiError::new(code, job.title(), format!("{host} is not ordered to do it"), why, next))
    };
    let does_it = match job {
        JobKind::Bookmark { .. } => HostKind::SourceAgent,
        _ => HostKind::MasterTarget,
    };
    let texts = [job.item(), if let JobKind::Bookmark { name, .. } = job { Some(name) } else { None }];
    let bad = |text: &str| text.is_empty() || text.len() > MAX_TEXT || text.contains(char::is_control);
    if texts.into_iter().flatten().any(bad) {
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
        let title = format!("{} ({})", job.job.title(), job.host_name);
        let next = "wait for its end, or look at what came of it";
        Ok(Err(ApiError::new(ErrorCode::Conflict, title, "it cannot be cancelled", why, next)))
    };
    if job.state.has_ended() {
        return refused(format!("it has ended: {}", job.state));
    }
    if job.report.as_ref().is_some_and(|report| report.state == JobState::Running && !report.can_cancel) {
        return refused("it has come so far that stopping it would not be safe".into());
    }
    if job.cancelled_by.is_none() {
        connection.execute("UPDATE job SET cancelled_by = ? WHERE uuid = ?", params![by, id])?;
    }
    if job.told.is_none() {
        end(connection, &job, JobState::Cancelled, None, &cancelled(&job, by), now)?;
    }
    found(connection, id)
}

/// Ends a job and tells of it.
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
    connection.execute(
        "DELETE FROM job WHERE id IN \
         (SELECT id FROM job WHERE ended IS NOT NULL ORDER BY ended DESC, id DESC LIMIT -1 OFFSET ?)",
        [MAX_ENDED],
    )?;
    events::add(connection, &Event { time: now, ..event.clone() }).map(drop)
}

fn event(job: &Job, kind: &str, severity: Severity, what: &str, cause: String, next: String) -> Event {
    Event {
        id: 0,
        time: 0,
        severity,
        kind: kind.into(),
        object: format!("{} ({})", job.job.title(), job.host_name),
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
    let Some(job) = by_uuid(connection, &report.id)?.filter(|job| job.host_row == host) else {
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
        end(connection, &job, report.state, Some(report), &told(&job, report), now)?;
        return Ok(Ok(Noted { cancel: false, changed: true }));
    }
    // It may have been told in a transaction that a loss of power took.
    connection.execute(
        "UPDATE job SET state = ?1, report = ?2, told = ifnull(told, ?3) WHERE id = ?4",
        params![report.state.id(), json::text(report)?, now, job.number],
    )?;
    Ok(Ok(Noted { cancel, changed: true }))
}

/// What there is to tell the host in this row, which has the jobs `running` already.
pub(crate) fn due(connection: &Connection, host: i64, running: &[String]) -> Result<JobsReply> {
    let mut statement = connection.prepare_cached(
        "SELECT uuid, body, ordered, report IS NULL, cancelled_by IS NOT NULL FROM job \
         WHERE host = ? AND ended IS NULL AND (report IS NULL OR cancelled_by IS NOT NULL) ORDER BY id",
    )?;
    let mut rows = statement.query([host])?;
    let mut reply = JobsReply::default();
    while let Some(row) = rows.next()? {
        let order = JobOrder { id: row.get(0)?, job: json::column(row, 1)?, ordered: row.get(2)? };
        let (unreported, cancelled): (bool, bool) = (row.get(3)?, row.get(4)?);
        if cancelled {
            reply.cancel.push(order.id.clone());
        }
        if unreported && !running.contains(&order.id) {
            reply.orders.push(order);
        }
    }
    Ok(reply)
}

/// Whether any of these orders was never handed out.
pub(crate) fn untold(connection: &Connection, orders: &[JobOrder]) -> Result<bool> {
    let mut statement =
        connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM job WHERE uuid = ? AND told IS NULL)")?;
    for order in orders {
        if statement.query_row([&order.id], |row| row.get(0))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// From now on these orders count as handed out; those of jobs that ended meanwhile are taken out.
pub(crate) fn tell(connection: &Connection, orders: &mut Vec<JobOrder>, now: Time) -> Result<()> {
    let mut statement = connection
        .prepare_cached("UPDATE job SET told = ifnull(told, ?) WHERE uuid = ? AND ended IS NULL")?;
    let mut open = Vec::with_capacity(orders.len());
    for order in orders.drain(..) {
        if statement.execute(params![now, order.id])? == 1 {
            open.push(order);
        }
    }
    *orders = open;
    Ok(())
}

/// The rows of the hosts that there is something to tell.
pub(crate) fn waited_for(connection: &Connection) -> Result<Vec<i64>> {
    let mut statement = connection.prepare_cached(
        "SELECT DISTINCT host FROM job WHERE ended IS NULL AND (report IS NULL OR cancelled_by IS NOT NULL)",
    )?;
    statement.query_map([], |row| row.get(0))?.collect()
}

/// The open jobs of a host whose registration was revoked fail: nobody will ever report of them.
pub(crate) fn fail_all(connection: &Connection, host: &Known, now: Time) -> Result<()> {
    let query = Query { host: Some(host.id.clone()), open: Some(true), limit: MAX_OPEN, ..Query::default() };
    for job in list(connection, &query)? {
        let failure = Failure::new(
            job.job.title(),
            "nobody tells any more what becomes of it",
            format!("the registration of {} was revoked before the job had ended", host.name),
            format!("register {} again, look how far it came, and order it anew", host.name),
        );
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
        let state = JobState::Failed;
        let report = JobReport { state, ended: Some(now), can_cancel: false, failure: Some(failure), ..last };
        end(connection, &job, state, Some(&report), &told(&job, &report), now)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
