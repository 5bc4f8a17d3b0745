//! The page of a replication group, and what can be done to all of its items.

use super::confirm::Confirm;
use super::jobs::ordered;
use super::lines::{ItemLine, policies};
use super::page::{Form, Frame, Problem, Section, Visit, show};
use super::ui::{self, Ago, Badge, Moment, Tone};
use crate::access::Role;
use crate::server::actions::group_workflows::{self, Wanted};
use crate::server::actions::words::{self, Words};
use crate::server::changes::Topic;
use crate::server::rest::MAX_GROUP_BOOKMARK;
use crate::store::groups::{self, CommonPoint, Group, MAX_MEMBERS};
use crate::store::items;
use askama::Template;
use axum::extract::Path;
use axum::response::Response;
use control_api::time::Time;
use control_api::{ApiError, ErrorCode, ItemState};

#[derive(Template)]
#[template(path = "group.html")]
struct Page {
    frame: Frame,
    group: Group,
    rows: Vec<ItemLine>,
    points: Vec<PointLine>,
    may_order: bool,
    /// Some of its items are failed over.
    is_over: bool,
    longest_name: usize,
}

#[derive(Template)]
#[template(path = "group_failover.html")]
struct Failover {
    frame: Frame,
    group: Group,
    points: Vec<PointLine>,
    /// The items are failed over already.
    is_over: bool,
    words: Words,
}

/// A point that the items of a group share.
struct PointLine {
    name: String,
    kind: Badge,
    time: Moment,
    utc: String,
    ago: Ago,
}

impl PointLine {
    fn new(point: CommonPoint, now: Time) -> PointLine {
        PointLine {
            kind: match point.application_consistent {
                true => Badge::new(Tone::Ok, "application-consistent"),
                false => Badge::new(Tone::Idle, "crash-consistent"),
            },
            time: Moment(point.source_time),
            utc: ui::utc(point.source_time),
            ago: Ago { time: point.source_time, now },
            name: point.name,
        }
    }
}

/// A group with its items, and what they share.
struct Found {
    group: Group,
    rows: Vec<ItemLine>,
    points: Vec<PointLine>,
    is_over: bool,
}

async fn found(visit: &Visit, id: &str) -> Result<Found, Problem> {
    let missing = || Problem::missing(&format!("group {id}"), "the groups");
    let number: i64 = id.parse().map_err(|_| missing())?;
    let now = visit.now;
    let found = visit.read(move |connection| {
        let Some(group) = groups::by_id(connection, number)? else { return Ok(None) };
        // One more than can be moved tells that there are too many; those who order it are told so.
        let limit = u32::try_from(MAX_MEMBERS + 1).unwrap_or(u32::MAX);
        let query = items::Query { group: Some(number), gone: Some(false), limit, ..items::Query::default() };
        let (items, _) = items::list(connection, &query)?;
        let policies = policies(connection)?;
        let points = groups::common(connection, number)?;
        Ok(Some(Found {
            group,
            is_over: items.iter().any(|item| item.state == ItemState::FailedOver),
            rows: items.iter().map(|item| ItemLine::new(item, &policies)).collect(),
            points: points.into_iter().map(|point| PointLine::new(point, now)).collect(),
        }))
    });
    found.await?.ok_or_else(missing)
}

/// `GET /groups/{id}`.
pub(super) async fn page(visit: Visit, Path(id): Path<String>) -> Result<Response, Problem> {
    let Found { group, rows, points, is_over } = found(&visit, &id).await?;
    show(&Page {
        frame: visit.frame(Section::Policies, format!("Group {}", group.name), "items settings"),
        group,
        rows,
        points,
        may_order: visit.may(Role::Operator),
        is_over,
        longest_name: MAX_GROUP_BOOKMARK,
    })
}

/// `POST /groups/{id}/bookmark`.
pub(super) async fn bookmark(
    visit: Visit,
    Path(id): Path<String>,
    Form(form): Form,
) -> Result<Response, Problem> {
    let name = form.get("name").trim().to_owned();
    if !(1..=MAX_GROUP_BOOKMARK).contains(&name.chars().count()) || name.contains(char::is_control) {
        let why = format!("it must have 1 to {MAX_GROUP_BOOKMARK} characters");
        let next = "go back and give another one";
        return Err(ApiError::new(ErrorCode::BadRequest, "the name", "it cannot be used", why, next).into());
    }
    let application_consistent = form.get("application-consistent") == "yes";
    order(&visit, &id, Wanted::Bookmark { name, application_consistent, regular: false }).await
}

/// `GET /groups/{id}/failover`.
pub(super) async fn ask_failover(visit: Visit, Path(id): Path<String>) -> Result<Response, Problem> {
    let Found { group, points, is_over, .. } = found(&visit, &id).await?;
    show(&Failover {
        frame: visit.frame(Section::Policies, format!("Fail over group {}", group.name), ""),
        group,
        points,
        is_over,
        words: if is_over { words::GROUP_CHANGE_POINT } else { words::GROUP_FAILOVER },
    })
}

/// `POST /groups/{id}/failover`.
pub(super) async fn fail_over(
    visit: Visit,
    Path(id): Path<String>,
    Form(form): Form,
) -> Result<Response, Problem> {
    let wanted = match form.get("how") {
        "planned" => Wanted::PlannedFailover,
        _ => Wanted::Failover { bookmark: form.get("bookmark").to_owned() },
    };
    order(&visit, &id, wanted).await
}

/// `GET /groups/{id}/failover/cancel`.
pub(super) async fn ask_cancel(visit: Visit, Path(id): Path<String>) -> Result<Response, Problem> {
    let Found { group, .. } = found(&visit, &id).await?;
    show(&Confirm {
        frame: visit.frame(Section::Policies, format!("Cancel the failover of group {}?", group.name), ""),
        consequence: words::GROUP_CANCEL_FAILOVER.consequence.into(),
        then: words::GROUP_CANCEL_FAILOVER.then.into(),
        action: format!("/groups/{id}/failover/cancel"),
        yes: "Cancel the failover",
        dangerous: true,
        back: format!("/groups/{id}"),
    })
}

/// `POST /groups/{id}/failover/cancel`.
pub(super) async fn cancel(visit: Visit, Path(id): Path<String>, _form: Form) -> Result<Response, Problem> {
    order(&visit, &id, Wanted::CancelFailover).await
}

/// `GET /groups/{id}/commit`.
pub(super) async fn ask_commit(visit: Visit, Path(id): Path<String>) -> Result<Response, Problem> {
    let Found { group, .. } = found(&visit, &id).await?;
    show(&Confirm {
        frame: visit.frame(Section::Policies, format!("Commit the failover of group {}?", group.name), ""),
        consequence: words::GROUP_COMMIT.consequence.into(),
        then: words::GROUP_COMMIT.then.into(),
        action: format!("/groups/{id}/commit"),
        yes: "Commit",
        dangerous: true,
        back: format!("/groups/{id}"),
    })
}

/// `POST /groups/{id}/commit`.
pub(super) async fn commit(visit: Visit, Path(id): Path<String>, _form: Form) -> Result<Response, Problem> {
    order(&visit, &id, Wanted::Commit).await
}

/// Orders a workflow of a group, and goes to its page.
async fn order(visit: &Visit, id: &str, wanted: Wanted) -> Result<Response, Problem> {
    let number: i64 = id.parse().map_err(|_| Problem::missing(&format!("group {id}"), "the groups"))?;
    let (by, now) = (visit.caller.name.clone(), visit.now);
    let job =
        visit.change(&[Topic::Jobs], move |store| group_workflows::order(store, number, &wanted, &by, now));
    Ok(ordered(&job.await?))
}
