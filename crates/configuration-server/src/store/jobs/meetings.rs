//! Who belongs to a meeting: the hosts that were ordered its jobs together, as steps of one workflow.

use crate::store::json;
use control_api::agent::JobState;
use rusqlite::{Connection, OptionalExtension, Result, params};
use std::collections::BTreeMap;

/// What a host finds that comes to a meeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seat {
    /// These belong to it: row and name of each.
    Members(BTreeMap<i64, String>),
    /// It has come to its end well: a member's job could not have succeeded otherwise.
    Done,
    /// It comes to nothing any more.
    Over(String),
    /// The host in this row has no open job of it.
    None,
}

/// What the host in this row finds.
pub(crate) fn seat(connection: &Connection, host: i64, meeting: &str) -> Result<Seat> {
    let mut statement = connection.prepare_cached(
        "SELECT parent FROM job WHERE host = ? AND ended IS NULL AND parent IS NOT NULL \
         AND json_extract(body, '$.meeting') = ?",
    )?;
    let workflow: Option<i64> = statement.query_row(params![host, meeting], |row| row.get(0)).optional()?;
    let Some(workflow) = workflow else { return Ok(Seat::None) };
    let mut statement = connection.prepare_cached(
        "SELECT job.host, host.name, job.state FROM job JOIN host ON host.id = job.host WHERE job.parent = ? \
         AND json_extract(body, '$.meeting') = ?",
    )?;
    let mut rows = statement.query(params![workflow, meeting])?;
    let (mut members, mut over, mut done) = (BTreeMap::new(), None, false);
    while let Some(row) = rows.next()? {
        let (member, name): (i64, String) = (row.get(0)?, row.get(1)?);
        match json::word(row, 2, JobState::parse)? {
            JobState::Succeeded => done = true,
            state if state.has_ended() => over = Some(format!("the job of {name} has ended: {state}")),
            _ => {}
        }
        members.insert(member, name);
    }
    Ok(match over {
        // Whatever became of a member afterwards.
        _ if done => Seat::Done,
        Some(why) => Seat::Over(why),
        None => Seat::Members(members),
    })
}
