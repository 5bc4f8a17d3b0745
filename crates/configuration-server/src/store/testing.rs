//! Stores, hosts and items to test with.

use super::events::Event;
use super::hosts::{self, Known};
use super::schema;
use control_api::agent::{Health, Heartbeat, ItemReport};
use control_api::registration::{Host, HostKind};
use control_api::time::{SECOND, Time};
use control_api::{ItemState, ItemStatus, Severity};
use rusqlite::Connection;
use tempfile::TempDir;

pub(crate) const NOW: Time = 1_790_000_000 * SECOND;

pub(crate) fn store() -> (TempDir, Connection) {
    let folder = tempfile::tempdir().unwrap();
    let connection = schema::open(&folder.path().join("store.sqlite")).unwrap();
    (folder, connection)
}

/// How the host of this number describes itself.
pub(crate) fn described(kind: HostKind, number: u8) -> Host {
    let prefix = if kind == HostKind::MasterTarget { "mt" } else { "web" };
    Host {
        kind,
        name: format!("{prefix}{number:02}"),
        dmi_uuid: None,
        machine_id: format!("{number:032x}"),
        version: "9.4.0".into(),
        addresses: Vec::new(),
    }
}

/// Registers the host of this number, with a certificate whose fingerprint is its kind's first letter and its number.
pub(crate) fn register(connection: &Connection, kind: HostKind, number: u8) -> Known {
    let host = described(kind, number);
    let id = format!("{}{number:030x}", if kind == HostKind::MasterTarget { "aa" } else { "bb" });
    let known = hosts::of_machine(connection, &host).unwrap();
    let row = hosts::put(connection, known.as_ref(), &host, &id, "10.0.0.5", NOW).unwrap();
    let certificates: u8 =
        connection.query_row("SELECT count(*) FROM certificate", [], |row| row.get(0)).unwrap();
    let signed = hosts::Signed {
        serial: &certificates.to_string(),
        fingerprint: &[id.as_bytes()[0], number, certificates],
        public_key: &[4],
        issued: NOW,
        valid_until: NOW + 90 * 86_400 * SECOND,
    };
    hosts::add_certificate(connection, row, &signed).unwrap();
    hosts::by_uuid(connection, &id).unwrap().unwrap()
}

pub(crate) fn status(name: &str, state: ItemState) -> ItemStatus {
    ItemStatus {
        protected_until: Some(NOW - 5 * SECOND),
        window_wanted: 86_400 * SECOND,
        bytes_per_second: 100,
        ..ItemStatus::new(name, state)
    }
}

pub(crate) fn item(name: &str, state: ItemState) -> ItemReport {
    ItemReport { status: status(name, state), points: Some(Vec::new()) }
}

pub(crate) fn heartbeat(host: Host, items: Vec<ItemReport>) -> Heartbeat {
    Heartbeat {
        host,
        time: NOW,
        health: Health {
            started: NOW - 60 * SECOND,
            uptime_seconds: 3600,
            processors: 2,
            busy_percent: 12.5,
            load: [0.5, 0.25, 0.125],
            memory_bytes: 4 << 30,
            memory_used_bytes: 1 << 30,
        },
        disks: Vec::new(),
        datastores: Vec::new(),
        retention: None,
        items,
        data_port: None,
        protection: None,
    }
}

/// That a host is not connected.
pub(crate) fn happened(time: Time, severity: Severity) -> Event {
    Event {
        id: 0,
        time,
        severity,
        kind: "not-connected".into(),
        object: "mt01".into(),
        what: "it is not connected".into(),
        cause: "no heartbeat came".into(),
        next: "look at its network".into(),
        host: None,
        item: None,
    }
}
