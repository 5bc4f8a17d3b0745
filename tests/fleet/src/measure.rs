//! How long things take: of each kind all times are kept, and read as percentiles.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Times of one kind.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// These times.
    pub fn new(mut times: Vec<Duration>) -> Times {
        times.sort();
        Times(times)
    }

    /// Several kinds as one.
    pub fn all<'a>(kinds: impl Iterator<Item = &'a Times>) -> Times {
        Times::new(kinds.flat_map(|times| times.0.iter().copied()).collect())
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The time that this share of all does not exceed.
    pub fn percentile(&self, percent: f64) -> Duration {
        let rank = (self.0.len() as f64 * percent / 100.0).ceil() as usize;
        self.0.get(rank.clamp(1, self.0.len().max(1)) - 1).copied().unwrap_or_default()
    }

    /// The longest.
    pub fn longest(&self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }
}

/// Times of many kinds, noted by many tasks.
#[derive(Default)]
pub struct Stopwatch(Mutex<BTreeMap<String, Vec<Duration>>>);

impl Stopwatch {
    /// Notes one.
    pub fn note(&self, kind: &str, time: Duration) {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match kinds.get_mut(kind) {
            Some(times) => times.push(time),
            None => drop(kinds.insert(kind.to_owned(), vec![time])),
        }
    }

    /// All that was noted since the last call, by kind.
    pub fn take(&self) -> BTreeMap<String, Times> {
        let kinds = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        kinds.into_iter().map(|(kind, times)| (kind, Times::new(times))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let times = Times::new((1..=200).rev().map(Duration::from_millis).collect());
        let milliseconds = |percent| times.percentile(percent).as_millis();
        assert_eq!((milliseconds(50.0), milliseconds(99.0), milliseconds(100.0)), (100, 198, 200));
        assert_eq!(Times::default().percentile(99.0), Duration::ZERO);
        let watch = Stopwatch::default();
        watch.note("page", Duration::from_millis(3));
        assert_eq!(watch.take()["page"].longest(), Duration::from_millis(3));
        assert!(watch.take().is_empty());
    }
}
