//! Hosts that do something at one moment wait for each other.

use super::certificates::presenter;
use crate::server::Shared;
use crate::server::api::{Here, bad_request, internal};
use crate::store::jobs::{self, Seat};
use control_api::agent::{MeetReply, MeetRequest, MeetStage};
use control_api::{ApiError, ErrorCode};
use std::collections::BTreeMap;
use tokio::time::{Instant, sleep_until};

/// Answers when all members of the meeting are at this stage, or when the time is over.
pub(in crate::server) async fn meet(here: Here, request: MeetRequest) -> Result<MeetReply, ApiError> {
    let until = Instant::now() + request.at.longest();
    request.host.check().map_err(bad_request)?;
    request.check().map_err(bad_request)?;
    let shared = here.shared.clone();
    let MeetRequest { meeting, at, .. } = request.clone();
    let (host, members) = match seat(here, request).await? {
        (host, Seat::Members(members)) => (host, members),
        (_, Seat::Done) => return Ok(MeetReply::Done),
        (_, Seat::Over(why)) => {
            let next = "look at that job, and order the bookmark of the group again";
            return Err(refused(ErrorCode::Conflict, &meeting, "it comes to nothing", &why, next));
        }
        (_, Seat::None) => {
            let why = "this host has no open job of it";
            let next = "order the bookmark of the group again";
            return Err(refused(ErrorCode::NotFound, &meeting, "it is not a member", why, next));
        }
    };
    let Some(told) = shared.meetings.arrive(&meeting, host, at.clone(), &members) else {
        let why = "there are too many at once";
        return Err(refused(ErrorCode::Busy, &meeting, "it cannot begin", why, "try again in a minute"));
    };
    let mut stopped = shared.stopped();
    tokio::select! {
        biased;
        told = told => return Ok(told.unwrap_or_else(|_| missed("another request of this host came after it"))),
        () = sleep_until(until) => {}
        _ = stopped.wait_for(|stopped| *stopped) => return Ok(missed("the configuration server stops")),
    }
    Ok(late(&shared, &meeting, &at, host, members))
}

/// The row of the host that asks, and what it finds.
async fn seat(here: Here, request: MeetRequest) -> Result<(i64, Seat), ApiError> {
    let (now, presented) = (here.shared.now(), here.peer.certificate.clone());
    let found = here.shared.store.read(move |connection| {
        let known = match presenter(connection, presented.as_deref(), &request.host, now)? {
            Ok(known) => known,
            Err(refused) => return Ok(Err(refused)),
        };
        Ok(Ok((known.row, jobs::seat(connection, known.row, &request.meeting)?)))
    });
    found.await.map_err(|error| internal(&error))?
}

/// What a host is told that has waited as long as it may.
fn late(
    shared: &Shared,
    meeting: &str,
    at: &MeetStage,
    host: i64,
    members: BTreeMap<i64, String>,
) -> MeetReply {
    let others = members.into_iter().filter(|(member, _)| *member != host).collect();
    let absent = shared.meetings.absent(meeting, at, &others).join(", ");
    match at {
        MeetStage::Gathered { .. } => missed(&format!("not there yet: {absent}")),
        MeetStage::Ready { .. } => missed(&format!("not ready in time: {absent}")),
        MeetStage::Held { .. } => missed(&format!("did not pause in time: {absent}")),
    }
}

fn missed(why: &str) -> MeetReply {
    MeetReply::Missed { why: why.to_owned() }
}

fn refused(code: ErrorCode, meeting: &str, what: &str, why: &str, next: &str) -> ApiError {
    ApiError::new(code, format!("meeting {meeting}"), what, why, next)
}
