//! Everything at a glance: how many there are of what.

use control_api::registration::HostKind;
use rusqlite::{Connection, Result};
use serde::Serialize;
use std::collections::BTreeMap;

/// Items with the oldest newest points that are named.
const WORST: u32 = 5;

/// How many there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    pub(crate) master_targets: Hosts,
    pub(crate) source_agents: Hosts,
    pub(crate) process_servers: Hosts,
    pub(crate) items: Items,
    pub(crate) jobs: Jobs,
}

/// Hosts that are registered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Hosts {
    pub(crate) connected: u64,
    pub(crate) not_connected: u64,
    /// Those of which no heartbeat has ever come.
    pub(crate) new: u64,
}

/// Items that their master targets tell of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Items {
    pub(crate) total: u64,
    /// By state; states without items are left out.
    pub(crate) states: BTreeMap<String, u64>,
    pub(crate) healthy: u64,
    pub(crate) warning: u64,
    pub(crate) critical: u64,
    /// The largest ages of newest durable recovery points.
    pub(crate) worst_rpo: Vec<WorstRpo>,
}

/// An item whose newest durable recovery point is old.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct WorstRpo {
    pub(crate) item: i64,
    pub(crate) name: String,
    pub(crate) host_name: String,
    pub(crate) rpo_seconds: u64,
}

/// Jobs that have not ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Jobs {
    pub(crate) queued: u64,
    pub(crate) running: u64,
}

/// Counts everything.
pub(crate) fn counts(connection: &Connection) -> Result<Counts> {
    Ok(Counts {
        master_targets: hosts(connection, HostKind::MasterTarget)?,
        source_agents: hosts(connection, HostKind::SourceAgent)?,
        process_servers: hosts(connection, HostKind::ProcessServer)?,
        items: items(connection)?,
        jobs: jobs(connection)?,
    })
}

fn hosts(connection: &Connection, kind: HostKind) -> Result<Hosts> {
    let mut statement = connection.prepare_cached(
        "SELECT count(*) FILTER (WHERE connected = 1), count(*) FILTER (WHERE connected = 0), \
         count(*) FILTER (WHERE connected IS NULL) \
         FROM host LEFT JOIN report ON report.host = host.id WHERE kind = ? AND revoked IS NULL",
    )?;
    statement.query_row([kind.id()], |row| {
        Ok(Hosts { connected: row.get(0)?, not_connected: row.get(1)?, new: row.get(2)? })
    })
}

fn items(connection: &Connection) -> Result<Items> {
    let mut items = Items::default();
    let mut statement = connection.prepare_cached(
        "SELECT state, health, count(*) FROM item WHERE gone IS NULL GROUP BY state, health",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (state, health, count): (String, String, u64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        items.total += count;
        *items.states.entry(state).or_default() += count;
        match health.as_str() {
            "critical" => items.critical += count,
            "warning" => items.warning += count,
            _ => items.healthy += count,
        }
    }
    let mut statement = connection.prepare_cached(
        "SELECT item.id, item.name, host.name, rpo_seconds FROM item JOIN host ON host.id = item.host \
         WHERE gone IS NULL AND rpo_seconds IS NOT NULL ORDER BY rpo_seconds DESC, item.id LIMIT ?",
    )?;
    let worst = statement.query_map([WORST], |row| {
        Ok(WorstRpo {
            item: row.get(0)?,
            name: row.get(1)?,
            host_name: row.get(2)?,
            rpo_seconds: row.get(3)?,
        })
    })?;
    items.worst_rpo = worst.collect::<Result<_>>()?;
    Ok(items)
}

fn jobs(connection: &Connection) -> Result<Jobs> {
    let mut statement = connection.prepare_cached(
        "SELECT count(*) FILTER (WHERE state = 'queued'), count(*) FILTER (WHERE state = 'running') \
         FROM job WHERE ended IS NULL AND (parent IS NULL OR EXISTS (SELECT 1 FROM job AS workflow \
         WHERE workflow.id = job.parent AND workflow.ended IS NOT NULL))",
    )?;
    statement.query_row([], |row| Ok(Jobs { queued: row.get(0)?, running: row.get(1)? }))
}
