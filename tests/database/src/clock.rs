//! The time, as the source agent tells it.

use anyhow::Result;
use control_api::time::Time;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The wall clock as it was when this was made, moved on by a steady one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    wall: Time,
    steady: Instant,
}

impl Clock {
    /// Starts with what the wall clock says.
    pub(crate) fn start() -> Result<Clock> {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH)?;
        Ok(Clock { wall: wall.as_nanos() as u64, steady: Instant::now() })
    }

    /// Nanoseconds since the Unix epoch.
    pub(crate) fn now(&self) -> Time {
        self.wall + self.steady.elapsed().as_nanos() as u64
    }
}
