//! The page of a host, and what can be done to one.

use super::confirm::Confirm;
use super::lines::{self, EventLine, ItemLine, JobLine, host_state, retention_bar};
use super::page::{Fact, Form, Frame, Problem, Section, Visit, show};
use super::redirect;
use super::ui::{self, Ago, Badge, Bar};
use crate::access::Role;
use crate::server::actions::hosts as actions;
use crate::store::hosts::{self, Known};
use crate::store::reports::{self, Report};
use crate::store::{events, items, jobs};
use askama::Template;
use axum::extract::Path;
use axum::response::Response;
use control_api::RetentionStatus;
use control_api::agent::{Datastore, Health, HostDisk, JobKind, Protection};
use control_api::registration::HostKind;
use control_api::time::{SECOND, Time};

/// Lines of each other list.
const SHOWN: u32 = 20;

/// Events that are shown.
const EVENTS: u32 = 10;

#[derive(Template)]
#[template(path = "host.html")]
struct Page {
    frame: Frame,
    host: Head,
    is_target: bool,
    /// Whether hosts of its kind tell of their disks.
    has_disks: bool,
    may_order: bool,
    /// Its writes can be let through again.
    is_at_rest: bool,
    may_revoke: bool,
    trouble: Option<String>,
    facts: Vec<Fact>,
    status_command: &'static str,
    health: Vec<Bar>,
    health_facts: Vec<Fact>,
    retention: Option<Retention>,
    protection: Option<Vec<Fact>>,
    datastores: Vec<DatastoreLine>,
    disks: Vec<DiskLine>,
    items: Vec<ItemLine>,
    items_total: u64,
    events: Vec<EventLine>,
    jobs: Vec<JobLine>,
}

struct Head {
    id: String,
    name: String,
    kind: HostKind,
    state: Badge,
    heard: Option<Ago>,
}

struct Retention {
    state: Badge,
    bar: Option<Bar>,
    detail: Option<String>,
    facts: Vec<Fact>,
}

struct DatastoreLine {
    folder: String,
    file_system: String,
    bar: Option<Bar>,
}

struct DiskLine {
    name: String,
    id: String,
    size: String,
    paths: u32,
    used_for: String,
}

struct Found {
    known: Known,
    report: Option<Report>,
    items: Vec<ItemLine>,
    items_total: u64,
    events: Vec<EventLine>,
    jobs: Vec<JobLine>,
}

/// `GET /infrastructure/{id}`.
pub(super) async fn page(visit: Visit, Path(id): Path<String>) -> Result<Response, Problem> {
    let (now, wanted) = (visit.now, id.clone());
    let found = visit
        .read(move |connection| {
            let Some(known) = hosts::by_uuid(connection, &wanted)? else { return Ok(None) };
            let policies = lines::policies(connection)?;
            let query = items::Query {
                host: Some(wanted.clone()),
                gone: Some(false),
                sort: items::Sort::Health,
                descending: true,
                limit: SHOWN,
                ..items::Query::default()
            };
            let (items, items_total) = items::list(connection, &query)?;
            let query = events::Query { host: Some(known.row), limit: EVENTS, ..events::Query::default() };
            let ids = [(known.row, known.id.clone())].into();
            let events = events::newest(connection, &query)?;
            let query = jobs::Query { host: Some(wanted), limit: SHOWN, ..jobs::Query::default() };
            Ok(Some(Found {
                report: reports::of(connection, known.row)?,
                items: items.iter().map(|item| ItemLine::new(item, &policies)).collect(),
                items_total,
                events: events.iter().map(|event| EventLine::new(event, &ids, now)).collect(),
                jobs: jobs::list(connection, &query)?.iter().map(|job| JobLine::new(job, now)).collect(),
                known,
            }))
        })
        .await?;
    let Some(found) = found else {
        return Err(Problem::missing(&format!("host {id}"), "the infrastructure"));
    };
    show(&view(&visit, found))
}

fn view(visit: &Visit, found: Found) -> Page {
    let Found { known, report, items, items_total, events, jobs } = found;
    let beat = report.as_ref().map(|report| &report.heartbeat);
    let is_target = known.kind == HostKind::MasterTarget;
    let connected = report.as_ref().map(|report| report.connected);
    let live = known.revoked.is_none();
    let is_quiesced =
        beat.and_then(|beat| beat.protection.as_ref()).is_some_and(|protection| protection.quiesced);
    Page {
        frame: visit.frame(Section::Infrastructure, known.name.clone(), "hosts items jobs events"),
        is_target,
        has_disks: known.kind != HostKind::ProcessServer,
        may_order: visit.may(Role::Operator) && is_target && live,
        is_at_rest: visit.may(Role::Operator) && is_quiesced && live && connected == Some(true),
        may_revoke: visit.may(Role::Administrator) && live,
        trouble: trouble(&known, connected),
        status_command: match known.kind {
            HostKind::SourceAgent => "systemctl status mt-source",
            HostKind::ProcessServer => "systemctl status mt-process-server",
            _ => "systemctl status master-target",
        },
        health: beat.map_or(Vec::new(), |beat| health(&beat.health)),
        health_facts: beat.map_or(Vec::new(), |beat| health_facts(&beat.health)),
        retention: beat.and_then(|beat| beat.retention.as_ref()).map(retention),
        protection: beat.and_then(|beat| beat.protection.as_ref()).map(protection),
        datastores: beat.map_or(Vec::new(), |beat| beat.datastores.iter().map(datastore).collect()),
        disks: beat.map_or(Vec::new(), |beat| beat.disks.iter().map(disk).collect()),
        items,
        items_total,
        events,
        jobs,
        facts: facts(&known, visit.now),
        host: Head {
            state: host_state(!live, connected),
            heard: report.as_ref().map(|report| Ago { time: report.received, now: visit.now }),
            id: known.id,
            name: known.name,
            kind: known.kind,
        },
    }
}

fn trouble(known: &Known, connected: Option<bool>) -> Option<String> {
    match (known.revoked, connected) {
        (Some(_), _) => Some("Its registration has ended: it is let in again when it registers with the passphrase.".into()),
        (None, Some(false)) => Some(
            "No heartbeat comes from it. Is it switched on, is its agent running, and does it reach this server? What \
             you see is how it was."
                .into(),
        ),
        _ => None,
    }
}

fn facts(known: &Known, now: Time) -> Vec<Fact> {
    let mut facts = vec![
        Fact::new("Version", known.version.clone()),
        Fact::new("Last came from", known.address.clone()),
        Fact::at("Registered", known.registered),
    ];
    facts.extend(known.revoked.map(|time| Fact::at("Revoked", time)));
    let left = known.valid_until.saturating_sub(now) / SECOND;
    let valid = if left == 0 {
        "expired".to_owned()
    } else {
        format!("valid for {}, renewed by itself", ui::seconds(left))
    };
    facts.push(Fact::new("Certificate", valid));
    facts.push(Fact::new("Serial number", known.serial.clone()));
    facts.push(Fact::new("BIOS UUID", known.dmi_uuid.clone().unwrap_or("none".into())));
    facts.push(Fact::new("Id", known.id.clone()));
    facts
}

fn health(health: &Health) -> Vec<Bar> {
    let busy = health.busy_percent.clamp(0.0, 100.0);
    let memory =
        format!("Memory {} of {}", ui::bytes(health.memory_used_bytes), ui::bytes(health.memory_bytes));
    let per_processor = health.load[1].max(0.0) / f64::from(health.processors.max(1));
    let load = health.load.map(|load| format!("{load:.2}")).join(", ");
    vec![
        Bar::usage("CPU", busy as u64, 100, format!("CPU {busy:.0} % of {} processors", health.processors)),
        Bar::usage("memory", health.memory_used_bytes, health.memory_bytes.max(1), memory),
        Bar::usage(
            "load",
            (per_processor * 100.0).min(100.0) as u64,
            100,
            format!("Load {load} over 1, 5 and 15 min"),
        ),
    ]
}

fn health_facts(health: &Health) -> Vec<Fact> {
    vec![
        Fact::new("Machine up for", ui::seconds(health.uptime_seconds)),
        Fact::at("Agent started", health.started),
    ]
}

fn retention(status: &RetentionStatus) -> Retention {
    let mut facts = vec![Fact::new("Folder", status.folder.clone())];
    facts.extend(status.file_system.clone().map(|id| Fact::new("File system", id)));
    facts.push(Fact::new("Journals grow by", ui::rate(status.journal_bytes_per_second)));
    facts.extend(
        status
            .full_in_seconds
            .map(|left| Fact::new("Full in", format!("{}, if nothing were pruned", ui::seconds(left)))),
    );
    facts.extend(status.needed_bytes.map(|bytes| Fact::new("All windows need", ui::bytes(bytes))));
    Retention {
        state: Badge::retention(status.state),
        bar: retention_bar(status),
        detail: status.detail.clone(),
        facts,
    }
}

fn protection(protection: &Protection) -> Vec<Fact> {
    let mut facts = Vec::new();
    let is_assigned = !protection.item.is_empty();
    if is_assigned {
        facts.push(Fact::new("Item", protection.item.clone()));
        facts.push(Fact::new("Master target", protection.target.clone()));
    }
    facts.push(Fact::new("State", protection.state.clone()));
    if protection.quiesced {
        facts.push(Fact::new("Writes", "refused: the disks are at rest for a failover".to_owned()));
    }
    if is_assigned {
        let drained = protection.drain_seconds.map(|seconds| format!(", there in {}", ui::seconds(seconds)));
        let waiting = ui::bytes(protection.backlog_bytes) + &drained.unwrap_or_default();
        facts.push(Fact::new("Not yet there", waiting));
        facts.push(Fact::new("Sends", ui::rate(protection.bytes_per_second)));
    }
    let disks = protection.disks.iter().map(|disk| format!("{} ({})", disk.id, ui::bytes(disk.size)));
    let disks: Vec<String> = disks.collect();
    if !disks.is_empty() {
        facts.push(Fact::new("Disks", disks.join(", ")));
    }
    facts
}

fn datastore(store: &Datastore) -> DatastoreLine {
    let room = store.capacity_bytes.zip(store.available_bytes);
    let bar = room.map(|(capacity, available)| {
        let used = capacity.saturating_sub(available);
        let text = format!("{} of {} used", ui::bytes(used), ui::bytes(capacity));
        Bar::usage(store.folder.clone(), used, capacity, text)
    });
    DatastoreLine { folder: store.folder.clone(), file_system: store.file_system.clone(), bar }
}

fn disk(disk: &HostDisk) -> DiskLine {
    DiskLine {
        name: disk.name.clone(),
        id: disk.id.clone().unwrap_or("none".into()),
        size: ui::bytes(disk.size),
        paths: disk.paths,
        used_for: disk.used_for.clone(),
    }
}

/// `POST /infrastructure/{id}/check`.
pub(super) async fn check(visit: Visit, Path(id): Path<String>, _form: Form) -> Result<Response, Problem> {
    let known = known(&visit, &id).await?;
    super::jobs::order(&visit, known.id, JobKind::Check).await
}

/// `GET /infrastructure/{id}/unquiesce`.
pub(super) async fn ask_unquiesce(visit: Visit, Path(id): Path<String>) -> Result<Response, Problem> {
    let known = known(&visit, &id).await?;
    show(&Confirm {
        frame: visit.frame(
            Section::Infrastructure,
            format!("Let the writes of {} through?", known.name),
            "",
        ),
        consequence: "Its disks were brought to rest so that a failover loses nothing, and take writes again from now on. \
                      If the machine that it was failed over to runs, there are two of it then."
            .into(),
        then: "To take a failover back, cancel it on the page of its item instead, which does this too. After a commit, the \
               machine can be reprotected once this is done."
            .into(),
        action: format!("/infrastructure/{id}/unquiesce"),
        yes: "Let writes through",
        dangerous: true,
        back: format!("/infrastructure/{id}"),
    })
}

/// `POST /infrastructure/{id}/unquiesce`.
pub(super) async fn unquiesce(
    visit: Visit,
    Path(id): Path<String>,
    _form: Form,
) -> Result<Response, Problem> {
    let known = known(&visit, &id).await?;
    super::jobs::order(&visit, known.id, JobKind::Unquiesce).await
}

/// `GET /infrastructure/{id}/revoke`.
pub(super) async fn ask_revoke(visit: Visit, Path(id): Path<String>) -> Result<Response, Problem> {
    let known = known(&visit, &id).await?;
    show(&Confirm {
        frame: visit.frame(
            Section::Infrastructure,
            format!("Revoke the registration of {}?", known.name),
            "",
        ),
        consequence: format!(
            "{} is let in no more at once: its heartbeats and jobs end, and its certificate counts no more.",
            known.name
        ),
        then:
            "It can register again with the passphrase. To keep it out for good, also make a new passphrase: \
               mt-configserver passphrase rotate."
                .into(),
        action: format!("/infrastructure/{id}/revoke"),
        yes: "Revoke",
        dangerous: true,
        back: format!("/infrastructure/{id}"),
    })
}

/// `POST /infrastructure/{id}/revoke`.
pub(super) async fn revoke(visit: Visit, Path(id): Path<String>, _form: Form) -> Result<Response, Problem> {
    let (then, now) = (redirect(&format!("/infrastructure/{id}?done=revoked")), visit.now);
    visit.change(&actions::REVOKED, move |store| actions::revoke(store, &id, now)).await?;
    Ok(then)
}

async fn known(visit: &Visit, id: &str) -> Result<Known, Problem> {
    let wanted = id.to_owned();
    let known = visit.read(move |connection| hosts::by_uuid(connection, &wanted)).await?;
    known.ok_or_else(|| Problem::missing(&format!("host {id}"), "the infrastructure"))
}
