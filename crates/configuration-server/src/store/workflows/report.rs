//! What is told of a workflow, put together from what is told of its children.

use super::engine::{Fate, Run};
use super::plan::{Role, Step};
use super::{Task, Workflow};
use crate::store::jobs::Job;
use control_api::Failure;
use control_api::agent::{JobReport, JobState, JobStep, StepState};
use control_api::time::Time;

/// How far it is.
pub(super) fn so_far(run: &Run) -> JobReport {
    let newest = run.newest();
    let report =
        run.open().next().or(newest.map(|(_, child, _)| child)).and_then(|child| child.report.as_ref());
    let has_begun = run.ordered(|_| true).any(|(_, child, _)| child.report.is_some()) || run.is_past_first();
    JobReport {
        id: run.workflow.id.clone(),
        state: if has_begun { JobState::Running } else { JobState::Queued },
        started: run.workflow.ordered,
        ended: None,
        steps: steps(run),
        progress: report.and_then(|report| report.progress),
        seconds_left: report.and_then(|report| report.seconds_left),
        can_cancel: run.can_be_cancelled(),
        outcome: None,
        failure: None,
    }
}

/// How it has ended.
pub(super) fn last(run: &Run, state: JobState, now: Time) -> JobReport {
    JobReport {
        state,
        ended: Some(now),
        progress: None,
        seconds_left: None,
        can_cancel: false,
        outcome: (state != JobState::Failed).then(|| outcome(run, state)),
        failure: (state == JobState::Failed).then(|| failure(run)),
        ..so_far(run)
    }
}

/// The steps that belong to it, and those that undo as far as they were ordered.
fn steps(run: &Run) -> Vec<JobStep> {
    let each = run.steps.iter().enumerate();
    let told = each.filter(|(number, step)| !is_undo(step.role) || run.child(*number).is_some());
    told.map(|(number, step)| told_of(step, run.child(number))).collect()
}

fn is_undo(role: Role) -> bool {
    matches!(role, Role::Undo { .. })
}

fn told_of(step: &Step, child: Option<(&Job, Fate)>) -> JobStep {
    let name = title(step);
    let Some((child, fate)) = child else {
        return JobStep { name, state: StepState::Waiting, detail: None, started: None, ended: None };
    };
    let report = child.report.as_ref();
    let state = match fate {
        Fate::Open if report.is_some() => StepState::Running,
        Fate::Open | Fate::Left => StepState::Waiting,
        Fate::Done => StepState::Done,
        Fate::Failed | Fate::Cancelled => StepState::Failed,
    };
    let detail = match fate {
        Fate::Open if report.is_none() => Some(format!("{} has not taken it yet", step.place.name)),
        Fate::Open => report.and_then(running),
        _ => Some(result(step, child, fate)),
    };
    let started = report.map(|report| report.started);
    JobStep { name, state, detail, started, ended: report.and_then(|report| report.ended) }
}

/// What a step is called.
fn title(step: &Step) -> String {
    format!("{} ({})", step.job.title(), step.place.name)
}

/// What a child is at.
fn running(report: &JobReport) -> Option<String> {
    let step = report.steps.iter().rev().find(|step| step.state == StepState::Running)?;
    Some(step.detail.as_ref().map_or_else(|| step.name.clone(), |detail| format!("{}: {detail}", step.name)))
}

/// What came of a step.
fn result(step: &Step, child: &Job, fate: Fate) -> String {
    let report = child.report.as_ref();
    match fate {
        Fate::Left => format!("{} is not connected: it takes effect when it is back", step.place.name),
        Fate::Failed => {
            let failure = failure_of(step, child);
            format!("{}: {}", failure.what, failure.why)
        }
        Fate::Cancelled => "it was cancelled".to_owned(),
        Fate::Done | Fate::Open => {
            report.and_then(|report| report.outcome.clone()).unwrap_or_else(|| "done".to_owned())
        }
    }
}

fn failure_of(step: &Step, child: &Job) -> Failure {
    child.report.as_ref().and_then(|report| report.failure.clone()).unwrap_or_else(|| {
        let next = format!("look into the log of {}", step.place.name);
        Failure::new(step.job.title(), "it failed", "its host does not say why", next)
    })
}

/// What was done, or undone, and what is still to come.
fn outcome(run: &Run, state: JobState) -> String {
    let sentence = |(step, child, fate): (&Step, &Job, Fate)| match fate {
        Fate::Done => result(step, child, fate),
        _ => format!("{}: {}", title(step), result(step, child, fate)),
    };
    let mut done: Vec<String> = match state {
        JobState::Cancelled => run.ordered(is_undo).map(sentence).collect(),
        _ => run.ordered(|role| !is_undo(role)).map(sentence).chain(by_hand(run)).collect(),
    };
    // What several hosts did together they tell alike.
    done.dedup();
    if state != JobState::Cancelled {
        return done.join("; ");
    }
    let undone = match done.is_empty() {
        true => "nothing had to be undone".to_owned(),
        false => format!("undone: {}", done.join("; ")),
    };
    let parts = ["it was given up, and ".to_owned() + &undone].into_iter().chain(stays(run));
    parts.collect::<Vec<_>>().join("; ")
}

/// What nobody could be ordered to do.
fn by_hand(run: &Run) -> Option<String> {
    let alone = matches!(run.workflow.job, Task::Workflow(Workflow::Commit { .. })) && run.steps.len() == 1;
    alone.then(|| {
        "which source agent it has is not known here: if it runs on, have it stop there: mt-source stop-replicating"
            .to_owned()
    })
}

/// What was done and is not undone, though its workflow comes to nothing.
fn stays(run: &Run) -> impl Iterator<Item = String> {
    let is_undone = |step: &Step| {
        let undoes = |other: &Step| match other.role {
            Role::Undo { step: undone, .. } => run.steps.get(undone) == Some(step),
            _ => false,
        };
        run.steps.iter().any(undoes)
    };
    let done = run.ordered(|role| !is_undo(role)).filter(|(_, _, fate)| *fate == Fate::Done);
    let stays = done.filter(move |(step, ..)| !is_undone(step));
    stays.map(|(step, child, fate)| format!("done all the same: {}", result(step, child, fate)))
}

/// Why it failed: what its child tells, what stays done and what was undone, and what is still to be done.
fn failure(run: &Run) -> Failure {
    let failed = run.ordered(|role| !is_undo(role)).find(|(_, _, fate)| *fate == Fate::Failed);
    let cancelled = run.ordered(Role::comes_after).find(|(_, _, fate)| *fate == Fate::Cancelled);
    let left = run.ordered(|role| role == Role::Needed).find(|(_, _, fate)| *fate == Fate::Left);
    let Some((step, child, fate)) = failed.or(cancelled).or(left) else {
        return Failure::new(run.workflow.job.title(), "it failed", "it is not known why", "order it anew");
    };
    let mut failure = match fate {
        Fate::Cancelled => Failure::new(
            title(step),
            "it was not done",
            "it was cancelled",
            format!("order it anew: {}", step.job.title()),
        ),
        Fate::Left => Failure::new(
            title(step),
            "it was not waited for",
            format!("{} is not connected", step.place.name),
            "look at that machine, and order it anew when it is back",
        ),
        _ => failure_of(step, child),
    };
    let undone = run.ordered(is_undo).map(|(step, child, fate)| match fate {
        Fate::Done => format!("undone: {}", result(step, child, fate)),
        _ => format!("to undo: {}: {}", title(step), result(step, child, fate)),
    });
    let more: Vec<String> = stays(run).chain(undone).collect();
    if !more.is_empty() {
        failure.why = format!("{}; {}", failure.why, more.join("; "));
    }
    for (step, child, _) in run.ordered(is_undo).filter(|(_, _, fate)| *fate == Fate::Failed) {
        let undo = failure_of(step, child);
        failure.next = format!("{}; {}: {}", failure.next, title(step), undo.next);
    }
    failure
}
