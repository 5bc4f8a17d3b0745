//! The first page: health at a glance, and what to do next.

use super::first::FirstHost;
use super::lines::{self, EventLine, HostLine, ItemLine, JobLine};
use super::page::{Frame, Problem, Section, Visit, show};
use super::ui::Tone;
use crate::store::inventory::{self, Presence};
use crate::store::overview::{self, Hosts};
use crate::store::{events, items, jobs};
use askama::Template;
use axum::response::Response;
use control_api::Severity;

/// Lines of each list.
const SHOWN: u32 = 8;

/// Alerts that are shown.
const ALERTS: usize = 10;

/// A number with what it means.
pub(super) struct Tile {
    pub(super) label: &'static str,
    pub(super) value: String,
    pub(super) of: String,
    pub(super) note: String,
    pub(super) tone: Tone,
    pub(super) link: &'static str,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct Page {
    frame: Frame,
    sentence: String,
    tiles: Vec<Tile>,
    first: Option<FirstHost>,
    alerts: Vec<EventLine>,
    alerts_total: usize,
    jobs: Vec<JobLine>,
    worst: Vec<ItemLine>,
    away: Vec<HostLine>,
    away_empty: &'static str,
}

/// `GET /`.
pub(super) async fn overview(visit: Visit) -> Result<Response, Problem> {
    let now = visit.now;
    let page = visit
        .read(move |connection| {
            let hosts = lines::host_ids(connection)?;
            let alerts = events::raised(connection)?;
            let (open, whole) = (Some(true), true);
            let open = jobs::Query { open, whole, limit: SHOWN, ..jobs::Query::default() };
            let worst = items::Query {
                gone: Some(false),
                sort: items::Sort::Rpo,
                descending: true,
                limit: SHOWN,
                ..items::Query::default()
            };
            let away = inventory::Query {
                kind: None,
                presence: Presence::Away,
                text: String::new(),
                limit: SHOWN,
                offset: 0,
            };
            let policies = lines::policies(connection)?;
            let worst = items::list(connection, &worst)?.0;
            let told = worst.iter().filter(|item| item.rpo_seconds.is_some());
            Ok(Lists {
                alerts: alerts
                    .iter()
                    .take(ALERTS)
                    .map(|alert| EventLine::alert(alert, &hosts, now))
                    .collect(),
                jobs: jobs::list(connection, &open)?.iter().map(|job| JobLine::new(job, now)).collect(),
                worst: told.map(|item| ItemLine::new(item, &policies)).collect(),
                away: inventory::hosts(connection, &away)?
                    .0
                    .iter()
                    .map(|host| HostLine::new(host, now))
                    .collect(),
                counts: Counts {
                    all: overview::counts(connection)?,
                    late: inventory::late_items(connection)?,
                    critical: alerts
                        .iter()
                        .filter(|alert| alert.event.severity == Severity::Critical)
                        .count(),
                    alerts: alerts.len(),
                },
            })
        })
        .await?;
    let Lists { counts, alerts, jobs, worst, away } = page;
    let (targets, sources) = (all(&counts.all.master_targets), all(&counts.all.source_agents));
    let first = (targets == 0).then(|| FirstHost::target(&visit.shared));
    show(&Page {
        frame: visit.frame(Section::Overview, "Overview", "hosts items jobs events settings"),
        sentence: sentence(&counts),
        tiles: tiles(&counts),
        first,
        alerts,
        alerts_total: counts.alerts,
        jobs,
        worst,
        away,
        away_empty: match targets + sources {
            0 => "No host is registered yet.",
            _ => "All hosts are connected.",
        },
    })
}

struct Lists {
    counts: Counts,
    alerts: Vec<EventLine>,
    jobs: Vec<JobLine>,
    worst: Vec<ItemLine>,
    away: Vec<HostLine>,
}

/// How much there is of everything.
struct Counts {
    all: overview::Counts,
    /// Items whose newest recovery point is too old.
    late: u64,
    /// Critical alerts.
    critical: usize,
    /// Alerts in all.
    alerts: usize,
}

/// Hosts that are registered.
fn all(hosts: &Hosts) -> u64 {
    hosts.connected + hosts.not_connected + hosts.new
}

fn sentence(counts: &Counts) -> String {
    match (counts.critical, counts.alerts, all(&counts.all.master_targets)) {
        (_, _, 0) => "Nothing is registered yet: the first step stands below.".into(),
        (0, 0, _) => "All is well: no alert is raised.".into(),
        (0, others, _) => format!("{} to look at today.", plural(others, "alert")),
        (critical, ..) => format!("{} to look at now.", plural(critical, "critical alert")),
    }
}

fn plural(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn tiles(counts: &Counts) -> Vec<Tile> {
    let all = &counts.all;
    let states =
        |states: &[&str]| states.iter().filter_map(|state| all.items.states.get(*state)).sum::<u64>();
    let (items, protected, syncing) =
        (all.items.total, states(&["protected"]), states(&["initial-sync", "resync"]));
    let (queued, running) = (all.jobs.queued, all.jobs.running);
    vec![
        Tile {
            label: "Alerts",
            value: counts.alerts.to_string(),
            of: String::new(),
            note: if counts.alerts == 0 {
                "none raised".into()
            } else {
                format!("{} critical", counts.critical)
            },
            tone: match (counts.critical, counts.alerts) {
                (0, 0) => Tone::Ok,
                (0, _) => Tone::Warning,
                _ => Tone::Critical,
            },
            link: "/events?show=alerts",
        },
        Tile {
            label: "Items protected",
            value: protected.to_string(),
            of: format!("of {items}"),
            note: match syncing {
                0 => "none being brought level".into(),
                syncing => format!("{syncing} being brought level"),
            },
            tone: match items - protected {
                _ if items == 0 => Tone::Idle,
                0 => Tone::Ok,
                others if others <= syncing => Tone::Info,
                _ => Tone::Warning,
            },
            link: "/items?sort=health",
        },
        Tile {
            label: "RPO above threshold",
            value: counts.late.to_string(),
            of: String::new(),
            note: match counts.late {
                _ if items == 0 => "no items".into(),
                0 => "every item is in time".into(),
                _ => "recovery points are too old".into(),
            },
            tone: match counts.late {
                _ if items == 0 => Tone::Idle,
                0 => Tone::Ok,
                _ => Tone::Warning,
            },
            link: "/items?sort=rpo",
        },
        hosts_tile("Master targets", "/infrastructure#targets", &all.master_targets),
        hosts_tile("Source machines", "/infrastructure#sources", &all.source_agents),
        Tile {
            label: "Jobs",
            value: running.to_string(),
            of: "running".into(),
            note: if queued == 0 { "none waiting".into() } else { format!("{queued} waiting") },
            tone: if running + queued == 0 { Tone::Idle } else { Tone::Info },
            link: "/jobs?show=open",
        },
    ]
}

fn hosts_tile(label: &'static str, link: &'static str, hosts: &Hosts) -> Tile {
    let all = all(hosts);
    let (note, tone) = match (all, hosts.not_connected, hosts.new) {
        (0, ..) => ("none registered".into(), Tone::Idle),
        (_, 0, 0) => ("all connected".into(), Tone::Ok),
        (_, 0, new) => (format!("{new} without a heartbeat yet"), Tone::Info),
        (_, away, _) => (format!("{away} not connected"), Tone::Critical),
    };
    Tile { label, value: hosts.connected.to_string(), of: format!("of {all}"), note, tone, link }
}
