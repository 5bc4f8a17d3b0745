//! What can be done to a replicated item.

use super::confirm::Confirm;
use super::item::{missing, number};
use super::jobs::order;
use super::page::{Form, Problem, Section, Visit, show};
use super::points;
use super::redirect;
use crate::server::actions::items::{Wanted, assign};
use crate::server::actions::jobs;
use crate::server::actions::missing as missing_of;
use crate::server::changes::Topic;
use crate::store::items::{self, Item};
use axum::extract::Path;
use axum::response::Response;
use control_api::agent::JobKind;
use control_api::{ApiError, ErrorCode};

pub(super) async fn found(visit: &Visit, id: &str) -> Result<Item, Problem> {
    let number = number(id)?;
    let item = visit.read(move |connection| items::by_id(connection, number)).await?;
    item.ok_or_else(|| missing(id))
}

/// `GET /items/{id}/resync`.
pub(super) async fn ask_resync(visit: Visit, Path(id): Path<String>) -> Result<Response, Problem> {
    let item = found(&visit, &id).await?;
    show(&Confirm {
        frame: visit.frame(Section::Items, format!("Resync {}?", item.name), ""),
        consequence: "The source compares all its disks with the replica and sends what differs. Until that is done no \
                      new recovery point is made; those that there are stay."
            .into(),
        then: "It reads every disk of the source once; how long that takes depends on their size, not on how much \
               differs."
            .into(),
        action: format!("/items/{id}/resync"),
        yes: "Resync",
        dangerous: false,
        back: format!("/items/{id}"),
    })
}

/// `POST /items/{id}/resync`.
pub(super) async fn resync(visit: Visit, Path(id): Path<String>, _form: Form) -> Result<Response, Problem> {
    let item = found(&visit, &id).await?;
    order(&visit, item.host, JobKind::Resync { item: item.name }).await
}

/// `POST /items/{id}/resume`.
pub(super) async fn resume(visit: Visit, Path(id): Path<String>, _form: Form) -> Result<Response, Problem> {
    let item = found(&visit, &id).await?;
    order(&visit, item.host, JobKind::Resume { item: item.name }).await
}

/// `POST /items/{id}/bookmark`.
pub(super) async fn bookmark(
    visit: Visit,
    Path(id): Path<String>,
    Form(form): Form,
) -> Result<Response, Problem> {
    let (item, by, now) = (number(&id)?, visit.caller.name.clone(), visit.now);
    let job = JobKind::Bookmark {
        name: form.get("name").trim().to_owned(),
        application_consistent: form.get("application-consistent") == "yes",
    };
    let ordered =
        visit.change(&[Topic::Jobs], move |store| jobs::bookmark(store, item, job, by, now)).await?;
    Ok(redirect(&format!("/jobs/{}?done=ordered", ordered.id)))
}

/// `POST /items/{id}/test-failover`.
pub(super) async fn start_test(
    visit: Visit,
    Path(id): Path<String>,
    Form(form): Form,
) -> Result<Response, Problem> {
    let item = found(&visit, &id).await?;
    let point = points::chosen(&form)?;
    let job = JobKind::TestFailoverStart { item: item.name, point };
    order(&visit, item.host, job).await
}

/// `POST /items/{id}/test-failover/stop`.
pub(super) async fn stop_test(
    visit: Visit,
    Path(id): Path<String>,
    Form(form): Form,
) -> Result<Response, Problem> {
    let item = found(&visit, &id).await?;
    let Some(test) = form.number("id") else {
        let next = "go back and choose one";
        let why = "the form names none";
        return Err(ApiError::new(
            ErrorCode::BadRequest,
            "the test failover",
            "it cannot be ended",
            why,
            next,
        )
        .into());
    };
    let job = JobKind::TestFailoverStop { item: item.name, id: test };
    order(&visit, item.host, job).await
}

/// `POST /items/{id}/settings`.
pub(super) async fn settings(
    visit: Visit,
    Path(id): Path<String>,
    Form(form): Form,
) -> Result<Response, Problem> {
    let item = number(&id)?;
    // Left out, or empty, the policy stays as it is.
    let policy: Option<i64> = match form.get("policy") {
        "" => None,
        given => Some(form.number("policy").ok_or_else(|| missing_of("policy", given))?),
    };
    let wanted = Wanted { policy, group: Some(form.number("group")) };
    let topics = [Topic::Items, Topic::Settings];
    visit.change(&topics, move |store| assign(store, item, &wanted)).await?;
    Ok(redirect(&format!("/items/{id}?done=settings")))
}
