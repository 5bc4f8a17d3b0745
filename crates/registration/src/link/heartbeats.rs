//! The thread that tells how the machine is.

use super::Shared;
use super::hub::Lane;
use super::line::Line;
use super::pauses::{chance, until_next};
use super::session::Session;
use super::turns;
use crate::error::{Error, Result};
use crate::register::now;
use control_api::agent::{HEARTBEAT_PATH, HeartbeatReply, MAX_HEARTBEAT};
use control_api::time::{SECOND, Time};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Seconds between two heartbeats that a server may ask for.
const INTERVALS: std::ops::RangeInclusive<u64> = 1..=3600;
/// Two heartbeats are so far apart, however great the hurry.
const LEAST: Duration = Duration::from_secs(1);

pub(super) fn run(shared: &Arc<Shared>) {
    let hub = &shared.hub;
    let turn = |session: &Arc<Session>, line: &mut Line| {
        let begun = Instant::now();
        hub.hurry_taken();
        Ok((begun, beat(shared, session, line)?))
    };
    turns::take(shared, Lane::Heartbeats, turn, |session, (begun, reply)| {
        hub.well(Lane::Heartbeats);
        let seconds = reply.interval_seconds.clamp(*INTERVALS.start(), *INTERVALS.end());
        let next = begun + until_next(Duration::from_secs(seconds), chance());
        hub.until_heartbeat(session, begun + LEAST, next)
    });
}

fn beat(shared: &Shared, session: &Arc<Session>, line: &mut Line) -> Result<HeartbeatReply> {
    let host = shared.host(session)?;
    // A defect in what puts it together must not end the conversation.
    let made = catch_unwind(AssertUnwindSafe(|| shared.embedder.heartbeat(host)));
    let mut heartbeat = made.map_err(|_| Error::Machine {
        object: "the heartbeat",
        why: "a defect: it cannot be put together".to_owned(),
        next: "report it with the log of this host",
    })?;
    heartbeat.fit();
    let length = serde_json::to_vec(&heartbeat).map_or(0, |text| text.len());
    if length > MAX_HEARTBEAT {
        return Err(Error::Machine {
            object: "the heartbeat",
            why: format!("it has {length} bytes, more than the {MAX_HEARTBEAT} that are allowed"),
            next: "give this machine fewer items",
        });
    }
    let sent = now();
    let reply: HeartbeatReply = line.post(session, HEARTBEAT_PATH, &heartbeat, Duration::ZERO)?;
    shared.hub.beaten(ahead(sent, reply.time, now()));
    shared.embedder.answered(&heartbeat, &reply);
    Ok(reply)
}

/// Seconds that the server's clock is ahead, when it told its time between these two.
fn ahead(sent: Time, theirs: Time, received: Time) -> i64 {
    let ours = sent / 2 + received / 2;
    let seconds = |from: Time, to: Time| i64::try_from(to.saturating_sub(from) / SECOND).unwrap_or(i64::MAX);
    seconds(ours, theirs) - seconds(theirs, ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_of_the_clocks_is_seen() {
        let at = |seconds: u64| seconds * SECOND;
        assert_eq!(ahead(at(100), at(101), at(102)), 0);
        assert_eq!(ahead(at(100), at(161), at(102)), 60);
        assert_eq!(ahead(at(100), at(1), at(102)), -100);
        assert_eq!(ahead(0, u64::MAX, 0), i64::try_from(u64::MAX / SECOND).unwrap());
    }
}
