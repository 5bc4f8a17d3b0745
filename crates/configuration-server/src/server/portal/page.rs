//! What all pages have: their frame, how they are answered, and pages that say what went wrong.

use super::fields::Fields;
use super::ui::{Moment, Tone};
use super::{assets, live, ui};
use crate::access::{Caller, Role};
use crate::server::actions::{Actor, Changed};
use crate::server::changes::{Counts, Topic};
use crate::server::{Peer, Shared, internal};
use askama::Template;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use control_api::time::{self, Time};
use control_api::{ApiError, ErrorCode, Failure};
use rusqlite::{Connection, Transaction};
use std::sync::Arc;

/// The pages that stand in the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Overview,
    Infrastructure,
    Items,
    Jobs,
    Policies,
    Events,
    Users,
}

impl Section {
    const ALL: [Section; 7] = [
        Section::Overview,
        Section::Infrastructure,
        Section::Items,
        Section::Jobs,
        Section::Policies,
        Section::Events,
        Section::Users,
    ];

    /// Its icon.
    pub(super) fn id(self) -> &'static str {
        match self {
            Section::Overview => "overview",
            Section::Infrastructure => "infrastructure",
            Section::Items => "items",
            Section::Jobs => "jobs",
            Section::Policies => "policies",
            Section::Events => "events",
            Section::Users => "users",
        }
    }

    pub(super) fn path(self) -> &'static str {
        match self {
            Section::Overview => "/",
            Section::Infrastructure => "/infrastructure",
            Section::Items => "/items",
            Section::Jobs => "/jobs",
            Section::Policies => "/policies",
            Section::Events => "/events",
            Section::Users => "/users",
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Section::Overview => "Overview",
            Section::Infrastructure => "Infrastructure",
            Section::Items => "Replicated items",
            Section::Jobs => "Jobs",
            Section::Policies => "Policies",
            Section::Events => "Events",
            Section::Users => "Users",
        }
    }
}

/// What came of what was asked for before this page.
pub(super) struct Notice {
    pub(super) tone: Tone,
    pub(super) text: &'static str,
}

/// What each page has.
pub(super) struct Frame {
    pub(super) title: String,
    pub(super) here: Section,
    /// What has to change for the page to be loaded anew.
    pub(super) topics: &'static str,
    /// What it shows is at least so new; [`live`](super::live) tells what has changed since.
    pub(super) seen: String,
    pub(super) notice: Option<Notice>,
    pub(super) assets: &'static assets::Paths,
    pub(super) now: Time,
    pub(super) version: String,
    pub(super) user: String,
    pub(super) role: Role,
    pub(super) csrf: String,
}

impl Frame {
    pub(super) fn now_iso(&self) -> String {
        time::format(self.now)
    }

    pub(super) fn moment(&self) -> Moment {
        Moment(self.now)
    }

    /// What the user may look at.
    pub(super) fn sections(&self) -> Vec<Section> {
        let may = |section: &Section| *section != Section::Users || self.role == Role::Administrator;
        Section::ALL.into_iter().filter(may).collect()
    }
}

/// Somebody who looks at a page or sends a form.
pub(super) struct Visit {
    pub(super) shared: Arc<Shared>,
    pub(super) caller: Caller,
    /// What stands behind the question mark.
    pub(super) query: Fields,
    pub(super) now: Time,
    /// Taken before anything is read.
    seen: Counts,
    address: String,
}

impl FromRequestParts<Arc<Shared>> for Visit {
    type Rejection = <Caller as FromRequestParts<Arc<Shared>>>::Rejection;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Visit, Self::Rejection> {
        let seen = shared.changes.counts();
        let caller = Caller::from_request_parts(parts, shared).await?;
        let query = Fields::parse(parts.uri.query().unwrap_or_default());
        let peer = parts.extensions.get::<Arc<Peer>>();
        let address = peer.map_or(String::new(), |peer| peer.address.to_string());
        Ok(Visit { shared: shared.clone(), caller, query, now: shared.now(), seen, address })
    }
}

impl Visit {
    /// The frame of a page; `topics` are those that it shows something of.
    pub(super) fn frame(&self, here: Section, title: impl Into<String>, topics: &'static str) -> Frame {
        Frame {
            title: title.into(),
            here,
            topics,
            seen: live::words(&self.seen),
            notice: notice(self.query.get("done")),
            assets: assets::paths(),
            now: self.now,
            version: self.shared.environment.version.clone(),
            user: self.caller.name.clone(),
            role: self.caller.role,
            csrf: self.caller.csrf.clone(),
        }
    }

    pub(super) fn may(&self, role: Role) -> bool {
        self.caller.role >= role
    }

    /// Reads from the store.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Problem> {
        let read = self.shared.store.read(move |connection| Ok(work(connection)?)).await;
        read.map_err(|error| Problem(internal(&error)))
    }

    /// Changes the store as an [action](crate::server::actions) does.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        topics: &[Topic],
        work: impl FnOnce(&Transaction<'_>) -> Changed<T> + Send + 'static,
    ) -> Result<T, Problem> {
        let actor = Actor { shared: &self.shared, caller: &self.caller, address: &self.address };
        Ok(actor.change(topics, work).await?)
    }
}

/// What a page says after something was done; only what stands here can be said, whatever a link asks for.
fn notice(id: &str) -> Option<Notice> {
    let text = match id {
        "ordered" => "The job is ordered. This page follows it.",
        "cancelled" => "The job is asked to end; it does so where that is safe.",
        "settings" => "Saved.",
        "policy" => "The policy is saved.",
        "policy-removed" => "The policy is removed.",
        "group" => "The group is made. Choose it on the page of each item that belongs to it.",
        "group-removed" => "The group is removed.",
        "user" => "The user is saved.",
        "user-removed" => "The user is removed, and logged out everywhere.",
        "revoked" => "The registration is revoked. The host can register again with the passphrase.",
        _ => return None,
    };
    Some(Notice { tone: Tone::Ok, text })
}

/// A form that was sent.
pub(super) struct Form(pub(super) Fields);

impl FromRequest<Arc<Shared>> for Form {
    type Rejection = Problem;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Result<Form, Problem> {
        let refused = |cause: axum::extract::rejection::BytesRejection| {
            let next = "go back and send it again";
            let why = cause.body_text();
            Problem(ApiError::new(ErrorCode::BadRequest, "the form", "it cannot be read", why, next))
        };
        let body = Bytes::from_request(request, shared).await.map_err(refused)?;
        Ok(Form(Fields::parse(&String::from_utf8_lossy(&body))))
    }
}

/// A page as an answer.
pub(super) fn show(page: &impl Template) -> Result<Response, Problem> {
    answer(StatusCode::OK, page)
}

/// A page as an answer with this status.
pub(super) fn answer(status: StatusCode, page: &impl Template) -> Result<Response, Problem> {
    let html = page.render().map_err(|cause| Problem(internal(&anyhow::Error::new(cause))))?;
    Ok(html_response(status, html))
}

fn html_response(status: StatusCode, html: String) -> Response {
    let mut response = Response::new(Body::from(html));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Something that was not done, as a page.
#[derive(Debug)]
pub(crate) struct Problem(pub(crate) ApiError);

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Problem {
        Problem(error)
    }
}

impl Problem {
    /// There is no such thing (any more).
    pub(super) fn missing(object: &str, list: &str) -> Problem {
        let shown: String = object.chars().take(80).collect();
        let next = format!("look for it among {list}");
        let why = "it was removed, or the address was mistyped";
        Problem(ApiError::new(ErrorCode::NotFound, shown, "it is not there", why, next))
    }
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage<'a> {
    assets: &'static assets::Paths,
    title: &'static str,
    tone: Tone,
    failure: &'a Failure,
    back: &'static str,
    back_title: &'static str,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Problem(error) = self;
        let (title, tone) = match error.code {
            ErrorCode::NotFound => ("Nothing is here", Tone::Info),
            ErrorCode::Forbidden => ("You may not do this", Tone::Warning),
            ErrorCode::Conflict => ("It does not go with what is there", Tone::Warning),
            ErrorCode::Internal => ("Something failed here", Tone::Critical),
            ErrorCode::Busy | ErrorCode::LockedOut => ("Not now", Tone::Warning),
            _ => ("It was not done", Tone::Warning),
        };
        let page = ProblemPage {
            assets: assets::paths(),
            title,
            tone,
            failure: &error.failure,
            back: "/",
            back_title: "To the overview",
        };
        let status = StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        html_response(status, page.render().unwrap_or_else(|_| ui::escaped(&error.to_string())))
    }
}

/// The part of a list that a page shows, and the ways to its neighbours.
#[derive(Clone, Template)]
#[template(path = "pager.html")]
pub(super) struct Pager {
    from: u64,
    to: u64,
    pub(super) total: u64,
    newer: Option<String>,
    older: Option<String>,
}

impl askama::filters::HtmlSafe for Pager {}

impl Pager {
    /// `page` counts from 1, and `key` is what the query calls it.
    pub(super) fn new(query: &Fields, key: &str, page: u32, size: u32, shown: usize, total: u64) -> Pager {
        let before = u64::from(page - 1) * u64::from(size);
        let to = before + shown as u64;
        let link = |page: u32| query.with(&[(key, &page.to_string()), ("done", "")]);
        Pager {
            from: (before + 1).min(to),
            to,
            total,
            newer: (page > 1).then(|| link(page - 1)),
            older: (to < total).then(|| link(page + 1)),
        }
    }
}

/// Which page a query asks for, from 1 on.
pub(super) fn page_number(query: &Fields, key: &str) -> u32 {
    query.number(key).unwrap_or(1u32).clamp(1, 100_000)
}

/// Something to choose in a form.
pub(super) struct Choice {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) chosen: bool,
}

impl Choice {
    pub(super) fn new(id: impl ToString, title: impl Into<String>, chosen: &str) -> Choice {
        let id = id.to_string();
        Choice { chosen: id == chosen, id, title: title.into() }
    }
}

/// Something that is known, with its name.
pub(super) struct Fact {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) time: Option<Moment>,
}

impl Fact {
    pub(super) fn new(name: &'static str, value: impl Into<String>) -> Fact {
        Fact { name, value: value.into(), time: None }
    }

    pub(super) fn at(name: &'static str, time: Time) -> Fact {
        Fact { name, value: String::new(), time: Some(Moment(time)) }
    }
}
