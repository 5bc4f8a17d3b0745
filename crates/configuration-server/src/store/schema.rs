//! The tables, and how older ones become those of today.
//!
//! Each file in `schema` is one step; a database remembers in `user_version` how many it has taken. A step is never
//! changed once it is released.

use anyhow::{Context, Result, ensure};
use rusqlite::Connection;
use std::path::Path;
use std::time::Duration;

const STEPS: [&str; 3] =
    [include_str!("schema/0001.sql"), include_str!("schema/0002.sql"), include_str!("schema/0003.sql")];

/// How long one program waits for another that writes.
const BUSY: Duration = Duration::from_secs(10);

/// Opens the database, makes it when it is missing, and brings its tables to those of today.
pub(crate) fn open(path: &Path) -> Result<Connection> {
    let shown = path.display();
    let what = || format!("cannot open the store {shown}; look at its owner and at the free space there");
    let mut connection = Connection::open(path).with_context(what)?;
    connection.busy_timeout(BUSY).with_context(what)?;
    // A transaction that is committed survives a loss of power.
    connection.pragma_update(None, "journal_mode", "WAL").with_context(what)?;
    connection.pragma_update(None, "synchronous", "FULL").with_context(what)?;
    connection.pragma_update(None, "foreign_keys", true).with_context(what)?;
    migrate(&mut connection, &STEPS).with_context(|| format!("store {shown}"))?;
    Ok(connection)
}

fn migrate(connection: &mut Connection, steps: &[&str]) -> Result<()> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let taken: usize = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    ensure!(
        taken <= steps.len(),
        "it was written by a newer mt-configserver (schema {taken}; this one knows {}); install that one again, or \
         restore a backup of before",
        steps.len()
    );
    for (number, step) in steps.iter().enumerate().skip(taken) {
        transaction.execute_batch(step).with_context(|| format!("step {} failed", number + 1))?;
    }
    transaction.pragma_update(None, "user_version", steps.len())?;
    Ok(transaction.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each earlier schema may hold, and has to hold afterwards: a host that is registered and was revoked before, and
    /// from the second on what it told, its item, a job, an alert and a user, from the third on a workflow.
    const CONTENT: [&str; STEPS.len()] = [
        "INSERT INTO host VALUES (7, 'u', 'master-target', 'mt01', NULL, 'm', '9.4.0', '10.0.0.5', 1, NULL);
         INSERT INTO certificate VALUES (1, 7, '01', x'a0', x'bb', 1, 2);
         INSERT INTO certificate VALUES (2, 7, '02', x'aa', x'bb', 3, 7776000000000003);",
        "INSERT INTO host VALUES (7, 'u', 'master-target', 'mt01', NULL, 'm', '9.4.0', '10.0.0.5', 1, NULL);
         INSERT INTO certificate VALUES (1, 7, '01', x'a0', x'bb', 1, 7776000000000001, 2);
         INSERT INTO certificate VALUES (2, 7, '02', x'aa', x'bb', 3, 7776000000000003, NULL);
         INSERT INTO report VALUES (7, 1, 1, '{}');
         INSERT INTO item_group VALUES (2, 'shop');
         INSERT INTO item VALUES (5, 7, 'web01', 'protected', 'info', 4, 1, NULL, 1, 2);
         INSERT INTO item_status VALUES (5, '{}', '[]');
         INSERT INTO sample VALUES (5, 17, 4, 100);
         INSERT INTO job VALUES (3, 'j', 7, 5, '{\"kind\":\"check\"}', 'queued', 1, 'anna', NULL, NULL, NULL, NULL);
         INSERT INTO event VALUES (9, 1, 'warning', 'clock', 'mt01', 'a', 'b', 'c', 7, 5);
         INSERT INTO alert VALUES (1, 'host/u/clock', 1, NULL, 9, NULL);
         INSERT INTO delivery VALUES ('mail', 9, NULL, 2, 1, 'away');
         INSERT INTO user (id, name, role, password, made) VALUES (1, 'anna', 'operator', 'p', 1);",
        "INSERT INTO host VALUES (7, 'u', 'master-target', 'mt01', NULL, 'm', '9.4.0', '10.0.0.5', 1, NULL);
         INSERT INTO certificate VALUES (1, 7, '01', x'a0', x'bb', 1, 7776000000000001, 2);
         INSERT INTO certificate VALUES (2, 7, '02', x'aa', x'bb', 3, 7776000000000003, NULL);
         INSERT INTO report VALUES (7, 1, 1, '{}');
         INSERT INTO item_group VALUES (2, 'shop');
         INSERT INTO item VALUES (5, 7, 'web01', 'protected', 'info', 4, 1, NULL, 1, 2, 1);
         INSERT INTO item_status VALUES (5, '{}', '[]');
         INSERT INTO job VALUES (2, 'w', 7, 5, '{\"workflow\":\"commit\"}', 'queued', 1, 'anna', NULL, NULL, NULL,
                                 NULL, '[]', NULL, NULL);
         INSERT INTO job VALUES (3, 'j', 7, 5, '{\"kind\":\"check\"}', 'queued', 1, 'anna', NULL, NULL, NULL, NULL,
                                 NULL, 2, 0);
         INSERT INTO event VALUES (9, 1, 'warning', 'clock', 'mt01', 'a', 'b', 'c', 7, 5);
         INSERT INTO alert VALUES (1, 'host/u/clock', 1, NULL, 9, NULL);
         INSERT INTO delivery VALUES ('mail', 9, NULL, 2, 1, 'away');
         INSERT INTO user (id, name, role, password, made) VALUES (1, 'anna', 'operator', 'p', 1);",
    ];

    /// What is asked, with what must come of it, from the schema of this number on.
    const KEPT: [(usize, &str, &str); 9] = [
        (1, "SELECT name FROM host JOIN certificate ON host = host.id WHERE fingerprint = x'aa'", "mt01"),
        (
            1,
            "SELECT group_concat(ifnull(revoked, '-') || ' ' || valid_until) FROM certificate",
            "2 7776000000000001,- 7776000000000003",
        ),
        (
            2,
            "SELECT host.name || item.name || item_group.name || body FROM item JOIN host ON host = host.id \
             JOIN item_group ON item_group = item_group.id JOIN item_status ON item = item.id",
            "mt01web01shop{}",
        ),
        (
            2,
            "SELECT name || uuid || job.state FROM job JOIN item ON item = item.id WHERE plan IS NULL",
            "web01jqueued",
        ),
        (2, "SELECT key || what FROM alert JOIN event ON event = event.id", "host/u/clocka"),
        (2, "SELECT channel || event || why FROM delivery", "mail9away"),
        (2, "SELECT name || role FROM user", "annaoperator"),
        (3, "SELECT a.uuid || b.uuid || b.step || a.plan FROM job b JOIN job a ON a.id = b.parent", "wj0[]"),
        (3, "SELECT name || follows FROM item", "web011"),
    ];

    #[test]
    fn each_earlier_schema_becomes_todays_and_keeps_what_is_in_it() {
        for from in 1..=STEPS.len() {
            let mut connection = Connection::open_in_memory().unwrap();
            migrate(&mut connection, &STEPS[..from]).unwrap();
            connection.execute_batch(CONTENT[from - 1]).unwrap();
            migrate(&mut connection, &STEPS).unwrap();
            migrate(&mut connection, &STEPS).unwrap();
            for (_, question, kept) in KEPT.iter().filter(|(since, _, _)| *since <= from) {
                let found: String = connection.query_row(question, [], |row| row.get(0)).unwrap();
                assert_eq!(found, *kept, "{question}, from schema {from}");
            }
        }
    }

    #[test]
    fn a_step_that_fails_leaves_everything_as_it_was() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, &STEPS).unwrap();
        let broken = "CREATE TABLE half (a INTEGER); nonsense";
        let steps: Vec<&str> = STEPS.into_iter().chain([broken]).collect();
        assert!(migrate(&mut connection, &steps).is_err());
        let version: usize = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(version, STEPS.len());
        assert!(connection.execute_batch("SELECT * FROM half").is_err());
    }

    #[test]
    fn a_store_of_a_newer_version_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.sqlite");
        open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let error = format!("{:#}", open(&path).unwrap_err());
        let said = format!("newer mt-configserver (schema 99; this one knows {})", STEPS.len());
        assert!(error.contains(&said), "{error}");
    }
}
