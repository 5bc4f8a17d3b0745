//! Makes a backup.

use super::{FILES, TABLE, archive};
use crate::config::Config;
use crate::store::{schema, sessions};
use anyhow::{Context, Result, ensure};
use block_device::durable_file::sync_folder;
use control_api::time::Time;
use rusqlite::{Connection, params};
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Makes a backup in a new file, or, with `replace`, in the place of an old one; its length in bytes. Until the backup
/// is whole and on the disk, there is no file of this name, or the old one.
pub(crate) fn create(config: &Config, file: &Path, replace: bool, now: Time) -> Result<u64> {
    let shown = file.display();
    ensure!(replace || !file.exists(), "{shown} exists; name another file, or give --yes to replace it");
    let name =
        file.file_name().with_context(|| format!("{shown} is not the name of a file"))?.to_string_lossy();
    let folder = match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let database = Temporary(folder.join(format!(".{name}.store")));
    let archive = Temporary(folder.join(format!(".{name}.new")));
    let room =
        || format!("cannot write {shown}; name a file in a folder with room, on a disk of this machine");
    copy_store(config, &database).with_context(room)?;
    add_files(config, &database)?;
    let length = pack(&database, &archive, now).with_context(room)?;
    publish(&archive, file, replace)?;
    sync_folder(folder).with_context(room)?;
    Ok(length)
}

/// A file that is removed again, unless it got its name.
struct Temporary(PathBuf);

impl Temporary {
    /// The file, empty and nobody else's; one that a crash left behind is removed.
    fn make(&self) -> std::io::Result<File> {
        let _ = fs::remove_file(&self.0);
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&self.0)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// One state of the store, whoever writes to it meanwhile.
fn copy_store(config: &Config, database: &Temporary) -> Result<()> {
    database.make()?;
    let path = database.0.to_str().context("the name is not in UTF-8")?;
    schema::open(&config.store())?.execute("VACUUM INTO ?", [path])?;
    Ok(())
}

/// Adds the other files, and takes away what must not come back.
fn add_files(config: &Config, database: &Temporary) -> Result<()> {
    let mut connection = Connection::open(&database.0)?;
    connection.pragma_update(None, "journal_mode", "MEMORY")?;
    connection.pragma_update(None, "secure_delete", true)?;
    let transaction = connection.transaction()?;
    sessions::end_all(&transaction)?;
    transaction.execute_batch(&format!(
        "CREATE TABLE {TABLE} (name TEXT PRIMARY KEY, content BLOB NOT NULL) STRICT"
    ))?;
    for (name, _) in FILES {
        let path = config.state_folder.join(name);
        let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        transaction.execute(&format!("INSERT INTO {TABLE} VALUES (?, ?)"), params![name, content])?;
    }
    Ok(transaction.commit()?)
}

fn pack(database: &Temporary, archive: &Temporary, now: Time) -> Result<u64> {
    let from = File::open(&database.0)?;
    let length = from.metadata()?.len();
    let to = archive.make()?;
    archive::write(from, length, now, &to)?;
    to.sync_all()?;
    Ok(to.metadata()?.len())
}

/// Gives the archive its name. A file that came there meanwhile stays, where the file system knows how to.
fn publish(archive: &Temporary, file: &Path, replace: bool) -> Result<()> {
    let shown = file.display();
    if !replace {
        match fs::hard_link(&archive.0, file) {
            Ok(()) => return Ok(()),
            Err(cause) if cause.kind() == ErrorKind::AlreadyExists => {
                anyhow::bail!("{shown} exists; name another file, or give --yes to replace it")
            }
            // File systems such as FAT know no second name.
            Err(_) => {}
        }
    }
    fs::rename(&archive.0, file).with_context(|| format!("cannot write {shown}"))
}
