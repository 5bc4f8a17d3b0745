//! The seed of a run: printed, and given again to repeat it.

use anyhow::{Context, Result};

/// The seed in `FLEET_SEED`, else a new one.
pub fn seed() -> Result<u64> {
    let seed = match std::env::var("FLEET_SEED") {
        Ok(text) => text.parse().context("FLEET_SEED is no number")?,
        Err(_) => crate::now(),
    };
    println!("FLEET_SEED={seed}");
    Ok(seed)
}
