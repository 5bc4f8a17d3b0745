//! Alerts of groups whose items have shared no new recovery point for long.
//!
//! A group fails over to points that its items share, so one that gets none is protected worse than each of its items
//! says. Groups with items that are failed over get none for good reason. How long a group is there is kept in memory, by
//! a clock that never jumps: a new one, and each after a restart, has its full time.

use crate::server::Shared;
use crate::server::changes::Topic;
use crate::store::events::{self, Event};
use crate::store::groups::{self, Group};
use anyhow::Result;
use control_api::Severity;
use control_api::time::{self, Time};
use rusqlite::Connection;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const KIND: &str = "group-points-overdue";
/// Keys of these alerts begin so.
const PREFIX: &str = "group/";

/// Since when groups are to get points.
#[derive(Default)]
pub(super) struct Watched(HashMap<i64, Instant>);

impl Watched {
    /// Those of these groups that have been there for so long; others than these are forgotten.
    fn patient(&mut self, groups: &[Group], now: Instant, limit: Duration) -> Vec<i64> {
        self.0.retain(|known, _| groups.iter().any(|group| group.id == *known));
        let is_old =
            |group: &&Group| now.saturating_duration_since(*self.0.entry(group.id).or_insert(now)) >= limit;
        groups.iter().filter(is_old).map(|group| group.id).collect()
    }
}

/// What is to become of an alert.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Raise(String, Event),
    Clear(String),
}

/// Looks at all groups; a point is overdue after `limit`.
pub(super) async fn look(shared: &Arc<Shared>, watched: &mut Watched, limit: Duration) -> Result<()> {
    let now = shared.now();
    let groups = shared.store.read(|connection| Ok(groups::getting_points(connection)?)).await?;
    let patient = watched.patient(&groups, Instant::now(), limit);
    let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
    let changes = shared.store.read(move |connection| Ok(judge(connection, &groups, &patient, limit, now)?));
    let changes = changes.await?;
    if changes.is_empty() {
        return Ok(());
    }
    shared.store.with(move |connection| Ok(carry_out(connection, changes, now)?)).await?;
    shared.changes.tell(Topic::Events);
    Ok(())
}

fn judge(
    connection: &Connection,
    groups: &[Group],
    patient: &[i64],
    limit: u64,
    now: Time,
) -> rusqlite::Result<Vec<Change>> {
    let mut raised = events::raised_below(connection, PREFIX)?;
    let mut changes = Vec::new();
    for group in groups {
        let newest = groups::common(connection, group.id)?.into_iter().next();
        let age = newest.map(|point| now.saturating_sub(point.receive_time));
        let key = format!("{PREFIX}{}/{KIND}", group.id);
        let is_raised = raised.contains(&key);
        if age.is_some_and(|age| age <= limit) {
            continue;
        }
        raised.retain(|other| *other != key);
        if !is_raised && patient.contains(&group.id) {
            changes.push(Change::Raise(key, event(group, age, now)));
        }
    }
    // Those that are left have a new point, or need none any more.
    changes.extend(raised.into_iter().map(Change::Clear));
    Ok(changes)
}

fn event(group: &Group, age: Option<u64>, now: Time) -> Event {
    let cause = match age {
        Some(age) => format!("it is {} old", time::format_duration(age)),
        None => "its items share none at all".to_owned(),
    };
    Event {
        id: 0,
        time: now,
        severity: Severity::Warning,
        kind: KIND.into(),
        object: format!("group {}", group.name),
        what: "the newest recovery point that its items share is too old".into(),
        cause,
        next: "look at the jobs of the group, at its items and at their sources: all have to be protected and connected".into(),
        host: None,
        item: None,
    }
}

fn carry_out(connection: &mut Connection, changes: Vec<Change>, now: Time) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for change in changes {
        match change {
            Change::Raise(key, event) => events::raise(&transaction, &key, &event)?,
            Change::Clear(key) => events::clear(&transaction, &key, now)?,
        };
    }
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::items;
    use crate::store::testing::{NOW, item, register, store};
    use control_api::registration::HostKind;
    use control_api::time::SECOND;
    use control_api::{Bookmark, ItemState, Point};

    const LIMIT: u64 = 100 * SECOND;

    #[test]
    fn a_group_has_its_full_time() {
        let group = |id| Group { id, name: "Shop".into(), items: 2 };
        let (begun, limit) = (Instant::now(), Duration::from_secs(100));
        let mut watched = Watched::default();
        assert_eq!(watched.patient(&[group(1)], begun, limit), [0; 0]);
        assert_eq!(watched.patient(&[group(1), group(2)], begun + limit, limit), [1]);
        assert_eq!(watched.patient(&[group(2)], begun + 2 * limit, limit), [2]);
        assert_eq!(watched.patient(&[group(1)], begun + 3 * limit, limit), [0; 0], "it was away meanwhile");
    }

    #[test]
    fn an_alert_comes_when_no_point_is_shared_for_long_and_goes_with_the_next() {
        let (_folder, mut store) = store();
        let target = register(&store, HostKind::MasterTarget, 1);
        let shop = groups::add(&store, "Shop").unwrap().unwrap();
        let tell = |store: &Connection, name: &str, state, time: Option<Time>| {
            let mut told = item(name, state);
            told.points = time.map(|time| {
                vec![Point {
                    number: 1,
                    source_time: time,
                    receive_time: time,
                    bookmark: Some(Bookmark {
                        name: "regular-1".into(),
                        application_consistent: false,
                        group: Some("Shop".into()),
                    }),
                    tested: None,
                    journal_bytes: 0,
                }]
            });
            let id = items::put(store, target.row, &told, NOW, NOW).unwrap();
            groups::assign(store, id, Some(shop.id)).unwrap().unwrap();
        };
        let both = |store: &Connection, state, time| {
            ["web01", "db01"].into_iter().for_each(|name| tell(store, name, state, time));
        };
        let mut judged = |state, time, patient: &[i64]| {
            both(&store, state, time);
            let groups = groups::getting_points(&store).unwrap();
            let changes = judge(&store, &groups, patient, LIMIT, NOW).unwrap();
            let told: Vec<String> = changes
                .iter()
                .map(|change| match change {
                    Change::Raise(key, event) => format!("raise {key}: {}", event.cause),
                    Change::Clear(key) => format!("clear {key}"),
                })
                .collect();
            carry_out(&mut store, changes, NOW).unwrap();
            told
        };
        let key = format!("group/{}/{KIND}", shop.id);
        let mine = &[shop.id];
        assert_eq!(judged(ItemState::Protected, None, &[]), [""; 0], "it is new");
        assert_eq!(
            judged(ItemState::Protected, None, mine),
            [format!("raise {key}: its items share none at all")]
        );
        assert_eq!(judged(ItemState::Protected, None, mine), [""; 0], "it is raised already");
        assert_eq!(judged(ItemState::Protected, Some(NOW - LIMIT), mine), [format!("clear {key}")]);
        let old = Some(NOW - LIMIT - SECOND);
        assert_eq!(judged(ItemState::Protected, old, mine).len(), 1);
        assert_eq!(judged(ItemState::Resync, old, &[]), [""; 0], "it lasts");
        assert_eq!(judged(ItemState::FailedOver, old, mine), [format!("clear {key}")]);
    }
}
