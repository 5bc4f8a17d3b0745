//! Heartbeats.
//!
//! A heartbeat may be long, so only a host whose certificate counts may send one, and few are taken at once: that bounds
//! the memory, however many hosts there are.

use super::certificates::presenter;
use crate::fleet::ingest::{Incoming, Manner, Taken};
use crate::server::api::{answer, bad_request, internal};
use crate::server::changes::Topic;
use crate::server::{Peer, Shared};
use crate::store::{hosts, policies};
use anyhow::Result;
use axum::Extension;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::response::Response;
use control_api::agent::{GivenPolicy, Heartbeat, HeartbeatReply, MAX_HEARTBEAT};
use control_api::registration::{Hex, Host, HostKind, decode_within};
use control_api::time::Time;
use control_api::{ApiError, ErrorCode};
use rusqlite::{Connection, TransactionBehavior};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Heartbeats that are read or taken at once.
pub(crate) const AT_ONCE: usize = 32;
/// How long one waits for its turn.
const TURN_LIMIT: Duration = Duration::from_secs(10);
/// How long its body may take.
const BODY_LIMIT: Duration = Duration::from_secs(15);
/// Of a body that is too long so much is read, so that its sender gets to read why it is refused.
const READ_LIMIT: usize = 4 * MAX_HEARTBEAT;

/// Takes a heartbeat.
pub(in crate::server) async fn take(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Arc<Peer>>,
    request: Request,
) -> Response {
    answer(taken(&shared, &peer, request.into_body()).await)
}

async fn taken(shared: &Arc<Shared>, peer: &Peer, body: Body) -> Result<HeartbeatReply, ApiError> {
    if peer.host(shared).await.map_err(|error| internal(&error))?.is_none() {
        return Err(not_registered());
    }
    let Ok(Ok(_turn)) = timeout(TURN_LIMIT, shared.heartbeats.acquire()).await else { return Err(busy()) };
    let body = match timeout(BODY_LIMIT, read(body)).await {
        Ok(read) => read?,
        Err(_) => return Err(bad_request(format!("its body did not come within {BODY_LIMIT:?}"))),
    };
    let heartbeat: Heartbeat = decode_within(&body, MAX_HEARTBEAT).map_err(bad_request)?;
    drop(body);
    heartbeat.host.check().map_err(bad_request)?;
    heartbeat.check().map_err(bad_request)?;
    let (now, host) = (shared.now(), heartbeat.host.clone());
    let has_items = !heartbeat.items.is_empty();
    let incoming = Arc::new(Incoming::new(heartbeat, &shared.environment.version, now));
    let written = write(shared, peer, &incoming, host, now).await.map_err(|error| internal(&error))??;
    shared.attendance.heard(written.row);
    shared.changes.tell(Topic::Hosts);
    if has_items || written.news {
        shared.changes.tell(Topic::Items);
    }
    if written.news {
        shared.changes.tell(Topic::Events);
    }
    Ok(HeartbeatReply {
        time: now,
        interval_seconds: shared.config.heartbeat_seconds,
        want_points: written.want_points,
        revoked: written.revoked,
        policies: written.policies,
        application_consistent_every_seconds: written.every_seconds,
    })
}

/// The whole body, as long as it is allowed to be.
async fn read(mut body: Body) -> Result<Vec<u8>, ApiError> {
    let (mut bytes, mut length) = (Vec::new(), 0);
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let Ok(data) = frame.map_err(bad_request)?.into_data() else { continue };
        length += data.len();
        match length {
            0..=MAX_HEARTBEAT => bytes.extend_from_slice(&data),
            _ if length > READ_LIMIT => break,
            _ => bytes = Vec::new(),
        }
    }
    match length <= MAX_HEARTBEAT {
        true => Ok(bytes),
        false => Err(bad_request(format!("it is longer than {MAX_HEARTBEAT} bytes"))),
    }
}

/// What is answered from.
struct Written {
    row: i64,
    news: bool,
    want_points: bool,
    revoked: Vec<Hex>,
    policies: Vec<GivenPolicy>,
    every_seconds: Option<u64>,
}

/// Writes a heartbeat down: without waiting for the disk, unless it tells something that must not be lost.
async fn write(
    shared: &Shared,
    peer: &Peer,
    incoming: &Arc<Incoming>,
    host: Host,
    now: Time,
) -> Result<Result<Written, ApiError>> {
    let work = |manner| {
        let (incoming, host, presented) = (incoming.clone(), host.clone(), peer.certificate.clone());
        move |connection: &mut Connection| {
            written(connection, &incoming, presented.as_deref(), &host, manner, now)
        }
    };
    match shared.store.note(work(Manner::Quick)).await? {
        Ok(Some(written)) => return Ok(Ok(written)),
        Ok(None) => {}
        Err(refused) => return Ok(Err(refused)),
    }
    let written = shared.store.with(work(Manner::Durable)).await?;
    Ok(written.and_then(|written| written.ok_or_else(busy)))
}

/// `None` when it has to be written durably.
fn written(
    connection: &mut Connection,
    incoming: &Incoming,
    presented: Option<&[u8]>,
    host: &Host,
    manner: Manner,
    now: Time,
) -> Result<Result<Option<Written>, ApiError>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let known = match presenter(&transaction, presented, host, now)? {
        Ok(known) => known,
        Err(refused) => return Ok(Err(refused)),
    };
    let (news, want_points) = match incoming.take(&transaction, &known, manner)? {
        Taken::Written { news, want_points } => (news, want_points),
        Taken::MustBeDurable => return Ok(Ok(None)),
    };
    let (revoked, policies) = match known.kind {
        HostKind::MasterTarget => {
            (hosts::revoked(&transaction, now)?, policies::given(&transaction, known.row)?)
        }
        _ => (Vec::new(), Vec::new()),
    };
    let every_seconds = match incoming.protected_item() {
        Some(item) => policies::every_seconds(&transaction, &known.name, item)?,
        None => None,
    };
    transaction.commit()?;
    Ok(Ok(Some(Written { row: known.row, news, want_points, revoked, policies, every_seconds })))
}

fn not_registered() -> ApiError {
    ApiError::new(
        ErrorCode::NotRegistered,
        "this host",
        "it is not registered",
        "its certificate is not known, was revoked, or has expired",
        "register this host again",
    )
}

fn busy() -> ApiError {
    let mut refused = ApiError::new(
        ErrorCode::Busy,
        "the configuration server",
        "it does not take this heartbeat now",
        "too many come at once",
        "nothing has to be done: the next one tells the same",
    );
    refused.retry_after = Some(5);
    refused
}
