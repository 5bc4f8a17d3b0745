//! A site as operators have it: most of it well, some of it not.

use control_api::agent::{Datastore, Health, Heartbeat, HostDisk, ItemReport, ProtectedDisk, Protection};
use control_api::registration::{Host, HostKind};
use control_api::time::{SECOND, Time};
use control_api::{
    Alert, AlertKind, Bookmark, DiskStatus, ItemState, ItemStatus, Point, Progress, RetentionState,
    RetentionStatus, Work,
};
use std::time::{SystemTime, UNIX_EPOCH};

const GIB: u64 = 1 << 30;
const HOUR: u64 = 3600 * SECOND;

/// Nanoseconds since the Unix epoch.
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() * SECOND
}

/// The host of a kind and number.
pub fn host(kind: HostKind, number: u32, name: &str) -> Host {
    let first = if kind == HostKind::MasterTarget { 1 } else { 2 };
    Host {
        kind,
        name: name.into(),
        dmi_uuid: Some(format!("564d5cf0-11aa-22bb-33{first:02x}-{number:012x}")),
        machine_id: format!("{first:016x}{number:016x}"),
        version: env!("CARGO_PKG_VERSION").into(),
        addresses: Vec::new(),
    }
}

fn health(busy_percent: f64) -> Health {
    Health {
        started: now() - 30 * HOUR,
        uptime_seconds: 12 * 86_400 + 3600,
        processors: 8,
        busy_percent,
        load: [busy_percent / 14.0, busy_percent / 16.0, busy_percent / 18.0],
        memory_bytes: 32 * GIB,
        memory_used_bytes: 9 * GIB,
    }
}

fn heartbeat(host: Host, busy_percent: f64) -> Heartbeat {
    Heartbeat {
        host,
        time: now(),
        health: health(busy_percent),
        disks: Vec::new(),
        datastores: Vec::new(),
        retention: None,
        items: Vec::new(),
        data_port: None,
        protection: None,
    }
}

fn disk(name: &str, number: u32, size: u64, used_for: &str) -> HostDisk {
    let id = Some(format!("36000c29{number:024x}"));
    HostDisk { name: name.into(), id, size, paths: 2, used_for: used_for.into() }
}

fn retention(used_percent: u64) -> RetentionStatus {
    let capacity = 2048 * GIB;
    RetentionStatus {
        folder: "/mnt/retention".into(),
        state: RetentionState::Ready,
        detail: None,
        file_system: Some("8d7c1b0a-53c1-4f5e-9e0b-2f1d7c5a9b10".into()),
        capacity_bytes: Some(capacity),
        available_bytes: Some(capacity / 100 * (100 - used_percent)),
        journal_bytes_per_second: 9 << 20,
        full_in_seconds: Some(56 * 3600),
        needed_bytes: Some(1400 * GIB),
        needed_for_24_h_bytes: Some(1400 * GIB),
        alerts: Vec::new(),
    }
}

/// A master target with these items, whose retention volume is so full.
pub fn target(host: Host, items: Vec<ItemReport>, used_percent: u64) -> Heartbeat {
    let mut disks = vec![
        disk("sda", 1, 64 * GIB, "system"),
        disk("mpatha", 2, 2048 * GIB, "retention volume"),
        disk("mpathb", 3, 500 * GIB, "target of db01"),
    ];
    disks.push(HostDisk { id: None, ..disk("sdg", 4, 16 * GIB, HostDisk::FREE) });
    let datastore = Datastore {
        folder: "/vmfs/volumes/datastore1".into(),
        file_system: "ext4".into(),
        capacity_bytes: Some(8192 * GIB),
        available_bytes: Some(5100 * GIB),
    };
    Heartbeat {
        disks,
        datastores: vec![datastore],
        retention: Some(retention(used_percent)),
        items,
        ..heartbeat(host, 22.0)
    }
}

/// A source machine that protects an item.
pub fn source(host: Host, item: &str) -> Heartbeat {
    let protection = Protection {
        item: item.into(),
        target: "mt01.site-a.example:9443".into(),
        disks: ["system", "data"].map(|id| ProtectedDisk { id: id.into(), size: 80 * GIB }).into(),
        quiesced: false,
        state: "level with its target".into(),
        backlog_bytes: 3 << 20,
        drain_seconds: Some(4),
        bytes_per_second: 2 << 20,
        alerts: Vec::new(),
    };
    let disks = vec![disk("sda", 9, 80 * GIB, "protected"), disk("sdb", 10, 500 * GIB, "protected")];
    Heartbeat { disks, protection: Some(protection), ..heartbeat(host, 64.0) }
}

/// A source machine that replicates nowhere yet.
pub fn unassigned(host: Host) -> Heartbeat {
    let mut beat = source(host, "");
    if let Some(protection) = &mut beat.protection {
        protection.target.clear();
        protection.state = "not assigned to a master target".into();
        (protection.backlog_bytes, protection.bytes_per_second) = (0, 0);
        protection.drain_seconds = None;
    }
    beat
}

fn point(age: u64, number: u64, bookmark: Option<Bookmark>) -> Point {
    let time = now() - age;
    Point { number, source_time: time, receive_time: time, bookmark, tested: None, journal_bytes: 3 << 20 }
}

/// Hourly bookmarks, each fourth of them application-consistent, and each third of a group.
fn bookmarks() -> Vec<Point> {
    let bookmark = |hours: u64| Bookmark {
        name: format!("hourly-{:02}", 24 - hours),
        application_consistent: hours.is_multiple_of(4),
        group: hours.is_multiple_of(3).then(|| "Shop".to_owned()),
    };
    (1..24).map(|hours| point(hours * HOUR, 5000 - hours * 100, Some(bookmark(hours)))).collect()
}

/// An item that follows its source.
pub fn protected(name: &str) -> ItemReport {
    let rpo = 4 + name.bytes().map(u64::from).sum::<u64>() % 40;
    let status = ItemStatus {
        name: name.into(),
        state: ItemState::Protected,
        detail: None,
        peer: Some(format!("{name}.site-a.example")),
        progress: None,
        seconds_left: None,
        protected_until: Some(now() - rpo * SECOND),
        newest_point: Some(point(rpo * SECOND, 5010, None)),
        oldest_point: Some(point(23 * HOUR, 1, None)),
        journal_bytes: 38 * GIB,
        journal_bytes_per_second: 700 << 10,
        min_journal_bytes: GIB,
        max_journal_bytes: None,
        holds_point: None,
        policy: None,
        taken: false,
        window_wanted: 24 * HOUR,
        window_projected: Some(24 * HOUR),
        received_bytes: 800 * GIB,
        bytes_per_second: 1_400_000 + rpo * 10_000,
        disks: vec![
            DiskStatus {
                id: "disk0".into(),
                target: format!("/vmfs/volumes/datastore1/{name}/{name}.vmdk"),
                size: 80 * GIB,
            },
            DiskStatus {
                id: "disk1".into(),
                target: "/dev/mapper/36000c290000000000000000000000003".into(),
                size: 500 * GIB,
            },
        ],
        alerts: Vec::new(),
        start: None,
    };
    ItemReport { status, points: Some(bookmarks()) }
}

fn with(name: &str, change: impl FnOnce(&mut ItemStatus)) -> ItemReport {
    let mut item = protected(name);
    change(&mut item.status);
    item
}

/// One that is being brought level.
pub fn resyncing(name: &str) -> ItemReport {
    with(name, |status| {
        status.state = ItemState::Resync;
        status.progress = Some(Progress { work: Work::Resync, done: 212 * GIB, total: Some(580 * GIB) });
        status.seconds_left = Some(2640);
        status.bytes_per_second = 148 << 20;
        status.protected_until = Some(now() - 640 * SECOND);
    })
}

/// One that an error stopped.
pub fn fenced(name: &str) -> ItemReport {
    with(name, |status| {
        let message = "disk1: writing at 73014444032 failed: Input/output error; look at the disk and its paths, then \
             resume the item";
        status.state = ItemState::Fenced;
        status.detail = Some(message.into());
        status.peer = None;
        status.bytes_per_second = 0;
        status.protected_until = Some(now() - 5 * HOUR);
        status.alerts =
            vec![Alert { kind: AlertKind::Fenced, since: now() - 5 * HOUR, message: message.into() }];
    })
}

/// One whose source is too fast for the line.
pub fn late(name: &str) -> ItemReport {
    with(name, |status| {
        status.protected_until = Some(now() - 2100 * SECOND);
        let message = "the newest recovery point is older than 15 min: more changes than the line takes; look at its \
             bandwidth, or wait for the nightly batch to end";
        status.alerts = vec![Alert {
            kind: AlertKind::RpoExceeded,
            since: now() - 1200 * SECOND,
            message: message.into(),
        }];
    })
}

/// One whose disks hold a recovery point, and which waits for somebody to commit that.
pub fn failed_over(name: &str) -> ItemReport {
    with(name, |status| {
        status.state = ItemState::FailedOver;
        let detail =
            "its disks hold recovery point 4711; mtctl commit releases them, mtctl cancel-failover goes back";
        status.detail = Some(detail.into());
        status.peer = None;
        status.bytes_per_second = 0;
    })
}

/// RPO and rate of a day, by five minutes: a quiet one with a nightly batch; an hour is missing.
pub fn day() -> Vec<(u64, u64, u64)> {
    let newest = now() / SECOND / 300;
    let told = (0..288u64).filter(|slot| !(100..112).contains(slot));
    let value = |slot: u64| {
        let ripple = 10 + slot * 7 % 23;
        match slot {
            190..230 => (ripple + (20 - slot.abs_diff(210)) * 75, 40 << 20),
            _ => (ripple, (1 << 20) + ripple * 20_000),
        }
    };
    told.map(|slot| {
        let (rpo, rate) = value(slot);
        (newest + 1 - 288 + slot, rpo, rate)
    })
    .collect()
}
