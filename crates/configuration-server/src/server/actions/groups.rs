//! Replication groups.

use super::{Changed, Note, conflict, missing};
use crate::store::groups::{self, Group, MAX_GROUPS, MAX_MEMBERS, Refused};
use control_api::ApiError;
use rusqlite::{Connection, Result};

pub(crate) const KIND: &str = "group";

/// Adds a group without items.
pub(crate) fn add(connection: &Connection, name: &str) -> Changed<Group> {
    let added = groups::add(connection, name)?.map_err(|why| refusal(why, 0, name));
    Ok(added.map(|group| noted(group, "group added")))
}

/// Gives it another name.
pub(crate) fn rename(connection: &Connection, id: i64, name: &str) -> Changed<Group> {
    let renamed = groups::rename(connection, id, name)?.map_err(|why| refusal(why, id, name));
    Ok(renamed.map(|group| noted(group, "group renamed")))
}

/// Removes one without items.
pub(crate) fn remove(connection: &Connection, id: i64) -> Changed<Group> {
    let name = name(connection, id)?;
    let removed = groups::remove(connection, id)?.map_err(|why| refusal(why, id, &name));
    Ok(removed.map(|group| noted(group, "group removed")))
}

/// The name of a group, or its number where there is none.
pub(super) fn name(connection: &Connection, id: i64) -> Result<String> {
    Ok(groups::by_id(connection, id)?.map_or_else(|| id.to_string(), |group| group.name))
}

fn noted(group: Group, outcome: &'static str) -> (Group, Note) {
    let note = Note::new(outcome, &*group.name);
    (group, note)
}

pub(super) fn refusal(why: Refused, id: i64, object: &str) -> ApiError {
    let object = format!("{KIND} {object}");
    match why {
        Refused::Unknown => missing(KIND, &id.to_string()),
        Refused::NameTaken => {
            conflict(object, "it cannot have this name", "another group has it", "choose another name")
        }
        Refused::TooMany => conflict(
            object,
            "it cannot be added",
            format!("there are {MAX_GROUPS} groups already"),
            "remove one without items",
        ),
        Refused::InUse(items) => conflict(
            object,
            "it cannot be removed",
            format!("{items} items are in it"),
            "take them out of it first",
        ),
        Refused::OtherHost(host) => conflict(
            object,
            "the item cannot be put into it",
            format!("its items are on {host}, and items that share recovery points are on one master target"),
            "choose another group",
        ),
        Refused::Full => conflict(
            object,
            "the item cannot be put into it",
            format!("{MAX_MEMBERS} items are in it, and more cannot be moved together"),
            "make another group",
        ),
    }
}
