//! The first page: health at a glance, and what to do next.

use super::first::FirstHost;
use super::lines::{EventLine, HostLine, ItemLine, JobLine, Policies};
use super::page::{Frame, Problem, Section, Visit, show};
use super::ui::Tone;
use crate::store::inventory::{self, Counts, Presence};
use crate::store::{events, items, jobs, policies};
use askama::Template;
use axum::response::Response;

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
            let counts = inventory::counts(connection)?;
            let hosts = super::host_ids(connection)?;
            let alerts = events::raised(connection)?;
            let open = jobs::Query { open: Some(true), limit: SHOWN, ..jobs::Query::default() };
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
            let policies: Policies =
                policies::list(connection)?.into_iter().map(|policy| (policy.id, policy)).collect();
            let worst = items::list(connection, &worst)?.0;
            let told = worst.iter().filter(|item| item.rpo_seconds.is_some());
            Ok(Lists {
                alerts_total: alerts.len(),
                alerts: alerts.iter().take(ALERTS).map(|alert| EventLine::alert(alert, &hosts, now)).collect(),
                jobs: jobs::list(connection, &open)?.iter().map(|job| JobLine::new(job, now)).collect(),
                worst: told.map(|item| ItemLine::new(item, &policies)).collect(),
                away: inventory::hosts(connection, &away)?.0.iter().map(|host| HostLine::new(host, now)).collect(),
                counts,
            })
        })
        .await?;
    let Lists { counts, alerts_total, alerts, jobs, worst, away } = page;
    let first = (counts.targets.0 == 0).then(|| FirstHost::target(&visit.shared));
    show(&Page {
        frame: visit.frame(Section::Overview, "Overview", "hosts items jobs events settings"),
        sentence: sentence(&counts),
        tiles: tiles(&counts),
        first,
        alerts,
        alerts_total,
        jobs,
        worst,
        away,
        away_empty: match counts.targets.0 + counts.sources.0 {
            0 => "No host is registered yet.",
            _ => "All hosts are connected.",
        },
    })
}

struct Lists {
    counts: Counts,
    alerts_total: usize,
    alerts: Vec<EventLine>,
    jobs: Vec<JobLine>,
    worst: Vec<ItemLine>,
    away: Vec<HostLine>,
}

fn sentence(counts: &Counts) -> String {
    match (counts.alerts, counts.targets.0) {
        (_, 0) => "Nothing is registered yet: the first step stands below.".into(),
        ((0, 0), _) => "All is well: no alert is raised.".into(),
        ((0, others), _) => format!("{} to look at today.", plural(others, "alert")),
        ((critical, _), _) => format!("{} to look at now.", plural(critical, "critical alert")),
    }
}

fn plural(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn tiles(counts: &Counts) -> Vec<Tile> {
    let hosts = |label, link, (all, connected): (u64, u64)| Tile {
        label,
        value: connected.to_string(),
        of: format!("of {all}"),
        note: match all - connected {
            _ if all == 0 => "none registered".into(),
            0 => "all connected".into(),
            away => format!("{away} not connected"),
        },
        tone: match all - connected {
            _ if all == 0 => Tone::Idle,
            0 => Tone::Ok,
            _ => Tone::Critical,
        },
        link,
    };
    let (items, protected) = counts.items;
    let (critical, others) = counts.alerts;
    let (queued, running) = counts.jobs;
    vec![
        Tile {
            label: "Alerts",
            value: (critical + others).to_string(),
            of: String::new(),
            note: if critical + others == 0 { "none raised".into() } else { format!("{critical} critical") },
            tone: match (critical, others) {
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
            note: match counts.syncing {
                0 => "none being brought level".into(),
                syncing => format!("{syncing} being brought level"),
            },
            tone: match items - protected {
                _ if items == 0 => Tone::Idle,
                0 => Tone::Ok,
                others if others <= counts.syncing => Tone::Info,
                _ => Tone::Warning,
            },
            link: "/items?sort=health",
        },
        Tile {
            label: "RPO above threshold",
            value: counts.late.to_string(),
            of: String::new(),
            note: if counts.late == 0 { "every item is in time".into() } else { "recovery points are too old".into() },
            tone: match counts.late {
                _ if items == 0 => Tone::Idle,
                0 => Tone::Ok,
                _ => Tone::Warning,
            },
            link: "/items?sort=rpo",
        },
        hosts("Master targets", "/infrastructure#targets", counts.targets),
        hosts("Source machines", "/infrastructure#sources", counts.sources),
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
