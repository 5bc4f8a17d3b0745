//! What was asked for, and what came of it.

use control_api::time::Time;
use rusqlite::{Connection, Result, params};
use serde::Serialize;

/// Entries that are kept.
const MAX_ENTRIES: u32 = 100_000;

/// Where commands are typed, as an address.
pub(crate) const CONSOLE: &str = "console";

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Entry {
    /// When.
    pub(crate) time: Time,
    /// From where; [`CONSOLE`] for a command typed here.
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

/// The number of the newest entry, and whether some entry after that of number `after` is of a command.
pub(crate) fn typed_after(connection: &Connection, after: i64) -> Result<(i64, bool)> {
    let mut statement = connection.prepare_cached(
        "SELECT ifnull(max(id), ?1), ifnull(max(address = ?2), 0) FROM audit WHERE id > ?1",
    )?;
    statement.query_row(params![after, CONSOLE], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// The newest entries, the newest first.
pub(crate) fn newest(connection: &Connection, limit: u32) -> Result<Vec<Entry>> {
    let entries = before(connection, None, limit)?;
    Ok(entries.into_iter().map(|numbered| numbered.entry).collect())
}

/// An entry with its number; a later one has a greater one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Numbered {
    pub(crate) id: i64,
    #[serde(flatten)]
    pub(crate) entry: Entry,
}

/// Entries before the one of this number, or the newest ones, the newest first.
pub(crate) fn before(connection: &Connection, id: Option<i64>, limit: u32) -> Result<Vec<Numbered>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, time, address, host, outcome, detail FROM audit WHERE ?1 IS NULL OR id < ?1 \
         ORDER BY id DESC LIMIT ?2",
    )?;
    let entries = statement.query_map(params![id, limit], |row| {
        let (id, time) = (row.get(0)?, row.get(1)?);
        let (address, host) = (row.get(2)?, row.get(3)?);
        let entry = Entry { time, address, host, outcome: row.get(4)?, detail: row.get(5)? };
        Ok(Numbered { id, entry })
    })?;
    entries.collect()
}
