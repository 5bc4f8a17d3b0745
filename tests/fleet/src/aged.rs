//! A store as full as it gets: a day of samples of every item, and as many events, jobs and entries of the audit as are
//! kept. Written while the server does not run.

use crate::now;
use anyhow::{Context, Result};
use control_api::time::SECOND;
use rusqlite::{Connection, params};
use std::path::Path;

/// Slots of a day, events, jobs that have ended, and entries of the audit, just fewer than the server keeps.
const SLOTS: u64 = 285;
const EVENTS: u64 = 99_000;
const JOBS: u64 = 9_900;
const AUDIT: u64 = 9_900;
const SLOT: u64 = 300 * SECOND;

const SAMPLES: &str = "WITH RECURSIVE back (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM back WHERE n < ?1) \
     INSERT OR IGNORE INTO sample (item, slot, rpo_seconds, bytes_per_second) \
     SELECT item.id, ?2 - n, (item.id * 7919 + n * 31) % 60, (item.id * 104729 + n * 7907) % 8000000 FROM item, back";

const EVENT_ROWS: &str = "WITH RECURSIVE back (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM back WHERE n < ?1) \
     INSERT INTO event (time, severity, kind, object, what, cause, next, host, item) \
     SELECT ?2 - (?1 - n) * 1000000000, CASE n % 20 WHEN 0 THEN 'critical' WHEN 1 THEN 'warning' ELSE 'info' END, \
     'rpo-exceeded', item.name, 'the newest durable recovery point is older than 15 min', 'the line was slow', \
     'look at the line to the source', item.host, item.id \
     FROM back JOIN item ON item.id = (SELECT min(id) FROM item) + n % (SELECT count(*) FROM item)";

const JOB_ROWS: &str = "WITH RECURSIVE back (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM back WHERE n < ?1) \
     INSERT INTO job (uuid, host, body, state, ordered, ordered_by, told, ended, report) \
     SELECT lower(hex(randomblob(16))), host.id, '{\"kind\":\"check\"}', 'succeeded', ?2 - (?1 - n) * 1000000000, \
     'admin', ?2 - (?1 - n) * 1000000000, ?2 - (?1 - n) * 1000000000 + 1, NULL \
     FROM back JOIN host ON host.id = (SELECT min(id) FROM host) + n % (SELECT count(*) FROM host)";

const AUDIT_ROWS: &str = "WITH RECURSIVE back (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM back WHERE n < ?1) \
     INSERT INTO audit (time, address, host, outcome, detail) \
     SELECT ?2 - (?1 - n) * 1000000000, '10.0.0.5', 'mt001.home.example', 'renewed', '' FROM back";

/// Fills the store at `path`, whose hosts and items are known to it.
pub fn fill(path: &Path) -> Result<()> {
    let mut connection = Connection::open(path).with_context(|| path.display().to_string())?;
    connection.pragma_update(None, "foreign_keys", true)?;
    let transaction = connection.transaction()?;
    transaction.execute(SAMPLES, params![SLOTS, now() / SLOT]).context("samples")?;
    for (rows, count, what) in
        [(EVENT_ROWS, EVENTS, "events"), (JOB_ROWS, JOBS, "jobs"), (AUDIT_ROWS, AUDIT, "audit")]
    {
        transaction.execute(rows, params![count, now()]).context(what)?;
    }
    Ok(transaction.commit()?)
}
