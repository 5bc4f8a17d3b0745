//! One request of a person's program, and its answer.

use super::super::actions::{Actor, Changed, missing};
use super::super::api::Received;
use super::super::changes::Topic;
use super::super::{Peer, Shared, answer, bad_request, internal};
use super::fields::{Fields, Parameters};
use crate::access::Caller;
use axum::body::Body;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use control_api::ApiError;
use control_api::time::Time;
use rusqlite::{Connection, Transaction};
use serde::Serialize;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

/// What comes of a request.
pub(super) type Answer = Result<Reply, ApiError>;

/// A request of somebody who may make it.
pub(super) struct Call {
    pub(super) shared: Arc<Shared>,
    pub(super) caller: Caller,
    address: String,
    id: String,
    query: Result<Parameters, ApiError>,
    body: Result<Fields, ApiError>,
}

/// An answer that is no refusal.
pub(super) struct Reply {
    status: StatusCode,
    location: Option<String>,
    body: Option<Vec<u8>>,
}

/// A list in an answer.
#[derive(Serialize)]
struct List<T> {
    /// Entries that there are, in this answer and beyond it.
    total: u64,
    entries: Vec<T>,
}

/// The newest part of a list that grows at its front.
#[derive(Serialize)]
struct Newest<T> {
    entries: Vec<T>,
    /// What the parameter `before` has to be for the entries that follow; null when there are no more.
    next: Option<i64>,
}

impl Reply {
    /// 200, with this.
    pub(super) fn of<T: Serialize>(body: &T) -> Answer {
        let body = serde_json::to_vec(body).map_err(|cause| internal(&cause.into()))?;
        Ok(Reply { status: StatusCode::OK, location: None, body: Some(body) })
    }

    /// 201, with what was made and where it is.
    pub(super) fn made<T: Serialize>(location: String, body: &T) -> Answer {
        let reply = Reply::of(body)?;
        Ok(Reply { status: StatusCode::CREATED, location: Some(location), ..reply })
    }

    /// 204.
    pub(super) fn nothing() -> Answer {
        Ok(Reply { status: StatusCode::NO_CONTENT, location: None, body: None })
    }

    /// Part of a list.
    pub(super) fn list<T: Serialize>(total: u64, entries: Vec<T>) -> Answer {
        Reply::of(&List { total, entries })
    }

    /// Entries, the newest first; when there are `limit` of them, more may follow. `id` is what `before` compares with.
    pub(super) fn newest<T: Serialize>(entries: Vec<T>, limit: u64, id: fn(&T) -> i64) -> Answer {
        let is_full = u64::try_from(entries.len()).is_ok_and(|count| count >= limit);
        let next = entries.last().filter(|_| is_full).map(id);
        Reply::of(&Newest { entries, next })
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = Response::new(self.body.map_or_else(Body::empty, Body::from));
        *response.status_mut() = self.status;
        if self.status != StatusCode::NO_CONTENT {
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
        }
        if let Some(location) = self.location.and_then(|location| HeaderValue::try_from(location).ok()) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }
}

impl Call {
    pub(super) fn now(&self) -> Time {
        self.shared.now()
    }

    /// The parameters of the query.
    pub(super) fn query(&mut self) -> Result<Parameters, ApiError> {
        std::mem::replace(&mut self.query, Parameters::of(""))
    }

    /// Refuses any parameter.
    pub(super) fn no_query(&mut self) -> Result<(), ApiError> {
        self.query()?.finish()
    }

    /// The fields of the body.
    pub(super) fn body(&mut self) -> Result<Fields, ApiError> {
        std::mem::replace(&mut self.body, Fields::of(b"{}"))
    }

    /// The id in the path.
    pub(super) fn id(&self) -> String {
        self.id.clone()
    }

    /// The id in the path, of a kind of thing that is numbered.
    pub(super) fn number(&self, kind: &str) -> Result<i64, ApiError> {
        let digits = self.id.bytes().all(|byte| byte.is_ascii_digit());
        let number = self.id.parse().ok().filter(|number: &i64| digits && *number > 0);
        number.ok_or_else(|| missing(kind, &self.id))
    }

    /// Reads the store.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> anyhow::Result<T> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.shared.store.read(work).await.map_err(|error| internal(&error))
    }

    /// Changes the store as an [action](super::super::actions) does.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        topics: &[Topic],
        work: impl FnOnce(&Transaction<'_>) -> Changed<T> + Send + 'static,
    ) -> Result<T, ApiError> {
        let actor = Actor { shared: &self.shared, caller: &self.caller, address: &self.address };
        actor.change(topics, work).await
    }
}

/// An answer that is on its way.
type Answering = Pin<Box<dyn Future<Output = Response> + Send>>;

/// A request without its body.
pub(super) struct Head {
    caller: Caller,
    address: String,
    id: String,
    query: Result<Parameters, ApiError>,
    is_json: bool,
}

impl FromRequestParts<Arc<Shared>> for Head {
    type Rejection = <Caller as FromRequestParts<Arc<Shared>>>::Rejection;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Head, Self::Rejection> {
        let caller = Caller::from_request_parts(parts, shared).await?;
        // A path that cannot be read leads to nothing that there is.
        let path = Path::<HashMap<String, String>>::from_request_parts(parts, shared).await;
        let id = path.ok().and_then(|Path(mut path)| path.remove("id")).unwrap_or_default();
        let peer = parts.extensions.get::<Arc<Peer>>();
        let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default();
        Ok(Head {
            caller,
            address: peer.map(|peer| peer.address.to_string()).unwrap_or_default(),
            id,
            query: Parameters::of(parts.uri.query().unwrap_or_default()),
            is_json: kind.trim() == "application/json",
        })
    }
}

/// Makes a handler of requests out of one of calls.
pub(super) fn call<F>(
    handler: fn(Call) -> F,
) -> impl Fn(State<Arc<Shared>>, Head, Received) -> Answering + Clone + Send + Sync + 'static
where
    F: Future<Output = Answer> + Send + 'static,
{
    move |State(shared), head, body| {
        Box::pin(async move {
            let body = match head.is_json {
                true => {
                    body.map_err(|cause| bad_request(cause.body_text())).and_then(|body| Fields::of(&body))
                }
                false => Err(bad_request("its Content-Type is not application/json")),
            };
            let Head { caller, address, id, query, .. } = head;
            match handler(Call { shared, caller, address, id, query, body }).await {
                Ok(reply) => reply.into_response(),
                Err(refused) => answer::<()>(Err(refused)),
            }
        })
    }
}
