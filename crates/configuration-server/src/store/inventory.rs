//! What the portal shows of many hosts or items at once. Each is one or two statements, however many there are.

use super::json;
use control_api::agent::Heartbeat;
use control_api::registration::HostKind;
use control_api::time::Time;
use rusqlite::{Connection, Result, Row, params};

/// Which hosts are wanted, by how they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Presence {
    /// All that are registered.
    #[default]
    Registered,
    /// Those whose heartbeats come.
    Connected,
    /// Those whose heartbeats come no more, or never came.
    Away,
    /// Those whose registration has ended.
    Revoked,
}

impl Presence {
    pub(crate) const ALL: [Presence; 4] =
        [Presence::Registered, Presence::Connected, Presence::Away, Presence::Revoked];

    pub(crate) fn id(self) -> &'static str {
        match self {
            Presence::Registered => "",
            Presence::Connected => "connected",
            Presence::Away => "not-connected",
            Presence::Revoked => "revoked",
        }
    }
}

/// Which hosts are wanted.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) kind: Option<HostKind>,
    pub(crate) presence: Presence,
    /// With this in their name or address, in upper or lower case.
    pub(crate) text: String,
    /// At most so many.
    pub(crate) limit: u32,
    /// After so many.
    pub(crate) offset: u32,
}

/// A host as a line of a list.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) id: String,
    pub(crate) kind: HostKind,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) address: String,
    pub(crate) revoked: Option<Time>,
    /// Whether its heartbeats come; `None` when none ever came.
    pub(crate) connected: Option<bool>,
    /// When the last one came.
    pub(crate) received: Option<Time>,
    /// The last one.
    pub(crate) heartbeat: Option<Heartbeat>,
    /// Items that it tells of.
    pub(crate) items: u64,
}

const WHERE: &str = "FROM host LEFT JOIN report ON report.host = host.id WHERE (?1 IS NULL OR kind = ?1) \
     AND (revoked IS NOT NULL) = (?2 = 'revoked') AND (?2 NOT IN ('connected', 'not-connected') \
     OR ifnull(connected, 0) = (?2 = 'connected')) \
     AND (?3 = '' OR instr(lower(name), lower(?3)) OR instr(address, ?3))";

/// Hosts by name, those that are not connected first, and how many there are without the limit.
pub(crate) fn hosts(connection: &Connection, query: &Query) -> Result<(Vec<Line>, u64)> {
    let (kind, presence) = (query.kind.map(HostKind::id), query.presence.id());
    let total = connection
        .prepare_cached(&format!("SELECT count(*) {WHERE}"))?
        .query_row(params![kind, presence, query.text], |row| row.get(0))?;
    let sql = format!(
        "SELECT uuid, kind, name, version, address, revoked, connected, received, body, \
         (SELECT count(*) FROM item WHERE item.host = host.id AND gone IS NULL) {WHERE} \
         ORDER BY ifnull(connected, 0), name LIMIT ?4 OFFSET ?5"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let lines = statement.query_map(params![kind, presence, query.text, query.limit, query.offset], line)?;
    Ok((lines.collect::<Result<_>>()?, total))
}

fn line(row: &Row<'_>) -> Result<Line> {
    Ok(Line {
        id: row.get(0)?,
        kind: json::word(row, 1, HostKind::parse)?,
        name: row.get(2)?,
        version: row.get(3)?,
        address: row.get(4)?,
        revoked: row.get(5)?,
        connected: row.get(6)?,
        received: row.get(7)?,
        heartbeat: json::optional(row, 8)?,
        items: row.get(9)?,
    })
}

/// Items whose newest recovery point is older than their policies want.
pub(crate) fn late_items(connection: &Connection) -> Result<u64> {
    let mut statement = connection.prepare_cached(
        "SELECT count(*) FROM item JOIN policy ON policy.id = item.policy \
         WHERE gone IS NULL AND rpo_seconds > rpo_threshold_seconds",
    )?;
    statement.query_row([], |row| row.get(0))
}
