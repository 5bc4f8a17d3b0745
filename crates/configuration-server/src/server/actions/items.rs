//! What replicated items belong to.

use super::jobs::busy;
use super::{Changed, Note, groups as actions_of_groups, missing, policies as actions_of_policies};
use crate::store::items::{self, Item};
use crate::store::jobs::Job;
use crate::store::{groups, policies, workflows};
use rusqlite::{Connection, Result};

pub(crate) const KIND: &str = "item";

/// What an item is to have; `None` leaves it as it is.
pub(crate) struct Wanted {
    pub(crate) policy: Option<i64>,
    /// The group, or none.
    pub(crate) group: Option<Option<i64>>,
}

/// Gives an item another policy or group.
pub(crate) fn assign(connection: &Connection, id: i64, wanted: &Wanted) -> Changed<Item> {
    let Some(item) = items::by_id(connection, id)? else {
        return Ok(Err(missing(KIND, &id.to_string())));
    };
    let mut done = Vec::new();
    if let Some(policy) = wanted.policy {
        if !policies::assign(connection, id, policy)? {
            return Ok(Err(missing(actions_of_policies::KIND, &policy.to_string())));
        }
        done.push(format!("policy {}", actions_of_policies::name(connection, policy)?));
    }
    if let Some(group) = wanted.group {
        let named = |group| actions_of_groups::name(connection, group);
        let name = group.map_or_else(|| Ok("none".to_owned()), named)?;
        if group != item.group
            && let Some(open) = moving(connection, id, group)?
        {
            return Ok(Err(busy(&item.name, &open)));
        }
        if let Err(why) = groups::assign(connection, id, group)? {
            return Ok(Err(actions_of_groups::refusal(why, group.unwrap_or_default(), &name)));
        }
        done.push(format!("group {name}"));
    }
    let Some(changed) = items::by_id(connection, id)? else {
        return Ok(Err(missing(KIND, &id.to_string())));
    };
    let note = Note::new("item changed", format!("{}: {}", changed.name, done.join(", ")));
    let note = note.about(&changed.host_name);
    Ok(Ok((changed, note)))
}

/// What moves the item, or the group that it is to be put into, just now: a workflow of a group moves those that were in it
/// when it was ordered.
fn moving(connection: &Connection, item: i64, group: Option<i64>) -> Result<Option<Job>> {
    let own = workflows::open_of_item(connection, item)?;
    let others = || group.map_or(Ok(None), |group| workflows::moves_group(connection, group));
    own.map_or_else(others, |open| Ok(Some(open)))
}
