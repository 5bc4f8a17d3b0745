//! How far the events have been delivered to each channel.
//!
//! A channel is mail or a webhook. Its row holds the last event that it has; what comes after that is due. Before a
//! message is sent its last event is written down, so that the same message is sent again after a crash or a failure,
//! under the same id, and whoever gets it twice can tell.

use crate::store::events::{self, Event};
use control_api::Severity;
use control_api::time::Time;
use rusqlite::{Connection, OptionalExtension, Result, params};
use serde::Serialize;

/// Kinds of events that tell of a channel itself; they are not delivered to it.
pub(crate) const FAILING: &str = "channel-failing";
pub(crate) const NOT_DELIVERED: &str = "not-delivered";

/// How a channel stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// The last event that arrived, or was not for it.
    pub(crate) event: i64,
    /// The last event of the message that is on its way.
    pub(crate) sending: Option<i64>,
    /// Attempts in vain since something arrived.
    pub(crate) failures: u32,
    /// When the first of them was.
    pub(crate) since: Option<Time>,
}

/// An event that is to be delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Due {
    #[serde(flatten)]
    pub(crate) event: Event,
    /// The event that this one ends, when it tells that an alert is over.
    pub(crate) ends: Option<i64>,
}

/// What a channel wants.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The channel, as `delivery` and its own events name it.
    pub(crate) channel: String,
    /// Events of this severity or a worse one, and those that end one of these.
    pub(crate) at_least: Severity,
}

impl Wanted {
    /// What the channel's own events are about.
    pub(crate) fn object(&self) -> String {
        format!("channel {}", self.channel)
    }
}

/// Makes rows for channels that have none, which begin with the events from now on, and forgets those of channels that
/// are there no more.
pub(crate) fn set_up(connection: &Connection, channels: &[String], now: Time) -> Result<()> {
    let mut known = connection.prepare("SELECT channel FROM delivery")?;
    let known: Vec<String> = known.query_map([], |row| row.get(0))?.collect::<Result<_>>()?;
    for gone in known.iter().filter(|known| !channels.contains(known)) {
        connection.execute("DELETE FROM delivery WHERE channel = ?", [gone])?;
        events::clear(connection, &alert(gone), now)?;
    }
    for channel in channels {
        connection.execute(
            "INSERT OR IGNORE INTO delivery (channel, event) VALUES (?, ?)",
            params![channel, newest(connection)?],
        )?;
    }
    Ok(())
}

/// The key of the alert that a channel fails.
pub(crate) fn alert(channel: &str) -> String {
    format!("channel/{channel}/failing")
}

/// The number of the newest event; 0 when there is none.
fn newest(connection: &Connection) -> Result<i64> {
    connection.query_row("SELECT coalesce(max(id), 0) FROM event", [], |row| row.get(0))
}

/// How a channel stands; `None` when it has no row.
pub(crate) fn position(connection: &Connection, channel: &str) -> Result<Option<Position>> {
    let mut statement = connection
        .prepare_cached("SELECT event, sending, failures, since FROM delivery WHERE channel = ?")?;
    let position = statement.query_row([channel], |row| {
        Ok(Position { event: row.get(0)?, sending: row.get(1)?, failures: row.get(2)?, since: row.get(3)? })
    });
    position.optional()
}

/// The events that are due, the oldest first: those of the message on its way, or else at most `limit`.
pub(crate) fn due(
    connection: &Connection,
    wanted: &Wanted,
    position: &Position,
    limit: u32,
) -> Result<Vec<Due>> {
    let sql = format!(
        "{} LEFT JOIN alert AS ended ON ended.over = event.id LEFT JOIN event AS begun ON begun.id = ended.event \
         WHERE event.id > ?1 AND event.id <= ?2 AND (event.severity IN (?3, ?4, ?5) OR begun.severity IN (?3, ?4, ?5)) \
         AND NOT (event.kind IN (?6, ?7) AND event.object = ?8) ORDER BY event.id LIMIT ?9",
        events::SELECT.replace(" FROM event", ", ended.event FROM event")
    );
    let severities = events::at_least(wanted.at_least);
    let mut statement = connection.prepare_cached(&sql)?;
    let due = statement.query_map(
        params![
            position.event,
            position.sending.unwrap_or(i64::MAX),
            severities[0],
            severities[1],
            severities[2],
            FAILING,
            NOT_DELIVERED,
            wanted.object(),
            limit
        ],
        |row| Ok(Due { event: events::event(row)?, ends: row.get(10)? }),
    )?;
    due.collect()
}

/// What a channel has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Nothing is due.
    Nothing,
    /// These events are due.
    Deliver { position: Position, due: Vec<Due> },
}

/// What is due, without changing anything; events that are not wanted count as delivered in `passed`.
pub(crate) fn look(connection: &Connection, wanted: &Wanted, limit: u32) -> Result<(Work, Option<i64>)> {
    let Some(position) = position(connection, &wanted.channel)? else { return Ok((Work::Nothing, None)) };
    let due = due(connection, wanted, &position, limit)?;
    if !due.is_empty() {
        return Ok((Work::Deliver { position, due }, None));
    }
    let passed = match position.sending {
        Some(last) => last,
        None => newest(connection)?,
    };
    Ok((Work::Nothing, Some(passed).filter(|passed| *passed > position.event || position.sending.is_some())))
}

/// Takes the events up to `event` as ones that were not for the channel.
pub(crate) fn pass(connection: &Connection, channel: &str, event: i64) -> Result<()> {
    connection.execute(
        "UPDATE delivery SET event = max(event, ?), sending = NULL WHERE channel = ?",
        params![event, channel],
    )?;
    Ok(())
}

/// Writes down that a message with the events up to `last` is on its way. Events that were deleted since the last
/// message, because there are too many, are told of.
pub(crate) fn begin(
    connection: &Connection,
    wanted: &Wanted,
    position: &Position,
    last: i64,
    now: Time,
) -> Result<()> {
    if position.sending.is_some() {
        return Ok(());
    }
    let there: i64 = connection.query_row(
        "SELECT count(*) FROM event WHERE id > ? AND id <= ?",
        [position.event, last],
        |row| row.get(0),
    )?;
    let deleted = last - position.event - there;
    if deleted > 0 {
        let cause = format!("more than {} events came before it had them", events::MAX_EVENTS);
        events::add(connection, &not_delivered(wanted, deleted, cause, now))?;
    }
    connection.execute("UPDATE delivery SET sending = ? WHERE channel = ?", params![last, wanted.channel])?;
    Ok(())
}

fn not_delivered(wanted: &Wanted, count: i64, cause: String, now: Time) -> Event {
    Event {
        id: 0,
        time: now,
        severity: Severity::Warning,
        kind: NOT_DELIVERED.into(),
        object: wanted.object(),
        what: match count {
            1 => "an event was not delivered to it and will not be".into(),
            count => format!("{count} events were not delivered to it and will not be"),
        },
        cause,
        next: "read them under Events; mt-configserver notify test tells whether the channel works now"
            .into(),
        host: None,
        item: None,
    }
}

/// The message arrived, up to the event `last`. With `refused`, some of its receivers will never have it, which keeps the
/// alert raised. True when events were written.
pub(crate) fn arrived(
    connection: &Connection,
    wanted: &Wanted,
    last: i64,
    refused: Option<(&str, &str)>,
    now: Time,
) -> Result<bool> {
    connection.execute(
        "UPDATE delivery SET event = max(event, ?), sending = NULL, failures = 0, since = NULL, why = ? \
         WHERE channel = ?",
        params![last, refused.map(|(why, _)| why), wanted.channel],
    )?;
    let key = alert(&wanted.channel);
    match refused {
        None => events::clear(connection, &key, now),
        Some((why, next)) => events::raise(connection, &key, &failing(wanted, now, why, next, now)),
    }
}

/// Times that rule what becomes of a failure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// A channel that fails for so long raises an alert.
    pub(crate) alert: Time,
    /// Events that are older than this are given up when an attempt fails.
    pub(crate) give_up: Time,
}

/// The message did not arrive. Returns how many attempts failed by now, and whether events were written.
pub(crate) fn failed(
    connection: &Connection,
    wanted: &Wanted,
    due: &[Due],
    reason: (&str, &str),
    patience: Patience,
    now: Time,
) -> Result<(u32, bool)> {
    let (why, next) = reason;
    connection.execute(
        "UPDATE delivery SET failures = failures + 1, since = coalesce(since, ?), why = ? WHERE channel = ?",
        params![now, why, wanted.channel],
    )?;
    let position = position(connection, &wanted.channel)?.unwrap_or_default();
    let since = position.since.unwrap_or(now);
    let mut told = false;
    if now.saturating_sub(since) >= patience.alert {
        let event = failing(wanted, since, why, next, now);
        told |= events::raise(connection, &alert(&wanted.channel), &event)?;
    }
    let old: Vec<&Due> =
        due.iter().take_while(|due| now.saturating_sub(due.event.time) >= patience.give_up).collect();
    if let Some(last) = old.last() {
        pass(connection, &wanted.channel, last.event.id)?;
        // What tells only of channels is not told of in turn, or two channels that fail would go on about each other.
        let own = |due: &&&Due| [FAILING, NOT_DELIVERED].contains(&&*due.event.kind);
        let count = old.iter().filter(|due| !own(due)).count();
        if count > 0 {
            let cause = format!("it failed for more than a day: {why}");
            events::add(connection, &not_delivered(wanted, count as i64, cause, now))?;
            told = true;
        }
    }
    Ok((position.failures, told))
}

fn failing(wanted: &Wanted, since: Time, why: &str, next: &str, now: Time) -> Event {
    Event {
        id: 0,
        time: now,
        severity: Severity::Warning,
        kind: FAILING.into(),
        object: wanted.object(),
        what: format!("its messages have not arrived since {}", control_api::time::format(since)),
        cause: why.into(),
        next: next.into(),
        host: None,
        item: None,
    }
}

#[cfg(test)]
mod tests;
