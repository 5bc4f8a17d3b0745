//! The failover of an item, from the choice of a recovery point to the commit.

use super::confirm::Confirm;
use super::item_actions::found;
use super::jobs::order;
use super::page::{Form, Frame, Problem, Section, Visit, show};
use super::points::{self, PointLine};
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
    points: Vec<PointLine>,
    now_utc: String,
    range: String,
}

/// `GET /items/{id}/failover`.
pub(super) async fn ask(visit: Visit, Path(id): Path<String>) -> Result<Response, Problem> {
    let item = found(&visit, &id).await?;
    let bookmarks = visit.read(move |connection| items::points(connection, item.id)).await?;
    let (title, heading, consequence) = match item.state {
        ItemState::FailedOver => (
            "Change recovery point",
            format!("Change the recovery point of {}", item.name),
            "The disks of the item are rolled to another recovery point, back or forward.",
        ),
        _ => (
            "Fail over",
            format!("Fail over {}", item.name),
            "A recovery point is written to the disks of the item, and its replication stops: what its source writes \
             from then on is not taken until the failover is cancelled. Stop the source machine first, or what it \
             wrote last will be missing.",
        ),
    };
    show(&Failover {
        frame: visit.frame(Section::Items, heading, ""),
        id,
        title,
        consequence,
        then: "Nothing is given up yet: the recovery point can be changed as often as wanted, and the failover be \
               cancelled, until it is committed.",
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
    let point = points::chosen(&form)?;
    order(&visit, item.host, JobKind::Failover { item: item.name, point }).await
}

/// `GET /items/{id}/failover/cancel`.
pub(super) async fn ask_cancel(visit: Visit, Path(id): Path<String>) -> Result<Response, Problem> {
    let item = found(&visit, &id).await?;
    show(&Confirm {
        frame: visit.frame(Section::Items, format!("Cancel the failover of {}?", item.name), ""),
        consequence: "Its disks are brought back to the newest changes that came from its source.".into(),
        then: "It follows its source again, from where it stopped. Every recovery point stays.".into(),
        action: format!("/items/{id}/failover/cancel"),
        yes: "Cancel the failover",
        dangerous: true,
        back: format!("/items/{id}"),
    })
}

/// `POST /items/{id}/failover/cancel`.
pub(super) async fn cancel(visit: Visit, Path(id): Path<String>, _form: Form) -> Result<Response, Problem> {
    let item = found(&visit, &id).await?;
    order(&visit, item.host, JobKind::CancelFailover { item: item.name }).await
}

/// `GET /items/{id}/commit`.
pub(super) async fn ask_commit(visit: Visit, Path(id): Path<String>) -> Result<Response, Problem> {
    let item = found(&visit, &id).await?;
    show(&Confirm {
        frame: visit.frame(Section::Items, format!("Commit the failover of {}?", item.name), ""),
        consequence: "The way back is given up: no other recovery point can be chosen, and the failover cannot be \
                      cancelled any more. A test failover shows first whether the machine starts from this point."
            .into(),
        then: "Its disks are released by the master target: they can be detached, and their machine be started.".into(),
        action: format!("/items/{id}/commit"),
        yes: "Commit",
        dangerous: true,
        back: format!("/items/{id}"),
    })
}

/// `POST /items/{id}/commit`.
pub(super) async fn commit(visit: Visit, Path(id): Path<String>, _form: Form) -> Result<Response, Problem> {
    let item = found(&visit, &id).await?;
    order(&visit, item.host, JobKind::Commit { item: item.name }).await
}
