//! What replicated items belong to.

use super::{Changed, Note, groups as actions_of_groups, missing, policies as actions_of_policies};
use crate::store::items::{self, Item};
use crate::store::{groups, policies};
use rusqlite::Connection;

pub(in crate::server) const KIND: &str = "item";

/// What an item is to have; `None` leaves it as it is.
pub(in crate::server) struct Wanted {
    pub(in crate::server) policy: Option<i64>,
    /// The group, or none.
    pub(in crate::server) group: Option<Option<i64>>,
}

/// Gives an item another policy or group.
pub(in crate::server) fn assign(connection: &Connection, id: i64, wanted: &Wanted) -> Changed<Item> {
    if items::by_id(connection, id)?.is_none() {
        return Ok(Err(missing(KIND, &id.to_string())));
    }
    let mut done = Vec::new();
    if let Some(policy) = wanted.policy {
        if !policies::assign(connection, id, policy)? {
            return Ok(Err(missing(actions_of_policies::KIND, &policy.to_string())));
        }
        done.push(format!("policy {policy}"));
    }
    if let Some(group) = wanted.group {
        let number = group.map_or("none".to_owned(), |group| group.to_string());
        if let Err(why) = groups::assign(connection, id, group)? {
            return Ok(Err(actions_of_groups::refusal(why, group.unwrap_or_default(), &number)));
        }
        done.push(format!("group {number}"));
    }
    let Some(changed) = items::by_id(connection, id)? else {
        return Ok(Err(missing(KIND, &id.to_string())));
    };
    let note = Note::new("item changed", format!("{}: {}", changed.name, done.join(", ")));
    let note = note.about(&changed.host_name);
    Ok(Ok((changed, note)))
}
