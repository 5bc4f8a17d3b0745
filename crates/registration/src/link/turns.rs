//! What the threads that talk have in common: one turn after the other.

use super::Shared;
use super::hub::{Lane, Woken};
use super::line::Line;
use super::pauses::{LONGEST, chance, pause};
use super::session::Session;
use crate::error::{Error, Result};
use std::sync::Arc;
use std::time::Duration;

/// Takes turns on a connection of its own until the link stops: with each identity anew, and after failures in a row
/// ever later. After a turn that succeeded, `rest` waits for what the next one is for.
pub(super) fn take<T>(
    shared: &Shared,
    lane: Lane,
    turn: impl Fn(&Arc<Session>, &mut Line) -> Result<T>,
    rest: impl Fn(&Arc<Session>, T) -> Woken,
) {
    let hub = &shared.hub;
    let mut line = Line::new(hub);
    while let Some(session) = hub.session() {
        let mut failures = 0;
        loop {
            let woken = match turn(&session, &mut line) {
                Ok(done) => {
                    failures = 0;
                    rest(&session, done)
                }
                Err(error) => {
                    failures += 1;
                    hub.trouble(lane, &session, &error);
                    hub.until_retry(&session, patience(&error, failures))
                }
            };
            if matches!(woken, Woken::Stopping | Woken::Session) {
                break;
            }
        }
    }
}

/// How long to wait after an error: as long as the server asks for, or as long as failures in a row suggest.
fn patience(error: &Error, failures: u32) -> Duration {
    let asked = match error {
        Error::Refused(refused) => refused.retry_after.map(Duration::from_secs).unwrap_or_default(),
        _ => Duration::ZERO,
    };
    pause(failures, chance()).max(asked.min(LONGEST))
}
