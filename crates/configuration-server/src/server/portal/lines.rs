//! Items, jobs, events and hosts as lines of lists, which several pages show.

use super::ui::{self, Ago, Badge, Bar, Tone};
use crate::store::events::{Event, Raised};
use crate::store::inventory;
use crate::store::items::Item;
use crate::store::jobs::Job;
use crate::store::policies::{self, Policy};
use control_api::agent::{Heartbeat, ItemPolicy, JobReport};
use control_api::registration::HostKind;
use control_api::time::{SECOND, Time};
use control_api::{ItemStatus, RetentionStatus};
use rusqlite::{Connection, Result};
use std::collections::HashMap;

/// A replicated item.
pub(super) struct ItemLine {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) host: String,
    pub(super) host_name: String,
    pub(super) state: Badge,
    pub(super) bar: Option<Bar>,
    pub(super) health: Badge,
    pub(super) rpo: String,
    pub(super) rpo_over: bool,
    pub(super) window: String,
    pub(super) policy: String,
}

/// Policies by number.
pub(super) type Policies = HashMap<i64, Policy>;

/// All policies.
pub(super) fn policies(connection: &Connection) -> Result<Policies> {
    Ok(policies::list(connection)?.into_iter().map(|policy| (policy.id, policy)).collect())
}

/// What an item is protected by now: what its master target told, or else what it is to follow.
pub(super) fn in_effect(item: &Item, policies: &Policies) -> Option<ItemPolicy> {
    item.status.policy.or_else(|| policies.get(&item.policy).map(Policy::values))
}

impl ItemLine {
    pub(super) fn new(item: &Item, policies: &Policies) -> ItemLine {
        let name = policies.get(&item.policy).map(|policy| policy.name.clone());
        let is_own = item.status.policy.is_some() && !item.follows_policy;
        let over =
            |rpo: u64| in_effect(item, policies).is_some_and(|policy| rpo > policy.rpo_threshold_seconds);
        let status = &item.status;
        let window = status.window(item.reported).map(|reach| ui::seconds(reach / SECOND));
        let gone = Badge::new(Tone::Idle, "gone");
        ItemLine {
            id: item.id,
            name: item.name.clone(),
            host: item.host.clone(),
            host_name: item.host_name.clone(),
            state: if item.gone.is_some() { gone } else { Badge::item(item.state) },
            bar: item_progress(status),
            health: Badge::health(item.health),
            rpo: item.rpo_seconds.map_or("–".into(), ui::seconds),
            rpo_over: item.rpo_seconds.is_some_and(over),
            window: window.unwrap_or("–".into()),
            policy: if is_own { "its own".into() } else { name.unwrap_or_default() },
        }
    }
}

/// How far the work of an item has come, at which rate, and how long it will take.
fn item_progress(status: &ItemStatus) -> Option<Bar> {
    let progress = status.progress?;
    let rate = (status.bytes_per_second > 0).then_some(status.bytes_per_second);
    let text = progress_text(progress.done, progress.total, rate, status.seconds_left);
    Some(Bar::progress(progress.work.to_string(), progress.done, progress.total.unwrap_or(u64::MAX), text))
}

/// How far work has come, in bytes a second and seconds that are left.
pub(crate) fn progress_text(
    done: u64,
    total: Option<u64>,
    rate: Option<u64>,
    seconds_left: Option<u64>,
) -> String {
    let mut parts = vec![match total {
        Some(total) => format!("{} % of {}", ui::percent(done, total), ui::bytes(total)),
        None => format!("{} so far", ui::bytes(done)),
    }];
    parts.extend(rate.map(ui::rate));
    parts.extend(seconds_left.map(|left| format!("{} left", ui::seconds(left))));
    parts.join(" · ")
}

/// A job.
pub(super) struct JobLine {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) state: Badge,
    pub(super) bar: Option<Bar>,
    pub(super) host: String,
    pub(super) host_name: String,
    pub(super) ordered: Ago,
    pub(super) ordered_by: String,
    pub(super) took: String,
}

impl JobLine {
    pub(super) fn new(job: &Job, now: Time) -> JobLine {
        let ended = job.state.has_ended();
        let report = job.report.as_ref();
        let bar = report.filter(|_| !ended).and_then(job_progress);
        let started = report.map(|report| report.started);
        let took = started.zip(report.and_then(|report| report.ended));
        JobLine {
            id: job.id.clone(),
            title: job.job.title(),
            state: Badge::job(job.state),
            bar,
            host: job.host.clone(),
            host_name: job.host_name.clone(),
            ordered: Ago { time: job.ordered, now },
            ordered_by: job.ordered_by.clone(),
            took: took.map_or(String::new(), |(started, ended)| took_text(ended.saturating_sub(started))),
        }
    }
}

/// How long something took, in nanoseconds.
pub(crate) fn took_text(nanos: u64) -> String {
    if nanos < SECOND { "less than 1 s".into() } else { ui::seconds(nanos / SECOND) }
}

fn job_progress(report: &JobReport) -> Option<Bar> {
    let progress = report.progress?;
    let text = progress_text(progress.done, progress.total, None, report.seconds_left);
    Some(Bar::progress(progress.work.to_string(), progress.done, progress.total.unwrap_or(u64::MAX), text))
}

/// An event or an alert.
pub(super) struct EventLine {
    pub(super) badge: Badge,
    pub(super) object: String,
    pub(super) link: Option<String>,
    pub(super) raised: Ago,
    pub(super) what: String,
    pub(super) cause: String,
    pub(super) next: String,
}

/// Ids of hosts by row: events name rows.
pub(super) type HostIds = HashMap<i64, String>;

/// Those of all hosts.
pub(super) fn host_ids(connection: &Connection) -> Result<HostIds> {
    let mut statement = connection.prepare_cached("SELECT id, uuid FROM host")?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

impl EventLine {
    pub(super) fn new(event: &Event, hosts: &HostIds, now: Time) -> EventLine {
        let host = event.host.and_then(|row| hosts.get(&row));
        let link = match (event.item, host) {
            (Some(item), _) => Some(format!("/items/{item}")),
            (None, Some(host)) => Some(format!("/infrastructure/{host}")),
            (None, None) => None,
        };
        EventLine {
            badge: Badge::severity(event.severity),
            object: event.object.clone(),
            link,
            raised: Ago { time: event.time, now },
            what: event.what.clone(),
            cause: event.cause.clone(),
            next: event.next.clone(),
        }
    }

    pub(super) fn alert(alert: &Raised, hosts: &HostIds, now: Time) -> EventLine {
        EventLine { raised: Ago { time: alert.raised, now }, ..EventLine::new(&alert.event, hosts, now) }
    }
}

/// A host.
pub(super) struct HostLine {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) kind: HostKind,
    pub(super) state: Badge,
    pub(super) version: String,
    pub(super) address: String,
    pub(super) heard: Option<Ago>,
    pub(super) cpu: String,
    pub(super) memory: String,
    pub(super) load: String,
    pub(super) retention: Option<Bar>,
    pub(super) retention_state: String,
    pub(super) protection: String,
    pub(super) items: u64,
    pub(super) disks: usize,
}

impl HostLine {
    pub(super) fn new(host: &inventory::Line, now: Time) -> HostLine {
        let beat = host.heartbeat.as_ref();
        let health = beat.map(|beat| &beat.health);
        let shown = |value: Option<String>| value.unwrap_or("–".into());
        let retention = beat.and_then(|beat| beat.retention.as_ref());
        HostLine {
            id: host.id.clone(),
            name: host.name.clone(),
            kind: host.kind,
            state: host_state(host.revoked.is_some(), host.connected),
            version: host.version.clone(),
            address: host.address.clone(),
            heard: host.received.map(|time| Ago { time, now }),
            cpu: shown(health.map(|health| format!("{:.0} %", health.busy_percent))),
            memory: shown(
                health.map(|health| {
                    format!("{} %", ui::percent(health.memory_used_bytes, health.memory_bytes))
                }),
            ),
            load: shown(health.map(|health| format!("{:.2}", health.load[0]))),
            retention: retention.and_then(retention_bar),
            retention_state: shown(retention.map(|retention| retention.state.to_string())),
            protection: shown(beat.and_then(protection)),
            items: host.items,
            disks: beat.map_or(0, |beat| beat.disks.len()),
        }
    }
}

fn protection(beat: &Heartbeat) -> Option<String> {
    let protection = beat.protection.as_ref()?;
    Some(match protection.item.as_str() {
        "" => protection.state.clone(),
        item => format!("{item}: {}", protection.state),
    })
}

pub(super) fn host_state(revoked: bool, connected: Option<bool>) -> Badge {
    match connected {
        _ if revoked => Badge::new(Tone::Idle, "revoked"),
        None => Badge::new(Tone::Info, "no heartbeat yet"),
        Some(connected) => Badge::connected(connected),
    }
}

/// How full a retention volume is; `None` when it cannot be asked.
pub(super) fn retention_bar(retention: &RetentionStatus) -> Option<Bar> {
    let (capacity, available) = (retention.capacity_bytes?, retention.available_bytes?);
    let used = capacity.saturating_sub(available);
    let text = format!("{} of {} used", ui::bytes(used), ui::bytes(capacity));
    Some(Bar::usage("retention volume", used, capacity, text))
}
