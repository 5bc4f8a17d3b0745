//! Policies: what is wanted of replicated items.

use control_api::agent::{GivenPolicy, ItemPolicy};
use rusqlite::{Connection, OptionalExtension, Result, Row, params};
use serde::Serialize;

/// The policy that items have unless another one is chosen; it can be changed, not removed.
pub(crate) const DEFAULT: i64 = 1;

/// Policies that there may be.
pub(crate) const MAX_POLICIES: u64 = 100;

/// What is wanted of items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    /// How far back recovery points are to reach, in seconds.
    pub(crate) window_seconds: u64,
    /// From which age of the newest durable recovery point on an alert is raised, in seconds.
    pub(crate) rpo_threshold_seconds: u64,
    /// How often an application-consistent recovery point is to be made, in seconds; `None` for never.
    pub(crate) application_consistent_every_seconds: Option<u64>,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Policy {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) window_seconds: u64,
    pub(crate) rpo_threshold_seconds: u64,
    pub(crate) application_consistent_every_seconds: Option<u64>,
    /// Items that have it.
    pub(crate) items: u64,
}

impl Policy {
    /// What hosts are told of it.
    pub(crate) fn values(&self) -> ItemPolicy {
        ItemPolicy {
            window_seconds: self.window_seconds,
            rpo_threshold_seconds: self.rpo_threshold_seconds,
            application_consistent_every_seconds: self.application_consistent_every_seconds,
        }
    }
}

/// Why a policy is not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is none of this id.
    Unknown,
    /// Another one has this name.
    NameTaken,
    /// There are [`MAX_POLICIES`] already.
    TooMany,
    /// It is the default.
    IsDefault,
    /// So many items have it.
    InUse(u64),
}

const SELECT: &str = "SELECT id, name, window_seconds, rpo_threshold_seconds, application_consistent_every_seconds, \
     (SELECT count(*) FROM item WHERE item.policy = policy.id AND gone IS NULL) FROM policy";

fn policy(row: &Row<'_>) -> Result<Policy> {
    let every: u64 = row.get(4)?;
    Ok(Policy {
        id: row.get(0)?,
        name: row.get(1)?,
        window_seconds: row.get(2)?,
        rpo_threshold_seconds: row.get(3)?,
        application_consistent_every_seconds: (every > 0).then_some(every),
        items: row.get(5)?,
    })
}

/// All policies, by name.
pub(crate) fn list(connection: &Connection) -> Result<Vec<Policy>> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} ORDER BY name"))?;
    statement.query_map([], policy)?.collect()
}

/// The policy of this id.
pub(crate) fn by_id(connection: &Connection, id: i64) -> Result<Option<Policy>> {
    connection.query_row(&format!("{SELECT} WHERE id = ?"), [id], policy).optional()
}

fn is_taken(connection: &Connection, name: &str, except: i64) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM policy WHERE name = ? AND id <> ?)";
    connection.query_row(sql, params![name, except], |row| row.get(0))
}

/// Adds a policy.
pub(crate) fn add(connection: &Connection, wanted: &Wanted) -> Result<std::result::Result<Policy, Refused>> {
    let count: u64 = connection.query_row("SELECT count(*) FROM policy", [], |row| row.get(0))?;
    if count >= MAX_POLICIES {
        return Ok(Err(Refused::TooMany));
    }
    if is_taken(connection, &wanted.name, 0)? {
        return Ok(Err(Refused::NameTaken));
    }
    connection.execute(
        "INSERT INTO policy (name, window_seconds, rpo_threshold_seconds, application_consistent_every_seconds) \
         VALUES (?, ?, ?, ?)",
        params![
            wanted.name,
            wanted.window_seconds,
            wanted.rpo_threshold_seconds,
            wanted.application_consistent_every_seconds.unwrap_or(0)
        ],
    )?;
    Ok(by_id(connection, connection.last_insert_rowid())?.ok_or(Refused::Unknown))
}

/// Changes a policy; its items have the changed one from now on.
pub(crate) fn change(
    connection: &Connection,
    id: i64,
    wanted: &Wanted,
) -> Result<std::result::Result<Policy, Refused>> {
    if is_taken(connection, &wanted.name, id)? {
        return Ok(Err(Refused::NameTaken));
    }
    connection.execute(
        "UPDATE policy SET name = ?, window_seconds = ?, rpo_threshold_seconds = ?, \
         application_consistent_every_seconds = ? WHERE id = ?",
        params![
            wanted.name,
            wanted.window_seconds,
            wanted.rpo_threshold_seconds,
            wanted.application_consistent_every_seconds.unwrap_or(0),
            id
        ],
    )?;
    Ok(by_id(connection, id)?.ok_or(Refused::Unknown))
}

/// Removes a policy that no item has. Items that are gone get the default one.
pub(crate) fn remove(connection: &Connection, id: i64) -> Result<std::result::Result<Policy, Refused>> {
    let Some(policy) = by_id(connection, id)? else { return Ok(Err(Refused::Unknown)) };
    if id == DEFAULT {
        return Ok(Err(Refused::IsDefault));
    }
    if policy.items > 0 {
        return Ok(Err(Refused::InUse(policy.items)));
    }
    connection.execute("UPDATE item SET policy = ? WHERE policy = ?", params![DEFAULT, id])?;
    connection.execute("DELETE FROM policy WHERE id = ?", [id])?;
    Ok(Ok(policy))
}

/// Gives an item a policy, which it follows from now on; false when there is no such policy.
pub(crate) fn assign(connection: &Connection, item: i64, id: i64) -> Result<bool> {
    let changed = connection.execute(
        "UPDATE item SET policy = ?1, follows = 1 WHERE id = ?2 AND EXISTS (SELECT 1 FROM policy WHERE id = ?1)",
        params![id, item],
    )?;
    Ok(changed > 0)
}

/// An item was taken, and its master target protects it by what it was told. Where a policy says the same, it follows that;
/// else none, since another one could cost it recovery points.
pub(crate) fn adopt(connection: &Connection, item: i64, told: Option<ItemPolicy>) -> Result<()> {
    let told = told.map(|told| {
        let every = told.application_consistent_every_seconds.unwrap_or(0);
        (told.window_seconds, told.rpo_threshold_seconds, every)
    });
    let (window, threshold, every) = told.unwrap_or_default();
    let sql = "SELECT id FROM policy WHERE window_seconds = ?1 AND rpo_threshold_seconds = ?2 \
         AND application_consistent_every_seconds = ?3 \
         ORDER BY id = (SELECT policy FROM item WHERE id = ?4) DESC, id = ?5 DESC LIMIT 1";
    let same: Option<i64> = connection
        .prepare_cached(sql)?
        .query_row(params![window, threshold, every, item, DEFAULT], |row| row.get(0))
        .optional()?;
    connection
        .prepare_cached(
            "UPDATE item SET policy = ifnull(?1, policy), follows = ?1 IS NOT NULL WHERE id = ?2",
        )?
        .execute(params![same, item])
        .map(drop)
}

/// What the items of the host in this row are to follow.
pub(crate) fn given(connection: &Connection, host: i64) -> Result<Vec<GivenPolicy>> {
    let mut statement = connection.prepare_cached(
        "SELECT item.name, window_seconds, rpo_threshold_seconds, application_consistent_every_seconds \
         FROM item JOIN policy ON policy.id = item.policy WHERE host = ? AND follows AND gone IS NULL",
    )?;
    let given = statement.query_map([host], |row| {
        let every: u64 = row.get(3)?;
        let policy = ItemPolicy {
            window_seconds: row.get(1)?,
            rpo_threshold_seconds: row.get(2)?,
            application_consistent_every_seconds: (every > 0).then_some(every),
        };
        Ok(GivenPolicy { item: row.get(0)?, policy })
    })?;
    given.collect()
}

/// Seconds from one application-consistent recovery point to the next that the source agent of this name is to set, 0 for
/// none: what the policy says that is in effect for its item. `None` while it sends no changes of it.
pub(crate) fn every_seconds(connection: &Connection, source: &str, item: &str) -> Result<Option<u64>> {
    let sql = "SELECT ifnull(json_extract(body, '$.policy.application_consistent_every_seconds'), 0) \
         FROM item JOIN item_status ON item_status.item = item.id WHERE name = ?1 AND gone IS NULL \
         AND json_extract(body, '$.peer') = ?2 AND json_extract(body, '$.policy') IS NOT NULL";
    connection.prepare_cached(sql)?.query_row(params![item, source], |row| row.get(0)).optional()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema;

    fn wanted(name: &str) -> Wanted {
        Wanted {
            name: name.into(),
            window_seconds: 3600,
            rpo_threshold_seconds: 60,
            application_consistent_every_seconds: None,
        }
    }

    #[test]
    fn a_policy_is_added_changed_assigned_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let store = schema::open(&folder.path().join("store.sqlite")).unwrap();
        store
            .execute_batch(
                "INSERT INTO host VALUES (1, 'u', 'master-target', 'mt01', NULL, 'm', '9.4.0', '', 1, NULL);
                 INSERT INTO item (id, host, name, state, health, reported)
                 VALUES (5, 1, 'web01', 'protected', 'info', 1);",
            )
            .unwrap();
        let standard = by_id(&store, DEFAULT).unwrap().unwrap();
        assert_eq!((standard.name.as_str(), standard.items), ("Failback", 1));
        assert_eq!(standard.application_consistent_every_seconds, Some(3600));
        let gold = add(&store, &wanted("Gold")).unwrap().unwrap();
        assert_eq!(gold.application_consistent_every_seconds, None);
        assert_eq!(add(&store, &wanted("gold")).unwrap(), Err(Refused::NameTaken));
        assert_eq!(change(&store, gold.id, &wanted("failback")).unwrap(), Err(Refused::NameTaken));
        let renamed = change(&store, gold.id, &wanted("GOLD")).unwrap().unwrap();
        assert_eq!((renamed.id, renamed.name.as_str()), (gold.id, "GOLD"));
        assert_eq!(change(&store, 99, &wanted("Other")).unwrap(), Err(Refused::Unknown));
        assert!(assign(&store, 5, gold.id).unwrap() && !assign(&store, 5, 99).unwrap());
        assert_eq!(remove(&store, gold.id).unwrap(), Err(Refused::InUse(1)));
        assert_eq!(remove(&store, DEFAULT).unwrap(), Err(Refused::IsDefault));
        store.execute_batch("UPDATE item SET gone = 2").unwrap();
        assert!(remove(&store, gold.id).unwrap().is_ok());
        assert_eq!(remove(&store, gold.id).unwrap(), Err(Refused::Unknown));
        let policy: i64 =
            store.query_row("SELECT policy FROM item WHERE id = 5", [], |row| row.get(0)).unwrap();
        assert_eq!((policy, list(&store).unwrap().len()), (DEFAULT, 1));
    }

    #[test]
    fn policies_are_limited() {
        let folder = tempfile::tempdir().unwrap();
        let store = schema::open(&folder.path().join("store.sqlite")).unwrap();
        for number in 1..MAX_POLICIES {
            add(&store, &wanted(&number.to_string())).unwrap().unwrap();
        }
        assert_eq!(add(&store, &wanted("one more")).unwrap(), Err(Refused::TooMany));
    }
}
