//! The registered hosts and their certificates.

use control_api::registration::{Host, HostKind};
use control_api::time::Time;
use rusqlite::{Connection, OptionalExtension, Result, Row, params};
use serde::Serialize;

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

const SELECT: &str = "SELECT host.id, uuid, kind, name, dmi_uuid, machine_id, version, address, registered, revoked, \
     serial, valid_until FROM host JOIN certificate ON certificate.id = \
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
    /// Until when it counts.
    valid_until: Time,
}

impl Holder {
    /// Whether the certificate counts.
    pub(crate) fn is_live(&self, now: Time) -> bool {
        self.known.revoked.is_none() && self.valid_until > now
    }
}

/// The holder of the certificate with this fingerprint.
pub(crate) fn of_certificate(connection: &Connection, fingerprint: &[u8]) -> Result<Option<Holder>> {
    let sql = "SELECT host, public_key, valid_until FROM certificate WHERE fingerprint = ?";
    let found: Option<(i64, Vec<u8>, Time)> = connection
        .query_row(sql, [fingerprint], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((host, public_key, valid_until)) = found else { return Ok(None) };
    let known = connection.query_row(&format!("{SELECT} WHERE host.id = ?"), [host], known).optional()?;
    Ok(known.map(|known| Holder { known, public_key, valid_until }))
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

/// From now on no certificate of a host counts. Each of them ends now, so that none counts again when the host registers
/// once more.
pub(crate) fn revoke(connection: &Connection, known: &Known, now: Time) -> Result<()> {
    connection.execute("UPDATE host SET revoked = ? WHERE id = ?", params![now, known.row])?;
    connection
        .execute(
            "UPDATE certificate SET valid_until = min(valid_until, ?) WHERE host = ?",
            params![now, known.row],
        )
        .map(drop)
}
