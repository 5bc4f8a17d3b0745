//! How fast a journal grows.

use control_api::time::{SECOND, Time};
use std::collections::VecDeque;

/// What the rate is measured over: long enough to say something about a day, short enough to forget a burst.
const SPAN: Time = 300 * SECOND;
/// How far apart samples are.
const SPACING: Time = 5 * SECOND;

/// Bytes a second over the last minutes, from a counter that begins again at zero whenever the journal is opened.
#[derive(Debug, Default)]
pub(super) struct GrowthRate {
    total: u64,
    counter: u64,
    /// When, and the total then; oldest first, at most `SPAN / SPACING` and two more.
    samples: VecDeque<(Time, u64)>,
    now: Time,
}

impl GrowthRate {
    /// Notes what the counter says now; `None` while there is no counter and nothing grows.
    pub(super) fn note(&mut self, now: Time, counter: Option<u64>) {
        if let Some(counter) = counter {
            self.total += counter.checked_sub(self.counter).unwrap_or(counter);
            self.counter = counter;
        }
        self.now = now;
        if self.samples.back().is_none_or(|(last, _)| now >= last + SPACING) {
            // What an old journal held when it was first looked at did not come just now.
            self.samples.push_back((now, self.total));
        }
        while self.samples.get(1).is_some_and(|(second, _)| *second + SPAN <= now) {
            self.samples.pop_front();
        }
    }

    /// Bytes a second; zero until there is something to compare with.
    pub(super) fn per_second(&self) -> u64 {
        let Some((since, before)) = self.samples.front() else { return 0 };
        let elapsed = self.now.saturating_sub(*since);
        if elapsed < SPACING {
            return 0;
        }
        (u128::from(self.total - before) * u128::from(SECOND) / u128::from(elapsed)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_steady_rate_is_known_within_seconds_and_a_burst_is_forgotten_within_minutes() {
        let mut rate = GrowthRate::default();
        // The journal was there before: its counter does not begin at zero.
        for second in 0..=30 {
            rate.note(second * SECOND, Some((1000 + 3 * second) * MIB));
        }
        assert_eq!(rate.per_second(), 3 * MIB);
        // Ten seconds at a hundred times that.
        for second in 31..=40 {
            rate.note(second * SECOND, Some((1090 + 300 * (second - 30)) * MIB));
        }
        assert!(rate.per_second() > 50 * MIB);
        for second in 41..=360 {
            rate.note(second * SECOND, Some((4090 + 3 * (second - 40)) * MIB));
        }
        assert_eq!(rate.per_second(), 3 * MIB);
        assert!(rate.samples.len() <= 62);
    }

    #[test]
    fn a_journal_that_is_opened_again_counts_on() {
        let mut rate = GrowthRate::default();
        for (second, counter) in [(0, Some(0)), (10, Some(100)), (20, None), (30, Some(50)), (40, Some(90))] {
            rate.note(second * SECOND, counter);
        }
        assert_eq!(rate.per_second(), 190 / 40);
    }

    #[test]
    fn nothing_is_said_before_anything_is_known() {
        let mut rate = GrowthRate::default();
        assert_eq!(rate.per_second(), 0);
        rate.note(7 * SECOND, Some(1 << 40));
        rate.note(8 * SECOND, Some(2 << 40));
        assert_eq!(rate.per_second(), 0);
    }
}
