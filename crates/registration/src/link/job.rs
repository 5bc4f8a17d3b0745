//! A job while it runs, as the embedder sees it.

use super::Shared;
use super::hub::Hub;
use super::meeting::Meeting;
use crate::register::now;
use control_api::agent::{JobOrder, JobReport, JobState, JobStep, StepState};
use control_api::{Failure, Progress};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The longest text of a report, in characters: fifty steps of this length fit into a request.
const LONGEST: usize = 400;
/// The same of each part of a failure.
const LONGEST_FAILURE: usize = 1000;

/// How a job ends that is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It could not be done.
    Failed(Failure),
    /// It was given up as somebody wished; nothing has come of it.
    Cancelled,
    /// The program ends. The job goes on when it starts again.
    Stopped,
}

impl From<Failure> for End {
    fn from(failure: Failure) -> End {
        End::Failed(failure)
    }
}

/// A job that is under way, or waits for its turn.
pub(super) struct Active {
    pub(super) order: JobOrder,
    state: Mutex<State>,
}

struct State {
    report: JobReport,
    cancelled: bool,
    /// How often the report has changed.
    changes: u64,
    /// The change that was told last.
    told: Option<u64>,
}

impl Active {
    pub(super) fn new(order: JobOrder) -> Active {
        let report = JobReport {
            id: order.id.clone(),
            state: JobState::Running,
            started: now(),
            ended: None,
            steps: Vec::new(),
            progress: None,
            seconds_left: None,
            can_cancel: true,
            outcome: None,
            failure: None,
        };
        let state = State { report, cancelled: false, changes: 0, told: None };
        Active { order, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn cancel(&self) {
        self.state().cancelled = true;
    }

    pub(super) fn is_cancelled(&self) -> bool {
        let state = self.state();
        state.cancelled && state.report.can_cancel
    }

    /// The report, when it has changed since it was told last; and which change it is.
    pub(super) fn untold(&self) -> Option<(u64, JobReport)> {
        let state = self.state();
        (state.told != Some(state.changes)).then(|| (state.changes, state.report.clone()))
    }

    pub(super) fn told(&self, change: u64) {
        self.state().told = Some(change);
    }

    /// The last report of a job that ended so; `None` when it goes on at the next start.
    pub(super) fn last_report(&self, ended: Result<String, End>) -> Option<JobReport> {
        let mut report = self.state().report.clone();
        let step = match ended {
            Err(End::Stopped) => return None,
            Ok(outcome) => {
                report.state = JobState::Succeeded;
                report.outcome = Some(short(&outcome));
                StepState::Done
            }
            Err(End::Failed(failure)) => {
                report.state = JobState::Failed;
                report.failure = Some(shorter(failure));
                StepState::Failed
            }
            Err(End::Cancelled) => {
                report.state = JobState::Cancelled;
                report.outcome = Some("it was given up before anything was changed".to_owned());
                StepState::Failed
            }
        };
        end_running(&mut report, step);
        report.ended = Some(now());
        (report.progress, report.seconds_left, report.can_cancel) = (None, None, false);
        Some(report)
    }
}

/// A job that runs.
pub struct Job {
    pub(super) active: Arc<Active>,
    pub(super) shared: Arc<Shared>,
    pub(super) continued: bool,
    pub(super) note: Option<String>,
}

impl Job {
    /// What is to be done.
    pub fn order(&self) -> &JobOrder {
        &self.active.order
    }

    /// Whether it was begun before, by a program that was stopped or killed while it was at it.
    pub fn is_continued(&self) -> bool {
        self.continued
    }

    /// What that had noted last.
    pub fn noted(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Notes something for the case that this program is killed; durable when this returns.
    pub fn note(&self, text: &str) -> Result<(), Failure> {
        let id = &self.order().id;
        self.shared.ledger().change(id, |entry| entry.note = Some(text.to_owned())).map_err(|error| {
            Failure::new(
                self.order().job.title(),
                "it was not begun",
                format!("what has to be known after a crash cannot be written down: {error}"),
                "make room on the volume of the state folder, and order it again",
            )
        })
    }

    /// A meeting of this id, with other hosts that were ordered jobs of it by the same configuration server.
    pub fn meeting(&self, id: &str) -> Meeting {
        let authority = self.shared.ledger().get(&self.order().id).map(|entry| entry.authority.clone());
        Meeting::new(&self.shared, authority, id)
    }

    /// Tells what steps there will be.
    pub fn plan(&self, names: &[&str]) {
        let step = |name: &&str| JobStep {
            name: short(name),
            state: StepState::Waiting,
            detail: None,
            started: None,
            ended: None,
        };
        self.change(|report| report.steps = names.iter().take(JobReport::MAX_STEPS).map(step).collect());
    }

    /// The step of this name begins; the one before it is done.
    pub fn begin(&self, name: &str) {
        self.change(|report| {
            end_running(report, StepState::Done);
            (report.progress, report.seconds_left) = (None, None);
            let name = short(name);
            let planned =
                report.steps.iter().position(|step| step.state == StepState::Waiting && step.name == name);
            let at = match planned {
                Some(at) => at,
                None if report.steps.len() < JobReport::MAX_STEPS => {
                    let state = StepState::Running;
                    report.steps.push(JobStep { name, state, detail: None, started: None, ended: None });
                    report.steps.len() - 1
                }
                None => return,
            };
            (report.steps[at].state, report.steps[at].started) = (StepState::Running, Some(now()));
        });
    }

    /// The step that runs has ended, well or not; the job goes on.
    pub fn end(&self, done: bool) {
        self.change(|report| end_running(report, if done { StepState::Done } else { StepState::Failed }));
    }

    /// What came of the step that runs.
    pub fn detail(&self, text: &str) {
        self.change(|report| {
            if let Some(step) = running(report) {
                step.detail = Some(short(text));
            }
        });
    }

    /// How far the step that runs has come, and how many seconds it will take from now on.
    pub fn progress(&self, progress: Option<Progress>, seconds_left: Option<u64>) {
        let mut state = self.active.state();
        if (state.report.progress, state.report.seconds_left) == (progress, seconds_left) {
            return;
        }
        (state.report.progress, state.report.seconds_left) = (progress, seconds_left);
        state.changes += 1;
        drop(state);
        self.hub().report();
    }

    /// From now on it is not given up any more. False when somebody wished it before: then it has to end.
    pub fn commit(&self) -> bool {
        if self.active.is_cancelled() {
            return false;
        }
        self.change(|report| report.can_cancel = false);
        true
    }

    /// Whether somebody wants it to be given up, and that is still possible.
    pub fn is_cancelled(&self) -> bool {
        self.active.is_cancelled()
    }

    /// Whether the program ends, and the job is to end with [`End::Stopped`].
    pub fn is_stopping(&self) -> bool {
        self.hub().is_stopping()
    }

    fn hub(&self) -> &Hub {
        &self.shared.hub
    }

    fn change(&self, change: impl FnOnce(&mut JobReport)) {
        let mut state = self.active.state();
        change(&mut state.report);
        state.changes += 1;
        drop(state);
        self.hub().report();
    }
}

fn running(report: &mut JobReport) -> Option<&mut JobStep> {
    report.steps.iter_mut().find(|step| step.state == StepState::Running)
}

fn end_running(report: &mut JobReport, state: StepState) {
    if let Some(step) = running(report) {
        (step.state, step.ended) = (state, Some(now()));
    }
}

/// A text, cut off where it is too long for a report.
fn short(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

fn shorter(failure: Failure) -> Failure {
    let part = |text: String| text.chars().take(LONGEST_FAILURE).collect();
    Failure {
        object: part(failure.object),
        what: part(failure.what),
        why: part(failure.why),
        next: part(failure.next),
    }
}
