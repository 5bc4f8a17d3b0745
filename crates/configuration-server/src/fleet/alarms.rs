//! Which alerts a heartbeat means, and which events a change of state is.

use crate::rule;
use crate::store::events::Event;
use crate::store::hosts::Known;
use crate::store::reports::Report;
use control_api::agent::Heartbeat;
use control_api::registration::HostKind;
use control_api::time::{self, SECOND, Time};
use control_api::{Alert, AlertKind, ItemState, ItemStatus, Severity};
use std::time::Duration;

/// Clocks that are further apart mean an alert.
const CLOCK_RAISED: u64 = 60 * SECOND;
/// It is over when they are closer together than this.
const CLOCK_CLEARED: u64 = 45 * SECOND;

const CLOCK: &str = "clock";
const VERSION: &str = "version-too-new";
const NOT_CONNECTED: &str = "not-connected";

/// An alert that is to be raised, or is raised already.
pub(super) struct Alarm {
    /// What it is about; the same as long as it lasts.
    pub(super) key: String,
    pub(super) event: Event,
}

/// Keys of the alerts of a host begin so.
pub(super) fn host_prefix(host: &Known) -> String {
    format!("host/{}/", host.id)
}

/// Keys of the alerts of an item begin so.
pub(super) fn item_prefix(item: i64) -> String {
    format!("item/{item}/")
}

/// Whether a heartbeat decides about the alert with this key: who else raises alerts about hosts and items clears them too.
pub(super) fn is_ours(key: &str) -> bool {
    let kind = key.rsplit('/').next().unwrap_or_default();
    [CLOCK, VERSION, NOT_CONNECTED].contains(&kind) || AlertKind::ALL.iter().any(|one| one.id() == kind)
}

/// The alerts about a host that its heartbeat means; `raised` are the keys of those that are raised.
pub(super) fn of_host(
    host: &Known,
    heartbeat: &Heartbeat,
    raised: &[String],
    ours: &str,
    now: Time,
) -> Vec<Alarm> {
    let prefix = host_prefix(host);
    let about = |kind: &str, severity, what: &str, cause: String, next: &str| Alarm {
        key: format!("{prefix}{kind}"),
        event: Event {
            id: 0,
            time: now,
            severity,
            kind: kind.into(),
            object: host.name.clone(),
            what: what.into(),
            cause,
            next: next.into(),
            host: Some(host.row),
            item: None,
        },
    };
    let retention = heartbeat.retention.iter().flat_map(|retention| &retention.alerts);
    let protection = heartbeat.protection.iter().flat_map(|protection| &protection.alerts);
    let mut alarms: Vec<Alarm> = retention
        .chain(protection)
        .map(|alert| Alarm {
            key: format!("{prefix}{}", alert.kind.id()),
            event: told(alert, host, &host.name, None, now),
        })
        .collect();
    let apart = heartbeat.time.abs_diff(now);
    let limit = if raised.contains(&format!("{prefix}{CLOCK}")) { CLOCK_CLEARED } else { CLOCK_RAISED };
    if apart > limit {
        let direction = if heartbeat.time < now { "behind" } else { "ahead of" };
        let cause =
            format!("it is {} {direction} that of the configuration server", time::format_duration(apart));
        let next = "set both clocks right, by NTP (timedatectl set-ntp true); 5 min apart, certificates are \
                    no longer renewed";
        alarms.push(about(CLOCK, Severity::Warning, "its clock is wrong", cause, next));
    }
    if let Err(newer) = rule::check_version(&heartbeat.host, ours) {
        let what = "it is newer than the configuration server";
        let next = "upgrade the configuration server; until then its certificate cannot be renewed";
        alarms.push(about(VERSION, Severity::Warning, what, newer.failure.why, next));
    }
    alarms
}

/// The alerts about an item that its master target tells.
pub(super) fn of_item(host: &Known, item: i64, status: &ItemStatus, now: Time) -> Vec<Alarm> {
    let prefix = item_prefix(item);
    let alarm = |alert: &Alert| Alarm {
        key: format!("{prefix}{}", alert.kind.id()),
        event: told(alert, host, &status.name, Some(item), now),
    };
    status.alerts.iter().map(alarm).collect()
}

/// What a host tells as an alert, in our words and its own.
fn told(alert: &Alert, host: &Known, object: &str, item: Option<i64>, now: Time) -> Event {
    let (what, next) = match alert.kind {
        AlertKind::RpoExceeded => (
            "its newest recovery point is too old",
            "look at its source agent, and at the network between that and the master target".to_owned(),
        ),
        AlertKind::WindowShrunk => (
            "recovery points inside its window were given up for lack of room",
            format!("give the retention volume of {} more room, or the item a shorter window", host.name),
        ),
        AlertKind::RetentionFilling => (
            "its retention volume is nearly full",
            "prepare a larger one: mtctl retention status there tells how large it has to be".to_owned(),
        ),
        AlertKind::RetentionLost => (
            "its retention volume cannot be used",
            format!("on {}: mtctl retention status, then mtctl check", host.name),
        ),
        AlertKind::ApplicationConsistentOverdue => (
            "its newest application-consistent recovery point is too old",
            "look at its source agent and the hooks of its applications".to_owned(),
        ),
        AlertKind::Fenced => (
            "an error stopped it",
            format!("remove the cause, then order to resume it (on {}: mtctl resume {object})", host.name),
        ),
        AlertKind::ResyncRequired => (
            "it no longer follows its source",
            format!("order a resync (on {}: mtctl resync {object})", host.name),
        ),
        AlertKind::TestFailoverLeft => (
            "a test failover has been running for long",
            "end it when nobody needs it any more: it keeps recovery points from being given up".to_owned(),
        ),
        AlertKind::BacklogSlow | AlertKind::BacklogStuck => (
            "its changes reach the master target too slowly",
            "look at the network between the two, and at the master target's load".to_owned(),
        ),
        _ => ("it needs attention", format!("on {}: mtctl status", host.name)),
    };
    Event {
        id: 0,
        time: now,
        severity: alert.kind.severity(),
        kind: alert.kind.id().into(),
        object: object.into(),
        what: what.into(),
        cause: alert.message.clone(),
        next,
        host: Some(host.row),
        item,
    }
}

/// What has become of an item that was in another state; `None` where that says nothing, or where an alert tells it.
pub(super) fn change(from: ItemState, status: &ItemStatus) -> Option<(Severity, String)> {
    let alerted = |kind| status.alerts.iter().any(|alert| alert.kind == kind);
    let (severity, what) = match (from, status.state) {
        (from, to) if from == to => return None,
        (ItemState::Starting, ItemState::Protected) | (_, ItemState::Starting) => return None,
        (ItemState::InitialSync | ItemState::InitialSyncRequired, ItemState::Protected) => {
            (Severity::Info, "its initial sync has ended: it is protected")
        }
        (ItemState::Resync | ItemState::ResyncRequired, ItemState::Protected) => {
            (Severity::Info, "its resync has ended: it is protected")
        }
        (_, ItemState::Protected) => (Severity::Info, "it is protected"),
        (_, ItemState::InitialSyncRequired) => (Severity::Warning, "it needs an initial sync"),
        (_, ItemState::InitialSync) => (Severity::Info, "its initial sync has begun"),
        (_, ItemState::ResyncRequired) if alerted(AlertKind::ResyncRequired) => return None,
        (_, ItemState::ResyncRequired) => (Severity::Warning, "it no longer follows its source"),
        (_, ItemState::Resync) => (Severity::Info, "its resync has begun"),
        (_, ItemState::FailingOver) => (Severity::Info, "its failover has begun"),
        (_, ItemState::FailedOver) => (Severity::Info, "it is failed over"),
        (_, ItemState::Committed) => (Severity::Info, "its failover is committed"),
        (_, ItemState::Fenced) if alerted(AlertKind::Fenced) => return None,
        (_, ItemState::Fenced) => (Severity::Critical, "an error stopped it"),
        (_, other) => return Some((Severity::Info, format!("it is in another state: {other}"))),
    };
    Some((severity, what.to_owned()))
}

/// An event about an item.
pub(super) fn of_change(
    host: &Known,
    item: i64,
    name: &str,
    (severity, what): (Severity, String),
    cause: Option<&str>,
    now: Time,
) -> Event {
    let next = match severity {
        Severity::Info => String::new(),
        Severity::Warning | Severity::Critical => format!("on {}: mtctl items {name}", host.name),
    };
    Event {
        id: 0,
        time: now,
        severity,
        kind: "item".into(),
        object: name.into(),
        what,
        cause: cause.unwrap_or_default().into(),
        next,
        host: Some(host.row),
        item: Some(item),
    }
}

/// That no heartbeat came for so long.
pub(super) fn not_connected(host: &Known, last: Option<&Report>, limit: Duration, now: Time) -> Alarm {
    let limit = time::format_duration(limit.as_secs() * SECOND);
    let cause = match last {
        Some(last) => format!(
            "no heartbeat came for {limit}; the last one came {} from {}",
            time::format(last.received),
            host.address
        ),
        None => format!("no heartbeat came since it was registered, or for {limit}"),
    };
    let (severity, next) = match host.kind {
        _ if host.valid_until <= now => {
            (Severity::Critical, "its certificate has expired: register it again with the passphrase")
        }
        HostKind::SourceAgent => (
            Severity::Warning,
            "see whether the machine is up and mt-source runs on it, and whether it reaches this server",
        ),
        HostKind::ProcessServer => (
            Severity::Critical,
            "see whether the machine is up; on it, systemctl status mt-process-server and mt-process-server status tell \
             more. Replication through it goes on without this server",
        ),
        _ => (
            Severity::Critical,
            "see whether the machine is up; on it, systemctl status master-target and mtctl check tell more. \
             Replication to it goes on without this server",
        ),
    };
    Alarm {
        key: format!("{}{NOT_CONNECTED}", host_prefix(host)),
        event: Event {
            id: 0,
            time: now,
            severity,
            kind: NOT_CONNECTED.into(),
            object: host.name.clone(),
            what: "it is not connected".into(),
            cause,
            next: next.into(),
            host: Some(host.row),
            item: None,
        },
    }
}

#[cfg(test)]
mod tests;
