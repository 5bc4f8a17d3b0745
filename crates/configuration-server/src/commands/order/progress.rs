//! How a job goes, on the standard error: each step when it begins and when it ends, and, where a person watches, how far the
//! running one has come.

use crate::server::{progress_text, took_text};
use crate::store::jobs::Job;
use control_api::agent::{JobReport, JobState, JobStep, StepState};
use control_api::{Progress, Work};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Clears the line that the cursor is on.
const CLEAR_LINE: &str = "\r\x1b[K";

/// A rate is told when this much time has been looked at.
const ENOUGH: Duration = Duration::from_secs(1);

/// Tells of one job.
pub(super) struct Teller {
    quiet: bool,
    /// Whether there is a line that changes.
    live: bool,
    /// States of the steps that were told.
    told: Vec<(String, StepState)>,
    /// That it has not begun, where no line changes.
    has_said_so: bool,
    rate: Rate,
}

impl Teller {
    pub(super) fn new(quiet: bool) -> Teller {
        let live = !quiet && std::io::stderr().is_terminal();
        Teller { quiet, live, told: Vec::new(), has_said_so: false, rate: Rate::default() }
    }

    /// Tells what is new of it.
    pub(super) fn tell(&mut self, job: &Job) {
        let lines = job.report.as_ref().map_or_else(Vec::new, |report| self.news(report));
        lines.iter().for_each(|line| self.say(line));
        if !self.live {
            if job.state == JobState::Queued && !std::mem::replace(&mut self.has_said_so, true) {
                let next = format!("to give it up: mt-configserver cancel-job {}", job.id);
                self.say(&format!("  it has not begun yet, and is waited for; {next}"));
            }
            return;
        }
        let line = match &job.report {
            _ if job.state.has_ended() => String::new(),
            None => format!("  {} has not taken it yet", job.host_name),
            Some(report) => self.going(report, Instant::now()),
        };
        eprint!("{CLEAR_LINE}{line}");
        let _ = std::io::stderr().flush();
    }

    /// Says something that stays.
    pub(super) fn say(&self, line: &str) {
        match (self.quiet, self.live) {
            (true, _) => {}
            (false, true) => eprintln!("{CLEAR_LINE}{line}"),
            (false, false) => eprintln!("{line}"),
        }
    }

    /// Steps that have begun or ended since they were told last.
    fn news(&mut self, report: &JobReport) -> Vec<String> {
        let mut lines = Vec::new();
        for (number, step) in report.steps.iter().enumerate() {
            let now = (step.name.clone(), step.state);
            if self.told.get(number) == Some(&now) {
                continue;
            }
            lines.extend(line(step));
            match self.told.get_mut(number) {
                Some(before) => *before = now,
                None => self.told.push(now),
            }
        }
        lines
    }

    /// What it is at.
    fn going(&mut self, report: &JobReport, now: Instant) -> String {
        match report.progress {
            Some(progress) => {
                let rate = self.rate.of(&progress, now);
                let text = progress_text(progress.done, progress.total, rate, report.seconds_left);
                format!("  {}: {text}", progress.work)
            }
            None => {
                let open = |step: &&JobStep| matches!(step.state, StepState::Running | StepState::Waiting);
                let detail = report.steps.iter().find(open).and_then(|step| step.detail.clone());
                detail.map_or_else(String::new, |detail| format!("  {detail}"))
            }
        }
    }
}

/// A step that has begun or ended.
fn line(step: &JobStep) -> Option<String> {
    let said = match step.state {
        StepState::Running => "begun",
        StepState::Done => "done",
        StepState::Failed => "failed",
        _ => return None,
    };
    let ended = matches!(step.state, StepState::Done | StepState::Failed);
    let took = step.started.zip(step.ended).filter(|_| ended);
    let took = took.map(|(started, ended)| format!(" ({})", took_text(ended.saturating_sub(started))));
    let detail = step.detail.as_ref().filter(|_| ended).map(|detail| format!(": {detail}"));
    Some(format!("  {said}: {}{}{}", step.name, took.unwrap_or_default(), detail.unwrap_or_default()))
}

/// How fast work goes, since it was seen first.
#[derive(Default)]
struct Rate(Option<(Work, u64, Instant)>);

impl Rate {
    /// Bytes a second; nothing while that is not known.
    fn of(&mut self, progress: &Progress, now: Instant) -> Option<u64> {
        let same = self.0.filter(|(work, done, _)| *work == progress.work && *done <= progress.done);
        let (_, first, since) = *self.0.insert(same.unwrap_or((progress.work, progress.done, now)));
        let time = now.saturating_duration_since(since);
        let rate = u128::from(progress.done - first) * 1000 / time.as_millis().max(1);
        (time >= ENOUGH && rate > 0).then(|| u64::try_from(rate).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control_api::time::SECOND;

    fn step(name: &str, state: StepState, detail: Option<&str>) -> JobStep {
        let (started, ended) = (Some(SECOND), Some(4 * SECOND));
        JobStep { name: name.into(), state, detail: detail.map(str::to_owned), started, ended }
    }

    fn report(steps: Vec<JobStep>, progress: Option<Progress>) -> JobReport {
        JobReport {
            id: "0".into(),
            state: JobState::Running,
            started: 0,
            ended: None,
            steps,
            progress,
            seconds_left: Some(90),
            can_cancel: true,
            outcome: None,
            failure: None,
        }
    }

    #[test]
    fn each_step_is_told_when_it_begins_and_when_it_ends_and_once() {
        let mut teller = Teller::new(true);
        let waiting = step("failover (mt01)", StepState::Waiting, None);
        let first = report(vec![step("rest (web01)", StepState::Running, None), waiting], None);
        assert_eq!(teller.news(&first), ["  begun: rest (web01)"]);
        assert!(teller.news(&first).is_empty());
        let done = step("rest (web01)", StepState::Done, Some("at rest"));
        let then = report(vec![done, step("failover (mt01)", StepState::Failed, Some("no room"))], None);
        assert_eq!(
            teller.news(&then),
            ["  done: rest (web01) (3 s): at rest", "  failed: failover (mt01) (3 s): no room"]
        );
    }

    #[test]
    fn progress_has_a_rate_and_a_time_left() {
        let mut teller = Teller::new(true);
        let begun = Instant::now();
        let at = |mebibytes: u64| {
            let (done, total) = (mebibytes << 20, Some(100 << 20));
            report(Vec::new(), Some(Progress { work: Work::Failover, done, total }))
        };
        assert!(!teller.going(&at(10), begun).contains("/s"));
        let line = teller.going(&at(30), begun + Duration::from_secs(2));
        assert!(line.ends_with("30 % of 100 MiB · 10.0 MiB/s · 1 min 30 s left"), "{line}");
        // The next work begins anew.
        let next = Progress { work: Work::Recovery, done: 1, total: None };
        assert_eq!(teller.rate.of(&next, begun + Duration::from_secs(9)), None);
    }
}
