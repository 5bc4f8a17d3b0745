//! What a workflow does next.

use super::plan::{Plan, Role, Step, When};
use super::{Task, Workflow, report};
use crate::store::jobs::{self, Job, Outcome};
use crate::store::{items, json, reports};
use control_api::agent::{JobKind, JobState};
use control_api::time::Time;
use control_api::{ApiError, ErrorCode};
use rusqlite::{Connection, OptionalExtension, Result, ToSql, params};

/// How a step has ended, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is waited for.
    Open,
    /// Its host is silent, and it is not waited for any more.
    Left,
    Done,
    Failed,
    Cancelled,
}

/// A workflow that has not ended, as its plan and its children tell.
pub(super) struct Run {
    pub(super) workflow: Job,
    pub(super) steps: Vec<Step>,
    /// The child of each step that was ordered.
    children: Vec<Option<(Job, Fate)>>,
    /// The step that was ordered last, of those that were ordered together the last one.
    newest: Option<usize>,
}

/// What comes next.
enum Next {
    Wait,
    /// These, together.
    Order(Vec<usize>),
    End(JobState),
}

impl Run {
    /// `None` when it has ended.
    fn load(connection: &Connection, number: i64) -> Result<Option<Run>> {
        let Some(workflow) = jobs::by_number(connection, number)? else { return Ok(None) };
        if workflow.state.has_ended() {
            return Ok(None);
        }
        let mut statement = connection.prepare_cached("SELECT plan FROM job WHERE id = ?")?;
        let steps: Vec<Step> = statement.query_row([number], |row| json::column(row, 0))?;
        let mut children: Vec<Option<(Job, Fate)>> = steps.iter().map(|_| None).collect();
        let ordered = jobs::children(connection, number)?;
        let newest = ordered.iter().filter_map(|child| child.step).filter(|step| *step < steps.len()).max();
        for child in ordered {
            let Some(step) = child.step.filter(|step| *step < steps.len()) else { continue };
            let fate = match child.state {
                JobState::Succeeded => Fate::Done,
                JobState::Failed => Fate::Failed,
                JobState::Cancelled => Fate::Cancelled,
                // Others were ordered after it.
                _ if newest.is_some_and(|newest| stage(&steps, newest) > stage(&steps, step)) => Fate::Left,
                _ if may_be_left(&workflow, &steps, step) && is_silent(connection, child.host_row)? => {
                    Fate::Left
                }
                _ => Fate::Open,
            };
            children[step] = Some((child, fate));
        }
        Ok(Some(Run { workflow, steps, children, newest }))
    }

    /// The child of a step, and what became of it.
    pub(super) fn child(&self, step: usize) -> Option<(&Job, Fate)> {
        self.children[step].as_ref().map(|(child, fate)| (child, *fate))
    }

    /// The child that was ordered last.
    pub(super) fn newest(&self) -> Option<(usize, &Job, Fate)> {
        let step = self.newest?;
        self.child(step).map(|(child, fate)| (step, child, fate))
    }

    /// Whether more than its first steps were ordered.
    pub(super) fn is_past_first(&self) -> bool {
        self.newest.is_some_and(|newest| stage(&self.steps, newest) > 1)
    }

    /// The children that are waited for.
    pub(super) fn open(&self) -> impl Iterator<Item = &Job> {
        self.children.iter().flatten().filter(|(_, fate)| *fate == Fate::Open).map(|(child, _)| child)
    }

    /// The steps that have this role and were ordered.
    pub(super) fn ordered(&self, role: impl Fn(Role) -> bool) -> impl Iterator<Item = (&Step, &Job, Fate)> {
        let each = self.steps.iter().enumerate().filter(move |(_, step)| role(step.role));
        each.filter_map(|(number, step)| self.child(number).map(|(child, fate)| (step, child, fate)))
    }

    /// Whether what is needed will not come about.
    pub(super) fn is_given_up(&self) -> bool {
        let Some((newest, _, fate)) = self.newest() else { return false };
        let lacks = |(_, _, fate)| matches!(fate, Fate::Left | Fate::Failed | Fate::Cancelled);
        let more = self.steps.get(newest + 1).is_some_and(|step| step.role == Role::Needed);
        let stopped = self.workflow.cancelled_by.is_some() && fate == Fate::Done && more;
        stopped
            || matches!(self.steps[newest].role, Role::Undo { .. })
            || self.ordered(|role| role == Role::Needed).any(lacks)
    }

    fn next(&self) -> Next {
        let Some(newest) = self.newest else { return Next::Order(self.together(0, |_| true)) };
        if self.open().next().is_some() {
            return Next::Wait;
        }
        let given_up = self.is_given_up();
        let wanted = |step: &usize| match self.steps[*step].role {
            Role::Undo { step, when } => {
                given_up && self.child(step).is_some_and(|(_, fate)| when.includes(fate))
            }
            Role::Following { step, .. } => self.child(step).is_some_and(|(_, fate)| fate == Fate::Done),
            Role::Needed => !given_up,
        };
        match (newest + 1..self.steps.len()).find(wanted) {
            Some(step) => Next::Order(self.together(step, |step| wanted(&step))),
            None => Next::End(self.end(given_up)),
        }
    }

    /// A step, and those that are wanted of the others that are ordered together with it.
    fn together(&self, first: usize, wanted: impl Fn(usize) -> bool) -> Vec<usize> {
        let beside = (first + 1..self.steps.len()).take_while(|step| self.steps[*step].beside);
        std::iter::once(first).chain(beside.filter(|step| wanted(*step))).collect()
    }

    fn end(&self, given_up: bool) -> JobState {
        let has = |wanted: fn(Role) -> bool, fates: &[Fate]| {
            self.ordered(wanted).any(|(_, _, fate)| fates.contains(&fate))
        };
        let needed = |role| role == Role::Needed;
        match given_up {
            true if has(needed, &[Fate::Failed]) => JobState::Failed,
            // Nobody wished that it is not waited for.
            true if has(needed, &[Fate::Left]) && self.workflow.cancelled_by.is_none() => JobState::Failed,
            true => JobState::Cancelled,
            false if has(Role::comes_after, &[Fate::Failed, Fate::Cancelled]) => JobState::Failed,
            false => JobState::Succeeded,
        }
    }

    /// Whether it can be given up: what comes after all that is needed, and what undoes, goes on to its end.
    pub(super) fn can_be_cancelled(&self) -> bool {
        let safely = |child: &Job| child.report.as_ref().is_none_or(|report| report.can_cancel);
        self.newest.is_none_or(|step| self.steps[step].role == Role::Needed && self.open().all(safely))
    }
}

impl When {
    fn includes(self, fate: Fate) -> bool {
        match self {
            When::Done => fate == Fate::Done,
            When::DoneOrLeft => matches!(fate, Fate::Done | Fate::Left),
            When::Ordered => true,
        }
    }
}

/// How many times something was ordered before a step.
fn stage(steps: &[Step], number: usize) -> usize {
    steps[..=number].iter().filter(|step| !step.beside).count()
}

/// Whether a step is not waited for when its host is silent. What is needed is left only when it was cancelled and there is
/// a step that undoes it whatever becomes of it; or when it is nothing any more without the others, who do not wait either.
fn may_be_left(workflow: &Job, steps: &[Step], number: usize) -> bool {
    let undoes = |step: &Step| match step.role {
        Role::Undo { step, when } => step == number && when.includes(Fate::Left),
        _ => false,
    };
    match steps[number].role {
        Role::Needed if matches!(steps[number].job, JobKind::GroupBookmark { .. }) => true,
        Role::Needed => workflow.cancelled_by.is_some() && steps.iter().any(undoes),
        Role::Following { .. } | Role::Undo { .. } => true,
    }
}

fn is_silent(connection: &Connection, host: i64) -> Result<bool> {
    Ok(reports::connected(connection, host)? != Some(true))
}

/// Orders a workflow, and its first steps.
pub(crate) fn order(
    connection: &Connection,
    plan: &Plan,
    item: Option<i64>,
    by: &str,
    now: Time,
) -> Outcome<Job> {
    let task = Task::Workflow(plan.workflow.clone());
    let new = jobs::NewRow { host: plan.host, item, task: &task, by, now };
    let number = jobs::insert(connection, &new)?;
    let steps = json::text(&plan.steps)?;
    connection.execute("UPDATE job SET plan = ? WHERE id = ?", params![steps, number])?;
    advance(connection, number, now)?;
    jobs::found(connection, number)
}

/// The host that was brought to rest for the last planned failover of an item.
pub(crate) fn last_source(connection: &Connection, item: i64) -> Result<Option<String>> {
    let sql = "SELECT host.uuid FROM job JOIN host ON host.id = job.host WHERE job.item = ? \
         AND job.parent IS NOT NULL AND json_extract(job.body, '$.kind') = 'quiesce' ORDER BY job.id DESC LIMIT 1";
    connection.prepare_cached(sql)?.query_row([item], |row| row.get(0)).optional()
}

/// Whether the last that was ordered of where an item stands was to commit or release it.
pub(crate) fn is_let_go(connection: &Connection, item: i64) -> Result<bool> {
    let sql = "SELECT json_extract(body, '$.kind') IN ('commit', 'release') FROM job WHERE item = ? AND state <> 'failed' \
         AND json_extract(body, '$.kind') IN ('failover', 'cancel-failover', 'commit', 'release') ORDER BY id DESC LIMIT 1";
    let was_ordered: Option<bool> =
        connection.prepare_cached(sql)?.query_row([item], |row| row.get(0)).optional()?;
    Ok(was_ordered.unwrap_or(false))
}

/// The job that a question for its number finds first.
fn first(connection: &Connection, sql: &str, about: impl ToSql) -> Result<Option<Job>> {
    let number = connection.prepare_cached(sql)?.query_row([about], |row| row.get(0)).optional()?;
    number.map_or(Ok(None), |number| jobs::by_number(connection, number))
}

/// What has not ended and moves an item: a workflow of it or of its group, or else a job that was ordered alone.
pub(crate) fn moves_item(connection: &Connection, item: i64) -> Result<Option<Job>> {
    let workflow = open_of_item(connection, item)?;
    if workflow.is_some() {
        return Ok(workflow);
    }
    let sql = "SELECT id FROM job WHERE item = ? AND ended IS NULL \
         AND json_extract(body, '$.kind') IN ('failover', 'cancel-failover', 'commit', 'release') LIMIT 1";
    first(connection, sql, item)
}

/// The workflow that has not ended and that has steps at the host in this row, other than to set a bookmark.
pub(crate) fn open_at(connection: &Connection, host: i64) -> Result<Option<Job>> {
    let sql = "SELECT id FROM job WHERE ended IS NULL AND plan IS NOT NULL \
         AND json_extract(body, '$.workflow') <> 'group-bookmark' \
         AND EXISTS (SELECT 1 FROM json_each(plan) WHERE json_extract(value, '$.place.host') = ?) LIMIT 1";
    first(connection, sql, host)
}

/// The workflow that has not ended and that moves an item, alone or with its group.
pub(crate) fn open_of_item(connection: &Connection, item: i64) -> Result<Option<Job>> {
    let sql = "SELECT workflow.id FROM job JOIN job AS workflow ON workflow.id = ifnull(job.parent, job.id) \
         WHERE job.item = ? AND workflow.ended IS NULL AND workflow.plan IS NOT NULL \
         AND json_extract(workflow.body, '$.workflow') <> 'group-bookmark' LIMIT 1";
    first(connection, sql, item)
}

/// The workflow of a group that has not ended and that moves its items.
pub(crate) fn moves_group(connection: &Connection, group: i64) -> Result<Option<Job>> {
    let sql = "SELECT id FROM job WHERE ended IS NULL AND plan IS NOT NULL AND json_extract(body, '$.group') = ? \
         AND json_extract(body, '$.workflow') NOT IN ('reprotect', 'group-bookmark') LIMIT 1";
    first(connection, sql, group)
}

/// The workflow of a group that has not ended.
pub(crate) fn open_of_group(connection: &Connection, group: i64) -> Result<Option<Job>> {
    let sql = "SELECT id FROM job WHERE ended IS NULL AND plan IS NOT NULL AND json_extract(body, '$.group') = ? \
         AND json_extract(body, '$.workflow') <> 'reprotect' LIMIT 1";
    first(connection, sql, group)
}

/// Forgets the bookmarks of a group that nobody ordered, but for the newest: points and events tell of them.
pub(crate) fn forget_regular(connection: &Connection, group: i64) -> Result<()> {
    let over = "SELECT id FROM job WHERE plan IS NOT NULL AND ended IS NOT NULL AND json_extract(body, '$.regular') \
         AND json_extract(body, '$.group') = ? ORDER BY id DESC LIMIT -1 OFFSET 1";
    connection.execute(&format!("DELETE FROM job WHERE parent IN ({over})"), [group])?;
    connection.execute(&format!("DELETE FROM job WHERE id IN ({over})"), [group]).map(drop)
}

/// Whether the bookmark of a group that nobody ordered, and that came before this one, has failed.
pub(in crate::store) fn failed_before(connection: &Connection, workflow: &Job) -> Result<bool> {
    let sql = "SELECT earlier.state FROM job AS earlier JOIN job ON job.id = ?1 WHERE earlier.id < ?1 \
         AND earlier.plan IS NOT NULL AND json_extract(earlier.body, '$.regular') \
         AND json_extract(earlier.body, '$.group') = json_extract(job.body, '$.group') ORDER BY earlier.id DESC LIMIT 1";
    let state: Option<String> =
        connection.prepare_cached(sql)?.query_row([workflow.number], |row| row.get(0)).optional()?;
    Ok(state.as_deref() == Some(JobState::Failed.id()))
}

/// The workflow that has not ended and that protects the machine of the source agent with this id.
pub(crate) fn open_of_source(connection: &Connection, source: &str) -> Result<Option<Job>> {
    let sql = "SELECT id FROM job WHERE ended IS NULL AND plan IS NOT NULL AND json_extract(body, '$.source') = ? LIMIT 1";
    first(connection, sql, source)
}

/// A child has ended: what comes next is ordered.
pub(in crate::store) fn child_ended(
    connection: &Connection,
    child: &Job,
    state: JobState,
    now: Time,
) -> Result<()> {
    let Some(workflow) = child.parent_number else { return Ok(()) };
    if state == JobState::Succeeded && matches!(child.job.order(), Some(JobKind::Protect { .. })) {
        taken(connection, workflow, now)?;
    }
    advance(connection, workflow, now)
}

/// An item was taken: it is known here before its master target tells of it, with the policy and the group that were
/// chosen.
fn taken(connection: &Connection, number: i64, now: Time) -> Result<()> {
    let Some(workflow) = jobs::by_number(connection, number)? else { return Ok(()) };
    let Task::Workflow(Workflow::Reprotect { item, policy, group, .. }) = &workflow.job else {
        return Ok(());
    };
    let id = items::expect(connection, workflow.host_row, item, *policy, *group, now)?;
    connection.execute("UPDATE job SET item = ?1 WHERE id = ?2 OR parent = ?2", params![id, number]).map(drop)
}

/// A child has told how far it is: so far is its workflow.
pub(in crate::store) fn tell(connection: &Connection, child: &Job) -> Result<()> {
    let Some(workflow) = child.parent_number else { return Ok(()) };
    Run::load(connection, workflow)?.map_or(Ok(()), |run| write(connection, &run))
}

/// A host is not heard any more: workflows that need not wait for it go on.
pub(crate) fn fell_silent(connection: &Connection, host: i64, now: Time) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "SELECT DISTINCT parent FROM job WHERE host = ? AND ended IS NULL AND parent IS NOT NULL",
    )?;
    let workflows: Vec<i64> = statement.query_map([host], |row| row.get(0))?.collect::<Result<_>>()?;
    workflows.into_iter().try_for_each(|workflow| advance(connection, workflow, now))
}

/// Gives a workflow up: the children that it waits for are cancelled, and what was done is undone.
pub(in crate::store) fn cancel(connection: &Connection, workflow: &Job, by: &str, now: Time) -> Outcome<Job> {
    let Some(run) = Run::load(connection, workflow.number)? else {
        return jobs::found(connection, workflow.number);
    };
    if !run.can_be_cancelled() {
        return Ok(Err(ApiError::new(
            ErrorCode::Conflict,
            workflow.job.title(),
            "it cannot be cancelled",
            "it has come so far that stopping it would not be safe, or is being given up already",
            "wait for its end, or look at what came of it",
        )));
    }
    let sql = "UPDATE job SET cancelled_by = ? WHERE id = ? AND cancelled_by IS NULL";
    connection.execute(sql, params![by, workflow.number])?;
    for child in run.open() {
        if let Err(refused) = jobs::cancel(connection, &child.id, by, now)? {
            return Ok(Err(refused));
        }
    }
    advance(connection, workflow.number, now)?;
    jobs::found(connection, workflow.number)
}

/// Goes on with a workflow as far as it can. It changes nothing when there is nothing to do.
fn advance(connection: &Connection, number: i64, now: Time) -> Result<()> {
    while let Some(run) = Run::load(connection, number)? {
        match run.next() {
            Next::Wait => return write(connection, &run),
            Next::Order(steps) => order_steps(connection, &run, &steps, now)?,
            Next::End(state) => {
                let report = report::last(&run, state, now);
                return jobs::end_told(connection, &run.workflow, &report, now);
            }
        }
    }
    Ok(())
}

/// Orders steps. One that its host cannot be ordered has failed; that is told only when all of them are there.
fn order_steps(connection: &Connection, run: &Run, numbers: &[usize], now: Time) -> Result<()> {
    let mut refused = Vec::new();
    for number in numbers {
        let (workflow, step) = (&run.workflow, &run.steps[*number]);
        let why = jobs::refused(connection, step.place.host, &step.job)?;
        let task = Task::Order(step.job.clone());
        let (item, by) = (step.item.or(workflow.item), &workflow.ordered_by);
        let new = jobs::NewRow { host: step.place.host, item, task: &task, by, now };
        let child = jobs::insert(connection, &new)?;
        connection.execute(
            "UPDATE job SET parent = ?, step = ? WHERE id = ?",
            params![workflow.number, number, child],
        )?;
        refused.extend(why.map(|why| (child, why)));
    }
    for (child, why) in refused {
        let Some(child) = jobs::by_number(connection, child)? else { continue };
        jobs::fail(connection, &child, why.failure, now)?;
    }
    Ok(())
}

/// Writes down how far a workflow is.
fn write(connection: &Connection, run: &Run) -> Result<()> {
    let report = report::so_far(run);
    connection
        .execute(
            "UPDATE job SET state = ?, report = ? WHERE id = ?",
            params![report.state.id(), json::text(&report)?, run.workflow.number],
        )
        .map(drop)
}
