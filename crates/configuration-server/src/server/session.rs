//! `/api/v1/session`: programs log in, ask who they are, and log out.

use super::{Peer, Shared, answer, request};
use crate::access::{self, Caller, LoggedIn, Password, Role};
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::Response;
use control_api::ApiError;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::api::Received;

/// Who wants to log in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogIn {
    user: String,
    password: Password,
}

/// Who is logged in.
#[derive(Serialize)]
struct WhoAmI {
    user: String,
    role: Role,
    csrf: String,
}

/// `POST`: begins a session. No cookie is set, so no page can have a browser log in.
pub(super) async fn begin(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Arc<Peer>>,
    body: Received,
) -> Response {
    let outcome: Result<LoggedIn, ApiError> = async {
        let LogIn { user, password } = request(body)?;
        access::log_in(&shared, peer.address, &user, password).await
    }
    .await;
    answer(outcome)
}

/// `GET`: who is asking.
pub(super) async fn show(caller: Caller) -> Response {
    answer(Ok(WhoAmI { user: caller.name, role: caller.role, csrf: caller.csrf }))
}

/// `DELETE`: ends the session.
pub(super) async fn end(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Arc<Peer>>,
    headers: HeaderMap,
) -> Response {
    match access::log_out(&shared, peer.address, &headers).await {
        Ok(cookie) => {
            let mut response = answer(Ok(serde_json::json!({})));
            response.headers_mut().insert(header::SET_COOKIE, cookie);
            response
        }
        Err(refused) => answer::<()>(Err(refused)),
    }
}
