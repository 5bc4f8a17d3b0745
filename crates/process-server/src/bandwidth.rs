//! A bandwidth that all connections share.
//!
//! Each lot of bytes is given the moment at which it may go, one after the other, so connections take turns by themselves.
//! A line that was not used for a moment gives a little of that back, which makes up for timers that fire late.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What was not used is made up for, at most for so long.
const BURST: Duration = Duration::from_millis(50);

/// So many bytes a second.
pub(crate) struct Bandwidth {
    bytes_per_second: u64,
    began: Instant,
    /// When the line is free, since it began.
    free: Mutex<Duration>,
}

impl Bandwidth {
    pub(crate) fn new(bytes_per_second: u64) -> Bandwidth {
        Bandwidth { bytes_per_second, began: Instant::now(), free: Mutex::default() }
    }

    /// Waits until so many bytes may be sent.
    pub(crate) async fn take(&self, bytes: usize) {
        let wait = self.reserve(self.began.elapsed(), bytes);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// How long they wait that come now.
    fn reserve(&self, now: Duration, bytes: usize) -> Duration {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = (*free).max(now.saturating_sub(BURST));
        *free = begin + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        begin.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bandwidth_is_kept_by_all_together() {
        let bandwidth = Bandwidth::new(1000);
        let at = Duration::from_millis;
        assert_eq!(bandwidth.reserve(at(1000), 100), at(0));
        assert_eq!(bandwidth.reserve(at(1000), 100), at(50), "50 ms are given back");
        assert_eq!(bandwidth.reserve(at(1000), 500), at(150));
        assert_eq!(bandwidth.reserve(at(1200), 1), at(450));
        assert_eq!(bandwidth.reserve(at(9000), 1), at(0), "nothing is saved up for long");
        assert!(bandwidth.reserve(at(9000), 1000) <= at(1));
        assert_eq!(bandwidth.reserve(at(9000), 1000), at(951));
    }
}
