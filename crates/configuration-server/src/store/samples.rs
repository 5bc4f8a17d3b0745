//! How the recovery point objective and the rate of each item went over the last day.

use control_api::time::{SECOND, Time};
use rusqlite::{Connection, Result, params};
use serde::Serialize;

/// Nanoseconds of a slot: five minutes.
pub(crate) const SLOT: Time = 300 * SECOND;

/// Slots that are kept: a day, and the one that goes on.
const KEPT: u64 = 288;

/// Five minutes of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Sample {
    /// Number of the five minutes since the Unix epoch.
    pub(crate) slot: u64,
    /// The worst of them.
    pub(crate) rpo_seconds: Option<u64>,
    /// The highest of them.
    pub(crate) bytes_per_second: u64,
}

/// The samples of an item from a time on, the oldest first; those of slots in which nothing was told are missing.
pub(crate) fn of(connection: &Connection, item: i64, since: Time) -> Result<Vec<Sample>> {
    let mut statement = connection.prepare_cached(
        "SELECT slot, rpo_seconds, bytes_per_second FROM sample WHERE item = ? AND slot >= ? ORDER BY slot",
    )?;
    let samples = statement.query_map(params![item, since / SLOT], |row| {
        Ok(Sample { slot: row.get(0)?, rpo_seconds: row.get(1)?, bytes_per_second: row.get(2)? })
    })?;
    samples.collect()
}

/// Adds what an item tells now, and drops what is older than a day.
pub(crate) fn add(
    connection: &Connection,
    item: i64,
    rpo_seconds: Option<u64>,
    bytes_per_second: u64,
    now: Time,
) -> Result<()> {
    let slot = now / SLOT;
    // Both maxima leave out what is not known.
    let mut statement = connection.prepare_cached(
        "INSERT INTO sample (item, slot, rpo_seconds, bytes_per_second) VALUES (?, ?, ?, ?) \
         ON CONFLICT (item, slot) DO UPDATE SET \
         rpo_seconds = ifnull(max(rpo_seconds, excluded.rpo_seconds), ifnull(rpo_seconds, excluded.rpo_seconds)), \
         bytes_per_second = max(bytes_per_second, excluded.bytes_per_second)",
    )?;
    statement.execute(params![item, slot, rpo_seconds, bytes_per_second])?;
    let mut statement = connection.prepare_cached("DELETE FROM sample WHERE item = ? AND slot < ?")?;
    statement.execute(params![item, slot.saturating_sub(KEPT)]).map(drop)
}

#[cfg(test)]
mod tests;
