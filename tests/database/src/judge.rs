//! Whether a database is what it has to be.

use crate::ledger::Key;
use crate::postgres::finish;
use crate::{Bounds, Ledger, Postgres};
use anyhow::{Context, Result, ensure};
use control_api::time::Time;
use std::collections::BTreeSet;

/// What was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verdict {
    /// Transactions of the ledger that are there.
    pub(crate) transactions: usize,
    /// When the newest of them was committed.
    pub(crate) newest: Time,
}

/// Looks at all of a database.
pub(crate) fn judge(postgres: &Postgres, ledger: &Ledger, bounds: Bounds) -> Result<Verdict> {
    let judged = amcheck(postgres).and_then(|()| ledger_of(postgres, ledger, bounds));
    judged.with_context(|| format!("PostgreSQL says:\n{}", postgres.log_tail()))
}

/// Every table and index, and that each row is found by its indexes.
fn amcheck(postgres: &Postgres) -> Result<()> {
    let mut command = postgres.client("pg_amcheck")?;
    command.args([
        "--database=postgres",
        "--install-missing",
        "--heapallindexed",
        "--parent-check",
        "--rootdescend",
    ]);
    let said = finish(&mut command)?;
    ensure!(said.trim().is_empty(), "pg_amcheck: {said}");
    Ok(())
}

/// Looks at the transactions alone, those of the ledger and those of pgbench.
pub(crate) fn ledger_of(postgres: &Postgres, ledger: &Ledger, bounds: Bounds) -> Result<Verdict> {
    balances(postgres)?;
    let rows = postgres.sql("select client, number from ledger")?;
    let present: BTreeSet<Key> =
        rows.lines().map(key).collect::<Option<_>>().context("rows of the ledger")?;
    let newest = ledger.check(&present, bounds)?;
    Ok(Verdict { transactions: present.len(), newest })
}

fn key(row: &str) -> Option<Key> {
    let (client, number) = row.split_once(' ')?;
    Some((client.parse().ok()?, number.parse().ok()?))
}

/// A transaction of pgbench changes one row of each of three tables by the same amount, and writes that into a fourth.
fn balances(postgres: &Postgres) -> Result<()> {
    let sums = postgres.sql(
        "select (select sum(abalance) from pgbench_accounts), (select sum(tbalance) from pgbench_tellers), \
         (select sum(bbalance) from pgbench_branches), (select coalesce(sum(delta), 0) from pgbench_history)",
    )?;
    let sums: Vec<&str> = sums.split_whitespace().collect();
    ensure!(sums.len() == 4 && sums.iter().all(|sum| *sum == sums[0]), "balances of pgbench: {sums:?}");
    Ok(())
}
