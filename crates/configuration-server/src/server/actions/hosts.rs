//! Registered hosts.

use super::{Changed, Note, missing};
use crate::server::changes::Topic;
use crate::store::hosts::{self, Known};
use control_api::time::Time;
use rusqlite::Connection;

pub(in crate::server) const KIND: &str = "host";

/// What a revoked registration changes: its jobs fail, its items are gone, its alerts are cleared.
pub(in crate::server) const REVOKED: [Topic; 4] = [Topic::Hosts, Topic::Items, Topic::Jobs, Topic::Events];

/// Ends the registration of a host.
pub(in crate::server) fn revoke(connection: &Connection, id: &str, now: Time) -> Changed<Known> {
    let known = hosts::by_uuid(connection, id)?.filter(|known| known.revoked.is_none());
    let Some(known) = known else { return Ok(Err(missing(KIND, id))) };
    hosts::revoke(connection, &known, now)?;
    let note = Note::new("revoked", format!("{} {}", known.kind, known.id)).about(&known.name);
    Ok(Ok((known, note)))
}
