//! The tables, and how older ones become those of today.
//!
//! Each file in `schema` is one step; a database remembers in `user_version` how many it has taken. A step is never
//! changed once it is released.

use anyhow::{Context, Result, ensure};
use rusqlite::Connection;
use std::path::Path;
use std::time::Duration;

const STEPS: [&str; 2] = [include_str!("schema/0001.sql"), include_str!("schema/0002.sql")];

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

    /// What each earlier schema may hold, and has to hold afterwards: a host that is registered.
    const CONTENT: [&str; STEPS.len()] = [
        "INSERT INTO host VALUES (7, 'u', 'master-target', 'mt01', NULL, 'm', '9.4.0', '10.0.0.5', 1, NULL);
         INSERT INTO certificate VALUES (1, 7, '01', x'aa', x'bb', 1, 2);",
        "INSERT INTO host VALUES (7, 'u', 'master-target', 'mt01', NULL, 'm', '9.4.0', '10.0.0.5', 1, NULL);
         INSERT INTO certificate VALUES (1, 7, '01', x'aa', x'bb', 1, 2);
         INSERT INTO report VALUES (7, 1, 1, '{}');",
    ];

    #[test]
    fn each_earlier_schema_becomes_todays_and_keeps_its_hosts() {
        for from in 1..=STEPS.len() {
            let mut connection = Connection::open_in_memory().unwrap();
            migrate(&mut connection, &STEPS[..from]).unwrap();
            connection.execute_batch(CONTENT[from - 1]).unwrap();
            migrate(&mut connection, &STEPS).unwrap();
            migrate(&mut connection, &STEPS).unwrap();
            let name: String = connection
                .query_row(
                    "SELECT name FROM host JOIN certificate ON host = host.id WHERE fingerprint = x'aa'",
                    [],
                    |row| row.get(0),
                )
                .unwrap();
            assert_eq!(name, "mt01");
        }
    }

    #[test]
    fn a_step_that_fails_leaves_everything_as_it_was() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, &STEPS).unwrap();
        let steps = [STEPS[0], STEPS[1], "CREATE TABLE half (a INTEGER); nonsense"];
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
        assert!(error.contains("newer mt-configserver (schema 99; this one knows 2)"), "{error}");
    }
}
