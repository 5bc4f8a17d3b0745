//! Logging in and out.

use super::fields::Fields;
use super::page::{Form, Problem, answer};
use super::{assets, redirect};
use crate::access::{self, Password};
use crate::server::{Peer, Shared};
use askama::Template;
use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use control_api::{ErrorCode, Failure};
use std::sync::Arc;

#[derive(Template)]
#[template(path = "login.html")]
struct Page {
    assets: &'static assets::Paths,
    failure: Option<Failure>,
    notice: Option<&'static str>,
    name: String,
    version: String,
}

/// `GET /login`.
pub(super) async fn page(
    State(shared): State<Arc<Shared>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let query = Fields::parse(query.as_deref().unwrap_or_default());
    let notice = (query.get("done") == "logged-out").then_some("You are logged out.");
    answer(StatusCode::OK, &login(&shared, None, notice, ""))
}

fn login(shared: &Shared, failure: Option<Failure>, notice: Option<&'static str>, name: &str) -> Page {
    let version = shared.environment.version.clone();
    Page { assets: assets::paths(), failure, notice, name: name.chars().take(64).collect(), version }
}

/// `POST /login`.
pub(super) async fn log_in(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Arc<Peer>>,
    Form(form): Form,
) -> Result<Response, Problem> {
    let name = form.get("name");
    let password = Password::from(form.exact("password").to_owned());
    match access::log_in(&shared, peer.address, name, password).await {
        Ok(session) => {
            let mut response = redirect("/");
            response.headers_mut().insert(header::SET_COOKIE, access::cookie(&session));
            Ok(response)
        }
        Err(error) if error.code == ErrorCode::Internal => Err(Problem(error)),
        Err(error) => {
            let status = StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::UNAUTHORIZED);
            answer(status, &login(&shared, Some(error.failure), None, name))
        }
    }
}

/// `POST /logout`.
pub(super) async fn log_out(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Arc<Peer>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let forget = access::log_out(&shared, peer.address, &headers).await?;
    let mut response = redirect("/login?done=logged-out");
    response.headers_mut().insert(header::SET_COOKIE, forget);
    Ok(response)
}
