//! What happened, and what needs attention.

use control_api::Severity;
use control_api::time::Time;
use rusqlite::{Connection, OptionalExtension, Result, params};
use serde::Serialize;

/// Events that are kept.
pub(super) const MAX_EVENTS: i64 = 100_000;

/// What happened, as people read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Event {
    pub(crate) id: i64,
    pub(crate) time: Time,
    pub(crate) severity: Severity,
    /// What kind of thing it is, for programs.
    pub(crate) kind: String,
    /// The host, item or user that it is about.
    pub(crate) object: String,
    pub(crate) what: String,
    pub(crate) cause: String,
    pub(crate) next: String,
    #[serde(skip)]
    pub(crate) host: Option<i64>,
    #[serde(skip)]
    pub(crate) item: Option<i64>,
}

/// Writes down an event; its `id` is given here.
pub(crate) fn add(connection: &Connection, event: &Event) -> Result<i64> {
    connection.execute(
        "INSERT INTO event (time, severity, kind, object, what, cause, next, host, item) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            event.time,
            event.severity.id(),
            event.kind,
            event.object,
            event.what,
            event.cause,
            event.next,
            event.host,
            event.item
        ],
    )?;
    let id = connection.last_insert_rowid();
    connection.execute("DELETE FROM alert WHERE cleared IS NOT NULL AND event <= ?", [id - MAX_EVENTS])?;
    connection.execute(
        "DELETE FROM event WHERE id <= ? AND id NOT IN (SELECT event FROM alert)",
        [id - MAX_EVENTS],
    )?;
    Ok(id)
}

/// Raises the alert `key`, with the event that tells it; an alert that is raised already stays as it is. True when it is
/// a new one.
pub(crate) fn raise(connection: &Connection, key: &str, event: &Event) -> Result<bool> {
    let raised = connection
        .query_row("SELECT 1 FROM alert WHERE key = ? AND cleared IS NULL", [key], |_| Ok(()))
        .optional()?;
    if raised.is_some() {
        return Ok(false);
    }
    let id = add(connection, event)?;
    connection
        .execute("INSERT INTO alert (key, raised, event) VALUES (?, ?, ?)", params![key, event.time, id])?;
    Ok(true)
}

/// Clears the alert `key`, and writes down that it is over; true when it was raised.
pub(crate) fn clear(connection: &Connection, key: &str, now: Time) -> Result<bool> {
    let sql =
        format!("{SELECT} JOIN alert ON alert.event = event.id WHERE alert.key = ? AND cleared IS NULL");
    let Some(raised) = connection.query_row(&sql, [key], event).optional()? else { return Ok(false) };
    let over = Event {
        time: now,
        severity: Severity::Info,
        what: format!("no longer: {}", raised.what),
        cause: String::new(),
        next: String::new(),
        ..raised
    };
    let over = add(connection, &over)?;
    connection.execute(
        "UPDATE alert SET cleared = ?, over = ? WHERE key = ? AND cleared IS NULL",
        params![now, over, key],
    )?;
    Ok(true)
}

/// The keys of the alerts that are raised and whose key begins so; the prefix ends in a slash.
pub(crate) fn raised_below(connection: &Connection, prefix: &str) -> Result<Vec<String>> {
    let mut statement =
        connection.prepare_cached("SELECT key FROM alert WHERE cleared IS NULL AND key >= ? AND key < ?")?;
    // In the order of the alphabet 0 follows the slash.
    let end = format!("{}0", prefix.trim_end_matches('/'));
    statement.query_map([prefix, &end], |row| row.get(0))?.collect()
}

/// Clears the alerts whose key begins so without a word, when what they are about is there no more.
pub(crate) fn forget(connection: &Connection, prefix: &str, now: Time) -> Result<()> {
    let mut statement =
        connection.prepare_cached("UPDATE alert SET cleared = ? WHERE key = ? AND cleared IS NULL")?;
    for key in raised_below(connection, prefix)? {
        statement.execute(params![now, key])?;
    }
    Ok(())
}

pub(super) const SELECT: &str = "SELECT event.id, event.time, event.severity, event.kind, event.object, event.what, event.cause, \
     event.next, event.host, event.item FROM event";

pub(super) fn event(row: &rusqlite::Row<'_>) -> Result<Event> {
    let severity: String = row.get(2)?;
    let severity = Severity::parse(&severity)
        .ok_or_else(|| rusqlite::Error::InvalidColumnType(2, severity, rusqlite::types::Type::Text))?;
    Ok(Event {
        id: row.get(0)?,
        time: row.get(1)?,
        severity,
        kind: row.get(3)?,
        object: row.get(4)?,
        what: row.get(5)?,
        cause: row.get(6)?,
        next: row.get(7)?,
        host: row.get(8)?,
        item: row.get(9)?,
    })
}

/// An alert that is raised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Raised {
    pub(crate) key: String,
    pub(crate) raised: Time,
    #[serde(flatten)]
    pub(crate) event: Event,
}

/// The alerts that are raised, the worst first, then the newest.
pub(crate) fn raised(connection: &Connection) -> Result<Vec<Raised>> {
    let sql = format!(
        "{} JOIN alert ON alert.event = event.id WHERE cleared IS NULL ORDER BY \
         CASE event.severity WHEN 'critical' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END, alert.raised DESC, alert.id DESC",
        SELECT.replace(" FROM event", ", alert.key, alert.raised FROM event")
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let alerts = statement
        .query_map([], |row| Ok(Raised { key: row.get(10)?, raised: row.get(11)?, event: event(row)? }))?;
    alerts.collect()
}

/// Which events are wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    /// Of this severity or a worse one.
    pub(crate) at_least: Option<Severity>,
    /// Of this host.
    pub(crate) host: Option<i64>,
    /// Of this item.
    pub(crate) item: Option<i64>,
    /// Older than the event of this number.
    pub(crate) before: Option<i64>,
    /// At most so many.
    pub(crate) limit: u32,
}

/// The ids of this severity and the worse ones; always three.
pub(super) fn at_least(severity: Severity) -> [&'static str; 3] {
    match severity {
        Severity::Info => ["info", "warning", "critical"],
        Severity::Warning => ["warning", "critical", "critical"],
        Severity::Critical => ["critical"; 3],
    }
}

/// Events, the newest first.
pub(crate) fn newest(connection: &Connection, query: &Query) -> Result<Vec<Event>> {
    let severities = at_least(query.at_least.unwrap_or(Severity::Info));
    let sql = format!(
        "{SELECT} WHERE severity IN (?1, ?2, ?3) AND (?4 IS NULL OR host = ?4) AND (?5 IS NULL OR item = ?5) \
         AND (?6 IS NULL OR id < ?6) ORDER BY id DESC LIMIT ?7"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let events = statement.query_map(
        params![
            severities[0],
            severities[1],
            severities[2],
            query.host,
            query.item,
            query.before,
            query.limit
        ],
        event,
    )?;
    events.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{happened, store};

    #[test]
    fn an_alert_is_raised_once_and_cleared_once() {
        let (_folder, connection) = store();
        assert!(raise(&connection, "a", &happened(1, Severity::Warning)).unwrap());
        assert!(!raise(&connection, "a", &happened(2, Severity::Warning)).unwrap());
        assert!(raise(&connection, "b", &happened(3, Severity::Critical)).unwrap());
        let keys: Vec<String> = raised(&connection).unwrap().into_iter().map(|alert| alert.key).collect();
        assert_eq!(keys, ["b", "a"]);
        assert!(clear(&connection, "a", 4).unwrap());
        assert!(!clear(&connection, "a", 5).unwrap());
        assert!(raise(&connection, "a", &happened(6, Severity::Warning)).unwrap());
        let all = newest(&connection, &Query { limit: 10, ..Query::default() }).unwrap();
        let told: Vec<(Time, Severity)> = all.iter().map(|event| (event.time, event.severity)).collect();
        use Severity::{Critical, Info, Warning};
        assert_eq!(told, [(6, Warning), (4, Info), (3, Critical), (1, Warning)]);
        assert_eq!(all[1].what, "no longer: it is not connected");
        let bad = newest(&connection, &Query { at_least: Some(Critical), limit: 10, ..Query::default() });
        assert_eq!(bad.unwrap().len(), 1);
    }
}
