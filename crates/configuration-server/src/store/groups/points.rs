//! Recovery points that the items of a group share.
//!
//! A bookmark of a group is placed by a source agent only at the moment that all agents of it agreed on, and its name is
//! never used for another moment. So what all items have under one name and one group is one moment of all of them.

use crate::store::json;
use control_api::Point;
use control_api::time::Time;
use rusqlite::{Connection, Result};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};

/// A bookmark that all items of a group have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct CommonPoint {
    pub(crate) name: String,
    /// On all of them.
    pub(crate) application_consistent: bool,
    /// When the sources were in this state, by the clock of the one that tells the earliest time.
    pub(crate) source_time: Time,
    /// When the master target had received the last of them, by its clock.
    pub(crate) receive_time: Time,
    /// The number of the point of each item, by the item's own.
    #[serde(skip)]
    pub(crate) numbers: BTreeMap<i64, u64>,
}

/// Those of a group, the newest first; of each item its newest bookmarks are known here. None for a group without items.
pub(crate) fn common(connection: &Connection, group: i64) -> Result<Vec<CommonPoint>> {
    let mut statement = connection.prepare_cached(
        "SELECT points, item.id FROM item LEFT JOIN item_status ON item_status.item = item.id \
         WHERE item_group = ? AND gone IS NULL",
    )?;
    let mut rows = statement.query([group])?;
    let mut shared: Option<HashMap<(String, String), CommonPoint>> = None;
    while let Some(row) = rows.next()? {
        let points: Vec<Point> = json::optional(row, 0)?.unwrap_or_default();
        let item = row.get(1)?;
        let here = of_item(item, points);
        shared = Some(match shared {
            None => here,
            Some(before) => here
                .into_iter()
                .filter_map(|(key, point)| Some((merged(before.get(&key)?, point), key)))
                .map(|(point, key)| (key, point))
                .collect(),
        });
    }
    let mut common: Vec<CommonPoint> = shared.unwrap_or_default().into_values().collect();
    common.sort_by(|one, other| (other.receive_time, &other.name).cmp(&(one.receive_time, &one.name)));
    Ok(common)
}

/// The points of an item that bear bookmarks of groups. A name that two of them bear stands for neither.
fn of_item(item: i64, points: Vec<Point>) -> HashMap<(String, String), CommonPoint> {
    let (mut found, mut twice) = (HashMap::new(), HashSet::new());
    for (key, point) in points.into_iter().filter_map(|point| of_group(item, point)) {
        if found.insert(key.clone(), point).is_some() {
            twice.insert(key);
        }
    }
    found.retain(|key, _| !twice.contains(key));
    found
}

/// A point that bears a bookmark of a group, by the names of both.
fn of_group(item: i64, point: Point) -> Option<((String, String), CommonPoint)> {
    let Point { number, source_time, receive_time, bookmark, .. } = point;
    let bookmark = bookmark?;
    let (name, application_consistent) = (bookmark.name.clone(), bookmark.application_consistent);
    let numbers = BTreeMap::from([(item, number)]);
    let common = CommonPoint { name, application_consistent, source_time, receive_time, numbers };
    Some(((bookmark.group?, bookmark.name), common))
}

fn merged(before: &CommonPoint, point: CommonPoint) -> CommonPoint {
    CommonPoint {
        application_consistent: before.application_consistent && point.application_consistent,
        source_time: before.source_time.min(point.source_time),
        receive_time: before.receive_time.max(point.receive_time),
        numbers: before.numbers.iter().map(|(item, number)| (*item, *number)).chain(point.numbers).collect(),
        name: point.name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{NOW, item, register, store};
    use crate::store::{groups, items};
    use control_api::registration::HostKind;
    use control_api::{Bookmark, ItemState};

    fn point(name: &str, group: Option<&str>, application_consistent: bool, time: Time) -> Point {
        let group = group.map(str::to_owned);
        Point {
            number: time,
            source_time: time,
            receive_time: time + 10,
            bookmark: Some(Bookmark { name: name.into(), application_consistent, group }),
            tested: None,
            journal_bytes: 0,
        }
    }

    #[test]
    fn only_what_every_item_has_of_one_group_is_common() {
        let (_folder, store) = store();
        let target = register(&store, HostKind::MasterTarget, 1);
        let shop = groups::add(&store, "Shop").unwrap().unwrap();
        assert_eq!(common(&store, shop.id).unwrap(), []);
        let told = [
            (
                "web01",
                vec![
                    point("a-1", Some("Shop"), true, 1),
                    point("a-2", Some("Shop"), true, 2),
                    point("b-3", Some("Shop"), true, 3),
                ],
            ),
            (
                "db01",
                vec![
                    point("a-1", Some("Shop"), true, 4),
                    point("a-2", Some("Other"), true, 5),
                    point("b-3", Some("Shop"), false, 2),
                ],
            ),
            (
                "app01",
                vec![
                    point("a-1", Some("Shop"), true, 2),
                    point("b-3", Some("Shop"), true, 4),
                    point("mine", None, true, 6),
                ],
            ),
        ];
        for (number, (name, points)) in told.into_iter().enumerate() {
            let mut report = item(name, ItemState::Protected);
            report.points = Some(points);
            let id = items::put(&store, target.row, &report, NOW, NOW).unwrap();
            groups::assign(&store, id, Some(shop.id)).unwrap().unwrap();
            if number == 0 {
                assert_eq!(common(&store, shop.id).unwrap().len(), 3, "one item shares all with itself");
            }
        }
        let expected = |name: &str, application_consistent, source_time, receive_time, numbers: [u64; 3]| {
            let numbers = (1..).zip(numbers).collect();
            CommonPoint { name: name.into(), application_consistent, source_time, receive_time, numbers }
        };
        assert_eq!(
            common(&store, shop.id).unwrap(),
            [expected("b-3", false, 2, 14, [3, 2, 4]), expected("a-1", true, 1, 14, [1, 4, 2])]
        );
        // One whose points are not known has none.
        let fresh = items::put(&store, target.row, &item("new01", ItemState::Protected), NOW, NOW).unwrap();
        groups::assign(&store, fresh, Some(shop.id)).unwrap().unwrap();
        assert_eq!(common(&store, shop.id).unwrap(), []);
    }
}
