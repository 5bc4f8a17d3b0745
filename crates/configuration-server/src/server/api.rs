//! The routes, and how answers look.

use super::agent::{certificates, heartbeat, jobs, meet, registration};
use super::routes::Routes;
use super::{Peer, Shared, portal, rest, session};
use crate::access::{self, Access, Role};
use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::from_fn;
use axum::response::Response;
use axum::{Extension, Router};
use control_api::agent::{HEARTBEAT_PATH, JOBS_PATH, MEET_PATH, REPORT_PATH};
use control_api::registration::{FINISH_PATH, MAX_BODY, RENEW_PATH, START_PATH, UNREGISTER_PATH, decode};
use control_api::{ApiError, ErrorCode, PRODUCT, ServerVersion, VERSION_PATH};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::pin::Pin;
use std::sync::Arc;

/// A body, or why there is none.
pub(super) type Received = Result<Bytes, BytesRejection>;

/// Where people log in and out.
const SESSION_PATH: &str = "/api/v1/session";

/// What answers each request.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    routes()
        .into_router(&shared)
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn(access::strict))
        .with_state(shared)
}

/// All routes.
pub(super) fn routes() -> Routes {
    let routes = Routes::default()
        .answering(Access::Everybody)
        .get(VERSION_PATH, version)
        .post(START_PATH, call(registration::start))
        .post(FINISH_PATH, call(registration::finish))
        .post(SESSION_PATH, session::begin)
        .answering(Access::Hosts)
        .post(RENEW_PATH, call(certificates::renew))
        .post(UNREGISTER_PATH, call(certificates::end))
        .post(HEARTBEAT_PATH, heartbeat::take)
        .post(JOBS_PATH, call(jobs::wait))
        .post(REPORT_PATH, call(jobs::report))
        .post(MEET_PATH, call(meet::meet))
        .answering(Access::People(Role::Reader))
        .get(SESSION_PATH, session::show)
        .delete(SESSION_PATH, session::end);
    portal::routes(rest::routes(routes))
}

/// An answer that is on its way.
type Answering = Pin<Box<dyn Future<Output = Response> + Send>>;

/// What a handler knows beside the request.
#[derive(Clone)]
pub(super) struct Here {
    pub(super) shared: Arc<Shared>,
    pub(super) peer: Arc<Peer>,
}

async fn version(State(shared): State<Arc<Shared>>) -> Response {
    let version = shared.environment.version.clone();
    answer(Ok(ServerVersion { product: PRODUCT.to_owned(), version }))
}

/// Makes a handler of bodies out of one of requests.
fn call<T, A, F>(
    handler: fn(Here, T) -> F,
) -> impl Fn(State<Arc<Shared>>, Extension<Arc<Peer>>, Received) -> Answering + Clone + Send + Sync + 'static
where
    T: DeserializeOwned + Send + 'static,
    A: Serialize + 'static,
    F: Future<Output = Result<A, ApiError>> + Send + 'static,
{
    move |State(shared), Extension(peer), body| {
        Box::pin(async move {
            match request(body) {
                Ok(request) => answer(handler(Here { shared, peer }, request).await),
                Err(refused) => answer::<A>(Err(refused)),
            }
        })
    }
}

/// What a body says.
pub(crate) fn request<T: DeserializeOwned>(body: Received) -> Result<T, ApiError> {
    let body = body.map_err(|cause| bad_request(cause.body_text()))?;
    decode(&body).map_err(bad_request)
}

/// The refusal of a request that has not its form.
pub(crate) fn bad_request(why: impl std::fmt::Display) -> ApiError {
    ApiError::new(
        ErrorCode::BadRequest,
        "the request",
        "it is not understood",
        why,
        "install the same release on both machines; docs/formats/registration.md describes each request",
    )
}

/// What is answered when the server itself fails; what failed is in its log.
pub(crate) fn internal(error: &anyhow::Error) -> ApiError {
    tracing::error!("{error:#}");
    ApiError::new(
        ErrorCode::Internal,
        "the configuration server",
        "it could not do what it was asked",
        "something failed there",
        "look into its log (journalctl -u master-target-configserver), then try again",
    )
}

async fn not_found(uri: Uri) -> Response {
    let refused = ApiError::new(
        ErrorCode::NotFound,
        uri.path().chars().take(100).collect::<String>(),
        "there is nothing under this path",
        "this version of the configuration server does not know it",
        "compare the versions of both machines",
    );
    access::refusal(uri.path(), &refused)
}

async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    answer::<()>(Err(ApiError::new(
        ErrorCode::MethodNotAllowed,
        uri.path().chars().take(100).collect::<String>(),
        format!("there is no {} here", method.as_str().chars().take(20).collect::<String>()),
        "this version of the configuration server does not know this method under this path",
        "compare the versions of both machines; the header Allow names the methods",
    )))
}

/// An answer in JSON.
pub(crate) fn answer<T: Serialize>(outcome: Result<T, ApiError>) -> Response {
    let (status, body) = match &outcome {
        Ok(answer) => (200, serde_json::to_vec(answer)),
        Err(refused) => (refused.code.status(), serde_json::to_vec(refused)),
    };
    let mut response = Response::new(Body::from(body.unwrap_or_default()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::tests::{Client, user};

    /// Path of a route, with something in place of what varies.
    fn example(path: &str) -> String {
        let varies = |part: &str| if part.starts_with('{') { "1".to_owned() } else { part.to_owned() };
        path.split('/').map(varies).collect::<Vec<_>>().join("/")
    }

    /// What is for everybody: a route that joins these has to be added here.
    const OPEN: [(&str, &str); 6] = [
        ("get", VERSION_PATH),
        ("post", START_PATH),
        ("post", FINISH_PATH),
        ("post", SESSION_PATH),
        ("get", "/login"),
        ("post", "/login"),
    ];

    #[tokio::test]
    async fn a_stranger_is_told_nothing() {
        let client = Client::new();
        for (method, path, access) in routes().listed() {
            if access == Access::Everybody {
                let open = OPEN.contains(&(method, path)) || path.starts_with("/static/");
                assert!(open, "{method} {path} is for everybody");
                continue;
            }
            let (method, path) = (method.to_uppercase(), example(path));
            for headers in [&[][..], &[("authorization", "Bearer 00")], &[("cookie", "__Host-session=00")]] {
                let answer = client.send(&method, &path, headers, "").await;
                let api = path.starts_with("/api/");
                let login = answer.status == 303 && answer.headers["location"] == "/login";
                assert!(if api { answer.status == 401 } else { login }, "{method} {path}: {}", answer.status);
                let error: Option<ApiError> = serde_json::from_str(&answer.body).ok();
                assert!(error.is_some() == api && (api || answer.body.is_empty()), "{}", answer.body);
            }
        }
    }

    #[tokio::test]
    async fn a_lesser_role_is_refused_everywhere() {
        let client = Client::new();
        let reader = user(&client, "reader", Role::Reader).await;
        let bearer = format!("Bearer {}", reader.token);
        for (method, path, access) in routes().listed() {
            if matches!(access, Access::People(role) if role > Role::Reader) {
                let (method, path) = (method.to_uppercase(), example(path));
                let answer = client.send(&method, &path, &[("authorization", &bearer)], "").await;
                assert_eq!(answer.status, 403, "{method} {path}: {}", answer.body);
            }
        }
    }
}
