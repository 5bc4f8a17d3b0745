//! The servers that take part: this one, master targets, process servers, source machines.

use super::first::{FirstHost, server_name};
use super::lines::HostLine;
use super::page::{Choice, Frame, Pager, Problem, Section, Visit, page_number, show};
use super::ui::{self, Badge, Moment, Tone};
use crate::server::Shared;
use crate::store::inventory::{self, Presence, Query};
use askama::Template;
use axum::response::Response;
use control_api::registration::{Hex, HostKind};
use std::path::Path;

/// Hosts of a kind on one page.
const SIZE: u32 = 50;

#[derive(Template)]
#[template(path = "infrastructure.html")]
struct Page {
    frame: Frame,
    server: ThisServer,
    text: String,
    states: Vec<Choice>,
    sections: Vec<HostSection>,
}

/// Hosts of one kind.
struct HostSection {
    id: &'static str,
    title: &'static str,
    kind: HostKind,
    rows: Vec<HostLine>,
    /// HTML that is shown when there are none.
    empty: String,
    pager: Pager,
}

impl HostSection {
    fn targets(&self) -> bool {
        self.kind == HostKind::MasterTarget
    }

    fn sources(&self) -> bool {
        self.kind == HostKind::SourceAgent
    }
}

/// This server.
struct ThisServer {
    state: Badge,
    version: String,
    address: String,
    started: Moment,
    load: String,
    memory: String,
    store: String,
    fingerprint: String,
}

/// `GET /infrastructure`.
pub(super) async fn list(visit: Visit) -> Result<Response, Problem> {
    let text: String = visit.query.get("q").chars().take(100).collect();
    let wanted = visit.query.get("state");
    let presence = Presence::ALL.into_iter().find(|presence| presence.id() == wanted).unwrap_or_default();
    let pages = ["targets", "sources", "relays"].map(|list| page_number(&visit.query, list));
    let query = |kind, page: u32| Query {
        kind: Some(kind),
        presence,
        text: text.clone(),
        limit: SIZE,
        offset: (page - 1) * SIZE,
    };
    let targets = query(HostKind::MasterTarget, pages[0]);
    let sources = query(HostKind::SourceAgent, pages[1]);
    let relays = query(HostKind::ProcessServer, pages[2]);
    let now = visit.now;
    let lists = visit
        .read(move |connection| {
            let list = |query: &Query| -> rusqlite::Result<(Vec<HostLine>, u64)> {
                let (lines, total) = inventory::hosts(connection, query)?;
                Ok((lines.iter().map(|line| HostLine::new(line, now)).collect(), total))
            };
            Ok([list(&targets)?, list(&sources)?, list(&relays)?])
        })
        .await?;
    let filtered = !text.is_empty() || presence != Presence::Registered;
    let [(targets, targets_total), (sources, sources_total), (relays, relays_total)] = lists;
    let empty = |first: FirstHost| match filtered {
        true => r#"<p>None matches. <a href="/infrastructure">Show all</a>.</p>"#.to_owned(),
        false => first.to_string(),
    };
    let sections = vec![
        HostSection {
            id: "targets",
            title: "Master targets",
            kind: HostKind::MasterTarget,
            pager: Pager::new(&visit.query, "targets", pages[0], SIZE, targets.len(), targets_total),
            rows: targets,
            empty: empty(FirstHost::target(&visit.shared)),
        },
        HostSection {
            id: "sources",
            title: "Source machines",
            kind: HostKind::SourceAgent,
            pager: Pager::new(&visit.query, "sources", pages[1], SIZE, sources.len(), sources_total),
            rows: sources,
            empty: empty(FirstHost::source(&visit.shared)),
        },
        HostSection {
            id: "relays",
            title: "Process servers",
            kind: HostKind::ProcessServer,
            pager: Pager::new(&visit.query, "relays", pages[2], SIZE, relays.len(), relays_total),
            rows: relays,
            empty: empty(FirstHost::relay(&visit.shared)),
        },
    ];
    let titles = ["Registered", "Connected", "Not connected", "Revoked"];
    let choice = |(presence, title): (Presence, &str)| Choice::new(presence.id(), title, wanted);
    show(&Page {
        frame: visit.frame(Section::Infrastructure, "Infrastructure", "hosts items"),
        server: this_server(&visit.shared),
        states: Presence::ALL.into_iter().zip(titles).map(choice).collect(),
        text,
        sections,
    })
}

fn this_server(shared: &Shared) -> ThisServer {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(", ");
    let config = &shared.config;
    let size = std::fs::metadata(config.store()).map_or(0, |file| file.len());
    ThisServer {
        state: Badge::new(Tone::Ok, "running"),
        version: shared.environment.version.clone(),
        address: format!("{}, port {}", server_name(shared), config.listen.port()),
        started: Moment(started()),
        load: format!("{load} over 1, 5 and 15 min, with {processors} processors"),
        memory: format!("{} used by the configuration server", ui::bytes(resident_bytes())),
        store: format!("{} in {}", ui::bytes(size), shown(&config.store())),
        fingerprint: Hex(shared.authority.fingerprint()).to_string(),
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Memory that this process has in use.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// When the portal was first asked for or, which is the same to people, this process began.
fn started() -> u64 {
    std::fs::metadata("/proc/self")
        .and_then(|process| process.modified())
        .ok()
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
        .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0))
}
