//! Five hundred master targets with five thousand items, and people who look at them.

use anyhow::{Result, bail};
use fleet::agent::Habits;
use fleet::report;
use fleet::trial::{Plan, Trial};
use std::time::Duration;

/// How often it is measured on a machine that others use, before a time counts as missed.
const TRIES: u32 = 3;

#[test]
fn pages_are_quick_and_memory_is_small_with_five_hundred_hosts() -> Result<()> {
    let programs = rig::build()?;
    let folder = tempfile::tempdir()?;
    let plan = Plan {
        hosts: 500,
        // Three times as often as they do.
        habits: Habits { interval: Some(Duration::from_secs(10)), ..Habits::default() },
        rate: 20,
        order_every: Duration::from_millis(250),
        followers: 10,
        window: Duration::from_secs(10),
        seed: 1,
    };
    let mut trial = Trial::start(folder.path(), &programs, plan)?;
    for number in 1..=TRIES {
        let figures = trial.measure()?;
        println!("{}", report::text(&trial, &figures));
        figures.check()?;
        let missed = figures.missed();
        if missed.is_empty() {
            return Ok(());
        }
        if figures.is_calm() || number == TRIES {
            bail!("{}; the server says:\n{}", missed.join("; "), trial.log());
        }
    }
    Ok(())
}
