//! The guard in front of each route.
//!
//! Browsers add the cookie to a request whoever made it. So a request that comes with it and is not only for reading
//! must be sent by a page of this very server: its `Origin` says so, which no other page can forge, and it carries the
//! session's CSRF token, which no other page can read. `SameSite=Strict` says the same a third time. An `Origin` of
//! elsewhere is refused on every route, so nobody is logged in by a page of somebody else.

use super::headers::host;
use super::role::Role;
use super::session::{self, Credentials};
use crate::server::portal::Problem;
use crate::server::{Peer, Shared, answer};
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use control_api::registration::MAX_BODY;
use control_api::{ApiError, ErrorCode};
use ring::hmac;
use std::sync::Arc;

/// Header that carries the CSRF token.
const CSRF_HEADER: &str = "x-csrf-token";
/// Form field that does.
const CSRF_FIELD: &str = "csrf";
/// Header of what a page asks for by itself, to show things as they are: it keeps no session from ending.
const LIVE_HEADER: &str = "x-live";

/// Whom a route answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anybody.
    Everybody,
    /// Who presents a certificate of our authority; the handler asks the store whether it counts.
    Hosts,
    /// Users who have logged in and have this role or a greater one.
    People(Role),
}

/// Lets through whom the route answers, with the [`Caller`](super::Caller) among the extensions.
pub(crate) async fn guard(
    State((shared, access)): State<(Arc<Shared>, Access)>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().to_owned();
    let admitted = match access {
        Access::Everybody => from_here(&request).map(|()| request),
        Access::Hosts => certified(request),
        Access::People(role) => admit(&shared, role, request).await,
    };
    let private = access != Access::Everybody;
    match admitted {
        Ok(request) => {
            let mut response = next.run(request).await;
            if private {
                response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            }
            response
        }
        Err(refused) => refusal(&path, &refused),
    }
}

fn certified(request: Request) -> Result<Request, ApiError> {
    let peer = request.extensions().get::<Arc<Peer>>();
    match peer.is_some_and(|peer| peer.certificate.is_some()) {
        true => Ok(request),
        false => Err(ApiError::new(
            ErrorCode::NotRegistered,
            "this host",
            "it is not registered",
            "it presented no certificate",
            "register this host again",
        )),
    }
}

/// A request of a user with this role, with the caller in it.
async fn admit(shared: &Arc<Shared>, role: Role, mut request: Request) -> Result<Request, ApiError> {
    from_here(&request)?;
    let Some(credentials) = Credentials::of(request.headers()) else { return Err(not_logged_in()) };
    let Some(caller) =
        session::caller(shared, &credentials, !request.headers().contains_key(LIVE_HEADER)).await?
    else {
        return Err(not_logged_in());
    };
    if credentials.is_cookie() && !is_safe(request.method()) {
        if request.headers().get(header::ORIGIN).is_none() {
            return Err(forged("it does not say which page it comes from (Origin)"));
        }
        request = with_token(request, &caller.csrf).await?;
    }
    caller.require(role)?;
    request.extensions_mut().insert(caller);
    Ok(request)
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Refuses what a page of another server sends.
fn from_here(request: &Request) -> Result<(), ApiError> {
    if is_safe(request.method()) {
        return Ok(());
    }
    let mut origins = request.headers().get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else { return Ok(()) };
    let own = host(request.headers()).map(|host| format!("https://{host}"));
    let same = own.is_some_and(|own| origin.as_bytes().eq_ignore_ascii_case(own.as_bytes()));
    match same && origins.next().is_none() {
        true => Ok(()),
        false => Err(forged("it comes from a page of another server (Origin)")),
    }
}

/// Refuses a request without the session's CSRF token, in the header or in its form.
async fn with_token(request: Request, csrf: &str) -> Result<Request, ApiError> {
    let missing = || forged("it has not the CSRF token of this session");
    if let Some(given) = request.headers().get(CSRF_HEADER) {
        return alike(given.as_bytes(), csrf.as_bytes()).then_some(request).ok_or_else(missing);
    }
    if !is_form(request.headers()) {
        return Err(missing());
    }
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY).await.map_err(|cause| crate::server::bad_request(&cause))?;
    let mut fields = body.split(|byte| *byte == b'&');
    let given = fields.find_map(|field| field.strip_prefix(CSRF_FIELD.as_bytes())?.strip_prefix(b"="));
    match given.is_some_and(|given| alike(given, csrf.as_bytes())) {
        true => Ok(Request::from_parts(parts, Body::from(body))),
        false => Err(missing()),
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim() == "application/x-www-form-urlencoded")
}

/// Compares in a time that tells nothing about where they differ.
fn alike(one: &[u8], other: &[u8]) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"compare");
    hmac::verify(&key, one, hmac::sign(&key, other).as_ref()).is_ok()
}

fn forged(why: &str) -> ApiError {
    ApiError::new(
        ErrorCode::Forbidden,
        "the request",
        "it is refused, since no page of this portal seems to have sent it",
        why,
        "load the page again and repeat it; programs send the token as Authorization: Bearer instead of the cookie",
    )
}

fn not_logged_in() -> ApiError {
    ApiError::new(
        ErrorCode::NotLoggedIn,
        "the request",
        "nobody is logged in",
        "there is no session, or it has ended",
        "log in",
    )
}

/// A refusal as an answer: JSON below `/api/`; on pages the way to the log-in, or a page that says why.
pub(crate) fn refusal(path: &str, refused: &ApiError) -> Response {
    if path.starts_with("/api/") {
        return answer::<()>(Err(refused.clone()));
    }
    if refused.code == ErrorCode::NotLoggedIn {
        return Redirect::to("/login").into_response();
    }
    Problem(refused.clone()).into_response()
}

/// Why a handler got no [`Caller`](super::Caller).
#[derive(Debug)]
pub(crate) struct Refused(Box<Response>);

impl Refused {
    /// Nobody has logged in.
    pub(super) fn stranger(path: &str) -> Refused {
        Refused(Box::new(refusal(path, &not_logged_in())))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        *self.0
    }
}
