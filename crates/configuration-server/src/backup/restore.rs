//! Brings a backup back.
//!
//! ```text
//! .restore/         the new state is made and looked at here; a crash leaves the old state
//!    │ rename       this decides
//!    ▼
//! restore.ready/    the files of the new state that are not in their places yet
//!   old/            the files of the old state that have left theirs
//! ```
//!
//! While there is a `restore.ready`, the state folder is of use to nobody: the next start, or restore, moves what is not
//! moved yet. Whether a file that lies in its place is old or new is told by whether `restore.ready` still has one of
//! its name.

use super::archive::{self, Header};
use super::{FILES, MAX_FILE, TABLE};
use crate::access::first;
use crate::authority::Authority;
use crate::state::{self, Lock};
use crate::store::{audit, events, schema, sessions};
use anyhow::{Context, Result, anyhow, ensure};
use block_device::durable_file::sync_folder;
use control_api::time::Time;
use control_api::{Severity, time};
use rusqlite::{Connection, OptionalExtension};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const STAGING: &str = ".restore";
const READY: &str = "restore.ready";
const OLD: &str = "old";
const STORE: &str = "store.sqlite";

/// A state folder that has room for what is in an archive, and the archive.
pub(crate) struct Prepared {
    folder: PathBuf,
    _lock: Lock,
    /// When the backup was made.
    pub(crate) made: Time,
}

/// Whether a restore was cut short.
pub(crate) fn is_pending(folder: &Path) -> bool {
    folder.join(READY).exists()
}

/// Makes the state that is in an archive, in a folder of its own below the state folder. No server may run there.
pub(crate) fn prepare(folder: &Path, file: &Path, now: Time) -> Result<Prepared> {
    let what =
        || format!("cannot restore {}; the state in {} is as it was", file.display(), folder.display());
    let archive = File::open(file).with_context(what)?;
    let header = archive::verify(&archive).with_context(what)?;
    state::make_folder(folder)?;
    let lock = Lock::take(folder)?;
    complete(folder, &lock, now)?;
    let staging = folder.join(STAGING);
    let made = stage(&staging, archive, &header, now).with_context(what);
    if made.is_err() {
        let _ = fs::remove_dir_all(&staging);
    }
    made?;
    Ok(Prepared { folder: folder.to_owned(), _lock: lock, made: header.made })
}

impl Prepared {
    /// Puts the new state in the place of the old one; where the old one is kept, if there was any.
    pub(crate) fn commit(self, now: Time) -> Result<Option<PathBuf>> {
        let Prepared { folder, _lock, .. } = self;
        fs::rename(folder.join(STAGING), folder.join(READY))
            .and_then(|()| sync_folder(&folder))
            .with_context(|| format!("cannot restore; the state in {} is as it was", folder.display()))?;
        complete(&folder, &_lock, now)
    }

    /// Leaves everything as it is.
    pub(crate) fn give_up(self) {
        let _ = fs::remove_dir_all(self.folder.join(STAGING));
    }
}

fn stage(staging: &Path, archive: File, header: &Header, now: Time) -> Result<()> {
    if staging.exists() {
        fs::remove_dir_all(staging)?;
    }
    for folder in [staging.to_owned(), staging.join(OLD)] {
        DirBuilder::new().mode(0o700).create(&folder)?;
    }
    let store = staging.join(STORE);
    let mut database = new_file(&store, 0o600)?;
    archive::extract(archive, header, &mut database)?;
    database.sync_all()?;
    take_files_out(staging, &store)?;
    let authority = staging.join("ca.pem");
    ensure!(authority.exists(), "it holds no authority");
    Authority::open(staging, now)?;
    state::passphrase(staging)?;
    note(&store, header.made, now)?;
    File::open(&store)?.sync_all()?;
    for entry in fs::read_dir(staging)? {
        state::give_to_owner_of(staging.parent().unwrap_or(staging), &entry?.path())?;
    }
    state::give_to_owner_of(staging.parent().unwrap_or(staging), staging)?;
    sync_folder(staging)?;
    Ok(())
}

fn new_file(path: &Path, mode: u32) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode & 0o700).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    Ok(file)
}

/// Makes files of the rows of the database.
fn take_files_out(staging: &Path, store: &Path) -> Result<()> {
    let connection = Connection::open(store)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    let sound: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    ensure!(sound == "ok", "the store in it is damaged: {sound}");
    for (name, mode) in FILES {
        let sql = format!("SELECT content FROM {TABLE} WHERE name = ? AND length(content) <= ?");
        let content: Option<Vec<u8>> =
            connection.query_row(&sql, rusqlite::params![name, MAX_FILE], |row| row.get(0)).optional()?;
        let content = content.with_context(|| format!("{name} is not in it"))?;
        let mut file = new_file(&staging.join(name), mode)?;
        file.write_all(&content)?;
        file.sync_all()?;
    }
    connection.pragma_update(None, "secure_delete", true)?;
    connection.execute_batch(&format!("DROP TABLE {TABLE}"))?;
    connection.close().map_err(|(_, cause)| anyhow!(cause))
}

/// Brings the store to the tables of today, and writes down in it that it comes from a backup.
fn note(store: &Path, made: Time, now: Time) -> Result<()> {
    let mut connection = schema::open(store)?;
    let transaction = connection.transaction()?;
    sessions::end_all(&transaction)?;
    transaction.execute("INSERT INTO restored (time, made) VALUES (?, ?)", [now, made])?;
    let when = time::format(made);
    let entry = audit::Entry {
        time: now,
        address: audit::CONSOLE.into(),
        host: String::new(),
        outcome: "restored".into(),
        detail: format!("from the backup of {when}"),
    };
    audit::add(&transaction, &entry)?;
    let event = events::Event {
        id: 0,
        time: now,
        severity: Severity::Warning,
        kind: "restored".into(),
        object: "configuration server".into(),
        what: format!("it was restored from the backup of {when}"),
        cause: "somebody typed mt-configserver restore".into(),
        next: "register again the hosts that registered after that time; revoke again what was revoked, and look at \
               users and policies that were changed, after it"
            .into(),
        host: None,
        item: None,
    };
    events::add(&transaction, &event)?;
    transaction.commit()?;
    // All of it is in one file when the last connection has ended.
    connection.pragma_update(None, "journal_mode", "DELETE")?;
    connection.close().map_err(|(_, cause)| anyhow!(cause))
}

/// Completes a restore that was decided, if there is one; where the old state is kept, if there was any.
pub(crate) fn complete(folder: &Path, _lock: &Lock, now: Time) -> Result<Option<PathBuf>> {
    if !is_pending(folder) {
        return Ok(None);
    }
    let what = || {
        format!(
            "cannot complete the restore in {}; make room there, look at its owner, and type the restore again",
            folder.display()
        )
    };
    move_all(folder).with_context(what)?;
    finish(folder, now).with_context(what)
}

fn move_all(folder: &Path) -> io::Result<()> {
    // The store goes first with what belongs to it, so that no old rest of it is ever beside a new one.
    exchange(folder, STORE, &["store.sqlite-wal", "store.sqlite-shm", STORE])?;
    for (name, _) in FILES {
        exchange(folder, name, &[name])?;
    }
    // The password of an administrator of the old state.
    move_aside(folder, first::FILE)
}

/// Moves the new file of this name to its place, after the old ones have left theirs.
fn exchange(folder: &Path, name: &str, old: &[&str]) -> io::Result<()> {
    let ready = folder.join(READY).join(name);
    if !ready.exists() {
        return Ok(());
    }
    for name in old {
        move_aside(folder, name)?;
    }
    sync_folder(&folder.join(READY).join(OLD))?;
    sync_folder(folder)?;
    fs::rename(ready, folder.join(name))?;
    sync_folder(folder)
}

fn move_aside(folder: &Path, name: &str) -> io::Result<()> {
    match fs::rename(folder.join(name), folder.join(READY).join(OLD).join(name)) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// Gives the old state a name of its own, and removes what is left.
fn finish(folder: &Path, now: Time) -> Result<Option<PathBuf>> {
    let (ready, mut kept) = (folder.join(READY), None);
    let old = ready.join(OLD);
    if old.exists() {
        match fs::remove_dir(&old) {
            Err(cause) if cause.kind() == io::ErrorKind::DirectoryNotEmpty => {
                let place = free_name(folder, now);
                fs::rename(&old, &place)?;
                kept = Some(place);
            }
            outcome => outcome?,
        }
    }
    fs::remove_dir(&ready)?;
    sync_folder(folder)?;
    Ok(kept)
}

fn free_name(folder: &Path, now: Time) -> PathBuf {
    let second = now / time::SECOND;
    let name = |number: u64| folder.join(format!("before-restore-{}", second + number));
    (0..).map(name).find(|place| !place.exists()).unwrap_or_else(|| name(0))
}
