//! The REST API for people's programs: everything that the portal shows and does, as JSON.
//!
//! `openapi.json` describes each request and each answer; it is served to whoever has logged in, and tests hold it
//! against the routes and against the running server. Times are nanoseconds since the Unix epoch, as everywhere in the
//! product's JSON; durations and sizes have their unit in their name.
//!
//! A handler gets a [`call::Call`]: who asks, and what of the request is left to be read. What it does not read is
//! refused. What it changes, it changes in one transaction with the audit's entry and the event that tells people of it,
//! and then says so to whoever waits for changes. The guard in front of each route has looked at the role before.

mod call;
mod fields;
mod groups;
mod hosts;
mod inventory;
mod item_orders;
mod items;
mod jobs;
mod news;
mod overview;
mod policies;
#[cfg(test)]
mod tests;
mod users;
mod workflows;

use super::routes::Routes;
use crate::access::{Access, Role};
use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use call::call;
pub(crate) use fields::{MAX_NAME, is_name};
pub(crate) use item_orders::is_disk;
pub(crate) use items::Entry;
pub(crate) use jobs::is_item;
pub(crate) use policies::{EVERY, THRESHOLD, WINDOW};
pub(crate) use workflows::MAX_GROUP_BOOKMARK;

/// The document that describes the API.
const DOCUMENT: &str = include_str!("../../../openapi.json");

/// Adds the routes, each with the least role that it takes.
pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .answering(Access::People(Role::Reader))
        .get("/api/v1/openapi.json", document)
        .get("/api/v1/overview", call(overview::show))
        .get("/api/v1/hosts", call(hosts::list))
        .get("/api/v1/hosts/{id}", call(hosts::show))
        .get("/api/v1/disks", call(inventory::disks))
        .get("/api/v1/retention-volumes", call(inventory::retention_volumes))
        .get("/api/v1/datastores", call(inventory::datastores))
        .get("/api/v1/items", call(items::list))
        .get("/api/v1/items/{id}", call(items::show))
        .get("/api/v1/items/{id}/points", call(items::points))
        .get("/api/v1/items/{id}/rpo", call(items::rpo))
        .get("/api/v1/jobs", call(jobs::list))
        .get("/api/v1/jobs/{id}", call(jobs::show))
        .get("/api/v1/policies", call(policies::list))
        .get("/api/v1/policies/{id}", call(policies::show))
        .get("/api/v1/groups", call(groups::list))
        .get("/api/v1/groups/{id}", call(groups::show))
        .get("/api/v1/groups/{id}/points", call(groups::points))
        .get("/api/v1/events", call(news::events))
        .get("/api/v1/alerts", call(news::alerts))
        .answering(Access::People(Role::Operator))
        .patch("/api/v1/items/{id}", call(items::change))
        .post("/api/v1/jobs", call(jobs::order))
        .post("/api/v1/jobs/{id}/cancel", call(jobs::cancel))
        .post("/api/v1/workflows", call(workflows::order))
        .answering(Access::People(Role::Administrator))
        .delete("/api/v1/hosts/{id}", call(hosts::revoke))
        .post("/api/v1/policies", call(policies::add))
        .put("/api/v1/policies/{id}", call(policies::change))
        .delete("/api/v1/policies/{id}", call(policies::remove))
        .post("/api/v1/groups", call(groups::add))
        .put("/api/v1/groups/{id}", call(groups::change))
        .delete("/api/v1/groups/{id}", call(groups::remove))
        .get("/api/v1/audit", call(news::audit))
        .get("/api/v1/users", call(users::list))
        .post("/api/v1/users", call(users::add))
        .put("/api/v1/users/{id}", call(users::change))
        .delete("/api/v1/users/{id}", call(users::remove))
}

async fn document() -> Response {
    let mut response = Response::new(Body::from(DOCUMENT));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
