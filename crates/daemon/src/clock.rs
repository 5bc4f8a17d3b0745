//! The daemon's clock.

use control_api::time::Time;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// The wall clock as it was when the daemon started, moved on by a steady one: whatever happens to the machine's
/// clock later, time never goes back and never jumps, so no recovery point changes its place in the window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    wall: Time,
    steady: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub(crate) fn start() -> Clock {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { wall: nanos(since), steady: Instant::now() }
    }

    /// When it was started.
    pub(crate) fn started(&self) -> Time {
        self.wall
    }

    /// Nanoseconds since the Unix epoch.
    pub(crate) fn now(&self) -> Time {
        self.wall.saturating_add(nanos(self.steady.elapsed()))
    }

    /// The moment at which [`Clock::now`] reaches `time`.
    pub(crate) fn instant(&self, time: Time) -> Instant {
        self.steady + Duration::from_nanos(time.saturating_sub(self.wall))
    }
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
