//! Archives whose checksum is right and whose content is not.

use super::*;
use crate::authority::Authority;
use crate::config::Config;
use crate::state::{self, Lock};
use crate::store::schema;
use control_api::time::{SECOND, Time};
use rusqlite::Connection;
use std::fs;
use std::path::{Path, PathBuf};

const NOW: Time = 1_790_000_000 * SECOND;

struct Made {
    folder: tempfile::TempDir,
    archive: PathBuf,
}

/// A backup of a fresh state.
fn made() -> Made {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { state_folder: folder.path().join("state"), ..Config::default() };
    state::make_folder(&config.state_folder).unwrap();
    Authority::open(&config.state_folder, NOW).unwrap();
    state::ensure_passphrase(&config.state_folder).unwrap();
    schema::open(&config.store()).unwrap();
    let archive = folder.path().join("backup");
    create(&config, &archive, false, NOW).unwrap();
    Made { folder, archive }
}

/// Changes the database in an archive, and makes the checksum right again.
fn change(made: &Made, change: impl FnOnce(&Path)) {
    let database = made.folder.path().join("database");
    fs::write(&database, &fs::read(&made.archive).unwrap()[64..]).unwrap();
    change(&database);
    let content = fs::read(&database).unwrap();
    let archive = fs::File::create(&made.archive).unwrap();
    archive::write(&content[..], content.len() as u64, NOW, archive).unwrap();
}

fn sql(made: &Made, statement: &str) {
    change(made, |database| Connection::open(database).unwrap().execute_batch(statement).unwrap());
}

/// Why an archive is refused; nothing is left behind then.
fn refused(made: &Made) -> String {
    let folder = made.folder.path().join("restored");
    let Err(error) = prepare(&folder, &made.archive, NOW) else { panic!("it was accepted") };
    let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"]);
    format!("{error:#}")
}

#[track_caller]
fn says(statement: &str, why: &str) {
    let made = made();
    sql(&made, statement);
    let said = refused(&made);
    assert!(said.contains(why) && said.contains("is as it was"), "{said}");
}

#[test]
fn what_is_missing_or_too_long_is_named() {
    says("DELETE FROM backup_file WHERE name = 'ca.key'", "ca.key is not in it");
    says("UPDATE backup_file SET content = zeroblob(70000) WHERE name = 'ca.pem'", "ca.pem is not in it");
    says("DROP TABLE backup_file", "no such table");
}

#[test]
fn what_does_not_go_together_is_refused() {
    let other = made();
    let database = other.folder.path().join("database");
    fs::write(&database, &fs::read(&other.archive).unwrap()[64..]).unwrap();
    let attach = format!("ATTACH '{}' AS other;", database.display());
    let key = "UPDATE backup_file SET content = \
               (SELECT content FROM other.backup_file WHERE name = 'ca.key') WHERE name = 'ca.key'";
    says(&format!("{attach} {key}"), "were not made together");
    says("UPDATE backup_file SET content = x'0a' WHERE name = 'connection.passphrase'", "no passphrase");
    says("PRAGMA user_version = 99", "newer mt-configserver");
}

#[test]
fn what_is_no_database_or_a_damaged_one_is_refused() {
    let one = made();
    change(&one, |database| fs::write(database, [7; 5000]).unwrap());
    assert!(refused(&one).contains("not a database"));
    let two = made();
    change(&two, |database| {
        let mut content = fs::read(database).unwrap();
        let second_page = &mut content[4096..8192];
        second_page.fill(0x55);
        fs::write(database, content).unwrap();
    });
    refused(&two);
}

#[test]
fn a_restore_that_was_decided_is_completed_from_wherever_it_stopped() {
    let made = made();
    sql(
        &made,
        "INSERT INTO user VALUES (1, 'ann', 'reader', 'h', 1, NULL); \
                INSERT INTO session VALUES (x'00', 1, 'a', 1, 1);",
    );
    // So many of the new files have been moved when it stopped.
    for moved in 0..=4 {
        let folder = made.folder.path().join(format!("restored-{moved}"));
        state::make_folder(&folder).unwrap();
        for name in ["store.sqlite", "store.sqlite-wal", "ca.key", "ca.pem", "administrator.password"] {
            fs::write(folder.join(name), "old").unwrap();
        }
        let prepared = prepare(&folder, &made.archive, NOW).unwrap();
        drop(prepared);
        let ready = folder.join("restore.ready");
        fs::rename(folder.join(".restore"), &ready).unwrap();
        for name in ["store.sqlite-wal", "store.sqlite", "ca.key", "ca.pem"].iter().take(moved) {
            fs::rename(folder.join(name), ready.join("old").join(name)).unwrap();
            if *name != "store.sqlite-wal" {
                fs::rename(ready.join(name), folder.join(name)).unwrap();
            }
        }
        assert!(is_pending(&folder));
        let lock = Lock::take(&folder).unwrap();
        let kept = complete(&folder, &lock, NOW).unwrap().unwrap();
        assert!(!is_pending(&folder) && complete(&folder, &lock, NOW).unwrap().is_none());
        for name in ["store.sqlite", "store.sqlite-wal", "ca.key", "ca.pem", "administrator.password"] {
            assert_eq!(fs::read_to_string(kept.join(name)).unwrap(), "old", "{moved} {name}");
        }
        Authority::open(&folder, NOW).unwrap();
        let store = schema::open(&folder.join("store.sqlite")).unwrap();
        let counts = "SELECT (SELECT count(*) FROM user), (SELECT count(*) FROM session), \
                      (SELECT count(*) FROM restored), (SELECT count(*) FROM event WHERE kind = 'restored')";
        let counts: (u32, u32, u32, u32) = store
            .query_row(counts, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
            .unwrap();
        assert_eq!(counts, (1, 0, 1, 1));
    }
}
