//! Workflows of all items of a replication group, and what follows from a group for one item alone.
//!
//! A group fails over to points that all of its items share, and to no others: what its machines hold belongs together. So
//! one item of a group goes alone only to such a point; whoever wants something else takes it out of its group first, and
//! says by that that it does not belong to the others any more.

use super::jobs::{busy, noted};
use super::workflows::{source_at_hand, source_at_rest, target};
use super::{Changed, conflict, groups as actions_of_groups, missing};
use crate::store::groups::{self, Group, MAX_MEMBERS};
use crate::store::items::{self, Item};
use crate::store::jobs::Job;
use crate::store::reports::{self, Report};
use crate::store::workflows::{self, Member, Place, Plan, Shared};
use control_api::registration::Hex;
use control_api::time::{self, Time};
use control_api::{ApiError, ItemState, PointSelector};
use rand_core::{OsRng, RngCore};
use rusqlite::{Connection, Result, TransactionBehavior};

/// What bookmarks that nobody orders are called, and who is said to have ordered them.
const REGULAR: &str = "regular";
const BY_ITSELF: &str = "the configuration server";

/// What is to be done to the items of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A bookmark at one moment.
    Bookmark {
        /// What its name begins with.
        name: String,
        application_consistent: bool,
        /// Nobody ordered it.
        regular: bool,
    },
    /// To the bookmark of this name, which all of them share.
    Failover {
        bookmark: String,
    },
    PlannedFailover,
    CancelFailover,
    Commit,
}

type Checked<T> = Result<std::result::Result<T, ApiError>>;

/// Orders a workflow of a group.
pub(crate) fn order(connection: &Connection, id: i64, wanted: &Wanted, by: &str, now: Time) -> Changed<Job> {
    let plan = match plan(connection, id, wanted, now)? {
        Ok(plan) => plan,
        Err(refused) => return Ok(Err(refused)),
    };
    let ordered = workflows::order(connection, &plan, None, by, now)?;
    Ok(ordered.map(|job| noted(job, "workflow ordered")))
}

/// Orders a bookmark of a group that nobody asks for; false when that cannot be now. Those before that were set are forgotten
/// as jobs.
pub(crate) fn order_regularly(connection: &mut Connection, id: i64, now: Time) -> anyhow::Result<bool> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    workflows::forget_regular(&transaction, id)?;
    let wanted = Wanted::Bookmark { name: REGULAR.into(), application_consistent: false, regular: true };
    if let Err(refused) = order(&transaction, id, &wanted, BY_ITSELF, now)? {
        tracing::debug!(group = id, "no bookmark is set now: {refused}");
        return Ok(false);
    }
    transaction.commit()?;
    Ok(true)
}

fn plan(connection: &Connection, id: i64, wanted: &Wanted, now: Time) -> Checked<Plan> {
    let Some(group) = groups::by_id(connection, id)? else {
        return Ok(Err(missing(actions_of_groups::KIND, &id.to_string())));
    };
    let items = match members(connection, &group)? {
        Ok(items) => items,
        Err(refused) => return Ok(Err(refused)),
    };
    if let Some(refused) = goes_on(connection, &group, &items, wanted)? {
        return Ok(Err(refused));
    }
    match wanted {
        Wanted::Bookmark { name, application_consistent, regular } => {
            let members = each(&items, |item| source_that_sends(connection, item))?;
            let mut meeting = [0; 16];
            OsRng.fill_bytes(&mut meeting);
            let meeting = Hex::from(meeting.as_slice()).to_string();
            let (application_consistent, regular) = (*application_consistent, *regular);
            let shared = Shared { bookmark: name, meeting: &meeting, application_consistent, regular };
            Ok(members.map(|members| Plan::group_bookmark(&group, &members, &shared)))
        }
        Wanted::Failover { bookmark } => failover(connection, &group, &items, bookmark),
        Wanted::PlannedFailover => {
            // A source that rests while another one is compared for hours refuses writes for nothing.
            if let Some(item) = items.iter().find(|item| item.state != ItemState::Protected) {
                let why = format!("{} is {}, not protected", item.name, item.state);
                let what = "no planned failover of it can be ordered";
                let next =
                    "wait until all of its items are protected, or fail over to a point that they share";
                return Ok(Err(conflict(shown(&group), what, why, next)));
            }
            let source =
                |item: &Item| Ok(source_at_hand(connection, item)?.map(|known| Some(Place::from(&known))));
            let bookmark = format!("planned-failover-{}", time::format(now));
            Ok(each(&items, source)?.map(|members| Plan::group_planned_failover(&group, &members, &bookmark)))
        }
        Wanted::CancelFailover => {
            let over: Vec<Item> =
                items.into_iter().filter(|item| item.state == ItemState::FailedOver).collect();
            if over.is_empty() {
                let what = "there is nothing to cancel";
                return Ok(Err(conflict(
                    shown(&group),
                    what,
                    "none of its items is failed over",
                    "look at them",
                )));
            }
            let source = |item: &Item| Ok(Ok(source_at_rest(connection, item)?.as_ref().map(Place::from)));
            Ok(each(&over, source)?.map(|members| Plan::group_cancel_failover(&group, &members)))
        }
        Wanted::Commit => commit(connection, &group, &items),
    }
}

/// The refusal while another workflow goes on. A bookmark waits for all of them; nothing waits for a bookmark, which may hang
/// on a machine that is just failing.
fn goes_on(
    connection: &Connection,
    group: &Group,
    items: &[Item],
    wanted: &Wanted,
) -> Result<Option<ApiError>> {
    if matches!(wanted, Wanted::Bookmark { .. })
        && let Some(open) = workflows::open_of_group(connection, group.id)?
    {
        return Ok(Some(busy(&shown(group), &open)));
    }
    for item in items {
        if let Some(open) = workflows::moves_item(connection, item.id)? {
            return Ok(Some(busy(&item.name, &open)));
        }
    }
    Ok(None)
}

fn failover(connection: &Connection, group: &Group, items: &[Item], bookmark: &str) -> Checked<Plan> {
    let common = groups::common(connection, group.id)?;
    let Some(point) = common.into_iter().find(|point| point.name == bookmark) else {
        let what = "it cannot fail over to this point";
        let why = format!("{bookmark:?} is no bookmark that all of its items share");
        return Ok(Err(conflict(shown(group), what, why, "choose one of the points of the group")));
    };
    if let Some(item) = items.iter().find(|item| cannot_move(item.state)) {
        let why = format!("{} is {}", item.name, item.state);
        return Ok(Err(conflict(shown(group), "it cannot fail over now", why, "look at that item")));
    }
    let members = each(items, |_| Ok(Ok(None)))?;
    let numbered = |member: Member| point.numbers.get(&member.item).map(|number| (member, *number));
    let members = members.map(|members| members.into_iter().filter_map(numbered).collect::<Vec<_>>());
    Ok(members.map(|members| Plan::group_failover(group, &members, bookmark)))
}

fn cannot_move(state: ItemState) -> bool {
    matches!(
        state,
        ItemState::FailingOver | ItemState::Committed | ItemState::Fenced | ItemState::InitialSyncRequired
    )
}

fn commit(connection: &Connection, group: &Group, items: &[Item]) -> Checked<Plan> {
    let open = |item: &&Item| item.state != ItemState::Committed;
    let over: Vec<Item> = items.iter().filter(open).cloned().collect();
    let what = "it cannot be committed";
    if let Some(item) = over.iter().find(|item| item.state != ItemState::FailedOver) {
        let why = format!("{} is {}, not failed over", item.name, item.state);
        let next = "fail over the whole group first, or commit items on their own pages";
        return Ok(Err(conflict(shown(group), what, why, next)));
    }
    if over.is_empty() {
        return Ok(Err(conflict(
            shown(group),
            what,
            "all of its items are committed",
            "nothing has to be done",
        )));
    }
    if let Some(why) = stand_apart(connection, &over)? {
        let next = "fail the group over to one point first, or commit items on their own pages";
        return Ok(Err(conflict(shown(group), what, why, next)));
    }
    let source = |item: &Item| Ok(Ok(items::known_source(connection, item)?.as_ref().map(Place::from)));
    Ok(each(&over, source)?.map(|members| Plan::group_commit(group, &members)))
}

/// Why what the disks of these items hold is not known to be one moment.
fn stand_apart(connection: &Connection, over: &[Item]) -> Result<Option<String>> {
    let mut at = Vec::with_capacity(over.len());
    for item in over {
        let points = items::points(connection, item.id)?;
        let held = points.into_iter().find(|point| Some(point.number) == item.status.holds_point);
        at.push((&item.name, held.and_then(|point| point.bookmark).map(|bookmark| bookmark.name)));
    }
    let Some(((first, here), others)) = at.split_first() else { return Ok(None) };
    let told = |name: &Option<String>| match name {
        Some(name) => format!("at bookmark {name}"),
        None => "at a point without a bookmark".to_owned(),
    };
    // One item alone is always at one moment.
    let apart = others.iter().find(|(_, there)| there != here || there.is_none());
    Ok(apart.map(|(name, there)| {
        format!("its items are not at one point: {first} is {}, {name} is {}", told(here), told(there))
    }))
}

/// The items of a group, of which there must be some and not too many.
fn members(connection: &Connection, group: &Group) -> Checked<Vec<Item>> {
    let limit = u32::try_from(MAX_MEMBERS).unwrap_or(u32::MAX);
    let query = items::Query { group: Some(group.id), gone: Some(false), limit, ..items::Query::default() };
    let (items, total) = items::list(connection, &query)?;
    let refused =
        |why: String, next: &str| Ok(Err(conflict(shown(group), "nothing can be ordered for it", why, next)));
    match total {
        0 => refused("no items are in it".into(), "choose it on the page of each item that belongs to it"),
        more if more > MAX_MEMBERS as u64 => refused(
            format!("{more} items are in it, and {MAX_MEMBERS} can be moved together"),
            "make several groups of it",
        ),
        _ => Ok(Ok(items)),
    }
}

/// The members that these items are, each with the source that has to do something, or why that cannot be.
fn each(items: &[Item], source: impl Fn(&Item) -> Checked<Option<Place>>) -> Checked<Vec<Member>> {
    let mut members = Vec::with_capacity(items.len());
    for item in items {
        let source = match source(item)? {
            Ok(source) => source,
            Err(refused) => return Ok(Err(refused)),
        };
        let failed_over = item.state == ItemState::FailedOver;
        let (name, target) = (item.name.clone(), target(item));
        members.push(Member { item: item.id, name, target, source, failed_over });
    }
    Ok(Ok(members))
}

/// The source of an item that can set a bookmark now, or why there is none.
fn source_that_sends(connection: &Connection, item: &Item) -> Checked<Option<Place>> {
    let refused = |why: String, next: &str| {
        Ok(Err(conflict(&*item.name, "no bookmark of its group can be set", why, next)))
    };
    let look = "look at the source machine: mt-source status";
    let Some(source) = items::source(connection, item)? else {
        return refused("no source agent that is registered here sends its changes now".into(), look);
    };
    let Some(Report { connected: true, heartbeat, .. }) = reports::of(connection, source.row)? else {
        return refused(format!("its source, {}, is not connected", source.name), look);
    };
    if heartbeat.protection.is_some_and(|protection| protection.quiesced) {
        let why = format!("the disks of its source, {}, are at rest", source.name);
        return refused(why, "there is nothing new to mark; order unquiesce first if it is to go on");
    }
    Ok(Ok(Some(Place::from(&source))))
}

/// Why an item does not fail over alone, to this point or, planned, to the end of its changes: it belongs to others.
pub(crate) fn not_alone(
    connection: &Connection,
    item: &Item,
    point: Option<&PointSelector>,
) -> Result<Option<ApiError>> {
    let Some(id) = item.group else { return Ok(None) };
    let Some(group) = groups::by_id(connection, id)?.filter(|group| group.items > 1) else { return Ok(None) };
    let number = match point {
        Some(PointSelector::Number(number)) => Some(*number),
        // As the master target understands it: the newest one of this name, whoever has set it.
        Some(PointSelector::Bookmark(name)) => {
            let points = items::points(connection, item.id)?.into_iter();
            let named = points.filter(|point| point.bookmark.as_ref().is_some_and(|mark| mark.name == *name));
            named.map(|point| point.number).max()
        }
        _ => None,
    };
    let common = groups::common(connection, id)?;
    let is_common = |number| common.iter().any(|point| point.numbers.get(&item.id) == Some(&number));
    if number.is_some_and(is_common) {
        return Ok(None);
    }
    Ok(Some(conflict(
        &*item.name,
        "it does not fail over alone",
        format!("it is in {}, whose items fail over to points that all of them share", shown(&group)),
        "fail over the group, choose a point that its items share, or take the item out of the group first",
    )))
}

fn shown(group: &Group) -> String {
    format!("{} {}", actions_of_groups::KIND, group.name)
}

#[cfg(test)]
mod tests;
