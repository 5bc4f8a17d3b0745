//! The replicated items, as their master targets tell of them.
//!
//! An item is known by its master target and its name; its number stays when the master target no longer tells of it and
//! does so again.

use super::hosts::{self, Known};
use super::{json, policies, reports, samples, workflows};
use control_api::agent::ItemReport;
use control_api::time::{SECOND, Time};
use control_api::{ItemState, ItemStatus, Point, Severity};
use rusqlite::{Connection, OptionalExtension, Result, Row, params};
use serde::Serialize;

/// How long an item that nobody tells of any more is remembered, in nanoseconds.
const FORGOTTEN: u64 = 30 * 86_400 * SECOND;

/// Items of one host that it tells of no more and that are remembered.
const MAX_GONE: u32 = 128;

/// A replicated item.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Item {
    pub(crate) id: i64,
    #[serde(skip)]
    pub(crate) host_row: i64,
    /// Id of its master target.
    pub(crate) host: String,
    pub(crate) host_name: String,
    pub(crate) name: String,
    pub(crate) state: ItemState,
    /// The severity of its worst alert, or of its state.
    pub(crate) health: Severity,
    /// Age of its newest durable recovery point when it was told.
    pub(crate) rpo_seconds: Option<u64>,
    /// All that its master target told.
    pub(crate) status: ItemStatus,
    /// When it was told, by the clock of this server.
    pub(crate) reported: Time,
    /// Since when its master target tells of it no more.
    pub(crate) gone: Option<Time>,
    /// Number of its policy.
    pub(crate) policy: i64,
    /// Whether its master target is to protect it by that.
    pub(crate) follows_policy: bool,
    /// Number of its group.
    pub(crate) group: Option<i64>,
}

/// Which items are wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    /// Of the master target with this id.
    pub(crate) host: Option<String>,
    pub(crate) state: Option<ItemState>,
    /// As bad as this, or worse.
    pub(crate) health: Option<Severity>,
    /// With this text in their name or in that of their master target, in upper or lower case.
    pub(crate) text: Option<String>,
    /// Of the group of this number.
    pub(crate) group: Option<i64>,
    /// With the policy of this number.
    pub(crate) policy: Option<i64>,
    /// What comes first.
    pub(crate) sort: Sort,
    /// Turns the order around.
    pub(crate) descending: bool,
    /// True for those that are gone, false for the others.
    pub(crate) gone: Option<bool>,
    /// At most so many.
    pub(crate) limit: u32,
    /// After so many.
    pub(crate) offset: u32,
}

/// What items are sorted by; among equals, by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sort {
    #[default]
    Name,
    /// From the youngest recovery point to the oldest; those without one come first.
    Rpo,
    /// From healthy to critical.
    Health,
    /// By the name of the master target.
    Host,
}

impl Sort {
    fn column(self) -> &'static str {
        match self {
            Sort::Name => "item.name",
            Sort::Rpo => "item.rpo_seconds",
            Sort::Health => "CASE item.health WHEN 'critical' THEN 2 WHEN 'warning' THEN 1 ELSE 0 END",
            Sort::Host => "host.name",
        }
    }
}

const FROM: &str = "FROM item JOIN host ON host.id = item.host";
const COLUMNS: &str = "item.id, item.host, host.uuid, host.name, item.name, item.state, item.health, item.rpo_seconds, \
     item.reported, item.gone, item.policy, item.item_group, item_status.body, item.follows";

/// What [`Query`] asks for, as a condition with seven parameters.
const WHERE: &str = "(?1 IS NULL OR host.uuid = ?1) AND (?2 IS NULL OR item.state = ?2) \
     AND (?3 IS NULL OR item.health = 'critical' OR (?3 = 'warning' AND item.health = 'warning')) \
     AND (?4 IS NULL OR instr(lower(item.name), lower(?4)) OR instr(lower(host.name), lower(?4))) \
     AND (?5 IS NULL OR item.item_group = ?5) AND (?6 IS NULL OR (item.gone IS NOT NULL) = ?6) \
     AND (?7 IS NULL OR item.policy = ?7)";

/// Items, and how many there are without the limit.
pub(crate) fn list(connection: &Connection, query: &Query) -> Result<(Vec<Item>, u64)> {
    let health = query.health.filter(|health| *health > Severity::Info).map(Severity::id);
    let state = query.state.map(ItemState::id);
    let Query { host, text, group, gone, policy, .. } = query;
    let total = connection
        .prepare_cached(&format!("SELECT count(*) {FROM} WHERE {WHERE}"))?
        .query_row(params![host, state, health, text, group, gone, policy], |row| row.get(0))?;
    let direction = if query.descending { "DESC" } else { "ASC" };
    let order = format!("ORDER BY {} {direction}, item.name, item.id", query.sort.column());
    // The page is chosen first, so that the long part is read of nothing but that.
    let sql = format!(
        "WITH page AS (SELECT item.id {FROM} WHERE {WHERE} {order} LIMIT ?8 OFFSET ?9) \
         SELECT {COLUMNS} {FROM} JOIN page ON page.id = item.id JOIN item_status ON item_status.item = item.id \
         {order}"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let items = statement.query_map(
        params![host, state, health, text, group, gone, policy, query.limit, query.offset],
        item,
    )?;
    Ok((items.collect::<Result<_>>()?, total))
}

fn item(row: &Row<'_>) -> Result<Item> {
    Ok(Item {
        id: row.get(0)?,
        host_row: row.get(1)?,
        host: row.get(2)?,
        host_name: row.get(3)?,
        name: row.get(4)?,
        state: json::word(row, 5, ItemState::parse)?,
        health: json::word(row, 6, Severity::parse)?,
        rpo_seconds: row.get(7)?,
        reported: row.get(8)?,
        gone: row.get(9)?,
        policy: row.get(10)?,
        group: row.get(11)?,
        status: json::column(row, 12)?,
        follows_policy: row.get(13)?,
    })
}

/// The item of this number.
pub(crate) fn by_id(connection: &Connection, id: i64) -> Result<Option<Item>> {
    let sql =
        format!("SELECT {COLUMNS} {FROM} JOIN item_status ON item_status.item = item.id WHERE item.id = ?");
    connection.prepare_cached(&sql)?.query_row([id], item).optional()
}

/// An item that its master target has taken, and has told nothing of yet.
pub(crate) struct Expected {
    pub(crate) name: String,
    /// Id of its master target.
    pub(crate) host: String,
    pub(crate) host_name: String,
}

/// The item of this number, when it is [expected](expect).
pub(crate) fn expected(connection: &Connection, id: i64) -> Result<Option<Expected>> {
    let sql = format!(
        "SELECT item.name, host.uuid, host.name {FROM} WHERE item.id = ? \
         AND NOT EXISTS (SELECT 1 FROM item_status WHERE item = item.id)"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let expected = statement
        .query_row([id], |row| Ok(Expected { name: row.get(0)?, host: row.get(1)?, host_name: row.get(2)? }));
    expected.optional()
}

/// The newest bookmarks of an item, the newest first; none when they are not known.
pub(crate) fn points(connection: &Connection, id: i64) -> Result<Vec<Point>> {
    let mut statement = connection.prepare_cached("SELECT points FROM item_status WHERE item = ?")?;
    let points = statement.query_row([id], |row| json::optional(row, 0)).optional()?;
    Ok(points.flatten().unwrap_or_default())
}

/// What a new heartbeat is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Before {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) state: ItemState,
    pub(crate) gone: bool,
    /// False when it is expected for the first time.
    pub(crate) was_told: bool,
}

/// The items of the host in this row as they were told last, also those that are gone or expected.
pub(crate) fn of_host(connection: &Connection, host: i64) -> Result<Vec<Before>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, name, state, gone IS NOT NULL, EXISTS (SELECT 1 FROM item_status WHERE item = item.id) \
         FROM item WHERE host = ?",
    )?;
    let items = statement.query_map([host], |row| {
        Ok(Before {
            id: row.get(0)?,
            name: row.get(1)?,
            state: json::word(row, 2, ItemState::parse)?,
            gone: row.get(3)?,
            was_told: row.get(4)?,
        })
    })?;
    items.collect()
}

/// The severity of an item's worst alert, or of its state.
pub(crate) fn health(status: &ItemStatus) -> Severity {
    let alerts = status.alerts.iter().map(|alert| alert.kind.severity());
    alerts.fold(status.state.severity(), Severity::max)
}

/// Seconds between the newest durable recovery point and `time`, which is by the clock of the master target; `None` for
/// an item that has none, or that was failed over.
pub(crate) fn rpo_seconds(status: &ItemStatus, time: Time) -> Option<u64> {
    match status.state {
        ItemState::FailedOver | ItemState::Committed => None,
        _ => status.rpo(time).map(|rpo| rpo / SECOND),
    }
}

/// Writes down what the host in row `host` tells of an item, with a sample; `time` is by its clock, `now` by ours.
pub(crate) fn put(
    connection: &Connection,
    host: i64,
    told: &ItemReport,
    time: Time,
    now: Time,
) -> Result<i64> {
    let status = &told.status;
    let rpo = rpo_seconds(status, time);
    let mut statement = connection.prepare_cached(
        "INSERT INTO item (host, name, state, health, rpo_seconds, reported) VALUES (?, ?, ?, ?, ?, ?) \
         ON CONFLICT (host, name) DO UPDATE SET state = excluded.state, health = excluded.health, \
         rpo_seconds = excluded.rpo_seconds, reported = excluded.reported, gone = NULL RETURNING id",
    )?;
    let id: i64 = statement
        .query_row(params![host, status.name, status.state.id(), health(status).id(), rpo, now], |row| {
            row.get(0)
        })?;
    let points = told.points.as_ref().map(json::text).transpose()?;
    let mut statement = connection.prepare_cached(
        "INSERT INTO item_status (item, body, points) VALUES (?, ?, ?) ON CONFLICT (item) DO UPDATE SET \
         body = excluded.body, points = ifnull(excluded.points, points)",
    )?;
    statement.execute(params![id, json::text(status)?, points])?;
    // SQLite's numbers end at half of ours.
    let rate = status.bytes_per_second.min(i64::MAX as u64);
    samples::add(connection, id, rpo, rate, now)?;
    Ok(id)
}

/// The host in this row has taken an item, and will tell of it; a policy or group that was removed meanwhile is left out.
/// Until it is told of, it counts as gone and is in no list.
pub(crate) fn expect(
    connection: &Connection,
    host: i64,
    name: &str,
    policy: i64,
    group: Option<i64>,
    now: Time,
) -> Result<i64> {
    let state = ItemState::Starting;
    let mut statement = connection.prepare_cached(
        "INSERT INTO item (host, name, state, health, reported, gone, policy, item_group) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?5, ifnull((SELECT id FROM policy WHERE id = ?6), ?7), \
         (SELECT id FROM item_group WHERE id = ?8)) \
         ON CONFLICT (host, name) DO UPDATE SET policy = excluded.policy, item_group = excluded.item_group \
         RETURNING id",
    )?;
    let health = state.severity().id();
    let default = policies::DEFAULT;
    statement
        .query_row(params![host, name, state.id(), health, now, policy, default, group], |row| row.get(0))
}

/// The host of this item tells of it no more.
pub(crate) fn left(connection: &Connection, id: i64, now: Time) -> Result<()> {
    connection.execute("UPDATE item SET gone = ? WHERE id = ? AND gone IS NULL", params![now, id]).map(drop)
}

/// Forgets those items of the host in this row that are gone for long, and those that were gone first when there are
/// too many.
pub(crate) fn forget(connection: &Connection, host: i64, now: Time) -> Result<()> {
    connection
        .execute(
            "DELETE FROM item WHERE host = ?1 AND gone IS NOT NULL AND (gone < ?2 OR id IN \
             (SELECT id FROM item WHERE host = ?1 AND gone IS NOT NULL ORDER BY gone DESC LIMIT -1 OFFSET ?3))",
            params![host, now.saturating_sub(FORGOTTEN), MAX_GONE],
        )
        .map(drop)
}

/// Whether points are not known of some item that the host in this row tells of.
pub(crate) fn lack_points(connection: &Connection, host: i64) -> Result<bool> {
    let mut statement = connection.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM item JOIN item_status ON item_status.item = item.id \
         WHERE host = ? AND gone IS NULL AND points IS NULL)",
    )?;
    statement.query_row([host], |row| row.get(0))
}

/// The source agent that sends the changes of an item now: it has the name that its certificate carries, and says itself
/// that it protects this item.
pub(crate) fn source(connection: &Connection, item: &Item) -> Result<Option<Known>> {
    let sql = "SELECT host.uuid FROM host JOIN report ON report.host = host.id WHERE host.kind = 'source-agent' \
         AND host.revoked IS NULL AND host.name = ? AND json_extract(report.body, '$.protection.item') = ?";
    let mut statement = connection.prepare_cached(sql)?;
    let found: Option<String> =
        statement.query_row(params![item.status.peer, item.name], |row| row.get(0)).optional()?;
    found.map_or(Ok(None), |id| hosts::by_uuid(connection, &id))
}

/// The source agent of an item, also when it sends nothing now: the one that sends, else the only one that says of itself
/// that it replicates an item of this name to this master target, else the one that was brought to rest for the last
/// planned failover. `None` when that is not certain.
pub(crate) fn known_source(connection: &Connection, item: &Item) -> Result<Option<Known>> {
    if let Some(source) = source(connection, item)? {
        return Ok(Some(source));
    }
    let sql = "SELECT host.uuid, json_extract(report.body, '$.protection.target') FROM host \
         JOIN report ON report.host = host.id WHERE host.kind = 'source-agent' AND host.revoked IS NULL \
         AND json_extract(report.body, '$.protection.item') = ?";
    let mut statement = connection.prepare_cached(sql)?;
    let named = statement.query_map([&item.name], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let named: Vec<(String, String)> = named.collect::<Result<_>>()?;
    let addresses = addresses(connection, item)?;
    let mut here = named.iter().filter(|(_, target)| addresses.iter().any(|known| known == host_of(target)));
    let found = match (here.next(), here.next()) {
        (Some((id, _)), None) => Some(id.clone()),
        _ => {
            let last = workflows::last_source(connection, item.id)?;
            last.filter(|last| named.iter().any(|(id, _)| id == last))
        }
    };
    found.map_or(Ok(None), |id| hosts::by_uuid(connection, &id))
}

/// What the master target of an item may be called by its source.
fn addresses(connection: &Connection, item: &Item) -> Result<Vec<String>> {
    let known = hosts::by_uuid(connection, &item.host)?;
    let told = reports::of(connection, item.host_row)?.map(|report| report.heartbeat.host.addresses);
    let told = told.unwrap_or_default().into_iter().map(|address| address.to_string());
    Ok(known.map(|known| [known.name, known.address]).into_iter().flatten().chain(told).collect())
}

/// The host of a host and port.
fn host_of(target: &str) -> &str {
    let host = target.rsplit_once(':').map_or(target, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests;
