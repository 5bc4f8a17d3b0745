//! The registered hosts and their certificates.

use super::events::{self, Event};
use super::{items, jobs};
use control_api::Severity;
use control_api::registration::{Hex, Host, HostKind};
use control_api::time::Time;
use rusqlite::{Connection, OptionalExtension, Result, Row, params};
use serde::Serialize;

/// Certificates that were revoked and are told to master targets; of more, those that were revoked last.
const MAX_REVOKED: u32 = 1000;

/// A host that is or was registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Known {
    #[serde(skip)]
    pub(crate) row: i64,
    /// Its id; it stays when the host registers again.
    pub(crate) id: String,
    pub(crate) kind: HostKind,
    pub(crate) name: String,
    pub(crate) dmi_uuid: Option<String>,
    pub(crate) machine_id: String,
    pub(crate) version: String,
    /// Where it last came from.
    pub(crate) address: String,
    /// When it registered last.
    pub(crate) registered: Time,
    /// Since when its certificates count no more.
    pub(crate) revoked: Option<Time>,
    /// Serial number of its newest certificate.
    pub(crate) serial: String,
    /// Until when that is valid.
    pub(crate) valid_until: Time,
}

impl Known {
    /// Whether its certificate counts.
    pub(crate) fn is_live(&self, now: Time) -> bool {
        self.revoked.is_none() && self.valid_until > now
    }
}

/// A certificate as it is remembered.
pub(crate) struct Signed<'a> {
    pub(crate) serial: &'a str,
    pub(crate) fingerprint: &'a [u8],
    pub(crate) public_key: &'a [u8],
    pub(crate) issued: Time,
    pub(crate) valid_until: Time,
}

const SELECT: &str = "SELECT host.id, uuid, kind, name, dmi_uuid, machine_id, version, address, registered, \
     host.revoked, serial, valid_until FROM host JOIN certificate ON certificate.id = \
     (SELECT max(id) FROM certificate WHERE host = host.id)";

fn known(row: &Row<'_>) -> Result<Known> {
    let kind: String = row.get(2)?;
    let kind = HostKind::parse(&kind)
        .ok_or_else(|| rusqlite::Error::InvalidColumnType(2, kind, rusqlite::types::Type::Text))?;
    Ok(Known {
        row: row.get(0)?,
        id: row.get(1)?,
        kind,
        name: row.get(3)?,
        dmi_uuid: row.get(4)?,
        machine_id: row.get(5)?,
        version: row.get(6)?,
        address: row.get(7)?,
        registered: row.get(8)?,
        revoked: row.get(9)?,
        serial: row.get(10)?,
        valid_until: row.get(11)?,
    })
}

/// All hosts, by name.
pub(crate) fn all(connection: &Connection) -> Result<Vec<Known>> {
    let mut statement = connection.prepare(&format!("{SELECT} ORDER BY name, kind"))?;
    statement.query_map([], known)?.collect()
}

/// The host with this id.
pub(crate) fn by_uuid(connection: &Connection, id: &str) -> Result<Option<Known>> {
    connection.prepare_cached(&format!("{SELECT} WHERE uuid = ?"))?.query_row([id], known).optional()
}

/// The rows of all hosts whose registration was not revoked, and whether the alert that they are not connected is raised.
pub(crate) fn registered(connection: &Connection) -> Result<Vec<(i64, bool)>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, EXISTS (SELECT 1 FROM alert WHERE cleared IS NULL AND key = 'host/' || uuid || '/not-connected') \
         FROM host WHERE revoked IS NULL",
    )?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// The host that this machine already is: of the same kind, with the same DMI UUID, or, where there is none, the same
/// machine id.
pub(crate) fn of_machine(connection: &Connection, host: &Host) -> Result<Option<Known>> {
    let sql = format!(
        "{SELECT} WHERE kind = ?1 AND (dmi_uuid = ?2 OR (?2 IS NULL AND dmi_uuid IS NULL AND machine_id = ?3))"
    );
    connection.query_row(&sql, params![host.kind.id(), host.dmi_uuid, host.machine_id], known).optional()
}

/// Hosts of this name.
pub(crate) fn named(connection: &Connection, name: &str) -> Result<Vec<Known>> {
    let mut statement = connection.prepare(&format!("{SELECT} WHERE name = ?"))?;
    statement.query_map([name], known)?.collect()
}

/// Whose a certificate is.
pub(crate) struct Holder {
    /// The host that it was signed for.
    pub(crate) known: Known,
    /// The key in it.
    pub(crate) public_key: Vec<u8>,
    /// Until when it is valid.
    valid_until: Time,
    /// Whether it was revoked before.
    revoked: bool,
}

impl Holder {
    /// Whether the certificate counts.
    pub(crate) fn is_live(&self, now: Time) -> bool {
        self.known.revoked.is_none() && !self.revoked && self.valid_until > now
    }
}

/// The holder of the certificate with this fingerprint.
pub(crate) fn of_certificate(connection: &Connection, fingerprint: &[u8]) -> Result<Option<Holder>> {
    let mut statement = connection.prepare_cached(
        "SELECT host, public_key, valid_until, revoked IS NOT NULL FROM certificate WHERE fingerprint = ?",
    )?;
    let found: Option<(i64, Vec<u8>, Time, bool)> = statement
        .query_row([fingerprint], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .optional()?;
    let Some((host, public_key, valid_until, revoked)) = found else { return Ok(None) };
    let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE host.id = ?"))?;
    let known = statement.query_row([host], known).optional()?;
    Ok(known.map(|known| Holder { known, public_key, valid_until, revoked }))
}

/// Writes down a host as it describes itself now: a new one, or the one that it already is. The number is its row.
pub(crate) fn put(
    connection: &Connection,
    known: Option<&Known>,
    host: &Host,
    id: &str,
    address: &str,
    now: Time,
) -> Result<i64> {
    match known {
        Some(known) => {
            connection.execute(
                "UPDATE host SET name = ?, dmi_uuid = ?, machine_id = ?, version = ?, address = ?, registered = ?, \
                 revoked = NULL WHERE id = ?",
                params![host.name, host.dmi_uuid, host.machine_id, host.version, address, now, known.row],
            )?;
            Ok(known.row)
        }
        None => {
            connection.execute(
                "INSERT INTO host (uuid, kind, name, dmi_uuid, machine_id, version, address, registered) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                params![
                    id,
                    host.kind.id(),
                    host.name,
                    host.dmi_uuid,
                    host.machine_id,
                    host.version,
                    address,
                    now
                ],
            )?;
            Ok(connection.last_insert_rowid())
        }
    }
}

/// Writes down a certificate.
pub(crate) fn add_certificate(connection: &Connection, host: i64, signed: &Signed<'_>) -> Result<()> {
    connection
        .execute(
            "INSERT INTO certificate (host, serial, fingerprint, public_key, issued, valid_until) \
             VALUES (?, ?, ?, ?, ?, ?)",
            params![
                host,
                signed.serial,
                signed.fingerprint,
                signed.public_key,
                signed.issued,
                signed.valid_until
            ],
        )
        .map(drop)
}

/// Writes down the version that a host has now.
pub(crate) fn set_version(connection: &Connection, row: i64, version: &str) -> Result<()> {
    connection.execute("UPDATE host SET version = ? WHERE id = ?", params![version, row]).map(drop)
}

/// From now on no certificate of a host counts, and none of them counts again when the host registers once more. Its open
/// jobs fail, its items are gone, and what was wrong with it no longer matters.
pub(crate) fn revoke(connection: &Connection, known: &Known, now: Time) -> Result<()> {
    connection.execute("UPDATE host SET revoked = ? WHERE id = ?", params![now, known.row])?;
    connection.execute(
        "UPDATE certificate SET revoked = ? WHERE host = ? AND revoked IS NULL",
        params![now, known.row],
    )?;
    jobs::fail_all(connection, known, now)?;
    for item in items::of_host(connection, known.row)? {
        items::left(connection, item.id, now)?;
        events::forget(connection, &format!("item/{}/", item.id), now)?;
    }
    events::forget(connection, &format!("host/{}/", known.id), now)?;
    let event = Event {
        id: 0,
        time: now,
        severity: Severity::Info,
        kind: "revoked".into(),
        object: known.name.clone(),
        what: "its registration has ended".into(),
        cause: "it was unregistered, or revoked here".into(),
        next: "register it again if it is still needed".into(),
        host: Some(known.row),
        item: None,
    };
    events::add(connection, &event).map(drop)
}

/// The fingerprints of the certificates of source agents that were revoked before their time.
pub(crate) fn revoked(connection: &Connection, now: Time) -> Result<Vec<Hex>> {
    let mut statement = connection.prepare_cached(
        "SELECT fingerprint FROM certificate JOIN host ON host.id = certificate.host WHERE kind = ? \
         AND certificate.revoked IS NOT NULL AND valid_until > ? ORDER BY certificate.revoked DESC LIMIT ?",
    )?;
    let found = statement
        .query_map(params![HostKind::SourceAgent.id(), now, MAX_REVOKED], |row| row.get(0).map(Hex))?;
    found.collect()
}

#[cfg(test)]
mod tests;
