//! The failover of an item, from the choice of a recovery point to the commit.

use super::confirm::Confirm;
use super::item_actions::found;
use super::jobs::{order, order_workflow};
use super::page::{Form, Frame, Problem, Section, Visit, show};
use super::points::{self, PointLine};
use crate::server::actions::group_workflows::not_alone;
use crate::server::actions::words;
use crate::server::actions::workflows::{Wanted, source_at_hand};
use crate::store::items;
use askama::Template;
use axum::extract::Path;
use axum::response::Response;
use control_api::ItemState;
use control_api::agent::JobKind;

/// To which recovery point an item is to fail over.
#[derive(Template)]
#[template(path = "failover.html")]
struct Failover {
    frame: Frame,
    id: String,
    name: String,
    title: &'static str,
    consequence: &'static str,
    then: &'static str,
    /// The source that can be brought to rest first, or why that cannot be; nothing when it is failed over already.
    planned: Option<Result<String, String>>,
    points: Vec<PointLine>,
    now_utc: String,
    range: String,
}

/// `GET /items/{id}/failover`.
pub(super) async fn ask(visit: Visit, Path(id): Path<String>) -> Result<Response, Problem> {
    let item = found(&visit, &id).await?;
    let asked = item.clone();
    let found = visit.read(move |connection| {
        let source = match not_alone(connection, &asked, None)? {
            Some(refused) => Err(refused),
            None => source_at_hand(connection, &asked)?,
        };
        Ok((items::points(connection, asked.id)?, source))
    });
    let (bookmarks, source) = found.await?;
    let (title, heading, words) = match item.state {
        ItemState::FailedOver => (
            "Change recovery point",
            format!("Change the recovery point of {}", item.name),
            words::CHANGE_POINT,
        ),
        _ => ("Fail over", format!("Fail over {}", item.name), words::FAILOVER),
    };
    let planned = source.map(|source| source.name).map_err(|refused| refused.failure.why);
    show(&Failover {
        frame: visit.frame(Section::Items, heading, ""),
        id,
        title,
        consequence: words.consequence,
        then: words.then,
        planned: Some(planned).filter(|_| item.state != ItemState::FailedOver),
        points: points::lines_of(&bookmarks, visit.now),
        now_utc: points::whole_second(visit.now),
        range: format!("Recovery points: {}.", points::range(&item.status)),
        name: item.name,
    })
}

/// `POST /items/{id}/failover`.
pub(super) async fn start(
    visit: Visit,
    Path(id): Path<String>,
    Form(form): Form,
) -> Result<Response, Problem> {
    let item = found(&visit, &id).await?;
    if form.get("how") == "planned" {
        return order_workflow(&visit, item.id, Wanted::PlannedFailover).await;
    }
    let point = points::chosen(&form)?;
    order(&visit, item.host, JobKind::Failover { item: item.name, point }).await
}

/// `GET /items/{id}/failover/cancel`.
pub(super) async fn ask_cancel(visit: Visit, Path(id): Path<String>) -> Result<Response, Problem> {
    let item = found(&visit, &id).await?;
    show(&Confirm {
        frame: visit.frame(Section::Items, format!("Cancel the failover of {}?", item.name), ""),
        consequence: words::CANCEL_FAILOVER.consequence.into(),
        then: words::CANCEL_FAILOVER.then.into(),
        action: format!("/items/{id}/failover/cancel"),
        yes: "Cancel the failover",
        dangerous: true,
        back: format!("/items/{id}"),
    })
}

/// `POST /items/{id}/failover/cancel`.
pub(super) async fn cancel(visit: Visit, Path(id): Path<String>, _form: Form) -> Result<Response, Problem> {
    let item = found(&visit, &id).await?;
    order_workflow(&visit, item.id, Wanted::CancelFailover).await
}

/// `GET /items/{id}/commit`.
pub(super) async fn ask_commit(visit: Visit, Path(id): Path<String>) -> Result<Response, Problem> {
    let item = found(&visit, &id).await?;
    show(&Confirm {
        frame: visit.frame(Section::Items, format!("Commit the failover of {}?", item.name), ""),
        consequence: words::COMMIT.consequence.into(),
        then: words::COMMIT.then.into(),
        action: format!("/items/{id}/commit"),
        yes: "Commit",
        dangerous: true,
        back: format!("/items/{id}"),
    })
}

/// `POST /items/{id}/commit`.
pub(super) async fn commit(visit: Visit, Path(id): Path<String>, _form: Form) -> Result<Response, Problem> {
    let item = found(&visit, &id).await?;
    order_workflow(&visit, item.id, Wanted::Commit).await
}
