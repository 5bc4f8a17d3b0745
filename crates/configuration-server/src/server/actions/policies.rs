//! Policies.

use super::{Changed, Note, conflict, missing};
use crate::store::policies::{self, MAX_POLICIES, Policy, Refused, Wanted};
use control_api::ApiError;
use control_api::time::{SECOND, Time, format_duration};
use rusqlite::{Connection, Result};

pub(crate) const KIND: &str = "policy";

/// Adds a policy.
pub(crate) fn add(connection: &Connection, wanted: &Wanted, now: Time) -> Changed<Policy> {
    let added = policies::add(connection, wanted)?.map_err(|why| refusal(why, 0, &wanted.name));
    Ok(added.map(|policy| noted(policy, "policy added", "a policy was added", now)))
}

/// Makes another one of it.
pub(crate) fn change(connection: &Connection, id: i64, wanted: &Wanted, now: Time) -> Changed<Policy> {
    let changed = policies::change(connection, id, wanted)?.map_err(|why| refusal(why, id, &wanted.name));
    Ok(changed.map(|policy| noted(policy, "policy changed", "a policy was changed", now)))
}

/// Removes one that no item has.
pub(crate) fn remove(connection: &Connection, id: i64, now: Time) -> Changed<Policy> {
    let name = name(connection, id)?;
    let removed = policies::remove(connection, id)?.map_err(|why| refusal(why, id, &name));
    Ok(removed.map(|policy| noted(policy, "policy removed", "a policy was removed", now)))
}

/// The name of a policy, or its number where there is none.
pub(super) fn name(connection: &Connection, id: i64) -> Result<String> {
    Ok(policies::by_id(connection, id)?.map_or_else(|| id.to_string(), |policy| policy.name))
}

fn refusal(why: Refused, id: i64, object: &str) -> ApiError {
    let object = format!("{KIND} {object}");
    match why {
        Refused::Unknown => missing(KIND, &id.to_string()),
        Refused::NameTaken => {
            conflict(object, "it cannot have this name", "another policy has it", "choose another name")
        }
        Refused::TooMany => conflict(
            object,
            "it cannot be added",
            format!("there are {MAX_POLICIES} policies already"),
            "remove one that no item has",
        ),
        Refused::IsDefault => conflict(
            object,
            "it cannot be removed",
            "it is what items have for which no other policy was chosen",
            "change it instead",
        ),
        Refused::InUse(items) => conflict(
            object,
            "it cannot be removed",
            format!("{items} items have it"),
            "give them another policy first",
        ),
    }
}

fn noted(policy: Policy, outcome: &'static str, what: &str, now: Time) -> (Policy, Note) {
    let every = policy.application_consistent_every_seconds;
    let described = format!(
        "{}: window {}, RPO threshold {}, application-consistent {}",
        policy.name,
        format_duration(policy.window_seconds * SECOND),
        format_duration(policy.rpo_threshold_seconds * SECOND),
        every.map_or("never".to_owned(), |every| format!("every {}", format_duration(every * SECOND))),
    );
    let note = Note::new(outcome, described.clone()).told(KIND, &policy.name, what, described, now);
    (policy, note)
}
