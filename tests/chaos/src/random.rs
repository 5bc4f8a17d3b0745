//! Random numbers from a seed that is printed and can be given again.

use anyhow::{Context, Result};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// SplitMix64.
pub struct Random(u64);

impl Random {
    /// Numbers from the seed in `CHAOS_SEED`, else from a new one; it is printed.
    pub fn from_environment() -> Result<Random> {
        Random::from_variable("CHAOS_SEED")
    }

    /// Numbers from the seed in this environment variable, else from a new one; it is printed.
    pub fn from_variable(name: &str) -> Result<Random> {
        let seed = match std::env::var(name) {
            Ok(text) => text.parse().with_context(|| format!("{name} is no number"))?,
            Err(_) => SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64,
        };
        println!("{name}={seed}");
        Ok(Random(seed))
    }

    /// Numbers from this seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    /// A time below `end`, of whole milliseconds.
    pub fn time(&mut self, end: Duration) -> Duration {
        Duration::from_millis(self.below(end.as_millis() as u64))
    }

    /// Bytes that do not compress.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.number().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}
