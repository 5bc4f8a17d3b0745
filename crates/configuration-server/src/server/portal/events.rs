//! Events, alerts, and, for administrators, the audit.

use super::lines::{self, EventLine};
use super::page::{Choice, Frame, Problem, Section, Visit, show};
use super::ui::Moment;
use crate::access::Role;
use crate::store::{audit, events};
use askama::Template;
use axum::response::Response;
use control_api::Severity;

/// Events on one page.
const SIZE: u32 = 50;

/// Alerts that are shown; there is one for each thing that is wrong, so more of them do not tell more.
const MAX_ALERTS: usize = 200;

/// Entries of the audit.
const AUDIT: u32 = 50;

#[derive(Template)]
#[template(path = "events.html")]
struct Page {
    frame: Frame,
    shown: Vec<Choice>,
    alerts_only: bool,
    rows: Vec<EventLine>,
    older: Option<String>,
    audit: Option<Vec<Entry>>,
}

struct Entry {
    outcome: String,
    time: Moment,
    address: String,
    host: String,
    detail: String,
}

/// `GET /events`.
pub(super) async fn list(visit: Visit) -> Result<Response, Problem> {
    let wanted = visit.query.get("show").to_owned();
    let alerts_only = wanted == "alerts";
    let with_audit = visit.may(Role::Administrator) && visit.query.get("before").is_empty() && !alerts_only;
    // One more than is shown tells whether there are older ones.
    let query = events::Query {
        at_least: Severity::parse(&wanted),
        before: visit.query.number("before"),
        limit: SIZE + 1,
        ..events::Query::default()
    };
    let now = visit.now;
    let (rows, last, entries) = visit
        .read(move |connection| {
            let hosts = lines::host_ids(connection)?;
            let entries = if with_audit { audit::newest(connection, AUDIT)? } else { Vec::new() };
            if alerts_only {
                let alerts = events::raised(connection)?;
                let alerts = alerts.iter().take(MAX_ALERTS).map(|alert| EventLine::alert(alert, &hosts, now));
                return Ok((alerts.collect::<Vec<_>>(), None, entries));
            }
            let found = events::newest(connection, &query)?;
            let shown = &found[..found.len().min(SIZE as usize)];
            let last = shown.last().filter(|_| found.len() > shown.len()).map(|event| event.id.to_string());
            Ok((shown.iter().map(|event| EventLine::new(event, &hosts, now)).collect(), last, entries))
        })
        .await?;
    let choices = [
        ("", "All events"),
        ("warning", "Warnings and worse"),
        ("critical", "Critical ones"),
        ("alerts", "Alerts that are raised"),
    ];
    let entry = |entry: audit::Entry| Entry {
        outcome: entry.outcome,
        time: Moment(entry.time),
        address: entry.address,
        host: entry.host,
        detail: entry.detail,
    };
    show(&Page {
        frame: visit.frame(Section::Events, "Events", "events"),
        shown: choices.map(|(id, title)| Choice::new(id, title, &wanted)).into(),
        alerts_only,
        rows,
        older: last.map(|last| visit.query.with(&[("before", &last), ("done", "")])),
        audit: with_audit.then(|| entries.into_iter().map(entry).collect()),
    })
}
