//! How fast bytes are sent.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The time over which it is measured.
const OVER: Duration = Duration::from_secs(5);

/// What was sent up to when, over the last few seconds.
#[derive(Default)]
pub(super) struct Gauge {
    seen: Mutex<VecDeque<(Instant, u64)>>,
}

impl Gauge {
    /// So many bytes were sent up to now.
    pub(super) fn note(&self, sent: u64) {
        self.note_at(Instant::now(), sent);
    }

    fn note_at(&self, now: Instant, sent: u64) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push_back((now, sent));
        while seen.len() > 2 && seen.front().is_some_and(|(at, _)| now.duration_since(*at) > OVER) {
            seen.pop_front();
        }
    }

    /// Bytes a second.
    pub(super) fn rate(&self) -> u64 {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some((from, before)), Some((to, after))) = (seen.front(), seen.back()) else { return 0 };
        let millis = to.duration_since(*from).as_millis().max(1);
        u64::try_from(u128::from(after.saturating_sub(*before)) * 1000 / millis).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_few_seconds() {
        let (gauge, start) = (Gauge::default(), Instant::now());
        assert_eq!(gauge.rate(), 0);
        for second in 0..10 {
            let sent = if second < 5 { second * 1000 } else { 4000 };
            gauge.note_at(start + Duration::from_secs(second), sent);
            if second == 4 {
                assert_eq!(gauge.rate(), 1000);
            }
        }
        assert_eq!(gauge.rate(), 0);
    }
}
