//! What was asked for, and what came of it.

use control_api::time::Time;
use rusqlite::{Connection, Result, params};
use serde::Serialize;

/// Entries that are kept.
const MAX_ENTRIES: u32 = 100_000;

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Entry {
    /// When.
    pub(crate) time: Time,
    /// From where; `console` for a command typed here.
    pub(crate) address: String,
    /// Name of the host, as far as it was told.
    pub(crate) host: String,
    /// What came of it, in one word.
    pub(crate) outcome: String,
    /// The rest.
    pub(crate) detail: String,
}

/// Adds an entry, and drops the oldest when there are too many.
pub(crate) fn add(connection: &Connection, entry: &Entry) -> Result<()> {
    let Entry { time, address, host, outcome, detail } = entry;
    connection.execute(
        "INSERT INTO audit (time, address, host, outcome, detail) VALUES (?, ?, ?, ?, ?)",
        params![time, address, host, outcome, detail],
    )?;
    let newest = connection.last_insert_rowid();
    connection.execute("DELETE FROM audit WHERE id <= ?", [newest - i64::from(MAX_ENTRIES)]).map(drop)
}

/// The newest entries, the newest first.
pub(crate) fn newest(connection: &Connection, limit: u32) -> Result<Vec<Entry>> {
    let mut statement = connection
        .prepare("SELECT time, address, host, outcome, detail FROM audit ORDER BY id DESC LIMIT ?")?;
    let entries = statement.query_map([limit], |row| {
        Ok(Entry {
            time: row.get(0)?,
            address: row.get(1)?,
            host: row.get(2)?,
            outcome: row.get(3)?,
            detail: row.get(4)?,
        })
    })?;
    entries.collect()
}
