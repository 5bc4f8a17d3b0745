//! Progress bars, on standard error and only where a person watches.

use control_api::{Progress, Work};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const WITH_TOTAL: &str = "{msg:>12} [{bar:32}] {percent:>3} %  {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  ETA {eta}";
const WITHOUT_TOTAL: &str = "{msg:>12} {spinner} {binary_bytes}  {binary_bytes_per_sec}  {elapsed}";

/// Shows one piece of work after the other.
pub(super) struct Bars {
    shown: bool,
    current: Option<(Work, ProgressBar)>,
}

impl Bars {
    /// Bars that are drawn only when `shown`.
    pub(super) fn new(shown: bool) -> Bars {
        Bars { shown, current: None }
    }

    pub(super) fn show(&mut self, progress: Progress) {
        if self.current.as_ref().is_none_or(|(work, _)| *work != progress.work) {
            self.finish();
            self.current = Some((progress.work, self.bar(progress)));
        }
        if let Some((_, bar)) = &self.current {
            if let Some(total) = progress.total {
                bar.set_length(total);
            }
            bar.set_position(progress.done);
        }
    }

    pub(super) fn finish(&mut self) {
        if let Some((_, bar)) = self.current.take() {
            bar.finish_and_clear();
        }
    }

    fn bar(&self, progress: Progress) -> ProgressBar {
        let target = if self.shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let template = if progress.total.is_some() { WITH_TOTAL } else { WITHOUT_TOTAL };
        let style = ProgressStyle::with_template(template).expect("the template is valid");
        let bar =
            ProgressBar::with_draw_target(progress.total, target).with_style(style.progress_chars("=> "));
        bar.set_message(progress.work.to_string());
        bar
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_follows_its_work_and_the_next_work_gets_its_own() {
        let mut bars = Bars::new(false);
        bars.show(Progress { work: Work::Recovery, done: 1, total: None });
        bars.show(Progress { work: Work::Failover, done: 5, total: Some(10) });
        let (work, bar) = bars.current.as_ref().unwrap();
        assert_eq!((*work, bar.position(), bar.length()), (Work::Failover, 5, Some(10)));
        bars.finish();
        assert!(bars.current.is_none());
    }
}
