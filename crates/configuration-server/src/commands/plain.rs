//! What hosts have told of a job, fit for a terminal: nothing in it is obeyed, and nothing looks like a line of ours.

use crate::store::jobs::Job;
use control_api::agent::JobReport;

/// The job, with spaces in place of control characters in all that its host has written.
pub(super) fn plain(mut job: Job) -> Job {
    if let Some(report) = &mut job.report {
        texts(report).for_each(|text| *text = text.replace(char::is_control, " "));
    }
    job
}

fn texts(report: &mut JobReport) -> impl Iterator<Item = &mut String> {
    let steps =
        report.steps.iter_mut().flat_map(|step| std::iter::once(&mut step.name).chain(&mut step.detail));
    let failure = report.failure.iter_mut();
    let failure = failure.flat_map(|told| [&mut told.object, &mut told.what, &mut told.why, &mut told.next]);
    steps.chain(&mut report.outcome).chain(failure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use control_api::Failure;
    use control_api::agent::{JobState, JobStep, StepState};

    #[test]
    fn nothing_of_a_report_is_obeyed_by_a_terminal() {
        let evil = || "a\x1b[2J\nb".to_owned();
        let step = JobStep {
            name: evil(),
            state: StepState::Failed,
            detail: Some(evil()),
            started: None,
            ended: None,
        };
        let mut report = JobReport {
            id: "0".repeat(32),
            state: JobState::Failed,
            started: 0,
            ended: Some(1),
            steps: vec![step],
            progress: None,
            seconds_left: None,
            can_cancel: false,
            outcome: Some(evil()),
            failure: Some(Failure::new(evil(), evil(), evil(), evil())),
        };
        assert_eq!(texts(&mut report).count(), 7);
        texts(&mut report).for_each(|text| *text = text.replace(char::is_control, " "));
        assert!(texts(&mut report).all(|text| text == "a [2J b"), "{report:?}");
    }
}
