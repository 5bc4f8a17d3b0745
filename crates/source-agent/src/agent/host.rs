//! What only the machine knows: time, chance and its boot.

use crate::BootId;
use anyhow::{Context, Result};
use change_stream::{StreamId, Time};
use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The wall clock as it was at start, moved on by a steady one: it never jumps and never goes back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SteadyClock {
    wall: Time,
    steady: Instant,
}

impl SteadyClock {
    pub(crate) fn start() -> SteadyClock {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        SteadyClock { wall: nanos(since), steady: Instant::now() }
    }

    pub(crate) fn now(&self) -> Time {
        self.wall.saturating_add(nanos(self.steady.elapsed()))
    }

    /// The moment at which [`SteadyClock::now`] reaches `time`.
    pub(crate) fn instant(&self, time: Time) -> Instant {
        self.steady + Duration::from_nanos(time.saturating_sub(self.wall))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("cannot read random bytes from /dev/urandom")?;
    Ok(bytes)
}

pub(crate) fn random_stream() -> Result<StreamId> {
    random().map(StreamId)
}

pub(crate) fn random_u32() -> Result<u32> {
    random().map(u32::from_le_bytes)
}

pub(crate) fn boot_id() -> Result<BootId> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(PATH).with_context(|| format!("cannot read {PATH}"))?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let id = u128::from_str_radix(&digits, 16).with_context(|| format!("{PATH} holds no id: {text:?}"))?;
    Ok(id.to_be_bytes())
}
