//! The portal: pages for people, made on the server.
//!
//! Each page reads the store once, turns what it found into a view model of texts and badges, and fills a template
//! (`templates/`); `askama` checks the templates when the program is built, and escapes all text. A form is answered
//! with a redirection to a page that says what was done, so loading that again does nothing twice. All of it works
//! without JavaScript. With it, [`live`] tells a page that something it shows has changed, and the script
//! (`assets/portal.js`) fetches the page anew and replaces what differs.
//!
//! Nothing on a page comes from elsewhere, and no page has a script or a style in it: the headers forbid both.
//! Who may do what is checked in front of each route, and pages leave out what their reader may not do.

mod assets;
mod chart;
mod confirm;
mod events;
mod failover;
mod fields;
mod first;
mod groups;
mod host;
mod infrastructure;
mod item;
mod item_actions;
mod item_policy;
mod items;
mod jobs;
mod lines;
mod live;
mod overview;
mod page;
mod points;
mod policies;
mod reprotect;
mod session;
#[cfg(test)]
mod tests;
mod timeline;
mod ui;
mod users;

use super::routes::Routes;
use crate::access::{Access, Role};
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
pub(crate) use lines::{progress_text, took_text};
pub(crate) use page::Problem;

/// Adds the pages, and what their forms post to.
pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .answering(Access::Everybody)
        .get("/login", session::page)
        .post("/login", session::log_in)
        .get("/static/{hash}/{name}", assets::serve)
        .answering(Access::People(Role::Reader))
        .post("/logout", session::log_out)
        .get("/live", live::follow)
        .get("/", overview::overview)
        .get("/infrastructure", infrastructure::list)
        .get("/infrastructure/{id}", host::page)
        .get("/items", items::list)
        .get("/items/{id}", item::page)
        .get("/jobs", jobs::list)
        .get("/jobs/{id}", jobs::page)
        .get("/policies", policies::list)
        .get("/groups/{id}", groups::page)
        .get("/events", events::list)
        .answering(Access::People(Role::Operator))
        .post("/infrastructure/{id}/check", host::check)
        .get("/infrastructure/{id}/unquiesce", host::ask_unquiesce)
        .post("/infrastructure/{id}/unquiesce", host::unquiesce)
        .get("/reprotect", reprotect::ask)
        .post("/reprotect", reprotect::start)
        .get("/items/{id}/resync", item_actions::ask_resync)
        .post("/items/{id}/resync", item_actions::resync)
        .post("/items/{id}/resume", item_actions::resume)
        .post("/items/{id}/bookmark", item_actions::bookmark)
        .post("/items/{id}/test-failover", item_actions::start_test)
        .post("/items/{id}/test-failover/stop", item_actions::stop_test)
        .get("/items/{id}/failover", failover::ask)
        .post("/items/{id}/failover", failover::start)
        .get("/items/{id}/failover/cancel", failover::ask_cancel)
        .post("/items/{id}/failover/cancel", failover::cancel)
        .get("/items/{id}/commit", failover::ask_commit)
        .post("/items/{id}/commit", failover::commit)
        .post("/items/{id}/settings", item_actions::settings)
        .post("/groups/{id}/bookmark", groups::bookmark)
        .get("/groups/{id}/failover", groups::ask_failover)
        .post("/groups/{id}/failover", groups::fail_over)
        .get("/groups/{id}/failover/cancel", groups::ask_cancel)
        .post("/groups/{id}/failover/cancel", groups::cancel)
        .get("/groups/{id}/commit", groups::ask_commit)
        .post("/groups/{id}/commit", groups::commit)
        .post("/jobs/{id}/cancel", jobs::cancel)
        .answering(Access::People(Role::Administrator))
        .get("/infrastructure/{id}/revoke", host::ask_revoke)
        .post("/infrastructure/{id}/revoke", host::revoke)
        .get("/policies/new", policies::new)
        .get("/policies/{id}", policies::edit)
        .post("/policies", policies::add)
        .post("/policies/{id}", policies::change)
        .get("/policies/{id}/remove", policies::ask_remove)
        .post("/policies/{id}/remove", policies::remove)
        .post("/groups", policies::add_group)
        .get("/groups/{id}/remove", policies::ask_remove_group)
        .post("/groups/{id}/remove", policies::remove_group)
        .get("/users", users::list)
        .post("/users", users::add)
        .get("/users/{id}", users::edit)
        .post("/users/{id}", users::change)
        .get("/users/{id}/remove", users::ask_remove)
        .post("/users/{id}/remove", users::remove)
}

/// Has the browser load another page of this portal, after something was done.
fn redirect(to: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let to = HeaderValue::from_str(to).unwrap_or(HeaderValue::from_static("/"));
    response.headers_mut().insert(header::LOCATION, to);
    response
}
