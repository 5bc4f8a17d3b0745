//! Orders, and what becomes of them.

use super::certificates::presenter;
use crate::server::api::{Here, bad_request, internal};
use crate::server::changes::Topic;
use crate::server::{Peer, Shared};
use crate::store::jobs::{self, Noted};
use anyhow::Result;
use control_api::ApiError;
use control_api::agent::{JobReport, JobsReply, JobsRequest, ReportReply, ReportRequest};
use control_api::registration::Host;
use control_api::time::Time;
use rusqlite::{Connection, TransactionBehavior};
use std::time::Duration;
use tokio::time::Instant;

/// The longest that an answer waits for something to tell.
const MAX_WAIT: u64 = 30;

/// Answers as soon as there is something to tell, or when the time is over.
pub(in crate::server) async fn wait(here: Here, request: JobsRequest) -> Result<JobsReply, ApiError> {
    let Here { shared, peer } = here;
    request.host.check().map_err(bad_request)?;
    request.check().map_err(bad_request)?;
    let until = Instant::now() + Duration::from_secs(request.wait_seconds.min(MAX_WAIT));
    let host = due(&shared, &peer, &request).await?.host;
    let bell = shared.attendance.bell(host);
    let mut stopped = shared.stopped();
    loop {
        // Whoever rings from here on is heard.
        let rung = bell.notified();
        let due = due(&shared, &peer, &request).await?;
        let mut pause = until.saturating_duration_since(Instant::now());
        if due.reply != JobsReply::default() {
            match shared.attendance.too_soon(host, &due.reply) {
                Duration::ZERO => {
                    let reply = hand_out(&shared, due).await.map_err(|error| internal(&error))?;
                    if reply != JobsReply::default() {
                        shared.attendance.told(host, &reply);
                        return Ok(reply);
                    }
                    continue;
                }
                left => pause = pause.min(left),
            }
        }
        if pause.is_zero() || *stopped.borrow() {
            return Ok(JobsReply::default());
        }
        tokio::select! {
            () = rung => {}
            () = tokio::time::sleep(pause) => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
    }
}

/// What there is to tell a host.
struct Due {
    host: i64,
    reply: JobsReply,
    /// Whether some order is in it that was never handed out.
    untold: bool,
}

async fn due(shared: &Shared, peer: &Peer, request: &JobsRequest) -> Result<Due, ApiError> {
    let (now, presented) = (shared.now(), peer.certificate.clone());
    let JobsRequest { host, running, .. } = request.clone();
    let found = shared.store.read(move |connection| {
        let known = match presenter(connection, presented.as_deref(), &host, now)? {
            Ok(known) => known,
            Err(refused) => return Ok(Err(refused)),
        };
        let reply = jobs::due(connection, known.row, &running)?;
        let untold = jobs::untold(connection, &reply.orders)?;
        Ok(Ok(Due { host: known.row, reply, untold }))
    });
    found.await.map_err(|error| internal(&error))?
}

/// Writes down that the orders are handed out, since from then on only the host knows whether it has begun.
async fn hand_out(shared: &Shared, due: Due) -> Result<JobsReply> {
    let (mut reply, now) = (due.reply, shared.now());
    if !due.untold {
        return Ok(reply);
    }
    shared
        .store
        .with(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            jobs::tell(&transaction, &mut reply.orders, now)?;
            transaction.commit()?;
            Ok(reply)
        })
        .await
}

/// Takes what becomes of a job. Its end is on the disk before it is confirmed; what came before that is told again anyway.
pub(in crate::server) async fn report(here: Here, request: ReportRequest) -> Result<ReportReply, ApiError> {
    let Here { shared, peer } = here;
    let ReportRequest { host, report } = request;
    host.check().map_err(bad_request)?;
    report.check().map_err(bad_request)?;
    let (now, presented) = (shared.now(), peer.certificate.clone());
    let ended = report.state.has_ended();
    let work =
        move |connection: &mut Connection| noted(connection, presented.as_deref(), &host, &report, now);
    let noted = match ended {
        true => shared.store.with(work).await,
        false => shared.store.note(work).await,
    };
    let noted = noted.map_err(|error| internal(&error))??;
    if noted.changed {
        shared.changes.tell(Topic::Jobs);
    }
    if noted.changed && ended {
        shared.changes.tell(Topic::Events);
    }
    Ok(ReportReply { cancel: noted.cancel })
}

fn noted(
    connection: &mut Connection,
    presented: Option<&[u8]>,
    host: &Host,
    report: &JobReport,
    now: Time,
) -> Result<Result<Noted, ApiError>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let known = match presenter(&transaction, presented, host, now)? {
        Ok(known) => known,
        Err(refused) => return Ok(Err(refused)),
    };
    let noted = jobs::report(&transaction, known.row, report, now)?;
    transaction.commit()?;
    Ok(noted)
}
