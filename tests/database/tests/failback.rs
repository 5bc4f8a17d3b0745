//! A database is failed back, with one disk and with two.
//!
//! `DATABASE_TEST_SEED` replays a trial; `DATABASE_TEST_ROUNDS=20` runs as many, each with a seed of its own.

use anyhow::{Context, Result};
use chaos::{Random, is_root};
use database::{Layout, Trial};
use std::io::Write;

fn rounds() -> Result<u32> {
    match std::env::var("DATABASE_TEST_ROUNDS") {
        Ok(text) => text.parse().context("DATABASE_TEST_ROUNDS is no number"),
        Err(_) => Ok(1),
    }
}

fn run(layout: Layout) -> Result<()> {
    if !is_root("a database on a file system of its own") {
        return Ok(());
    }
    for round in 1..=rounds()? {
        let folder = tempfile::tempdir()?;
        let random = Random::from_variable("DATABASE_TEST_SEED")?;
        let outcome = Trial::run(folder.path(), layout, random).with_context(|| format!("round {round}"))?;
        // Written past the test harness, which keeps back what passing tests print.
        writeln!(std::io::stderr(), "{layout:?}: {outcome}")?;
    }
    Ok(())
}

#[test]
fn a_database_on_one_disk_comes_home() -> Result<()> {
    run(Layout::OneDisk)
}

#[test]
fn a_database_with_its_log_on_a_second_disk_comes_home() -> Result<()> {
    run(Layout::TwoDisks)
}
