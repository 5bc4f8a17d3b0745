//! Replication groups: items that share recovery points, so all of them are on one master target.

mod points;

pub(crate) use points::{CommonPoint, common};

use rusqlite::{Connection, OptionalExtension, Result, Row, params};
use serde::Serialize;

/// Groups that there may be.
pub(crate) const MAX_GROUPS: u64 = 1000;
/// Items that a group may have: the workflows of more would have more steps than a job may.
pub(crate) const MAX_MEMBERS: usize = 24;

/// A group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Group {
    pub(crate) id: i64,
    pub(crate) name: String,
    /// Items that are in it.
    pub(crate) items: u64,
}

/// An item of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Member {
    pub(crate) id: i64,
    pub(crate) name: String,
    /// Id of its master target.
    pub(crate) host: String,
    pub(crate) host_name: String,
}

/// Why a group is not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is none of this id.
    Unknown,
    /// Another one has this name.
    NameTaken,
    /// There are [`MAX_GROUPS`] already.
    TooMany,
    /// So many items are in it.
    InUse(u64),
    /// Its items are on the master target of this name, and this one is not.
    OtherHost(String),
    /// [`MAX_MEMBERS`] are in it already.
    Full,
}

const SELECT: &str = "SELECT id, name, \
     (SELECT count(*) FROM item WHERE item_group = item_group.id AND gone IS NULL) FROM item_group";

fn group(row: &Row<'_>) -> Result<Group> {
    Ok(Group { id: row.get(0)?, name: row.get(1)?, items: row.get(2)? })
}

/// All groups, by name.
pub(crate) fn list(connection: &Connection) -> Result<Vec<Group>> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} ORDER BY name"))?;
    statement.query_map([], group)?.collect()
}

/// The group of this id.
pub(crate) fn by_id(connection: &Connection, id: i64) -> Result<Option<Group>> {
    connection.query_row(&format!("{SELECT} WHERE id = ?"), [id], group).optional()
}

/// The items of a group that are not gone, by name.
pub(crate) fn members(connection: &Connection, id: i64) -> Result<Vec<Member>> {
    let mut statement = connection.prepare_cached(
        "SELECT item.id, item.name, host.uuid, host.name FROM item JOIN host ON host.id = item.host \
         WHERE item_group = ? AND gone IS NULL ORDER BY item.name",
    )?;
    let members = statement.query_map([id], |row| {
        Ok(Member { id: row.get(0)?, name: row.get(1)?, host: row.get(2)?, host_name: row.get(3)? })
    })?;
    members.collect()
}

/// The groups of two items or more that are all protected.
pub(crate) fn whole(connection: &Connection) -> Result<Vec<i64>> {
    let mut statement = connection.prepare_cached(
        "SELECT item_group FROM item WHERE item_group IS NOT NULL AND gone IS NULL GROUP BY item_group \
         HAVING count(*) > 1 AND min(state = 'protected') ORDER BY item_group",
    )?;
    statement.query_map([], |row| row.get(0))?.collect()
}

/// The groups of two items or more that are to get points that they share: none of them is failed over.
pub(crate) fn getting_points(connection: &Connection) -> Result<Vec<Group>> {
    let mut statement = connection.prepare_cached(&format!(
        "{SELECT} WHERE id IN (SELECT item_group FROM item WHERE item_group IS NOT NULL AND gone IS NULL GROUP BY item_group \
         HAVING count(*) > 1 AND NOT max(state IN ('failing-over', 'failed-over', 'committed'))) ORDER BY id"
    ))?;
    statement.query_map([], group)?.collect()
}

fn is_taken(connection: &Connection, name: &str, except: i64) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM item_group WHERE name = ? AND id <> ?)";
    connection.query_row(sql, params![name, except], |row| row.get(0))
}

/// Adds a group without items.
pub(crate) fn add(connection: &Connection, name: &str) -> Result<std::result::Result<Group, Refused>> {
    let count: u64 = connection.query_row("SELECT count(*) FROM item_group", [], |row| row.get(0))?;
    if count >= MAX_GROUPS {
        return Ok(Err(Refused::TooMany));
    }
    if is_taken(connection, name, 0)? {
        return Ok(Err(Refused::NameTaken));
    }
    connection.execute("INSERT INTO item_group (name) VALUES (?)", [name])?;
    Ok(by_id(connection, connection.last_insert_rowid())?.ok_or(Refused::Unknown))
}

/// Gives a group another name.
pub(crate) fn rename(
    connection: &Connection,
    id: i64,
    name: &str,
) -> Result<std::result::Result<Group, Refused>> {
    if is_taken(connection, name, id)? {
        return Ok(Err(Refused::NameTaken));
    }
    connection.execute("UPDATE item_group SET name = ? WHERE id = ?", params![name, id])?;
    Ok(by_id(connection, id)?.ok_or(Refused::Unknown))
}

/// Removes a group without items. Items that are gone are in none afterwards.
pub(crate) fn remove(connection: &Connection, id: i64) -> Result<std::result::Result<Group, Refused>> {
    let Some(group) = by_id(connection, id)? else { return Ok(Err(Refused::Unknown)) };
    if group.items > 0 {
        return Ok(Err(Refused::InUse(group.items)));
    }
    connection.execute("UPDATE item SET item_group = NULL WHERE item_group = ?", [id])?;
    connection.execute("DELETE FROM item_group WHERE id = ?", [id])?;
    Ok(Ok(group))
}

/// Puts an item into a group, or takes it out of the one that it is in.
pub(crate) fn assign(
    connection: &Connection,
    item: i64,
    id: Option<i64>,
) -> Result<std::result::Result<(), Refused>> {
    if let Some(id) = id {
        if by_id(connection, id)?.is_none() {
            return Ok(Err(Refused::Unknown));
        }
        let elsewhere = "SELECT host.name FROM item JOIN host ON host.id = item.host WHERE item_group = ? \
             AND gone IS NULL AND item.host <> (SELECT host FROM item WHERE id = ?) LIMIT 1";
        let elsewhere: Option<String> =
            connection.query_row(elsewhere, params![id, item], |row| row.get(0)).optional()?;
        if let Some(host) = elsewhere {
            return Ok(Err(Refused::OtherHost(host)));
        }
        let others = "SELECT count(*) FROM item WHERE item_group = ? AND gone IS NULL AND id <> ?";
        let others: usize = connection.query_row(others, params![id, item], |row| row.get(0))?;
        if others >= MAX_MEMBERS {
            return Ok(Err(Refused::Full));
        }
    }
    connection.execute("UPDATE item SET item_group = ? WHERE id = ?", params![id, item])?;
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{items, schema, testing};
    use control_api::ItemState;
    use control_api::registration::HostKind;

    #[test]
    fn a_group_is_added_filled_emptied_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let store = schema::open(&folder.path().join("store.sqlite")).unwrap();
        store
            .execute_batch(
                "INSERT INTO host VALUES (1, 'u', 'master-target', 'mt01', NULL, 'm', '9.4.0', '', 1, NULL),
                 (2, 'v', 'master-target', 'mt02', NULL, 'n', '9.4.0', '', 1, NULL);
                 INSERT INTO item (id, host, name, state, health, reported)
                 VALUES (5, 1, 'web01', 'protected', 'info', 1), (6, 1, 'db01', 'protected', 'info', 1),
                 (7, 2, 'web02', 'protected', 'info', 1);",
            )
            .unwrap();
        let shop = add(&store, "Shop").unwrap().unwrap();
        assert_eq!(add(&store, "shop").unwrap(), Err(Refused::NameTaken));
        assert_eq!(rename(&store, shop.id, "Web shop").unwrap().unwrap().name, "Web shop");
        assert_eq!(rename(&store, 99, "Other").unwrap(), Err(Refused::Unknown));
        assert_eq!(assign(&store, 5, Some(99)).unwrap(), Err(Refused::Unknown));
        assign(&store, 5, Some(shop.id)).unwrap().unwrap();
        assign(&store, 6, Some(shop.id)).unwrap().unwrap();
        assert_eq!(assign(&store, 7, Some(shop.id)).unwrap(), Err(Refused::OtherHost("mt01".into())));
        let names: Vec<String> = members(&store, shop.id).unwrap().into_iter().map(|one| one.name).collect();
        assert_eq!((names, list(&store).unwrap()[0].items), (vec!["db01".into(), "web01".into()], 2));
        assert_eq!(remove(&store, shop.id).unwrap(), Err(Refused::InUse(2)));
        assert_eq!(whole(&store).unwrap(), [shop.id]);
        store.execute_batch("UPDATE item SET state = 'resync' WHERE id = 6").unwrap();
        assert_eq!(whole(&store).unwrap(), [0; 0]);
        store.execute_batch("UPDATE item SET state = 'protected' WHERE id = 6").unwrap();
        assign(&store, 5, None).unwrap().unwrap();
        assert_eq!(whole(&store).unwrap(), [0; 0], "one item shares with nobody");
        store.execute_batch("UPDATE item SET gone = 2 WHERE id = 6").unwrap();
        assert!(remove(&store, shop.id).unwrap().is_ok());
        assert_eq!(remove(&store, shop.id).unwrap(), Err(Refused::Unknown));
    }

    #[test]
    fn groups_are_limited() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = schema::open(&folder.path().join("store.sqlite")).unwrap();
        let transaction = store.transaction().unwrap();
        for number in 0..MAX_GROUPS {
            add(&transaction, &number.to_string()).unwrap().unwrap();
        }
        assert_eq!(add(&transaction, "one more").unwrap(), Err(Refused::TooMany));
        let (_folder, store) = testing::store();
        let target = testing::register(&store, HostKind::MasterTarget, 1);
        let group = add(&store, "Shop").unwrap().unwrap().id;
        let put = |number: usize| {
            let told = testing::item(&format!("item{number}"), ItemState::Protected);
            items::put(&store, target.row, &told, testing::NOW, testing::NOW).unwrap()
        };
        let all: Vec<i64> = (0..=MAX_MEMBERS).map(put).collect();
        for item in &all[..MAX_MEMBERS] {
            assign(&store, *item, Some(group)).unwrap().unwrap();
        }
        assert_eq!(assign(&store, all[MAX_MEMBERS], Some(group)).unwrap(), Err(Refused::Full));
        assert_eq!(assign(&store, all[0], Some(group)).unwrap(), Ok(()), "it is in it already");
    }
}
