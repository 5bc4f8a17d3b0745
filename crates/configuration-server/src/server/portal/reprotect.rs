//! Reprotecting a machine: first which one and where, then how each of its disks is kept.

use super::fields::Fields;
use super::jobs::ordered;
use super::page::{Choice, Form, Frame, Problem, Section, Visit, answer, show};
use super::ui;
use crate::server::actions::reprotect::{self, Wanted};
use crate::server::changes::Topic;
use crate::server::rest::{is_disk, is_item};
use crate::store::hosts::Known;
use crate::store::reports::{self, Report};
use crate::store::{groups, hosts, policies};
use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;
use control_api::agent::{HostDisk, ProtectedDisk, TargetOrder, is_target};
use control_api::registration::HostKind;
use control_api::{ApiError, ErrorCode, Failure};
use rusqlite::{Connection, Result};

/// Disks that the page has room for, within the fields of a form.
const MAX_DISKS: usize = 8;

/// What a VMDK that is made can be, with what people call it.
const FORMATS: [(&str, &str); 4] = [
    ("vmfs-thin", "Thin: takes room as it is written"),
    ("vmfs", "Thick: takes all its room at once"),
    ("monolithicSparse", "Sparse, in one file"),
    ("monolithicFlat", "Flat, in one file"),
];
const ADAPTERS: [(&str, &str); 3] = [("lsilogic", "LSI Logic"), ("buslogic", "BusLogic"), ("ide", "IDE")];

#[derive(Template)]
#[template(path = "reprotect.html")]
struct Page {
    frame: Frame,
    failure: Option<Failure>,
    sources: Vec<Choice>,
    targets: Vec<Choice>,
    /// Source agents that could be chosen if their disks were not at rest.
    at_rest: Vec<Choice>,
    /// What is asked when both are chosen.
    details: Option<Details>,
}

struct Details {
    source: String,
    source_name: String,
    target: String,
    target_name: String,
    name: String,
    address: String,
    policies: Vec<Choice>,
    groups: Vec<Choice>,
    disks: Vec<DiskLine>,
    /// Folders and disks of the master target.
    folders: Vec<String>,
    attached: Vec<String>,
}

struct DiskLine {
    number: usize,
    id: String,
    size: String,
    is_new: bool,
    target: String,
    folder: String,
    formats: Vec<Choice>,
    adapters: Vec<Choice>,
}

/// A host that is connected, with what it told last.
type Connected = (Known, Report);

/// What the page is made of.
struct Found {
    sources: Vec<Connected>,
    targets: Vec<Connected>,
    policies: Vec<policies::Policy>,
    groups: Vec<groups::Group>,
}

impl Found {
    fn read(connection: &Connection) -> Result<Found> {
        let mut reports = reports::all(connection)?;
        let known = hosts::all(connection)?.into_iter().filter(|host| host.revoked.is_none());
        let known = known.filter(|host| host.kind != HostKind::ProcessServer);
        let told = known.filter_map(|host| Some((reports.remove(&host.row)?, host)));
        let connected = told.filter(|(report, _)| report.connected).map(|(report, host)| (host, report));
        let (sources, targets) = connected.partition(|(host, _)| host.kind == HostKind::SourceAgent);
        Ok(Found {
            sources,
            targets,
            policies: policies::list(connection)?,
            groups: groups::list(connection)?,
        })
    }

    /// Source agents that nothing is replicated of: those that are at rest, or those that are not.
    fn free(&self, at_rest: bool) -> impl Iterator<Item = &Connected> {
        let is_free = move |report: &Report| {
            let protection = report.heartbeat.protection.as_ref();
            protection.is_some_and(|protection| protection.item.is_empty() && protection.quiesced == at_rest)
        };
        self.sources.iter().filter(move |(_, report)| is_free(report))
    }
}

/// `GET /reprotect`.
pub(super) async fn ask(visit: Visit) -> Result<Response, Problem> {
    let found = visit.read(Found::read).await?;
    let query = visit.query.clone();
    show(&page(&visit, &found, &query, None))
}

fn page(visit: &Visit, found: &Found, form: &Fields, failure: Option<Failure>) -> Page {
    let choice = |(host, _): &Connected, chosen: &str| Choice::new(&host.id, host.name.clone(), chosen);
    let (source, target) = (form.get("source"), form.get("target"));
    let of = |all: &[Connected], id: &str| all.iter().find(|(host, _)| host.id == id).cloned();
    let both = of(&found.sources, source).zip(of(&found.targets, target));
    let title = match &both {
        Some(((source, _), _)) => format!("Reprotect {}", source.name),
        None => "Reprotect a machine".to_owned(),
    };
    let too_many = both.as_ref().and_then(|(source, _)| too_many(source));
    Page {
        frame: visit.frame(Section::Items, title, ""),
        failure: failure.or(too_many),
        sources: found.free(false).map(|host| choice(host, source)).collect(),
        at_rest: found.free(true).map(|host| choice(host, "")).collect(),
        targets: found.targets.iter().map(|host| choice(host, target)).collect(),
        details: both.map(|(source, target)| details(found, form, &source, &target)),
    }
}

/// A machine with more disks than the page has room for.
fn too_many((source, told): &Connected) -> Option<Failure> {
    let disks = told.heartbeat.protection.as_ref().map_or(0, |protection| protection.disks.len());
    (disks > MAX_DISKS).then(|| {
        let why = format!("it has {disks} disks, and this page has room for {MAX_DISKS}");
        let next = "order it over the REST API: POST /api/v1/workflows";
        Failure::new(source.name.as_str(), "it cannot be reprotected here", why, next)
    })
}

/// What a form has, or what is proposed.
fn details(found: &Found, form: &Fields, (source, told): &Connected, (target, has): &Connected) -> Details {
    let or = |field: &str, proposed: &str| match form.get(field) {
        "" => proposed.to_owned(),
        given => given.to_owned(),
    };
    let short = source.name.split('.').next().unwrap_or_default();
    let policy = or("policy", &policies::DEFAULT.to_string());
    let group = form.get("group");
    let none = Choice::new("", "None", group);
    let disks = told.heartbeat.protection.as_ref().map_or(&[][..], |protection| &protection.disks);
    let datastores = &has.heartbeat.datastores;
    let folder = datastores.first().map_or("", |datastore| datastore.folder.as_str());
    let line = |(number, disk): (usize, &ProtectedDisk)| {
        let field = |name: &str| form.get(&format!("disk-{number}-{name}")).to_owned();
        let chosen = |name: &str, choices: &[(&str, &str)]| {
            let given = field(name);
            choices.iter().map(|(id, title)| Choice::new(id, *title, &given)).collect()
        };
        DiskLine {
            number,
            id: disk.id.clone(),
            size: ui::bytes(disk.size),
            is_new: field("kind") == "new",
            target: field("target"),
            folder: or(&format!("disk-{number}-folder"), folder),
            formats: chosen("format", &FORMATS),
            adapters: chosen("adapter", &ADAPTERS),
        }
    };
    let attached = has.heartbeat.disks.iter().filter(|disk| disk.used_for == HostDisk::FREE);
    Details {
        source: source.id.clone(),
        source_name: source.name.clone(),
        target: target.id.clone(),
        target_name: target.name.clone(),
        name: or("name", short),
        address: or("address", &reprotect::at(&target.address, has)),
        policies: found.policies.iter().map(|one| Choice::new(one.id, one.name.clone(), &policy)).collect(),
        groups: std::iter::once(none)
            .chain(found.groups.iter().map(|one| Choice::new(one.id, one.name.clone(), group)))
            .collect(),
        disks: disks.iter().take(MAX_DISKS).enumerate().map(line).collect(),
        folders: datastores.iter().map(|datastore| datastore.folder.clone()).collect(),
        attached: attached.filter_map(|disk| disk.id.clone()).collect(),
    }
}

/// `POST /reprotect`.
pub(super) async fn start(visit: Visit, Form(form): Form) -> Result<Response, Problem> {
    let done = match wanted(&form) {
        Ok(wanted) => {
            let (by, now) = (visit.caller.name.clone(), visit.now);
            visit.change(&[Topic::Jobs], move |store| reprotect::order(store, wanted, &by, now)).await
        }
        Err(refused) => Err(Problem(refused)),
    };
    match done {
        Ok(job) => Ok(ordered(&job)),
        Err(Problem(error)) if error.code != ErrorCode::Internal => {
            let found = visit.read(Found::read).await?;
            let status = StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::BAD_REQUEST);
            answer(status, &page(&visit, &found, &form, Some(error.failure)))
        }
        Err(problem) => Err(problem),
    }
}

/// What a form wants.
fn wanted(form: &Fields) -> Result<Wanted, ApiError> {
    let refused = |object: &str, why: &str| {
        ApiError::new(ErrorCode::BadRequest, object, "it cannot be used", why, "correct it")
    };
    let name = form.get("name").to_owned();
    if !is_item(&name) {
        return Err(refused("the name", "it must have letters, digits and . _ - of ASCII, 64 at most"));
    }
    let address = form.get("address").to_owned();
    if !is_target(&address) {
        let why = "it must be a host and a port, such as mt01.example:9443";
        return Err(refused("the address of the master target", why));
    }
    let mut disks = Vec::new();
    for number in 0..MAX_DISKS {
        let field = |name: &str| form.get(&format!("disk-{number}-{name}")).to_owned();
        let id = field("id");
        if id.is_empty() {
            break;
        }
        let target = match field("kind").as_str() {
            "new" => TargetOrder::New {
                folder: field("folder"),
                format: field("format"),
                adapter: field("adapter"),
                uuid: None,
            },
            _ => TargetOrder::Existing { target: field("target") },
        };
        if !is_disk(&id, &target) {
            let why = "it needs the path or id of a disk, or the folder of a new one";
            return Err(refused(&format!("the target of disk {id}"), why));
        }
        disks.push((id, target));
    }
    Ok(Wanted {
        source: form.get("source").to_owned(),
        target: form.get("target").to_owned(),
        name,
        policy: form.number("policy").unwrap_or_default(),
        group: form.number("group"),
        address: Some(address),
        disks,
    })
}
