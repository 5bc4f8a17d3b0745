//! The page of a replicated item.

use super::chart::{Chart, Reading};
use super::item_policy::ItemPolicyLine;
use super::lines::{EventLine, ItemLine, JobLine, in_effect};
use super::page::{Choice, Frame, Problem, Section, Visit, show};
use super::points::{self, PointLine};
use super::timeline::Timeline;
use super::ui::{self, Ago, Badge, Tone};
use crate::access::Role;
use crate::store::items::{self, Expected, Item};
use crate::store::jobs::{self, Job};
use crate::store::{events, groups, policies, samples};
use askama::Template;
use axum::extract::Path;
use axum::response::Response;
use control_api::agent::{JobKind, JobState};
use control_api::time::SECOND;
use control_api::{ItemState, Point};

/// Lines of each list.
const SHOWN: u32 = 20;

/// How long the chart reaches back, in nanoseconds.
const DAY: u64 = 86_400 * SECOND;

#[derive(Template)]
#[template(path = "item.html")]
struct Page {
    frame: Frame,
    item: ItemLine,
    reported: Ago,
    gone: Option<Ago>,
    detail: Option<String>,
    detail_tone: Tone,
    work: String,
    may_order: bool,
    may_resume: bool,
    /// The source agent that can set a bookmark.
    source: Option<String>,
    failover: FailoverStage,
    tiles: Vec<Tile>,
    chart: Chart,
    range: String,
    timeline: Timeline,
    points: Vec<PointLine>,
    now_utc: String,
    tests: Vec<TestLine>,
    policy: ItemPolicyLine,
    groups: Vec<Choice>,
    group: String,
    /// Number of its group.
    group_id: Option<i64>,
    disks: Vec<DiskLine>,
    alerts: Vec<AlertLine>,
    events: Vec<EventLine>,
    jobs: Vec<JobLine>,
}

/// Stands in for [`Page`] until the master target tells of the item, and then becomes it.
#[derive(Template)]
#[template(path = "item_expected.html")]
struct ExpectedPage {
    frame: Frame,
    item: Expected,
}

/// What can be done about a failover.
enum FailoverStage {
    /// It can be begun.
    Possible,
    /// The disks hold a recovery point: it can be changed, given up, or kept for good.
    Open,
    /// Nothing, now or any more.
    Closed,
}

impl FailoverStage {
    fn of(state: ItemState) -> FailoverStage {
        match state {
            ItemState::FailedOver => FailoverStage::Open,
            ItemState::FailingOver | ItemState::Committed => FailoverStage::Closed,
            _ => FailoverStage::Possible,
        }
    }
}

struct Tile {
    label: &'static str,
    value: String,
    note: String,
    tone: Tone,
}

/// A test failover that was started by a job, and whose end was not ordered yet.
struct TestLine {
    job: String,
    title: String,
    started: Ago,
    number: u64,
    outcome: String,
}

struct DiskLine {
    id: String,
    target: String,
    size: String,
}

struct AlertLine {
    badge: Badge,
    since: Ago,
    message: String,
}

/// All that is known of an item.
struct Found {
    item: Item,
    points: Vec<Point>,
    source: Option<String>,
    samples: Vec<samples::Sample>,
    policies: Vec<policies::Policy>,
    groups: Vec<groups::Group>,
    jobs: Vec<Job>,
    events: Vec<EventLine>,
}

/// `GET /items/{id}`.
pub(super) async fn page(visit: Visit, Path(id): Path<String>) -> Result<Response, Problem> {
    let number = number(&id)?;
    let now = visit.now;
    let found = visit
        .read(move |connection| {
            let Some(item) = items::by_id(connection, number)? else { return Ok(None) };
            let query = events::Query { item: Some(number), limit: SHOWN, ..events::Query::default() };
            let events = events::newest(connection, &query)?;
            let whole = true;
            let query = jobs::Query { item: Some(number), whole, limit: SHOWN, ..jobs::Query::default() };
            let none = super::lines::HostIds::new();
            Ok(Some(Found {
                points: items::points(connection, number)?,
                source: items::source(connection, &item)?.map(|source| source.name),
                samples: samples::of(connection, number, now.saturating_sub(DAY))?,
                policies: policies::list(connection)?,
                groups: groups::list(connection)?,
                jobs: jobs::list(connection, &query)?,
                events: events
                    .iter()
                    .map(|event| EventLine { link: None, ..EventLine::new(event, &none, now) })
                    .collect(),
                item,
            }))
        })
        .await?;
    match found {
        Some(found) => show(&view(&visit, found)),
        None => expected(&visit, number).await,
    }
}

async fn expected(visit: &Visit, number: i64) -> Result<Response, Problem> {
    let found = visit.read(move |connection| items::expected(connection, number)).await?;
    let item = found.ok_or_else(|| missing(&number.to_string()))?;
    show(&ExpectedPage { frame: visit.frame(Section::Items, item.name.clone(), "items"), item })
}

/// The number of an item, as a path names it.
pub(super) fn number(id: &str) -> Result<i64, Problem> {
    id.parse().map_err(|_| missing(id))
}

pub(super) fn missing(id: &str) -> Problem {
    Problem::missing(&format!("item {id}"), "the replicated items")
}

fn view(visit: &Visit, found: Found) -> Page {
    let now = visit.now;
    let Found { item, points, source, samples, policies, groups, jobs, events } = found;
    let status = &item.status;
    let by_id = policies.iter().map(|policy| (policy.id, policy.clone())).collect();
    let line = ItemLine::new(&item, &by_id);
    let policy = in_effect(&item, &by_id);
    let threshold = policy.map_or(0, |policy| policy.rpo_threshold_seconds);
    let window_wanted =
        policy.map_or(status.window_wanted, |policy| policy.window_seconds.saturating_mul(SECOND));
    let (oldest, newest) = (status.oldest_point.as_ref(), status.newest_point.as_ref());
    let group = groups.iter().find(|group| Some(group.id) == item.group);
    let chosen_group = item.group.map(|group| group.to_string()).unwrap_or_default();
    let no_group = Choice::new("", "None", &chosen_group);
    let readings: Vec<Reading> = samples
        .iter()
        .map(|sample| Reading {
            slot: sample.slot,
            rpo_seconds: sample.rpo_seconds,
            bytes_per_second: sample.bytes_per_second,
        })
        .collect();
    Page {
        frame: visit.frame(Section::Items, item.name.clone(), "items jobs events settings"),
        reported: Ago { time: item.reported, now },
        gone: item.gone.map(|time| Ago { time, now }),
        detail: status.detail.clone().filter(|_| item.gone.is_none()),
        detail_tone: item.health.into(),
        work: status.progress.map_or(String::new(), |progress| capital(&progress.work.to_string())),
        may_order: visit.may(Role::Operator) && item.gone.is_none(),
        may_resume: item.state == ItemState::Fenced,
        source: source.filter(|_| visit.may(Role::Operator) && item.state == ItemState::Protected),
        failover: FailoverStage::of(item.state),
        tiles: tiles(&item, threshold, &line),
        chart: Chart::rpo(&readings, threshold, now),
        range: points::range(status),
        timeline: Timeline::new(oldest, newest, &points, window_wanted, now),
        points: points::lines_of(&points, now),
        now_utc: points::whole_second(now),
        tests: tests(&jobs, now),
        policy: ItemPolicyLine::new(&item, &policies),
        group_id: group.map(|group| group.id),
        group: group.map_or("none".into(), |group| group.name.clone()),
        groups: std::iter::once(no_group)
            .chain(groups.iter().map(|group| Choice::new(group.id, group.name.clone(), &chosen_group)))
            .collect(),
        disks: status
            .disks
            .iter()
            .map(|disk| DiskLine {
                id: disk.id.clone(),
                target: disk.target.clone(),
                size: ui::bytes(disk.size),
            })
            .collect(),
        alerts: status
            .alerts
            .iter()
            .map(|alert| AlertLine {
                badge: Badge::severity(alert.kind.severity()),
                since: Ago { time: alert.since, now },
                message: alert.message.clone(),
            })
            .collect(),
        events,
        jobs: jobs.iter().map(|job| JobLine::new(job, now)).collect(),
        item: line,
    }
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or(String::new(), |first| first.to_uppercase().chain(characters).collect())
}

fn tiles(item: &Item, threshold: u64, line: &ItemLine) -> Vec<Tile> {
    let status = &item.status;
    let wanted = ui::seconds(status.window_wanted / SECOND);
    // While it is failed over nothing comes from its source.
    let may_follow =
        !matches!(item.state, ItemState::FailingOver | ItemState::FailedOver | ItemState::Committed);
    let projected = status.window_projected.filter(|reach| may_follow && *reach < status.window_wanted);
    vec![
        Tile {
            label: "RPO",
            value: line.rpo.clone(),
            note: format!("threshold {}", ui::seconds(threshold)),
            tone: match (item.rpo_seconds, line.rpo_over) {
                (None, _) => Tone::Idle,
                (_, true) => Tone::Warning,
                _ => Tone::Ok,
            },
        },
        Tile {
            label: "Window",
            value: line.window.clone(),
            note: match projected {
                Some(reach) => format!("of {wanted}; {} at this rate", ui::seconds(reach / SECOND)),
                None => format!("of {wanted}"),
            },
            tone: if projected.is_some() { Tone::Warning } else { Tone::Idle },
        },
        Tile {
            label: "Receives",
            value: ui::rate(status.bytes_per_second),
            note: match &status.peer {
                Some(peer) => format!("from {peer}"),
                None => "its source is not connected".into(),
            },
            tone: if status.peer.is_some() || !may_follow { Tone::Idle } else { Tone::Warning },
        },
        Tile {
            label: "Journal",
            value: ui::bytes(status.journal_bytes),
            note: format!("grows by {}", ui::rate(status.journal_bytes_per_second)),
            tone: Tone::Idle,
        },
    ]
}

/// Test failovers that were started from here: a job that succeeded tells their number as the first in its outcome.
fn tests(jobs: &[Job], now: u64) -> Vec<TestLine> {
    let ended: Vec<u64> = jobs
        .iter()
        .filter_map(|job| match job.job.order() {
            Some(JobKind::TestFailoverStop { id, .. }) if job.state != JobState::Failed => Some(*id),
            _ => None,
        })
        .collect();
    let started = jobs.iter().filter(|job| {
        job.state == JobState::Succeeded && matches!(job.job.order(), Some(JobKind::TestFailoverStart { .. }))
    });
    let line = |job: &Job| {
        let outcome = job.report.as_ref()?.outcome.clone()?;
        let number = first_number(&outcome)?;
        let started = Ago { time: job.ordered, now };
        (!ended.contains(&number)).then(|| TestLine {
            job: job.id.clone(),
            title: job.job.title(),
            started,
            number,
            outcome,
        })
    };
    started.filter_map(line).collect()
}

fn first_number(text: &str) -> Option<u64> {
    let digits = text.split(|character: char| !character.is_ascii_digit()).find(|part| !part.is_empty())?;
    digits.parse().ok()
}
