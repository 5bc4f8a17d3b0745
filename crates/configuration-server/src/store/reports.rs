//! What each host last told of itself.

use super::json;
use control_api::agent::Heartbeat;
use control_api::time::Time;
use rusqlite::{Connection, OptionalExtension, Result, Row, params};
use std::collections::HashMap;

/// The last heartbeat of a host.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Report {
    /// When it came, by the clock of this server.
    pub(crate) received: Time,
    /// False when none came for too long.
    pub(crate) connected: bool,
    /// What it told, without its items.
    pub(crate) heartbeat: Heartbeat,
}

const SELECT: &str = "SELECT host, received, connected, body FROM report";

fn report(row: &Row<'_>) -> Result<(i64, Report)> {
    let report = Report { received: row.get(1)?, connected: row.get(2)?, heartbeat: json::column(row, 3)? };
    Ok((row.get(0)?, report))
}

/// The last heartbeat of the host in this row; `None` when none ever came.
pub(crate) fn of(connection: &Connection, host: i64) -> Result<Option<Report>> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE host = ?"))?;
    Ok(statement.query_row([host], report).optional()?.map(|(_, report)| report))
}

/// The last heartbeats of all hosts, by row.
pub(crate) fn all(connection: &Connection) -> Result<HashMap<i64, Report>> {
    connection.prepare_cached(SELECT)?.query_map([], report)?.collect()
}

/// Whether heartbeats of the host in this row come; `None` when none ever came.
pub(crate) fn connected(connection: &Connection, host: i64) -> Result<Option<bool>> {
    let mut statement = connection.prepare_cached("SELECT connected FROM report WHERE host = ?")?;
    statement.query_row([host], |row| row.get(0)).optional()
}

/// Writes down a heartbeat, which has no items any more.
pub(crate) fn put(connection: &Connection, host: i64, heartbeat: &Heartbeat, now: Time) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO report (host, received, connected, body) VALUES (?, ?, 1, ?) \
         ON CONFLICT (host) DO UPDATE SET received = excluded.received, connected = 1, body = excluded.body",
    )?;
    statement.execute(params![host, now, json::text(heartbeat)?]).map(drop)
}

/// Heartbeats of this host come no more.
pub(crate) fn lost(connection: &Connection, host: i64) -> Result<()> {
    connection.execute("UPDATE report SET connected = 0 WHERE host = ?", [host]).map(drop)
}
