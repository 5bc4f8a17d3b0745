//! Jobs: the list, the page of one, ordering and cancelling.

use super::lines::{JobLine, took_text};
use super::page::{Choice, Fact, Form, Frame, Problem, Section, Visit, show};
use super::redirect;
use super::ui;
use crate::access::Role;
use crate::server::actions::jobs as actions;
use crate::server::actions::workflows::{self, Wanted};
use crate::server::changes::Topic;
use crate::store::items;
use crate::store::jobs::{self, Job, Query};
use askama::Template;
use axum::extract::Path;
use axum::response::Response;
use control_api::Failure;
use control_api::agent::{JobKind, JobReport, JobState, JobStep, StepState};

/// Jobs on one page.
const SIZE: u32 = 50;
/// Jobs that a workflow may consist of.
const MAX_CHILDREN: u32 = JobReport::MAX_STEPS as u32;

#[derive(Template)]
#[template(path = "jobs.html")]
struct ListPage {
    frame: Frame,
    shown: Vec<Choice>,
    open_only: bool,
    rows: Vec<JobLine>,
    older: Option<String>,
}

#[derive(Template)]
#[template(path = "job.html")]
struct JobPage {
    frame: Frame,
    job: JobLine,
    heading: String,
    /// Number and name of the item that it is about.
    item: Option<(i64, String)>,
    /// Id and title of the workflow that it is a step of.
    workflow: Option<(String, String)>,
    may_cancel: bool,
    outcome: Option<String>,
    failure: Option<Failure>,
    steps: Vec<Stage>,
    waiting: &'static str,
    facts: Vec<Fact>,
}

struct Stage {
    class: &'static str,
    icon: &'static str,
    said: &'static str,
    name: String,
    took: String,
    detail: Option<String>,
    /// Id of the job that it is, when it is a step of a workflow.
    job: Option<String>,
}

/// `GET /jobs`.
pub(super) async fn list(visit: Visit) -> Result<Response, Problem> {
    let show_only = visit.query.get("show").to_owned();
    let open = match show_only.as_str() {
        "open" => Some(true),
        "ended" => Some(false),
        _ => None,
    };
    // One more than is shown tells whether there are older ones.
    let (before, limit) = (visit.query.number("before"), SIZE + 1);
    let query = Query { open, before, limit, whole: true, ..Query::default() };
    let mut found = visit.read(move |connection| jobs::list(connection, &query)).await?;
    let more = found.len() > SIZE as usize;
    found.truncate(SIZE as usize);
    let last = found.last().filter(|_| more).map(|job| job.number.to_string());
    let choices = [("", "All jobs"), ("open", "Waiting and running"), ("ended", "Ended")];
    show(&ListPage {
        frame: visit.frame(Section::Jobs, "Jobs", "jobs"),
        shown: choices.map(|(id, title)| Choice::new(id, title, &show_only)).into(),
        open_only: open == Some(true),
        rows: found.iter().map(|job| JobLine::new(job, visit.now)).collect(),
        older: last.map(|last| visit.query.with(&[("before", &last), ("done", "")])),
    })
}

/// `GET /jobs/{id}`.
pub(super) async fn page(visit: Visit, Path(id): Path<String>) -> Result<Response, Problem> {
    let wanted = id.clone();
    let found = visit.read(move |connection| {
        let Some(job) = jobs::by_uuid(connection, &wanted)? else { return Ok(None) };
        let parent =
            job.parent.as_ref().map(|parent| jobs::by_uuid(connection, parent)).transpose()?.flatten();
        let query = Query { parent: Some(wanted), limit: MAX_CHILDREN, ..Query::default() };
        let name = match (job.job.item(), job.item) {
            // A bookmark is ordered for an item, and names none.
            (None, Some(item)) => items::by_id(connection, item)?.map(|item| item.name),
            (name, _) => name.map(str::to_owned),
        };
        Ok(Some((job, name, parent, jobs::list(connection, &query)?)))
    });
    let Some((job, name, parent, children)) = found.await? else {
        return Err(Problem::missing(&format!("job {id}"), "the jobs"));
    };
    let report = job.report.as_ref();
    let can_cancel = !job.state.has_ended() && report.is_none_or(|report| report.can_cancel);
    let mut heading = job.job.title();
    if let Some(first) = heading.get(..1) {
        heading = first.to_uppercase() + &heading[1..];
    }
    let mut frame = visit.frame(Section::Jobs, job.job.title(), "jobs");
    if job.state.has_ended() {
        frame.notice = None;
    }
    show(&JobPage {
        frame,
        heading,
        item: job.item.zip(name),
        workflow: parent.map(|parent| (parent.id, parent.job.title())),
        may_cancel: can_cancel && job.cancelled_by.is_none() && visit.may(Role::Operator),
        outcome: report
            .and_then(|report| report.outcome.clone())
            .filter(|_| job.state == JobState::Succeeded),
        failure: report.and_then(|report| report.failure.clone()),
        steps: report
            .map_or(Vec::new(), |report| report.steps.iter().map(|step| stage(step, &children)).collect()),
        waiting: match job.state {
            JobState::Queued => {
                "The host has not taken it yet. A connected host takes a job within a second; one that is not connected \
                 takes it when it is back."
            }
            JobState::Running => "The host has begun, and has told no step yet.",
            _ => "It ended without a step.",
        },
        facts: facts(&job),
        job: JobLine::new(&job, visit.now),
    })
}

/// A step; of a workflow, each is a job, and called like that.
fn stage(step: &JobStep, children: &[Job]) -> Stage {
    let (class, icon, said) = match step.state {
        StepState::Waiting => ("waiting", "waiting", "waiting"),
        StepState::Running => ("running", "running", "running"),
        StepState::Done => ("done", "ok", "done"),
        StepState::Failed => ("failed", "critical", "failed"),
        _ => ("waiting", "idle", "unknown"),
    };
    let took = step.started.zip(step.ended).map(|(started, ended)| took_text(ended.saturating_sub(started)));
    Stage {
        class,
        icon,
        said,
        name: step.name.clone(),
        took: took.unwrap_or_default(),
        detail: step.detail.clone(),
        job: children.iter().find(|child| child.title() == step.name).map(|child| child.id.clone()),
    }
}

fn facts(job: &Job) -> Vec<Fact> {
    let mut facts = vec![Fact::new("Ordered by", job.ordered_by.clone()), Fact::at("Ordered", job.ordered)];
    if let Some(report) = &job.report {
        facts.push(Fact::at("Begun", report.started));
        facts.extend(report.ended.map(|time| Fact::at("Ended", time)));
        let took = report.ended.map(|ended| took_text(ended.saturating_sub(report.started)));
        facts.extend(took.map(|took| Fact::new("Took", took)));
        facts.extend(report.seconds_left.map(|left| Fact::new("Will take", ui::seconds(left))));
    }
    facts.extend(job.cancelled_by.clone().map(|who| Fact::new("Cancelled by", who)));
    facts.push(Fact::new("Id", job.id.clone()));
    facts
}

/// Orders a job, and goes to its page.
pub(super) async fn order(visit: &Visit, host: String, job: JobKind) -> Result<Response, Problem> {
    let (by, now) = (visit.caller.name.clone(), visit.now);
    let job = visit.change(&[Topic::Jobs], move |store| actions::order(store, &host, job, by, now)).await?;
    Ok(ordered(&job))
}

/// Orders a workflow of an item, and goes to its page.
pub(super) async fn order_workflow(visit: &Visit, item: i64, wanted: Wanted) -> Result<Response, Problem> {
    let (by, now) = (visit.caller.name.clone(), visit.now);
    let job =
        visit.change(&[Topic::Jobs], move |store| workflows::order(store, item, wanted, &by, now)).await?;
    Ok(ordered(&job))
}

/// Goes to the page of a job that was ordered.
pub(super) fn ordered(job: &Job) -> Response {
    redirect(&format!("/jobs/{}?done=ordered", job.id))
}

/// `POST /jobs/{id}/cancel`.
pub(super) async fn cancel(visit: Visit, Path(id): Path<String>, _form: Form) -> Result<Response, Problem> {
    let (by, now) = (visit.caller.name.clone(), visit.now);
    let cancelled = visit.change(&actions::CANCELLED, move |store| actions::cancel(store, &id, &by, now));
    Ok(redirect(&format!("/jobs/{}?done=cancelled", cancelled.await?.id)))
}
